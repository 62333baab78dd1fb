#include "gpu/hangs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/vec.h"

enum { TOUCHES_MAX = 4 * GS_GPUS_MAX };

_Static_assert(GS_GPUS_MAX <= 64, "a set of indexes is one word");

/* One touch, by the UUID of a GPU that is known or by an index of NVML's list. */
struct touch {
	const struct gs_nvml *nvml;
	bool by_index, is_void; /* the index was one of another list */
	unsigned round;         /* it was started in */
	uint32_t index;         /* asked for, or found */
	char uuid[GS_UUID_SIZE];
	nvmlReturn_t code;
	bool is_back;
};

/* The GPU at each index, as far as it answers. */
struct list {
	uint32_t count;
	uint64_t answered; /* bits */
	char uuids[GS_GPUS_MAX][GS_UUID_SIZE];
};

static struct {
	pthread_mutex_t lock; /* for all of it */
	pthread_cond_t came_back;
	unsigned backs;                                 /* how many ever came back */
	unsigned round;                                 /* of touches; one at a time is waited for */
	GS_VEC(struct touch *) touches;                 /* with the driver, or back and not yet looked at */
	GS_VEC(char *) uuids;                           /* barred: of GPUs, and of MIG devices on them */
	uint64_t indexes;                               /* barred */
	bool nameless;                                  /* there is one among them that was never read */
	struct list last;                               /* as the last look found it */
	__typeof__(&nvmlDeviceGetHandleByUUID) by_uuid; /* the driver's own */
	__typeof__(&nvmlDeviceGetHandleByIndex_v2) by_index;
} hangs = {.lock = PTHREAD_MUTEX_INITIALIZER, .came_back = PTHREAD_COND_INITIALIZER};

/* --- the guard --- */

static bool is_barred(const char *uuid)
{
	/* A MIG device may be named by its GPU's UUID and its instances: "MIG-GPU-.../1/0". */
	for (size_t i = 0; i < hangs.uuids.count; i++)
		if (strstr(uuid, hangs.uuids.items[i]))
			return true;
	return false;
}

bool gs_hangs_on(const char *uuid)
{
	pthread_mutex_lock(&hangs.lock);
	bool barred = is_barred(uuid);
	pthread_mutex_unlock(&hangs.lock);
	return barred;
}

uint64_t gs_hangs_indexes(void)
{
	pthread_mutex_lock(&hangs.lock);
	uint64_t indexes = hangs.indexes;
	pthread_mutex_unlock(&hangs.lock);
	return indexes;
}

bool gs_hangs_any(void)
{
	bool any = false;
	pthread_mutex_lock(&hangs.lock);
	for (size_t i = 0; i < hangs.touches.count; i++)
		any |= !hangs.touches.items[i]->is_back;
	pthread_mutex_unlock(&hangs.lock);
	return any;
}

/* A GPU that did not answer in the last look may be the one that hangs and was never read. */
static bool may_hang(const char *uuid)
{
	bool may = hangs.nameless && strncmp(uuid, "GPU-", strlen("GPU-")) == 0;
	for (uint32_t i = 0; i < hangs.last.count && may; i++)
		may = !(hangs.last.answered >> i & 1) || strcmp(hangs.last.uuids[i], uuid) != 0;
	return may;
}

static nvmlReturn_t guarded_by_uuid(const char *uuid, nvmlDevice_t *device)
{
	pthread_mutex_lock(&hangs.lock);
	bool barred = is_barred(uuid) || may_hang(uuid);
	pthread_mutex_unlock(&hangs.lock);
	return barred ? NVML_ERROR_TIMEOUT : hangs.by_uuid(uuid, device);
}

static nvmlReturn_t guarded_by_index(uint32_t index, nvmlDevice_t *device)
{
	bool barred = index < GS_GPUS_MAX && gs_hangs_indexes() >> index & 1;
	return barred ? NVML_ERROR_TIMEOUT : hangs.by_index(index, device);
}

void gs_hangs_guard(struct gs_nvml *nvml)
{
	if (nvml->DeviceGetHandleByUUID && nvml->DeviceGetHandleByUUID != guarded_by_uuid) {
		hangs.by_uuid = nvml->DeviceGetHandleByUUID;
		nvml->DeviceGetHandleByUUID = guarded_by_uuid;
	}
	if (nvml->DeviceGetHandleByIndex && nvml->DeviceGetHandleByIndex != guarded_by_index) {
		hangs.by_index = nvml->DeviceGetHandleByIndex;
		nvml->DeviceGetHandleByIndex = guarded_by_index;
	}
}

