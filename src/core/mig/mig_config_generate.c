#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "core/mig/mig_config.h"
#include "core/mig/mig_plan.h"

static struct gs_mig_named *add_named(struct gs_mig_config *config, char *owned_name, size_t entries)
{
	struct gs_mig_named *named = GS_VEC_PUSH(config);
	*named = (struct gs_mig_named){.name = owned_name, .entries = gs_calloc(entries, sizeof *named->entries)};
	return named;
}

/* A configuration without entries says nothing, and the format has no such. */
static void drop_empty(struct gs_mig_config *config)
{
	struct gs_mig_named *named = &config->items[config->count - 1];
	if (named->entry_count)
		return;
	free(named->entries);
	free(named->name);
	config->count--;
}

static void add_count(struct gs_mig_entry *entry, const char *profile, uint32_t count)
{
	size_t at = 0;
	while (at < entry->count_count && strcmp(entry->counts[at].profile, profile) != 0)
		at++;
	if (at == entry->count_count) {
		entry->counts = gs_reallocarray(entry->counts, at + 1, sizeof *entry->counts);
		entry->counts[entry->count_count++] = (struct gs_mig_count){.profile = gs_strdup(profile)};
	}
	entry->counts[at].count += count;
}

static bool same_counts(const struct gs_mig_entry *a, const struct gs_mig_entry *b)
{
	for (size_t i = 0; i < a->count_count && i < b->count_count; i++)
		if (a->counts[i].count != b->counts[i].count || strcmp(a->counts[i].profile, b->counts[i].profile) != 0)
			return false;
	return a->enabled == b->enabled && a->count_count == b->count_count;
}

/* GPUs of one PCI id are of one kind. */
struct kinds {
	const struct gs_mig_node_gpu **items;
	size_t count, capacity;
};

static struct kinds find_kinds(const struct gs_mig_node_gpu *gpus, size_t count)
{
	struct kinds kinds = {0};
	for (size_t i = 0; i < count; i++) {
		size_t at = 0;
		while (at < kinds.count && kinds.items[at]->pci_device != gpus[i].pci_device)
			at++;
		if (gpus[i].mig && at == kinds.count)
			*GS_VEC_PUSH(&kinds) = &gpus[i];
	}
	return kinds;
}

/* The plain profile of so many compute slices with the least memory, or -1. */
static int plain_profile(const struct gs_mig_gpu *mig, uint32_t slices)
{
	int best = -1;
	for (int i = 0; i < mig->profile_count; i++) {
		const struct gs_mig_profile *profile = &mig->profiles[i];
		if (profile->compute_slices != slices || profile->graphics || strpbrk(profile->name, "+-"))
			continue;
		if (best < 0 || profile->memory_bytes < mig->profiles[best].memory_bytes)
			best = i;
	}
	return best;
}

/* Makes the entry of one kind of GPU in a generated configuration; false: that kind has no part in it. */
typedef bool fill_function(const struct gs_mig_gpu *mig, const char *profile, struct gs_mig_entry *entry);

/* Two of the smallest, then one each of the next sizes while slices last. */
static bool fill_balanced(const struct gs_mig_gpu *mig, const char *profile, struct gs_mig_entry *entry)
{
	static const struct gs_mig_layout empty;
	struct gs_mig_wish wish = {0};
	struct gs_mig_plan plan;
	uint32_t total = 0, used = 0;

	for (size_t i = 0; i < mig->profile_count; i++)
		if (mig->profiles[i].compute_slices > total)
			total = mig->profiles[i].compute_slices;
	for (uint32_t slices = 1; used + slices <= total; slices++) {
		int at = plain_profile(mig, slices);
		uint32_t count = slices == 1 ? 2 : 1;
		if (at < 0)
			continue;
		if (gs_mig_wish_add(mig, mig->profiles[at].name, count, &wish, NULL))
			return false;
		add_count(entry, mig->profiles[at].name, count);
		used += slices * count;
	}
	return wish.count && gs_mig_plan_make(mig, &empty, &wish, GS_MIG_BECOME, &plan) == 0;
}

