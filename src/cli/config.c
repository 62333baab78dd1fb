/* gpushare config: checks files, explains them, and prints their schema. */
#include "cli/config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/environment.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "cli/gpus.h"
#include "cli/json.h"
#include "core/config/config_explain.h"
#include "core/config/config_parse.h"
#include "strategy/strategies.h"

/* The text of a file, or of standard input for "-"; owned by the caller, NULL when it cannot be read. */
static char *read_source(const char *path, const char *entry, struct gs_config_source *source, struct gs_error *err)
{
	bool standard_input = strcmp(path, "-") == 0;
	*source = (struct gs_config_source){.name = standard_input ? "(standard input)" : path, .entry = entry};
	char *text = gs_read_file(standard_input ? "/dev/stdin" : path, GS_CONFIG_BYTES_MAX, &source->length, err);
	source->text = text;
	return text;
}

static json_t *diagnostics_json(const char *name, bool valid, const struct gs_diagnostics *diags)
{
	json_t *list = json_array();
	for (size_t i = 0; i < diags->count; i++) {
		const struct gs_diagnostic *item = &diags->items[i];
		json_array_append_new(list, json_pack("{s:s, s:i, s:i, s:s, s:s}", "severity",
						      item->warning ? "warning" : "error", "line", item->line, "column",
						      item->column, "message", item->message, "text", item->text));
	}
	/* A file name need not be UTF-8; JSON must. */
	json_t *file = json_string(name);
	return json_pack("{s:o, s:b, s:o}", "file", file ? file : json_null(), "valid", valid, "diagnostics", list);
}

struct warnings {
	struct gs_diagnostics *diags;
	const char *name;
};

static void add_warning(void *user, const char *text)
{
	const struct warnings *to = user;
	gs_diagnostics_add(to->diags, true, to->name, 0, 0, "%s", text);
}

/* Whether this machine's GPUs can be shared so. */
static bool check_gpus(const struct gs_config *config, const char *name, struct gs_diagnostics *diags)
{
	struct gs_inventory inventory = {0};
	struct gs_plan plan = {0};
	struct gs_error err;
	if (cli_read_gpus(config, "config check", &inventory, NULL, &err) < 0) {
		gs_diagnostics_add(diags, false, name, 0, 0, "the GPUs of this machine can't be read: %s", err.text);
		return false;
	}
	bool fits = gs_plan_build(config, &inventory, gs_strategies, gs_strategy_count, &plan, &err) == 0;
	if (!fits)
		gs_diagnostics_add(diags, false, name, 0, 0, "%s", err.text);
	for (uint32_t i = 0; i < inventory.device_count; i++)
		fits &= !gs_plan_misfit(&plan, i);
	for (size_t i = 0; i < plan.note_count; i++)
		gs_diagnostics_add(diags, fits, name, 0, 0, "%s", plan.notes[i]);
	for (size_t i = 0; i < plan.unmatched_count; i++)
		gs_diagnostics_add(diags, true, name, 0, 0, "%s", plan.unmatched[i]);
	gs_plan_modes(&plan, &inventory, add_warning, &(struct warnings){diags, name});
	gs_plan_free(&plan);
	gs_inventory_free(&inventory);
	return fits;
}

/* Adds a JSON object to `results` when that is not NULL, else prints. */
static bool check_file(const char *path, const char *entry, bool gpus, json_t *results)
{
	struct gs_config_source source;
	struct gs_config config;
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	GS_AUTO_FREE char *text = read_source(path, entry, &source, &err);
	source.any_entry = true;
	if (!text)
		gs_diagnostics_add(&diags, false, source.name, 0, 0, "cannot be read: %s", strerror(err.code));
	bool parsed = text && gs_config_parse(&source, NULL, NULL, NULL, 0, &config, &diags) == 0;
	bool valid = parsed && (!gpus || check_gpus(&config, source.name, &diags));
	if (parsed)
		gs_config_free(&config);
	if (results)
		json_array_append_new(results, diagnostics_json(source.name, valid, &diags));
	else
		gs_print_diagnostics(&diags);
	if (valid && !results)
		printf("%s: ok\n", source.name);
	gs_diagnostics_free(&diags);
	return valid;
}

