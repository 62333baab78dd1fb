/* gpushare mig: commands that change how GPUs are divided. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "cli/mig.h"
#include "client/methods.h"

static int run_change(const struct gs_arguments *arguments, mig_planner *planner, int operands_min, int operands_max)
{
	struct mig_call call;
	int code = mig_call_open(arguments, &call);
	if (code != GS_EXIT_OK)
		return code;
	int count = arguments->operand_count;
	code = GS_EXIT_USAGE;
	if (count < operands_min)
		mig_fail(&call, "say what: gpushare %s %s", arguments->command->name, arguments->command->synopsis);
	else if (count > operands_max)
		mig_fail(&call, "there is no use for \"%s\"; see gpushare %s --help", arguments->operands[operands_max],
			 arguments->command->name);
	else
		code = mig_change(&call, planner, mig_option(&call, "dry-run") != NULL);
	mig_call_close(&call);
	return code;
}

static int run_create(const struct gs_arguments *arguments)
{
	return run_change(arguments, mig_plan_create, 1, 1);
}

static int run_destroy(const struct gs_arguments *arguments)
{
	return run_change(arguments, mig_plan_destroy, 0, 1000);
}

/* enable, disable
 * ---- */

/* Fills the task with what makes the GPU as the target says. */
static enum mig_outcome plan_target(struct mig_call *call, size_t gpu, const struct gs_mig_target *target)
{
	return gs_mig_change_plan(&call->change, gpu, target) == GS_MIG_CHANGE_DONE ? MIG_DONE : MIG_BLOCKED;
}

static enum mig_outcome plan_mode(struct mig_call *call, struct gs_mig_task *tasks, bool enabled,
				  struct gs_strbuf *reason)
{
	if (mig_option(call, "reset") && mig_option(call, "at-restart"))
		return mig_outcome_of(mig_misuse(call,
						 "--reset and --at-restart are two answers to one question: reset "
						 "the GPU now, or leave that to a restart; give one"));
	enum mig_outcome outcome = mig_outcome_of(mig_narrow(call, false));
	for (size_t i = 0; i < call->change.boards.count && outcome == MIG_DONE; i++) {
		const struct gs_mig_board *board = &call->change.boards.items[i];
		struct gs_mig_target target = {.enabled = enabled};
		tasks[i].when_restarted = tasks[i].even_in_use = call->chosen[i] && mig_option(call, "at-restart");
		if (!call->chosen[i] ||
		    (board->pending == enabled && (board->enabled == enabled || tasks[i].when_restarted)))
			continue;
		if (enabled && board->enabled) { /* only a pending "off" is taken back */
			tasks[i].enabled = true;
			tasks[i].keeps_mode = false;
			continue;
		}
		outcome = plan_target(call, i, &target);
	}
	return outcome;
}

static enum mig_outcome plan_enable(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason)
{
	return plan_mode(call, tasks, true, reason);
}

static enum mig_outcome plan_disable(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason)
{
	return plan_mode(call, tasks, false, reason);
}

static int run_enable(const struct gs_arguments *arguments)
{
	return run_change(arguments, plan_enable, 0, 0);
}

static int run_disable(const struct gs_arguments *arguments)
{
	return run_change(arguments, plan_disable, 0, 0);
}

/* plan, apply, assert
 * ---- */

enum { CONFIG_BYTES_MAX = 1024 * 1024 };

/* The file of -f; once, since it may be standard input. */
static int load_config(struct mig_call *call, struct gs_mig_config *config)
{
	const char *path = mig_option(call, "file");
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	size_t length;
	bool standard_input = strcmp(path, "-") == 0;
	GS_AUTO_FREE char *text = gs_read_file(standard_input ? "/dev/stdin" : path, CONFIG_BYTES_MAX, &length, &err);
	if (!text)
		return mig_fail(call, "%s", err.text);
	int result = gs_mig_config_parse(standard_input ? "(standard input)" : path, text, length, config, &diags);
	gs_diagnostics_sort(&diags);
	gs_print_diagnostics(&diags);
	gs_diagnostics_free(&diags);
	return result < 0 ? GS_EXIT_FAILURE : GS_EXIT_OK;
}

/* The spec that the profiles on the command line give the chosen GPUs. */
static enum mig_outcome targets_of_list(struct mig_call *call, struct gs_mig_target *targets)
{
	enum mig_outcome outcome = mig_outcome_of(mig_narrow(call, false));
	for (size_t i = 0; i < call->change.boards.count && outcome == MIG_DONE; i++) {
		if (!call->chosen[i])
			continue;
		targets[i].named = targets[i].enabled = true;
		outcome = mig_read_list(call, &call->change.boards.items[i], call->arguments->operands[0],
					&targets[i].wish);
	}
	return outcome;
}

