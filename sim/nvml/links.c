/* NVML calls about how GPUs reach each other and the processors: PCIe topology, affinity, NVLink, peer access. */
#include "sim/nvml/links.h"

#include <string.h>
#include <unistd.h>

/* How a server of V100 boards wires its 8 GPUs: links from each to each. */
static const uint8_t cube_mesh[8][8] = {
	{0, 1, 1, 2, 2, 0, 0, 0}, {1, 0, 2, 1, 0, 2, 0, 0}, {1, 2, 0, 2, 0, 0, 1, 0}, {2, 1, 2, 0, 0, 0, 0, 1},
	{2, 0, 0, 0, 0, 1, 1, 2}, {0, 2, 0, 0, 1, 0, 2, 1}, {0, 0, 1, 0, 1, 2, 0, 2}, {0, 0, 0, 1, 2, 1, 2, 0},
};

/* GPUs of one model that share NVLink: their slots in order, and where the asking one stands among them. */
struct domain {
	uint32_t slots[SIM_GPUS_MAX];
	uint32_t count, own;
};

/* Slots count even when their GPU is gone, so that the others' wiring stays as it was. */
static void read_domain(const struct nvml_call *call, struct domain *domain)
{
	uint32_t slot_count = sim_gpu_count(call->node);
	memset(domain, 0, sizeof *domain);
	for (uint32_t slot = 0; slot < slot_count && slot < SIM_GPUS_MAX; slot++) {
		struct sim_gpu gpu;
		if (!sim_gpu_get(call->node, slot, &gpu) || gpu.model != call->gpu.model)
			continue;
		if (slot == call->slot)
			domain->own = domain->count;
		domain->slots[domain->count++] = slot;
	}
}

/* Links between two places of a domain without switches. */
static uint32_t direct_links(const struct sim_model *model, uint32_t count, uint32_t a, uint32_t b)
{
	if (a == b || count < 2)
		return 0;
	if (model->nvlinks < 6) /* cards with a bridge: pairs */
		return a / 2 == b / 2 ? model->nvlinks : 0;
	if (count <= 4)
		return model->nvlinks / (count - 1);
	return a / 8 == b / 8 ? cube_mesh[a % 8][b % 8] : 0;
}

/* Boards since Ampere sit behind switches when there are more than four. */
static uint32_t switch_count(const struct sim_model *model, uint32_t boards)
{
	if (boards <= 4 || model->nvlinks < 6 || model->architecture < NVML_DEVICE_ARCH_AMPERE)
		return 0;
	if (model->architecture == NVML_DEVICE_ARCH_AMPERE)
		return 6;
	return model->architecture == NVML_DEVICE_ARCH_HOPPER ? 4 : 2;
}

struct nvml_link nvml_link_of(const struct nvml_call *call, uint32_t link)
{
	struct domain domain;
	read_domain(call, &domain);
	uint32_t switches = switch_count(call->model, domain.count);
	if (switches)
		return (struct nvml_link){.kind = NVML_LINK_SWITCH, .peer = link * switches / call->model->nvlinks};
	for (uint32_t place = 0, first = 0; place < domain.count; place++) {
		uint32_t links = direct_links(call->model, domain.count, domain.own, place);
		if (link < first || link >= first + links) {
			first += links;
			continue;
		}
		struct nvml_link found = {.kind = NVML_LINK_GPU, .peer = domain.slots[place]};
		struct sim_gpu gpu;
		if (!sim_gpu_get(call->node, found.peer, &gpu) || !gpu.present || gpu.lost)
			found.kind = NVML_LINK_DOWN;
		return found;
	}
	return (struct nvml_link){.kind = NVML_LINK_DOWN};
}

uint32_t nvml_links_up(const struct nvml_call *call)
{
	uint32_t up = 0;
	for (uint32_t link = 0; link < call->model->nvlinks; link++)
		up += nvml_link_of(call, link).kind != NVML_LINK_DOWN;
	return up;
}

