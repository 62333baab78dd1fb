#include "core/share/preferred.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/share/linked_set.h"

enum mark { MARK_HELD, MARK_FREE, MARK_CHOSEN };

enum { NOBODY = UINT32_MAX };

/* A bucket of shares: a device of the resource, or a GPU with all its devices. */
struct bucket {
	uint32_t total;  /* shares of the resource */
	uint32_t free;   /* still available */
	uint32_t picked; /* by this answer */
};

struct gs_preferred_device {
	struct bucket bucket;
	uint32_t cursor; /* no free share of it lies before this */
	uint32_t next;   /* the next device of the same GPU, or NOBODY */
};

struct choice {
	const struct gs_resource *resource;
	enum gs_allocation_policy policy;
	uint8_t *marks;
	struct gs_preferred_device *devices;
	struct bucket gpus[GS_GPUS_MAX];
	uint32_t first_device[GS_GPUS_MAX];
	size_t gpu_count;
	uint32_t *chosen;
	size_t count;
};

void gs_preferred_scratch_free(struct gs_preferred_scratch *scratch)
{
	free(scratch->marks);
	free(scratch->devices);
	*scratch = (struct gs_preferred_scratch){0};
}

static void reserve(struct gs_preferred_scratch *scratch, const struct gs_resource *resource)
{
	if (scratch->mark_capacity < resource->share_count) {
		scratch->marks = gs_reallocarray(scratch->marks, resource->share_count, sizeof *scratch->marks);
		scratch->mark_capacity = resource->share_count;
	}
	if (scratch->device_capacity < resource->device_count) {
		scratch->devices = gs_reallocarray(scratch->devices, resource->device_count, sizeof *scratch->devices);
		scratch->device_capacity = resource->device_count;
	}
	memset(scratch->marks, MARK_HELD, resource->share_count);
}

static int mark_available(struct choice *choice, const uint32_t *available, size_t count, struct gs_error *err)
{
	const struct gs_resource *resource = choice->resource;

	for (size_t i = 0; i < count; i++) {
		uint32_t share = available[i];
		if (share >= resource->share_count)
			return gs_fail(err, GS_ERROR_INPUT, 0, "%s has no share at position %u", resource->name, share);
		if (choice->marks[share] != MARK_HELD)
			return gs_fail(err, GS_ERROR_INPUT, 0, "share %s is listed twice as available",
				       resource->shares[share].id);
		choice->marks[share] = MARK_FREE;
	}
	return 0;
}

/* The sums, from marks that are only held or free so far. */
static int fill_buckets(struct choice *choice, struct gs_error *err)
{
	const struct gs_resource *resource = choice->resource;
	uint32_t last_device[GS_GPUS_MAX];

	memset(choice->first_device, 0xff, sizeof choice->first_device);
	for (uint32_t i = 0; i < resource->device_count; i++) {
		const struct gs_resource_device *device = &resource->devices[i];
		const uint8_t *marks = choice->marks + device->first_share;
		uint32_t gpu = device->gpu, free_count = 0;
		if (gpu >= GS_GPUS_MAX)
			return gs_fail(err, GS_ERROR_LIMIT, 0, "%s spans more than %d GPUs", resource->name,
				       GS_GPUS_MAX);
		for (uint32_t n = 0; n < device->share_count; n++)
			free_count += marks[n] == MARK_FREE;
		choice->devices[i] = (struct gs_preferred_device){
			.bucket = {.total = device->share_count, .free = free_count},
			.cursor = device->first_share,
			.next = NOBODY,
		};
		choice->gpus[gpu].total += device->share_count;
		choice->gpus[gpu].free += free_count;
		if (choice->first_device[gpu] == NOBODY)
			choice->first_device[gpu] = i;
		else
			choice->devices[last_device[gpu]].next = i;
		last_device[gpu] = i;
		if (gpu >= choice->gpu_count)
			choice->gpu_count = gpu + 1;
	}
	return 0;
}

static void take(struct choice *choice, uint32_t device, uint32_t share)
{
	struct bucket *buckets[] = {&choice->devices[device].bucket,
				    &choice->gpus[choice->resource->devices[device].gpu]};

	choice->marks[share] = MARK_CHOSEN;
	choice->chosen[choice->count++] = share;
	for (size_t i = 0; i < 2; i++) {
		buckets[i]->free--;
		buckets[i]->picked++;
	}
}

static int take_required(struct choice *choice, const uint32_t *required, size_t count, struct gs_error *err)
{
	const struct gs_resource *resource = choice->resource;

	for (size_t i = 0; i < count; i++) {
		uint32_t share = required[i];
		if (share >= resource->share_count)
			return gs_fail(err, GS_ERROR_INPUT, 0, "%s has no share at position %u", resource->name, share);
		if (choice->marks[share] != MARK_FREE)
			return gs_fail(err, GS_ERROR_INPUT, 0, "share %s must be included but %s",
				       resource->shares[share].id,
				       choice->marks[share] == MARK_HELD ? "is not available" : "is listed twice");
		take(choice, (uint32_t)(gs_resource_device_of(resource, share) - resource->devices), share);
	}
	return 0;
}

