/* The GPUs of this machine, for commands that look at them once. */
#ifndef GPUSHARE_CLI_GPUS_H
#define GPUSHARE_CLI_GPUS_H

#include "core/config/config.h"
#include "gpu/inventory_read.h"

/* Where to look for what NVML does not tell, as the config says; valid as long as it. */
struct gs_inventory_places cli_places(const struct gs_config *config);
/* Opens NVML and reads the GPUs. Problems of single ones go to standard error, after "gpushare COMMAND: "; the rest is read.
 * `nvml` gets the library, to be closed by the caller; NULL: it is closed here. */
int cli_read_gpus(const struct gs_config *config, const char *command, struct gs_inventory *inventory,
		  struct gs_nvml **nvml, struct gs_error *err);

#endif
