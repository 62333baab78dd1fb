/* The commands that run a simulated node, or run on one. */
#ifndef GPUSHARE_SIM_TOOLS_COMMANDS_H
#define GPUSHARE_SIM_TOOLS_COMMANDS_H

#include "cli/command.h"

extern const struct gs_command gs_command_demo;
extern const struct gs_command gs_command_sim;
extern const struct gs_command gs_command_sim_models;
extern const struct gs_command gs_command_sim_inject;
extern const struct gs_command gs_command_sim_load;

#endif
