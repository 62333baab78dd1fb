/* Memory: device memory is anonymous memory of the process, committed by the kernel when it is touched, so that a small
 * machine can hold what a big GPU holds. What it costs on the GPU is accounted on the node. */
#include "sim/cuda/internal.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"

enum { SMALL_ALIGNMENT = 512, PITCH_ALIGNMENT = 512 };

static void *index_by_address; /* tsearch tree of disjoint struct simcu_allocation */

/* Ranges that overlap are equal: a search for an address finds what holds it. */
static int compare_ranges(const void *a, const void *b)
{
	const struct simcu_allocation *x = a, *y = b;
	if (x->base + x->bytes <= y->base)
		return -1;
	return x->base >= y->base + y->bytes;
}

struct simcu_allocation *simcu_find(uint64_t address)
{
	return simcu_find_range(address, 1);
}

struct simcu_allocation *simcu_find_range(uint64_t address, uint64_t bytes)
{
	if (address > UINT64_MAX - bytes)
		return NULL;
	struct simcu_allocation key = {.base = address, .bytes = 1};
	struct simcu_allocation *const *found = tfind(&key, &index_by_address, compare_ranges);
	if (!found || address + bytes > (*found)->base + (*found)->bytes)
		return NULL;
	return *found;
}

void simcu_index(struct simcu_allocation *allocation)
{
	if (!tsearch(allocation, &index_by_address, compare_ranges))
		abort();
}

void simcu_unindex(struct simcu_allocation *allocation)
{
	tdelete(allocation, &index_by_address, compare_ranges);
}

static uint64_t round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

