#include "sim/mig_models.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "gpushare/nvml.h"

enum {
	G1 = NVML_GPU_INSTANCE_PROFILE_1_SLICE,
	G2 = NVML_GPU_INSTANCE_PROFILE_2_SLICE,
	G3 = NVML_GPU_INSTANCE_PROFILE_3_SLICE,
	G4 = NVML_GPU_INSTANCE_PROFILE_4_SLICE,
	G7 = NVML_GPU_INSTANCE_PROFILE_7_SLICE,
	G1_MEDIA = NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1,
	G2_MEDIA = NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1,
	G1_DOUBLE = NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2,
	G1_GRAPHICS = NVML_GPU_INSTANCE_PROFILE_1_SLICE_GFX,
	G2_GRAPHICS = NVML_GPU_INSTANCE_PROFILE_2_SLICE_GFX,
	G4_GRAPHICS = NVML_GPU_INSTANCE_PROFILE_4_SLICE_GFX,
	G1_PLAIN = NVML_GPU_INSTANCE_PROFILE_1_SLICE_NO_ME,
	G2_PLAIN = NVML_GPU_INSTANCE_PROFILE_2_SLICE_NO_ME,
	G1_ALL_MEDIA = NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME,
	G2_ALL_MEDIA = NVML_GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME,
	GRAPHICS = NVML_GPU_INSTANCE_PROFILE_CAPS_GFX,
};

/* Where instances may begin: all boards with a grid of 8 have these. */
enum {
	AT_0 = 0x1,
	AT_HALVES = 0x11,
	AT_QUARTERS = 0x55,
	AT_FIRST_QUARTERS = 0x15, /* the last quarter has half the compute slices */
	AT_EIGHTHS = 0x7F,        /* 7 compute slices, 8 of memory */
};

/* number, id, name, slices, size, starts, count, MiB, multiprocessors, copy engines, decoders, encoders, jpegs, ofas,
 * capabilities, order. The orders are what driver 560 did on an H100 NVL with 9,15,19; taken to hold for all later boards
 * with that grid. */
