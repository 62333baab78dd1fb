#include "helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "sim/layout.h"
#include "sim/models.h"

static bool exists(const struct world *world, const char *below)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", world->dir, below);
	return access(path, F_OK) == 0;
}

static void same_seed_same_node(void **state)
{
	struct world *world = *state, other = {.dir = "/tmp/gpushare-unit-XXXXXX"};
	struct gs_error err;
	struct sim_spec spec = {
		.groups = {{.model = model_index("A100-40GB"), .count = 2}}, .group_count = 1, .seed = 42};
	struct sim_gpu a, b, c;
	assert_non_null(mkdtemp(other.dir));
	assert_int_equal(sim_node_create(other.dir, &spec, &other.owner, &err), 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(sim_gpu_get(world->node, i, &a));
		assert_true(sim_gpu_get(other.owner, i, &b));
		assert_string_equal(a.uuid, b.uuid);
		assert_string_equal(a.serial, b.serial);
		assert_int_equal(a.pci_bus, b.pci_bus);
	}
	assert_true(sim_gpu_get(world->node, 0, &c));
	assert_string_not_equal(a.uuid, c.uuid);
	assert_int_equal(strlen(a.uuid), 40);
	assert_int_equal(strlen(a.serial), 13);
	/* Another seed in the same place makes another node. */
	sim_node_close(other.owner);
	spec.seed = 43;
	assert_int_equal(sim_node_create(other.dir, &spec, &other.owner, &err), 0);
	assert_true(sim_gpu_get(other.owner, 0, &b));
	assert_string_not_equal(b.uuid, c.uuid);
	sim_node_close(other.owner);
	assert_int_equal(sim_node_remove(other.dir, &err), 0);
}

static void gpus_are_told_apart(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	struct sim_gpu gpus[SIM_GPUS_MAX];
	while (sim_gpu_count(world->node) < SIM_GPUS_MAX)
		assert_true(sim_gpu_plug(world->node, model_index("T4"), &err) >= 0);
	assert_int_equal(sim_gpu_plug(world->node, model_index("T4"), &err), -1);
	for (uint32_t i = 0; i < SIM_GPUS_MAX; i++) {
		assert_true(sim_gpu_get(world->node, i, &gpus[i]));
		assert_int_equal(gpus[i].minor, i);
		assert_true(gpus[i].pci_bus <= 0xFF);
		for (uint32_t j = 0; j < i; j++) {
			assert_string_not_equal(gpus[i].uuid, gpus[j].uuid);
			assert_true(gpus[j].pci_bus < gpus[i].pci_bus); /* NVML's order is the order of the slots */
		}
	}
	assert_false(sim_gpu_get(world->node, SIM_GPUS_MAX, &gpus[0]));
	assert_false(sim_gpu_get(world->node, UINT32_MAX, &gpus[0]));
}

static void unplug_and_plug(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	struct sim_gpu before, after;
	assert_true(sim_gpu_get(world->node, 1, &before));
	assert_true(exists(world, "root/sys/bus/pci/devices/0000:0f:00.0/numa_node"));
	assert_int_equal(sim_gpu_unplug(world->node, 1, &err), 0);
	assert_int_equal(sim_gpu_unplug(world->node, 1, &err), -1);
	assert_false(exists(world, "root/sys/bus/pci/devices/0000:0f:00.0"));
	assert_false(exists(world, "root/proc/driver/nvidia/gpus/0000:0f:00.0"));
	assert_true(sim_gpu_get(world->node, 1, &after));
	assert_false(after.present);
	assert_int_equal(sim_gpu_count(world->node), 2);
	assert_int_equal(sim_client_attach(world->node, 1, SIM_CLIENT_COMPUTE, &err), -1);
	assert_int_equal(err.code, ENODEV);
	assert_int_equal(sim_gpu_plug(world->node, model_index("L4"), &err), 2);
	assert_true(sim_gpu_get(world->node, 2, &after));
	assert_true(after.present);
	assert_string_not_equal(after.uuid, before.uuid);
	assert_true(exists(world, "root/dev/nvidia2"));
	/* When all slots were used once, that of a board that is gone serves again, as a new board. */
	while (sim_gpu_count(world->node) < SIM_GPUS_MAX)
		assert_true(sim_gpu_plug(world->node, model_index("T4"), &err) >= 0);
	assert_int_equal(sim_gpu_plug(world->node, model_index("L4"), &err), 1);
	assert_true(sim_gpu_get(world->node, 1, &after));
	assert_int_equal(after.plugged, 2);
	assert_string_not_equal(after.uuid, before.uuid);
	assert_int_equal(sim_gpu_plug(world->node, model_index("L4"), &err), -1);
}

