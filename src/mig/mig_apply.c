#include "mig/mig_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "mig/mig_instance.h"
#include "mig/mig_record.h"
#include "mig/mig_restore.h"

/* One at a time
 * ---- */

static int take_lock(const char *state_dir, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/mig.lock", state_dir);
	char holder[32] = "";
	if (gs_make_directories(state_dir, 0700, err) < 0)
		return -1;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return gs_fail_errno(err, "cannot open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		int length = snprintf(holder, sizeof holder, "%d\n", (int)getpid());
		if (ftruncate(fd, 0) == 0)
			(void)!pwrite(fd, holder, (size_t)length, 0); /* for the message below only */
		return fd;
	}
	if (errno != EWOULDBLOCK) {
		gs_fail_errno(err, "cannot lock %s", path);
	} else {
		(void)!pread(fd, holder, sizeof holder - 1, 0);
		char who[48] = "";
		if (atoi(holder) > 0) /* not in the moment before it is written */
			snprintf(who, sizeof who, " (process %d)", atoi(holder));
		gs_fail(err, GS_ERROR_LIMIT, EWOULDBLOCK,
			"another gpushare%s is changing MIG now; try again when it is done", who);
	}
	close(fd);
	return -1;
}

/* The change is over: the record on disk keeps only the GPUs that could not be settled. */
static int forget_change(const struct gs_mig_session *session, struct gs_error *err)
{
	if (session->pending.count)
		return gs_mig_record_write(session->state_dir, session->proc, &session->pending, err);
	return gs_mig_record_remove(session->state_dir, err);
}

/* A record that can't be read is moved aside, so that it blocks no later change. It is kept for a person to read.
 * `unsettled` says why something stays pending. */
static int recover(struct gs_mig_session *session, char **recovered, struct gs_error *unsettled, struct gs_error *err)
{
	struct gs_mig_record record;
	struct gs_error why;
	int found = gs_mig_record_read(session->state_dir, &record, &why);
	if (found == 0)
		return 0;
	if (found < 0 && why.source != GS_ERROR_INPUT)
		return gs_fail(err, why.source, why.code, "%s", why.text);
	if (found < 0) {
		if (gs_mig_record_set_aside(session->state_dir, err) < 0)
			return -1;
		*recovered = gs_printf("a MIG change was cut off, but its record can't be used and was renamed to "
				       "%s/mig-change.corrupt; check the layout with gpushare mig list: %s",
				       session->state_dir, why.text);
		return 0;
	}
	if (!gs_mig_record_is_current(&record, session->proc)) {
		*recovered = gs_printf("a MIG change was cut off when the machine went down; a restart ends all MIG "
				       "instances, so there is nothing to undo: apply the layout again");
		gs_mig_record_free(&record);
		return gs_mig_record_remove(session->state_dir, err);
	}
	size_t count = record.count;
	if (gs_mig_settle(session->nvml, session->proc, &record, recovered, unsettled) < 0)
		gs_error_prefix(unsettled,
				"a MIG change was cut off and can't be undone now (it is tried again next time; "
				"remove %s/mig-change to leave the GPU as it is)",
				session->state_dir);
	session->pending = record;
	return record.count == count ? 0 : forget_change(session, err);
}

static int begin(struct gs_mig_session *session, const struct gs_nvml *nvml, const char *state_dir, const char *proc,
		 char **recovered, struct gs_error *unsettled, struct gs_error *err)
{
	*recovered = NULL;
	*unsettled = (struct gs_error){0};
	*session = (struct gs_mig_session){.nvml = nvml, .state_dir = state_dir, .proc = proc};
	session->lock = take_lock(state_dir, err);
	if (session->lock < 0)
		return -1;
	if (recover(session, recovered, unsettled, err) == 0)
		return 0;
	gs_mig_end(session);
	free(*recovered);
	*recovered = NULL;
	return -1;
}

int gs_mig_begin(struct gs_mig_session *session, const struct gs_nvml *nvml, const char *state_dir, const char *proc,
		 char **recovered, struct gs_error *err)
{
	struct gs_error unsettled;
	if (begin(session, nvml, state_dir, proc, recovered, &unsettled, err) < 0)
		return -1;
	if (session->pending.count) {
		GS_AUTO_FREE char *told = *recovered;
		*recovered = gs_printf("%s%s%s", told ? told : "", told ? "; " : "", unsettled.text);
	}
	return 0;
}

