/* An echo server, a one-shot client and a bench over src/rpc, for tests that talk to it with other gRPC libraries.
 *
 *     rpc_peer serve SOCKET [connections=N] [streams=N] [message_bytes=N] [handshake_ms=N] [stall_ms=N]
 *     rpc_peer call SOCKET METHOD [timeout_ms=N] [message_bytes=N] [cancel_ms=N] [repeat=N] [pause_ms=N]  < request
 *     rpc_peer bench SOCKET METHOD REQUEST_BYTES CALLS [SERVER_PID] */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "rpc/rpc.h"

static uv_loop_t loop;

/* The value of `name=NUMBER` among the arguments, or `otherwise`. */
static size_t option(char **arguments, const char *name, size_t otherwise)
{
	size_t length = strlen(name);
	for (; *arguments; arguments++) {
		if (strncmp(*arguments, name, length) == 0 && (*arguments)[length] == '=')
			return strtoull(*arguments + length + 1, NULL, 10);
	}
	return otherwise;
}

static size_t number(const uint8_t *request, size_t length)
{
	char text[24] = "";
	memcpy(text, request, length < sizeof text - 1 ? length : sizeof text - 1);
	return strtoull(text, NULL, 10);
}

/* ---- server ---- */

static unsigned long long handled, closed;

struct ticker {
	uv_timer_t timer;
	struct rpc_call *call;
	size_t left;
	size_t message_bytes; /* 0: the counter as text */
	unsigned long long counter;
};

static void free_ticker(uv_handle_t *handle)
{
	free(handle->data);
}

static void stop_ticker(struct rpc_call *call)
{
	struct ticker *ticker = rpc_call_data(call);
	if (ticker)
		uv_close((uv_handle_t *)&ticker->timer, free_ticker);
}

static void on_closed(struct rpc_call *call, void *user)
{
	closed++;
	stop_ticker(call);
}

static void echo(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	handled++;
	rpc_call_send(call, request, length);
	rpc_call_finish(call, RPC_OK, NULL);
}

/* A small answer to a request of any size. */
static void swallow(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	handled++;
	rpc_call_send(call, NULL, 0);
	rpc_call_finish(call, RPC_OK, NULL);
}

static void size(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	size_t bytes = number(request, length);
	GS_AUTO_FREE uint8_t *reply = gs_calloc(bytes + 1, 1);
	handled++;
	rpc_call_send(call, reply, bytes);
	rpc_call_finish(call, RPC_OK, NULL);
}

/* The request is "STATUS TEXT". */
static void fail(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	GS_AUTO_FREE char *text = gs_strndup((const char *)request, length);
	char *rest = NULL;
	handled++;
	unsigned long status = strtoul(text, &rest, 10);
	rpc_call_finish(call, (enum rpc_status)status, *rest ? rest + 1 : NULL);
}

static void never(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	handled++;
}

static void stats(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	gs_strbuf_printf(&text, "%llu %llu", handled, closed);
	rpc_call_send(call, (const uint8_t *)text.data, text.length);
	rpc_call_finish(call, RPC_OK, NULL);
}

static void on_tick(uv_timer_t *timer)
{
	struct ticker *ticker = timer->data;
	GS_AUTO_STRBUF struct gs_strbuf text = {0};

	gs_strbuf_printf(&text, "%llu", ticker->counter++);
	while (text.length < ticker->message_bytes)
		gs_strbuf_add(&text, "                                                                ");
	rpc_call_send(ticker->call, (const uint8_t *)text.data, text.length);
	if (ticker->left > 0 && --ticker->left == 0) {
		rpc_call_finish(ticker->call, RPC_OK, NULL);
		uv_close((uv_handle_t *)timer, free_ticker);
	}
}

static void start_ticker(struct rpc_call *call, size_t messages, size_t message_bytes, uint64_t interval_ms)
{
	struct ticker *ticker = gs_calloc(1, sizeof *ticker);
	handled++;
	ticker->call = call;
	ticker->left = messages;
	ticker->message_bytes = message_bytes;
	uv_timer_init(&loop, &ticker->timer);
	ticker->timer.data = ticker;
	rpc_call_set_data(call, ticker);
	uv_timer_start(&ticker->timer, on_tick, 0, interval_ms);
}

/* The request is the number of messages; 0: without end. */
static void count(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	start_ticker(call, number(request, length), 0, 20);
}

