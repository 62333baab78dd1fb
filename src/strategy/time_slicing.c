/* Several containers on one device, in turns. The driver does the turns whenever two processes use a device, so all
 * there is to do is to publish it several times. Each share is entitled to an equal part; nothing enforces that, and
 * two shares of one device do not make twice the part. */
#include "base/alloc.h"
#include "strategy/strategies.h"

static char *terms(const struct gs_sharing_resource *entry)
{
	return gs_strdup("workloads take turns; memory and faults are not isolated");
}

static void plan(const struct gs_sharing_resource *entry, const struct gs_inventory *inventory, uint32_t device,
		 struct gs_resource *resource)
{
	gs_resource_add_device(resource, inventory, device, entry->replicas);
}

const struct gs_strategy gs_strategy_time_slicing = {
	.name = "time-slicing",
	.section = &gs_sharing_sections[GS_SECTION_TIME_SLICING],
	.by = "by time-slicing",
	.terms = terms,
	.several_shares = "gets no more time for them",
	.plan = plan,
};
