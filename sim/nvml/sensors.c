/* NVML calls about power, temperature and fans. */
#include "sim/nvml/sensors.h"

struct nvml_readings nvml_read_sensors(const struct nvml_call *call)
{
	struct nvml_load load = {
		.busy_permille = sim_gpu_busy_permille(call->node, call->slot, 1000000000),
		.warm_permille = sim_gpu_busy_permille(call->node, call->slot, SIM_WINDOW_MAX_NS),
		.in_use = sim_clients(call->node, call->slot, NULL, 0) > 0,
	};
	return nvml_readings_of(&call->gpu, call->model, &load);
}

/* How long each reason held is not kept: nothing here slows down for long. */
nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy, nvmlViolationTime_t *time)
{
	NVML_DEVICE_CALL(call, device, time && (unsigned)policy <= NVML_PERF_POLICY_TOTAL_BASE_CLOCKS);
	time->referenceTime = nvml_timestamp_us(sim_now_ns());
	time->violationTime = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, uint32_t *celsius)
{
	NVML_DEVICE_CALL(call, device, celsius && sensor == NVML_TEMPERATURE_GPU);
	*celsius = nvml_read_sensors(&call).temperature;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *temperature)
{
	NVML_DEVICE_CALL(call, device, temperature && temperature->sensorType == NVML_TEMPERATURE_GPU);
	if (!nvml_version_is(temperature->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	temperature->temperature = (int32_t)nvml_read_sensors(&call).temperature;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_v1_t *margin)
{
	NVML_DEVICE_CALL(call, device, margin != NULL);
	if (!nvml_version_is(margin->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (call.model->architecture < NVML_DEVICE_ARCH_ADA)
		return NVML_ERROR_NOT_SUPPORTED;
	margin->marginTemperature =
		(int32_t)call.model->temperature_slowdown - (int32_t)nvml_read_sensors(&call).temperature;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t type, uint32_t *celsius)
{
	NVML_DEVICE_CALL(call, device, celsius && (unsigned)type <= NVML_TEMPERATURE_THRESHOLD_GPS_CURR);
	switch (type) {
	case NVML_TEMPERATURE_THRESHOLD_SHUTDOWN:
		*celsius = call.model->temperature_shutdown;
		return NVML_SUCCESS;
	case NVML_TEMPERATURE_THRESHOLD_SLOWDOWN:
		*celsius = call.model->temperature_slowdown;
		return NVML_SUCCESS;
	case NVML_TEMPERATURE_THRESHOLD_GPU_MAX:
		*celsius = call.model->temperature_slowdown - 4;
		return NVML_SUCCESS;
	case NVML_TEMPERATURE_THRESHOLD_MEM_MAX:
		*celsius = 95;
		return NVML_SUCCESS;
	default:
		return NVML_ERROR_NOT_SUPPORTED;
	}
}

nvmlReturn_t nvmlDeviceGetNumFans(nvmlDevice_t device, uint32_t *fans)
{
	NVML_DEVICE_CALL(call, device, fans != NULL);
	*fans = call.model->fans;
	return NVML_SUCCESS;
}

static nvmlReturn_t fan_speed(const struct nvml_call *call, uint32_t fan, uint32_t *percent)
{
	if (!call->model->fans)
		return NVML_ERROR_NOT_SUPPORTED;
	if (fan >= call->model->fans)
		return NVML_ERROR_INVALID_ARGUMENT;
	uint32_t celsius = nvml_read_sensors(call).temperature;
	*percent = celsius < 30 ? 30 : celsius > 100 ? 100 : celsius;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, uint32_t *percent)
{
	NVML_DEVICE_CALL(call, device, percent != NULL);
	return fan_speed(&call, 0, percent);
}

nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, uint32_t fan, uint32_t *percent)
{
	NVML_DEVICE_CALL(call, device, percent != NULL);
	return fan_speed(&call, fan, percent);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, uint32_t *milliwatts)
{
	NVML_DEVICE_CALL(call, device, milliwatts != NULL);
	*milliwatts = nvml_read_sensors(&call).power_mw;
	return NVML_SUCCESS;
}

/* Boards count energy since Volta. */
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, uint64_t *millijoules)
{
	NVML_DEVICE_CALL(call, device, millijoules != NULL);
	*millijoules = nvml_energy_mj(&call.gpu, call.model, sim_now_ns());
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
	NVML_DEVICE_CALL(call, device, mode != NULL);
	*mode = NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, uint32_t *milliwatts)
{
	NVML_DEVICE_CALL(call, device, milliwatts != NULL);
	*milliwatts = call.gpu.power_limit_mw;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, uint32_t *milliwatts)
{
	NVML_DEVICE_CALL(call, device, milliwatts != NULL);
	*milliwatts = call.gpu.power_limit_mw;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, uint32_t *milliwatts)
{
	NVML_DEVICE_CALL(call, device, milliwatts != NULL);
	*milliwatts = call.model->power_limit_mw;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, uint32_t *least, uint32_t *most)
{
	NVML_DEVICE_CALL(call, device, least && most);
	*least = call.model->power_min_mw;
	*most = call.model->power_max_mw;
	return NVML_SUCCESS;
}
