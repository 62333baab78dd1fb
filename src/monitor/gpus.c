#include "monitor/gpus.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "core/health/health.h"
#include "gpu/inventory_read.h"
#include "mig/mig_apply.h"
#include "gpu/label_facts.h"
#include "gpu/nvml.h"
#include "gpu/probe.h"
#include "gpu/watch.h"

enum {
	EVENTS_MAX = 128,     /* between the event thread and the loop; a flood beyond it forces a look at every GPU */
	RETRY_FIRST_MS = 100, /* until NVML is there */
	RETRY_MOST_MS = 5000,
	LOOK_MS = 15000,        /* for GPUs that came or went, and for the health of those that are due */
	LOOK_MIG_MS = 2000,     /* for MIG devices that came or went, where the driver does not tell */
	SETTLE_FIRST_MS = 1000, /* until a MIG change that can't be settled now is tried again; doubles */
	SETTLE_MOST_MS = 60000,
	OVERSEE_MS = 5000, /* whether a look comes on */
	STANDSTILLS = 3,   /* so often in a row it has not: the driver hangs */
};

/* What a job on a worker thread is to do, and what it found. One at a time. */
struct job {
	uv_work_t work;
	bool rescan; /* read the inventory even if the cheap check sees no change */
	bool settle; /* a MIG change that was cut off, if there is one */
	struct gs_inventory before;
	bool *probe; /* which devices of `before` to look at */

	/* Written by the worker, read by the loop's thread while it works. */
	_Atomic unsigned steps; /* how far it is: grows */
	_Atomic size_t asked;   /* the GPU of `before` that it asks now, plus 1; 0: none in particular */

	struct gs_nvml *nvml; /* the owner's, or newly opened */
	char driver_version[80];
	bool failed;
	struct gs_error err;
	bool changed; /* `inventory` was read */
	struct gs_inventory inventory;
	struct gs_label_facts facts_before, facts;
	struct gs_problems problems;
	struct gs_probe *probes;
	char *settled, *unsettled; /* what was done about a MIG change that was cut off, or why nothing could be */
	bool stale;                /* the driver has another number of GPUs than NVML lists */
	size_t driver_count;
};

struct gpus {
	uv_loop_t *loop;
	struct gpus_owner owner;
	char *driver_root, *host_driver_root, *state_dir;
	char *unsettled;   /* as last logged */
	int64_t settle_ns; /* when to try again */
	unsigned settle_ms;
	struct gs_nvml *nvml; /* NULL until a job opened it; used by jobs, samples and the watch */
	char driver_version[80];
	char *waiting_reason;
	unsigned retry_ms;

	struct gs_inventory inventory;
	struct gs_label_facts facts;
	bool read_once;
	struct gs_xid_filter filter;
	struct gs_health *health;    /* health[i] of inventory.devices[i] */
	bool tells_mig[GS_GPUS_MAX]; /* the watch tells changes of inventory.gpus[i]'s MIG layout */

	struct job job;
	bool working, again, rescan_due;
	size_t reopened_for; /* GPUs of the driver for which NVML was opened anew; 0: none */
	uv_timer_t look, oversee;
	unsigned seen_steps; /* of the job, when it was last looked after */
	unsigned standstills;
	bool hangs; /* that was told */

	struct gs_watch *watch;
	uv_async_t arrived;
	uv_mutex_t lock; /* guards the events, which the watch's thread adds */
	struct gs_watch_event events[EVENTS_MAX];
	size_t event_count;
	bool events_lost;

	struct sampler *sampler;
	unsigned errands;
	unsigned handles; /* still to close */
	bool stopping;
	void (*stopped)(void *user);
	void *stopped_user;
};

static int64_t now_ns(void)
{
	return (int64_t)uv_hrtime();
}

static void start_job(struct gpus *gpus, bool rescan);

/* --- the job, on a worker thread --- */

static void step(struct job *job, size_t asked)
{
	job->asked = asked;
	job->steps++;
}

