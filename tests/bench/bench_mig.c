/* What planning MIG costs, beside its targets. No GPU and no driver is asked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/core/mig_fixture.h"
#include "base/cleanup.h"
#include "core/mig_config.h"
#include "core/mig_plan.h"
#include "figure.h"

enum { CASES = 20000, ROUNDS = 9, GPUS = 8 };

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((random_state >> 33) % limit);
}

/* Instances at random places, until a few in a row find theirs taken. */
static struct gs_mig_layout random_layout(const struct gs_mig_gpu *gpu)
{
	struct gs_mig_layout layout = {0};
	uint32_t taken = 0;

	for (uint32_t tries = 4 + random_below(16); tries; tries--) {
		uint8_t profile = (uint8_t)random_below(gpu->profile_count);
		const struct gs_mig_profile *p = &gpu->profiles[profile];
		struct gs_mig_placement place = p->placements[random_below(p->placement_count)];
		if (taken & gs_mig_place_mask(place))
			continue;
		taken |= gs_mig_place_mask(place);
		layout.instances[layout.count] =
			(struct gs_mig_instance){.id = layout.count,
						 .profile = profile,
						 .place = place,
						 .busy = random_below(4) == 0,
						 .compute = {{.slices = (uint8_t)p->compute_slices}},
						 .compute_count = 1};
		layout.count++;
	}
	return layout;
}

/* A wish that fits on an empty GPU, and sometimes one more, so that the search goes deep. */
static void random_case(const struct gs_mig_gpu *gpu, struct gs_mig_layout *layout, struct gs_mig_wish *wish)
{
	struct gs_mig_layout other = random_layout(gpu);
	*layout = random_layout(gpu);
	gs_mig_wish_from_layout(gpu, &other, wish);
	if (random_below(4) == 0)
		gs_mig_wish_add(gpu, gpu->profiles[random_below(gpu->profile_count)].name, 1, wish, NULL);
}

static double plan_us(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, const struct gs_mig_wish *wish)
{
	struct gs_mig_plan plan;
	double best = 1e9;
	for (int round = 0; round < ROUNDS; round++) {
		double begin = now();
		gs_mig_plan_make(gpu, layout, wish, GS_MIG_BECOME, &plan);
		double took = (now() - begin) * 1e6;
		best = took < best ? took : best;
	}
	return best;
}

/* The slowest of many cases; of each the least disturbed round. */
static void measure_worst(const char *name, const struct gs_mig_gpu *gpu)
{
	struct gs_mig_layout layout;
	struct gs_mig_wish wish;
	double worst = 0, sum = 0;
	char note[64];

	for (int i = 0; i < CASES; i++) {
		random_case(gpu, &layout, &wish);
		double took = plan_us(gpu, &layout, &wish);
		worst = took > worst ? took : worst;
		sum += took;
	}
	snprintf(note, sizeof note, "worst of %d cases, mean %.1f us", CASES, sum / CASES);
	row(name, worst, "us", 1000, note);
}

static void apply(const struct gs_mig_gpu *gpu, const struct gs_mig_plan *plan, struct gs_mig_layout *layout)
{
	for (size_t i = 0; i < plan->step_count; i++) {
		const struct gs_mig_step *step = &plan->steps[i];
		if (step->kind == GS_MIG_CREATE_INSTANCE) {
			layout->instances[layout->count++] = (struct gs_mig_instance){
				.id = step->place.start + 16u,
				.profile = step->profile,
				.place = step->place,
				.compute = {{.slices = (uint8_t)gpu->profiles[step->profile].compute_slices}},
				.compute_count = 1};
			continue;
		}
		for (size_t k = 0; k < layout->count; k++)
			if (layout->instances[k].id == step->instance_id)
				layout->instances[k] = layout->instances[--layout->count];
	}
}

static struct gs_mig_wish wish_of(const struct gs_mig_config *config, const char *name,
				  const struct gs_mig_node_gpu *gpus)
{
	struct gs_mig_target targets[GPUS];
	const struct gs_mig_named *named = gs_mig_config_find(config, name, NULL);
	if (!named || gs_mig_config_resolve(config, named, gpus, GPUS, targets, NULL))
		exit(1);
	return targets[0].wish;
}

/* all-1g.10gb to all-balanced on eight idle GPUs. mig-parted does 96 creates and 120 destroys of GPU and compute
 * instances for it. */
static void measure_switch(void)
{
	struct gs_mig_gpu gpu = mig_fixture("A100-80GB");
	struct gs_mig_node_gpu gpus[GPUS];
	struct gs_mig_config config;
	struct gs_mig_layout layout = {0};
	struct gs_mig_plan plan;
	char note[64];

	for (size_t i = 0; i < GPUS; i++)
		gpus[i] = (struct gs_mig_node_gpu){.mig = &gpu};
	gs_mig_config_generate(gpus, GPUS, &config);
	struct gs_mig_wish small = wish_of(&config, "all-1g.10gb", gpus);
	struct gs_mig_wish balanced = wish_of(&config, "all-balanced", gpus);
	gs_mig_plan_make(&gpu, &layout, &small, GS_MIG_BECOME, &plan);
	apply(&gpu, &plan, &layout);
	double begin = now();
	for (size_t i = 0; i < GPUS; i++)
		gs_mig_plan_make(&gpu, &layout, &balanced, GS_MIG_BECOME, &plan);
	double took = (now() - begin) * 1e6;
	snprintf(note, sizeof note, "planned in %.1f us", took);
	row("all-1g.10gb to all-balanced, 8 GPUs, creates", plan.created * GPUS, "", 32, note);
	row("all-1g.10gb to all-balanced, 8 GPUs, destroys", plan.destroyed * GPUS, "", 56, "");
	gs_mig_config_free(&config);
}

int main(void)
{
	struct gs_mig_gpu a30 = mig_fixture("A30"), h100 = mig_fixture("H100-80GB");
	struct gs_mig_gpu rtx = mig_fixture("RTX-PRO-6000"), dense = mig_dense_12();

	measure_worst("MIG plan of one GPU, 4 slices", &a30);
	measure_worst("MIG plan of one GPU, 8 slices", &h100);
	measure_worst("MIG plan of one GPU, 12 slices", &rtx);
	measure_worst("MIG plan of one GPU, 12 slices, 9 sizes", &dense);
	measure_switch();
	return 0;
}
