/* CUDA calls about a device: names, ids, sizes, attributes. None needs a context. */
#include "sim/cuda/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIB = 1024, WARP = 32 };

struct simcu_sm simcu_sm_of(const struct sim_model *model)
{
	/* The table of technical specifications in the CUDA programming guide. */
	static const struct {
		unsigned capability;
		struct simcu_sm sm;
	} table[] = {
		{70, {2048, 32, 96 * KIB, 96 * KIB}},    {75, {1024, 16, 64 * KIB, 64 * KIB}},
		{80, {2048, 32, 164 * KIB, 163 * KIB}},  {86, {1536, 16, 100 * KIB, 99 * KIB}},
		{89, {1536, 24, 100 * KIB, 99 * KIB}},   {90, {2048, 32, 228 * KIB, 227 * KIB}},
		{100, {2048, 32, 228 * KIB, 227 * KIB}}, {120, {1536, 24, 100 * KIB, 99 * KIB}},
	};
	unsigned capability = model->compute_major * 10 + model->compute_minor;
	struct simcu_sm sm = table[0].sm;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(table) && table[i].capability <= capability; i++)
		sm = table[i].sm;
	return sm;
}

/* Bytes of level 2 cache. */
static int l2_cache(const struct sim_model *model)
{
	static const struct {
		const char *spec_name;
		int mib;
	} table[] = {
		{"A100-40GB", 40},     {"A100-80GB", 40}, {"A30", 24},  {"H100-80GB", 50}, {"H200-141GB", 50},
		{"B200-180GB", 126},   {"L4", 48},        {"L40S", 96}, {"T4", 4},         {"V100-32GB", 6},
		{"RTX-PRO-6000", 128},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(table); i++)
		if (strcmp(table[i].spec_name, model->spec_name) == 0)
			return table[i].mib * KIB * KIB;
	return 4 * KIB * KIB;
}

uint64_t simcu_pcie_rate(const struct sim_model *model)
{
	/* Generation 3 moves 985 MB/s a lane, each later one twice that; about 80 % of it is payload. */
	unsigned generation = model->pcie_generation < 3 ? 3 : model->pcie_generation > 6 ? 6 : model->pcie_generation;
	uint64_t lanes = model->pcie_width ? model->pcie_width : 1;
	return (985000000ull << (generation - 3)) * lanes / 5 * 4;
}

uint64_t simcu_memory_rate(const struct sim_model *model)
{
	/* Two transfers a clock over the whole bus; memory with more (GDDR) is faster than this says. */
	uint64_t rate = (uint64_t)model->memory_bus_bits / 8 * 2 * model->clock_memory_max * 1000000ull;
	return rate ? rate : 100000000000ull;
}

static void describe_instance(struct simcu_device *device, const struct sim_mig *mig)
{
	const struct sim_mig_name *name = &device->instance;
	const struct sim_mig_model *model = sim_mig_model_of(device->model);
	const struct sim_mig_gi *gi = &mig->gis[name->gpu_instance];
	const struct sim_mig_profile *profile = &model->profiles[gi->profile];
	struct sim_mig_compute compute;
	char uuid[48];
	if (!sim_mig_compute_of(model, profile, gi->cis[name->compute_instance].profile, &compute))
		return;
	snprintf(device->name, sizeof device->name, "%s MIG %s", device->model->name, compute.name);
	sim_mig_uuid(&device->gpu, name->gpu_instance, name->compute_instance, uuid);
	size_t filled = 0;
	for (const char *at = uuid + 4; *at && filled < sizeof device->uuid; at++) /* after "MIG-" */
		if (*at != '-') {
			device->uuid[filled++] = (uint8_t)strtoul((char[]){at[0], at[1], '\0'}, NULL, 16);
			at++;
		}
	device->multiprocessors = compute.multiprocessors;
	device->memory_bytes = (uint64_t)profile->memory_mib << 20;
	device->memory_rate = device->memory_rate / model->grid * gi->size;
}

void simcu_describe(struct simcu_device *device, const struct sim_mig *mig)
{
	snprintf(device->name, sizeof device->name, "%s", device->model->name);
	memcpy(device->uuid, device->gpu.uuid_bytes, sizeof device->uuid);
	device->multiprocessors = device->model->multiprocessors;
	device->memory_bytes = device->gpu.memory_total - device->gpu.memory_reserved;
	device->memory_rate = simcu_memory_rate(device->model);
	if (device->instance.serial)
		describe_instance(device, mig);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	SIMCU_ENTER();
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (!simcu_device(ordinal))
		return CUDA_ERROR_INVALID_DEVICE;
	*device = ordinal;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
	SIMCU_ENTER();
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = simcu.device_count;
	return CUDA_SUCCESS;
}

