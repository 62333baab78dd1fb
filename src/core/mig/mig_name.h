/* How the names of MIG profiles are formed: "3g.40gb", "1c.3g.40gb", "1g.10gb+me", "1g.24gb+me.all", "1g.24gb-me". */
#ifndef GPUSHARE_CORE_MIG_NAME_H
#define GPUSHARE_CORE_MIG_NAME_H

#include "core/mig/mig_geometry.h"

/* Whether the text is formed like one; no GPU need have it. */
bool gs_mig_name_is_formed(const char *text);

struct gs_mig_name_meant {
	char name[GS_MIG_NAME_SIZE];
	uint32_t count; /* 0: the text says none */
};

/* The name that a user probably meant who wrote one in another tool's form, or with a count: "1g.10gb.me" of a label is
 * 1g.10gb+me, "nvidia.com/mig-1g.10gb" of a resource is 1g.10gb, "7x1g.10gb" is 1g.10gb seven times. false: no idea. */
bool gs_mig_name_meant(const char *text, struct gs_mig_name_meant *meant);

#endif