static void numa_nodes_and_memory_follow_the_spec(void **state)
{
	char dir[] = "/tmp/gpushare-unit-XXXXXX";
	struct gs_error err;
	struct sim_node *node;
	struct sim_gpu gpu;
	struct sim_spec spec = {.groups = {{.model = model_index("A100-80GB"), .count = 7},
					   {.model = model_index("T4"),
					    .count = 1,
					    .memory_total = 4ull << 30,
					    .numa_set = true,
					    .numa_node = 3}},
				.group_count = 2};
	assert_non_null(mkdtemp(dir));
	assert_int_equal(sim_node_create(dir, &spec, &node, &err), 0);
	for (uint32_t i = 0; i < 7; i++) {
		assert_true(sim_gpu_get(node, i, &gpu));
		assert_int_equal(gpu.numa_node, i < 4 ? 0 : 1);
	}
	assert_true(sim_gpu_get(node, 7, &gpu));
	assert_int_equal(gpu.numa_node, 3);
	assert_int_equal(gpu.memory_total, 4ull << 30);
	assert_string_equal(sim_node_driver_version(node), SIM_DRIVER_VERSION_DEFAULT);
	sim_node_close(node);
	assert_int_equal(sim_node_remove(dir, &err), 0);
}

static void one_owner_at_a_time(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	struct sim_node *second;
	struct sim_spec spec = {.groups = {{.model = 0, .count = 1}}, .group_count = 1};
	assert_true(sim_node_is_live(world->dir));
	assert_int_equal(sim_node_create(world->dir, &spec, &second, &err), -1);
	assert_int_equal(err.code, EBUSY);
	assert_int_equal(sim_gpu_count(world->node), 2);
	sim_node_close(world->owner);
	world->owner = NULL;
	assert_false(sim_node_is_live(world->dir));
	/* Who is still on the old node keeps it; the new one is another. */
	int slot = sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err);
	assert_int_equal(sim_client_allocate(world->node, slot, 1 << 20), 0);
	assert_int_equal(sim_node_create(world->dir, &spec, &world->owner, &err), 0);
	assert_int_equal(sim_gpu_count(world->owner), 1);
	assert_int_equal(sim_gpu_count(world->node), 2);
	assert_int_equal(sim_gpu_memory_used(world->owner, 0), 0);
	assert_int_equal(sim_gpu_memory_used(world->node, 0), 1 << 20);
}

