/* What nvidia-smi needs beside the documented interface: a table of functions that it asks for by a UUID.
 *
 * The table is undocumented. What stands here was learnt by watching which slots the releases 535 and 550 call and with
 * what; other releases may differ, and then nvidia-smi may misbehave, but no other client asks for it. Build with
 * -Dnvidia_smi=false to leave it out: nvidia-smi then says "Mismatch in versions" and everything else works. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/nvml/processes.h"

static const uint8_t table_id[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
				     0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};

enum {
	SLOTS = 512, /* the table's first word is its size in bytes: more than nvidia-smi asks for */
	SLOT_PARSE_BUS_ID = 12,
	SLOT_IS_PRIMARY = 20,
	SLOT_PATH = 23,
	SLOT_LOG = 26,
	SLOT_GATE = 72,
	SLOT_ADDRESS = 75,
	SLOT_HANDLE = 81,
	SLOT_ENFORCED_LIMIT = 108,
	SLOT_PROCESS_SAMPLES = 145,
	SLOT_RESET = 168,
	SLOT_FABRIC = 169,
	SLOT_RESET_GROUP = 182,
	SLOT_RESET_GROUP_LACKS = 183,
	SLOT_RESET_GROUP_FREE = 184,
	SLOT_SET_POLICY = 192,
	SLOT_POLICIES = 193,
	SLOT_COMPUTE = 213,
	SLOT_MPS = 214,
	SLOT_GRAPHICS = 215,
	SLOT_NEAREST_NUMA = 223,
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

/* `-i BUSID`: nvidia-smi gives the bus id that its user asked for, then reads the bus id of each GPU. */
static nvmlReturn_t parse_bus_id(const char *text, uint32_t *domain, uint32_t *bus, uint32_t *device,
				 uint32_t *function)
{
	struct nvml_bus_address address;
	if (!text || !domain || !bus || !device || !function || !nvml_parse_bus_id(text, &address))
		return NVML_ERROR_INVALID_ARGUMENT;
	*domain = address.domain;
	*bus = address.bus;
	*device = address.device;
	*function = address.function;
	return NVML_SUCCESS;
}

static nvmlReturn_t address_of(uint32_t index, uint32_t *domain, uint32_t *bus, uint32_t *device)
{
	NVML_CALL(call, domain && bus && device);
	uint32_t slots[SIM_GPUS_MAX];
	struct sim_gpu gpu;
	if (index >= nvml_present(call.node, slots) || !sim_gpu_get(call.node, slots[index], &gpu))
		return NVML_ERROR_INVALID_ARGUMENT;
	*domain = gpu.pci_domain;
	*bus = gpu.pci_bus & 0xFF;
	*device = gpu.pci_device & 0x1F;
	return NVML_SUCCESS;
}

static nvmlReturn_t enforced_limit(nvmlDevice_t device, uint32_t *milliwatts)
{
	return nvmlDeviceGetEnforcedPowerLimit(device, milliwatts);
}

static nvmlReturn_t host_pcie_generation(nvmlDevice_t device, uint32_t *generation)
{
	return nvmlDeviceGetMaxPcieLinkGeneration(device, generation);
}

/* How two GPUs meet on PCIe, for `topo -m`: 0 PIX, 1 PXB, 2 PHB, 3 NODE, 4 SYS. nvidia-smi looks for NVLinks itself. */
static nvmlReturn_t path_between(const char *bus_id_a, const char *bus_id_b, uint32_t *path)
{
	nvmlDevice_t a, b;
	nvmlGpuTopologyLevel_t level;
	nvmlReturn_t code = nvmlDeviceGetHandleByPciBusId_v2(bus_id_a, &a);
	if (code == NVML_SUCCESS)
		code = nvmlDeviceGetHandleByPciBusId_v2(bus_id_b, &b);
	if (code == NVML_SUCCESS)
		code = nvmlDeviceGetTopologyCommonAncestor(a, b, &level);
	if (code == NVML_SUCCESS)
		*path = level > NVML_TOPOLOGY_SINGLE ? (uint32_t)level / 10 - 1 : 0;
	return code;
}

