#include "core/mig/mig_geometry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t gs_mig_place_mask(struct gs_mig_placement place)
{
	return place.start + place.size > GS_MIG_SLICES_MAX ? 0 : ((1U << place.size) - 1) << place.start;
}

uint32_t gs_mig_layout_mask(const struct gs_mig_layout *layout)
{
	uint32_t mask = 0;
	for (size_t i = 0; i < layout->count; i++)
		mask |= gs_mig_place_mask(layout->instances[i].place);
	return mask;
}

static bool same_places(const struct gs_mig_profile *a, const struct gs_mig_profile *b)
{
	return a->placement_count == b->placement_count &&
	       memcmp(a->placements, b->placements, a->placement_count * sizeof a->placements[0]) == 0;
}

static void add_open_place(struct gs_mig_gpu *gpu, struct gs_mig_placement place)
{
	uint16_t mask = (uint16_t)gs_mig_place_mask(place);
	size_t at = 0;
	while (at < gpu->open_count && gpu->open[at].mask != mask)
		at++;
	if (at == gpu->open_count)
		gpu->open[gpu->open_count++] = (struct gs_mig_open){.mask = mask};
	gpu->open[at].weight = (uint16_t)(gpu->open[at].weight + place.size);
}

static int compare_places(const void *left, const void *right)
{
	const struct gs_mig_placement *a = left, *b = right;
	return a->start != b->start ? (int)a->start - (int)b->start : (int)a->size - (int)b->size;
}

/* How many instances of a profile have room at once beside the slices in use: of the places, in order of their ends,
 * each that is free. */
static uint32_t count_places(const struct gs_mig_profile *profile, uint32_t taken)
{
	uint32_t fits = 0;

	for (uint32_t end = 1; end <= GS_MIG_SLICES_MAX; end++) {
		for (size_t i = 0; i < profile->placement_count; i++) {
			uint32_t mask = gs_mig_place_mask(profile->placements[i]);
			if (profile->placements[i].start + profile->placements[i].size != end || (taken & mask))
				continue;
			taken |= mask;
			fits++;
		}
	}
	return fits;
}

/* How many of an engine there are: what the profile with the most has. But where profiles that are limited by nothing
 * but places could together take more, instances evidently share it, and there is no limit. */
static uint32_t engine_total(const struct gs_mig_gpu *gpu, enum gs_mig_engine engine)
{
	uint64_t most[GS_MIG_SLICES_MAX + 1] = {0}; /* that instances within the first n slices can take */
	uint32_t total = 0;

	for (size_t end = 1; end <= GS_MIG_SLICES_MAX; end++) {
		most[end] = most[end - 1];
		for (size_t i = 0; i < gpu->profile_count; i++) {
			const struct gs_mig_profile *profile = &gpu->profiles[i];
			total = profile->engines[engine] > total ? profile->engines[engine] : total;
			if (profile->max_count < count_places(profile, 0))
				continue;
			for (size_t k = 0; k < profile->placement_count; k++) {
				struct gs_mig_placement place = profile->placements[k];
				uint64_t sum = most[place.start] + profile->engines[engine];
				if ((size_t)place.start + place.size == end && sum > most[end])
					most[end] = sum;
			}
		}
	}
	return most[GS_MIG_SLICES_MAX] > total ? 0 : total;
}

static int check_profile(const struct gs_mig_gpu *gpu, size_t index, struct gs_error *err)
{
	const struct gs_mig_profile *profile = &gpu->profiles[index];

	if (!memchr(profile->name, 0, sizeof profile->name) || !profile->name[0])
		return gs_fail(err, GS_ERROR_NVML, 0, "the driver lists a MIG profile without a name (id %u)",
			       profile->id);
	if (!profile->compute_slices || profile->compute_slices > GS_MIG_SLICES_MAX)
		return gs_fail(err, GS_ERROR_NVML, 0,
			       "the driver gives MIG profile %s %u compute slices; 1 to %d exist", profile->name,
			       profile->compute_slices, GS_MIG_SLICES_MAX);
	if (profile->placement_count > GS_MIG_SLICES_MAX)
		return gs_fail(err, GS_ERROR_NVML, 0, "the driver lists %u places for MIG profile %s; at most %d exist",
			       profile->placement_count, profile->name, GS_MIG_SLICES_MAX);
	for (size_t i = 0; i < profile->placement_count; i++) {
		struct gs_mig_placement place = profile->placements[i];
		if (!place.size || place.start + place.size > GS_MIG_SLICES_MAX)
			return gs_fail(
				err, GS_ERROR_NVML, 0,
				"the driver places MIG profile %s at %u:%u; at most %d memory slices are possible",
				profile->name, place.start, place.size, GS_MIG_SLICES_MAX);
	}
	for (size_t i = 0; i < index; i++)
		if (gpu->profiles[i].id == profile->id)
			return gs_fail(err, GS_ERROR_NVML, 0, "the driver lists two MIG profiles with id %u: %s and %s",
				       profile->id, gpu->profiles[i].name, profile->name);
	return 0;
}

static bool is_before(const struct gs_mig_profile *a, const struct gs_mig_profile *b)
{
	return a->compute_slices != b->compute_slices ? a->compute_slices < b->compute_slices
						      : a->memory_bytes < b->memory_bytes;
}

