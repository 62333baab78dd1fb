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
#include "base/file.h"
#include "base/strbuf.h"
#include "fake_nvml.h"
#include "gpu/inventory_mig.h"
#include "gpu/inventory_read.h"
#include "gpu/probe.h"
#include "gpu/sample.h"
#include "gpushare/abi.h"

static const struct gs_inventory_places nowhere = {.sysfs = "/nonexistent"};
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
	assert_int_equal(gs_inventory_read(&nvml, &nowhere, previous, inventory, &problems, &err), 0);
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

static void add_layout(void)
{
	fake_add_mig(1, 0, 1, 0);
	fake_add_mig(1, 3, 2, 0)->compute_instance = 1;
	fake_add_mig(3, 1, 3, 0);
	fake.gpus[2].mig_enabled = true; /* and nothing on it */
}

static void test_reads_mig_devices(void **state)
{
	struct gs_inventory inventory;
	add_layout();
	assert_int_equal(read_inventory(NULL, &inventory), 0);
	assert_int_equal(inventory.device_count, 7);
	const struct gs_device *device = &inventory.devices[3];
	assert_string_equal(inventory.devices[2].index, "1:0");
	assert_string_equal(device->index, "1:3");
	assert_string_equal(device->uuid, fake.gpus[1].migs[3].uuid);
	assert_string_equal(device->mig_profile, "2g.20gb");
	assert_true(device->mig);
	assert_int_equal(device->gpu, 1);
	assert_int_equal(device->gpu_instance, 10);
	assert_int_equal(device->compute_instance, 1);
	assert_int_equal(device->memory_bytes, 2ull * 9728 << 20);
	assert_int_equal(device->gi_cap, 0); /* there is no mig-minors */
	assert_string_equal(inventory.devices[6].mig_profile, "3g.30gb");
	assert_true(inventory.gpus[2].mig_enabled);
	assert_int_equal(inventory.devices[0].gpu_instance, UINT32_MAX);
	assert_false(gs_inventory_differs(&nvml, &inventory));
	gs_inventory_free(&inventory);
}

static void test_notices_other_layouts(void **state)
{
	struct gs_inventory inventory;
	add_layout();
	read_inventory(NULL, &inventory);
	fake.gpus[1].migs[3].there = false;
	assert_true(gs_inventory_differs(&nvml, &inventory));
	fake.gpus[1].migs[3].there = true;
	fake_add_mig(3, 6, 1, 0);
	assert_true(gs_inventory_differs(&nvml, &inventory));
	fake.gpus[3].migs[6].there = false;
	assert_false(gs_inventory_differs(&nvml, &inventory));
	fake_add_mig(3, 1, 3, 1); /* another one in the same place */
	assert_true(gs_inventory_differs(&nvml, &inventory));
	fake_add_mig(3, 1, 3, 0);
	fake.gpus[0].mig_enabled = true;
	assert_true(gs_inventory_differs(&nvml, &inventory));
	fake.gpus[0].mig_enabled = false;
	assert_false(gs_inventory_differs(&nvml, &inventory));
	gs_inventory_free(&inventory);
}

/* Any one call that fails for another reason than that there is nothing: no MIG device is lost, and none changes. */
static void test_mig_calls_failing_after_a_good_read(void **state)
{
	static const nvmlReturn_t passing[] = {NVML_ERROR_NO_PERMISSION, NVML_ERROR_TIMEOUT, NVML_ERROR_GPU_IS_LOST,
					       NVML_ERROR_UNKNOWN};
	struct gs_inventory good;
	add_layout();
	fake.calls = 0;
	read_inventory(NULL, &good);
	unsigned calls = fake.calls;
	for (size_t c = 0; c < GS_ARRAY_LENGTH(passing); c++) {
		for (unsigned n = 2; n <= calls; n++) {
			struct gs_inventory now;
			fake.calls = 0;
			fake.fail_call = n;
			fake.fail_code = passing[c];
			read_inventory(&good, &now);
			if (!gs_inventory_equal(&good, &now))
				fail_msg("call %u answered %d: %zu devices instead of %zu", n, (int)passing[c],
					 now.device_count, good.device_count);
			gs_inventory_free(&now);
			fake.calls = 0;
			assert_false(gs_inventory_differs(&nvml, &good));
		}
	}
	gs_inventory_free(&good);
}

/* The GPU moves up in the list while it can't be asked for its MIG devices: their names move with it. */
static void test_mig_devices_of_a_gpu_that_moved(void **state)
{
	struct gs_inventory before, now;
	add_layout();
	read_inventory(NULL, &before);
	unplug(0);
	fake.fail_name = "DeviceGetMaxMigDeviceCount";
	fake.fail_code = NVML_ERROR_TIMEOUT;
	assert_int_equal(read_inventory(&before, &now), 3);
	assert_int_equal(now.device_count, 6);
	assert_string_equal(now.devices[2].uuid, before.devices[3].uuid);
	assert_string_equal(now.devices[2].index, "0:3");
	assert_int_equal(now.devices[2].gpu, 0);
	gs_inventory_free(&before);
	gs_inventory_free(&now);
}

