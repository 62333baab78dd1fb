#include "mig/mig_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"

enum { CONFIG_BYTES_MAX = 1024 * 1024 };

/* What a job has at hand. */
struct work {
	struct mig_job *job;
	struct gs_mig_boards boards;
	struct gs_mig_target *targets;
	struct gs_mig_task *tasks;
	struct gs_strbuf notes; /* what of the configuration is not about this node; each begins with "; " */
	bool matched;           /* the configuration is about this node */
};

static void free_strings(char **items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(items[i]);
}

void mig_job_free(struct mig_job *job)
{
	free_strings(job->withdrawn.items, job->withdrawn.count);
	free_strings(job->devices.items, job->devices.count);
	for (size_t i = 0; i < job->promised.count; i++) {
		free(job->promised.items[i].device);
		free(job->promised.items[i].who);
	}
	GS_VEC_FREE(&job->withdrawn);
	GS_VEC_FREE(&job->devices);
	GS_VEC_FREE(&job->promised);
	free(job->text);
	free(job->refusal);
	*job = (struct mig_job){0};
}

__attribute__((format(printf, 3, 4))) static bool stop(struct mig_job *job, enum mig_job_outcome outcome,
						       const char *format, ...)
{
	va_list args;
	char *text = NULL;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	free(job->text);
	job->text = text ? text : gs_strdup("no memory");
	job->outcome = outcome;
	return false;
}

static void add_device(struct mig_job *job, const char *uuid)
{
	*GS_VEC_PUSH(&job->devices) = gs_strdup(uuid);
}

/* --- what is wanted --- */

static struct gs_mig_node_gpu *node_gpus(const struct gs_mig_boards *boards)
{
	struct gs_mig_node_gpu *gpus = gs_calloc(boards->count + 1, sizeof *gpus);
	for (size_t i = 0; i < boards->count; i++)
		gpus[i] =
			(struct gs_mig_node_gpu){.mig = boards->items[i].profiles_known ? &boards->items[i].gpu : NULL,
						 .pci_device = boards->items[i].pci_device,
						 .pci_subsystem = boards->items[i].pci_subsystem};
	return gpus;
}

static const char *first_error(const struct gs_diagnostics *diags)
{
	for (size_t i = 0; i < diags->count; i++)
		if (!diags->items[i].warning)
			return diags->items[i].text;
	return "the configuration is not valid";
}

static void keep_notes(struct work *work, struct gs_diagnostics *diags, bool matched)
{
	for (size_t i = 0; i < diags->count; i++)
		gs_strbuf_printf(&work->notes, "; %s", diags->items[i].message);
	work->matched = matched;
	gs_diagnostics_free(diags);
}

static bool refuse_by(struct mig_job *job, struct gs_diagnostics *diags)
{
	bool ok = stop(job, MIG_JOB_REFUSED, "%s", first_error(diags));
	gs_diagnostics_free(diags);
	return ok;
}

/* Fills the targets from the configuration of this name: the file's, else one that the hardware gives. */
static bool find_targets(struct work *work)
{
	struct mig_job *job = work->job;
	GS_AUTO_FREE struct gs_mig_node_gpu *gpus = node_gpus(&work->boards);
	struct gs_mig_config file = {0}, generated = {0};
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	size_t length;
	GS_AUTO_FREE char *text = job->config_path && access(job->config_path, F_OK) == 0
					  ? gs_read_file_again(job->config_path, CONFIG_BYTES_MAX, &length, &err)
					  : NULL;
	if (!text && job->config_path && access(job->config_path, F_OK) == 0)
		return stop(job, MIG_JOB_FAILED, "%s", err.text);
	/* Nobody can say whether a file that is not valid has something of its own by that name, so it is refused whatever the
	 * name is. */
	if (text && gs_mig_config_parse(job->config_path, text, length, &file, &diags) < 0)
		return refuse_by(job, &diags);
	gs_mig_config_generate(gpus, work->boards.count, &generated);
	const struct gs_mig_config *from = &file;
	const struct gs_mig_named *named = gs_mig_config_find(&file, job->name, &err);
	if (!named) {
		from = &generated;
		named = gs_mig_config_find(&generated, job->name, text ? NULL : &err);
	}
	bool ok;
	if (!named)
		ok = stop(job, MIG_JOB_REFUSED, "%s", err.text);
	else if (gs_mig_config_resolve(from, named, gpus, work->boards.count, work->targets, &diags) < 0)
		ok = refuse_by(job, &diags);
	else
		ok = true;
	if (ok)
		keep_notes(work, &diags, gs_mig_config_is_matched(named, gpus, work->boards.count, work->targets));
	gs_mig_config_free(&file);
	gs_mig_config_free(&generated);
	return ok;
}

