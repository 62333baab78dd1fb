/* One sample of a GPU's use, and of who uses it. */
#ifndef GPUSHARE_GPU_SAMPLE_H
#define GPUSHARE_GPU_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu/nvml.h"

enum {
	GS_PROCESSES_MAX = 1024, /* of one GPU; more are not listed */
	GS_MIGS_MAX = 64,
};

enum gs_sample_valid {
	GS_SAMPLE_MEMORY = 1 << 0,
	GS_SAMPLE_UTILIZATION = 1 << 1,
	GS_SAMPLE_TEMPERATURE = 1 << 2,
	GS_SAMPLE_POWER = 1 << 3,
	GS_SAMPLE_PROCESSES = 1 << 4, /* the list of compute processes; without it, no process does not mean none */
};

struct gs_process_sample {
	int pid;
	char name[64]; /* the kernel's or NVML's name; "" when the process is gone */
	char *shares;  /* its GPUSHARE_SHARES, "" without; owned */
	bool memory_valid, utilization_valid;
	uint64_t memory_bytes;
	uint32_t utilization_percent; /* of the GPU's SMs, over the last two seconds or so */
	uint32_t gpu_instance,
		compute_instance; /* NVML's ids of the MIG device it runs on; UINT32_MAX: none, or unknown */
};

/* A MIG device of the GPU. NVML tells no utilisation of it. */
struct gs_mig_sample {
	uint32_t gpu_instance, compute_instance;
	bool memory_valid;
	uint64_t memory_used_bytes, memory_total_bytes; /* compute instances of one GPU instance share it */
};

struct gs_gpu_sample {
	unsigned valid;                                 /* enum gs_sample_valid; what is not set is not known */
	uint64_t memory_used_bytes, memory_total_bytes; /* the driver's own share counts as total, not as used */
	uint32_t utilization_percent, temperature_c, power_mw;
	struct gs_process_sample *processes; /* ordered by pid */
	size_t process_count;
	struct gs_mig_sample *migs;
	size_t mig_count;
};

/* Never fails: what can't be read is not valid. `proc` is where /proc is mounted. */
void gs_sample_read(const struct gs_nvml *nvml, const char *uuid, const char *proc, struct gs_gpu_sample *sample);
void gs_sample_free(struct gs_gpu_sample *sample);

/* The value of an environment variable of a process at its start; "" when it has none or can't be looked at. Owned by
 * the caller. Reads at most 128 KiB. */
char *gs_process_environment(const char *proc, int pid, const char *variable);
/* The same in the content of /proc/PID/environ, with a NUL behind it. */
char *gs_environment_value(const char *block, size_t length, const char *variable);

#endif
