#include "gpu/mig_restore.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/strbuf.h"
#include "gpu/mig_instance.h"

enum { TRIES = 3 };

/* The one in the same place of the same profile, or NULL. */
static const struct gs_mig_record_instance *find(const struct gs_mig_record_layout *layout, uint32_t profile_id,
						 struct gs_mig_placement place)
{
	for (size_t i = 0; i < layout->count; i++) {
		const struct gs_mig_record_instance *item = &layout->items[i];
		if (item->profile_id == profile_id && item->place.start == place.start &&
		    item->place.size == place.size)
			return item;
	}
	return NULL;
}

static bool has_compute(const struct gs_mig_record_instance *item, uint8_t slices, uint8_t start)
{
	for (size_t i = 0; item && i < item->compute_count; i++)
		if (item->compute[i].slices == slices && item->compute[i].start == start)
			return true;
	return false;
}

bool gs_mig_is_as_recorded(const struct gs_mig_board *board, const struct gs_mig_record_layout *layout)
{
	if (board->enabled != layout->enabled || board->layout.count != layout->count)
		return false;
	for (size_t i = 0; i < board->layout.count; i++) {
		const struct gs_mig_instance *instance = &board->layout.instances[i];
		const struct gs_mig_record_instance *item = find(layout, board->profile_ids[i], instance->place);
		if (!item || item->compute_count != instance->compute_count)
			return false;
		for (size_t k = 0; k < instance->compute_count; k++)
			if (!has_compute(item, instance->compute[k].slices, instance->compute[k].start))
				return false;
	}
	return true;
}

/* The compute instances of an instance that both sides have. */
static int restore_computes(const struct gs_nvml *nvml, nvmlDevice_t device, const struct gs_mig_instance *instance,
			    const struct gs_mig_record_instance *target, const struct gs_mig_record_instance *ours,
			    struct gs_error *err)
{
	struct gs_mig_record_instance there = {0};
	for (size_t i = 0; i < instance->compute_count; i++) {
		const struct gs_mig_compute *compute = &instance->compute[i];
		bool keep = has_compute(target, compute->slices, compute->start);
		if (keep || !has_compute(ours, compute->slices, compute->start)) {
			there.compute[there.compute_count].slices = compute->slices;
			there.compute[there.compute_count++].start = compute->start;
		} else if (gs_mig_destroy_compute(nvml, device, instance->id, compute->id, err) < 0) {
			return -1;
		}
	}
	for (size_t i = 0; i < target->compute_count; i++)
		if (!has_compute(&there, target->compute[i].slices, target->compute[i].start) &&
		    gs_mig_create_compute(nvml, device, instance->id, target->compute[i].slices,
					  target->compute[i].start, err) < 0)
			return -1;
	return 0;
}

static int restore_instances(const struct gs_nvml *nvml, nvmlDevice_t device, const struct gs_mig_board *board,
			     const struct gs_mig_record_layout *target, const struct gs_mig_record_layout *ours,
			     uint32_t *lost, struct gs_error *err)
{
	bool there[GS_MIG_INSTANCES_MAX] = {false};
	uint32_t foreign = 0;
	*lost = 0;
	for (size_t i = 0; i < board->layout.count; i++) {
		const struct gs_mig_instance *instance = &board->layout.instances[i];
		struct gs_mig_record_instance what = gs_mig_instance_as_record(board, i);
		const struct gs_mig_record_instance *wanted = find(target, what.profile_id, what.place);
		const struct gs_mig_record_instance *mine = find(ours, what.profile_id, what.place);
		if (wanted) {
			there[wanted - target->items] = true;
			if (restore_computes(nvml, device, instance, wanted, mine ? mine : wanted, err) < 0)
				return gs_error_prefix(err, "GPU instance %u", instance->id);
		} else if (!mine) {
			foreign |= gs_mig_place_mask(what.place);
		} else if (gs_mig_destroy_instance(nvml, device, instance->id, &what, err) < 0) {
			return gs_error_prefix(err, "destroying GPU instance %u", instance->id);
		}
	}
	for (size_t i = 0; i < target->count; i++) {
		const struct gs_mig_record_instance *item = &target->items[i];
		if (there[i])
			continue;
		if (foreign & gs_mig_place_mask(item->place))
			++*lost;
		else if (gs_mig_create_instance(nvml, device, item, err) < 0)
			return gs_error_prefix(err, "creating the instance of profile %u at slice %u", item->profile_id,
					       item->place.start);
	}
	return 0;
}

