#include "core/mig/mig_wish.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/suggest.h"
#include "core/mig/mig_name.h"

enum { ENTRY_MAX = 80 };

#define FAIL(err, ...) gs_fail((err), GS_ERROR_INPUT, 0, __VA_ARGS__)
/* Errors that hold for every GPU. */
#define FAIL_SYNTAX(err, ...) gs_fail((err), GS_ERROR_INPUT, EINVAL, __VA_ARGS__)

/* A whole number without sign, at most `most`; false: it is none. */
static bool read_number(const char *text, uint32_t most, uint32_t *number)
{
	size_t digits = strspn(text, "0123456789");
	if (!digits || digits > 9 || text[digits])
		return false;
	*number = (uint32_t)strtoul(text, NULL, 10);
	return *number <= most;
}

/* "1g.10gb (id 19), 1g.10gb+me (id 20)". */
static char *list_profiles(const struct gs_mig_gpu *gpu)
{
	struct gs_strbuf text = {0};
	for (size_t i = 0; i < gpu->profile_count; i++)
		gs_strbuf_printf(&text, "%s%s (id %u)", i ? ", " : "", gpu->profiles[i].name, gpu->profiles[i].id);
	return gs_strbuf_take(&text);
}

/* The profile that was probably meant: the same number of slices and attributes with another memory size, as names
 * differ between models; else the name that looks most alike. NULL: no idea. */
static const char *suggest_profile(const struct gs_mig_gpu *gpu, const char *name)
{
	const char *names[GS_MIG_PROFILES_MAX];
	const char *tail = strpbrk(name, "+-");
	const char *dot = strchr(name, '.');
	for (size_t i = 0; i < gpu->profile_count; i++) {
		const char *candidate = gpu->profiles[i].name, *its_tail = strpbrk(candidate, "+-");
		names[i] = candidate;
		if (dot && strncmp(candidate, name, (size_t)(dot - name) + 1) == 0 &&
		    strcmp(tail ? tail : "", its_tail ? its_tail : "") == 0)
			return candidate;
	}
	return gs_suggest(name, names, gpu->profile_count);
}

static bool larger(const struct gs_mig_profile *a, const struct gs_mig_profile *b)
{
	return a->memory_bytes != b->memory_bytes ? a->memory_bytes > b->memory_bytes
						  : a->compute_slices > b->compute_slices;
}

/* The largest profile of which that many fit, or NULL. */
static const struct gs_mig_profile *largest_with(const struct gs_mig_gpu *gpu, uint32_t count)
{
	const struct gs_mig_profile *best = NULL;
	for (size_t i = 0; i < gpu->profile_count; i++) {
		const struct gs_mig_profile *profile = &gpu->profiles[i];
		if (profile->max_count >= count && (!best || larger(profile, best)))
			best = profile;
	}
	return best;
}

/* Ids are often taken for counts or sizes, and those of one model for those of another. */
static int fail_too_many(const struct gs_mig_gpu *gpu, const struct gs_mig_profile *profile, uint32_t count,
			 struct gs_error *err)
{
	const struct gs_mig_profile *other = largest_with(gpu, count);
	char hint[2 * GS_MIG_NAME_SIZE] = "";
	if (other)
		snprintf(hint, sizeof hint, "; %u fit of %s (id %u)", other->max_count, other->name, other->id);
	return FAIL(err, "at most %u of %s (id %u on this GPU) fit on one GPU, not %u%s", profile->max_count,
		    profile->name, profile->id, count, hint);
}

/* `profile` is the end of `name` that names the profile, behind the size of a compute instance. */
static int fail_unknown(const struct gs_mig_gpu *gpu, const char *name, const char *profile, struct gs_error *err)
{
	GS_AUTO_FREE char *known = list_profiles(gpu);
	struct gs_mig_name_meant formed;
	const char *like = gs_mig_name_meant(profile, &formed) ? formed.name : profile;
	int exact = gs_mig_profile_by_name(gpu, like);
	const char *meant = exact >= 0 ? gpu->profiles[exact].name : suggest_profile(gpu, like);
	if (!meant)
		return FAIL(err, "this GPU has no MIG profile \"%.60s\"; it has %s", name, known);
	if (like == formed.name && formed.count > 1)
		return FAIL(err, "\"%.60s\" is no MIG profile; did you mean \"%s\", %u times with commas?", name, meant,
			    formed.count);
	return FAIL(err, "this GPU has no MIG profile \"%.60s\"; did you mean \"%.*s%s\"? It has %s", name,
		    (int)(profile - name), name, meant, known);
}

