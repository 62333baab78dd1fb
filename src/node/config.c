/* The configuration: chosen, read, checked, watched. A bad one never replaces a good one. */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/environment.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "core/config/config_parse.h"
#include "node/node_internal.h"
#include "node/selection.h"
#include "node/specs.h"

enum {
	DEBOUNCE_MS = 50,
	LOOK_AGAIN_MS = 1000,      /* for a directory that could not be watched */
	LABEL_WAIT_MS = 10 * 1000, /* at the first start, for the label to say which configuration */
};

/* All of a file's problems in one text, a line each. */
static char *join(const struct gs_diagnostics *diagnostics)
{
	struct gs_strbuf text = {0};
	for (size_t i = 0; i < diagnostics->count; i++)
		if (!diagnostics->items[i].warning)
			gs_strbuf_printf(&text, "%s%s", text.length ? "\n" : "", diagnostics->items[i].text);
	return gs_strbuf_take(&text);
}

static int parse(const struct node *node, const char *name, const char *text, size_t length, struct gs_config *config,
		 char **problem)
{
	const struct gs_config_source source = {
		.name = name, .text = text, .length = length, .untrusted = !node->options->trust_config};
	struct gs_diagnostics diagnostics = {0};
	int result = gs_config_parse(&source, gs_environment, NULL, node->options->overrides,
				     node->options->override_count, config, &diagnostics);
	for (size_t i = 0; i < diagnostics.count; i++)
		if (diagnostics.items[i].warning)
			gs_log(GS_LOG_WARNING, diagnostics.items[i].text);
	if (result < 0)
		*problem = join(&diagnostics);
	gs_diagnostics_free(&diagnostics);
	return result;
}

/* Reads and parses. `path` is NULL for the empty configuration; `text` gets the file's content when it could be read. */
static int load(struct node *node, const char *path, bool first, char **text, struct gs_config *config, char **problem)
{
	size_t length = 0;
	struct gs_error err;
	/* A pipe that is used up would read as an empty file, and one without a writer would block the loop thread. */
	if (!path)
		*text = gs_strdup("");
	else
		*text = first ? gs_read_file(path, GS_CONFIG_BYTES_MAX, &length, &err)
			      : gs_read_file_again(path, GS_CONFIG_BYTES_MAX, &length, &err);
	node->config_unread = !*text && err.source == GS_ERROR_SYSTEM;
	char *decoded = *text ? gs_text_decode(*text, &length, &err) : NULL;
	free(*text);
	*text = decoded;
	if (!decoded) {
		*problem = path ? gs_printf("%s: %s", path, err.text) : gs_strdup(err.text);
		return -1;
	}
	return parse(node, path ? path : "(no file)", *text, length, config, problem);
}

/* --- a directory of configurations --- */

static struct selection_rules rules_of(const struct node *node)
{
	return (struct selection_rules){
		.directory = node->options->config_dir,
		.default_name = node->options->default_config,
		.fallbacks = node->options->fallback_strategies,
		.label = node->options->config_label_key,
	};
}

/* The path of the configuration `name`; NULL for the empty one. */
static char *path_of(const struct node *node, const char *name)
{
	return *name ? gs_printf("%s/%s", node->options->config_dir, name) : NULL;
}

/* The configuration that was in force when the daemon last ran, as it is now or else as it was then. */
static bool recall(struct node *node)
{
	GS_AUTO_FREE char *name = NULL;
	GS_AUTO_FREE char *old_text = NULL;
	struct gs_error err;
	if (selection_recall(node->options->state_dir, &name, &old_text, &err) < 0) {
		if (!(err.source == GS_ERROR_SYSTEM && err.code == ENOENT))
			gs_log(GS_LOG_WARNING, "the configuration that was in force before the restart is not known",
			       GS_STR("error", err.text));
		return false;
	}
	GS_AUTO_FREE char *path = path_of(node, name);
	GS_AUTO_FREE char *problem = NULL;
	GS_AUTO_FREE char *old_problem = NULL;
	GS_AUTO_FREE char *text = NULL;
	struct gs_config config;
	if (load(node, path, false, &text, &config, &problem) < 0) {
		if (parse(node, "(what was in force before)", old_text, strlen(old_text), &config, &old_problem) < 0)
			return false;
		gs_log(GS_LOG_ERROR, "the configuration is not valid; what was in force before the restart stays",
		       GS_STR("name", name), GS_STR("error", problem));
		free(text);
		text = GS_STEAL(old_text);
		node->config_problem = GS_STEAL(problem);
	}
	gs_config_free(&node->config);
	node->config = config;
	node->config_text = GS_STEAL(text);
	node->config_name = GS_STEAL(name);
	return true;
}

