/* The planner and the simulated driver, written apart, must agree: what is planned is done without an error, and leads
 * to what was wished, beside clients that go on running. */
#include <string.h>

#include "../core/mig_fixture.h"
#include "core/mig/mig_plan.h"
#include "helpers.h"
#include "sim/mig.h"

enum { CHANGES = 300 };

struct changes {
	struct world *world;
	struct gs_mig_gpu gpu;
	struct gs_mig_layout layout;
	uint64_t seed;
	int clients[8];
	size_t client_count;
	uint32_t done, refused, beside;
};

static uint32_t below(struct changes *c, uint32_t limit)
{
	return (uint32_t)(next_random(&c->seed) % limit);
}

/* The simulator numbers compute instances by kind, and instances have profiles in the fixture's order. */
static uint32_t kind_of(uint8_t slices)
{
	return slices == 7 ? NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE : slices - 1u;
}

static void read_layout(struct changes *c)
{
	struct sim_mig mig;
	c->layout = (struct gs_mig_layout){0};
	assert_true(sim_mig_get(c->world->node, 0, &mig));
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++) {
		const struct sim_mig_gi *gi = &mig.gis[id];
		struct gs_mig_instance *instance = &c->layout.instances[c->layout.count];
		if (!gi->serial)
			continue;
		*instance = (struct gs_mig_instance){
			.id = id, .profile = (uint8_t)gi->profile, .place = {(uint8_t)gi->start, (uint8_t)gi->size}};
		for (uint32_t ci = 0; ci < SIM_MIG_COMPUTES_MAX; ci++)
			if (gi->cis[ci].serial)
				instance->compute[instance->compute_count++] =
					(struct gs_mig_compute){.id = ci,
								.start = (uint8_t)gi->cis[ci].start,
								.slices = (uint8_t)gi->cis[ci].size};
		c->layout.count++;
	}
}

static void start_clients(struct changes *c)
{
	struct gs_error err;
	c->client_count = 0;
	for (size_t i = 0; i < c->layout.count; i++) {
		struct gs_mig_instance *instance = &c->layout.instances[i];
		for (size_t k = 0; k < instance->compute_count; k++) {
			if (below(c, 4) || c->client_count == sizeof c->clients / sizeof c->clients[0])
				continue;
			int client = sim_client_attach_instance(c->world->node, 0, instance->id,
								instance->compute[k].id, SIM_CLIENT_COMPUTE, &err);
			assert_true(client >= 0);
			c->clients[c->client_count++] = client;
			instance->compute[k].busy = instance->busy = true;
		}
	}
}

/* Part of what there is, and something else. */
static struct gs_mig_wish make_wish(struct changes *c)
{
	struct gs_mig_wish wish, more = {0};
	gs_mig_wish_from_layout(&c->gpu, &c->layout, &wish);
	for (size_t i = 0; i < wish.count; i++)
		if (wish.items[i].compute_count && below(c, 4))
			more.items[more.count++] = wish.items[i];
	for (uint32_t k = below(c, 4); k; k--) {
		const struct gs_mig_profile *profile = &c->gpu.profiles[below(c, c->gpu.profile_count)];
		char name[GS_MIG_NAME_SIZE];
		gs_mig_wish_add(&c->gpu, gs_mig_compute_name(profile, 1 + below(c, profile->compute_slices), name), 1,
				&more, NULL);
	}
	return more;
}

static void create(struct changes *c, const struct gs_mig_step *step)
{
	struct sim_mig_name instance = {0, step->instance_id, SIM_MIG_NONE, 0}, made;
	if (step->kind == GS_MIG_CREATE_INSTANCE) {
		uint32_t start = step->place.start;
		assert_int_equal(sim_mig_create(c->world->node, 0, step->profile, &start, SIM_MIG_AS_DRIVER, &instance),
				 NVML_SUCCESS);
	}
	for (size_t i = 0; i < step->compute_count; i++) {
		uint32_t start = step->compute_start[i];
		assert_int_equal(
			sim_mig_create_compute(c->world->node, &instance, kind_of(step->compute[i]), &start, &made),
			NVML_SUCCESS);
	}
}

static void destroy(struct changes *c, const struct gs_mig_step *step)
{
	struct sim_mig_name name = {0, step->instance_id, step->compute_id, 0};
	for (size_t i = 0; step->kind == GS_MIG_DESTROY_INSTANCE && i < c->layout.count; i++) {
		const struct gs_mig_instance *instance = &c->layout.instances[i];
		for (size_t k = 0; instance->id == step->instance_id && k < instance->compute_count; k++) {
			name.compute_instance = instance->compute[k].id;
			assert_int_equal(sim_mig_destroy_compute(c->world->node, &name), NVML_SUCCESS);
		}
	}
	if (step->kind == GS_MIG_DESTROY_COMPUTE) {
		assert_int_equal(sim_mig_destroy_compute(c->world->node, &name), NVML_SUCCESS);
		return;
	}
	name.compute_instance = SIM_MIG_NONE;
	assert_int_equal(sim_mig_destroy(c->world->node, &name), NVML_SUCCESS);
}

static void change(struct changes *c)
{
	struct gs_mig_plan plan;
	struct gs_mig_wish after;

	read_layout(c);
	start_clients(c);
	struct gs_mig_wish wish = make_wish(c);
	if (gs_mig_plan_make(&c->gpu, &c->layout, &wish, GS_MIG_BECOME, &plan)) {
		c->refused++;
	} else {
		c->done++;
		c->beside += c->client_count > 0 && plan.step_count > 0;
		for (size_t i = 0; i < plan.step_count; i++)
			if (plan.steps[i].kind == GS_MIG_CREATE_INSTANCE || plan.steps[i].kind == GS_MIG_CREATE_COMPUTE)
				create(c, &plan.steps[i]);
			else
				destroy(c, &plan.steps[i]);
		read_layout(c);
		gs_mig_wish_from_layout(&c->gpu, &c->layout, &after);
		assert_true(gs_mig_wish_same(&after, &wish));
	}
	for (size_t i = 0; i < c->client_count; i++)
		sim_client_detach(c->world->node, c->clients[i]);
}

static void change_model(struct sim_gpu *gpu, void *user)
{
	gpu->model = *(const uint32_t *)user;
	gpu->mig_mode = gpu->mig_pending = 1;
}

static void plans_are_possible(void **state)
{
	static const char *const models[] = {"A100-40GB", "A30", "H100-80GB", "RTX-PRO-6000"};
	for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
		struct changes c = {.world = *state, .gpu = mig_fixture(models[i]), .seed = 7};
		struct gs_error err;
		uint32_t position = model_index(models[i]);
		sim_gpu_update(c.world->node, 0, change_model, &position);
		assert_int_equal(sim_gpu_reset(c.world->node, 0, &err), 0);
		for (int k = 0; k < CHANGES; k++)
			change(&c);
		print_message("# %s: %u changes, %u of them beside clients; %u refused\n", models[i], c.done, c.beside,
			      c.refused);
		assert_true(c.done > CHANGES / 4 && c.beside > CHANGES / 50);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(plans_are_possible, world_begin, world_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
