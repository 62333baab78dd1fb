#include "mig/mig_change.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"

static void forget_result(struct gs_mig_change *change)
{
	for (size_t i = 0; i < change->devices.count; i++)
		free(change->devices.items[i]);
	change->devices.count = 0;
	free(change->text);
	free(change->recovered);
	free(change->tasks);
	change->text = change->recovered = NULL;
	change->tasks = NULL;
	change->touched = false;
	gs_mig_boards_free(&change->boards);
}

void gs_mig_change_withdraw_nothing(struct gs_mig_change *change)
{
	for (size_t i = 0; i < change->withdrawn.count; i++)
		free(change->withdrawn.items[i]);
	change->withdrawn.count = 0;
}

void gs_mig_change_forget_allocated(struct gs_mig_change *change)
{
	for (size_t i = 0; i < change->allocated.count; i++) {
		free(change->allocated.items[i].device);
		free(change->allocated.items[i].who);
	}
	change->allocated.count = 0;
}

void gs_mig_change_free(struct gs_mig_change *change)
{
	forget_result(change);
	gs_mig_change_withdraw_nothing(change);
	gs_mig_change_forget_allocated(change);
	free(change->refused);
	gs_mig_smi_free(&change->smi);
	GS_VEC_FREE(&change->devices);
	GS_VEC_FREE(&change->withdrawn);
	GS_VEC_FREE(&change->allocated);
	*change = (struct gs_mig_change){0};
}

void gs_mig_change_allocated(struct gs_mig_change *change, const char *device, const char *who)
{
	*GS_VEC_PUSH(&change->allocated) = (struct gs_mig_allocation){gs_strdup(device), gs_strdup(who)};
}

static bool is_withdrawn(const struct gs_mig_change *change, const char *uuid)
{
	for (size_t i = 0; i < change->withdrawn.count; i++)
		if (strcmp(change->withdrawn.items[i], uuid) == 0)
			return true;
	return false;
}

void gs_mig_change_withdraw_more(struct gs_mig_change *change)
{
	for (size_t i = 0; i < change->devices.count; i++)
		if (!is_withdrawn(change, change->devices.items[i]))
			*GS_VEC_PUSH(&change->withdrawn) = gs_strdup(change->devices.items[i]);
}

void gs_mig_change_withdraw_only(struct gs_mig_change *change)
{
	gs_mig_change_withdraw_nothing(change);
	gs_mig_change_withdraw_more(change);
}

enum gs_mig_outcome gs_mig_change_stop(struct gs_mig_change *change, enum gs_mig_outcome outcome, const char *format,
				       ...)
{
	va_list args;
	char *text = NULL;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	free(change->text);
	change->text = text ? text : gs_strdup("no memory");
	change->outcome = outcome;
	return outcome;
}

static void note_device(struct gs_mig_change *change, const char *uuid)
{
	*GS_VEC_PUSH(&change->devices) = gs_strdup(uuid);
}

void gs_mig_change_note(struct gs_mig_change *change, const struct gs_mig_board *board, size_t instance)
{
	for (size_t k = 0; k < board->layout.instances[instance].compute_count; k++)
		if (board->uuids[instance][k][0])
			note_device(change, board->uuids[instance][k]);
}

struct gs_mig_node_gpu *gs_mig_node_gpus(const struct gs_mig_boards *boards)
{
	struct gs_mig_node_gpu *gpus = gs_calloc(boards->count + 1, sizeof *gpus);
	for (size_t i = 0; i < boards->count; i++)
		gpus[i] =
			(struct gs_mig_node_gpu){.mig = boards->items[i].profiles_known ? &boards->items[i].gpu : NULL,
						 .pci_device = boards->items[i].pci_device,
						 .pci_subsystem = boards->items[i].pci_subsystem};
	return gpus;
}

/* --- the way there --- */

enum gs_mig_outcome gs_mig_change_plan(struct gs_mig_change *change, size_t gpu, const struct gs_mig_target *target)
{
	struct gs_mig_task *task = &change->tasks[gpu];
	const struct gs_mig_board *board = task->board;
	const struct gs_mig_plan *plan = &task->plan;
	if (board->problem[0])
		return gs_mig_change_stop(change, GS_MIG_CHANGE_FAILED, "GPU %u can't be read: %s", board->index,
					  board->problem);
	if (gs_mig_task_plan(task, target) == 0)
		return GS_MIG_CHANGE_DONE;
	bool held = false;
	for (size_t i = 0; i < plan->blocker_count; i++) {
		held |= board->layout.instances[plan->blockers[i]].busy;
		gs_mig_change_note(change, board, plan->blockers[i]);
	}
	return gs_mig_change_stop(change, held ? GS_MIG_CHANGE_BLOCKED : GS_MIG_CHANGE_REFUSED, "GPU %u: %s",
				  board->index, plan->reason);
}

static bool can_reset(const struct gs_mig_change *change)
{
	return change->reset && !change->refused;
}

/* The process that keeps the mode of a GPU from being changed; NULL: none. */
static const char *mode_holder(const struct gs_mig_change *change, const struct gs_mig_board *board)
{
	if (board->process_count)
		return board->processes[0].who;
	for (size_t i = 0; i < change->allocated.count; i++)
		if (strcmp(change->allocated.items[i].device, board->uuid) == 0)
			return change->allocated.items[i].who;
	return NULL;
}

