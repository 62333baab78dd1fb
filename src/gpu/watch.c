#include "gpu/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/vec.h"

enum {
	WAIT_MS = 20000, /* each wait that ends wakes a processor: an idle daemon should cost nearly nothing */
	PAUSE_FIRST_MS = 100,
	PAUSE_MOST_MS = 5000,
};

#define FAULT_EVENTS   (nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError | nvmlEventTypeSingleBitEccError)
#define WATCHED_EVENTS (FAULT_EVENTS | nvmlEventMigConfigChange)

struct registration {
	nvmlDevice_t device;
	char uuid[GS_UUID_SIZE];
	bool wanted;          /* among uuids */
	bool done;            /* in the set, or will never be since it has no events */
	nvmlReturn_t failure; /* last told */
};

struct gs_watch {
	const struct gs_nvml *nvml;
	gs_watch_notify *notify;
	void *user;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;  /* for pauses */
	bool stopped;
	bool reopen;
	bool changed; /* uuids are other ones than the thread last saw */
	char (*uuids)[GS_UUID_SIZE];
	size_t count;

	/* The thread's own: every GPU that was ever to be in the set, as events may arrive for one that is gone. A GPU
	 * that fell off the bus can't be asked for its UUID any more. */
	GS_VEC(struct registration) gpus;
	nvmlReturn_t set_failure; /* last told */
};

static void pass_event(struct gs_watch *watch, const struct gs_watch_event *event)
{
	/* Under the lock, so that stop knows that no call is under way once it has set `stopped`. */
	pthread_mutex_lock(&watch->lock);
	if (!watch->stopped)
		watch->notify(watch->user, event);
	pthread_mutex_unlock(&watch->lock);
}

static void tell(struct gs_watch *watch, enum gs_watch_event_kind kind, const char *uuid, const char *text)
{
	struct gs_watch_event event = {.kind = kind, .gpu_instance = UINT32_MAX, .compute_instance = UINT32_MAX};
	snprintf(event.uuid, sizeof event.uuid, "%s", uuid);
	snprintf(event.text, sizeof event.text, "%s", text);
	pass_event(watch, &event);
}

static void tell_problem(struct gs_watch *watch, const char *uuid, nvmlReturn_t code, const char *call)
{
	struct gs_error err;
	gs_nvml_fail(watch->nvml, code, call, &err);
	tell(watch, GS_WATCH_PROBLEM, uuid, err.text);
}

static struct registration *find_registration(struct gs_watch *watch, const char *uuid)
{
	for (size_t i = 0; i < watch->gpus.count; i++)
		if (strcmp(watch->gpus.items[i].uuid, uuid) == 0)
			return &watch->gpus.items[i];
	return NULL;
}

/* Takes over the GPUs that are wanted now. One that comes back after it was gone is registered anew. */
static void take_uuids(struct gs_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	for (size_t i = 0; i < watch->gpus.count; i++)
		watch->gpus.items[i].wanted = false;
	for (size_t i = 0; i < watch->count; i++) {
		struct registration *gpu = find_registration(watch, watch->uuids[i]);
		if (!gpu) {
			gpu = GS_VEC_PUSH(&watch->gpus);
			*gpu = (struct registration){0};
			memcpy(gpu->uuid, watch->uuids[i], GS_UUID_SIZE);
		}
		gpu->wanted = true;
	}
	watch->changed = false;
	pthread_mutex_unlock(&watch->lock);
	for (size_t i = 0; i < watch->gpus.count; i++)
		if (!watch->gpus.items[i].wanted)
			watch->gpus.items[i].done = false;
}

static void register_gpu(struct gs_watch *watch, nvmlEventSet_t set, struct registration *gpu)
{
	uint64_t supported = 0;
	const char *call = "nvmlDeviceGetHandleByUUID";
	nvmlReturn_t code = GS_NVML(watch->nvml, DeviceGetHandleByUUID, gpu->uuid, &gpu->device);
	if (code == NVML_SUCCESS) {
		call = "nvmlDeviceGetSupportedEventTypes";
		code = GS_NVML(watch->nvml, DeviceGetSupportedEventTypes, gpu->device, &supported);
	}
	if (code == NVML_SUCCESS) {
		call = "nvmlDeviceRegisterEvents";
		code = GS_NVML(watch->nvml, DeviceRegisterEvents, gpu->device, supported & WATCHED_EVENTS, set);
		/* Faults matter more than layouts, which can be looked at. */
		if (code != NVML_SUCCESS && supported & nvmlEventMigConfigChange) {
			supported &= FAULT_EVENTS;
			code = GS_NVML(watch->nvml, DeviceRegisterEvents, gpu->device, supported, set);
		}
	}
	if (code == NVML_SUCCESS && supported & nvmlEventMigConfigChange)
		tell(watch, GS_WATCH_MIG_WATCHED, gpu->uuid, "");
	gpu->done = code == NVML_SUCCESS || code == NVML_ERROR_NOT_SUPPORTED || code == NVML_ERROR_FUNCTION_NOT_FOUND;
	/* Tried again with every wait, told once. */
	if (code != NVML_SUCCESS && code != gpu->failure)
		tell_problem(watch, gpu->uuid, code, call);
	gpu->failure = code;
}

