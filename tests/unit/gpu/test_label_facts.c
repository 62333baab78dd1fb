#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "fake_nvml.h"
#include "gpu/inventory_read.h"
#include "gpu/label_facts.h"

static const struct gs_label_facts nothing;
static const struct gs_inventory_places places = {.sysfs = "/nonexistent", .driver_roots = {"/nonexistent", NULL}};

static struct gs_inventory read_inventory(const struct gs_nvml *nvml)
{
	struct gs_inventory inventory = {0};
	struct gs_problems problems = {0};
	assert_int_equal(gs_inventory_read(nvml, &places, NULL, &inventory, &problems, NULL), 0);
	gs_problems_free(&problems);
	return inventory;
}

static void test_what_nvml_tells(void **state)
{
	struct gs_nvml nvml;
	struct gs_label_facts facts = {0};
	fake_reset(2);
	fake_table(&nvml);
	fake.gpus[1].on_fabric = fake.gpus[1].is_virtual = true;
	struct gs_inventory inventory = read_inventory(&nvml);
	gs_label_facts_read(&nvml, "/nonexistent", &inventory, &nothing, &facts);
	assert_string_equal(facts.driver_version, "550.1");
	assert_int_equal(facts.cuda_version, 12040);
	assert_int_equal(facts.gpu_count, 2);
	assert_int_equal(facts.gpus[0].pci_class, 0x030200);
	assert_false(facts.gpus[0].vgpu);
	assert_false(facts.gpus[0].fabric);
	assert_true(facts.gpus[1].vgpu);
	assert_true(facts.gpus[1].fabric);
	assert_int_equal(facts.gpus[1].fabric_clique, 7);
	assert_string_equal(facts.gpus[1].fabric_cluster, "abababab-abab-abab-abab-abababababab");
	gs_label_facts_free(&facts);
	gs_inventory_free(&inventory);
}

/* Labels must not change because a GPU fell off the bus for a while. */
static void test_what_does_not_answer_stays_as_it_was(void **state)
{
	struct gs_nvml nvml;
	struct gs_label_facts facts = {0}, later = {0};
	fake_reset(2);
	fake_table(&nvml);
	fake.gpus[1].on_fabric = true;
	struct gs_inventory inventory = read_inventory(&nvml);
	gs_label_facts_read(&nvml, "/nonexistent", &inventory, &nothing, &facts);
	fake.fail_name = "DeviceGetHandleByUUID";
	fake.fail_code = NVML_ERROR_GPU_IS_LOST;
	gs_label_facts_read(&nvml, "/nonexistent", &inventory, &facts, &later);
	assert_string_equal(later.driver_version, facts.driver_version);
	assert_int_equal(later.gpu_count, facts.gpu_count);
	for (size_t i = 0; i < facts.gpu_count; i++) {
		assert_int_not_equal(facts.gpus[i].pci_class, 0);
		assert_int_equal(later.gpus[i].pci_class, facts.gpus[i].pci_class);
		assert_int_equal(later.gpus[i].fabric, facts.gpus[i].fabric);
	}
	gs_label_facts_free(&later);
	gs_label_facts_read(&nvml, "/nonexistent", &inventory, &nothing, &later);
	assert_int_equal(later.gpus[0].pci_class, 0);
	fake.fail_name = NULL;
	gs_label_facts_free(&later);
	gs_label_facts_free(&facts);
	gs_inventory_free(&inventory);
}

static void test_any_call_may_fail(void **state)
{
	struct gs_nvml nvml;
	fake_reset(3);
	fake_table(&nvml);
	struct gs_inventory inventory = read_inventory(&nvml);
	for (unsigned call = 1; call < 40; call++) {
		struct gs_label_facts facts = {0};
		fake.calls = 0;
		fake.fail_call = call;
		fake.fail_code = NVML_ERROR_UNKNOWN;
		gs_label_facts_read(&nvml, "/nonexistent", &inventory, &nothing, &facts);
		assert_int_equal(facts.gpu_count, 3);
		gs_label_facts_free(&facts);
	}
	/* And a driver that lacks all of it. */
	struct gs_nvml old = {.DeviceGetHandleByUUID = nvml.DeviceGetHandleByUUID};
	struct gs_label_facts facts = {0};
	fake.fail_call = 0;
	gs_label_facts_read(&old, "/nonexistent", &inventory, &nothing, &facts);
	assert_string_equal(facts.driver_version, "");
	assert_int_equal(facts.cuda_version, 0);
	assert_int_equal(facts.gpus[2].pci_class, 0);
	gs_label_facts_free(&facts);
	gs_inventory_free(&inventory);
}

/* A configuration space with one vendor-specific capability behind another one. */
static size_t make_config(uint8_t config[256], const char *version, const char *branch)
{
	memset(config, 0, 256);
	config[0x06] = 0x10;
	config[0x34] = 0x60;
	config[0x60] = 0x05;
	config[0x61] = 0x80;
	uint8_t *capability = config + 0x80;
	capability[0] = 0x09;
	capability[2] = 5 + 4 + 22;
	capability[3] = 'V';
	capability[4] = 'F';
	capability[5] = 3; /* a record that is none of ours */
	capability[6] = 4;
	capability[9] = 0;
	capability[10] = 22;
	memcpy(capability + 11, version, strlen(version));
	memcpy(capability + 21, branch, strlen(branch));
	return 256;
}

static void test_hypervisor_driver(void **state)
{
	uint8_t config[256];
	char version[16], branch[16];
	size_t length = make_config(config, "580.126.08", "r582_12");
	assert_true(gs_vgpu_host_driver(config, length, version, branch));
	assert_string_equal(version, "580.126.08");
	assert_string_equal(branch, "r582_12");
	/* Only root may read beyond 64 bytes. */
	assert_false(gs_vgpu_host_driver(config, 64, version, branch));
	assert_string_equal(version, "");
	/* A list that runs in a circle. */
	config[0x83] = 'X';
	config[0x81] = 0x60;
	assert_false(gs_vgpu_host_driver(config, length, version, branch));
	/* A record of no length. */
	make_config(config, "580.126.08", "r582_12");
	config[0x86] = 0;
	assert_false(gs_vgpu_host_driver(config, length, version, branch));
	/* A capability too short for what it says. */
	make_config(config, "580.126.08", "r582_12");
	config[0x82] = 20;
	assert_false(gs_vgpu_host_driver(config, length, version, branch));
}

static void test_hypervisor_driver_of_any_bytes(void **state)
{
	uint64_t seed = 7;
	for (int round = 0; round < 20000; round++) {
		/* On the heap and of exact size, so that a sanitizer sees a read beyond it. */
		char version[16], branch[16];
		uint8_t *config = gs_malloc(256);
		make_config(config, "580.126.08", "r582_12");
		for (int i = 0; i < 6; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			config[(seed >> 33) % 2 ? 0x80 + (seed >> 40) % 32 : (seed >> 40) % 256] =
				(uint8_t)(seed >> 50);
		}
		gs_vgpu_host_driver(config, 256, version, branch);
		assert_true(strlen(version) <= 10 && strlen(branch) <= 10);
		free(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_nvml_tells),
		cmocka_unit_test(test_what_does_not_answer_stays_as_it_was),
		cmocka_unit_test(test_any_call_may_fail),
		cmocka_unit_test(test_hypervisor_driver),
		cmocka_unit_test(test_hypervisor_driver_of_any_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
