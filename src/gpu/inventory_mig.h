/* The devices of an inventory: each GPU, and the MIG devices on it. */
#ifndef GPUSHARE_GPU_INVENTORY_MIG_H
#define GPUSHARE_GPU_INVENTORY_MIG_H

#include <stdbool.h>

#include "gpu/inventory_read.h"

/* Fills inventory->devices from its GPUs; handles[i] is NULL where inventory->gpus[i] can't be asked now. */
void gs_inventory_add_devices(const struct gs_nvml *nvml, const char *const *driver_roots,
			      const struct gs_inventory *previous, const nvmlDevice_t *handles,
			      struct gs_inventory *inventory, struct gs_problems *problems);

/* Whether a GPU of `known` has another MIG mode or other MIG devices now. */
bool gs_inventory_mig_differs(const struct gs_nvml *nvml, nvmlDevice_t handle, const struct gs_inventory *known,
			      const struct gs_gpu *gpu);

/* The minor of a capability's device node (/dev/nvidia-caps/nvidia-cap<minor>) in the text of the driver's mig-minors,
 * whose lines are "gpu0/gi1/access 12" and "gpu0/gi1/ci0/access 13"; `entry` is what stands before the blank. 0 when it
 * is not listed. */
unsigned gs_mig_minor(const char *text, const char *entry);

/* The profile in the name that NVML has for a MIG device ("NVIDIA A100-SXM4-80GB MIG 1g.10gb"). Where there is none,
 * it is made from the sizes, as NVIDIA's go-nvlib does: memory in eighths of the GPU's, in whole GB of its own size. */
void gs_mig_profile_name(const char *device_name, const nvmlDeviceAttributes_t *attributes, uint64_t gpu_memory_bytes,
			 char *profile, size_t size);

#endif
