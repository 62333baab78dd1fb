/* Helpers for carrying a plan out: the task, the devices that it takes away, and the reset of a GPU. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/driver_root.h"
#include "mig/mig_apply.h"

struct gs_mig_task gs_mig_task_idle(const struct gs_mig_board *board)
{
	return (struct gs_mig_task){.board = board, .enabled = board->enabled, .keeps_mode = true};
}

int gs_mig_task_plan(struct gs_mig_task *task, const struct gs_mig_target *target)
{
	static const struct gs_mig_wish nothing;
	const struct gs_mig_board *board = task->board;
	task->enabled = target->enabled;
	task->keeps_mode = false;
	if (!board->profiles_known)
		return 0;
	return gs_mig_plan_make(&board->gpu, &board->layout, target->enabled ? &target->wish : &nothing, GS_MIG_BECOME,
				&task->plan);
}

static long position_of(const struct gs_mig_layout *layout, uint32_t id)
{
	for (size_t i = 0; i < layout->count; i++)
		if (layout->instances[i].id == id)
			return (long)i;
	return -1;
}

size_t gs_mig_task_removes(const struct gs_mig_task *task, const char *uuids[GS_MIG_REMOVES_MAX])
{
	const struct gs_mig_board *board = task->board;
	size_t count = 0;
	if (task->enabled != board->enabled && !gs_mig_task_is_left(task))
		uuids[count++] = board->uuid;
	for (size_t i = 0; i < task->plan.step_count; i++) {
		const struct gs_mig_step *step = &task->plan.steps[i];
		bool whole = step->kind == GS_MIG_DESTROY_INSTANCE;
		long at = whole || step->kind == GS_MIG_DESTROY_COMPUTE ? position_of(&board->layout, step->instance_id)
									: -1;
		for (size_t k = 0; at >= 0 && k < board->layout.instances[at].compute_count; k++) {
			bool goes = whole || board->layout.instances[at].compute[k].id == step->compute_id;
			if (goes && board->uuids[at][k][0] && count < GS_MIG_REMOVES_MAX)
				uuids[count++] = board->uuids[at][k];
		}
	}
	return count;
}

void gs_mig_smi_find(const char *const *roots, struct gs_mig_smi *smi)
{
	gs_mig_smi_free(smi);
	smi->program = gs_driver_command(roots, "nvidia-smi");
	for (; *roots && !smi->libraries && strchr(smi->program, '/'); roots++) {
		smi->libraries = gs_driver_library(*roots, "libnvidia-ml.so.1", NULL);
		if (smi->libraries)
			*strrchr(smi->libraries, '/') = '\0';
	}
}

void gs_mig_smi_free(struct gs_mig_smi *smi)
{
	free(smi->program);
	free(smi->libraries);
	*smi = (struct gs_mig_smi){0};
}

/* This process's environment with `path` first of the loader's folders. The last string is the caller's, and so is the list. */
static char **environment_with(const char *path)
{
	static const char name[] = "LD_LIBRARY_PATH=";
	const char *before = getenv("LD_LIBRARY_PATH");
	size_t count = 0, kept = 0;
	while (environ[count])
		count++;
	char **list = gs_calloc(count + 2, sizeof *list);
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], name, sizeof name - 1) != 0)
			list[kept++] = environ[i];
	list[kept] = gs_printf("%s%s%s%s", name, path, before && *before ? ":" : "", before ? before : "");
	return list;
}

static void run_smi(const struct gs_mig_smi *smi, const char *gpu, char **environment)
{
	char *const arguments[] = {smi->program, (char *)"--gpu-reset", (char *)"-i", (char *)gpu, NULL};
	dup2(STDERR_FILENO, STDOUT_FILENO);
	execvpe(smi->program, arguments, environment ? environment : environ);
	_exit(127);
}

static void free_environment(char **environment)
{
	char **last = environment;
	while (last && last[1])
		last++;
	if (last)
		free(*last);
	free(environment);
}

int gs_mig_reset_by_smi(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	const struct gs_mig_smi *smi = user;
	char **environment = smi->libraries ? environment_with(smi->libraries) : NULL;
	int status;
	pid_t child = fork();
	if (child == 0)
		run_smi(smi, board->uuid, environment);
	free_environment(environment);
	if (child < 0)
		return gs_fail_errno(err, "cannot start nvidia-smi");
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return gs_fail_errno(err, "cannot wait for nvidia-smi");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return gs_fail(err, GS_ERROR_SYSTEM, 0, "nvidia-smi can't be run (%s); it is what resets GPUs",
			       smi->program);
	return gs_fail(err, GS_ERROR_SYSTEM, 0, "nvidia-smi --gpu-reset -i %s failed", board->uuid);
}