/* From small to large, as nvidia-smi lists them; equal ones as they came. */
static void sort_profiles(struct gs_mig_gpu *gpu)
{
	for (size_t i = 1; i < gpu->profile_count; i++) {
		struct gs_mig_profile profile = gpu->profiles[i];
		size_t at = i;
		for (; at && is_before(&profile, &gpu->profiles[at - 1]); at--)
			gpu->profiles[at] = gpu->profiles[at - 1];
		gpu->profiles[at] = profile;
	}
}

int gs_mig_gpu_complete(struct gs_mig_gpu *gpu, struct gs_error *err)
{
	if (!gpu->profile_count || gpu->profile_count > GS_MIG_PROFILES_MAX)
		return gs_fail(err, GS_ERROR_NVML, 0, "the driver lists %u MIG profiles; 1 to %d are possible",
			       gpu->profile_count, GS_MIG_PROFILES_MAX);
	sort_profiles(gpu);
	gpu->slice_count = 0;
	gpu->open_count = 0;
	for (size_t i = 0; i < gpu->profile_count; i++) {
		struct gs_mig_profile *profile = &gpu->profiles[i];
		if (check_profile(gpu, i, err))
			return -1;
		qsort(profile->placements, profile->placement_count, sizeof profile->placements[0], compare_places);
		bool seen = false;
		for (size_t k = 0; k < i && !seen; k++)
			seen = same_places(&gpu->profiles[k], profile);
		for (size_t k = 0; k < profile->placement_count; k++) {
			struct gs_mig_placement place = profile->placements[k];
			if (place.start + place.size > gpu->slice_count)
				gpu->slice_count = (uint8_t)(place.start + place.size);
			if (!seen)
				add_open_place(gpu, place);
		}
	}
	for (int engine = 0; engine < GS_MIG_ENGINES; engine++)
		gpu->engines[engine] = engine_total(gpu, (enum gs_mig_engine)engine);
	return 0;
}

int gs_mig_profile_by_id(const struct gs_mig_gpu *gpu, uint32_t id)
{
	for (int i = 0; i < gpu->profile_count; i++)
		if (gpu->profiles[i].id == id)
			return i;
	return -1;
}

int gs_mig_profile_by_name(const struct gs_mig_gpu *gpu, const char *name)
{
	if (strncmp(name, "MIG ", 4) == 0)
		name += 4;
	for (int i = 0; i < gpu->profile_count; i++)
		if (strcmp(gpu->profiles[i].name, name) == 0)
			return i;
	return -1;
}

const char *gs_mig_compute_name(const struct gs_mig_profile *profile, uint32_t slices, char text[GS_MIG_NAME_SIZE])
{
	if (slices == profile->compute_slices)
		snprintf(text, GS_MIG_NAME_SIZE, "%s", profile->name);
	else
		snprintf(text, GS_MIG_NAME_SIZE, "%uc.%.*s", slices, GS_MIG_NAME_SIZE - 13, profile->name);
	return text;
}

/* The first of `sizes` at each of its places in turn, and the rest beside it. */
static bool arrange(uint32_t slices, uint32_t taken, const uint8_t *sizes, size_t count, uint8_t *starts)
{
	if (!count)
		return true;
	uint32_t size = sizes[0], step = 1;
	bool offered = size == slices || size == 1 || size == 2 || size == 4 || (size == 3 && slices == 7);
	while (step < size)
		step *= 2;
	for (uint32_t start = 0; offered && start + size <= slices; start += step) {
		uint32_t mask = ((1U << size) - 1) << start;
		if (taken & mask)
			continue;
		starts[0] = (uint8_t)start;
		if (arrange(slices, taken | mask, sizes + 1, count - 1, starts + 1))
			return true;
	}
	return false;
}

bool gs_mig_compute_arrange(uint32_t slices, uint32_t taken, const uint8_t *sizes, size_t count, uint8_t *starts)
{
	uint32_t sum = (uint32_t)__builtin_popcount(taken);
	for (size_t i = 0; i < count; i++)
		sum += sizes[i];
	/* Without this, too many small ones would be tried in every order. */
	return sum <= slices && slices <= GS_MIG_SLICES_MAX && arrange(slices, taken, sizes, count, starts);
}

uint32_t gs_mig_open_places(const struct gs_mig_gpu *gpu, uint32_t taken)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < gpu->open_count; i++)
		if (!(gpu->open[i].mask & taken))
			sum += gpu->open[i].weight;
	return sum;
}

uint32_t gs_mig_room(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, uint8_t profile)
{
	const struct gs_mig_profile *p = &gpu->profiles[profile];
	uint32_t left = p->max_count, used[GS_MIG_ENGINES] = {0};

	for (size_t i = 0; i < layout->count; i++) {
		uint8_t other = layout->instances[i].profile;
		left -= other == profile && left;
		for (size_t k = 0; other < gpu->profile_count && k < GS_MIG_ENGINES; k++)
			used[k] += gpu->profiles[other].engines[k];
	}
	for (size_t k = 0; k < GS_MIG_ENGINES; k++) {
		if (!gpu->engines[k] || !p->engines[k])
			continue;
		uint32_t served = used[k] < gpu->engines[k] ? (gpu->engines[k] - used[k]) / p->engines[k] : 0;
		left = served < left ? served : left;
	}
	uint32_t fits = count_places(p, gs_mig_layout_mask(layout));
	return fits < left ? fits : left;
}
