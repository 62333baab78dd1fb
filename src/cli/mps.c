/* gpushare mps: the control daemons of MPS, their clients, and their end. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/driver_root.h"
#include "base/file.h"
#include "base/quantity.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/status_table.h"
#include "gpu/hangs.h"
#include "gpu/nvml.h"
#include "client/client.h"
#include "client/methods.h"
#include "mps/mps_control.h"
#include "mps/mps_end.h"

enum { STATUS_TIMEOUT_MS = 10000, GRACE_SECONDS_MAX = 3600 };

static void format_bytes(const json_t *bytes, char *text, size_t size)
{
	if (json_is_integer(bytes))
		gs_format_quantity(json_integer_value(bytes) >> 20 << 20, text, size);
	else
		snprintf(text, size, "-");
}

/* The daemon's status document; NULL after it said why there is none. */
static json_t *ask(const struct gs_arguments *arguments)
{
	struct gs_error err;
	GS_AUTO_FREE char *text = node_client_status(gs_option_value(arguments, "socket"), STATUS_TIMEOUT_MS, &err);
	json_t *status = text ? json_loads(text, 0, NULL) : NULL;
	if (!status)
		fprintf(stderr, "gpushare %s: %s\n", arguments->command->name,
			text ? "the daemon's answer is not JSON" : err.text);
	return status;
}

