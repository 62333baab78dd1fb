/* Reads what core/usage/sample.h holds. */
#ifndef GPUSHARE_GPU_SAMPLE_H
#define GPUSHARE_GPU_SAMPLE_H

#include "core/usage/sample.h"
#include "gpu/nvml.h"

/* Never fails: values that can't be read are not valid. `proc` is where /proc is mounted. */
void gs_sample_read(const struct gs_nvml *nvml, const char *uuid, const char *proc, struct gs_gpu_sample *sample);
void gs_sample_free(struct gs_gpu_sample *sample);

/* The value of an environment variable of a process at its start; "" when it has none or can't be looked at. Owned by
 * the caller. Reads at most 128 KiB. */
char *gs_process_environment(const char *proc, int pid, const char *variable);
/* The same in the content of /proc/PID/environ, with a NUL behind it. */
char *gs_environment_value(const char *block, size_t length, const char *variable);

#endif
