/* From a configuration and an inventory to resources with shares. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"
#include "core/share/plan_internal.h"

#define DEFAULT_NAME "nvidia.com/gpu"

/* The entry that has a device. */
struct claim {
	const struct gs_strategy *strategy;
	const struct gs_sharing *sharing;
	const struct gs_sharing_resource *entry; /* NULL: no entry so far */
	struct claim *next;                      /* of another entry that has a part of the device; owned */
};

void plan_describe_entry(char *text, size_t size, const struct gs_config *config,
			 const struct gs_sharing_section *section, const struct gs_sharing_resource *entry)
{
	int length = snprintf(text, size, "sharing.%s.resources[%zu]", section->key,
			      (size_t)(entry - gs_sharing_of(config, section)->resources));

	if (entry->line && length >= 0 && (size_t)length < size)
		snprintf(text + length, size - (size_t)length, " (line %d)", entry->line);
}

bool plan_pattern_matches(const char *pattern, const char *text)
{
	const char *star = NULL, *retry = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = pattern++;
			retry = text;
		} else if (*pattern == *text) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star + 1;
			text = ++retry;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

static const char *first_match(const struct gs_resource_pattern *patterns, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++)
		if (plan_pattern_matches(patterns[i].pattern, text))
			return patterns[i].name;
	return NULL;
}

static int check_name(const char *name, struct gs_error *err)
{
	if (strlen(name) <= GS_RESOURCE_NAME_MAX)
		return 0;
	return gs_fail(err, GS_ERROR_LIMIT, 0,
		       "resource name \"%s\" has %zu characters and Kubernetes allows %d; choose a shorter one with "
		       "`rename` or resources.gpus",
		       name, strlen(name), GS_RESOURCE_NAME_MAX);
}

static int name_mig_device(const struct gs_config *config, const struct gs_device *device, struct plan_base_name *name,
			   struct gs_error *err)
{
	const char *configured = first_match(config->mig_patterns, config->mig_pattern_count, device->mig_profile);

	if (!configured && config->flags.mig_strategy == GS_MIG_SINGLE)
		configured = DEFAULT_NAME;
	GS_AUTO_FREE char *full =
		configured ? gs_strdup(configured) : gs_printf("nvidia.com/mig-%s", device->mig_profile);
	if (!configured)
		for (char *attribute = full; (attribute = strpbrk(attribute, "+,"));)
			*attribute = '.';
	if (check_name(full, err))
		return -1;
	snprintf(name->text, sizeof name->text, "%s", full);
	return 0;
}

static int name_gpu(const struct gs_config *config, const struct gs_gpu *gpu, struct plan_base_name *name,
		    struct gs_error *err)
{
	const char *configured = first_match(config->gpu_patterns, config->gpu_pattern_count, gpu->name);

	if (!configured)
		configured = DEFAULT_NAME;
	if (check_name(configured, err))
		return -1;
	snprintf(name->text, sizeof name->text, "%s", configured);
	return 0;
}

/* Fills names[device] of every device. */
static int plan_name_devices(const struct gs_config *config, const struct gs_inventory *inventory,
			     struct plan_base_name *names, struct gs_error *err)
{
	bool none = config->flags.mig_strategy == GS_MIG_NONE;

	for (size_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		const struct gs_gpu *gpu = &inventory->gpus[device->gpu];
		names[i].text[0] = '\0';
		if (device->mig ? none : gpu->mig_enabled && !none)
			continue;
		if (device->mig ? name_mig_device(config, device, &names[i], err)
				: name_gpu(config, gpu, &names[i], err))
			return -1;
	}
	return 0;
}

/* Devices that are alike: whole GPUs, or one MIG profile on one GPU model. */
static bool same_kind(const struct gs_inventory *inventory, const struct gs_device *a, const struct gs_device *b)
{
	if (a->mig != b->mig)
		return false;
	return !a->mig || (!strcmp(a->mig_profile, b->mig_profile) &&
			   !strcmp(inventory->gpus[a->gpu].name, inventory->gpus[b->gpu].name));
}