/* A command that prints a list from the status document, which `pick` makes: as JSON, or with `print_table`. */
static int show(const struct gs_arguments *arguments, json_t *(*pick)(const json_t *status),
		void (*print_table)(const json_t *list))
{
	if (arguments->operand_count) {
		fprintf(stderr, "gpushare %s: takes no argument \"%s\"\n", arguments->command->name,
			arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	int as_json = gs_wants_json(arguments);
	if (as_json < 0)
		return GS_EXIT_USAGE;
	json_t *status = ask(arguments);
	if (!status)
		return GS_EXIT_FAILURE;
	json_t *list = pick(status);
	json_decref(status);
	if (as_json)
		return gs_json_print(list);
	print_table(list);
	json_decref(list);
	return fflush(stdout) == 0 ? GS_EXIT_OK : GS_EXIT_FAILURE;
}

/* --- clients --- */

/* One object for each process that holds a share of MPS. */
static void add_clients(json_t *clients, const json_t *share)
{
	size_t i;
	json_t *holder;
	json_array_foreach(json_object_get(share, "holders"), i, holder)
	{
		json_t *client = json_copy(holder);
		json_object_set(client, "device", json_object_get(share, "device"));
		json_object_set(client, "pods", json_object_get(share, "pods"));
		json_object_set(client, "share", json_object_get(share, "id"));
		json_object_set(client, "resource", json_object_get(share, "resource"));
		json_object_set(client, "memoryLimitBytes", json_object_get(share, "memoryBytes"));
		json_object_set(client, "computePermille", json_object_get(share, "computePermille"));
		json_array_append_new(clients, client);
	}
}

/* Whether MPS shares a GPU or one of its MIG devices. */
static bool is_shared(const json_t *gpu, const char *device)
{
	size_t i;
	json_t *share;
	json_array_foreach(json_object_get(gpu, "shares"), i, share)
	{
		if (strcmp(gs_json_text(share, "strategy"), "mps") == 0 &&
		    strcmp(gs_json_text(share, "device"), device) == 0)
			return true;
	}
	return false;
}

/* Whether a process is a server of MPS, which has a context on the device as its clients have. */
static bool is_server(const json_t *status, const json_t *process)
{
	size_t i, j;
	json_t *daemon, *pid;
	json_array_foreach(json_object_get(status, "mps"), i, daemon)
	{
		json_array_foreach(json_object_get(daemon, "servers"), j, pid)
		{
			if (json_equal(pid, json_object_get(process, "pid")))
				return true;
		}
	}
	/* One that a dead control daemon left behind; the kernel cuts names after 15 characters. */
	return strcmp(gs_json_text(process, "name"), "nvidia-cuda-mps") == 0;
}

/* Processes on what MPS shares that hold no share: a program may have cleared its environment, or have come by itself. */
static void add_strangers(json_t *clients, const json_t *status, const json_t *gpu)
{
	static const char *const unknown[] = {"pods", "share", "resource", "memoryLimitBytes", "computePermille"};
	size_t i;
	json_t *process;
	json_array_foreach(json_object_get(gpu, "processes"), i, process)
	{
		const char *mig = gs_json_text(process, "migDevice");
		const char *device = *mig ? mig : gs_json_text(gpu, "uuid");
		if (!is_shared(gpu, device) || is_server(status, process))
			continue;
		json_t *client = json_copy(process);
		json_object_set_new(client, "device", json_string(device));
		for (size_t k = 0; k < GS_ARRAY_LENGTH(unknown); k++)
			json_object_set_new(client, unknown[k], json_null());
		json_array_append_new(clients, client);
	}
}

/* Those with shares first. */
static json_t *clients_of(const json_t *status)
{
	json_t *clients = json_array(), *gpu, *share;
	size_t i, j;
	json_array_foreach(json_object_get(status, "gpus"), i, gpu)
	{
		json_array_foreach(json_object_get(gpu, "shares"), j, share)
		{
			if (strcmp(gs_json_text(share, "strategy"), "mps") == 0)
				add_clients(clients, share);
		}
	}
	json_array_foreach(json_object_get(status, "gpus"), i, gpu) add_strangers(clients, status, gpu);
	return clients;
}

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
	return show(arguments, clients_of, print_clients);
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

static bool is_only_one(const json_t *daemons, const char *device)
{
	size_t i, count = 0;
	json_t *daemon;
	json_array_foreach(daemons, i, daemon) count += strcmp(gs_json_text(daemon, "device"), device) == 0;
	return count == 1;
}

/* Whether a client is this daemon's: that of its device, or ("<device>-<n>") of its share alone. */
static bool serves(const json_t *daemons, const json_t *daemon, const json_t *client)
{
	const char *device = gs_json_text(daemon, "device"), *id = gs_json_text(daemon, "id");
	const char *replica = strstr(gs_json_text(client, "share"), "::");
	if (strcmp(device, gs_json_text(client, "device")) != 0)
		return false;
	if (!*gs_json_text(client, "share"))
		return is_only_one(daemons, device);
	if (strlen(id) <= strlen(device))
		return true;
	return replica && strcmp(id + strlen(device) + 1, replica + 2) == 0;
}

/* Adds `clients` to each daemon: how many processes it serves. */
static void count_clients(json_t *daemons, const json_t *clients)
{
	size_t i, j;
	json_t *daemon, *client;
	json_array_foreach(daemons, i, daemon)
	{
		json_int_t count = 0;
		json_array_foreach(clients, j, client) count += serves(daemons, daemon, client);
		json_object_set_new(daemon, "clients", json_integer(count));
	}
}

static json_t *daemons_of(const json_t *status)
{
	json_t *daemons = json_object_get(status, "mps"), *clients = clients_of(status);
	daemons = daemons ? json_incref(daemons) : json_array();
	count_clients(daemons, clients);
	json_decref(clients);
	return daemons;
}

static int run_status(const struct gs_arguments *arguments)
{
	return show(arguments, daemons_of, print_daemons);
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
				"first, or take "
				"sharing.mps out of its config\n");
		return GS_EXIT_FAILURE;
	}
	const char *driver_root = gs_option_value(arguments, "driver-root");
	const char *const roots[] = {driver_root, "/driver-root", NULL};
	GS_AUTO_FREE char *program = gs_driver_command(roots, MPS_CONTROL_PROGRAM);
	struct gs_nvml *nvml = NULL;
	struct gs_mps_ended ended;
	if (gs_hangs_open(roots, &nvml, &err) < 0)
		nvml = NULL;
	int result = gs_mps_end(gs_option_value(arguments, "mps-root"), state_dir, program,
				(unsigned)(grace_ns / 1000000000), nvml, &ended, &err);
	printf("%zu control daemon%s ended, %zu compute mode%s restored\n", ended.daemons,
	       ended.daemons == 1 ? "" : "s", ended.modes, ended.modes == 1 ? "" : "s");
	if (nvml)
		gs_hangs_close(nvml);
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
		"the "
		"processes that hold its shares, and those without a share on its device when no other daemon is "
		"there. In the state Fault a client's work has failed, and with it that of "
		"all "
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
		       "with them, and "
		       "GPUs get the compute mode back that they had before.",
	.examples = "gpushare mps stop --grace 30s  # after `systemctl stop gpushare`",
	.options = stop_options,
	.run = run_stop,
};
