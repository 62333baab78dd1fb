/* Reading the inventory, links, probes and samples through a table of calls of which any may fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "fake_nvml.h"
#include "gpu/inventory_read.h"
#include "gpu/probe.h"
#include "gpu/sample.h"

static const char no_sysfs[] = "/nonexistent";
static const nvmlReturn_t codes[] = {NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_NOT_FOUND,
				     NVML_ERROR_TIMEOUT,       NVML_ERROR_GPU_IS_LOST,   NVML_ERROR_RESET_REQUIRED,
				     NVML_ERROR_UNKNOWN};

static struct gs_nvml nvml;

static int setup(void **state)
{
	fake_reset(4);
	fake_table(&nvml);
	return 0;
}

static size_t read_inventory(const struct gs_inventory *previous, struct gs_inventory *inventory)
{
	struct gs_problems problems = {0};
	struct gs_error err;
	*inventory = (struct gs_inventory){0};
	assert_int_equal(gs_inventory_read(&nvml, no_sysfs, previous, inventory, &problems, &err), 0);
	size_t count = problems.count;
	gs_problems_free(&problems);
	return count;
}

static void unplug(uint32_t index)
{
	for (uint32_t i = index; i + 1 < fake.count; i++)
		fake.order[i] = fake.order[i + 1];
	fake.count--;
}

static void test_reads_what_is_there(void **state)
{
	struct gs_inventory inventory;
	assert_int_equal(read_inventory(NULL, &inventory), 0);
	assert_int_equal(inventory.gpu_count, 4);
	assert_int_equal(inventory.device_count, 4);
	assert_string_equal(inventory.gpus[2].uuid, fake.gpus[2].uuid);
	assert_string_equal(inventory.gpus[2].pci_bus_id, "00000000:12:00.0");
	assert_int_equal(inventory.gpus[2].minor, 2);
	assert_int_equal(inventory.gpus[2].memory_bytes, 1000);
	assert_int_equal(inventory.gpus[2].compute_major, 8);
	assert_true(inventory.gpus[2].mig_capable);
	assert_false(inventory.gpus[2].mig_enabled);
	assert_string_equal(inventory.devices[3].index, "3");
	assert_false(gs_inventory_differs(&nvml, &inventory));
	gs_inventory_free(&inventory);
}

/* Any one call that fails in any way: no GPU that was known is lost or doubled, and none changes. */
static void test_each_call_failing_after_a_good_read(void **state)
{
	struct gs_inventory good;
	read_inventory(NULL, &good);
	unsigned calls = fake.calls;
	for (size_t c = 0; c < GS_ARRAY_LENGTH(codes); c++) {
		for (unsigned n = 2; n <= calls; n++) { /* the first is the count, without which there is nothing */
			struct gs_inventory now;
			fake.calls = 0;
			fake.fail_call = n;
			fake.fail_code = codes[c];
			read_inventory(&good, &now);
			assert_int_equal(now.gpu_count, 4);
			for (size_t i = 0; i < 4; i++)
				assert_string_equal(now.gpus[i].uuid, good.gpus[i].uuid);
			if (codes[c] != NVML_ERROR_NOT_SUPPORTED)
				assert_true(gs_inventory_equal(&good, &now));
			gs_inventory_free(&now);
		}
	}
	gs_inventory_free(&good);
}

/* The same on the first reading, where nothing is known: at most that one GPU is missing, and the reason is told. */
static void test_each_call_failing_at_first(void **state)
{
	struct gs_inventory good;
	read_inventory(NULL, &good);
	unsigned calls = fake.calls;
	for (size_t c = 0; c < GS_ARRAY_LENGTH(codes); c++) {
		for (unsigned n = 2; n <= calls; n++) {
			struct gs_inventory now;
			fake.calls = 0;
			fake.fail_call = n;
			fake.fail_code = codes[c];
			size_t problems = read_inventory(NULL, &now);
			assert_true(now.gpu_count >= 3);
			assert_true(now.gpu_count == 4 || problems == 1);
			gs_inventory_free(&now);
		}
	}
	gs_inventory_free(&good);
}

