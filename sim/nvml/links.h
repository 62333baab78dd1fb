#ifndef GPUSHARE_SIM_NVML_LINKS_H
#define GPUSHARE_SIM_NVML_LINKS_H

#include "sim/nvml/library.h"

struct nvml_link {
	enum { NVML_LINK_DOWN, NVML_LINK_GPU, NVML_LINK_SWITCH } kind;
	uint32_t peer; /* the slot of a GPU, or the number of a switch */
};

/* Where a link that the GPU has (number below model->nvlinks) leads. */
struct nvml_link nvml_link_of(const struct nvml_call *call, uint32_t link);
/* Links that are up. */
uint32_t nvml_links_up(const struct nvml_call *call);
/* One link, one direction. */
uint32_t nvml_link_speed_mbps(const struct sim_model *model);

#endif