uint32_t nvml_link_speed_mbps(const struct sim_model *model)
{
	static const uint32_t by_generation[] = {0, 20000, 25781, 25000, 26562, 53125};
	return model->nvlink_generation < GS_ARRAY_LENGTH(by_generation) ? by_generation[model->nvlink_generation] : 0;
}

/* Two GPUs of one call. */
struct pair {
	uint32_t slot;
	struct sim_gpu other;
};

static nvmlReturn_t resolve_pair(const struct nvml_call *call, nvmlDevice_t other, struct pair *pair)
{
	return nvml_resolve(call->node, other, &pair->slot, &pair->other);
}

/* Neighbouring slots share a PCIe switch, the GPUs of a NUMA node its host bridges. */
static nvmlGpuTopologyLevel_t common_ancestor(const struct nvml_call *call, const struct pair *pair)
{
	if (pair->slot == call->slot)
		return NVML_TOPOLOGY_INTERNAL;
	if (pair->other.numa_node != call->gpu.numa_node)
		return NVML_TOPOLOGY_SYSTEM;
	return pair->slot / 2 == call->slot / 2 ? NVML_TOPOLOGY_SINGLE : NVML_TOPOLOGY_NODE;
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuTopologyLevel_t *level)
{
	NVML_DEVICE_CALL(call, a, b && level);
	struct pair pair;
	nvmlReturn_t code = resolve_pair(&call, b, &pair);
	if (code == NVML_SUCCESS)
		*level = common_ancestor(&call, &pair);
	return code;
}

nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level, uint32_t *count,
					      nvmlDevice_t *devices)
{
	NVML_DEVICE_CALL(call, device, count && (unsigned)level <= NVML_TOPOLOGY_SYSTEM);
	uint32_t slots[SIM_GPUS_MAX], present = nvml_present(call.node, slots), found = 0;
	for (uint32_t i = 0; i < present; i++) {
		struct pair pair = {.slot = slots[i]};
		if (slots[i] == call.slot || !sim_gpu_get(call.node, slots[i], &pair.other) ||
		    common_ancestor(&call, &pair) != level)
			continue;
		if (devices && found < *count)
			devices[found] = nvml_handle(slots[i], &pair.other);
		found++;
	}
	*count = devices && found > *count ? *count : found;
	return NVML_SUCCESS;
}

static bool linked(const struct nvml_call *call, uint32_t slot)
{
	struct domain domain;
	read_domain(call, &domain);
	for (uint32_t place = 0; place < domain.count; place++)
		if (domain.slots[place] == slot && slot != call->slot)
			return switch_count(call->model, domain.count) ||
			       direct_links(call->model, domain.count, domain.own, place);
	return false;
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuP2PCapsIndex_t what,
				    nvmlGpuP2PStatus_t *status)
{
	NVML_DEVICE_CALL(call, a, b && status && (unsigned)what < NVML_P2P_CAPS_INDEX_UNKNOWN);
	struct pair pair;
	nvmlReturn_t code = resolve_pair(&call, b, &pair);
	if (code != NVML_SUCCESS)
		return code;
	if (pair.slot == call.slot)
		return NVML_ERROR_INVALID_ARGUMENT;
	bool over_pcie = pair.other.numa_node == call.gpu.numa_node && pair.other.model == call.gpu.model;
	if (linked(&call, pair.slot))
		*status = NVML_P2P_STATUS_OK;
	else if (what == NVML_P2P_CAPS_INDEX_NVLINK || what == NVML_P2P_CAPS_INDEX_ATOMICS)
		*status = NVML_P2P_STATUS_NOT_SUPPORTED;
	else
		*status = over_pcie ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_CHIPSET_NOT_SUPPORTED;
	return NVML_SUCCESS;
}

/* Affinity. The host's own processors are dealt out to the node's NUMA nodes in equal ranges. */

