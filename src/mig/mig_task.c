/* Around carrying a plan out: what is to be done, what it takes away, and how a GPU is reset. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

int gs_mig_reset_by_smi(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	int status;
	pid_t child = fork();
	if (child < 0)
		return gs_fail_errno(err, "cannot start nvidia-smi");
	if (child == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execlp("nvidia-smi", "nvidia-smi", "--gpu-reset", "-i", board->uuid, (char *)NULL);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return gs_fail_errno(err, "cannot wait for nvidia-smi");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return gs_fail(err, GS_ERROR_SYSTEM, 0, "nvidia-smi can't be run; it is what resets GPUs");
	return gs_fail(err, GS_ERROR_SYSTEM, 0, "nvidia-smi --gpu-reset -i %s failed", board->uuid);
}
