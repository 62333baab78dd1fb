/* The needs of sharing by MPS beyond the shares themselves. Pure. */
#ifndef GPUSHARE_STRATEGY_MPS_H
#define GPUSHARE_STRATEGY_MPS_H

#include "base/vec.h"
#include "core/share/share.h"
#include "mps/mps_daemons.h"

/* Clients that MPS takes on a device: 16 before Volta, 48 from there on (compute capability 7.0), 60 from CUDA 13.1
 * (`cuda_version` as NVML gives it, 13010), and as much less in a MIG device as it has fewer compute slices (NVIDIA,
 * "Multi-Process Service"). */
unsigned gs_mps_clients_max(const struct gs_gpu *gpu, const struct gs_device *device, int cuda_version);

/* The directory, below flags.mpsRoot, of the daemon that serves a share. */
void gs_mps_key(const struct gs_inventory *inventory, const struct gs_resource_device *on, const struct gs_share *share,
		char key[GS_MPS_KEY_SIZE]);

/* The daemons that a plan needs; free with GS_VEC_FREE. */
struct gs_mps_specs {
	struct gs_mps_spec *items;
	size_t count, capacity;
};
void gs_mps_specs_of(const struct gs_plan *plan, const struct gs_inventory *inventory, struct gs_mps_specs *specs);

#endif