static int run_check(const struct gs_arguments *arguments)
{
	int json = gs_wants_json(arguments);
	if (json < 0)
		return GS_EXIT_USAGE;
	if (!arguments->operand_count) {
		fputs("gpushare config check: which file? Write gpushare config check FILE, or - for standard input\n",
		      stderr);
		return GS_EXIT_USAGE;
	}
	json_t *results = json ? json_array() : NULL;
	bool valid = true;
	for (int i = 0; i < arguments->operand_count; i++)
		valid &= check_file(arguments->operands[i], gs_option_value(arguments, "key"),
				    gs_option_value(arguments, "gpus") != NULL, results);
	if (results && gs_json_print(results))
		return GS_EXIT_FAILURE;
	return valid ? GS_EXIT_OK : GS_EXIT_FAILURE;
}

static void add_sentence(void *user, const char *text)
{
	gs_strbuf_printf(user, "  ! %s\n", text);
}

/* Describes the shares that the configuration gives on this machine's GPUs; adds no text where none can be read. */
static void explain_here(const struct gs_config *config, struct gs_strbuf *words)
{
	struct gs_inventory inventory = {0};
	struct gs_plan plan = {0};
	struct gs_error err;
	if (cli_read_gpus(config, "config explain", &inventory, NULL, &err) < 0)
		return;
	gs_strbuf_add(words, "\nOn this machine\n");
	if (gs_plan_build(config, &inventory, gs_strategies, gs_strategy_count, &plan, &err) < 0)
		gs_strbuf_printf(words, "  ! %s\n", err.text);
	for (size_t i = 0; i < plan.resource_count; i++)
		gs_strbuf_printf(words, "  %s: %zu on %zu device%s\n", plan.resources[i].name,
				 plan.resources[i].share_count, plan.resources[i].device_count,
				 plan.resources[i].device_count == 1 ? "" : "s");
	for (size_t i = 0; i < plan.note_count; i++)
		gs_strbuf_printf(words, "  ! %s\n", plan.notes[i]);
	for (size_t i = 0; i < plan.unmatched_count; i++)
		gs_strbuf_printf(words, "  ! %s\n", plan.unmatched[i]);
	gs_plan_modes(&plan, &inventory, add_sentence, words);
	gs_plan_free(&plan);
	gs_inventory_free(&inventory);
}

static int explain_file(const char *path, const char *entry, bool all, bool json)
{
	struct gs_config_source source;
	struct gs_config config;
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	GS_AUTO_FREE char *text = read_source(path, entry, &source, &err);
	if (!text) {
		fprintf(stderr, "gpushare config explain: %s\n", err.text);
		return GS_EXIT_FAILURE;
	}
	GS_AUTO_FREE struct gs_config_origin *origins = gs_calloc(gs_config_key_count, sizeof *origins);
	int result = gs_config_parse_origins(&source, gs_environment, NULL, NULL, 0, &config, origins, &diags);
	gs_print_diagnostics(&diags);
	gs_diagnostics_free(&diags);
	if (result < 0)
		return GS_EXIT_FAILURE;
	if (json) {
		result = gs_json_print(
			gs_config_explain_json(&config, origins, source.name, gs_strategies, gs_strategy_count, all));
	} else {
		GS_AUTO_STRBUF struct gs_strbuf words = {0};
		gs_config_explain(&config, origins, source.name, gs_strategies, gs_strategy_count, all, &words);
		explain_here(&config, &words);
		result = fputs(words.data, stdout) < 0 || fflush(stdout) ? GS_EXIT_FAILURE : GS_EXIT_OK;
	}
	gs_config_free(&config);
	return result;
}

static int run_explain(const struct gs_arguments *arguments)
{
	int json = gs_wants_json(arguments);
	if (json < 0)
		return GS_EXIT_USAGE;
	if (arguments->operand_count != 1) {
		fputs("gpushare config explain: give one FILE, or - for standard input\n", stderr);
		return GS_EXIT_USAGE;
	}
	return explain_file(arguments->operands[0], gs_option_value(arguments, "key"),
			    gs_option_value(arguments, "all") != NULL, json);
}

