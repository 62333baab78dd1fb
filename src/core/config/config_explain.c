#include "core/config/config_explain.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "core/config/config_value.h"
#include "core/config/sharing.h"

static const char *const origin_names[] = {[GS_ORIGIN_DEFAULT] = "default",
					   [GS_ORIGIN_FILE] = "file",
					   [GS_ORIGIN_ENV] = "environment",
					   [GS_ORIGIN_FLAG] = "flag"};

static bool names_mig(const struct gs_sharing_resource *entry)
{
	return strncmp(entry->name, "nvidia.com/mig-", 15) == 0;
}

/* "each GPU", "each of the first 2 GPUs", "each of the MIG devices 0:0, 0:1". */
static char *describe_devices(const struct gs_sharing_resource *entry)
{
	const char *noun = strcmp(entry->name, "nvidia.com/gpu") == 0 ? "GPU"
			   : names_mig(entry)                         ? "MIG device"
								      : "device";
	const struct gs_device_selector *devices = &entry->devices;
	if (devices->kind == GS_SELECT_ALL)
		return gs_printf("each %s", noun);
	if (devices->kind == GS_SELECT_COUNT)
		return gs_printf("each of the first %u %s%s", devices->count, noun, devices->count == 1 ? "" : "s");
	struct gs_strbuf text = {0};
	gs_strbuf_printf(&text, "each of the %ss ", noun);
	for (size_t i = 0; i < devices->list_length; i++)
		gs_strbuf_printf(&text, "%s%s", i ? ", " : "", devices->list[i]);
	return gs_strbuf_take(&text);
}

/* Whether a pattern of resources.mig publishes something under this name. */
static bool is_given_to_mig(const struct gs_config *config, const char *name)
{
	for (size_t i = 0; i < config->mig_pattern_count; i++)
		if (strcmp(config->mig_patterns[i].name, name) == 0)
			return true;
	return false;
}

static char *describe_entry(const struct gs_config *config, const struct gs_strategy *strategy,
			    const struct gs_sharing_resource *entry)
{
	const struct gs_sharing *sharing = gs_sharing_of(config, strategy->section);
	GS_AUTO_FREE char *devices = describe_devices(entry),
			  *published = gs_sharing_published_name(sharing, entry, entry->name);
	if (names_mig(entry) && config->flags.mig_strategy == GS_MIG_NONE)
		return gs_printf("nothing: migStrategy is none, so no MIG device is published as %s", published);
	if (names_mig(entry) && config->flags.mig_strategy == GS_MIG_SINGLE && !is_given_to_mig(config, entry->name))
		return gs_printf("nothing: migStrategy is single, so MIG devices are published as nvidia.com/gpu, not "
				 "as %s",
				 published);
	GS_AUTO_FREE char *terms = strategy->terms(entry);
	bool one = gs_sharing_fails_above_one(strategy->section, sharing);
	return gs_printf("%s is advertised as %u share%s of %s %s; %s. %s%s.", devices, entry->replicas,
			 entry->replicas == 1 ? "" : "s", published, strategy->by, terms,
			 one ? "A container that asks for more than one share is refused"
			     : "A container may ask for several shares, and ",
			 one ? "" : strategy->several_shares);
}

static void explain_section(const struct gs_config *config, const struct gs_strategy *strategy, const char *name,
			    struct gs_strbuf *text)
{
	const struct gs_sharing *sharing = gs_sharing_of(config, strategy->section);
	for (size_t i = 0; i < sharing->resource_count; i++) {
		const struct gs_sharing_resource *entry = &sharing->resources[i];
		GS_AUTO_FREE char *sentence = describe_entry(config, strategy, entry);
		gs_strbuf_printf(text, "  %s: %s\n    (%s:%d:%d)\n", entry->name, sentence, name, entry->line,
				 entry->column);
	}
}

static void explain_patterns(const struct gs_resource_pattern *patterns, size_t count, const char *what,
			     struct gs_strbuf *text)
{
	for (size_t i = 0; i < count; i++)
		gs_strbuf_printf(text, "  %s named \"%s\" are published as %s\n", what, patterns[i].pattern,
				 patterns[i].name);
}

