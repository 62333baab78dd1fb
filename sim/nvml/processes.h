#ifndef GPUSHARE_SIM_NVML_PROCESSES_H
#define GPUSHARE_SIM_NVML_PROCESSES_H

#include "sim/nvml/library.h"

/* A process on a GPU. One that holds several contexts is one entry. */
struct nvml_process {
	uint32_t pid;
	unsigned kinds; /* bits 1 << enum sim_client_kind */
	uint64_t memory_bytes;
	uint32_t busy_permille;
	uint32_t gpu_instance, compute_instance; /* NVML_VALUE_NOT_AVAILABLE_U32 outside MIG, which is SIM_MIG_NONE */
	char name[SIM_PROCESS_NAME_SIZE];
};

enum {
	NVML_KIND_COMPUTE =
		1 << SIM_CLIENT_COMPUTE | 1 << SIM_CLIENT_MPS, /* MPS clients compute too; both lists have them */
	NVML_KIND_GRAPHICS = 1 << SIM_CLIENT_GRAPHICS,
	NVML_KIND_MPS = 1 << SIM_CLIENT_MPS,
	NVML_KIND_ANY = NVML_KIND_COMPUTE | NVML_KIND_GRAPHICS,
};

/* The processes of the call's GPU or MIG device of the given kinds, by pid, with how busy each was over `window_ns`. The list is the
 * caller's to free (NULL when empty). Returns how many, or -1 without memory. */
int nvml_processes(const struct nvml_call *call, unsigned kinds, uint64_t window_ns, struct nvml_process **list);

#endif