/* `topo -C`: the NUMA nodes of the nearest processors. */
static nvmlReturn_t nearest_numa_nodes(nvmlDevice_t device, uint32_t words, unsigned long *set)
{
	return nvmlDeviceGetMemoryAffinity(device, words, set, NVML_AFFINITY_SCOPE_NODE);
}

/* `compute-policy`: how long a turn of a process lasts when several share the GPU. There is one policy. */
enum { POLICY_TIMESLICE = 0, TIMESLICE_LONGEST = 3 };

struct policy {
	uint32_t kind, value;
};

struct policies {
	uint32_t count;
	struct policy items[1];
};

static void apply_timeslice(struct sim_gpu *gpu, void *user)
{
	const struct policy *policy = user;
	gpu->timeslice = policy->value;
}

static nvmlReturn_t set_policy(nvmlDevice_t device, struct policy *policy)
{
	GS_CLEANUP(nvml_leave) struct nvml_call call;
	if (nvml_enter_device(&call, "export-table set-policy", device,
			      policy && policy->kind == POLICY_TIMESLICE && policy->value <= TIMESLICE_LONGEST) !=
	    NVML_SUCCESS)
		return call.code;
	if (call.gpu.mig_mode) /* of whole GPUs only */
		return NVML_ERROR_NOT_SUPPORTED;
	return nvml_change(&call, apply_timeslice, policy);
}

static nvmlReturn_t list_policies(nvmlDevice_t device, struct policies *policies)
{
	GS_CLEANUP(nvml_leave) struct nvml_call call;
	if (nvml_enter_device(&call, "export-table policies", device, policies != NULL) != NVML_SUCCESS)
		return call.code;
	if (call.gpu.mig_mode)
		return NVML_ERROR_NOT_SUPPORTED;
	*policies = (struct policies){1, {{POLICY_TIMESLICE, call.gpu.timeslice}}};
	return NVML_SUCCESS;
}

/* `--gpu-reset`: a GPU that shows a desktop is not reset, nor is part of a set that hangs together; none of ours is either.
 * The set is described to us first and then given back; ours is the table's own address, which says nothing. */
