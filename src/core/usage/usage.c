#include "core/usage/usage.h"

#include <stdlib.h>

#include "base/alloc.h"

static void add_groups(struct gs_usage *usage, const struct gs_resource *resource)
{
	for (size_t i = 0; i < resource->device_count; i++) {
		const struct gs_resource_device *on = &resource->devices[i];
		struct gs_usage_group *group = &usage->groups[usage->group_count];
		*group = (struct gs_usage_group){resource, on, (uint32_t)usage->share_count};
		for (uint32_t j = 0; j < on->share_count; j++)
			usage->shares[usage->share_count++] = (struct gs_usage_share){
				.share = &resource->shares[on->first_share + j], .group = (uint32_t)usage->group_count};
		usage->group_count++;
	}
}

void gs_usage_begin(struct gs_usage *usage, const struct gs_plan *plan, const struct gs_inventory *inventory,
		    struct gs_usage_time now)
{
	size_t groups = 0, shares = 0;
	for (size_t i = 0; i < plan->resource_count; i++) {
		groups += plan->resources[i].device_count;
		shares += plan->resources[i].share_count;
	}
	*usage = (struct gs_usage){.now = now, .plan = plan, .inventory = inventory};
	usage->gpus = gs_calloc(inventory->gpu_count, sizeof *usage->gpus);
	usage->devices = gs_calloc(inventory->device_count, sizeof *usage->devices);
	usage->groups = gs_calloc(groups, sizeof *usage->groups);
	usage->shares = gs_calloc(shares, sizeof *usage->shares);
	for (size_t i = 0; i < inventory->gpu_count; i++)
		usage->gpus[i].reason = "";
	for (size_t i = 0; i < inventory->device_count; i++)
		usage->devices[i].reason = "";
	for (size_t i = 0; i < plan->resource_count; i++)
		add_groups(usage, &plan->resources[i]);
}

void gs_usage_free(struct gs_usage *usage)
{
	free(usage->gpus);
	free(usage->devices);
	free(usage->groups);
	free(usage->shares);
	free(usage->processes);
	free(usage->claims);
	*usage = (struct gs_usage){0};
}

int64_t gs_usage_age_ms(const struct gs_usage *usage, const struct gs_figure *figure)
{
	if (figure->source == GS_SOURCE_UNKNOWN)
		return -1;
	return usage->now.ms > figure->at_ms ? usage->now.ms - figure->at_ms : 0;
}

enum gs_usage_holder gs_usage_holder(const struct gs_usage *usage, const struct gs_usage_share *share)
{
	bool told = usage->pods_known && !usage->pods_truncated;
	int64_t age = usage->now.seconds - share->allocated_seconds;
	if (share->pod_count)
		return GS_HELD_BY_POD;
	if (!share->allocated_seconds || age > (told ? GS_USAGE_NEW_SECONDS : GS_USAGE_PROMISE_SECONDS))
		return GS_HELD_BY_NOBODY;
	return GS_HELD_LATELY;
}
