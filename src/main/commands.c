#include <stddef.h>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/mig.h"
#include "sim/tools/commands.h"

/* In the order that help shows. */
/* clang-format off */
const struct gs_command *const gs_commands[] = {
	&gs_command_demo,
	&gs_command_node,
	&gs_command_status,
	&gs_command_forget,
	&gs_command_labels,
	&gs_command_mig_list,
	&gs_command_mig_list_profiles,
	&gs_command_mig_create,
	&gs_command_mig_destroy,
	&gs_command_mig_enable,
	&gs_command_mig_disable,
	&gs_command_mig_plan,
	&gs_command_mig_apply,
	&gs_command_mig_assert,
	&gs_command_mig_export,
	&gs_command_mps_status,
	&gs_command_mps_clients,
	&gs_command_mps_stop,
	&gs_command_config_check,
	&gs_command_config_explain,
	&gs_command_config_schema,
	&gs_command_sim,
	&gs_command_sim_inject,
	&gs_command_sim_load,
	&gs_command_sim_models,
	&gs_command_completion,
	&gs_command_help,
	NULL,
};
/* clang-format on */
