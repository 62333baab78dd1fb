/* Brings a GPU back to the state in a record. */
#ifndef GPUSHARE_GPU_MIG_RESTORE_H
#define GPUSHARE_GPU_MIG_RESTORE_H

#include "mig/mig.h"
#include "mig/mig_record.h"

/* Resets the GPU so that its pending MIG mode comes into force. */
typedef int gs_mig_reset(const struct gs_mig_board *board, void *user, struct gs_error *err);

enum gs_mig_direction {
	GS_MIG_UNDO,   /* to the state before */
	GS_MIG_FINISH, /* to the planned state */
};

/* Starts from the GPU's present state, so it makes no difference where the change was cut off, or whether this is done
 * twice. Destroys only what the change made, and creates what it destroyed; an instance that neither side of the record
 * names is another program's and stays. `lost` is how many instances could not come back since such a one has taken
 * their place, which is no failure. Tries a few times. `reset` is called when the mode needs it; NULL: that is a
 * failure. */
int gs_mig_restore(const struct gs_nvml *nvml, const struct gs_mig_record_gpu *gpu, enum gs_mig_direction direction,
		   gs_mig_reset *reset, void *user, uint32_t *lost, struct gs_error *err);

/* The GPUs of a record that a process left which died, each for itself: undone, or where that is impossible, because a
 * process runs on an instance that it made, finished; one that can be neither is not touched. All go in the same
 * direction if they can. The record keeps those that are not settled: 0 when none is left, else -1 with the first
 * reason. GPUs that the node does not have any more are settled. `told` says what was done, for a person (NULL:
 * nothing); the caller frees it. */
int gs_mig_settle(const struct gs_nvml *nvml, const char *proc, struct gs_mig_record *record, char **told,
		  struct gs_error *err);

/* Whether mode and instances are those of the record. */
bool gs_mig_is_as_recorded(const struct gs_mig_board *board, const struct gs_mig_record_layout *layout);

#endif
