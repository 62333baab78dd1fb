/* Contexts: creation and death, the stack of current ones that each thread has, primary contexts, settings. */
#include "sim/cuda/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"

enum { STACK_MAX = 64, FLAGS_KNOWN = 0xFF, LEAST_PRIORITY = 0, GREATEST_PRIORITY = -5 };

static __thread struct simcu_context *stack[STACK_MAX];
static __thread int depth;

/* The GPU memory that a context alone takes: a guess from what nvidia-smi shows for idle processes. */
static uint64_t context_overhead(const struct sim_model *model)
{
	switch (model->compute_major) {
	case 7:
		return (model->compute_minor == 5 ? 106ull : 308ull) << 20;
	case 8:
		return (model->compute_minor == 0 ? 418ull : 252ull) << 20;
	case 9:
		return 522ull << 20;
	default:
		return 600ull << 20;
	}
}

/* Becomes a client of the GPU, if this process is none yet. */
static CUresult attach(struct simcu_device *device)
{
	if (device->client >= 0)
		return CUDA_SUCCESS;
	const struct sim_mig_name *instance = &device->instance;
	struct gs_error error = {0};
	int slot;
	CUresult admitted = simcu_mps_attach(device);
	if (admitted != CUDA_SUCCESS)
		return admitted;
	enum sim_client_kind kind = simcu.mps ? SIM_CLIENT_MPS : SIM_CLIENT_COMPUTE;
	if (instance->serial)
		slot = sim_client_attach_instance(simcu.node, device->slot, instance->gpu_instance,
						  instance->compute_instance, kind, &error);
	else
		slot = sim_client_attach(simcu.node, device->slot, kind, &error);
	if (slot < 0)
		simcu_mps_detach(device);
	if (slot < 0)
		return error.code == ENOSPC ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_DEVICE_UNAVAILABLE;
	sim_client_limit(simcu.node, slot, simcu_mps_permille());
	sim_client_serve(simcu.node, slot, simcu_mps_server());
	device->client = slot;
	device->attachment++;
	return CUDA_SUCCESS;
}

static void detach(struct simcu_device *device)
{
	if (device->context_count > 0 || device->client < 0)
		return;
	sim_client_detach(simcu.node, device->client);
	simcu_mps_detach(device);
	simcu_pools_reset(device);
	device->client = -1;
	device->charged_bytes = 0;
	device->small_bytes = 0;
}

/* The first context of a process meets the GPU as it is now: what broke earlier ones is over. */
static void forgive(struct simcu_device *device)
{
	struct sim_gpu gpu;
	device->broken = CUDA_SUCCESS;
	simcu_mps_listen();
	if (sim_gpu_get(simcu.node, device->slot, &gpu))
		device->ecc_seen = gpu.ecc_double_volatile;
}

static void fill_limits(struct simcu_context *context)
{
	context->limits[CU_LIMIT_STACK_SIZE] = 1024;
	context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20;
	context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
	context->limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
	context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
	context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
}

/* Brings a context to life: a new one, or the device's primary one again. */
static CUresult start_context(struct simcu_context *context, struct simcu_device *device, unsigned flags)
{
	if (device->context_count == 0)
		forgive(device);
	CUresult result = simcu_check_device(device, true);
	if (result == CUDA_SUCCESS)
		result = attach(device);
	if (result != CUDA_SUCCESS)
		return result;
	context->overhead_bytes = context_overhead(device->model);
	result = simcu_charge(device, context->overhead_bytes);
	if (result != CUDA_SUCCESS) {
		detach(device);
		return result;
	}
	context->device = device;
	context->alive = true;
	context->flags = flags;
	context->id = ++simcu.next_id;
	context->peers = 0;
	context->launches = 0;
	context->orphans_end_ns = 0;
	context->ends_ns = gs_calloc(SIMCU_LAUNCHES_AHEAD, sizeof *context->ends_ns);
	LIST_INIT(&context->objects);
	LIST_INIT(&context->allocations);
	fill_limits(context);
	context->legacy = simcu_stream_new(context, CU_STREAM_DEFAULT, 0);
	context->legacy->is_legacy = true;
	device->context_count++;
	simcu_register(&context->object, SIMCU_CONTEXT, NULL);
	return CUDA_SUCCESS;
}

static void delete_object(struct simcu_object *object)
{
	switch (object->kind) {
	case SIMCU_STREAM:
		simcu_stream_delete((struct simcu_stream *)object);
		break;
	case SIMCU_MODULE:
		simcu_module_delete((struct simcu_module *)object);
		break;
	default: /* events; nothing else belongs to a context */
		simcu_unregister(object);
		free(object);
	}
}