/* `name` is a compute instance of a size that the profile does not have. */
static int fail_size(const struct gs_mig_profile *profile, const char *name, struct gs_error *err)
{
	GS_AUTO_STRBUF struct gs_strbuf sizes = {0};
	char part[GS_MIG_NAME_SIZE];
	for (uint8_t size = 1, start; size < profile->compute_slices; size++)
		if (gs_mig_compute_arrange(profile->compute_slices, 0, &size, 1, &start))
			gs_strbuf_printf(&sizes, "%s, ", gs_mig_compute_name(profile, size, part));
	return FAIL(err, "there is no compute instance %.60s; there is %s%s%s, which takes all of it", name,
		    sizes.length ? sizes.data : "only ", sizes.length ? "and " : "", profile->name);
}

/* "1c.3g.40gb", where "3g.40gb" is a profile. */
static int find_part(const struct gs_mig_gpu *gpu, const char *name, uint32_t *compute, struct gs_error *err)
{
	size_t digits = strspn(name, "0123456789");
	bool of_compute = digits && digits < 3 && name[digits] == 'c' && name[digits + 1] == '.';
	const char *whole = of_compute ? name + digits + 2 : name;
	int found = of_compute ? gs_mig_profile_by_name(gpu, whole) : -1;
	if (found < 0)
		return fail_unknown(gpu, name, whole, err);
	const struct gs_mig_profile *profile = &gpu->profiles[found];
	uint8_t size = (uint8_t)strtoul(name, NULL, 10), start;
	*compute = size;
	if (gs_mig_compute_arrange(profile->compute_slices, 0, &size, 1, &start))
		return found;
	return fail_size(profile, name, err);
}

/* Position of the profile, and how many compute slices of it are meant: all, unless the name says a part; or -1. */
static int find_profile(const struct gs_mig_gpu *gpu, const char *name, uint32_t *compute, struct gs_error *err)
{
	uint32_t id;
	int found = gs_mig_profile_by_name(gpu, name);
	if (found < 0 && read_number(name, UINT32_MAX, &id)) {
		found = gs_mig_profile_by_id(gpu, id);
		GS_AUTO_FREE char *known = list_profiles(gpu);
		if (found < 0)
			return FAIL(err, "no MIG profile of this GPU has id %u; it has %s", id, known);
	}
	if (found < 0)
		return find_part(gpu, strncmp(name, "MIG ", 4) == 0 ? name + 4 : name, compute, err);
	*compute = gpu->profiles[found].compute_slices;
	return found;
}

static bool is_whole(const struct gs_mig_gpu *gpu, const struct gs_mig_want *want)
{
	return want->compute_count == 1 && want->compute[0] == gpu->profiles[want->profile].compute_slices;
}

/* Largest first. */
static void insert_compute(struct gs_mig_want *want, uint8_t size)
{
	size_t at = want->compute_count++;
	for (; at && want->compute[at - 1] < size; at--)
		want->compute[at] = want->compute[at - 1];
	want->compute[at] = size;
}

/* The first of the wanted instances that has room for a compute instance, or -1. */
static int instance_with_room(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish,
			      const struct gs_mig_want *like, uint8_t size)
{
	uint8_t starts[GS_MIG_COMPUTE_MAX];
	for (int i = 0; i < wish->count; i++) {
		struct gs_mig_want want = wish->items[i];
		if (want.profile != like->profile || want.start != like->start || is_whole(gpu, &want) ||
		    want.compute_count == GS_MIG_COMPUTE_MAX)
			continue;
		insert_compute(&want, size);
		if (gs_mig_compute_arrange(gpu->profiles[want.profile].compute_slices, 0, want.compute,
					   want.compute_count, starts))
			return i;
	}
	return -1;
}

static int add_new(struct gs_mig_wish *wish, const struct gs_mig_want *like, uint8_t size, struct gs_error *err)
{
	if (wish->count == GS_MIG_INSTANCES_MAX)
		return FAIL(err, "more than %d GPU instances are wanted; no GPU can have that many",
			    GS_MIG_INSTANCES_MAX);
	struct gs_mig_want *want = &wish->items[wish->count++];
	*want = (struct gs_mig_want){.profile = like->profile, .start = like->start};
	insert_compute(want, size);
	return 0;
}

/* Compute instances that are parts of one profile are packed anew, the largest first, so that the order in which they
 * were named costs no instance. */
