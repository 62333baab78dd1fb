/* `gpushare demo`: the main job in half a minute. A node (simulated unless --real), the daemon with a four-way
 * time-slicing config, a stand-in for the kubelet, four workloads on one GPU, and a table of who uses what. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "sim/tools/commands.h"
#include "cli/status_table.h"
#include "gpushare/abi.h"
#include "sim/tools/standin.h"
#include "node/node.h"
#include "rpc/rpc.h"

enum { WORKLOADS = 4, REFRESH_MS = 1000, STEADY_REFRESHES = 2, PATIENCE_REFRESHES = 60, STATUS_TIMEOUT_MS = 5000 };

static const char demo_resource[] = "nvidia.com/gpu";
static const char demo_config[] = "version: v1\n"
				  "sharing:\n"
				  "  timeSlicing:\n"
				  "    renameByDefault: false\n"
				  "    resources:\n"
				  "    - name: nvidia.com/gpu\n"
				  "      replicas: 4\n";

static const struct {
	const char *memory, *real_memory, *busy;
} workloads[WORKLOADS] = {
	{"16Gi", "512Mi", "40%"},
	{"8Gi", "256Mi", "25%"},
	{"12Gi", "256Mi", "15%"},
	{"4Gi", "128Mi", "10%"},
};

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

struct demo {
	uv_loop_t loop;
	bool real, terminal;
	char *self; /* path of this program */
	char directory[PATH_MAX];
	struct kube_standin *standin;
	pid_t daemon, children[WORKLOADS]; /* 0: does not run */
	uv_signal_t child_signal;
	unsigned started; /* workloads asked for so far */
	bool allocating;
	struct rpc_client *client;
	bool asking;
	char *answer;
	unsigned steady, refreshes;
	uv_timer_t refresh;
	uv_signal_t signals[GS_ARRAY_LENGTH(stop_signals)];
	bool stopping;
	int exit_code;
};

static void stop(struct demo *demo, int exit_code);

static void fail(struct demo *demo, const char *what, const char *why)
{
	if (!demo->stopping)
		fprintf(stderr, "gpushare demo: %s: %s\n", what, why);
	stop(demo, GS_EXIT_FAILURE);
}

/* --- children --- */

static bool has_ended(pid_t *child)
{
	if (*child == 0 || waitpid(*child, NULL, WNOHANG) == 0)
		return false;
	*child = 0;
	return true;
}

/* The loop goes on until the last child has ended. */
static void close_without_children(struct demo *demo)
{
	bool any = demo->daemon != 0;
	for (unsigned i = 0; i < WORKLOADS; i++)
		any |= demo->children[i] != 0;
	if (!any && !uv_is_closing((uv_handle_t *)&demo->child_signal))
		uv_close((uv_handle_t *)&demo->child_signal, NULL);
}

static void print_daemon_log(struct demo *demo)
{
	GS_AUTO_FREE char *path = gs_printf("%s/node.log", demo->directory);
	size_t length;
	GS_AUTO_FREE char *log = gs_read_file(path, 1 << 20, &length, NULL);
	if (log)
		fputs(log, stderr);
}

static void on_child_signal(uv_signal_t *handle, int number)
{
	struct demo *demo = handle->loop->data;
	if (has_ended(&demo->daemon) && !demo->stopping) {
		print_daemon_log(demo);
		fail(demo, "the node daemon", "ended early; its log is above");
	}
	for (unsigned i = 0; i < WORKLOADS; i++)
		if (has_ended(&demo->children[i]) && !demo->stopping)
			fail(demo, "a workload", "ended early");
	if (demo->stopping)
		close_without_children(demo);
}

/* Copies the environment with `extra` pairs put first, so that they win. Free the array only. */
static char **make_environment(const struct gs_edit_pair *extra, size_t count)
{
	size_t inherited = 0;
	while (environ[inherited])
		inherited++;
	char **env = gs_calloc(count + inherited + 1, sizeof *env);
	for (size_t i = 0; i < count; i++)
		env[i] = gs_printf("%s=%s", extra[i].key, extra[i].value);
	memcpy(env + count, environ, inherited * sizeof *env);
	return env;
}

