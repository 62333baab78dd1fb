#include "mig/mig_restore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "mig/mig_instance.h"

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

/* The function that resets a GPU whose mode needs it; NULL: none. */
struct resetter {
	gs_mig_reset *reset;
	void *user;
};

/* So that the mode is in force. */
static int set_mode(const struct gs_nvml *nvml, nvmlDevice_t device, const struct gs_mig_board *board, bool enabled,
		    const struct resetter *by, struct gs_error *err)
{
	nvmlReturn_t activation;
	if (gs_mig_set_mode(nvml, device, enabled, &activation, err) < 0)
		return -1;
	if (activation == NVML_ERROR_RESET_REQUIRED && by->reset)
		return by->reset(board, by->user, err);
	return activation == NVML_SUCCESS ? 0 : gs_nvml_fail(nvml, activation, "nvmlDeviceSetMigMode", err);
}

static int try_restore(const struct gs_nvml *nvml, const struct gs_mig_record_gpu *gpu,
		       const struct gs_mig_record_layout *target, const struct gs_mig_record_layout *ours,
		       const struct resetter *by, uint32_t *lost, struct gs_error *err)
{
	struct gs_mig_board board;
	nvmlDevice_t device;
	nvmlReturn_t activation;
	if (gs_mig_read_one(nvml, gpu->uuid, &device, &board, err) < 0)
		return -1;
	/* The profiles of some drivers can be read with MIG on alone. */
	if (target->enabled && !board.enabled &&
	    (set_mode(nvml, device, &board, true, by, err) < 0 ||
	     gs_mig_read_one(nvml, gpu->uuid, &device, &board, err) < 0))
		return -1;
	if (restore_instances(nvml, device, &board, target, ours, lost, err) < 0)
		return -1;
	if (!target->enabled && board.enabled) {
		if (set_mode(nvml, device, &board, false, by, err) < 0)
			return -1;
		board.pending = false;
	}
	/* A mode that waited for a reset waits for it again. */
	return board.pending == target->pending ? 0 : gs_mig_set_mode(nvml, device, target->pending, &activation, err);
}

int gs_mig_restore(const struct gs_nvml *nvml, const struct gs_mig_record_gpu *gpu, enum gs_mig_direction direction,
		   gs_mig_reset *reset, void *user, uint32_t *lost, struct gs_error *err)
{
	const struct gs_mig_record_layout *target = direction == GS_MIG_UNDO ? &gpu->before : &gpu->after;
	const struct gs_mig_record_layout *ours = direction == GS_MIG_UNDO ? &gpu->after : &gpu->before;
	const struct resetter by = {reset, user};
	for (int tries = 1; try_restore(nvml, gpu, target, ours, &by, lost, err) < 0; tries++)
		if (tries == TRIES)
			return -1;
	return 0;
}

/* Settling a change that was cut off ---- */

/* The obstacles on a GPU, found before any step is taken. */
struct prospect {
	bool gone;    /* the node does not have it any more */
	bool sick;    /* it can't be read: `why` */
	bool held[2]; /* by direction: a process uses an instance that would have to go: `why` */
	struct gs_error why;
};

static bool has_instance(const struct gs_mig_record_layout *layout, const struct gs_mig_record_instance *what)
{
	const struct gs_mig_record_instance *item = find(layout, what->profile_id, what->place);
	bool same = item && item->compute_count == what->compute_count;
	for (size_t i = 0; same && i < what->compute_count; i++)
		same = has_compute(item, what->compute[i].slices, what->compute[i].start);
	return same;
}

static struct prospect look_ahead(const struct gs_nvml *nvml, const char *proc, const struct gs_mig_record_gpu *gpu)
{
	struct prospect found = {0};
	struct gs_mig_board board;
	nvmlDevice_t device;
	if (gs_mig_read_one(nvml, gpu->uuid, &device, &board, &found.why) < 0) {
		found.gone =
			found.why.code == NVML_ERROR_NOT_FOUND && strstr(found.why.text, "nvmlDeviceGetHandleByUUID");
		found.sick = !found.gone;
		return found;
	}
	gs_mig_read_processes(nvml, proc, device, &board);
	for (size_t i = 0; i < board.layout.count; i++) {
		const struct gs_mig_record_instance what = gs_mig_instance_as_record(&board, i);
		bool before = has_instance(&gpu->before, &what), after = has_instance(&gpu->after, &what);
		if (!board.layout.instances[i].busy || (before == after))
			continue;
		found.held[before ? GS_MIG_FINISH : GS_MIG_UNDO] = true;
		gs_fail(&found.why, GS_ERROR_NVML, NVML_ERROR_IN_USE,
			"somebody uses an instance of what was before, and somebody one of what was to be");
	}
	free(board.processes);
	return found;
}

