/* A device for one container at a time: what every device is that no sharing entry names. */
#include "strategy/strategies.h"

static void plan(const struct gs_sharing_resource *entry, const struct gs_inventory *inventory, uint32_t device,
		 struct gs_resource *resource)
{
	gs_resource_add_device(resource, inventory, device, 0);
}

const struct gs_strategy gs_strategy_exclusive = {
	.name = "exclusive",
	.plan = plan,
};
