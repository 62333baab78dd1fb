/* Looks at the GPUs: what they do on their thread, and when they are due. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/log.h"
#include "gpu/hangs.h"
#include "gpu/probe.h"
#include "mig/mig_apply.h"
#include "monitor/gpus_internal.h"

enum {
	LOOK_MS = 15000,        /* for GPUs that came or went, and for the health of those that are due */
	LOOK_MIG_MS = 2000,     /* for MIG devices that came or went, where the driver does not tell */
	SETTLE_FIRST_MS = 1000, /* until a MIG change that can't be settled now is tried again; doubles */
	SETTLE_MOST_MS = 60000,
};

/* --- a look, on its thread --- */

static void step(struct look *look, enum look_place place)
{
	look->place = place;
	look->steps++;
}

/* Finds the GPUs that hang, so that what follows does not ask them. */
static void touch(struct look *look)
{
	uint32_t count;
	step(look, LOOK_AT_DRIVER);
	if (GS_NVML(look->nvml, DeviceGetCount, &count) != NVML_SUCCESS)
		count = (uint32_t)look->before.gpu_count;
	step(look, LOOK_AT_EACH);
	gs_hangs_look(look->nvml, &look->before, count, GS_HANGS_PATIENCE_MS);
}

static void settle(struct look *look)
{
	struct gs_error why;
	step(look, LOOK_AT_CHANGE);
	if (gs_mig_recover(look->nvml, look->state_dir, "/proc", &look->settled, &why) < 0)
		look->unsettled = gs_strdup(why.text);
}

static void probe(struct look *look)
{
	for (size_t i = 0; i < look->before.device_count; i++) {
		const struct gs_device *device = &look->before.devices[i];
		step(look, LOOK_AT_GPUS);
		if (look->probe[i] && device->mig)
			gs_probe_read_mig(look->nvml, look->before.gpus[device->gpu].uuid, device->uuid,
					  &look->probes[i]);
		else if (look->probe[i])
			gs_probe_read(look->nvml, device->uuid, &look->probes[i]);
	}
}

static void read_inventory(struct look *look)
{
	const struct gs_inventory_places places = {
		.sysfs = "/sys",
		.driver_roots = {look->driver_root, look->host_driver_root, "", NULL},
	};
	step(look, LOOK_AT_DRIVER);
	look->stale = gs_nvml_is_stale(look->nvml, "/proc", &look->driver_count);
	step(look, LOOK_AT_GPUS);
	if (!look->rescan && !gs_inventory_differs(look->nvml, &look->before))
		return;
	if (gs_inventory_read(look->nvml, &places, &look->before, &look->inventory, &look->problems, &look->err) < 0)
		look->failed = true;
	else
		look->changed = true;
	if (look->changed)
		gs_label_facts_read(look->nvml, places.sysfs, &look->inventory, &look->facts_before, &look->facts);
}

static void run_look(void *user)
{
	struct look *look = user;
	if (!look->nvml) {
		const char *const roots[] = {look->driver_root, look->host_driver_root, NULL};
		if (gs_nvml_open_below(roots, &look->nvml, &look->err) < 0) {
			look->failed = true;
			return;
		}
		if (GS_NVML(look->nvml, SystemGetDriverVersion, look->driver_version, sizeof look->driver_version) !=
		    NVML_SUCCESS)
			look->driver_version[0] = '\0';
		gs_hangs_guard(look->nvml);
	}
	gs_nvml_hold(look->nvml);
	touch(look);
	if (look->settle)
		settle(look);
	probe(look);
	read_inventory(look);
	gs_nvml_release(look->nvml);
}

/* --- its end, and the next one --- */

static void on_look_timer(uv_timer_t *timer)
{
	gpus_look(timer->data, false);
}

static void look_in(struct gpus *gpus, uint64_t delay_ms)
{
	if (!gpus->stopping)
		uv_timer_start(&gpus->look_timer, on_look_timer, delay_ms, 0);
}

/* The next look is due when the most impatient GPU's is, or when it is time to see whether GPUs or MIG devices came or
 * went. */
static void look_when_due(struct gpus *gpus)
{
	int64_t now = gpus_now_ns(), look_ms = LOOK_MS;
	for (size_t i = 0; i < gpus->inventory.gpu_count; i++)
		if (gpus->inventory.gpus[i].mig_enabled && !gpus->tells_mig[i])
			look_ms = LOOK_MIG_MS;
	int64_t due = now + look_ms * 1000000;
	for (size_t i = 0; i < gpus->inventory.device_count; i++)
		if (gs_health_next_look(&gpus->health[i]) < due)
			due = gs_health_next_look(&gpus->health[i]);
	look_in(gpus, due <= now ? 1 : (uint64_t)(due - now) / 1000000 + 1);
}

void gpus_set_waiting_reason(struct gpus *gpus, const char *reason)
{
	bool changed = reason && (!gpus->waiting_reason || strcmp(reason, gpus->waiting_reason) != 0);
	if (changed)
		gs_log(GS_LOG_WARNING, "NVML is not there; trying again", GS_STR("error", reason));
	free(gpus->waiting_reason);
	gpus->waiting_reason = reason ? gs_strdup(reason) : NULL;
	if (changed)
		gpus->owner.health(gpus->owner.user);
}

/* Once for each number of GPUs: where the driver and NVML go on disagreeing, a GPU is one that NVML leaves out. Not while
 * a call hangs: NVML can't be shut down under it. */
