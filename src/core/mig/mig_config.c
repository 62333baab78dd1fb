#include "core/mig/mig_config.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/suggest.h"
#include "base/vec.h"

void gs_mig_entry_free(struct gs_mig_entry *entry)
{
	for (size_t i = 0; i < entry->count_count; i++)
		free(entry->counts[i].profile);
	free(entry->counts);
	free(entry->filters);
	free(entry->devices);
}

void gs_mig_config_free(struct gs_mig_config *config)
{
	for (size_t i = 0; i < config->count; i++) {
		struct gs_mig_named *named = &config->items[i];
		for (size_t k = 0; k < named->entry_count; k++)
			gs_mig_entry_free(&named->entries[k]);
		free(named->entries);
		free(named->name);
	}
	GS_VEC_FREE(config);
	free(config->file);
	config->file = NULL;
}

const struct gs_mig_named *gs_mig_config_find(const struct gs_mig_config *config, const char *name,
					      struct gs_error *err)
{
	if (!name && config->count == 1)
		return &config->items[0];
	GS_AUTO_FREE const char **names = gs_calloc(config->count + 1, sizeof *names);
	GS_AUTO_STRBUF struct gs_strbuf known = {0};
	for (size_t i = 0; i < config->count; i++) {
		if (name && strcmp(config->items[i].name, name) == 0)
			return &config->items[i];
		names[i] = config->items[i].name;
		gs_strbuf_printf(&known, "%s%s", i ? ", " : "", names[i]);
	}
	const char *meant = name ? gs_suggest(name, names, config->count) : NULL;
	if (!config->count)
		gs_fail(err, GS_ERROR_INPUT, 0, "%s: there is no MIG configuration, since no GPU here can do MIG",
			config->file);
	else if (!name)
		gs_fail(err, GS_ERROR_INPUT, 0, "%s: name one of the MIG configurations: %s", config->file, known.data);
	else if (meant)
		gs_fail(err, GS_ERROR_INPUT, 0, "%s: there is no MIG configuration \"%.60s\"; did you mean \"%s\"?",
			config->file, name, meant);
	else
		gs_fail(err, GS_ERROR_INPUT, 0, "%s: there is no MIG configuration \"%.60s\"; there is %s",
			config->file, name, known.data);
	return NULL;
}

struct resolver {
	const char *file;
	const struct gs_mig_node_gpu *gpus;
	size_t count;
	struct gs_mig_target *targets;
	const struct gs_mig_entry **entries; /* that gave each target */
	struct gs_diagnostics *diags;
};

#define ERROR(r, place, ...) \
	gs_diagnostics_add((r)->diags, false, (r)->file, (place)->line, (place)->column, __VA_ARGS__)

#define NOTE(r, place, ...) gs_diagnostics_add((r)->diags, true, (r)->file, (place)->line, (place)->column, __VA_ARGS__)

static bool passes_filter(const struct gs_mig_entry *entry, const struct gs_mig_node_gpu *gpu)
{
	for (size_t i = 0; i < entry->filter_count; i++) {
		const struct gs_mig_filter *filter = &entry->filters[i];
		if (filter->device == gpu->pci_device &&
		    (filter->any_subsystem || filter->subsystem == gpu->pci_subsystem))
			return true;
	}
	return !entry->filter_count;
}

/* Whether the entry is about GPUs of this node at all. */
static bool concerns_node(const struct resolver *r, const struct gs_mig_entry *entry)
{
	for (size_t i = 0; i < r->count; i++)
		if (passes_filter(entry, &r->gpus[i]))
			return true;
	return false;
}

static bool make_wish(struct resolver *r, const struct gs_mig_entry *entry, size_t gpu, struct gs_mig_wish *wish)
{
	const struct gs_mig_gpu *mig = r->gpus[gpu].mig;
	struct gs_error err;

	for (size_t i = 0; i < entry->count_count; i++) {
		const struct gs_mig_count *count = &entry->counts[i];
		if (gs_mig_wish_add(mig, count->profile, count->count, wish, &err) ||
		    gs_mig_wish_check(mig, wish, &err)) {
			ERROR(r, count, "GPU %zu: %s", gpu, err.text);
			return false;
		}
	}
	return true;
}

