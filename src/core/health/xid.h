/* XID errors, as the NVIDIA driver numbers them: https://docs.nvidia.com/deploy/xid-errors/ */
#ifndef GPUSHARE_CORE_XID_H
#define GPUSHARE_CORE_XID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { GS_XIDS_MAX = 1024 };

/* Classes of XIDs, by what must happen before the GPU can be trusted again. */
enum gs_xid_class {
	GS_XID_APPLICATION, /* a program's own fault; ignored unless asked for */
	GS_XID_CONTAINED,   /* the driver dealt with it, or it says so through other counters: quiet is proof */
	GS_XID_NEEDS_RESET, /* the GPU must be reset (also the class of an XID that is not in the table) */
	GS_XID_LOST,        /* the GPU fell off the bus */
};

struct gs_xid {
	uint32_t number;
	enum gs_xid_class class;
	const char *text; /* "GPU has fallen off the bus" */
};

/* NULL when the number is not in the table. */
const struct gs_xid *gs_xid_find(uint64_t number);
enum gs_xid_class gs_xid_class(uint64_t number);
const char *gs_xid_text(uint64_t number); /* "unknown error" when not in the table */

/* Which faults count. */
struct gs_xid_filter {
	uint64_t watched[GS_XIDS_MAX / 64]; /* bit n: XID n counts */
	bool watch_beyond;                  /* XIDs from GS_XIDS_MAX on count */
	bool other_checks;                  /* lost GPUs, ECC, row remapping, recovery actions count */
};

/* From DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS (NULL: not set), whose values are lists with commas.
 * At first all XIDs but those of applications count, and all other checks. `disable`: numbers no longer count; "xids"
 * takes away all XIDs, "all" every check. `enable` then wins whatever was disabled: numbers count again (also those of
 * applications), "xids" is every XID, "all" every check. Letter case and blanks do not matter. An item that is neither
 * is an error; the filter then holds what the valid items say, so a caller may warn and go on. */
int gs_xid_filter_parse(const char *disable, const char *enable, struct gs_xid_filter *filter, struct gs_error *err);
bool gs_xid_filter_watches(const struct gs_xid_filter *filter, uint64_t number);
/* Whether any check is left; false: the daemon need not listen for XIDs at all. */
bool gs_xid_filter_any(const struct gs_xid_filter *filter);

#endif
