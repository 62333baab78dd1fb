#ifndef GPUSHARE_SIM_NVML_SENSORS_H
#define GPUSHARE_SIM_NVML_SENSORS_H

#include "sim/nvml/library.h"
#include "sim/nvml/physics.h"

/* The GPU's sensors now. */
struct nvml_readings nvml_read_sensors(const struct nvml_call *call);

#endif
