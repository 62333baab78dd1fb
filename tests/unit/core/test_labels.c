#include "core/labels/labels.h"
#include "fixture.h"

struct node {
	struct gs_sharing_resource entry;
	struct gs_config config;
	struct gs_inventory inventory;
	struct gs_label_facts facts;
	struct gs_plan plan;
	struct gs_labels labels;
};

static void node_open(struct node *node, unsigned gpus, unsigned mig_each)
{
	*node = (struct node){.inventory = fixture_inventory(gpus, mig_each)};
	for (unsigned i = 0; i < gpus; i++) {
		node->inventory.gpus[i].compute_major = 8;
		node->inventory.gpus[i].mig_capable = true;
	}
	snprintf(node->facts.driver_version, sizeof node->facts.driver_version, "550.54.15");
	node->facts.cuda_version = 12040;
	node->facts.started_seconds = 1700000000;
	snprintf(node->facts.machine, sizeof node->facts.machine, "DGX A100 (rev B)");
	node->facts.gpus = gs_calloc(gpus, sizeof *node->facts.gpus);
	node->facts.gpu_count = gpus;
	for (unsigned i = 0; i < gpus; i++) {
		memcpy(node->facts.gpus[i].uuid, node->inventory.gpus[i].uuid, GS_UUID_SIZE);
		node->facts.gpus[i].pci_class = 0x030200;
	}
	node->facts.mig = gs_calloc(node->inventory.device_count, sizeof *node->facts.mig);
	for (size_t i = 0; i < node->inventory.device_count; i++) {
		if (!node->inventory.devices[i].mig)
			continue;
		struct gs_mig_facts *mig = &node->facts.mig[node->facts.mig_count++];
		*mig = (struct gs_mig_facts){
			.multiprocessors = 14, .slices_gi = 1, .slices_ci = 1, .engines_copy = 1, .memory_mib = 9728};
		memcpy(mig->uuid, node->inventory.devices[i].uuid, GS_UUID_SIZE);
	}
}

static void share(struct node *node, const char *name, unsigned replicas)
{
	node->config = fixture_time_slicing(&node->entry, name, replicas);
}

static void build(struct node *node)
{
	gs_plan_free(&node->plan);
	gs_labels_free(&node->labels);
	node->plan = fixture_plan(&node->config, &node->inventory);
	gs_labels_build(&node->config, &node->inventory, &node->plan, &node->facts, &node->labels);
}

static void node_close(struct node *node)
{
	gs_labels_free(&node->labels);
	gs_plan_free(&node->plan);
	gs_label_facts_free(&node->facts);
	gs_inventory_free(&node->inventory);
}

static void expect(const struct node *node, const char *key, const char *value)
{
	char full[GS_LABEL_KEY_SIZE];
	snprintf(full, sizeof full, "nvidia.com/%s", key);
	const char *found = NULL;
	for (size_t i = 0; i < node->labels.count && !found; i++)
		if (strcmp(node->labels.items[i].key, full) == 0)
			found = node->labels.items[i].value;
	if (!value && found)
		fail_msg("%s is \"%s\" and should not be there", full, found);
	if (value && (!found || strcmp(found, value) != 0))
		fail_msg("%s is \"%s\" and not \"%s\"", full, found ? found : "(missing)", value);
}

static void test_whole_gpus(void **state)
{
	struct node node;
	node_open(&node, 8, 0);
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	expect(&node, "gpu.count", "8");
	expect(&node, "gpu.replicas", "1");
	expect(&node, "gpu.sharing-strategy", "none");
	expect(&node, "gpu.memory", "81920");
	expect(&node, "gpu.family", "ampere");
	expect(&node, "gpu.compute.major", "8");
	expect(&node, "gpu.compute.minor", "0");
	expect(&node, "gpu.machine", "DGX-A100-rev-B");
	expect(&node, "gpu.mode", "compute");
	expect(&node, "gpu.present", "true");
	expect(&node, "gpu.clique", NULL);
	expect(&node, "mig.capable", "true");
	expect(&node, "mig.strategy", NULL);
	expect(&node, "mps.capable", "false");
	expect(&node, "vgpu.present", "false");
	expect(&node, "vgpu.host-driver-version", NULL);
	expect(&node, "gfd.timestamp", "1700000000");
	expect(&node, "cuda.driver-version.full", "550.54.15");
	expect(&node, "cuda.driver-version.revision", "15");
	expect(&node, "cuda.driver.major", "550");
	expect(&node, "cuda.driver.minor", "54");
	expect(&node, "cuda.driver.rev", "15");
	expect(&node, "cuda.runtime-version.full", "12.4");
	expect(&node, "cuda.runtime.major", "12");
	expect(&node, "cuda.runtime.minor", "4");
	assert_int_equal(node.labels.count, 27);
	node_close(&node);
}