/* The outcome for each GPU. */
struct outcome {
	struct gs_strbuf undone, finished;
	struct gs_error undo_failed; /* why some are finished instead */
};

static int settle_gpu(const struct gs_nvml *nvml, const struct gs_mig_record_gpu *gpu, const struct prospect *ahead,
		      enum gs_mig_direction first, struct outcome *outcome, struct gs_error *err)
{
	uint32_t lost;
	*err = ahead->why;
	for (int i = 0; i < 2; i++) {
		enum gs_mig_direction direction = i ? (first == GS_MIG_UNDO ? GS_MIG_FINISH : GS_MIG_UNDO) : first;
		if (ahead->held[direction])
			continue;
		if (gs_mig_restore(nvml, gpu, direction, NULL, NULL, &lost, err) == 0) {
			struct gs_strbuf *list = direction == GS_MIG_UNDO ? &outcome->undone : &outcome->finished;
			gs_strbuf_printf(list, "%s%s%s", list->length ? ", " : "", gpu->uuid,
					 lost ? " (but for places that another tool has taken)" : "");
			return 0;
		}
		if (direction == GS_MIG_UNDO)
			outcome->undo_failed = *err;
		/* Only a process on the GPU makes one direction fail alone. After any other failure the other direction
		 * would fail too, and touch more. */
		if (err->code != NVML_ERROR_IN_USE)
			return -1;
	}
	return -1;
}

/* All in the same direction where that is possible. */
static enum gs_mig_direction choose(const struct prospect *ahead, size_t count)
{
	bool held[2] = {false};
	for (size_t i = 0; i < count; i++)
		for (int direction = 0; direction < 2; direction++)
			held[direction] |= ahead[i].held[direction];
	return held[GS_MIG_UNDO] && !held[GS_MIG_FINISH] ? GS_MIG_FINISH : GS_MIG_UNDO;
}

static char *tell(const struct outcome *outcome)
{
	const char *undone = outcome->undone.data, *finished = outcome->finished.data;
	if (undone && finished)
		return gs_printf("a MIG change was cut off; it has been undone on %s, and finished on %s, where it is "
				 "in use",
				 undone, finished);
	if (undone)
		return gs_printf("a MIG change was cut off; it has been undone on %s", undone);
	if (finished)
		return gs_printf("a MIG change was cut off; it could not be undone (%s), so it has been finished on %s",
				 outcome->undo_failed.source ? outcome->undo_failed.text : "it is in use", finished);
	return gs_printf("a MIG change was cut off on GPUs that are not here any more");
}

int gs_mig_settle(const struct gs_nvml *nvml, const char *proc, struct gs_mig_record *record, char **told,
		  struct gs_error *err)
{
	struct outcome outcome = {0};
	struct gs_error why;
	size_t left = 0, count = record->count;
	GS_AUTO_FREE struct prospect *ahead = gs_calloc(count, sizeof *ahead);
	for (size_t i = 0; i < count; i++)
		ahead[i] = look_ahead(nvml, proc, &record->gpus[i]);
	enum gs_mig_direction first = choose(ahead, count);
	for (size_t i = 0; i < count; i++) {
		const struct gs_mig_record_gpu gpu = record->gpus[i];
		why = ahead[i].why;
		if (ahead[i].gone || (!ahead[i].sick && settle_gpu(nvml, &gpu, &ahead[i], first, &outcome, &why) == 0))
			continue;
		if (!left)
			gs_fail(err, why.source, why.code, "%s: %s", gpu.uuid, why.text);
		record->gpus[left++] = gpu;
	}
	record->count = left;
	*told = left < count ? tell(&outcome) : NULL;
	gs_strbuf_free(&outcome.undone);
	gs_strbuf_free(&outcome.finished);
	return left ? -1 : 0;
}