/* --- the way there --- */

static void add_blockers(struct mig_job *job, const struct gs_mig_board *board, const struct gs_mig_plan *plan)
{
	for (size_t i = 0; i < plan->blocker_count; i++)
		for (size_t k = 0; k < board->layout.instances[plan->blockers[i]].compute_count; k++)
			if (board->uuids[plan->blockers[i]][k][0])
				add_device(job, board->uuids[plan->blockers[i]][k]);
}

/* Who keeps the mode of a GPU from being changed; NULL: nobody. */
static const char *mode_holder(const struct mig_job *job, const struct gs_mig_board *board)
{
	if (board->process_count)
		return board->processes[0].who;
	for (size_t i = 0; i < job->promised.count; i++)
		if (strcmp(job->promised.items[i].device, board->uuid) == 0)
			return job->promised.items[i].who;
	return NULL;
}

static bool plan_board(struct work *work, size_t which)
{
	struct mig_job *job = work->job;
	const struct gs_mig_board *board = &work->boards.items[which];
	const struct gs_mig_target *target = &work->targets[which];
	struct gs_mig_task *task = &work->tasks[which];
	if (!target->named)
		return true;
	if (board->problem[0])
		return stop(job, MIG_JOB_FAILED, "GPU %u can't be read: %s", board->index, board->problem);
	if (gs_mig_task_plan(task, target) < 0) {
		bool held = false;
		for (size_t i = 0; i < task->plan.blocker_count; i++)
			held |= board->layout.instances[task->plan.blockers[i]].busy;
		add_blockers(job, board, &task->plan);
		return stop(job, held ? MIG_JOB_BLOCKED : MIG_JOB_REFUSED, "GPU %u: %s", board->index,
			    task->plan.reason);
	}
	task->when_restarted = true;
	if (!job->reset && task->enabled != board->enabled && task->enabled == board->pending) {
		*task = gs_mig_task_idle(board);
		task->when_restarted = true;
		return true;
	}
	const char *holder = task->enabled != board->enabled ? mode_holder(job, board) : NULL;
	if (!holder)
		return true;
	add_device(job, board->uuid);
	return stop(job, MIG_JOB_BLOCKED, "GPU %u: the MIG mode changes only while nothing uses the GPU, and %s does",
		    board->index, holder);
}

static bool is_withdrawn(const struct mig_job *job, const char *uuid)
{
	for (size_t i = 0; i < job->withdrawn.count; i++)
		if (strcmp(job->withdrawn.items[i], uuid) == 0)
			return true;
	return false;
}

/* Whether all that goes is withdrawn; else `devices` says what must be. */
static bool check_withdrawn(struct work *work)
{
	struct mig_job *job = work->job;
	bool all = true;
	for (size_t i = 0; i < work->boards.count; i++) {
		const char *uuids[GS_MIG_REMOVES_MAX];
		size_t count = gs_mig_task_removes(&work->tasks[i], uuids);
		for (size_t j = 0; j < count; j++) {
			all &= is_withdrawn(job, uuids[j]);
			add_device(job, uuids[j]);
		}
	}
	if (!all)
		return stop(job, MIG_JOB_NEEDS, "devices have to be withdrawn first");
	free_strings(job->devices.items, job->devices.count);
	job->devices.count = 0;
	return true;
}

static char *summary(const struct work *work)
{
	size_t gpus = 0, created = 0, destroyed = 0;
	for (size_t i = 0; i < work->boards.count; i++) {
		gpus += !gs_mig_task_is_done(&work->tasks[i]);
		created += work->tasks[i].plan.created;
		destroyed += work->tasks[i].plan.destroyed;
	}
	const char *notes = work->notes.length ? work->notes.data : "";
	if (!gpus)
		return gs_printf("nothing was to do%s%s",
				 work->matched ? "" : " on the GPUs that the configuration names", notes);
	return gs_printf("%zu GPU%s changed: %zu instances created, %zu destroyed%s", gpus, gpus == 1 ? "" : "s",
			 created, destroyed, notes);
}