static void look(const struct gpus *gpus, struct job *job)
{
	const struct gs_inventory_places places = {
		.sysfs = "/sys",
		.driver_roots = {gpus->driver_root, gpus->host_driver_root, "", NULL},
	};
	for (size_t i = 0; i < job->before.device_count; i++) {
		const struct gs_device *device = &job->before.devices[i];
		step(job, device->gpu + 1);
		if (job->probe[i] && device->mig)
			gs_probe_read_mig(job->nvml, job->before.gpus[device->gpu].uuid, device->uuid, &job->probes[i]);
		else if (job->probe[i])
			gs_probe_read(job->nvml, device->uuid, &job->probes[i]);
	}
	/* So that one that hangs is found by its name, and not somewhere in what asks about all of them. */
	for (size_t i = 0; i < job->before.gpu_count; i++) {
		step(job, i + 1);
		gs_probe_touch(job->nvml, job->before.gpus[i].uuid);
	}
	step(job, 0);
	job->stale = gs_nvml_is_stale(job->nvml, "/proc", &job->driver_count);
	if (!job->rescan && !gs_inventory_differs(job->nvml, &job->before))
		return;
	if (gs_inventory_read(job->nvml, &places, &job->before, &job->inventory, &job->problems, &job->err) < 0)
		job->failed = true;
	else
		job->changed = true;
	if (job->changed)
		gs_label_facts_read(job->nvml, places.sysfs, &job->inventory, &job->facts_before, &job->facts);
}

static void run_job(uv_work_t *work)
{
	struct gpus *gpus = work->data;
	struct job *job = &gpus->job;
	if (!job->nvml) {
		if (gs_nvml_open(gpus->driver_root, &job->nvml, &job->err) < 0 &&
		    gs_nvml_open(gpus->host_driver_root, &job->nvml, &job->err) < 0) {
			job->failed = true;
			return;
		}
		if (GS_NVML(job->nvml, SystemGetDriverVersion, job->driver_version, sizeof job->driver_version) !=
		    NVML_SUCCESS)
			job->driver_version[0] = '\0';
	}
	gs_nvml_hold(job->nvml);
	struct gs_error why;
	if (job->settle && gs_mig_recover(job->nvml, gpus->state_dir, "/proc", &job->settled, &why) < 0)
		job->unsettled = gs_strdup(why.text);
	look(gpus, job);
	gs_nvml_release(job->nvml);
}

/* --- results, on the loop's thread --- */

/* Of the device with this UUID; -1: none. */
static long position_of(const struct gs_inventory *inventory, const char *uuid)
{
	for (size_t i = 0; i < inventory->device_count; i++)
		if (strcmp(inventory->devices[i].uuid, uuid) == 0)
			return (long)i;
	return -1;
}

static void log_health(const struct gpus *gpus, size_t which)
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
		long before = position_of(&gpus->inventory, inventory->devices[i].uuid);
		if (before >= 0) {
			health[i] = gpus->health[before];
			continue;
		}
		gs_health_init(&health[i], &gs_health_defaults, &gpus->filter, now_ns());
		log_found(inventory, &inventory->devices[i]);
	}
	for (size_t i = 0; i < gpus->inventory.device_count; i++) {
		const struct gs_device *device = &gpus->inventory.devices[i];
		if (position_of(inventory, device->uuid) < 0)
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
		gs_inventory_free(inventory);
		return;
	}
	struct gs_health *health = carry_health(gpus, inventory);
	carry_tells_mig(gpus, inventory);
	if (inventory->gpu_count == 0)
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

static void adopt_probes(struct gpus *gpus, const struct job *job)
{
	bool changed = false;
	for (size_t i = 0; i < job->before.device_count; i++) {
		long which = job->probe[i] ? position_of(&gpus->inventory, job->before.devices[i].uuid) : -1;
		if (which < 0 || !gs_health_probe(&gpus->health[which], &job->probes[i], now_ns()))
			continue;
		log_health(gpus, (size_t)which);
		changed = true;
	}
	if (changed)
		gpus->owner.health(gpus->owner.user);
}

/* --- a driver that hangs --- */

/* The GPU that the look hangs at is not given out; all of them, when it hangs at none in particular. */
static void tell_hang(struct gpus *gpus, size_t asked)
{
	bool changed = false;
	for (size_t i = 0; i < gpus->inventory.device_count; i++) {
		if ((asked && gpus->inventory.devices[i].gpu + 1 != asked) ||
		    !gs_health_hangs(&gpus->health[i], now_ns()))
			continue;
		log_health(gpus, i);
		changed = true;
	}
	if (changed)
		gpus->owner.health(gpus->owner.user);
}

static void set_waiting_reason(struct gpus *gpus, const char *reason);

static void came_on(struct gpus *gpus)
{
	if (gpus->hangs)
		gs_log(GS_LOG_INFO, "the driver answers again");
	gpus->standstills = 0;
	gpus->hangs = false;
}