/* Whether `a` is to be taken from rather than `b`. Loads are compared as parts of the whole: after the pick where the
 * least loaded is wanted, so that no bucket gets fuller than it must; before it where the fullest is. */
static bool better(enum gs_allocation_policy policy, const struct bucket *a, const struct bucket *b)
{
	uint64_t a_used = a->total - a->free, b_used = b->total - b->free;

	if (policy == GS_POLICY_PACKED) {
		if (a_used * b->total != b_used * a->total)
			return a_used * b->total > b_used * a->total;
		return false;
	}
	if (policy == GS_POLICY_SPREAD && !a->picked != !b->picked)
		return !a->picked;
	if ((a_used + 1) * b->total != (b_used + 1) * a->total)
		return (a_used + 1) * b->total < (b_used + 1) * a->total;
	return a->picked < b->picked;
}

/* Takes the first free share of the GPU's best device. */
static void take_from_gpu(struct choice *choice, uint32_t gpu)
{
	uint32_t best = NOBODY;

	for (uint32_t i = choice->first_device[gpu]; i != NOBODY; i = choice->devices[i].next) {
		const struct bucket *bucket = &choice->devices[i].bucket;
		if (bucket->free && (best == NOBODY || better(choice->policy, bucket, &choice->devices[best].bucket)))
			best = i;
	}
	const struct gs_resource_device *device = &choice->resource->devices[best];
	uint32_t cursor = choice->devices[best].cursor, end = device->first_share + device->share_count;
	const uint8_t *found = memchr(choice->marks + cursor, MARK_FREE, end - cursor);
	uint32_t share = (uint32_t)(found - choice->marks);
	choice->devices[best].cursor = share + 1;
	take(choice, best, share);
}

static void take_by_load(struct choice *choice, size_t size)
{
	while (choice->count < size) {
		uint32_t best = NOBODY;
		for (uint32_t i = 0; i < choice->gpu_count; i++)
			if (choice->gpus[i].free &&
			    (best == NOBODY || better(choice->policy, &choice->gpus[i], &choice->gpus[best])))
				best = i;
		take_from_gpu(choice, best);
	}
}

static void take_linked(struct choice *choice, const struct gs_inventory *inventory, size_t size)
{
	uint8_t required[GS_GPUS_MAX], candidates[GS_GPUS_MAX], load_percent[GS_GPUS_MAX] = {0}, set[GS_GPUS_MAX];
	struct gs_linked_query query = {inventory, required, 0, candidates, 0, 0, load_percent};

	for (size_t i = 0; i < choice->gpu_count; i++) {
		const struct bucket *gpu = &choice->gpus[i];
		if (gpu->picked)
			required[query.required_count++] = (uint8_t)i;
		else if (gpu->free)
			candidates[query.candidate_count++] = (uint8_t)i;
		if (gpu->total)
			load_percent[i] = (uint8_t)((uint64_t)(gpu->total - gpu->free) * 100 / gpu->total);
	}
	size_t wanted = size - choice->count;
	query.wanted = wanted < query.candidate_count ? wanted : query.candidate_count;
	gs_linked_set(&query, set);
	for (size_t i = 0; i < query.wanted; i++)
		take_from_gpu(choice, set[i]);
}

static bool whole_gpus(const struct gs_resource *resource, const struct gs_inventory *inventory)
{
	for (size_t i = 0; i < resource->device_count; i++)
		if (resource->devices[i].replicated || inventory->devices[resource->devices[i].device].mig)
			return false;
	return true;
}

int gs_preferred(struct gs_preferred_scratch *scratch, const struct gs_resource *resource,
		 const struct gs_inventory *inventory, enum gs_allocation_policy policy, const uint32_t *available,
		 size_t available_count, const uint32_t *must_include, size_t must_include_count, size_t size,
		 uint32_t *chosen, struct gs_error *err)
{
	if (size > available_count)
		return gs_fail(err, GS_ERROR_INPUT, 0, "%zu shares of %s are wanted and %zu are available", size,
			       resource->name, available_count);
	if (must_include_count > size)
		return gs_fail(err, GS_ERROR_INPUT, 0, "%zu shares of %s must be included in an answer of %zu",
			       must_include_count, resource->name, size);
	reserve(scratch, resource);
	struct choice choice = {.resource = resource,
				.policy = policy,
				.marks = scratch->marks,
				.devices = scratch->devices,
				.chosen = chosen};
	if (mark_available(&choice, available, available_count, err) || fill_buckets(&choice, err) ||
	    take_required(&choice, must_include, must_include_count, err))
		return -1;
	if (policy == GS_POLICY_ALIGNED || whole_gpus(resource, inventory))
		take_linked(&choice, inventory, size);
	take_by_load(&choice, size);
	return 0;
}
