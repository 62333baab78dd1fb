/* MIG: the mode, and what instances there are. */
#include "sim/mig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "gpushare/abi.h"
#include "sim/layout.h"

#define CAP_NODE "nvidia-caps/nvidia-cap"

enum { ARCHITECTURE_HOPPER = 9 };

static uint32_t bits(uint32_t start, uint32_t size)
{
	return ((1u << size) - 1) << start;
}

/* Memory slices that are taken. */
static uint32_t taken_slices(const struct sim_mig_model *model, const struct sim_mig *mig, uint32_t profile,
			     uint32_t *count)
{
	uint32_t taken = 0;
	*count = 0;
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++) {
		const struct sim_mig_gi *gi = &mig->gis[id];
		if (!gi->serial || gi->start + gi->size > model->grid)
			continue;
		taken |= bits(gi->start, gi->size);
		*count += gi->profile == profile;
	}
	return taken;
}

/* Starts of the profile that are free when `taken` is not. */
static uint32_t free_among(const struct sim_mig_profile *profile, uint32_t taken)
{
	uint32_t starts = 0;
	for (uint32_t start = 0; start < 32; start++)
		if (profile->starts >> start & 1 && !(bits(start, profile->size) & taken))
			starts |= 1u << start;
	return starts;
}

uint32_t sim_mig_free_starts(const struct sim_mig_model *model, const struct sim_mig *mig, uint32_t profile)
{
	uint32_t count, taken = taken_slices(model, mig, profile, &count);
	return count < model->profiles[profile].count ? free_among(&model->profiles[profile], taken) : 0;
}

/* Places of a profile never overlap each other, so each free one can have an instance. */
uint32_t sim_mig_remaining(const struct sim_mig_model *model, const struct sim_mig *mig, uint32_t profile)
{
	uint32_t count, taken = taken_slices(model, mig, profile, &count);
	uint32_t most = model->profiles[profile].count;
	uint32_t places = (uint32_t)__builtin_popcount(free_among(&model->profiles[profile], taken));
	uint32_t left = count < most ? most - count : 0;
	return places < left ? places : left;
}

/* Whole, halves, quarters, eighths: 0, 1 2, 3 4 5 6, 7 ... */
uint32_t sim_mig_id_of(uint32_t grid, uint32_t start, uint32_t size)
{
	uint32_t first = 0, parts = 1;
	while (parts < grid && grid / parts > size) {
		first += parts;
		parts *= 2;
	}
	return first + start / size;
}

/* How many places of profiles at least as large are lost to an instance at `start`. */
static uint32_t lost_places(const struct sim_mig_model *model, const struct sim_mig *mig, uint32_t profile,
			    uint32_t start)
{
	uint32_t lost = 0, size = model->profiles[profile].size;
	for (uint32_t other = 0; other < model->profile_count; other++) {
		if (other == profile || model->profiles[other].size < size)
			continue;
		uint32_t before = sim_mig_free_starts(model, mig, other);
		for (uint32_t at = 0; at < model->grid; at++)
			if (before >> at & 1 && bits(at, model->profiles[other].size) & bits(start, size))
				lost++;
	}
	return lost;
}

/* One of the free starts, of which there is at least one. */
static uint32_t choose(const struct sim_mig_model *model, const struct sim_mig *mig, uint32_t profile, uint32_t starts,
		       enum sim_mig_choice choice, bool ordered)
{
	uint32_t lowest = (uint32_t)__builtin_ctz(starts), best = lowest, least = UINT32_MAX;
	if (choice == SIM_MIG_LOWEST)
		return lowest;
	if (choice == SIM_MIG_HIGHEST)
		return 31 - (uint32_t)__builtin_clz(starts);
	for (const char *at = ordered ? model->profiles[profile].order : NULL; at && *at; at++) {
		uint32_t start = (uint32_t)strtoul((char[]){*at, '\0'}, NULL, 16);
		if (starts >> start & 1)
			return start;
	}
	for (uint32_t start = lowest; start < model->grid; start++) {
		uint32_t lost = starts >> start & 1 ? lost_places(model, mig, profile, start) : UINT32_MAX;
		if (lost < least) {
			least = lost;
			best = start;
		}
	}
	return best;
}

uint32_t sim_mig_compute_free_starts(const struct sim_mig_gi *gi, const struct sim_mig_compute *compute)
{
	uint32_t taken = 0, starts = 0;
	for (uint32_t id = 0; id < SIM_MIG_COMPUTES_MAX; id++)
		if (gi->cis[id].serial && gi->cis[id].start + gi->cis[id].size <= SIM_MIG_COMPUTES_MAX)
			taken |= bits(gi->cis[id].start, gi->cis[id].size);
	for (uint32_t start = 0; start < SIM_MIG_COMPUTES_MAX; start++)
		if (compute->starts >> start & 1 && !(bits(start, compute->slices) & taken))
			starts |= 1u << start;
	return starts;
}

