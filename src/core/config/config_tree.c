#include "core/config/config_tree.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "base/text.h"
#include "base/utf8.h"
#include "base/vec.h"

struct anchor {
	char *name;
	struct gs_node *node;
};

struct builder {
	const char *name;
	const char *text;
	size_t length;
	struct gs_tree_place place;
	struct gs_tree *tree;
	struct gs_diagnostics *diags;
	yaml_parser_t yaml;
	GS_VEC(struct anchor) anchors; /* by name */
	size_t weight;                 /* of everything so far */
	yaml_mark_t document;          /* where the document that is read begins */
	bool stopped;                  /* an error after which reading on makes no sense */
};

#define AT(builder, mark) (builder)->place.line + (int)(mark).line + 1, (builder)->place.column + (int)(mark).column + 1

static struct gs_node *stop(struct builder *b)
{
	b->stopped = true;
	return NULL;
}

/* The line of the text that a position is in. */
static const char *line_start(const struct builder *b, size_t line)
{
	const char *p = b->text, *end = b->text + b->length;
	for (; line > 0; line--) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		if (!newline)
			return NULL;
		p = newline + 1;
	}
	return p;
}

static bool indented_with_tab(const struct builder *b, size_t line)
{
	const char *p = line_start(b, line);
	for (; p && p < b->text + b->length && (*p == ' ' || *p == '\t'); p++)
		if (*p == '\t')
			return true;
	return false;
}

static struct gs_node *syntax_error(struct builder *b)
{
	yaml_mark_t mark = b->yaml.problem_mark;
	const char *problem = b->yaml.problem ? b->yaml.problem : "not YAML";
	if (indented_with_tab(b, mark.line))
		gs_diagnostics_add(b->diags, false, b->name, AT(b, mark), "a tab is used for indentation; use spaces");
	else if (b->yaml.context && b->yaml.context_mark.line != mark.line)
		gs_diagnostics_add(
			b->diags, false, b->name, AT(b, mark),
			"this is not YAML: %s (%s that began on line %d); check indentation, quotes and brackets",
			problem, b->yaml.context, b->place.line + (int)b->yaml.context_mark.line + 1);
	else
		gs_diagnostics_add(b->diags, false, b->name, AT(b, mark),
				   "this is not YAML: %s; check indentation, quotes and brackets", problem);
	return stop(b);
}

static struct gs_node *too_much(struct builder *b, yaml_mark_t mark)
{
	gs_diagnostics_add(b->diags, false, b->name, AT(b, mark),
			   "the file has more than %d values, aliases expanded; no configuration needs that many",
			   GS_TREE_NODES_MAX);
	return stop(b);
}

static struct gs_node *new_node(struct builder *b, yaml_mark_t mark, int kind)
{
	if (++b->weight > GS_TREE_NODES_MAX)
		return too_much(b, mark);
	struct gs_node *node = gs_calloc(1, sizeof *node);
	node->kind = kind;
	node->line = b->place.line + (int)mark.line + 1;
	node->column = b->place.column + (int)mark.column + 1;
	*GS_VEC_PUSH(b->tree) = node;
	return node;
}

