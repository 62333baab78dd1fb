/* Stream-ordered memory: pools that count, and allocations that belong to them. Memory is taken and given back at once;
 * a pool caches nothing, so what it has reserved is what is in use. */
#include "sim/cuda/internal.h"

#include <stdlib.h>

#include "base/alloc.h"

static struct simcu_pool *new_pool(struct simcu_device *device)
{
	struct simcu_pool *pool = gs_calloc(1, sizeof *pool);
	pool->device = device;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(pool->reuse); i++)
		pool->reuse[i] = 1;
	simcu_register(&pool->object, SIMCU_POOL, NULL);
	return pool;
}

static struct simcu_pool *default_pool(struct simcu_device *device)
{
	if (!device->default_pool) {
		device->default_pool = new_pool(device);
		device->default_pool->is_default = true;
	}
	return device->default_pool;
}

static struct simcu_pool *current_pool(struct simcu_device *device)
{
	return device->pool ? device->pool : default_pool(device);
}

void simcu_pool_forget(struct simcu_pool *pool, uint64_t bytes)
{
	pool->used_bytes -= bytes < pool->used_bytes ? bytes : pool->used_bytes;
}

void simcu_pools_reset(struct simcu_device *device)
{
	if (device->default_pool)
		device->default_pool->used_bytes = device->default_pool->used_high = 0;
}

static CUresult allocate(CUdeviceptr *pointer, size_t bytes, struct simcu_pool *pool, struct simcu_context *context)
{
	if (pool->maximum_bytes && (bytes > pool->maximum_bytes || pool->used_bytes > pool->maximum_bytes - bytes))
		return CUDA_ERROR_OUT_OF_MEMORY;
	struct simcu_allocation *allocation;
	CUresult result = simcu_allocate(context, bytes, SIMCU_DEVICE_MEMORY, 0, &allocation);
	if (result != CUDA_SUCCESS)
		return result;
	allocation->pool = pool;
	pool->used_bytes += bytes;
	if (pool->used_bytes > pool->used_high)
		pool->used_high = pool->used_bytes;
	*pointer = allocation->base;
	return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!pointer)
		return CUDA_ERROR_INVALID_VALUE;
	if (!simcu_stream_of(context, stream))
		return CUDA_ERROR_INVALID_HANDLE;
	return allocate(pointer, bytes, current_pool(context->device), context);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t bytes, CUmemoryPool handle, CUstream stream)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_pool *pool = simcu_lookup(handle, SIMCU_POOL);
	if (!pointer || !pool)
		return CUDA_ERROR_INVALID_VALUE;
	if (!simcu_stream_of(context, stream))
		return CUDA_ERROR_INVALID_HANDLE;
	struct simcu_context *owner = pool->device == context->device ? context : simcu_context_on(pool->device);
	return owner ? allocate(pointer, bytes, pool, owner) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_allocation *allocation = simcu_find(pointer);
	if (!simcu_stream_of(context, stream))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!allocation || allocation->base != pointer || allocation->memory != SIMCU_DEVICE_MEMORY)
		return CUDA_ERROR_INVALID_VALUE;
	simcu_free(allocation);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice ordinal)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	if (!pool)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	*pool = (CUmemoryPool)default_pool(device);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice ordinal)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	if (!pool)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	*pool = (CUmemoryPool)current_pool(device);
	return CUDA_SUCCESS;
}

CUresult cuDeviceSetMemPool(CUdevice ordinal, CUmemoryPool handle)
{
	SIMCU_ENTER();
	struct simcu_device *device = simcu_device(ordinal);
	struct simcu_pool *pool = simcu_lookup(handle, SIMCU_POOL);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!pool || pool->device != device)
		return CUDA_ERROR_INVALID_VALUE;
	device->pool = pool;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *handle, const CUmemPoolProps *properties)
{
	SIMCU_ENTER();
	if (!handle || !properties || properties->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	if (properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE ||
	    properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_NOT_SUPPORTED;
	struct simcu_device *device = simcu_device(properties->location.id);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	struct simcu_pool *pool = new_pool(device);
	pool->maximum_bytes = properties->maxSize;
	*handle = (CUmemoryPool)pool;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool handle)
{
	SIMCU_ENTER();
	struct simcu_pool *pool = simcu_lookup(handle, SIMCU_POOL);
	if (!pool || pool->is_default)
		return CUDA_ERROR_INVALID_VALUE;
	if (pool->device->pool == pool)
		pool->device->pool = NULL;
	/* Unregistered but kept: allocations of it may live on, and they name it. */
	simcu_unregister(&pool->object);
	if (pool->used_bytes == 0)
		free(pool);
	return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t keep)
{
	SIMCU_ENTER();
	return simcu_lookup(handle, SIMCU_POOL) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value)
{
	SIMCU_ENTER();
	struct simcu_pool *pool = simcu_lookup(handle, SIMCU_POOL);
	if (!pool || !value)
		return CUDA_ERROR_INVALID_VALUE;
	switch (attribute) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES] = *(int *)value != 0;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		pool->release_threshold = *(uint64_t *)value;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		if (*(uint64_t *)value != 0) /* a high mark can only be started anew */
			return CUDA_ERROR_INVALID_VALUE;
		pool->used_high = pool->used_bytes;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value)
{
	SIMCU_ENTER();
	const struct simcu_pool *pool = simcu_lookup(handle, SIMCU_POOL);
	if (!pool || !value)
		return CUDA_ERROR_INVALID_VALUE;
	switch (attribute) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		*(int *)value = (int)pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES];
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		*(uint64_t *)value = pool->release_threshold;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
		*(uint64_t *)value = pool->used_bytes;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		*(uint64_t *)value = pool->used_high;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc *access, size_t count)
{
	SIMCU_ENTER();
	if (!simcu_lookup(handle, SIMCU_POOL) || (count && !access))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++)
		if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || !simcu_device(access[i].location.id))
			return CUDA_ERROR_INVALID_DEVICE;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool handle, CUmemLocation *location)
{
	SIMCU_ENTER();
	if (!flags || !location || !simcu_lookup(handle, SIMCU_POOL))
		return CUDA_ERROR_INVALID_VALUE;
	if (location->type != CU_MEM_LOCATION_TYPE_DEVICE || !simcu_device(location->id))
		return CUDA_ERROR_INVALID_DEVICE;
	*flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	return CUDA_SUCCESS;
}
