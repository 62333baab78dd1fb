/* The figures the daemon is held to, measured on a simulated node: start, memory, call times, CPU, reactions.
 * Run by `make bench` as: gpushare sim 8xA100-80GB -- bench PATH-TO-GPUSHARE
 *
 * Each figure stands beside its target. Call times are medians, given beyond the floor: an empty call over the same
 * socket in the same round, so that a slow machine does not look like a slow daemon. Of several rounds the least
 * disturbed one counts. Targets are not asserted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/vec.h"
#include "kube/proto/deviceplugin.pb-c.h"
#include "rpc/rpc.h"
#include "sim/state.h"
#include "figure.h"

enum {
	GPUS = 8,
	CALLS = 200,
	ROUNDS = 15,
	CPU_ROUNDS = 60, /* CPU time suffers more from what else the machine does than a median does */
	STARTS = 7,
	REACTIONS = 7,
	WAIT_MS = 20000,
	IDLE_SECONDS_DEFAULT = 20,
	ECHO_BYTES = 200,
};

struct bench {
	uv_loop_t loop;
	const char *program;
	char directory[PATH_MAX];
	char *plugins;
	struct rpc_server *kubelet;
	struct rpc_client *plugin;
	pid_t daemon;
	uv_timer_t deadline;
	bool late;

	double registered_at; /* seconds, CLOCK_MONOTONIC; 0: not yet */
	double list_at;
	size_t healthy;
	GS_VEC(char *) ids;
	bool watching;

	bool call_done;
	enum rpc_status call_status;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench: %s: %s\n", what, why);
	exit(1);
}

/* --- waiting --- */

static void on_deadline(uv_timer_t *timer)
{
	struct bench *bench = timer->data;
	bench->late = true;
}

static bool is_registered(struct bench *bench)
{
	return bench->registered_at > 0;
}
static bool has_list(struct bench *bench)
{
	return bench->list_at > 0;
}
static bool is_sick(struct bench *bench)
{
	return bench->healthy < bench->ids.count;
}
static bool is_called(struct bench *bench)
{
	return bench->call_done;
}

static void wait_for(struct bench *bench, bool (*ready)(struct bench *bench), const char *what)
{
	bench->late = false;
	uv_timer_start(&bench->deadline, on_deadline, WAIT_MS, 0);
	while (!ready(bench) && !bench->late)
		uv_run(&bench->loop, UV_RUN_ONCE);
	uv_timer_stop(&bench->deadline);
	if (!ready(bench))
		die(what, "did not happen in time");
}

/* --- the kubelet's side --- */

static void on_register(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	struct bench *bench = user;
	bench->registered_at = now();
	rpc_call_send(call, NULL, 0);
	rpc_call_finish(call, RPC_OK, NULL);
}

static const struct rpc_method kubelet_methods[] = {
	{"/v1beta1.Registration/Register", on_register, NULL},
	{NULL, NULL, NULL},
};

static void start_kubelet(struct bench *bench)
{
	GS_AUTO_FREE char *path = gs_printf("%s/kubelet.sock", bench->plugins);
	struct gs_error err;
	if (rpc_server_start(&bench->loop, path, kubelet_methods, bench, NULL, &bench->kubelet, &err) < 0)
		die("kubelet.sock", err.text);
}

static void clear_ids(struct bench *bench)
{
	for (size_t i = 0; i < bench->ids.count; i++)
		free(bench->ids.items[i]);
	bench->ids.count = 0;
}

static void on_list(void *user, const uint8_t *message, size_t length)
{
	struct bench *bench = user;
	double at = now();
	V1beta1__ListAndWatchResponse *list = v1beta1__list_and_watch_response__unpack(NULL, length, message);
	if (!list)
		die("ListAndWatch", "not a ListAndWatchResponse");
	clear_ids(bench);
	bench->healthy = 0;
	for (size_t i = 0; i < list->n_devices; i++) {
		*GS_VEC_PUSH(&bench->ids) = gs_strdup(list->devices[i]->id);
		bench->healthy += strcmp(list->devices[i]->health, "Healthy") == 0;
	}
	bench->list_at = at;
	v1beta1__list_and_watch_response__free_unpacked(list, NULL);
}

