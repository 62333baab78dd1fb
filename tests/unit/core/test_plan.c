#include "fixture.h"

#define TEXT(literal) ((char *)(uintptr_t)(literal))

static void free_both(struct gs_plan *plan, struct gs_inventory *inventory)
{
	gs_plan_free(plan);
	gs_inventory_free(inventory);
}

static void test_exclusive_without_sharing(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 0);
	struct gs_plan plan = fixture_plan(&config, &inventory);

	assert_int_equal(plan.resource_count, 1);
	const struct gs_resource *resource = &plan.resources[0];
	assert_string_equal(resource->name, "nvidia.com/gpu");
	assert_int_equal(resource->share_count, 2);
	assert_string_equal(resource->shares[1].id, inventory.gpus[1].uuid);
	assert_int_equal(resource->shares[1].compute_permille, 1000);
	assert_int_equal(resource->shares[1].memory_bytes, 80ull << 30);
	assert_ptr_equal(resource->devices[0].strategy, &gs_strategy_exclusive);
	assert_false(resource->devices[0].replicated);
	free_both(&plan, &inventory);
}

static void test_empty_inventory_publishes_nothing(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 4);
	struct gs_inventory inventory = {0};
	struct gs_plan plan = fixture_plan(&config, &inventory);

	assert_int_equal(plan.resource_count, 0);
	gs_plan_free(&plan);
}

static void test_replicas(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 4);
	struct gs_inventory inventory = fixture_inventory(8, 0);
	struct gs_plan plan = fixture_plan(&config, &inventory);
	char expected[GS_SHARE_ID_SIZE];

	assert_int_equal(plan.resource_count, 1);
	const struct gs_resource *resource = &plan.resources[0];
	assert_string_equal(resource->name, "nvidia.com/gpu");
	assert_int_equal(resource->share_count, 32);
	for (unsigned i = 0; i < 32; i++) {
		snprintf(expected, sizeof expected, "%s::%u", inventory.gpus[i / 4].uuid, i % 4);
		assert_string_equal(resource->shares[i].id, expected);
		assert_int_equal(resource->shares[i].device, i / 4);
		assert_int_equal(resource->shares[i].replica, i % 4);
		assert_int_equal(resource->shares[i].memory_bytes, 20ull << 30);
		assert_int_equal(resource->shares[i].compute_permille, 250);
		assert_int_equal(gs_resource_find(resource, expected, strlen(expected)), i);
		assert_int_equal(gs_resource_device_of(resource, i)->gpu, i / 4);
	}
	assert_ptr_equal(resource->devices[3].strategy, &gs_strategy_time_slicing);
	assert_false(resource->devices[3].fail_requests_greater_than_one);
	free_both(&plan, &inventory);
}

static void test_rename(void **state)
{
	struct gs_sharing_resource entries[2];
	struct gs_config config = fixture_time_slicing(entries, "nvidia.com/gpu", 2);
	struct gs_inventory inventory = fixture_inventory(4, 0);
	char *first[] = {TEXT("0")}, *second[] = {TEXT("2")};

	entries[1] = entries[0];
	entries[0].devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = first, .list_length = 1};
	entries[1].devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = second, .list_length = 1};
	entries[1].rename = TEXT("nvidia.com/gpu.half");
	config.time_slicing.rename_by_default = true;
	config.time_slicing.resource_count = 2;
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 3);
	assert_string_equal(plan.resources[0].name, "nvidia.com/gpu.shared");
	assert_int_equal(plan.resources[0].share_count, 2);
	assert_string_equal(plan.resources[1].name, "nvidia.com/gpu");
	assert_int_equal(plan.resources[1].share_count, 2);
	assert_string_equal(plan.resources[1].shares[0].id, inventory.gpus[1].uuid);
	assert_string_equal(plan.resources[1].shares[1].id, inventory.gpus[3].uuid);
	assert_string_equal(plan.resources[2].name, "nvidia.com/gpu.half");
	assert_ptr_equal(gs_plan_find(&plan, "nvidia.com/gpu.half"), &plan.resources[2]);
	assert_null(gs_plan_find(&plan, "nvidia.com/gpu.quarter"));
	free_both(&plan, &inventory);
}

