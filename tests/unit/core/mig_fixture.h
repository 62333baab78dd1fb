/* What GPUs offer, as values, for tests and measurements: the simulator's tables, and a GPU that does not exist. */
#ifndef GPUSHARE_TESTS_MIG_FIXTURE_H
#define GPUSHARE_TESTS_MIG_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "core/mig/mig_geometry.h"
#include "sim/mig_models.h"

/* Stops the program when it is refused, which no test here wants. */
static inline void mig_fixture_complete(struct gs_mig_gpu *gpu)
{
	struct gs_error err;
	if (gs_mig_gpu_complete(gpu, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

static inline void mig_fixture_add(struct gs_mig_gpu *gpu, const struct sim_mig_profile *from)
{
	struct gs_mig_profile *profile = &gpu->profiles[gpu->profile_count++];

	*profile = (struct gs_mig_profile){
		.id = from->id,
		.kind = from->number,
		.compute_slices = from->slices,
		.max_count = from->count,
		.multiprocessors = from->multiprocessors,
		.engines = {from->copy_engines, from->decoders, from->encoders, from->jpegs, from->ofas},
		.memory_bytes = (uint64_t)from->memory_mib << 20,
		.graphics = from->capabilities != 0,
	};
	snprintf(profile->name, sizeof profile->name, "%s", from->name);
	for (uint8_t start = 0; start < 32; start++)
		if (from->starts >> start & 1)
			profile->placements[profile->placement_count++] =
				(struct gs_mig_placement){.start = start, .size = (uint8_t)from->size};
}

/* "A100-80GB", as the simulator names models. */
static inline struct gs_mig_gpu mig_fixture(const char *model)
{
	const struct sim_mig_model *from = sim_mig_model_of(sim_model_by_name(model));
	struct gs_mig_gpu gpu = {0};

	for (size_t i = 0; i < from->profile_count; i++)
		mig_fixture_add(&gpu, &from->profiles[i]);
	mig_fixture_complete(&gpu);
	return gpu;
}

/* No GPU: as many ways as a grid of 12 slices can have. */
static inline struct gs_mig_gpu mig_dense_12(void)
{
	static const struct sim_mig_profile profiles[] = {
		{.name = "1g.1gb", .slices = 1, .count = 12, .starts = 0xfff, .size = 1},
		{.name = "1g.1gb+me", .slices = 1, .count = 2, .starts = 0xfff, .size = 1},
		{.name = "1g.1gb+gfx", .slices = 1, .count = 12, .starts = 0xfff, .size = 1},
		{.name = "1g.2gb", .slices = 1, .count = 6, .starts = 0x7ff, .size = 2},
		{.name = "2g.2gb", .slices = 2, .count = 6, .starts = 0x555, .size = 2},
		{.name = "3g.3gb", .slices = 3, .count = 4, .starts = 0x249, .size = 3},
		{.name = "4g.4gb", .slices = 4, .count = 3, .starts = 0x111, .size = 4},
		{.name = "6g.6gb", .slices = 6, .count = 2, .starts = 0x041, .size = 6},
		{.name = "12g.12gb", .slices = 12, .count = 1, .starts = 0x001, .size = 12},
	};
	struct gs_mig_gpu gpu = {0};

	for (uint32_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
		mig_fixture_add(&gpu, &profiles[i]);
		gpu.profiles[i].id = i;
	}
	mig_fixture_complete(&gpu);
	return gpu;
}

#endif