uint32_t sim_mig_compute_remaining(const struct sim_mig_gi *gi, const struct sim_mig_compute *compute)
{
	return (uint32_t)__builtin_popcount(sim_mig_compute_free_starts(gi, compute));
}

/* What the file says is not trusted. */
static void sanitise(const struct sim_mig_model *model, struct sim_mig *mig)
{
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++) {
		struct sim_mig_gi *gi = &mig->gis[id];
		if (gi->profile >= model->profile_count || gi->size != model->profiles[gi->profile].size ||
		    gi->start >= model->grid || gi->start + gi->size > model->grid)
			memset(gi, 0, sizeof *gi);
		for (uint32_t ci = 0; ci < SIM_MIG_COMPUTES_MAX; ci++) {
			struct sim_mig_compute compute;
			struct sim_mig_ci *cell = &gi->cis[ci];
			if (cell->serial &&
			    (!sim_mig_compute_of(model, &model->profiles[gi->profile], cell->profile, &compute) ||
			     cell->start >= SIM_MIG_COMPUTES_MAX || cell->size != compute.slices))
				memset(cell, 0, sizeof *cell);
		}
	}
}

/* Under the lock: the board's MIG model, or NULL when it is no board with MIG. */
static const struct sim_mig_model *model_of(const struct sim_state *state, uint32_t gpu)
{
	if (gpu >= sim_slots(state) || !state->gpus[gpu].present || state->gpus[gpu].model >= sim_model_count)
		return NULL;
	return sim_mig_model_of(&sim_models[state->gpus[gpu].model]);
}

bool sim_mig_get(struct sim_node *node, uint32_t gpu, struct sim_mig *copy)
{
	if (!sim_lock(node))
		return false;
	const struct sim_mig_model *model = model_of(node->state, gpu);
	if (model) {
		sim_settle_gpu(node->state, gpu, sim_now_ns());
		*copy = node->state->migs[gpu];
	}
	sim_unlock(node);
	if (model)
		sanitise(model, copy);
	return model;
}

uint32_t sim_mig_share_permille(const struct sim_gpu *gpu, const struct sim_mig_gi *gi, const struct sim_mig_ci *ci)
{
	const struct sim_model *board = &sim_models[gpu->model];
	const struct sim_mig_model *model = sim_mig_model_of(board);
	struct sim_mig_compute compute;
	if (!model || gi->profile >= model->profile_count ||
	    !sim_mig_compute_of(model, &model->profiles[gi->profile], ci->profile, &compute))
		return 1000;
	return (compute.multiprocessors * 1000 + board->multiprocessors / 2) / board->multiprocessors;
}

static bool has_instances(const struct sim_mig *mig)
{
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++)
		if (mig->gis[id].serial)
			return true;
	return false;
}

/* The cell of the instance that is named, or NULL when there is none (any more). */
static struct sim_mig_gi *find_gi(struct sim_state *state, const struct sim_mig_name *name)
{
	if (!model_of(state, name->gpu) || name->gpu_instance >= SIM_MIG_INSTANCES_MAX)
		return NULL;
	struct sim_mig_gi *gi = &state->migs[name->gpu].gis[name->gpu_instance];
	return gi->serial && (!name->serial || name->serial == gi->serial) ? gi : NULL;
}

static void post_change(struct sim_node *node, const struct sim_mig_name *name)
{
	sim_event_post_instance(node, name->gpu, name->gpu_instance, name->compute_instance, nvmlEventMigConfigChange,
				0);
}

static nvmlReturn_t set_mode(struct sim_node *node, uint32_t gpu, uint32_t mode, nvmlReturn_t *activation)
{
	struct sim_state *state = node->state;
	struct sim_gpu *board = &state->gpus[gpu];
	if (!model_of(state, gpu))
		return NVML_ERROR_NOT_SUPPORTED;
	*activation = NVML_SUCCESS;
	if (board->mig_mode == mode) {
		board->mig_pending = mode;
		return NVML_SUCCESS;
	}
	if (!mode && has_instances(&state->migs[gpu]))
		return NVML_ERROR_IN_USE;
	sim_sweep_gpu(node, gpu, sim_now_ns());
	board->mig_pending = mode;
	if (sim_has_clients(state, gpu, SIM_MIG_NONE, SIM_MIG_NONE)) {
		*activation = NVML_ERROR_IN_USE;
	} else if (board->mig_needs_reset && sim_models[board->model].architecture < ARCHITECTURE_HOPPER) {
		*activation = NVML_ERROR_RESET_REQUIRED; /* from Hopper on no reset is needed */
	} else {
		board->mig_mode = mode;
		sim_root_set_mig(node->dir, board, mode);
	}
	return NVML_SUCCESS;
}

