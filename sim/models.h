/* What the simulator knows of each GPU model: one table.
 *
 * The figures are what NVML reports on real boards (memory totals, names and ids as nvidia-smi prints them), not what
 * data sheets say. docs/simulator.md lists the few that are estimates. */
#ifndef GPUSHARE_SIM_MODELS_H
#define GPUSHARE_SIM_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_model {
	const char *spec_name;  /* "A100-80GB": what a SPEC says */
	const char *name;       /* "NVIDIA A100-SXM4-80GB": nvmlDeviceGetName */
	uint32_t brand_code;    /* nvmlBrandType_t */
	uint32_t architecture;  /* nvmlDeviceArchitecture_t */
	uint32_t pci_device_id; /* 0x20B210DE: device id, then vendor id */
	uint32_t pci_subsystem_id;
	uint32_t compute_major, compute_minor;
	uint32_t multiprocessors, cores;
	uint64_t memory_total;    /* bytes as NVML reports "total" */
	uint64_t memory_reserved; /* bytes of it that firmware and driver keep */
	uint64_t bar1_total;      /* bytes */
	uint32_t memory_bus_bits;
	uint32_t clock_sm_idle, clock_memory_idle;                /* MHz, at rest */
	uint32_t clock_sm_max, clock_memory_max, clock_video_max; /* MHz */
	uint32_t power_idle_mw, power_limit_mw, power_min_mw, power_max_mw;
	uint32_t temperature_idle, temperature_load, temperature_slowdown, temperature_shutdown; /* degrees C */
	uint32_t pcie_generation, pcie_width;
	uint32_t nvlinks;           /* links per GPU; 0: none */
	uint32_t nvlink_generation; /* 2 (Volta), 3, 4, 5; 0: none */
	uint32_t fans;              /* 0: passive */
	bool ecc, mig_capable, display;
	const char *part_number, *vbios;
};

extern const struct sim_model sim_models[];
extern const size_t sim_model_count;
/* The model a SPEC names, letter case free; NULL when unknown. */
const struct sim_model *sim_model_by_name(const char *spec_name);
/* The closest known name for a did-you-mean, or NULL. */
const char *sim_model_suggest(const char *typed);

#endif
