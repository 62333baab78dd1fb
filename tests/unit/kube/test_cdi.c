#include <errno.h>
#include <jansson.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kube/cdi/cdi.h"
#include "tests/unit/core/fixture.h"

#define TEXT(literal) ((char *)(uintptr_t)(literal))

static const struct gs_node_check all_nodes;

static bool exists_only(const char *path, void *user)
{
	for (const char *const *known = user; *known; known++)
		if (!strcmp(*known, path))
			return true;
	return false;
}

static struct gs_node_check only(const char *const *paths)
{
	return (struct gs_node_check){exists_only, (void *)(uintptr_t)paths};
}

static void short_names(struct gs_inventory *inventory)
{
	for (size_t i = 0; i < inventory->device_count; i++)
		snprintf(inventory->devices[i].uuid, sizeof inventory->devices[i].uuid, "ID-%s",
			 inventory->devices[i].index);
}

/* Every spec has the mark by which it is known to be ours; tests say the rest. */
static void take_mark(json_t *spec)
{
	json_t *edits = json_object_get(spec, "containerEdits"), *env = json_object_get(edits, "env");
	size_t last = json_array_size(env) - 1;

	assert_string_equal(json_string_value(json_array_get(env, last)), GS_CDI_MARK);
	json_array_remove(env, last);
	if (!json_array_size(env))
		json_object_del(edits, "env");
	if (!json_object_size(edits))
		json_object_del(spec, "containerEdits");
}

/* Compared as JSON, so that a test says what matters in one line. */
static void assert_json(char *text, const char *expected)
{
	json_t *got = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	json_t *wanted = json_loads(expected, 0, NULL);

	assert_non_null(wanted);
	if (got)
		take_mark(got);
	if (!got || !json_equal(got, wanted))
		fail_msg("got %s\nwanted %s", text ? text : "nothing", expected);
	json_decref(got);
	json_decref(wanted);
	free(text);
}

static void test_whole_gpus(void **state)
{
	static const char *const nodes[] = {"/dev/nvidiactl", "/dev/nvidia-uvm", NULL};
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 0);
	struct gs_node_check check = only(nodes);

	short_names(&inventory);
	inventory.gpus[1].minor = 5;
	assert_json(gs_cdi_render(&config, &inventory, "gpu", &check, NULL),
		    "{\"cdiVersion\": \"0.5.0\", \"kind\": \"k8s.device-plugin.nvidia.com/gpu\", \"devices\": ["
		    "{\"name\": \"ID-0\", \"containerEdits\": {\"deviceNodes\": [{\"path\": \"/dev/nvidia0\", "
		    "\"permissions\": \"rw\"}]}},"
		    "{\"name\": \"ID-1\", \"containerEdits\": {\"deviceNodes\": [{\"path\": \"/dev/nvidia5\", "
		    "\"permissions\": \"rw\"}]}},"
		    "{\"name\": \"all\", \"containerEdits\": {\"deviceNodes\": [{\"path\": \"/dev/nvidia0\", "
		    "\"permissions\": \"rw\"}, {\"path\": \"/dev/nvidia5\", \"permissions\": \"rw\"}]}}],"
		    "\"containerEdits\": {\"env\": [\"NVIDIA_VISIBLE_DEVICES=void\"], \"deviceNodes\": ["
		    "{\"path\": \"/dev/nvidiactl\", \"permissions\": \"rw\"},"
		    "{\"path\": \"/dev/nvidia-uvm\", \"permissions\": \"rw\"}]}}");
	gs_inventory_free(&inventory);
}

