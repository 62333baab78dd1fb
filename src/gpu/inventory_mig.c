#include "gpu/inventory_mig.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

enum {
	MINORS_BYTES_MAX = 1024 * 1024, /* 32 GPUs with 15 instances of 8 take 110 KiB */
	PLACES_MAX = 64,                /* MIG devices of one GPU: 7 or 12 on what there is */
};

unsigned gs_mig_minor(const char *text, const char *entry)
{
	size_t length = strlen(entry);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, entry, length) != 0 || line[length] != ' ')
			continue;
		unsigned long minor = strtoul(line + length, NULL, 10);
		return minor <= 1u << 20 ? (unsigned)minor : 0; /* the kernel's minors have 20 bits */
	}
	return 0;
}

/* NULL when no root has it: a driver without MIG, or a container that does not see it. */
static char *read_minors(const char *const *driver_roots)
{
	for (size_t i = 0; driver_roots[i]; i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/proc/driver/nvidia-caps/mig-minors", driver_roots[i]);
		size_t length;
		char *text = gs_read_file_again(path, MINORS_BYTES_MAX, &length, NULL);
		if (text)
			return text;
	}
	return NULL;
}

static const char *skip_number(const char *text)
{
	const char *end = text;
	while (isdigit((unsigned char)*end))
		end++;
	return end == text ? NULL : end;
}

/* "3g.40gb", "1c.3g.40gb", "1g.10gb+me", "1g.24gb-me", "1g.24gb+me.all" */
static bool is_profile(const char *text)
{
	const char *end = skip_number(text);
	if (end && strncmp(end, "c.", 2) == 0)
		end = skip_number(end + 2);
	if (!end || strncmp(end, "g.", 2) != 0)
		return false;
	end = skip_number(end + 2);
	if (!end || strncmp(end, "gb", 2) != 0)
		return false;
	end += 2;
	if (!*end)
		return true;
	return (*end == '+' || *end == '-') && isalnum((unsigned char)end[1]) &&
	       strspn(end + 1, "abcdefghijklmnopqrstuvwxyz0123456789.,") == strlen(end + 1);
}

void gs_mig_profile_name(const char *device_name, const nvmlDeviceAttributes_t *attributes, uint64_t gpu_memory_bytes,
			 char *profile, size_t size)
{
	static const char mark[] = "MIG ";
	const uint64_t gib = 1ull << 30;
	const char *last = NULL;

	for (const char *at = device_name; (at = strstr(at, mark)); at += strlen(mark))
		last = at + strlen(mark);
	if (last && strlen(last) < size && is_profile(last)) {
		snprintf(profile, size, "%s", last);
		return;
	}
	uint64_t whole_gb = (gpu_memory_bytes + gib - 1) / gib, bytes = attributes->memorySizeMB << 20;
	uint64_t eighths = gpu_memory_bytes && bytes <= gpu_memory_bytes
				   ? (8 * bytes + gpu_memory_bytes - 1) / gpu_memory_bytes
				   : 8;
	unsigned long long gb = (eighths * whole_gb + 4) / 8;
	if (attributes->computeInstanceSliceCount != attributes->gpuInstanceSliceCount)
		snprintf(profile, size, "%uc.%ug.%llugb", attributes->computeInstanceSliceCount,
			 attributes->gpuInstanceSliceCount, gb);
	else
		snprintf(profile, size, "%ug.%llugb", attributes->gpuInstanceSliceCount, gb);
}

