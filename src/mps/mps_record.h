/* STATE-DIR/mps.json: the compute modes that GPUs had before MPS changed them, and where MPS runs. */
#ifndef GPUSHARE_STRATEGY_MPS_RECORD_H
#define GPUSHARE_STRATEGY_MPS_RECORD_H

#include <jansson.h>

#include "base/error.h"
#include "gpu/nvml.h"

struct gs_mps_record {
	char *path;
	json_t *modes; /* by the GPU's UUID: nvmlComputeMode_t */
	char *root;    /* flags.mpsRoot when MPS was last used; NULL: not known */
	bool unsaved;  /* the file still has a mode that was restored */
};

/* A missing file is an empty record, and so is one that can't be read: then `problem` (may be NULL) says so. */
void gs_mps_record_open(struct gs_mps_record *record, const char *state_dir, struct gs_error *problem);
void gs_mps_record_free(struct gs_mps_record *record);
/* Sets a GPU's mode to EXCLUSIVE_PROCESS once its mode before is on disk; nothing but that when it is recorded already.
 * Calls NVML: may block. */
int gs_mps_make_exclusive(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu,
			  struct gs_error *err);
/* Records the root, without which what runs there is not found when the config has another one. */
int gs_mps_record_root(struct gs_mps_record *record, const char *root, struct gs_error *err);
/* flags.mpsRoot as it is compared: without slashes at its end. Owned by the caller. */
char *gs_mps_root(const char *path);
/* The mode as it was, if it is recorded, and forgets it, also when the GPU is gone. To be called again when it fails. */
int gs_mps_restore(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu, struct gs_error *err);

#endif