static void a_foreign_directory_is_left_alone(void **state)
{
	char dir[] = "/tmp/gpushare-unit-XXXXXX";
	struct gs_error err;
	struct sim_node *node;
	struct sim_spec spec = {.groups = {{.model = 0, .count = 1}}, .group_count = 1};
	assert_non_null(mkdtemp(dir));
	GS_AUTO_FREE char *file = gs_printf("%s/thesis.txt", dir);
	int fd = open(file, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(sim_node_create(dir, &spec, &node, &err), -1);
	assert_non_null(strstr(err.text, "is not empty"));
	assert_int_equal(access(file, F_OK), 0);
	unlink(file);
	rmdir(dir);
}

/* What others left in a node's directory, or made there after its end, keeps no other node from beginning there. */
static void a_directory_is_used_again(void **state)
{
	char dir[] = "/tmp/gpushare-unit-XXXXXX";
	struct gs_error err;
	struct sim_node *node;
	struct sim_spec spec = {.groups = {{.model = 0, .count = 1}}, .group_count = 1};
	assert_non_null(mkdtemp(dir));
	GS_AUTO_FREE char *folder = gs_printf("%s/left", dir);
	GS_AUTO_FREE char *file = gs_printf("%s/log", folder);
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(sim_node_create(dir, &spec, &node, &err), 0);
	int fd = open(file, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	sim_node_close(node);
	assert_int_equal(sim_node_remove(dir, &err), 0);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(sim_node_create(dir, &spec, &node, &err), 0);
	sim_node_close(node);
	unlink(file);
	rmdir(folder);
	assert_int_equal(sim_node_remove(dir, &err), 0);
	assert_int_equal(access(dir, F_OK), -1);
}

/* Replaces DIR/state by `length` bytes of `filler`, then reads back the error of joining. */
static void join_after_damage(struct world *world, size_t length, char filler, const char *says)
{
	GS_AUTO_FREE char *path = gs_printf("%s/state", world->dir);
	GS_AUTO_FREE char *bytes = gs_malloc(length + 1);
	struct sim_node *node;
	struct gs_error err = {0};
	memset(bytes, filler, length);
	unlink(path);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	fclose(file);
	assert_int_equal(sim_node_open(world->dir, &node, &err), -1);
	if (!strstr(err.text, says))
		fail_msg("got: %s", err.text);
}

static void a_damaged_state_is_refused(void **state)
{
	struct world *world = *state;
	join_after_damage(world, 0, 0, "has 0 bytes");
	join_after_damage(world, 1, 0, "has 1 bytes");
	join_after_damage(world, sizeof(struct sim_state) - 1, 0, "bytes where");
	join_after_damage(world, sizeof(struct sim_state) + 1, 0, "bytes where");
	join_after_damage(world, sizeof(struct sim_state), 0, "is not the state");
	join_after_damage(world, sizeof(struct sim_state), 'x', "is not the state");
}

static void another_version_is_refused(void **state)
{
	struct world *world = *state;
	struct sim_node *node;
	struct gs_error err;
	world->node->state->version++;
	assert_int_equal(sim_node_open(world->dir, &node, &err), -1);
	assert_non_null(strstr(err.text, "version"));
	world->node->state->version--;
	uint32_t count = world->node->state->gpu_count;
	world->node->state->gpu_count = 1000;
	assert_int_equal(sim_node_open(world->dir, &node, &err), -1);
	world->node->state->gpu_count = count;
	world->node->state->gpus[1].model = 1000;
	assert_int_equal(sim_node_open(world->dir, &node, &err), -1);
	assert_non_null(strstr(err.text, "damaged"));
}

/* Scribbles over everything but the lock, then uses every call: none may crash (the sanitizers watch). */
static void garbage_does_not_crash(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	struct sim_gpu gpu;
	struct sim_client clients[4];
	struct sim_event event;
	uint64_t seed = 99, types[SIM_GPUS_MAX];
	memset(types, 0xFF, sizeof types);
	int slot = sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err);
	for (int round = 0; round < 50; round++) {
		char *bytes = (char *)world->node->state;
		for (size_t i = offsetof(struct sim_state, gpu_count); i + 8 <= sizeof(struct sim_state); i += 8) {
			uint64_t value = next_random(&seed);
			value = round % 3 == 0 ? value : round % 3 == 1 ? UINT64_MAX : value & 0x0000000F0000000Full;
			if (i + 8 <= offsetof(struct sim_state, lock) || i >= offsetof(struct sim_state, gpus))
				memcpy(bytes + i, &value, sizeof value);
		}
		uint64_t sequence = next_random(&seed);
		assert_true(sim_gpu_count(world->node) <= SIM_GPUS_MAX);
		for (uint32_t i = 0; i < SIM_GPUS_MAX; i++) {
			if (sim_gpu_get(world->node, i, &gpu))
				assert_true(gpu.model < sim_model_count && strlen(gpu.uuid) < sizeof gpu.uuid);
			sim_gpu_memory_used(world->node, i);
			assert_true(sim_gpu_busy_permille(world->node, i, SIM_WINDOW_MAX_NS) <= 1000);
			sim_clients(world->node, i, clients, 4);
			assert_true(sim_client_busy_permille(&clients[0], sim_now_ns(), 1000000000) <= 1000);
		}
		sim_client_allocate(world->node, slot, 1 << 20);
		sim_client_submit(world->node, slot, 0, 1000);
		sim_client_release(world->node, slot, 1 << 20);
		sim_event_post(world->node, 1, 8, 79);
		sim_event_wait(world->node, types, &sequence, 0, &event);
		sim_nvml_fault_take(world->node, "nvmlInit");
		sim_nvml_fault_set(world->node, "nvmlInit", 1, 1, &err);
		sim_gpu_unplug(world->node, 0, &err);
		sim_gpu_plug(world->node, 0, &err);
		sim_client_detach(world->node, slot);
		slot = sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err);
	}
}

