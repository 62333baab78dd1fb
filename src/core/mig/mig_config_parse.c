#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/suggest.h"
#include "base/vec.h"
#include "core/config/config_manifest.h"
#include "core/config/config_tree.h"
#include "core/mig/mig_config.h"
#include "core/mig/mig_name.h"

struct parser {
	const char *file;
	struct gs_diagnostics *diags;
};

#define ERROR(parser, node, ...) \
	gs_diagnostics_add((parser)->diags, false, (parser)->file, (node)->line, (node)->column, __VA_ARGS__)

/* Says so when a map has another key, or lacks one that it must have. `required` of them come first. */
static void check_keys(struct parser *p, const struct gs_node *map, const char *where, const char *const *keys,
		       size_t key_count, size_t required)
{
	for (size_t i = 0; i < map->count; i++) {
		const char *key = map->keys[i]->text;
		bool known = false;
		for (size_t k = 0; k < key_count; k++)
			known = known || strcmp(keys[k], key) == 0;
		if (known)
			continue;
		const char *meant = gs_suggest(key, keys, key_count);
		if (meant)
			ERROR(p, map->keys[i], "unknown key \"%.60s\" in %s; did you mean \"%s\"?", key, where, meant);
		else
			ERROR(p, map->keys[i], "unknown key \"%.60s\" in %s", key, where);
	}
	for (size_t k = 0; k < required; k++)
		if (!gs_node_get(map, keys[k]))
			ERROR(p, map, "%s lacks \"%s\"", where, keys[k]);
}

/* A whole number in digits, at most `most`. */
static bool read_count(struct parser *p, const struct gs_node *node, const char *what, uint32_t most, uint32_t *value)
{
	const char *text = node->kind == GS_NODE_SCALAR ? node->text : "";
	size_t digits = strspn(text, "0123456789");
	if (!digits || text[digits]) {
		ERROR(p, node, "%s must be a whole number in digits%s%.40s%s", what, *text ? ", not \"" : "", text,
		      *text ? "\"" : "");
	} else if (node->is_string) {
		ERROR(p, node, "%s must be a number, but \"%.40s\" in quotes is text; remove the quotes", what, text);
	} else if (digits > 9 || strtoul(text, NULL, 10) > most) {
		ERROR(p, node, "%s is %.40s; at most %u is possible", what, text, most);
	} else {
		*value = (uint32_t)strtoul(text, NULL, 10);
		return true;
	}
	return false;
}

/* Suggests the profile that was probably meant, and its count if the text has one: "7x1g.10gb". */
static void refuse_profile(struct parser *p, const struct gs_node *key)
{
	struct gs_mig_name_meant meant;
	if (!gs_mig_name_meant(key->text, &meant))
		ERROR(p, key, "\"%.60s\" is no MIG profile; write one such as 1g.10gb, 1g.10gb+me or 1c.3g.40gb",
		      key->text);
	else if (meant.count)
		ERROR(p, key, "\"%.60s\" is no MIG profile; did you mean \"%s\": %u?", key->text, meant.name,
		      meant.count);
	else
		ERROR(p, key, "\"%.60s\" is no MIG profile; did you mean \"%s\"?", key->text, meant.name);
}

static void read_counts(struct parser *p, const struct gs_node *node, struct gs_mig_entry *entry)
{
	if (node->kind != GS_NODE_MAP) {
		ERROR(p, node, "mig-devices must be a map of profiles and counts, such as {\"1g.10gb\": 7}");
		return;
	}
	entry->counts = gs_calloc(node->count ? node->count : 1, sizeof *entry->counts);
	uint32_t sum = 0;
	for (size_t i = 0; i < node->count; i++) {
		const struct gs_node *key = node->keys[i];
		uint32_t count;
		if (!gs_mig_name_is_formed(key->text)) {
			refuse_profile(p, key);
			continue;
		}
		if (!read_count(p, node->items[i], key->text, GS_MIG_CONFIG_COUNT_MAX, &count))
			continue;
		sum |= count;
		entry->counts[entry->count_count++] = (struct gs_mig_count){
			.profile = gs_strdup(key->text), .count = count, .line = key->line, .column = key->column};
	}
	if (node->count && !sum && entry->count_count == node->count)
		ERROR(p, node, "every count in mig-devices is 0; write {} for MIG without instances");
}

