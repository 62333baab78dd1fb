/* Shared by the files of the planner, and by no others. */
#ifndef GPUSHARE_CORE_PLAN_INTERNAL_H
#define GPUSHARE_CORE_PLAN_INTERNAL_H

#include "core/share/share.h"

/* The name a device has before anything is shared; empty: it is not published. */
struct plan_base_name {
	char text[GS_RESOURCE_NAME_MAX + 1];
};

/* Sentences; owned. */
struct plan_notes {
	char **items;
	size_t count, capacity;
};

/* "sharing.timeSlicing.resources[1] (line 12)" */
void plan_describe_entry(char *text, size_t size, const struct gs_config *config,
			 const struct gs_sharing_section *section, const struct gs_sharing_resource *entry);

/* A glob with * only. */
bool plan_pattern_matches(const char *pattern, const char *text);

/* Whether a list of indices and UUIDs holds the device. */
bool plan_selector_names(const struct gs_device_selector *selector, const struct gs_inventory *inventory,
			 const struct gs_device *device);

/* plan_unmatched.c: sentences about what the config names and this node lacks. `names` as they are published. */
void plan_find_unmatched(const struct gs_config *config, const struct gs_inventory *inventory,
			 const struct plan_base_name *names, struct plan_notes *unmatched);

#endif
