/* What nvidia-smi needs beside the documented interface: a table of functions that it asks for by a UUID.
 *
 * The table is undocumented. What stands here was learnt by watching which slots the releases 535 and 550 call and with
 * what; other releases may differ, and then nvidia-smi may misbehave, but no other client asks for it. Build with
 * -Dnvidia_smi=false to leave it out: nvidia-smi then says "Mismatch in versions" and everything else works. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/nvml/processes.h"

static const uint8_t table_id[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
				     0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};

enum {
	SLOTS = 512, /* the table's first word is its size in bytes: more than nvidia-smi asks for */
	SLOT_LOG = 26,
	SLOT_GATE = 72,
	SLOT_HANDLE = 81,
	SLOT_COMPUTE = 213,
	SLOT_MPS = 214,
	SLOT_GRAPHICS = 215,
	SLOT_HOST_PCIE = 230,
};

struct entry {
	uint32_t pid;
	uint64_t memory_bytes;
	uint32_t gpu_instance, compute_instance;
	uint64_t protected_bytes;
	char name[4096];
};
_Static_assert(sizeof(struct entry) == 4128 && offsetof(struct entry, name) == 32, "layout");

static nvmlReturn_t not_supported(void)
{
	return NVML_ERROR_NOT_SUPPORTED;
}

static nvmlReturn_t ignore(void)
{
	return NVML_SUCCESS;
}

static nvmlReturn_t open_gate(nvmlDevice_t device, uint32_t *open)
{
	(void)device;
	if (open)
		*open = 1;
	return NVML_SUCCESS;
}

static nvmlReturn_t handle_by_index(uint32_t index, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static nvmlReturn_t host_pcie_generation(nvmlDevice_t device, uint32_t *generation)
{
	return nvmlDeviceGetMaxPcieLinkGeneration(device, generation);
}

static nvmlReturn_t list(const char *function, nvmlDevice_t device, unsigned kinds, uint32_t *count, struct entry *entries)
{
	GS_CLEANUP(nvml_leave) struct nvml_call call;
	if (nvml_enter_device(&call, function, device, count != NULL) != NVML_SUCCESS) {
		if (count)
			*count = 0;
		return call.code;
	}
	GS_AUTO_FREE struct nvml_process *processes = NULL;
	int found = nvml_processes(&call, kinds, SIM_BUCKET_NS, &processes);
	uint32_t room = *count;
	*count = found > 0 ? (uint32_t)found : 0;
	if (found < 0)
		return NVML_ERROR_MEMORY;
	if (found && (!entries || room < *count))
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (int i = 0; i < found; i++) {
		memset(&entries[i], 0, sizeof entries[i]);
		entries[i].pid = processes[i].pid;
		entries[i].memory_bytes = processes[i].memory_bytes;
		entries[i].gpu_instance = entries[i].compute_instance = NVML_VALUE_NOT_AVAILABLE_U32;
		snprintf(entries[i].name, sizeof entries[i].name, "%s", processes[i].name);
	}
	return NVML_SUCCESS;
}

static nvmlReturn_t list_compute(nvmlDevice_t device, uint32_t *count, struct entry *entries)
{
	return list("export-table compute", device, NVML_KIND_COMPUTE, count, entries);
}

static nvmlReturn_t list_mps(nvmlDevice_t device, uint32_t *count, struct entry *entries)
{
	return list("export-table mps", device, NVML_KIND_MPS, count, entries);
}

static nvmlReturn_t list_graphics(nvmlDevice_t device, uint32_t *count, struct entry *entries)
{
	return list("export-table graphics", device, NVML_KIND_GRAPHICS, count, entries);
}

nvmlReturn_t nvmlInternalGetExportTable(const void **table, const void *id)
{
	typedef void (*slot)(void);
	static union {
		uint64_t size;
		slot slots[SLOTS];
	} made;
	if (!table || !id)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (memcmp(id, table_id, sizeof table_id) != 0)
		return NVML_ERROR_NOT_FOUND;
	/* Filling it twice at once does no harm: the words are the same. */
	for (size_t i = 1; i < SLOTS; i++)
		made.slots[i] = (slot)not_supported;
	made.size = sizeof made;
	made.slots[SLOT_LOG] = (slot)ignore;
	made.slots[SLOT_GATE] = (slot)open_gate;
	made.slots[SLOT_HANDLE] = (slot)handle_by_index;
	made.slots[SLOT_COMPUTE] = (slot)list_compute;
	made.slots[SLOT_MPS] = (slot)list_mps;
	made.slots[SLOT_GRAPHICS] = (slot)list_graphics;
	made.slots[SLOT_HOST_PCIE] = (slot)host_pcie_generation;
	*table = &made;
	return NVML_SUCCESS;
}