/* Enters, and finds the device behind a number; the value pointer must not be NULL. */
/* clang-format off */
#define ENTER_DEVICE(entry, ordinal, pointer)                   \
	SIMCU_ENTER();                                          \
	struct simcu_device *entry = simcu_device(ordinal);     \
	if (!(pointer))                                         \
		return CUDA_ERROR_INVALID_VALUE;                \
	if (!entry)                                             \
		return CUDA_ERROR_INVALID_DEVICE
/* clang-format on */

CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
	ENTER_DEVICE(entry, device, name);
	if (size <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, (size_t)size, "%s", entry->name);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
	ENTER_DEVICE(entry, device, uuid);
	memcpy(uuid->bytes, entry->gpu.uuid_bytes, sizeof uuid->bytes);
	return CUDA_SUCCESS;
}

/* The first version names the GPU that a MIG device is part of, this one the device. */
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	ENTER_DEVICE(entry, device, uuid);
	memcpy(uuid->bytes, entry->uuid, sizeof uuid->bytes);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetLuid(char *luid, unsigned int *node_mask, CUdevice device)
{
	return CUDA_ERROR_NOT_SUPPORTED; /* LUIDs are a Windows idea */
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	ENTER_DEVICE(entry, device, bytes);
	*bytes = entry->memory_bytes;
	return CUDA_SUCCESS;
}

/* Attributes that are the same number on every model. Sizes of textures and surfaces are those of compute capability
 * 5.0 and later. */