static int run_schema(const struct gs_arguments *arguments)
{
	int json = gs_wants_json(arguments);
	if (json < 0)
		return GS_EXIT_USAGE;
	if (arguments->operand_count) {
		fputs("gpushare config schema: takes no operands\n", stderr);
		return GS_EXIT_USAGE;
	}
	if (json)
		return gs_json_print(gs_config_json_schema());
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	gs_config_markdown(&text);
	return fputs(text.data, stdout) < 0 || fflush(stdout) ? GS_EXIT_FAILURE : GS_EXIT_OK;
}

#define KEY_OPTION                                                                             \
	{                                                                                      \
		.name = "key", .argument = "NAME",                                             \
		.help = "Which data key of a ConfigMap manifest is meant, when it has several" \
	}

#define FORMAT_OPTION                                                                      \
	{                                                                                  \
		.name = "output", .letter = 'o', .argument = "FORMAT", .fallback = "text", \
		.help = "Print text or json", .complete = "text json"                      \
	}

static const struct gs_option explain_options[] = {
	FORMAT_OPTION,
	KEY_OPTION,
	{.name = "all", .letter = 'a', .help = "Show also the values that nothing changes"},
	{.name = NULL},
};
static const struct gs_option check_options[] = {
	FORMAT_OPTION,
	KEY_OPTION,
	{.name = "gpus",
	 .help = "Check also whether the GPUs of this machine can be shared so: memory, clients, devices"},
	{.name = NULL},
};
static const struct gs_option schema_options[] = {
	{.name = "output",
	 .letter = 'o',
	 .argument = "FORMAT",
	 .fallback = "json",
	 .help = "Print json (a JSON Schema) or markdown (tables of all keys)",
	 .complete = "json markdown"},
	{.name = NULL},
};

const struct gs_command gs_command_config_check = {
	.name = "config check",
	.synopsis = "FILE...",
	.summary = "check configuration files and say everything that is wrong with them",
	.description =
		"Reads each FILE (- is standard input) as the node daemon would, without its environment, and prints "
		"\"FILE: ok\" or every error as FILE:LINE:COLUMN: what is wrong; how to fix it. A Kubernetes ConfigMap "
		"manifest that holds configurations is accepted; all of them are checked.\n\n"
		"With --gpus the GPUs of this machine are read too, and what a configuration wants of them must be "
		"there: memory for the limits of MPS, no more clients than they take, names within bounds. Devices and "
		"resources that it names and "
		"this machine lacks are warnings. Of several in a manifest that is done for the one that would be "
		"used.\n\n"
		"The exit status is 0 when all files are valid and 1 otherwise.",
	.examples =
		"gpushare config check config.yaml  # before it goes to the cluster\n"
		"gpushare sim 8xA100-80GB -- gpushare config check --gpus config.yaml  # would it fit such a node?\n"
		"kubectl get configmap gpushare -o yaml | gpushare config check -  # what is there now",
	.options = check_options,
	.run = run_check,
};

const struct gs_command gs_command_config_explain = {
	.name = "config explain",
	.synopsis = "FILE",
	.summary = "say in words what a configuration shares and how, and where each value comes from",
	.description =
		"Reads FILE (- is standard input) with the environment variables of this shell over it, as the "
		"node daemon does, and prints what will be shared, then each value that is set or is not the default, "
		"with its origin: a place in the file or an environment variable. With --all it prints every value in "
		"force. Where there are GPUs to read, it ends with what comes of it on this "
		"machine, and what the file names and this machine does not have.",
	.examples = "gpushare config explain config.yaml  # what will this do?\n"
		    "gpushare config explain --all config.yaml  # and every default with it\n"
		    "gpushare config explain -o json config.yaml  # the same for a program",
	.options = explain_options,
	.run = run_explain,
};

const struct gs_command gs_command_config_schema = {
	.name = "config schema",
	.synopsis = "",
	.summary = "print the JSON Schema of the configuration file",
	.description = "Prints a JSON Schema (draft 2020-12) for editors and linters. It describes the file's form; "
		       "rules between entries, "
		       "such as two entries that share one device, are checked by gpushare config check only.",
	.examples = "gpushare config schema > gpushare.schema.json  # for an editor",
	.options = schema_options,
	.run = run_schema,
};
