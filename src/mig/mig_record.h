/* The record of a change of MIG layouts, written to disk before the change begins. After a crash the next process
 * undoes or finishes the change by it. */
#ifndef GPUSHARE_GPU_MIG_RECORD_H
#define GPUSHARE_GPU_MIG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/share/inventory.h"
#include "core/mig/mig_geometry.h"

/* An instance by what it is, not by its id: that way it can be found again, and made again. */
struct gs_mig_record_instance {
	uint32_t profile_id;
	struct gs_mig_placement place;
	struct {
		uint8_t slices, start;
	} compute[GS_MIG_COMPUTE_MAX];
	uint8_t compute_count;
};

struct gs_mig_record_layout {
	bool enabled; /* MIG mode */
	bool pending; /* and as it will be after a reset */
	struct gs_mig_record_instance items[GS_MIG_INSTANCES_MAX];
	uint8_t count;
};

struct gs_mig_record_gpu {
	char uuid[GS_UUID_SIZE];
	struct gs_mig_record_layout before, after;
};

struct gs_mig_record {
	struct gs_mig_record_gpu *gpus; /* owned */
	size_t count;
	/* Instances are gone after a reboot, so a record of another boot says nothing any more. "" when unknown. */
	char boot[40];
};

/* Writes DIR/mig-change new, syncs and renames. `proc` tells which boot this is. */
int gs_mig_record_write(const char *dir, const char *proc, const struct gs_mig_record *record, struct gs_error *err);
/* 1: read, and `record` is the caller's to free; 0: there is none; -1: it can't be read, or is damaged. */
int gs_mig_record_read(const char *dir, struct gs_mig_record *record, struct gs_error *err);
int gs_mig_record_remove(const char *dir, struct gs_error *err);
void gs_mig_record_free(struct gs_mig_record *record);
/* Moves one that can't be understood to DIR/mig-change.corrupt. */
int gs_mig_record_set_aside(const char *dir, struct gs_error *err);
/* Whether it was written since the machine started; true when that can't be told. */
bool gs_mig_record_is_current(const struct gs_mig_record *record, const char *proc);

/* The text, and back; for the functions above, and for tests. The text is the caller's. */
char *gs_mig_record_text(const struct gs_mig_record *record);
int gs_mig_record_parse(const char *text, size_t length, struct gs_mig_record *record, struct gs_error *err);

#endif
