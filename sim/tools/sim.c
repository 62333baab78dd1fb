/* gpushare sim: runs a command on a simulated node, and lists the models it knows. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/suggest.h"
#include "cli/command.h"
#include "cli/json.h"
#include "sim/tools/commands.h"
#include "sim/tools/hold.h"
#include "gpushare/abi.h"
#include "sim/models.h"
#include "sim/spec.h"
#include "sim/state.h"

/* As a shell says it. */
enum { EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127, EXIT_BY_SIGNAL = 128 };

static int complain(const struct gs_error *err)
{
	fprintf(stderr, "gpushare sim: %s\n", err->text);
	return err->source == GS_ERROR_INPUT ? GS_EXIT_USAGE : GS_EXIT_FAILURE;
}

/* The directory of the running program, owned by the caller. */
static char *program_directory(struct gs_error *err)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
	if (length < 0) {
		gs_fail_errno(err, "cannot find this program's own file");
		return NULL;
	}
	path[length] = '\0';
	char *slash = strrchr(path, '/');
	*(slash > path ? slash : path + 1) = '\0';
	return gs_strdup(path);
}

static bool has_file(const char *directory, const char *name)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", directory, name);
	return access(path, R_OK) == 0;
}

/* Where the simulated libraries are, as a search path: beside the program in a build tree, or where it was installed.
 * NULL if they are in neither. */
static char *library_path(const char *program, struct gs_error *err)
{
	static const char *const places[] = {"sim/nvml", "sim/cuda", "sim", "../" GPUSHARE_LIBDIR "/gpushare/sim"};
	struct gs_strbuf found = {0};
	bool nvml = false, cuda = false;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(places); i++) {
		GS_AUTO_FREE char *place = gs_printf("%s/%s", program, places[i]);
		bool has_nvml = !nvml && has_file(place, "libnvidia-ml.so.1");
		bool has_cuda = !cuda && has_file(place, "libcuda.so.1");
		if (has_nvml || has_cuda)
			gs_strbuf_printf(&found, "%s%s", found.length ? ":" : "", place);
		nvml |= has_nvml;
		cuda |= has_cuda;
	}
	if (nvml && cuda)
		return gs_strbuf_take(&found);
	gs_strbuf_free(&found);
	gs_fail(err, GS_ERROR_SYSTEM, ENOENT,
		"the simulated %s is not in %s/sim nor in %s/../" GPUSHARE_LIBDIR "/gpushare/sim; "
		"build or install gpushare whole",
		nvml ? "libcuda.so.1" : "libnvidia-ml.so.1", program, program);
	return NULL;
}

/* NAME=value:$NAME */
static void prepend(const char *name, const char *value)
{
	const char *rest = getenv(name);
	GS_AUTO_FREE char *joined = rest && rest[0] ? gs_printf("%s:%s", value, rest) : gs_strdup(value);
	setenv(name, joined, 1);
}

/* Programs of the node's own come before those of the machine. */
static void prepend_programs(const char *program)
{
	static const char *const places[] = {"sim/mps", "../" GPUSHARE_LIBDIR "/gpushare/sim"};
	prepend("PATH", program);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(places); i++) {
		GS_AUTO_FREE char *place = gs_printf("%s/%s", program, places[i]);
		if (!has_file(place, "nvidia-cuda-mps-control"))
			continue;
		prepend("PATH", place);
		return;
	}
}

static int set_environment(const char *dir, struct gs_error *err)
{
	GS_AUTO_FREE char *program = program_directory(err);
	GS_AUTO_FREE char *libraries = program ? library_path(program, err) : NULL;
	if (!libraries)
		return -1;
	prepend("LD_LIBRARY_PATH", libraries);
	prepend_programs(program);
	setenv(GPUSHARE_ENV_SIM, dir, 1);
	/* What gpushare keeps about a node's GPUs belongs to that node, not to the machine that simulates it. */
	GS_AUTO_FREE char *state = gs_printf("%s/gpushare", dir);
	setenv("GPUSHARE_STATE_DIR", state, 0);
	return 0;
}