static void read_devices(struct parser *p, const struct gs_node *node, struct gs_mig_entry *entry)
{
	if (node->kind == GS_NODE_SCALAR && strcmp(node->text, "all") == 0) {
		entry->all_devices = true;
		return;
	}
	if (node->kind != GS_NODE_LIST) {
		ERROR(p, node, "devices must be all, or a list of GPU indexes such as [0, 1]");
		return;
	}
	entry->devices = gs_calloc(node->count ? node->count : 1, sizeof *entry->devices);
	for (size_t i = 0; i < node->count; i++) {
		struct gs_mig_index *index = &entry->devices[entry->device_count];
		*index = (struct gs_mig_index){.line = node->items[i]->line, .column = node->items[i]->column};
		if (!read_count(p, node->items[i], "a GPU index", GS_MIG_CONFIG_GPU_MAX, &index->gpu))
			continue;
		bool twice = false;
		for (size_t k = 0; k < entry->device_count; k++)
			twice = twice || entry->devices[k].gpu == index->gpu;
		if (twice)
			ERROR(p, node->items[i], "GPU %u is listed twice", index->gpu);
		else
			entry->device_count++;
	}
}

/* "0x" and up to eight hexadecimal digits. */
static bool take_pci_id(const char **text, uint32_t *id)
{
	if (strncmp(*text, "0x", 2) != 0 && strncmp(*text, "0X", 2) != 0)
		return false;
	size_t digits = strspn(*text + 2, "0123456789abcdefABCDEF");
	if (!digits || digits > 8)
		return false;
	*id = (uint32_t)strtoul(*text + 2, NULL, 16);
	*text += 2 + digits;
	return true;
}

static void read_filter(struct parser *p, const struct gs_node *node, struct gs_mig_entry *entry)
{
	struct gs_mig_filter *filter = &entry->filters[entry->filter_count];
	const char *rest = node->kind == GS_NODE_SCALAR ? node->text : "";
	rest += strspn(rest, " ");
	bool good = take_pci_id(&rest, &filter->device);
	filter->any_subsystem = *rest != ':';
	if (good && *rest == ':') {
		rest++;
		good = take_pci_id(&rest, &filter->subsystem);
	}
	if (!good || rest[strspn(rest, " ")])
		ERROR(p, node, "device-filter \"%.60s\" is no PCI device id; write one such as \"0x20B210DE\"",
		      node->kind == GS_NODE_SCALAR ? node->text : "");
	else
		entry->filter_count++;
}

static void read_filters(struct parser *p, const struct gs_node *node, struct gs_mig_entry *entry)
{
	if (node->kind == GS_NODE_MAP) {
		ERROR(p, node, "device-filter must be a PCI device id such as \"0x20B210DE\", or a list of them");
		return;
	}
	bool list = node->kind == GS_NODE_LIST;
	if (!list && !*node->text) /* as mig-parted has it: no filter */
		return;
	entry->filters = gs_calloc(list && node->count ? node->count : 1, sizeof *entry->filters);
	for (size_t i = 0; i < (list ? node->count : 1); i++)
		read_filter(p, list ? node->items[i] : node, entry);
}

static void read_entry(struct parser *p, const struct gs_node *node, struct gs_mig_entry *entry)
{
	static const char *const keys[] = {"devices", "mig-enabled", "mig-devices", "device-filter"};

	*entry = (struct gs_mig_entry){.line = node->line, .column = node->column};
	if (node->kind != GS_NODE_MAP) {
		ERROR(p, node, "an entry must be a map with devices, mig-enabled and mig-devices");
		return;
	}
	check_keys(p, node, "an entry", keys, GS_ARRAY_LENGTH(keys), 2);
	const struct gs_node *devices = gs_node_get(node, "devices"), *enabled = gs_node_get(node, "mig-enabled");
	const struct gs_node *counts = gs_node_get(node, "mig-devices"), *filter = gs_node_get(node, "device-filter");
	if (devices)
		read_devices(p, devices, entry);
	if (filter)
		read_filters(p, filter, entry);
	if (counts && gs_node_is_null(counts))
		counts = NULL;
	if (counts)
		read_counts(p, counts, entry);
	if (!enabled)
		return;
	if (!gs_node_is_bool(enabled, &entry->enabled) || enabled->is_string) {
		ERROR(p, enabled, "mig-enabled must be true or false");
		return;
	}
	if (entry->enabled && !counts)
		ERROR(p, node,
		      "an entry with mig-enabled: true lacks \"mig-devices\"; write {} for MIG without instances");
	if (!entry->enabled && counts && counts->count)
		ERROR(p, counts, "mig-devices are given, but mig-enabled is false; remove one of them");
}

