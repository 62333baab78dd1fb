/* NVML calls about memory: how much, and what is wrong with it. */
#include <unistd.h>

#include "sim/nvml/library.h"

/* A GPU instance's memory is what its profile says, and compute instances in it share that. */
static void read_instance_memory(const struct nvml_call *call, nvmlMemory_v2_t *memory)
{
	uint64_t used = sim_instance_memory_used(call->node, call->slot, call->instance.gpu_instance);
	memory->total = (uint64_t)call->profile->memory_mib << 20;
	memory->reserved = 0;
	memory->used = used < memory->total ? used : memory->total;
	memory->free = memory->total - memory->used;
}

static void read_memory(const struct nvml_call *call, nvmlMemory_v2_t *memory)
{
	if (nvml_is_mig(call)) {
		read_instance_memory(call, memory);
		return;
	}
	uint64_t used = sim_gpu_memory_used(call->node, call->slot);
	memory->total = call->gpu.memory_total;
	memory->reserved = call->gpu.memory_reserved;
	uint64_t usable = memory->total > memory->reserved ? memory->total - memory->reserved : 0;
	memory->used = used < usable ? used : usable;
	memory->free = usable - memory->used;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	NVML_ANY_DEVICE_CALL(call, device, memory != NULL);
	nvmlMemory_v2_t all;
	read_memory(&call, &all);
	memory->total = all.total;
	memory->used = all.used + all.reserved;
	memory->free = all.free;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	NVML_ANY_DEVICE_CALL(call, device, memory != NULL);
	if (!nvml_version_is(memory->version, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	read_memory(&call, memory);
	return NVML_SUCCESS;
}

/* The host maps a little of the board for the driver, and a little more for each client. */
nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory)
{
	NVML_ANY_DEVICE_CALL(call, device, memory != NULL);
	uint64_t used = (1 + 2 * (uint64_t)sim_clients(call.node, call.slot, NULL, 0)) << 20;
	memory->bar1Total = call.model->bar1_total;
	if (nvml_is_mig(&call)) { /* its part of the board's, less a page */
		used = UINT64_C(1) << 20;
		memory->bar1Total = memory->bar1Total / call.mig_model->grid * call.gi.size - (UINT64_C(1) << 20);
	}
	memory->bar1Used = used < memory->bar1Total ? used : memory->bar1Total;
	memory->bar1Free = memory->bar1Total - memory->bar1Used;
	return NVML_SUCCESS;
}

static bool ecc_arguments(nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter)
{
	return (unsigned)type <= NVML_MEMORY_ERROR_TYPE_UNCORRECTED && (unsigned)counter <= NVML_AGGREGATE_ECC;
}

/* All simulated errors are in device memory. */
static uint64_t ecc_count(const struct sim_gpu *gpu, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter)
{
	if (type == NVML_MEMORY_ERROR_TYPE_CORRECTED)
		return counter == NVML_VOLATILE_ECC ? gpu->ecc_single_volatile : gpu->ecc_single_aggregate;
	return counter == NVML_VOLATILE_ECC ? gpu->ecc_double_volatile : gpu->ecc_double_aggregate;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
					 uint64_t *count)
{
	NVML_ANY_DEVICE_CALL(call, device, count && ecc_arguments(type, counter));
	if (!nvml_has_ecc(&call))
		return NVML_ERROR_NOT_SUPPORTED;
	*count = ecc_count(&call.gpu, type, counter);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					    nvmlEccCounterType_t counter, nvmlEccErrorCounts_t *counts)
{
	NVML_DEVICE_CALL(call, device, counts && ecc_arguments(type, counter));
	if (!nvml_has_ecc(&call))
		return NVML_ERROR_NOT_SUPPORTED;
	*counts = (nvmlEccErrorCounts_t){.deviceMemory = ecc_count(&call.gpu, type, counter)};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					     nvmlEccCounterType_t counter, uint32_t location, uint64_t *count)
{
	NVML_ANY_DEVICE_CALL(call, device,
			     count && ecc_arguments(type, counter) && location < NVML_MEMORY_LOCATION_COUNT);
	if (!nvml_has_ecc(&call))
		return NVML_ERROR_NOT_SUPPORTED;
	/* From Ampere on, what is not device memory is counted together as SRAM. */
	bool ampere = call.model->architecture >= NVML_DEVICE_ARCH_AMPERE;
	if (location != NVML_MEMORY_LOCATION_DRAM && ampere != (location == NVML_MEMORY_LOCATION_SRAM))
		return NVML_ERROR_NOT_SUPPORTED;
	*count = location == NVML_MEMORY_LOCATION_DRAM ? ecc_count(&call.gpu, type, counter) : 0;
	return NVML_SUCCESS;
}

static void clear_volatile(struct sim_gpu *gpu, void *user)
{
	(void)user;
	gpu->ecc_single_volatile = gpu->ecc_double_volatile = 0;
}

static void clear_aggregate(struct sim_gpu *gpu, void *user)
{
	(void)user;
	gpu->ecc_single_aggregate = gpu->ecc_double_aggregate = 0;
}

nvmlReturn_t nvmlDeviceClearEccErrorCounts(nvmlDevice_t device, nvmlEccCounterType_t counter)
{
	NVML_DEVICE_CALL(call, device, (unsigned)counter <= NVML_AGGREGATE_ECC);
	if (!nvml_has_ecc(&call))
		return NVML_ERROR_NOT_SUPPORTED;
	if (geteuid() != 0)
		return NVML_ERROR_NO_PERMISSION;
	sim_gpu_update(call.node, call.slot, counter == NVML_VOLATILE_ECC ? clear_volatile : clear_aggregate, NULL);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, nvmlEccSramErrorStatus_v1_t *status)
{
	NVML_DEVICE_CALL(call, device, status != NULL);
	if (!nvml_version_is(status->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (call.model->architecture < NVML_DEVICE_ARCH_AMPERE)
		return NVML_ERROR_NOT_SUPPORTED;
	*status = (nvmlEccSramErrorStatus_v1_t){.version = status->version};
	return NVML_SUCCESS;
}

/* Rows are remapped from Ampere on; boards before that retire pages. */
static bool remaps_rows(const struct sim_model *model)
{
	return model->ecc && model->architecture >= NVML_DEVICE_ARCH_AMPERE;
}

/* The header says that this is not told of a GPU that has MIG instances. */
static bool tells_rows(const struct nvml_call *call)
{
	struct sim_mig mig;
	if (!remaps_rows(call->model))
		return false;
	if (!call->gpu.mig_mode || !sim_mig_get(call->node, call->slot, &mig))
		return true;
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++)
		if (mig.gis[id].serial)
			return false;
	return true;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, uint32_t *correctable, uint32_t *uncorrectable,
				       uint32_t *pending, uint32_t *failed)
{
	NVML_DEVICE_CALL(call, device, correctable && uncorrectable && pending && failed);
	if (!tells_rows(&call))
		return NVML_ERROR_NOT_SUPPORTED;
	*correctable = call.gpu.remap_correctable;
	*uncorrectable = call.gpu.remap_uncorrectable;
	*pending = call.gpu.remap_pending;
	*failed = call.gpu.remap_failed;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, nvmlRemappedRowsInfo_v2_t *info)
{
	NVML_DEVICE_CALL(call, device, info != NULL);
	if (!tells_rows(&call))
		return NVML_ERROR_NOT_SUPPORTED;
	*info = (nvmlRemappedRowsInfo_v2_t){
		.corrActiveRemaps = call.gpu.remap_correctable,
		.uncActiveRemaps = call.gpu.remap_uncorrectable,
		.bPending = call.gpu.remap_pending,
		.bFailureOccurred = call.gpu.remap_failed,
	};
	return NVML_SUCCESS;
}

/* Banks: 640 on the eight-stack parts; each remapped row takes one bank from "max" to "high". */
nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, nvmlRowRemapperHistogramValues_t *values)
{
	enum { BANKS = 640 };
	NVML_DEVICE_CALL(call, device, values != NULL);
	if (!remaps_rows(call.model))
		return NVML_ERROR_NOT_SUPPORTED;
	uint64_t used = (uint64_t)call.gpu.remap_correctable + call.gpu.remap_uncorrectable;
	uint32_t high = used < BANKS ? (uint32_t)used : BANKS;
	uint32_t none = call.gpu.remap_failed && high ? 1 : 0;
	*values = (nvmlRowRemapperHistogramValues_t){.max = BANKS - high, .high = high - none, .none = none};
	return NVML_SUCCESS;
}

static nvmlReturn_t no_pages(const struct nvml_call *call, uint32_t *count)
{
	if (!call->model->ecc || remaps_rows(call->model))
		return NVML_ERROR_NOT_SUPPORTED;
	*count = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, uint32_t *count,
				       uint64_t *addresses)
{
	NVML_DEVICE_CALL(call, device, count && (unsigned)cause <= NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR);
	(void)addresses;
	return no_pages(&call, count);
}

nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause, uint32_t *count,
					  uint64_t *addresses, uint64_t *timestamps)
{
	NVML_DEVICE_CALL(call, device, count && (unsigned)cause <= NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR);
	(void)addresses;
	(void)timestamps;
	return no_pages(&call, count);
}

nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, nvmlEnableState_t *pending)
{
	NVML_DEVICE_CALL(call, device, pending != NULL);
	if (!call.model->ecc || remaps_rows(call.model))
		return NVML_ERROR_NOT_SUPPORTED;
	*pending = NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}