/* Replaces the process; returns only on failure, with the exit status. */
static int execute(char **command)
{
	execvp(command[0], command);
	int status = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	fprintf(stderr, "gpushare sim: cannot run %s: %s\n", command[0], strerror(errno));
	return status;
}

/* Without a command: a shell, and one line that says where one is. */
static char **command_or_shell(char **command, const char *dir, char *shell[2])
{
	if (command[0])
		return command;
	const char *wanted = getenv("SHELL");
	shell[0] = gs_strdup(wanted && wanted[0] ? wanted : "/bin/sh");
	shell[1] = NULL;
	fprintf(stderr, "gpushare sim: %s on the simulated node in %s; 'exit' leaves it\n", shell[0], dir);
	return shell;
}

/* The command's status as a shell would give it. */
static int exit_status(int status)
{
	return WIFSIGNALED(status) ? EXIT_BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Waits for the command. A signal that another process sent to this process alone is passed on to it; one from the
 * terminal reached the command already, since both are in its foreground group. */
static int supervise(pid_t child, const sigset_t *signals)
{
	for (;;) {
		siginfo_t info;
		int number = sigwaitinfo(signals, &info);
		if (number > 0 && number != SIGCHLD && info.si_code <= 0)
			kill(child, number);
		int status;
		if (waitpid(child, &status, WNOHANG) == child)
			return exit_status(status);
	}
}

static int run_command(char **command)
{
	static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
	sigset_t signals, before;
	struct sigaction child_before, by_default = {.sa_handler = SIG_DFL};
	sigemptyset(&signals);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(forwarded); i++)
		sigaddset(&signals, forwarded[i]);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &before);
	sigaction(SIGCHLD, &by_default, &child_before); /* an ignored one would lose the command's status */
	pid_t parent = getpid(), child = fork();
	if (child < 0) {
		fprintf(stderr, "gpushare sim: cannot start %s: %s\n", command[0], strerror(errno));
		return GS_EXIT_FAILURE;
	}
	if (child == 0) {
		/* The node goes with this process; its command must not outlive it unnoticed. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(GS_EXIT_FAILURE);
		sigaction(SIGCHLD, &child_before, NULL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		_exit(execute(command));
	}
	return supervise(child, &signals);
}

static int run_on_node(const char *dir, char **command)
{
	struct gs_error err;
	char *shell[2] = {NULL, NULL};
	if (set_environment(dir, &err) < 0)
		return complain(&err);
	int status = run_command(command_or_shell(command, dir, shell));
	free(shell[0]);
	return status;
}

/* A node that runs already: nothing to hold, so the command takes this process's place. */
static int join(const char *directory, char **command)
{
	struct gs_error err;
	struct sim_node *node;
	char *shell[2] = {NULL, NULL};
	if (sim_node_open(directory, &node, &err) < 0)
		return complain(&err);
	GS_AUTO_FREE char *dir = gs_strdup(sim_node_dir(node));
	sim_node_close(node);
	if (!sim_node_is_live(dir)) {
		fprintf(stderr,
			"gpushare sim: the node in %s is not running any more; start it with 'gpushare sim SPEC "
			"--state %s'\n",
			dir, dir);
		return GS_EXIT_FAILURE;
	}
	if (set_environment(dir, &err) < 0)
		return complain(&err);
	int status = execute(command_or_shell(command, dir, shell));
	free(shell[0]);
	return status;
}

/* A private directory that no other process has; the path is the caller's. */
static char *temporary_directory(struct gs_error *err)
{
	const char *base = getenv("TMPDIR");
	char *dir = gs_printf("%s/gpushare-sim-XXXXXX", base && base[0] ? base : "/tmp");
	if (mkdtemp(dir))
		return dir;
	gs_fail_errno(err, "cannot create a directory as %s; TMPDIR or --state names another place", dir);
	free(dir);
	return NULL;
}

static int hold(const struct sim_node *node)
{
	struct gs_error err;
	const char *dir = sim_node_dir(node);
	if (set_environment(dir, &err) < 0 || sim_hold(dir, sim_node_driver_version(node), &err) < 0)
		return complain(&err);
	return GS_EXIT_OK;
}

static int create_and_run(const char *directory, const struct sim_spec *spec, bool holding, char **command)
{
	struct gs_error err;
	struct sim_node *node;
	GS_AUTO_FREE char *temporary = NULL;
	if (!directory) {
		directory = temporary = temporary_directory(&err);
		if (!temporary)
			return complain(&err);
	}
	int status;
	if (sim_node_create(directory, spec, &node, &err) < 0) {
		status = complain(&err);
		if (temporary)
			sim_node_remove(temporary, NULL);
		return status;
	}
	status = holding ? hold(node) : run_on_node(sim_node_dir(node), command);
	if ((temporary || holding) && sim_node_remove(sim_node_dir(node), &err) < 0)
		fprintf(stderr, "gpushare sim: %s\n", err.text);
	sim_node_close(node);
	return status;
}

static const struct gs_option sim_options[] = {
	{.name = "state",
	 .argument = "DIR",
	 .help = "Keep the node's state in DIR, which is left behind (default: a private "
		 "directory that is removed at the end)",
	 .complete = "dir"},
	{.name = "join",
	 .argument = "DIR",
	 .help = "Run the command on the node that another 'gpushare sim --state DIR' runs",
	 .complete = "dir"},
	{.name = "hold",
	 .help = "Run no COMMAND: keep the node, for processes of every user that join it, until a signal ends it; "
		 "then it is removed"},
	{.name = "seed",
	 .argument = "N",
	 .help = "Number that UUIDs and serials follow from (default: from DIR's name)"},
	{.name = "driver",
	 .argument = "VERSION",
	 .help = "Version that the driver reports (default: the file's, or " SIM_DRIVER_VERSION_DEFAULT ")"},
	{.name = "mig",
	 .argument = "LAYOUT",
	 .help = "Start the GPUs that have MIG with these instances, as 3g.40gb,1g.10gb,1g.10gb@6; none: in MIG mode, "
		 "without any"},
	{0},
};

/* Reads options before or after the SPEC; a later one wins. */
static void merge(struct gs_arguments *into, const struct gs_arguments *from)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(from->values); i++)
		if (from->values[i])
			into->values[i] = from->values[i];
	into->operands = from->operands;
	into->operand_count = from->operand_count;
}