static void test_no_gpu_has_no_label(void **state)
{
	struct node node;
	node_open(&node, 0, 0);
	build(&node);
	assert_int_equal(node.labels.count, 0);
	node_close(&node);
}

static void test_unknown_facts_are_left_out(void **state)
{
	struct node node;
	node_open(&node, 1, 0);
	node.inventory.gpus[0].memory_bytes = 0;
	node.inventory.gpus[0].compute_major = 0;
	gs_label_facts_free(&node.facts);
	build(&node);
	expect(&node, "gpu.memory", NULL);
	expect(&node, "gpu.family", NULL);
	expect(&node, "gpu.compute.minor", NULL);
	expect(&node, "cuda.driver-version.full", NULL);
	expect(&node, "cuda.driver.major", NULL);
	expect(&node, "cuda.runtime-version.full", NULL);
	expect(&node, "gfd.timestamp", NULL);
	expect(&node, "gpu.machine", "unknown");
	expect(&node, "gpu.mode", "unknown");
	node_close(&node);
}

static void test_driver_of_two_parts(void **state)
{
	struct node node;
	node_open(&node, 1, 0);
	snprintf(node.facts.driver_version, sizeof node.facts.driver_version, "610.43");
	build(&node);
	expect(&node, "cuda.driver-version.minor", "43");
	expect(&node, "cuda.driver-version.revision", "");
	snprintf(node.facts.driver_version, sizeof node.facts.driver_version, "1.2.3.4");
	build(&node);
	expect(&node, "cuda.driver-version.full", "1.2.3.4");
	expect(&node, "cuda.driver-version.major", NULL);
	node_close(&node);
}

static void test_families(void **state)
{
	static const struct {
		int major, minor;
		const char *family;
	} known[] = {{3, 5, "kepler"},       {7, 0, "volta"},      {7, 5, "turing"},     {8, 6, "ampere"},
		     {8, 9, "ada-lovelace"}, {9, 0, "hopper"},     {10, 0, "blackwell"}, {12, 0, "blackwell"},
		     {13, 0, "rubin"},       {99, 0, "undefined"}, {4, 0, "undefined"}};
	struct node node;
	node_open(&node, 1, 0);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(known); i++) {
		node.inventory.gpus[0].compute_major = known[i].major;
		node.inventory.gpus[0].compute_minor = known[i].minor;
		build(&node);
		expect(&node, "gpu.family", known[i].family);
	}
	node_close(&node);
}

static void test_shared_under_its_name(void **state)
{
	struct node node;
	node_open(&node, 4, 0);
	share(&node, "nvidia.com/gpu", 4);
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB-SHARED");
	expect(&node, "gpu.replicas", "4");
	expect(&node, "gpu.count", "4");
	expect(&node, "gpu.sharing-strategy", "time-slicing");
	node_close(&node);
}

static void test_renamed_is_not_marked(void **state)
{
	struct node node;
	node_open(&node, 4, 0);
	share(&node, "nvidia.com/gpu", 4);
	node.config.time_slicing.rename_by_default = true;
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	expect(&node, "gpu.replicas", "4");
	node.config.time_slicing.rename_by_default = false;
	node.entry.rename = (char *)(uintptr_t) "nvidia.com/quarter";
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	expect(&node, "gpu.replicas", "4");
	node_close(&node);
}

static void test_one_replica_is_not_shared(void **state)
{
	struct node node;
	node_open(&node, 2, 0);
	share(&node, "nvidia.com/gpu", 1);
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	expect(&node, "gpu.replicas", "1");
	expect(&node, "gpu.sharing-strategy", "none");
	node_close(&node);
}

