#include "gpu/probe.h"

/* NVML codes that mean: there is no such GPU to talk to any more. */
static bool means_lost(nvmlReturn_t code)
{
	return code == NVML_ERROR_GPU_IS_LOST || code == NVML_ERROR_NOT_FOUND || code == NVML_ERROR_GPU_NOT_FOUND;
}

static void read_recovery_action(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_probe *probe)
{
	nvmlFieldValue_t field = {.fieldId = NVML_FI_DEV_GET_GPU_RECOVERY_ACTION};
	if (GS_NVML(nvml, DeviceGetFieldValues, device, 1, &field) != NVML_SUCCESS || field.nvmlReturn != NVML_SUCCESS)
		return; /* drivers before R570 */
	probe->recovery_known = true;
	probe->recovery_action = field.value.uiVal;
}

/* Whether the device answers; a failure is put down in `probe`. */
static bool answers(const struct gs_nvml *nvml, const char *uuid, nvmlDevice_t *device, struct gs_probe *probe)
{
	nvmlMemory_t memory;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetHandleByUUID, uuid, device);
	if (code == NVML_SUCCESS) {
		code = GS_NVML(nvml, DeviceGetMemoryInfo, *device, &memory);
		/* Boards without memory of their own (GB10) answer that they tell none: an answer all the same. */
		if (code == NVML_ERROR_NOT_SUPPORTED || code == NVML_ERROR_FUNCTION_NOT_FOUND)
			code = NVML_SUCCESS;
	}
	if (code != NVML_SUCCESS)
		probe->result = means_lost(code) ? GS_PROBE_LOST : GS_PROBE_FAILED;
	return code == NVML_SUCCESS;
}

static void read_energy(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_probe *probe)
{
	uint64_t energy;
	if (GS_NVML(nvml, DeviceGetTotalEnergyConsumption, device, &energy) == NVML_SUCCESS)
		probe->energy_mj = energy;
}

void gs_probe_read(const struct gs_nvml *nvml, const char *uuid, struct gs_probe *probe)
{
	*probe = (struct gs_probe){.result = GS_PROBE_OK, .ecc_uncorrectable = UINT64_MAX, .energy_mj = UINT64_MAX};
	nvmlDevice_t device;
	if (!answers(nvml, uuid, &device, probe))
		return;
	read_recovery_action(nvml, device, probe);
	uint32_t correctable, uncorrectable, pending, failed;
	if (GS_NVML(nvml, DeviceGetRemappedRows, device, &correctable, &uncorrectable, &pending, &failed) ==
	    NVML_SUCCESS) {
		probe->remap_known = true;
		probe->remap_pending = pending != 0;
		probe->remap_failed = failed != 0;
	}
	uint64_t errors;
	if (GS_NVML(nvml, DeviceGetTotalEccErrors, device, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC,
		    &errors) == NVML_SUCCESS)
		probe->ecc_uncorrectable = errors;
	read_energy(nvml, device, probe);
}

void gs_probe_read_mig(const struct gs_nvml *nvml, const char *gpu_uuid, const char *uuid, struct gs_probe *probe)
{
	*probe = (struct gs_probe){.result = GS_PROBE_OK, .ecc_uncorrectable = UINT64_MAX, .energy_mj = UINT64_MAX};
	nvmlDevice_t device, gpu;
	if (!answers(nvml, uuid, &device, probe) ||
	    GS_NVML(nvml, DeviceGetHandleByUUID, gpu_uuid, &gpu) != NVML_SUCCESS)
		return;
	read_recovery_action(nvml, gpu, probe);
	read_energy(nvml, gpu, probe);
}