static int usage(const char *what)
{
	fprintf(stderr, "gpushare sim: %s\nTry 'gpushare sim --help'.\n", what);
	return GS_EXIT_USAGE;
}

/* A SPEC that is none may be a sub-command with a typing mistake. */
static int bad_spec(const char *typed, const struct gs_error *err)
{
	static const char *const commands[] = {"inject", "load", "models"};
	int status = complain(err);
	const char *near = gs_suggest(typed, commands, GS_ARRAY_LENGTH(commands));
	if (near)
		fprintf(stderr, "Or did you mean 'gpushare sim %s'?\n", near);
	return status;
}

static int run_sim(const struct gs_arguments *given)
{
	struct gs_arguments arguments = *given, rest;
	int code;
	const char *spec_text = NULL;
	if (!gs_option_value(&arguments, "join")) {
		if (!arguments.operand_count)
			return usage("a SPEC is missing; write for example 'gpushare sim 8xA100-80GB -- COMMAND'");
		/* What follows the SPEC is options of ours again, up to the command. */
		spec_text = arguments.operands[0];
		if (!gs_parse_arguments(&gs_command_sim, arguments.operand_count, arguments.operands, &rest, &code))
			return code;
		merge(&arguments, &rest);
	}
	const char *state = gs_option_value(&arguments, "state");
	const char *join_dir = gs_option_value(&arguments, "join");
	const char *seed = gs_option_value(&arguments, "seed");
	const char *driver = gs_option_value(&arguments, "driver");
	if (join_dir && spec_text)
		return usage("--join takes no SPEC: the node is there already");
	const char *mig = gs_option_value(&arguments, "mig");
	bool holding = gs_option_value(&arguments, "hold") != NULL;
	if (join_dir && (state || seed || driver || mig || holding))
		return usage("--join takes no --state, --seed, --driver, --mig or --hold: the node is there already");
	if (holding && (!state || arguments.operand_count))
		return usage("--hold needs --state DIR, for others to join, and takes no COMMAND");
	if (join_dir)
		return join(join_dir, arguments.operands);
	struct gs_error err;
	struct sim_spec spec = {0};
	if (sim_spec_load(spec_text, &spec, &err) < 0)
		return bad_spec(spec_text, &err);
	if ((seed && sim_spec_set_seed(seed, &spec, &err) < 0) ||
	    (driver && sim_spec_set_driver_version(driver, &spec, &err) < 0) ||
	    (mig && sim_spec_set_mig(mig, &spec, &err) < 0))
		return complain(&err);
	return create_and_run(state, &spec, holding, arguments.operands);
}

