/* STATE-DIR/mps.json: the compute modes that GPUs had before MPS changed them. */
#ifndef GPUSHARE_STRATEGY_MPS_RECORD_H
#define GPUSHARE_STRATEGY_MPS_RECORD_H

#include <jansson.h>

#include "base/error.h"
#include "gpu/nvml.h"

struct gs_mps_record {
	char *path;
	json_t *modes; /* by the GPU's UUID: nvmlComputeMode_t */
};

/* A missing file is an empty record, and so is one that can't be read: then `problem` (may be NULL) says so. */
void gs_mps_record_open(struct gs_mps_record *record, const char *state_dir, struct gs_error *problem);
void gs_mps_record_free(struct gs_mps_record *record);
/* Sets a GPU's mode to EXCLUSIVE_PROCESS once its mode before is on disk; nothing but that when it is recorded already.
 * Calls NVML: may block. */
int gs_mps_make_exclusive(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu,
			  struct gs_error *err);
/* The mode as it was, if it is recorded, and forgets it. */
int gs_mps_restore(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu, struct gs_error *err);

#endif
