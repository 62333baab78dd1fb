/* Reads what labels tell besides the inventory. */
#ifndef GPUSHARE_GPU_LABEL_FACTS_H
#define GPUSHARE_GPU_LABEL_FACTS_H

#include "core/labels/labels.h"
#include "gpu/nvml.h"

/* Fills `facts` (empty before) but for the machine and the start, which are not the GPUs' to tell. Facts that can't be
 * read stay unknown; a device that does not answer now keeps those in `previous`. Makes a few NVML calls for each
 * device of `inventory`, so no event loop calls it. */
void gs_label_facts_read(const struct gs_nvml *nvml, const char *sysfs, const struct gs_inventory *inventory,
			 const struct gs_label_facts *previous, struct gs_label_facts *facts);

/* Finds the hypervisor's driver in a virtual GPU's PCI configuration space: a vendor-specific capability that says "VF",
 * with records of which number 0 holds version and branch, ten bytes each. False when there is none; then the texts are
 * empty. Any bytes are safe. */
bool gs_vgpu_host_driver(const uint8_t *config, size_t length, char version[16], char branch[16]);

#endif
