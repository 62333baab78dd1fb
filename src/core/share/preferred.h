/* Which shares a container should get, of those that are free: the answer to GetPreferredAllocation. */
#ifndef GPUSHARE_CORE_PREFERRED_H
#define GPUSHARE_CORE_PREFERRED_H

#include "core/share/share.h"

/* Memory that is kept from call to call; all zeros at first. */
struct gs_preferred_scratch {
	uint8_t *marks;
	size_t mark_capacity;
	struct gs_preferred_device *devices;
	size_t device_capacity;
};
void gs_preferred_scratch_free(struct gs_preferred_scratch *scratch);

/* Chooses `size` of the `available` shares (positions in resource->shares, each once), `must_include` among them, and
 * writes their positions to `chosen` (room for `size`): what must be included first, then in the order of choice.
 * The same question always gets the same answer; ties go to the GPU, device and replica that come first.
 *
 * How loaded a GPU is follows from what is not available of it, as a part of what it has:
 *   distributed  the least loaded GPU first
 *   packed       the most loaded GPU first
 *   spread       a GPU that this answer does not use yet first, then the least loaded
 *   aligned      one share on each of the GPUs that are linked best among themselves (and of equally good sets the one
 *                that leaves the best linked rest, then the least loaded), then the least loaded
 * MIG devices count for their GPU; within a GPU the same rule chooses the MIG device. A resource of whole GPUs only is
 * always aligned. The best linked set is exact where at most 16 GPUs have something available; beyond that it is a
 * greedy choice improved by exchanges.
 *
 * Errors (GS_ERROR_INPUT): more wanted than available, less wanted than must be included, a position that is out of
 * range or there twice, a must_include that is not available. */
int gs_preferred(struct gs_preferred_scratch *scratch, const struct gs_resource *resource,
		 const struct gs_inventory *inventory, enum gs_allocation_policy policy, const uint32_t *available,
		 size_t available_count, const uint32_t *must_include, size_t must_include_count, size_t size,
		 uint32_t *chosen, struct gs_error *err);

#endif