static uint64_t memory_of_kind(const struct gs_inventory *inventory, const struct plan_base_name *names, size_t which)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < inventory->device_count; i++)
		if (!strcmp(names[i].text, names[which].text) &&
		    same_kind(inventory, &inventory->devices[i], &inventory->devices[which]))
			bytes += inventory->devices[i].memory_bytes + 1; /* a GPU may tell no memory of its own */
	return bytes;
}

static const char *kind_text(const struct gs_device *device)
{
	return device->mig ? device->mig_profile : "whole GPU";
}

/* migStrategy single promises that every device of a name is alike. Where they are not, one kind is chosen rather than
 * none: workloads that run on it keep a node that takes more of them. A name without MIG devices is left as it is. */
static void keep_one_kind(const struct gs_inventory *inventory, struct plan_base_name *names, size_t first,
			  struct plan_notes *notes)
{
	char name[GS_RESOURCE_NAME_MAX + 1];
	size_t best = first, left_out = 0, example = 0;
	uint64_t most = memory_of_kind(inventory, names, first);

	memcpy(name, names[first].text, sizeof name);
	for (size_t i = first + 1; i < inventory->device_count; i++) {
		if (strcmp(names[i].text, name) ||
		    same_kind(inventory, &inventory->devices[i], &inventory->devices[best]))
			continue;
		uint64_t bytes = memory_of_kind(inventory, names, i);
		if (bytes > most) {
			best = i;
			most = bytes;
		}
	}
	for (size_t i = 0; i < inventory->device_count; i++) {
		if (strcmp(names[i].text, name) ||
		    same_kind(inventory, &inventory->devices[i], &inventory->devices[best]))
			continue;
		names[i].text[0] = '\0';
		example = i;
		left_out++;
	}
	const struct gs_device *kept = &inventory->devices[best], *lost = &inventory->devices[example];
	if (left_out)
		*GS_VEC_PUSH(notes) = gs_printf(
			"migStrategy single: all of %s must be alike, and this node has %s (device %s) and %s (device "
			"%s); %zu device%s not like %s %s left out (NVIDIA's device plugin would exit); make them "
			"alike, or use migStrategy mixed",
			name, kind_text(kept), kept->index, kind_text(lost), lost->index, left_out,
			left_out == 1 ? "" : "s", kept->index, left_out == 1 ? "is" : "are");
}

/* migStrategy single: takes the names of those that are not like the others, and says so. */
static void plan_make_uniform(const struct gs_inventory *inventory, struct plan_base_name *names,
			      struct plan_notes *notes)
{
	GS_AUTO_FREE bool *done = gs_calloc(inventory->device_count, sizeof *done);

	for (size_t i = 0; i < inventory->device_count; i++) {
		bool any_mig = false;
		if (done[i] || !names[i].text[0])
			continue;
		for (size_t j = i; j < inventory->device_count; j++) {
			if (strcmp(names[i].text, names[j].text))
				continue;
			done[j] = true;
			any_mig |= inventory->devices[j].mig;
		}
		if (any_mig)
			keep_one_kind(inventory, names, i, notes);
	}
}

/* Notes about GPUs that are not published as a user may expect, because of MIG. */
static void note_gpus(const struct gs_config *config, const struct gs_inventory *inventory, struct plan_notes *notes)
{
	static const char *const strategy_names[] = {
		[GS_MIG_NONE] = "none", [GS_MIG_SINGLE] = "single", [GS_MIG_MIXED] = "mixed"};
	enum gs_mig_strategy strategy = config->flags.mig_strategy;

	for (size_t i = 0; i < inventory->gpu_count; i++) {
		bool empty = true;
		if (!inventory->gpus[i].mig_enabled)
			continue;
		for (size_t j = 0; j < inventory->device_count; j++)
			empty = empty && !(inventory->devices[j].mig && inventory->devices[j].gpu == i);
		if (strategy == GS_MIG_NONE)
			*GS_VEC_PUSH(notes) = gs_printf(
				"GPU %u has MIG enabled, and migStrategy none publishes it whole: a program finds %s "
				"on it; use migStrategy mixed or single, or disable MIG",
				inventory->gpus[i].index, empty ? "nothing" : "one MIG device at most");
		else if (empty)
			*GS_VEC_PUSH(notes) =
				gs_printf("GPU %u has MIG enabled but no MIG devices, so migStrategy %s publishes "
					  "nothing of it%s; create some, or disable MIG on it",
					  inventory->gpus[i].index, strategy_names[strategy],
					  strategy == GS_MIG_SINGLE ? " (NVIDIA's device plugin would exit)" : "");
	}
}