static void test_one_resource_of_shared_and_whole_devices(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 3);
	struct gs_inventory inventory = fixture_inventory(3, 0);

	entry.devices = (struct gs_device_selector){.kind = GS_SELECT_COUNT, .count = 1};
	config.time_slicing.fail_requests_greater_than_one = GS_TRUE;
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 1);
	const struct gs_resource *resource = &plan.resources[0];
	assert_int_equal(resource->share_count, 5);
	assert_true(resource->devices[0].fail_requests_greater_than_one);
	assert_false(resource->devices[1].fail_requests_greater_than_one);
	assert_ptr_equal(resource->devices[2].strategy, &gs_strategy_exclusive);
	assert_int_equal(gs_resource_find(resource, inventory.gpus[2].uuid, strlen(inventory.gpus[2].uuid)), 4);
	free_both(&plan, &inventory);
}

static void test_one_replica_is_still_a_replica(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 1);
	struct gs_inventory inventory = fixture_inventory(1, 0);
	struct gs_plan plan = fixture_plan(&config, &inventory);
	GS_AUTO_FREE char *expected = gs_printf("%s::0", inventory.gpus[0].uuid);

	assert_string_equal(plan.resources[0].shares[0].id, expected);
	free_both(&plan, &inventory);
}

static void test_selectors_by_uuid_and_index(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/mig-1g.10gb", 2);
	struct gs_inventory inventory = fixture_inventory(2, 3);
	char *list[] = {TEXT("0:1"), inventory.devices[7].uuid, inventory.devices[7].index, TEXT("5:5")};

	config.flags.mig_strategy = GS_MIG_MIXED;
	entry.devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = list, .list_length = 4};
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 1);
	const struct gs_resource *resource = &plan.resources[0];
	assert_string_equal(resource->name, "nvidia.com/mig-1g.10gb");
	assert_int_equal(resource->device_count, 6);
	for (size_t i = 0; i < 6; i++) {
		bool shared = resource->devices[i].device == 2 || resource->devices[i].device == 7;
		assert_int_equal(resource->devices[i].replicated, shared);
		assert_int_equal(resource->devices[i].share_count, shared ? 2 : 1);
	}
	free_both(&plan, &inventory);
}

static void test_mig_strategies(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 2);

	struct gs_plan plan = fixture_plan(&config, &inventory); /* none: the whole GPUs */
	assert_int_equal(plan.resource_count, 1);
	assert_int_equal(plan.resources[0].share_count, 2);
	assert_string_equal(plan.resources[0].shares[1].id, inventory.gpus[1].uuid);
	gs_plan_free(&plan);

	config.flags.mig_strategy = GS_MIG_SINGLE;
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 1);
	assert_string_equal(plan.resources[0].name, "nvidia.com/gpu");
	assert_int_equal(plan.resources[0].share_count, 4);
	assert_string_equal(plan.resources[0].shares[0].id, inventory.devices[1].uuid);
	gs_plan_free(&plan);

	config.flags.mig_strategy = GS_MIG_MIXED;
	inventory.gpus[1].mig_enabled = false;
	snprintf(inventory.devices[2].mig_profile, sizeof inventory.devices[2].mig_profile, "1g.10gb+me");
	plan = fixture_plan(&config, &inventory);
	assert_non_null(gs_plan_find(&plan, "nvidia.com/mig-1g.10gb"));
	assert_non_null(gs_plan_find(&plan, "nvidia.com/mig-1g.10gb.me"));
	assert_int_equal(gs_plan_find(&plan, "nvidia.com/gpu")->share_count, 1);
	free_both(&plan, &inventory);
}