void gs_mig_end(struct gs_mig_session *session)
{
	gs_mig_record_free(&session->pending);
	close(session->lock);
	session->lock = -1;
}

int gs_mig_recover(const struct gs_nvml *nvml, const char *state_dir, const char *proc, char **recovered,
		   struct gs_error *err)
{
	struct gs_mig_session session;
	struct gs_error why, unsettled;
	GS_AUTO_FREE char *record = gs_printf("%s/mig-change", state_dir);
	*recovered = NULL;
	if (access(record, F_OK) < 0 && errno == ENOENT)
		return 0;
	if (begin(&session, nvml, state_dir, proc, recovered, &unsettled, &why) < 0)
		return why.source == GS_ERROR_LIMIT ? 0 : gs_fail(err, why.source, why.code, "%s", why.text);
	size_t left = session.pending.count;
	gs_mig_end(&session);
	return left ? gs_fail(err, unsettled.source, unsettled.code, "%s", unsettled.text) : 0;
}

/* The tasks, as values ---- */

bool gs_mig_task_is_left(const struct gs_mig_task *task)
{
	return task->even_in_use && task->enabled != task->board->enabled && task->board->process_count &&
	       !task->plan.step_count;
}

bool gs_mig_task_is_done(const struct gs_mig_task *task)
{
	const struct gs_mig_board *board = task->board;
	if (task->plan.step_count)
		return false;
	return task->keeps_mode ||
	       (task->enabled == board->pending && (task->enabled == board->enabled || task->when_restarted));
}

/* Steps know profiles by position; one that is unknown is destroyed at most, and found in the layout. */
static uint32_t profile_id(const struct gs_mig_board *board, const struct gs_mig_step *step)
{
	if (step->profile < board->gpu.profile_count)
		return board->gpu.profiles[step->profile].id;
	for (size_t i = 0; i < board->layout.count; i++)
		if (board->layout.instances[i].id == step->instance_id)
			return board->profile_ids[i];
	return UINT32_MAX;
}

static struct gs_mig_record_instance step_instance(const struct gs_mig_board *board, const struct gs_mig_step *step)
{
	struct gs_mig_record_instance what = {
		.profile_id = profile_id(board, step), .place = step->place, .compute_count = step->compute_count};
	for (size_t i = 0; i < step->compute_count; i++) {
		what.compute[i].slices = step->compute[i];
		what.compute[i].start = step->compute_start[i];
	}
	return what;
}

static size_t position_at(const struct gs_mig_record_layout *layout, struct gs_mig_placement place)
{
	size_t i = 0;
	while (i < layout->count && layout->items[i].place.start != place.start)
		i++;
	return i;
}

static void foresee_step(const struct gs_mig_board *board, const struct gs_mig_step *step,
			 struct gs_mig_record_layout *after)
{
	size_t at = position_at(after, step->place), compute = 0;
	struct gs_mig_record_instance *item = &after->items[at];
	switch (step->kind) {
	case GS_MIG_CREATE_INSTANCE:
		if (after->count < GS_MIG_INSTANCES_MAX)
			after->items[after->count++] = step_instance(board, step);
		return;
	case GS_MIG_DESTROY_INSTANCE:
		if (at < after->count)
			*item = after->items[--after->count];
		return;
	case GS_MIG_CREATE_COMPUTE:
		if (at == after->count || item->compute_count == GS_MIG_COMPUTE_MAX)
			return;
		item->compute[item->compute_count].slices = step->compute[0];
		item->compute[item->compute_count++].start = step->compute_start[0];
		return;
	case GS_MIG_DESTROY_COMPUTE:
		while (at < after->count && compute < item->compute_count &&
		       item->compute[compute].start != step->compute_start[0])
			compute++;
		if (at < after->count && compute < item->compute_count)
			item->compute[compute] = item->compute[--item->compute_count];
		return;
	}
}

