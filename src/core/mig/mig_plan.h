/* From the instances that a GPU has to those that it should have, without touching one that is in use. */
#ifndef GPUSHARE_CORE_MIG_PLAN_H
#define GPUSHARE_CORE_MIG_PLAN_H

#include "core/mig/mig_wish.h"

enum {
	GS_MIG_REASON_SIZE = 2048,
	GS_MIG_STEPS_MAX = 2 * GS_MIG_INSTANCES_MAX * (1 + GS_MIG_COMPUTE_MAX),
};

enum gs_mig_goal {
	GS_MIG_BECOME, /* the GPU has exactly the spec; idle instances outside it go */
	GS_MIG_ADD,    /* the GPU gets the spec beside what it has; no instance goes, idle or not */
};

enum gs_mig_step_kind {
	GS_MIG_CREATE_INSTANCE,  /* at `place`, with its compute instances */
	GS_MIG_DESTROY_INSTANCE, /* with its compute instances; none of them is in use */
	GS_MIG_CREATE_COMPUTE,   /* one, of compute[0] slices, in an instance that stays */
	GS_MIG_DESTROY_COMPUTE,
};

struct gs_mig_step {
	enum gs_mig_step_kind kind;
	uint8_t profile; /* GS_MIG_UNKNOWN only where an instance of such a one is destroyed */
	struct gs_mig_placement place;
	uint32_t instance_id;                /* of the instance that is there; unset for CREATE_INSTANCE */
	uint32_t compute_id;                 /* DESTROY_COMPUTE */
	uint8_t compute[GS_MIG_COMPUTE_MAX]; /* compute slices of each that is created or destroyed, largest first */
	uint8_t compute_start[GS_MIG_COMPUTE_MAX]; /* where each can be; created in this order, most need no place */
	uint8_t compute_count;
};

struct gs_mig_plan {
	/* In this order each step is possible when its turn comes, if instances are created at their `place`. No step
	 * touches a busy instance. None: the GPU is as the spec says. */
	struct gs_mig_step steps[GS_MIG_STEPS_MAX];
	size_t step_count;
	uint32_t created, destroyed;                 /* GPU instances */
	uint32_t compute_created, compute_destroyed; /* compute instances of GPU instances that stay */
	/* When it is impossible: which instances (positions in the layout) would have to end, the fewest busy ones and
	 * then the fewest that do; none when the spec does not even fit on an empty GPU. And the same as sentences for
	 * a person, without a newline. */
	uint8_t blockers[GS_MIG_INSTANCES_MAX];
	uint8_t blocker_count;
	char reason[GS_MIG_REASON_SIZE];
};

/* Exact: if there is a way that touches no busy instance, it is found, and among all ways it is the one with, in this
 * order, the fewest destroyed GPU instances, the fewest destroyed compute instances, the fewest new instances that need
 * the slices of a destroyed one, and the most places left open in the end (gs_mig_open_places). Equal ways: new
 * instances at the lowest slices. Steps create before they destroy wherever slices, counts and engines allow it.
 *
 * 0: `plan` has the steps. -1: impossible; `plan` has blockers and reason, no steps. `gpu` is complete; everything in
 * `layout` and `wish` is checked. A millisecond at most for the grids that exist. */
int gs_mig_plan_make(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, const struct gs_mig_wish *wish,
		     enum gs_mig_goal goal, struct gs_mig_plan *plan);

#endif
