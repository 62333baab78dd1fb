#include "core/config/config_parse.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/suggest.h"
#include "base/text.h"
#include "core/config/config_check.h"
#include "core/config/config_manifest.h"
#include "core/config/config_tree.h"
#include "core/config/config_value.h"

struct parser {
	const char *name;
	struct gs_diagnostics *diags;
	struct gs_config_origin *origins; /* NULL: of a text that is only checked */
	bool manifest;
};

#define ERROR(parser, node, ...) \
	gs_diagnostics_add((parser)->diags, false, (parser)->name, (node)->line, (node)->column, __VA_ARGS__)
#define WARNING(parser, node, ...) \
	gs_diagnostics_add((parser)->diags, true, (parser)->name, (node)->line, (node)->column, __VA_ARGS__)

static void set_origin(struct parser *p, const struct gs_config_key *key, struct gs_config_origin origin)
{
	if (p->origins && !gs_config_key_in_list(key))
		p->origins[key - gs_config_keys] = origin;
}

/* "sharing.timeSlicing" for a key in it, "the top level" for one that is nowhere. */
static void describe_parent(const struct gs_config_key *key, char *text, size_t size)
{
	const char *name = gs_config_key_name(key);
	if (name == key->path)
		snprintf(text, size, "the top level");
	else
		snprintf(text, size, "%.*s", (int)(name - key->path - 1), key->path);
}

/* The key of this name that stands elsewhere, preferring one that this version can use. */
static const struct gs_config_key *find_elsewhere(const char *name)
{
	const struct gs_config_key *found = NULL;
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		if (strcmp(gs_config_key_name(key), name) == 0 && strncmp(key->path, "sharing.mps", 11) != 0 && !found)
			found = key;
	}
	return found;
}

static const char *suggest_key(const char *typed, const char *parent, bool same_parent,
			       const struct gs_config_key **key)
{
	const char *names[128] = {NULL};
	const struct gs_config_key *keys[128];
	size_t count = 0;
	for (size_t i = 0; i < gs_config_key_count && count < GS_ARRAY_LENGTH(names); i++) {
		if (same_parent != gs_config_key_in(&gs_config_keys[i], parent))
			continue;
		keys[count] = &gs_config_keys[i];
		names[count++] = gs_config_key_name(&gs_config_keys[i]);
	}
	const char *meant = gs_suggest(typed, names, count);
	for (size_t i = 0; i < count; i++)
		if (meant == names[i])
			*key = keys[i];
	return meant;
}

static void refuse_unknown_key(struct parser *p, const struct gs_node *node, const char *parent)
{
	const char *name = node->text, *where = *parent ? parent : "the top level";
	const struct gs_config_key *key = NULL;
	char place[128];
	for (size_t i = 0; i < gs_config_absent_key_count; i++) {
		if (strcmp(gs_config_absent_keys[i].name, name) == 0) {
			ERROR(p, node, "unknown key \"%s\" under %s: %s", name, where,
			      gs_config_absent_keys[i].message);
			return;
		}
	}
	if ((key = find_elsewhere(name))) {
		describe_parent(key, place, sizeof place);
		ERROR(p, node, "key \"%s\" does not belong under %s; it belongs under %s, check the indentation", name,
		      where, place);
		return;
	}
	if (suggest_key(name, parent, true, &key)) {
		ERROR(p, node, "unknown key \"%.60s\" under %s; did you mean \"%s\"?", name, where,
		      gs_config_key_name(key));
		return;
	}
	if (suggest_key(name, parent, false, &key)) {
		describe_parent(key, place, sizeof place);
		ERROR(p, node, "unknown key \"%.60s\" under %s; did you mean \"%s\", which belongs under %s?", name,
		      where, gs_config_key_name(key), place);
		return;
	}
	GS_AUTO_STRBUF struct gs_strbuf known = {0};
	for (size_t i = 0; i < gs_config_key_count; i++)
		if (gs_config_key_in(&gs_config_keys[i], parent))
			gs_strbuf_printf(&known, "%s%s", known.length ? ", " : "",
					 gs_config_key_name(&gs_config_keys[i]));
	ERROR(p, node, "unknown key \"%.60s\" under %s; known here: %s", name, where, known.data);
}

static void read_object(struct parser *p, const struct gs_node *node, const char *parent, void *base);

static void free_item(const char *parent, void *item)
{
	for (size_t i = 0; i < gs_config_key_count; i++)
		if (gs_config_key_in(&gs_config_keys[i], parent))
			gs_value_free(&gs_config_keys[i], item);
}