struct processors {
	unsigned first, count;
};

static struct processors processors_of(struct sim_node *node, int32_t numa_node)
{
	long configured = sysconf(_SC_NPROCESSORS_CONF);
	unsigned total = configured > 0 ? (unsigned)configured : 1;
	uint32_t slot_count = sim_gpu_count(node);
	unsigned nodes = 1;
	for (uint32_t slot = 0; slot < slot_count && slot < SIM_GPUS_MAX; slot++) {
		struct sim_gpu gpu;
		if (sim_gpu_get(node, slot, &gpu) && gpu.numa_node >= 0 && gpu.numa_node < 64 &&
		    (unsigned)gpu.numa_node >= nodes)
			nodes = (unsigned)gpu.numa_node + 1;
	}
	if (numa_node < 0 || (unsigned)numa_node >= nodes || total < nodes)
		return (struct processors){0, total};
	unsigned first = total * (unsigned)numa_node / nodes;
	return (struct processors){first, total * ((unsigned)numa_node + 1) / nodes - first};
}

static void fill_set(unsigned long *set, uint32_t words, unsigned first, unsigned count)
{
	const unsigned bits = 8 * sizeof *set;
	memset(set, 0, words * sizeof *set);
	for (unsigned i = first; i < first + count && i / bits < words; i++)
		set[i / bits] |= 1ul << i % bits;
}

static nvmlReturn_t cpu_affinity(const struct nvml_call *call, uint32_t words, unsigned long *set)
{
	struct processors own = processors_of(call->node, call->gpu.numa_node);
	fill_set(set, words, own.first, own.count);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, uint32_t words, unsigned long *set)
{
	NVML_DEVICE_CALL(call, device, words && set);
	return cpu_affinity(&call, words, set);
}

nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, uint32_t words, unsigned long *set,
						 nvmlAffinityScope_t scope)
{
	NVML_DEVICE_CALL(call, device, words && set && scope <= NVML_AFFINITY_SCOPE_SOCKET);
	return cpu_affinity(&call, words, set);
}

nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, uint32_t words, unsigned long *set,
					 nvmlAffinityScope_t scope)
{
	NVML_DEVICE_CALL(call, device, words && set && scope <= NVML_AFFINITY_SCOPE_SOCKET);
	fill_set(set, words, call.gpu.numa_node > 0 ? (unsigned)call.gpu.numa_node : 0, 1);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetTopologyGpuSet(uint32_t cpu, uint32_t *count, nvmlDevice_t *devices)
{
	NVML_CALL(call, count != NULL);
	uint32_t slots[SIM_GPUS_MAX], present = nvml_present(call.node, slots), found = 0;
	for (uint32_t i = 0; i < present; i++) {
		struct sim_gpu gpu;
		if (!sim_gpu_get(call.node, slots[i], &gpu))
			continue;
		struct processors near = processors_of(call.node, gpu.numa_node);
		if (cpu < near.first || cpu >= near.first + near.count)
			continue;
		if (devices && found < *count)
			devices[found] = nvml_handle(slots[i], &gpu);
		found++;
	}
	*count = devices && found > *count ? *count : found;
	return NVML_SUCCESS;
}

/* NVLink. A link that no board has is a wrong argument, one that this board has not is not supported: nvidia-smi asks
 * for 18 of them whatever the board, and takes any other error for a failure. */
static nvmlReturn_t check_link(const struct nvml_call *call, uint32_t link)
{
	if (link >= NVML_NVLINK_MAX_LINKS)
		return NVML_ERROR_INVALID_ARGUMENT;
	return link < call->model->nvlinks ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, uint32_t link, nvmlEnableState_t *active)
{
	NVML_DEVICE_CALL(call, device, active != NULL);
	nvmlReturn_t code = check_link(&call, link);
	if (code == NVML_SUCCESS)
		*active =
			nvml_link_of(&call, link).kind == NVML_LINK_DOWN ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
	return code;
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, uint32_t link, uint32_t *version)
{
	NVML_DEVICE_CALL(call, device, version != NULL);
	nvmlReturn_t code = check_link(&call, link);
	if (code == NVML_SUCCESS)
		*version = call.model->nvlink_generation;
	return code;
}

nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, uint32_t link, nvmlNvLinkCapability_t what,
					   uint32_t *yes)
{
	NVML_DEVICE_CALL(call, device, yes && (unsigned)what <= NVML_NVLINK_CAP_VALID);
	nvmlReturn_t code = check_link(&call, link);
	if (code == NVML_SUCCESS)
		*yes = what != NVML_NVLINK_CAP_SLI_BRIDGE;
	return code;
}