static void on_oversee(uv_timer_t *timer)
{
	struct gpus *gpus = timer->data;
	unsigned steps = gpus->job.steps;
	if (steps != gpus->seen_steps)
		came_on(gpus);
	gpus->seen_steps = steps;
	if (gpus->hangs || ++gpus->standstills < STANDSTILLS)
		return;
	gpus->hangs = true;
	gs_log(GS_LOG_WARNING, "the driver hangs: a call to NVML does not return");
	if (gpus->read_once)
		tell_hang(gpus, gpus->job.asked); /* the inventory is still the one that the job began with */
	else
		set_waiting_reason(gpus, "it hangs");
}

/* --- events, from the watch's thread to the loop's --- */

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
		if (event->kind == GS_WATCH_XID ? gs_health_xid(health, event->data, now_ns())
						: gs_health_ecc_double(health, now_ns())) {
			log_health(gpus, i);
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
	case GS_WATCH_PROBLEM:
		set_tells_mig(gpus, event->uuid, false);
		gs_log(GS_LOG_WARNING, "NVML's events can't be had; health is looked at every now and then",
		       GS_STR("gpu", event->uuid), GS_STR("error", event->text));
		break;
	}
	return false;
}

static void on_arrived(uv_async_t *async)
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
		start_job(gpus, rescan);
}

/* --- when to look --- */

static void on_look(uv_timer_t *timer)
{
	start_job(timer->data, false);
}

static void look_in(struct gpus *gpus, uint64_t delay_ms)
{
	if (!gpus->stopping)
		uv_timer_start(&gpus->look, on_look, delay_ms, 0);
}

/* The next look is due when the most impatient GPU's is, or when it is time to see whether GPUs or MIG devices came or
 * went. */
static void look_when_due(struct gpus *gpus)
{
	int64_t now = now_ns(), look_ms = LOOK_MS;
	for (size_t i = 0; i < gpus->inventory.gpu_count; i++)
		if (gpus->inventory.gpus[i].mig_enabled && !gpus->tells_mig[i])
			look_ms = LOOK_MIG_MS;
	int64_t due = now + look_ms * 1000000;
	for (size_t i = 0; i < gpus->inventory.device_count; i++)
		if (gs_health_next_look(&gpus->health[i]) < due)
			due = gs_health_next_look(&gpus->health[i]);
	look_in(gpus, due <= now ? 1 : (uint64_t)(due - now) / 1000000 + 1);
}

static void set_waiting_reason(struct gpus *gpus, const char *reason)
{
	bool changed = reason && (!gpus->waiting_reason || strcmp(reason, gpus->waiting_reason) != 0);
	if (changed)
		gs_log(GS_LOG_WARNING, "NVML is not there; trying again", GS_STR("error", reason));
	free(gpus->waiting_reason);
	gpus->waiting_reason = reason ? gs_strdup(reason) : NULL;
	if (changed)
		gpus->owner.health(gpus->owner.user);
}

static void start_watch(struct gpus *gpus)
{
	struct gs_error err;
	if (!gpus->watch && gs_xid_filter_any(&gpus->filter) &&
	    gs_watch_start(gpus->nvml, &gpus->inventory, on_watch_event, gpus, &gpus->watch, &err) < 0)
		gs_log(GS_LOG_ERROR, "no health events", GS_STR("error", err.text));
}

/* Once for each number of GPUs: where the driver and NVML go on disagreeing, a GPU is one that NVML leaves out. */
static void reopen_when_stale(struct gpus *gpus, const struct job *job)
{
	if (!job->stale)
		gpus->reopened_for = 0;
	if (!job->stale || !gpus->watch || job->driver_count == gpus->reopened_for)
		return;
	gpus->reopened_for = job->driver_count;
	gs_log(GS_LOG_INFO, "the driver has another number of GPUs than NVML lists; opening NVML anew",
	       GS_INT("driver", job->driver_count));
	gs_watch_reopen(gpus->watch);
}

static void free_when_stopped(struct gpus *gpus);

/* One that can't be settled is tried again at each look, and said once. */
static void tell_settled(struct gpus *gpus, struct job *job)
{
	if (job->settled)
		gs_log(GS_LOG_WARNING, "settled a MIG change", GS_STR("what", job->settled));
	if (job->unsettled && (!gpus->unsettled || strcmp(gpus->unsettled, job->unsettled) != 0))
		gs_log(GS_LOG_ERROR, "cannot settle a MIG change", GS_STR("error", job->unsettled));
	free(job->settled);
	if (!job->settle)
		return;
	/* What is tried may itself be an event that brings the next look. */
	gpus->settle_ms = !job->unsettled ? 0 : gpus->settle_ms ? gpus->settle_ms * 2 : SETTLE_FIRST_MS;
	if (gpus->settle_ms > SETTLE_MOST_MS)
		gpus->settle_ms = SETTLE_MOST_MS;
	gpus->settle_ns = now_ns() + (int64_t)gpus->settle_ms * 1000000;
	free(gpus->unsettled);
	gpus->unsettled = job->unsettled;
	job->settled = job->unsettled = NULL;
}