/* "MIG-GPU-<uuid>/<gpu instance>/<compute instance>", as MIG devices were called before R470; still accepted. */
static bool is_old_mig_name(const char *name, const struct gs_inventory *inventory, const struct gs_device *device)
{
	const char *gpu = inventory->gpus[device->gpu].uuid;
	size_t length = strlen(gpu);
	char ids[32];

	if (!device->mig || strncasecmp(name, "MIG-", 4) || strncasecmp(name + 4, gpu, length))
		return false;
	snprintf(ids, sizeof ids, "/%u/%u", device->gpu_instance, device->compute_instance);
	return !strcmp(name + 4 + length, ids);
}

bool plan_selector_names(const struct gs_device_selector *selector, const struct gs_inventory *inventory,
			 const struct gs_device *device)
{
	for (size_t i = 0; i < selector->list_length; i++)
		if (!strcmp(selector->list[i], device->index) || !strcasecmp(selector->list[i], device->uuid) ||
		    is_old_mig_name(selector->list[i], inventory, device))
			return true;
	return false;
}

/* Whether an entry takes a device, which is the `nth` (from 0) of the entry's name. */
static bool entry_takes(const struct gs_sharing_resource *entry, const struct gs_inventory *inventory,
			const struct gs_device *device, unsigned nth)
{
	switch (entry->devices.kind) {
	case GS_SELECT_ALL:
		return true;
	case GS_SELECT_COUNT:
		return nth < entry->devices.count;
	case GS_SELECT_LIST:
		return plan_selector_names(&entry->devices, inventory, device);
	}
	return false;
}

static bool can_divide(const struct claim *a, const struct claim *b, const char *base)
{
	return a->strategy == b->strategy &&
	       gs_sharing_can_divide(a->strategy->section, a->sharing, a->entry, b->entry, base);
}

static void refuse_claim(const struct gs_config *config, const struct claim *theirs, const struct claim *ours,
			 const struct gs_inventory *inventory, uint32_t device, struct gs_plan *plan)
{
	char first[96], second[96];
	plan_describe_entry(first, sizeof first, config, theirs->strategy->section, theirs->entry);
	plan_describe_entry(second, sizeof second, config, ours->strategy->section, ours->entry);
	gs_plan_refuse(plan, inventory, device,
		       "%s and %s both claim device %s (%s); a device can be in one entry only: list the devices of "
		       "each with `devices`%s",
		       first, second, inventory->devices[device].index, inventory->devices[device].uuid,
		       theirs->strategy == ours->strategy && theirs->strategy->section->several_entries
			       ? ", or give each a name of its own with `rename` to divide the device"
			       : "");
}

/* Two entries claim a device that can't be divided: neither gets it. */
static void claim_entry(const struct gs_config *config, const struct gs_inventory *inventory,
			const struct plan_base_name *names, const struct claim *mine, struct claim *claims,
			struct gs_plan *plan)
{
	unsigned nth = 0;

	for (uint32_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		if (strcmp(names[i].text, mine->entry->name) || !entry_takes(mine->entry, inventory, device, nth++))
			continue;
		struct claim *at = &claims[i];
		while (at && at->entry && can_divide(at, mine, names[i].text)) {
			if (!at->next)
				at->next = gs_calloc(1, sizeof *at->next);
			at = at->next;
		}
		if (at->entry)
			refuse_claim(config, at, mine, inventory, i, plan);
		else
			*at = *mine;
	}
}

static const struct gs_strategy *strategy_for(const struct gs_sharing_section *section,
					      const struct gs_strategy *const *strategies, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strategies[i]->section == section)
			return strategies[i];
	return NULL;
}