static void fill_switch(const struct sim_model *model, uint32_t number, nvmlPciInfo_t *pci)
{
	/* A domain of their own keeps the switches out of the GPUs' bus numbers. */
	struct sim_gpu place = {.pci_domain = 0x10, .pci_bus = 1 + number};
	nvml_fill_pci(&place, pci);
	pci->pciDeviceId = model->architecture == NVML_DEVICE_ARCH_AMPERE ? 0x1AF110DE : 0x22A310DE;
	pci->pciSubSystemId = 0;
}

static nvmlReturn_t remote_pci(const struct nvml_call *call, uint32_t link, nvmlPciInfo_t *pci)
{
	nvmlReturn_t code = check_link(call, link);
	if (code != NVML_SUCCESS)
		return code;
	struct nvml_link found = nvml_link_of(call, link);
	struct sim_gpu gpu;
	if (found.kind == NVML_LINK_SWITCH)
		fill_switch(call->model, found.peer, pci);
	else if (found.kind == NVML_LINK_GPU && sim_gpu_get(call->node, found.peer, &gpu))
		nvml_fill_pci(&gpu, pci);
	else
		return NVML_ERROR_NOT_SUPPORTED;
	return NVML_SUCCESS;
}

/* The first release's struct ends before busId. */
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, uint32_t link, nvmlPciInfo_t *pci)
{
	NVML_DEVICE_CALL(call, device, pci != NULL);
	nvmlPciInfo_t whole;
	nvmlReturn_t code = remote_pci(&call, link, &whole);
	if (code == NVML_SUCCESS)
		memcpy(pci, &whole, offsetof(nvmlPciInfo_t, busId));
	return code;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, uint32_t link, nvmlPciInfo_t *pci)
{
	NVML_DEVICE_CALL(call, device, pci != NULL);
	return remote_pci(&call, link, pci);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, uint32_t link, nvmlIntNvLinkDeviceType_t *type)
{
	NVML_DEVICE_CALL(call, device, type != NULL);
	nvmlReturn_t code = check_link(&call, link);
	if (code != NVML_SUCCESS)
		return code;
	switch (nvml_link_of(&call, link).kind) {
	case NVML_LINK_GPU:
		*type = NVML_NVLINK_DEVICE_TYPE_GPU;
		break;
	case NVML_LINK_SWITCH:
		*type = NVML_NVLINK_DEVICE_TYPE_SWITCH;
		break;
	case NVML_LINK_DOWN:
		*type = NVML_NVLINK_DEVICE_TYPE_UNKNOWN;
		break;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, uint32_t link, nvmlNvLinkErrorCounter_t which,
					     uint64_t *count)
{
	NVML_DEVICE_CALL(call, device, count && (unsigned)which <= NVML_NVLINK_ERROR_DL_ECC_DATA);
	nvmlReturn_t code = check_link(&call, link);
	if (code == NVML_SUCCESS)
		*count = 0;
	return code;
}

nvmlReturn_t nvmlDeviceResetNvLinkErrorCounters(nvmlDevice_t device, uint32_t link)
{
	NVML_DEVICE_CALL(call, device, true);
	return check_link(&call, link);
}