static void test_dev_root_and_index_names(void **state)
{
	static const char *const nodes[] = {NULL};
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(1, 0);
	struct gs_node_check check = only(nodes);

	config.flags.nvidia_dev_root = TEXT("/run/nvidia/driver");
	config.flags.plugin.device_id_strategy = GS_DEVICE_ID_INDEX;
	assert_json(gs_cdi_render(&config, &inventory, "gpu", &check, NULL),
		    "{\"cdiVersion\": \"0.5.0\", \"kind\": \"k8s.device-plugin.nvidia.com/gpu\", \"devices\": ["
		    "{\"name\": \"0\", \"containerEdits\": {\"deviceNodes\": [{\"path\": \"/dev/nvidia0\", "
		    "\"hostPath\": \"/run/nvidia/driver/dev/nvidia0\", \"permissions\": \"rw\"}]}},"
		    "{\"name\": \"all\", \"containerEdits\": {\"deviceNodes\": [{\"path\": \"/dev/nvidia0\", "
		    "\"hostPath\": \"/run/nvidia/driver/dev/nvidia0\", \"permissions\": \"rw\"}]}}],"
		    "\"containerEdits\": {\"env\": [\"NVIDIA_VISIBLE_DEVICES=void\"]}}");
	gs_inventory_free(&inventory);
}

static json_t *device_names(char *text)
{
	json_t *spec = json_loads(text, 0, NULL), *names = json_array(), *device;
	size_t i;

	json_array_foreach(json_object_get(spec, "devices"), i, device)
		json_array_append(names, json_object_get(device, "name"));
	json_decref(spec);
	free(text);
	return names;
}

static void assert_names(char *text, const char *expected)
{
	json_t *names = device_names(text);
	char *got = json_dumps(names, JSON_COMPACT);

	assert_string_equal(got, expected);
	free(got);
	json_decref(names);
}

static void test_which_devices_are_in_it(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 2);

	short_names(&inventory);
	inventory.gpus[1].mig_enabled = false;
	inventory.device_count = 4; /* GPU 1 has no MIG devices then */
	assert_names(gs_cdi_render(&config, &inventory, "gpu", &all_nodes, NULL), "[\"ID-0\",\"ID-1\",\"all\"]");
	config.flags.mig_strategy = GS_MIG_MIXED;
	assert_names(gs_cdi_render(&config, &inventory, "gpu", &all_nodes, NULL),
		     "[\"ID-0:0\",\"ID-0:1\",\"ID-1\",\"all\"]");
	inventory.devices[1].gi_cap = 0; /* nodes not known */
	inventory.gpus[1].minor = -1;
	assert_names(gs_cdi_render(&config, &inventory, "gpu", &all_nodes, NULL), "[\"ID-0:1\",\"all\"]");
	inventory.gpus[0].minor = -1;
	assert_null(gs_cdi_render(&config, &inventory, "gpu", &all_nodes, NULL));
	gs_inventory_free(&inventory);
}

static void test_mig_nodes(void **state)
{
	static const char *const nodes[] = {NULL};
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(1, 1);
	struct gs_node_check check = only(nodes);

	short_names(&inventory);
	config.flags.mig_strategy = GS_MIG_SINGLE;
	assert_json(gs_cdi_render(&config, &inventory, "gpu", &check, NULL),
		    "{\"cdiVersion\": \"0.5.0\", \"kind\": \"k8s.device-plugin.nvidia.com/gpu\", \"devices\": ["
		    "{\"name\": \"ID-0:0\", \"containerEdits\": {\"deviceNodes\": ["
		    "{\"path\": \"/dev/nvidia0\", \"permissions\": \"rw\"},"
		    "{\"path\": \"/dev/nvidia-caps/nvidia-cap3\", \"permissions\": \"rw\"},"
		    "{\"path\": \"/dev/nvidia-caps/nvidia-cap4\", \"permissions\": \"rw\"}]}},"
		    "{\"name\": \"all\", \"containerEdits\": {\"deviceNodes\": ["
		    "{\"path\": \"/dev/nvidia0\", \"permissions\": \"rw\"},"
		    "{\"path\": \"/dev/nvidia-caps/nvidia-cap3\", \"permissions\": \"rw\"},"
		    "{\"path\": \"/dev/nvidia-caps/nvidia-cap4\", \"permissions\": \"rw\"}]}}],"
		    "\"containerEdits\": {\"env\": [\"NVIDIA_VISIBLE_DEVICES=void\"]}}");
	gs_inventory_free(&inventory);
}

