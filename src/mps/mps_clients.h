/* The clients of MPS: processes on the devices that it shares, and the control daemon that serves each. Pure. */
#ifndef GPUSHARE_MPS_MPS_CLIENTS_H
#define GPUSHARE_MPS_MPS_CLIENTS_H

#include "core/usage/usage.h"
#include "mps/mps_daemons.h"

/* The group of a device's shares that `mps`, the strategy, divides, or NULL. */
const struct gs_usage_group *gs_mps_group(const struct gs_usage *usage, const struct gs_strategy *mps, uint32_t device);
/* Processes on devices that MPS shares, those with shares first, each by GPU. MPS's own servers are none. */
void gs_mps_clients(const struct gs_usage *usage, const struct gs_strategy *mps, const struct gs_mps_status *daemons,
		    size_t count, gs_usage_client *tell, void *user);
/* How many of them this control daemon serves. Those without a share count where it is their device's only one. */
size_t gs_mps_client_count(const struct gs_usage *usage, const struct gs_strategy *mps,
			   const struct gs_mps_status *daemons, size_t count, size_t which);

#endif
