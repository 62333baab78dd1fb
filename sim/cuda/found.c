#include "sim/cuda/found.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "sim/cuda/internal.h"

/* A GPU that is there, and what can be seen of it. */
struct candidate {
	struct sim_gpu gpu;
	uint32_t slot;
	struct sim_mig mig;
	size_t instance_count;
	struct sim_mig_name names[SIM_MIG_INSTANCES_MAX * SIM_MIG_COMPUTES_MAX];
	struct simcu_instance instances[SIM_MIG_INSTANCES_MAX * SIM_MIG_COMPUTES_MAX];
};

static uint64_t speed_of(const struct sim_model *model)
{
	return (uint64_t)model->cores * model->clock_sm_max;
}

/* The instances of a GPU; with `only`, the one of that UUID. */
static void find_instances(struct candidate *candidate, const char *only)
{
	for (uint32_t gi = 0; gi < SIM_MIG_INSTANCES_MAX; gi++)
		for (uint32_t ci = 0; candidate->mig.gis[gi].serial && ci < SIM_MIG_COMPUTES_MAX; ci++) {
			uint64_t serial = candidate->mig.gis[gi].cis[ci].serial;
			struct simcu_instance *instance = &candidate->instances[candidate->instance_count];
			if (!serial || !sim_may_see(&candidate->gpu, gi, ci))
				continue;
			sim_mig_uuid(&candidate->gpu, gi, ci, instance->uuid);
			if (only && strcmp(instance->uuid, only) != 0)
				continue;
			candidate->names[candidate->instance_count++] =
				(struct sim_mig_name){candidate->slot, gi, ci, serial};
			snprintf(instance->path, sizeof instance->path, "MIG-%s/%u/%u", candidate->gpu.uuid, gi, ci);
		}
}

static bool read_gpu(struct sim_node *node, uint32_t slot, const char *only, struct candidate *candidate)
{
	candidate->slot = slot;
	candidate->instance_count = 0;
	if (!sim_gpu_get(node, slot, &candidate->gpu) || !candidate->gpu.present || candidate->gpu.lost ||
	    !sim_may_see(&candidate->gpu, SIM_MIG_NONE, SIM_MIG_NONE))
		return false;
	if (candidate->gpu.mig_mode && sim_mig_get(node, slot, &candidate->mig))
		find_instances(candidate, only);
	return true;
}

static size_t read_all(struct sim_node *node, struct candidate *candidates)
{
	size_t count = 0;
	uint32_t slot_count = sim_gpu_count(node);
	for (uint32_t slot = 0; slot < slot_count && count < SIM_GPUS_MAX; slot++)
		count += read_gpu(node, slot, NULL, &candidates[count]);
	return count;
}

static size_t read_allowed(struct sim_node *node, const struct mps_device *allowed, size_t allowed_count,
			   struct candidate *candidates)
{
	size_t count = 0;
	for (size_t i = 0; i < allowed_count && count < SIM_GPUS_MAX; i++) {
		bool instance = strncmp(allowed[i].uuid, "MIG-", 4) == 0;
		count += read_gpu(node, allowed[i].slot, instance ? allowed[i].uuid : NULL, &candidates[count]);
	}
	return count;
}

size_t simcu_find_devices(struct sim_node *node, const char *visible, bool by_bus, const struct mps_device *allowed,
			  size_t allowed_count, struct simcu_found *found)
{
	GS_AUTO_FREE struct candidate *there = gs_calloc(SIM_GPUS_MAX, sizeof *there);
	struct simcu_candidate candidates[SIM_GPUS_MAX];
	unsigned order[SIM_GPUS_MAX];
	int instance;
	size_t count = allowed ? read_allowed(node, allowed, allowed_count, there) : read_all(node, there);
	for (size_t i = 0; i < count; i++)
		candidates[i] = (struct simcu_candidate){
			.uuid = there[i].gpu.uuid,
			.speed = speed_of(&sim_models[there[i].gpu.model]),
			.partitioned = there[i].gpu.mig_mode,
			.instances = there[i].instances,
			.instance_count = there[i].instance_count,
		};
	size_t chosen = simcu_visible_devices(visible, by_bus || allowed, candidates, count, order, &instance);
	for (size_t i = 0; i < chosen; i++) {
		const struct candidate *from = &there[order[i]];
		found[i] = (struct simcu_found){.gpu = from->gpu, .slot = from->slot, .mig = from->mig};
		if (instance >= 0)
			found[i].instance = from->names[instance];
		snprintf(found[i].uuid, sizeof found[i].uuid, "%s",
			 instance >= 0 ? from->instances[instance].uuid : from->gpu.uuid);
	}
	return chosen;
}
