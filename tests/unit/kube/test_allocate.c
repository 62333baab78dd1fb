#include "gpushare/abi.h"
#include "kube/plugin/allocate.h"
#include "tests/unit/core/fixture.h"

#define TEXT(literal) ((char *)(uintptr_t)(literal))
#define UUID          "6f1c7f9e-0000-4000-8000-000000000001"

struct node {
	struct gs_sharing_resource entry;
	struct gs_config config;
	struct gs_inventory inventory;
	struct gs_plan plan;
	const struct gs_resource *resource;
	struct gs_container_edit edit;
	struct gs_error err;
};

static void node_open(struct node *node, unsigned gpus, unsigned mig_each, unsigned replicas, unsigned strategies)
{
	memset(node, 0, sizeof *node);
	if (replicas)
		node->config = fixture_time_slicing(&node->entry, "nvidia.com/gpu", replicas);
	node->config.flags.mig_strategy = mig_each ? GS_MIG_MIXED : GS_MIG_NONE;
	node->config.flags.plugin.device_list_strategy = strategies;
	node->config.flags.plugin.cdi_annotation_prefix = TEXT("cdi.k8s.io/");
	node->config.flags.nvidia_dev_root = TEXT("/");
	node->inventory = fixture_inventory(gpus, mig_each);
	/* Short names, so that expectations can be read. */
	for (size_t i = 0; i < node->inventory.device_count; i++) {
		struct gs_device *device = &node->inventory.devices[i];
		snprintf(device->uuid, sizeof device->uuid, "%s-%s", device->mig ? "MIG" : "GPU", device->index);
	}
	node->plan = fixture_plan(&node->config, &node->inventory);
	node->resource = &node->plan.resources[0];
}

static void node_close(struct node *node)
{
	gs_container_edit_free(&node->edit);
	gs_plan_free(&node->plan);
	gs_inventory_free(&node->inventory);
}

/* Everything but what the path given as user begins with. */
static bool exists_unless(const char *path, void *user)
{
	return strncmp(path, user, strlen(user)) != 0;
}

static int allocate(struct node *node, const uint32_t *shares, size_t count, const char *missing)
{
	struct gs_allocate_options options = {&node->config, &node->inventory, {0}, UUID};

	if (missing)
		options.node_check = (struct gs_node_check){exists_unless, TEXT(missing)};
	gs_container_edit_free(&node->edit);
	return gs_allocate(&options, node->resource, shares, count, &node->edit, &node->err);
}

/* The whole edit as text, one thing a line. */
static void assert_edit(const struct node *node, const char *expected)
{
	char text[4096] = "";
	size_t length = 0;
	const struct gs_container_edit *edit = &node->edit;

#define ADD(...) (length += (size_t)snprintf(text + length, sizeof text - length, __VA_ARGS__))
	for (size_t i = 0; i < edit->env_count; i++)
		ADD("%s=%s\n", edit->env[i].key, edit->env[i].value);
	for (size_t i = 0; i < edit->annotation_count; i++)
		ADD("annotation %s: %s\n", edit->annotations[i].key, edit->annotations[i].value);
	for (size_t i = 0; i < edit->cdi_device_count; i++)
		ADD("cdi %s\n", edit->cdi_devices[i]);
	for (size_t i = 0; i < edit->mount_count; i++)
		ADD("mount %s %s%s\n", edit->mounts[i].host_path, edit->mounts[i].container_path,
		    edit->mounts[i].read_only ? " ro" : "");
	for (size_t i = 0; i < edit->device_count; i++)
		ADD("device %s %s %s\n", edit->devices[i].host_path, edit->devices[i].container_path,
		    edit->devices[i].permissions);
#undef ADD
	assert_string_equal(text, expected);
}

static void assert_allocated(struct node *node, const uint32_t *shares, size_t count, const char *missing,
			     const char *expected)
{
	if (allocate(node, shares, count, missing))
		fail_msg("%s", node->err.text);
	assert_edit(node, expected);
}

static void test_envvar(void **state)
{
	struct node node;

	node_open(&node, 4, 0, 0, GS_DEVICE_LIST_ENVVAR);
	assert_allocated(&node, (const uint32_t[]){2, 0}, 2, NULL,
			 "NVIDIA_VISIBLE_DEVICES=GPU-2,GPU-0\nGPUSHARE_SHARES=GPU-2,GPU-0\n");
	node_close(&node);
}

static void test_replicas_of_one_gpu_are_one_device(void **state)
{
	struct node node;

	node_open(&node, 2, 0, 4, GS_DEVICE_LIST_ENVVAR);
	assert_allocated(&node, (const uint32_t[]){6, 1, 4}, 3, NULL,
			 "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-0\nGPUSHARE_SHARES=GPU-1::2,GPU-0::1,GPU-1::0\n");
	node_close(&node);
}

