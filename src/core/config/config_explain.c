#include "core/config/config_explain.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/quantity.h"
#include "core/config/config_value.h"

static const char *const origin_names[] = {[GS_ORIGIN_DEFAULT] = "default",
					   [GS_ORIGIN_FILE] = "file",
					   [GS_ORIGIN_ENV] = "environment",
					   [GS_ORIGIN_FLAG] = "flag"};

/* One section of the config in words. */
struct strategy_words {
	const char *name;
	const char *by;
	/* What a share is; owned by the caller. */
	char *(*terms)(const struct gs_sharing_resource *entry);
	const char *several; /* what a container gets of several shares */
	bool memory_isolated;
	bool one_share_unless_said; /* what an unset failRequestsGreaterThanOne means */
};

static char *time_slicing_terms(const struct gs_sharing_resource *entry)
{
	return gs_strdup("workloads take turns; memory and faults are not isolated");
}

static char *mps_terms(const struct gs_sharing_resource *entry)
{
	char memory[48];
	if (entry->memory_limit_bytes)
		gs_format_quantity(entry->memory_limit_bytes, memory, sizeof memory);
	else
		snprintf(memory, sizeof memory, "1/%u of the device's memory", entry->replicas);
	return gs_printf("%s; each process may have at most %s%s and %u %% of the multiprocessors%s; %s",
			 entry->isolation == GS_MPS_PER_SHARE ? "shares take turns" : "work runs side by side", memory,
			 entry->memory_limit_bytes ? " of memory" : "", gs_sharing_thread_percentage(entry),
			 entry->priority ? ", at a priority below normal" : "",
			 entry->isolation == GS_MPS_PER_SHARE ? "a fault stays within its share"
							      : "faults are not isolated");
}

static const struct strategy_words time_slicing_words = {
	"time-slicing", "by time-slicing", time_slicing_terms, "gets no more time for them", false, false};
static const struct strategy_words mps_words = {"mps", "by MPS", mps_terms, "gets the sum of their limits",
						false, true};

static char *published_name(const struct gs_sharing *sharing, const struct gs_sharing_resource *entry)
{
	if (entry->rename)
		return gs_strdup(entry->rename);
	return gs_printf("%s%s", entry->name, sharing->rename_by_default ? ".shared" : "");
}

static bool one_share_per_request(const struct gs_sharing *sharing, const struct strategy_words *words)
{
	if (sharing->fail_requests_greater_than_one == GS_UNSET)
		return words->one_share_unless_said;
	return sharing->fail_requests_greater_than_one == GS_TRUE;
}

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

static char *describe_entry(const struct gs_config *config, const struct gs_sharing *sharing,
			    const struct gs_sharing_resource *entry, const struct strategy_words *words)
{
	GS_AUTO_FREE char *devices = describe_devices(entry), *published = published_name(sharing, entry);
	if (names_mig(entry) && config->flags.mig_strategy == GS_MIG_NONE)
		return gs_printf("nothing: migStrategy is none, so no MIG device is published as %s", published);
	if (names_mig(entry) && config->flags.mig_strategy == GS_MIG_SINGLE && !is_given_to_mig(config, entry->name))
		return gs_printf("nothing: migStrategy is single, so MIG devices are published as nvidia.com/gpu, not "
				 "as %s",
				 published);
	GS_AUTO_FREE char *terms = words->terms(entry);
	bool one = one_share_per_request(sharing, words);
	return gs_printf("%s is advertised as %u share%s of %s %s; %s. %s%s.", devices, entry->replicas,
			 entry->replicas == 1 ? "" : "s", published, words->by, terms,
			 one ? "A container that asks for more than one share is refused"
			     : "A container may ask for several shares, and ",
			 one ? "" : words->several);
}

static void explain_section(const struct gs_config *config, const struct gs_sharing *sharing,
			    const struct strategy_words *words, const char *name, struct gs_strbuf *text)
{
	for (size_t i = 0; i < sharing->resource_count; i++) {
		const struct gs_sharing_resource *entry = &sharing->resources[i];
		GS_AUTO_FREE char *sentence = describe_entry(config, sharing, entry, words);
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

/* Keys of a section that is not there say nothing. */
static bool is_relevant(const struct gs_config *config, const struct gs_config_key *key)
{
	if (!has_value(key))
		return false;
	if (strncmp(key->path, "sharing.mps.", 12) == 0)
		return config->mps.present;
	return config->time_slicing.present || strncmp(key->path, "sharing.timeSlicing.", 20) != 0;
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
		       bool all, struct gs_strbuf *text)
{
	gs_strbuf_add(text, "What is shared\n");
	explain_section(config, &config->time_slicing, &time_slicing_words, name, text);
	explain_section(config, &config->mps, &mps_words, name, text);
	if (config->time_slicing.resource_count + config->mps.resource_count == 0)
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

static void shares_json(const struct gs_config *config, json_t *list, const struct gs_sharing *sharing,
			const struct strategy_words *words)
{
	for (size_t i = 0; i < sharing->resource_count; i++) {
		const struct gs_sharing_resource *entry = &sharing->resources[i];
		GS_AUTO_FREE char *published = published_name(sharing, entry),
				  *sentence = describe_entry(config, sharing, entry, words);
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:o, s:b, s:b, s:s, s:i, s:i}", "strategy",
						      words->name, "resource", entry->name, "publishedAs", published,
						      "replicas", (int)entry->replicas, "devices",
						      selector_json(&entry->devices), "memoryIsolated",
						      words->memory_isolated, "oneShareForEachContainer",
						      one_share_per_request(sharing, words), "text", sentence, "line",
						      entry->line, "column", entry->column));
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
			       bool all)
{
	json_t *shares = json_array(), *names = json_array(), *values = json_array();
	shares_json(config, shares, &config->time_slicing, &time_slicing_words);
	shares_json(config, shares, &config->mps, &mps_words);
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
