/* What sharing by MPS takes, beside its targets: until all shares are there, after a control daemon's death, and during a
 * client's fault. Seen through the daemon's own status, asked again and again.
 * Run by `make bench` as: gpushare sim 8xA100-80GB -- bench_mps PATH-TO-GPUSHARE */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "figure.h"
#include "gpushare/cuda.h"
#include "client/client.h"
#include "sim/state.h"

enum { GPUS = 8, REPLICAS = 10, ROUNDS = 5, WAIT_SECONDS = 20, LOOK_US = 1000, FAULT_SECONDS = 1 };

struct bench {
	const char *program;
	char directory[PATH_MAX];
	char *socket, *root;
	pid_t daemon;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_mps: %s: %s\n", what, why);
	exit(1);
}

static pid_t spawn(char *const *arguments, const char *log)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	execv(arguments[0], arguments);
	_exit(127);
}

static void start(struct bench *bench, const char *sharing)
{
	GS_AUTO_FREE char *config = gs_printf("%s/config.yaml", bench->directory);
	GS_AUTO_FREE char *kubelet = gs_printf("--kubelet-dir=%s/kubelet", bench->directory);
	GS_AUTO_FREE char *plugins = gs_printf("--device-plugin-dir=%s/kubelet/device-plugins", bench->directory);
	GS_AUTO_FREE char *state = gs_printf("--state-dir=%s/state", bench->directory);
	GS_AUTO_FREE char *socket = gs_printf("--socket=%s", bench->socket);
	GS_AUTO_FREE char *cdi = gs_printf("--cdi-dir=%s/cdi", bench->directory);
	GS_AUTO_FREE char *log = gs_printf("%s/node.log", bench->directory);
	GS_AUTO_FREE char *text = gs_printf("version: v1\nflags: {mpsRoot: %s}\n%s", bench->root, sharing);
	char *arguments[] = {(char *)(uintptr_t)bench->program,
			     (char *)"node",
			     (char *)"--config",
			     config,
			     kubelet,
			     plugins,
			     state,
			     socket,
			     cdi,
			     (char *)"--kubelet-socket=",
			     NULL};
	struct gs_error err;
	if (gs_write_file(config, text, strlen(text), 0600, &err) < 0)
		die("config", err.text);
	bench->daemon = spawn(arguments, log);
}

static void stop(struct bench *bench)
{
	kill(bench->daemon, SIGTERM);
	waitpid(bench->daemon, NULL, 0);
}

/* NULL while the daemon does not answer yet. */
static json_t *ask(const struct bench *bench)
{
	GS_AUTO_FREE char *text = node_client_status(bench->socket, WAIT_SECONDS * 1000, NULL);
	return text ? json_loads(text, 0, NULL) : NULL;
}

static json_int_t healthy_shares(const json_t *status)
{
	size_t i;
	json_t *resource;
	json_int_t sum = 0;
	json_array_foreach(json_object_get(status, "resources"), i, resource) sum +=
		json_integer_value(json_object_get(resource, "healthy"));
	return sum;
}

static pid_t first_daemon(const json_t *status)
{
	return (pid_t)json_integer_value(json_object_get(json_array_get(json_object_get(status, "mps"), 0), "pid"));
}

/* Waits until `shares` are healthy, and the first control daemon is another one than `not`; its pid. */
static pid_t wait_healthy(const struct bench *bench, json_int_t shares, pid_t not )
{
	for (double begin = now(); now() - begin < WAIT_SECONDS; usleep(LOOK_US)) {
		json_t *status = ask(bench);
		pid_t pid = first_daemon(status);
		bool done = status && healthy_shares(status) == shares && (!not || (pid && pid != not ));
		json_decref(status);
		if (done)
			return pid;
	}
	die("the shares", "were not healthy in time");
	return 0;
}

static void end_daemons(const struct bench *bench)
{
	GS_AUTO_FREE char *command =
		gs_printf("'%s' mps stop --grace 0s --mps-root '%s' --state-dir '%s/state' >'%s/stop.log' 2>&1",
			  bench->program, bench->root, bench->directory, bench->directory);
	if (system(command) != 0)
		die("gpushare mps stop", "failed");
}