/* Runs in a child between fork and exec. */
static _Noreturn void become(const char *self, char **arguments, char **env, int log_fd, pid_t parent,
			     const sigset_t *signals)
{
	/* However the demo ends, its children end with it: when it is killed, no other program knows of them. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(GS_EXIT_FAILURE);
	/* Ctrl-C is for the demo: a workload that got it too would seem to have ended early. What the terminal sent before
	 * this is forgotten once it was ignored; SIGTERM may be the demo's own already. */
	setsid();
	for (size_t i = 0; i < GS_ARRAY_LENGTH(stop_signals); i++) {
		signal(stop_signals[i], stop_signals[i] == SIGTERM ? SIG_DFL : SIG_IGN);
		signal(stop_signals[i], SIG_DFL);
	}
	signal(SIGPIPE, SIG_DFL);
	dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	dup2(log_fd, STDOUT_FILENO);
	dup2(log_fd, STDERR_FILENO);
	sigprocmask(SIG_SETMASK, signals, NULL);
	execve(self, arguments, env);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", self, strerror(errno));
	_exit(GS_EXIT_FAILURE);
}

/* Runs this program with `arguments` and writes what it says to `log`; its pid, or -1 with errno. */
static pid_t spawn(struct demo *demo, char **arguments, const struct gs_edit_pair *extra, size_t count, const char *log)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", demo->directory, log);
	GS_AUTO_CLOSE int log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (log_fd < 0)
		return -1;
	GS_AUTO_FREE char **env = make_environment(extra, count);
	/* In the child no signal may come to the loop's handlers: they write to a pipe that it shares with this process. */
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t parent = getpid(), child = fork();
	if (child == 0)
		become(demo->self, arguments, env, log_fd, parent, &before);
	int failure = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	for (size_t i = 0; i < count; i++)
		free(env[i]);
	errno = failure;
	return child;
}

static void start_daemon(struct demo *demo)
{
	GS_AUTO_FREE char *config = gs_printf("%s/config.yaml", demo->directory);
	GS_AUTO_FREE char *kubelet = gs_printf("%s/kubelet", demo->directory);
	GS_AUTO_FREE char *plugins = gs_printf("%s/device-plugins", kubelet);
	GS_AUTO_FREE char *state = gs_printf("%s/state", demo->directory);
	GS_AUTO_FREE char *socket = gs_printf("%s/gpushare.sock", demo->directory);
	GS_AUTO_FREE char *cdi = gs_printf("%s/cdi", demo->directory);
	char *arguments[] = {(char *)"gpushare",
			     (char *)"node",
			     (char *)"--config",
			     config,
			     (char *)"--kubelet-dir",
			     kubelet,
			     (char *)"--device-plugin-dir",
			     plugins,
			     (char *)"--state-dir",
			     state,
			     (char *)"--socket",
			     socket,
			     (char *)"--cdi-dir",
			     cdi,
			     NULL};
	/* Packed, so that the four workloads meet on one GPU; NVIDIA's default spreads them. */
	struct gs_edit_pair extra[] = {{(char *)"SHARED_DEVICES_ALLOCATION_POLICY", (char *)"packed"}};
	pid_t child = spawn(demo, arguments, extra, 1, "node.log");
	if (child < 0)
		fail(demo, "cannot start the node daemon", strerror(errno));
	else
		demo->daemon = child;
}

/* --- workloads --- */

static void allocate_next(struct demo *demo);

static void on_allocated(void *user, char *const *ids, size_t count, const struct gs_edit_pair *env, size_t env_count,
			 const struct gs_error *err)
{
	struct demo *demo = user;
	demo->allocating = false;
	if (demo->stopping)
		return;
	if (err) {
		fail(demo, "no share for a workload", err->text);
		return;
	}
	unsigned which = demo->started++;
	printf("   workload %u holds %s\n", which + 1, ids[0]);
	char *arguments[] = {(char *)"gpushare",
			     (char *)"sim",
			     (char *)"load",
			     (char *)"--memory",
			     (char *)(demo->real ? workloads[which].real_memory : workloads[which].memory),
			     (char *)"--busy",
			     (char *)workloads[which].busy,
			     NULL};
	GS_AUTO_FREE char *name = gs_printf("workload-%u.log", which + 1);
	pid_t child = spawn(demo, arguments, env, env_count, name);
	if (child < 0) {
		fail(demo, "cannot start a workload", strerror(errno));
		return;
	}
	demo->children[which] = child;
	allocate_next(demo);
}

static void allocate_next(struct demo *demo)
{
	if (demo->started == WORKLOADS || demo->allocating || demo->stopping)
		return;
	demo->allocating = true;
	kube_standin_allocate(demo->standin, demo_resource, 1, on_allocated, demo);
}

