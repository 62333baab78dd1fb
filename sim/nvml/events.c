/* NVML events: sets that GPUs are registered in, and the wait for what happens to them. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "sim/nvml/library.h"

struct nvmlEventSet_st {
	uint64_t types[SIM_GPUS_MAX];
	uint64_t boards[SIM_GPUS_MAX]; /* which board of the slot was registered: its successor is not */
	bool registered;
	uint64_t sequence; /* the last event that the set has seen */
	struct nvmlEventSet_st *next;
};

static struct {
	pthread_mutex_t lock;
	struct nvmlEventSet_st *sets;
} events = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Under the lock: whether the pointer is a set that stands. */
static bool is_set(nvmlEventSet_t set)
{
	for (struct nvmlEventSet_st *s = events.sets; s; s = s->next)
		if (s == set)
			return true;
	return false;
}

static uint64_t supported_types(const struct sim_model *model)
{
	uint64_t types = nvmlEventTypeXidCriticalError | nvmlEventTypePState | nvmlEventTypeClock;
	if (model->ecc)
		types |= nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError;
	if (model->mig_capable)
		types |= nvmlEventMigConfigChange;
	return types;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
	NVML_CALL(call, set != NULL);
	struct nvmlEventSet_st *made = calloc(1, sizeof *made);
	if (!made)
		return NVML_ERROR_MEMORY;
	pthread_mutex_lock(&events.lock);
	made->next = events.sets;
	events.sets = made;
	pthread_mutex_unlock(&events.lock);
	*set = made;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
	NVML_CALL(call, set != NULL);
	pthread_mutex_lock(&events.lock);
	struct nvmlEventSet_st **link = &events.sets;
	while (*link && *link != set)
		link = &(*link)->next;
	struct nvmlEventSet_st *found = *link;
	if (found)
		*link = found->next;
	pthread_mutex_unlock(&events.lock);
	free(found);
	return found ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, uint64_t *types)
{
	NVML_DEVICE_CALL(call, device, types != NULL);
	*types = supported_types(call.model);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, uint64_t types, nvmlEventSet_t set)
{
	NVML_DEVICE_CALL(call, device, set != NULL);
	if (types & ~supported_types(call.model))
		return NVML_ERROR_NOT_SUPPORTED;
	nvmlReturn_t code = NVML_ERROR_INVALID_ARGUMENT;
	pthread_mutex_lock(&events.lock);
	if (is_set(set)) {
		if (!set->registered)
			set->sequence = sim_events_last(call.node); /* the past is not told */
		set->registered = true;
		if (set->boards[call.slot] != call.gpu.plugged)
			set->types[call.slot] = 0;
		set->boards[call.slot] = call.gpu.plugged;
		set->types[call.slot] |= types;
		code = NVML_SUCCESS;
	}
	pthread_mutex_unlock(&events.lock);
	return code;
}

/* The next event for the set, and the GPU it is of: 1, 0 when time is up, -1 when there is no such set. Two threads
 * that wait on one set share its events: the thread that marks one as seen first has it. */
static int next_event(const struct nvml_call *call, nvmlEventSet_t set, uint32_t timeout_ms, struct sim_event *event,
		      struct sim_gpu *gpu)
{
	uint64_t until_ns = sim_now_ns() + (uint64_t)timeout_ms * 1000000;
	for (;;) {
		uint64_t types[SIM_GPUS_MAX], boards[SIM_GPUS_MAX], sequence = 0;
		pthread_mutex_lock(&events.lock);
		bool known = is_set(set);
		if (known) {
			memcpy(types, set->types, sizeof types);
			memcpy(boards, set->boards, sizeof boards);
			sequence = set->sequence;
		}
		pthread_mutex_unlock(&events.lock);
		if (!known)
			return -1;
		uint64_t now_ns = sim_now_ns();
		uint64_t left_ms = until_ns > now_ns ? (until_ns - now_ns + 999999) / 1000000 : 0;
		int got = sim_event_wait(call->node, types, &sequence, (unsigned)left_ms, event);
		pthread_mutex_lock(&events.lock);
		known = is_set(set);
		bool first = known && set->sequence < sequence;
		if (first)
			set->sequence = sequence;
		pthread_mutex_unlock(&events.lock);
		if (got != 1)
			return 0;
		if (first && sim_gpu_get(call->node, event->gpu, gpu) && gpu->plugged == boards[event->gpu])
			return 1;
	}
}

static uint32_t instance_id(uint16_t id)
{
	return id == UINT16_MAX ? NVML_VALUE_NOT_AVAILABLE_U32 : id;
}

/* `size` is that of the struct the caller knows. */
static nvmlReturn_t wait_on(const struct nvml_call *call, nvmlEventSet_t set, nvmlEventData_t *data, size_t size,
			    uint32_t timeout_ms)
{
	struct sim_event event;
	struct sim_gpu gpu;
	int got = next_event(call, set, timeout_ms, &event, &gpu);
	if (got < 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (got == 0)
		return NVML_ERROR_TIMEOUT;
	nvmlEventData_t whole = {
		.device = nvml_handle(event.gpu, &gpu),
		.eventType = event.type,
		.eventData = event.data,
		.gpuInstanceId = instance_id(event.gpu_instance),
		.computeInstanceId = instance_id(event.compute_instance),
	};
	memcpy(data, &whole, size);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, uint32_t timeout_ms)
{
	NVML_CALL(call, set && data);
	return wait_on(&call, set, data, offsetof(nvmlEventData_t, gpuInstanceId), timeout_ms);
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, uint32_t timeout_ms)
{
	NVML_CALL(call, set && data);
	return wait_on(&call, set, data, sizeof *data, timeout_ms);
}