static void test_mig_minors(void **state)
{
	static const char text[] = "config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci0/access 4\n"
				   "gpu10/gi1/access 9999999999\ngpu1/gi1/access 147\ngpu1/gi1/ci0/access 148";
	assert_int_equal(gs_mig_minor(text, "gpu0/gi0/access"), 3);
	assert_int_equal(gs_mig_minor(text, "gpu1/gi1/ci0/access"), 148);
	assert_int_equal(gs_mig_minor(text, "gpu1/gi1/access"), 147);
	assert_int_equal(gs_mig_minor(text, "gpu0/gi1/access"), 0);
	assert_int_equal(gs_mig_minor(text, "gpu10/gi1/access"), 0); /* no minor is that large */
	assert_int_equal(gs_mig_minor("", "gpu0/gi0/access"), 0);
	assert_int_equal(gs_mig_minor("gpu0/gi0/access", "gpu0/gi0/access"), 0);
}

/* Sizes of real GPUs, in MiB; the names are those that NVIDIA's tools give. */
static void test_profile_names(void **state)
{
	static const struct {
		const char *name, *profile;
		uint64_t gpu_mib, mig_mib;
		uint32_t slices, compute;
	} cases[] = {
		{"NVIDIA A100-SXM4-80GB MIG 1g.10gb", "1g.10gb", 81920, 9728, 1, 1},
		{"NVIDIA A100-SXM4-80GB MIG 1g.10gb+me", "1g.10gb+me", 81920, 9728, 1, 1},
		{"MIG 1c.3g.40gb", "1c.3g.40gb", 81920, 40192, 3, 1},
		{"NVIDIA RTX PRO 6000 MIG 1g.24gb-me", "1g.24gb-me", 97887, 24192, 1, 1},
		{"NVIDIA A100-SXM4-80GB", "1g.10gb", 81920, 9728, 1, 1},
		{"NVIDIA A100-SXM4-80GB MIG 7g.80gb; rm -rf", "2c.3g.40gb", 81920, 40192, 3, 2},
		{"", "3g.47gb", 95830, 47488, 3, 3},
		{"", "1g.18gb", 143771, 16384, 1, 1},
		{"", "1g.6gb", 24576, 5952, 1, 1},
		{"", "1g.0gb", 0, 100, 1, 1},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++) {
		nvmlDeviceAttributes_t attributes = {.gpuInstanceSliceCount = cases[i].slices,
						     .computeInstanceSliceCount = cases[i].compute,
						     .memorySizeMB = cases[i].mig_mib};
		char profile[32];
		gs_mig_profile_name(cases[i].name, &attributes, cases[i].gpu_mib << 20, profile, sizeof profile);
		assert_string_equal(profile, cases[i].profile);
	}
}