/* Large lists, faster than anyone reads. The request is their size. */
static void watch(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	start_ticker(call, 0, number(request, length), 1);
}

/* One answer, later. */
static void later(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	start_ticker(call, 1, 0, 0);
}

static const struct rpc_method methods[] = {
	{"/test.Echo/Echo", echo, on_closed},   {"/test.Echo/Swallow", swallow, on_closed},
	{"/test.Echo/Size", size, on_closed},   {"/test.Echo/Fail", fail, on_closed},
	{"/test.Echo/Never", never, on_closed}, {"/test.Echo/Stats", stats, on_closed},
	{"/test.Echo/Count", count, on_closed}, {"/test.Echo/Watch", watch, on_closed},
	{"/test.Echo/Later", later, on_closed}, {NULL},
};

static struct rpc_server *server;
static uv_signal_t terminate;

static void on_stopped(void *user)
{
	printf("stopped\n");
}

static void on_signal(uv_signal_t *handle, int signal)
{
	uv_close((uv_handle_t *)handle, NULL);
	rpc_server_stop(server, on_stopped, NULL);
}

static int serve(const char *path, char **options)
{
	struct gs_error error;
	const struct rpc_server_limits limits = {
		.connections = (unsigned)option(options, "connections", 0),
		.streams = (unsigned)option(options, "streams", 0),
		.message_bytes = option(options, "message_bytes", 0),
		.handshake_ms = (unsigned)option(options, "handshake_ms", 0),
		.stall_ms = (unsigned)option(options, "stall_ms", 0),
		.request_ms = (unsigned)option(options, "request_ms", 0),
		.idle_ms = (unsigned)option(options, "idle_ms", 0),
	};
	if (rpc_server_start(&loop, path, methods, NULL, &limits, &server, &error) < 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	uv_signal_init(&loop, &terminate);
	uv_signal_start(&terminate, on_signal, SIGTERM);
	printf("ready\n");
	fflush(stdout);
	uv_run(&loop, UV_RUN_DEFAULT);
	return uv_loop_close(&loop) == 0 ? 0 : 2;
}

/* ---- client ---- */

struct one_shot {
	struct rpc_client *client;
	struct rpc_client_call *call;
	const char *method;
	struct gs_strbuf request;
	unsigned timeout_ms;
	size_t repeat;
	size_t pause_ms;
	uv_timer_t timer; /* cancels, or starts the next call */
};

/* "message LENGTH FNV1A" and "done STATUS TEXT-IN-HEX" on stdout. */
static void on_message(void *user, const uint8_t *message, size_t length)
{
	unsigned long long hash = 14695981039346656037ULL;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ message[i]) * 1099511628211ULL;
	printf("message %zu %llu\n", length, hash);
	fflush(stdout);
}

static void start(struct one_shot *shot);

static void on_pause_over(uv_timer_t *timer)
{
	start(timer->data);
}

static void on_done(void *user, enum rpc_status status, const char *text)
{
	struct one_shot *shot = user;

	shot->call = NULL;
	printf("done %s ", rpc_status_name((int)status));
	for (; *text; text++)
		printf("%02x", (unsigned char)*text);
	printf("\n");
	fflush(stdout);
	if (--shot->repeat > 0) {
		if (shot->pause_ms)
			uv_timer_start(&shot->timer, on_pause_over, shot->pause_ms, 0);
		else
			start(shot);
		return;
	}
	uv_close((uv_handle_t *)&shot->timer, NULL);
	rpc_client_free(shot->client);
}

static void start(struct one_shot *shot)
{
	shot->call = rpc_client_start(shot->client, shot->method, (uint8_t *)shot->request.data, shot->request.length,
				      shot->timeout_ms, on_message, on_done, shot);
}

static void on_cancel(uv_timer_t *timer)
{
	struct one_shot *shot = timer->data;
	rpc_client_cancel(shot->call);
	printf("cancelled\n");
	uv_close((uv_handle_t *)timer, NULL);
	rpc_client_free(shot->client);
}