static void stop_context(struct simcu_context *context)
{
	simcu_context_sync(context);
	if (!context->alive) /* another thread was faster while this one slept */
		return;
	struct simcu_device *device = context->device;
	while (!LIST_EMPTY(&context->objects))
		delete_object(LIST_FIRST(&context->objects));
	while (!LIST_EMPTY(&context->allocations))
		simcu_free(LIST_FIRST(&context->allocations));
	simcu_unregister(&context->object);
	free(context->ends_ns);
	context->ends_ns = NULL;
	context->alive = false;
	simcu_uncharge(device, context->overhead_bytes);
	device->context_count--;
	detach(device);
}

CUresult simcu_current(struct simcu_context **context)
{
	if (depth == 0 || !stack[depth - 1])
		return CUDA_ERROR_INVALID_CONTEXT;
	*context = stack[depth - 1];
	if (!(*context)->alive)
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	return simcu_check_device((*context)->device, false);
}

struct simcu_context *simcu_context_on(struct simcu_device *device)
{
	for (int i = depth; i-- > 0;)
		if (stack[i] && stack[i]->alive && stack[i]->device == device)
			return stack[i];
	return device->primary && device->primary->alive ? device->primary : NULL;
}

static CUresult create_context(CUcontext *handle, unsigned flags, CUdevice ordinal)
{
	struct simcu_device *device = simcu_device(ordinal);
	if (!handle || (flags & ~(unsigned)FLAGS_KNOWN))
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (depth == STACK_MAX)
		return CUDA_ERROR_OUT_OF_MEMORY;
	struct simcu_context *context = gs_calloc(1, sizeof *context);
	CUresult result = start_context(context, device, flags);
	if (result != CUDA_SUCCESS) {
		free(context);
		return result;
	}
	stack[depth++] = context;
	*handle = (CUcontext)context;
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	SIMCU_ENTER();
	return create_context(context, flags, device);
}

CUresult cuCtxCreate_v3(CUcontext *context, void *affinity, int count, unsigned int flags, CUdevice device)
{
	SIMCU_ENTER();
	if (count < 0 || (count > 0 && !affinity))
		return CUDA_ERROR_INVALID_VALUE;
	return count ? CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY : create_context(context, flags, device);
}

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *parameters, unsigned int flags, CUdevice device)
{
	SIMCU_ENTER();
	if (parameters && parameters->numExecAffinityParams > 0)
		return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
	if (parameters && parameters->cigParams)
		return CUDA_ERROR_NOT_SUPPORTED;
	return create_context(context, flags, device);
}

CUresult cuCtxDestroy_v2(CUcontext handle)
{
	SIMCU_ENTER();
	struct simcu_context *context = simcu_lookup(handle, SIMCU_CONTEXT);
	if (!context || context->is_primary)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (depth > 0 && stack[depth - 1] == context)
		depth--;
	stop_context(context);
	return CUDA_SUCCESS;
}

/* The stack of the calling thread. */