/* clang-format off */
static const struct sim_mig_profile a100_40gb[] = {
	{G1,        19, "1g.5gb",    1, 1, AT_EIGHTHS,        7,   4864,  14, 1, 0, 0, 0, 0, 0, NULL},
	{G1_MEDIA,  20, "1g.5gb+me", 1, 1, AT_EIGHTHS,        1,   4864,  14, 1, 1, 0, 1, 1, 0, NULL},
	{G1_DOUBLE, 15, "1g.10gb",   1, 2, AT_QUARTERS,       4,   9856,  14, 1, 1, 0, 0, 0, 0, NULL},
	{G2,        14, "2g.10gb",   2, 2, AT_FIRST_QUARTERS, 3,   9856,  28, 2, 1, 0, 0, 0, 0, NULL},
	{G3,         9, "3g.20gb",   3, 4, AT_HALVES,         2,  19968,  42, 3, 2, 0, 0, 0, 0, NULL},
	{G4,         5, "4g.20gb",   4, 4, AT_0,              1,  19968,  56, 4, 2, 0, 0, 0, 0, NULL},
	{G7,         0, "7g.40gb",   7, 8, AT_0,              1,  40192,  98, 7, 5, 0, 1, 1, 0, NULL},
};
static const struct sim_mig_profile a100_80gb[] = {
	{G1,        19, "1g.10gb",    1, 1, AT_EIGHTHS,        7,  9728,  14, 1, 0, 0, 0, 0, 0, NULL},
	{G1_MEDIA,  20, "1g.10gb+me", 1, 1, AT_EIGHTHS,        1,  9728,  14, 1, 1, 0, 1, 1, 0, NULL},
	{G1_DOUBLE, 15, "1g.20gb",    1, 2, AT_QUARTERS,       4, 19968,  14, 1, 1, 0, 0, 0, 0, NULL},
	{G2,        14, "2g.20gb",    2, 2, AT_FIRST_QUARTERS, 3, 19968,  28, 2, 1, 0, 0, 0, 0, NULL},
	{G3,         9, "3g.40gb",    3, 4, AT_HALVES,         2, 40192,  42, 3, 2, 0, 0, 0, 0, NULL},
	{G4,         5, "4g.40gb",    4, 4, AT_0,              1, 40192,  56, 4, 2, 0, 0, 0, 0, NULL},
	{G7,         0, "7g.80gb",    7, 8, AT_0,              1, 80896,  98, 7, 5, 0, 1, 1, 0, NULL},
};
static const struct sim_mig_profile a30[] = {
	{G1,        14, "1g.6gb",     1, 1, 0xF, 4,  5952, 14, 1, 1, 0, 0, 0, 0, NULL},
	{G1_MEDIA,  21, "1g.6gb+me",  1, 1, 0xF, 1,  5952, 14, 1, 1, 0, 1, 1, 0, NULL},
	{G2,         5, "2g.12gb",    2, 2, 0x5, 2, 11968, 28, 2, 2, 0, 0, 0, 0, NULL},
	{G2_MEDIA,   6, "2g.12gb+me", 2, 2, 0x5, 1, 11968, 28, 2, 2, 0, 1, 1, 0, NULL},
	{G4,         0, "4g.24gb",    4, 4, 0x1, 1, 24000, 56, 4, 4, 0, 1, 1, 0, NULL},
};
static const struct sim_mig_profile h100_80gb[] = {
	{G1,        19, "1g.10gb",    1, 1, AT_EIGHTHS,        7,  9984,  16, 1, 1, 0, 1, 0, 0, NULL},
	{G1_MEDIA,  20, "1g.10gb+me", 1, 1, AT_EIGHTHS,        1,  9984,  16, 1, 1, 0, 1, 1, 0, NULL},
	{G1_DOUBLE, 15, "1g.20gb",    1, 2, AT_QUARTERS,       4, 20096,  26, 1, 1, 0, 1, 0, 0, "4"},
	{G2,        14, "2g.20gb",    2, 2, AT_FIRST_QUARTERS, 3, 20096,  32, 2, 2, 0, 2, 0, 0, NULL},
	{G3,         9, "3g.40gb",    3, 4, AT_HALVES,         2, 40448,  60, 3, 3, 0, 3, 0, 0, "0"},
	{G4,         5, "4g.40gb",    4, 4, AT_0,              1, 40448,  64, 4, 4, 0, 4, 0, 0, NULL},
	{G7,         0, "7g.80gb",    7, 8, AT_0,              1, 81152, 132, 8, 7, 0, 7, 1, 0, NULL},
};
static const struct sim_mig_profile h200_141gb[] = {
	{G1,        19, "1g.18gb",    1, 1, AT_EIGHTHS,        7,  16384,  16, 1, 1, 0, 1, 0, 0, NULL},
	{G1_MEDIA,  20, "1g.18gb+me", 1, 1, AT_EIGHTHS,        1,  16384,  16, 1, 1, 0, 1, 1, 0, NULL},
	{G1_DOUBLE, 15, "1g.35gb",    1, 2, AT_QUARTERS,       4,  33024,  26, 1, 1, 0, 1, 0, 0, "4"},
	{G2,        14, "2g.35gb",    2, 2, AT_FIRST_QUARTERS, 3,  33024,  32, 2, 2, 0, 2, 0, 0, NULL},
	{G3,         9, "3g.71gb",    3, 4, AT_HALVES,         2,  71168,  60, 3, 3, 0, 3, 0, 0, "0"},
	{G4,         5, "4g.71gb",    4, 4, AT_0,              1,  71168,  64, 4, 4, 0, 4, 0, 0, NULL},
	{G7,         0, "7g.141gb",   7, 8, AT_0,              1, 143104, 132, 8, 7, 0, 7, 1, 0, NULL},
};
static const struct sim_mig_profile b200_180gb[] = {
	{G1,        19, "1g.23gb",    1, 1, AT_EIGHTHS,        7,  22528,  18,  2, 1, 0, 1, 0, 0, NULL},
	{G1_MEDIA,  20, "1g.23gb+me", 1, 1, AT_EIGHTHS,        1,  22528,  18,  2, 1, 0, 1, 1, 0, NULL},
	{G1_DOUBLE, 15, "1g.45gb",    1, 2, AT_QUARTERS,       4,  45312,  30,  2, 1, 0, 1, 0, 0, "4"},
	{G2,        14, "2g.45gb",    2, 2, AT_FIRST_QUARTERS, 3,  45312,  36,  4, 2, 0, 2, 0, 0, NULL},
	{G3,         9, "3g.90gb",    3, 4, AT_HALVES,         2,  91136,  70,  6, 3, 0, 3, 0, 0, "0"},
	{G4,         5, "4g.90gb",    4, 4, AT_0,              1,  91136,  72,  8, 4, 0, 4, 0, 0, NULL},
	{G7,         0, "7g.180gb",   7, 8, AT_0,              1, 182272, 148, 16, 7, 0, 7, 1, 0, NULL},
};
static const struct sim_mig_profile rtx_pro_6000[] = {
	{G1,           14, "1g.24gb",        1,  3, 0x249, 4, 24192,  46, 1, 1, 1, 1, 0, 0,        NULL},
	{G1_MEDIA,     21, "1g.24gb+me",     1,  3, 0x249, 1, 24192,  46, 1, 1, 1, 1, 1, 0,        NULL},
	{G1_GRAPHICS,  47, "1g.24gb+gfx",    1,  3, 0x249, 4, 24192,  46, 1, 1, 1, 1, 0, GRAPHICS, NULL},
	{G1_ALL_MEDIA, 65, "1g.24gb+me.all", 1,  3, 0x249, 1, 24192,  46, 1, 4, 4, 4, 1, 0,        NULL},
	{G1_PLAIN,     67, "1g.24gb-me",     1,  3, 0x249, 4, 24192,  46, 1, 0, 0, 0, 0, 0,        NULL},
	{G2,            5, "2g.48gb",        2,  6, 0x041, 2, 48512,  94, 2, 2, 2, 2, 0, 0,        NULL},
	{G2_GRAPHICS,  35, "2g.48gb+gfx",    2,  6, 0x041, 2, 48512,  94, 2, 2, 2, 2, 0, GRAPHICS, NULL},
	{G2_ALL_MEDIA, 64, "2g.48gb+me.all", 2,  6, 0x041, 1, 48512,  94, 2, 4, 4, 4, 1, 0,        NULL},
	{G2_PLAIN,     66, "2g.48gb-me",     2,  6, 0x041, 2, 48512,  94, 2, 0, 0, 0, 0, 0,        NULL},
	{G4,            0, "4g.96gb",        4, 12, 0x001, 1, 97408, 188, 4, 4, 4, 4, 1, 0,        NULL},
	{G4_GRAPHICS,  32, "4g.96gb+gfx",    4, 12, 0x001, 1, 97408, 188, 4, 4, 4, 4, 1, GRAPHICS, NULL},
};
static const struct sim_mig_model models[] = {
	{"A100-40GB",    8,  7, 14, GS_ARRAY_LENGTH(a100_40gb),    a100_40gb},
	{"A100-80GB",    8,  7, 14, GS_ARRAY_LENGTH(a100_80gb),    a100_80gb},
	{"A30",          4,  4, 14, GS_ARRAY_LENGTH(a30),          a30},
	{"H100-80GB",    8,  7, 16, GS_ARRAY_LENGTH(h100_80gb),    h100_80gb},
	{"H200-141GB",   8,  7, 16, GS_ARRAY_LENGTH(h200_141gb),   h200_141gb},
	{"B200-180GB",   8,  7, 18, GS_ARRAY_LENGTH(b200_180gb),   b200_180gb},
	{"RTX-PRO-6000", 12, 4, 46, GS_ARRAY_LENGTH(rtx_pro_6000), rtx_pro_6000},
};
/* clang-format on */

