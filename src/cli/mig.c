/* gpushare mig: what GPUs can be divided into, and how they are. */
#include "cli/mig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/json.h"
#include "client/methods.h"

static int no_operands(const struct mig_call *call)
{
	if (call->arguments->operand_count == 0)
		return 0;
	mig_fail(call, "takes no argument \"%s\"; see gpushare %s --help", call->arguments->operands[0],
		 call->arguments->command->name);
	return GS_EXIT_USAGE;
}

/* Flushes standard output first, so that the readable GPUs come before these errors. */
static int say_unreadable(const struct mig_call *call)
{
	fflush(stdout);
	for (size_t i = 0; i < call->change.boards.count; i++)
		if (call->chosen[i] && call->change.boards.items[i].problem[0])
			mig_fail(call, "GPU %zu can't be read: %s", i, call->change.boards.items[i].problem);
	return GS_EXIT_FAILURE;
}

/* A device that is allocated and has no process yet is in use too. */
static void show_allocated(struct mig_call *call)
{
	struct gs_mig_change *change = &call->change;
	mig_ask_allocated(call);
	for (size_t i = 0; i < change->allocated.count; i++)
		gs_mig_mark_busy(&change->boards, change->allocated.items[i].device, change->allocated.items[i].who);
}

static int show(const struct gs_arguments *arguments,
		void (*table)(const struct gs_mig_board *board, struct gs_strbuf *out),
		json_t *(*json)(const struct gs_mig_board *board))
{
	struct mig_call call;
	int code = mig_call_open(arguments, &call);
	if (code != GS_EXIT_OK)
		return code;
	code = no_operands(&call);
	code = code ? code : mig_read(&call);
	if (code == GS_EXIT_OK && mig_option(&call, "socket"))
		show_allocated(&call);
	bool unreadable = false;
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	json_t *list = json_array();
	for (size_t i = 0; code == GS_EXIT_OK && i < call.change.boards.count; i++) {
		if (!call.chosen[i])
			continue;
		unreadable |= call.change.boards.items[i].problem[0] != '\0';
		if (call.json)
			json_array_append_new(list, json(&call.change.boards.items[i]));
		else
			table(&call.change.boards.items[i], &text);
	}
	if (code == GS_EXIT_OK && call.json)
		code = gs_json_print(GS_STEAL(list));
	else if (code == GS_EXIT_OK)
		fputs(text.length ? text.data : "no GPU\n", stdout);
	json_decref(list);
	if (code == GS_EXIT_OK && unreadable)
		code = say_unreadable(&call);
	mig_call_close(&call);
	return code;
}

static int run_list(const struct gs_arguments *arguments)
{
	return show(arguments, mig_table_layout, mig_json_layout);
}

static int run_list_profiles(const struct gs_arguments *arguments)
{
	return show(arguments, mig_table_profiles, mig_json_profiles);
}

/* export */

static json_t *entry_json(const struct gs_mig_entry *entry)
{
	json_t *item = json_object(), *profiles = json_object();
	if (entry->all_devices) {
		json_object_set_new(item, "devices", json_string("all"));
	} else {
		json_t *devices = json_array();
		for (size_t i = 0; i < entry->device_count; i++)
			json_array_append_new(devices, json_integer(entry->devices[i].gpu));
		json_object_set_new(item, "devices", devices);
	}
	if (entry->filter_count) {
		json_t *filters = json_array();
		for (size_t i = 0; i < entry->filter_count; i++) {
			char text[32];
			const struct gs_mig_filter *filter = &entry->filters[i];
			snprintf(text, sizeof text, filter->any_subsystem ? "0x%08X" : "0x%08X:0x%08X", filter->device,
				 filter->subsystem);
			json_array_append_new(filters, json_string(text));
		}
		json_object_set_new(item, "device-filter", filters);
	}
	json_object_set_new(item, "mig-enabled", json_boolean(entry->enabled));
	for (size_t i = 0; i < entry->count_count; i++)
		json_object_set_new(profiles, entry->counts[i].profile, json_integer(entry->counts[i].count));
	json_object_set_new(item, "mig-devices", profiles);
	return item;
}

static json_t *config_json(const struct gs_mig_config *config)
{
	json_t *configs = json_object();
	for (size_t i = 0; i < config->count; i++) {
		json_t *entries = json_array();
		for (size_t k = 0; k < config->items[i].entry_count; k++)
			json_array_append_new(entries, entry_json(&config->items[i].entries[k]));
		json_object_set_new(configs, config->items[i].name, entries);
	}
	return json_pack("{s:s, s:o}", "version", "v1", "mig-configs", configs);
}

