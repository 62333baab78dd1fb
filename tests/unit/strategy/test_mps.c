#include <sys/stat.h>

#include "base/file.h"
#include "core/share/container_edit.h"
#include "strategy/mps.h"
#include "mps/mps_answer.h"
#include "mps/mps_process.h"
#include "mps/mps_record.h"
#include "tests/unit/core/fixture.h"

#define GIB           ((int64_t)1 << 30)
#define TEXT(literal) ((char *)(uintptr_t)(literal))

/* Two GPUs of 80 GiB, compute capability 8.0, CUDA 12.4, and a config with `count` entries of MPS. */
struct world {
	struct gs_inventory inventory;
	struct gs_config config;
	struct gs_sharing_resource entries[3];
	struct gs_plan plan;
};

static struct world make(size_t count)
{
	struct world world = {.inventory = fixture_inventory(2, 0)};
	world.inventory.cuda_version = 12040;
	for (size_t i = 0; i < world.inventory.gpu_count; i++)
		world.inventory.gpus[i].compute_major = 8;
	for (size_t i = 0; i < count; i++)
		world.entries[i] = (struct gs_sharing_resource){
			.name = TEXT("nvidia.com/gpu"), .replicas = 4, .line = (int)(10 + i)};
	world.config.flags.mps_root = TEXT("/run/nvidia/mps");
	world.config.mps = (struct gs_sharing){
		.present = true, .fail_requests_greater_than_one = GS_UNSET, .resource_count = count};
	return world;
}

static void plan(struct world *world)
{
	world->config.mps.resources = world->entries;
	world->plan = fixture_plan(&world->config, &world->inventory);
}

static void refuse(struct world *world, const char *part)
{
	const char *why = NULL;
	plan(world);
	for (uint32_t i = 0; i < world->inventory.device_count && !why; i++)
		why = gs_plan_misfit(&world->plan, i);
	if (!why || !strstr(why, part))
		fail_msg("\"%s\" lacks \"%s\"", why ? why : "nothing is refused", part);
	assert_true(world->plan.note_count > 0 && strstr(world->plan.notes[0], why));
	gs_plan_free(&world->plan);
}

static void drop(struct world *world)
{
	gs_plan_free(&world->plan);
	gs_inventory_free(&world->inventory);
}

static void shares_are_equal_parts_unless_said(void **state)
{
	struct world world = make(1);
	plan(&world);
	const struct gs_resource *gpu = gs_plan_find(&world.plan, "nvidia.com/gpu");
	assert_int_equal(gpu->share_count, 8);
	assert_int_equal(gpu->shares[0].memory_bytes, 20 * GIB);
	assert_int_equal(gpu->shares[0].compute_permille, 250);
	assert_true(gpu->devices[0].fail_requests_greater_than_one);
	drop(&world);

	world = make(1);
	world.entries[0].memory_limit_bytes = 8 * GIB;
	world.entries[0].active_thread_percentage = 60;
	world.entries[0].overcommit = true;
	plan(&world);
	gpu = gs_plan_find(&world.plan, "nvidia.com/gpu");
	assert_int_equal(gpu->shares[7].memory_bytes, 8 * GIB);
	assert_int_equal(gpu->shares[7].compute_permille, 600);
	drop(&world);
}

static void limits_must_fit_the_device(void **state)
{
	struct world world = make(1);
	world.entries[0].memory_limit_bytes = 21 * GIB;
	refuse(&world, "(line 10): the memory limits of the shares on device 0 add up to 84Gi, and it has 80Gi");
	world.entries[0].oversubscribe = true;
	plan(&world);
	gs_plan_free(&world.plan);
	world.entries[0].memory_limit_bytes = 81 * GIB;
	refuse(&world, "memoryLimit 81Gi is more than device 0 has (80Gi)");
	world.entries[0].memory_limit_bytes = 0;
	world.inventory.devices[0].memory_bytes = 1 << 20;
	refuse(&world, "would have less than 1Mi of memory");
	gs_inventory_free(&world.inventory);
}