static void test_count_failing_is_an_error(void **state)
{
	struct gs_inventory inventory = {0};
	struct gs_problems problems = {0};
	struct gs_error err;
	fake.fail_name = "DeviceGetCount";
	fake.fail_code = NVML_ERROR_UNKNOWN;
	assert_int_equal(gs_inventory_read(&nvml, no_sysfs, NULL, &inventory, &problems, &err), -1);
	assert_int_equal(err.source, GS_ERROR_NVML);
	assert_int_equal(err.code, 999);
	assert_non_null(strstr(err.text, "nvmlDeviceGetCount"));
	assert_false(gs_inventory_differs(&nvml, &inventory)); /* no word on what is there */
}

static void test_lost_gpu_keeps_its_place(void **state)
{
	struct gs_inventory before, now;
	read_inventory(NULL, &before);
	fake.gpus[1].lost = true;
	assert_false(gs_inventory_differs(&nvml, &before));
	assert_int_equal(read_inventory(&before, &now), 1);
	assert_true(gs_inventory_equal(&before, &now));
	gs_inventory_free(&before);
	gs_inventory_free(&now);
}

/* Indices shift when a GPU before the lost one is pulled out: the lost one is still itself, and none is listed twice. */
static void test_unplugged_before_a_lost_one(void **state)
{
	struct gs_inventory before, now;
	read_inventory(NULL, &before);
	unplug(0);
	fake.gpus[3].lost = true; /* now at index 2, where gpus[2] was */
	assert_true(gs_inventory_differs(&nvml, &before));
	assert_int_equal(read_inventory(&before, &now), 1);
	assert_int_equal(now.gpu_count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_string_equal(now.gpus[i].uuid, fake.gpus[i + 1].uuid);
		assert_int_equal(now.gpus[i].index, i);
	}
	gs_inventory_free(&before);
	gs_inventory_free(&now);
}

static void test_hot_plug(void **state)
{
	struct gs_inventory before, now;
	read_inventory(NULL, &before);
	fake.count = 5;
	assert_true(gs_inventory_differs(&nvml, &before));
	assert_int_equal(read_inventory(&before, &now), 0);
	assert_int_equal(now.gpu_count, 5);
	gs_inventory_free(&before);
	fake.order[1] = &fake.gpus[6]; /* swapped for another: the number is the same */
	assert_true(gs_inventory_differs(&nvml, &now));
	fake.order[1] = &fake.gpus[1];
	unplug(4);
	assert_true(gs_inventory_differs(&nvml, &now));
	assert_int_equal(read_inventory(&now, &before), 0);
	assert_int_equal(before.gpu_count, 4);
	gs_inventory_free(&before);
	gs_inventory_free(&now);
}

static void test_display_adapter_is_no_change(void **state)
{
	struct gs_inventory inventory;
	snprintf(fake.gpus[1].name, sizeof fake.gpus[1].name, "NVIDIA DGX Display");
	assert_int_equal(read_inventory(NULL, &inventory), 0);
	assert_int_equal(inventory.gpu_count, 3);
	assert_string_equal(inventory.devices[1].index, "2");
	assert_false(gs_inventory_differs(&nvml, &inventory));
	gs_inventory_free(&inventory);
}

static void test_one_uuid_twice(void **state)
{
	struct gs_inventory inventory;
	memcpy(fake.gpus[2].uuid, fake.gpus[0].uuid, sizeof fake.gpus[2].uuid);
	assert_int_equal(read_inventory(NULL, &inventory), 1);
	assert_int_equal(inventory.gpu_count, 3);
	gs_inventory_free(&inventory);
}

/* A driver from before a function existed: each one missing in turn, then all that are not needed. */
static void test_old_drivers(void **state)
{
	struct gs_inventory inventory;
	nvml.DeviceGetMigMode = NULL;
	nvml.DeviceGetMemoryAffinity = NULL;
	nvml.DeviceGetNvLinkState = NULL;
	nvml.DeviceGetNvLinkRemotePciInfo = NULL;
	nvml.DeviceGetTopologyCommonAncestor = NULL;
	nvml.DeviceGetMinorNumber = NULL;
	nvml.DeviceGetMemoryInfo = NULL;
	nvml.ErrorString = NULL;
	assert_int_equal(read_inventory(NULL, &inventory), 0);
	assert_int_equal(inventory.gpu_count, 4);
	assert_int_equal(inventory.gpus[0].minor, -1);
	assert_int_equal(inventory.gpus[0].numa_node, -1);
	assert_false(inventory.gpus[0].mig_capable);
	gs_inventory_free(&inventory);

	nvml = (struct gs_nvml){0};
	struct gs_problems problems = {0};
	struct gs_error err;
	struct gs_probe probe;
	struct gs_gpu_sample sample;
	inventory = (struct gs_inventory){0};
	assert_int_equal(gs_inventory_read(&nvml, no_sysfs, NULL, &inventory, &problems, &err), -1);
	gs_probe_read(&nvml, "GPU-x", &probe);
	assert_int_equal(probe.result, GS_PROBE_FAILED);
	gs_sample_read(&nvml, "GPU-x", "/proc", &sample);
	assert_int_equal(sample.valid, 0);
	gs_sample_free(&sample);
}