static void on_list_done(void *user, enum rpc_status status, const char *text)
{
	struct bench *bench = user;
	bench->watching = false;
}

static void on_call_done(void *user, enum rpc_status status, const char *text)
{
	struct bench *bench = user;
	bench->call_done = true;
	bench->call_status = status;
	if (status != RPC_OK)
		die("a call failed", text);
}

static void ignore_message(void *user, const uint8_t *message, size_t length)
{
}

/* Seconds one call takes. */
static double call(struct bench *bench, const char *method, const uint8_t *request, size_t length)
{
	bench->call_done = false;
	double before = now();
	rpc_client_start(bench->plugin, method, request, length, WAIT_MS, ignore_message, on_call_done, bench);
	while (!is_called(bench))
		uv_run(&bench->loop, UV_RUN_ONCE);
	return now() - before;
}

static double median_call_us(struct bench *bench, const char *method, const uint8_t *request, size_t length,
			     size_t calls)
{
	GS_AUTO_FREE double *times = gs_calloc(calls, sizeof *times);
	for (size_t i = 0; i < calls; i++)
		times[i] = call(bench, method, request, length);
	return median(times, calls) * 1e6;
}

/* --- the daemon --- */

static double start_daemon(struct bench *bench, unsigned replicas)
{
	GS_AUTO_FREE char *config = gs_printf("%s/config.yaml", bench->directory);
	GS_AUTO_FREE char *kubelet = gs_printf("%s/kubelet", bench->directory);
	GS_AUTO_FREE char *state = gs_printf("%s/state", bench->directory);
	GS_AUTO_FREE char *socket = gs_printf("%s/gpushare.sock", bench->directory);
	GS_AUTO_FREE char *cdi = gs_printf("%s/cdi", bench->directory);
	GS_AUTO_FREE char *log = gs_printf("%s/node.log", bench->directory);
	GS_AUTO_FREE char *text =
		gs_printf("version: v1\nsharing:\n  timeSlicing:\n    resources:\n    - name: nvidia.com/gpu\n"
			  "      replicas: %u\n",
			  replicas);
	struct gs_error err;
	if (gs_write_file(config, text, strlen(text), 0600, &err) < 0)
		die("config", err.text);
	bench->registered_at = 0;
	double before = now();
	bench->daemon = fork();
	if (bench->daemon == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, STDERR_FILENO);
		execl(bench->program, "gpushare", "node", "--config", config, "--kubelet-dir", kubelet,
		      "--device-plugin-dir", bench->plugins, "--state-dir", state, "--socket", socket, "--cdi-dir", cdi,
		      (char *)NULL);
		_exit(127);
	}
	return before;
}

static void stop_daemon(struct bench *bench)
{
	if (bench->plugin)
		rpc_client_free(bench->plugin);
	bench->plugin = NULL;
	kill(bench->daemon, SIGTERM);
	waitpid(bench->daemon, NULL, 0);
	uv_run(&bench->loop, UV_RUN_NOWAIT);
}

/* Starts the daemon, waits for Register and, when `watch`, for the first list. Seconds to registered. */
static double start_registered(struct bench *bench, unsigned replicas, bool watch)
{
	double before = start_daemon(bench, replicas);
	wait_for(bench, is_registered, "registration");
	double took = bench->registered_at - before;
	if (watch) {
		GS_AUTO_FREE char *path = gs_printf("%s/nvidia-gpu.sock", bench->plugins);
		struct gs_error err;
		if (rpc_client_new(&bench->loop, path, &bench->plugin, &err) < 0)
			die("the plugin's socket", err.text);
		bench->list_at = 0;
		rpc_client_start(bench->plugin, "/v1beta1.DevicePlugin/ListAndWatch", NULL, 0, 0, on_list, on_list_done,
				 bench);
		wait_for(bench, has_list, "the first list");
	}
	return took;
}