static struct gs_mig_record_gpu foresee(const struct gs_mig_task *task)
{
	struct gs_mig_record_gpu gpu = {.before = {.enabled = task->board->enabled, .pending = task->board->pending}};
	snprintf(gpu.uuid, sizeof gpu.uuid, "%s", task->board->uuid);
	for (size_t i = 0; i < task->board->layout.count; i++)
		gpu.before.items[gpu.before.count++] = gs_mig_instance_as_record(task->board, i);
	gpu.after = gpu.before;
	gpu.after.enabled = task->enabled;
	gpu.after.pending = task->keeps_mode ? task->board->pending : task->enabled;
	for (size_t i = 0; i < task->plan.step_count; i++)
		foresee_step(task->board, &task->plan.steps[i], &gpu.after);
	return gpu;
}

/* Doing it
 * ---- */

static void name_step(const struct gs_mig_board *board, const struct gs_mig_step *step, char *text, size_t size)
{
	static const char *const verbs[] = {"creating", "destroying", "creating", "destroying"};
	char name[GS_MIG_NAME_SIZE] = "unknown profile";
	bool compute = step->kind == GS_MIG_CREATE_COMPUTE || step->kind == GS_MIG_DESTROY_COMPUTE;
	if (step->profile < board->gpu.profile_count) {
		const struct gs_mig_profile *profile = &board->gpu.profiles[step->profile];
		gs_mig_compute_name(profile, compute ? step->compute[0] : profile->compute_slices, name);
	}
	if (compute)
		snprintf(text, size, "%s compute instance %s in GPU instance %u", verbs[step->kind], name,
			 step->instance_id);
	else
		snprintf(text, size, "%s %s at slice %u", verbs[step->kind], name, step->place.start);
}

static int do_step(const struct gs_nvml *nvml, nvmlDevice_t device, const struct gs_mig_board *board,
		   const struct gs_mig_step *step, struct gs_error *err)
{
	struct gs_mig_record_instance what = step_instance(board, step);
	switch (step->kind) {
	case GS_MIG_CREATE_INSTANCE:
		return gs_mig_create_instance(nvml, device, &what, err);
	case GS_MIG_DESTROY_INSTANCE:
		return gs_mig_destroy_instance(nvml, device, step->instance_id, &what, err);
	case GS_MIG_CREATE_COMPUTE:
		return gs_mig_create_compute(nvml, device, step->instance_id, step->compute[0], step->compute_start[0],
					     err);
	case GS_MIG_DESTROY_COMPUTE:
		return gs_mig_destroy_compute(nvml, device, step->instance_id, step->compute_id, err);
	}
	return gs_fail(err, GS_ERROR_INTERNAL, 0, "a step of unknown kind");
}

/* NVML says only that a process uses the instance, not which. */
static void add_user(const struct gs_mig_session *session, nvmlDevice_t device, const struct gs_mig_board *board,
		     uint32_t instance, struct gs_error *err)
{
	struct gs_mig_board now = *board;
	now.processes = NULL;
	now.process_count = 0;
	gs_mig_read_processes(session->nvml, session->proc, device, &now);
	for (size_t i = 0; i < now.process_count; i++) {
		if (instance != GS_MIG_WHOLE_GPU && now.processes[i].instance != instance)
			continue;
		gs_error_prefix(err, "it is in use by %s", now.processes[i].who);
		free(now.processes);
		return;
	}
	gs_error_prefix(err,
			"it is in use, but the driver lists no process on it; a monitor may hold it (DCGM, nvidia-smi "
			"daemon, one in another container): stop that, or wait for it, and try again");
	free(now.processes);
}

static int do_steps(const struct gs_mig_session *session, nvmlDevice_t device, const struct gs_mig_task *task,
		    struct gs_error *err)
{
	for (size_t i = 0; i < task->plan.step_count; i++) {
		const struct gs_mig_step *step = &task->plan.steps[i];
		char text[160];
		if (session->interrupted && *session->interrupted)
			return gs_fail(err, GS_ERROR_SYSTEM, EINTR, "interrupted");
		if (do_step(session->nvml, device, task->board, step, err) == 0)
			continue;
		if (err->code == NVML_ERROR_IN_USE)
			add_user(session, device, task->board, step->instance_id, err);
		name_step(task->board, step, text, sizeof text);
		return gs_error_prefix(err, "%s", text);
	}
	return 0;
}