static nvmlReturn_t is_primary(nvmlDevice_t device, uint32_t *primary)
{
	(void)device;
	*primary = 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t has_fabric(uint32_t *fabric)
{
	*fabric = 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t make_reset_group(const void **group, nvmlDevice_t *devices, uint32_t count)
{
	(void)devices;
	(void)count;
	*group = table_id;
	return NVML_SUCCESS;
}

/* Which GPUs beside those of the set must be reset with it. */
static nvmlReturn_t reset_group_lacks(const void *group, char **bus_ids, uint32_t *count)
{
	(void)group;
	(void)bus_ids;
	*count = 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t reset(uint32_t count, nvmlDevice_t *devices)
{
	if (geteuid() != 0)
		return NVML_ERROR_NO_PERMISSION;
	for (uint32_t i = 0; i < count; i++) {
		GS_CLEANUP(nvml_leave) struct nvml_call call;
		struct gs_error err = {0};
		if (nvml_enter_device(&call, "export-table reset", devices[i], true) != NVML_SUCCESS)
			return call.code;
		if (sim_gpu_reset(call.node, call.slot, &err) < 0)
			return err.code == EBUSY ? NVML_ERROR_IN_USE : NVML_ERROR_UNKNOWN;
	}
	return NVML_SUCCESS;
}

/* `pmon` reads samples of which process had each engine, and shows each process the mean over all of them. A sample is
 * a timestamp and, for each engine, 80 bytes: the utilisation (8 bytes), the pid, and what pmon does not read. R535
 * knows 4 engines and R550 6, so they step through the buffer in different strides, and a caller does not say which.
 * Every process gets one sample in either stride, at numbers where neither meets words that the other one reads. */
enum {
	ENGINE_WORDS = 20,
	OLD_STRIDE = 2 + 4 * ENGINE_WORDS,
	NEW_STRIDE = 2 + 6 * ENGINE_WORDS,
	SM_WORD = 2,
	MEMORY_WORD = SM_WORD + ENGINE_WORDS,
	PID_AFTER = 2,
	FIRST_SAMPLE = 3,
	SAMPLES = 27,
};

static void put_sample(uint32_t *words, const struct nvml_process *process)
{
	/* Scaled up, for the mean has it divided by the number of samples. */
	words[SM_WORD] = (process->busy_permille + 9) / 10 * SAMPLES;
	words[MEMORY_WORD] = (NVML_MEMORY_BUSY(process->busy_permille) + 9) / 10 * SAMPLES;
	words[SM_WORD + PID_AFTER] = words[MEMORY_WORD + PID_AFTER] = process->pid;
}

static nvmlReturn_t process_samples(nvmlDevice_t device, uint64_t last_seen_us, nvmlValueType_t *type, uint32_t *count,
				    uint32_t *words)
{
	GS_CLEANUP(nvml_leave) struct nvml_call call;
	(void)last_seen_us; /* always the last second */
	if (nvml_enter_device(&call, "export-table samples", device, type && count && words) != NVML_SUCCESS)
		return call.code;
	if (*count * OLD_STRIDE < SAMPLES * NEW_STRIDE)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	GS_AUTO_FREE struct nvml_process *processes = NULL;
	int found = nvml_processes(&call, NVML_KIND_ANY, 1000000000, &processes);
	if (found < 0)
		return NVML_ERROR_MEMORY;
	memset(words, 0, SAMPLES * NEW_STRIDE * sizeof *words);
	for (int i = 0; i < found && FIRST_SAMPLE + i < SAMPLES; i++) {
		put_sample(words + (FIRST_SAMPLE + i) * OLD_STRIDE, &processes[i]);
		put_sample(words + (FIRST_SAMPLE + i) * NEW_STRIDE, &processes[i]);
	}
	*type = NVML_VALUE_TYPE_UNSIGNED_INT;
	*count = SAMPLES;
	return NVML_SUCCESS;
}

static nvmlReturn_t list(const char *function, nvmlDevice_t device, unsigned kinds, uint32_t *count,
			 struct entry *entries)
{
	GS_CLEANUP(nvml_leave) struct nvml_call call;
	if (nvml_enter_any_device(&call, function, device, count != NULL) != NVML_SUCCESS) {
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
		entries[i].gpu_instance = processes[i].gpu_instance;
		entries[i].compute_instance = processes[i].compute_instance;
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
	made.slots[SLOT_PATH] = (slot)path_between;
	made.slots[SLOT_ENFORCED_LIMIT] = (slot)enforced_limit;
	made.slots[SLOT_PROCESS_SAMPLES] = (slot)process_samples;
	made.slots[SLOT_LOG] = (slot)ignore;
	made.slots[SLOT_IS_PRIMARY] = (slot)is_primary;
	made.slots[SLOT_FABRIC] = (slot)has_fabric;
	made.slots[SLOT_RESET_GROUP] = (slot)make_reset_group;
	made.slots[SLOT_RESET_GROUP_LACKS] = (slot)reset_group_lacks;
	made.slots[SLOT_RESET_GROUP_FREE] = (slot)ignore;
	made.slots[SLOT_RESET] = (slot)reset;
	made.slots[SLOT_GATE] = (slot)open_gate;
	made.slots[SLOT_PARSE_BUS_ID] = (slot)parse_bus_id;
	made.slots[SLOT_ADDRESS] = (slot)address_of;
	made.slots[SLOT_HANDLE] = (slot)handle_by_index;
	made.slots[SLOT_SET_POLICY] = (slot)set_policy;
	made.slots[SLOT_POLICIES] = (slot)list_policies;
	made.slots[SLOT_NEAREST_NUMA] = (slot)nearest_numa_nodes;
	made.slots[SLOT_COMPUTE] = (slot)list_compute;
	made.slots[SLOT_MPS] = (slot)list_mps;
	made.slots[SLOT_GRAPHICS] = (slot)list_graphics;
	made.slots[SLOT_HOST_PCIE] = (slot)host_pcie_generation;
	*table = &made;
	return NVML_SUCCESS;
}
