/* What a process's /proc tells of it: the first line is its GPUSHARE_SHARES, the rest its cgroups. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/usage/usage.h"
#include "strategy/strategies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gs_gpu gpu = {.uuid = "GPU-1", .memory_bytes = 1 << 20};
static struct gs_device devices[] = {{.uuid = "GPU-1", .gpu_instance = UINT32_MAX}, {.uuid = "MIG-1", .mig = true}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct gs_inventory inventory = {.gpus = &gpu, .gpu_count = 1, .devices = devices, .device_count = 2};
	struct gs_resource resource = {.name = "nvidia.com/gpu"};
	struct gs_plan plan = {.resources = &resource, .resource_count = 1};
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	size_t length = end ? (size_t)(end - data) : size;
	char *text = gs_strndup((const char *)data, length);
	struct gs_process_sample processes[] = {{.pid = 1, .shares = text, .memory_valid = true, .memory_bytes = size},
						{.pid = 2,
						 .shares = text,
						 .memory_valid = true,
						 .memory_bytes = UINT64_MAX,
						 .gpu_instance = UINT32_MAX}};
	struct gs_gpu_sample sample = {.valid = GS_SAMPLE_MEMORY | GS_SAMPLE_PROCESSES,
				       .memory_total_bytes = 1 << 20,
				       .memory_free_bytes = 1 << 10,
				       .processes = processes,
				       .process_count = 2};
	const struct gs_gpu_sample *samples = &sample;
	struct gs_usage usage;
	for (uint32_t i = 0; i < 2; i++) {
		gs_resource_add_device(&resource, &inventory, i, 4);
		resource.devices[i].strategy = gs_strategies[0];
	}
	processes[0].place = gs_place_read(end ? (const char *)end : "", size - length);
	gs_usage_begin(&usage, &plan, &inventory, (struct gs_usage_time){1, 1});
	gs_usage_attribute(&usage, &samples);
	const struct gs_balance *memory = &usage.gpus[0].memory_bytes;
	if (memory->attributed.value + memory->unattributed.value + memory->idle.value != memory->total.value)
		abort();
	gs_usage_free(&usage);
	free(resource.shares);
	free(resource.devices);
	free(resource.slots);
	free(text);
	return 0;
}