static void on_devices(void *user, const char *resource, size_t count, size_t healthy)
{
	struct demo *demo = user;
	if (demo->started || demo->allocating || strcmp(resource, demo_resource) != 0 || healthy < WORKLOADS)
		return;
	printf("3. The daemon registered: %zu %s, %zu healthy. Four workloads ask for one each.\n", count, resource,
	       healthy);
	allocate_next(demo);
}

/* --- the table --- */

/* Every workload is seen on its GPU and has been busy. */
static bool everyone_seen(const json_t *status)
{
	unsigned seen = 0;
	size_t i, j, k;
	const json_t *gpu, *share, *holder;
	json_array_foreach(json_object_get(status, "gpus"), i, gpu)
		json_array_foreach(json_object_get(gpu, "shares"), j, share)
			json_array_foreach(json_object_get(share, "holders"), k, holder) seen +=
		json_integer_value(json_object_get(holder, "memoryBytes")) > 0 &&
		json_number_value(json_object_get(holder, "utilizationPercent")) > 0;
	return seen >= WORKLOADS;
}

static void on_status(void *user, const uint8_t *message, size_t length)
{
	struct demo *demo = user;
	free(demo->answer);
	demo->answer = gs_strndup((const char *)message, length);
}

static void on_status_done(void *user, enum rpc_status code, const char *text)
{
	struct demo *demo = user;
	demo->asking = false;
	json_t *status = demo->answer ? json_loads(demo->answer, 0, NULL) : NULL;
	if (demo->stopping || !status) {
		json_decref(status);
		return;
	}
	GS_AUTO_STRBUF struct gs_strbuf table = {0};
	gs_status_table(status, &table);
	demo->steady += demo->started == WORKLOADS && everyone_seen(status);
	json_decref(status);
	if (demo->terminal && demo->started == WORKLOADS) {
		GS_AUTO_STRBUF struct gs_strbuf screen = {0};
		gs_strbuf_printf(&screen,
				 "Four workloads share one GPU by time-slicing. Ctrl-C ends it and cleans up.\n\n%s",
				 table.data);
		gs_status_redraw(screen.data);
	}
	fflush(stdout);
	if (!demo->terminal && demo->steady >= STEADY_REFRESHES) {
		printf("4. Who uses what, as `gpushare status` shows it:\n\n%s", table.data);
		stop(demo, GS_EXIT_OK);
	}
}

static void on_refresh(uv_timer_t *timer)
{
	struct demo *demo = timer->loop->data;
	if (fflush(stdout) != 0 || ferror(stdout)) {
		stop(demo, GS_EXIT_FAILURE);
		return;
	}
	demo->refreshes++;
	if (demo->refreshes > PATIENCE_REFRESHES && demo->steady == 0) {
		print_daemon_log(demo);
		fail(demo, "gave up waiting for the workloads", "the daemon's log is above");
		return;
	}
	if (demo->asking || demo->started < WORKLOADS)
		return;
	demo->asking = rpc_client_start(demo->client, NODE_STATUS_METHOD, NULL, 0, STATUS_TIMEOUT_MS, on_status,
					on_status_done, demo) != NULL;
}

/* --- start and stop --- */

static void on_signal(uv_signal_t *handle, int number)
{
	struct demo *demo = handle->loop->data;
	if (demo->terminal)
		printf("\n");
	stop(demo, GS_EXIT_OK);
}

static void stop(struct demo *demo, int exit_code)
{
	if (demo->stopping)
		return;
	demo->stopping = true;
	demo->exit_code = exit_code;
	for (unsigned i = 0; i < WORKLOADS; i++)
		if (demo->children[i])
			kill(demo->children[i], SIGTERM);
	if (demo->daemon)
		kill(demo->daemon, SIGTERM);
	close_without_children(demo);
	if (demo->standin)
		kube_standin_stop(demo->standin, NULL, NULL);
	if (demo->client)
		rpc_client_free(demo->client);
	uv_close((uv_handle_t *)&demo->refresh, NULL);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(stop_signals); i++)
		uv_close((uv_handle_t *)&demo->signals[i], NULL);
}

