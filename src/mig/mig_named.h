/* Plans of a configuration by its name, as the node's label gives it: the file's, else one that the hardware gives. */
#ifndef GPUSHARE_MIG_MIG_NAMED_H
#define GPUSHARE_MIG_MIG_NAMED_H

#include "mig/mig_change.h"

struct gs_mig_by_name {
	const char *name;
	const char *config_path; /* mig-parted's file; NULL or missing: the configurations that the hardware gives */
	/* The result. */
	char *notes; /* what of the configuration is not about this node, each with "; " before it; owned, NULL: nothing */
	bool matched; /* the configuration is about this node; see gs_mig_config_is_matched */
};

/* A gs_mig_planner; `user` is the struct gs_mig_by_name. */
enum gs_mig_outcome gs_mig_plan_by_name(struct gs_mig_change *change, void *user);
/* After GS_MIG_CHANGE_DONE: the steps taken, for a person. The caller frees it. */
char *gs_mig_by_name_summary(const struct gs_mig_change *change, const struct gs_mig_by_name *by_name);

#endif