static void assert_plan_fails(const struct gs_config *config, const struct gs_inventory *inventory, const char *part)
{
	struct gs_resource sentinel = {0};
	struct gs_plan plan = {.resources = &sentinel, .resource_count = 77};
	struct gs_error err = {0};

	assert_int_equal(gs_plan_build(config, inventory, gs_strategies, gs_strategy_count, &plan, &err), -1);
	if (!strstr(err.text, part))
		fail_msg("\"%s\" lacks \"%s\"", err.text, part);
	assert_ptr_equal(plan.resources, &sentinel);
	assert_int_equal(plan.resource_count, 77);
}

static void assert_note(const struct gs_plan *plan, const char *part)
{
	for (size_t i = 0; i < plan->note_count; i++)
		if (strstr(plan->notes[i], part))
			return;
	fail_msg("no note of %zu says \"%s\"; the first: %s", plan->note_count, part,
		 plan->note_count ? plan->notes[0] : "-");
}

/* What NVIDIA's plugin exits for: one kind is published, the rest is left out with a note. */
static void test_single_publishes_one_kind(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 2);

	config.flags.mig_strategy = GS_MIG_SINGLE;
	snprintf(inventory.devices[5].mig_profile, sizeof inventory.devices[5].mig_profile, "2g.20gb");
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 1);
	assert_int_equal(plan.resources[0].share_count, 3);
	assert_int_equal(plan.note_count, 1);
	assert_note(&plan, "1g.10gb (device 0:0) and 2g.20gb (device 1:1); 1 device not like 0:0 is left out (NVIDIA's "
			   "device plugin would exit)");
	gs_plan_free(&plan);

	/* Memory decides, not number. */
	inventory.devices[5].memory_bytes = 40ull << 30;
	plan = fixture_plan(&config, &inventory);
	assert_string_equal(plan.resources[0].shares[0].id, inventory.devices[5].uuid);
	assert_int_equal(plan.resources[0].share_count, 1);
	assert_note(&plan, "3 devices not like 1:1 are left out");
	gs_plan_free(&plan);

	/* A GPU without MIG has more than the instances of another. */
	inventory.gpus[1].mig_enabled = false;
	inventory.device_count = 4;
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resources[0].share_count, 1);
	assert_string_equal(plan.resources[0].shares[0].id, inventory.gpus[1].uuid);
	assert_note(&plan, "whole GPU (device 1) and 1g.10gb");
	free_both(&plan, &inventory);
}

static void test_single_with_an_empty_gpu(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 1);

	config.flags.mig_strategy = GS_MIG_SINGLE;
	inventory.device_count = 3; /* GPU 1 has MIG on and nothing else */
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resources[0].share_count, 1);
	assert_int_equal(plan.note_count, 1);
	assert_note(&plan, "GPU 1 has MIG enabled but no MIG devices");
	assert_note(&plan, "NVIDIA's device plugin would exit");
	gs_plan_free(&plan);
	inventory.devices[1] = inventory.devices[2];
	inventory.device_count = 2;
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 0);
	assert_int_equal(plan.note_count, 2);
	gs_plan_free(&plan);
	config.flags.mig_strategy = GS_MIG_MIXED; /* NVIDIA's plugin only warns */
	plan = fixture_plan(&config, &inventory);
	assert_note(&plan, "migStrategy mixed publishes nothing of it; create some");
	free_both(&plan, &inventory);
}

/* Patterns may take the odd ones out: each name is judged by itself. */
static void test_single_with_patterns(void **state)
{
	struct gs_resource_pattern pattern = {.pattern = TEXT("2g.*"), .name = TEXT("example.com/half")};
	struct gs_config config = {.mig_patterns = &pattern, .mig_pattern_count = 1};
	struct gs_inventory inventory = fixture_inventory(1, 3);

	config.flags.mig_strategy = GS_MIG_SINGLE;
	snprintf(inventory.devices[2].mig_profile, sizeof inventory.devices[2].mig_profile, "2g.20gb");
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.note_count, 0);
	assert_int_equal(gs_plan_find(&plan, "nvidia.com/gpu")->share_count, 2);
	assert_int_equal(gs_plan_find(&plan, "example.com/half")->share_count, 1);
	free_both(&plan, &inventory);
}

