/* Rules between keys. Inside of the config files only. */
#ifndef GPUSHARE_CORE_CONFIG_CHECK_H
#define GPUSHARE_CORE_CONFIG_CHECK_H

#include "core/config/config.h"
#include "core/config/diagnostic.h"

/* The checks that need no inventory: names that get too long, entries that claim the same devices. */
void gs_config_check(const struct gs_config *config, const char *name, struct gs_diagnostics *diags);

/* Whether sockets of MPS, if it is used, have room below flags.mpsRoot, which stands at this place. */
void gs_config_check_mps_root(const struct gs_config *config, const char *name, int line, int column,
			      struct gs_diagnostics *diags);

#endif
