#include <jansson.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/strbuf.h"
#include "kube/cdi/cdi.h"
#include "tests/unit/core/fixture.h"

static char root[] = "/tmp/gpushare-test-XXXXXX";

static int make_root(void **state)
{
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s/*", root);
	return system(command);
}

static int remove_all(void **state)
{
	return rmdir(root);
}

static char *at(const char *path)
{
	char *full = gs_printf("%s%s", root, path);
	GS_AUTO_FREE char *folder = gs_strdup(full);
	*strrchr(folder, '/') = '\0';
	assert_int_equal(gs_make_directories(folder, 0755, NULL), 0);
	return full;
}

static void add_file(const char *path)
{
	GS_AUTO_FREE char *full = at(path);
	assert_int_equal(gs_write_file(full, "x", 1, 0644, NULL), 0);
}

static void add_link(const char *path, const char *target)
{
	GS_AUTO_FREE char *full = at(path);
	assert_int_equal(symlink(target, full), 0);
}

static const struct gs_driver_mount *mount_at(const struct gs_driver_files *files, const char *container)
{
	for (size_t i = 0; i < files->mounts.count; i++)
		if (!strcmp(files->mounts.items[i].container, container))
			return &files->mounts.items[i];
	return NULL;
}

static const char *link_at(const struct gs_driver_files *files, const char *path)
{
	for (size_t i = 0; i < files->links.count; i++)
		if (!strcmp(files->links.items[i].path, path))
			return files->links.items[i].target;
	return NULL;
}

static struct gs_driver_places places(const char *version)
{
	return (struct gs_driver_places){.here = root,
					 .host = "/",
					 .version = version,
					 .hook = "/opt/hook",
					 .hooks = GS_HOOK_CREATE_SYMLINKS | GS_HOOK_UPDATE_LDCACHE};
}

static void test_a_drivers_files(void **state)
{
	struct gs_driver_files files;
	struct gs_error err;
	struct gs_driver_places where = places("550.163.01");
	add_file("/usr/lib64/libcuda.so.550.163.01");
	add_file("/usr/lib64/libnvidia-ptxjitcompiler.so.550.163.01");
	add_file("/usr/lib64/libcuda.so.535.1.2"); /* left by another version */
	add_file("/usr/lib64/libc.so.6");
	add_link("/usr/lib64/libcuda.so.1", "libcuda.so.550.163.01");
	add_link("/usr/lib64/libcuda.so", "libcuda.so.1");
	add_link("/usr/lib64/libother.so", "libc.so.6");
	add_link("/usr/lib64/libloop.so", "libloop.so");
	add_file("/usr/bin/nvidia-smi");
	add_file("/lib/firmware/nvidia/550.163.01/gsp_ga10x.bin");
	add_file("/run/nvidia-persistenced/socket"); /* a file, not a socket */
	assert_int_equal(gs_driver_files_find(&where, &files, &err), 0);
	assert_string_equal(files.version, "550.163.01");
	assert_string_equal(files.folder, "/usr/lib64");
	assert_int_equal(files.mounts.count, 4);
	assert_string_equal(mount_at(&files, "/usr/lib64/libcuda.so.550.163.01")->host,
			    "/usr/lib64/libcuda.so.550.163.01");
	assert_non_null(mount_at(&files, "/usr/lib64/libnvidia-ptxjitcompiler.so.550.163.01"));
	assert_non_null(mount_at(&files, "/usr/bin/nvidia-smi"));
	assert_non_null(mount_at(&files, "/lib/firmware/nvidia/550.163.01/gsp_ga10x.bin"));
	assert_int_equal(files.links.count, 2);
	assert_string_equal(link_at(&files, "/usr/lib64/libcuda.so.1"), "libcuda.so.550.163.01");
	assert_string_equal(link_at(&files, "/usr/lib64/libcuda.so"), "libcuda.so.1");
	gs_driver_files_free(&files);

	where.version = "";
	assert_int_equal(gs_driver_files_find(&where, &files, &err), 0); /* some version, and only that one */
	for (size_t i = 0; i < files.mounts.count; i++)
		assert_true(strstr(files.mounts.items[i].host, files.version) ||
			    strstr(files.mounts.items[i].host, "smi"));
	gs_driver_files_free(&files);
	where.version = "570.1";
	assert_int_equal(gs_driver_files_find(&where, &files, &err), -1);
	assert_non_null(strstr(err.text, "libcuda.so.570.1"));
}

