/* The GPU room: start, stop, and the values that it offers other rooms. */
#include "monitor/gpus.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "gpu/hangs.h"
#include "monitor/gpus_internal.h"

int64_t gpus_now_ns(void)
{
	return (int64_t)uv_hrtime();
}

int gpus_start(uv_loop_t *loop, const struct gpus_options *options, const struct gpus_owner *owner, struct gpus **ret,
	       struct gs_error *err)
{
	struct gpus *gpus = gs_calloc(1, sizeof *gpus);
	gpus->loop = loop;
	gpus->owner = *owner;
	gpus->driver_root = gs_strdup(options->driver_root);
	gpus->host_driver_root = gs_strdup(options->host_driver_root);
	gpus->state_dir = gs_strdup(options->state_dir);
	gpus->leave_mig = options->leave_mig;
	if (gs_xid_filter_parse(options->disable_healthchecks, options->enable_healthchecks, &gpus->filter, err) < 0)
		gs_log(GS_LOG_WARNING, "DP_DISABLE_HEALTHCHECKS or DP_ENABLE_HEALTHCHECKS holds what is no XID",
		       GS_STR("error", err->text));
	uv_mutex_init(&gpus->lock);
	uv_timer_init(loop, &gpus->look_timer);
	uv_timer_init(loop, &gpus->oversee);
	uv_async_init(loop, &gpus->arrived, gpus_on_arrived);
	gpus->look_timer.data = gpus->oversee.data = gpus->arrived.data = gpus;
	gpus->sampler = sampler_new(loop);
	gpus->look_lane = lane_new(loop, "gpu-looks");
	static const char *const names[GPUS_LANES] = {[GPUS_LANE_MIG] = "mig-changes", [GPUS_LANE_MODES] = "gpu-modes"};
	for (size_t i = 0; i < GPUS_LANES; i++)
		gpus->errand_lanes[i] = lane_new(loop, names[i]);
	gpus->handles = 5;
	gpus->paused = options->paused;
	if (options->paused)
		gpus->waiting_reason = gs_strdup(options->paused);
	gpus_look(gpus, false);
	*ret = gpus;
	return 0;
}

static void on_lane_closed(void *user)
{
	struct gpus *gpus = user;
	gpus->handles--;
	gpus_free_when_stopped(gpus);
}

/* The watch's thread may be inside NVML for some seconds more after the end, as may be those that hang, so NVML stays open until
 * the process ends. It is kept here, where a leak checker finds it. */
static struct gs_nvml *volatile left_open;

void gpus_free_when_stopped(struct gpus *gpus)
{
	if (gpus->look_lane && !gpus->look) {
		lane_close(gpus->look_lane, on_lane_closed, gpus);
		gpus->look_lane = NULL;
	}
	if (gpus->look || gpus->errands > 0 || gpus->handles > 0)
		return;
	for (size_t i = 0; i < GPUS_LANES; i++)
		lane_close(gpus->errand_lanes[i], NULL, NULL);
	void (*stopped)(void *user) = gpus->stopped;
	void *user = gpus->stopped_user;
	uv_mutex_destroy(&gpus->lock);
	gs_inventory_free(&gpus->inventory);
	gs_problems_free(&gpus->problems);
	gs_label_facts_free(&gpus->facts);
	free(gpus->health);
	free(gpus->driver_root);
	free(gpus->host_driver_root);
	free(gpus->state_dir);
	free(gpus->unsettled);
	free(gpus->waiting_reason);
	free(gpus->hang);
	if (gpus->watch || gpus->left_behind)
		left_open = gpus->nvml;
	else
		gs_nvml_close(gpus->nvml);
	free(gpus);
	stopped(user);
}

static void on_closed(uv_handle_t *handle)
{
	struct gpus *gpus = handle->data;
	gpus->handles--;
	gpus_free_when_stopped(gpus);
}

static void on_sampler_stopped(void *user)
{
	struct gpus *gpus = user;
	gpus->handles--;
	gpus_free_when_stopped(gpus);
}

void gpus_stop(struct gpus *gpus, void (*done)(void *user), void *user)
{
	gpus->stopping = true;
	gpus->stopped = done;
	gpus->stopped_user = user;
	if (gpus->watch)
		gs_watch_stop(gpus->watch);
	gpus->left_behind = gpus_left_behind(gpus);
	uv_close((uv_handle_t *)&gpus->look_timer, on_closed);
	uv_close((uv_handle_t *)&gpus->oversee, on_closed);
	sampler_stop(gpus->sampler, on_sampler_stopped, gpus);
	uv_close((uv_handle_t *)&gpus->arrived, on_closed);
}

void gpus_sample(struct gpus *gpus, sampler_done *done, void *user)
{
	if (sampler_hangs(gpus->sampler))
		gpus_look(gpus, false); /* to find out where */
	sampler_ask(gpus->sampler, gpus->nvml, &gpus->inventory, done, user);
}

void gpus_leave_mig(struct gpus *gpus, bool leave)
{
	bool was = gpus->leave_mig;
	gpus->leave_mig = leave;
	if (was && !leave)
		gpus_look(gpus, true);
}

bool gpus_paused(const struct gpus *gpus)
{
	return gpus->paused;
}

void gpus_resume(struct gpus *gpus)
{
	gpus->paused = false;
	gpus_look(gpus, true);
}

void gpus_rescan(struct gpus *gpus)
{
	gpus_look(gpus, true);
}

const char *gpus_waiting_reason(const struct gpus *gpus)
{
	return gpus->waiting_reason;
}

bool gpus_left_behind(const struct gpus *gpus)
{
	return gs_hangs_any() || lane_left_behind(gpus->look_lane) > 0 || sampler_left_behind(gpus->sampler) > 0;
}

const char *gpus_driver_version(const struct gpus *gpus)
{
	return gpus->driver_version;
}

const struct gs_inventory *gpus_inventory(const struct gpus *gpus)
{
	return gpus->read_once ? &gpus->inventory : NULL;
}

bool gpus_healthy(const struct gpus *gpus, const char *uuid, const char **reason)
{
	long which = gpus_position(&gpus->inventory, uuid);
	if (which < 0) {
		*reason = "the device is gone";
		return false;
	}
	*reason = gs_health_reason(&gpus->health[which]);
	if (!gs_health_is_healthy(&gpus->health[which]))
		return false;
	const struct gs_device *device = &gpus->inventory.devices[which];
	return !device->mig || gpus_healthy(gpus, gpus->inventory.gpus[device->gpu].uuid, reason);
}

const struct gs_label_facts *gpus_label_facts(const struct gpus *gpus)
{
	return &gpus->facts;
}