static void test_index_ids(void **state)
{
	struct node node;

	node_open(&node, 2, 2, 0, GS_DEVICE_LIST_ENVVAR | GS_DEVICE_LIST_CDI_CRI);
	node.config.flags.plugin.device_id_strategy = GS_DEVICE_ID_INDEX;
	assert_allocated(&node, (const uint32_t[]){1, 2}, 2, NULL,
			 "NVIDIA_VISIBLE_DEVICES=0:1,1:0\nGPUSHARE_SHARES=MIG-0:1,MIG-1:0\n"
			 "cdi k8s.device-plugin.nvidia.com/gpu=0:1\ncdi k8s.device-plugin.nvidia.com/gpu=1:0\n");
	node_close(&node);
}

static void test_volume_mounts(void **state)
{
	struct node node;

	node_open(&node, 2, 0, 0, GS_DEVICE_LIST_VOLUME_MOUNTS);
	assert_allocated(&node, (const uint32_t[]){0, 1}, 2, NULL,
			 "NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices\nGPUSHARE_SHARES=GPU-0,GPU-1\n"
			 "mount /dev/null /var/run/nvidia-container-devices/GPU-0\n"
			 "mount /dev/null /var/run/nvidia-container-devices/GPU-1\n");
	node_close(&node);
}

static void test_cdi_annotations(void **state)
{
	struct node node;

	node_open(&node, 2, 0, 2, GS_DEVICE_LIST_CDI_ANNOTATIONS);
	assert_allocated(&node, (const uint32_t[]){0, 2}, 2, NULL,
			 "GPUSHARE_SHARES=GPU-0::0,GPU-1::0\n"
			 "annotation cdi.k8s.io/nvidia-device-plugin_" UUID ": "
			 "k8s.device-plugin.nvidia.com/gpu=GPU-0,k8s.device-plugin.nvidia.com/gpu=GPU-1\n");
	node_close(&node);
}

static void test_all_strategies_at_once(void **state)
{
	struct node node;

	node_open(&node, 1, 0, 2,
		  GS_DEVICE_LIST_ENVVAR | GS_DEVICE_LIST_VOLUME_MOUNTS | GS_DEVICE_LIST_CDI_ANNOTATIONS |
			  GS_DEVICE_LIST_CDI_CRI);
	assert_allocated(&node, (const uint32_t[]){1}, 1, NULL,
			 "NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices\nGPUSHARE_SHARES=GPU-0::1\n"
			 "annotation cdi.k8s.io/nvidia-device-plugin_" UUID ": k8s.device-plugin.nvidia.com/gpu=GPU-0\n"
			 "cdi k8s.device-plugin.nvidia.com/gpu=GPU-0\n"
			 "mount /dev/null /var/run/nvidia-container-devices/GPU-0\n");
	node_close(&node);
}

static void test_device_specs(void **state)
{
	struct node node;

	node_open(&node, 3, 0, 0, GS_DEVICE_LIST_ENVVAR);
	node.config.flags.plugin.pass_device_specs = true;
	node.inventory.gpus[2].minor = 7;
	assert_allocated(&node, (const uint32_t[]){2, 0}, 2, "/dev/nvidia-modeset",
			 "NVIDIA_VISIBLE_DEVICES=GPU-2,GPU-0\nGPUSHARE_SHARES=GPU-2,GPU-0\n"
			 "device /dev/nvidiactl /dev/nvidiactl rw\n"
			 "device /dev/nvidia-uvm /dev/nvidia-uvm rw\n"
			 "device /dev/nvidia-uvm-tools /dev/nvidia-uvm-tools rw\n"
			 "device /dev/nvidia7 /dev/nvidia7 rw\n"
			 "device /dev/nvidia0 /dev/nvidia0 rw\n");
	node.config.flags.nvidia_dev_root = TEXT("/run/nvidia/driver/");
	assert_allocated(&node, (const uint32_t[]){1}, 1, "/dev/nvidia-",
			 "NVIDIA_VISIBLE_DEVICES=GPU-1\nGPUSHARE_SHARES=GPU-1\n"
			 "device /run/nvidia/driver/dev/nvidiactl /dev/nvidiactl rw\n"
			 "device /run/nvidia/driver/dev/nvidia1 /dev/nvidia1 rw\n");
	node_close(&node);
}