static void test_count_failing_is_an_error(void **state)
{
	struct gs_inventory inventory = {0};
	struct gs_problems problems = {0};
	struct gs_error err;
	fake.fail_name = "DeviceGetCount";
	fake.fail_code = NVML_ERROR_UNKNOWN;
	assert_int_equal(gs_inventory_read(&nvml, &nowhere, NULL, &inventory, &problems, &err), -1);
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

/* One was lost when the daemon began, and never read: another one that is lost later is not taken for it. */
static void test_lost_beside_one_that_was_never_read(void **state)
{
	struct gs_inventory before, now;
	fake.gpus[1].lost = true;
	assert_int_equal(read_inventory(NULL, &before), 1);
	assert_int_equal(before.gpu_count, 3);
	fake.gpus[0].lost = fake.gpus[2].lost = true;
	assert_int_equal(read_inventory(&before, &now), 3);
	assert_int_equal(now.gpu_count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t gpu = i ? i + 1 : 0;
		assert_string_equal(now.gpus[i].uuid, fake.gpus[gpu].uuid);
		assert_int_equal(now.gpus[i].index, gpu);
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

/* A status document, a label and a log line can't have it as it is. */
static void test_name_that_is_no_text(void **state)
{
	struct gs_inventory inventory;
	snprintf(fake.gpus[1].name, sizeof fake.gpus[1].name, "NVIDIA \xff\x1b[31m A100");
	assert_int_equal(read_inventory(NULL, &inventory), 0);
	assert_string_equal(inventory.gpus[1].name, "NVIDIA ??[31m A100");
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
	assert_int_equal(gs_inventory_read(&nvml, &nowhere, NULL, &inventory, &problems, &err), -1);
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
	assert_int_equal(gs_inventory_read(&nvml, &(struct gs_inventory_places){.sysfs = root}, NULL, &inventory,
					   &problems, NULL),
			 0);
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
	assert_true(sample.at_ms > 0);
	assert_int_equal(sample.memory_used_bytes, 300);
	assert_int_equal(sample.memory_free_bytes, 600);
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
	assert_int_not_equal(own->place.kind, GS_PLACE_UNKNOWN);
	assert_int_equal(gone->place.kind, GS_PLACE_UNKNOWN);
	assert_false(gone->memory_valid);
	assert_string_equal(gone->name, "");
	assert_string_equal(gone->shares, "");
	gs_sample_free(&sample);
}

/* What containers write into environments takes no more than its room; whoever comes last still names its share. */
static void test_long_environments(void **state)
{
	char root[] = "/tmp/gpushare-test-XXXXXX", path[64];
	enum { NAME_BYTES = 16, NAMES = 8000, PROCESSES = 12 };
	struct gs_gpu_sample sample;
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	assert_non_null(mkdtemp(root));
	gs_strbuf_add(&text, GPUSHARE_ENV_SHARES "=");
	for (unsigned i = 0; i < NAMES; i++)
		gs_strbuf_printf(&text, "GPU-share::%04u,", i);
	fake.gpus[0].process_count = PROCESSES;
	for (unsigned i = 0; i < PROCESSES; i++) {
		fake.gpus[0].processes[i] = (nvmlProcessInfo_t){.pid = i + 1};
		snprintf(path, sizeof path, "%s/%u", root, i + 1);
		assert_int_equal(mkdir(path, 0700), 0);
		snprintf(path, sizeof path, "%s/%u/environ", root, i + 1);
		assert_int_equal(gs_write_file(path, text.data, text.length, 0600, NULL), 0);
	}
	gs_sample_read(&nvml, fake.gpus[0].uuid, root, &sample);
	assert_int_equal(sample.process_count, PROCESSES);
	size_t total = 0;
	for (unsigned i = 0; i < PROCESSES; i++) {
		const char *shares = sample.processes[i].shares;
		size_t length = strlen(shares);
		total += length;
		assert_true(length >= 256);
		assert_int_equal((length + 1) % NAME_BYTES * (length % NAME_BYTES), 0); /* no name is cut */
		snprintf(path, sizeof path, "%s/%u/environ", root, i + 1);
		unlink(path);
		*strrchr(path, '/') = '\0';
		rmdir(path);
	}
	gs_sample_free(&sample);
	rmdir(root);
	assert_in_range(total, 1024 * 1024 - NAME_BYTES, 1024 * 1024 + PROCESSES * 512);
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
		cmocka_unit_test_setup(test_reads_mig_devices, setup),
		cmocka_unit_test_setup(test_notices_other_layouts, setup),
		cmocka_unit_test_setup(test_mig_calls_failing_after_a_good_read, setup),
		cmocka_unit_test_setup(test_mig_devices_of_a_gpu_that_moved, setup),
		cmocka_unit_test(test_mig_minors),
		cmocka_unit_test(test_profile_names),
		cmocka_unit_test_setup(test_count_failing_is_an_error, setup),
		cmocka_unit_test_setup(test_lost_gpu_keeps_its_place, setup),
		cmocka_unit_test_setup(test_unplugged_before_a_lost_one, setup),
		cmocka_unit_test_setup(test_lost_beside_one_that_was_never_read, setup),
		cmocka_unit_test_setup(test_hot_plug, setup),
		cmocka_unit_test_setup(test_display_adapter_is_no_change, setup),
		cmocka_unit_test_setup(test_name_that_is_no_text, setup),
		cmocka_unit_test_setup(test_one_uuid_twice, setup),
		cmocka_unit_test_setup(test_old_drivers, setup),
		cmocka_unit_test_setup(test_link_scores, setup),
		cmocka_unit_test_setup(test_numa_from_sysfs_or_nvml, setup),
		cmocka_unit_test_setup(test_probe, setup),
		cmocka_unit_test_setup(test_probe_each_call_failing, setup),
		cmocka_unit_test_setup(test_sample, setup),
		cmocka_unit_test_setup(test_long_environments, setup),
		cmocka_unit_test_setup(test_sample_of_older_drivers, setup),
		cmocka_unit_test_setup(test_sample_each_call_failing, setup),
		cmocka_unit_test_setup(test_lists_that_lie_about_their_length, setup),
		cmocka_unit_test_setup(test_library_that_is_not_there, setup),
	};
	return cmocka_run_group_tests_name("gpu inventory", tests, NULL, NULL);
}
