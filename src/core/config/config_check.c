#include "core/config/config_check.h"

#include <string.h>
#include <strings.h>
#include <sys/un.h>

enum {
	SHARED_SUFFIX_LENGTH = sizeof ".shared" - 1,
	LISTED_MAX = 4096, /* devices in all lists: each is compared with each */
};

static const struct gs_sharing *section_of(const struct gs_config *config, int index)
{
	return index == 0 ? &config->time_slicing : &config->mps;
}

static const char *const section_names[] = {"sharing.timeSlicing", "sharing.mps"};

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

/* Entries of MPS may divide a device when each has a name of its own. */
static bool can_divide(const struct gs_sharing_resource *first, const struct gs_sharing_resource *second)
{
	const char *one = first->rename ? first->rename : "", *other = second->rename ? second->rename : "";
	return strcmp(one, other) != 0;
}

static void check_pair(const struct gs_sharing_resource *first, const char *first_section,
		       const struct gs_sharing_resource *second, bool both_mps, const char *name,
		       struct gs_diagnostics *diags)
{
	if (!first->name || !second->name || strcmp(first->name, second->name) != 0 ||
	    (both_mps && can_divide(first, second)))
		return;
	const char *common = common_device(&first->devices, &second->devices);
	if (!common)
		return;
	gs_diagnostics_add(diags, false, name, second->line, second->column,
			   "this entry shares %s (devices: %s) that the entry of %s on line %d column %d shares "
			   "already; keep one, or give each its own `devices`%s",
			   second->name, common, first_section, first->line, first->column,
			   both_mps ? ", or a `rename` of its own to divide each device" : "");
}

/* Whether comparing all lists is a bounded effort; adds an error when not. */
static bool lists_are_bounded(const struct gs_config *config, const char *name, struct gs_diagnostics *diags)
{
	size_t listed = 0;
	for (int s = 0; s < 2; s++) {
		const struct gs_sharing *sharing = section_of(config, s);
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
	for (int s = 0; s < 2; s++) {
		const struct gs_sharing *sharing = section_of(config, s);
		check_name_lengths(sharing, name, diags);
		for (size_t i = 0; comparable && i < sharing->resource_count; i++) {
			for (size_t j = 0; j < i; j++)
				check_pair(&sharing->resources[j], section_names[s], &sharing->resources[i], s == 1,
					   name, diags);
			for (size_t j = 0; s == 1 && j < config->time_slicing.resource_count; j++)
				check_pair(&config->time_slicing.resources[j], section_names[0], &sharing->resources[i],
					   false, name, diags);
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