/* The same profile of another GPU model has other sizes: NVIDIA compares the attributes. */
static void test_single_tells_models_apart(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 2);

	config.flags.mig_strategy = GS_MIG_SINGLE;
	snprintf(inventory.gpus[1].name, sizeof inventory.gpus[1].name, "NVIDIA H100 80GB HBM3");
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resources[0].share_count, 2);
	assert_int_equal(plan.note_count, 1);
	free_both(&plan, &inventory);
}

static void test_mixed_names(void **state)
{
	static const struct {
		const char *profile, *name;
	} cases[] = {{"1c.3g.40gb", "nvidia.com/mig-1c.3g.40gb"},
		     {"1g.24gb+me.all", "nvidia.com/mig-1g.24gb.me.all"},
		     {"1g.24gb-me", "nvidia.com/mig-1g.24gb-me"},
		     {"2g.48gb+gfx,me", "nvidia.com/mig-2g.48gb.gfx.me"}};
	struct gs_config config = {.flags.mig_strategy = GS_MIG_MIXED};
	struct gs_inventory inventory = fixture_inventory(1, GS_ARRAY_LENGTH(cases));

	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++)
		snprintf(inventory.devices[i + 1].mig_profile, sizeof inventory.devices[0].mig_profile, "%s",
			 cases[i].profile);
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, GS_ARRAY_LENGTH(cases));
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++)
		assert_string_equal(plan.resources[i].name, cases[i].name);
	free_both(&plan, &inventory);
}

/* Replicas of MIG devices, chosen by index and by UUID in either case. */
static void test_replicas_of_mig_devices(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/mig-1g.10gb", 3);
	struct gs_inventory inventory = fixture_inventory(2, 2);
	char old[GS_UUID_SIZE + 16];
	char *list[] = {TEXT("1:0"), old};

	config.flags.mig_strategy = GS_MIG_MIXED;
	inventory.devices[1].gpu_instance = 9; /* named as before R470 */
	inventory.devices[2].gpu_instance = 91;
	snprintf(old, sizeof old, "MIG-%s/9/0", inventory.gpus[0].uuid);
	entry.rename = TEXT("nvidia.com/mig-small");
	entry.devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = list, .list_length = 2};
	struct gs_plan plan = fixture_plan(&config, &inventory);
	const struct gs_resource *shared = gs_plan_find(&plan, "nvidia.com/mig-small");
	assert_int_equal(shared->share_count, 6);
	assert_int_equal(shared->shares[0].memory_bytes, (10ull << 30) / 3);
	assert_int_equal(shared->devices[1].gpu, 1);
	char expected[GS_SHARE_ID_SIZE];
	snprintf(expected, sizeof expected, "%s::2", inventory.devices[4].uuid);
	assert_string_equal(shared->shares[5].id, expected);
	assert_int_equal(gs_plan_find(&plan, "nvidia.com/mig-1g.10gb")->share_count, 2);
	free_both(&plan, &inventory);
}

static void test_notes_on_what_cannot_be_given(void **state)
{
	struct gs_config config = {.flags.mig_strategy = GS_MIG_MIXED};
	struct gs_inventory inventory = fixture_inventory(1, 2);

	inventory.devices[2].ci_cap = 0;
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.note_count, 0); /* NVIDIA's container runtime finds the nodes itself */
	gs_plan_free(&plan);
	config.flags.plugin.pass_device_specs = true;
	plan = fixture_plan(&config, &inventory);
	assert_note(&plan,
		    "device 0:1 is not given out: the driver's proc/driver/nvidia-caps/mig-minors does not list");
	gs_plan_free(&plan);
	config.flags = (__typeof__(config.flags)){.plugin.device_list_strategy = GS_DEVICE_LIST_CDI_CRI};
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.note_count, 1); /* migStrategy none: of the MIG devices nothing is wanted */
	assert_note(&plan, "migStrategy none publishes it whole: a program finds one MIG device at most on it");
	free_both(&plan, &inventory);
}

