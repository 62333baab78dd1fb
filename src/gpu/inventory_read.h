/* Reads what hardware there is into a gs_inventory. */
#ifndef GPUSHARE_GPU_INVENTORY_READ_H
#define GPUSHARE_GPU_INVENTORY_READ_H

#include <stdbool.h>

#include "base/vec.h"
#include "core/share/inventory.h"
#include "gpu/nvml.h"

struct gs_problems {
	char **items;
	size_t count, capacity;
};
void gs_problems_free(struct gs_problems *problems);

/* Where to look beside NVML. `driver_roots` ends with NULL: the folders below which the driver's
 * proc/driver/nvidia-caps/mig-minors may lie ("" for the system's own); the first that has it counts. */
struct gs_inventory_places {
	const char *sysfs;
	const char *driver_roots[4];
};

/* GPUs in NVML's order. One that can't be read does not cost the others: it is taken over from `previous`, because
 * a GPU that fell off the bus comes back with its UUID and its shares must keep their ids; where it was never known it
 * is left out, and stands in `unread`. A value that can't be read for now stays as it was. Each failure adds a sentence to `problems`; a value
 * that the driver does not offer is no failure. No two GPUs have the same UUID. NUMA nodes come from SYSFS/bus/pci/devices, else
 * from NVML's memory affinity. MIG devices of a GPU follow it in NVML's order; while they can't all be read, those of
 * `previous` stay. Link scores are taken from `previous` while the set of GPUs is the same.
 * `inventory` is empty before. Fails only when NVML can't even count GPUs. */
int gs_inventory_read(const struct gs_nvml *nvml, const struct gs_inventory_places *places,
		      const struct gs_inventory *previous, struct gs_inventory *inventory, struct gs_problems *problems,
		      struct gs_error *err);

/* Whether NVML shows other GPUs than `known`, other compute modes, MIG modes or MIG devices, at the price of four cheap calls for
 * each GPU and two for each place of a MIG device. GPUs that do not answer are taken for known ones. */
bool gs_inventory_differs(const struct gs_nvml *nvml, const struct gs_inventory *known);

#endif
