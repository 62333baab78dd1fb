/* Inventories and configurations for tests. */
#ifndef GPUSHARE_TESTS_FIXTURE_H
#define GPUSHARE_TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "core/share/inventory.h"
#include "core/share/share.h"
#include "strategy/strategies.h"

static inline void fixture_uuid(char *uuid, const char *kind, unsigned number)
{
	snprintf(uuid, GS_UUID_SIZE, "%s-%08x-1111-2222-3333-44444444%04u", kind, number * 2654435761u, number);
}

static inline void fixture_add_device(struct gs_inventory *inventory, const struct gs_device *device)
{
	inventory->devices = gs_reallocarray(inventory->devices, inventory->device_count + 1, sizeof *device);
	inventory->devices[inventory->device_count++] = *device;
}

/* GPUs of 80 GiB; of each, `mig_each` MIG devices. Every pair of GPUs is linked alike. */
static inline struct gs_inventory fixture_inventory(unsigned gpus, unsigned mig_each)
{
	struct gs_inventory inventory = {.gpus = gs_calloc(gpus, sizeof(struct gs_gpu)), .gpu_count = gpus};

	inventory.link_score = gs_calloc((size_t)gpus * gpus, sizeof(uint32_t));
	for (unsigned i = 0; i < gpus; i++) {
		struct gs_gpu *gpu = &inventory.gpus[i];
		fixture_uuid(gpu->uuid, "GPU", i);
		snprintf(gpu->name, sizeof gpu->name, "NVIDIA A100-SXM4-80GB");
		snprintf(gpu->pci_bus_id, sizeof gpu->pci_bus_id, "00000000:%02X:00.0", i + 1);
		gpu->index = i;
		gpu->minor = (int)i;
		gpu->memory_bytes = 80ull << 30;
		gpu->numa_node = i < (gpus + 1) / 2 ? 0 : 1;
		gpu->mig_capable = true;
		gpu->mig_enabled = mig_each > 0;
		struct gs_device device = {.gpu = i, .memory_bytes = gpu->memory_bytes};
		memcpy(device.uuid, gpu->uuid, sizeof device.uuid);
		snprintf(device.index, sizeof device.index, "%u", i);
		fixture_add_device(&inventory, &device);
		for (unsigned j = 0; j < mig_each; j++) {
			struct gs_device mig = {.gpu = i, .mig = true, .memory_bytes = 10ull << 30};
			fixture_uuid(mig.uuid, "MIG", i * 100 + j);
			snprintf(mig.index, sizeof mig.index, "%u:%u", i, j);
			snprintf(mig.mig_profile, sizeof mig.mig_profile, "1g.10gb");
			mig.gi_cap = i * 100 + j * 2 + 3;
			mig.ci_cap = i * 100 + j * 2 + 4;
			fixture_add_device(&inventory, &mig);
		}
		for (unsigned j = 0; j < gpus; j++)
			inventory.link_score[i * gpus + j] = i == j ? 0 : 1200;
	}
	return inventory;
}

/* One time-slicing entry for all devices of a name. The config's pointers belong to the caller's variables. */
static inline struct gs_config fixture_time_slicing(struct gs_sharing_resource *entry, const char *name,
						    unsigned replicas)
{
	struct gs_config config = {0};

	*entry = (struct gs_sharing_resource){.name = (char *)(uintptr_t)name, .replicas = replicas};
	config.time_slicing = (struct gs_sharing){
		.present = true, .fail_requests_greater_than_one = GS_UNSET, .resources = entry, .resource_count = 1};
	config.mps.fail_requests_greater_than_one = GS_UNSET;
	return config;
}

static inline struct gs_plan fixture_plan(const struct gs_config *config, const struct gs_inventory *inventory)
{
	struct gs_plan plan = {0};
	struct gs_error err = {0};

	if (gs_plan_build(config, inventory, gs_strategies, gs_strategy_count, &plan, &err))
		fail_msg("%s", err.text);
	return plan;
}

/* A generator that tests may rely on: the same numbers everywhere. */
static inline uint32_t fixture_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

#endif