static void test_other_classes(void **state)
{
	static const char *const nodes[] = {"/dev/gdrdrv",
					    "/dev/nvidia-fs0",
					    "/dev/nvidia-fs11",
					    "/run/udev",
					    "/dev/nvidia-caps-imex-channels/channel0",
					    NULL};
	struct gs_config config = {0};
	struct gs_inventory inventory = {0};
	struct gs_node_check check = only(nodes);
	int64_t channels[] = {0, 3};

	for (const char *const *class_name = gs_cdi_classes; *class_name; class_name++)
		assert_null(gs_cdi_render(&config, &inventory, *class_name, &check, NULL));
	config.flags.gdrcopy_enabled = config.flags.gds_enabled = config.flags.mofed_enabled = true;
	config.imex_channel_ids = channels;
	config.imex_channel_count = 2;
	assert_json(gs_cdi_render(&config, &inventory, "gdrcopy", &check, NULL),
		    "{\"cdiVersion\": \"0.5.0\", \"kind\": \"k8s.device-plugin.nvidia.com/gdrcopy\", \"devices\": ["
		    "{\"name\": \"all\", \"containerEdits\": {\"deviceNodes\": [{\"path\": \"/dev/gdrdrv\", "
		    "\"permissions\": \"rw\"}]}}]}");
	assert_json(gs_cdi_render(&config, &inventory, "gds", &check, NULL),
		    "{\"cdiVersion\": \"0.5.0\", \"kind\": \"k8s.device-plugin.nvidia.com/gds\", \"devices\": ["
		    "{\"name\": \"all\", \"containerEdits\": {\"deviceNodes\": ["
		    "{\"path\": \"/dev/nvidia-fs0\", \"permissions\": \"rw\"},"
		    "{\"path\": \"/dev/nvidia-fs11\", \"permissions\": \"rw\"}],"
		    "\"mounts\": [{\"hostPath\": \"/run/udev\", \"containerPath\": \"/run/udev\", "
		    "\"options\": [\"ro\", \"rbind\"]}]}}]}");
	assert_json(
		gs_cdi_render(&config, &inventory, "imex-channel", &check, NULL),
		"{\"cdiVersion\": \"0.5.0\", \"kind\": \"k8s.device-plugin.nvidia.com/imex-channel\", \"devices\": ["
		"{\"name\": \"0\", \"containerEdits\": {\"deviceNodes\": ["
		"{\"path\": \"/dev/nvidia-caps-imex-channels/channel0\", \"permissions\": \"rw\"}]}}]}");
	assert_null(gs_cdi_render(&config, &inventory, "mofed", &check, NULL)); /* this node has none */
}

static void test_same_bytes(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(8, 0);
	GS_AUTO_FREE char *one = gs_cdi_render(&config, &inventory, "gpu", &all_nodes, NULL);
	GS_AUTO_FREE char *two = gs_cdi_render(&config, &inventory, "gpu", &all_nodes, NULL);

	assert_string_equal(one, two);
	assert_int_equal(one[strlen(one) - 1], '\n');
	gs_inventory_free(&inventory);
}

static void test_text_that_is_no_utf8_is_left_out(void **state)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(2, 0);

	short_names(&inventory);
	snprintf(inventory.devices[0].uuid, sizeof inventory.devices[0].uuid, "GPU-\xff\xfe");
	assert_names(gs_cdi_render(&config, &inventory, "gpu", &all_nodes, NULL), "[\"ID-1\",\"all\"]");
	gs_inventory_free(&inventory);
}

#define OURS(rest) "{\"env\": [\"" GS_CDI_MARK "\"]" rest "}\n"

struct folder {
	char root[sizeof "/tmp/gpushare-cdi-XXXXXX"];
	char *dir, *path, *aside;
};

static struct folder make_folder(void)
{
	struct folder folder = {.root = "/tmp/gpushare-cdi-XXXXXX"};

	assert_non_null(mkdtemp(folder.root));
	folder.dir = gs_printf("%s/cdi", folder.root);
	folder.path = gs_cdi_path(folder.dir, "gpu");
	folder.aside = gs_printf("%s" GS_CDI_ASIDE, folder.path);
	return folder;
}

/* Fails when anything was left behind. */
static void remove_folder(struct folder *folder)
{
	assert_int_equal(rmdir(folder->dir), 0);
	assert_int_equal(rmdir(folder->root), 0);
	free(folder->dir);
	free(folder->path);
	free(folder->aside);
}

