/* Layouts in words: what a GPU is partitioned into when its node starts. */
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "sim/mig.h"

enum { NAME_MAX_LENGTH = 32, PROFILES_MAX = 16 };

/* One "PROFILE" or "PROFILE@START". */
struct item {
	uint32_t profile;
	bool placed;
	uint32_t start;
};

static int unknown_profile(const struct sim_model *board, const struct sim_mig_model *model, const char *name,
			   struct gs_error *err)
{
	const char *names[PROFILES_MAX];
	size_t count = model->profile_count < PROFILES_MAX ? model->profile_count : PROFILES_MAX;
	for (size_t i = 0; i < count; i++)
		names[i] = model->profiles[i].name;
	const char *near = gs_suggest(name, names, count);
	if (near)
		return gs_fail(err, GS_ERROR_INPUT, 0, "a %s has no MIG profile '%s'; did you mean %s?",
			       board->spec_name, name, near);
	return gs_fail(err, GS_ERROR_INPUT, 0,
		       "a %s has no MIG profile '%s'; 'nvidia-smi mig -lgip' on it lists them, as %s", board->spec_name,
		       name, names[0]);
}

/* Reads one item up to a comma or the end, which is returned; NULL when it is wrong. */
static const char *parse_item(const struct sim_model *board, const char *at, struct item *item, struct gs_error *err)
{
	const struct sim_mig_model *model = sim_mig_model_of(board);
	char name[NAME_MAX_LENGTH];
	size_t length = strcspn(at, ",@");
	*item = (struct item){0};
	if (length == 0 || length >= sizeof name) {
		gs_fail(err, GS_ERROR_INPUT, 0, "'%.60s' names no MIG profile; write for example %s", at,
			model->profiles[0].name);
		return NULL;
	}
	memcpy(name, at, length);
	name[length] = '\0';
	const struct sim_mig_profile *profile = sim_mig_profile_by_name(model, name);
	if (!profile) {
		unknown_profile(board, model, name, err);
		return NULL;
	}
	item->profile = (uint32_t)(profile - model->profiles);
	at += length;
	if (*at == '@') {
		char *end;
		unsigned long start = strtoul(at + 1, &end, 10);
		if (end == at + 1 || (*end && *end != ',') || start > 31 || !(profile->starts >> start & 1)) {
			gs_fail(err, GS_ERROR_INPUT, 0, "a %s does not begin at memory slice '%.20s'", name, at + 1);
			return NULL;
		}
		item->placed = true;
		item->start = (uint32_t)start;
		at = end;
	}
	return at;
}

/* Calls `each` for the items of a layout; "none" has none. */
static int walk(const struct sim_model *board, const char *layout,
		int (*each)(const struct item *item, void *user, struct gs_error *err), void *user,
		struct gs_error *err)
{
	if (!sim_mig_model_of(board))
		return gs_fail(err, GS_ERROR_INPUT, 0, "a %s has no MIG", board->spec_name);
	if (strcmp(layout, SIM_MIG_LAYOUT_EMPTY) == 0)
		return 0;
	for (const char *at = layout;; at++) {
		struct item item;
		at = parse_item(board, at, &item, err);
		if (!at || each(&item, user, err) < 0)
			return -1;
		if (!*at)
			return 0;
	}
}

static int nothing(const struct item *item, void *user, struct gs_error *err)
{
	return 0;
}

int sim_mig_layout_check(const struct sim_model *board, const char *layout, struct gs_error *err)
{
	return walk(board, layout, nothing, NULL, err);
}

struct target {
	struct sim_node *node;
	uint32_t gpu;
	const struct sim_mig_model *model;
	const char *layout;
};

/* A GPU instance, and in it one compute instance of all of it. */
static int make(const struct item *item, void *user, struct gs_error *err)
{
	const struct target *target = user;
	const struct sim_mig_profile *profile = &target->model->profiles[item->profile];
	struct sim_mig_name instance, compute;
	nvmlReturn_t code = sim_mig_create(target->node, target->gpu, item->profile, item->placed ? &item->start : NULL,
					   SIM_MIG_AS_DRIVER, &instance);
	for (uint32_t number = 0; code == NVML_SUCCESS && number < SIM_MIG_COMPUTE_PROFILES; number++) {
		struct sim_mig_compute facts;
		if (sim_mig_compute_of(target->model, profile, number, &facts) && facts.slices == profile->slices)
			return sim_mig_create_compute(target->node, &instance, number, NULL, &compute) == NVML_SUCCESS
				       ? 0
				       : gs_fail(err, GS_ERROR_INTERNAL, 0, "no room in an empty MIG instance");
	}
	if (item->placed)
		return gs_fail(
			err, GS_ERROR_INPUT, 0,
			"the MIG layout '%.100s' does not fit: memory slice %u is taken; give all starts or none",
			target->layout, item->start);
	return gs_fail(
		err, GS_ERROR_INPUT, 0,
		"the MIG layout '%.100s' does not fit: no room is left for a %s; larger profiles first, or fewer",
		target->layout, profile->name);
}

int sim_mig_layout_apply(struct sim_node *node, uint32_t gpu, const char *layout, struct gs_error *err)
{
	struct sim_gpu copy;
	nvmlReturn_t activation;
	if (!sim_gpu_get(node, gpu, &copy))
		return gs_fail(err, GS_ERROR_INPUT, 0, "there is no GPU %u", gpu);
	struct target target = {node, gpu, sim_mig_model_of(&sim_models[copy.model]), layout};
	if (sim_mig_layout_check(&sim_models[copy.model], layout, err) < 0)
		return -1;
	if (sim_mig_set_mode(node, gpu, true, &activation) != NVML_SUCCESS || activation != NVML_SUCCESS)
		return gs_fail(err, GS_ERROR_SYSTEM, 0, "GPU %u cannot go into MIG mode now", gpu);
	return walk(&sim_models[copy.model], layout, make, &target, err);
}