static nvmlReturn_t read_mig_device(const struct gs_nvml *nvml, nvmlDevice_t handle, const struct gs_gpu *gpu,
				    struct gs_device *device, const char **call)
{
	nvmlDeviceAttributes_t attributes = {0};
	char name[GS_GPU_NAME_SIZE] = "";
	nvmlReturn_t code;
	*call = "nvmlDeviceGetUUID of a MIG device";
	if ((code = GS_NVML(nvml, DeviceGetUUID, handle, device->uuid, sizeof device->uuid)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetGpuInstanceId";
	if ((code = GS_NVML(nvml, DeviceGetGpuInstanceId, handle, &device->gpu_instance)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetComputeInstanceId";
	if ((code = GS_NVML(nvml, DeviceGetComputeInstanceId, handle, &device->compute_instance)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetAttributes_v2";
	if ((code = GS_NVML(nvml, DeviceGetAttributes, handle, &attributes)) != NVML_SUCCESS)
		return code;
	*call = "nvmlDeviceGetName of a MIG device";
	code = GS_NVML(nvml, DeviceGetName, handle, name, sizeof name);
	if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_SUPPORTED)
		return code;
	name[sizeof name - 1] = '\0';
	device->uuid[sizeof device->uuid - 1] = '\0';
	gs_mig_profile_name(name, &attributes, gpu->memory_bytes, device->mig_profile, sizeof device->mig_profile);
	device->memory_bytes = attributes.memorySizeMB << 20;
	return *device->uuid ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

/* The driver answers these for a place where there is no MIG device. */
static bool is_empty_place(nvmlReturn_t code)
{
	return code == NVML_ERROR_NOT_FOUND || code == NVML_ERROR_INVALID_ARGUMENT;
}

struct reading {
	const struct gs_nvml *nvml;
	const char *const *driver_roots;
	char *minors;
	bool minors_read;
	struct gs_inventory *inventory;
	size_t capacity;
};

static void find_capabilities(struct reading *reading, const struct gs_gpu *gpu, struct gs_device *device)
{
	char entry[64];
	if (!reading->minors_read)
		reading->minors = read_minors(reading->driver_roots);
	reading->minors_read = true;
	if (!reading->minors || gpu->minor < 0)
		return;
	snprintf(entry, sizeof entry, "gpu%d/gi%u/access", gpu->minor, device->gpu_instance);
	device->gi_cap = gs_mig_minor(reading->minors, entry);
	snprintf(entry, sizeof entry, "gpu%d/gi%u/ci%u/access", gpu->minor, device->gpu_instance,
		 device->compute_instance);
	device->ci_cap = gs_mig_minor(reading->minors, entry);
}

static struct gs_device *append(struct reading *reading)
{
	struct gs_inventory *inventory = reading->inventory;
	if (inventory->device_count == reading->capacity) {
		reading->capacity = reading->capacity * 2 + 16;
		inventory->devices = gs_reallocarray(inventory->devices, reading->capacity, sizeof *inventory->devices);
	}
	struct gs_device *device = &inventory->devices[inventory->device_count++];
	*device = (struct gs_device){.gpu_instance = UINT32_MAX, .compute_instance = UINT32_MAX};
	return device;
}

static void append_gpu(struct reading *reading, size_t which)
{
	const struct gs_gpu *gpu = &reading->inventory->gpus[which];
	struct gs_device *device = append(reading);
	memcpy(device->uuid, gpu->uuid, sizeof device->uuid);
	snprintf(device->index, sizeof device->index, "%u", gpu->index);
	device->gpu = (uint32_t)which;
	device->memory_bytes = gpu->memory_bytes;
}

/* All or nothing: half a list would withdraw devices that are still there. */
static nvmlReturn_t append_mig_devices(struct reading *reading, size_t which, nvmlDevice_t handle, const char **call)
{
	const struct gs_nvml *nvml = reading->nvml;
	const struct gs_gpu *gpu = &reading->inventory->gpus[which];
	size_t before = reading->inventory->device_count;
	uint32_t places = 0;
	*call = "nvmlDeviceGetMaxMigDeviceCount";
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetMaxMigDeviceCount, handle, &places);
	for (uint32_t i = 0; code == NVML_SUCCESS && i < places && i < PLACES_MAX; i++) {
		nvmlDevice_t mig;
		*call = "nvmlDeviceGetMigDeviceHandleByIndex";
		code = GS_NVML(nvml, DeviceGetMigDeviceHandleByIndex, handle, i, &mig);
		if (is_empty_place(code)) {
			code = NVML_SUCCESS;
			continue;
		}
		struct gs_device device = {.gpu = (uint32_t)which, .mig = true};
		if (code != NVML_SUCCESS || (code = read_mig_device(nvml, mig, gpu, &device, call)) != NVML_SUCCESS)
			break;
		if (gs_inventory_has(reading->inventory, device.uuid) ||
		    reading->inventory->device_count >= GS_DEVICES_MAX)
			continue;
		snprintf(device.index, sizeof device.index, "%u:%u", gpu->index, i);
		find_capabilities(reading, gpu, &device);
		*append(reading) = device;
	}
	if (code != NVML_SUCCESS)
		reading->inventory->device_count = before;
	return code;
}

static void append_known(struct reading *reading, size_t which, const struct gs_inventory *previous)
{
	const struct gs_gpu *gpu = &reading->inventory->gpus[which];
	for (size_t i = 0; previous && i < previous->device_count; i++) {
		const struct gs_device *known = &previous->devices[i];
		const char *place = strchr(known->index, ':');
		if (!known->mig || !place || strcmp(previous->gpus[known->gpu].uuid, gpu->uuid) != 0)
			continue;
		struct gs_device *device = append(reading);
		*device = *known;
		device->gpu = (uint32_t)which;
		snprintf(device->index, sizeof device->index, "%u%.8s", gpu->index, place);
	}
}

void gs_inventory_add_devices(const struct gs_nvml *nvml, const char *const *driver_roots,
			      const struct gs_inventory *previous, const nvmlDevice_t *handles,
			      struct gs_inventory *inventory, struct gs_problems *problems)
{
	struct reading reading = {.nvml = nvml, .driver_roots = driver_roots, .inventory = inventory};
	for (size_t i = 0; i < inventory->gpu_count; i++) {
		struct gs_gpu *gpu = &inventory->gpus[i];
		const char *call;
		append_gpu(&reading, i);
		if (!gpu->mig_enabled)
			continue;
		nvmlReturn_t code = handles[i] ? append_mig_devices(&reading, i, handles[i], &call) : NVML_SUCCESS;
		if (code != NVML_SUCCESS) {
			struct gs_error err;
			gs_nvml_fail(nvml, code, call, &err);
			*GS_VEC_PUSH(problems) = gs_printf("MIG devices of GPU %u: %s", gpu->index, err.text);
			snprintf(gpu->problem, sizeof gpu->problem, "its MIG devices can't be read: %s", err.text);
		}
		if (code != NVML_SUCCESS || !handles[i])
			append_known(&reading, i, previous);
	}
	free(reading.minors);
}

/* The MIG device of `known` at a place of a GPU, "0:1". */
static const struct gs_device *known_at(const struct gs_inventory *known, const char *index)
{
	for (size_t i = 0; i < known->device_count; i++)
		if (known->devices[i].mig && strcmp(known->devices[i].index, index) == 0)
			return &known->devices[i];
	return NULL;
}

bool gs_inventory_mig_differs(const struct gs_nvml *nvml, nvmlDevice_t handle, const struct gs_inventory *known,
			      const struct gs_gpu *gpu)
{
	uint32_t current = 0, pending = 0, places = 0;
	if (!gpu->mig_capable || GS_NVML(nvml, DeviceGetMigMode, handle, &current, &pending) != NVML_SUCCESS)
		return false;
	if ((current == NVML_DEVICE_MIG_ENABLE) != gpu->mig_enabled)
		return true;
	if (!gpu->mig_enabled || GS_NVML(nvml, DeviceGetMaxMigDeviceCount, handle, &places) != NVML_SUCCESS)
		return false;
	for (uint32_t i = 0; i < places && i < PLACES_MAX; i++) {
		char index[16], uuid[GS_UUID_SIZE] = "";
		nvmlDevice_t mig;
		snprintf(index, sizeof index, "%u:%u", gpu->index, i);
		const struct gs_device *before = known_at(known, index);
		nvmlReturn_t code = GS_NVML(nvml, DeviceGetMigDeviceHandleByIndex, handle, i, &mig);
		if (is_empty_place(code) && before)
			return true;
		if (code != NVML_SUCCESS || GS_NVML(nvml, DeviceGetUUID, mig, uuid, sizeof uuid) != NVML_SUCCESS)
			continue;
		if (!before || strcmp(before->uuid, uuid) != 0)
			return true;
	}
	return false;
}