nvmlReturn_t sim_mig_set_mode(struct sim_node *node, uint32_t gpu, bool enable, nvmlReturn_t *activation)
{
	if (!sim_lock(node))
		return NVML_ERROR_UNKNOWN;
	uint32_t before = gpu < sim_slots(node->state) ? node->state->gpus[gpu].mig_mode : 0;
	nvmlReturn_t code = set_mode(node, gpu, enable, activation);
	bool changed = code == NVML_SUCCESS && node->state->gpus[gpu].mig_mode != before;
	sim_unlock(node);
	if (changed)
		post_change(node, &(struct sim_mig_name){gpu, SIM_MIG_NONE, SIM_MIG_NONE, 0});
	return code;
}

static nvmlReturn_t create(struct sim_node *node, uint32_t gpu, uint32_t profile, const uint32_t *start,
			   enum sim_mig_choice choice, struct sim_mig_name *made)
{
	struct sim_state *state = node->state;
	const struct sim_mig_model *model = model_of(state, gpu);
	if (!model || !state->gpus[gpu].mig_mode)
		return NVML_ERROR_NOT_SUPPORTED;
	struct sim_mig *mig = &state->migs[gpu];
	sanitise(model, mig);
	const struct sim_mig_profile *facts = &model->profiles[profile];
	if (start && (*start >= model->grid || !(facts->starts >> *start & 1)))
		return NVML_ERROR_INVALID_ARGUMENT;
	uint32_t starts = sim_mig_free_starts(model, mig, profile);
	if (!starts || (start && !(starts >> *start & 1)))
		return NVML_ERROR_INSUFFICIENT_RESOURCES;
	bool ordered = atoi(node->driver_version) >= SIM_MIG_ORDER_BRANCH;
	uint32_t at = start ? *start : choose(model, mig, profile, starts, choice, ordered);
	uint32_t id = sim_mig_id_of(model->grid, at, facts->size);
	if (id >= SIM_MIG_INSTANCES_MAX)
		return NVML_ERROR_UNKNOWN;
	mig->gis[id] = (struct sim_mig_gi){.profile = profile, .start = at, .size = facts->size};
	mig->gis[id].serial = ++mig->serials;
	*made = (struct sim_mig_name){gpu, id, SIM_MIG_NONE, mig->serials};
	sim_root_add_instance(node->dir, &state->gpus[gpu], id, SIM_MIG_NONE);
	return NVML_SUCCESS;
}

nvmlReturn_t sim_mig_create(struct sim_node *node, uint32_t gpu, uint32_t profile, const uint32_t *start,
			    enum sim_mig_choice choice, struct sim_mig_name *made)
{
	if (!sim_lock(node))
		return NVML_ERROR_UNKNOWN;
	nvmlReturn_t code = create(node, gpu, profile, start, choice, made);
	sim_unlock(node);
	if (code == NVML_SUCCESS)
		post_change(node, made);
	return code;
}

nvmlReturn_t sim_mig_destroy(struct sim_node *node, const struct sim_mig_name *instance)
{
	if (!sim_lock(node))
		return NVML_ERROR_UNKNOWN;
	nvmlReturn_t code = NVML_SUCCESS;
	struct sim_mig_gi *gi = find_gi(node->state, instance);
	if (!gi)
		code = NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t id = 0; gi && id < SIM_MIG_COMPUTES_MAX; id++)
		if (gi->cis[id].serial)
			code = NVML_ERROR_IN_USE;
	if (code == NVML_SUCCESS) {
		memset(gi, 0, sizeof *gi);
		sim_root_remove_instance(node->dir, &node->state->gpus[instance->gpu], instance->gpu_instance,
					 SIM_MIG_NONE);
	}
	sim_unlock(node);
	if (code == NVML_SUCCESS)
		post_change(node, instance);
	return code;
}