static CUresult take(struct simcu_device *device, uint64_t bytes)
{
	if (!bytes)
		return CUDA_SUCCESS;
	if (device->memory_limit && bytes > device->memory_limit - device->charged_bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (sim_client_allocate(simcu.node, device->client, bytes) == 0) {
		device->charged_bytes += bytes;
		return CUDA_SUCCESS;
	}
	CUresult health = simcu_check_device(device, true);
	return health ? health : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult simcu_charge(struct simcu_device *device, uint64_t bytes)
{
	if (bytes > UINT64_MAX / 2)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (bytes >= SIMCU_CHUNK_BYTES)
		return take(device, round_up(bytes, SIMCU_CHUNK_BYTES));
	uint64_t small = device->small_bytes + round_up(bytes, SMALL_ALIGNMENT);
	uint64_t more = round_up(small, SIMCU_CHUNK_BYTES) - round_up(device->small_bytes, SIMCU_CHUNK_BYTES);
	CUresult result = take(device, more);
	if (result == CUDA_SUCCESS)
		device->small_bytes = small;
	return result;
}

void simcu_uncharge(struct simcu_device *device, uint64_t bytes)
{
	uint64_t less = round_up(bytes, SIMCU_CHUNK_BYTES);
	if (device->client < 0)
		return;
	if (bytes < SIMCU_CHUNK_BYTES) {
		uint64_t small = device->small_bytes - round_up(bytes, SMALL_ALIGNMENT);
		less = round_up(device->small_bytes, SIMCU_CHUNK_BYTES) - round_up(small, SIMCU_CHUNK_BYTES);
		device->small_bytes = small;
	}
	device->charged_bytes -= less < device->charged_bytes ? less : device->charged_bytes;
	sim_client_release(simcu.node, device->client, less);
}

CUresult simcu_allocate(struct simcu_context *context, uint64_t bytes, enum simcu_memory memory, unsigned flags,
			struct simcu_allocation **allocation)
{
	if (!bytes)
		return CUDA_ERROR_INVALID_VALUE;
	uint64_t charged = memory == SIMCU_DEVICE_MEMORY ? bytes : 0;
	CUresult result = charged ? simcu_charge(context->device, charged) : CUDA_SUCCESS;
	if (result != CUDA_SUCCESS)
		return result;
	void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (address == MAP_FAILED) {
		if (charged)
			simcu_uncharge(context->device, charged);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	struct simcu_allocation *made = gs_calloc(1, sizeof *made);
	*made = (struct simcu_allocation){
		.base = (uintptr_t)address,
		.bytes = bytes,
		.mapped_bytes = bytes,
		.memory = memory,
		.flags = flags,
		.id = ++simcu.next_id,
		.context = context,
		.device = charged ? context->device : NULL,
		.charged_bytes = charged,
		.access = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	LIST_INSERT_HEAD(&context->allocations, made, link);
	simcu_index(made);
	*allocation = made;
	return CUDA_SUCCESS;
}

void simcu_free(struct simcu_allocation *allocation)
{
	simcu_unindex(allocation);
	LIST_REMOVE(allocation, link);
	if (allocation->mapped_bytes)
		munmap((void *)(uintptr_t)allocation->base, allocation->mapped_bytes);
	if (allocation->device)
		simcu_uncharge(allocation->device, allocation->charged_bytes);
	if (allocation->pool)
		simcu_pool_forget(allocation->pool, allocation->charged_bytes);
	free(allocation);
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
	SIMCU_ENTER_CONTEXT(context);
	const struct simcu_device *device = context->device;
	uint64_t total = device->memory_bytes;
	uint64_t used = device->instance.serial
				? sim_instance_memory_used(simcu.node, device->slot, device->instance.gpu_instance)
				: sim_gpu_memory_used(simcu.node, device->slot);
	if (free_bytes)
		*free_bytes = used < total ? total - used : 0;
	if (total_bytes)
		*total_bytes = total;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!pointer)
		return CUDA_ERROR_INVALID_VALUE;
	struct simcu_allocation *allocation;
	CUresult result = simcu_allocate(context, bytes, SIMCU_DEVICE_MEMORY, 0, &allocation);
	if (result == CUDA_SUCCESS)
		*pointer = allocation->base;
	return result;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned int element)
{
	SIMCU_ENTER_CONTEXT(context);
	size_t row = round_up(width, PITCH_ALIGNMENT), bytes;
	if (!pointer || !pitch || !width || !height || (element != 4 && element != 8 && element != 16) || row < width)
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_mul_overflow(row, height, &bytes))
		return CUDA_ERROR_OUT_OF_MEMORY;
	struct simcu_allocation *allocation;
	CUresult result = simcu_allocate(context, bytes, SIMCU_DEVICE_MEMORY, 0, &allocation);
	if (result == CUDA_SUCCESS) {
		*pointer = allocation->base;
		*pitch = row;
	}
	return result;
}

CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t bytes, unsigned int flags)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!pointer || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
		return CUDA_ERROR_INVALID_VALUE;
	struct simcu_allocation *allocation;
	CUresult result = simcu_allocate(context, bytes, SIMCU_MANAGED_MEMORY, flags, &allocation);
	if (result == CUDA_SUCCESS)
		*pointer = allocation->base;
	return result;
}

CUresult cuMemFree_v2(CUdeviceptr pointer)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!pointer)
		return CUDA_SUCCESS;
	struct simcu_allocation *allocation = simcu_find(pointer);
	if (!allocation || allocation->base != pointer ||
	    (allocation->memory != SIMCU_DEVICE_MEMORY && allocation->memory != SIMCU_MANAGED_MEMORY))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult result = simcu_context_sync(context); /* work that uses it may still be queued */
	if (simcu_find(pointer) == allocation)
		simcu_free(allocation);
	return result;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	const struct simcu_allocation *allocation = simcu_find(pointer);
	if (!allocation)
		return CUDA_ERROR_NOT_FOUND;
	if (base)
		*base = allocation->base;
	if (bytes)
		*bytes = allocation->bytes;
	return CUDA_SUCCESS;
}

/* Host memory: ordinary memory that the library remembers. */

static CUresult allocate_host(void **pointer, size_t bytes, unsigned flags)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!pointer)
		return CUDA_ERROR_INVALID_VALUE;
	struct simcu_allocation *allocation;
	CUresult result = simcu_allocate(context, bytes, SIMCU_HOST_MEMORY, flags, &allocation);
	if (result == CUDA_SUCCESS)
		*pointer = (void *)(uintptr_t)allocation->base;
	return result;
}

