/* Compute modes that keep shares from being used. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "core/share/share.h"

/* nvmlComputeMode_t; 1 is what drivers took for 3 before they did away with it. */
enum { MODE_EXCLUSIVE_THREAD = 1, MODE_PROHIBITED = 2, MODE_EXCLUSIVE_PROCESS = 3 };

/* Owned by the caller; NULL: there is nothing to say. */
static char *judge(const struct gs_resource *resource, const struct gs_resource_device *on, const struct gs_gpu *gpu)
{
	if (gpu->mig_enabled || on->strategy->sets_compute_mode)
		return NULL;
	if (gpu->compute_mode == MODE_PROHIBITED)
		return gs_printf(
			"GPU %u is in compute mode PROHIBITED: no program can use it, and %s is published on it; "
			"nvidia-smi -i %u -c DEFAULT changes that",
			gpu->index, resource->name, gpu->index);
	if (on->share_count < 2 ||
	    (gpu->compute_mode != MODE_EXCLUSIVE_PROCESS && gpu->compute_mode != MODE_EXCLUSIVE_THREAD))
		return NULL;
	return gs_printf(
		"GPU %u is in compute mode EXCLUSIVE_PROCESS: one process at a time can use it, and %u shares of "
		"%s are published on it; nvidia-smi -i %u -c DEFAULT changes that",
		gpu->index, on->share_count, resource->name, gpu->index);
}

void gs_plan_modes(const struct gs_plan *plan, const struct gs_inventory *inventory,
		   void (*say)(void *user, const char *text), void *user)
{
	for (size_t i = 0; i < plan->resource_count; i++)
		for (size_t j = 0; j < plan->resources[i].device_count; j++) {
			const struct gs_resource_device *on = &plan->resources[i].devices[j];
			GS_AUTO_FREE char *text = judge(&plan->resources[i], on, &inventory->gpus[on->gpu]);
			if (text)
				say(user, text);
		}
}