/* NVML says that a GPU is in use only after it has noted the mode as pending. */
static enum gs_mig_outcome check_modes(struct gs_mig_change *change)
{
	for (size_t i = 0; i < change->boards.count; i++) {
		struct gs_mig_task *task = &change->tasks[i];
		const struct gs_mig_board *board = task->board;
		if (task->enabled == board->enabled || gs_mig_task_is_left(task))
			continue;
		/* A mode that waits for an impossible reset goes on waiting. */
		if (!can_reset(change) && task->when_restarted && task->enabled == board->pending) {
			task->plan.step_count = 0;
			continue;
		}
		const char *holder = mode_holder(change, board);
		if (!holder)
			continue;
		note_device(change, board->uuid);
		return gs_mig_change_stop(
			change, GS_MIG_CHANGE_BLOCKED,
			"GPU %u: the MIG mode changes only while nothing uses the GPU, and %s is in use by %s",
			board->index, board->uuid, holder);
	}
	return GS_MIG_CHANGE_DONE;
}

/* Whether every device that goes is withheld; else `devices` lists those that must be. */
static bool all_withdrawn(struct gs_mig_change *change)
{
	for (size_t i = 0; i < change->boards.count; i++) {
		const char *uuids[GS_MIG_REMOVES_MAX];
		size_t count = gs_mig_task_removes(&change->tasks[i], uuids);
		for (size_t j = 0; j < count; j++)
			if (!is_withdrawn(change, uuids[j]))
				note_device(change, uuids[j]);
	}
	return !change->devices.count;
}

static int reset_or_say_why(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	struct gs_mig_change *change = user;
	if (change->reset(board, &change->smi, err) == 0)
		return 0;
	free(change->refused);
	change->refused = gs_strdup(err->text);
	return -1;
}

/* Afterwards when_restarted is true only of those whose mode waits for a restart. */
static enum gs_mig_outcome see_what_waits(struct gs_mig_change *change, const struct gs_nvml *nvml)
{
	GS_AUTO_STRBUF struct gs_strbuf waits = {0};
	for (size_t i = 0; i < change->boards.count; i++) {
		struct gs_mig_task *task = &change->tasks[i];
		struct gs_mig_board now;
		nvmlDevice_t device;
		struct gs_error err;
		if (!task->when_restarted || gs_mig_read_one(nvml, task->board->uuid, &device, &now, &err) < 0)
			continue;
		task->when_restarted = now.enabled != task->enabled;
		if (!task->when_restarted)
			continue;
		gs_strbuf_printf(&waits, "%sGPU %u: MIG is noted as %s, and will be so after a restart of the machine",
				 waits.length ? "; " : "", task->board->index, task->enabled ? "on" : "off");
		note_device(change, task->board->uuid);
	}
	if (!waits.length)
		return GS_MIG_CHANGE_DONE;
	return gs_mig_change_stop(change, GS_MIG_CHANGE_WAITS,
				  "%s; the driver needs a reset of the GPU, which can't be had: %s", waits.data,
				  change->refused ? change->refused : "nobody resets GPUs here");
}

static enum gs_mig_outcome attempt(struct gs_mig_change *change, struct gs_mig_session *session)
{
	struct gs_error err;
	if (gs_mig_read(session->nvml, change->proc, &change->boards, &err) < 0)
		return gs_mig_change_stop(change, GS_MIG_CHANGE_FAILED, "%s", err.text);
	change->tasks = gs_calloc(change->boards.count + 1, sizeof *change->tasks);
	for (size_t i = 0; i < change->allocated.count; i++)
		gs_mig_mark_busy(&change->boards, change->allocated.items[i].device, change->allocated.items[i].who);
	for (size_t i = 0; i < change->boards.count; i++)
		change->tasks[i] = gs_mig_task_idle(&change->boards.items[i]);
	enum gs_mig_outcome outcome = change->plan(change, change->user);
	if (outcome == GS_MIG_CHANGE_DONE)
		outcome = check_modes(change);
	if (outcome != GS_MIG_CHANGE_DONE || change->dry_run)
		return outcome;
	if (!all_withdrawn(change))
		return GS_MIG_CHANGE_NEEDS;
	change->touched = true;
	if (gs_mig_apply(session, change->tasks, change->boards.count, can_reset(change) ? reset_or_say_why : NULL,
			 change, &err) == 0)
		return see_what_waits(change, session->nvml);
	bool in_use = (err.source == GS_ERROR_NVML && err.code == NVML_ERROR_IN_USE) ||
		      (err.source == GS_ERROR_SYSTEM && err.code == EBUSY);
	return gs_mig_change_stop(change, in_use ? GS_MIG_CHANGE_BLOCKED : GS_MIG_CHANGE_FAILED, "%s", err.text);
}

void gs_mig_change_run(struct gs_mig_change *change, const struct gs_nvml *nvml)
{
	struct gs_mig_session session = {.nvml = nvml, .lock = -1};
	struct gs_error err;
	forget_result(change);
	if (!nvml) {
		gs_mig_change_stop(change, GS_MIG_CHANGE_BLOCKED, "the NVIDIA driver is not there yet");
		return;
	}
	if (!change->dry_run &&
	    gs_mig_begin(&session, nvml, change->state_dir, change->proc, &change->recovered, &err) < 0) {
		gs_mig_change_stop(change, err.source == GS_ERROR_LIMIT ? GS_MIG_CHANGE_BLOCKED : GS_MIG_CHANGE_FAILED,
				   "%s", err.text);
		return;
	}
	session.interrupted = change->interrupted;
	change->outcome = attempt(change, &session);
	if (!change->dry_run)
		gs_mig_end(&session);
}