/* Whether there is an anchor of this name; `at` is its place, or the one it would have. */
static bool find_anchor(const struct builder *b, const char *name, size_t *at)
{
	size_t low = 0, high = b->anchors.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(b->anchors.items[middle].name, name);
		if (order == 0) {
			*at = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*at = low;
	return false;
}

static void remember(struct builder *b, const yaml_char_t *anchor, struct gs_node *node)
{
	if (!anchor || !node)
		return;
	size_t at;
	if (find_anchor(b, (const char *)anchor, &at)) {
		b->anchors.items[at].node = node; /* YAML: the latest one counts */
		return;
	}
	if (b->anchors.count >= GS_TREE_KEYS_MAX) {
		gs_diagnostics_add(b->diags, false, b->name, node->line, node->column, "more than %d anchors",
				   GS_TREE_KEYS_MAX);
		stop(b);
		return;
	}
	(void)GS_VEC_PUSH(&b->anchors);
	struct anchor *place = b->anchors.items + at;
	memmove(place + 1, place, (b->anchors.count - 1 - at) * sizeof *place);
	*place = (struct anchor){gs_strdup((const char *)anchor), node};
}

static struct gs_node *resolve_alias(struct builder *b, const yaml_event_t *event)
{
	const char *name = (const char *)event->data.alias.anchor;
	size_t at;
	struct gs_node *node = find_anchor(b, name, &at) ? b->anchors.items[at].node : NULL;
	if (!node || !node->weight) {
		gs_diagnostics_add(
			b->diags, false, b->name, AT(b, event->start_mark),
			node ? "the alias *%.60s stands inside what it names; write the value out"
			     : "the alias *%.60s names an anchor that does not exist; write &%.60s before its value",
			name, name);
		return stop(b);
	}
	b->weight += node->weight;
	return b->weight > GS_TREE_NODES_MAX ? too_much(b, event->start_mark) : node;
}

static struct gs_node *read_node(struct builder *b, yaml_event_t *event, int depth);

static bool is_merge_key(const struct gs_node *key)
{
	return !key->is_string && strcmp(key->text, "<<") == 0;
}

static size_t find_key(const struct gs_node *map, const char *key)
{
	for (size_t i = 0; i < map->count; i++)
		if (strcmp(map->keys[i]->text, key) == 0)
			return i;
	return map->count;
}

static void append_pair(struct gs_node *map, size_t *capacity, struct gs_node *key, struct gs_node *item)
{
	if (map->count == *capacity) {
		*capacity = *capacity ? *capacity * 2 : 8;
		map->keys = gs_reallocarray(map->keys, *capacity, sizeof *map->keys);
		map->items = gs_reallocarray(map->items, *capacity, sizeof *map->items);
	}
	map->keys[map->count] = key;
	map->items[map->count++] = item;
}

/* The keys that `<<` brings in: those that the map does not have itself. */
static void merge_map(struct builder *b, struct gs_node *map, size_t *capacity, const struct gs_node *from)
{
	for (size_t i = 0; i < from->count; i++) {
		if (find_key(map, from->keys[i]->text) < map->count)
			continue;
		if (map->count >= GS_TREE_KEYS_MAX)
			return;
		append_pair(map, capacity, from->keys[i], from->items[i]);
		map->weight += 1 + from->items[i]->weight;
		b->weight += 1 + from->items[i]->weight;
	}
}

static void merge(struct builder *b, struct gs_node *map, size_t *capacity, const struct gs_node *key,
		  struct gs_node *from)
{
	bool ok = from->kind == GS_NODE_MAP;
	if (ok)
		merge_map(b, map, capacity, from);
	if (from->kind == GS_NODE_LIST) {
		ok = true;
		for (size_t i = 0; i < from->count; i++) {
			ok &= from->items[i]->kind == GS_NODE_MAP;
			if (from->items[i]->kind == GS_NODE_MAP)
				merge_map(b, map, capacity, from->items[i]);
		}
	}
	if (!ok)
		gs_diagnostics_add(b->diags, false, b->name, key->line, key->column,
				   "the merge key << needs a mapping, such as an alias of one");
}

static bool key_allowed(struct builder *b, const struct gs_node *map, const struct gs_node *key)
{
	size_t same = find_key(map, key->text);
	if (same < map->count) {
		gs_diagnostics_add(
			b->diags, false, b->name, key->line, key->column,
			"key \"%.60s\" is here a second time, the first is on line %d column %d; remove one of them",
			key->text, map->keys[same]->line, map->keys[same]->column);
		return false;
	}
	if (map->count >= GS_TREE_KEYS_MAX) {
		gs_diagnostics_add(b->diags, false, b->name, key->line, key->column, "more than %d keys in one mapping",
				   GS_TREE_KEYS_MAX);
		stop(b);
		return false;
	}
	return true;
}

static struct gs_node *read_map(struct builder *b, struct gs_node *map, int depth)
{
	size_t capacity = 0;
	struct {
		struct gs_node *key, *from;
	} merges[8];
	size_t merge_count = 0;
	size_t weight = 1;
	for (;;) {
		yaml_event_t event;
		if (!yaml_parser_parse(&b->yaml, &event))
			return syntax_error(b);
		if (event.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&event);
			break;
		}
		struct gs_node *key = read_node(b, &event, depth);
		yaml_event_delete(&event);
		if (!key)
			return NULL;
		if (key->kind != GS_NODE_SCALAR) {
			gs_diagnostics_add(
				b->diags, false, b->name, key->line, key->column,
				"a mapping's key must be a word, not a list or a mapping; check brackets and braces");
			return stop(b);
		}
		if (!yaml_parser_parse(&b->yaml, &event))
			return syntax_error(b);
		struct gs_node *item = read_node(b, &event, depth);
		yaml_event_delete(&event);
		if (!item)
			return NULL;
		weight += key->weight + item->weight;
		if (is_merge_key(key) && merge_count < GS_ARRAY_LENGTH(merges)) {
			merges[merge_count].key = key;
			merges[merge_count++].from = item;
		} else if (key_allowed(b, map, key)) {
			append_pair(map, &capacity, key, item);
		} else if (b->stopped) {
			return NULL;
		}
	}
	map->weight = weight;
	for (size_t i = 0; i < merge_count; i++)
		merge(b, map, &capacity, merges[i].key, merges[i].from);
	if (b->weight > GS_TREE_NODES_MAX)
		return too_much(b, b->yaml.mark);
	return map;
}