static int start(struct demo *demo, struct gs_error *err)
{
	GS_AUTO_FREE char *config = gs_printf("%s/config.yaml", demo->directory);
	GS_AUTO_FREE char *plugins = gs_printf("%s/kubelet/device-plugins", demo->directory);
	GS_AUTO_FREE char *socket = gs_printf("%s/gpushare.sock", demo->directory);
	const struct kube_standin_events events = {.user = demo, .devices = on_devices};
	if (gs_write_file(config, demo_config, strlen(demo_config), 0600, err) < 0 ||
	    gs_make_directories(plugins, 0700, err) < 0 ||
	    kube_standin_start(&demo->loop, plugins, &events, &demo->standin, err) < 0 ||
	    rpc_client_new(&demo->loop, socket, &demo->client, err) < 0)
		return -1;
	printf("1. %s, and a stand-in for the kubelet.\n",
	       demo->real ? "This machine's GPUs" : "A simulated node with eight A100-80GB");
	printf("2. The node daemon, with this config:\n\n%s\n", demo_config);
	fflush(stdout);
	start_daemon(demo);
	return 0;
}

static int remove_directory(const char *path)
{
	const char *arguments[] = {"rm", "-rf", "--", path, NULL};
	pid_t child = fork();
	if (child == 0) {
		execvp(arguments[0], (char **)arguments);
		_exit(127);
	}
	return child < 0 ? -1 : waitpid(child, NULL, 0) < 0 ? -1 : 0;
}

static int run_inside(struct demo *demo)
{
	const char *temporary = getenv("TMPDIR");
	snprintf(demo->directory, sizeof demo->directory, "%s/gpushare-demo-XXXXXX",
		 temporary && *temporary ? temporary : "/tmp");
	if (!mkdtemp(demo->directory)) {
		fprintf(stderr, "gpushare demo: cannot make a directory %s: %s\n", demo->directory, strerror(errno));
		return GS_EXIT_FAILURE;
	}
	uv_loop_init(&demo->loop);
	demo->loop.data = demo;
	uv_timer_init(&demo->loop, &demo->refresh);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(stop_signals); i++) {
		uv_signal_init(&demo->loop, &demo->signals[i]);
		uv_signal_start(&demo->signals[i], on_signal, stop_signals[i]);
	}
	uv_signal_init(&demo->loop, &demo->child_signal);
	uv_signal_start(&demo->child_signal, on_child_signal, SIGCHLD);
	/* A reader that goes away must not end this process before it has cleaned up; children get the default back. */
	signal(SIGPIPE, SIG_IGN);
	uv_timer_start(&demo->refresh, on_refresh, REFRESH_MS, REFRESH_MS);
	struct gs_error err;
	if (start(demo, &err) < 0)
		fail(demo, "cannot start", err.text);
	uv_run(&demo->loop, UV_RUN_DEFAULT);
	uv_loop_close(&demo->loop);
	free(demo->answer);
	remove_directory(demo->directory);
	return demo->exit_code;
}

static int run(const struct gs_arguments *arguments)
{
	char self[PATH_MAX] = "";
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) {
		fprintf(stderr, "gpushare demo: cannot find this program through /proc/self/exe: %s\n",
			strerror(errno));
		return GS_EXIT_FAILURE;
	}
	if (arguments->operand_count > 0) {
		fprintf(stderr, "gpushare demo: takes no argument \"%s\"; see gpushare demo --help\n",
			arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	bool real = gs_option_value(arguments, "real") != NULL;
	if (!real && !getenv(GPUSHARE_ENV_SIM)) {
		execl(self, "gpushare", "sim", "8xA100-80GB", "--", self, "demo", (char *)NULL);
		fprintf(stderr, "gpushare demo: cannot run %s: %s\n", self, strerror(errno));
		return GS_EXIT_FAILURE;
	}
	struct demo demo = {.real = real, .terminal = isatty(STDOUT_FILENO), .self = self};
	return run_inside(&demo);
}

static const struct gs_option options[] = {
	{"real", 0, NULL, NULL, NULL,
	 "use this machine's GPUs, not a simulated node; each workload holds at most 512Mi", NULL},
	{NULL},
};

const struct gs_command gs_command_demo = {
	.name = "demo",
	.synopsis = "",
	.summary = "watch four workloads share one GPU, on a simulated node if need be",
	.description = "Starts a simulated node with eight A100-80GB, the node daemon with a config that makes four "
		       "time-sliced shares of each "
		       "GPU, a stand-in for the kubelet, and four workloads that hold memory and keep one GPU busy. "
		       "Then prints what "
		       "`gpushare status` shows, again and again on a terminal, once when steady otherwise. Ctrl-C "
		       "ends it; nothing is left behind.",
	.examples = "gpushare demo  # on a simulated node\n"
		    "gpushare demo --real  # on this machine's GPUs",
	.options = options,
	.run = run,
};
