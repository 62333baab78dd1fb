#include "core/config/config_check.h"

#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "core/config/sharing.h"

enum {
	SHARED_SUFFIX_LENGTH = sizeof ".shared" - 1,
	LISTED_MAX = 4096, /* devices in all lists: each is compared with each */
};

static void check_name_lengths(const struct gs_sharing *sharing, const char *name, struct gs_diagnostics *diags)
{
	for (size_t i = 0; sharing->rename_by_default && i < sharing->resource_count; i++) {
		const struct gs_sharing_resource *entry = &sharing->resources[i];
		if (entry->rename || !entry->name || strlen(entry->name) + SHARED_SUFFIX_LENGTH <= GS_RESOURCE_NAME_MAX)
			continue;
		gs_diagnostics_add(
			diags, false, name, entry->line, entry->column,
			"with renameByDefault the resource becomes \"%s.shared\", which has more than %d characters; "
			"give it a shorter name with `rename`",
			entry->name, GS_RESOURCE_NAME_MAX);
	}
}

/* The device that both selectors surely take, in words; NULL when only an inventory can tell. */
static const char *common_device(const struct gs_device_selector *a, const struct gs_device_selector *b)
{
	if (a->kind == GS_SELECT_LIST && b->kind == GS_SELECT_LIST) {
		for (size_t i = 0; i < a->list_length; i++)
			for (size_t j = 0; j < b->list_length; j++)
				if (strcasecmp(a->list[i], b->list[j]) == 0)
					return a->list[i];
		return NULL;
	}
	if (a->kind == GS_SELECT_ALL || b->kind == GS_SELECT_ALL)
		return "all";
	return a->kind == GS_SELECT_COUNT && b->kind == GS_SELECT_COUNT ? "the first" : NULL;
}

/* An entry, and where it stands. */
struct place {
	const struct gs_sharing_section *section;
	const struct gs_sharing *sharing;
	const struct gs_sharing_resource *entry;
};

static void check_pair(const struct place *first, const struct place *second, const char *name,
		       struct gs_diagnostics *diags)
{
	const struct gs_sharing_resource *a = first->entry, *b = second->entry;
	bool divisible = first->section == second->section && first->section->several_entries;
	if (!a->name || !b->name || strcmp(a->name, b->name) != 0 ||
	    (divisible && gs_sharing_can_divide(first->section, first->sharing, a, b, a->name)))
		return;
	const char *common = common_device(&a->devices, &b->devices);
	if (!common)
		return;
	gs_diagnostics_add(
		diags, false, name, b->line, b->column,
		"this entry shares %s (devices: %s) that the entry of sharing.%s on line %d column %d shares "
		"already; keep one, or give each its own `devices`%s",
		b->name, common, first->section->key, a->line, a->column,
		divisible ? ", or a `rename` of its own to divide each device" : "");
}

/* With the entries before it in its section, and with those of the sections before. */
static void check_entry(const struct gs_config *config, const struct place *place, const char *name,
			struct gs_diagnostics *diags)
{
	struct place other = *place;
	for (other.entry = place->sharing->resources; other.entry < place->entry; other.entry++)
		check_pair(&other, place, name, diags);
	for (other.section = gs_sharing_sections; other.section < place->section; other.section++) {
		other.sharing = gs_sharing_of(config, other.section);
		for (size_t i = 0; i < other.sharing->resource_count; i++) {
			other.entry = &other.sharing->resources[i];
			check_pair(&other, place, name, diags);
		}
	}
}

/* Whether comparing all lists is a bounded effort; adds an error when not. */
static bool lists_are_bounded(const struct gs_config *config, const char *name, struct gs_diagnostics *diags)
{
	size_t listed = 0;
	for (size_t s = 0; s < GS_SECTION_COUNT; s++) {
		const struct gs_sharing *sharing = gs_sharing_of(config, &gs_sharing_sections[s]);
		for (size_t i = 0; i < sharing->resource_count; i++) {
			listed += sharing->resources[i].devices.list_length;
			if (listed <= LISTED_MAX)
				continue;
			gs_diagnostics_add(diags, false, name, sharing->resources[i].line, sharing->resources[i].column,
					   "the entries up to here list more than %d devices; no node has that many",
					   LISTED_MAX);
			return false;
		}
	}
	return true;
}

void gs_config_check(const struct gs_config *config, const char *name, struct gs_diagnostics *diags)
{
	bool comparable = lists_are_bounded(config, name, diags);
	for (size_t s = 0; s < GS_SECTION_COUNT; s++) {
		struct place place = {&gs_sharing_sections[s], gs_sharing_of(config, &gs_sharing_sections[s]), NULL};
		check_name_lengths(place.sharing, name, diags);
		for (size_t i = 0; comparable && i < place.sharing->resource_count; i++) {
			place.entry = &place.sharing->resources[i];
			check_entry(config, &place, name, diags);
		}
	}
}

/* "-7" for share 7 of a device whose shares have servers of their own. */
static size_t suffix_length(const struct gs_sharing *mps)
{
	size_t longest = 0;
	for (size_t i = 0; i < mps->resource_count; i++) {
		size_t length = 2;
		for (unsigned last = mps->resources[i].replicas; last > 10; last = (last + 9) / 10)
			length++;
		if (mps->resources[i].isolation == GS_MPS_PER_SHARE && length > longest)
			longest = length;
	}
	return longest;
}

void gs_config_check_mps_root(const struct gs_config *config, const char *name, int line, int column,
			      struct gs_diagnostics *diags)
{
	static const char rest[] = "/GPU-00000000-0000-0000-0000-000000000000/pipe/control_privileged";
	enum { SOCKET_PATH_MAX = sizeof((struct sockaddr_un *)0)->sun_path - 1 };
	size_t most = SOCKET_PATH_MAX - (sizeof rest - 1) - suffix_length(&config->mps);
	const char *root = config->flags.mps_root;
	size_t length = strlen(root);

	if (!config->mps.present)
		return;
	while (length > 1 && root[length - 1] == '/')
		length--;
	if (!length)
		gs_diagnostics_add(diags, false, name, line, column,
				   "mpsRoot is empty, and sharing.mps needs a directory; write one, or leave it out");
	else if (length > most)
		gs_diagnostics_add(diags, false, name, line, column,
				   "mpsRoot has %zu bytes; with sharing.mps at most %zu are possible, since a socket's "
				   "path below it may have %d; use a shorter one",
				   length, most, SOCKET_PATH_MAX);
}