static int switch_mode(const struct gs_mig_session *session, nvmlDevice_t device, const struct gs_mig_task *task,
		       gs_mig_reset *reset, void *user, struct gs_error *err)
{
	const struct gs_mig_board *board = task->board;
	const char *verb = task->enabled ? "enable" : "disable";
	nvmlReturn_t activation;
	uint32_t current = 0, pending = 0;
	if (task->keeps_mode || (task->enabled == board->enabled && task->enabled == board->pending))
		return 0;
	if (gs_mig_set_mode(session->nvml, device, task->enabled, &activation, err) < 0)
		return -1;
	if (activation == NVML_ERROR_IN_USE && task->even_in_use)
		return 0;
	if (activation == NVML_ERROR_IN_USE) {
		gs_fail(err, GS_ERROR_NVML, activation,
			"the GPU has clients, and its MIG mode changes only without any; end them and try again");
		add_user(session, device, board, GS_MIG_WHOLE_GPU, err);
		return -1;
	}
	if (activation == NVML_ERROR_RESET_REQUIRED && !reset && task->when_restarted)
		return 0;
	if (activation == NVML_ERROR_RESET_REQUIRED && !reset)
		return gs_fail(err, GS_ERROR_NVML, activation,
			       "the change of MIG mode needs a reset of this GPU: end what runs on it, then do it with "
			       "gpushare mig %s -i %u --reset (a virtual machine can't: --at-restart, and restart it)",
			       verb, board->index);
	if (activation == NVML_ERROR_RESET_REQUIRED && reset(board, user, err) < 0)
		return task->when_restarted ? 0 : gs_error_prefix(err, "resetting the GPU");
	if (activation != NVML_SUCCESS && activation != NVML_ERROR_RESET_REQUIRED)
		return gs_nvml_fail(session->nvml, activation, "nvmlDeviceSetMigMode", err);
	nvmlReturn_t code = GS_NVML(session->nvml, DeviceGetMigMode, device, &current, &pending);
	if (code != NVML_SUCCESS)
		return gs_nvml_fail(session->nvml, code, "nvmlDeviceGetMigMode", err);
	if (current != (uint32_t)task->enabled && !task->when_restarted)
		return gs_fail(err, GS_ERROR_NVML, NVML_ERROR_RESET_REQUIRED,
			       "the driver took the MIG mode, but it is not in force; reset the GPU");
	return 0;
}

/* `begun`: something may have been done. */
static int do_task(const struct gs_mig_session *session, const struct gs_mig_task *task,
		   const struct gs_mig_record_gpu *record, gs_mig_reset *reset, void *user, bool *begun,
		   struct gs_error *err)
{
	struct gs_mig_board now;
	nvmlDevice_t device;
	if (gs_mig_read_one(session->nvml, record->uuid, &device, &now, err) < 0)
		return -1;
	if (!gs_mig_same_layout(&now, task->board))
		return gs_fail(err, GS_ERROR_NVML, NVML_ERROR_NOT_FOUND,
			       "another tool has changed the layout since it was looked at");
	*begun = true;
	if (task->enabled && switch_mode(session, device, task, reset, user, err) < 0)
		return -1;
	if (gs_mig_read_layout(session->nvml, device, &now, err) < 0)
		return -1;
	bool waits = task->when_restarted && task->enabled && !now.enabled;
	if (!waits && do_steps(session, device, task, err) < 0)
		return -1;
	if (!task->enabled && switch_mode(session, device, task, reset, user, err) < 0)
		return -1;
	if (gs_mig_read_layout(session->nvml, device, &now, err) < 0)
		return -1;
	struct gs_mig_record_layout after = record->after;
	if (task->when_restarted && now.pending == task->enabled)
		after.enabled = now.enabled;
	if (waits)
		after.count = 0;
	if (!gs_mig_is_as_recorded(&now, &after))
		return gs_fail(err, GS_ERROR_NVML, NVML_ERROR_NOT_FOUND,
			       "another tool has changed the layout meanwhile");
	return 0;
}

