/* NVML calls about the machine and its GPUs as a whole: versions, process names, handles. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim/nvml/library.h"

const char *nvmlErrorString(nvmlReturn_t code)
{
	switch (code) {
	case NVML_SUCCESS:
		return "Success";
	case NVML_ERROR_UNINITIALIZED:
		return "Uninitialized";
	case NVML_ERROR_INVALID_ARGUMENT:
		return "Invalid Argument";
	case NVML_ERROR_NOT_SUPPORTED:
		return "Not Supported";
	case NVML_ERROR_NO_PERMISSION:
		return "Insufficient Permissions";
	case NVML_ERROR_ALREADY_INITIALIZED:
		return "Already Initialized";
	case NVML_ERROR_NOT_FOUND:
		return "Not Found";
	case NVML_ERROR_INSUFFICIENT_SIZE:
		return "Insufficient Size";
	case NVML_ERROR_INSUFFICIENT_POWER:
		return "Insufficient External Power";
	case NVML_ERROR_DRIVER_NOT_LOADED:
		return "Driver Not Loaded";
	case NVML_ERROR_TIMEOUT:
		return "Timeout";
	case NVML_ERROR_IRQ_ISSUE:
		return "Interrupt Request Issue";
	case NVML_ERROR_LIBRARY_NOT_FOUND:
		return "NVML Shared Library Not Found";
	case NVML_ERROR_FUNCTION_NOT_FOUND:
		return "Function Not Found";
	case NVML_ERROR_CORRUPTED_INFOROM:
		return "Corrupted infoROM";
	case NVML_ERROR_GPU_IS_LOST:
		return "GPU is lost";
	case NVML_ERROR_RESET_REQUIRED:
		return "GPU requires reset";
	case NVML_ERROR_OPERATING_SYSTEM:
		return "The operating system has blocked the request";
	case NVML_ERROR_LIB_RM_VERSION_MISMATCH:
		return "Driver/library version mismatch";
	case NVML_ERROR_IN_USE:
		return "In use by another client";
	case NVML_ERROR_MEMORY:
		return "Insufficient Memory";
	case NVML_ERROR_NO_DATA:
		return "No data";
	case NVML_ERROR_VGPU_ECC_NOT_SUPPORTED:
		return "vGPU does not support ECC";
	case NVML_ERROR_INSUFFICIENT_RESOURCES:
		return "Insufficient Resources";
	case NVML_ERROR_FREQ_NOT_SUPPORTED:
		return "Requested frequency is not supported";
	case NVML_ERROR_ARGUMENT_VERSION_MISMATCH:
		return "Argument version mismatch";
	case NVML_ERROR_DEPRECATED:
		return "Function is deprecated";
	case NVML_ERROR_NOT_READY:
		return "System is not ready";
	case NVML_ERROR_GPU_NOT_FOUND:
		return "GPU not found";
	case NVML_ERROR_INVALID_STATE:
		return "Resource is in an invalid state";
	case NVML_ERROR_RESET_TYPE_NOT_SUPPORTED:
		return "Reset type is not supported";
	case NVML_ERROR_UNKNOWN:
		break;
	}
	return "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, uint32_t length)
{
	NVML_CALL(call, version != NULL);
	return nvml_copy_text(version, length, sim_node_driver_version(call.node));
}

/* NVML prints its API's number before the driver's. */
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, uint32_t length)
{
	NVML_CALL(call, version != NULL);
	char text[64];
	snprintf(text, sizeof text, "%s%s", atoi(sim_node_driver_version(call.node)) >= 580 ? "13." : "12.",
		 sim_node_driver_version(call.node));
	return nvml_copy_text(version, length, text);
}

nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_v1_t *info, uint32_t length)
{
	NVML_CALL(call, info != NULL);
	if (!nvml_version_is(info->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	char text[32];
	snprintf(text, sizeof text, "r%d_00", atoi(sim_node_driver_version(call.node)));
	return nvml_copy_text(info->branch, length < sizeof info->branch ? length : sizeof info->branch, text);
}

/* The newest CUDA that each driver branch brought. */
static int cuda_version(const char *driver_version)
{
	static const struct {
		int branch, cuda;
	} table[] = {
		{590, 13010}, {580, 13000}, {575, 12090}, {570, 12080}, {565, 12070},
		{560, 12060}, {555, 12050}, {550, 12040}, {545, 12030}, {535, 12020},
		{530, 12010}, {525, 12000}, {515, 11070}, {470, 11040}, {450, 11000},
	};
	int branch = atoi(driver_version);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(table); i++)
		if (branch >= table[i].branch)
			return table[i].cuda;
	return 10020;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
	NVML_CALL(call, version != NULL);
	*version = cuda_version(sim_node_driver_version(call.node));
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	NVML_CALL(call, version != NULL);
	*version = cuda_version(sim_node_driver_version(call.node));
	return NVML_SUCCESS;
}

/* The command as it was started, as NVML reads it: the first word of the process's command line. */
nvmlReturn_t nvmlSystemGetProcessName(uint32_t pid, char *name, uint32_t length)
{
	NVML_CALL(call, name && length > 0);
	char path[32], text[4096];
	snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
	GS_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
	if (got <= 0)
		return NVML_ERROR_NOT_FOUND;
	text[got] = '\0';
	/* Cut silently: callers give 64 bytes to paths of any length. */
	snprintf(name, length, "%s", text);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlUnitGetCount(uint32_t *count)
{
	NVML_CALL(call, count != NULL);
	*count = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGetExcludedDeviceCount(uint32_t *count)
{
	NVML_CALL(call, count != NULL);
	*count = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGetBlacklistDeviceCount(uint32_t *count)
{
	NVML_CALL(call, count != NULL);
	*count = 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t count_devices(struct sim_node *node, uint32_t *count)
{
	uint32_t slots[SIM_GPUS_MAX];
	*count = nvml_present(node, slots);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(uint32_t *count)
{
	NVML_CALL(call, count != NULL);
	return count_devices(call.node, count);
}

nvmlReturn_t nvmlDeviceGetCount_v2(uint32_t *count)
{
	NVML_CALL(call, count != NULL);
	return count_devices(call.node, count);
}

static nvmlReturn_t hand_out(uint32_t slot, const struct sim_gpu *gpu, nvmlDevice_t *device)
{
	if (gpu->lost)
		return NVML_ERROR_GPU_IS_LOST;
	*device = nvml_handle(slot, gpu);
	return *device ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

static nvmlReturn_t find_by_index(struct sim_node *node, uint32_t index, const char *function, nvmlDevice_t *device)
{
	uint32_t slots[SIM_GPUS_MAX];
	struct sim_gpu gpu;
	if (index >= nvml_present(node, slots) || !sim_gpu_get(node, slots[index], &gpu))
		return NVML_ERROR_INVALID_ARGUMENT;
	int planned = sim_nvml_fault_take_on(node, slots[index], function);
	if (planned)
		return (nvmlReturn_t)planned;
	return hand_out(slots[index], &gpu, device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(uint32_t index, nvmlDevice_t *device)
{
	NVML_CALL(call, device != NULL);
	return find_by_index(call.node, index, __func__, device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(uint32_t index, nvmlDevice_t *device)
{
	NVML_CALL(call, device != NULL);
	return find_by_index(call.node, index, __func__, device);
}

typedef bool (*matches)(const struct sim_gpu *gpu, const void *wanted);

static nvmlReturn_t find(struct sim_node *node, matches is, const void *wanted, nvmlDevice_t *device)
{
	uint32_t slots[SIM_GPUS_MAX], count = nvml_present(node, slots);
	for (uint32_t i = 0; i < count; i++) {
		struct sim_gpu gpu;
		if (sim_gpu_get(node, slots[i], &gpu) && is(&gpu, wanted))
			return hand_out(slots[i], &gpu, device);
	}
	return NVML_ERROR_NOT_FOUND;
}

static bool uuid_is(const struct sim_gpu *gpu, const void *wanted)
{
	return strcasecmp(gpu->uuid, wanted) == 0;
}

static bool uuid_bytes_are(const struct sim_gpu *gpu, const void *wanted)
{
	return memcmp(gpu->uuid_bytes, wanted, sizeof gpu->uuid_bytes) == 0;
}

static bool serial_is(const struct sim_gpu *gpu, const void *wanted)
{
	return strcmp(gpu->serial, wanted) == 0;
}

static bool address_is(const struct sim_gpu *gpu, const void *wanted)
{
	const struct nvml_bus_address *address = wanted;
	return gpu->pci_domain == address->domain && gpu->pci_bus == address->bus && gpu->pci_device == address->device;
}

static nvmlReturn_t find_by_uuid(struct sim_node *node, const char *uuid, nvmlDevice_t *device)
{
	struct sim_mig_name name;
	struct sim_gpu gpu;
	if (!sim_mig_find(node, uuid, &name) || !sim_gpu_get(node, name.gpu, &gpu))
		return find(node, uuid_is, uuid, device);
	if (!sim_may_see(&gpu, name.gpu_instance, name.compute_instance))
		return NVML_ERROR_NOT_FOUND;
	*device = nvml_mig_handle(&gpu, &name);
	return *device ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	NVML_CALL(call, uuid && device);
	return find_by_uuid(call.node, uuid, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_v1_t *uuid, nvmlDevice_t *device)
{
	NVML_CALL(call, uuid && device);
	if (!nvml_version_is(uuid->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (uuid->type == NVML_UUID_TYPE_BINARY)
		return find(call.node, uuid_bytes_are, uuid->value.bytes, device);
	if (uuid->type != NVML_UUID_TYPE_ASCII || !memchr(uuid->value.str, 0, sizeof uuid->value.str))
		return NVML_ERROR_INVALID_ARGUMENT;
	return find_by_uuid(call.node, uuid->value.str, device);
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device)
{
	NVML_CALL(call, serial && device);
	return find(call.node, serial_is, serial, device);
}

bool nvml_parse_bus_id(const char *text, struct nvml_bus_address *address)
{
	int end = -1;
	if (sscanf(text, "%8x:%2x:%2x.%1x%n", &address->domain, &address->bus, &address->device, &address->function,
		   &end) == 4 &&
	    !text[end])
		return true;
	address->domain = 0;
	end = -1;
	return sscanf(text, "%2x:%2x.%1x%n", &address->bus, &address->device, &address->function, &end) == 3 &&
	       !text[end];
}

static nvmlReturn_t find_by_bus_id(struct sim_node *node, const char *bus_id, nvmlDevice_t *device)
{
	struct nvml_bus_address address;
	if (!nvml_parse_bus_id(bus_id, &address))
		return NVML_ERROR_INVALID_ARGUMENT;
	return address.function ? NVML_ERROR_NOT_FOUND : find(node, address_is, &address, device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device)
{
	NVML_CALL(call, bus_id && device);
	return find_by_bus_id(call.node, bus_id, device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device)
{
	NVML_CALL(call, bus_id && device);
	return find_by_bus_id(call.node, bus_id, device);
}