static void thread_percentages_must_fit_the_device(void **state)
{
	struct world world = make(2);
	world.entries[0].rename = TEXT("nvidia.com/gpu-small");
	world.entries[0].memory_limit_bytes = world.entries[1].memory_limit_bytes = 8 * GIB;
	refuse(&world, "(line 11): the thread percentages of the shares on device 0 add up to 200 (an entry without");
	world.entries[1].active_thread_percentage = 1;
	refuse(&world, "add up to 104");
	world.entries[0].active_thread_percentage = 24;
	plan(&world);
	gs_plan_free(&world.plan);
	world.entries[0].active_thread_percentage = 100;
	refuse(&world, "set overcommit: true");
	world.entries[0].overcommit = true;
	plan(&world);
	gs_plan_free(&world.plan);
	world.entries[0].overcommit = false;
	world.entries[1].oversubscribe = true; /* of all that the device has */
	plan(&world);
	drop(&world);
}

static void only_so_many_clients(void **state)
{
	struct world world = make(1);
	world.entries[0].replicas = 48;
	plan(&world);
	gs_plan_free(&world.plan);
	world.entries[0].replicas = 49;
	refuse(&world, "49 shares on device 0, and MPS takes 48 clients there (compute capability 8.0, CUDA 12.4)");
	world.inventory.gpus[0].compute_major = 7; /* V100: Volta, with all that it brought */
	refuse(&world, "MPS takes 48 clients there (compute capability 7.0");
	world.inventory.gpus[0].compute_major = 6;
	refuse(&world, "MPS takes 16 clients");
	world.inventory.gpus[0].compute_major = 8;
	world.inventory.cuda_version = 13010;
	world.entries[0].replicas = 60;
	plan(&world);
	gs_plan_free(&world.plan);
	world.entries[0].replicas = 61;
	refuse(&world, "MPS takes 60 clients");
	gs_inventory_free(&world.inventory);

	struct gs_inventory inventory = fixture_inventory(1, 1);
	inventory.gpus[0].compute_major = 8;
	assert_int_equal(gs_mps_clients_max(&inventory.gpus[0], &inventory.devices[0], 12040), 48);
	snprintf(inventory.devices[1].mig_profile, sizeof inventory.devices[1].mig_profile, "1g.10gb");
	assert_int_equal(gs_mps_clients_max(&inventory.gpus[0], &inventory.devices[1], 12040), 6);
	snprintf(inventory.devices[1].mig_profile, sizeof inventory.devices[1].mig_profile, "3g.40gb");
	assert_int_equal(gs_mps_clients_max(&inventory.gpus[0], &inventory.devices[1], 12040), 20);
	gs_inventory_free(&inventory);
}

/* What one GPU can't do, another may: the limit of a small one, the clients of an old one. */
static void what_does_not_fit_takes_only_itself(void **state)
{
	struct world world = make(1);
	struct gs_mps_specs specs;
	world.entries[0].memory_limit_bytes = 20 * GIB;
	world.inventory.gpus[1].memory_bytes = world.inventory.devices[1].memory_bytes = 15 * GIB;
	plan(&world);
	assert_int_equal(world.plan.resources[0].share_count, 4);
	assert_null(gs_plan_misfit(&world.plan, 0));
	assert_non_null(strstr(gs_plan_misfit(&world.plan, 1), "memoryLimit 20Gi is more than device 1 has (15Gi)"));
	gs_mps_specs_of(&world.plan, &world.inventory, &specs);
	assert_int_equal(specs.count, 1);
	assert_string_equal(specs.items[0].device, world.inventory.devices[0].uuid);
	GS_VEC_FREE(&specs);
	gs_plan_free(&world.plan);

	world.entries[0].memory_limit_bytes = 0;
	world.entries[0].replicas = 20;
	world.inventory.gpus[1].compute_major = 6;
	plan(&world);
	assert_null(gs_plan_misfit(&world.plan, 0));
	assert_non_null(strstr(gs_plan_misfit(&world.plan, 1), "MPS takes 16 clients"));
	gs_plan_free(&world.plan);
	world.inventory.gpus[1].compute_major = 0;
	plan(&world);
	assert_non_null(strstr(gs_plan_misfit(&world.plan, 1), "compute capability unknown"));
	drop(&world);
}