static int export(struct mig_call *call)
{
	GS_AUTO_FREE struct gs_mig_node_gpu *gpus = gs_mig_node_gpus(&call->change.boards);
	GS_AUTO_FREE struct gs_mig_target *targets = calloc(call->change.boards.count + 1, sizeof *targets);
	struct gs_mig_config config = {0};
	for (size_t i = 0; targets && i < call->change.boards.count; i++) {
		const struct gs_mig_board *board = &call->change.boards.items[i];
		if (call->chosen[i] && board->problem[0])
			return mig_fail(call, "GPU %zu can't be read: %s", i, board->problem);
		targets[i].named = call->chosen[i] && board->capable;
		targets[i].enabled = board->enabled;
		gs_mig_wish_from_layout(&board->gpu, &board->layout, &targets[i].wish);
	}
	if (mig_option(call, "generated"))
		gs_mig_config_generate(gpus, call->change.boards.count, &config);
	else
		gs_mig_config_describe(&config, mig_option(call, "name"), gpus, targets, call->change.boards.count);
	int code = GS_EXIT_OK;
	if (call->json) {
		code = gs_json_print(config_json(&config));
	} else {
		GS_AUTO_FREE char *text = gs_mig_config_text(&config);
		fputs(text, stdout);
	}
	gs_mig_config_free(&config);
	return code;
}

static int run_export(const struct gs_arguments *arguments)
{
	struct mig_call call;
	int code = mig_call_open(arguments, &call);
	if (code != GS_EXIT_OK)
		return code;
	code = no_operands(&call);
	code = code ? code : mig_read(&call);
	code = code ? code : export(&call);
	mig_call_close(&call);
	return code;
}

static const struct gs_option list_options[] = {
	{"gpu", 'i', "GPUS", NULL, NULL, "only these GPUs: indexes, UUIDs or PCI bus ids, with commas", NULL},
	{"socket", 0, "PATH", "GPUSHARE_SOCKET", NODE_DEFAULT_SOCKET,
	 "the node daemon's socket; what it has given to containers is in use, if there is one", "file"},
	{"output", 'o', "FORMAT", NULL, "table", "how to print: table or json", "table json"},
	{NULL},
};
static const struct gs_option show_options[] = {
	{"gpu", 'i', "GPUS", NULL, NULL, "only these GPUs: indexes, UUIDs or PCI bus ids, with commas", NULL},
	{"output", 'o', "FORMAT", NULL, "table", "how to print: table or json", "table json"},
	{NULL},
};

const struct gs_command gs_command_mig_list = {
	.name = "mig list",
	.synopsis = "",
	.summary = "show how each GPU is divided, and who uses which instance",
	.description = "Draws each GPU's memory slices with the instances on them; dots are free. Below, a line for "
		       "each compute "
		       "instance: GI and CI are its ids, and USED BY is the process that runs on it, with its pod, "
		       "container or share where that is known, or who was given it by the node daemon and has no "
		       "process yet.\n\n"
		       "Listing instances takes root, as with nvidia-smi.",
	.examples = "gpushare mig list  # all GPUs\n"
		    "gpushare mig list -i 0 -o json  # one, for a program",
	.options = list_options,
	.run = run_list,
};

const struct gs_command gs_command_mig_list_profiles = {
	.name = "mig list-profiles",
	.synopsis = "",
	.summary = "show the instances that each GPU can be divided into",
	.description = "Asks the driver, so names, ids and sizes are those of this GPU: id 9 is 3g.40gb on an A100 "
		       "with 80 GB, "
		       "and 1g.10gb has another id on one with 40 GB. FREE is how many more fit now, of how many at "
		       "most; 0 while MIG is off. SLICES is how many memory slices one takes, and where it can begin.",
	.examples = "gpushare mig list-profiles -i 0  # what GPU 0 offers",
	.options = show_options,
	.run = run_list_profiles,
};

static const struct gs_option export_options[] = {
	{"gpu", 'i', "GPUS", NULL, NULL, "only these GPUs: indexes, UUIDs or PCI bus ids, with commas", NULL},
	{"name", 'n', "NAME", NULL, "current", "what the configuration is called", NULL},
	{"generated", 0, NULL, NULL, NULL,
	 "print the configurations that this node has by itself (all-balanced and so on)", NULL},
	{"output", 'o', "FORMAT", NULL, "yaml", "how to print: yaml or json", "yaml json"},
	{NULL},
};

const struct gs_command gs_command_mig_export = {
	.name = "mig export",
	.synopsis = "",
	.summary = "print how the GPUs are divided, as a file that mig apply takes",
	.description = "The format is that of NVIDIA's mig-parted. It holds counts of profiles, not places.",
	.examples = "gpushare mig export > mig.yaml  # keep today's layout\n"
		    "gpushare mig export --generated  # what apply -c NAME knows without a file",
	.options = export_options,
	.run = run_export,
};
