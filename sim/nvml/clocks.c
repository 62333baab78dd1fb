/* NVML calls about clocks: what they are, what they may be, and settings that hold them down. */
#include "sim/nvml/sensors.h"

enum { CLOCK_STEP = 15 }; /* MHz, between the graphics clocks of boards since Pascal */

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

/* Application clocks are for graphics and memory; their defaults are the highest. */
static nvmlReturn_t default_application_clock(const struct nvml_call *call, nvmlClockType_t type, uint32_t *mhz)
{
	if (type == NVML_CLOCK_VIDEO)
		return NVML_ERROR_NOT_SUPPORTED;
	return clock_max(call, type, mhz);
}

static nvmlReturn_t application_clock(const struct nvml_call *call, nvmlClockType_t type, uint32_t *mhz)
{
	nvmlReturn_t code = default_application_clock(call, type, mhz);
	uint32_t set = type == NVML_CLOCK_MEM ? call->gpu.clock_memory_applied : call->gpu.clock_sm_applied;
	if (code == NVML_SUCCESS && set)
		*mhz = set;
	return code;
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz && (unsigned)id <= NVML_CLOCK_ID_CUSTOMER_BOOST_MAX);
	if (id == NVML_CLOCK_ID_CURRENT)
		return clock_now(&call, type, mhz);
	return id == NVML_CLOCK_ID_APP_CLOCK_TARGET ? application_clock(&call, type, mhz) : clock_max(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return application_clock(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return default_application_clock(&call, type, mhz);
}

nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz)
{
	NVML_DEVICE_CALL(call, device, mhz != NULL);
	return default_application_clock(&call, type, mhz);
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
	NVML_DEVICE_CALL(call, device, count != NULL);
	if (memory_mhz != call.model->clock_memory_max && memory_mhz != call.model->clock_memory_idle)
		return NVML_ERROR_NOT_FOUND;
	uint32_t needed = (call.model->clock_sm_max - call.model->clock_sm_idle) / CLOCK_STEP + 1;
	uint32_t room = *count;
	*count = needed;
	if (!mhz || room < needed)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (uint32_t i = 0; i < needed; i++)
		mhz[i] = call.model->clock_sm_max - i * CLOCK_STEP;
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

/* --- changing them --- */

static bool is_memory_clock(const struct sim_model *model, uint32_t mhz)
{
	return mhz == model->clock_memory_max || mhz == model->clock_memory_idle;
}

static void apply_application(struct sim_gpu *gpu, void *user)
{
	const uint32_t *mhz = user; /* memory, graphics */
	gpu->clock_memory_applied = mhz[0];
	gpu->clock_sm_applied = mhz[1];
}

nvmlReturn_t nvmlDeviceSetApplicationsClocks(nvmlDevice_t device, uint32_t memory_mhz, uint32_t graphics_mhz)
{
	NVML_DEVICE_CALL(call, device, true);
	const struct sim_model *model = call.model;
	if (!is_memory_clock(model, memory_mhz) || graphics_mhz > model->clock_sm_max ||
	    graphics_mhz < model->clock_sm_idle || (model->clock_sm_max - graphics_mhz) % CLOCK_STEP != 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	return nvml_change(&call, apply_application, (uint32_t[]){memory_mhz, graphics_mhz});
}

nvmlReturn_t nvmlDeviceResetApplicationsClocks(nvmlDevice_t device)
{
	NVML_DEVICE_CALL(call, device, true);
	return nvml_change(&call, apply_application, (uint32_t[]){0, 0});
}

static void lock_graphics(struct sim_gpu *gpu, void *user)
{
	const uint32_t *range = user; /* MHz, from and to */
	gpu->clock_sm_locked_from = range[0];
	gpu->clock_sm_locked_to = range[1];
}

/* A limit's name in place of its figure. */
static uint32_t named_limit(const struct sim_model *model, uint32_t mhz)
{
	return mhz == NVML_CLOCK_LIMIT_ID_TDP || mhz == NVML_CLOCK_LIMIT_ID_UNLIMITED ? model->clock_sm_max : mhz;
}

/* The highest clock of the list that is not above `mhz`, or the lowest. */
static uint32_t graphics_clock_below(const struct sim_model *model, uint32_t mhz)
{
	uint32_t below = mhz < model->clock_sm_max ? model->clock_sm_max - mhz : 0;
	uint32_t clock = model->clock_sm_max - (below + CLOCK_STEP - 1) / CLOCK_STEP * CLOCK_STEP;
	return mhz < model->clock_sm_idle || clock < model->clock_sm_idle ? model->clock_sm_idle : clock;
}

/* Boards can do it since Volta. Figures that are not in the list are brought to it, as drivers do. */
nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, uint32_t from_mhz, uint32_t to_mhz)
{
	NVML_DEVICE_CALL(call, device, true);
	uint32_t from = named_limit(call.model, from_mhz), to = named_limit(call.model, to_mhz);
	if (from > to)
		return NVML_ERROR_INVALID_ARGUMENT;
	return nvml_change(&call, lock_graphics,
			   (uint32_t[]){graphics_clock_below(call.model, from), graphics_clock_below(call.model, to)});
}

nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device)
{
	NVML_DEVICE_CALL(call, device, true);
	return nvml_change(&call, lock_graphics, (uint32_t[]){0, 0});
}

static void lock_memory(struct sim_gpu *gpu, void *user)
{
	const uint32_t *range = user; /* MHz, from and to */
	gpu->clock_memory_locked_from = range[0];
	gpu->clock_memory_locked_to = range[1];
}

static uint32_t memory_clock_below(const struct sim_model *model, uint32_t mhz)
{
	return mhz >= model->clock_memory_max ? model->clock_memory_max : model->clock_memory_idle;
}

static nvmlReturn_t change_memory_lock(const struct nvml_call *call, uint32_t from, uint32_t to)
{
	if (call->model->architecture < NVML_DEVICE_ARCH_AMPERE)
		return NVML_ERROR_NOT_SUPPORTED;
	return nvml_change(call, lock_memory, (uint32_t[]){from, to});
}

/* Since Ampere. */
nvmlReturn_t nvmlDeviceSetMemoryLockedClocks(nvmlDevice_t device, uint32_t from_mhz, uint32_t to_mhz)
{
	NVML_DEVICE_CALL(call, device, from_mhz <= to_mhz);
	return change_memory_lock(&call, memory_clock_below(call.model, from_mhz),
				  memory_clock_below(call.model, to_mhz));
}

nvmlReturn_t nvmlDeviceResetMemoryLockedClocks(nvmlDevice_t device)
{
	NVML_DEVICE_CALL(call, device, true);
	return change_memory_lock(&call, 0, 0);
}