static int set_mode(const struct gs_nvml *nvml, nvmlDevice_t device, bool enabled, struct gs_error *err)
{
	nvmlReturn_t activation;
	if (gs_mig_set_mode(nvml, device, enabled, &activation, err) < 0)
		return -1;
	return activation == NVML_SUCCESS ? 0 : gs_nvml_fail(nvml, activation, "nvmlDeviceSetMigMode", err);
}

static int try_restore(const struct gs_nvml *nvml, const struct gs_mig_record_gpu *gpu,
		       const struct gs_mig_record_layout *target, const struct gs_mig_record_layout *ours,
		       uint32_t *lost, struct gs_error *err)
{
	struct gs_mig_board board;
	nvmlDevice_t device;
	if (gs_mig_read_one(nvml, gpu->uuid, &device, &board, err) < 0)
		return -1;
	/* The profiles of some drivers can be read with MIG on alone. */
	if (target->enabled && (!board.enabled || !board.pending) &&
	    (set_mode(nvml, device, true, err) < 0 || gs_mig_read_one(nvml, gpu->uuid, &device, &board, err) < 0))
		return -1;
	if (restore_instances(nvml, device, &board, target, ours, lost, err) < 0)
		return -1;
	return target->enabled || (!board.enabled && !board.pending) ? 0 : set_mode(nvml, device, false, err);
}

int gs_mig_restore(const struct gs_nvml *nvml, const struct gs_mig_record_gpu *gpu, enum gs_mig_direction direction,
		   uint32_t *lost, struct gs_error *err)
{
	const struct gs_mig_record_layout *target = direction == GS_MIG_UNDO ? &gpu->before : &gpu->after;
	const struct gs_mig_record_layout *ours = direction == GS_MIG_UNDO ? &gpu->after : &gpu->before;
	for (int tries = 1; try_restore(nvml, gpu, target, ours, lost, err) < 0; tries++)
		if (tries == TRIES)
			return -1;
	return 0;
}

static int restore_all(const struct gs_nvml *nvml, const struct gs_mig_record *record, enum gs_mig_direction direction,
		       struct gs_strbuf *gpus, struct gs_error *err)
{
	struct gs_error why, first = {0};
	uint32_t lost;
	for (size_t i = 0; i < record->count; i++) {
		const struct gs_mig_record_gpu *gpu = &record->gpus[i];
		if (gs_mig_restore(nvml, gpu, direction, &lost, &why) == 0)
			gs_strbuf_printf(gpus, "%s%s%s", gpus->length ? ", " : "", gpu->uuid,
					 lost ? " (but for places that another tool has taken)" : "");
		else if (why.code == NVML_ERROR_NOT_FOUND && strstr(why.text, "nvmlDeviceGetHandleByUUID"))
			continue;
		else if (!first.source)
			gs_fail(&first, why.source, why.code, "%s: %s", gpu->uuid, why.text);
	}
	return first.source ? gs_fail(err, first.source, first.code, "%s", first.text) : 0;
}

int gs_mig_settle(const struct gs_nvml *nvml, const struct gs_mig_record *record, char **told, struct gs_error *err)
{
	GS_AUTO_STRBUF struct gs_strbuf undone = {0}, finished = {0};
	if (restore_all(nvml, record, GS_MIG_UNDO, &undone, err) == 0) {
		*told = undone.length ? gs_printf("a MIG change was cut off; it has been undone on %s", undone.data)
				      : gs_printf("a MIG change was cut off on GPUs that are not here any more");
		return 0;
	}
	struct gs_error why;
	if (restore_all(nvml, record, GS_MIG_FINISH, &finished, &why) == 0) {
		*told = gs_printf(
			"a MIG change was cut off; it could not be undone (%s), so it has been finished on %s",
			err->text, finished.length ? finished.data : "no GPU");
		return 0;
	}
	return -1;
}