static void test_patterns(void **state)
{
	struct gs_resource_pattern patterns[] = {
		{.pattern = TEXT("*T4*"), .name = TEXT("example.com/small")},
		{.pattern = TEXT("NVIDIA*80GB"), .name = TEXT("example.com/big")},
		{.pattern = TEXT("*"), .name = TEXT("example.com/any")},
	};
	struct gs_config config = {.gpu_patterns = patterns, .gpu_pattern_count = 3};
	struct gs_inventory inventory = fixture_inventory(3, 0);

	snprintf(inventory.gpus[0].name, sizeof inventory.gpus[0].name, "Tesla T4");
	snprintf(inventory.gpus[2].name, sizeof inventory.gpus[2].name, "NVIDIA A100-SXM4-80GB-LC");
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 3);
	assert_string_equal(plan.resources[0].name, "example.com/small");
	assert_string_equal(plan.resources[1].name, "example.com/big");
	assert_string_equal(plan.resources[2].name, "example.com/any");
	gs_plan_free(&plan);
	config.gpu_pattern_count = 2; /* what no pattern matches does not vanish */
	plan = fixture_plan(&config, &inventory);
	assert_string_equal(plan.resources[2].name, "nvidia.com/gpu");
	free_both(&plan, &inventory);
}

static void test_overlap_names_both_entries(void **state)
{
	struct gs_sharing_resource entries[2];
	struct gs_config config = fixture_time_slicing(entries, "nvidia.com/gpu", 2);
	struct gs_inventory inventory = fixture_inventory(4, 0);
	char *list[] = {TEXT("3")};

	entries[1] = entries[0];
	entries[0].line = 7;
	entries[1].line = 9;
	entries[1].devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = list, .list_length = 1};
	config.time_slicing.resource_count = 2;
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_non_null(strstr(gs_plan_misfit(&plan, 3), "sharing.timeSlicing.resources[0] (line 7) and "
							 "sharing.timeSlicing.resources[1] (line 9) both claim device "
							 "3"));
	for (uint32_t i = 0; i < 3; i++)
		assert_null(gs_plan_misfit(&plan, i));
	assert_int_equal(plan.resources[0].share_count, 6);
	assert_int_equal(plan.note_count, 1);
	gs_plan_free(&plan);
	inventory.device_count = 3; /* without that GPU there is no quarrel */
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resources[0].share_count, 6);
	free_both(&plan, &inventory);
}

/* A build without some strategy refuses its section. */
static void test_section_that_nobody_runs(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 2);
	struct gs_inventory inventory = fixture_inventory(1, 0);
	struct gs_plan plan;
	struct gs_error err;

	assert_int_equal(gs_plan_build(&config, &inventory, gs_strategies, 1, &plan, &err), -1);
	assert_non_null(strstr(err.text, "sharing.timeSlicing: this version cannot run it yet"));
	gs_inventory_free(&inventory);
}

static void test_limits(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", GS_REPLICAS_MAX);
	struct gs_inventory inventory = fixture_inventory(2, 0);

	/* Neither fits alone; then the second one does not fit beside the first. */
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resource_count, 0);
	assert_note(&plan,
		    "device 1 is not published: with it nvidia.com/gpu would have 65536 shares, and a kubelet takes "
		    "no list above 4 MiB");
	gs_plan_free(&plan);
	entry.replicas = 40000;
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resources[0].share_count, 40000);
	assert_int_equal(plan.resources[0].device_count, 1);
	assert_note(&plan, "device 1 is not published: with it nvidia.com/gpu would have 80000 shares");
	char id[GS_SHARE_ID_SIZE];
	snprintf(id, sizeof id, "%s::39999", inventory.gpus[0].uuid);
	assert_int_equal(gs_resource_find(&plan.resources[0], id, strlen(id)), 39999);
	snprintf(id, sizeof id, "%s::0", inventory.gpus[1].uuid);
	assert_int_equal(gs_resource_find(&plan.resources[0], id, strlen(id)), -1);
	gs_plan_free(&plan);
	entry.replicas = 30000;
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.resources[0].share_count, 60000);
	assert_true(plan.resources[0].list_bytes <= GS_RESOURCE_LIST_BYTES_MAX);
	gs_plan_free(&plan);

	char name[80];
	snprintf(name, sizeof name, "nvidia.com/%0*d", 50, 0);
	struct gs_resource_pattern pattern = {.pattern = TEXT("*"), .name = name};
	config.gpu_patterns = &pattern;
	config.gpu_pattern_count = 1;
	entry.name = name;
	config.time_slicing.rename_by_default = true;
	assert_plan_fails(&config, &inventory, "Kubernetes allows 63");
	gs_inventory_free(&inventory);
}

