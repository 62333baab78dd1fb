#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "kube/plugin/others.h"
#include "tests/unit/core/fixture.h"

static bool names(const struct gs_inventory *inventory, const char *id)
{
	return kube_other_names_gpu(inventory, (const uint8_t *)id, strlen(id));
}

static void ids_of_gpus(void **state)
{
	struct gs_inventory inventory = fixture_inventory(2, 1);
	GS_AUTO_FREE char *replica = gs_printf("%s::3", inventory.gpus[1].uuid);
	GS_AUTO_FREE char *slice = gs_printf("%s-_-0", inventory.devices[1].uuid);

	assert_true(names(&inventory, replica));
	assert_true(names(&inventory, slice)); /* of a MIG device */
	assert_true(names(&inventory, "nvidia0"));
	assert_true(names(&inventory, "nvidia12/gi1"));
	assert_false(names(&inventory, "GPU-00000000-0000-0000-0000-000000000000"));
	assert_false(names(&inventory, "nvidia"));
	assert_false(names(&inventory, "nvidia-mlx5"));
	assert_false(names(&inventory, "nvidia0000:3b:00.0"));
	assert_false(names(&inventory, ""));
	gs_inventory_free(&inventory);
}

static bool collect(void *user, const uint8_t *resource, size_t resource_length, const uint8_t *id, size_t length)
{
	char *text = user;
	sprintf(text + strlen(text), "%.*s=%.*s ", (int)resource_length, resource ? (const char *)resource : "",
		(int)length, (const char *)id);
	return !memchr(id, '!', length);
}

static void lists_are_read(void **state)
{
	/* {devices: [{ids: ["b", "c!"], resource: "r"}]}: ids come first, and the last one ends it. */
	static const uint8_t allocatable[] = "\x0a\x0b\x12\x01"
					     "b"
					     "\x12\x02"
					     "c!"
					     "\x0a\x02"
					     "rr"
					     "\x0a\x03\x12\x01"
					     "d";
	static const uint8_t list[] = "\x0a\x0c\x0a\x01"
				      "a"
				      "\x12\x07"
				      "Healthy"
				      "\x0a\x03\x0a\x01"
				      "b";
	char text[100] = "";

	assert_int_equal(kube_allocatable_read(allocatable, sizeof allocatable - 1, collect, text), 0);
	assert_string_equal(text, "rr=b rr=c! ");
	text[0] = '\0';
	assert_int_equal(kube_plugin_list_read(list, sizeof list - 1, collect, text), 0);
	assert_string_equal(text, "=a =b ");
	assert_int_equal(kube_plugin_list_read(list, 6, collect, text), -1);
	assert_int_equal(kube_allocatable_read(allocatable, 4, collect, text), -1);
	assert_int_equal(kube_allocatable_read(allocatable, 0, collect, text), 0);
}

/* A socket that somebody listens at until the descriptor is closed. */
static int listen_at(const char *folder, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", folder, name);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void remove_all(const char *folder, const char *const *names)
{
	for (; *names; names++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, *names);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(rmdir(folder), 0);
}

static void sockets_of_others(void **state)
{
	static const char *const made[] = {"kubelet.sock",        "mine.sock", "nvidiaGPU-1.sock",
					   "nvidia.com_nic.sock", "fpga.sock", "nvidia-dead.sock",
					   "file.sock",           NULL};
	char folder[] = "/tmp/gpushare-others-XXXXXX", byte;
	int up[2], down[2];
	assert_non_null(mkdtemp(folder));
	assert_int_equal(pipe(up) + pipe(down), 0);
	int mine = listen_at(folder, "mine.sock");
	pid_t child = fork();
	if (child == 0) {
		static const char *const theirs[] = {"kubelet.sock", "nvidiaGPU-1.sock", "nvidia.com_nic.sock",
						     "fpga.sock"};
		for (size_t i = 0; i < GS_ARRAY_LENGTH(theirs); i++)
			listen_at(folder, theirs[i]);
		close(listen_at(folder, "nvidia-dead.sock"));
		close(down[1]);
		(void)!write(up[1], "", 1);
		(void)!read(down[0], &byte, 1); /* until the other end is closed */
		_exit(0);
	}
	assert_int_equal(read(up[0], &byte, 1), 1);
	GS_AUTO_FREE char *file = gs_printf("%s/file.sock", folder);
	assert_int_equal(gs_write_file(file, "", 0, 0600, NULL), 0);

	struct kube_others others;
	kube_others_find(folder, "", "/proc", &others);
	assert_int_equal(others.items.count, 3);
	static const char *const expected[] = {"fpga.sock", "nvidia.com_nic.sock", "nvidiaGPU-1.sock"};
	for (size_t i = 0; i < others.items.count; i++) {
		assert_string_equal(strrchr(others.items.items[i].path, '/') + 1, expected[i]);
		assert_int_equal(others.items.items[i].has_gpus, i == 2);
		assert_int_equal(others.items.items[i].pid, child);
	}
	kube_others_free(&others);

	/* What its process has open tells, whatever the name. */
	GS_AUTO_FREE char *proc = gs_printf("%s/%d", folder, (int)child);
	GS_AUTO_FREE char *maps = gs_printf("%s/maps", proc);
	assert_int_equal(mkdir(proc, 0700), 0);
	static const char line[] = "7f00-7f01 r-xp 0 08:01 7 /usr/lib64/libnvidia-ml.so.550.54.15\n";
	assert_int_equal(gs_write_file(maps, line, strlen(line), 0600, NULL), 0);
	kube_others_find(folder, "", folder, &others);
	assert_int_equal(others.items.count, 3);
	for (size_t i = 0; i < others.items.count; i++)
		assert_true(others.items.items[i].has_gpus);
	kube_others_free(&others);
	assert_int_equal(unlink(maps) + rmdir(proc), 0);

	close(down[1]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	kube_others_find(folder, "", "/proc", &others); /* they left their sockets behind */
	assert_int_equal(others.items.count, 0);
	kube_others_free(&others);
	close(mine);
	for (size_t i = 0; i < 2; i++)
		close(up[i]);
	close(down[0]);
	remove_all(folder, made);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_of_gpus),
		cmocka_unit_test(lists_are_read),
		cmocka_unit_test(sockets_of_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