/* CPU seconds of all threads, at the scheduler's own resolution. */
static double cpu_seconds(pid_t pid)
{
	GS_AUTO_FREE char *directory = gs_printf("/proc/%d/task", (int)pid);
	DIR *tasks = opendir(directory);
	double total = 0;
	struct dirent *entry;
	while (tasks && (entry = readdir(tasks))) {
		if (entry->d_name[0] == '.')
			continue;
		GS_AUTO_FREE char *path = gs_printf("%s/%s/schedstat", directory, entry->d_name);
		size_t length;
		GS_AUTO_FREE char *text = gs_read_file(path, 4096, &length, NULL);
		if (text)
			total += strtod(text, NULL) / 1e9;
	}
	if (tasks)
		closedir(tasks);
	return total;
}

/* --- requests --- */

static uint8_t *preferred_request(struct bench *bench, unsigned size, size_t *length)
{
	V1beta1__ContainerPreferredAllocationRequest container = V1BETA1__CONTAINER_PREFERRED_ALLOCATION_REQUEST__INIT;
	container.available_deviceids = bench->ids.items;
	container.n_available_deviceids = bench->ids.count;
	container.allocation_size = (int32_t)size;
	V1beta1__ContainerPreferredAllocationRequest *containers[] = {&container};
	V1beta1__PreferredAllocationRequest request = V1BETA1__PREFERRED_ALLOCATION_REQUEST__INIT;
	request.container_requests = containers;
	request.n_container_requests = 1;
	*length = v1beta1__preferred_allocation_request__get_packed_size(&request);
	uint8_t *bytes = gs_malloc(*length);
	v1beta1__preferred_allocation_request__pack(&request, bytes);
	return bytes;
}

static uint8_t *allocate_request(struct bench *bench, size_t which, size_t *length)
{
	V1beta1__ContainerAllocateRequest container = V1BETA1__CONTAINER_ALLOCATE_REQUEST__INIT;
	container.devices_ids = &bench->ids.items[which % bench->ids.count];
	container.n_devices_ids = 1;
	V1beta1__ContainerAllocateRequest *containers[] = {&container};
	V1beta1__AllocateRequest request = V1BETA1__ALLOCATE_REQUEST__INIT;
	request.container_requests = containers;
	request.n_container_requests = 1;
	*length = v1beta1__allocate_request__get_packed_size(&request);
	uint8_t *bytes = gs_malloc(*length);
	v1beta1__allocate_request__pack(&request, bytes);
	return bytes;
}

/* --- the figures --- */

static void bench_start(struct bench *bench)
{
	double times[STARTS];
	for (size_t i = 0; i < STARTS; i++) {
		times[i] = start_registered(bench, 4, false) * 1e3;
		stop_daemon(bench);
	}
	row("start to registered, 8 GPUs x 4", median(times, STARTS), "ms", 10, "NVIDIA's plugin: 10-21");
}

/* CPU seconds that the daemon spends on one round of calls, per call, in microseconds. */
static double cpu_per_call_us(struct bench *bench, bool allocate)
{
	double before = cpu_seconds(bench->daemon);
	for (size_t i = 0; i < CALLS; i++) {
		size_t length = 0;
		GS_AUTO_FREE uint8_t *request = allocate ? allocate_request(bench, i, &length) : NULL;
		call(bench,
		     allocate ? "/v1beta1.DevicePlugin/Allocate" : "/v1beta1.DevicePlugin/GetDevicePluginOptions",
		     request, length);
	}
	return (cpu_seconds(bench->daemon) - before) / CALLS * 1e6;
}

/* Every thread of a process onto one CPU, or (-1) back to those in `all`. */
static void pin(pid_t pid, int cpu, const cpu_set_t *all)
{
	GS_AUTO_FREE char *directory = gs_printf("/proc/%d/task", (int)pid);
	DIR *tasks = opendir(directory);
	struct dirent *entry;
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0 : (unsigned)cpu, &one);
	while (tasks && (entry = readdir(tasks)))
		if (entry->d_name[0] != '.')
			sched_setaffinity(atoi(entry->d_name), sizeof one, cpu < 0 ? all : &one);
	if (tasks)
		closedir(tasks);
}

