/* Rules between keys. Inside of the config files only. */
#ifndef GPUSHARE_CORE_CONFIG_CHECK_H
#define GPUSHARE_CORE_CONFIG_CHECK_H

#include "core/config.h"
#include "core/diagnostic.h"

/* What can be said without an inventory: names that get too long, entries that claim the same devices. */
void gs_config_check(const struct gs_config *config, const char *name, struct gs_diagnostics *diags);

#endif
