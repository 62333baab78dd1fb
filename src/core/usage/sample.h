/* One sample of a GPU's use, and of its processes, as the driver told it. Plain values; gpu/sample.h reads them. */
#ifndef GPUSHARE_CORE_USAGE_SAMPLE_H
#define GPUSHARE_CORE_USAGE_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/usage/place.h"

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
	char *shares;  /* its GPUSHARE_SHARES, "" without; owned. The process itself may have written it. */
	struct gs_place place;
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
	uint64_t memory_used_bytes, memory_free_bytes,
		memory_total_bytes; /* compute instances of one GPU instance share it */
};

struct gs_gpu_sample {
	int64_t at_ms;  /* when it was read: CLOCK_MONOTONIC */
	unsigned valid; /* enum gs_sample_valid; a figure whose bit is not set is not known */
	/* The driver's own share counts as total, and is neither used nor free. */
	uint64_t memory_used_bytes, memory_free_bytes, memory_total_bytes;
	uint32_t utilization_percent, temperature_c, power_mw;
	struct gs_process_sample *processes; /* ordered by pid */
	size_t process_count;
	struct gs_mig_sample *migs;
	size_t mig_count;
};

#endif
