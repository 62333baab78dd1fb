/* The commands, one file each. */
#ifndef GPUSHARE_CLI_COMMANDS_H
#define GPUSHARE_CLI_COMMANDS_H

#include "cli/command.h"

extern const struct gs_command gs_command_completion;
extern const struct gs_command gs_command_forget;
extern const struct gs_command gs_command_help;
extern const struct gs_command gs_command_labels;
extern const struct gs_command gs_command_mps_clients;
extern const struct gs_command gs_command_mps_status;
extern const struct gs_command gs_command_mps_stop;
extern const struct gs_command gs_command_node;
extern const struct gs_command gs_command_status;

#endif
