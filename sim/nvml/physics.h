/* The readings of a board's sensors: clocks, power and temperature as plain functions of its model and its load. The
 * curves are guesses that move the right way; docs/nvml.md says so. */
#ifndef GPUSHARE_SIM_NVML_PHYSICS_H
#define GPUSHARE_SIM_NVML_PHYSICS_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/models.h"
#include "sim/state.h"

struct nvml_load {
	uint32_t busy_permille; /* over the last second */
	uint32_t warm_permille; /* over the last six */
	bool in_use;            /* a process has a context */
};

struct nvml_readings {
	uint32_t temperature, memory_temperature; /* degrees C */
	uint32_t power_mw;
	uint32_t clock_sm, clock_memory, clock_video; /* MHz */
	uint32_t pstate;
	uint64_t reasons; /* nvmlClocksEventReason* */
};

struct nvml_readings nvml_readings_of(const struct sim_gpu *gpu, const struct sim_model *model,
				      const struct nvml_load *load);
/* Millijoules since the board was plugged in; never goes down. */
uint64_t nvml_energy_mj(const struct sim_gpu *gpu, const struct sim_model *model, uint64_t now_ns);

#endif