static int claim_devices(const struct gs_config *config, const struct gs_inventory *inventory,
			 const struct gs_strategy *const *strategies, size_t strategy_count,
			 const struct plan_base_name *names, struct claim *claims, struct gs_plan *plan,
			 struct gs_error *err)
{
	for (size_t i = 0; i < GS_SECTION_COUNT; i++) {
		const struct gs_sharing_section *section = &gs_sharing_sections[i];
		const struct gs_sharing *sharing = gs_sharing_of(config, section);
		if (!sharing->present)
			continue;
		const struct gs_strategy *strategy = strategy_for(section, strategies, strategy_count);
		if (!strategy)
			return gs_fail(err, GS_ERROR_INPUT, 0,
				       "sharing.%s: this version cannot run it yet; remove the section, or share these "
				       "devices another way",
				       section->key);
		for (size_t j = 0; j < sharing->resource_count; j++) {
			struct claim mine = {strategy, sharing, &sharing->resources[j]};
			claim_entry(config, inventory, names, &mine, claims, plan);
		}
	}
	return 0;
}

static struct gs_resource *resource_named(struct gs_plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->resource_count; i++)
		if (!strcmp(plan->resources[i].name, name))
			return &plan->resources[i];
	plan->resources = gs_reallocarray(plan->resources, plan->resource_count + 1, sizeof *plan->resources);
	struct gs_resource *resource = &plan->resources[plan->resource_count++];
	*resource = (struct gs_resource){0};
	snprintf(resource->name, sizeof resource->name, "%s", name);
	return resource;
}

static void free_resource(struct gs_resource *resource)
{
	for (size_t i = 0; i < resource->device_count; i++)
		free(resource->devices[i].kept);
	free(resource->shares);
	free(resource->devices);
	free(resource->slots);
}

/* Memory counts on a node: thousands of shares should not lie in arrays twice as long. */
static void trim(struct gs_plan *plan)
{
	for (size_t i = 0; i < plan->resource_count; i++) {
		struct gs_resource *resource = &plan->resources[i];
		resource->shares = gs_reallocarray(resource->shares, resource->share_count, sizeof *resource->shares);
		resource->share_capacity = resource->share_count;
	}
}

/* The last planned shares would make the list longer than a kubelet takes. */
static void leave_out(struct gs_plan *plan, struct gs_resource *resource, const struct gs_inventory *inventory,
		      uint32_t device)
{
	gs_plan_refuse(plan, inventory, device,
		       "with it %s would have %zu shares, and a kubelet takes no list above 4 MiB (about 60,000 "
		       "shares); use fewer `replicas`, or publish some devices under another name with `rename`",
		       resource->name, resource->share_count);
	gs_resource_drop_last(resource);
	if (!resource->device_count) { /* it was made for this device, so it is the last one */
		free_resource(resource);
		plan->resource_count--;
	}
}

static int publish(struct gs_plan *plan, const struct gs_inventory *inventory, uint32_t device, const char *base,
		   const struct claim *claim, uint32_t *number_from, struct gs_error *err)
{
	GS_AUTO_FREE char *name =
		claim->entry ? gs_sharing_published_name(claim->sharing, claim->entry, base) : gs_strdup(base);

	if (check_name(name, err))
		return -1;
	struct gs_resource *resource = resource_named(plan, name);
	resource->number_from = *number_from;
	claim->strategy->plan(claim->entry, inventory, device, resource);
	if (resource->list_bytes > GS_RESOURCE_LIST_BYTES_MAX) {
		leave_out(plan, resource, inventory, device);
		return 0;
	}
	struct gs_resource_device *added = &resource->devices[resource->device_count - 1];
	*number_from += added->share_count;
	added->strategy = claim->strategy;
	added->fail_requests_greater_than_one =
		claim->entry && gs_sharing_fails_above_one(claim->strategy->section, claim->sharing);
	return 0;
}

/* All that is published of one device. */
static int publish_device(struct gs_plan *plan, const struct gs_inventory *inventory, uint32_t device, const char *base,
			  const struct claim *claims, const struct gs_strategy *exclusive, struct gs_error *err)
{
	uint32_t number_from = 0;

	if (!claims->entry)
		return publish(plan, inventory, device, base, &(struct claim){.strategy = exclusive}, &number_from,
			       err);
	for (const struct claim *claim = claims; claim; claim = claim->next)
		if (publish(plan, inventory, device, base, claim, &number_from, err))
			return -1;
	return 0;
}

