/* Shared by the files of `gpushare mig`. */
#ifndef GPUSHARE_CLI_MIG_H
#define GPUSHARE_CLI_MIG_H

#include <jansson.h>
#include <stdbool.h>

#include "base/strbuf.h"
#include "cli/command.h"
#include "mig/mig_change.h"
#include "client/client.h"

extern const struct gs_command gs_command_mig_list_profiles, gs_command_mig_list, gs_command_mig_create,
	gs_command_mig_destroy, gs_command_mig_enable, gs_command_mig_disable, gs_command_mig_plan,
	gs_command_mig_apply, gs_command_mig_assert, gs_command_mig_export;

struct mig_call;
enum mig_outcome {
	MIG_DONE,
	MIG_FAILED,  /* a message was printed */
	MIG_MISUSED, /* the same, about the command line */
	MIG_BLOCKED, /* `reason` names the process or pod in the way */
};
/* Fills a task for each GPU of the change's boards; one for which there is nothing to do keeps its mode and has no step. */
typedef enum mig_outcome mig_planner(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason);

/* A command under way: its command line, NVML, the GPUs, and which of them are meant. */
struct mig_call {
	const struct gs_arguments *arguments;
	bool json;
	struct gs_nvml *nvml;
	struct gs_mig_change change; /* its boards are those of all commands */
	bool chosen[GS_GPUS_MAX];
	mig_planner *planner;
	bool misused;   /* the planner found the command line wrong */
	bool noted;     /* the entries that do not concern this node were reported */
	bool unmatched; /* the configuration leaves out a GPU of this node; see gs_mig_config_is_matched */
	void *user;     /* of the planner */
	struct node_withdrawal *withdrawal; /* of change.withdrawn; NULL: nothing, or no daemon */
};

/* Opens NVML; reads nothing yet. Any code but GS_EXIT_OK: it printed the reason. The arguments outlive the call. */
int mig_call_open(const struct gs_arguments *arguments, struct mig_call *call);
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
/* Of an exit code of the functions above. */
enum mig_outcome mig_outcome_of(int code);
/* Reads the profiles that the command line has for this GPU; says what is wrong with them. */
enum mig_outcome mig_read_list(const struct mig_call *call, const struct gs_mig_board *board, const char *list,
			       struct gs_mig_wish *wish);
mig_planner mig_plan_create, mig_plan_destroy;

/* Reads, plans, and does it (or only says what would be done); with --wait, tries again until no process and no pod is
 * in the way. */
int mig_change(struct mig_call *call, mig_planner *planner, bool dry_run);
/* Asks the daemon at --socket which shares are allocated; none where no daemon runs. */
void mig_ask_allocated(struct mig_call *call);
/* Prints the steps that were or would be taken, as text or JSON. */
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
