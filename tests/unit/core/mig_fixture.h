/* MIG profiles as drivers list them, for tests and measurements. The program itself has no such table. */
#ifndef GPUSHARE_TESTS_MIG_FIXTURE_H
#define GPUSHARE_TESTS_MIG_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "core/mig_geometry.h"

struct mig_row {
	const char *name;
	uint32_t id, max_count, compute_slices, memory_mib, multiprocessors;
	uint32_t engines[GS_MIG_ENGINES]; /* copy, decoder, encoder, JPEG, optical flow */
	const char *starts;               /* hexadecimal digits */
	uint8_t size;
};

static const struct mig_row mig_a100_40[] = {
	{"1g.5gb", 19, 7, 1, 4864, 14, {1, 0, 0, 0, 0}, "0123456", 1},
	{"1g.5gb+me", 20, 1, 1, 4864, 14, {1, 1, 0, 1, 1}, "0123456", 1},
	{"1g.10gb", 15, 4, 1, 9856, 14, {1, 1, 0, 0, 0}, "0246", 2},
	{"2g.10gb", 14, 3, 2, 9856, 28, {2, 1, 0, 0, 0}, "024", 2},
	{"3g.20gb", 9, 2, 3, 19968, 42, {3, 2, 0, 0, 0}, "04", 4},
	{"4g.20gb", 5, 1, 4, 19968, 56, {4, 2, 0, 0, 0}, "0", 4},
	{"7g.40gb", 0, 1, 7, 40192, 98, {7, 5, 0, 1, 1}, "0", 8},
	{0},
};

static const struct mig_row mig_a100_80[] = {
	{"1g.10gb", 19, 7, 1, 9728, 14, {1, 0, 0, 0, 0}, "0123456", 1},
	{"1g.10gb+me", 20, 1, 1, 9728, 14, {1, 1, 0, 1, 1}, "0123456", 1},
	{"1g.20gb", 15, 4, 1, 19968, 14, {1, 1, 0, 0, 0}, "0246", 2},
	{"2g.20gb", 14, 3, 2, 19968, 28, {2, 1, 0, 0, 0}, "024", 2},
	{"3g.40gb", 9, 2, 3, 40192, 42, {3, 2, 0, 0, 0}, "04", 4},
	{"4g.40gb", 5, 1, 4, 40192, 56, {4, 2, 0, 0, 0}, "0", 4},
	{"7g.80gb", 0, 1, 7, 80896, 98, {7, 5, 0, 1, 1}, "0", 8},
	{0},
};

static const struct mig_row mig_h100_80[] = {
	{"1g.10gb", 19, 7, 1, 9984, 16, {1, 1, 0, 1, 0}, "0123456", 1},
	{"1g.10gb+me", 20, 1, 1, 9984, 16, {1, 1, 0, 1, 1}, "0123456", 1},
	{"1g.20gb", 15, 4, 1, 20096, 26, {1, 1, 0, 1, 0}, "0246", 2},
	{"2g.20gb", 14, 3, 2, 20096, 32, {2, 2, 0, 2, 0}, "024", 2},
	{"3g.40gb", 9, 2, 3, 40448, 60, {3, 3, 0, 3, 0}, "04", 4},
	{"4g.40gb", 5, 1, 4, 40448, 64, {4, 4, 0, 4, 0}, "0", 4},
	{"7g.80gb", 0, 1, 7, 81152, 132, {8, 7, 0, 7, 1}, "0", 8},
	{0},
};

static const struct mig_row mig_a30[] = {
	{"1g.6gb", 14, 4, 1, 5952, 14, {1, 1, 0, 0, 0}, "0123", 1},
	{"1g.6gb+me", 21, 1, 1, 5952, 14, {1, 1, 0, 1, 1}, "0123", 1},
	{"2g.12gb", 5, 2, 2, 11968, 28, {2, 2, 0, 0, 0}, "02", 2},
	{"2g.12gb+me", 6, 1, 2, 11968, 28, {2, 2, 0, 1, 1}, "02", 2},
	{"4g.24gb", 0, 1, 4, 24000, 56, {4, 4, 0, 1, 1}, "0", 4},
	{0},
};