static void free_claims(struct claim *claims, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (struct claim *next = claims[i].next, *after; next; next = after) {
			after = next->next;
			free(next);
		}
}

void gs_plan_note(struct gs_plan *plan, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	char *note = gs_vprintf(format, arguments);
	va_end(arguments);
	for (size_t i = 0; i < plan->note_count; i++)
		if (!strcmp(plan->notes[i], note)) {
			free(note);
			return;
		}
	plan->notes = gs_reallocarray(plan->notes, plan->note_count + 1, sizeof *plan->notes);
	plan->notes[plan->note_count++] = note;
}

/* Sets a device's text in one of the plan's two lists, once. */
static void set_reason(struct gs_plan *plan, char ***list, const struct gs_inventory *inventory, uint32_t device,
		       char *reason)
{
	if (!*list) {
		plan->device_count = inventory->device_count;
		*list = gs_calloc(plan->device_count, sizeof **list);
	}
	if ((*list)[device])
		free(reason);
	else
		(*list)[device] = reason;
}

void gs_plan_refuse(struct gs_plan *plan, const struct gs_inventory *inventory, uint32_t device, const char *format,
		    ...)
{
	va_list arguments;
	va_start(arguments, format);
	set_reason(plan, &plan->misfits, inventory, device, gs_vprintf(format, arguments));
	va_end(arguments);
}

static const char *get_reason(const struct gs_plan *plan, char *const *list, uint32_t device)
{
	return list && device < plan->device_count ? list[device] : NULL;
}

const char *gs_plan_misfit(const struct gs_plan *plan, uint32_t device)
{
	return get_reason(plan, plan->misfits, device);
}

const char *gs_plan_withheld(const struct gs_plan *plan, uint32_t device)
{
	return get_reason(plan, plan->withheld, device);
}

/* Whole, or as its instances? A container that gets the wrong one of the two can use nothing. */
static void withhold_unknown(const struct gs_inventory *inventory, const struct plan_base_name *names,
			     struct gs_plan *plan)
{
	for (uint32_t i = 0; i < inventory->device_count; i++)
		if (names[i].text[0] && inventory->gpus[inventory->devices[i].gpu].mig_unknown)
			set_reason(plan, &plan->withheld, inventory, i,
				   gs_printf("whether MIG is enabled on it can't be read (%s)",
					     inventory->gpus[inventory->devices[i].gpu].problem));
}

/* An allocation would be refused each time, so that the kubelet should not even try. */
static void withhold_without_nodes(const struct gs_config *config, const struct gs_inventory *inventory,
				   const struct plan_base_name *names, struct gs_plan *plan)
{
	const unsigned by_cdi = GS_DEVICE_LIST_CDI_ANNOTATIONS | GS_DEVICE_LIST_CDI_CRI;

	if (!config->flags.plugin.pass_device_specs && !(config->flags.plugin.device_list_strategy & by_cdi))
		return; /* the container runtime finds them */
	for (uint32_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		char *reason = NULL;
		if (!names[i].text[0])
			continue;
		if (inventory->gpus[device->gpu].minor < 0)
			reason = gs_printf(
				"the driver tells no minor number of device %s (%s), so its device node is not known "
				"and no container can get it by CDI or passDeviceSpecs; use deviceListStrategy envvar "
				"or volume-mounts, without passDeviceSpecs, with NVIDIA's container runtime",
				device->index, device->uuid);
		else if (device->mig && !(device->gi_cap && device->ci_cap))
			reason = gs_printf(
				"the driver's proc/driver/nvidia-caps/mig-minors does not list MIG device %s (%s), so "
				"no container can get it; set nvidiaDriverRoot to where the driver's /proc is seen",
				device->index, device->uuid);
		if (reason)
			set_reason(plan, &plan->withheld, inventory, i, reason);
	}
}

/* Notes which devices are not published or are withheld, and why; the first ones in full. */
static void note_reasons(const struct gs_inventory *inventory, char *const *reasons, const char *what,
			 struct gs_plan *plan)
{
	enum { TOLD_MAX = 4 };
	size_t count = 0;