/* --- touches --- */

static nvmlReturn_t ask(struct touch *touch)
{
	const struct gs_nvml *nvml = touch->nvml;
	nvmlDevice_t device;
	nvmlMemory_t memory;
	nvmlReturn_t code;
	if (touch->by_index) {
		code = hangs.by_index ? hangs.by_index(touch->index, &device) : NVML_ERROR_FUNCTION_NOT_FOUND;
		if (code == NVML_SUCCESS)
			code = GS_NVML(nvml, DeviceGetUUID, device, touch->uuid, sizeof touch->uuid);
		touch->uuid[sizeof touch->uuid - 1] = '\0';
	} else {
		code = hangs.by_uuid ? hangs.by_uuid(touch->uuid, &device) : NVML_ERROR_FUNCTION_NOT_FOUND;
		if (code == NVML_SUCCESS)
			code = GS_NVML(nvml, DeviceGetIndex, device, &touch->index);
	}
	if (code == NVML_SUCCESS)
		(void)GS_NVML(nvml, DeviceGetMemoryInfo, device, &memory);
	return code;
}

static void *run(void *argument)
{
	struct touch *touch = argument;
	gs_nvml_hold(touch->nvml);
	nvmlReturn_t code = ask(touch);
	gs_nvml_release(touch->nvml);
	pthread_mutex_lock(&hangs.lock);
	touch->code = code;
	touch->is_back = true;
	hangs.backs++;
	pthread_cond_broadcast(&hangs.came_back);
	pthread_mutex_unlock(&hangs.lock);
	return NULL;
}

/* The touch of this GPU (or, without a UUID, of this index) that is under way; NULL: none. */
static struct touch *find_touch(const char *uuid, uint32_t index)
{
	for (size_t i = 0; i < hangs.touches.count; i++) {
		struct touch *touch = hangs.touches.items[i];
		if (!touch->is_back && !touch->is_void && touch->by_index == !uuid &&
		    (uuid ? strcmp(touch->uuid, uuid) == 0 : touch->index == index))
			return touch;
	}
	return NULL;
}

/* Unless it is under way, or too many are. One that can't be started costs nothing: the GPU counts as one that answers. */
static void start(const struct gs_nvml *nvml, const char *uuid, uint32_t index)
{
	if (find_touch(uuid, index) || hangs.touches.count >= TOUCHES_MAX)
		return;
	struct touch *touch = gs_calloc(1, sizeof *touch);
	*touch = (struct touch){.nvml = nvml, .by_index = !uuid, .index = index, .round = hangs.round};
	if (uuid)
		memcpy(touch->uuid, uuid, sizeof touch->uuid);
	pthread_t thread;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attributes, run, touch) == 0)
		*GS_VEC_PUSH(&hangs.touches) = touch;
	else
		free(touch);
	pthread_attr_destroy(&attributes);
}

static bool is_round_over(void)
{
	for (size_t i = 0; i < hangs.touches.count; i++)
		if (!hangs.touches.items[i]->is_back && hangs.touches.items[i]->round == hangs.round)
			return false;
	return true;
}

/* Until those of this round came back, or none has for so long: a driver takes seconds to wake a GPU, and wakes one after
 * the other. */
static void wait_for_round(int64_t patience_ms)
{
	while (!is_round_over()) {
		unsigned backs = hangs.backs;
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		int64_t nanoseconds = until.tv_nsec + patience_ms % 1000 * 1000000;
		until.tv_sec += patience_ms / 1000 + nanoseconds / 1000000000;
		until.tv_nsec = nanoseconds % 1000000000;
		while (hangs.backs == backs)
			if (pthread_cond_clockwait(&hangs.came_back, &hangs.lock, CLOCK_MONOTONIC, &until) != 0)
				return;
	}
}

