/* STATE-DIR/mps.json: the compute modes that GPUs had before MPS changed them, where MPS runs, and the control daemons there. */
#ifndef GPUSHARE_MPS_MPS_RECORD_H
#define GPUSHARE_MPS_MPS_RECORD_H

#include <jansson.h>

#include "base/error.h"
#include "gpu/nvml.h"
#include "mps/mps_process.h"

struct gs_mps_record {
	char *path;
	bool found;      /* there is a file that could be read */
	json_t *modes;   /* by the GPU's UUID: nvmlComputeMode_t */
	json_t *daemons; /* by "ROOT/KEY": {pid, start}, as in struct mps_identity, of this boot */
	char *root;      /* flags.mpsRoot when MPS was last used; NULL: not known */
	bool unsaved;    /* the file still has a mode that was restored */
};

/* A missing file is an empty record, and so is one that can't be read: then `problem` (may be NULL) says so. */
void gs_mps_record_open(struct gs_mps_record *record, const char *state_dir, struct gs_error *problem);
void gs_mps_record_free(struct gs_mps_record *record);
/* Parses the file's text into `modes`, `daemons` (NULL: of another boot than `boot`) and `root` of a record without
 * them. */
int gs_mps_record_parse(const char *text, size_t length, const char *boot, struct gs_mps_record *record);

/* A control daemon that a daemon with this state directory started, or took over; it may have ended. */
struct gs_mps_known {
	char *root, *key;
	struct mps_identity identity;
};
/* All of them, owned by the caller. */
struct gs_mps_known *gs_mps_record_known(const struct gs_mps_record *record, size_t *count);
void gs_mps_known_free(struct gs_mps_known *known, size_t count);
/* Records the control daemon of this directory, "ROOT/KEY"; one of pid 0 is forgotten. */
int gs_mps_record_daemon(struct gs_mps_record *record, const char *directory, const struct mps_identity *identity,
			 struct gs_error *err);
/* Sets a GPU's mode to EXCLUSIVE_PROCESS once its mode before is on disk; nothing but that when it is recorded already.
 * Calls NVML: may block. */
int gs_mps_make_exclusive(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu,
			  struct gs_error *err);
/* Records the root, without which what runs there is not found when the config has another one. */
int gs_mps_record_root(struct gs_mps_record *record, const char *root, struct gs_error *err);
/* flags.mpsRoot as it is compared: without slashes at its end. Owned by the caller. */
char *gs_mps_root(const char *path);
/* The mode as it was, if it is recorded, and forgets it, also when the GPU is gone. To be called again when it fails (-1).
 * 1: MIG is on, so that there is nothing to restore now; the record keeps it for when MIG goes off. */
int gs_mps_restore(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu, struct gs_error *err);

#endif