static uint32_t score(const struct gs_inventory *inventory, size_t a, size_t b)
{
	assert_int_equal(inventory->link_score[a * inventory->gpu_count + b],
			 inventory->link_score[b * inventory->gpu_count + a]);
	return inventory->link_score[a * inventory->gpu_count + b];
}

static void test_link_scores(void **state)
{
	static const struct {
		nvmlGpuTopologyLevel_t level;
		uint32_t score;
	} levels[] = {
		{NVML_TOPOLOGY_INTERNAL, 60},   {NVML_TOPOLOGY_SINGLE, 50}, {NVML_TOPOLOGY_MULTIPLE, 40},
		{NVML_TOPOLOGY_HOSTBRIDGE, 30}, {NVML_TOPOLOGY_NODE, 20},   {NVML_TOPOLOGY_SYSTEM, 10},
	};
	struct gs_inventory inventory;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(levels); i++) {
		for (int gpu = 0; gpu < 4; gpu++)
			fake.gpus[gpu].level = levels[i].level;
		read_inventory(NULL, &inventory);
		assert_int_equal(score(&inventory, 0, 3), levels[i].score);
		assert_int_equal(score(&inventory, 1, 1), 0);
		gs_inventory_free(&inventory);
	}
	/* Two links between 0 and 1; 2 has three links into a switch, 3 has one. */
	for (int link = 0; link < 2; link++) {
		snprintf(fake.gpus[0].remote[link], 32, "%s", fake.gpus[1].bus_id);
		snprintf(fake.gpus[1].remote[link], 32, "%s", fake.gpus[0].bus_id);
	}
	for (int link = 0; link < 3; link++)
		snprintf(fake.gpus[2].remote[link], 32, "00000000:C0:00.0");
	snprintf(fake.gpus[3].remote[3], 32, "00000000:C1:00.0");
	read_inventory(NULL, &inventory);
	assert_int_equal(score(&inventory, 0, 1), 210);
	assert_int_equal(score(&inventory, 2, 3), 110);
	assert_int_equal(score(&inventory, 0, 2), 10);
	/* Read once: links are not asked for again while the GPUs are the same. */
	struct gs_inventory again;
	memset(fake.gpus[0].remote, 0, sizeof fake.gpus[0].remote);
	read_inventory(&inventory, &again);
	assert_int_equal(score(&again, 0, 1), 210);
	gs_inventory_free(&again);
	/* Another GPU comes while one is lost: the lost one keeps what is known of it. */
	fake.gpus[3].lost = true;
	fake.count = 5;
	read_inventory(&inventory, &again);
	assert_int_equal(score(&again, 2, 3), 110);
	gs_inventory_free(&again);
	gs_inventory_free(&inventory);
}

static void put(const char *folder, const char *name, const char *text)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void remove_tree(const char *root, const char *const *paths, size_t count)
{
	for (size_t i = count; i-- > 0;) {
		GS_AUTO_FREE char *path = gs_printf("%s%s", root, paths[i]);
		assert_int_equal(remove(path), 0);
	}
}