static void remember(struct node *node)
{
	struct gs_error err;
	bool failed = selection_remember(node->options->state_dir, node->config_name, node->config_text, &err) < 0;
	if (failed && !node->config_unkept)
		gs_log(GS_LOG_WARNING, "the configuration can't be kept for the next start; trying again",
		       GS_STR("error", err.text));
	node->config_unkept = failed;
}

void node_config_looked(struct node *node)
{
	if (node->config_unkept)
		remember(node);
}

/* --- loading --- */

static void set_problem(struct node *node, char *problem)
{
	if (problem && (!node->config_problem || strcmp(node->config_problem, problem) != 0))
		gs_log(GS_LOG_ERROR,
		       node->config_unread  ? "the config file can't be read; trying again"
		       : node->config_ready ? "the config file is not valid; the last good one stays in force"
					    : "the config file is not valid; nothing is shared until it is",
		       GS_STR("error", problem));
	free(node->config_problem);
	node->config_problem = problem;
}

/* Which file should be in force; -1 with the problem set. */
static int locate(struct node *node, char **name, char **path)
{
	*name = NULL;
	if (!node->options->config_dir) {
		*path = gs_strdup(node->options->config_path);
		return 0;
	}
	struct gs_error err;
	const struct selection_rules rules = rules_of(node);
	/* The chosen config stays until the API server names another one. */
	bool keeps = node->cluster && !node->config_label_known && node->config_name;
	*name = keeps ? gs_strdup(node->config_name) : selection_choose(&rules, node->config_label, &err);
	if (!*name) {
		set_problem(node, gs_strdup(err.text));
		node->config_unread = true; /* a file may come without a word, while links are changed */
		return -1;
	}
	*path = path_of(node, *name);
	return 0;
}

static bool differ(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") != 0;
}

static void warn_of_late_keys(const struct node *node, const struct gs_config *config)
{
	if (node->config.kubernetes.api != config->kubernetes.api ||
	    differ(node->config.kubernetes.node_name, config->kubernetes.node_name) ||
	    differ(node->config.kubernetes.service_account_dir, config->kubernetes.service_account_dir))
		gs_log(GS_LOG_WARNING,
		       "the section kubernetes changed; that takes effect when the daemon starts again");
}

static void read_again(struct node *node);

bool node_config_reload(struct node *node, bool force)
{
	if ((!node->options->config_path && !node->options->config_dir) || node->config_waits_for_label)
		return false;
	GS_AUTO_FREE char *name = NULL;
	GS_AUTO_FREE char *path = NULL;
	if (locate(node, &name, &path) < 0) {
		read_again(node);
		return false;
	}
	GS_AUTO_FREE char *text = NULL;
	struct gs_config config;
	char *problem = NULL;
	if (load(node, path, false, &text, &config, &problem) < 0) {
		set_problem(node, problem);
		read_again(node);
		return false;
	}
	bool same_name = !name || (node->config_name && strcmp(name, node->config_name) == 0);
	bool same = node->config_ready && node->config_text && strcmp(text, node->config_text) == 0 && same_name &&
		    !node->config_problem;
	set_problem(node, NULL);
	if (same && !force) {
		gs_config_free(&config);
		return false;
	}
	warn_of_late_keys(node, &config);
	gs_active_keep(node->strategies, &node->config, &config);
	node_specs_release(node, &node->config);
	node->config = config;
	node->config_ready = true;
	free(node->config_text);
	node->config_text = GS_STEAL(text);
	if (name) {
		free(node->config_name);
		node->config_name = GS_STEAL(name);
		remember(node);
	}
	gs_log(GS_LOG_INFO, "config loaded", GS_STR("file", path ? path : "(none)"));
	return true;
}

/* Defaults, environment and flags without a file: enough to look for GPUs and for the API server. */
static int load_bare(struct node *node, struct gs_error *err)
{
	GS_AUTO_FREE char *problem = NULL;
	if (parse(node, "(no file)", "", 0, &node->config, &problem) == 0)
		return 0;
	fprintf(stderr, "%s\n", problem);
	return gs_fail(err, GS_ERROR_INPUT, 0, "not started, since the config is not valid");
}

/* The directory's default says whether there is an API server to ask; what comes of that is node_config_begin's. */
static int load_default(struct node *node, struct gs_error *err)
{
	const struct selection_rules rules = rules_of(node);
	if (selection_check_fallbacks(rules.fallbacks, err) < 0)
		return -1;
	GS_AUTO_FREE char *name = selection_choose(&rules, NULL, NULL);
	GS_AUTO_FREE char *path = name ? path_of(node, name) : NULL;
	GS_AUTO_FREE char *text = NULL;
	GS_AUTO_FREE char *problem = NULL;
	if (name && load(node, path, false, &text, &node->config, &problem) == 0)
		return 0;
	return load_bare(node, err);
}

