/* What sharing by MPS needs beyond the shares themselves. Pure. */
#ifndef GPUSHARE_STRATEGY_MPS_H
#define GPUSHARE_STRATEGY_MPS_H

#include "base/vec.h"
#include "core/share/share.h"
#include "core/usage/usage.h"
#include "mps/mps_daemons.h"
#include "strategy/life.h"

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

/* The group of a device's shares that MPS divides, or NULL. */
const struct gs_usage_group *gs_mps_group(const struct gs_usage *usage, uint32_t device);
/* Processes on devices that MPS shares, those with shares first, each by GPU. MPS's own servers are none. */
void gs_mps_clients(const struct gs_usage *usage, const struct gs_mps_status *daemons, size_t count,
		    gs_strategy_client *tell, void *user);
/* How many of them this one of the control daemons serves. Those without a share count where it is their device's only one. */
size_t gs_mps_client_count(const struct gs_usage *usage, const struct gs_mps_status *daemons, size_t count,
			   size_t which);

#endif