static enum mig_outcome targets_of_config(struct mig_call *call, const struct gs_mig_config *config,
					  struct gs_mig_target *targets)
{
	GS_AUTO_FREE struct gs_mig_node_gpu *gpus = gs_mig_node_gpus(&call->change.boards);
	struct gs_mig_config generated = {0};
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	enum mig_outcome outcome = MIG_FAILED;
	if (!config) {
		gs_mig_config_generate(gpus, call->change.boards.count, &generated);
		config = &generated;
	}
	const struct gs_mig_named *named = gs_mig_config_find(config, mig_option(call, "config"), &err);
	if (!named)
		mig_fail(call, "%s", err.text);
	else if (gs_mig_config_resolve(config, named, gpus, call->change.boards.count, targets, &diags) == 0)
		outcome = MIG_DONE;
	call->unmatched =
		outcome == MIG_DONE && !gs_mig_config_is_matched(named, gpus, call->change.boards.count, targets);
	/* It is planned again in each round. */
	if (outcome != MIG_DONE || !call->noted)
		gs_print_diagnostics(&diags);
	call->noted = true;
	gs_diagnostics_free(&diags);
	gs_mig_config_free(&generated);
	return outcome;
}

/* A change of a GPU that NVML can't read can't be planned. */
static bool all_readable(const struct mig_call *call)
{
	for (size_t i = 0; i < call->change.boards.count; i++) {
		const struct gs_mig_board *board = &call->change.boards.items[i];
		if (!call->chosen[i])
			continue;
		if (board->problem[0]) {
			mig_fail(call, "GPU %zu can't be read: %s%s", i, board->problem,
				 geteuid() == 0 ? "; leave it out with -i to change the others" : "");
			return false;
		}
		if (board->capable && !board->profiles_known) {
			mig_fail(call,
				 "the driver tells what GPU %zu can be divided into only while MIG is on; turn it on "
				 "first with gpushare mig enable -i %zu",
				 i, i);
			return false;
		}
	}
	return true;
}

static enum mig_outcome plan_apply(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason)
{
	GS_AUTO_FREE struct gs_mig_target *targets = gs_calloc(call->change.boards.count + 1, sizeof *targets);
	enum mig_outcome outcome = all_readable(call) ? MIG_DONE : MIG_FAILED;
	if (outcome == MIG_DONE)
		outcome = call->arguments->operand_count ? targets_of_list(call, targets)
							 : targets_of_config(call, call->user, targets);
	for (size_t i = 0; i < call->change.boards.count && outcome == MIG_DONE; i++)
		if (targets[i].named && call->chosen[i])
			outcome = plan_target(call, i, &targets[i]);
	return outcome;
}

/* For assert: there is nothing to do, or it says what. */
static enum mig_outcome plan_assert(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason)
{
	enum mig_outcome outcome = plan_apply(call, tasks, reason);
	bool done = true;
	for (size_t i = 0; i < call->change.boards.count && outcome == MIG_DONE; i++)
		done &= gs_mig_task_is_done(&tasks[i]);
	if (outcome == MIG_DONE && done && call->unmatched) {
		mig_fail(call,
			 "the configuration leaves out GPUs of this node, so nobody can say that they are as wanted");
		return MIG_FAILED;
	}
	if (outcome != MIG_DONE || done)
		return outcome;
	mig_print_tasks(call, tasks, false);
	fflush(stdout);
	mig_fail(call, "the GPUs are not divided like that");
	return MIG_FAILED;
}

static int run_config(const struct gs_arguments *arguments, mig_planner *planner, bool always_dry)
{
	struct mig_call call;
	struct gs_mig_config config = {0};
	int code = mig_call_open(arguments, &call);
	if (code != GS_EXIT_OK)
		return code;
	int count = arguments->operand_count;
	bool file = mig_option(&call, "file"), name = mig_option(&call, "config");
	if (count > 1 || (count == 1 && (file || name)) || (!count && !file && !name)) {
		mig_fail(&call,
			 "say what: -f FILE, -c NAME of a configuration of this node, or -i GPUS PROFILES; see "
			 "gpushare %s --help",
			 arguments->command->name);
		code = GS_EXIT_USAGE;
	}
	if (code == GS_EXIT_OK && file) {
		code = load_config(&call, &config);
		call.user = &config;
	}
	if (code == GS_EXIT_OK)
		code = mig_change(&call, planner, always_dry || mig_option(&call, "dry-run"));
	gs_mig_config_free(&config);
	mig_call_close(&call);
	return code;
}

static int run_plan(const struct gs_arguments *arguments)
{
	return run_config(arguments, plan_apply, true);
}

static int run_apply(const struct gs_arguments *arguments)
{
	return run_config(arguments, plan_apply, false);
}