/* NULL when the container is not given it. */
static const char *env_of(const struct gs_container_edit *edit, const char *key)
{
	for (size_t i = 0; i < edit->env_count; i++)
		if (strcmp(edit->env[i].key, key) == 0)
			return edit->env[i].value;
	return NULL;
}

/* Boards that share the CPU's memory tell none of their own. */
static void memory_that_is_not_told_is_no_limit(void **state)
{
	struct world world = make(1);
	struct gs_container_edit edit = {0};
	struct gs_error err;
	const uint32_t of_first[] = {0}, of_second[] = {4};
	world.inventory.gpus[0].memory_bytes = world.inventory.devices[0].memory_bytes = 0;
	plan(&world);
	assert_null(gs_plan_misfit(&world.plan, 0));
	assert_int_equal(world.plan.note_count, 1);
	assert_non_null(
		strstr(world.plan.notes[0], "(line 10): the driver does not tell how much memory device 0 has"));
	const struct gs_resource *gpu = &world.plan.resources[0];
	assert_int_equal(gs_strategy_mps.edit(NULL, &world.config, &world.inventory, gpu, of_first, 1, &edit, &err), 0);
	assert_null(env_of(&edit, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"));
	gs_container_edit_free(&edit);
	assert_int_equal(gs_strategy_mps.edit(NULL, &world.config, &world.inventory, gpu, of_second, 1, &edit, &err),
			 0);
	assert_string_equal(env_of(&edit, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), "0=20480M");
	gs_container_edit_free(&edit);
	gs_plan_free(&world.plan);

	world.entries[0].memory_limit_bytes = 8 * GIB;
	plan(&world);
	assert_int_equal(world.plan.note_count, 0);
	assert_int_equal(world.plan.resources[0].shares[0].memory_bytes, 8 * GIB);
	drop(&world);
}

/* Two classes on one GPU: many small shares and one large one. */
static struct world divided(void)
{
	struct world world = make(2);
	world.entries[0].rename = TEXT("nvidia.com/gpu-small");
	world.entries[0].memory_limit_bytes = 8 * GIB;
	world.entries[0].active_thread_percentage = 10;
	world.entries[1].rename = TEXT("nvidia.com/gpu-large");
	world.entries[1].replicas = 1;
	world.entries[1].memory_limit_bytes = 40 * GIB;
	world.entries[1].active_thread_percentage = 50;
	return world;
}

static void entries_can_divide_a_device(void **state)
{
	struct world world = divided();
	char id[GS_SHARE_ID_SIZE];
	plan(&world);
	const struct gs_resource *small = gs_plan_find(&world.plan, "nvidia.com/gpu-small");
	const struct gs_resource *large = gs_plan_find(&world.plan, "nvidia.com/gpu-large");
	assert_int_equal(small->share_count, 8);
	assert_int_equal(large->share_count, 2);
	/* No id twice on a device: a ledger and a process's environment know ids only. */
	snprintf(id, sizeof id, "%s::4", world.inventory.devices[0].uuid);
	assert_string_equal(large->shares[0].id, id);
	assert_int_equal(gs_resource_find(large, id, strlen(id)), 0);
	assert_int_equal(gs_resource_find(small, id, strlen(id)), -1);
	snprintf(id, sizeof id, "%s::3", world.inventory.devices[1].uuid);
	assert_int_equal(gs_resource_find(small, id, strlen(id)), 7);
	assert_int_equal(gs_resource_find(large, id, strlen(id)), -1);
	gs_plan_free(&world.plan);
	world.entries[1].memory_limit_bytes = 60 * GIB;
	refuse(&world, "add up to 92Gi");
	world.entries[1].rename = world.entries[0].rename;
	refuse(&world, "give each a name of its own with `rename`");
	gs_inventory_free(&world.inventory);
}

static void one_daemon_gives_the_most_that_a_share_may_have(void **state)
{
	struct world world = divided();
	struct gs_mps_specs specs;
	plan(&world);
	gs_mps_specs_of(&world.plan, &world.inventory, &specs);
	assert_int_equal(specs.count, 2);
	for (size_t i = 0; i < specs.count; i++) {
		assert_string_equal(specs.items[i].key, world.inventory.devices[i].uuid);
		assert_string_equal(specs.items[i].gpu, world.inventory.gpus[i].uuid);
		assert_int_equal(specs.items[i].memory_bytes, 40 * GIB);
		assert_int_equal(specs.items[i].thread_percentage, 50);
		assert_true(specs.items[i].exclusive);
	}
	GS_VEC_FREE(&specs);
	drop(&world);
}

static void each_share_can_have_a_server_of_its_own(void **state)
{
	struct world world = make(1);
	struct gs_mps_specs specs;
	char key[GS_MPS_KEY_SIZE];
	world.entries[0].isolation = GS_MPS_PER_SHARE;
	plan(&world);
	gs_mps_specs_of(&world.plan, &world.inventory, &specs);
	assert_int_equal(specs.count, 8);
	snprintf(key, sizeof key, "%s-3", world.inventory.devices[1].uuid);
	assert_string_equal(specs.items[7].key, key);
	assert_false(specs.items[7].exclusive); /* several servers need the default mode */
	GS_VEC_FREE(&specs);
	gs_plan_free(&world.plan);

	struct world mixed = divided();
	mixed.entries[1].isolation = GS_MPS_PER_SHARE;
	refuse(&mixed, "has shares with isolation shared and per-share");
	gs_inventory_free(&mixed.inventory);
	gs_inventory_free(&world.inventory);
}

static void a_mig_device_is_a_device(void **state)
{
	struct world world = make(1);
	struct gs_mps_specs specs;
	gs_inventory_free(&world.inventory);
	world.inventory = fixture_inventory(1, 2);
	world.inventory.gpus[0].compute_major = 8;
	world.config.flags.mig_strategy = GS_MIG_SINGLE;
	plan(&world);
	gs_mps_specs_of(&world.plan, &world.inventory, &specs);
	assert_int_equal(specs.count, 2);
	assert_string_equal(specs.items[1].device, world.inventory.devices[2].uuid);
	assert_string_equal(specs.items[1].gpu, world.inventory.gpus[0].uuid);
	assert_false(specs.items[1].exclusive); /* compute modes belong to GPUs */
	GS_VEC_FREE(&specs);
	gs_plan_free(&world.plan);
	/* Published whole with MIG on: drivers take no mode then. */
	world.config.flags.mig_strategy = GS_MIG_NONE;
	plan(&world);
	gs_mps_specs_of(&world.plan, &world.inventory, &specs);
	assert_int_equal(specs.count, 1);
	assert_false(specs.items[0].exclusive);
	GS_VEC_FREE(&specs);
	drop(&world);
}

static void assert_mounts(const struct gs_container_edit *edit, const char *host, const char *container, bool read_only)
{
	for (size_t i = 0; i < edit->mount_count; i++)
		if (strcmp(edit->mounts[i].host_path, host) == 0) {
			assert_string_equal(edit->mounts[i].container_path, container);
			assert_int_equal(edit->mounts[i].read_only, read_only);
			return;
		}
	fail_msg("%s is not mounted", host);
}

static void a_container_gets_its_limits(void **state)
{
	struct world world = make(1);
	struct gs_container_edit edit = {0};
	struct gs_error err;
	char host[256];
	world.entries[0].memory_limit_bytes = 8 * GIB;
	world.entries[0].priority = 1;
	plan(&world);
	const struct gs_resource *gpu = &world.plan.resources[0];
	const uint32_t one[] = {5}, two[] = {5, 6}, apart[] = {0, 5};
	assert_int_equal(gs_strategy_mps.edit(NULL, &world.config, &world.inventory, gpu, one, 1, &edit, &err), 0);
	assert_string_equal(env_of(&edit, "CUDA_MPS_PIPE_DIRECTORY"), "/mps/nvidia.com/gpu/pipe");
	assert_string_equal(env_of(&edit, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), "0=8192M");
	assert_string_equal(env_of(&edit, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), "25");
	assert_string_equal(env_of(&edit, "CUDA_MPS_CLIENT_PRIORITY"), "1");
	snprintf(host, sizeof host, "/run/nvidia/mps/%s/pipe", world.inventory.devices[1].uuid);
	assert_mounts(&edit, host, "/mps/nvidia.com/gpu/pipe", true);
	assert_mounts(&edit, "/dev/shm", "/dev/shm", false);
	gs_container_edit_free(&edit);
	/* Two of one device are twice as much; of two devices they are no use to one process. */
	assert_int_equal(gs_strategy_mps.edit(NULL, &world.config, &world.inventory, gpu, two, 2, &edit, &err), 0);
	assert_string_equal(env_of(&edit, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), "0=16384M");
	assert_string_equal(env_of(&edit, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), "50");
	gs_container_edit_free(&edit);
	assert_int_equal(gs_strategy_mps.edit(NULL, &world.config, &world.inventory, gpu, apart, 2, &edit, &err), -1);
	assert_non_null(strstr(err.text, "a client of one MPS server only"));
	gs_container_edit_free(&edit);
	drop(&world);
}

static void assert_entered(const char *root, const char *hierarchy, const char *content)
{
	char path[128];
	size_t length;
	snprintf(path, sizeof path, "%s/%s/cgroup.procs", root, hierarchy);
	GS_AUTO_FREE char *text = gs_read_file(path, 64, &length, NULL);
	assert_non_null(text);
	assert_string_equal(text, content);
}

/* Folders that look like a node's cgroups. */
static void a_daemon_leaves_the_cgroups_of_its_container(void **state)
{
	char root[] = "/tmp/gpushare-cgroups-XXXXXX", command[512];
	struct gs_error err = {0};
	assert_non_null(mkdtemp(root));
	assert_int_equal(mps_leave_cgroups(77, root, &err), 0); /* nothing is mounted there */
	assert_int_equal(err.source, GS_ERROR_NONE);
	snprintf(command, sizeof command,
		 "cd %s && mkdir cpu,cpuacct memory other && touch cpu,cpuacct/cgroup.procs memory/cgroup.procs && "
		 "ln -s cpu,cpuacct cpu",
		 root);
	assert_int_equal(system(command), 0);
	assert_int_equal(mps_leave_cgroups(77, root, &err), 2);
	assert_entered(root, "cpu,cpuacct", "77\n"); /* once, not by its link too */
	assert_entered(root, "memory", "77\n");
	snprintf(command, sizeof command, "touch %s/cgroup.procs", root);
	assert_int_equal(system(command), 0);
	assert_int_equal(mps_leave_cgroups(78, root, &err), 1); /* version 2 */
	assert_entered(root, ".", "78\n");
	assert_entered(root, "memory", "77\n");
	snprintf(command, sizeof command, "rm -r %s", root);
	assert_int_equal(system(command), 0);
	assert_int_equal(mps_leave_cgroups(78, root, &err), 0);
	assert_non_null(strstr(err.text, root));
}

static void a_container_is_told_from_what_is_beside_us(void **state)
{
	static const char mine[] = "2:devices:/kubepods/pod1/a\n0::/kubepods/pod1/a\n";
	assert_true(mps_cgroup_is_ours(mine, mine));
	assert_true(mps_cgroup_is_ours(mine, "2:devices:/\n0::/\n"));
	assert_true(mps_cgroup_is_ours(mine, "2:devices:/kubepods/pod1/a\n0::/\n"));
	assert_true(mps_cgroup_is_ours("0::/\n", "0::/../../..\n")); /* seen from inside of a cgroup namespace */
	assert_false(mps_cgroup_is_ours("0::/\n", "0::/../b\n"));
	assert_false(mps_cgroup_is_ours("0::/\n", "0::/..b\n"));
	assert_false(mps_cgroup_is_ours(mine, "2:devices:/kubepods/pod1/a\n0::/kubepods/pod2/b\n"));
	assert_false(mps_cgroup_is_ours(mine, "2:devices:/kubepods/pod2/b\n0::/kubepods/pod1/a\n"));
	assert_false(mps_cgroup_is_ours(mine, "2:devices:/kubepods/pod1/a/below\n0::/\n"));
	assert_false(mps_cgroup_is_ours(mine, "0::/system.slice/other\n"));
	assert_false(mps_cgroup_is_ours(mine, ""));
	assert_false(mps_cgroup_is_ours(mine, "nonsense\n"));
}

static void a_process_is_known_by_its_start(void **state)
{
	assert_int_equal(mps_parse_start("7 (a) b) S 1 7 7 0 -1 4194560 216 0 0 0 0 0 0 0 20 0 1 0 4711 8540160 392\n"),
			 4711);
	assert_int_equal(mps_parse_start("7 (a"), 0);
	assert_int_equal(mps_parse_start("7 (a) S 1"), 0);
	struct mps_identity own = mps_identify(getpid()), other = own;
	assert_int_not_equal(own.start, 0);
	other.start++;
	assert_int_equal(mps_open_identity(&other), -1);
	assert_true(mps_is_beside_us(getpid()));
}

static void a_pipe_directory_names_its_folder(void **state)
{
	static const char *const none[] = {"", "/pipe", "//pipe", "/a/b", "a/b/pipe", "/a/../pipe", "/a/b/pipe/"};
	char *root;
	char *key = mps_parse_key("/run/nvidia/mps/GPU-1/pipe", &root);
	assert_string_equal(key, "GPU-1");
	assert_string_equal(root, "/run/nvidia/mps");
	free(key);
	free(root);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(none); i++)
		assert_null(mps_parse_key(none[i], &root));
}

static void answers_are_read(void **state)
{
	int servers[2];
	char line[8];
	assert_int_equal(mps_answer_servers("12\n-3\n0\n99999999999\n13\n14\n", servers, 2), 2);
	assert_int_equal(servers[1], 13);
	assert_int_equal(mps_answer_servers("no server", servers, 2), 0);
	assert_true(mps_answer_has_percentage("10.0\n10.0\n", 10));
	assert_false(mps_answer_has_percentage("10.0\n110.0\n", 10));
	assert_false(mps_answer_has_percentage("", 10));
	assert_string_equal(mps_answer_line("a\033\377b\nrest", line, sizeof line), "a??b");
	assert_string_equal(mps_answer_line("123456789", line, sizeof line), "1234567");
	assert_string_equal(mps_answer_line("\n", line, sizeof line), "it said nothing");
}

static void only_this_boots_daemons_are_known(void **state)
{
	static const char text[] =
		"{\"version\": 1, \"computeModes\": {}, \"root\": \"/r\", \"boot\": \"b\", \"daemons\": "
		"{\"/r/GPU-1\": {\"pid\": 7, \"start\": 9}, \"/r/GPU-2\": {\"pid\": -7, \"start\": 9}, "
		"\"nonsense\": {\"pid\": 7, \"start\": 9}, \"/r/GPU-3\": 3}}";
	struct gs_mps_record record = {0}, other = {0};
	size_t count;
	assert_int_equal(gs_mps_record_parse(text, strlen(text), "b", &record), 0);
	struct gs_mps_known *known = gs_mps_record_known(&record, &count);
	assert_int_equal(count, 1);
	assert_string_equal(known[0].key, "GPU-1");
	assert_int_equal(known[0].identity.start, 9);
	gs_mps_known_free(known, count);
	assert_int_equal(gs_mps_record_parse(text, strlen(text), "another", &other), 0);
	assert_null(other.daemons);
	gs_mps_record_free(&record);
	gs_mps_record_free(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_equal_parts_unless_said),
		cmocka_unit_test(limits_must_fit_the_device),
		cmocka_unit_test(thread_percentages_must_fit_the_device),
		cmocka_unit_test(only_so_many_clients),
		cmocka_unit_test(what_does_not_fit_takes_only_itself),
		cmocka_unit_test(memory_that_is_not_told_is_no_limit),
		cmocka_unit_test(entries_can_divide_a_device),
		cmocka_unit_test(one_daemon_gives_the_most_that_a_share_may_have),
		cmocka_unit_test(each_share_can_have_a_server_of_its_own),
		cmocka_unit_test(a_mig_device_is_a_device),
		cmocka_unit_test(a_container_gets_its_limits),
		cmocka_unit_test(a_daemon_leaves_the_cgroups_of_its_container),
		cmocka_unit_test(a_container_is_told_from_what_is_beside_us),
		cmocka_unit_test(a_process_is_known_by_its_start),
		cmocka_unit_test(a_pipe_directory_names_its_folder),
		cmocka_unit_test(answers_are_read),
		cmocka_unit_test(only_this_boots_daemons_are_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