static void assert_unknown(const struct gs_resource *resource, const char *id)
{
	/* Exactly as long as the id, so that a sanitizer sees a read behind it. */
	GS_AUTO_FREE char *exact = gs_malloc(strlen(id));

	memcpy(exact, id, strlen(id));
	if (gs_resource_find(resource, exact, strlen(id)) != -1)
		fail_msg("%s was found", id);
}

static void test_find_refuses_everything_else(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 10);
	struct gs_inventory inventory = fixture_inventory(2, 0);

	entry.devices = (struct gs_device_selector){.kind = GS_SELECT_COUNT, .count = 1};
	struct gs_plan plan = fixture_plan(&config, &inventory);
	const struct gs_resource *resource = &plan.resources[0];
	static const char *const tails[] = {"",       ":",    "::",   "::10", "::-1", "::+1",
					    "::01",   "::1 ", "::1x", ":1",   ":::1", "::99999999999999999999",
					    "::0::0", "x::1"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(tails); i++) {
		GS_AUTO_FREE char *id = gs_printf("%s%s", inventory.gpus[0].uuid, tails[i]);
		assert_unknown(resource, id);
	}
	GS_AUTO_FREE char *whole_as_replica = gs_printf("%s::0", inventory.gpus[1].uuid);
	assert_unknown(resource, whole_as_replica);
	assert_unknown(resource, "");
	assert_unknown(resource, "::");
	assert_unknown(resource, "::1");
	assert_unknown(resource, "7");
	GS_AUTO_FREE char *cut = gs_strndup(inventory.gpus[1].uuid, strlen(inventory.gpus[1].uuid) - 1);
	assert_unknown(resource, cut);
	char longest[300];
	memset(longest, ':', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	assert_unknown(resource, longest);
	struct gs_resource empty = {0};
	assert_unknown(&empty, "GPU-1");
	free_both(&plan, &inventory);
}

static void test_find_at_scale(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 900);
	struct gs_inventory inventory = fixture_inventory(GS_GPUS_MAX, 0);
	struct gs_plan plan = fixture_plan(&config, &inventory);
	const struct gs_resource *resource = &plan.resources[0];

	for (size_t i = 0; i < resource->share_count; i++)
		assert_int_equal(gs_resource_find(resource, resource->shares[i].id, strlen(resource->shares[i].id)), i);
	free_both(&plan, &inventory);
}

