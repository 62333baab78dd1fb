/* How well GPUs talk to each other, in NVIDIA's pair scores (see gs_inventory.link_score). */
#ifndef GPUSHARE_GPU_LINKS_H
#define GPUSHARE_GPU_LINKS_H

#include "core/share/inventory.h"
#include "gpu/nvml.h"

/* Fills scores[a * count + b]. A NULL handle is a GPU that can't be asked: its scores are 0. Links into an NVSwitch
 * count for every pair of GPUs that both have such links, as many as the one with fewer has. */
void gs_links_read(const struct gs_nvml *nvml, const struct gs_gpu *gpus, const nvmlDevice_t *handles, size_t count,
		   uint32_t *scores);

#endif
