/* The config file: read, checked, watched. A bad file never replaces a good one. */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "core/config_parse.h"
#include "node/node_internal.h"

enum { DEBOUNCE_MS = 50 };

static const char *environment(const char *name, void *user)
{
	return getenv(name);
}

/* All of a file's problems in one text, a line each. */
static char *join(const struct gs_diagnostics *diagnostics)
{
	struct gs_strbuf text = {0};
	for (size_t i = 0; i < diagnostics->count; i++)
		if (!diagnostics->items[i].warning)
			gs_strbuf_printf(&text, "%s%s", text.length ? "\n" : "", diagnostics->items[i].text);
	return gs_strbuf_take(&text);
}

/* Reads and parses. `text` gets the file's content whenever it could be read. */
static int load(struct node *node, char **text, struct gs_config *config, char **problem)
{
	struct gs_config_source source = {.name = "(no file)", .text = "", .length = 0};
	struct gs_error err;
	*text = NULL;
	if (node->options->config_path) {
		*text = gs_read_file(node->options->config_path, GS_CONFIG_BYTES_MAX, &source.length, &err);
		if (!*text) {
			*problem = gs_strdup(err.text);
			return -1;
		}
		source.name = node->options->config_path;
		source.text = *text;
	}
	struct gs_diagnostics diagnostics = {0};
	int result = gs_config_parse(&source, environment, NULL, node->options->overrides,
				     node->options->override_count, config, &diagnostics);
	for (size_t i = 0; i < diagnostics.count; i++)
		if (diagnostics.items[i].warning)
			gs_log(GS_LOG_WARNING, diagnostics.items[i].text);
	if (result < 0)
		*problem = join(&diagnostics);
	gs_diagnostics_free(&diagnostics);
	return result;
}

int node_config_load(struct node *node, struct gs_error *err)
{
	GS_AUTO_FREE char *problem = NULL;
	if (load(node, &node->config_text, &node->config, &problem) == 0)
		return 0;
	/* All of it, and not cut to an error's length: the user wants to mend everything at once. */
	fprintf(stderr, "%s\n", problem);
	return gs_fail(err, GS_ERROR_INPUT, 0, "not started, since the config is not valid");
}

bool node_config_reload(struct node *node, bool force)
{
	if (!node->options->config_path)
		return false;
	char *text;
	struct gs_config config;
	char *problem = NULL;
	int result = load(node, &text, &config, &problem);
	bool same = text && node->config_text && strcmp(text, node->config_text) == 0 && !node->config_problem;
	if (text) {
		free(node->config_text);
		node->config_text = text;
	}
	if (result < 0) {
		if (!node->config_problem || strcmp(node->config_problem, problem) != 0)
			gs_log(GS_LOG_ERROR, "the config file is not valid; the last good one stays in force",
			       GS_STR("error", problem));
		free(node->config_problem);
		node->config_problem = problem;
		return false;
	}
	free(node->config_problem);
	node->config_problem = NULL;
	if (same && !force) {
		gs_config_free(&config);
		return false;
	}
	gs_config_free(&node->config);
	node->config = config;
	gs_log(GS_LOG_INFO, "config loaded", GS_STR("file", node->options->config_path));
	return true;
}

static void on_config_timer(uv_timer_t *timer)
{
	struct node *node = timer->loop->data;
	if (node_config_reload(node, false))
		node_republish(node);
}

static void on_config_event(uv_fs_event_t *event, const char *name, int events, int status)
{
	struct node *node = event->loop->data;
	uv_timer_start(&node->config_timer, on_config_timer, DEBOUNCE_MS, 0);
}

/* The directory is watched, not the file: editors rename, and a ConfigMap volume swaps a link beside it. */
void node_config_watch(struct node *node)
{
	if (!node->options->config_path)
		return;
	GS_AUTO_FREE char *copy = gs_strdup(node->options->config_path);
	const char *directory = dirname(copy);
	int failed = uv_fs_event_start(&node->config_event, on_config_event, directory, 0);
	if (failed)
		gs_log(GS_LOG_WARNING, "the config file can't be watched; send SIGHUP after an edit",
		       GS_STR("directory", directory), GS_STR("error", uv_strerror(failed)));
}