static void test_unmatched(void **state)
{
	struct gs_sharing_resource entries[3];
	struct gs_config config = fixture_time_slicing(entries, "nvidia.com/gpu", 2);
	struct gs_inventory inventory = fixture_inventory(2, 0);
	char *list[] = {TEXT("1"), TEXT("7"), TEXT("GPU-nobody")};

	entries[1] = entries[2] = entries[0];
	entries[0].devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = list, .list_length = 3};
	entries[1].devices = (struct gs_device_selector){.kind = GS_SELECT_COUNT, .count = 5};
	entries[2].name = TEXT("nvidia.com/mig-1g.10gb");
	entries[2].line = 12;
	config.time_slicing.resource_count = 3;
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.unmatched_count, 4);
	assert_string_equal(plan.unmatched[0], "sharing.timeSlicing.resources[0]: this node has no device 7 now");
	assert_string_equal(plan.unmatched[1],
			    "sharing.timeSlicing.resources[0]: this node has no device GPU-nobody now");
	assert_string_equal(plan.unmatched[2],
			    "sharing.timeSlicing.resources[1]: asks for 5 devices and this node has 2 of "
			    "nvidia.com/gpu now");
	assert_string_equal(plan.unmatched[3],
			    "sharing.timeSlicing.resources[2] (line 12): names nothing that this node has now: "
			    "there is no nvidia.com/mig-1g.10gb, it has nvidia.com/gpu");
	/* The device that two of them want is given to nobody; nothing else is held up by it. */
	assert_non_null(gs_plan_misfit(&plan, 1));
	assert_null(gs_plan_misfit(&plan, 0));
	gs_plan_free(&plan);
	config.time_slicing.resources = &entries[2];
	config.time_slicing.resource_count = 1;
	inventory.gpu_count = inventory.device_count = 0;
	plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.unmatched_count, 1);
	assert_non_null(strstr(plan.unmatched[0], "there is no nvidia.com/mig-1g.10gb, it has no GPU to share"));
	free_both(&plan, &inventory);
}

static void test_unmatched_patterns(void **state)
{
	struct gs_resource_pattern gpus[] = {{.pattern = TEXT("A100"), .name = TEXT("nvidia.com/a100"), .line = 4},
					     {.pattern = TEXT("*A100*"), .name = TEXT("nvidia.com/big")},
					     {.pattern = TEXT("NVIDIA *"), .name = TEXT("nvidia.com/any"), .line = 6},
					     {.pattern = TEXT("*T4*"), .name = TEXT("nvidia.com/t4")}};
	struct gs_resource_pattern mig = {.pattern = TEXT("1g.*"), .name = TEXT("nvidia.com/small")};
	struct gs_config config = {.gpu_patterns = gpus, .gpu_pattern_count = 4, .mig_patterns = &mig};
	struct gs_inventory inventory = fixture_inventory(2, 0);

	config.mig_pattern_count = 1;
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.unmatched_count, 4);
	assert_string_equal(
		plan.unmatched[0],
		"resources.gpus[0] (line 4): names nothing that this node has now: \"A100\" matches no GPU's "
		"name, it has NVIDIA A100-SXM4-80GB; a pattern is for the whole name: write \"*A100*\"");
	assert_string_equal(
		plan.unmatched[1],
		"resources.gpus[2] (line 6): names nothing here: every GPU's name that \"NVIDIA *\" matches is "
		"named by an earlier pattern");
	assert_string_equal(plan.unmatched[2], "resources.gpus[3]: names nothing that this node has now: \"*T4*\" "
					       "matches no GPU's name, it has NVIDIA A100-SXM4-80GB");
	assert_string_equal(plan.unmatched[3],
			    "resources.mig[0]: names nothing that this node has now: \"1g.*\" matches "
			    "no MIG device's profile, it has no MIG device");
	assert_int_equal(plan.note_count, 0);
	free_both(&plan, &inventory);
}