/* As Debian's packages lay it out, below a root that is not "/": links go through alternatives, and are absolute. */
static void test_links_are_followed_as_the_root_sees_them(void **state)
{
	struct gs_driver_files files;
	struct gs_error err;
	struct gs_driver_places where = places(NULL);
	where.host = "/run/nvidia/driver/";
	add_file("/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.183.01");
	add_link("/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.1", "libcuda.so.535.183.01");
	add_link("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/etc/alternatives/libcuda");
	add_link("/usr/bin/nvidia-smi", "/etc/alternatives/smi");
	add_link("/etc/alternatives/smi",
		 "../../../../../../usr/lib/nvidia/nvidia-smi"); /* no further up than the root */
	add_file("/usr/lib/nvidia/nvidia-smi");
	add_link("/usr/bin/nvidia-debugdump", "/etc/passwd"); /* there is none below this root */
	assert_int_equal(gs_driver_files_find(&where, &files, &err), 0);
	assert_int_equal(files.mounts.count, 2);
	assert_string_equal(mount_at(&files, "/usr/bin/nvidia-smi")->host,
			    "/run/nvidia/driver/usr/lib/nvidia/nvidia-smi");
	assert_string_equal(link_at(&files, "/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.1"),
			    "libcuda.so.535.183.01");
	gs_driver_files_free(&files);
}

static void test_without_a_hook_links_are_mounts(void **state)
{
	struct gs_driver_files files;
	struct gs_error err;
	struct gs_driver_places where = places(NULL);
	where.hook = NULL;
	add_file("/usr/lib64/libcuda.so.550.163.01");
	add_link("/usr/lib64/libcuda.so.1", "libcuda.so.550.163.01");
	assert_int_equal(gs_driver_files_find(&where, &files, &err), 0);
	assert_int_equal(files.links.count, 0);
	assert_string_equal(mount_at(&files, "/usr/lib64/libcuda.so.1")->host, "/usr/lib64/libcuda.so.550.163.01");
	gs_driver_files_free(&files);
}

static json_t *edits_with(const char *hook, const char *sim_dir)
{
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(1, 0);
	struct gs_driver_files files;
	struct gs_error err;
	struct gs_node_check all = {0};
	struct gs_driver_places where = places(NULL);
	where.hook = hook;
	where.sim_dir = sim_dir;
	assert_int_equal(gs_driver_files_find(&where, &files, &err), 0);
	GS_AUTO_FREE char *text = gs_cdi_render(&config, &inventory, "gpu", &all, &files);
	GS_AUTO_FREE char *again = gs_cdi_render(&config, &inventory, "gpu", &all, &files);
	assert_string_equal(text, again);
	gs_driver_files_free(&files);
	gs_inventory_free(&inventory);
	json_t *spec = json_loads(text, 0, NULL);
	json_t *edits = json_incref(json_object_get(spec, "containerEdits"));
	json_decref(spec);
	return edits;
}

