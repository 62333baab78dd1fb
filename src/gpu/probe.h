/* One look at a GPU's health, for core/health. */
#ifndef GPUSHARE_GPU_PROBE_H
#define GPUSHARE_GPU_PROBE_H

#include "core/health/health.h"
#include "gpu/nvml.h"

/* Never fails: what could not be read is unknown in `probe`. A GPU that NVML calls lost or
 * does not know is lost; one that fails in another way has failed. */
void gs_probe_read(const struct gs_nvml *nvml, const char *uuid, struct gs_probe *probe);

/* The same for a MIG device: whether it answers, and what its GPU says of resets. Its GPU's memory errors are not its own:
 * they count for all devices of the GPU. */
void gs_probe_read_mig(const struct gs_nvml *nvml, const char *gpu_uuid, const char *uuid, struct gs_probe *probe);

#endif
