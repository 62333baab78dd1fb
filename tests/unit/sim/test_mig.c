/* Partitions in the node's state: what clients on them can have, and that no series of changes breaks the rules. */
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helpers.h"
#include "sim/layout.h"
#include "sim/mig.h"

#define MIB(n) ((uint64_t)(n) << 20)
#define MS(n)  ((uint64_t)(n)*1000000)

static uint32_t profile_of(const char *spec_name, const char *name)
{
	const struct sim_mig_model *model = sim_mig_model_of(sim_model_by_name(spec_name));
	const struct sim_mig_profile *profile = sim_mig_profile_by_name(model, name);
	assert_non_null(profile);
	return (uint32_t)(profile - model->profiles);
}

static void set_mode(struct world *world, bool on)
{
	nvmlReturn_t activation;
	assert_int_equal(sim_mig_set_mode(world->node, 0, on, &activation), NVML_SUCCESS);
	assert_int_equal(activation, NVML_SUCCESS);
}

/* A GPU instance of the name with one compute instance of `slices` slices in it. */
static struct sim_mig_name make(struct world *world, const char *name, uint32_t number)
{
	struct sim_mig_name instance, compute;
	assert_int_equal(
		sim_mig_create(world->node, 0, profile_of("A100-40GB", name), NULL, SIM_MIG_AS_DRIVER, &instance),
		NVML_SUCCESS);
	assert_int_equal(sim_mig_create_compute(world->node, &instance, number, NULL, &compute), NVML_SUCCESS);
	return compute;
}

static int attach(struct world *world, const struct sim_mig_name *name)
{
	struct gs_error err;
	int slot = sim_client_attach_instance(world->node, name->gpu, name->gpu_instance, name->compute_instance,
					      SIM_CLIENT_COMPUTE, &err);
	assert_true(slot >= 0);
	return slot;
}

static void compute_instances_share_memory(void **state)
{
	struct world *world = *state;
	set_mode(world, true);
	struct sim_mig_name first = make(world, "3g.20gb", NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE), second;
	assert_int_equal(sim_mig_create_compute(world->node,
						&(struct sim_mig_name){0, first.gpu_instance, SIM_MIG_NONE, 0},
						NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE, NULL, &second),
			 NVML_SUCCESS);
	struct sim_mig_name other = make(world, "1g.5gb", NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE);
	int a = attach(world, &first), b = attach(world, &second), c = attach(world, &other);
	assert_int_equal(sim_client_allocate(world->node, a, MIB(10000)), 0);
	assert_int_equal(sim_client_allocate(world->node, b, MIB(9969)), -1); /* 19968 in all */
	assert_int_equal(sim_client_allocate(world->node, b, MIB(9968)), 0);
	assert_int_equal(sim_client_allocate(world->node, c, MIB(4864)), 0);
	assert_int_equal(sim_instance_memory_used(world->node, 0, first.gpu_instance), MIB(19968));
	assert_int_equal(sim_instance_memory_used(world->node, 0, other.gpu_instance), MIB(4864));
	assert_int_equal(sim_gpu_memory_used(world->node, 0), MIB(19968 + 4864));
}

static void instances_work_side_by_side(void **state)
{
	struct world *world = *state;
	set_mode(world, true);
	struct sim_mig_name large = make(world, "3g.20gb", NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE);
	struct sim_mig_name small = make(world, "1g.5gb", NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE);
	int a = attach(world, &large), b = attach(world, &small), c = attach(world, &small);
	uint64_t start = sim_now_ns() + MS(3600000);
	assert_int_equal(sim_client_submit(world->node, a, start, MS(100)), start + MS(100));
	assert_int_equal(sim_client_submit(world->node, b, start, MS(100)), start + MS(100)); /* not after it */
	assert_int_equal(sim_client_submit(world->node, c, start, MS(100)), start + MS(200)); /* in turn */
	/* Who leaves takes what it had queued along, there and nowhere else. */
	sim_client_detach(world->node, c);
	assert_int_equal(sim_client_submit(world->node, b, start, MS(1)), start + MS(101));
	assert_int_equal(sim_client_submit(world->node, a, start, MS(1)), start + MS(101));
}

static void an_instance_keeps_its_share_of_the_gpu_busy(void **state)
{
	struct world *world = *state;
	struct sim_gpu gpu;
	struct sim_mig mig;
	set_mode(world, true);
	struct sim_mig_name small = make(world, "1g.5gb", NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE);
	int slot = attach(world, &small);
	uint64_t end = sim_client_submit(world->node, slot, 0, MS(100));
	while (sim_now_ns() < end)
		usleep(1000);
	assert_true(sim_gpu_get(world->node, 0, &gpu));
	assert_int_equal(gpu.busy_ns_total, MS(13)); /* 14 of 108 multiprocessors: 130 permille */
	assert_true(sim_mig_get(world->node, 0, &mig));
	assert_int_equal(mig.gis[small.gpu_instance].cis[0].busy_ns_total, MS(100));
	/* 100 ms of the last six seconds; the window may have moved on. */
	if (sim_now_ns() - end < MS(5000))
		assert_in_range(sim_instance_busy_permille(world->node, 0, small.gpu_instance, 0, SIM_WINDOW_MAX_NS),
				15, 17);
}