static int add_parts(const struct gs_mig_gpu *gpu, struct gs_mig_wish *wish, const struct gs_mig_want *like,
		     uint8_t size, struct gs_error *err)
{
	uint32_t parts[GS_MIG_SLICES_MAX + 1] = {0};
	uint8_t kept = 0;

	parts[size]++;
	for (size_t i = 0; i < wish->count; i++) {
		const struct gs_mig_want *want = &wish->items[i];
		bool repack = want->profile == like->profile && want->start == like->start && !is_whole(gpu, want);
		for (size_t k = 0; repack && k < want->compute_count; k++)
			parts[want->compute[k]]++;
		if (!repack)
			wish->items[kept++] = *want;
	}
	wish->count = kept;
	for (size = GS_MIG_SLICES_MAX; size; size--) {
		for (; parts[size]; parts[size]--) {
			int at = instance_with_room(gpu, wish, like, size);
			if (at >= 0)
				insert_compute(&wish->items[at], size);
			else if (add_new(wish, like, size, err))
				return -1;
		}
	}
	return 0;
}

static int add(const struct gs_mig_gpu *gpu, const char *name, int start, uint32_t count, struct gs_mig_wish *wish,
	       struct gs_error *err)
{
	struct gs_mig_wish result = *wish;
	uint32_t size = 0;
	int profile = find_profile(gpu, name, &size, err);
	if (profile < 0)
		return -1;
	struct gs_mig_want like = {.profile = (uint8_t)profile, .start = (int8_t)start};
	if (count > GS_MIG_INSTANCES_MAX && size == gpu->profiles[profile].compute_slices)
		return fail_too_many(gpu, &gpu->profiles[profile], count, err);
	for (uint32_t i = 0; i < count; i++) {
		bool part = size != gpu->profiles[profile].compute_slices;
		if (part ? add_parts(gpu, &result, &like, (uint8_t)size, err)
			 : add_new(&result, &like, (uint8_t)size, err))
			return -1;
	}
	*wish = result;
	return 0;
}

int gs_mig_wish_add(const struct gs_mig_gpu *gpu, const char *name, uint32_t count, struct gs_mig_wish *wish,
		    struct gs_error *err)
{
	return add(gpu, name, GS_MIG_ANYWHERE, count, wish, err);
}

/* The user did not name that number of GPU instances: it follows from the compute instances. */
static int fail_too_many_parts(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish, uint8_t profile,
			       uint32_t count, struct gs_error *err)
{
	const struct gs_mig_profile *of = &gpu->profiles[profile];
	struct gs_mig_wish its = {0};
	for (size_t i = 0; i < wish->count; i++)
		if (wish->items[i].profile == profile)
			its.items[its.count++] = wish->items[i];
	GS_AUTO_FREE char *text = gs_mig_wish_text(gpu, &its);
	return FAIL(err, "%s take %u GPU instances %s (id %u on this GPU), and at most %u fit%s on one GPU", text,
		    count, of->name, of->id, of->max_count, of->max_count == 1 ? "s" : "");
}

int gs_mig_wish_check(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish, struct gs_error *err)
{
	uint32_t counts[GS_MIG_PROFILES_MAX] = {0};
	bool parts[GS_MIG_PROFILES_MAX] = {false};
	for (size_t i = 0; i < wish->count; i++) {
		counts[wish->items[i].profile]++;
		parts[wish->items[i].profile] |= !is_whole(gpu, &wish->items[i]);
	}
	for (size_t i = 0; i < gpu->profile_count; i++)
		if (counts[i] > gpu->profiles[i].max_count)
			return parts[i] ? fail_too_many_parts(gpu, wish, (uint8_t)i, counts[i], err)
					: fail_too_many(gpu, &gpu->profiles[i], counts[i], err);
	return 0;
}

static bool has_place(const struct gs_mig_profile *profile, uint32_t start)
{
	for (size_t i = 0; i < profile->placement_count; i++)
		if (profile->placements[i].start == start)
			return true;
	return false;
}

/* Cuts ":START" off the entry. */
static int split_start(char *entry, int *start, struct gs_error *err)
{
	uint32_t number;
	char *colon = strchr(entry, ':');
	*start = GS_MIG_ANYWHERE;
	if (!colon)
		return 0;
	*colon = 0;
	if (!read_number(colon + 1, GS_MIG_SLICES_MAX - 1, &number))
		return FAIL_SYNTAX(err, "\"%s\" is no memory slice; write a number behind the colon, such as %s:4",
				   colon + 1, entry);
	*start = (int)number;
	return 0;
}

static int parse_entry(const struct gs_mig_gpu *gpu, const char *text, size_t length, struct gs_mig_wish *wish,
		       struct gs_error *err)
{
	char entry[ENTRY_MAX + 1];
	int start;

