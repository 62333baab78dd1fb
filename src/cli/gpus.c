#include "cli/gpus.h"

#include <stdio.h>

#include "gpu/hangs.h"

struct gs_inventory_places cli_places(const struct gs_config *config)
{
	return (struct gs_inventory_places){
		.sysfs = "/sys",
		.driver_roots = {config->flags.plugin.container_driver_root, config->flags.nvidia_driver_root, "",
				 NULL},
	};
}

int cli_read_gpus(const struct gs_config *config, const char *command, struct gs_inventory *inventory,
		  struct gs_nvml **nvml, struct gs_error *err)
{
	const struct gs_inventory_places places = cli_places(config);
	struct gs_problems problems = {0};
	struct gs_nvml *opened;
	const char *const roots[] = {config->flags.plugin.container_driver_root, config->flags.nvidia_driver_root,
				     NULL};
	if (gs_hangs_open(roots, &opened, err) < 0)
		return -1;
	int result = gs_inventory_read(opened, &places, NULL, inventory, &problems, err);
	for (size_t i = 0; i < problems.count; i++)
		fprintf(stderr, "gpushare %s: %s\n", command, problems.items[i]);
	gs_problems_free(&problems);
	if (nvml && result == 0)
		*nvml = opened;
	else
		gs_hangs_close(opened);
	return result;
}
