#include "gpu/inventory_read.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/utf8.h"
#include "gpu/inventory_mig.h"
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

/* A driver that never tells a value, as opposed to a GPU that fails to answer now. */
static bool not_offered(nvmlReturn_t code)
{
	return code == NVML_ERROR_NOT_SUPPORTED || code == NVML_ERROR_FUNCTION_NOT_FOUND;
}

/* Reads the values without which a GPU can't be published: 0 or an NVML code, and the call that failed. */
static nvmlReturn_t read_identity(const struct gs_nvml *nvml, uint32_t index, nvmlDevice_t *device, struct gs_gpu *gpu,
				  const char **call)
{
	nvmlMemory_t memory = {0};
	uint32_t minor = 0;
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
	/* WSL has no minor numbers, and boards that share the CPU's memory (GB10) tell no memory of their own. */
	*call = "nvmlDeviceGetMinorNumber";
	code = GS_NVML(nvml, DeviceGetMinorNumber, *device, &minor);
	if (code != NVML_SUCCESS && !not_offered(code))
		return code;
	gpu->minor = code == NVML_SUCCESS ? (int)minor : -1;
	*call = "nvmlDeviceGetMemoryInfo";
	code = GS_NVML(nvml, DeviceGetMemoryInfo, *device, &memory);
	if (code != NVML_SUCCESS && !not_offered(code))
		return code;
	gpu->memory_bytes = code == NVML_SUCCESS ? memory.total : 0;
	gpu->uuid[sizeof gpu->uuid - 1] = '\0';
	gpu->name[sizeof gpu->name - 1] = '\0';
	gs_utf8_make_plain(gpu->name); /* else it could not be told of */
	gpu->index = index;
	return *gpu->uuid ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

/* Where NVML can't read it, the old value stays: only messages depend on it. */
static int read_compute_mode(const struct gs_nvml *nvml, nvmlDevice_t device, int known)
{
	nvmlComputeMode_t mode;
	return GS_NVML(nvml, DeviceGetComputeMode, device, &mode) == NVML_SUCCESS ? (int)mode : known;
}

/* The rest. A value that the driver does not offer stays unknown. One whose call fails for now stays as in `known` (the
 * same GPU earlier, or NULL), so that a passing failure does not change the published devices. The first failure's code
 * and call. */
static nvmlReturn_t read_details(const struct gs_nvml *nvml, const char *sysfs, nvmlDevice_t device,
				 const struct gs_gpu *known, struct gs_gpu *gpu, const char **call)
{
	nvmlPciInfo_t pci = {0};
	uint32_t current = 0, pending = 0;
	int major = 0, minor = 0;
	nvmlReturn_t code, first = NVML_SUCCESS;
	gpu->numa_node = -1;
	code = GS_NVML(nvml, DeviceGetPciInfo, device, &pci);
	if (code == NVML_SUCCESS) {
		snprintf(gpu->pci_bus_id, sizeof gpu->pci_bus_id, "%.*s", (int)sizeof pci.busId - 1, pci.busId);
	} else if (!not_offered(code)) {
		first = code;
		*call = "nvmlDeviceGetPciInfo_v3";
		if (known)
			memcpy(gpu->pci_bus_id, known->pci_bus_id, sizeof gpu->pci_bus_id);
	}
	gpu->numa_node = numa_from_sysfs(sysfs, gpu->pci_bus_id);
	if (gpu->numa_node < 0)
		gpu->numa_node = numa_from_nvml(nvml, device);
	if (gpu->numa_node < 0 && known)
		gpu->numa_node = known->numa_node;
	code = GS_NVML(nvml, DeviceGetCudaComputeCapability, device, &major, &minor);
	if (code != NVML_SUCCESS && !not_offered(code) && first == NVML_SUCCESS) {
		first = code;
		*call = "nvmlDeviceGetCudaComputeCapability";
	}
	gpu->compute_major = code == NVML_SUCCESS ? major : known ? known->compute_major : 0;
	gpu->compute_minor = code == NVML_SUCCESS ? minor : known ? known->compute_minor : 0;
	code = GS_NVML(nvml, DeviceGetMigMode, device, &current, &pending);
	if (code == NVML_SUCCESS) {
		gpu->mig_capable = true;
		gpu->mig_enabled = current == NVML_DEVICE_MIG_ENABLE;
	} else if (!not_offered(code)) {
		if (first == NVML_SUCCESS) {
			first = code;
			*call = "nvmlDeviceGetMigMode";
		}
		gpu->mig_capable = known && known->mig_capable;
		gpu->mig_enabled = known && known->mig_enabled;
		gpu->mig_unknown = !known || known->mig_unknown;
	}
	gpu->compute_mode = read_compute_mode(nvml, device, known ? known->compute_mode : -1);
	return first;
}

/* Display-only adapters of DGX stations are no compute devices; NVIDIA's device plugin skips them by name too. */
static bool is_display_only(const struct gs_gpu *gpu)
{
	return strstr(gpu->name, "DGX Display") != NULL;
}

static const struct gs_gpu *find_gpu(const struct gs_inventory *inventory, const char *uuid)
{
	for (size_t i = 0; inventory && i < inventory->gpu_count; i++)
		if (strcmp(inventory->gpus[i].uuid, uuid) == 0)
			return &inventory->gpus[i];
	return NULL;
}

/* NVML's list while it is read: what stands at each index. */
struct slot {
	nvmlDevice_t handle;
	struct gs_gpu gpu;
	enum { SLOT_READ, SLOT_SKIPPED, SLOT_LEFT_OUT, SLOT_UNREADABLE } state;
};

static bool is_claimed(const struct slot *slots, uint32_t count, const char *uuid)
{
	for (uint32_t i = 0; i < count; i++)
		if (slots[i].state == SLOT_READ && strcmp(slots[i].gpu.uuid, uuid) == 0)
			return true;
	return false;
}

/* Whether a GPU of `previous` may be an unreadable slot: none that another slot is, or that NVML says it does not know. */
static bool is_candidate(const struct gs_nvml *nvml, const struct slot *slots, uint32_t count, const struct gs_gpu *gpu)
{
	nvmlDevice_t device;
	return !is_claimed(slots, count, gpu->uuid) &&
	       GS_NVML(nvml, DeviceGetHandleByUUID, gpu->uuid, &device) != NVML_ERROR_NOT_FOUND;
}

/* Which GPU of `previous` an unreadable slot is. Indices shift when a GPU before it is unplugged, so the same index is only
 * the better guess. NULL: none is left. */
static const struct gs_gpu *guess_gpu(const struct gs_nvml *nvml, const struct gs_inventory *previous,
				      const struct slot *slots, uint32_t count, uint32_t index, bool same_index)
{
	const struct gs_gpu *guess = NULL;
	for (size_t i = 0; i < previous->gpu_count; i++) {
		const struct gs_gpu *gpu = &previous->gpus[i];
		if ((same_index && gpu->index != index) || !is_candidate(nvml, slots, count, gpu))
			continue;
		if (gpu->index == index)
			return gpu;
		if (!guess)
			guess = gpu;
	}
	return guess;
}

/* Whether more slots are unreadable than there are GPUs for them: then some slot was never read before, and must not be
 * taken for another's GPU. */
static bool has_strangers(const struct gs_nvml *nvml, const struct gs_inventory *previous, const struct slot *slots,
			  uint32_t count)
{
	size_t unreadable = 0, candidates = 0;
	for (uint32_t i = 0; i < count; i++)
		unreadable += slots[i].state == SLOT_UNREADABLE;
	for (size_t i = 0; unreadable && i < previous->gpu_count; i++)
		candidates += is_candidate(nvml, slots, count, &previous->gpus[i]);
	return unreadable > candidates;
}

static void take_over(struct slot *slot, const struct gs_gpu *known, uint32_t index)
{
	char problem[GS_GPU_PROBLEM_SIZE];
	memcpy(problem, slot->gpu.problem, sizeof problem);
	slot->gpu = *known;
	slot->gpu.index = index;
	memcpy(slot->gpu.problem, problem, sizeof problem);
	slot->state = SLOT_READ;
}

/* Unreadable slots become the GPUs that they were. */
static void take_over_known(const struct gs_nvml *nvml, const struct gs_inventory *previous, struct slot *slots,
			    uint32_t count)
{
	if (!previous)
		return;
	for (int pass = has_strangers(nvml, previous, slots, count) ? 0 : 1; pass < 2; pass++)
		for (uint32_t i = 0; i < count; i++) {
			if (slots[i].state != SLOT_UNREADABLE)
				continue;
			const struct gs_gpu *known = guess_gpu(nvml, previous, slots, count, i, pass == 0);
			if (known)
				take_over(&slots[i], known, i);
		}
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

/* A GPU that can't be asked now keeps the scores that it had. */
static void read_links(const struct gs_nvml *nvml, const struct gs_inventory *previous, const nvmlDevice_t *handles,
		       struct gs_inventory *inventory)
{
	size_t count = inventory->gpu_count;
	gs_links_read(nvml, inventory->gpus, handles, count, inventory->link_score);
	for (size_t a = 0; previous && previous->link_score && a < count; a++) {
		const struct gs_gpu *old_a = find_gpu(previous, inventory->gpus[a].uuid);
		for (size_t b = 0; old_a && b < count; b++) {
			const struct gs_gpu *old_b = find_gpu(previous, inventory->gpus[b].uuid);
			if (old_b && (!handles[a] || !handles[b]))
				inventory->link_score[a * count + b] =
					previous->link_score[(size_t)(old_a - previous->gpus) * previous->gpu_count +
							     (size_t)(old_b - previous->gpus)];
		}
	}
}

static void add_problem(const struct gs_nvml *nvml, struct gs_problems *problems, struct gs_gpu *gpu, uint32_t index,
			nvmlReturn_t code, const char *call)
{
	struct gs_error err;
	gs_nvml_fail(nvml, code, call, &err);
	*GS_VEC_PUSH(problems) = gs_printf("GPU %u: %s", index, err.text);
	snprintf(gpu->problem, sizeof gpu->problem, "%s", err.text);
}

static void read_slot(const struct gs_nvml *nvml, const char *sysfs, uint32_t index,
		      const struct gs_inventory *previous, struct slot *slots, struct gs_problems *problems)
{
	struct slot *slot = &slots[index];
	const char *call = "";
	nvmlReturn_t code = read_identity(nvml, index, &slot->handle, &slot->gpu, &call);
	if (code != NVML_SUCCESS) {
		slot->state = SLOT_UNREADABLE;
		slot->handle = NULL;
		add_problem(nvml, problems, &slot->gpu, index, code, call);
		return;
	}
	if (is_display_only(&slot->gpu)) {
		slot->state = SLOT_SKIPPED;
		return;
	}
	/* Ids of shares are made of UUIDs: two GPUs with one UUID can't both be published. */
	if (is_claimed(slots, index, slot->gpu.uuid)) {
		slot->state = SLOT_LEFT_OUT;
		snprintf(slot->gpu.problem, sizeof slot->gpu.problem, "left out, another GPU has its UUID %s",
			 slot->gpu.uuid);
		*GS_VEC_PUSH(problems) = gs_printf("GPU %u: %s", index, slot->gpu.problem);
		return;
	}
	code = read_details(nvml, sysfs, slot->handle, find_gpu(previous, slot->gpu.uuid), &slot->gpu, &call);
	if (code != NVML_SUCCESS)
		add_problem(nvml, problems, &slot->gpu, index, code, call);
	slot->state = SLOT_READ;
}

static void add_unread(struct gs_inventory *inventory, uint32_t index, const char *problem)
{
	inventory->unread = gs_reallocarray(inventory->unread, inventory->unread_count + 1, sizeof *inventory->unread);
	struct gs_unread_gpu *unread = &inventory->unread[inventory->unread_count++];
	*unread = (struct gs_unread_gpu){.index = index};
	snprintf(unread->problem, sizeof unread->problem, "%s", problem);
}

int gs_inventory_read(const struct gs_nvml *nvml, const struct gs_inventory_places *places,
		      const struct gs_inventory *previous, struct gs_inventory *inventory, struct gs_problems *problems,
		      struct gs_error *err)
{
	uint32_t count = 0;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetCount, &count);
	if (code != NVML_SUCCESS)
		return gs_nvml_fail(nvml, code, "nvmlDeviceGetCount_v2", err);
	if (count > GS_GPUS_MAX)
		count = GS_GPUS_MAX;
	GS_AUTO_FREE struct slot *slots = gs_calloc(count, sizeof *slots);
	for (uint32_t i = 0; i < count; i++)
		slots[i].state = SLOT_UNREADABLE;
	for (uint32_t i = 0; i < count; i++)
		read_slot(nvml, places->sysfs, i, previous, slots, problems);

	if (GS_NVML(nvml, SystemGetCudaDriverVersion, &inventory->cuda_version) != NVML_SUCCESS)
		inventory->cuda_version = previous ? previous->cuda_version : 0;
	nvmlDevice_t handles[GS_GPUS_MAX] = {0};
	inventory->gpus = gs_calloc(count, sizeof *inventory->gpus);
	take_over_known(nvml, previous, slots, count);
	for (uint32_t i = 0; i < count; i++) {
		if (slots[i].state == SLOT_UNREADABLE || slots[i].state == SLOT_LEFT_OUT)
			add_unread(inventory, i, slots[i].gpu.problem);
		if (slots[i].state != SLOT_READ)
			continue;
		handles[inventory->gpu_count] = slots[i].handle;
		inventory->gpus[inventory->gpu_count++] = slots[i].gpu;
	}
	gs_inventory_add_devices(nvml, places->driver_roots, previous, handles, inventory, problems);
	size_t cells = inventory->gpu_count * inventory->gpu_count;
	inventory->link_score = gs_calloc(cells, sizeof *inventory->link_score);
	if (previous && previous->link_score && same_gpus(previous, inventory))
		memcpy(inventory->link_score, previous->link_score, cells * sizeof *inventory->link_score);
	else
		read_links(nvml, previous, handles, inventory);
	return 0;
}

bool gs_inventory_differs(const struct gs_nvml *nvml, const struct gs_inventory *known)
{
	uint32_t count = 0;
	if (GS_NVML(nvml, DeviceGetCount, &count) != NVML_SUCCESS)
		return false; /* a driver that can't count now has not lost anything yet; probes will tell */
	if (count > GS_GPUS_MAX)
		count = GS_GPUS_MAX;
	size_t accounted = 0;
	for (uint32_t i = 0; i < count; i++) {
		nvmlDevice_t device;
		struct gs_gpu gpu = {0};
		if (GS_NVML(nvml, DeviceGetHandleByIndex, i, &device) != NVML_SUCCESS ||
		    GS_NVML(nvml, DeviceGetUUID, device, gpu.uuid, sizeof gpu.uuid) != NVML_SUCCESS) {
			accounted++; /* does not answer now: it may be any of those that are known */
			continue;
		}
		const struct gs_gpu *before = find_gpu(known, gpu.uuid);
		if (before && before->index != i)
			return true;
		if (before && read_compute_mode(nvml, device, before->compute_mode) != before->compute_mode)
			return true;
		if (before && gs_inventory_mig_differs(nvml, device, known, before))
			return true;
		if (before)
			accounted++;
		else if (GS_NVML(nvml, DeviceGetName, device, gpu.name, sizeof gpu.name) != NVML_SUCCESS ||
			 !is_display_only(&gpu))
			return true;
	}
	return accounted < known->gpu_count;
}
