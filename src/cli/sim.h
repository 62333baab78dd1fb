/* The commands of the simulated node. */
#ifndef GPUSHARE_CLI_SIM_H
#define GPUSHARE_CLI_SIM_H

#include "cli/command.h"

extern const struct gs_command gs_command_sim;
extern const struct gs_command gs_command_sim_models;
extern const struct gs_command gs_command_sim_inject;
extern const struct gs_command gs_command_sim_load;

#endif
