#include "sim/nvml/physics.h"

#include "gpushare/nvml.h"

/* Power of a board that computes all the time, in thousandths of the way from idle to its limit: most work does not
 * reach the limit. An idle context costs a little too. */
enum { FULL_LOAD_PERMILLE = 820, IDLE_CONTEXT_PERMILLE = 40 };
/* Below the hardware's slowdown temperature by this much the driver starts to slow down itself. */
enum { SOFTWARE_SLOWDOWN_MARGIN = 3 };

static uint32_t between(uint32_t low, uint32_t high, uint32_t permille)
{
	return high <= low ? low : low + (uint32_t)((uint64_t)(high - low) * permille / 1000);
}

static uint32_t wanted_power_mw(const struct sim_model *model, const struct nvml_load *load)
{
	uint32_t permille = load->busy_permille * FULL_LOAD_PERMILLE / 1000;
	if (load->in_use && permille < IDLE_CONTEXT_PERMILLE)
		permille = IDLE_CONTEXT_PERMILLE;
	return between(model->power_idle_mw, model->power_limit_mw, permille);
}

static uint32_t within(uint32_t mhz, uint32_t from, uint32_t to)
{
	return !to ? mhz : mhz < from ? from : mhz > to ? to : mhz;
}

/* The clocks that a user set: application clocks hold while a client works, locked clocks always. */
static void apply_clock_settings(struct nvml_readings *readings, const struct sim_gpu *gpu,
				 const struct sim_model *model, bool active)
{
	if (active && gpu->clock_sm_applied && gpu->clock_sm_applied < readings->clock_sm) {
		readings->clock_sm = gpu->clock_sm_applied;
		readings->reasons |= nvmlClocksEventReasonApplicationsClocksSetting;
	}
	if (active && gpu->clock_memory_applied)
		readings->clock_memory = gpu->clock_memory_applied;
	readings->clock_sm = within(readings->clock_sm, gpu->clock_sm_locked_from, gpu->clock_sm_locked_to);
	readings->clock_memory =
		within(readings->clock_memory, gpu->clock_memory_locked_from, gpu->clock_memory_locked_to);
}

static void apply_power_cap(struct nvml_readings *readings, const struct sim_gpu *gpu, const struct sim_model *model)
{
	if (!gpu->power_limit_mw || readings->power_mw <= gpu->power_limit_mw)
		return;
	/* The clock gives what the power takes. */
	readings->clock_sm = (uint32_t)((uint64_t)readings->clock_sm * gpu->power_limit_mw / readings->power_mw);
	if (readings->clock_sm < model->clock_sm_idle)
		readings->clock_sm = model->clock_sm_idle;
	readings->power_mw = gpu->power_limit_mw;
	readings->reasons |= nvmlClocksEventReasonSwPowerCap;
}

static void apply_heat(struct nvml_readings *readings, const struct sim_model *model)
{
	if (readings->temperature + SOFTWARE_SLOWDOWN_MARGIN < model->temperature_slowdown)
		return;
	if (readings->temperature < model->temperature_slowdown) {
		readings->reasons |= nvmlClocksEventReasonSwThermalSlowdown;
		readings->clock_sm = readings->clock_sm * 4 / 5;
	} else {
		readings->reasons |= nvmlClocksThrottleReasonHwSlowdown | nvmlClocksThrottleReasonHwThermalSlowdown;
		readings->clock_sm /= 2;
	}
	if (readings->clock_sm < model->clock_sm_idle)
		readings->clock_sm = model->clock_sm_idle;
}

struct nvml_readings nvml_readings_of(const struct sim_gpu *gpu, const struct sim_model *model,
				      const struct nvml_load *load)
{
	bool active = load->in_use || load->busy_permille > 0;
	struct nvml_readings readings = {
		.temperature = gpu->temperature_override
				       ? gpu->temperature_override
				       : between(model->temperature_idle, model->temperature_load, load->warm_permille),
		.power_mw = wanted_power_mw(model, load),
		.clock_sm = active ? model->clock_sm_max : model->clock_sm_idle,
		.clock_memory = active ? model->clock_memory_max : model->clock_memory_idle,
		.clock_video = active ? model->clock_video_max : model->clock_video_max / 2,
		/* Boards whose memory clock never rests stay in P0. */
		.pstate = active || model->clock_memory_idle == model->clock_memory_max ? NVML_PSTATE_0 : NVML_PSTATE_8,
		.reasons = active ? nvmlClocksEventReasonNone : nvmlClocksEventReasonGpuIdle,
	};
	readings.memory_temperature = readings.temperature + 3;
	apply_clock_settings(&readings, gpu, model, active);
	apply_power_cap(&readings, gpu, model);
	apply_heat(&readings, model);
	return readings;
}

uint64_t nvml_energy_mj(const struct sim_gpu *gpu, const struct sim_model *model, uint64_t now_ns)
{
	uint64_t elapsed_ms = now_ns > gpu->energy_time_ns ? (now_ns - gpu->energy_time_ns) / 1000000 : 0;
	uint64_t extra_mw =
		between(model->power_idle_mw, model->power_limit_mw, FULL_LOAD_PERMILLE) - model->power_idle_mw;
	return gpu->energy_mj_base + elapsed_ms * model->power_idle_mw / 1000 +
	       gpu->busy_ns_total / 1000000 * extra_mw / 1000;
}
