/* What a user writes as a list of profiles, for a GPU whose driver says anything about its instances. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/core/mig_fixture.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "core/mig/mig_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

static uint8_t next(const uint8_t **data, size_t *size)
{
	if (!*size)
		return 0;
	--*size;
	return *(*data)++;
}

static struct gs_mig_layout read_layout(const uint8_t **data, size_t *size)
{
	struct gs_mig_layout layout = {.count = next(data, size) % (GS_MIG_INSTANCES_MAX + 2)};

	for (size_t i = 0; i < layout.count && i < GS_MIG_INSTANCES_MAX; i++) {
		struct gs_mig_instance *instance = &layout.instances[i];
		uint8_t flags = next(data, size);
		instance->id = (uint32_t)i;
		instance->busy = flags & 1;
		instance->compute_count = flags >> 1 & 3;
		instance->profile = next(data, size);
		instance->place.start = next(data, size);
		instance->place.size = next(data, size);
		for (size_t k = 0; k < instance->compute_count; k++) {
			uint8_t place = next(data, size);
			instance->compute[k] = (struct gs_mig_compute){.id = (uint32_t)k,
								       .start = place & 15,
								       .slices = place >> 4,
								       .busy = flags >> (3 + k) & 1};
		}
	}
	return layout;
}

/* No step touches what is busy, and no two create in one place. */
static void check_plan(const struct gs_mig_layout *layout, const struct gs_mig_plan *plan)
{
	uint32_t created = 0;

	require(plan->step_count <= GS_MIG_STEPS_MAX && !plan->blocker_count && !*plan->reason);
	for (size_t i = 0; i < plan->step_count; i++) {
		const struct gs_mig_step *step = &plan->steps[i];
		if (step->kind == GS_MIG_CREATE_INSTANCE) {
			require(!(created & gs_mig_place_mask(step->place)));
			created |= gs_mig_place_mask(step->place);
		} else {
			require(step->instance_id < layout->count);
			require(step->kind != GS_MIG_DESTROY_INSTANCE || !layout->instances[step->instance_id].busy);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const models[] = {"A100-80GB", "A30", "RTX-PRO-6000"};
	static struct gs_mig_gpu gpus[GS_ARRAY_LENGTH(models)];
	for (size_t i = 0; !gpus[GS_ARRAY_LENGTH(models) - 1].profile_count && i < GS_ARRAY_LENGTH(models); i++)
		gpus[i] = mig_fixture(models[i]);

	uint8_t choice = next(&data, &size);
	const struct gs_mig_gpu *gpu = &gpus[choice % GS_ARRAY_LENGTH(models)];
	enum gs_mig_goal goal = choice & 64 ? GS_MIG_ADD : GS_MIG_BECOME;
	struct gs_mig_layout layout = read_layout(&data, &size);
	GS_AUTO_FREE char *list = gs_strndup((const char *)data, size);
	struct gs_mig_wish wish = {0};
	struct gs_error err = {0};
	struct gs_mig_plan plan;

	if (gs_mig_parse_list(gpu, list, &wish, &err))
		require(*err.text && !wish.count);
	else
		require(wish.count && wish.count <= GS_MIG_INSTANCES_MAX);
	GS_AUTO_FREE char *text = gs_mig_wish_text(gpu, &wish);
	require(*text);
	if (gs_mig_plan_make(gpu, &layout, &wish, goal, &plan) == 0)
		check_plan(&layout, &plan);
	else
		require(*plan.reason && !plan.step_count);
	if (layout.count <= GS_MIG_INSTANCES_MAX)
		gs_mig_wish_from_layout(gpu, &layout, &wish);
	return 0;
}
