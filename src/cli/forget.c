/* gpushare forget: a GPU that the daemon misses was taken out for good. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "client/client.h"
#include "client/methods.h"

enum { TIMEOUT_MS = 10000 };

static bool is_among(const json_t *list, const char *uuid)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_is_string(json_array_get(list, i)) &&
		    strcmp(json_string_value(json_array_get(list, i)), uuid) == 0)
			return true;
	return false;
}

/* Prints the GPUs that the daemon forgot, and those on the command line that were not missing. */
static int tell(const json_t *forgotten, char **wanted, int count)
{
	int status = GS_EXIT_OK;
	for (size_t i = 0; i < json_array_size(forgotten); i++)
		printf("%s is not missed any more\n", json_string_value(json_array_get(forgotten, i)));
	if (count == 0 && json_array_size(forgotten) == 0)
		printf("no GPU is missing\n");
	for (int i = 0; i < count; i++) {
		if (is_among(forgotten, wanted[i]))
			continue;
		fprintf(stderr, "gpushare forget: %s is not missing; `gpushare status` tells which GPUs are\n",
			wanted[i]);
		status = GS_EXIT_FAILURE;
	}
	return fflush(stdout) == 0 ? status : GS_EXIT_FAILURE;
}

static int run(const struct gs_arguments *arguments)
{
	struct gs_error err;
	bool all = gs_option_value(arguments, "all") != NULL;
	if (all == (arguments->operand_count > 0)) {
		fprintf(stderr, "gpushare forget: name GPUs by their UUIDs, or all that are missing with --all; see "
				"gpushare forget --help\n");
		return GS_EXIT_USAGE;
	}
	GS_AUTO_FREE char *text = node_client_forget(gs_option_value(arguments, "socket"), arguments->operands,
						     (size_t)arguments->operand_count, TIMEOUT_MS, &err);
	if (!text) {
		fprintf(stderr, "gpushare forget: %s\n", err.text);
		return GS_EXIT_FAILURE;
	}
	json_t *reply = json_loads(text, 0, NULL);
	int status = tell(json_object_get(reply, "forgotten"), arguments->operands, arguments->operand_count);
	json_decref(reply);
	return status;
}

static const struct gs_option options[] = {
	{"all", 0, NULL, NULL, NULL, "every GPU that is missing", NULL},
	{"socket", 0, "PATH", "GPUSHARE_SOCKET", NODE_DEFAULT_SOCKET, "the daemon's socket", "file"},
	{NULL},
};

const struct gs_command gs_command_forget = {
	.name = "forget",
	.synopsis = "[GPU-UUID...]",
	.summary = "say that a GPU which the daemon misses was taken out for good",
	.description =
		"The node daemon remembers which GPUs its machine had, also when it is restarted, and misses those "
		"that are not there any more: in `gpushare status`, its metrics, and the node's condition and events. "
		"This command ends that for GPUs that will not come back. One that comes back all the same is "
		"remembered again.\n\n"
		"A GPU that was swapped for another one in the same slot is forgotten by itself. GPUs that are there "
		"are not forgotten: they are remembered because they are there.",
	.examples = "gpushare forget GPU-5f0e9c0a-32f8-4a2c-9a1c-6b6c4d9a3f11  # this one\n"
		    "gpushare forget --all  # all that are missing",
	.options = options,
	.run = run,
};
