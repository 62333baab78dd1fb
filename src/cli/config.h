/* The commands around the configuration file. */
#ifndef GPUSHARE_CLI_CONFIG_H
#define GPUSHARE_CLI_CONFIG_H

#include "cli/command.h"

extern const struct gs_command gs_command_config_check;
extern const struct gs_command gs_command_config_explain;
extern const struct gs_command gs_command_config_schema;

#endif
