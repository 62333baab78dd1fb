/* Which of a node's GPUs and MIG instances a program sees, in its order. */
#ifndef GPUSHARE_SIM_CUDA_FOUND_H
#define GPUSHARE_SIM_CUDA_FOUND_H

#include "sim/mig.h"
#include "sim/mps/mps.h"
#include "sim/state.h"

struct simcu_found {
	struct sim_gpu gpu;
	uint32_t slot;
	struct sim_mig mig;           /* valid in MIG mode */
	struct sim_mig_name instance; /* serial 0: the GPU is meant, whole */
	char uuid[48];                /* of the GPU or the instance */
};

/* All that is there and works, as CUDA_VISIBLE_DEVICES (`visible`, NULL: unset) and CUDA_DEVICE_ORDER (`by_bus`) choose
 * from it. With `allowed` only those, counted in that order. Fills `found` (SIM_GPUS_MAX of them), returns how many. */
size_t simcu_find_devices(struct sim_node *node, const char *visible, bool by_bus, const struct mps_device *allowed,
			  size_t allowed_count, struct simcu_found *found);

#endif
