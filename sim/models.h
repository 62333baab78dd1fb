/* What the simulator knows of each GPU model: one table. */
#ifndef GPUSHARE_SIM_MODELS_H
#define GPUSHARE_SIM_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_model {
	const char *spec_name;       /* "A100-80GB": what a SPEC says */
	const char *name;            /* "NVIDIA A100-SXM4-80GB" */
	const char *brand;           /* "Nvidia" ... as nvidia-smi prints it comes from brand_code */
	uint32_t brand_code;         /* nvmlBrandType_t */
	uint32_t architecture;       /* nvmlDeviceArchitecture_t */
	uint32_t pci_device_id;      /* 0x20B210DE */
	uint32_t pci_subsystem_id;
	uint32_t compute_major, compute_minor;
	uint32_t multiprocessors, cores;
	uint64_t memory_total;       /* bytes as NVML reports "total" */
	uint64_t memory_reserved;
	uint64_t bar1_total;
	uint32_t memory_bus_bits;
	uint32_t clock_sm_idle, clock_sm_max, clock_memory_max, clock_video_max; /* MHz */
	uint32_t power_idle_mw, power_limit_mw, power_min_mw, power_max_mw;
	uint32_t temperature_idle, temperature_load, temperature_slowdown, temperature_shutdown;
	uint32_t pcie_generation, pcie_width;
	uint32_t nvlinks, nvlink_version; /* links per GPU; 0: none */
	uint32_t fans;               /* 0: passive */
	bool ecc, mig_capable, display;
	const char *part_number, *vbios;
};

extern const struct sim_model sim_models[];
extern const size_t sim_model_count;
/* NULL when unknown. Case does not matter. */
const struct sim_model *sim_model_by_name(const char *spec_name);

#endif