static void test_numa_from_sysfs_or_nvml(void **state)
{
	static const char *const tree[] = {"",
					   "/bus",
					   "/bus/pci",
					   "/bus/pci/devices",
					   "/bus/pci/devices/0000:10:00.0",
					   "/bus/pci/devices/0000:10:00.0/vendor",
					   "/bus/pci/devices/0000:10:00.0/numa_node",
					   "/bus/pci/devices/0000:11:00.0",
					   "/bus/pci/devices/0000:11:00.0/vendor",
					   "/bus/pci/devices/0000:11:00.0/numa_node"};
	char root[] = "/tmp/gpushare-test-XXXXXX";
	assert_non_null(mkdtemp(root));
	for (size_t i = 1; i < GS_ARRAY_LENGTH(tree); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s%s", root, tree[i]);
		if (strcmp(path + strlen(path) - 2, ".0") != 0 && strchr(tree[i], '.'))
			put(root, tree[i] + 1,
			    strstr(path, "vendor")  ? "0x10de\n"
			    : strstr(path, "10:00") ? "1\n"
						    : "-1\n");
		else
			assert_int_equal(mkdir(path, 0700), 0);
	}
	fake.gpus[1].numa_node = 3;
	struct gs_inventory inventory = {0};
	struct gs_problems problems = {0};
	assert_int_equal(gs_inventory_read(&nvml, root, NULL, &inventory, &problems, NULL), 0);
	assert_int_equal(inventory.gpus[0].numa_node, 1); /* sysfs */
	assert_int_equal(inventory.gpus[1].numa_node, 3); /* sysfs does not know: NVML */
	assert_int_equal(inventory.gpus[2].numa_node, 0); /* not in sysfs */
	gs_inventory_free(&inventory);
	gs_problems_free(&problems);
	remove_tree(root, tree, GS_ARRAY_LENGTH(tree));
}

static void test_probe(void **state)
{
	struct gs_probe probe;
	fake.gpus[0].recovery_action = NVML_GPU_RECOVERY_ACTION_GPU_RESET;
	gs_probe_read(&nvml, fake.gpus[0].uuid, &probe);
	assert_int_equal(probe.result, GS_PROBE_OK);
	assert_true(probe.recovery_known && probe.remap_known && probe.remap_pending && !probe.remap_failed);
	assert_int_equal(probe.recovery_action, 1);
	assert_int_equal(probe.ecc_uncorrectable, 7);
	assert_int_equal(probe.energy_mj, 5000);
	gs_probe_read(&nvml, "GPU-unknown", &probe);
	assert_int_equal(probe.result, GS_PROBE_LOST);
	fake.gpus[0].lost = true;
	gs_probe_read(&nvml, fake.gpus[0].uuid, &probe);
	assert_int_equal(probe.result, GS_PROBE_LOST);
	fake.gpus[1].no_memory = true; /* answers, if only that it has none to tell of */
	gs_probe_read(&nvml, fake.gpus[1].uuid, &probe);
	assert_int_equal(probe.result, GS_PROBE_OK);
}

static void test_probe_each_call_failing(void **state)
{
	for (unsigned n = 1; n <= 6; n++) {
		struct gs_probe probe;
		fake.calls = 0;
		fake.fail_call = n;
		fake.fail_code = NVML_ERROR_UNKNOWN;
		gs_probe_read(&nvml, fake.gpus[0].uuid, &probe);
		assert_int_equal(probe.result, n <= 2 ? GS_PROBE_FAILED : GS_PROBE_OK);
		assert_true(probe.recovery_known == (n > 3));
		assert_true(probe.remap_known == (n > 2 && n != 4));
		assert_true((probe.ecc_uncorrectable == UINT64_MAX) == (n <= 2 || n == 5));
		assert_true((probe.energy_mj == UINT64_MAX) == (n <= 2 || n == 6));
	}
}

static void add_processes(void)
{
	fake.gpus[0].process_count = 2;
	fake.gpus[0].processes[0] = (nvmlProcessInfo_t){.pid = (uint32_t)getpid(), .usedGpuMemory = 100};
	fake.gpus[0].processes[1] = (nvmlProcessInfo_t){.pid = 4000000000u, .usedGpuMemory = UINT64_MAX};
}

static void test_sample(void **state)
{
	struct gs_gpu_sample sample;
	add_processes();
	gs_sample_read(&nvml, fake.gpus[0].uuid, "/proc", &sample);
	assert_int_equal(sample.valid, GS_SAMPLE_MEMORY | GS_SAMPLE_UTILIZATION | GS_SAMPLE_TEMPERATURE |
					       GS_SAMPLE_POWER | GS_SAMPLE_PROCESSES);
	assert_int_equal(sample.memory_used_bytes, 300);
	assert_int_equal(sample.memory_total_bytes, 1000);
	assert_int_equal(sample.utilization_percent, 42);
	assert_int_equal(sample.temperature_c, 55);
	assert_int_equal(sample.power_mw, 123456);
	assert_int_equal(sample.process_count, 2); /* each once, though two lists have it */
	const struct gs_process_sample *own = &sample.processes[1], *gone = &sample.processes[0];
	assert_int_equal(own->pid, getpid());
	assert_true(own->memory_valid && own->utilization_valid);
	assert_int_equal(own->memory_bytes, 100);
	assert_int_equal(own->utilization_percent, 30);
	assert_true(*own->name);
	assert_false(gone->memory_valid);
	assert_string_equal(gone->name, "");
	assert_string_equal(gone->shares, "");
	gs_sample_free(&sample);
}