static nvmlReturn_t create_compute(struct sim_node *node, const struct sim_mig_name *instance, uint32_t profile,
				   const uint32_t *start, struct sim_mig_name *made)
{
	struct sim_state *state = node->state;
	struct sim_mig_gi *gi = find_gi(state, instance);
	struct sim_mig_compute compute;
	if (!gi)
		return NVML_ERROR_INVALID_ARGUMENT;
	const struct sim_mig_model *model = model_of(state, instance->gpu);
	sanitise(model, &state->migs[instance->gpu]);
	if (!gi->serial || !sim_mig_compute_of(model, &model->profiles[gi->profile], profile, &compute))
		return NVML_ERROR_NOT_SUPPORTED;
	if (start && (*start >= SIM_MIG_COMPUTES_MAX || !(compute.starts >> *start & 1)))
		return NVML_ERROR_INVALID_ARGUMENT;
	uint32_t starts = sim_mig_compute_free_starts(gi, &compute), id = 0;
	while (id < SIM_MIG_COMPUTES_MAX && gi->cis[id].serial)
		id++;
	if (!starts || (start && !(starts >> *start & 1)) || id == SIM_MIG_COMPUTES_MAX)
		return NVML_ERROR_INSUFFICIENT_RESOURCES;
	gi->cis[id] = (struct sim_mig_ci){
		.profile = profile,
		.start = start ? *start : (uint32_t)__builtin_ctz(starts),
		.size = compute.slices,
	};
	gi->cis[id].serial = ++state->migs[instance->gpu].serials;
	*made = (struct sim_mig_name){instance->gpu, instance->gpu_instance, id, gi->cis[id].serial};
	sim_root_add_instance(node->dir, &state->gpus[instance->gpu], instance->gpu_instance, id);
	return NVML_SUCCESS;
}

nvmlReturn_t sim_mig_create_compute(struct sim_node *node, const struct sim_mig_name *instance, uint32_t profile,
				    const uint32_t *start, struct sim_mig_name *made)
{
	if (!sim_lock(node))
		return NVML_ERROR_UNKNOWN;
	nvmlReturn_t code = create_compute(node, instance, profile, start, made);
	sim_unlock(node);
	if (code == NVML_SUCCESS)
		post_change(node, made);
	return code;
}

nvmlReturn_t sim_mig_destroy_compute(struct sim_node *node, const struct sim_mig_name *compute)
{
	if (!sim_lock(node))
		return NVML_ERROR_UNKNOWN;
	nvmlReturn_t code = NVML_ERROR_INVALID_ARGUMENT;
	struct sim_mig_name parent = {compute->gpu, compute->gpu_instance, SIM_MIG_NONE, 0};
	struct sim_mig_gi *gi = find_gi(node->state, &parent);
	uint32_t id = compute->compute_instance;
	if (gi && id < SIM_MIG_COMPUTES_MAX && gi->cis[id].serial &&
	    (!compute->serial || compute->serial == gi->cis[id].serial)) {
		sim_sweep_gpu(node, compute->gpu, sim_now_ns());
		code = NVML_ERROR_IN_USE;
		if (!sim_has_clients(node->state, compute->gpu, compute->gpu_instance, id)) {
			memset(&gi->cis[id], 0, sizeof gi->cis[id]);
			sim_root_remove_instance(node->dir, &node->state->gpus[compute->gpu], compute->gpu_instance,
						 id);
			code = NVML_SUCCESS;
		}
	}
	sim_unlock(node);
	if (code == NVML_SUCCESS)
		post_change(node, compute);
	return code;
}

int sim_gpu_reset(struct sim_node *node, uint32_t gpu, struct gs_error *err)
{
	if (!sim_lock(node))
		return gs_fail(err, GS_ERROR_SYSTEM, EIO, "the lock of the simulated node in %s is broken", node->dir);
	int result = 0;
	if (gpu >= sim_slots(node->state) || !node->state->gpus[gpu].present) {
		result = gs_fail(err, GS_ERROR_INPUT, ENODEV, "there is no GPU %u to reset", gpu);
		goto out;
	}
	sim_sweep_gpu(node, gpu, sim_now_ns());
	if (sim_has_clients(node->state, gpu, SIM_MIG_NONE, SIM_MIG_NONE)) {
		result = gs_fail(err, GS_ERROR_SYSTEM, EBUSY, "GPU %u has processes on it; end them first", gpu);
		goto out;
	}
	struct sim_gpu *board = &node->state->gpus[gpu];
	memset(node->state->migs[gpu].gis, 0, sizeof node->state->migs[gpu].gis);
	board->mig_mode = board->mig_pending;
	board->lost = board->hangs = 0;
	board->recovery_action = 0;
	board->busy_until_ns = 0;
	/* What the InfoROM keeps (aggregate counters, remapped rows, the ECC mode) stays. */
	board->ecc_double_volatile = board->ecc_single_volatile = 0;
	board->ecc_off = board->ecc_off_pending;
	/* The driver's settings go with its state of the board. */
	board->power_limit_mw = sim_models[board->model].power_limit_mw;
	board->timeslice = 0;
	board->clock_sm_applied = board->clock_memory_applied = 0;
	board->clock_sm_locked_from = board->clock_sm_locked_to = 0;
	board->clock_memory_locked_from = board->clock_memory_locked_to = 0;
	board->remap_pending = board->remap_failed = 0;
	sim_root_set_mig(node->dir, board, false);
	if (board->mig_mode)
		sim_root_set_mig(node->dir, board, true);
out:
	sim_unlock(node);
	if (result == 0)
		post_change(node, &(struct sim_mig_name){gpu, SIM_MIG_NONE, SIM_MIG_NONE, 0});
	return result;
}

