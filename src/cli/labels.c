/* gpushare labels: the labels that the daemon would set on this node. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/environment.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/gpus.h"
#include "cli/json.h"
#include "core/config/config_parse.h"
#include "core/labels/labels.h"
#include "gpu/hangs.h"
#include "gpu/label_facts.h"
#include "node/labels.h"
#include "strategy/strategies.h"

/* As the daemon would: the file (NULL: none) below this shell's environment. */
static int load_config(const char *path, const char *entry, struct gs_config *config)
{
	struct gs_config_source source = {.name = path ? path : "(defaults)", .entry = entry, .text = ""};
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	GS_AUTO_FREE char *text = path ? gs_read_file(path, GS_CONFIG_BYTES_MAX, &source.length, &err) : NULL;
	if (path && !text) {
		fprintf(stderr, "gpushare labels: %s\n", err.text);
		return -1;
	}
	if (text)
		source.text = text;
	int result = gs_config_parse(&source, gs_environment, NULL, NULL, 0, config, &diags);
	gs_print_diagnostics(&diags);
	gs_diagnostics_free(&diags);
	return result;
}

/* Reads this machine. Problems of single GPUs go to standard error; the rest is labelled. */
static int read_node(const struct gs_config *config, struct gs_inventory *inventory, struct gs_label_facts *facts,
		     struct gs_error *err)
{
	const struct gs_label_facts nothing = {0};
	struct gs_nvml *nvml;
	if (cli_read_gpus(config, "labels", inventory, &nvml, err) < 0)
		return -1;
	gs_label_facts_read(nvml, cli_places(config).sysfs, inventory, &nothing, facts);
	gs_hangs_close(nvml);
	node_read_machine(config->flags.gfd.machine_type_file, facts->machine, sizeof facts->machine);
	facts->started_seconds = (int64_t)time(NULL);
	return 0;
}

static int build(const struct gs_config *config, struct gs_labels *labels, struct gs_error *err)
{
	struct gs_inventory inventory = {0};
	struct gs_label_facts facts = {0};
	struct gs_plan plan = {0};
	int result = read_node(config, &inventory, &facts, err);
	if (result == 0)
		result = gs_plan_build(config, &inventory, gs_strategies, gs_strategy_count, &plan, err);
	if (result == 0)
		gs_labels_build(config, &inventory, &plan, &facts, labels);
	gs_plan_free(&plan);
	gs_label_facts_free(&facts);
	gs_inventory_free(&inventory);
	return result;
}

static void print_json(const struct gs_labels *labels)
{
	json_t *object = json_object();
	for (size_t i = 0; i < labels->count; i++)
		json_object_set_new(object, labels->items[i].key, json_string(labels->items[i].value));
	gs_json_print(object);
}

/* Values are quoted: a label is text, and true or 8 would not be. None holds what must be escaped. */
static void print_yaml(const struct gs_labels *labels)
{
	if (labels->count == 0)
		puts("{}");
	for (size_t i = 0; i < labels->count; i++)
		printf("%s: \"%s\"\n", labels->items[i].key, labels->items[i].value);
}

static int print_text(struct gs_strbuf *text)
{
	if (text->data)
		fputs(text->data, stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? GS_EXIT_OK : GS_EXIT_FAILURE;
}

static int run(const struct gs_arguments *arguments)
{
	const char *output = gs_option_value(arguments, "output");
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	if (arguments->operand_count > 0) {
		fprintf(stderr, "gpushare labels: takes no argument \"%s\"; see gpushare labels --help\n",
			arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	if (strcmp(output, "text") != 0 && strcmp(output, "json") != 0 && strcmp(output, "yaml") != 0 &&
	    strcmp(output, "markdown") != 0) {
		fprintf(stderr, "gpushare labels: -o \"%s\" does not exist; write text, json, yaml or markdown\n",
			output);
		return GS_EXIT_USAGE;
	}
	if (strcmp(output, "markdown") == 0) {
		gs_labels_markdown(&text);
		return print_text(&text);
	}
	struct gs_config config;
	struct gs_labels labels = {0};
	struct gs_error err;
	if (load_config(gs_option_value(arguments, "config"), gs_option_value(arguments, "key"), &config) < 0)
		return GS_EXIT_FAILURE;
	int result = build(&config, &labels, &err);
	gs_config_free(&config);
	if (result < 0) {
		fprintf(stderr, "gpushare labels: %s\n", err.text);
		gs_labels_free(&labels);
		return GS_EXIT_FAILURE;
	}
	if (strcmp(output, "json") == 0)
		print_json(&labels);
	else if (strcmp(output, "yaml") == 0)
		print_yaml(&labels);
	else
		gs_labels_feature_file(&labels, &text);
	gs_labels_free(&labels);
	return print_text(&text);
}

static const struct gs_option options[] = {
	{"config", 'c', "FILE", "CONFIG_FILE", NULL,
	 "NVIDIA's device-plugin config, version v1, or a ConfigMap that wraps one", "file"},
	{"key", 0, "NAME", NULL, NULL, "which data key of a ConfigMap manifest is meant, when it has several", NULL},
	{"output", 'o', "FORMAT", NULL, "text",
	 "how to print: text (as Node Feature Discovery's file), json, yaml, or markdown (a table of every label there "
	 "can be)",
	 "text json yaml markdown"},
	{NULL},
};

const struct gs_command gs_command_labels = {
	.name = "labels",
	.synopsis = "",
	.summary = "print the node labels that describe this machine's GPUs and how they are shared",
	.description =
		"Reads the GPUs and the config as the node daemon does, and prints the labels of NVIDIA's GPU Feature "
		"Discovery that it would publish. Needs neither a daemon nor a cluster, and changes nothing.",
	.examples = "gpushare labels  # of this machine\n"
		    "gpushare sim 8xA100-80GB -- gpushare labels -o json  # of a simulated one\n"
		    "gpushare labels -c config.yaml -o yaml  # with what this config shares",
	.options = options,
	.run = run,
};