static void test_sample_of_older_drivers(void **state)
{
	struct gs_gpu_sample sample;
	nvml.DeviceGetMemoryInfo_v2 = NULL;
	nvml.DeviceGetTemperatureV = NULL;
	gs_sample_read(&nvml, fake.gpus[0].uuid, "/proc", &sample);
	assert_int_equal(sample.memory_used_bytes, 400);
	assert_int_equal(sample.temperature_c, 54);
	gs_sample_free(&sample);
}

static void test_sample_each_call_failing(void **state)
{
	add_processes();
	struct gs_gpu_sample sample;
	gs_sample_read(&nvml, fake.gpus[0].uuid, "/proc", &sample);
	gs_sample_free(&sample);
	unsigned calls = fake.calls;
	for (size_t c = 0; c < GS_ARRAY_LENGTH(codes); c++) {
		for (unsigned n = 1; n <= calls; n++) {
			fake.calls = 0;
			fake.fail_call = n;
			fake.fail_code = codes[c];
			gs_sample_read(&nvml, fake.gpus[0].uuid, "/proc", &sample);
			assert_true(sample.process_count == 2 || !(sample.valid & GS_SAMPLE_PROCESSES));
			gs_sample_free(&sample);
		}
	}
}

static void test_lists_that_lie_about_their_length(void **state)
{
	struct gs_gpu_sample sample;
	add_processes();
	fake.count_lies = true;
	gs_sample_read(&nvml, fake.gpus[0].uuid, "/proc", &sample);
	assert_true(sample.process_count <= GS_PROCESSES_MAX);
	gs_sample_free(&sample);
}

static void test_library_that_is_not_there(void **state)
{
	struct gs_nvml *opened = NULL;
	struct gs_error err = {0};
	char root[] = "/tmp/gpushare-test-XXXXXX";
	assert_non_null(mkdtemp(root));
	/* Found below a driver root, but no library: the message says which file. */
	static const char *const tree[] = {"", "/usr", "/usr/lib64", "/usr/lib64/libnvidia-ml.so.1"};
	for (size_t i = 1; i < 3; i++) {
		GS_AUTO_FREE char *path = gs_printf("%s%s", root, tree[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	put(root, tree[3] + 1, "no library");
	if (gs_nvml_open(root, &opened, &err) == 0) {
		gs_nvml_close(opened); /* this machine has a driver */
	} else if (err.source == GS_ERROR_SYSTEM) {
		assert_non_null(strstr(err.text, "libnvidia-ml.so.1"));
		assert_non_null(strstr(err.text, root));
	}
	remove_tree(root, tree, GS_ARRAY_LENGTH(tree));
	gs_nvml_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_reads_what_is_there, setup),
		cmocka_unit_test_setup(test_each_call_failing_after_a_good_read, setup),
		cmocka_unit_test_setup(test_each_call_failing_at_first, setup),
		cmocka_unit_test_setup(test_count_failing_is_an_error, setup),
		cmocka_unit_test_setup(test_lost_gpu_keeps_its_place, setup),
		cmocka_unit_test_setup(test_unplugged_before_a_lost_one, setup),
		cmocka_unit_test_setup(test_hot_plug, setup),
		cmocka_unit_test_setup(test_display_adapter_is_no_change, setup),
		cmocka_unit_test_setup(test_one_uuid_twice, setup),
		cmocka_unit_test_setup(test_old_drivers, setup),
		cmocka_unit_test_setup(test_link_scores, setup),
		cmocka_unit_test_setup(test_numa_from_sysfs_or_nvml, setup),
		cmocka_unit_test_setup(test_probe, setup),
		cmocka_unit_test_setup(test_probe_each_call_failing, setup),
		cmocka_unit_test_setup(test_sample, setup),
		cmocka_unit_test_setup(test_sample_of_older_drivers, setup),
		cmocka_unit_test_setup(test_sample_each_call_failing, setup),
		cmocka_unit_test_setup(test_lists_that_lie_about_their_length, setup),
		cmocka_unit_test_setup(test_library_that_is_not_there, setup),
	};
	return cmocka_run_group_tests_name("gpu inventory", tests, NULL, NULL);
}