/* Drivers' UUIDs of instances look like those made by hashing a name (version 5) and come back after a reboot. */
void sim_mig_uuid(const struct sim_gpu *gpu, uint32_t gpu_instance, uint32_t compute_instance, char text[48])
{
	uint64_t halves[2];
	memcpy(halves, gpu->uuid_bytes, sizeof halves);
	for (int i = 0; i < 4; i++) { /* mixes both halves and the ids into each other */
		uint64_t *half = &halves[i % 2];
		*half ^= halves[(i + 1) % 2] * 0x9E3779B97F4A7C15ull +
			 ((uint64_t)gpu_instance << 8 | compute_instance) + 1;
		*half = (*half ^ (*half >> 29)) * 0xBF58476D1CE4E5B9ull;
		*half ^= *half >> 32;
	}
	uint8_t u[16];
	memcpy(u, halves, sizeof u);
	u[6] = (uint8_t)((u[6] & 0x0F) | 0x50);
	u[8] = (uint8_t)((u[8] & 0x3F) | 0x80);
	snprintf(text, 48, "MIG-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2],
		 u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static bool instance_is(const struct sim_gpu *gpu, const struct sim_mig_name *name, const char *uuid)
{
	char text[80];
	sim_mig_uuid(gpu, name->gpu_instance, name->compute_instance, text);
	if (strcasecmp(text, uuid) == 0)
		return true;
	snprintf(text, sizeof text, "MIG-%s/%u/%u", gpu->uuid, name->gpu_instance, name->compute_instance);
	return strcasecmp(text, uuid) == 0;
}

bool sim_mig_find(struct sim_node *node, const char *uuid, struct sim_mig_name *name)
{
	struct sim_mig mig;
	struct sim_gpu gpu;
	if (strncasecmp(uuid, "MIG-", 4) != 0)
		return false;
	for (uint32_t slot = 0; slot < sim_gpu_count(node); slot++) {
		if (!sim_gpu_get(node, slot, &gpu) || !gpu.mig_mode || !sim_mig_get(node, slot, &mig))
			continue;
		for (uint32_t gi = 0; gi < SIM_MIG_INSTANCES_MAX; gi++)
			for (uint32_t ci = 0; mig.gis[gi].serial && ci < SIM_MIG_COMPUTES_MAX; ci++) {
				*name = (struct sim_mig_name){slot, gi, ci, mig.gis[gi].cis[ci].serial};
				if (name->serial && instance_is(&gpu, name, uuid))
					return true;
			}
	}
	return false;
}

uint32_t sim_mig_cap_minor(uint32_t gpu_minor, uint32_t gpu_instance, uint32_t compute_instance)
{
	uint32_t minor = 3 + 9 * (SIM_MIG_INSTANCES_MAX * gpu_minor + gpu_instance);
	return compute_instance == SIM_MIG_NONE ? minor : minor + 1 + compute_instance;
}

/* Whether the container has a device node. Without the variable there is no container: everything is there. */
static bool has_node(const char *kind, uint32_t minor)
{
	const char *directory = getenv(GPUSHARE_ENV_SIM_DEVICES);
	if (!directory || !directory[0])
		return true;
	char name[48];
	snprintf(name, sizeof name, "%s%u", kind, minor);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

bool sim_may_see(const struct sim_gpu *gpu, uint32_t gpu_instance, uint32_t compute_instance)
{
	if (!has_node("nvidia", gpu->minor))
		return false;
	if (gpu_instance == SIM_MIG_NONE)
		return true;
	return has_node(CAP_NODE, sim_mig_cap_minor(gpu->minor, gpu_instance, SIM_MIG_NONE)) &&
	       has_node(CAP_NODE, sim_mig_cap_minor(gpu->minor, gpu_instance, compute_instance));
}

bool sim_may_partition(void)
{
	return geteuid() == 0 && has_node(CAP_NODE, SIM_MIG_CAP_CONFIG);
}
