/* For tests of the cluster room alone: does what its standard input says, a line each, and tells what happens.
 *
 *     cluster_peer HOST PORT DIRECTORY NODE LABEL...
 *
 *     labels MANAGER KEY=VALUE...    condition TYPE True|False REASON MESSAGE...
 *     event REASON MESSAGE...        state
 *
 * With CLEAN for LABEL it takes back everything and ends. It prints "label KEY VALUE" (or "label KEY" where there is none) and "state NAME WAITING REQUESTS PROBLEM". It ends with its
 * input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "kube/node_object/cluster.h"

enum { PAIRS_MAX = 64 };

static struct cluster *cluster;
static uv_loop_t loop;
static char input[65536];
static size_t filled;

static void on_label(void *user, const char *value)
{
	printf("label %s%s%s\n", (const char *)user, value ? " " : "", value ? value : "");
	fflush(stdout);
}

static void set_labels(char *rest)
{
	struct cluster_pair pairs[PAIRS_MAX];
	size_t count = 0;
	char *place = NULL;
	const char *manager = strtok_r(rest, " ", &place);
	for (char *word; count < PAIRS_MAX && (word = strtok_r(NULL, " ", &place));) {
		char *equals = strchr(word, '=');
		*equals = '\0';
		pairs[count++] = (struct cluster_pair){word, equals + 1};
	}
	const struct cluster_metadata metadata = {.labels = pairs, .label_count = count};
	cluster_set_metadata(cluster, manager, &metadata);
}

static void set_condition(char *rest)
{
	char *place = NULL;
	const char *type = strtok_r(rest, " ", &place);
	const char *status = strtok_r(NULL, " ", &place);
	const char *reason = strtok_r(NULL, " ", &place);
	cluster_set_condition(cluster, type, strcmp(status, "True") == 0, reason, place);
}

static void obey(char *line)
{
	char *rest = strchr(line, ' ');
	if (rest)
		*rest++ = '\0';
	if (strcmp(line, "labels") == 0)
		set_labels(rest);
	else if (strcmp(line, "condition") == 0)
		set_condition(rest);
	else if (strcmp(line, "event") == 0) {
		char *place = NULL;
		const char *reason = strtok_r(rest, " ", &place);
		cluster_event(cluster, true, reason, "Test", place);
	} else {
		struct cluster_state state;
		cluster_get_state(cluster, &state);
		printf("state %s %zu %llu %s\n", state.state, state.waiting, (unsigned long long)state.requests,
		       state.problem);
		fflush(stdout);
	}
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	*buffer = uv_buf_init(input + filled, (unsigned)(sizeof input - filled));
}

static void on_input(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
	if (length < 0) {
		cluster_stop(cluster);
		uv_close((uv_handle_t *)stream, NULL);
		return;
	}
	filled += (size_t)length;
	char *start = input;
	for (char *end; (end = memchr(start, '\n', filled - (size_t)(start - input))); start = end + 1) {
		*end = '\0';
		obey(start);
	}
	filled -= (size_t)(start - input);
	memmove(input, start, filled);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	uv_loop_init(&loop);
	const struct cluster_options options = {
		.host = argv[1], .port = argv[2], .service_account_dir = argv[3], .node_name = argv[4]};
	struct gs_error err;
	if (argc == 6 && strcmp(argv[5], "CLEAN") == 0) {
		if (cluster_clean(&options, &err) == 0)
			return 0;
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	if (cluster_start(&loop, &options, &cluster, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	for (int i = 5; i < argc; i++)
		cluster_watch_label(cluster, argv[i], on_label, argv[i]);
	uv_pipe_t standard_input;
	uv_pipe_init(&loop, &standard_input, 0);
	uv_pipe_open(&standard_input, 0);
	uv_read_start((uv_stream_t *)&standard_input, on_buffer, on_input);
	uv_run(&loop, UV_RUN_DEFAULT);
	return uv_loop_close(&loop) == 0 ? 0 : 1;
}