static struct gs_node *read_list(struct builder *b, struct gs_node *list, int depth)
{
	size_t capacity = 0, weight = 1;
	for (;;) {
		yaml_event_t event;
		if (!yaml_parser_parse(&b->yaml, &event))
			return syntax_error(b);
		if (event.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&event);
			list->weight = weight;
			return list;
		}
		struct gs_node *item = read_node(b, &event, depth);
		yaml_event_delete(&event);
		if (!item)
			return NULL;
		weight += item->weight;
		if (list->count == capacity) {
			capacity = capacity ? capacity * 2 : 8;
			list->items = gs_reallocarray(list->items, capacity, sizeof *list->items);
		}
		list->items[list->count++] = item;
	}
}

static bool tag_known(struct builder *b, const yaml_event_t *event, const char *tag, const char *expected)
{
	if (!tag || strcmp(tag, "!") == 0 || strcmp(tag, expected) == 0)
		return true;
	if (event->type == YAML_SCALAR_EVENT)
		for (const char *const *known =
			     (const char *const[]){YAML_INT_TAG, YAML_BOOL_TAG, YAML_NULL_TAG, YAML_FLOAT_TAG, NULL};
		     *known; known++)
			if (strcmp(tag, *known) == 0)
				return true;
	gs_diagnostics_add(b->diags, false, b->name, AT(b, event->start_mark),
			   "the tag %.60s is not known here; remove it", tag);
	stop(b);
	return false;
}

static struct gs_node *read_scalar(struct builder *b, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value, *tag = (const char *)event->data.scalar.tag;
	if (strlen(text) != event->data.scalar.length) {
		gs_diagnostics_add(b->diags, false, b->name, AT(b, event->start_mark),
				   "a NUL character is in this text; remove it");
		return stop(b);
	}
	if (!tag_known(b, event, tag, YAML_STR_TAG))
		return NULL;
	struct gs_node *node = new_node(b, event->start_mark, GS_NODE_SCALAR);
	if (!node)
		return NULL;
	node->text = gs_strdup(text);
	node->is_string =
		event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || (tag && strcmp(tag, YAML_STR_TAG) == 0);
	node->literal = event->data.scalar.style == YAML_LITERAL_SCALAR_STYLE;
	node->weight = 1;
	remember(b, event->data.scalar.anchor, node);
	return b->stopped ? NULL : node;
}

static struct gs_node *read_node(struct builder *b, yaml_event_t *event, int depth)
{
	if (event->type == YAML_ALIAS_EVENT)
		return resolve_alias(b, event);
	if (event->type == YAML_SCALAR_EVENT)
		return read_scalar(b, event);
	if (depth >= GS_TREE_DEPTH_MAX) {
		gs_diagnostics_add(b->diags, false, b->name, AT(b, event->start_mark), "nested deeper than %d levels",
				   GS_TREE_DEPTH_MAX);
		return stop(b);
	}
	bool map = event->type == YAML_MAPPING_START_EVENT;
	const yaml_char_t *tag = map ? event->data.mapping_start.tag : event->data.sequence_start.tag;
	if (!tag_known(b, event, (const char *)tag, map ? YAML_MAP_TAG : YAML_SEQ_TAG))
		return NULL;
	struct gs_node *node = new_node(b, event->start_mark, map ? GS_NODE_MAP : GS_NODE_LIST);
	remember(b, map ? event->data.mapping_start.anchor : event->data.sequence_start.anchor, node);
	if (!node || b->stopped)
		return NULL;
	return map ? read_map(b, node, depth + 1) : read_list(b, node, depth + 1);
}

/* Nothing between two `---`, or behind the last one. */
static bool is_blank(const struct gs_node *node)
{
	return node->kind == GS_NODE_SCALAR && !node->is_string && !*node->text;
}

static void read_document(struct builder *b, yaml_event_t *event)
{
	struct gs_node *root = read_node(b, event, 0);
	if (!root || is_blank(root))
		return;
	if (b->tree->root) {
		gs_diagnostics_add(b->diags, false, b->name, AT(b, b->document),
				   "a second YAML document begins here; keep one configuration in one file");
		stop(b);
	}
	b->tree->root = root;
}

