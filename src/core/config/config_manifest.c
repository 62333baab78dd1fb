#include "core/config/config_manifest.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/strbuf.h"
#include "base/vec.h"

bool gs_manifest_is(const struct gs_node *root)
{
	return gs_node_get(root, "kind") != NULL;
}

static size_t leading_spaces(const char *text, const char *end)
{
	size_t count = 0;
	while (text + count < end && text[count] == ' ')
		count++;
	return count;
}

static const char *next_line(const char *text, const char *end)
{
	const char *newline = text < end ? memchr(text, '\n', (size_t)(end - text)) : NULL;
	return newline ? newline + 1 : NULL;
}

/* How far the lines of a block literal are indented in the file: seen at its first line that is not blank. */
static int literal_indentation(const struct gs_config_source *source, const struct gs_node *node)
{
	const char *outer = source->text, *outer_end = source->text + source->length;
	const char *inner = node->text, *inner_end = node->text + strlen(node->text);
	for (int line = 0; outer && line < node->line; line++)
		outer = next_line(outer, outer_end);
	while (outer && inner && *inner == '\n') {
		inner = next_line(inner, inner_end);
		outer = next_line(outer, outer_end);
	}
	if (!outer || !inner)
		return 0;
	size_t out = leading_spaces(outer, outer_end), in = leading_spaces(inner, inner_end);
	return out > in ? (int)(out - in) : 0;
}

static void add_part(const struct gs_config_source *source, const char *key, const struct gs_node *node,
		     struct gs_manifest *manifest)
{
	struct gs_manifest_part part = {.text = node->text};
	if (node->literal) {
		/* The text begins on the line after the "|". */
		part.place = (struct gs_tree_place){node->line, literal_indentation(source, node)};
		part.name = gs_strdup(source->name);
	} else {
		part.name = gs_printf("%s[data.%s]", source->name, key);
	}
	*GS_VEC_PUSH(manifest) = part;
}

static size_t find(const struct gs_node *data, const char *key)
{
	for (size_t i = 0; key && i < data->count; i++)
		if (strcmp(data->keys[i]->text, key) == 0)
			return i;
	return data->count;
}

static int choose(const struct gs_config_source *source, const struct gs_node *data, struct gs_manifest *manifest,
		  struct gs_diagnostics *diags)
{
	size_t chosen = source->entry ? find(data, source->entry) : data->count == 1 ? 0 : find(data, "default");
	if (!source->entry && chosen == data->count)
		chosen = find(data, "config.yaml");
	manifest->chosen = chosen;
	if (chosen < data->count || (!source->entry && source->any_entry))
		return 0;
	GS_AUTO_STRBUF struct gs_strbuf names = {0};
	for (size_t i = 0; i < data->count && i < 20; i++)
		gs_strbuf_printf(&names, "%s%.60s", i ? ", " : "", data->keys[i]->text);
	if (source->entry)
		gs_diagnostics_add(diags, false, source->name, data->line, data->column,
				   "this ConfigMap has no data key \"%.60s\"; it has: %s", source->entry, names.data);
	else
		gs_diagnostics_add(diags, false, source->name, data->line, data->column,
				   "this ConfigMap has several configurations (%s); name the one that "
				   "counts \"default\"; gpushare config explain also takes --key NAME",
				   names.data);
	return -1;
}

int gs_manifest_read(const struct gs_config_source *source, const struct gs_node *root, struct gs_manifest *manifest,
		     struct gs_diagnostics *diags)
{
	const struct gs_node *kind = gs_node_get(root, "kind"), *data = gs_node_get(root, "data");
	*manifest = (struct gs_manifest){0};
	if (kind->kind != GS_NODE_SCALAR || strcmp(kind->text, "ConfigMap") != 0) {
		gs_diagnostics_add(diags, false, source->name, kind->line, kind->column,
				   "this is a Kubernetes %.60s, not a configuration; give the configuration, or a "
				   "ConfigMap that holds it",
				   kind->kind == GS_NODE_SCALAR && *kind->text ? kind->text : "object");
		return -1;
	}
	if (!data || data->kind != GS_NODE_MAP || !data->count) {
		gs_diagnostics_add(diags, false, source->name, data ? data->line : kind->line,
				   data ? data->column : kind->column,
				   "this ConfigMap has no data; add data with a key such as config.yaml that holds the "
				   "configuration");
		return -1;
	}
	size_t errors = diags->error_count, bytes = 0;
	for (size_t i = 0; i < data->count; i++) {
		const struct gs_node *node = data->items[i];
		/* Each is read: an alias must not make one text a thousand. */
		bytes += node->kind == GS_NODE_SCALAR ? strlen(node->text) : 0;
		if (bytes > GS_CONFIG_BYTES_MAX) {
			gs_diagnostics_add(diags, false, source->name, node->line, node->column,
					   "the data of this ConfigMap has more than %d bytes, aliases expanded",
					   GS_CONFIG_BYTES_MAX);
			gs_manifest_free(manifest);
			return -1;
		}
		if (node->kind != GS_NODE_SCALAR)
			gs_diagnostics_add(
				diags, false, source->name, node->line, node->column,
				"data.%.60s must be text; write \"%.60s: |\" and the configuration indented below",
				data->keys[i]->text, data->keys[i]->text);
		else
			add_part(source, data->keys[i]->text, node, manifest);
	}
	if (diags->error_count > errors || choose(source, data, manifest, diags)) {
		/* Not clear which one counts, but each can still be checked. */
		manifest->chosen = manifest->count;
	}
	return 0;
}

void gs_manifest_free(struct gs_manifest *manifest)
{
	for (size_t i = 0; i < manifest->count; i++)
		free(manifest->items[i].name);
	GS_VEC_FREE(manifest);
}