static void after_job(uv_work_t *work, int status)
{
	struct gpus *gpus = work->data;
	struct job *job = &gpus->job;
	gpus->working = false;
	came_on(gpus);
	if (!gpus->stopping)
		uv_timer_stop(&gpus->oversee);
	if (job->nvml && !gpus->nvml) {
		gpus->nvml = job->nvml;
		memcpy(gpus->driver_version, job->driver_version, sizeof gpus->driver_version);
	}
	tell_settled(gpus, job);
	for (size_t i = 0; i < job->problems.count; i++)
		if (!gpus->stopping && job->changed)
			gs_log(GS_LOG_WARNING, "a GPU could not be read", GS_STR("error", job->problems.items[i]));
	bool retry = job->failed || (job->changed && job->problems.count > 0);
	if (!gpus->stopping) {
		set_waiting_reason(gpus, job->failed ? job->err.text : NULL);
		if (job->changed) {
			gs_label_facts_free(&gpus->facts);
			gpus->facts = job->facts;
			job->facts = (struct gs_label_facts){0};
			adopt_inventory(gpus, &job->inventory);
		}
		adopt_probes(gpus, job); /* after it: what is gone is not sick */
		if (gpus->nvml)
			start_watch(gpus);
		reopen_when_stale(gpus, job);
	}
	free(job->probe);
	free(job->probes);
	gs_inventory_free(&job->before);
	gs_inventory_free(&job->inventory);
	gs_label_facts_free(&job->facts_before);
	gs_label_facts_free(&job->facts);
	gs_problems_free(&job->problems);
	if (!gpus->stopping && !gpus->again)
		gpus->owner.looked(gpus->owner.user);
	if (gpus->stopping) {
		free_when_stopped(gpus);
	} else if (gpus->again) {
		start_job(gpus, true);
	} else if (retry) {
		gpus->rescan_due = true;
		look_in(gpus, gpus->retry_ms);
		gpus->retry_ms = gpus->retry_ms * 2 < RETRY_MOST_MS ? gpus->retry_ms * 2 : RETRY_MOST_MS;
	} else {
		gpus->retry_ms = RETRY_FIRST_MS;
		look_when_due(gpus);
	}
}

static void start_job(struct gpus *gpus, bool rescan)
{
	if (gpus->stopping)
		return;
	if (gpus->working) {
		gpus->again |= rescan;
		return;
	}
	struct job *job = &gpus->job;
	*job = (struct job){.nvml = gpus->nvml, .rescan = rescan || gpus->rescan_due || !gpus->read_once};
	job->settle = now_ns() >= gpus->settle_ns;
	gpus->again = false;
	gpus->rescan_due = false;
	gs_inventory_copy(&job->before, &gpus->inventory);
	gs_label_facts_copy(&job->facts_before, &gpus->facts);
	size_t devices = job->before.device_count;
	job->probe = gs_calloc(devices, sizeof *job->probe);
	job->probes = gs_calloc(devices, sizeof *job->probes);
	int64_t soon = now_ns() + 1000000;
	for (size_t i = 0; i < devices; i++)
		job->probe[i] = rescan || gs_health_next_look(&gpus->health[i]) <= soon;
	job->work.data = gpus;
	gpus->working = true;
	uv_timer_stop(&gpus->look);
	gpus->seen_steps = 0;
	uv_timer_start(&gpus->oversee, on_oversee, OVERSEE_MS, OVERSEE_MS);
	int failed = uv_queue_work(gpus->loop, &job->work, run_job, after_job);
	if (failed)
		gs_log(GS_LOG_ERROR, "cannot look at the GPUs", GS_STR("error", uv_strerror(failed)));
}

/* --- work of others that needs NVML --- */

struct errand {
	uv_work_t work;
	struct gpus *gpus;
	const struct gs_nvml *nvml;
	gpus_work_run *run;
	void (*done)(void *user);
	void *user;
};

static void run_errand(uv_work_t *work)
{
	struct errand *errand = work->data;
	if (errand->nvml)
		gs_nvml_hold(errand->nvml);
	errand->run(errand->nvml, errand->user);
	if (errand->nvml)
		gs_nvml_release(errand->nvml);
}