/* Registers each GPU that is not yet; one that fails does not stop the others. Whether any is in the set. */
static bool register_gpus(struct gs_watch *watch, nvmlEventSet_t set)
{
	bool any = false;
	for (size_t i = 0; i < watch->gpus.count; i++) {
		struct registration *gpu = &watch->gpus.items[i];
		if (gpu->wanted && !gpu->done)
			register_gpu(watch, set, gpu);
		any |= gpu->done && gpu->failure == NVML_SUCCESS;
	}
	return any;
}

/* Forgets what the old set held. */
static void unregister_all(struct gs_watch *watch)
{
	size_t kept = 0;
	for (size_t i = 0; i < watch->gpus.count; i++) {
		watch->gpus.items[i].done = false;
		if (watch->gpus.items[i].wanted)
			watch->gpus.items[kept++] = watch->gpus.items[i];
	}
	watch->gpus.count = kept;
}

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Ends early when the watch stops or other GPUs are to be watched. */
static void pause_ms(struct gs_watch *watch, int64_t milliseconds)
{
	int64_t until_ms = now_ms() + milliseconds;
	struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
	pthread_mutex_lock(&watch->lock);
	while (!watch->stopped && !watch->reopen && !watch->changed &&
	       pthread_cond_timedwait(&watch->wake, &watch->lock, &until) == 0)
		;
	pthread_mutex_unlock(&watch->lock);
}

static bool flag(struct gs_watch *watch, const bool *which)
{
	pthread_mutex_lock(&watch->lock);
	bool value = *which;
	pthread_mutex_unlock(&watch->lock);
	return value;
}

static void pass_on(struct gs_watch *watch, const nvmlEventData_t *data)
{
	char uuid[GS_UUID_SIZE] = "";
	for (size_t i = 0; i < watch->gpus.count; i++)
		if (watch->gpus.items[i].device && watch->gpus.items[i].device == data->device)
			memcpy(uuid, watch->gpus.items[i].uuid, sizeof uuid);
	/* Not a handle that was registered: NVML may know it by another. */
	if (!*uuid && data->device &&
	    GS_NVML(watch->nvml, DeviceGetUUID, data->device, uuid, sizeof uuid) != NVML_SUCCESS)
		*uuid = '\0';
	if (data->eventType & nvmlEventTypeXidCriticalError) {
		struct gs_watch_event event = {.kind = GS_WATCH_XID,
					       .data = data->eventData,
					       .gpu_instance = data->gpuInstanceId,
					       .compute_instance = data->computeInstanceId};
		memcpy(event.uuid, uuid, sizeof event.uuid);
		pass_event(watch, &event);
	} else if (data->eventType & nvmlEventTypeDoubleBitEccError) {
		tell(watch, GS_WATCH_ECC_DOUBLE, uuid, "");
	} else if (data->eventType & nvmlEventMigConfigChange) {
		tell(watch, GS_WATCH_MIG_CHANGED, uuid, "");
	}
}

/* Waits on one event set until it fails or the end. Whether the set worked at all. GPUs that come are added to the set
 * that there is, since events between two sets would be lost. */
static bool wait_on_set(struct gs_watch *watch, nvmlEventSet_t set)
{
	bool worked = false;
	take_uuids(watch);
	while (!flag(watch, &watch->stopped) && !flag(watch, &watch->reopen)) {
		if (flag(watch, &watch->changed))
			take_uuids(watch);
		if (watch->gpus.count > 2 * GS_GPUS_MAX)
			return true; /* start afresh without those that are gone */
		if (!register_gpus(watch, set)) {
			pause_ms(watch, WAIT_MS); /* NVML answers TIMEOUT at once where there is nothing to wait for */
			worked = true;
			continue;
		}
		nvmlEventData_t data = {0};
		int64_t began_ms = now_ms();
		nvmlReturn_t code = GS_NVML(watch->nvml, EventSetWait, set, &data, WAIT_MS);
		if (code == NVML_SUCCESS) {
			pass_on(watch, &data);
		} else if (code != NVML_ERROR_TIMEOUT) {
			if (code != watch->set_failure)
				tell_problem(watch, "", code, "nvmlEventSetWait_v2");
			watch->set_failure = code;
			return worked;
		} else if (now_ms() - began_ms < PAUSE_FIRST_MS) {
			pause_ms(watch, PAUSE_FIRST_MS); /* a wait that does not wait must not keep a CPU busy */
		}
		watch->set_failure = NVML_SUCCESS;
		worked = true;
	}
	return true;
}