static void die_with_the_lock(struct world *world)
{
	assert_true(sim_lock(world->node));
	world->node->state->gpu_count = 77; /* half a change */
}

static void a_holder_that_dies_frees_the_lock(void **state)
{
	struct world *world = *state;
	in_killed_child(die_with_the_lock, world);
	assert_int_equal(sim_gpu_count(world->node), SIM_GPUS_MAX); /* bounded again */
	assert_true(sim_lock(world->node));
	sim_unlock(world->node);
}

static void a_child_is_nobody_until_it_attaches(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	int slot = sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err);
	assert_int_equal(sim_client_allocate(world->node, slot, 1 << 20), 0);
	pid_t child = fork();
	if (child == 0) {
		/* The parent's slot is not ours; the node can be read, and joined anew. */
		bool good =
			sim_client_allocate(world->node, slot, 1) < 0 && sim_gpu_memory_used(world->node, 0) == 1 << 20;
		int own = sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err);
		good = good && own >= 0 && own != slot && sim_client_allocate(world->node, own, 1 << 20) == 0;
		good = good && sim_gpu_memory_used(world->node, 0) == 2 << 20;
		_exit(good ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(sim_gpu_memory_used(world->node, 0), 1 << 20);
}

static void a_child_does_not_keep_the_node_alive(void **state)
{
	struct world *world = *state;
	int gate[2];
	char byte = 0;
	assert_int_equal(pipe(gate), 0);
	pid_t child = fork();
	if (child == 0) {
		close(gate[1]);
		_exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
	}
	close(gate[0]);
	sim_node_close(world->owner);
	world->owner = NULL;
	/* The child may not have run its fork handler yet. */
	for (int i = 0; i < 10000 && sim_node_is_live(world->dir); i++)
		usleep(1000);
	assert_false(sim_node_is_live(world->dir));
	close(gate[1]);
	waitpid(child, NULL, 0);
}

static void no_node_is_an_error(void **state)
{
	struct sim_node *node;
	struct gs_error err;
	unsetenv("GPUSHARE_SIM");
	assert_int_equal(sim_node_open(NULL, &node, &err), -1);
	assert_non_null(strstr(err.text, "GPUSHARE_SIM"));
	assert_int_equal(sim_node_open("/nowhere/at/all", &node, &err), -1);
	assert_int_equal(sim_node_open("/proc", &node, &err), -1);
	assert_false(sim_node_is_live("/nowhere/at/all"));
}

int main(void)
{
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)
	const struct CMUnitTest tests[] = {
		WITH_WORLD(same_seed_same_node),
		WITH_WORLD(gpus_are_told_apart),
		WITH_WORLD(unplug_and_plug),
		cmocka_unit_test(numa_nodes_and_memory_follow_the_spec),
		WITH_WORLD(one_owner_at_a_time),
		cmocka_unit_test(a_foreign_directory_is_left_alone),
		cmocka_unit_test(a_directory_is_used_again),
		WITH_WORLD(a_damaged_state_is_refused),
		WITH_WORLD(another_version_is_refused),
		WITH_WORLD(garbage_does_not_crash),
		WITH_WORLD(a_holder_that_dies_frees_the_lock),
		WITH_WORLD(a_child_is_nobody_until_it_attaches),
		WITH_WORLD(a_child_does_not_keep_the_node_alive),
		cmocka_unit_test(no_node_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