static void test_the_spec(void **state)
{
	static const struct {
		const char *hook, *name, *word;
	} cases[] = {{"/var/lib/gpushare/gpushare-cdi-hook", "gpushare-cdi-hook", "update-ldcache"},
		     {"/usr/local/bin/nvidia-cdi-hook", "nvidia-cdi-hook", "update-ldcache"},
		     {"/opt/nvidia-ctk", "nvidia-ctk", "hook"}};
	add_file("/usr/lib64/libcuda.so.550.163.01");
	add_link("/usr/lib64/libcuda.so.1", "libcuda.so.550.163.01");
	for (size_t i = 0; i < 3; i++) {
		json_t *edits = edits_with(cases[i].hook, NULL);
		json_t *hooks = json_object_get(edits, "hooks"), *hook = json_array_get(hooks, 1);
		assert_int_equal(json_array_size(hooks), 2);
		assert_string_equal(json_string_value(json_object_get(hook, "path")), cases[i].hook);
		assert_in_range(json_integer_value(json_object_get(hook, "timeout")), 1, 600);
		json_t *arguments = json_object_get(hook, "args");
		assert_string_equal(json_string_value(json_array_get(arguments, 0)), cases[i].name);
		assert_string_equal(json_string_value(json_array_get(arguments, 1)), cases[i].word);
		json_t *mounts = json_object_get(edits, "mounts");
		assert_int_equal(json_array_size(mounts), 1);
		assert_string_equal(
			json_string_value(json_array_get(json_object_get(json_array_get(mounts, 0), "options"), 0)),
			"ro");
		json_decref(edits);
	}
	json_t *edits = edits_with("/x", "/run/node");
	static const char *const shared[][2] = {
		{"/run/node", "ro"}, {"/run/node/state", "rw"}, {"/run/node/clients", "rw"}, {"/run/node/pids", "rw"}};
	json_t *mounts = json_object_get(edits, "mounts"), *env = json_object_get(edits, "env");
	assert_int_equal(json_array_size(mounts), 5);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(shared); i++) {
		json_t *mount = json_array_get(mounts, i + 1);
		assert_string_equal(json_string_value(json_object_get(mount, "hostPath")), shared[i][0]);
		assert_string_equal(json_string_value(json_object_get(mount, "containerPath")), shared[i][0]);
		assert_string_equal(json_string_value(json_array_get(json_object_get(mount, "options"), 0)),
				    shared[i][1]);
	}
	assert_string_equal(json_string_value(json_array_get(env, 1)), "GPUSHARE_SIM=/run/node");
	assert_string_equal(json_string_value(json_array_get(env, 2)), "GPUSHARE_SIM_DEVICES=/dev");
	json_decref(edits);
}

/* As nvidia-ctk of version 1.20 generates them, in this order. */
static void test_the_hooks_of_nvidias_program(void **state)
{
	static const char *const wanted[] = {
		"nvidia-cdi-hook create-symlinks --link libcuda.so.550.163.01::/usr/lib64/libcuda.so.1 ",
		"nvidia-cdi-hook enable-cuda-compat --host-driver-version=550.163.01 ",
		"nvidia-cdi-hook update-ldcache --folder /usr/lib64 ",
		"nvidia-cdi-hook disable-device-node-modification ",
		"nvidia-cdi-hook update-application-profile ",
	};
	struct gs_config config = {0};
	struct gs_inventory inventory = fixture_inventory(1, 0);
	struct gs_driver_files files;
	struct gs_node_check all = {0};
	struct gs_driver_places where = places(NULL);
	add_file("/usr/lib64/libcuda.so.550.163.01");
	add_link("/usr/lib64/libcuda.so.1", "libcuda.so.550.163.01");
	where.hook = "/usr/bin/nvidia-cdi-hook";
	where.hooks = (1u << GS_HOOK_COUNT) - 1;
	assert_int_equal(gs_driver_files_find(&where, &files, NULL), 0);
	GS_AUTO_FREE char *text = gs_cdi_render(&config, &inventory, "gpu", &all, &files);
	json_t *spec = json_loads(text, 0, NULL), *hook, *word;
	json_t *hooks = json_object_get(json_object_get(spec, "containerEdits"), "hooks");
	size_t i, j;
	assert_int_equal(json_array_size(hooks), GS_ARRAY_LENGTH(wanted));
	json_array_foreach(hooks, i, hook)
	{
		GS_AUTO_STRBUF struct gs_strbuf line = {0};
		json_array_foreach(json_object_get(hook, "args"), j, word)
			gs_strbuf_printf(&line, "%s ", json_string_value(word));
		assert_string_equal(line.data, wanted[i]);
		assert_string_equal(json_string_value(json_object_get(hook, "hookName")), "createContainer");
	}
	json_decref(spec);
	gs_driver_files_free(&files);
	gs_inventory_free(&inventory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_a_drivers_files, remove_root),
		cmocka_unit_test_teardown(test_links_are_followed_as_the_root_sees_them, remove_root),
		cmocka_unit_test_teardown(test_without_a_hook_links_are_mounts, remove_root),
		cmocka_unit_test_teardown(test_the_spec, remove_root),
		cmocka_unit_test_teardown(test_the_hooks_of_nvidias_program, remove_root),
	};
	return cmocka_run_group_tests_name("driver_files", tests, make_root, remove_all);
}
