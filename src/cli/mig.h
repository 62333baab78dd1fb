/* What the files of `gpushare mig` share. */
#ifndef GPUSHARE_CLI_MIG_H
#define GPUSHARE_CLI_MIG_H

#include <jansson.h>
#include <stdbool.h>

#include "base/strbuf.h"
#include "base/vec.h"
#include "cli/command.h"
#include "mig/mig_apply.h"
#include "client/client.h"

extern const struct gs_command gs_command_mig_list_profiles, gs_command_mig_list, gs_command_mig_create,
	gs_command_mig_destroy, gs_command_mig_enable, gs_command_mig_disable, gs_command_mig_plan,
	gs_command_mig_apply, gs_command_mig_assert, gs_command_mig_export;

/* A command under way: its options, NVML, the GPUs, and which of them are meant. */
struct mig_call {
	const struct gs_command *command;
	struct gs_arguments arguments;
	bool json;
	struct gs_nvml *nvml;
	struct gs_mig_boards boards;
	bool chosen[GS_GPUS_MAX];
	bool left[GS_GPUS_MAX]; /* somebody runs there, so that the mode is left to a restart; see mig_leave_modes */
	char *promised[GS_GPUS_MAX]; /* who was given the GPU as a whole; see mig_mark_promised */
	struct node_withdrawal
		*withdrawal;             /* what the daemon does not hand out meanwhile; NULL: nothing, or no daemon */
	GS_VEC(const char *) in_the_way; /* UUIDs, of `boards`: what is waited for; nobody new gets it with --wait */
	bool noted;                      /* what a configuration says that is of no concern here was said */
	bool unmatched; /* the configuration leaves out what it should speak of; see gs_mig_config_is_matched */
	void *user;     /* of the planner */
};

/* Parses and opens NVML; reads nothing yet. As gs_parse_arguments: 0, or an exit code + 1 once something was said. */
int mig_call_open(const struct gs_command *command, int argc, char **argv, struct mig_call *call);
void mig_call_close(struct mig_call *call);
const char *mig_option(const struct mig_call *call, const char *name);

/* Prints "gpushare mig x: text" on standard error; GS_EXIT_FAILURE. */
int mig_fail(const struct mig_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same about a mistake that is one on any machine; GS_EXIT_USAGE. */
int mig_misuse(const struct mig_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Reads all GPUs anew, and chooses those that -i names; without it all. An exit code. */
int mig_read(struct mig_call *call);
/* After that, for commands that change something: refuses GPUs that can't, and of several GPUs with MIG (`enabled`:
 * turned on) -i must say which. */
int mig_narrow(struct mig_call *call, bool enabled);
/* Of each GPU what gs_mig_config_resolve wants to know; `count` of them are the caller's to free. */
struct gs_mig_node_gpu *mig_node_gpus(const struct mig_call *call);

/* Fills a task for each GPU of call->boards; one for which there is nothing to do keeps its mode and has no step. */
enum mig_outcome {
	MIG_DONE,
	MIG_FAILED,  /* something was said */
	MIG_MISUSED, /* the same, about the command line */
	MIG_BLOCKED, /* `reason` says who is in the way */
};
typedef enum mig_outcome mig_planner(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason);

/* Notes what is waited for: an instance by its position, or the GPU. */
void mig_note_instance(struct mig_call *call, const struct gs_mig_board *board, size_t position);
void mig_note_gpu(struct mig_call *call, const struct gs_mig_board *board);
/* Of an exit code of the functions above. */
enum mig_outcome mig_outcome_of(int code);
/* Reads the profiles that the command line has for this GPU; says what is wrong with them. */
enum mig_outcome mig_read_list(const struct mig_call *call, const struct gs_mig_board *board, const char *list,
			       struct gs_mig_wish *wish);
/* The reason of a plan that is impossible, and whether it can become possible when somebody ends. */
enum mig_outcome mig_refuse(struct mig_call *call, const struct gs_mig_task *task, enum gs_mig_goal goal,
			    struct gs_strbuf *reason);
mig_planner mig_plan_create, mig_plan_destroy;

/* Reads, plans, and does it (or only says what would be done); with --wait again until nobody is in the way. */
int mig_change(struct mig_call *call, mig_planner *planner, bool dry_run);
/* Marks as in use what the daemon at --socket has given to containers, though no process runs there yet. Where there is no
 * daemon, nothing. */
void mig_mark_promised(struct mig_call *call);
void mig_forget_promised(struct mig_call *call);
/* Whether a task would change the mode of a GPU that was given to a container. */
enum mig_outcome mig_check_promised(struct mig_call *call, const struct gs_mig_task *tasks, struct gs_strbuf *reason);
/* Has the driver note the modes of the GPUs in call->left for the next restart; all or none. gs_mig_apply, which is for
 * GPUs that nobody uses, then has nothing to do there. */
int mig_leave_modes(struct mig_call *call, const struct gs_mig_task *tasks, struct gs_error *err);
/* Takes that back. */
void mig_unleave_modes(struct mig_call *call);
/* After the tasks were done: when_restarted is true only of those whose mode waits for a restart. */
void mig_see_what_waits(const struct mig_call *call, struct gs_mig_task *tasks);
/* Says what was or would be done, as text or JSON. */
void mig_print_tasks(const struct mig_call *call, const struct gs_mig_task *tasks, bool done);

/* "?" of an instance that the driver offers no profile for. */
const char *mig_profile_name(const struct gs_mig_board *board, const struct gs_mig_instance *instance);

/* Pictures and tables; see mig_table.c. */
void mig_table_layout(const struct gs_mig_board *board, struct gs_strbuf *out);
void mig_table_profiles(const struct gs_mig_board *board, struct gs_strbuf *out);
/* One line per step of a task, and a summary. */
void mig_table_task(const struct gs_mig_task *task, bool done, struct gs_strbuf *out);
json_t *mig_json_layout(const struct gs_mig_board *board);
json_t *mig_json_profiles(const struct gs_mig_board *board);
json_t *mig_json_task(const struct gs_mig_task *task);

#endif
