#include "node/selection.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "core/config/config_parse.h"

enum {
	LISTED_MAX = 20,
	REMEMBERED_BYTES_MAX = 8 * GS_CONFIG_BYTES_MAX, /* JSON may need six bytes for one */
};

static const char *const strategies[] = {"named", "single", "empty"};

/* As the keys of a ConfigMap. A label cannot be anything else, unless a server lies. */
static bool is_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

static bool exists(const char *directory, const char *name)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", directory, name);
	return is_name(name) && access(path, F_OK) == 0;
}

/* The names in the directory with commas, and how many there are; `one` is one of them, owned by the caller. */
static size_t list(const char *directory, struct gs_strbuf *names, char **one)
{
	size_t count = 0;
	*one = NULL;
	DIR *stream = opendir(directory);
	if (!stream)
		return 0;
	for (struct dirent *entry; (entry = readdir(stream));) {
		if (!is_name(entry->d_name))
			continue;
		if (count++ < LISTED_MAX)
			gs_strbuf_printf(names, "%s%s", names->length ? ", " : "", entry->d_name);
		if (!*one)
			*one = gs_strdup(entry->d_name);
	}
	closedir(stream);
	return count;
}

static char *missing(const struct selection_rules *rules, const char *what, const char *name, struct gs_error *err)
{
	GS_AUTO_STRBUF struct gs_strbuf names = {0};
	GS_AUTO_FREE char *one = NULL;
	size_t count = list(rules->directory, &names, &one);
	if (count == 0)
		gs_fail(err, GS_ERROR_INPUT, ENOENT,
			"%s \"%s\", and %s has no configuration at all; mount the ConfigMap there", what, name,
			rules->directory);
	else
		gs_fail(err, GS_ERROR_INPUT, ENOENT, "%s \"%s\", and %s has no such configuration; there are: %s", what,
			name, rules->directory, names.data);
	return NULL;
}

/* The next word of a list with commas, without the spaces around it; NULL behind the last one. */
static const char *next_word(const char **list, size_t *length)
{
	if (!**list)
		return NULL;
	const char *word = *list + strspn(*list, " \t");
	const char *end = word + strcspn(word, ",");
	*list = end + (*end == ',');
	while (end > word && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*length = (size_t)(end - word);
	return word;
}

int selection_check_fallbacks(const char *fallbacks, struct gs_error *err)
{
	size_t word;
	for (const char *at; (at = next_word(&fallbacks, &word));) {
		bool known = false;
		for (size_t i = 0; i < GS_ARRAY_LENGTH(strategies); i++)
			known |= strlen(strategies[i]) == word && strncmp(at, strategies[i], word) == 0;
		if (!known)
			return gs_fail(err, GS_ERROR_INPUT, 0,
				       "unknown fallback strategy \"%.*s\"; use named, single and empty, with commas",
				       (int)word, at);
	}
	return 0;
}

char *selection_choose(const struct selection_rules *rules, const char *label, struct gs_error *err)
{
	const char *key = rules->label ? rules->label : SELECTION_LABEL;
	/* An empty label chooses nothing, as NVIDIA's config-manager sees it. */
	if (label && *label) {
		GS_AUTO_FREE char *says = gs_printf("the node's label %s says", key);
		return exists(rules->directory, label) ? gs_strdup(label) : missing(rules, says, label, err);
	}
	if (rules->default_name && *rules->default_name)
		return exists(rules->directory, rules->default_name)
			       ? gs_strdup(rules->default_name)
			       : missing(rules, "the default is", rules->default_name, err);
	GS_AUTO_STRBUF struct gs_strbuf names = {0};
	GS_AUTO_FREE char *one = NULL;
	size_t count = list(rules->directory, &names, &one);
	const char *fallbacks = rules->fallbacks;
	size_t word;
	for (const char *at; (at = next_word(&fallbacks, &word));) {
		if (strncmp(at, "named", word) == 0 && word == 5 && exists(rules->directory, "default"))
			return gs_strdup("default");
		if (strncmp(at, "single", word) == 0 && word == 6 && count == 1)
			return GS_STEAL(one);
		if (strncmp(at, "empty", word) == 0 && word == 5)
			return gs_strdup("");
	}
	gs_fail(err, GS_ERROR_INPUT, ENOENT,
		"the node has no label %s, no default is set, and none of the fallbacks (%s) chooses a "
		"configuration in %s, which has %s; label the node, or set a default with --default-config",
		key, *rules->fallbacks ? rules->fallbacks : "none", rules->directory, count ? names.data : "none");
	return NULL;
}

/* --- over restarts --- */

static char *path_in(const char *state_dir)
{
	return gs_printf("%s/config.json", state_dir);
}

int selection_recall(const char *state_dir, char **name, char **text, struct gs_error *err)
{
	GS_AUTO_FREE char *path = path_in(state_dir);
	GS_AUTO_FREE char *bytes = NULL;
	size_t length;
	bytes = gs_read_own_file(path, REMEMBERED_BYTES_MAX, &length, err);
	json_t *root = bytes ? json_loadb(bytes, length, 0, NULL) : NULL;
	const char *said_name = json_string_value(json_object_get(root, "name"));
	const char *said_text = json_string_value(json_object_get(root, "text"));
	bool complete = said_name && said_text && (!*said_name || is_name(said_name));
	if (complete) {
		*name = gs_strdup(said_name);
		*text = gs_strdup(said_text);
	}
	json_decref(root);
	if (bytes && !complete)
		gs_fail(err, GS_ERROR_INPUT, 0, "%s: not a configuration that was kept", path);
	if (!complete && !(err->source == GS_ERROR_SYSTEM && err->code == ENOENT))
		gs_set_aside(path, err);
	return complete ? 0 : -1;
}

int selection_remember(const char *state_dir, const char *name, const char *text, struct gs_error *err)
{
	GS_AUTO_FREE char *path = path_in(state_dir);
	json_t *root = json_pack("{s:s, s:s}", "name", name, "text", text);
	GS_AUTO_FREE char *bytes = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (!bytes)
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "the configuration %s is no text", name);
	return gs_write_file(path, bytes, strlen(bytes), 0600, err);
}
