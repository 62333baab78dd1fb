/* What changed between two plans, so that only that is published anew. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/share/share.h"

/* A device's shares follow from its UUID, their number and their form. */
static bool same_device(const struct gs_resource_device *a, const struct gs_inventory *a_inventory,
			const struct gs_resource_device *b, const struct gs_inventory *b_inventory)
{
	return a->share_count == b->share_count && a->replicated == b->replicated &&
	       a_inventory->gpus[a->gpu].numa_node == b_inventory->gpus[b->gpu].numa_node &&
	       !strcmp(a_inventory->devices[a->device].uuid, b_inventory->devices[b->device].uuid);
}

static bool same_resource(const struct gs_resource *a, const struct gs_inventory *a_inventory,
			  const struct gs_resource *b, const struct gs_inventory *b_inventory)
{
	if (a->device_count != b->device_count)
		return false;
	for (size_t i = 0; i < a->device_count; i++)
		if (!same_device(&a->devices[i], a_inventory, &b->devices[i], b_inventory))
			return false;
	return true;
}

size_t gs_plan_diff(const struct gs_plan *from, const struct gs_inventory *from_inventory, const struct gs_plan *to,
		    const struct gs_inventory *to_inventory, struct gs_plan_change **changes)
{
	size_t count = 0;

	*changes = gs_calloc(from->resource_count + to->resource_count, sizeof **changes);
	for (size_t i = 0; i < to->resource_count; i++) {
		const struct gs_resource *now = &to->resources[i];
		const struct gs_resource *before = gs_plan_find(from, now->name);
		enum gs_change change = GS_CHANGE_ADDED;
		if (before)
			change = same_resource(before, from_inventory, now, to_inventory) ? GS_CHANGE_SAME
											  : GS_CHANGE_CHANGED;
		(*changes)[count++] = (struct gs_plan_change){change, now->name, before, now};
	}
	for (size_t i = 0; i < from->resource_count; i++) {
		const struct gs_resource *before = &from->resources[i];
		if (!gs_plan_find(to, before->name))
			(*changes)[count++] = (struct gs_plan_change){GS_CHANGE_REMOVED, before->name, before, NULL};
	}
	return count;
}
