/* Several containers on one device, in turns. The driver does the turns whenever two processes use a device, so all
 * there is to do is to publish it several times. Each share is entitled to an equal part; nothing enforces that, and
 * two shares of one device do not make twice the part. */
#include "strategy/strategies.h"

static const struct gs_sharing *section(const struct gs_config *config)
{
	return &config->time_slicing;
}

static void plan(const struct gs_sharing_resource *entry, const struct gs_inventory *inventory, uint32_t device,
		 struct gs_resource *resource)
{
	gs_resource_add_device(resource, inventory, device, entry->replicas);
}

const struct gs_strategy gs_strategy_time_slicing = {
	.name = "time-slicing",
	.section = section,
	.plan = plan,
};