static int run_assert(const struct gs_arguments *arguments)
{
	return run_config(arguments, plan_assert, true);
}

/* The commands
 * ---- */

#define OPTION_GPU                                                                                                     \
	{                                                                                                              \
		"gpu", 'i', "GPUS", NULL, NULL, "these GPUs: indexes, UUIDs or PCI bus ids, with commas; or all", NULL \
	}
#define OPTION_OUTPUT                                                                               \
	{                                                                                           \
		"output", 'o', "FORMAT", NULL, "table", "how to print: table or json", "table json" \
	}
#define OPTION_DRY                                                                  \
	{                                                                           \
		"dry-run", 0, NULL, NULL, NULL, "only say what would be done", NULL \
	}
#define OPTION_WAIT                                                                                    \
	{                                                                                              \
		"wait", 0, "DURATION", NULL, NULL,                                                     \
			"wait so long for instances that are in use, such as 10m; without it that is " \
			"a failure",                                                                   \
			NULL                                                                           \
	}
#define OPTION_STATE                                                                         \
	{                                                                                    \
		"state-dir", 0, "DIR", "GPUSHARE_STATE_DIR", NODE_DEFAULT_STATE_DIR,         \
			"where a change is noted before it begins; the node daemon's", "dir" \
	}
#define OPTION_SOCKET                                                                                       \
	{                                                                                                   \
		"socket", 0, "PATH", "GPUSHARE_SOCKET", NODE_DEFAULT_SOCKET,                                \
			"the node daemon's socket; it stops handing out what goes, if there is one", "file" \
	}
#define OPTION_RESET                                                                                      \
	{                                                                                                 \
		"reset", 0, NULL, NULL, NULL,                                                             \
			"reset the GPUs whose MIG mode changes, where the driver says that it is needed " \
			"(older than Hopper)",                                                            \
			NULL                                                                              \
	}
#define OPTION_RESTART                                                                                  \
	{                                                                                               \
		"at-restart", 0, NULL, NULL, NULL,                                                      \
			"where a reset is needed, or something runs on the GPU, leave the mode to the " \
			"next restart of the machine",                                                  \
			NULL                                                                            \
	}
#define OPTION_FILE                                                                                                   \
	{                                                                                                             \
		"file", 'f', "FILE", NULL, NULL, "configurations as mig-parted has them; - is standard input", "file" \
	}
#define OPTION_CONFIG                                                                                  \
	{                                                                                              \
		"config", 'c', "NAME", NULL, NULL,                                                     \
			"which configuration: of FILE, or without it one that the node has by itself", \
			"all-balanced all-enabled all-disabled"                                        \
	}

static const struct gs_option create_options[] = {
	OPTION_GPU,
	{"at", 0, "START", NULL, NULL, "the memory slice where the instance begins (one instance only)", NULL},
	{"in", 0, "INSTANCE", NULL, NULL, "create compute instances in this GPU instance (its id), not new ones", NULL},
	OPTION_DRY,
	OPTION_WAIT,
	OPTION_STATE,
	OPTION_SOCKET,
	OPTION_OUTPUT,
	{NULL}};
static const struct gs_option destroy_options[] = {
	OPTION_GPU,    {"all", 0, NULL, NULL, NULL, "all instances of the GPUs that are meant", NULL},
	OPTION_DRY,    OPTION_WAIT,
	OPTION_STATE,  OPTION_SOCKET,
	OPTION_OUTPUT, {NULL}};
static const struct gs_option mode_options[] = {OPTION_GPU,   OPTION_RESTART, OPTION_RESET,  OPTION_DRY, OPTION_WAIT,
						OPTION_STATE, OPTION_SOCKET,  OPTION_OUTPUT, {NULL}};
static const struct gs_option apply_options[] = {OPTION_FILE, OPTION_CONFIG, OPTION_GPU,    OPTION_RESET,  OPTION_DRY,
						 OPTION_WAIT, OPTION_STATE,  OPTION_SOCKET, OPTION_OUTPUT, {NULL}};
static const struct gs_option plan_options[] = {
	OPTION_FILE,
	OPTION_CONFIG,
	OPTION_GPU,
	{"socket", 0, "PATH", "GPUSHARE_SOCKET", NODE_DEFAULT_SOCKET,
	 "the node daemon's socket; what it has given to containers is in use, if there is one", "file"},
	OPTION_OUTPUT,
	{NULL}};

#define ALL_OR_NOTHING                                                                                                \
	"\n\nAll is done or nothing: when a step fails, what was done before is undone. The change is noted in "      \
	"--state-dir before it begins, so that one that is cut off is undone by the next gpushare mig command or by " \
	"the node daemon. Instances in use are never touched."

