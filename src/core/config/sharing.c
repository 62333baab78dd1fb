#include "core/config/sharing.h"

#include <stddef.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"

const struct gs_sharing_section gs_sharing_sections[GS_SECTION_COUNT] = {
	[GS_SECTION_TIME_SLICING] = {"timeSlicing", offsetof(struct gs_config, time_slicing)},
	[GS_SECTION_MPS] = {"mps", offsetof(struct gs_config, mps), .one_share_per_request = true,
			    .several_entries = true},
};

const struct gs_sharing *gs_sharing_of(const struct gs_config *config, const struct gs_sharing_section *section)
{
	return (const struct gs_sharing *)((const char *)config + section->offset);
}

char *gs_sharing_published_name(const struct gs_sharing *sharing, const struct gs_sharing_resource *entry,
				const char *base)
{
	if (entry->rename)
		return gs_strdup(entry->rename);
	return gs_printf("%s%s", base, sharing->rename_by_default ? ".shared" : "");
}

bool gs_sharing_can_divide(const struct gs_sharing_section *section, const struct gs_sharing *sharing,
			   const struct gs_sharing_resource *a, const struct gs_sharing_resource *b, const char *base)
{
	GS_AUTO_FREE char *one = gs_sharing_published_name(sharing, a, base),
			  *other = gs_sharing_published_name(sharing, b, base);
	return section->several_entries && strcmp(one, other) != 0;
}

bool gs_sharing_fails_above_one(const struct gs_sharing_section *section, const struct gs_sharing *sharing)
{
	if (sharing->fail_requests_greater_than_one == GS_UNSET)
		return section->one_share_per_request;
	return sharing->fail_requests_greater_than_one == GS_TRUE;
}