/* Whether NVML is open again. */
static bool reopen(struct gs_watch *watch)
{
	struct gs_error err;
	bool failed = gs_nvml_reopen(watch->nvml, &err) < 0;
	bool busy = failed && err.source == GS_ERROR_SYSTEM && err.code == EBUSY;
	if (!failed || busy) {
		pthread_mutex_lock(&watch->lock);
		watch->reopen = false;
		pthread_mutex_unlock(&watch->lock);
	}
	if (failed) {
		tell(watch, busy ? GS_WATCH_NOT_REOPENED : GS_WATCH_PROBLEM, "", err.text);
		return busy;
	}
	tell(watch, GS_WATCH_REOPENED, "", "");
	return true;
}

static void *run(void *argument)
{
	struct gs_watch *watch = argument;
	unsigned failures = 0;
	while (!flag(watch, &watch->stopped)) {
		nvmlEventSet_t set = NULL;
		nvmlReturn_t code = GS_NVML(watch->nvml, EventSetCreate, &set);
		bool worked = false;
		if (code == NVML_SUCCESS) {
			worked = wait_on_set(watch, set);
			(void)GS_NVML(watch->nvml, EventSetFree, set);
			unregister_all(watch);
		} else {
			if (code != watch->set_failure)
				tell_problem(watch, "", code, "nvmlEventSetCreate");
			watch->set_failure = code;
		}
		if (flag(watch, &watch->reopen))
			worked = reopen(watch);
		failures = worked ? 0 : failures + 1;
		pause_ms(watch, gs_backoff_ms(PAUSE_FIRST_MS, PAUSE_MOST_MS, failures));
	}
	pthread_cond_destroy(&watch->wake);
	pthread_mutex_destroy(&watch->lock);
	GS_VEC_FREE(&watch->gpus);
	free(watch->uuids);
	free(watch);
	return NULL;
}

static void set_uuids(struct gs_watch *watch, const struct gs_inventory *inventory)
{
	free(watch->uuids);
	watch->uuids = gs_calloc(inventory->gpu_count, sizeof *watch->uuids);
	watch->count = inventory->gpu_count;
	for (size_t i = 0; i < watch->count; i++)
		memcpy(watch->uuids[i], inventory->gpus[i].uuid, GS_UUID_SIZE);
	watch->changed = true;
	pthread_cond_signal(&watch->wake);
}

int gs_watch_start(const struct gs_nvml *nvml, const struct gs_inventory *inventory, gs_watch_notify *notify,
		   void *user, struct gs_watch **ret, struct gs_error *err)
{
	struct gs_watch *watch = gs_calloc(1, sizeof *watch);
	watch->nvml = nvml;
	watch->notify = notify;
	watch->user = user;
	pthread_mutex_init(&watch->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&watch->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	set_uuids(watch, inventory);

	pthread_t thread;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	int failed = pthread_create(&thread, &attributes, run, watch);
	pthread_attr_destroy(&attributes);
	if (failed) {
		pthread_cond_destroy(&watch->wake);
		pthread_mutex_destroy(&watch->lock);
		free(watch->uuids);
		free(watch);
		return gs_fail(err, GS_ERROR_SYSTEM, failed, "cannot start a thread for NVML's events: %s",
			       strerror(failed));
	}
	*ret = watch;
	return 0;
}

void gs_watch_set_inventory(struct gs_watch *watch, const struct gs_inventory *inventory)
{
	pthread_mutex_lock(&watch->lock);
	set_uuids(watch, inventory);
	pthread_mutex_unlock(&watch->lock);
}

void gs_watch_reopen(struct gs_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->reopen = true;
	pthread_cond_signal(&watch->wake);
	pthread_mutex_unlock(&watch->lock);
}

void gs_watch_stop(struct gs_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->stopped = true;
	pthread_cond_signal(&watch->wake);
	pthread_mutex_unlock(&watch->lock);
}