static void test_resource_patterns_do_not_change_keys(void **state)
{
	struct gs_resource_pattern pattern = {.pattern = (char *)(uintptr_t) "*A100*",
					      .name = (char *)(uintptr_t) "nvidia.com/a100"};
	struct node node;
	node_open(&node, 2, 0);
	node.config.gpu_patterns = &pattern;
	node.config.gpu_pattern_count = 1;
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	expect(&node, "gpu.count", "2");
	expect(&node, "gpu.replicas", "1");
	node_close(&node);
}

/* What most GPUs of the model have; of equally many the greater number of replicas. */
static void test_differently_shared_gpus(void **state)
{
	struct node node;
	node_open(&node, 4, 0);
	share(&node, "nvidia.com/gpu", 8);
	node.entry.devices.kind = GS_SELECT_COUNT;
	node.entry.devices.count = 1;
	build(&node);
	expect(&node, "gpu.replicas", "1");
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	node.entry.devices.count = 2;
	build(&node);
	expect(&node, "gpu.replicas", "8");
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB-SHARED");
	node_close(&node);
}

static void set_model(struct node *node, unsigned gpu, const char *name, uint64_t gib)
{
	snprintf(node->inventory.gpus[gpu].name, GS_GPU_NAME_SIZE, "%s", name);
	node->inventory.gpus[gpu].memory_bytes = gib << 30;
}

static void test_models_are_chosen_by_count_memory_name(void **state)
{
	struct node node;
	node_open(&node, 5, 0);
	set_model(&node, 0, "NVIDIA L4", 23);
	set_model(&node, 1, "Tesla T4", 15);
	set_model(&node, 2, "Tesla T4", 15);
	set_model(&node, 3, "NVIDIA L4", 23);
	set_model(&node, 4, "Tesla T4", 15);
	build(&node);
	expect(&node, "gpu.product", "Tesla-T4");
	expect(&node, "gpu.count", "3");
	expect(&node, "gpu.memory", "15360");
	set_model(&node, 4, "NVIDIA H100", 80);
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-L4");
	set_model(&node, 0, "B", 15);
	set_model(&node, 3, "B", 15);
	build(&node);
	expect(&node, "gpu.product", "B");
	node_close(&node);
}

static void test_mode(void **state)
{
	struct node node;
	node_open(&node, 2, 0);
	node.facts.gpus[1].pci_class = 0x030000;
	build(&node);
	expect(&node, "gpu.mode", "unknown");
	node.facts.gpus[0].pci_class = 0x030000;
	build(&node);
	expect(&node, "gpu.mode", "graphics");
	node_close(&node);
}

static void test_clique(void **state)
{
	struct node node;
	node_open(&node, 3, 0);
	for (int i = 0; i < 2; i++) {
		node.facts.gpus[i].fabric = true;
		node.facts.gpus[i].fabric_clique = 3;
		snprintf(node.facts.gpus[i].fabric_cluster, sizeof node.facts.gpus[i].fabric_cluster,
			 "7b968a6d-c8aa-45e1-9e07-e1e51be99c31");
	}
	build(&node);
	expect(&node, "gpu.clique", "7b968a6d-c8aa-45e1-9e07-e1e51be99c31.3");
	node.facts.gpus[1].fabric_clique = 4;
	build(&node);
	expect(&node, "gpu.clique", NULL);
	node_close(&node);
}

static void test_vgpu(void **state)
{
	struct node node;
	node_open(&node, 1, 0);
	node.facts.gpus[0].vgpu = true;
	snprintf(node.facts.vgpu_host_driver_version, sizeof node.facts.vgpu_host_driver_version, "580.126.08");
	snprintf(node.facts.vgpu_host_driver_branch, sizeof node.facts.vgpu_host_driver_branch, "r582_12");
	build(&node);
	expect(&node, "vgpu.present", "true");
	expect(&node, "vgpu.host-driver-version", "580.126.08");
	expect(&node, "vgpu.host-driver-branch", "r582_12");
	node_close(&node);
}