CUresult cuCtxPushCurrent_v2(CUcontext handle)
{
	SIMCU_ENTER();
	struct simcu_context *context = simcu_lookup(handle, SIMCU_CONTEXT);
	if (!context)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (depth == STACK_MAX)
		return CUDA_ERROR_OUT_OF_MEMORY;
	stack[depth++] = context;
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
	SIMCU_ENTER();
	if (depth == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	depth--;
	if (context)
		*context = (CUcontext)stack[depth];
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext handle)
{
	SIMCU_ENTER();
	struct simcu_context *context = simcu_lookup(handle, SIMCU_CONTEXT);
	if (handle && !context)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (depth > 0)
		depth--;
	if (context)
		stack[depth++] = context;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
	SIMCU_ENTER();
	if (!context)
		return CUDA_ERROR_INVALID_VALUE;
	*context = depth ? (CUcontext)stack[depth - 1] : NULL;
	return CUDA_SUCCESS;
}

/* The context a handle names, or the current one for NULL. */
static CUresult context_or_current(CUcontext handle, struct simcu_context **context)
{
	if (!handle)
		return simcu_current(context);
	*context = simcu_lookup(handle, SIMCU_CONTEXT);
	return *context ? simcu_check_device((*context)->device, false) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext handle)
{
	SIMCU_ENTER();
	struct simcu_context *context;
	CUresult result = context_or_current(handle, &context);
	if (result != CUDA_SUCCESS)
		return result;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = context->device->ordinal;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	return cuCtxGetDevice_v2(device, NULL);
}

CUresult cuCtxSynchronize_v2(CUcontext handle)
{
	SIMCU_ENTER();
	struct simcu_context *context;
	CUresult result = context_or_current(handle, &context);
	return result == CUDA_SUCCESS ? simcu_context_sync(context) : result;
}

CUresult cuCtxSynchronize(void)
{
	return cuCtxSynchronize_v2(NULL);
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int *version)
{
	SIMCU_ENTER();
	struct simcu_context *context;
	CUresult result = context_or_current(handle, &context);
	if (result != CUDA_SUCCESS)
		return result;
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = 3020; /* of the context's interface, not of the driver */
	return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext handle, unsigned long long *id)
{
	SIMCU_ENTER();
	struct simcu_context *context;
	CUresult result = context_or_current(handle, &context);
	if (result != CUDA_SUCCESS)
		return result;
	if (!id)
		return CUDA_ERROR_INVALID_VALUE;
	*id = context->id;
	return CUDA_SUCCESS;
}

/* Settings: kept and given back; none changes what is simulated. */

CUresult cuCtxGetFlags(unsigned int *flags)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = context->flags;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned int flags)
{
	SIMCU_ENTER_CONTEXT(context);
	if (flags & ~(unsigned)FLAGS_KNOWN)
		return CUDA_ERROR_INVALID_VALUE;
	context->flags = flags;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	SIMCU_ENTER_CONTEXT(context);
	if ((int)limit < 0 || (int)limit >= SIMCU_LIMITS)
		return CUDA_ERROR_UNSUPPORTED_LIMIT;
	context->limits[limit] = value;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit)
{
	SIMCU_ENTER_CONTEXT(context);
	if ((int)limit < 0 || (int)limit >= SIMCU_LIMITS)
		return CUDA_ERROR_UNSUPPORTED_LIMIT;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	*value = context->limits[limit];
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *config)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!config)
		return CUDA_ERROR_INVALID_VALUE;
	*config = context->cache_config;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config)
{
	SIMCU_ENTER_CONTEXT(context);
	context->cache_config = config;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig *config)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!config)
		return CUDA_ERROR_INVALID_VALUE;
	*config = context->shared_config;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config)
{
	SIMCU_ENTER_CONTEXT(context);
	context->shared_config = config;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	if (least)
		*least = LEAST_PRIORITY;
	if (greatest)
		*greatest = GREATEST_PRIORITY;
	return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache(void)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	return CUDA_SUCCESS;
}

/* Peers. */

CUresult cuCtxEnablePeerAccess(CUcontext handle, unsigned int flags)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_context *peer = simcu_lookup(handle, SIMCU_CONTEXT);
	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (!peer || peer->device == context->device)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (peer->device->model != context->device->model || peer->device->model->display)
		return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
	uint32_t bit = 1u << peer->device->ordinal;
	if (context->peers & bit)
		return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
	context->peers |= bit;
	return CUDA_SUCCESS;
}

CUresult cuCtxDisablePeerAccess(CUcontext handle)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_context *peer = simcu_lookup(handle, SIMCU_CONTEXT);
	if (!peer)
		return CUDA_ERROR_INVALID_CONTEXT;
	uint32_t bit = 1u << peer->device->ordinal;
	if (!(context->peers & bit))
		return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
	context->peers &= ~bit;
	return CUDA_SUCCESS;
}

/* Primary contexts: one per device, counted, and the same handle every time. */

CUresult cuDevicePrimaryCtxRetain(CUcontext *handle, CUdevice ordinal)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!device->primary) {
		device->primary = gs_calloc(1, sizeof *device->primary);
		device->primary->is_primary = true;
	}
	CUresult result = device->primary->alive ? simcu_check_device(device, false)
						 : start_context(device->primary, device, device->primary_flags);
	if (result != CUDA_SUCCESS)
		return result;
	device->primary_references++;
	*handle = (CUcontext)device->primary;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice ordinal)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!device->primary_references)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (--device->primary_references == 0 && device->primary->alive)
		stop_context(device->primary);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	return cuDevicePrimaryCtxRelease_v2(device);
}

/* Ends the context, whichever thread holds it; callers that retained it still have to release it. */
CUresult cuDevicePrimaryCtxReset_v2(CUdevice ordinal)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (device->primary && device->primary->alive)
		stop_context(device->primary);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
	return cuDevicePrimaryCtxReset_v2(device);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice ordinal, unsigned int flags)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (flags & ~(unsigned)FLAGS_KNOWN)
		return CUDA_ERROR_INVALID_VALUE;
	device->primary_flags = flags;
	if (device->primary)
		device->primary->flags = flags;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags)
{
	return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned int *flags, int *active)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = device->primary_flags;
	*active = device->primary && device->primary->alive;
	return CUDA_SUCCESS;
}