CUresult cuMemAllocHost_v2(void **pointer, size_t bytes)
{
	return allocate_host(pointer, bytes, 0);
}

CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned int flags)
{
	if (flags & ~(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED))
		return CUDA_ERROR_INVALID_VALUE;
	return allocate_host(pointer, bytes, flags);
}

/* The host memory of one kind that starts at `pointer`, or NULL. */
static struct simcu_allocation *find_host(const void *pointer, enum simcu_memory memory)
{
	struct simcu_allocation *allocation = pointer ? simcu_find((uintptr_t)pointer) : NULL;
	return allocation && allocation->base == (uintptr_t)pointer && allocation->memory == memory ? allocation : NULL;
}

CUresult cuMemFreeHost(void *pointer)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_allocation *allocation = find_host(pointer, SIMCU_HOST_MEMORY);
	if (!allocation)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult result = simcu_context_sync(context);
	if (find_host(pointer, SIMCU_HOST_MEMORY) == allocation)
		simcu_free(allocation);
	return result;
}

CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned int flags)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!pointer || !bytes || (uintptr_t)pointer > UINT64_MAX - bytes)
		return CUDA_ERROR_INVALID_VALUE;
	struct simcu_allocation *made = gs_calloc(1, sizeof *made);
	*made = (struct simcu_allocation){
		.base = (uintptr_t)pointer,
		.bytes = bytes,
		.memory = SIMCU_REGISTERED_MEMORY,
		.flags = flags,
		.id = ++simcu.next_id,
		.context = context,
		.access = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	struct simcu_allocation *const *kept = tsearch(made, &index_by_address, compare_ranges);
	if (!kept)
		abort();
	if (*kept != made) {
		free(made);
		return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	}
	LIST_INSERT_HEAD(&context->allocations, made, link);
	return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void *pointer)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	struct simcu_allocation *allocation = find_host(pointer, SIMCU_REGISTERED_MEMORY);
	if (!allocation)
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	simcu_free(allocation);
	return CUDA_SUCCESS;
}

static struct simcu_allocation *find_any_host(const void *pointer)
{
	struct simcu_allocation *allocation = simcu_find((uintptr_t)pointer);
	bool host = allocation &&
		    (allocation->memory == SIMCU_HOST_MEMORY || allocation->memory == SIMCU_REGISTERED_MEMORY);
	return host ? allocation : NULL;
}

/* One address space for host and devices: the pointer is its own device pointer. */
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device_pointer, void *pointer, unsigned int flags)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	if (!device_pointer || flags || !find_any_host(pointer))
		return CUDA_ERROR_INVALID_VALUE;
	*device_pointer = (uintptr_t)pointer;
	return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned int *flags, void *pointer)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	const struct simcu_allocation *allocation = find_host(pointer, SIMCU_HOST_MEMORY);
	if (!flags || !allocation)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = allocation->flags | CU_MEMHOSTALLOC_DEVICEMAP; /* as with unified addressing */
	return CUDA_SUCCESS;
}

/* Managed memory is the host's until a kernel touches it, and kernels touch nothing here: hints change nothing. */

static CUresult check_hint(CUdeviceptr pointer, size_t bytes)
{
	SIMCU_ENTER();
	const struct simcu_allocation *allocation = bytes ? simcu_find_range(pointer, bytes) : NULL;
	return allocation && allocation->memory == SIMCU_MANAGED_MEMORY ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPrefetchAsync(CUdeviceptr pointer, size_t bytes, CUdevice device, CUstream stream)
{
	return check_hint(pointer, bytes);
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr pointer, size_t bytes, CUmemLocation location, unsigned int flags,
			       CUstream stream)
{
	return check_hint(pointer, bytes);
}

CUresult cuMemAdvise(CUdeviceptr pointer, size_t bytes, int advice, CUdevice device)
{
	return check_hint(pointer, bytes);
}

CUresult cuMemAdvise_v2(CUdeviceptr pointer, size_t bytes, int advice, CUmemLocation location)
{
	return check_hint(pointer, bytes);
}
