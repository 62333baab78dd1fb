/* NVML calls about clocks, power, temperature and fans. */
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

static nvmlReturn_t clock_now(const struct nvml_call *call, nvmlClockType_t type, uint32_t *mhz)
{
	struct nvml_readings readings = nvml_read_sensors(call);
	switch (type) {
	case NVML_CLOCK_GRAPHICS:
	case NVML_CLOCK_SM:
		*mhz = readings.clock_sm;
		return NVML_SUCCESS;
	case NVML_CLOCK_MEM:
		*mhz = readings.clock_memory;
		return NVML_SUCCESS;
	case NVML_CLOCK_VIDEO:
		*mhz = readings.clock_video;
		return NVML_SUCCESS;
	}
	return NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t clock_max(const struct nvml_call *call, nvmlClockType_t type, uint32_t *mhz)
{
	switch (type) {
	case NVML_CLOCK_GRAPHICS:
	case NVML_CLOCK_SM:
		*mhz = call->model->clock_sm_max;
		return NVML_SUCCESS;
	case NVML_CLOCK_MEM:
		*mhz = call->model->clock_memory_max;
		return NVML_SUCCESS;
	case NVML_CLOCK_VIDEO:
		*mhz = call->model->clock_video_max;
		return NVML_SUCCESS;
	}
	return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return clock_now(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return clock_max(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz && (unsigned)id <= NVML_CLOCK_ID_CUSTOMER_BOOST_MAX);
	return id == NVML_CLOCK_ID_CURRENT ? clock_now(&call, type, mhz) : clock_max(&call, type, mhz);
}

/* Application clocks are for graphics and memory; they stand at their defaults, the highest. */
static nvmlReturn_t application_clock(const struct nvml_call *call, nvmlClockType_t type, uint32_t *mhz)
{
	if (type == NVML_CLOCK_VIDEO)
		return NVML_ERROR_NOT_SUPPORTED;
	return clock_max(call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return application_clock(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return application_clock(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return application_clock(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, uint32_t *count, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	uint32_t needed = call.model->clock_memory_idle == call.model->clock_memory_max ? 1 : 2;
	uint32_t room = *count;
	*count = needed;
	if (!mhz || room < needed)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	mhz[0] = call.model->clock_memory_max;
	if (needed == 2)
		mhz[1] = call.model->clock_memory_idle;
	return NVML_SUCCESS;
}

/* From the highest down in steps of 15 MHz, as boards since Pascal list them. */
nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, uint32_t memory_mhz, uint32_t *count,
						  uint32_t *mhz)
{
	enum { STEP = 15 };
	NVML_DEVICE_CALL(call, device, count != NULL);
	if (memory_mhz != call.model->clock_memory_max && memory_mhz != call.model->clock_memory_idle)
		return NVML_ERROR_NOT_FOUND;
	uint32_t needed = (call.model->clock_sm_max - call.model->clock_sm_idle) / STEP + 1;
	uint32_t room = *count;
	*count = needed;
	if (!mhz || room < needed)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (uint32_t i = 0; i < needed; i++)
		mhz[i] = call.model->clock_sm_max - i * STEP;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *state)
{
	NVML_DEVICE_CALL(call, device, state != NULL);
	*state = nvml_read_sensors(&call).pstate;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerState(nvmlDevice_t device, nvmlPstates_t *state)
{
	NVML_DEVICE_CALL(call, device, state != NULL);
	*state = nvml_read_sensors(&call).pstate;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedPerformanceStates(nvmlDevice_t device, nvmlPstates_t *states, uint32_t bytes)
{
	NVML_DEVICE_CALL(call, device, states != NULL);
	enum { STATES_MAX = 16 };
	uint32_t room = bytes / sizeof *states < STATES_MAX ? bytes / (uint32_t)sizeof *states : STATES_MAX;
	bool rests = call.model->clock_memory_idle != call.model->clock_memory_max;
	if (room < (rests ? 2u : 1u))
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (uint32_t i = 0; i < room; i++)
		states[i] = NVML_PSTATE_UNKNOWN;
	states[0] = NVML_PSTATE_0;
	if (rests)
		states[1] = NVML_PSTATE_8;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, uint64_t *reasons)
{
	NVML_DEVICE_CALL(call, device, reasons != NULL);
	*reasons = nvml_read_sensors(&call).reasons;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, uint64_t *reasons)
{
	NVML_DEVICE_CALL(call, device, reasons != NULL);
	*reasons = nvml_read_sensors(&call).reasons;
	return NVML_SUCCESS;
}

static const uint64_t supported_reasons =
	nvmlClocksEventReasonGpuIdle | nvmlClocksEventReasonApplicationsClocksSetting |
	nvmlClocksEventReasonSwPowerCap | nvmlClocksThrottleReasonHwSlowdown | nvmlClocksEventReasonSyncBoost |
	nvmlClocksEventReasonSwThermalSlowdown | nvmlClocksThrottleReasonHwThermalSlowdown |
	nvmlClocksThrottleReasonHwPowerBrakeSlowdown;

nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, uint64_t *reasons)
{
	NVML_DEVICE_CALL(call, device, reasons != NULL);
	*reasons = supported_reasons;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device, uint64_t *reasons)
{
	NVML_DEVICE_CALL(call, device, reasons != NULL);
	*reasons = supported_reasons;
	return NVML_SUCCESS;
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