static bool fill_profile(const struct gs_mig_gpu *mig, const char *profile, struct gs_mig_entry *entry)
{
	int at = gs_mig_profile_by_name(mig, profile);
	if (at < 0 || !mig->profiles[at].max_count)
		return false;
	add_count(entry, profile, mig->profiles[at].max_count);
	return true;
}

/* The entry of `named` with the same counts as this one, which becomes its last when there was none; takes `entry`. */
static struct gs_mig_entry *merge_entry(struct gs_mig_named *named, struct gs_mig_entry *entry)
{
	for (size_t i = 0; i < named->entry_count; i++) {
		if (same_counts(&named->entries[i], entry)) {
			gs_mig_entry_free(entry);
			return &named->entries[i];
		}
	}
	named->entries[named->entry_count] = *entry;
	return &named->entries[named->entry_count++];
}

static void add_generated(struct gs_mig_config *config, const struct kinds *kinds, const char *name,
			  fill_function *fill, const char *profile)
{
	struct gs_mig_named *named = add_named(config, gs_strdup(name), kinds->count);

	for (size_t i = 0; i < kinds->count; i++) {
		struct gs_mig_entry entry = {.all_devices = true, .enabled = true};
		if (!fill(kinds->items[i]->mig, profile, &entry)) {
			gs_mig_entry_free(&entry);
			continue;
		}
		struct gs_mig_entry *into = merge_entry(named, &entry);
		if (kinds->count == 1)
			continue;
		into->filters = gs_reallocarray(into->filters, into->filter_count + 1, sizeof *into->filters);
		into->filters[into->filter_count++] =
			(struct gs_mig_filter){.device = kinds->items[i]->pci_device, .any_subsystem = true};
	}
	drop_empty(config);
}

static void add_profiles(struct gs_mig_config *config, const struct kinds *kinds, const struct gs_mig_gpu *mig)
{
	for (size_t i = 0; i < mig->profile_count; i++) {
		bool known = false;
		GS_AUTO_FREE char *name = gs_printf("all-%s", mig->profiles[i].name);
		for (char *plus = name; (plus = strchr(plus, '+'));)
			*plus = '.';
		for (size_t k = 0; k < config->count && !known; k++)
			known = strcmp(config->items[k].name, name) == 0;
		if (!known)
			add_generated(config, kinds, name, fill_profile, mig->profiles[i].name);
	}
}

void gs_mig_config_generate(const struct gs_mig_node_gpu *gpus, size_t count, struct gs_mig_config *config)
{
	struct kinds kinds = find_kinds(gpus, count);

	*config = (struct gs_mig_config){.file = gs_strdup("generated configurations")};
	for (int enabled = 0; kinds.count && enabled < 2; enabled++) {
		struct gs_mig_named *named = add_named(config, gs_strdup(enabled ? "all-enabled" : "all-disabled"), 1);
		named->entries[named->entry_count++] = (struct gs_mig_entry){.all_devices = true, .enabled = enabled};
	}
	if (kinds.count)
		add_generated(config, &kinds, "all-balanced", fill_balanced, NULL);
	for (size_t i = 0; i < kinds.count; i++)
		add_profiles(config, &kinds, kinds.items[i]->mig);
	GS_VEC_FREE(&kinds);
}

static void describe_gpu(const struct gs_mig_gpu *mig, const struct gs_mig_target *target, struct gs_mig_entry *entry)
{
	char name[GS_MIG_NAME_SIZE];

	entry->enabled = target->enabled;
	for (uint8_t profile = 0; mig && target->enabled && profile < mig->profile_count; profile++) {
		const struct gs_mig_wish *wish = &target->wish;
		for (uint32_t size = GS_MIG_SLICES_MAX; size; size--)
			for (size_t i = 0; i < wish->count; i++)
				for (size_t k = 0;
				     wish->items[i].profile == profile && k < wish->items[i].compute_count; k++)
					if (wish->items[i].compute[k] == size)
						add_count(entry,
							  gs_mig_compute_name(&mig->profiles[profile], size, name), 1);
	}
}