/* `index` is where the entry names this GPU; NULL: it speaks of all. */
static void apply(struct resolver *r, const struct gs_mig_entry *entry, size_t gpu, const struct gs_mig_index *index)
{
	struct gs_mig_target target = {.named = true, .enabled = entry->enabled};

	if (!r->gpus[gpu].mig) {
		if (index && entry->enabled)
			ERROR(r, index, "GPU %zu can't do MIG; remove it from devices", gpu);
		return;
	}
	if (!make_wish(r, entry, gpu, &target.wish))
		return;
	if (!r->targets[gpu].named) {
		r->targets[gpu] = target;
		r->entries[gpu] = entry;
	} else if (r->targets[gpu].enabled != target.enabled ||
		   !gs_mig_wish_same(&r->targets[gpu].wish, &target.wish)) {
		ERROR(r, entry, "GPU %zu is wanted otherwise by the entry in line %d; let one entry speak of it", gpu,
		      r->entries[gpu]->line);
	}
}

static void apply_entry(struct resolver *r, const struct gs_mig_entry *entry)
{
	bool concerned = concerns_node(r, entry);
	GS_AUTO_STRBUF struct gs_strbuf absent = {0};
	const struct gs_mig_index *first = NULL;
	for (size_t i = 0; entry->all_devices && i < r->count; i++)
		if (passes_filter(entry, &r->gpus[i]))
			apply(r, entry, i, NULL);
	for (size_t i = 0; i < entry->device_count; i++) {
		const struct gs_mig_index *index = &entry->devices[i];
		if (index->gpu < r->count && passes_filter(entry, &r->gpus[index->gpu]))
			apply(r, entry, index->gpu, index);
		else if (index->gpu >= r->count && concerned)
			gs_strbuf_printf(&absent, "%s%u", absent.length ? ", " : "", index->gpu);
		if (absent.length && !first)
			first = index;
	}
	if (first)
		NOTE(r, first, "this node has no GPU %s, and these are passed over; it has %zu, numbered from 0",
		     absent.data, r->count);
}

bool gs_mig_config_is_matched(const struct gs_mig_named *named, const struct gs_mig_node_gpu *gpus, size_t count,
			      const struct gs_mig_target *targets)
{
	const struct resolver r = {.gpus = gpus, .count = count};
	bool any = false, all = true, filtered = false;
	for (size_t i = 0; i < count; i++) {
		any |= targets[i].named;
		all &= targets[i].named || !gpus[i].mig;
	}
	for (size_t i = 0; i < named->entry_count; i++)
		filtered |= !concerns_node(&r, &named->entries[i]);
	return any && (all || !filtered);
}

/* A file for several models has entries that are of no concern here; they are told where a GPU is left out. */
static void note_unmatched(struct resolver *r, const struct gs_mig_named *named)
{
	if (gs_mig_config_is_matched(named, r->gpus, r->count, r->targets))
		return;
	for (size_t i = 0; i < named->entry_count; i++)
		if (!concerns_node(r, &named->entries[i]))
			NOTE(r, &named->entries[i], "the device-filter of this entry matches no GPU of this node");
}

int gs_mig_config_resolve(const struct gs_mig_config *config, const struct gs_mig_named *named,
			  const struct gs_mig_node_gpu *gpus, size_t count, struct gs_mig_target *targets,
			  struct gs_diagnostics *diags)
{
	struct gs_diagnostics own = {0};
	GS_AUTO_FREE const struct gs_mig_entry **entries = gs_calloc(count + 1, sizeof *entries);
	struct resolver r = {.file = config->file,
			     .gpus = gpus,
			     .count = count,
			     .targets = targets,
			     .entries = entries,
			     .diags = diags ? diags : &own};
	size_t errors = r.diags->error_count;

	memset(targets, 0, count * sizeof *targets);
	for (size_t i = 0; i < named->entry_count; i++)
		apply_entry(&r, &named->entries[i]);
	if (r.diags->error_count == errors)
		note_unmatched(&r, named);
	gs_diagnostics_sort(r.diags);
	bool failed = r.diags->error_count > errors;
	gs_diagnostics_free(&own);
	return failed ? -1 : 0;
}