static void after_errand(uv_work_t *work, int status)
{
	struct errand *errand = work->data;
	struct gpus *gpus = errand->gpus;
	errand->done(errand->user);
	free(errand);
	gpus->errands--;
	if (gpus->stopping)
		free_when_stopped(gpus);
}

void gpus_work(struct gpus *gpus, gpus_work_run *run, void (*done)(void *user), void *user)
{
	struct errand *errand = gs_calloc(1, sizeof *errand);
	*errand = (struct errand){.gpus = gpus, .nvml = gpus->nvml, .run = run, .done = done, .user = user};
	errand->work.data = errand;
	gpus->errands++;
	uv_queue_work(gpus->loop, &errand->work, run_errand, after_errand);
}

/* --- life --- */

int gpus_start(uv_loop_t *loop, const struct gpus_options *options, const struct gpus_owner *owner, struct gpus **ret,
	       struct gs_error *err)
{
	struct gpus *gpus = gs_calloc(1, sizeof *gpus);
	gpus->loop = loop;
	gpus->owner = *owner;
	gpus->driver_root = gs_strdup(options->driver_root);
	gpus->host_driver_root = gs_strdup(options->host_driver_root);
	gpus->state_dir = gs_strdup(options->state_dir);
	gpus->retry_ms = RETRY_FIRST_MS;
	if (gs_xid_filter_parse(options->disable_healthchecks, options->enable_healthchecks, &gpus->filter, err) < 0)
		gs_log(GS_LOG_WARNING, "DP_DISABLE_HEALTHCHECKS or DP_ENABLE_HEALTHCHECKS holds what is no XID",
		       GS_STR("error", err->text));
	uv_mutex_init(&gpus->lock);
	uv_timer_init(loop, &gpus->look);
	uv_timer_init(loop, &gpus->oversee);
	uv_async_init(loop, &gpus->arrived, on_arrived);
	gpus->look.data = gpus->oversee.data = gpus->arrived.data = gpus;
	gpus->sampler = sampler_new(loop);
	gpus->handles = 4;
	start_job(gpus, false);
	*ret = gpus;
	return 0;
}

static void free_when_stopped(struct gpus *gpus)
{
	if (gpus->working || gpus->errands > 0 || gpus->handles > 0)
		return;
	void (*stopped)(void *user) = gpus->stopped;
	void *user = gpus->stopped_user;
	uv_mutex_destroy(&gpus->lock);
	gs_inventory_free(&gpus->inventory);
	gs_label_facts_free(&gpus->facts);
	free(gpus->health);
	free(gpus->driver_root);
	free(gpus->host_driver_root);
	free(gpus->state_dir);
	free(gpus->unsettled);
	free(gpus->waiting_reason);
	/* The watch's thread may be inside NVML for some seconds more, so NVML stays open until the process ends. */
	if (!gpus->watch)
		gs_nvml_close(gpus->nvml);
	free(gpus);
	stopped(user);
}

static void on_closed(uv_handle_t *handle)
{
	struct gpus *gpus = handle->data;
	gpus->handles--;
	free_when_stopped(gpus);
}

static void on_sampler_stopped(void *user)
{
	struct gpus *gpus = user;
	gpus->handles--;
	free_when_stopped(gpus);
}

void gpus_stop(struct gpus *gpus, void (*done)(void *user), void *user)
{
	gpus->stopping = true;
	gpus->stopped = done;
	gpus->stopped_user = user;
	if (gpus->watch)
		gs_watch_stop(gpus->watch);
	uv_close((uv_handle_t *)&gpus->look, on_closed);
	uv_close((uv_handle_t *)&gpus->oversee, on_closed);
	sampler_stop(gpus->sampler, on_sampler_stopped, gpus);
	uv_close((uv_handle_t *)&gpus->arrived, on_closed);
}

void gpus_sample(struct gpus *gpus, sampler_done *done, void *user)
{
	if (sampler_hangs(gpus->sampler))
		start_job(gpus, false); /* to find out where */
	sampler_ask(gpus->sampler, gpus->nvml, &gpus->inventory, done, user);
}

void gpus_rescan(struct gpus *gpus)
{
	start_job(gpus, true);
}

const char *gpus_waiting_reason(const struct gpus *gpus)
{
	return gpus->waiting_reason;
}

bool gpus_hang(const struct gpus *gpus)
{
	return gpus->hangs;
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
	long which = position_of(&gpus->inventory, uuid);
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
