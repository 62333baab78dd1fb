/* The result of a look: the inventory, and the health of its devices. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "monitor/gpus_internal.h"

/* Of the device with this UUID; -1: none. */
long gpus_position(const struct gs_inventory *inventory, const char *uuid)
{
	for (size_t i = 0; i < inventory->device_count; i++)
		if (strcmp(inventory->devices[i].uuid, uuid) == 0)
			return (long)i;
	return -1;
}

void gpus_log_health(const struct gpus *gpus, size_t which)
{
	const struct gs_health *health = &gpus->health[which];
	const struct gs_device *device = &gpus->inventory.devices[which];
	bool healthy = gs_health_is_healthy(health);
	const char *text = device->mig ? healthy ? "MIG device healthy again" : "MIG device unhealthy"
				       : (healthy ? "GPU healthy again" : "GPU unhealthy");
	gs_log(healthy ? GS_LOG_INFO : GS_LOG_WARNING, text, GS_STR("gpu", device->uuid),
	       GS_STR("index", device->index), GS_STR("reason", gs_health_reason(health)));
}

static void log_found(const struct gs_inventory *inventory, const struct gs_device *device)
{
	if (device->mig)
		gs_log(GS_LOG_INFO, "MIG device found", GS_STR("index", device->index), GS_STR("device", device->uuid),
		       GS_STR("profile", device->mig_profile));
	else
		gs_log(GS_LOG_INFO, "GPU found", GS_STR("index", device->index), GS_STR("gpu", device->uuid),
		       GS_STR("name", inventory->gpus[device->gpu].name));
}

/* Health goes with the UUID. */
static struct gs_health *carry_health(struct gpus *gpus, const struct gs_inventory *inventory)
{
	struct gs_health *health = gs_calloc(inventory->device_count, sizeof *health);
	for (size_t i = 0; i < inventory->device_count; i++) {
		long before = gpus_position(&gpus->inventory, inventory->devices[i].uuid);
		if (before >= 0) {
			health[i] = gpus->health[before];
			continue;
		}
		gs_health_init(&health[i], &gs_health_defaults, &gpus->filter, gpus_now_ns());
		log_found(inventory, &inventory->devices[i]);
	}
	for (size_t i = 0; i < gpus->inventory.device_count; i++) {
		const struct gs_device *device = &gpus->inventory.devices[i];
		if (gpus_position(inventory, device->uuid) < 0)
			gs_log(device->mig ? GS_LOG_INFO : GS_LOG_WARNING, device->mig ? "MIG device gone" : "GPU gone",
			       GS_STR("index", device->index), GS_STR("gpu", device->uuid));
	}
	return health;
}

static void carry_tells_mig(struct gpus *gpus, const struct gs_inventory *inventory)
{
	bool tells[GS_GPUS_MAX] = {false};
	for (size_t i = 0; i < inventory->gpu_count; i++)
		for (size_t j = 0; j < gpus->inventory.gpu_count; j++)
			if (strcmp(inventory->gpus[i].uuid, gpus->inventory.gpus[j].uuid) == 0)
				tells[i] = gpus->tells_mig[j];
	memcpy(gpus->tells_mig, tells, sizeof tells);
}

/* Takes over a new inventory. */
static void adopt_inventory(struct gpus *gpus, struct gs_inventory *inventory)
{
	if (gpus->read_once && gs_inventory_equal(&gpus->inventory, inventory)) {
		gs_inventory_take_problems(&gpus->inventory, inventory);
		gs_inventory_free(inventory);
		return;
	}
	struct gs_health *health = carry_health(gpus, inventory);
	carry_tells_mig(gpus, inventory);
	if (inventory->gpu_count == 0 && inventory->unread_count == 0)
		gs_log(GS_LOG_WARNING, "no GPU found; waiting for one");
	free(gpus->health);
	gpus->health = health;
	gs_inventory_free(&gpus->inventory);
	gpus->inventory = *inventory;
	gpus->read_once = true;
	*inventory = (struct gs_inventory){0};
	if (gpus->watch)
		gs_watch_set_inventory(gpus->watch, &gpus->inventory);
	gpus->owner.inventory(gpus->owner.user, &gpus->inventory);
}

static void adopt_probes(struct gpus *gpus, const struct look *look)
{
	bool changed = false;
	for (size_t i = 0; i < look->before.device_count; i++) {
		long which = look->probe[i] ? gpus_position(&gpus->inventory, look->before.devices[i].uuid) : -1;
		if (which < 0 || !gs_health_probe(&gpus->health[which], &look->probes[i], gpus_now_ns()))
			continue;
		gpus_log_health(gpus, (size_t)which);
		changed = true;
	}
	if (changed)
		gpus->owner.health(gpus->owner.user);
}

/* A GPU that can't be read is tried again every few seconds, and logged when the reason changes. */
static void tell_problems(struct gpus *gpus, struct look *look)
{
	bool same = look->problems.count == gpus->problems.count;
	for (size_t i = 0; same && i < look->problems.count; i++)
		same = strcmp(look->problems.items[i], gpus->problems.items[i]) == 0;
	for (size_t i = 0; !same && i < look->problems.count; i++)
		gs_log(GS_LOG_WARNING, "a GPU could not be read", GS_STR("error", look->problems.items[i]));
	if (!same && look->problems.count == 0)
		gs_log(GS_LOG_INFO, "every GPU can be read again");
	gs_problems_free(&gpus->problems);
	gpus->problems = look->problems;
	look->problems = (struct gs_problems){0};
}

void gpus_adopt_look(struct gpus *gpus, struct look *look)
{
	if (look->changed) {
		tell_problems(gpus, look);
		gs_label_facts_free(&gpus->facts);
		gpus->facts = look->facts;
		look->facts = (struct gs_label_facts){0};
		adopt_inventory(gpus, &look->inventory);
	}
	adopt_probes(gpus, look); /* after it: a GPU that is gone is not sick */
}