static void read_list(struct parser *p, const struct gs_config_key *key, const struct gs_node *node, void *base)
{
	if (node->kind != GS_NODE_LIST) {
		ERROR(p, node, "%s must be a list; begin each of its entries with \"- \"", key->path);
		return;
	}
	if (node->count < (size_t)key->minimum || node->count > (size_t)key->maximum) {
		ERROR(p, node,
		      node->count ? "%s has %zu entries; at most %d are possible"
				  : "%s is an empty list: no resources specified; add an entry, or remove the section "
				    "above",
		      key->path, node->count, (int)key->maximum);
		return;
	}
	char *items = gs_calloc(node->count, key->item_size);
	GS_AUTO_FREE char *parent = gs_printf("%s[]", key->path);
	for (size_t i = 0; i < node->count; i++) {
		size_t errors = p->diags->error_count;
		read_object(p, node->items[i], parent, items + i * key->item_size);
		/* A broken entry takes no part in later checks, which would only find what follows from it. */
		if (p->diags->error_count > errors)
			free_item(parent, items + i * key->item_size);
	}
	*(char **)((char *)base + key->offset) = items;
	*(size_t *)((char *)base + key->count_offset) = node->count;
	set_origin(p, key,
		   (struct gs_config_origin){.kind = GS_ORIGIN_FILE, .line = node->line, .column = node->column});
}

/* Entries know where they stand, for messages that come later. */
static void note_place(const char *parent, void *base, const struct gs_node *node)
{
	if (strncmp(parent, "sharing.", 8) == 0 && strstr(parent, "[]")) {
		struct gs_sharing_resource *entry = base;
		entry->line = node->line;
		entry->column = node->column;
	} else if (strncmp(parent, "resources.", 10) == 0) {
		struct gs_resource_pattern *pattern = base;
		pattern->line = node->line;
		pattern->column = node->column;
	}
}

static void read_value(struct parser *p, const struct gs_config_key *key, const struct gs_node *name,
		       const struct gs_node *node, void *base)
{
	struct gs_error err;
	const struct gs_node *at;
	if (key->unavailable)
		ERROR(p, name, "%s: %s", key->path, key->unavailable);
	if (key->type == GS_KEY_OBJECT || key->type == GS_KEY_SHARING) {
		if (key->type == GS_KEY_SHARING) {
			struct gs_sharing *sharing = (struct gs_sharing *)((char *)base + key->offset);
			sharing->present = true;
			sharing->line = name->line;
			sharing->column = name->column;
		}
		read_object(p, node, key->path, base);
		set_origin(
			p, key,
			(struct gs_config_origin){.kind = GS_ORIGIN_FILE, .line = name->line, .column = name->column});
	} else if (key->type == GS_KEY_LIST) {
		read_list(p, key, node, base);
	} else if (gs_value_from_node(key, base, node, &at, &err)) {
		ERROR(p, at, "%s", err.text);
	} else {
		set_origin(
			p, key,
			(struct gs_config_origin){.kind = GS_ORIGIN_FILE, .line = node->line, .column = node->column});
	}
}

static void check_required(struct parser *p, const struct gs_node *node, const char *parent)
{
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		if (!key->required || !gs_config_key_in(key, parent))
			continue;
		const struct gs_node *value = gs_node_get(node, gs_config_key_name(key));
		if (value && !gs_node_is_null(value))
			continue;
		if (key->type == GS_KEY_LIST)
			ERROR(p, node, "%s has no \"%s\": no resources specified; add a list of name and replicas",
			      parent, gs_config_key_name(key));
		else
			ERROR(p, node, "an entry of %.*s has no \"%s\"; add it", (int)strlen(parent) - 2, parent,
			      gs_config_key_name(key));
	}
}

static void read_object(struct parser *p, const struct gs_node *node, const char *parent, void *base)
{
	if (node->kind != GS_NODE_MAP) {
		ERROR(p, node, "%s must be a mapping (\"key: value\" lines), not a %s", *parent ? parent : "the file",
		      node->kind == GS_NODE_LIST ? "list" : "single value");
		return;
	}
	note_place(parent, base, node);
	for (size_t i = 0; i < node->count; i++) {
		GS_AUTO_FREE char *path =
			*parent ? gs_printf("%s.%s", parent, node->keys[i]->text) : gs_strdup(node->keys[i]->text);
		const struct gs_config_key *key = gs_config_key_find(path);
		/* A dot in a key that the user typed must not reach further down the table. */
		if (!key || !gs_config_key_in(key, parent) || strchr(node->keys[i]->text, '.'))
			refuse_unknown_key(p, node->keys[i], parent);
		else if (!gs_node_is_null(node->items[i]))
			read_value(p, key, node->keys[i], node->items[i], base);
		else if (key->type == GS_KEY_OBJECT || key->type == GS_KEY_SHARING ||
			 (key->type == GS_KEY_LIST && !key->required))
			WARNING(p, node->keys[i],
				"nothing stands under %s, so it has no effect; check the indentation of what follows",
				key->path);
	}
	check_required(p, node, parent);
}