static char *describe_origin(const struct gs_config_origin *origin, const char *name)
{
	switch (origin->kind) {
	case GS_ORIGIN_FILE:
		return gs_printf("%s:%d:%d", name, origin->line, origin->column);
	case GS_ORIGIN_ENV:
		return gs_printf("environment variable %s", origin->name);
	case GS_ORIGIN_FLAG:
		return gs_printf("flag --%s", origin->name);
	case GS_ORIGIN_DEFAULT:
		break;
	}
	return gs_strdup("default");
}

static bool has_value(const struct gs_config_key *key)
{
	return !gs_config_key_in_list(key) && key->type != GS_KEY_OBJECT && key->type != GS_KEY_SHARING &&
	       key->type != GS_KEY_LIST;
}

static bool is_of_section(const struct gs_config_key *key, const struct gs_sharing_section *section)
{
	size_t length = strlen(section->key);
	return strncmp(key->path, "sharing.", 8) == 0 && strncmp(key->path + 8, section->key, length) == 0 &&
	       key->path[8 + length] == '.';
}

/* Keys of a section that is not there say nothing. */
static bool is_relevant(const struct gs_config *config, const struct gs_config_key *key)
{
	if (!has_value(key))
		return false;
	for (size_t i = 0; i < GS_SECTION_COUNT; i++)
		if (is_of_section(key, &gs_sharing_sections[i]))
			return gs_sharing_of(config, &gs_sharing_sections[i])->present;
	return true;
}

static bool shares_anything(const struct gs_config *config)
{
	for (size_t i = 0; i < GS_SECTION_COUNT; i++)
		if (gs_sharing_of(config, &gs_sharing_sections[i])->resource_count)
			return true;
	return false;
}

/* Whether a value is set, or follows from one that is (nvidiaDevRoot from nvidiaDriverRoot). */
static bool is_changed(const struct gs_config *config, const struct gs_config *defaults,
		       const struct gs_config_key *key, const struct gs_config_origin *origin)
{
	GS_AUTO_STRBUF struct gs_strbuf value = {0}, other = {0};
	if (origin->kind != GS_ORIGIN_DEFAULT)
		return true;
	gs_value_format(key, config, &value);
	gs_value_format(key, defaults, &other);
	return strcmp(value.data ? value.data : "", other.data ? other.data : "") != 0;
}

/* Tells which keys are shown. */
static void choose(const struct gs_config *config, const struct gs_config_origin *origins, bool all, bool *shown)
{
	struct gs_config defaults;
	gs_config_init(&defaults);
	for (size_t i = 0; i < gs_config_key_count; i++)
		shown[i] = is_relevant(config, &gs_config_keys[i]) &&
			   (all || is_changed(config, &defaults, &gs_config_keys[i], &origins[i]));
	gs_config_free(&defaults);
}

static void explain_values(const struct gs_config *config, const struct gs_config_origin *origins, const char *name,
			   bool all, struct gs_strbuf *text)
{
	GS_AUTO_FREE bool *shown = gs_calloc(gs_config_key_count, sizeof *shown);
	choose(config, origins, all, shown);
	gs_strbuf_add(text,
		      all ? "\nValues in force\n" : "\nValues that are set; all others are the defaults (--all)\n");
	for (size_t i = 0; i < gs_config_key_count; i++) {
		GS_AUTO_STRBUF struct gs_strbuf value = {0};
		if (!shown[i])
			continue;
		gs_value_format(&gs_config_keys[i], config, &value);
		GS_AUTO_FREE char *origin = describe_origin(&origins[i], name);
		gs_strbuf_printf(text, "  %-46s %-24s %s\n", gs_config_keys[i].path, value.length ? value.data : "-",
				 origin);
	}
}

