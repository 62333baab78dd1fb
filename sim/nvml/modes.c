/* NVML calls about how a board may be used: persistence, compute mode, ECC, display, accounting. */
#include "sim/nvml/library.h"

/* A new value for one of the board's 32-bit settings. */
struct setting {
	size_t offset;
	uint32_t value;
};

static void apply(struct sim_gpu *gpu, void *user)
{
	const struct setting *setting = user;
	*(uint32_t *)((char *)gpu + setting->offset) = setting->value;
}

static nvmlReturn_t change_setting(const struct nvml_call *call, size_t offset, uint32_t value)
{
	return nvml_change(call, apply, &(struct setting){offset, value});
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
	NVML_DEVICE_CALL(call, device, mode != NULL);
	*mode = call.gpu.persistence_mode ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t mode)
{
	NVML_DEVICE_CALL(call, device, mode == NVML_FEATURE_DISABLED || mode == NVML_FEATURE_ENABLED);
	return change_setting(&call, offsetof(struct sim_gpu, persistence_mode), mode);
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode)
{
	NVML_DEVICE_CALL(call, device, mode != NULL);
	*mode = (nvmlComputeMode_t)call.gpu.compute_mode;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetComputeMode(nvmlDevice_t device, nvmlComputeMode_t mode)
{
	NVML_DEVICE_CALL(call, device, (unsigned)mode <= NVML_COMPUTEMODE_EXCLUSIVE_PROCESS);
	if (mode == NVML_COMPUTEMODE_EXCLUSIVE_THREAD)
		mode = NVML_COMPUTEMODE_EXCLUSIVE_PROCESS; /* as drivers have done since it was taken away */
	if (call.gpu.mig_mode)                             /* whatever the mode */
		return NVML_ERROR_NOT_SUPPORTED;
	return change_setting(&call, offsetof(struct sim_gpu, compute_mode), mode);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending)
{
	NVML_ANY_DEVICE_CALL(call, device, current && pending);
	if (!call.model->ecc)
		return NVML_ERROR_NOT_SUPPORTED;
	*current = call.gpu.ecc_off ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
	*pending = call.gpu.ecc_off_pending ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDefaultEccMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
	NVML_DEVICE_CALL(call, device, mode != NULL);
	if (!call.model->ecc)
		return NVML_ERROR_NOT_SUPPORTED;
	*mode = NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

/* Takes effect with the next reset. */
nvmlReturn_t nvmlDeviceSetEccMode(nvmlDevice_t device, nvmlEnableState_t mode)
{
	NVML_DEVICE_CALL(call, device, mode == NVML_FEATURE_DISABLED || mode == NVML_FEATURE_ENABLED);
	if (!call.model->ecc)
		return NVML_ERROR_NOT_SUPPORTED;
	return change_setting(&call, offsetof(struct sim_gpu, ecc_off_pending), mode == NVML_FEATURE_DISABLED);
}

nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
	NVML_DEVICE_CALL(call, device, mode != NULL);
	*mode = call.model->display ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, nvmlEnableState_t *active)
{
	NVML_DEVICE_CALL(call, device, active != NULL);
	*active = NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, uint32_t *mode)
{
	NVML_DEVICE_CALL(call, device, mode != NULL);
	*mode = NVML_GPU_VIRTUALIZATION_MODE_NONE;
	return NVML_SUCCESS;
}

/* Accounting is there and off, as after each boot. */
nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
	NVML_DEVICE_CALL(call, device, mode != NULL);
	*mode = NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingBufferSize(nvmlDevice_t device, uint32_t *size)
{
	NVML_DEVICE_CALL(call, device, size != NULL);
	*size = 4000;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, uint32_t *count, uint32_t *pids)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	(void)pids;
	*count = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, uint32_t pid, nvmlAccountingStats_t *stats)
{
	NVML_DEVICE_CALL(call, device, stats != NULL);
	(void)pid;
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetAPIRestriction(nvmlDevice_t device, uint32_t api, nvmlEnableState_t *restricted)
{
	NVML_DEVICE_CALL(call, device, restricted && api <= NVML_RESTRICTED_API_SET_AUTO_BOOSTED_CLOCKS);
	*restricted = NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

/* Power limit. */

static nvmlReturn_t set_limit(const struct nvml_call *call, uint32_t milliwatts)
{
	if (milliwatts < call->model->power_min_mw || milliwatts > call->model->power_max_mw)
		return NVML_ERROR_INVALID_ARGUMENT;
	return change_setting(call, offsetof(struct sim_gpu, power_limit_mw), milliwatts);
}

nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, uint32_t milliwatts)
{
	NVML_DEVICE_CALL(call, device, true);
	return set_limit(&call, milliwatts);
}

nvmlReturn_t nvmlDeviceSetPowerManagementLimit_v2(nvmlDevice_t device, nvmlPowerValue_v2_t *limit)
{
	NVML_DEVICE_CALL(call, device, limit != NULL);
	if (!nvml_version_is(limit->version, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (limit->powerScope != NVML_POWER_SCOPE_GPU)
		return NVML_ERROR_NOT_SUPPORTED;
	return set_limit(&call, limit->powerValueMw);
}
