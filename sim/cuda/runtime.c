/* The library's life: cuInit, the lock, the registry of handles, waiting, and what a fork leaves behind. */
#include "sim/cuda/found.h"
#include "sim/cuda/internal.h"

#include <search.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"

/* A wait looks at the GPU's health this often, so that a lost GPU ends it. */
#define HEALTH_INTERVAL_NS 20000000ull
#define HEALTH_FRESH_NS    1000000ull

struct simcu_runtime simcu = {.lock = PTHREAD_MUTEX_INITIALIZER, .host_done = PTHREAD_COND_INITIALIZER};

static void *registry; /* tsearch tree of struct simcu_object by address */
static __thread bool in_host_function;
static __thread uint64_t thread_id;

static void before_fork(void)
{
	pthread_mutex_lock(&simcu.lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&simcu.lock);
}

/* A driver cannot be used in the child of a process that had initialised it. */
static void after_fork_child(void)
{
	simcu.forked = simcu.ready;
	simcu_mps_forget(); /* or the server would not see the parent die */
	pthread_mutex_unlock(&simcu.lock);
}

static bool by_bus_order(void)
{
	const char *order = getenv("CUDA_DEVICE_ORDER");
	return order && strcmp(order, "PCI_BUS_ID") == 0;
}

static void add_device(const struct simcu_found *found)
{
	struct simcu_device *device = &simcu.devices[simcu.device_count];
	*device = (struct simcu_device){
		.slot = found->slot, .ordinal = simcu.device_count, .gpu = found->gpu, .client = -1, .mps_ordinal = -1};
	device->model = &sim_models[found->gpu.model];
	device->ecc_seen = found->gpu.ecc_double_volatile;
	device->instance = found->instance;
	simcu_describe(device, &found->mig);
	simcu_mps_describe(device, found->uuid);
	simcu.device_count++;
}

/* Once it is known whether the process is an MPS client: then it sees what its server has. */
static void find_devices(void)
{
	GS_AUTO_FREE struct simcu_found *found = gs_calloc(SIM_GPUS_MAX, sizeof *found);
	size_t allowed_count;
	const struct mps_device *allowed = simcu_mps_devices(&allowed_count);
	size_t count = simcu_find_devices(simcu.node, getenv("CUDA_VISIBLE_DEVICES"), by_bus_order(), allowed,
					  allowed_count, found);
	for (size_t i = 0; i < count; i++)
		add_device(&found[i]);
}

CUresult cuInit(unsigned int flags)
{
	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&simcu.lock);
	CUresult result = CUDA_SUCCESS;
	if (simcu.forked) {
		result = CUDA_ERROR_NOT_INITIALIZED;
	} else if (!simcu.ready) {
		if (!simcu.node && sim_node_open(NULL, &simcu.node, NULL) < 0) {
			result = CUDA_ERROR_NO_DEVICE;
			goto out;
		}
		simcu.device_count = 0;
		result = simcu_mps_connect();
		if (result != CUDA_SUCCESS)
			goto out;
		find_devices();
		if (simcu.device_count == 0) {
			result = CUDA_ERROR_NO_DEVICE;
			goto out;
		}
		/* After sim_node_open, so that a fork takes this lock before the handles' own. */
		pthread_atfork(before_fork, after_fork_parent, after_fork_child);
		simcu.ready = true;
	}
out:
	pthread_mutex_unlock(&simcu.lock);
	return result;
}

CUresult simcu_enter(void)
{
	if (in_host_function)
		return CUDA_ERROR_NOT_PERMITTED;
	pthread_mutex_lock(&simcu.lock);
	if (simcu.ready && !simcu.forked)
		return CUDA_SUCCESS;
	pthread_mutex_unlock(&simcu.lock);
	return CUDA_ERROR_NOT_INITIALIZED;
}

void simcu_leave_scope(int *unused)
{
	pthread_mutex_unlock(&simcu.lock);
}

void simcu_enter_host_function(bool inside)
{
	in_host_function = inside;
}

uint64_t simcu_thread_id(void)
{
	if (!thread_id)
		thread_id = ++simcu.next_id;
	return thread_id;
}

static int compare_addresses(const void *a, const void *b)
{
	return (a > b) - (a < b);
}

void simcu_register(struct simcu_object *object, enum simcu_kind kind, struct simcu_context *context)
{
	object->kind = kind;
	object->context = context;
	if (context)
		LIST_INSERT_HEAD(&context->objects, object, link);
	if (!tsearch(object, &registry, compare_addresses))
		abort();
}

void simcu_unregister(struct simcu_object *object)
{
	if (object->context)
		LIST_REMOVE(object, link);
	tdelete(object, &registry, compare_addresses);
}

void *simcu_lookup(const void *handle, enum simcu_kind kind)
{
	if (!handle)
		return NULL;
	void *const *found = tfind(handle, &registry, compare_addresses);
	struct simcu_object *object = found ? *found : NULL;
	return object && object->kind == kind ? object : NULL;
}

struct simcu_device *simcu_device(CUdevice device)
{
	return device >= 0 && device < simcu.device_count ? &simcu.devices[device] : NULL;
}

/* What the node says of the GPU that this device was at cuInit. */
static CUresult ask_health(const struct simcu_device *device)
{
	struct sim_gpu gpu;
	if (!sim_gpu_get(simcu.node, device->slot, &gpu) || !gpu.present || gpu.lost ||
	    gpu.plugged != device->gpu.plugged)
		return CUDA_ERROR_DEVICE_UNAVAILABLE;
	return gpu.ecc_double_volatile > device->ecc_seen ? CUDA_ERROR_ECC_UNCORRECTABLE : CUDA_SUCCESS;
}

CUresult simcu_check_device(struct simcu_device *device, bool now)
{
	if (device->broken)
		return device->broken;
	uint64_t time = sim_now_ns();
	if (!now && time - device->checked_ns < HEALTH_FRESH_NS)
		return CUDA_SUCCESS;
	device->checked_ns = time;
	device->broken = ask_health(device);
	uint32_t fault = device->client >= 0 ? sim_client_take_fault(simcu.node, device->client) : 0;
	if (!device->broken && fault)
		simcu_fault(device, (CUresult)fault);
	simcu_mps_listen();
	return device->broken;
}

void simcu_fault(struct simcu_device *device, CUresult result)
{
	enum { XID_PAGE_FAULT = 31, EVENT_XID = 0x8 };
	device->broken = result;
	sim_event_post(simcu.node, device->slot, EVENT_XID, XID_PAGE_FAULT);
	simcu_mps_report_fault(device, result);
}

CUresult simcu_wait(struct simcu_device *device, uint64_t until_ns)
{
	CUresult result = simcu_check_device(device, true);
	uint64_t now = sim_now_ns();
	while (result == CUDA_SUCCESS && now < until_ns) {
		uint64_t wake = until_ns - now < HEALTH_INTERVAL_NS ? until_ns : now + HEALTH_INTERVAL_NS;
		struct timespec at = {.tv_sec = (time_t)(wake / 1000000000), .tv_nsec = (long)(wake % 1000000000)};
		pthread_mutex_unlock(&simcu.lock);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		pthread_mutex_lock(&simcu.lock);
		result = simcu_check_device(device, true);
		now = sim_now_ns();
	}
	return result;
}