static int reset_or_say_why(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	struct mig_job *job = user;
	if (job->reset(board, NULL, err) == 0)
		return 0;
	if (!job->refusal)
		job->refusal = gs_strdup(err->text);
	return -1;
}

/* What waits for a restart, as it is now. */
static void finish(struct work *work, const struct gs_nvml *nvml)
{
	struct mig_job *job = work->job;
	GS_AUTO_STRBUF struct gs_strbuf waits = {0};
	for (size_t i = 0; i < work->boards.count; i++) {
		const struct gs_mig_target *target = &work->targets[i];
		struct gs_mig_board now;
		nvmlDevice_t device;
		struct gs_error err;
		if (!target->named || gs_mig_read_one(nvml, work->boards.items[i].uuid, &device, &now, &err) < 0 ||
		    now.enabled == target->enabled)
			continue;
		gs_strbuf_printf(&waits, "%sGPU %u: MIG is noted as %s, and will be so after a restart of the machine",
				 waits.length ? "; " : "", work->boards.items[i].index, target->enabled ? "on" : "off");
		add_device(job, work->boards.items[i].uuid);
	}
	job->outcome = waits.length ? MIG_JOB_WAITS : MIG_JOB_DONE;
	const char *why = job->refusal ? job->refusal : job->refused ? job->refused : "nobody resets GPUs here";
	job->text = waits.length ? gs_printf("%s; the driver needs a reset of the GPU, which can't be had: %s",
					     waits.data, why)
				 : summary(work);
}

static void change(struct work *work, struct gs_mig_session *session)
{
	struct mig_job *job = work->job;
	struct gs_error err;
	if (gs_mig_read(session->nvml, job->proc, &work->boards, &err) < 0) {
		stop(job, MIG_JOB_FAILED, "%s", err.text);
		return;
	}
	work->targets = gs_calloc(work->boards.count + 1, sizeof *work->targets);
	work->tasks = gs_calloc(work->boards.count + 1, sizeof *work->tasks);
	for (size_t i = 0; i < job->promised.count; i++)
		gs_mig_mark_busy(&work->boards, job->promised.items[i].device, job->promised.items[i].who);
	for (size_t i = 0; i < work->boards.count; i++)
		work->tasks[i] = gs_mig_task_idle(&work->boards.items[i]);
	if (!find_targets(work))
		return;
	for (size_t i = 0; i < work->boards.count; i++)
		if (!plan_board(work, i))
			return;
	if (!check_withdrawn(work))
		return;
	if (gs_mig_apply(session, work->tasks, work->boards.count, job->reset ? reset_or_say_why : NULL, job, &err) <
	    0) {
		bool in_use = (err.source == GS_ERROR_NVML && err.code == NVML_ERROR_IN_USE) ||
			      (err.source == GS_ERROR_SYSTEM && err.code == EBUSY);
		stop(job, in_use ? MIG_JOB_BLOCKED : MIG_JOB_FAILED, "%s", err.text);
		return;
	}
	finish(work, session->nvml);
}

void mig_job_run(struct mig_job *job, const struct gs_nvml *nvml)
{
	struct work work = {.job = job};
	struct gs_mig_session session;
	struct gs_error err;
	char *recovered = NULL;
	if (!nvml) {
		stop(job, MIG_JOB_BLOCKED, "the NVIDIA driver is not there yet");
		return;
	}
	if (gs_mig_begin(&session, nvml, job->state_dir, job->proc, &recovered, &err) < 0) {
		stop(job, err.source == GS_ERROR_LIMIT ? MIG_JOB_BLOCKED : MIG_JOB_FAILED, "%s", err.text);
		free(recovered);
		return;
	}
	change(&work, &session);
	gs_mig_end(&session);
	gs_mig_boards_free(&work.boards);
	free(work.targets);
	free(work.tasks);
	gs_strbuf_free(&work.notes);
	free(recovered);
}