/* Undoes the steps on the first `count` GPUs, of which the last may be half done. Adds the outcome to `err`, which has
 * the reason. */
static int undo(struct gs_mig_session *session, const struct gs_mig_record *change, size_t count, gs_mig_reset *reset,
		void *user, struct gs_error *err)
{
	const struct gs_error cause = *err;
	struct gs_error why, failed = {0};
	struct gs_mig_record *pending = &session->pending;
	uint32_t lost = 0, all_lost = 0;
	for (size_t i = count; i-- > 0; all_lost += lost) {
		if (gs_mig_restore(session->nvml, &change->gpus[i], GS_MIG_UNDO, reset, user, &lost, &why) == 0)
			continue;
		failed = why;
		pending->gpus = gs_reallocarray(pending->gpus, pending->count + 1, sizeof *pending->gpus);
		pending->gpus[pending->count++] = change->gpus[i];
	}
	if (forget_change(session, &why) < 0)
		return gs_fail(err, why.source, why.code, "%s", why.text);
	if (failed.source)
		return gs_fail(err, cause.source, cause.code,
			       "%.220s; and what had been done can't be undone now: %.180s. The next gpushare mig "
			       "tries again",
			       cause.text, failed.text);
	if (all_lost)
		return gs_fail(
			err, cause.source, cause.code,
			"%.320s; all that had been done was undone, but for %u instances whose places another tool "
			"has taken",
			cause.text, all_lost);
	return gs_fail(err, cause.source, cause.code,
		       "%.400s; all that had been done was undone, so every GPU is as it was", cause.text);
}

static bool is_pending(const struct gs_mig_session *session, const char *uuid)
{
	for (size_t i = 0; i < session->pending.count; i++)
		if (strcmp(session->pending.gpus[i].uuid, uuid) == 0)
			return true;
	return false;
}

/* Written to disk beside the changes that are still pending. */
static int write_change(const struct gs_mig_session *session, const struct gs_mig_record *change, struct gs_error *err)
{
	size_t old = session->pending.count;
	GS_AUTO_FREE struct gs_mig_record_gpu *gpus = gs_calloc(old + change->count, sizeof *gpus);
	const struct gs_mig_record both = {.gpus = gpus, .count = old + change->count};
	if (old)
		memcpy(gpus, session->pending.gpus, old * sizeof *gpus);
	memcpy(gpus + old, change->gpus, change->count * sizeof *gpus);
	return gs_mig_record_write(session->state_dir, session->proc, &both, err);
}

int gs_mig_apply(struct gs_mig_session *session, const struct gs_mig_task *tasks, size_t count, gs_mig_reset *reset,
		 void *user, struct gs_error *err)
{
	GS_AUTO_FREE struct gs_mig_record_gpu *gpus = gs_calloc(count + 1, sizeof *gpus);
	GS_AUTO_FREE size_t *which = gs_calloc(count + 1, sizeof *which);
	struct gs_mig_record record = {.gpus = gpus};
	struct gs_error why;
	char label[32];

	for (size_t i = 0; i < count; i++) {
		if (gs_mig_task_is_done(&tasks[i]))
			continue;
		if (is_pending(session, tasks[i].board->uuid))
			return gs_fail(
				err, GS_ERROR_SYSTEM, EBUSY,
				"%s: an earlier change that was cut off can't be undone now; nothing was changed",
				gs_mig_board_label(tasks[i].board, label));
		gpus[record.count] = foresee(&tasks[i]);
		which[record.count++] = i;
	}
	if (record.count == 0)
		return 0;
	if (write_change(session, &record, err) < 0)
		return -1;
	for (size_t i = 0; i < record.count; i++) {
		const struct gs_mig_task *task = &tasks[which[i]];
		bool begun = false;
		if (do_task(session, task, &gpus[i], reset, user, &begun, &why) == 0)
			continue;
		gs_error_prefix(&why, "%s", gs_mig_board_label(task->board, label));
		undo(session, &record, i + begun, reset, user, &why);
		return gs_fail(err, why.source, why.code, "%s", why.text);
	}
	return forget_change(session, err);
}