/* As NVIDIA documents for migStrategy single (https://docs.nvidia.com/datacenter/cloud-native/kubernetes/latest/index.html),
 * on GPUs of 80 GB. */
static void test_mig_single(void **state)
{
	struct node node;
	node_open(&node, 8, 7);
	node.config.flags.mig_strategy = GS_MIG_SINGLE;
	build(&node);
	expect(&node, "mig.strategy", "single");
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb");
	expect(&node, "gpu.count", "56");
	expect(&node, "gpu.replicas", "1");
	expect(&node, "gpu.memory", "9728");
	expect(&node, "gpu.multiprocessors", "14");
	expect(&node, "gpu.slices.gi", "1");
	expect(&node, "gpu.slices.ci", "1");
	expect(&node, "gpu.engines.copy", "1");
	expect(&node, "gpu.engines.decoder", "0");
	expect(&node, "gpu.engines.encoder", "0");
	expect(&node, "gpu.engines.jpeg", "0");
	expect(&node, "gpu.engines.ofa", "0");
	expect(&node, "gpu.family", "ampere");
	expect(&node, "mig-1g.10gb.count", NULL);
	share(&node, "nvidia.com/gpu", 2);
	node.config.flags.mig_strategy = GS_MIG_SINGLE;
	build(&node);
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED");
	expect(&node, "gpu.replicas", "2");
	node_close(&node);
}

static void test_mig_single_without_mig(void **state)
{
	struct node node;
	node_open(&node, 2, 0);
	node.config.flags.mig_strategy = GS_MIG_SINGLE;
	build(&node);
	expect(&node, "mig.strategy", "single");
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	expect(&node, "gpu.count", "2");
	expect(&node, "gpu.multiprocessors", NULL);
	node_close(&node);
}

static void expect_invalid(struct node *node)
{
	build(node);
	expect(node, "gpu.product", "NVIDIA-A100-SXM4-80GB-MIG-INVALID");
	expect(node, "gpu.count", "0");
	expect(node, "gpu.replicas", "0");
	expect(node, "gpu.memory", "0");
	expect(node, "gpu.sharing-strategy", "");
	expect(node, "gpu.multiprocessors", NULL);
	expect(node, "gpu.family", "ampere");
	expect(node, "mig.strategy", "single");
}

static void test_mig_single_invalid(void **state)
{
	struct node node;
	node_open(&node, 2, 1);
	node.config.flags.mig_strategy = GS_MIG_SINGLE;
	/* Two profiles. */
	snprintf(node.inventory.devices[3].mig_profile, sizeof node.inventory.devices[3].mig_profile, "3g.40gb");
	expect_invalid(&node);
	/* A GPU without MIG beside one with it. */
	node.inventory.device_count = 3;
	node.inventory.gpus[1].mig_enabled = false;
	expect_invalid(&node);
	/* A GPU with MIG and no instance. */
	node.inventory.gpus[1].mig_enabled = true;
	expect_invalid(&node);
	node_close(&node);
}

static void test_mig_mixed(void **state)
{
	struct node node;
	node_open(&node, 2, 2);
	snprintf(node.inventory.devices[1].mig_profile, sizeof node.inventory.devices[1].mig_profile, "1g.10gb+me");
	share(&node, "nvidia.com/mig-1g.10gb", 3);
	node.config.flags.mig_strategy = GS_MIG_MIXED;
	build(&node);
	expect(&node, "mig.strategy", "mixed");
	expect(&node, "gpu.product", "NVIDIA-A100-SXM4-80GB");
	expect(&node, "gpu.count", "2");
	expect(&node, "gpu.replicas", "0");
	expect(&node, "gpu.memory", "81920");
	expect(&node, "mig-1g.10gb.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED");
	expect(&node, "mig-1g.10gb.count", "3");
	expect(&node, "mig-1g.10gb.replicas", "3");
	expect(&node, "mig-1g.10gb.sharing-strategy", "time-slicing");
	expect(&node, "mig-1g.10gb.memory", "9728");
	expect(&node, "mig-1g.10gb.multiprocessors", "14");
	expect(&node, "mig-1g.10gb.engines.ofa", "0");
	expect(&node, "mig-1g.10gb.me.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb.me");
	expect(&node, "mig-1g.10gb.me.count", "1");
	expect(&node, "mig-1g.10gb.me.replicas", "1");
	node_close(&node);
}

