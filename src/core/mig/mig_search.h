/* Inside the planner: where the wanted instances go. */
#ifndef GPUSHARE_CORE_MIG_SEARCH_H
#define GPUSHARE_CORE_MIG_SEARCH_H

#include "core/mig/mig_plan.h"

/* How an instance that stays gets the compute instances that are wanted. */
struct gs_mig_compute_change {
	uint32_t kept; /* bit n: compute instance n of the instance */
	uint8_t destroyed;
	uint8_t created[GS_MIG_COMPUTE_MAX], starts[GS_MIG_COMPUTE_MAX];
	uint8_t created_count;
};

struct gs_mig_way {
	struct gs_mig_want wants[GS_MIG_INSTANCES_MAX]; /* those of the spec, in the search's own order */
	struct gs_mig_placement places[GS_MIG_INSTANCES_MAX];
	int stays[GS_MIG_INSTANCES_MAX]; /* the instance of the layout that becomes this one; -1: a new one */
	struct gs_mig_compute_change changes[GS_MIG_INSTANCES_MAX]; /* of those that stay */
	size_t count;
	uint32_t blockers; /* bit n: instance n of the layout must go, and must not */
};

/* The best way (see gs_mig_plan_make), with as few blockers as there can be. false: there is none even on an empty
 * GPU. Counts and engines are not looked at. */
bool gs_mig_find_way(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, const struct gs_mig_wish *wish,
		     enum gs_mig_goal goal, struct gs_mig_way *way);

#endif