static void reopen_when_stale(struct gpus *gpus, const struct look *look)
{
	if (!look->stale)
		gpus->reopened_for = 0;
	if (!look->stale || !gpus->watch || look->driver_count == gpus->reopened_for || gs_hangs_any())
		return;
	gpus->reopened_for = look->driver_count;
	gs_log(GS_LOG_INFO, "the driver has another number of GPUs than NVML lists; opening NVML anew",
	       GS_INT("driver", look->driver_count));
	gs_watch_reopen(gpus->watch);
}

/* One that can't be settled is tried again at each look, and said once. */
static void tell_settled(struct gpus *gpus, struct look *look)
{
	if (look->settled)
		gs_log(GS_LOG_WARNING, "settled a MIG change", GS_STR("what", look->settled));
	if (look->unsettled && (!gpus->unsettled || strcmp(gpus->unsettled, look->unsettled) != 0))
		gs_log(GS_LOG_ERROR, "cannot settle a MIG change", GS_STR("error", look->unsettled));
	if (!look->settle)
		return;
	/* Settling changes instances, which may be an event that starts the next look: the pause keeps that from
	 * looping. */
	gpus->settle_ns = gpus_now_ns();
	if (look->unsettled)
		gpus->settle_ns +=
			gs_backoff_ms(SETTLE_FIRST_MS, SETTLE_MOST_MS, gpus->settle_failures++) * INT64_C(1000000);
	else
		gpus->settle_failures = 0;
	free(gpus->unsettled);
	gpus->unsettled = look->unsettled;
	look->unsettled = NULL;
}

static void gpus_look_free(struct look *look)
{
	free(look->driver_root);
	free(look->host_driver_root);
	free(look->state_dir);
	free(look->settled);
	free(look->unsettled);
	free(look->probe);
	free(look->probes);
	gs_inventory_free(&look->before);
	gs_inventory_free(&look->inventory);
	gs_label_facts_free(&look->facts_before);
	gs_label_facts_free(&look->facts);
	gs_problems_free(&look->problems);
	free(look);
}

/* Takes over the results of the look. Whether it must be tried again soon. */
static bool adopt(struct gpus *gpus, struct look *look)
{
	bool retry = look->failed || (look->changed && look->problems.count > 0);
	gpus_set_waiting_reason(gpus, look->failed ? look->err.text : NULL);
	gpus_adopt_look(gpus, look);
	gpus_tell_hangs(gpus);
	if (gpus->nvml)
		gpus_start_watch(gpus);
	reopen_when_stale(gpus, look);
	return retry;
}

static void after_look(void *user)
{
	struct look *look = user;
	struct gpus *gpus = look->gpus;
	gpus->look = NULL;
	gpus->abandoned = 0;
	gpus_overseen(gpus);
	if (look->nvml && !gpus->nvml) {
		gpus->nvml = look->nvml;
		memcpy(gpus->driver_version, look->driver_version, sizeof gpus->driver_version);
	}
	tell_settled(gpus, look);
	bool retry = !gpus->stopping && adopt(gpus, look);
	gpus_look_free(look);
	if (gpus->stopping) {
		gpus_free_when_stopped(gpus);
		return;
	}
	sampler_looked(gpus->sampler);
	if (!gpus->again)
		gpus->owner.looked(gpus->owner.user);
	if (gpus->again) {
		gpus_look(gpus, true);
	} else if (retry) {
		gpus->rescan_due = true;
		look_in(gpus, gs_backoff_ms(RETRY_FIRST_MS, RETRY_MOST_MS, gpus->retries++));
	} else {
		gpus->retries = 0;
		look_when_due(gpus);
	}
}

static void drop_look(void *user)
{
	gpus_look_free(user);
}

static struct look *new_look(struct gpus *gpus, bool rescan)
{
	struct look *look = gs_calloc(1, sizeof *look);
	look->gpus = gpus;
	look->driver_root = gs_strdup(gpus->driver_root);
	look->host_driver_root = gs_strdup(gpus->host_driver_root);
	look->state_dir = gs_strdup(gpus->state_dir);
	look->nvml = gpus->nvml;
	look->rescan = rescan || gpus->rescan_due || !gpus->read_once;
	look->settle = !gpus->leave_mig && gpus_now_ns() >= gpus->settle_ns;
	gs_inventory_copy(&look->before, &gpus->inventory);
	gs_label_facts_copy(&look->facts_before, &gpus->facts);
	size_t devices = look->before.device_count;
	look->probe = gs_calloc(devices, sizeof *look->probe);
	look->probes = gs_calloc(devices, sizeof *look->probes);
	int64_t soon = gpus_now_ns() + 1000000;
	for (size_t i = 0; i < devices; i++)
		look->probe[i] = rescan || gs_health_next_look(&gpus->health[i]) <= soon;
	return look;
}

void gpus_look(struct gpus *gpus, bool rescan)
{
	if (gpus->stopping || gpus->paused)
		return;
	if (gpus->look) {
		gpus->again |= rescan;
		return;
	}
	struct look *look = new_look(gpus, rescan);
	const struct lane_work work = {.run = run_look, .done = after_look, .drop = drop_look, .user = look};
	uv_timer_stop(&gpus->look_timer);
	lane_run(gpus->look_lane, &work);
	gpus->look = look;
	gpus->again = false;
	gpus->rescan_due = false;
	gpus_oversee(gpus);
}