static void assert_content(const char *path, const char *expected)
{
	size_t length;
	GS_AUTO_FREE char *content = gs_read_file(path, 1000, &length, NULL);

	if (!content || !expected)
		assert_true(!content && !expected);
	else
		assert_string_equal(content, expected);
}

static void test_write(void **state)
{
	struct folder folder = make_folder();
	struct gs_error err = {0};
	struct stat before, after;
	bool written;

	assert_int_equal(gs_cdi_write(folder.dir, "gpu", NULL, &written, &err), 0); /* nothing there, nothing to do */
	assert_false(written);
	assert_int_equal(gs_cdi_write(folder.dir, "gpu", OURS(""), &written, &err), 0);
	assert_true(written);
	assert_int_equal(stat(folder.path, &before), 0);
	assert_int_equal(before.st_mode & 0777, 0644);
	assert_int_equal(gs_cdi_write(folder.dir, "gpu", OURS(""), &written, &err), 0);
	assert_false(written);
	assert_int_equal(stat(folder.path, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino); /* left alone */
	assert_int_equal(gs_cdi_write(folder.dir, "gpu", OURS(", \"a\": 1"), &written, &err), 0);
	assert_content(folder.path, OURS(", \"a\": 1"));
	GS_AUTO_FREE char *below_a_file = gs_printf("%s/no", folder.path);
	assert_int_equal(gs_cdi_write(below_a_file, "gpu", OURS(""), &written, &err), -1);
	assert_int_equal(err.source, GS_ERROR_SYSTEM);
	assert_int_equal(gs_cdi_write(folder.dir, "gpu", NULL, &written, &err), 0);
	assert_true(written);
	assert_int_equal(stat(folder.path, &after), -1);
	remove_folder(&folder);
}

/* Known by what is in it: another program's file gives way to ours, and comes back when ours goes. */
static void test_what_others_wrote(void **state)
{
	static const char theirs[] = "{\"kind\": \"k8s.device-plugin.nvidia.com/gpu\"}\n";
	struct folder folder = make_folder();
	struct gs_error err = {0};
	bool removed;

	assert_int_equal(gs_make_directories(folder.dir, 0755, &err), 0);
	assert_int_equal(gs_write_file(folder.path, theirs, strlen(theirs), 0644, &err), 0);
	assert_int_equal(gs_cdi_remove(folder.dir, "gpu", &removed, &err), 0);
	assert_false(removed);
	assert_content(folder.path, theirs);
	assert_int_equal(gs_cdi_write(folder.dir, "gpu", OURS(""), &removed, &err), 0);
	assert_content(folder.path, OURS(""));
	assert_content(folder.aside, theirs);
	assert_int_equal(gs_cdi_remove(folder.dir, "gpu", &removed, &err), 0);
	assert_true(removed);
	assert_content(folder.path, theirs);
	assert_content(folder.aside, NULL);

	/* It writes anew while ours is there: what was put aside is out of date. */
	assert_int_equal(gs_cdi_write(folder.dir, "gpu", OURS(""), &removed, &err), 0);
	assert_int_equal(gs_write_file(folder.path, "{}\n", 3, 0644, &err), 0);
	assert_int_equal(gs_cdi_remove(folder.dir, "gpu", &removed, &err), 0);
	assert_content(folder.path, "{}\n");
	assert_content(folder.aside, NULL);

	/* A pipe is nobody's spec, and nobody waits for it. */
	assert_int_equal(unlink(folder.path), 0);
	assert_int_equal(mkfifo(folder.path, 0600), 0);
	assert_int_equal(gs_cdi_write(folder.dir, "gpu", OURS(""), &removed, &err), 0);
	assert_content(folder.path, OURS(""));
	assert_int_equal(unlink(folder.aside), 0);
	assert_int_equal(unlink(folder.path), 0);
	remove_folder(&folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_gpus),
		cmocka_unit_test(test_dev_root_and_index_names),
		cmocka_unit_test(test_which_devices_are_in_it),
		cmocka_unit_test(test_mig_nodes),
		cmocka_unit_test(test_other_classes),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_text_that_is_no_utf8_is_left_out),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_what_others_wrote),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