/* The least that a server can spend on a call here: wake up, receive, send, sleep. */
static void serve_echo(int fd)
{
	char bytes[ECHO_BYTES];
	struct pollfd watched = {.fd = fd, .events = POLLIN};
	while (poll(&watched, 1, -1) == 1) {
		ssize_t got = recv(fd, bytes, sizeof bytes, 0);
		if (got <= 0 || send(fd, bytes, (size_t)got, MSG_NOSIGNAL) != got)
			break;
	}
}

/* CPU microseconds of a process that only echoes, per call. */
static double echo_cpu_us(void)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		die("a socket pair", strerror(errno));
	pid_t echo = fork();
	if (echo == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		serve_echo(ends[1]);
		_exit(0);
	}
	close(ends[1]);
	double before = cpu_seconds(echo);
	char bytes[ECHO_BYTES] = {0};
	for (size_t i = 0; i < CALLS; i++)
		if (send(ends[0], bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes ||
		    recv(ends[0], bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
			die("the echo", strerror(errno));
	double took = cpu_seconds(echo) - before;
	close(ends[0]);
	waitpid(echo, NULL, 0);
	return took / CALLS * 1e6;
}

static void keep_least(double *least, double value)
{
	if (value < *least)
		*least = value;
}

static void bench_shares(struct bench *bench, unsigned shares, double preferred_target_us, double rss_target)
{
	char name[64], note[128];
	start_registered(bench, shares / GPUS, true);
	if (bench->ids.count != shares)
		die("the list", "has the wrong length");
	size_t preferred_length;
	GS_AUTO_FREE uint8_t *preferred = preferred_request(bench, 8, &preferred_length);
	double floor_us = 0, beyond_us = 1e9;
	for (size_t i = 0; i < ROUNDS; i++) {
		double empty = median_call_us(bench, "/v1beta1.DevicePlugin/GetDevicePluginOptions", NULL, 0, CALLS);
		double took = median_call_us(bench, "/v1beta1.DevicePlugin/GetPreferredAllocation", preferred,
					     preferred_length, CALLS);
		if (took - empty < beyond_us && took > empty) {
			beyond_us = took - empty;
			floor_us = empty;
		}
	}
	/* All on one CPU: to wake a peer on another one costs a virtual machine several microseconds, now and then. */
	cpu_set_t all;
	sched_getaffinity(0, sizeof all, &all);
	int cpu = sched_getcpu();
	pin(getpid(), cpu, &all);
	pin(bench->daemon, cpu, &all);
	double allocate_us = 1e9, empty_us = 1e9, echo_us = 1e9;
	for (size_t i = 0; i < CPU_ROUNDS; i++) {
		keep_least(&allocate_us, cpu_per_call_us(bench, true));
		keep_least(&empty_us, cpu_per_call_us(bench, false));
		keep_least(&echo_us, echo_cpu_us());
	}
	pin(getpid(), -1, &all);
	snprintf(name, sizeof name, "GetPreferredAllocation, 8 of %u, beyond floor", shares);
	snprintf(note, sizeof note, "floor %.1f us, request %zu bytes", floor_us, preferred_length);
	row(name, beyond_us, "us", preferred_target_us, note);
	snprintf(name, sizeof name, "Allocate, CPU per call, %u shares", shares);
	snprintf(note, sizeof note, "an empty call: %.1f us, a bare echo: %.1f us; NVIDIA's plugin: 58-71", empty_us,
		 echo_us);
	row(name, allocate_us, "us", 10, note);
	if (rss_target > 0) {
		snprintf(name, sizeof name, "RSS after %d calls, %u shares", 2 * CALLS * (ROUNDS + CPU_ROUNDS), shares);
		row(name, rss_mib(bench->daemon), "MiB", rss_target,
		    shares == 32 ? "NVIDIA's plugin: 28.8" : "NVIDIA's plugin: 40.7");
	}
	stop_daemon(bench);
}

static void bench_reactions(struct bench *bench)
{
	struct sim_node *node;
	struct gs_error err;
	if (sim_node_open(NULL, &node, &err) < 0)
		die("the simulated node", err.text);
	double health[REACTIONS], registration[REACTIONS];
	for (size_t i = 0; i < REACTIONS; i++) {
		start_registered(bench, 4, true);
		sleep(1); /* the daemon listens for events a moment after it has registered */
		double before = now();
		sim_event_post(node, 0, 0x8 /* nvmlEventTypeXidCriticalError */, 48);
		wait_for(bench, is_sick, "the unhealthy list");
		health[i] = (bench->list_at - before) * 1e3;

		rpc_server_stop(bench->kubelet, NULL, NULL);
		uv_run(&bench->loop, UV_RUN_NOWAIT);
		bench->registered_at = 0;
		before = now();
		start_kubelet(bench);
		wait_for(bench, is_registered, "the second registration");
		registration[i] = (bench->registered_at - before) * 1e3;
		stop_daemon(bench);
	}
	sim_node_close(node);
	row("XID to ListAndWatch push", median(health, REACTIONS), "ms", 5, "");
	row("kubelet's new socket to registered again", median(registration, REACTIONS), "ms", 10,
	    "NVIDIA's plugin: 6-19");
}

static void bench_idle(struct bench *bench)
{
	const char *wanted = getenv("BENCH_IDLE_SECONDS");
	unsigned seconds = wanted ? (unsigned)atoi(wanted) : IDLE_SECONDS_DEFAULT;
	if (seconds < 1 || seconds > 600)
		seconds = IDLE_SECONDS_DEFAULT;
	start_registered(bench, 4, true);
	sleep(1);
	double before = cpu_seconds(bench->daemon);
	sleep(seconds);
	double per_minute_ms = (cpu_seconds(bench->daemon) - before) * 1e3 * 60 / seconds;
	char note[64];
	snprintf(note, sizeof note, "over %u s", seconds);
	row("idle, CPU per minute", per_minute_ms, "ms", 2, note);
	stop_daemon(bench);
}

static void bench_size(struct bench *bench)
{
	GS_AUTO_FREE char *copy = gs_printf("%s/stripped", bench->directory);
	GS_AUTO_FREE char *command = gs_printf("strip -o '%s' '%s'", copy, bench->program);
	struct stat status;
	if (system(command) != 0 || stat(copy, &status) < 0)
		die("strip", "failed");
	row("stripped program", (double)status.st_size / 1e6, "MB", 1.5, "NVIDIA's plugin: 20.5");
}

int main(int argc, char **argv)
{
	struct bench bench = {.program = argc > 1 ? argv[1] : "gpushare"};
	signal(SIGPIPE, SIG_IGN);
	snprintf(bench.directory, sizeof bench.directory, "%s/gpushare-bench-XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(bench.directory))
		die(bench.directory, strerror(errno));
	bench.plugins = gs_printf("%s/kubelet/device-plugins", bench.directory);
	struct gs_error err;
	if (gs_make_directories(bench.plugins, 0700, &err) < 0)
		die("directories", err.text);
	uv_loop_init(&bench.loop);
	uv_timer_init(&bench.loop, &bench.deadline);
	bench.deadline.data = &bench;
	start_kubelet(&bench);

	bench_start(&bench);
	bench_shares(&bench, 32, 40, 6);
	bench_shares(&bench, 800, 60, 0);
	bench_shares(&bench, 8000, 300, 10);
	bench_reactions(&bench);
	bench_idle(&bench);
	bench_size(&bench);

	GS_AUTO_FREE char *cleanup = gs_printf("rm -rf '%s'", bench.directory);
	return system(cleanup) == 0 ? 0 : 1;
}
