/* Events, from the watch's thread to the loop's. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "monitor/gpus_internal.h"

static void on_watch_event(void *user, const struct gs_watch_event *event)
{
	struct gpus *gpus = user;
	uv_mutex_lock(&gpus->lock);
	if (gpus->event_count < EVENTS_MAX)
		gpus->events[gpus->event_count++] = *event;
	else
		gpus->events_lost = true;
	uv_mutex_unlock(&gpus->lock);
	uv_async_send(&gpus->arrived);
}

/* Whether a fault is this device's: an event that names no GPU may be any GPU's, and one that names a MIG instance is of
 * that instance only. One of a GPU is not counted for its MIG devices too, which are no healthier than it anyway. */
static bool concerns(const struct gpus *gpus, const struct gs_device *device, const struct gs_watch_event *event)
{
	if (*event->uuid && strcmp(event->uuid, gpus->inventory.gpus[device->gpu].uuid) != 0)
		return false;
	if (event->gpu_instance == UINT32_MAX)
		return !device->mig;
	return device->mig && device->gpu_instance == event->gpu_instance &&
	       (event->compute_instance == UINT32_MAX || device->compute_instance == event->compute_instance);
}

/* Whether health changed. */
static bool apply_fault(struct gpus *gpus, const struct gs_watch_event *event)
{
	bool changed = false;
	for (size_t i = 0; i < gpus->inventory.device_count; i++) {
		const struct gs_device *device = &gpus->inventory.devices[i];
		struct gs_health *health = &gpus->health[i];
		if (!concerns(gpus, device, event))
			continue;
		if (event->kind == GS_WATCH_XID)
			gs_log(GS_LOG_INFO, "XID", GS_STR("index", device->index), GS_INT("xid", event->data),
			       GS_STR("meaning", gs_xid_text(event->data)));
		if (event->kind == GS_WATCH_XID ? gs_health_xid(health, event->data, gpus_now_ns())
						: gs_health_ecc_double(health, gpus_now_ns())) {
			gpus_log_health(gpus, i);
			changed = true;
		}
	}
	return changed;
}

static void set_tells_mig(struct gpus *gpus, const char *uuid, bool tells)
{
	for (size_t i = 0; i < gpus->inventory.gpu_count; i++)
		if (!*uuid || strcmp(uuid, gpus->inventory.gpus[i].uuid) == 0)
			gpus->tells_mig[i] = tells;
}

/* Whether health changed; `rescan` is set when there is something to look for. */
static bool apply_event(struct gpus *gpus, const struct gs_watch_event *event, bool *rescan)
{
	switch (event->kind) {
	case GS_WATCH_XID:
	case GS_WATCH_ECC_DOUBLE:
		return apply_fault(gpus, event);
	case GS_WATCH_MIG_WATCHED:
		set_tells_mig(gpus, event->uuid, true);
		break;
	case GS_WATCH_MIG_CHANGED:
	case GS_WATCH_REOPENED:
		*rescan = true;
		break;
	case GS_WATCH_NOT_REOPENED:
		gpus->reopened_for = 0; /* the next look asks again */
		break;
	case GS_WATCH_PROBLEM:
		set_tells_mig(gpus, event->uuid, false);
		gs_log(GS_LOG_WARNING, "NVML's events can't be had; health is looked at every now and then",
		       GS_STR("gpu", event->uuid), GS_STR("error", event->text));
		break;
	}
	return false;
}

void gpus_on_arrived(uv_async_t *async)
{
	struct gpus *gpus = async->data;
	if (gpus->stopping)
		return;
	uv_mutex_lock(&gpus->lock);
	size_t count = gpus->event_count;
	GS_AUTO_FREE struct gs_watch_event *events = gs_calloc(count, sizeof *events);
	if (count)
		memcpy(events, gpus->events, count * sizeof *events);
	bool rescan = gpus->events_lost;
	gpus->event_count = 0;
	gpus->events_lost = false;
	uv_mutex_unlock(&gpus->lock);

	bool changed = false;
	for (size_t i = 0; i < count; i++) {
		changed |= apply_event(gpus, &events[i], &rescan);
		gpus->owner.event(gpus->owner.user, events[i].uuid);
	}
	if (changed)
		gpus->owner.health(gpus->owner.user);
	if (changed || rescan)
		gpus_look(gpus, rescan);
}

void gpus_start_watch(struct gpus *gpus)
{
	struct gs_error err;
	if (!gpus->watch && gs_xid_filter_any(&gpus->filter) &&
	    gs_watch_start(gpus->nvml, &gpus->inventory, on_watch_event, gpus, &gpus->watch, &err) < 0)
		gs_log(GS_LOG_ERROR, "no health events", GS_STR("error", err.text));
}
