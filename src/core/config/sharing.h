/* The config's sections of sharing: facts of each, and what its entries mean whatever the strategy. The parser's checks,
 * `config explain`, labels and the plan go by these alone. Pure. */
#ifndef GPUSHARE_CORE_CONFIG_SHARING_H
#define GPUSHARE_CORE_CONFIG_SHARING_H

#include "core/config/config.h"

struct gs_sharing_section {
	const char *key;            /* in the file, below `sharing`: "timeSlicing" */
	size_t offset;              /* of its struct gs_sharing in struct gs_config */
	bool one_share_per_request; /* what an unset failRequestsGreaterThanOne means */
	bool several_entries;       /* several entries may divide one device among them, under names of their own */
};

enum { GS_SECTION_TIME_SLICING, GS_SECTION_MPS, GS_SECTION_COUNT };
extern const struct gs_sharing_section gs_sharing_sections[GS_SECTION_COUNT];

const struct gs_sharing *gs_sharing_of(const struct gs_config *config, const struct gs_sharing_section *section);
/* Under which name an entry publishes devices that are called `base` before anything is shared. Owned by the caller. */
char *gs_sharing_published_name(const struct gs_sharing *sharing, const struct gs_sharing_resource *entry,
				const char *base);
/* Whether two entries of a section can have parts of one device called `base`: only under two names can a container say which
 * it wants. */
bool gs_sharing_can_divide(const struct gs_sharing_section *section, const struct gs_sharing *sharing,
			   const struct gs_sharing_resource *a, const struct gs_sharing_resource *b, const char *base);
/* Whether a container that asks for more than one share is refused. */
bool gs_sharing_fails_above_one(const struct gs_sharing_section *section, const struct gs_sharing *sharing);

#endif