/* A model of 50 letters: there is room for it with the profile, and not with the mark as well. */
static void test_mig_products_are_cut_only_when_too_long(void **state)
{
	struct node node;
	node_open(&node, 1, 1);
	snprintf(node.inventory.gpus[0].name, GS_GPU_NAME_SIZE, "NVIDIA RTX PRO 6000 Blackwell Max-Q Server 12345 x");
	snprintf(node.inventory.devices[1].mig_profile, sizeof node.inventory.devices[1].mig_profile, "1g.24gb");
	node.config.flags.mig_strategy = GS_MIG_MIXED;
	build(&node);
	expect(&node, "mig-1g.24gb.product", "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Server-12345-x-MIG-1g.24gb");
	share(&node, "nvidia.com/mig-1g.24gb", 3);
	node.config.flags.mig_strategy = GS_MIG_MIXED;
	build(&node);
	expect(&node, "mig-1g.24gb.product", "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Server-1-MIG-1g.24gb-SHARED");
	snprintf(node.inventory.devices[1].mig_profile, sizeof node.inventory.devices[1].mig_profile, "1g.24gb+me,gfx");
	build(&node);
	expect(&node, "mig-1g.24gb.me.gfx.product", "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Server-1-MIG-1g.24gb.me.gfx");
	snprintf(node.inventory.devices[1].mig_profile, sizeof node.inventory.devices[1].mig_profile, "1g.24gb-me");
	build(&node);
	expect(&node, "mig-1g.24gb-me.count", "1");
	node_close(&node);
}

static void test_timestamp_is_optional(void **state)
{
	struct node node;
	node_open(&node, 1, 0);
	node.config.flags.gfd.no_timestamp = true;
	build(&node);
	expect(&node, "gfd.timestamp", NULL);
	node_close(&node);
}

static void test_sanitise(void **state)
{
	static const char *const pairs[][2] = {
		{"NVIDIA H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3"},
		{"  a   b\tc\n", "a-b-c"},
		{"Standard PC (Q35 + ICH9, 2009)", "Standard-PC-Q35-ICH9-2009"},
		{"--x__", "x"},
		{"\xc3\xa9t\xc3\xa9", "t"},
		{"()", ""},
		{"", ""},
		{"a(", "a"},
	};
	char value[GS_LABEL_VALUE_MAX + 1];
	for (size_t i = 0; i < GS_ARRAY_LENGTH(pairs); i++) {
		gs_label_sanitise(pairs[i][0], value);
		assert_string_equal(value, pairs[i][1]);
	}
	gs_label_sanitise("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgg. x", value);
	assert_string_equal(value, "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgg");
}

static void test_feature_file(void **state)
{
	struct node node;
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	node_open(&node, 1, 0);
	build(&node);
	gs_labels_feature_file(&node.labels, &text);
	assert_non_null(strstr(text.data, "\nnvidia.com/gpu.count=1\n"));
	assert_true(strncmp(text.data, "nvidia.com/cuda.driver-version.full=550.54.15\n", 46) == 0);
	node_close(&node);
}

/* --- properties --- */

static void random_text(uint64_t *seed, char *text, size_t size)
{
	static const char letters[] = "AZaz09-_. +()/:\xc3\xff\t\n";
	size_t length = fixture_random(seed) % size;
	for (size_t i = 0; i < length; i++)
		text[i] = letters[fixture_random(seed) % (sizeof letters - 1)];
	text[length] = '\0';
}

