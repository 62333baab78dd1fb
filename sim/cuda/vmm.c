/* Virtual memory management: addresses and memory apart. Memory is a file without a name, so that it can be mapped in
 * several places; addresses are reserved by mapping nothing. */
#include "sim/cuda/internal.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"

struct simcu_physical {
	struct simcu_object object;
	struct simcu_device *device;
	uint64_t attachment; /* the device's, when the memory was taken */
	uint64_t bytes;
	int fd;
	unsigned references; /* the program's and one for each mapping */
	unsigned handles;    /* of them, the program's */
	CUmemAllocationProp properties;
};

struct reservation {
	uint64_t base, bytes;
	LIST_ENTRY(reservation) link;
};
static LIST_HEAD(, reservation) reservations = LIST_HEAD_INITIALIZER(reservations);
static struct simcu_allocation_list mappings = LIST_HEAD_INITIALIZER(mappings);

static bool is_aligned(uint64_t value)
{
	return value % SIMCU_CHUNK_BYTES == 0;
}

static CUresult check_properties(const CUmemAllocationProp *properties)
{
	if (!properties || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	if (!simcu_device(properties->location.id))
		return CUDA_ERROR_INVALID_DEVICE;
	return properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_NONE ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
				       CUmemAllocationGranularity_flags option)
{
	SIMCU_ENTER();
	CUresult result = check_properties(properties);
	if (result == CUDA_SUCCESS && bytes)
		*bytes = SIMCU_CHUNK_BYTES;
	return bytes ? result : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAddressReserve(CUdeviceptr *pointer, size_t bytes, size_t alignment, CUdeviceptr address,
			     unsigned long long flags)
{
	SIMCU_ENTER();
	size_t unit = alignment > SIMCU_CHUNK_BYTES ? alignment : SIMCU_CHUNK_BYTES, wanted;
	if (!pointer || !bytes || !is_aligned(bytes) || flags || (alignment & (alignment - 1)))
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_add_overflow(bytes, unit, &wanted))
		return CUDA_ERROR_OUT_OF_MEMORY;
	void *mapping = mmap(NULL, wanted, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapping == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	uint64_t start = (uintptr_t)mapping, base = (start + unit - 1) / unit * unit, end = start + wanted;
	if (base > start)
		munmap(mapping, base - start);
	if (end > base + bytes)
		munmap((void *)(uintptr_t)(base + bytes), end - base - bytes);
	struct reservation *made = gs_calloc(1, sizeof *made);
	made->base = base;
	made->bytes = bytes;
	LIST_INSERT_HEAD(&reservations, made, link);
	*pointer = base;
	return CUDA_SUCCESS;
}

/* The reservation that holds a range, or NULL. */
static struct reservation *find_reservation(uint64_t base, uint64_t bytes)
{
	struct reservation *reservation;
	LIST_FOREACH(reservation, &reservations, link)
	if (base >= reservation->base && bytes <= reservation->bytes &&
	    base - reservation->base <= reservation->bytes - bytes)
		return reservation;
	return NULL;
}

/* Whether anything is mapped in a range. */
static bool has_mapping(uint64_t base, uint64_t bytes)
{
	struct simcu_allocation *mapping;
	LIST_FOREACH(mapping, &mappings, link)
	if (mapping->base < base + bytes && base < mapping->base + mapping->bytes)
		return true;
	return false;
}

CUresult cuMemAddressFree(CUdeviceptr pointer, size_t bytes)
{
	SIMCU_ENTER();
	struct reservation *reservation = find_reservation(pointer, bytes);
	if (!reservation || reservation->base != pointer || reservation->bytes != bytes || has_mapping(pointer, bytes))
		return CUDA_ERROR_INVALID_VALUE;
	munmap((void *)(uintptr_t)pointer, bytes);
	LIST_REMOVE(reservation, link);
	free(reservation);
	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
		     unsigned long long flags)
{
	SIMCU_ENTER();
	CUresult result = check_properties(properties);
	if (!handle || !bytes || !is_aligned(bytes) || flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (result != CUDA_SUCCESS)
		return result;
	struct simcu_device *device = simcu_device(properties->location.id);
	if (!simcu_context_on(device))
		return CUDA_ERROR_INVALID_CONTEXT;
	result = simcu_charge(device, bytes);
	if (result != CUDA_SUCCESS)
		return result;
	int fd = memfd_create("gpushare-device-memory", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) {
		if (fd >= 0)
			close(fd);
		simcu_uncharge(device, bytes);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	struct simcu_physical *made = gs_calloc(1, sizeof *made);
	made->device = device;
	made->attachment = device->attachment;
	made->bytes = bytes;
	made->fd = fd;
	made->references = made->handles = 1;
	made->properties = *properties;
	simcu_register(&made->object, SIMCU_PHYSICAL, NULL);
	*handle = (uintptr_t)made;
	return CUDA_SUCCESS;
}

static void drop(struct simcu_physical *physical)
{
	if (--physical->references)
		return;
	/* The node freed all of the process when its last context on the GPU went. */
	if (physical->attachment == physical->device->attachment)
		simcu_uncharge(physical->device, physical->bytes);
	simcu_unregister(&physical->object);
	close(physical->fd);
	free(physical);
}

static struct simcu_physical *find_physical(CUmemGenericAllocationHandle handle)
{
	struct simcu_physical *physical = simcu_lookup((const void *)(uintptr_t)handle, SIMCU_PHYSICAL);
	return physical && physical->handles ? physical : NULL;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	SIMCU_ENTER();
	struct simcu_physical *physical = find_physical(handle);
	if (!physical)
		return CUDA_ERROR_INVALID_VALUE;
	physical->handles--;
	drop(physical);
	return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
		  unsigned long long flags)
{
	SIMCU_ENTER();
	struct simcu_physical *physical = find_physical(handle);
	if (!physical || !bytes || !is_aligned(pointer) || !is_aligned(bytes) || !is_aligned(offset) || flags ||
	    offset > physical->bytes || bytes > physical->bytes - offset || !find_reservation(pointer, bytes) ||
	    has_mapping(pointer, bytes))
		return CUDA_ERROR_INVALID_VALUE;
	if (mmap((void *)(uintptr_t)pointer, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, physical->fd, (off_t)offset) ==
	    MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	struct simcu_allocation *made = gs_calloc(1, sizeof *made);
	*made = (struct simcu_allocation){
		.base = pointer,
		.bytes = bytes,
		.memory = SIMCU_MAPPED_MEMORY,
		.id = ++simcu.next_id,
		.device = physical->device,
		.physical = physical,
	};
	physical->references++;
	LIST_INSERT_HEAD(&mappings, made, link);
	simcu_index(made);
	return CUDA_SUCCESS;
}

/* Calls `each` for the mappings that together are exactly a range; false, and nothing done, when they are not. */
static bool for_each_mapping(uint64_t base, uint64_t bytes, void (*each)(struct simcu_allocation *, int), int argument)
{
	for (int pass = 0; pass < 2; pass++)
		for (uint64_t at = base; at < base + bytes;) {
			struct simcu_allocation *mapping = simcu_find(at);
			if (!mapping || mapping->memory != SIMCU_MAPPED_MEMORY || mapping->base != at ||
			    mapping->bytes > base + bytes - at)
				return false;
			at += mapping->bytes;
			if (pass)
				each(mapping, argument);
		}
	return true;
}

static void unmap(struct simcu_allocation *mapping, int unused)
{
	mmap((void *)(uintptr_t)mapping->base, mapping->bytes, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	simcu_unindex(mapping);
	LIST_REMOVE(mapping, link);
	drop(mapping->physical);
	free(mapping);
}

CUresult cuMemUnmap(CUdeviceptr pointer, size_t bytes)
{
	SIMCU_ENTER();
	return bytes && for_each_mapping(pointer, bytes, unmap, 0) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static void protect(struct simcu_allocation *mapping, int flags)
{
	int access = flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? PROT_READ | PROT_WRITE
		     : flags == CU_MEM_ACCESS_FLAGS_PROT_READ    ? PROT_READ
								 : PROT_NONE;
	mprotect((void *)(uintptr_t)mapping->base, mapping->bytes, access);
	mapping->access = (uint64_t)flags;
}

/* Access is per device on hardware; here the widest one that is asked for counts for all. */
CUresult cuMemSetAccess(CUdeviceptr pointer, size_t bytes, const CUmemAccessDesc *access, size_t count)
{
	SIMCU_ENTER();
	if (!bytes || !access || !count)
		return CUDA_ERROR_INVALID_VALUE;
	int widest = CU_MEM_ACCESS_FLAGS_PROT_NONE;
	for (size_t i = 0; i < count; i++) {
		if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || !simcu_device(access[i].location.id))
			return CUDA_ERROR_INVALID_DEVICE;
		if ((int)access[i].flags > widest)
			widest = (int)access[i].flags;
	}
	return for_each_mapping(pointer, bytes, protect, widest) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr pointer)
{
	SIMCU_ENTER();
	const struct simcu_allocation *mapping = simcu_find(pointer);
	if (!flags || !location || !mapping || mapping->memory != SIMCU_MAPPED_MEMORY)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = mapping->access;
	return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
	SIMCU_ENTER();
	const struct simcu_allocation *mapping = simcu_find((uintptr_t)address);
	if (!handle || !mapping || !mapping->physical)
		return CUDA_ERROR_INVALID_VALUE;
	mapping->physical->references++;
	mapping->physical->handles++;
	*handle = (uintptr_t)mapping->physical;
	return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *properties, CUmemGenericAllocationHandle handle)
{
	SIMCU_ENTER();
	const struct simcu_physical *physical = find_physical(handle);
	if (!properties || !physical)
		return CUDA_ERROR_INVALID_VALUE;
	*properties = physical->properties;
	return CUDA_SUCCESS;
}