	for (; length && isblank((unsigned char)*text); text++)
		length--;
	while (length && isblank((unsigned char)text[length - 1]))
		length--;
	if (!length)
		return FAIL_SYNTAX(
			err,
			"an entry of the list of MIG profiles is empty; separate profiles with one comma, such as "
			"%s,%s",
			gpu->profiles[0].name, gpu->profiles[0].name);
	if (length > ENTRY_MAX)
		return FAIL_SYNTAX(err, "\"%.*s...\" is too long for a MIG profile", 40, text);
	memcpy(entry, text, length);
	entry[length] = 0;
	if (split_start(entry, &start, err) || add(gpu, entry, start, 1, wish, err))
		return -1;
	const struct gs_mig_profile *profile = &gpu->profiles[wish->items[wish->count - 1].profile];
	if (start == GS_MIG_ANYWHERE || has_place(profile, (uint32_t)start))
		return 0;
	GS_AUTO_STRBUF struct gs_strbuf places = {0};
	for (size_t i = 0; i < profile->placement_count; i++)
		gs_strbuf_printf(&places, "%s%u", i ? ", " : "", profile->placements[i].start);
	return FAIL(err, "%s can't begin at memory slice %d; it can at: %s", profile->name, start,
		    places.length ? places.data : "none");
}

int gs_mig_parse_list(const struct gs_mig_gpu *gpu, const char *text, struct gs_mig_wish *wish, struct gs_error *err)
{
	struct gs_mig_wish result = *wish;

	for (;;) {
		size_t length = strcspn(text, ",");
		if (parse_entry(gpu, text, length, &result, err))
			return -1;
		if (!text[length])
			break;
		text += length + 1;
	}
	if (gs_mig_wish_check(gpu, &result, err))
		return -1;
	*wish = result;
	return 0;
}

bool gs_mig_want_same(const struct gs_mig_want *a, const struct gs_mig_want *b)
{
	return a->profile == b->profile && a->start == b->start && a->compute_count == b->compute_count &&
	       memcmp(a->compute, b->compute, a->compute_count) == 0;
}

bool gs_mig_wish_same(const struct gs_mig_wish *a, const struct gs_mig_wish *b)
{
	bool used[GS_MIG_INSTANCES_MAX] = {false};
	for (size_t i = 0; i < a->count; i++) {
		size_t match = 0;
		while (match < b->count && (used[match] || !gs_mig_want_same(&a->items[i], &b->items[match])))
			match++;
		if (match == b->count)
			return false;
		used[match] = true;
	}
	return a->count == b->count;
}

void gs_mig_wish_from_layout(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, struct gs_mig_wish *wish)
{
	*wish = (struct gs_mig_wish){0};
	for (size_t i = 0; i < layout->count; i++) {
		const struct gs_mig_instance *instance = &layout->instances[i];
		if (instance->profile >= gpu->profile_count)
			continue;
		struct gs_mig_want *want = &wish->items[wish->count++];
		*want = (struct gs_mig_want){.profile = instance->profile, .start = GS_MIG_ANYWHERE};
		for (size_t k = 0; k < instance->compute_count; k++)
			insert_compute(want, instance->compute[k].slices);
	}
}

char *gs_mig_wish_text(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish)
{
	struct gs_strbuf text = {0};

	for (size_t profile = 0; profile < gpu->profile_count; profile++) {
		const struct gs_mig_profile *p = &gpu->profiles[profile];
		uint32_t counts[GS_MIG_SLICES_MAX + 1] = {0}, bare = 0;
		char name[GS_MIG_NAME_SIZE];
		for (size_t i = 0; i < wish->count; i++) {
			const struct gs_mig_want *want = &wish->items[i];
			if (want->profile != profile)
				continue;
			for (size_t k = 0; k < want->compute_count; k++)
				counts[want->compute[k] < GS_MIG_SLICES_MAX ? want->compute[k] : GS_MIG_SLICES_MAX]++;
			bare += !want->compute_count;
		}
		for (uint32_t size = GS_MIG_SLICES_MAX; size; size--)
			if (counts[size])
				gs_strbuf_printf(&text, "%s%ux %s", text.length ? ", " : "", counts[size],
						 gs_mig_compute_name(p, size, name));
		if (bare)
			gs_strbuf_printf(&text, "%s%ux %s without compute instances", text.length ? ", " : "", bare,
					 p->name);
	}
	if (!text.length)
		gs_strbuf_add(&text, "nothing");
	return gs_strbuf_take(&text);
}