void gs_mig_config_describe(struct gs_mig_config *config, const char *name, const struct gs_mig_node_gpu *gpus,
			    const struct gs_mig_target *targets, size_t count)
{
	struct gs_mig_named *named = add_named(config, gs_strdup(name), count ? count : 1);

	for (size_t i = 0; i < count; i++) {
		struct gs_mig_entry entry = {0};
		if (!targets[i].named)
			continue;
		describe_gpu(gpus[i].mig, &targets[i], &entry);
		struct gs_mig_entry *into = merge_entry(named, &entry);
		into->devices = gs_reallocarray(into->devices, into->device_count + 1, sizeof *into->devices);
		into->devices[into->device_count++] = (struct gs_mig_index){.gpu = (uint32_t)i};
	}
	drop_empty(config);
}

/* Plain where YAML can't take it for anything but a string. */
static void write_name(struct gs_strbuf *text, const char *name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
	if (strncmp(name, "all-", 4) == 0 && !name[strspn(name, plain)]) {
		gs_strbuf_add(text, name);
		return;
	}
	gs_strbuf_add_char(text, '"');
	for (; *name; name++)
		gs_strbuf_printf(text, "%s%c", *name == '"' || *name == '\\' ? "\\" : "", *name);
	gs_strbuf_add_char(text, '"');
}

static void write_filter(struct gs_strbuf *text, const struct gs_mig_filter *filter)
{
	gs_strbuf_printf(text, "\"0x%08" PRIX32, filter->device);
	if (!filter->any_subsystem)
		gs_strbuf_printf(text, ":0x%08" PRIX32, filter->subsystem);
	gs_strbuf_add_char(text, '"');
}

static void write_entry(struct gs_strbuf *text, const struct gs_mig_entry *entry)
{
	gs_strbuf_add(text, "    - ");
	if (entry->filter_count) {
		gs_strbuf_add(text, "device-filter: [");
		for (size_t i = 0; i < entry->filter_count; i++) {
			gs_strbuf_add(text, i ? ", " : "");
			write_filter(text, &entry->filters[i]);
		}
		gs_strbuf_add(text, "]\n      ");
	}
	gs_strbuf_add(text, entry->all_devices ? "devices: all" : "devices: [");
	for (size_t i = 0; i < entry->device_count; i++)
		gs_strbuf_printf(text, "%s%" PRIu32, i ? ", " : "", entry->devices[i].gpu);
	gs_strbuf_printf(text, "%s\n      mig-enabled: %s\n", entry->all_devices ? "" : "]",
			 entry->enabled ? "true" : "false");
	if (!entry->enabled)
		return;
	gs_strbuf_printf(text, "      mig-devices:%s\n", entry->count_count ? "" : " {}");
	for (size_t i = 0; i < entry->count_count; i++)
		gs_strbuf_printf(text, "        \"%s\": %" PRIu32 "\n", entry->counts[i].profile,
				 entry->counts[i].count);
}

char *gs_mig_config_text(const struct gs_mig_config *config)
{
	struct gs_strbuf text = {0};
	gs_strbuf_add(&text, "version: v1\nmig-configs:\n");
	for (size_t i = 0; i < config->count; i++) {
		gs_strbuf_add(&text, "  ");
		write_name(&text, config->items[i].name);
		gs_strbuf_add(&text, ":\n");
		for (size_t k = 0; k < config->items[i].entry_count; k++)
			write_entry(&text, &config->items[i].entries[k]);
	}
	return gs_strbuf_take(&text);
}
