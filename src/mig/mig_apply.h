/* Plans carried out, on all GPUs that they concern or on none.
 *
 *     struct gs_mig_session session;
 *     if (gs_mig_begin(&session, nvml, "/var/lib/gpushare", "/proc", &recovered, &err) == 0) {
 *             ... gs_mig_read, gs_mig_plan_make for each GPU ...
 *             gs_mig_apply(&session, tasks, count, NULL, NULL, &err);
 *             gs_mig_end(&session);
 *     }
 *
 * The plan is on disk before the first step. When a step fails, or another program has changed an instance, all steps
 * are undone. When the process dies half-way, the next gs_mig_begin undoes its change, or finishes it where a process
 * uses an instance that it made. Instances that others made meanwhile are never touched. */
#ifndef GPUSHARE_GPU_MIG_APPLY_H
#define GPUSHARE_GPU_MIG_APPLY_H

#include <signal.h>

#include "core/mig/mig_config.h"
#include "core/mig/mig_plan.h"
#include "mig/mig.h"
#include "mig/mig_restore.h"

struct gs_mig_session {
	const struct gs_nvml *nvml;
	const char *state_dir, *proc;
	int lock;
	struct gs_mig_record pending; /* earlier changes that were cut off and can't be settled now; owned */
	/* Set (by a signal, say) when the change is to stop: it is undone then. NULL: it never is. */
	const volatile sig_atomic_t *interrupted;
};

/* Takes the lock, so that one process changes MIG at a time, and settles what a change left that was cut off; `recovered`
 * (NULL, or a sentence that the caller frees) says what that was. The lock goes with the process. Errors: GS_ERROR_LIMIT
 * when another holds the lock; the directory can't be used. What can be neither undone nor finished now is left as it is, is
 * told too, and is tried again next time; until then no task may concern those GPUs. The strings live as long as the
 * session. */
int gs_mig_begin(struct gs_mig_session *session, const struct gs_nvml *nvml, const char *state_dir, const char *proc,
		 char **recovered, struct gs_error *err);
void gs_mig_end(struct gs_mig_session *session);

/* Settles the changes that were cut off, and does no more. 0 also when another process is at work now; -1 when some
 * could not be settled: `recovered` then names the steps that were taken nevertheless. */
int gs_mig_recover(const struct gs_nvml *nvml, const char *state_dir, const char *proc, char **recovered,
		   struct gs_error *err);

/* The desired state of one GPU. */
struct gs_mig_task {
	const struct gs_mig_board *board; /* as it was when the plan was made */
	bool enabled;                     /* the MIG mode that it should have; where off, no step creates anything */
	bool keeps_mode; /* a mode that waits for a reset stays as it is, and `enabled` is what the board has now */
	/* A mode that needs a reset may stay pending, where this process can't reset the GPU or the reset is refused;
	 * while it does, nothing is created. */
	bool when_restarted;
	bool even_in_use; /* the same where a process runs on the GPU; then there are no steps */
	struct gs_mig_plan plan;
};

/* That everything stays as it is. */
struct gs_mig_task gs_mig_task_idle(const struct gs_mig_board *board);
/* Fills a task with what makes its board as the target says. -1: impossible; the plan has blockers and reason. */
int gs_mig_task_plan(struct gs_mig_task *task, const struct gs_mig_target *target);
/* Whether its mode is left to the next restart because a process runs on the GPU. */
bool gs_mig_task_is_left(const struct gs_mig_task *task);
/* Whether there is nothing to do. */
bool gs_mig_task_is_done(const struct gs_mig_task *task);

/* The devices that a task takes away: "MIG-..." of each compute instance that goes, and the GPU itself ("GPU-...") when its
 * mode changes. They should not be handed out meanwhile. The strings are the board's. Returns how many. */
enum { GS_MIG_REMOVES_MAX = 1 + GS_MIG_INSTANCES_MAX * GS_MIG_COMPUTE_MAX };
size_t gs_mig_task_removes(const struct gs_mig_task *task, const char *uuids[GS_MIG_REMOVES_MAX]);

/* The driver's nvidia-smi, since NVML has no call for a reset. */
struct gs_mig_smi {
	char *program;   /* see gs_driver_command */
	char *libraries; /* folder of the libraries that it needs, where the loader would not find them; NULL: it does */
};
/* Below the first of `roots` that has it (NULL ends them), where PATH does not. The strings are freed by gs_mig_smi_free. */
void gs_mig_smi_find(const char *const *roots, struct gs_mig_smi *smi);
void gs_mig_smi_free(struct gs_mig_smi *smi);
/* By nvidia-smi; `user` is a struct gs_mig_smi. Its output goes to standard error. */
int gs_mig_reset_by_smi(const struct gs_mig_board *board, void *user, struct gs_error *err);

/* Does all tasks; GPUs on which there is nothing to do are not touched, and without any nothing is written. On failure all
 * GPUs have what they had before, and the error says so; or it says what could not be brought back, and the next
 * gs_mig_begin tries again. `reset` is called when the driver says that a mode needs it; NULL: that is a failure. */
int gs_mig_apply(struct gs_mig_session *session, const struct gs_mig_task *tasks, size_t count, gs_mig_reset *reset,
		 void *user, struct gs_error *err);

#endif