void gs_config_explain(const struct gs_config *config, const struct gs_config_origin *origins, const char *name,
		       const struct gs_strategy *const *strategies, size_t strategy_count, bool all,
		       struct gs_strbuf *text)
{
	gs_strbuf_add(text, "What is shared\n");
	for (size_t i = 0; i < strategy_count; i++)
		if (strategies[i]->section)
			explain_section(config, strategies[i], name, text);
	if (!shares_anything(config))
		gs_strbuf_printf(text, "  nothing: each %s is published whole, to one container at a time\n",
				 config->flags.mig_strategy == GS_MIG_NONE ? "GPU" : "GPU or MIG device");
	else
		gs_strbuf_add(text, "  Every other device is published whole, to one container at a time.\n");
	if (config->gpu_pattern_count + config->mig_pattern_count) {
		gs_strbuf_add(text, "\nResource names\n");
		explain_patterns(config->gpu_patterns, config->gpu_pattern_count, "GPUs", text);
		explain_patterns(config->mig_patterns, config->mig_pattern_count, "MIG profiles", text);
	}
	explain_values(config, origins, name, all, text);
}

static json_t *selector_json(const struct gs_device_selector *devices)
{
	if (devices->kind == GS_SELECT_ALL)
		return json_string("all");
	if (devices->kind == GS_SELECT_COUNT)
		return json_integer(devices->count);
	json_t *list = json_array();
	for (size_t i = 0; i < devices->list_length; i++)
		json_array_append_new(list, json_string(devices->list[i]));
	return list;
}

static void shares_json(const struct gs_config *config, json_t *list, const struct gs_strategy *strategy)
{
	const struct gs_sharing *sharing = gs_sharing_of(config, strategy->section);
	bool one = gs_sharing_fails_above_one(strategy->section, sharing);
	for (size_t i = 0; i < sharing->resource_count; i++) {
		const struct gs_sharing_resource *entry = &sharing->resources[i];
		GS_AUTO_FREE char *published = gs_sharing_published_name(sharing, entry, entry->name),
				  *sentence = describe_entry(config, strategy, entry);
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:o, s:b, s:b, s:s, s:i, s:i}", "strategy",
						      strategy->name, "resource", entry->name, "publishedAs", published,
						      "replicas", (int)entry->replicas, "devices",
						      selector_json(&entry->devices), "memoryIsolated",
						      strategy->memory_isolated, "oneShareForEachContainer", one,
						      "text", sentence, "line", entry->line, "column", entry->column));
	}
}

static void names_json(json_t *list, const struct gs_resource_pattern *patterns, size_t count, const char *kind)
{
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "kind", kind, "pattern", patterns[i].pattern,
						      "resource", patterns[i].name));
}

static json_t *value_json(const struct gs_config *config, const struct gs_config_key *key,
			  const struct gs_config_origin *origin)
{
	GS_AUTO_STRBUF struct gs_strbuf value = {0};
	gs_value_format(key, config, &value);
	json_t *object = json_pack("{s:s, s:s, s:s}", "key", key->path, "value", value.length ? value.data : "",
				   "origin", origin_names[origin->kind]);
	if (origin->kind == GS_ORIGIN_FILE) {
		json_object_set_new(object, "line", json_integer(origin->line));
		json_object_set_new(object, "column", json_integer(origin->column));
	} else if (origin->name) {
		json_object_set_new(object, "name", json_string(origin->name));
	}
	return object;
}

json_t *gs_config_explain_json(const struct gs_config *config, const struct gs_config_origin *origins, const char *name,
			       const struct gs_strategy *const *strategies, size_t strategy_count, bool all)
{
	json_t *shares = json_array(), *names = json_array(), *values = json_array();
	for (size_t i = 0; i < strategy_count; i++)
		if (strategies[i]->section)
			shares_json(config, shares, strategies[i]);
	names_json(names, config->gpu_patterns, config->gpu_pattern_count, "gpu");
	names_json(names, config->mig_patterns, config->mig_pattern_count, "mig");
	GS_AUTO_FREE bool *shown = gs_calloc(gs_config_key_count, sizeof *shown);
	choose(config, origins, all, shown);
	for (size_t i = 0; i < gs_config_key_count; i++)
		if (shown[i])
			json_array_append_new(values, value_json(config, &gs_config_keys[i], &origins[i]));
	return json_pack("{s:o?, s:o, s:o, s:o}", "file", json_string(name), "shares", shares, "names", names, "values",
			 values);
}