	for (uint32_t i = 0; reasons && i < plan->device_count; i++)
		if (reasons[i] && count++ < TOLD_MAX)
			gs_plan_note(plan, "device %s is not %s: %s", inventory->devices[i].index, what, reasons[i]);
	if (count > TOLD_MAX)
		gs_plan_note(plan, "%zu more devices are not %s for reasons of this kind", count - TOLD_MAX, what);
}

static void free_resources(struct gs_plan *plan)
{
	for (size_t i = 0; i < plan->resource_count; i++)
		free_resource(&plan->resources[i]);
	free(plan->resources);
	plan->resources = NULL;
	plan->resource_count = 0;
}

static size_t count_misfits(const struct gs_plan *plan)
{
	size_t count = 0;

	for (uint32_t i = 0; plan->misfits && i < plan->device_count; i++)
		count += plan->misfits[i] != NULL;
	return count;
}

/* Publishes all shares that fit. Where one does not fit, all shares of its device are left out, and the rest is planned
 * again. */
static int publish_what_fits(const struct gs_inventory *inventory, const struct gs_strategy *const *strategies,
			     size_t strategy_count, const struct plan_base_name *names, const struct claim *claims,
			     struct gs_plan *plan, struct gs_error *err)
{
	size_t before;

	do {
		before = count_misfits(plan);
		free_resources(plan);
		for (uint32_t i = 0; i < inventory->device_count; i++)
			if (names[i].text[0] && !gs_plan_misfit(plan, i) &&
			    publish_device(plan, inventory, i, names[i].text, &claims[i], strategies[0], err))
				return -1;
		for (size_t i = 0; i < strategy_count; i++)
			if (strategies[i]->check)
				strategies[i]->check(inventory, plan);
	} while (count_misfits(plan) > before);
	return 0;
}

int gs_plan_build(const struct gs_config *config, const struct gs_inventory *inventory,
		  const struct gs_strategy *const *strategies, size_t strategy_count, struct gs_plan *plan,
		  struct gs_error *err)
{
	GS_AUTO_FREE struct plan_base_name *names = gs_calloc(inventory->device_count, sizeof *names);
	GS_AUTO_FREE struct claim *claims = gs_calloc(inventory->device_count, sizeof *claims);
	struct gs_plan built = {0};
	struct plan_notes notes = {0}, unmatched = {0};

	if (plan_name_devices(config, inventory, names, err))
		return -1;
	if (config->flags.mig_strategy == GS_MIG_SINGLE)
		plan_make_uniform(inventory, names, &notes);
	note_gpus(config, inventory, &notes);
	built.notes = notes.items;
	built.note_count = notes.count;
	int result = claim_devices(config, inventory, strategies, strategy_count, names, claims, &built, err);
	if (!result)
		result = publish_what_fits(inventory, strategies, strategy_count, names, claims, &built, err);
	free_claims(claims, inventory->device_count);
	if (result) {
		gs_plan_free(&built);
		return -1;
	}
	withhold_unknown(inventory, names, &built);
	withhold_without_nodes(config, inventory, names, &built);
	note_reasons(inventory, built.misfits, "published", &built);
	note_reasons(inventory, built.withheld, "given out", &built);
	plan_find_unmatched(config, inventory, names, &unmatched);
	built.unmatched = unmatched.items;
	built.unmatched_count = unmatched.count;
	trim(&built);
	*plan = built;
	return 0;
}

static void free_texts(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

void gs_plan_free(struct gs_plan *plan)
{
	free_resources(plan);
	free_texts(plan->notes, plan->note_count);
	if (plan->misfits)
		free_texts(plan->misfits, plan->device_count);
	if (plan->withheld)
		free_texts(plan->withheld, plan->device_count);
	free_texts(plan->unmatched, plan->unmatched_count);
	*plan = (struct gs_plan){0};
}

const struct gs_resource *gs_plan_find(const struct gs_plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->resource_count; i++)
		if (!strcmp(plan->resources[i].name, name))
			return &plan->resources[i];
	return NULL;
}