static const struct mig_row mig_rtx_pro_6000[] = {
	{"1g.24gb", 14, 4, 1, 24192, 46, {1, 1, 1, 1, 0}, "0369", 3},
	{"1g.24gb+me", 21, 1, 1, 24192, 46, {1, 1, 1, 1, 1}, "0369", 3},
	{"1g.24gb+gfx", 47, 4, 1, 24192, 46, {1, 1, 1, 1, 0}, "0369", 3},
	{"1g.24gb+me.all", 65, 1, 1, 24192, 46, {1, 4, 4, 4, 1}, "0369", 3},
	{"1g.24gb-me", 67, 4, 1, 24192, 46, {1, 0, 0, 0, 0}, "0369", 3},
	{"2g.48gb", 5, 2, 2, 48512, 94, {2, 2, 2, 2, 0}, "06", 6},
	{"2g.48gb+gfx", 35, 2, 2, 48512, 94, {2, 2, 2, 2, 0}, "06", 6},
	{"2g.48gb+me.all", 64, 1, 2, 48512, 94, {2, 4, 4, 4, 1}, "06", 6},
	{"2g.48gb-me", 66, 2, 2, 48512, 94, {2, 0, 0, 0, 0}, "06", 6},
	{"4g.96gb", 0, 1, 4, 97408, 188, {4, 4, 4, 4, 1}, "0", 12},
	{"4g.96gb+gfx", 32, 1, 4, 97408, 188, {4, 4, 4, 4, 1}, "0", 12},
	{0},
};

/* No GPU: as many ways as a grid of 12 slices can have. */
static const struct mig_row mig_dense_12[] = {
	{"1g.1gb", 1, 12, 1, 1024, 1, {0}, "0123456789ab", 1},
	{"1g.1gb+me", 2, 2, 1, 1024, 1, {0}, "0123456789ab", 1},
	{"1g.1gb+gfx", 3, 12, 1, 1024, 1, {0}, "0123456789ab", 1},
	{"1g.2gb", 4, 6, 1, 2048, 1, {0}, "0123456789a", 2},
	{"2g.2gb", 5, 6, 2, 2048, 2, {0}, "02468a", 2},
	{"3g.3gb", 6, 4, 3, 3072, 3, {0}, "0369", 3},
	{"4g.4gb", 7, 3, 4, 4096, 4, {0}, "048", 4},
	{"6g.6gb", 8, 2, 6, 6144, 6, {0}, "06", 6},
	{"12g.12gb", 9, 1, 12, 12288, 12, {0}, "0", 12},
	{0},
};

/* Stops the program when gs_mig_gpu_complete refuses what should be a GPU. */
static inline struct gs_mig_gpu mig_fixture(const struct mig_row *rows)
{
	struct gs_error err;
	struct gs_mig_gpu gpu = {0};

	for (; rows->name; rows++) {
		struct gs_mig_profile *profile = &gpu.profiles[gpu.profile_count];
		*profile = (struct gs_mig_profile){.id = rows->id,
						   .kind = gpu.profile_count,
						   .compute_slices = rows->compute_slices,
						   .max_count = rows->max_count,
						   .multiprocessors = rows->multiprocessors,
						   .memory_bytes = (uint64_t)rows->memory_mib << 20};
		for (size_t i = 0; rows->name[i]; i++)
			profile->name[i] = rows->name[i];
		for (size_t i = 0; i < GS_MIG_ENGINES; i++)
			profile->engines[i] = rows->engines[i];
		for (const char *start = rows->starts; *start; start++)
			profile->placements[profile->placement_count++] = (struct gs_mig_placement){
				.start = (uint8_t)(*start <= '9' ? *start - '0' : *start - 'a' + 10),
				.size = rows->size};
		gpu.profile_count++;
	}
	if (gs_mig_gpu_complete(&gpu, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return gpu;
}

#endif