int node_config_load(struct node *node, struct gs_error *err)
{
	if (node->options->config_dir)
		return load_default(node, err);
	if (!node->options->config_path) {
		node->config_ready = true;
		return load_bare(node, err);
	}
	GS_AUTO_FREE char *problem = NULL;
	if (load(node, node->options->config_path, true, &node->config_text, &node->config, &problem) == 0) {
		node->config_ready = true;
		return 0;
	}
	/* All of it, and not cut to an error's length: the user wants to mend everything at once. */
	fprintf(stderr, "%s\n", problem);
	return gs_fail(err, GS_ERROR_INPUT, 0, "not started, since the config is not valid");
}

/* --- the label --- */

static void reload(struct node *node)
{
	if (node_config_reload(node, false))
		node_republish(node);
	node_report(node);
}

static void on_label_wait_over(uv_timer_t *timer)
{
	struct node *node = timer->loop->data;
	if (!node->config_waits_for_label)
		return;
	gs_log(GS_LOG_WARNING, "the API server does not say which configuration this node has; taking the default");
	node->config_waits_for_label = false;
	reload(node);
	node_config_watch(node);
}

void node_config_label(struct node *node, const char *value)
{
	if (!node->options->config_dir || node->stopping)
		return;
	gs_log(GS_LOG_INFO, "the node's label chooses the configuration",
	       GS_STR("label", node->options->config_label_key), GS_STR("value", value ? value : ""));
	free(node->config_label);
	node->config_label = value ? gs_strdup(value) : NULL;
	node->config_label_known = true;
	node->config_waits_for_label = false;
	reload(node);
	node_config_watch(node);
}

void node_config_begin(struct node *node)
{
	if (!node->options->config_dir)
		return;
	if (node->cluster) {
		/* Until the label is known: the config that was last in force, else a short wait. */
		node->config_ready = recall(node);
		node->config_waits_for_label = !node->config_ready;
		if (!node->config_ready)
			uv_timer_start(&node->config_timer, on_label_wait_over, LABEL_WAIT_MS, 0);
		else
			gs_log(GS_LOG_INFO, "config kept from before", GS_STR("name", node->config_name));
		return;
	}
	node_config_reload(node, false);
}

/* --- watching --- */

static void on_config_timer(uv_timer_t *timer)
{
	struct node *node = timer->loop->data;
	node_config_watch(node);
	reload(node);
}

/* A file that could not be read may be readable a moment later, and no file event says so: its links were being
 * changed, the disk had an error, or no descriptor was free. */
static void read_again(struct node *node)
{
	if (node->config_unread && !node->stopping)
		uv_timer_start(&node->config_timer, on_config_timer, LOOK_AGAIN_MS, 0);
}

static void on_config_event(uv_fs_event_t *event, const char *name, int events, int status)
{
	struct node *node = event->loop->data;
	if (!node->config_waits_for_label)
		uv_timer_start(&node->config_timer, on_config_timer, DEBOUNCE_MS, 0);
}

static int watch(struct node *node, size_t which, const char *directory)
{
	uv_fs_event_stop(&node->config_events[which]);
	return uv_fs_event_start(&node->config_events[which], on_config_event, directory, 0);
}

/* Directories are watched, not the file: editors rename, and the kubelet swaps the link ..data of a volume. Where the
 * path is a link, the directory that it leads to as well. Armed anew at every change, since either may be another one. */
void node_config_watch(struct node *node)
{
	const struct node_options *options = node->options;
	if (!options->config_path && !options->config_dir)
		return;
	GS_AUTO_FREE char *copy = gs_strdup(options->config_path ? options->config_path : "");
	const char *directory = options->config_dir ? options->config_dir : dirname(copy);
	GS_AUTO_FREE char *chosen = node->config_name ? path_of(node, node->config_name) : NULL;
	GS_AUTO_FREE char *target =
		realpath(options->config_dir ? (chosen ? chosen : directory) : options->config_path, NULL);
	int failed = watch(node, 0, directory);
	if (failed) {
		if (!node->config_unwatched)
			gs_log(GS_LOG_WARNING, "the configuration can't be watched; looking every second",
			       GS_STR("directory", directory), GS_STR("error", uv_strerror(failed)));
		node->config_unwatched = true;
		if (!node->config_waits_for_label)
			uv_timer_start(&node->config_timer, on_config_timer, LOOK_AGAIN_MS, 0);
		return;
	}
	node->config_unwatched = false;
	if (target && watch(node, 1, dirname(target)) != 0)
		uv_fs_event_stop(&node->config_events[1]);
	read_again(node);
}
