/* The one engine that changes the node's MIG layout, for `gpushare mig` and for the daemon's label: one attempt that
 * reads, plans around what is in use, and does all of it or nothing. Blocks.
 *
 * Devices that would go must not be handed out meanwhile, and only the caller can see to that: an attempt ends with
 * GS_MIG_CHANGE_NEEDS and `devices`, the caller has them withheld (gs_mig_change_withdraw_more), asks anew which shares
 * are allocated, and tries again. The set of withheld devices only grows, so there are no more rounds than devices. */
#ifndef GPUSHARE_MIG_MIG_CHANGE_H
#define GPUSHARE_MIG_MIG_CHANGE_H

#include "base/vec.h"
#include "mig/mig_apply.h"

enum gs_mig_outcome {
	GS_MIG_CHANGE_DONE, /* the GPUs are as planned; tasks[].when_restarted is true where a mode waits for a restart */
	GS_MIG_CHANGE_WAITS,   /* the same, and there are such: `devices`, and `text` names them */
	GS_MIG_CHANGE_NEEDS,   /* nothing was changed: `devices` must be withheld first */
	GS_MIG_CHANGE_BLOCKED, /* nothing was changed: `text` says who is in the way, `devices` are what they hold */
	GS_MIG_CHANGE_FAILED,  /* everything is as it was, as `text` says; trying again may help */
	GS_MIG_CHANGE_REFUSED, /* nothing was changed, and trying again is no use before something else changes */
};

struct gs_mig_change;
/* Fills change->tasks, which are idle before, one for each GPU of change->boards. GS_MIG_CHANGE_DONE, or how the attempt ends. */
typedef enum gs_mig_outcome gs_mig_planner(struct gs_mig_change *change, void *user);

struct gs_mig_allocation {
	char *device, *who; /* a UUID; a pod, say */
};

struct gs_mig_change {
	/* Input. Owned by the caller. */
	gs_mig_planner *plan;
	void *user; /* of the planner */
	bool dry_run;
	const char *state_dir, *proc;
	struct gs_mig_smi smi; /* `user` of the reset; owned by the change */
	gs_mig_reset
		*reset; /* NULL: a GPU that needs a reset waits for one where when_restarted, else that is a failure */
	const volatile sig_atomic_t *interrupted; /* see struct gs_mig_session */

	/* Kept from attempt to attempt. Owned by the change. */
	GS_VEC(char *) withdrawn;                   /* UUIDs that are not handed out now */
	GS_VEC(struct gs_mig_allocation) allocated; /* of all devices: in use though perhaps no process shows it */

	char *refused; /* why a reset was refused, in any attempt: none is asked for again; NULL: none was */

	/* Result of the last attempt. */
	enum gs_mig_outcome outcome;
	bool touched;    /* something may have been done, and undone */
	char *text;      /* NULL: the planner has said it elsewhere */
	char *recovered; /* how a change that was cut off was settled; NULL: there was none */
	GS_VEC(char *) devices;
	struct gs_mig_boards boards;
	struct gs_mig_task *tasks;
};

/* One attempt. `nvml` NULL: the driver is not there yet, which blocks. */
void gs_mig_change_run(struct gs_mig_change *change, const struct gs_nvml *nvml);
/* Frees all that the change owns, and empties it. */
void gs_mig_change_free(struct gs_mig_change *change);

void gs_mig_change_allocated(struct gs_mig_change *change, const char *device, const char *who);
void gs_mig_change_forget_allocated(struct gs_mig_change *change);
/* After an attempt: `withdrawn` gets `devices` too, or becomes them, or nothing. That they are is the caller's to see to. */
void gs_mig_change_withdraw_more(struct gs_mig_change *change);
void gs_mig_change_withdraw_only(struct gs_mig_change *change);
void gs_mig_change_withdraw_nothing(struct gs_mig_change *change);

/* For planners. */
/* Sets outcome and text, and returns the outcome. */
enum gs_mig_outcome gs_mig_change_stop(struct gs_mig_change *change, enum gs_mig_outcome outcome, const char *format,
				       ...) __attribute__((format(printf, 3, 4)));
/* That what this instance holds (its position in the layout) is in the way. */
void gs_mig_change_note(struct gs_mig_change *change, const struct gs_mig_board *board, size_t instance);
/* Fills the task of one GPU with what makes it as the target says. */
enum gs_mig_outcome gs_mig_change_plan(struct gs_mig_change *change, size_t gpu, const struct gs_mig_target *target);

/* Of each GPU what gs_mig_config_resolve wants to know; the caller frees it. */
struct gs_mig_node_gpu *gs_mig_node_gpus(const struct gs_mig_boards *boards);

#endif