/* Takes down what those that are back found, and frees them. */
static void collect(struct list *list)
{
	size_t kept = 0;
	for (size_t i = 0; i < hangs.touches.count; i++) {
		struct touch *touch = hangs.touches.items[i];
		if (!touch->is_back) {
			hangs.touches.items[kept++] = touch;
			continue;
		}
		if (!touch->is_void && touch->code == NVML_SUCCESS && touch->index < list->count) {
			list->answered |= UINT64_C(1) << touch->index;
			memcpy(list->uuids[touch->index], touch->uuid, sizeof touch->uuid);
		}
		free(touch);
	}
	hangs.touches.count = kept;
}

/* --- the look --- */

/* Indexes move when a GPU comes or goes: then what hung at one says nothing about who is there now. */
static void void_touches(const struct list *list)
{
	bool moved = list->count != hangs.last.count;
	for (uint32_t i = 0; i < list->count && !moved; i++)
		moved = list->answered >> i & hangs.last.answered >> i & 1 &&
			strcmp(list->uuids[i], hangs.last.uuids[i]) != 0;
	for (size_t i = 0; i < hangs.touches.count && moved; i++)
		hangs.touches.items[i]->is_void |= hangs.touches.items[i]->by_index;
}

static size_t count_hanging(const struct gs_inventory *known)
{
	size_t count = 0;
	for (size_t i = 0; i < known->gpu_count; i++)
		count += find_touch(known->gpus[i].uuid, 0) != NULL;
	return count;
}

static void bar(const char *uuid)
{
	*GS_VEC_PUSH(&hangs.uuids) = gs_strdup(uuid);
}

static void bar_hanging(const struct gs_inventory *known)
{
	for (size_t i = 0; i < hangs.uuids.count; i++)
		free(hangs.uuids.items[i]);
	hangs.uuids.count = 0;
	for (size_t i = 0; i < known->gpu_count; i++)
		if (find_touch(known->gpus[i].uuid, 0))
			bar(known->gpus[i].uuid);
	for (size_t i = 0; i < known->device_count; i++)
		if (known->devices[i].mig && find_touch(known->gpus[known->devices[i].gpu].uuid, 0))
			bar(known->devices[i].uuid);
}

void gs_hangs_look(const struct gs_nvml *nvml, const struct gs_inventory *known, uint32_t count, int64_t patience_ms)
{
	struct list list = {.count = count < GS_GPUS_MAX ? count : GS_GPUS_MAX};
	uint64_t silent = 0, barred = 0;
	pthread_mutex_lock(&hangs.lock);
	collect(&(struct list){0}); /* of earlier looks */
	hangs.round++;
	for (size_t i = 0; i < known->gpu_count; i++)
		start(nvml, known->gpus[i].uuid, 0);
	wait_for_round(patience_ms);
	collect(&list);
	void_touches(&list);
	size_t hanging = count_hanging(known), silent_count = 0;
	for (uint32_t i = 0; i < list.count; i++)
		if (!(list.answered >> i & 1)) {
			silent |= UINT64_C(1) << i;
			silent_count++;
		}
	if (silent_count > hanging) { /* some are new, or don't tell their index */
		hangs.round++;
		for (uint32_t i = 0; i < list.count; i++)
			if (silent >> i & 1)
				start(nvml, NULL, i);
		wait_for_round(patience_ms);
		collect(&list);
		for (uint32_t i = 0; i < list.count; i++)
			if (silent >> i & 1 && find_touch(NULL, i))
				barred |= UINT64_C(1) << i;
	} else {
		barred = silent;
	}
	hangs.last = list;
	hangs.indexes = barred;
	hangs.nameless = (size_t)__builtin_popcountll(barred) > hanging;
	bar_hanging(known);
	pthread_mutex_unlock(&hangs.lock);
}

/* --- for commands --- */

int gs_hangs_open(const char *const *roots, struct gs_nvml **nvml, struct gs_error *err)
{
	const struct gs_inventory nothing = {0};
	uint32_t count;
	if (gs_nvml_open_below(roots, nvml, err) < 0)
		return -1;
	gs_hangs_guard(*nvml);
	if (GS_NVML(*nvml, DeviceGetCount, &count) == NVML_SUCCESS)
		gs_hangs_look(*nvml, &nothing, count, GS_HANGS_PATIENCE_MS);
	return 0;
}

void gs_hangs_close(struct gs_nvml *nvml)
{
	if (!gs_hangs_any())
		gs_nvml_close(nvml);
}