static void read_stream(struct builder *b)
{
	for (bool more = true; more && !b->stopped;) {
		yaml_event_t event;
		if (!yaml_parser_parse(&b->yaml, &event)) {
			syntax_error(b);
			return;
		}
		switch (event.type) {
		case YAML_STREAM_END_EVENT:
			more = false;
			break;
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			break;
		case YAML_DOCUMENT_START_EVENT:
			b->document = event.start_mark;
			break;
		default:
			read_document(b, &event);
		}
		yaml_event_delete(&event);
	}
}

/* Bytes that no YAML has: the error is clearer than the one of libyaml. */
static bool bytes_are_text(const struct builder *b)
{
	if (b->length > GS_TREE_BYTES_MAX) {
		gs_diagnostics_add(b->diags, false, b->name, 0, 0,
				   "the file has %zu bytes and at most %d are read; is this the right file?", b->length,
				   GS_TREE_BYTES_MAX);
		return false;
	}
	int line = 1, column = 1;
	for (size_t i = 0; i < b->length;) {
		size_t length = gs_utf8_length(b->text + i, b->length - i);
		if (!length || !b->text[i]) {
			gs_diagnostics_add(b->diags, false, b->name, b->place.line + line, b->place.column + column,
					   length ? "a NUL byte is here; is this a text file?"
						  : "byte 0x%02X is not UTF-8; save the file as UTF-8",
					   (unsigned char)b->text[i]);
			return false;
		}
		column = b->text[i] == '\n' ? 1 : column + 1;
		line += b->text[i] == '\n';
		i += length;
	}
	int many = gs_yaml_many_directives(b->text, b->length);
	if (many)
		gs_diagnostics_add(b->diags, false, b->name, b->place.line + many, b->place.column + 1,
				   "more than %d lines begin with %%, as directives do; no configuration needs them, "
				   "remove them",
				   GS_YAML_DIRECTIVES_MAX);
	return !many;
}

int gs_tree_parse(const char *name, const char *text, size_t length, struct gs_tree_place place, struct gs_tree *tree,
		  struct gs_diagnostics *diags)
{
	struct builder b = {.name = name, .place = place, .tree = tree, .diags = diags};
	struct gs_error err;
	*tree = (struct gs_tree){0};
	GS_AUTO_FREE char *decoded = gs_text_decode(text, &length, &err);
	if (!decoded) {
		gs_diagnostics_add(diags, false, name, place.line + 1, place.column + 1, "%s", err.text);
		return -1;
	}
	b.text = decoded;
	b.length = length;
	if (!bytes_are_text(&b))
		return -1;
	if (!yaml_parser_initialize(&b.yaml))
		abort(); /* out of memory */
	yaml_parser_set_input_string(&b.yaml, (const unsigned char *)b.text, b.length);
	yaml_parser_set_encoding(&b.yaml, YAML_UTF8_ENCODING);
	read_stream(&b);
	yaml_parser_delete(&b.yaml);
	for (size_t i = 0; i < b.anchors.count; i++)
		free(b.anchors.items[i].name);
	GS_VEC_FREE(&b.anchors);
	return b.stopped ? -1 : 0;
}

void gs_tree_free(struct gs_tree *tree)
{
	for (size_t i = 0; i < tree->count; i++) {
		free(tree->items[i]->text);
		free(tree->items[i]->keys);
		free(tree->items[i]->items);
		free(tree->items[i]);
	}
	GS_VEC_FREE(tree);
	tree->root = NULL;
}

const struct gs_node *gs_node_get(const struct gs_node *map, const char *key)
{
	if (!map || map->kind != GS_NODE_MAP)
		return NULL;
	size_t at = find_key(map, key);
	return at < map->count ? map->items[at] : NULL;
}

bool gs_node_is_null(const struct gs_node *node)
{
	static const char *const words[] = {"", "~", "null", "Null", "NULL"};
	if (node->kind != GS_NODE_SCALAR || node->is_string)
		return false;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(words); i++)
		if (strcmp(node->text, words[i]) == 0)
			return true;
	return false;
}

bool gs_node_is_bool(const struct gs_node *node, bool *value)
{
	static const char *const words[2][11] = {
		{"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"},
		{"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"},
	};
	for (size_t i = 0; node->kind == GS_NODE_SCALAR && i < 2; i++) {
		for (size_t k = 0; k < GS_ARRAY_LENGTH(words[i]); k++) {
			if (strcmp(node->text, words[i][k]) != 0)
				continue;
			*value = i;
			return true;
		}
	}
	return false;
}