static void hold_instance(struct world *world)
{
	struct gs_error err;
	struct sim_mig mig;
	struct sim_node *node;
	if (sim_node_open(world->dir, &node, &err) < 0 || !sim_mig_get(node, 0, &mig))
		_exit(1);
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++)
		if (mig.gis[id].serial)
			sim_client_attach_instance(node, 0, id, 0, SIM_CLIENT_COMPUTE, &err);
}

static void death_frees_the_instance(void **state)
{
	struct world *world = *state;
	set_mode(world, true);
	struct sim_mig_name small = make(world, "1g.5gb", NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE);
	in_killed_child(hold_instance, world);
	assert_int_equal(sim_mig_destroy_compute(world->node, &small), NVML_SUCCESS);
}

static void the_rest_of_the_gpu_takes_nobody(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	assert_int_equal(sim_client_attach_instance(world->node, 0, 1, 0, SIM_CLIENT_COMPUTE, &err), -1);
	set_mode(world, true);
	assert_int_equal(sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err), -1);
	static const uint32_t wrong[] = {0, 7, SIM_MIG_INSTANCES_MAX, 1u << 20, SIM_MIG_NONE - 1};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		assert_int_equal(sim_client_attach_instance(world->node, 0, wrong[i], 0, SIM_CLIENT_COMPUTE, &err), -1);
		assert_int_equal(sim_client_attach_instance(world->node, 0, 1, wrong[i], SIM_CLIENT_COMPUTE, &err), -1);
	}
	assert_true(sim_client_attach(world->node, 1, SIM_CLIENT_COMPUTE, &err) >= 0);
}

/* Slices that instances take, counted from the state; each at most once. */
static void check_layout(struct world *world, const struct sim_mig_model *model)
{
	struct sim_mig mig;
	uint32_t taken = 0;
	assert_true(sim_mig_get(world->node, 0, &mig));
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++) {
		const struct sim_mig_gi *gi = &mig.gis[id];
		if (!gi->serial)
			continue;
		uint32_t own = ((1u << gi->size) - 1) << gi->start, inside = 0;
		assert_int_equal(taken & own, 0);
		taken |= own;
		assert_int_equal(sim_mig_id_of(model->grid, gi->start, gi->size), id);
		for (uint32_t ci = 0; ci < SIM_MIG_COMPUTES_MAX; ci++) {
			if (!gi->cis[ci].serial)
				continue;
			uint32_t slices = ((1u << gi->cis[ci].size) - 1) << gi->cis[ci].start;
			assert_int_equal(inside & slices, 0);
			inside |= slices;
		}
		assert_true(inside < 1u << model->profiles[gi->profile].slices);
	}
	/* What is said to fit can be made, and one more cannot. */
	for (uint32_t profile = 0; profile < model->profile_count; profile++) {
		uint32_t left = sim_mig_remaining(model, &mig, profile);
		assert_int_equal(left == 0, sim_mig_free_starts(model, &mig, profile) == 0);
		struct sim_mig_name made[8];
		for (uint32_t i = 0; i < left; i++)
			assert_int_equal(sim_mig_create(world->node, 0, profile, NULL, SIM_MIG_AS_DRIVER, &made[i]),
					 NVML_SUCCESS);
		assert_int_equal(sim_mig_create(world->node, 0, profile, NULL, SIM_MIG_AS_DRIVER, &made[left]),
				 NVML_ERROR_INSUFFICIENT_RESOURCES);
		for (uint32_t i = 0; i < left; i++)
			assert_int_equal(sim_mig_destroy(world->node, &made[i]), NVML_SUCCESS);
	}
}

static void change_something(struct world *world, const struct sim_mig_model *model, uint64_t *seed)
{
	struct sim_mig_name made, name = {0, (uint32_t)(next_random(seed) % SIM_MIG_INSTANCES_MAX), SIM_MIG_NONE, 0};
	uint32_t start = (uint32_t)(next_random(seed) % 13),
		 profile = (uint32_t)(next_random(seed) % model->profile_count);
	switch (next_random(seed) % 5) {
	case 0:
		sim_mig_create(world->node, 0, profile, NULL, (enum sim_mig_choice)(next_random(seed) % 3), &made);
		break;
	case 1:
		sim_mig_create(world->node, 0, profile, &start, SIM_MIG_AS_DRIVER, &made);
		break;
	case 2:
		sim_mig_create_compute(world->node, &name, (uint32_t)(next_random(seed) % 10), NULL, &made);
		break;
	case 3:
		sim_mig_destroy(world->node, &name);
		break;
	default:
		name.compute_instance = (uint32_t)(next_random(seed) % SIM_MIG_COMPUTES_MAX);
		sim_mig_destroy_compute(world->node, &name);
	}
}

