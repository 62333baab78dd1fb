/* Topology: who reaches whom, and how. */
#include <string.h>
#include <unistd.h>

#include "node.h"

static uint32_t links_between(unsigned a, unsigned b)
{
	nvmlPciInfo_t other, remote;
	uint32_t links = 0;
	assert_int_equal(nvmlDeviceGetPciInfo_v3(node_device(b), &other), NVML_SUCCESS);
	for (uint32_t link = 0; link < NVML_NVLINK_MAX_LINKS; link++) {
		nvmlEnableState_t active;
		if (nvmlDeviceGetNvLinkState(node_device(a), link, &active) != NVML_SUCCESS ||
		    active != NVML_FEATURE_ENABLED)
			continue;
		assert_int_equal(nvmlDeviceGetNvLinkRemotePciInfo_v2(node_device(a), link, &remote), NVML_SUCCESS);
		links += strcmp(remote.busId, other.busId) == 0;
	}
	return links;
}

static nvmlGpuP2PStatus_t peer(unsigned a, unsigned b, nvmlGpuP2PCapsIndex_t what)
{
	nvmlGpuP2PStatus_t status;
	assert_int_equal(nvmlDeviceGetP2PStatus(node_device(a), node_device(b), what, &status), NVML_SUCCESS);
	return status;
}

static nvmlGpuTopologyLevel_t level(unsigned a, unsigned b)
{
	nvmlGpuTopologyLevel_t level;
	assert_int_equal(nvmlDeviceGetTopologyCommonAncestor(node_device(a), node_device(b), &level), NVML_SUCCESS);
	return level;
}

static void a_server_of_eight_has_switches(void **state)
{
	(void)state;
	node_make("8xA100-80GB");
	nvmlIntNvLinkDeviceType_t type;
	uint32_t version;
	assert_int_equal(nvmlDeviceGetNvLinkRemoteDeviceType(node_device(0), 11, &type), NVML_SUCCESS);
	assert_int_equal(type, NVML_NVLINK_DEVICE_TYPE_SWITCH);
	assert_int_equal(nvmlDeviceGetNvLinkVersion(node_device(0), 11, &version), NVML_SUCCESS);
	assert_int_equal(version, 3);
	assert_int_equal(nvmlDeviceGetNvLinkVersion(node_device(0), 12, &version), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetNvLinkVersion(node_device(0), NVML_NVLINK_MAX_LINKS, &version),
			 NVML_ERROR_INVALID_ARGUMENT);
	for (unsigned other = 1; other < 8; other++) {
		assert_int_equal(links_between(0, other), 0);
		assert_int_equal(peer(0, other, NVML_P2P_CAPS_INDEX_NVLINK), NVML_P2P_STATUS_OK);
	}
	assert_int_equal(level(0, 0), NVML_TOPOLOGY_INTERNAL);
	assert_int_equal(level(0, 1), NVML_TOPOLOGY_SINGLE);
	assert_int_equal(level(0, 2), NVML_TOPOLOGY_NODE);
	assert_int_equal(level(3, 4), NVML_TOPOLOGY_SYSTEM);

	nvmlDevice_t near[8];
	uint32_t count = 0;
	assert_int_equal(nvmlDeviceGetTopologyNearestGpus(node_device(0), NVML_TOPOLOGY_SYSTEM, &count, NULL),
			 NVML_SUCCESS);
	assert_int_equal(count, 4);
	assert_int_equal(nvmlDeviceGetTopologyNearestGpus(node_device(0), NVML_TOPOLOGY_SINGLE, &count, near),
			 NVML_SUCCESS);
	assert_int_equal(count, 1);
	assert_ptr_equal(near[0], node_device(1));
}

static void links_look_the_same_from_both_ends(void **state)
{
	(void)state;
	node_make("8xV100-32GB");
	for (unsigned a = 0; a < 8; a++) {
		uint32_t sum = 0;
		for (unsigned b = 0; b < 8; b++) {
			if (a == b)
				continue;
			uint32_t links = links_between(a, b);
			assert_int_equal(links, links_between(b, a));
			assert_int_equal(peer(a, b, NVML_P2P_CAPS_INDEX_NVLINK),
					 links ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED);
			sum += links;
		}
		assert_int_equal(sum, 6);
	}
}

static void few_boards_are_linked_directly(void **state)
{
	(void)state;
	node_make("4xA100-80GB");
	for (unsigned b = 1; b < 4; b++)
		assert_int_equal(links_between(0, b), 4);
	/* Unplugging one takes its links down and leaves the others' as they were. */
	assert_int_equal(sim_gpu_unplug(node, 1, NULL), 0);
	assert_int_equal(links_between(0, 1), 4);
	assert_int_equal(links_between(0, 2), 4);
	uint32_t up = 0;
	for (uint32_t link = 0; link < 12; link++) {
		nvmlEnableState_t active;
		assert_int_equal(nvmlDeviceGetNvLinkState(node_device(0), link, &active), NVML_SUCCESS);
		up += active == NVML_FEATURE_ENABLED;
	}
	assert_int_equal(up, 8);
}

static void cards_have_no_links(void **state)
{
	(void)state;
	node_make("4xT4");
	nvmlEnableState_t active;
	assert_int_equal(nvmlDeviceGetNvLinkState(node_device(0), 0, &active), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(peer(0, 1, NVML_P2P_CAPS_INDEX_NVLINK), NVML_P2P_STATUS_NOT_SUPPORTED);
	assert_int_equal(peer(0, 1, NVML_P2P_CAPS_INDEX_READ), NVML_P2P_STATUS_OK);
	assert_int_equal(peer(0, 3, NVML_P2P_CAPS_INDEX_READ), NVML_P2P_STATUS_CHIPSET_NOT_SUPPORTED);
}

static void processors_are_dealt_out(void **state)
{
	(void)state;
	node_make("8xA100-80GB");
	unsigned long first[16], last[16], nodes[1];
	assert_int_equal(nvmlDeviceGetCpuAffinity(node_device(0), 16, first), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetCpuAffinityWithinScope(node_device(7), 16, last, NVML_AFFINITY_SCOPE_NODE),
			 NVML_SUCCESS);
	assert_true(first[0] & 1);
	if (sysconf(_SC_NPROCESSORS_CONF) > 1)
		for (int i = 0; i < 16; i++)
			assert_int_equal(first[i] & last[i], 0);
	assert_int_equal(nvmlDeviceGetMemoryAffinity(node_device(7), 1, nodes, NVML_AFFINITY_SCOPE_NODE), NVML_SUCCESS);
	assert_int_equal(nodes[0], 2);
	assert_int_equal(nvmlDeviceGetCpuAffinity(node_device(0), 0, first), NVML_ERROR_INVALID_ARGUMENT);
	uint32_t count = 0;
	assert_int_equal(nvmlSystemGetTopologyGpuSet(0, &count, NULL), NVML_SUCCESS);
	assert_true(count == 4 || count == 8);
}

int main(void)
{
#define AFTER(test) cmocka_unit_test_teardown(test, node_end)
	const struct CMUnitTest tests[] = {
		AFTER(a_server_of_eight_has_switches), AFTER(links_look_the_same_from_both_ends),
		AFTER(few_boards_are_linked_directly), AFTER(cards_have_no_links),
		AFTER(processors_are_dealt_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
