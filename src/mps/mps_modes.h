/* The compute modes of GPUs that MPS needs, and the record of the state that outlives this process: STATE-DIR/mps.json.
 * A mode as it was is on disk before it is changed, so that it is restored also when this process dies in between.
 * Requests are carried out on a worker thread, one after the other, because NVML may block. All else on the loop's
 * thread. */
#ifndef GPUSHARE_MPS_MPS_MODES_H
#define GPUSHARE_MPS_MPS_MODES_H

#include <stdbool.h>
#include <uv.h>

#include "base/error.h"
#include "gpu/nvml.h"
#include "mps/mps_record.h"

struct gs_mps_modes;

struct gs_mps_modes_options {
	uv_loop_t *loop;
	const char *state_dir; /* used at the start only */
	void *user;
	/* Has `run` called on a worker thread, with NVML (NULL: not there), then `done` on the loop's thread. */
	void (*work)(void *user, void (*run)(const struct gs_nvml *nvml, void *of), void (*done)(void *of), void *of);
	/* A mode was set as asked for, or with `err` it was not. */
	void (*set)(void *user, const char *gpu, const struct gs_error *err);
	/* A mode could not be restored, or it could at last. */
	void (*changed)(void *user);
};

/* Reads the record; one that can't be read is logged, and the modes in it stay as they are. */
struct gs_mps_modes *gs_mps_modes_new(const struct gs_mps_modes_options *options);
/* Nothing more is begun. */
void gs_mps_modes_stop(struct gs_mps_modes *modes);
/* Once the loop has nothing left to do. A thread that a driver holds keeps the memory. */
void gs_mps_modes_free(struct gs_mps_modes *modes);

/* The record; to be read only before the first request. */
const struct gs_mps_record *gs_mps_modes_record(const struct gs_mps_modes *modes);
/* Records where MPS runs for the next start, before the first request, or with `root` NULL that there is nothing to find. */
void gs_mps_modes_record_root(struct gs_mps_modes *modes, const char *root);

/* Asks for EXCLUSIVE_PROCESS, or for the mode as it was. A mode that can't be restored is tried again with growing pauses, and
 * one that can't be as long as MIG is on (drivers refuse it then) waits for gs_mps_modes_restore_put_off. */
void gs_mps_modes_request(struct gs_mps_modes *modes, const char *gpu, bool exclusive);
/* Records that the control daemon of this directory, "ROOT/KEY", is that process; pid 0: there is none any more. */
void gs_mps_modes_keep(struct gs_mps_modes *modes, const char *directory, const struct mps_identity *identity);

/* Requests the old modes of GPUs that an earlier process changed and no control daemon needs now. Later calls do
 * nothing. */
void gs_mps_modes_restore_left(struct gs_mps_modes *modes, bool (*is_used)(void *user, const char *gpu), void *user);
/* Those that waited for MIG to go off on their GPU. Where MPS uses a GPU again, the mode is restored at the end of that. */
void gs_mps_modes_restore_put_off(struct gs_mps_modes *modes, bool (*has_mig)(void *user, const char *gpu),
				  bool (*is_used)(void *user, const char *gpu), void *user);

/* Why the GPU's mode is not yet as it was before MPS; NULL: it is, or it need not be. Until then its shares should be
 * withheld: one process would have the GPU alone. */
const char *gs_mps_modes_unrestored(const struct gs_mps_modes *modes, const char *gpu);
void gs_mps_modes_each_unrestored(const struct gs_mps_modes *modes,
				  void (*tell)(void *user, const char *gpu, const char *why), void *user);

#endif