static void change_model(struct sim_gpu *gpu, void *user)
{
	gpu->model = *(const uint32_t *)user;
	gpu->mig_mode = gpu->mig_pending = 1;
}

static void no_series_of_changes_breaks_the_rules(void **state)
{
	static const char *const models[] = {"A100-40GB", "A30", "RTX-PRO-6000", "H200-141GB"};
	struct world *world = *state;
	uint64_t seed = 5;
	for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
		struct gs_error err;
		uint32_t position = model_index(models[i]);
		sim_gpu_update(world->node, 0, change_model, &position);
		assert_int_equal(sim_gpu_reset(world->node, 0, &err), 0);
		for (int k = 0; k < 300; k++) {
			change_something(world, sim_mig_model_of(&sim_models[position]), &seed);
			if (k % 10 == 0)
				check_layout(world, sim_mig_model_of(&sim_models[position]));
		}
	}
}

/* Whatever is in the file, nobody falls over it. */
static void damage_is_survived(void **state)
{
	struct world *world = *state;
	uint64_t seed = 11;
	set_mode(world, true);
	struct sim_mig_name name = make(world, "3g.20gb", NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE);
	attach(world, &name);
	for (int round = 0; round < 200; round++) {
		struct sim_mig *mig = &world->node->state->migs[0];
		for (int i = 0; i < 40; i++)
			((uint8_t *)mig)[next_random(&seed) % sizeof *mig] = (uint8_t)next_random(&seed);
		struct sim_client *client = &world->node->state->clients[next_random(&seed) % 2];
		client->gpu_instance = (uint32_t)next_random(&seed) % 20;
		client->compute_instance = (uint32_t)next_random(&seed) % 10;
		struct sim_mig copy;
		assert_true(sim_mig_get(world->node, 0, &copy));
		for (uint32_t profile = 0; profile < 7; profile++)
			sim_mig_remaining(sim_mig_model_of(sim_model_by_name("A100-40GB")), &copy, profile);
		for (int i = 0; i < 20; i++)
			change_something(world, sim_mig_model_of(sim_model_by_name("A100-40GB")), &seed);
		sim_instance_busy_permille(world->node, 0, (uint32_t)next_random(&seed) % 20, SIM_MIG_NONE, MS(1000));
		sim_instance_memory_used(world->node, 0, (uint32_t)next_random(&seed) % 20);
		sim_client_submit(world->node, 0, 0, 1);
		sim_client_allocate(world->node, 0, 1);
	}
}

static void uuids_follow_from_the_place(void **state)
{
	struct world *world = *state;
	struct sim_gpu gpus[2];
	static char seen[2 * SIM_MIG_INSTANCES_MAX * SIM_MIG_COMPUTES_MAX][48];
	size_t count = 0;
	assert_true(sim_gpu_get(world->node, 0, &gpus[0]) && sim_gpu_get(world->node, 1, &gpus[1]));
	for (int gpu = 0; gpu < 2; gpu++)
		for (uint32_t gi = 0; gi < SIM_MIG_INSTANCES_MAX; gi++)
			for (uint32_t ci = 0; ci < SIM_MIG_COMPUTES_MAX; ci++) {
				sim_mig_uuid(&gpus[gpu], gi, ci, seen[count]);
				assert_int_equal(strlen(seen[count]), 40);
				for (size_t i = 0; i < count; i++)
					assert_string_not_equal(seen[i], seen[count]);
				count++;
			}
	set_mode(world, true);
	struct sim_mig_name first = make(world, "3g.20gb", NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE), found;
	char uuid[48];
	sim_mig_uuid(&gpus[0], first.gpu_instance, 0, uuid);
	assert_true(sim_mig_find(world->node, uuid, &found));
	assert_int_equal(found.serial, first.serial);
	assert_int_equal(sim_mig_destroy_compute(world->node, &first), NVML_SUCCESS);
	assert_false(sim_mig_find(world->node, uuid, &found));
}

int main(void)
{
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)
	const struct CMUnitTest tests[] = {
		WITH_WORLD(compute_instances_share_memory),
		WITH_WORLD(instances_work_side_by_side),
		WITH_WORLD(an_instance_keeps_its_share_of_the_gpu_busy),
		WITH_WORLD(death_frees_the_instance),
		WITH_WORLD(the_rest_of_the_gpu_takes_nobody),
		WITH_WORLD(no_series_of_changes_breaks_the_rules),
		WITH_WORLD(damage_is_survived),
		WITH_WORLD(uuids_follow_from_the_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