static void apply_environment(struct parser *p, const char *(*env)(const char *name, void *user), void *user,
			      struct gs_config *config)
{
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		for (size_t e = 0; e < GS_ARRAY_LENGTH(key->env) && key->env[e]; e++) {
			const char *value = env(key->env[e], user);
			struct gs_error err;
			if (!value)
				continue;
			if (gs_value_from_text(key, config, value, &err))
				gs_diagnostics_add(p->diags, false, "environment", 0, 0, "variable %s: %s", key->env[e],
						   err.text);
			else
				set_origin(p, key,
					   (struct gs_config_origin){.kind = GS_ORIGIN_ENV, .name = key->env[e]});
			break;
		}
	}
}

static const struct gs_config_key *find_flag(const char *name)
{
	for (size_t i = 0; i < gs_config_key_count; i++)
		for (size_t f = 0; f < GS_ARRAY_LENGTH(gs_config_keys[i].flags) && gs_config_keys[i].flags[f]; f++)
			if (strcmp(gs_config_keys[i].flags[f], name) == 0)
				return &gs_config_keys[i];
	return NULL;
}

static void apply_overrides(struct parser *p, const struct gs_config_override *overrides, size_t count,
			    struct gs_config *config)
{
	for (size_t i = 0; i < count; i++) {
		const struct gs_config_key *key = find_flag(overrides[i].name);
		const char *value = overrides[i].value;
		struct gs_error err;
		if (!key) {
			gs_diagnostics_add(p->diags, false, "command line", 0, 0,
					   "--%s sets no key of the configuration", overrides[i].name);
			continue;
		}
		if ((key->type == GS_KEY_BOOL || key->type == GS_KEY_TRISTATE) && !*value)
			value = "true";
		if (gs_value_from_text(key, config, value, &err))
			gs_diagnostics_add(p->diags, false, "command line", 0, 0, "--%s: %s", overrides[i].name,
					   err.text);
		else
			set_origin(p, key,
				   (struct gs_config_origin){.kind = GS_ORIGIN_FLAG, .name = overrides[i].name});
	}
}

static void check_mps_root(struct parser *p, const struct gs_node *root, const struct gs_config *config)
{
	const struct gs_node *flags = root && root->kind == GS_NODE_MAP ? gs_node_get(root, "flags") : NULL;
	const struct gs_node *place = flags && flags->kind == GS_NODE_MAP ? gs_node_get(flags, "mpsRoot") : NULL;
	gs_config_check_mps_root(config, p->name, place ? place->line : 0, place ? place->column : 0, p->diags);
}

/* Reads one configuration's text over the defaults. */
static void read_text(struct parser *p, const struct gs_node *root, struct gs_config *config)
{
	/* So that "no dev root was set" can be told from one that was set to the default. */
	free(config->flags.nvidia_dev_root);
	config->flags.nvidia_dev_root = NULL;
	if (root && !gs_node_is_null(root))
		read_object(p, root, "", config);
	gs_config_check(config, p->name, p->diags);
	check_mps_root(p, root, config);
}

static void read_part(struct parser *p, const struct gs_manifest_part *part, struct gs_config *config)
{
	struct gs_tree tree;
	struct parser inner = *p;
	inner.name = part->name;
	if (gs_tree_parse(part->name, part->text, strlen(part->text), part->place, &tree, p->diags) == 0)
		read_text(&inner, tree.root, config);
	gs_tree_free(&tree);
}

/* Every part is checked, one is used. */
static void read_manifest(struct parser *p, const struct gs_node *root, const struct gs_config_source *source,
			  struct gs_config *config)
{
	struct gs_manifest manifest;
	if (gs_manifest_read(source, root, &manifest, p->diags))
		return;
	for (size_t i = 0; i < manifest.count; i++) {
		if (i == manifest.chosen) {
			read_part(p, &manifest.items[i], config);
			continue;
		}
		struct gs_config scratch;
		struct parser checker = {.diags = p->diags};
		gs_config_init(&scratch);
		read_part(&checker, &manifest.items[i], &scratch);
		gs_config_free(&scratch);
	}
	gs_manifest_free(&manifest);
}

