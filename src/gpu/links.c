#include "gpu/links.h"

#include <string.h>

enum { NVLINK_SCORE = 100 };

static uint32_t topology_score(nvmlGpuTopologyLevel_t level)
{
	switch (level) {
	case NVML_TOPOLOGY_INTERNAL:
		return 60;
	case NVML_TOPOLOGY_SINGLE:
		return 50;
	case NVML_TOPOLOGY_MULTIPLE:
		return 40;
	case NVML_TOPOLOGY_HOSTBRIDGE:
		return 30;
	case NVML_TOPOLOGY_NODE:
		return 20;
	case NVML_TOPOLOGY_SYSTEM:
		return 10;
	}
	return 0;
}

/* Links of one GPU: how many lead to each of the others, and how many to a switch. */
struct links {
	uint8_t to[GS_GPUS_MAX];
	uint8_t to_switch;
};

static void read_links(const struct gs_nvml *nvml, const struct gs_gpu *gpus, nvmlDevice_t device, size_t count,
		       struct links *links)
{
	for (uint32_t link = 0; link < NVML_NVLINK_MAX_LINKS; link++) {
		nvmlEnableState_t active = NVML_FEATURE_DISABLED;
		nvmlReturn_t code = GS_NVML(nvml, DeviceGetNvLinkState, device, link, &active);
		if (code == NVML_ERROR_NOT_SUPPORTED || code == NVML_ERROR_INVALID_ARGUMENT ||
		    code == NVML_ERROR_FUNCTION_NOT_FOUND)
			return; /* no NVLink, or no more links */
		if (code == NVML_ERROR_GPU_IS_LOST)
			return; /* each more call would wait for it again */
		nvmlPciInfo_t remote = {0};
		if (code != NVML_SUCCESS || active != NVML_FEATURE_ENABLED ||
		    GS_NVML(nvml, DeviceGetNvLinkRemotePciInfo, device, link, &remote) != NVML_SUCCESS)
			continue;
		remote.busId[sizeof remote.busId - 1] = '\0';
		size_t other = 0;
		while (other < count && strcmp(gpus[other].pci_bus_id, remote.busId) != 0)
			other++;
		if (other < count)
			links->to[other]++;
		else
			links->to_switch++;
	}
}

void gs_links_read(const struct gs_nvml *nvml, const struct gs_gpu *gpus, const nvmlDevice_t *handles, size_t count,
		   uint32_t *scores)
{
	struct links links[GS_GPUS_MAX];
	memset(links, 0, sizeof links);
	for (size_t a = 0; a < count; a++)
		if (handles[a])
			read_links(nvml, gpus, handles[a], count, &links[a]);
	for (size_t a = 0; a < count; a++) {
		for (size_t b = a + 1; b < count; b++) {
			nvmlGpuTopologyLevel_t level = NVML_TOPOLOGY_SYSTEM;
			uint32_t score = 0;
			if (handles[a] && handles[b] &&
			    GS_NVML(nvml, DeviceGetTopologyCommonAncestor, handles[a], handles[b], &level) ==
				    NVML_SUCCESS)
				score = topology_score(level);
			uint32_t through_switch =
				links[a].to_switch < links[b].to_switch ? links[a].to_switch : links[b].to_switch;
			score += NVLINK_SCORE * (links[a].to[b] + through_switch);
			scores[a * count + b] = scores[b * count + a] = score;
		}
	}
}