const struct sim_mig_model *sim_mig_model_of(const struct sim_model *model)
{
	for (size_t i = 0; model->mig_capable && i < GS_ARRAY_LENGTH(models); i++)
		if (strcmp(models[i].spec_name, model->spec_name) == 0)
			return &models[i];
	return NULL;
}

const struct sim_mig_profile *sim_mig_profile_by_name(const struct sim_mig_model *model, const char *name)
{
	for (size_t i = 0; i < model->profile_count; i++)
		if (strcasecmp(model->profiles[i].name, name) == 0)
			return &model->profiles[i];
	return NULL;
}

/* Where compute instances of `slices` may begin in a GPU instance of `total`: at multiples of their own size, with the
 * odd sizes going where the next even one would. */
static uint32_t compute_starts(uint32_t slices, uint32_t total)
{
	static const uint32_t steps[] = {1, 1, 2, 4, 4, 8, 8, 8, 8};
	uint32_t starts = 0;
	for (uint32_t start = 0; start + slices <= total; start += steps[slices])
		starts |= 1u << start;
	return starts;
}

bool sim_mig_compute_of(const struct sim_mig_model *model, const struct sim_mig_profile *profile, uint32_t number,
			struct sim_mig_compute *compute)
{
	static const uint32_t slices_of[SIM_MIG_COMPUTE_PROFILES] = {1, 2, 3, 4, 7};
	uint32_t slices = number < SIM_MIG_COMPUTE_PROFILES ? slices_of[number] : 0;
	/* Three of four slices are not to be had. */
	if (!slices || slices > profile->slices || (slices == 3 && profile->slices == 4))
		return false;
	bool whole = slices == profile->slices;
	compute->slices = slices;
	compute->starts = compute_starts(slices, profile->slices);
	compute->count = (uint32_t)__builtin_popcount(compute->starts);
	compute->multiprocessors = whole ? profile->multiprocessors : slices * model->multiprocessors_per_slice;
	if (whole)
		snprintf(compute->name, sizeof compute->name, "%s", profile->name);
	else
		snprintf(compute->name, sizeof compute->name, "%uc.%s", slices, profile->name);
	return true;
}
