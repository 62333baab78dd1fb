/* The spec of a GPU: the instances that a user wants on it, and the notation for them. */
#ifndef GPUSHARE_CORE_MIG_WISH_H
#define GPUSHARE_CORE_MIG_WISH_H

#include "core/mig/mig_geometry.h"

enum { GS_MIG_ANYWHERE = -1 };

/* One wanted GPU instance with its compute instances. */
struct gs_mig_want {
	uint8_t profile;                     /* position in gs_mig_gpu.profiles */
	int8_t start;                        /* memory slice, or GS_MIG_ANYWHERE */
	uint8_t compute[GS_MIG_COMPUTE_MAX]; /* compute slices of each, largest first */
	uint8_t compute_count;               /* 0 only in the spec made of a layout */
};

/* The spec: the instances that a GPU should have, or get in addition. Start with {0}. */
struct gs_mig_wish {
	struct gs_mig_want items[GS_MIG_INSTANCES_MAX];
	uint8_t count;
};

/* Reads a list of profiles, comma-separated, each one of
 *     1g.10gb, "MIG 1g.10gb"   a name
 *     19                       an id, as nvidia-smi takes them
 *     1c.3g.40gb               a compute instance; those of one profile share as few GPU instances as possible
 * and each with ":START" behind it for a place of its own (a memory slice, as in nvidia-smi's -cgi 9:4). Appends to
 * `wish`. Errors (GS_ERROR_INPUT) say what is wrong and what was probably meant: an unknown name or id, more instances
 * than fit on one GPU, a place that the profile does not have, a compute size that it does not have, an empty entry; their
 * code is EINVAL where no GPU would do, and else 0. On failure `wish` is as it was. */
int gs_mig_parse_list(const struct gs_mig_gpu *gpu, const char *text, struct gs_mig_wish *wish, struct gs_error *err);

/* Adds `count` instances of what `name` says ("1g.10gb", "1c.3g.40gb", an id); errors as above. */
int gs_mig_wish_add(const struct gs_mig_gpu *gpu, const char *name, uint32_t count, struct gs_mig_wish *wish,
		    struct gs_error *err);

/* Whether no more of a profile is wanted than can ever be on one GPU; the error explains ids that were taken for counts
 * or sizes. gs_mig_parse_list has done it. */
int gs_mig_wish_check(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish, struct gs_error *err);

/* The same profile, place and compute instances. */
bool gs_mig_want_same(const struct gs_mig_want *a, const struct gs_mig_want *b);
/* The same wants, in any order. */
bool gs_mig_wish_same(const struct gs_mig_wish *a, const struct gs_mig_wish *b);

/* The layout as a spec; instances of unknown profiles are left out. */
void gs_mig_wish_from_layout(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout,
			     struct gs_mig_wish *wish);

/* "2x 1g.10gb, 2g.20gb, 2x 1c.3g.40gb", "nothing" when empty; the caller frees it. */
char *gs_mig_wish_text(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish);

#endif