static const struct {
	CUdevice_attribute attribute;
	int value;
} fixed_attributes[] = {
	{CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
	{CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
	{CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
	{CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
	{CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, INT32_MAX},
	{CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
	{CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
	{CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 * KIB},
	{CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 64 * KIB},
	{CU_DEVICE_ATTRIBUTE_WARP_SIZE, WARP},
	{CU_DEVICE_ATTRIBUTE_MAX_PITCH, INT32_MAX},
	{CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
	{CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512},
	{CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1},
	{CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH, 131072},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_WIDTH, 131072},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_HEIGHT, 65536},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH, 16384},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT, 16384},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH, 16384},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_WIDTH, 32768},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_HEIGHT, 32768},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_LAYERS, 2048},
	{CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT, 512},
	{CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
	{CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_WIDTH, 32768},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_LAYERS, 2048},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_WIDTH, 32768},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_HEIGHT, 32768},
	{CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_WIDTH, 32768},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_WIDTH, 32768},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_WIDTH, 131072},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_HEIGHT, 65536},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_WIDTH, 16384},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_HEIGHT, 16384},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_DEPTH, 16384},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_WIDTH, 131072},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_HEIGHT, 65000},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_PITCH, 2097120},
	{CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH, 268435456},
	{CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
	{CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED, 1},
	{CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED, 1},
	{CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
	{CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1},
	{CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1},
	{CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED, 1},
	{CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1},
	{CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1},
	{CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
	{CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED, 1},
	{CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
	{CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1},
};

/* Everything else that is known; an attribute that is not is 0: a feature that is not there. */
static int model_attribute(const struct simcu_device *device, CUdevice_attribute attribute)
{
	const struct sim_model *model = device->model;
	struct simcu_sm sm = simcu_sm_of(model);
	switch ((int)attribute) {
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
		return (int)model->clock_sm_max * 1000;
	case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
		return (int)model->clock_memory_max * 1000;
	case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
		return (int)model->memory_bus_bits;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
		return (int)device->multiprocessors;
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
		return sm.threads;
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
		return sm.blocks;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
		return sm.shared;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
		return sm.shared_optin;
	case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
		return l2_cache(model);
	case CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE:
		return model->compute_major >= 8 ? l2_cache(model) / 4 * 3 : 0;
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
		return model->compute_major >= 7 && model->ecc ? 3 : 2;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		return (int)model->compute_major;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
		return (int)model->compute_minor;
	case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
		return (int)device->gpu.pci_bus;
	case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
		return (int)device->gpu.pci_device;
	case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
		return (int)device->gpu.pci_domain;
	case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID:
		return device->gpu.numa_node;
	case CU_DEVICE_ATTRIBUTE_ECC_ENABLED:
		return model->ecc;
	case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH:
		return model->compute_major >= 9;
	case CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO:
		return model->mig_capable && model->compute_major < 12 ? 2 : 32;
	default:
		return 0;
	}
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
	ENTER_DEVICE(entry, device, value);
	if ((int)attribute <= 0 ||
	    (int)attribute > (int)CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_LOCALIZED_MEMORY_SUPPORTED)
		return CUDA_ERROR_INVALID_VALUE;
	if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_MODE) {
		struct sim_gpu gpu;
		*value = sim_gpu_get(simcu.node, entry->slot, &gpu) ? (int)gpu.compute_mode : 0;
		return CUDA_SUCCESS;
	}
	for (size_t i = 0; i < GS_ARRAY_LENGTH(fixed_attributes); i++)
		if (fixed_attributes[i].attribute == attribute) {
			*value = fixed_attributes[i].value;
			return CUDA_SUCCESS;
		}
	*value = model_attribute(entry, attribute);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *properties, CUdevice device)
{
	ENTER_DEVICE(entry, device, properties);
	*properties = (CUdevprop){
		.maxThreadsPerBlock = 1024,
		.maxThreadsDim = {1024, 1024, 64},
		.maxGridSize = {INT32_MAX, 65535, 65535},
		.sharedMemPerBlock = 48 * KIB,
		.totalConstantMemory = 64 * KIB,
		.SIMDWidth = WARP,
		.memPitch = INT32_MAX,
		.regsPerBlock = 65536,
		.clockRate = (int)entry->model->clock_sm_max * 1000,
		.textureAlign = 512,
	};
	return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
	ENTER_DEVICE(entry, device, major && minor);
	*major = (int)entry->model->compute_major;
	*minor = (int)entry->model->compute_minor;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *bus_id, int size, CUdevice device)
{
	ENTER_DEVICE(entry, device, bus_id);
	char text[32];
	int length = snprintf(text, sizeof text, "%04X:%02X:%02X.0", entry->gpu.pci_domain, entry->gpu.pci_bus,
			      entry->gpu.pci_device);
	if (size <= length)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(bus_id, text, (size_t)length + 1);
	return CUDA_SUCCESS;
}

/* "domain:bus:device.function", "domain:bus:device" or "bus:device.function", in hexadecimal. */
static bool parse_bus_id(const char *text, unsigned *domain, unsigned *bus, unsigned *device)
{
	unsigned function = 0;
	*domain = 0;
	if (sscanf(text, "%x:%x:%x.%x", domain, bus, device, &function) >= 3)
		return true;
	*domain = 0;
	return sscanf(text, "%x:%x.%x", bus, device, &function) == 3;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *bus_id)
{
	SIMCU_ENTER();
	unsigned domain, bus, number;
	if (!device || !bus_id || !parse_bus_id(bus_id, &domain, &bus, &number))
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = 0; i < simcu.device_count; i++) {
		const struct sim_gpu *gpu = &simcu.devices[i].gpu;
		if (gpu->pci_domain == domain && gpu->pci_bus == bus && gpu->pci_device == number) {
			*device = i;
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_INVALID_DEVICE;
}

static bool are_linked(const struct simcu_device *a, const struct simcu_device *b)
{
	return a != b && a->model->nvlinks && b->model->nvlinks && a->model == b->model;
}

/* GPUs reach each other over NVLink, or over PCI Express where they are the same data centre model. */
static bool can_access(const struct simcu_device *a, const struct simcu_device *b)
{
	return are_linked(a, b) || (a != b && a->model == b->model && !a->model->display);
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
	ENTER_DEVICE(entry, device, can);
	struct simcu_device *other = simcu_device(peer);
	if (!other)
		return CUDA_ERROR_INVALID_DEVICE;
	*can = can_access(entry, other);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attribute, CUdevice source, CUdevice destination)
{
	ENTER_DEVICE(entry, source, value);
	struct simcu_device *other = simcu_device(destination);
	if (!other || other == entry)
		return CUDA_ERROR_INVALID_DEVICE;
	switch ((int)attribute) {
	case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
		*value = are_linked(entry, other) ? 0 : 1;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
	case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
		*value = can_access(entry, other);
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
		*value = are_linked(entry, other);
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
		*value = 0;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}