const struct gs_command gs_command_mig_create = {
	.name = "mig create",
	.synopsis = "PROFILES",
	.summary = "add MIG instances to a GPU, beside those that it has",
	.description =
		"PROFILES are names (1g.10gb) or ids (19) with commas, each with :START behind it for a place of its "
		"own. Each gets a compute instance that takes all of it; 1c.3g.40gb is a compute instance with one of "
		"the slices of a 3g.40gb, and several share one. Places are chosen so that most stays possible "
		"afterwards." ALL_OR_NOTHING,
	.examples = "gpushare mig create -i 0 1g.10gb,1g.10gb,3g.40gb  # three instances\n"
		    "gpushare mig create -i 0 3g.40gb --at 4  # on memory slices 4 to 7\n"
		    "gpushare mig create -i 0 1c.3g.40gb,2c.3g.40gb  # one GPU instance, two compute instances\n"
		    "gpushare mig create -i 0 --in 2 1c.3g.40gb  # one more in GPU instance 2",
	.options = create_options,
	.run = run_create,
};

const struct gs_command gs_command_mig_destroy = {
	.name = "mig destroy",
	.synopsis = "INSTANCE...",
	.summary = "destroy MIG instances that nobody uses",
	.description =
		"INSTANCE is a GPU instance (9), a compute instance of it (9/0), or a UUID (MIG-...), as gpushare mig "
		"list shows them. A GPU instance goes with its compute instances." ALL_OR_NOTHING,
	.examples = "gpushare mig destroy -i 0 9  # GPU instance 9\n"
		    "gpushare mig destroy -i 0 --all --wait 10m  # all, once they are idle",
	.options = destroy_options,
	.run = run_destroy,
};

const struct gs_command gs_command_mig_enable = {
	.name = "mig enable",
	.synopsis = "",
	.summary = "turn MIG on",
	.description = "Touches only GPUs on which MIG is off. Nothing may run on them, unless --at-restart is given. "
		       "From Hopper on the mode changes at once; "
		       "older GPUs may need a reset, which the driver says, and which --reset does with nvidia-smi for "
		       "those GPUs alone." ALL_OR_NOTHING,
	.examples = "gpushare mig enable -i 0  # one GPU\n"
		    "gpushare mig enable -i all --reset  # all, with a reset where one is needed",
	.options = mode_options,
	.run = run_enable,
};

const struct gs_command gs_command_mig_disable = {
	.name = "mig disable",
	.synopsis = "",
	.summary = "turn MIG off",
	.description =
		"Destroys the instances of the GPU, which must be idle, and turns MIG off; as gpushare mig enable "
		"otherwise." ALL_OR_NOTHING,
	.examples = "gpushare mig disable -i 0  # GPU 0 is a whole GPU again",
	.options = mode_options,
	.run = run_disable,
};

const struct gs_command gs_command_mig_plan = {
	.name = "mig plan",
	.synopsis = "[PROFILES]",
	.summary = "say how GPUs would come to be divided otherwise, or why they can't",
	.description =
		"As gpushare mig apply --dry-run: what would be created and destroyed, in which order and where. When "
		"it is impossible it says which instances stand in the way, and who uses them.",
	.examples = "gpushare mig plan -c all-balanced  # a configuration that the node has by itself\n"
		    "gpushare mig plan -i 0 3g.40gb,2g.20gb,1g.10gb  # just these instances on GPU 0",
	.options = plan_options,
	.run = run_plan,
};

const struct gs_command gs_command_mig_apply = {
	.name = "mig apply",
	.synopsis = "[PROFILES]",
	.summary = "divide GPUs as a configuration says",
	.description =
		"The GPUs get exactly the instances of the configuration: what fits stays as it is, running or not, "
		"and as little as possible is destroyed. FILE is as for NVIDIA's mig-parted. Without one, NAME is a "
		"configuration "
		"made from the hardware: all-disabled, all-enabled, all-balanced, or all-PROFILE; gpushare mig export "
		"--generated prints them. With PROFILES, as in gpushare mig create, the GPUs of -i get just "
		"those." ALL_OR_NOTHING,
	.examples = "gpushare mig apply -c all-balanced  # all GPUs: two 1g, one 2g, one 3g\n"
		    "gpushare mig apply -f mig.yaml -c training --wait 30m  # when its instances are free\n"
		    "gpushare mig apply -i 0 7g.80gb  # one instance on GPU 0",
	.options = apply_options,
	.run = run_apply,
};

const struct gs_command gs_command_mig_assert = {
	.name = "mig assert",
	.synopsis = "[PROFILES]",
	.summary = "check whether GPUs are divided as a configuration says",
	.description =
		"Exit status 0 when gpushare mig apply would have nothing to do; otherwise it prints what there would "
		"be to do, and the status is 1.",
	.examples = "gpushare mig assert -f mig.yaml -c training  # for scripts",
	.options = plan_options,
	.run = run_assert,
};
