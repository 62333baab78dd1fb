/* Names in a configuration that match nothing on the node: each gets a note, so that no line of a config is ignored in
 * silence. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "core/share/plan_internal.h"

enum { KNOWN_MAX = 4 };

/* Adds a text to a list for a sentence, unless it is there; says how many there are. */
static void add_known(const char *text, const char *known[KNOWN_MAX], size_t *count)
{
	for (size_t i = 0; i < *count && i < KNOWN_MAX; i++)
		if (!strcmp(known[i], text))
			return;
	if (*count < KNOWN_MAX)
		known[*count] = text;
	++*count;
}

/* "it has a, b and others"; owned by the caller. */
static char *list_known(const char *const known[KNOWN_MAX], size_t count, const char *nothing)
{
	GS_AUTO_STRBUF struct gs_strbuf text = {0};

	if (!count)
		return gs_printf("it has no %s", nothing);
	gs_strbuf_add(&text, "it has ");
	for (size_t i = 0; i < count && i < KNOWN_MAX; i++)
		gs_strbuf_printf(&text, "%s%s", i ? ", " : "", known[i]);
	if (count > KNOWN_MAX)
		gs_strbuf_add(&text, " and others");
	return gs_strbuf_take(&text);
}

static void warn_selectors(const struct gs_sharing_resource *entry, const char *where,
			   const struct gs_inventory *inventory, const struct plan_base_name *names,
			   struct plan_notes *unmatched)
{
	for (size_t i = 0; i < entry->devices.list_length; i++) {
		const struct gs_device_selector one = {
			.kind = GS_SELECT_LIST, .list = &entry->devices.list[i], .list_length = 1};
		const char *other = NULL;
		bool found = false;
		for (size_t j = 0; j < inventory->device_count && !found; j++) {
			if (!plan_selector_names(&one, inventory, &inventory->devices[j]))
				continue;
			other = names[j].text;
			found = !strcmp(names[j].text, entry->name);
		}
		if (found)
			continue;
		if (other)
			*GS_VEC_PUSH(unmatched) =
				gs_printf("%s: device %s is published as %s, not as %s, so it is not shared "
					  "by this entry",
					  where, one.list[0], *other ? other : "nothing", entry->name);
		else
			*GS_VEC_PUSH(unmatched) = gs_printf("%s: this node has no device %s now", where, one.list[0]);
	}
}

static void warn_entry(const struct gs_sharing_resource *entry, const char *where, const struct gs_inventory *inventory,
		       const struct plan_base_name *names, struct plan_notes *unmatched)
{
	const char *known[KNOWN_MAX];
	size_t known_count = 0;
	unsigned available = 0;

	for (size_t i = 0; i < inventory->device_count; i++) {
		available += !strcmp(names[i].text, entry->name);
		if (names[i].text[0])
			add_known(names[i].text, known, &known_count);
	}
	if (!available) {
		GS_AUTO_FREE char *there = list_known(known, known_count, "GPU to share");
		*GS_VEC_PUSH(unmatched) = gs_printf("%s: names nothing that this node has now: there is no %s, %s",
						    where, entry->name, there);
		return;
	}
	if (entry->devices.kind == GS_SELECT_COUNT && available < entry->devices.count)
		*GS_VEC_PUSH(unmatched) = gs_printf("%s: asks for %u devices and this node has %u of %s now", where,
						    entry->devices.count, available, entry->name);
	if (entry->devices.kind == GS_SELECT_LIST)
		warn_selectors(entry, where, inventory, names, unmatched);
}

/* The list of patterns for whole GPUs, or for MIG profiles. */
struct patterns {
	const char *key, *what, *nothing;
	const struct gs_resource_pattern *items;
	size_t count;
	bool mig;
};

/* The text that a pattern is compared with; NULL: not with this device. */
static const char *name_of(const struct gs_inventory *inventory, const struct gs_device *device, bool mig)
{
	if (device->mig != mig)
		return NULL;
	return mig ? device->mig_profile : inventory->gpus[device->gpu].name;
}

static void warn_pattern(const struct patterns *patterns, size_t which, const struct gs_inventory *inventory,
			 struct plan_notes *unmatched)
{
	const struct gs_resource_pattern *pattern = &patterns->items[which];
	const char *known[KNOWN_MAX], *example = NULL;
	size_t known_count = 0;
	bool matched = false;
	char line[32] = "";

	for (size_t i = 0; i < inventory->device_count; i++) {
		const char *name = name_of(inventory, &inventory->devices[i], patterns->mig);
		bool taken = false;
		if (!name)
			continue;
		add_known(name, known, &known_count);
		if (strstr(name, pattern->pattern))
			example = name;
		if (!plan_pattern_matches(pattern->pattern, name))
			continue;
		matched = true;
		for (size_t j = 0; j < which; j++)
			taken |= plan_pattern_matches(patterns->items[j].pattern, name);
		if (!taken)
			return;
	}
	if (pattern->line)
		snprintf(line, sizeof line, " (line %d)", pattern->line);
	GS_AUTO_FREE char *there = list_known(known, known_count, patterns->nothing);
	if (matched)
		*GS_VEC_PUSH(unmatched) = gs_printf(
			"resources.%s[%zu]%s: names nothing here: every %s that \"%s\" matches is named by an earlier "
			"pattern",
			patterns->key, which, line, patterns->what, pattern->pattern);
	else
		*GS_VEC_PUSH(unmatched) = gs_printf(
			"resources.%s[%zu]%s: names nothing that this node has now: \"%s\" matches no %s, %s%s%s%s",
			patterns->key, which, line, pattern->pattern, patterns->what, there,
			example ? "; a pattern is for the whole name: write \"*" : "", example ? pattern->pattern : "",
			example ? "*\"" : "");
}

void plan_find_unmatched(const struct gs_config *config, const struct gs_inventory *inventory,
			 const struct plan_base_name *names, struct plan_notes *unmatched)
{
	const struct patterns lists[] = {
		{"gpus", "GPU's name", "GPU", config->gpu_patterns, config->gpu_pattern_count, false},
		{"mig", "MIG device's profile", "MIG device", config->mig_patterns, config->mig_pattern_count, true},
	};

	for (size_t i = 0; i < GS_ARRAY_LENGTH(lists); i++)
		for (size_t j = 0; j < lists[i].count; j++)
			warn_pattern(&lists[i], j, inventory, unmatched);
	for (size_t i = 0; i < GS_SECTION_COUNT; i++) {
		const struct gs_sharing *sharing = gs_sharing_of(config, &gs_sharing_sections[i]);
		for (size_t j = 0; sharing->present && j < sharing->resource_count; j++) {
			char where[96];
			plan_describe_entry(where, sizeof where, config, &gs_sharing_sections[i],
					    &sharing->resources[j]);
			warn_entry(&sharing->resources[j], where, inventory, names, unmatched);
		}
	}
}
