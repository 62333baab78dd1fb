#include "gpu/inventory_read.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "gpu/links.h"

void gs_problems_free(struct gs_problems *problems)
{
	for (size_t i = 0; i < problems->count; i++)
		free(problems->items[i]);
	GS_VEC_FREE(problems);
}

/* A decimal (or 0x) number in a one-line file; `fallback` when there is none. */
static long read_number(const char *path, long fallback)
{
	size_t length;
	GS_AUTO_FREE char *text = gs_read_file(path, 64, &length, NULL);
	char *end;
	if (!text)
		return fallback;
	long value = strtol(text, &end, 0);
	return end == text ? fallback : value;
}

/* NVML writes "00000000:3B:00.0", sysfs "0000:3b:00.0". -1 when the folder is missing or is not an NVIDIA device's (a
 * simulated node shares the host's /sys). */
static int numa_from_sysfs(const char *sysfs, const char *bus_id)
{
	enum { NVIDIA = 0x10de };
	size_t length = strlen(bus_id);
	if (length < 12)
		return -1;
	char address[16];
	snprintf(address, sizeof address, "%s", bus_id + length - 12);
	for (char *c = address; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	GS_AUTO_FREE char *vendor = gs_printf("%s/bus/pci/devices/%s/vendor", sysfs, address);
	GS_AUTO_FREE char *node = gs_printf("%s/bus/pci/devices/%s/numa_node", sysfs, address);
	return read_number(vendor, 0) == NVIDIA ? (int)read_number(node, -1) : -1;
}

static int numa_from_nvml(const struct gs_nvml *nvml, nvmlDevice_t device)
{
	enum { WORDS = 16, BITS = CHAR_BIT * sizeof(unsigned long) };
	unsigned long set[WORDS] = {0};
	if (GS_NVML(nvml, DeviceGetMemoryAffinity, device, WORDS, set, NVML_AFFINITY_SCOPE_NODE) != NVML_SUCCESS)
		return -1;
	for (int i = 0; i < WORDS * (int)BITS; i++)
		if (set[i / (int)BITS] >> (i % (int)BITS) & 1)
			return i;
	return -1;
}

/* What a GPU can't be published without: 0 or an NVML code, and which call it was. */
static nvmlReturn_t read_identity(const struct gs_nvml *nvml, uint32_t index, nvmlDevice_t *device, struct gs_gpu *gpu, const char **call)
{
	nvmlMemory_t memory;
	uint32_t minor;
	nvmlReturn_t code;
	*call = "nvmlDeviceGetHandleByIndex_v2";
	if ((code = GS_NVML(nvml, DeviceGetHandleByIndex, index, device)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetUUID";
	if ((code = GS_NVML(nvml, DeviceGetUUID, *device, gpu->uuid, sizeof gpu->uuid)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetName";
	if ((code = GS_NVML(nvml, DeviceGetName, *device, gpu->name, sizeof gpu->name)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetMinorNumber";
	if ((code = GS_NVML(nvml, DeviceGetMinorNumber, *device, &minor)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetMemoryInfo";
	if ((code = GS_NVML(nvml, DeviceGetMemoryInfo, *device, &memory)) != NVML_SUCCESS)
		return code;
	gpu->index = index;
	gpu->minor = (int)minor;
	gpu->memory_bytes = memory.total;
	return NVML_SUCCESS;
}

/* The rest: what is missing stays unknown. */
static void read_details(const struct gs_nvml *nvml, const char *sysfs, nvmlDevice_t device, struct gs_gpu *gpu)
{
	nvmlPciInfo_t pci = {0};
	uint32_t current = 0, pending = 0;
	gpu->numa_node = -1;
	if (GS_NVML(nvml, DeviceGetPciInfo, device, &pci) == NVML_SUCCESS) {
		snprintf(gpu->pci_bus_id, sizeof gpu->pci_bus_id, "%.*s", (int)sizeof pci.busId - 1, pci.busId);
		gpu->numa_node = numa_from_sysfs(sysfs, gpu->pci_bus_id);
	}
	if (gpu->numa_node < 0)
		gpu->numa_node = numa_from_nvml(nvml, device);
	if (GS_NVML(nvml, DeviceGetCudaComputeCapability, device, &gpu->compute_major, &gpu->compute_minor) != NVML_SUCCESS)
		gpu->compute_major = gpu->compute_minor = 0;
	gpu->mig_capable = GS_NVML(nvml, DeviceGetMigMode, device, &current, &pending) == NVML_SUCCESS;
	gpu->mig_enabled = gpu->mig_capable && current == 1;
}

/* Display-only adapters of DGX stations are no compute devices; NVIDIA's device plugin skips them by name too. */
static bool is_display_only(const struct gs_gpu *gpu)
{
	return strstr(gpu->name, "DGX Display") != NULL;
}

static const struct gs_gpu *previously(const struct gs_inventory *previous, uint32_t index)
{
	for (size_t i = 0; previous && i < previous->gpu_count; i++)
		if (previous->gpus[i].index == index)
			return &previous->gpus[i];
	return NULL;
}

static bool same_gpus(const struct gs_inventory *a, const struct gs_inventory *b)
{
	if (a->gpu_count != b->gpu_count)
		return false;
	for (size_t i = 0; i < a->gpu_count; i++)
		if (strcmp(a->gpus[i].uuid, b->gpus[i].uuid) != 0)
			return false;
	return true;
}

static void add_devices(struct gs_inventory *inventory)
{
	inventory->devices = gs_calloc(inventory->gpu_count, sizeof *inventory->devices);
	inventory->device_count = inventory->gpu_count;
	for (size_t i = 0; i < inventory->gpu_count; i++) {
		struct gs_device *device = &inventory->devices[i];
		memcpy(device->uuid, inventory->gpus[i].uuid, sizeof device->uuid);
		snprintf(device->index, sizeof device->index, "%u", inventory->gpus[i].index);
		device->gpu = (uint32_t)i;
		device->memory_bytes = inventory->gpus[i].memory_bytes;
	}
}

int gs_inventory_read(const struct gs_nvml *nvml, const char *sysfs, const struct gs_inventory *previous,
		      struct gs_inventory *inventory, struct gs_problems *problems, struct gs_error *err)
{
	uint32_t count = 0;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetCount, &count);
	if (code != NVML_SUCCESS)
		return gs_nvml_fail(nvml, code, "nvmlDeviceGetCount_v2", err);
	if (count > GS_GPUS_MAX)
		count = GS_GPUS_MAX;
	nvmlDevice_t handles[GS_GPUS_MAX] = {0};
	inventory->gpus = gs_calloc(count, sizeof *inventory->gpus);
	for (uint32_t i = 0; i < count; i++) {
		struct gs_gpu gpu = {0};
		nvmlDevice_t handle = NULL;
		const char *call;
		code = read_identity(nvml, i, &handle, &gpu, &call);
		if (code != NVML_SUCCESS) {
			struct gs_error problem;
			gs_nvml_fail(nvml, code, call, &problem);
			*GS_VEC_PUSH(problems) = gs_printf("GPU %u: %s", i, problem.text);
			const struct gs_gpu *known = previously(previous, i);
			if (!known)
				continue;
			gpu = *known;
			handle = NULL;
		} else if (is_display_only(&gpu)) {
			continue;
		} else {
			read_details(nvml, sysfs, handle, &gpu);
		}
		handles[inventory->gpu_count] = handle;
		inventory->gpus[inventory->gpu_count++] = gpu;
	}
	add_devices(inventory);
	size_t cells = inventory->gpu_count * inventory->gpu_count;
	inventory->link_score = gs_calloc(cells, sizeof *inventory->link_score);
	if (previous && previous->link_score && same_gpus(previous, inventory))
		memcpy(inventory->link_score, previous->link_score, cells * sizeof *inventory->link_score);
	else
		gs_links_read(nvml, inventory->gpus, handles, inventory->gpu_count, inventory->link_score);
	return 0;
}

bool gs_inventory_differs(const struct gs_nvml *nvml, const struct gs_inventory *known)
{
	uint32_t count = 0;
	if (GS_NVML(nvml, DeviceGetCount, &count) != NVML_SUCCESS)
		return false; /* a driver that can't count now has not lost anything yet; probes will tell */
	if (count != known->gpu_count)
		return true;
	for (size_t i = 0; i < known->gpu_count; i++) {
		nvmlDevice_t device;
		char uuid[GS_UUID_SIZE] = "";
		if (GS_NVML(nvml, DeviceGetHandleByIndex, known->gpus[i].index, &device) == NVML_SUCCESS &&
		    GS_NVML(nvml, DeviceGetUUID, device, uuid, sizeof uuid) == NVML_SUCCESS && strcmp(uuid, known->gpus[i].uuid) != 0)
			return true;
	}
	return false;
}