static void randomise(struct node *node, uint64_t *seed)
{
	char models[3][GS_GPU_NAME_SIZE], profiles[4][32];
	for (int i = 0; i < 3; i++)
		random_text(seed, models[i], sizeof models[i]);
	for (int i = 0; i < 4; i++) {
		random_text(seed, profiles[i], sizeof profiles[i]);
		if (!*profiles[i])
			snprintf(profiles[i], sizeof profiles[i], "1g.10gb");
	}
	random_text(seed, node->facts.machine, sizeof node->facts.machine);
	random_text(seed, node->facts.driver_version, sizeof node->facts.driver_version);
	node->facts.cuda_version = (int)fixture_random(seed);
	for (size_t i = 0; i < node->inventory.gpu_count; i++) {
		struct gs_gpu *gpu = &node->inventory.gpus[i];
		memcpy(gpu->name, models[fixture_random(seed) % 3], sizeof gpu->name);
		gpu->memory_bytes = (uint64_t)(1 + fixture_random(seed) % 2) << 34;
		gpu->compute_major = (int)(fixture_random(seed) % 14);
		gpu->mig_enabled = fixture_random(seed) % 2;
		node->facts.gpus[i].pci_class = fixture_random(seed) % 2 ? 0x030200 : 0x030000;
		node->facts.gpus[i].fabric = fixture_random(seed) % 2;
		random_text(seed, node->facts.gpus[i].fabric_cluster, sizeof node->facts.gpus[i].fabric_cluster);
		node->facts.gpus[i].vgpu = fixture_random(seed) % 4 == 0;
	}
	for (size_t i = 0; i < node->inventory.device_count; i++)
		if (node->inventory.devices[i].mig)
			memcpy(node->inventory.devices[i].mig_profile, profiles[fixture_random(seed) % 4],
			       sizeof profiles[0]);
	for (size_t i = 0; i < node->facts.mig_count; i++)
		node->facts.mig[i].multiprocessors = fixture_random(seed) % 3;
	node->config.flags.mig_strategy = (enum gs_mig_strategy)(fixture_random(seed) % 3);
	node->config.time_slicing.rename_by_default = fixture_random(seed) % 2;
	if (fixture_random(seed) % 2) {
		node->entry.devices.kind = GS_SELECT_COUNT;
		node->entry.devices.count = 1 + fixture_random(seed) % 4;
	}
}

/* Sorted, no key twice, and all of it as Kubernetes wants it. */
static void check_valid(const struct gs_labels *labels)
{
	for (size_t i = 0; i < labels->count; i++) {
		const char *value = labels->items[i].value;
		char sane[GS_LABEL_VALUE_MAX + 1];
		gs_label_sanitise(value, sane);
		if (!gs_label_key_valid(labels->items[i].key) || strcmp(value, sane) != 0)
			fail_msg("not a label: %s=%s", labels->items[i].key, labels->items[i].value);
		if (i > 0)
			assert_true(strcmp(labels->items[i - 1].key, labels->items[i].key) < 0);
	}
}

/* The same devices in another order, and facts in yet another. */
static void shuffle(struct node *node, uint64_t *seed)
{
	struct gs_inventory *inventory = &node->inventory;
	uint32_t where[GS_GPUS_MAX];
	struct gs_gpu gpus[GS_GPUS_MAX];
	for (uint32_t i = 0; i < inventory->gpu_count; i++)
		where[i] = i;
	for (uint32_t i = (uint32_t)inventory->gpu_count; i > 1; i--) {
		uint32_t j = fixture_random(seed) % i, held = where[i - 1];
		where[i - 1] = where[j];
		where[j] = held;
	}
	for (uint32_t i = 0; i < inventory->gpu_count; i++)
		gpus[where[i]] = inventory->gpus[i];
	for (uint32_t i = 0; i < inventory->gpu_count; i++) {
		inventory->gpus[i] = gpus[i];
		inventory->gpus[i].index = i;
	}
	for (size_t i = 0; i < inventory->device_count; i++)
		inventory->devices[i].gpu = where[inventory->devices[i].gpu];
	for (size_t i = inventory->device_count; i > 1; i--) {
		size_t j = fixture_random(seed) % i;
		struct gs_device held = inventory->devices[i - 1];
		inventory->devices[i - 1] = inventory->devices[j];
		inventory->devices[j] = held;
	}
	for (size_t i = node->facts.mig_count; i > 1; i--) {
		size_t j = fixture_random(seed) % i;
		struct gs_mig_facts held = node->facts.mig[i - 1];
		node->facts.mig[i - 1] = node->facts.mig[j];
		node->facts.mig[j] = held;
	}
}

