#include "cli/command.h"
#include "cli/sim.h"

#include <stddef.h>

const struct gs_command *const gs_commands[] = {
	&gs_command_sim,
	&gs_command_sim_inject,
	&gs_command_sim_models,
	NULL,
};