static void read_source(struct parser *p, const struct gs_config_source *source, struct gs_config *config)
{
	struct gs_tree tree;
	struct gs_error err;
	struct gs_config_source plain = *source;
	/* Here already: a manifest looks its parts' lines up in the text. */
	GS_AUTO_FREE char *text = gs_text_decode(source->text, &plain.length, &err);
	if (!text) {
		gs_diagnostics_add(p->diags, false, source->name, 1, 1, "%s", err.text);
		return;
	}
	plain.text = text;
	if (gs_tree_parse(plain.name, plain.text, plain.length, (struct gs_tree_place){0}, &tree, p->diags) == 0) {
		p->manifest = gs_manifest_is(tree.root);
		if (p->manifest)
			read_manifest(p, tree.root, &plain, config);
		else
			read_text(p, tree.root, config);
	}
	gs_tree_free(&tree);
}

/* Whether a key has the value that it has without the file. */
static bool is_default(const struct gs_config_key *key, const struct gs_config *config,
		       const struct gs_config *defaults)
{
	GS_AUTO_STRBUF struct gs_strbuf value = {0}, other = {0};
	gs_value_format(key, config, &value);
	gs_value_format(key, defaults, &other);
	return value.length == other.length && (!value.length || memcmp(value.data, other.data, value.length) == 0);
}

/* A flag or a variable wins over the file, so only values from the file are checked. A user who checks a manifest by
 * hand will install it as such a file, so the findings are reported there too. */
static void check_trust(struct parser *p, const struct gs_config_source *source, const struct gs_config *config)
{
	if (!source->untrusted && !p->manifest)
		return;
	struct gs_config defaults;
	gs_config_init(&defaults);
	/* Unset, it is the driver root, wherever that comes from. */
	free(defaults.flags.nvidia_dev_root);
	defaults.flags.nvidia_dev_root = gs_strdup(config->flags.nvidia_driver_root);
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		const struct gs_config_origin *origin = &p->origins[i];
		if (!key->of_node || origin->kind != GS_ORIGIN_FILE || is_default(key, config, &defaults))
			continue;
		gs_diagnostics_add(
			p->diags, !source->untrusted, p->name, origin->line, origin->column,
			"%s names what is the node's own, and a ConfigMap may not: only the daemon's --%s or "
			"%s does; remove it here",
			key->path, key->flags[0], key->env[0]);
	}
	gs_config_free(&defaults);
}

int gs_config_parse_origins(const struct gs_config_source *source, const char *(*env)(const char *name, void *user),
			    void *env_user, const struct gs_config_override *overrides, size_t override_count,
			    struct gs_config *out, struct gs_config_origin *origins, struct gs_diagnostics *diags)
{
	struct gs_diagnostics own = {0};
	GS_AUTO_FREE struct gs_config_origin *places = gs_calloc(gs_config_key_count, sizeof *places);
	struct parser p = {.name = source->name, .diags = diags ? diags : &own, .origins = places};
	size_t errors = p.diags->error_count;
	struct gs_config config;
	gs_config_init(&config);
	read_source(&p, source, &config);
	GS_AUTO_FREE char *mps_root = gs_strdup(config.flags.mps_root);
	if (env)
		apply_environment(&p, env, env_user, &config);
	apply_overrides(&p, overrides, override_count, &config);
	if (strcmp(mps_root, config.flags.mps_root) != 0)
		gs_config_check_mps_root(&config, "environment or command line", 0, 0, p.diags);
	if (!config.flags.nvidia_dev_root)
		config.flags.nvidia_dev_root = gs_strdup(config.flags.nvidia_driver_root);
	check_trust(&p, source, &config);
	if (origins)
		memcpy(origins, places, gs_config_key_count * sizeof *places);
	gs_diagnostics_sort(p.diags);
	bool failed = p.diags->error_count > errors;
	if (failed)
		gs_config_free(&config);
	else
		*out = config;
	gs_diagnostics_free(&own);
	return failed ? -1 : 0;
}

int gs_config_parse(const struct gs_config_source *source, const char *(*env)(const char *name, void *user),
		    void *env_user, const struct gs_config_override *overrides, size_t override_count,
		    struct gs_config *out, struct gs_diagnostics *diags)
{
	return gs_config_parse_origins(source, env, env_user, overrides, override_count, out, NULL, diags);
}