static void test_mig_device_specs_share_the_parent(void **state)
{
	struct node node;

	node_open(&node, 1, 2, 0, GS_DEVICE_LIST_ENVVAR);
	node.config.flags.plugin.pass_device_specs = true;
	assert_allocated(&node, (const uint32_t[]){0, 1}, 2, "/dev/nvidia-u",
			 "NVIDIA_VISIBLE_DEVICES=MIG-0:0,MIG-0:1\nGPUSHARE_SHARES=MIG-0:0,MIG-0:1\n"
			 "device /dev/nvidiactl /dev/nvidiactl rw\n"
			 "device /dev/nvidia-modeset /dev/nvidia-modeset rw\n"
			 "device /dev/nvidia0 /dev/nvidia0 rw\n"
			 "device /dev/nvidia-caps/nvidia-cap3 /dev/nvidia-caps/nvidia-cap3 rw\n"
			 "device /dev/nvidia-caps/nvidia-cap4 /dev/nvidia-caps/nvidia-cap4 rw\n"
			 "device /dev/nvidia-caps/nvidia-cap5 /dev/nvidia-caps/nvidia-cap5 rw\n"
			 "device /dev/nvidia-caps/nvidia-cap6 /dev/nvidia-caps/nvidia-cap6 rw\n");
	node_close(&node);
}

static void test_cdi_alone_needs_no_specs(void **state)
{
	struct node node;

	node_open(&node, 1, 0, 0, GS_DEVICE_LIST_CDI_CRI);
	node.config.flags.plugin.pass_device_specs = true;
	node.config.flags.gdrcopy_enabled = node.config.flags.gds_enabled = node.config.flags.mofed_enabled = true;
	assert_allocated(&node, (const uint32_t[]){0}, 1, "/dev/infiniband",
			 "NVIDIA_GDRCOPY=enabled\n"
			 "NVIDIA_GDS=enabled\n"
			 "NVIDIA_MOFED=enabled\n"
			 "GPUSHARE_SHARES=GPU-0\n"
			 "cdi k8s.device-plugin.nvidia.com/gpu=GPU-0\n"
			 "cdi k8s.device-plugin.nvidia.com/gdrcopy=all\n"
			 "cdi k8s.device-plugin.nvidia.com/gds=all\n");
	node_close(&node);
}

static void test_extras_for_the_runtime(void **state)
{
	struct node node;

	node_open(&node, 1, 0, 0, GS_DEVICE_LIST_ENVVAR);
	node.config.flags.gdrcopy_enabled = node.config.flags.gds_enabled = node.config.flags.mofed_enabled = true;
	assert_allocated(
		&node, (const uint32_t[]){0}, 1, NULL,
		"NVIDIA_VISIBLE_DEVICES=GPU-0\nNVIDIA_GDRCOPY=enabled\nNVIDIA_GDS=enabled\nNVIDIA_MOFED=enabled\n"
		"GPUSHARE_SHARES=GPU-0\n");
	node_close(&node);
}

static void test_imex(void **state)
{
	struct node node;
	int64_t channel = 0;

	node_open(&node, 1, 0, 0, GS_DEVICE_LIST_ENVVAR | GS_DEVICE_LIST_CDI_CRI);
	node.config.imex_channel_ids = &channel;
	node.config.imex_channel_count = 1;
	assert_allocated(&node, (const uint32_t[]){0}, 1, NULL,
			 "NVIDIA_VISIBLE_DEVICES=GPU-0\nNVIDIA_IMEX_CHANNELS=0\nGPUSHARE_SHARES=GPU-0\n"
			 "cdi k8s.device-plugin.nvidia.com/gpu=GPU-0\n"
			 "cdi k8s.device-plugin.nvidia.com/imex-channel=0\n");
	assert_allocated(&node, (const uint32_t[]){0}, 1, "/dev/nvidia-caps-imex",
			 "NVIDIA_VISIBLE_DEVICES=GPU-0\nGPUSHARE_SHARES=GPU-0\n"
			 "cdi k8s.device-plugin.nvidia.com/gpu=GPU-0\n");
	node.config.imex_required = true;
	assert_int_equal(allocate(&node, (const uint32_t[]){0}, 1, "/dev/nvidia-caps-imex"), -1);
	assert_non_null(strstr(node.err.text, "/dev/nvidia-caps-imex-channels/channel0 does not exist"));
	assert_edit(&node, "");
	node.config.flags.plugin.device_list_strategy = GS_DEVICE_LIST_VOLUME_MOUNTS;
	assert_allocated(&node, (const uint32_t[]){0}, 1, NULL,
			 "NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices\nGPUSHARE_SHARES=GPU-0\n"
			 "mount /dev/null /var/run/nvidia-container-devices/GPU-0\n"
			 "mount /dev/null /var/run/nvidia-container-devices/imex/0\n");
	node_close(&node);
}

static void assert_refused(struct node *node, const uint32_t *shares, size_t count, const char *part)
{
	assert_int_equal(allocate(node, shares, count, NULL), -1);
	if (!strstr(node->err.text, part))
		fail_msg("\"%s\" lacks \"%s\"", node->err.text, part);
	assert_edit(node, "");
}