/* The shares of other GPUs that were ever seen unhealthy while a client of the first GPU fails. */
static size_t strangers_hit(const struct bench *bench, const char *gpu)
{
	GS_AUTO_FREE char *pipe = gs_printf("%s/%s/pipe", bench->root, gpu);
	GS_AUTO_FREE char *log = gs_printf("%s/load.log", bench->directory);
	GS_AUTO_FREE char *visible = gs_strdup(gpu);
	char *arguments[] = {
		(char *)(uintptr_t)bench->program, (char *)"sim", (char *)"load", (char *)"--gpu", visible, NULL};
	struct sim_node *node;
	struct gs_error err;
	size_t hit = 0;
	if (sim_node_open(NULL, &node, &err) < 0)
		die("the simulated node", err.text);
	setenv("CUDA_MPS_PIPE_DIRECTORY", pipe, 1);
	pid_t load = spawn(arguments, log);
	for (double begin = now(); !sim_client_fault(node, load, CUDA_ERROR_ILLEGAL_ADDRESS); usleep(LOOK_US))
		if (now() - begin > WAIT_SECONDS)
			die("a client", "did not come");
	for (double begin = now(); now() - begin < FAULT_SECONDS; usleep(LOOK_US)) {
		json_t *status = ask(bench), *board, *share;
		size_t i, j, sick = 0;
		json_array_foreach(json_object_get(status, "gpus"), i, board)
		{
			json_array_foreach(json_object_get(board, "shares"), j, share) sick +=
				strcmp(json_string_value(json_object_get(board, "uuid")), gpu) != 0 &&
				strcmp(json_string_value(json_object_get(share, "state")), "Healthy") != 0;
		}
		hit = sick > hit ? sick : hit;
		json_decref(status);
	}
	waitpid(load, NULL, 0);
	sim_node_close(node);
	return hit;
}

#define MPS_SHARING "sharing:\n  mps:\n    resources:\n    - {name: nvidia.com/gpu, replicas: 10, memoryLimit: 7Gi}\n"

int main(int argc, char **argv)
{
	struct bench bench = {.program = argc > 1 ? argv[1] : "gpushare"};
	double up[ROUNDS], again[ROUNDS];
	snprintf(bench.directory, sizeof bench.directory, "/tmp/gpushare-bench-XXXXXX"); /* short: sockets' paths are */
	if (!mkdtemp(bench.directory) || chmod(bench.directory, 0755) < 0)               /* MPS works for all users */
		die(bench.directory, strerror(errno));
	bench.socket = gs_printf("%s/socket", bench.directory);
	bench.root = gs_printf("%s/mps", bench.directory);

	start(&bench, "");
	wait_healthy(&bench, GPUS, 0);
	double without_mib = rss_mib(bench.daemon);
	stop(&bench);
	for (size_t i = 0; i < ROUNDS; i++) {
		double begin = now();
		start(&bench, MPS_SHARING);
		pid_t pid = wait_healthy(&bench, GPUS * REPLICAS, 0);
		up[i] = (now() - begin) * 1e3;
		begin = now();
		kill(pid, SIGKILL);
		wait_healthy(&bench, GPUS * REPLICAS, pid);
		again[i] = now() - begin;
		if (i + 1 == ROUNDS)
			break;
		stop(&bench);
		end_daemons(&bench);
	}
	double grown_mib = rss_mib(bench.daemon) - without_mib;
	json_t *status = ask(&bench);
	GS_AUTO_FREE char *gpu =
		gs_strdup(json_string_value(json_object_get(json_array_get(json_object_get(status, "mps"), 0), "gpu")));
	json_decref(status);
	size_t hit = strangers_hit(&bench, gpu);
	stop(&bench);
	end_daemons(&bench);

	row("MPS: start to all shares healthy, 8 GPUs x 10", median(up, ROUNDS), "ms", 500, "8 control daemons");
	row("MPS: control daemon killed to healthy again", median(again, ROUNDS), "s", 2, "");
	row("MPS: a fault on one GPU, shares of others hit", (double)hit, "", 0, "");
	row("MPS: the daemon's RSS with 8 control daemons", grown_mib, "MiB", 1, "more than without MPS");
	GS_AUTO_FREE char *cleanup = gs_printf("rm -rf '%s'", bench.directory);
	return system(cleanup) == 0 ? 0 : 1;
}