/* What could not be given to a container is not offered; where the container runtime finds the nodes, it can be. */
static void test_devices_without_nodes(void **state)
{
	struct gs_config config = {.flags.mig_strategy = GS_MIG_MIXED};
	struct gs_inventory inventory = fixture_inventory(3, 1);

	inventory.gpus[0].mig_enabled = inventory.gpus[1].mig_enabled = false;
	inventory.devices[1] = inventory.devices[2];
	inventory.devices[2] = inventory.devices[4];
	inventory.devices[3] = inventory.devices[5];
	inventory.device_count = 4; /* two whole GPUs, and one with a MIG device */
	inventory.gpus[1].minor = -1;
	inventory.devices[3].ci_cap = 0;
	config.flags.plugin.device_list_strategy = GS_DEVICE_LIST_ENVVAR;
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.note_count, 0);
	gs_plan_free(&plan);
	for (unsigned i = 0; i < 2; i++) {
		if (i)
			config.flags.plugin.pass_device_specs = true;
		config.flags.plugin.device_list_strategy = i ? GS_DEVICE_LIST_ENVVAR : GS_DEVICE_LIST_CDI_CRI;
		plan = fixture_plan(&config, &inventory);
		assert_int_equal(plan.note_count, 2);
		assert_int_equal(gs_plan_find(&plan, "nvidia.com/gpu")->share_count, 2);
		assert_null(gs_plan_withheld(&plan, 0));
		assert_non_null(strstr(gs_plan_withheld(&plan, 1), "the driver tells no minor number of device 1"));
		assert_null(gs_plan_withheld(&plan, 2));
		assert_non_null(strstr(gs_plan_withheld(&plan, 3), "mig-minors does not list MIG device 2:0"));
		gs_plan_free(&plan);
	}
	gs_inventory_free(&inventory);
}

static void test_unmatched_device_of_another_name(void **state)
{
	struct gs_sharing_resource entry;
	struct gs_config config = fixture_time_slicing(&entry, "nvidia.com/gpu", 2);
	struct gs_inventory inventory = fixture_inventory(2, 1);
	char *list[] = {TEXT("0"), TEXT("1")};

	config.flags.mig_strategy = GS_MIG_MIXED;
	inventory.gpus[1].mig_enabled = false;
	entry.devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = list, .list_length = 2};
	struct gs_plan plan = fixture_plan(&config, &inventory);
	assert_int_equal(plan.unmatched_count, 1);
	assert_string_equal(plan.unmatched[0],
			    "sharing.timeSlicing.resources[0]: device 0 is published as nothing, not as "
			    "nvidia.com/gpu, so it is not shared by this entry");
	free_both(&plan, &inventory);
}

static void test_inventory_copy_and_equal(void **state)
{
	struct gs_inventory one = fixture_inventory(3, 2), two;

	gs_inventory_copy(&two, &one);
	assert_ptr_not_equal(one.gpus, two.gpus);
	assert_true(gs_inventory_equal(&one, &two));
	two.link_score[1]++;
	assert_false(gs_inventory_equal(&one, &two));
	two.link_score[1]--;
	two.devices[4].ci_cap++;
	assert_false(gs_inventory_equal(&one, &two));
	two.devices[4].ci_cap--;
	two.gpus[2].minor = -1;
	assert_false(gs_inventory_equal(&one, &two));
	gs_inventory_free(&two);
	assert_false(gs_inventory_equal(&one, &two));
	gs_inventory_free(&one);
	assert_true(gs_inventory_equal(&one, &two));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exclusive_without_sharing),
		cmocka_unit_test(test_empty_inventory_publishes_nothing),
		cmocka_unit_test(test_replicas),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_one_resource_of_shared_and_whole_devices),
		cmocka_unit_test(test_one_replica_is_still_a_replica),
		cmocka_unit_test(test_selectors_by_uuid_and_index),
		cmocka_unit_test(test_mig_strategies),
		cmocka_unit_test(test_single_publishes_one_kind),
		cmocka_unit_test(test_single_with_an_empty_gpu),
		cmocka_unit_test(test_single_with_patterns),
		cmocka_unit_test(test_single_tells_models_apart),
		cmocka_unit_test(test_mixed_names),
		cmocka_unit_test(test_replicas_of_mig_devices),
		cmocka_unit_test(test_notes_on_what_cannot_be_given),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_overlap_names_both_entries),
		cmocka_unit_test(test_section_that_nobody_runs),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_find_refuses_everything_else),
		cmocka_unit_test(test_find_at_scale),
		cmocka_unit_test(test_unmatched),
		cmocka_unit_test(test_unmatched_patterns),
		cmocka_unit_test(test_devices_without_nodes),
		cmocka_unit_test(test_unmatched_device_of_another_name),
		cmocka_unit_test(test_inventory_copy_and_equal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