static void test_one_share_per_request(void **state)
{
	struct node node;

	node_open(&node, 2, 0, 2, GS_DEVICE_LIST_ENVVAR);
	gs_plan_free(&node.plan);
	node.config.time_slicing.fail_requests_greater_than_one = GS_TRUE;
	node.plan = fixture_plan(&node.config, &node.inventory);
	node.resource = &node.plan.resources[0];
	assert_refused(&node, (const uint32_t[]){0, 2}, 2,
		       "2 of nvidia.com/gpu were asked for, and one container may have 1");
	assert_int_equal(allocate(&node, (const uint32_t[]){3}, 1, NULL), 0);
	node_close(&node);
}

static void test_whole_gpus_know_no_such_rule(void **state)
{
	struct node node;

	node_open(&node, 3, 0, 2, GS_DEVICE_LIST_ENVVAR);
	gs_plan_free(&node.plan);
	node.config.time_slicing.fail_requests_greater_than_one = GS_TRUE;
	node.entry.devices = (struct gs_device_selector){.kind = GS_SELECT_COUNT, .count = 1};
	node.plan = fixture_plan(&node.config, &node.inventory);
	node.resource = &node.plan.resources[0];
	assert_int_equal(allocate(&node, (const uint32_t[]){2, 3}, 2, NULL), 0);
	assert_refused(&node, (const uint32_t[]){2, 0}, 2, "failRequestsGreaterThanOne");
	node_close(&node);
}

static void test_bad_requests(void **state)
{
	struct node node;

	node_open(&node, 2, 0, 2, GS_DEVICE_LIST_ENVVAR);
	assert_refused(&node, NULL, 0, "no shares were asked for");
	assert_refused(&node, (const uint32_t[]){4}, 1, "no share at position 4");
	assert_refused(&node, (const uint32_t[]){UINT32_MAX}, 1, "no share at position");
	assert_refused(&node, (const uint32_t[]){1, 3, 1}, 3, "share GPU-0::1 is asked for twice");
	node.config.flags.plugin.pass_device_specs = true;
	node.inventory.gpus[1].minor = -1;
	assert_refused(&node, (const uint32_t[]){2}, 1, "device nodes of GPU-1 are not known");
	node.config.flags.plugin.device_list_strategy = GS_DEVICE_LIST_CDI_CRI;
	assert_refused(&node, (const uint32_t[]){2}, 1, "device nodes of GPU-1 are not known");
	node_close(&node);
}

/* ---- A strategy adds to its own shares only ---- */

static int fake_edit(const void *instance, const struct gs_config *config, const struct gs_inventory *inventory,
		     const struct gs_resource *resource, const uint32_t *shares, size_t count,
		     struct gs_container_edit *edit, struct gs_error *err)
{
	GS_AUTO_FREE char *value = gs_printf("%zu from %s", count, resource->shares[shares[0]].id);

	if (count == 3)
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "three are too many");
	gs_container_edit_env(edit, "FAKE", value);
	return 0;
}

static void test_strategy_edits(void **state)
{
	struct node node;
	struct gs_strategy fake = gs_strategy_time_slicing;
	const struct gs_strategy *strategies[] = {&gs_strategy_exclusive, &fake};

	fake.edit = fake_edit;
	node_open(&node, 2, 0, 3, GS_DEVICE_LIST_ENVVAR);
	gs_plan_free(&node.plan);
	node.entry.devices = (struct gs_device_selector){.kind = GS_SELECT_COUNT, .count = 1};
	assert_int_equal(gs_plan_build(&node.config, &node.inventory, strategies, 2, &node.plan, NULL), 0);
	node.resource = &node.plan.resources[0];
	assert_allocated(&node, (const uint32_t[]){3, 2, 0}, 3, NULL,
			 "FAKE=2 from GPU-0::2\nNVIDIA_VISIBLE_DEVICES=GPU-1,GPU-0\n"
			 "GPUSHARE_SHARES=GPU-1,GPU-0::2,GPU-0::0\n");
	assert_refused(&node, (const uint32_t[]){0, 1, 2}, 3, "three are too many");
	node_close(&node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_envvar),
		cmocka_unit_test(test_replicas_of_one_gpu_are_one_device),
		cmocka_unit_test(test_index_ids),
		cmocka_unit_test(test_volume_mounts),
		cmocka_unit_test(test_cdi_annotations),
		cmocka_unit_test(test_all_strategies_at_once),
		cmocka_unit_test(test_device_specs),
		cmocka_unit_test(test_mig_device_specs_share_the_parent),
		cmocka_unit_test(test_cdi_alone_needs_no_specs),
		cmocka_unit_test(test_extras_for_the_runtime),
		cmocka_unit_test(test_imex),
		cmocka_unit_test(test_one_share_per_request),
		cmocka_unit_test(test_whole_gpus_know_no_such_rule),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_strategy_edits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
