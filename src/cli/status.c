#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/quantity.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/status_table.h"
#include "client/client.h"
#include "client/methods.h"

enum { STATUS_TIMEOUT_MS = 10000 };

static int show(const char *socket, bool as_json, bool clear)
{
	struct gs_error err;
	GS_AUTO_FREE char *text = node_client_status(socket, STATUS_TIMEOUT_MS, &err);
	if (!text) {
		fprintf(stderr, "gpushare status: %s\n", err.text);
		return GS_EXIT_FAILURE;
	}
	json_error_t where;
	json_t *status = json_loads(text, 0, &where);
	if (!status) {
		fprintf(stderr, "gpushare status: the daemon's answer is not JSON: %s\n", where.text);
		return GS_EXIT_FAILURE;
	}
	if (as_json)
		return gs_json_print(status);
	GS_AUTO_STRBUF struct gs_strbuf table = {0};
	gs_status_table(status, &table);
	if (clear)
		gs_status_redraw(table.data);
	else
		fputs(table.data, stdout);
	json_decref(status);
	return fflush(stdout) == 0 ? GS_EXIT_OK : GS_EXIT_FAILURE;
}

static int run(const struct gs_arguments *arguments)
{
	if (arguments->operand_count > 0) {
		fprintf(stderr, "gpushare status: takes no argument \"%s\"; see gpushare status --help\n",
			arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	const char *socket = gs_option_value(arguments, "socket");
	const char *watch = gs_option_value(arguments, "watch");
	int as_json = gs_wants_json(arguments);
	if (as_json < 0)
		return GS_EXIT_USAGE;
	if (gs_option_value(arguments, "quiet") && !freopen("/dev/null", "we", stdout)) {
		fprintf(stderr, "gpushare status: cannot open /dev/null: %s\n", strerror(errno));
		return GS_EXIT_FAILURE;
	}
	if (!watch)
		return show(socket, as_json, false);
	int64_t interval_ns;
	struct gs_error err;
	if (gs_parse_duration(watch, &interval_ns, &err) < 0 || interval_ns < 100000000) {
		fprintf(stderr, "gpushare status: --watch %s: write a duration of at least 100ms, such as 1s\n", watch);
		return GS_EXIT_USAGE;
	}
	bool seen = false;
	for (;;) {
		int code = show(socket, as_json, isatty(STDOUT_FILENO));
		/* A daemon that was there once may only be restarting; output that cannot be written will not get better. */
		if (code != GS_EXIT_OK && (!seen || ferror(stdout)))
			return code;
		seen |= code == GS_EXIT_OK;
		struct timespec pause = {interval_ns / 1000000000, interval_ns % 1000000000};
		nanosleep(&pause, NULL);
	}
}

static const struct gs_option options[] = {
	{"output", 'o', "FORMAT", NULL, "table", "how to print: table or json", "table json"},
	{"socket", 0, "PATH", "GPUSHARE_SOCKET", NODE_DEFAULT_SOCKET, "the daemon's socket", "file"},
	{"quiet", 'q', NULL, NULL, NULL, "print nothing: the exit status tells whether the daemon answers", NULL},
	{"watch", 'w', "INTERVAL", NULL, NULL, "print again every INTERVAL, such as 1s, until interrupted", NULL},
	{NULL},
};

const struct gs_command gs_command_status = {
	.name = "status",
	.synopsis = "",
	.summary = "show every GPU, its shares, their state and who holds them",
	.description =
		"Asks the node daemon on this machine. A process is a share's holder when it uses the share's GPU and "
		"its environment "
		"names the share in GPUSHARE_SHARES, which the device plugin sets in every container it prepares. "
		"Processes that use a GPU without a share are listed too.\n\n"
		"Memory and utilisation are what NVML reports; a dash stands for what the GPU or driver does not tell.",
	.examples = "gpushare status  # a table\n"
		    "gpushare status -o json  # for programs\n"
		    "gpushare status --watch 1s  # refresh every second",
	.options = options,
	.run = run,
};
