#include "gpu/watch.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"

enum {
	WAIT_MS = 5000,
	PAUSE_FIRST_MS = 100,
	PAUSE_MOST_MS = 5000,
};

#define WATCHED_EVENTS (nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError | nvmlEventTypeSingleBitEccError)

struct gs_watch {
	const struct gs_nvml *nvml;
	gs_watch_notify *notify;
	void *user;

	pthread_mutex_t lock;      /* guards what follows */
	pthread_cond_t wake;       /* for pauses */
	bool stopped;
	bool changed;              /* uuids are other ones than those registered */
	char (*uuids)[GS_UUID_SIZE];
	size_t count;

	/* The thread's own: what is registered. A GPU that fell off the bus can't be asked for its UUID any more. */
	struct registered {
		nvmlDevice_t device;
		char uuid[GS_UUID_SIZE];
	} *registered;
	size_t registered_count;
};

static void tell(struct gs_watch *watch, enum gs_watch_event_kind kind, const char *uuid, uint64_t data, const char *text)
{
	struct gs_watch_event event = {.kind = kind, .data = data};
	snprintf(event.uuid, sizeof event.uuid, "%s", uuid);
	snprintf(event.text, sizeof event.text, "%s", text);
	/* Under the lock, so that stop knows that no call is under way once it has set `stopped`. */
	pthread_mutex_lock(&watch->lock);
	if (!watch->stopped)
		watch->notify(watch->user, &event);
	pthread_mutex_unlock(&watch->lock);
}

static void tell_problem(struct gs_watch *watch, const char *uuid, nvmlReturn_t code, const char *call)
{
	struct gs_error err;
	gs_nvml_fail(watch->nvml, code, call, &err);
	tell(watch, GS_WATCH_PROBLEM, uuid, 0, err.text);
}

/* Registers every GPU that supports events; one that fails does not stop the others. */
static void register_gpus(struct gs_watch *watch, nvmlEventSet_t set)
{
	pthread_mutex_lock(&watch->lock);
	size_t count = watch->count;
	free(watch->registered);
	watch->registered = gs_calloc(count, sizeof *watch->registered);
	for (size_t i = 0; i < count; i++)
		memcpy(watch->registered[i].uuid, watch->uuids[i], GS_UUID_SIZE);
	watch->registered_count = count;
	watch->changed = false;
	pthread_mutex_unlock(&watch->lock);
	for (size_t i = 0; i < count; i++) {
		nvmlDevice_t device = NULL;
		uint64_t supported = 0;
		const char *uuid = watch->registered[i].uuid;
		const char *call = "nvmlDeviceGetHandleByUUID";
		nvmlReturn_t code = GS_NVML(watch->nvml, DeviceGetHandleByUUID, uuid, &device);
		watch->registered[i].device = code == NVML_SUCCESS ? device : NULL;
		if (code == NVML_SUCCESS) {
			call = "nvmlDeviceGetSupportedEventTypes";
			code = GS_NVML(watch->nvml, DeviceGetSupportedEventTypes, device, &supported);
		}
		if (code == NVML_SUCCESS) {
			call = "nvmlDeviceRegisterEvents";
			code = GS_NVML(watch->nvml, DeviceRegisterEvents, device, supported & WATCHED_EVENTS, set);
		}
		if (code != NVML_SUCCESS)
			tell_problem(watch, uuid, code, call);
	}
}

static void pause_ms(struct gs_watch *watch, unsigned milliseconds)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += milliseconds / 1000;
	until.tv_nsec += (long)(milliseconds % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&watch->lock);
	while (!watch->stopped && pthread_cond_timedwait(&watch->wake, &watch->lock, &until) == 0)
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
	const char *uuid = "";
	for (size_t i = 0; i < watch->registered_count; i++)
		if (watch->registered[i].device == data->device)
			uuid = watch->registered[i].uuid;
	if (data->eventType & nvmlEventTypeXidCriticalError)
		tell(watch, GS_WATCH_XID, uuid, data->eventData, "");
	else if (data->eventType & nvmlEventTypeDoubleBitEccError)
		tell(watch, GS_WATCH_ECC_DOUBLE, uuid, 0, "");
}

/* Waits on one event set until it fails, the GPUs change, or the end. Whether the set worked at all. */
static bool wait_on_set(struct gs_watch *watch, nvmlEventSet_t set)
{
	bool worked = false;
	while (!flag(watch, &watch->stopped) && !flag(watch, &watch->changed)) {
		nvmlEventData_t data = {0};
		nvmlReturn_t code = GS_NVML(watch->nvml, EventSetWait, set, &data, WAIT_MS);
		if (code == NVML_SUCCESS) {
			pass_on(watch, &data);
		} else if (code != NVML_ERROR_TIMEOUT) {
			tell_problem(watch, "", code, "nvmlEventSetWait_v2");
			return worked;
		}
		worked = true;
	}
	return true;
}

static void *run(void *argument)
{
	struct gs_watch *watch = argument;
	unsigned pause = PAUSE_FIRST_MS;
	while (!flag(watch, &watch->stopped)) {
		nvmlEventSet_t set;
		nvmlReturn_t code = GS_NVML(watch->nvml, EventSetCreate, &set);
		bool worked = false;
		if (code == NVML_SUCCESS) {
			register_gpus(watch, set);
			worked = wait_on_set(watch, set);
			(void)GS_NVML(watch->nvml, EventSetFree, set);
		} else {
			tell_problem(watch, "", code, "nvmlEventSetCreate");
		}
		if (worked) {
			pause = PAUSE_FIRST_MS;
			continue;
		}
		pause_ms(watch, pause);
		pause = pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
	}
	pthread_cond_destroy(&watch->wake);
	pthread_mutex_destroy(&watch->lock);
	free(watch->registered);
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
}

int gs_watch_start(const struct gs_nvml *nvml, const struct gs_inventory *inventory, gs_watch_notify *notify, void *user,
		   struct gs_watch **ret, struct gs_error *err)
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
		free(watch->uuids);
		free(watch);
		return gs_fail(err, GS_ERROR_SYSTEM, failed, "cannot start a thread for NVML's events: %s", strerror(failed));
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

void gs_watch_stop(struct gs_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->stopped = true;
	pthread_cond_signal(&watch->wake);
	pthread_mutex_unlock(&watch->lock);
}