static void test_any_node_has_valid_labels_whatever_the_order(void **state)
{
	uint64_t seed = 1;
	unsigned planned = 0;
	for (int round = 0; round < 2000; round++) {
		struct node node;
		node_open(&node, 1 + fixture_random(&seed) % 6, fixture_random(&seed) % 4);
		share(&node, "nvidia.com/gpu", 1 + fixture_random(&seed) % 5);
		randomise(&node, &seed);
		/* Names that Kubernetes does not take make no plan; that is the plan's to say. */
		if (gs_plan_build(&node.config, &node.inventory, gs_strategies, gs_strategy_count, &node.plan, NULL) <
		    0) {
			node_close(&node);
			continue;
		}
		planned++;
		gs_labels_build(&node.config, &node.inventory, &node.plan, &node.facts, &node.labels);
		check_valid(&node.labels);

		struct gs_labels again = {0};
		gs_labels_build(&node.config, &node.inventory, &node.plan, &node.facts, &again);
		assert_true(gs_labels_equal(&node.labels, &again));
		gs_labels_free(&again);

		/* A count of devices means others in another order. */
		if (node.entry.devices.kind == GS_SELECT_ALL) {
			struct gs_plan plan = {0};
			shuffle(&node, &seed);
			assert_int_equal(gs_plan_build(&node.config, &node.inventory, gs_strategies, gs_strategy_count,
						       &plan, NULL),
					 0);
			gs_labels_build(&node.config, &node.inventory, &plan, &node.facts, &again);
			for (size_t i = 0; i < again.count && i < node.labels.count; i++) {
				assert_string_equal(again.items[i].key, node.labels.items[i].key);
				assert_string_equal(again.items[i].value, node.labels.items[i].value);
			}
			assert_true(gs_labels_equal(&node.labels, &again));
			gs_labels_free(&again);
			gs_plan_free(&plan);
		}
		node_close(&node);
	}
	assert_true(planned > 500);
}

static void test_facts_are_copied_and_found(void **state)
{
	struct node node;
	struct gs_label_facts copy;
	node_open(&node, 2, 2);
	gs_label_facts_copy(&copy, &node.facts);
	assert_ptr_not_equal(copy.gpus, node.facts.gpus);
	assert_int_equal(copy.gpu_count, node.facts.gpu_count);
	assert_memory_equal(copy.gpus, node.facts.gpus, copy.gpu_count * sizeof *copy.gpus);
	assert_int_equal(copy.mig_count, node.facts.mig_count);
	assert_memory_equal(copy.mig, node.facts.mig, copy.mig_count * sizeof *copy.mig);
	assert_null(gs_label_facts_of_gpu(&copy, "GPU-none"));
	assert_non_null(gs_label_facts_of_mig(&copy, node.inventory.devices[1].uuid));
	gs_label_facts_free(&copy);
	node_close(&node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_gpus),
		cmocka_unit_test(test_no_gpu_has_no_label),
		cmocka_unit_test(test_unknown_facts_are_left_out),
		cmocka_unit_test(test_driver_of_two_parts),
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_shared_under_its_name),
		cmocka_unit_test(test_renamed_is_not_marked),
		cmocka_unit_test(test_one_replica_is_not_shared),
		cmocka_unit_test(test_resource_patterns_do_not_change_keys),
		cmocka_unit_test(test_differently_shared_gpus),
		cmocka_unit_test(test_models_are_chosen_by_count_memory_name),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_clique),
		cmocka_unit_test(test_vgpu),
		cmocka_unit_test(test_mig_single),
		cmocka_unit_test(test_mig_single_without_mig),
		cmocka_unit_test(test_mig_single_invalid),
		cmocka_unit_test(test_mig_mixed),
		cmocka_unit_test(test_mig_products_are_cut_only_when_too_long),
		cmocka_unit_test(test_timestamp_is_optional),
		cmocka_unit_test(test_sanitise),
		cmocka_unit_test(test_feature_file),
		cmocka_unit_test(test_any_node_has_valid_labels_whatever_the_order),
		cmocka_unit_test(test_facts_are_copied_and_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
