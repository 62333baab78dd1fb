/* gpushare mps: the control daemons of MPS, their clients, and their end. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/quantity.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/status_table.h"
#include "client/client.h"
#include "client/methods.h"
#include "mps/mps_end.h"

enum { ANSWER_TIMEOUT_MS = 10000, GRACE_SECONDS_MAX = 3600 };

static void format_bytes(const json_t *bytes, char *text, size_t size)
{
	if (json_is_integer(bytes))
		gs_format_quantity(json_integer_value(bytes) >> 20 << 20, text, size);
	else
		snprintf(text, size, "-");
}

/* One of the daemon's lists about MPS; NULL after the reason was printed. */
static json_t *ask(const struct gs_arguments *arguments, const char *name)
{
	struct gs_error err;
	GS_AUTO_FREE char *text = node_client_mps(gs_option_value(arguments, "socket"), ANSWER_TIMEOUT_MS, &err);
	json_t *answer = text ? json_loads(text, 0, NULL) : NULL;
	json_t *list = json_incref(json_object_get(answer, name));
	json_decref(answer);
	if (!list)
		fprintf(stderr, "gpushare %s: %s\n", arguments->command->name,
			text ? "the daemon's answer is not what it should be" : err.text);
	return list;
}

/* A command that prints such a list: as JSON, or with `print_table`. */
static int show(const struct gs_arguments *arguments, const char *name, void (*print_table)(const json_t *list))
{
	if (arguments->operand_count) {
		fprintf(stderr, "gpushare %s: takes no argument \"%s\"\n", arguments->command->name,
			arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	int as_json = gs_wants_json(arguments);
	if (as_json < 0)
		return GS_EXIT_USAGE;
	json_t *list = ask(arguments, name);
	if (!list)
		return GS_EXIT_FAILURE;
	if (as_json)
		return gs_json_print(list);
	print_table(list);
	json_decref(list);
	return fflush(stdout) == 0 ? GS_EXIT_OK : GS_EXIT_FAILURE;
}

/* --- clients --- */

static void print_clients(const json_t *clients)
{
	size_t i;
	json_t *client;
	if (!json_array_size(clients)) {
		puts("no process is on a device that is shared by MPS");
		return;
	}
	printf("%-48s %8s %9s %9s %-24s %s\n", "SHARE", "PID", "MEMORY", "LIMIT", "PROCESS", "POD");
	json_array_foreach(clients, i, client)
	{
		char memory[32], limit[32];
		const char *share = gs_json_text(client, "share");
		GS_AUTO_FREE char *pods = gs_status_pods(client);
		GS_AUTO_FREE char *name = gs_strdup(gs_json_text(client, "name"));
		gs_utf8_make_plain(name);
		format_bytes(json_object_get(client, "memoryBytes"), memory, sizeof memory);
		format_bytes(json_object_get(client, "memoryLimitBytes"), limit, sizeof limit);
		printf("%-48s %8" JSON_INTEGER_FORMAT " %9s %9s %-24.24s %s\n", *share ? share : "-",
		       json_integer_value(json_object_get(client, "pid")), memory, limit, name, *pods ? pods : "-");
	}
}

static int run_clients(const struct gs_arguments *arguments)
{
	return show(arguments, "clients", print_clients);
}

/* --- status --- */

/* "4711, 4712", or "-". */
static char *pids_of(const json_t *pids)
{
	struct gs_strbuf text = {0};
	size_t i;
	json_t *pid;
	json_array_foreach(pids, i, pid)
		gs_strbuf_printf(&text, "%s%" JSON_INTEGER_FORMAT, i ? ", " : "", json_integer_value(pid));
	return i ? gs_strbuf_take(&text) : gs_strdup("-");
}

static void print_daemons(const json_t *daemons)
{
	size_t i;
	json_t *daemon;
	if (!json_array_size(daemons)) {
		puts("nothing is shared by MPS on this node");
		return;
	}
	printf("%-44s %-11s %8s %8s %8s %6s %6s %7s %s\n", "DAEMON", "STATE", "PID", "MEMORY", "THREADS", "STARTS",
	       "FAULTS", "CLIENTS", "SERVERS");
	json_array_foreach(daemons, i, daemon)
	{
		char memory[32];
		GS_AUTO_FREE char *servers = pids_of(json_object_get(daemon, "servers"));
		format_bytes(json_object_get(daemon, "memoryLimitBytes"), memory, sizeof memory);
		printf("%-44s %-11s %8" JSON_INTEGER_FORMAT " %8s %6" JSON_INTEGER_FORMAT " %% %6" JSON_INTEGER_FORMAT
		       " %6" JSON_INTEGER_FORMAT " %7" JSON_INTEGER_FORMAT " %s\n",
		       gs_json_text(daemon, "id"), gs_json_text(daemon, "state"),
		       json_integer_value(json_object_get(daemon, "pid")), memory,
		       json_integer_value(json_object_get(daemon, "activeThreadPercentage")),
		       json_integer_value(json_object_get(daemon, "starts")),
		       json_integer_value(json_object_get(daemon, "faults")),
		       json_integer_value(json_object_get(daemon, "clients")), servers);
		if (json_integer_value(json_object_get(daemon, "pid")) &&
		    !json_is_true(json_object_get(daemon, "multiUser")))
			puts("    one user at a time: clients of another user id wait until this one's have ended");
		if (*gs_json_text(daemon, "reason"))
			printf("    %s\n", gs_json_text(daemon, "reason"));
	}
}

static int run_status(const struct gs_arguments *arguments)
{
	return show(arguments, "daemons", print_daemons);
}

/* --- stop --- */

/* A node daemon holds its state directory's lock as long as it runs; it would only start them again. */
static bool node_runs(const char *state_dir)
{
	struct gs_error err;
	GS_AUTO_CLOSE int fd = gs_lock_directory(state_dir, &err);
	return fd < 0 && err.code == EWOULDBLOCK;
}

static int run_stop(const struct gs_arguments *arguments)
{
	struct gs_error err;
	int64_t grace_ns;
	const char *state_dir = gs_option_value(arguments, "state-dir");
	const char *grace = gs_option_value(arguments, "grace");
	if (arguments->operand_count || gs_parse_duration(grace, &grace_ns, &err) < 0 ||
	    grace_ns / 1000000000 > GRACE_SECONDS_MAX) {
		fprintf(stderr,
			"gpushare mps stop: takes --grace with a duration of up to %ds, as 30s, and no arguments\n",
			GRACE_SECONDS_MAX);
		return GS_EXIT_USAGE;
	}
	if (node_runs(state_dir)) {
		fprintf(stderr, "gpushare mps stop: gpushare node is running and would start them again; stop it "
				"first, or take sharing.mps out of its config\n");
		return GS_EXIT_FAILURE;
	}
	const char *driver_root = gs_option_value(arguments, "driver-root");
	const char *const roots[] = {driver_root, "/driver-root", NULL};
	struct gs_mps_ended ended;
	int result = gs_mps_end(gs_option_value(arguments, "mps-root"), state_dir, roots,
				(unsigned)(grace_ns / 1000000000), &ended, &err);
	printf("%zu control daemon%s ended, %zu compute mode%s restored\n", ended.daemons,
	       ended.daemons == 1 ? "" : "s", ended.modes, ended.modes == 1 ? "" : "s");
	if (result == 0)
		return GS_EXIT_OK;
	fprintf(stderr, "gpushare mps stop: %s\n", err.text);
	return GS_EXIT_FAILURE;
}

/* --- the table's rows --- */

static const struct gs_option question_options[] = {
	{"output", 'o', "FORMAT", NULL, "table", "how to print: table or json", "table json"},
	{"socket", 0, "PATH", "GPUSHARE_SOCKET", NODE_DEFAULT_SOCKET, "the daemon's socket", "file"},
	{NULL},
};

const struct gs_command gs_command_mps_status = {
	.name = "mps status",
	.synopsis = "",
	.summary = "show the MPS control daemons of this node",
	.description =
		"One for each device that is shared by MPS, or for each share with isolation: per-share. MEMORY and "
		"THREADS are the most that a client may have; a container's own limits may be lower. CLIENTS counts "
		"the processes that hold its shares, and those without a share on its device when no other daemon is "
		"there. In the state Fault a client's work has failed, and with it that of all "
		"clients on the device; no new ones are taken until those are gone. Quarantined: that happened too "
		"often. Draining: clients of a control daemon that died still have the device.",
	.examples = "gpushare mps status  # a table\n"
		    "gpushare mps status -o json  # for programs",
	.options = question_options,
	.run = run_status,
};

const struct gs_command gs_command_mps_clients = {
	.name = "mps clients",
	.synopsis = "",
	.summary = "show the processes on devices that are shared by MPS, their memory and its limit",
	.description =
		"A process holds a share when its environment names it in GPUSHARE_SHARES, which the device "
		"plugin sets in "
		"every container it prepares. Processes that hold none and are on such a device all the same, as "
		"those that cleared their environment, have a - for it (null in JSON). Servers are left out.",
	.examples = "gpushare mps clients  # a table",
	.options = question_options,
	.run = run_clients,
};

static const struct gs_option stop_options[] = {
	{"grace", 0, "DURATION", NULL, "10s", "how long clients may take to end by themselves", NULL},
	{"mps-root", 0, "DIR", "MPS_ROOT", "/run/nvidia/mps", "as flags.mpsRoot of the node daemon", "dir"},
	{"state-dir", 0, "DIR", NULL, NODE_DEFAULT_STATE_DIR, "as of the node daemon", "dir"},
	{"driver-root", 0, "DIR", "NVIDIA_DRIVER_ROOT", "/", "where the driver is installed", "dir"},
	{NULL},
};

const struct gs_command gs_command_mps_stop = {
	.name = "mps stop",
	.synopsis = "[--grace DURATION]",
	.summary = "end the MPS control daemons that a stopped node daemon left, and restore compute modes",
	.description = "The node daemon lets its control daemons go on when it ends, so that its restart ends no "
		       "client. This ends them "
		       "for good: each is asked to quit, those that still have clients after the grace time are ended "
		       "with them, and GPUs get the compute mode back that they had before.",
	.examples = "gpushare mps stop --grace 30s  # after `systemctl stop gpushare`",
	.options = stop_options,
	.run = run_stop,
};