static int call_once(const char *path, const char *method, char **options)
{
	struct gs_error error;
	struct one_shot shot = {.method = method,
				.timeout_ms = (unsigned)option(options, "timeout_ms", 0),
				.repeat = option(options, "repeat", 1),
				.pause_ms = option(options, "pause_ms", 0)};
	char block[65536];
	ssize_t got;

	while ((got = read(STDIN_FILENO, block, sizeof block)) > 0)
		gs_strbuf_add_bytes(&shot.request, block, (size_t)got);
	if (rpc_client_new(&loop, path, &shot.client, &error) < 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	rpc_client_set_message_bytes(shot.client, option(options, "message_bytes", RPC_MESSAGE_MAX));
	uv_timer_init(&loop, &shot.timer);
	shot.timer.data = &shot;
	size_t cancel_ms = option(options, "cancel_ms", 0);
	if (cancel_ms)
		uv_timer_start(&shot.timer, on_cancel, cancel_ms, 0);
	start(&shot);
	uv_run(&loop, UV_RUN_DEFAULT);
	gs_strbuf_free(&shot.request);
	return uv_loop_close(&loop) == 0 ? 0 : 2;
}

/* ---- bench ---- */

struct bench {
	struct rpc_client *client;
	const char *method;
	uint8_t *request;
	size_t request_bytes;
	size_t calls, done;
	uint64_t *times_ns;
	uint64_t started_ns;
};

static void bench_next(struct bench *bench);

static void bench_done(void *user, enum rpc_status status, const char *text)
{
	struct bench *bench = user;

	bench->times_ns[bench->done++] = uv_hrtime() - bench->started_ns;
	if (status != RPC_OK) {
		fprintf(stderr, "%s: %s\n", rpc_status_name((int)status), text);
		exit(1);
	}
	if (bench->done < bench->calls)
		bench_next(bench);
	else
		rpc_client_free(bench->client);
}

static void bench_next(struct bench *bench)
{
	bench->started_ns = uv_hrtime();
	rpc_client_start(bench->client, bench->method, bench->request, bench->request_bytes, 0, NULL, bench_done,
			 bench);
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return a < b ? -1 : a > b;
}

/* CPU time of another process in nanoseconds. */
static double cpu_ns_of(const char *pid)
{
	GS_AUTO_FREE char *path = gs_printf("/proc/%s/schedstat", pid);
	GS_AUTO_FCLOSE FILE *file = fopen(path, "r");
	double nanoseconds = 0;
	if (!file || fscanf(file, "%lf", &nanoseconds) != 1)
		return 0;
	return nanoseconds;
}

static int run_bench(const char *path, const char *method, size_t request_bytes, size_t calls, const char *server_pid)
{
	struct gs_error error;
	struct bench bench = {.method = method, .request_bytes = request_bytes, .calls = calls};

	bench.request = gs_calloc(request_bytes + 1, 1);
	bench.times_ns = gs_calloc(calls, sizeof *bench.times_ns);
	if (rpc_client_new(&loop, path, &bench.client, &error) < 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	double server_ns = server_pid ? cpu_ns_of(server_pid) : 0;
	bench_next(&bench);
	uv_run(&loop, UV_RUN_DEFAULT);
	server_ns = server_pid ? cpu_ns_of(server_pid) - server_ns : 0;
	struct timespec own;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
	qsort(bench.times_ns, calls, sizeof *bench.times_ns, compare);
	printf("%s %zu bytes: p50 %.1f us, p99 %.1f us, client CPU %.2f us/call, server CPU %.2f us/call\n", method,
	       request_bytes, (double)bench.times_ns[calls / 2] / 1e3, (double)bench.times_ns[calls * 99 / 100] / 1e3,
	       ((double)own.tv_sec * 1e9 + (double)own.tv_nsec) / 1e3 / (double)calls, server_ns / 1e3 / (double)calls);
	free(bench.request);
	free(bench.times_ns);
	return 0;
}

int main(int count_of_arguments, char **arguments)
{
	uv_loop_init(&loop);
	if (count_of_arguments >= 3 && strcmp(arguments[1], "serve") == 0)
		return serve(arguments[2], arguments + 3);
	if (count_of_arguments >= 4 && strcmp(arguments[1], "call") == 0)
		return call_once(arguments[2], arguments[3], arguments + 4);
	if (count_of_arguments >= 6 && strcmp(arguments[1], "bench") == 0)
		return run_bench(arguments[2], arguments[3], strtoull(arguments[4], NULL, 10),
				 strtoull(arguments[5], NULL, 10), arguments[6]);
	fprintf(stderr, "usage: rpc_peer serve|call|bench SOCKET ...\n");
	return 2;
}