static void read_named(struct parser *p, const struct gs_node *key, const struct gs_node *node,
		       struct gs_mig_config *config)
{
	size_t printable = 0;
	while (key->text[printable] >= ' ' && key->text[printable] <= '~')
		printable++;
	if (!printable || key->text[printable] || printable > GS_MIG_CONFIG_NAME_MAX) {
		ERROR(p, key, "the name of a configuration has 1 to %d printable ASCII characters",
		      GS_MIG_CONFIG_NAME_MAX);
		return;
	}
	if (node->kind != GS_NODE_LIST || !node->count) {
		ERROR(p, node, "configuration %.60s must be a list with at least one entry; begin each with \"- \"",
		      key->text);
		return;
	}
	struct gs_mig_named *named = GS_VEC_PUSH(config);
	*named = (struct gs_mig_named){
		.name = gs_strdup(key->text),
		.line = key->line,
		.column = key->column,
		.entries = gs_calloc(node->count, sizeof *named->entries),
		.entry_count = node->count,
	};
	for (size_t i = 0; i < node->count; i++)
		read_entry(p, node->items[i], &named->entries[i]);
}

static void read_root(struct parser *p, const struct gs_node *root, struct gs_mig_config *config)
{
	static const char *const keys[] = {"version", "mig-configs"};

	if (root->kind != GS_NODE_MAP) {
		ERROR(p, root, "a MIG configuration is a map with version and mig-configs");
		return;
	}
	check_keys(p, root, "the file", keys, GS_ARRAY_LENGTH(keys), GS_ARRAY_LENGTH(keys));
	const struct gs_node *version = gs_node_get(root, "version"), *configs = gs_node_get(root, "mig-configs");
	if (version && (version->kind != GS_NODE_SCALAR || strcmp(version->text, "v1") != 0))
		ERROR(p, version, "version must be v1%s%.40s", version->kind == GS_NODE_SCALAR ? ", not " : "",
		      version->kind == GS_NODE_SCALAR ? version->text : "");
	if (!configs)
		return;
	if (configs->kind != GS_NODE_MAP || !configs->count) {
		ERROR(p, configs, "mig-configs must name at least one configuration");
		return;
	}
	for (size_t i = 0; i < configs->count; i++)
		read_named(p, configs->keys[i], configs->items[i], config);
}

static void read_tree(struct parser *p, const struct gs_tree *tree, struct gs_mig_config *config)
{
	config->file = gs_strdup(p->file);
	if (tree->root)
		read_root(p, tree->root, config);
	else
		gs_diagnostics_add(p->diags, false, p->file, 0, 0,
				   "the file is empty; write version: v1 and mig-configs");
}

/* The ConfigMap that such files are mounted from. */
static void read_manifest(struct parser *p, const struct gs_node *root, const char *text, size_t length,
			  struct gs_mig_config *config)
{
	const struct gs_config_source source = {.name = p->file, .text = text, .length = length};
	struct gs_manifest manifest;
	if (gs_manifest_read(&source, root, &manifest, p->diags))
		return;
	if (manifest.chosen < manifest.count) {
		const struct gs_manifest_part *part = &manifest.items[manifest.chosen];
		struct parser inner = {.file = part->name, .diags = p->diags};
		struct gs_tree tree;
		if (gs_tree_parse(part->name, part->text, strlen(part->text), part->place, &tree, p->diags) == 0)
			read_tree(&inner, &tree, config);
		gs_tree_free(&tree);
	}
	gs_manifest_free(&manifest);
}

int gs_mig_config_parse(const char *file, const char *text, size_t length, struct gs_mig_config *config,
			struct gs_diagnostics *diags)
{
	struct gs_diagnostics own = {0};
	struct parser parser = {.file = file, .diags = diags ? diags : &own};
	struct gs_tree tree;
	size_t errors = parser.diags->error_count;

	*config = (struct gs_mig_config){0};
	if (gs_tree_parse(file, text, length, (struct gs_tree_place){0}, &tree, parser.diags) == 0) {
		if (tree.root && gs_manifest_is(tree.root))
			read_manifest(&parser, tree.root, text, length, config);
		else
			read_tree(&parser, &tree, config);
	}
	gs_tree_free(&tree);
	gs_diagnostics_sort(parser.diags);
	bool failed = parser.diags->error_count > errors;
	gs_diagnostics_free(&own);
	if (failed)
		gs_mig_config_free(config);
	return failed ? -1 : 0;
}