const struct gs_command gs_command_sim = {
	.name = "sim",
	.synopsis = "SPEC [--state DIR] [--] [COMMAND...]",
	.summary = "run a command on a simulated GPU node",
	.description =
		"Runs COMMAND, or a shell, on a node whose GPUs are simulated, and exits with its status (128 + N when "
		"signal N killed it). COMMAND and all it starts find a libnvidia-ml.so.1 and a libcuda.so.1 that "
		"simulate the GPUs, so nvidia-smi, gpushare itself and programs of the CUDA driver API run "
		"unmodified.\n\n"
		"SPEC is [N x]MODEL[,...] as in 8xA100-80GB or 2xH100-80GB,1xT4, or the path of a YAML file. 'gpushare "
		"sim models' lists the models. COMMAND sees GPUSHARE_SIM=DIR; processes with the same DIR see the same "
		"GPUs.",
	.examples =
		"gpushare sim 8xA100-80GB -- nvidia-smi  # what nvidia-smi shows on an eight-GPU server\n"
		"gpushare sim 2xH100-80GB,1xT4 --state /tmp/node  # a shell on a node that others can join\n"
		"gpushare sim --join /tmp/node -- gpushare sim load --memory 4Gi  # work on that node, from elsewhere",
	.options = sim_options,
	.run = run_sim,
	.rest_is_command = true,
};

static const struct gs_option models_options[] = {
	{.name = "output",
	 .letter = 'o',
	 .argument = "FORMAT",
	 .help = "table or json",
	 .fallback = "table",
	 .complete = "table json"},
	{0},
};

static int print_models_json(void)
{
	json_t *list = json_array();
	for (size_t i = 0; i < sim_model_count; i++) {
		const struct sim_model *model = &sim_models[i];
		char capability[16];
		snprintf(capability, sizeof capability, "%u.%u", model->compute_major, model->compute_minor);
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:I, s:i, s:s, s:b}", "model", model->spec_name, "name",
						model->name, "memoryBytes", (json_int_t)model->memory_total,
						"multiprocessors", (int)model->multiprocessors, "computeCapability",
						capability, "migCapable", (int)model->mig_capable));
	}
	return gs_json_print(list);
}

static int run_models(const struct gs_arguments *arguments)
{
	const char *format = gs_option_value(arguments, "output");
	if (arguments->operand_count)
		return usage("models takes no operands");
	if (format && strcmp(format, "json") == 0)
		return print_models_json();
	if (format && strcmp(format, "table") != 0)
		return usage("the output format is table or json");
	printf("%-14s %-46s %10s %5s %8s %5s\n", "MODEL", "NAME", "MEMORY", "SMS", "COMPUTE", "MIG");
	for (size_t i = 0; i < sim_model_count; i++) {
		const struct sim_model *model = &sim_models[i];
		printf("%-14s %-46s %6" PRIu64 " MiB %5u %6u.%u %5s\n", model->spec_name, model->name,
		       model->memory_total >> 20, model->multiprocessors, model->compute_major, model->compute_minor,
		       model->mig_capable ? "yes" : "no");
	}
	return GS_EXIT_OK;
}

const struct gs_command gs_command_sim_models = {
	.name = "sim models",
	.synopsis = "",
	.summary = "list the GPU models that a simulated node can have",
	.description =
		"MODEL is what a SPEC says, NAME what NVML and nvidia-smi show. MEMORY is the total that NVML reports.",
	.examples = "gpushare sim models -o json | jq -r '.[].model'  # the names only",
	.options = models_options,
	.run = run_models,
};
