/* Flags and variables of NVIDIA's programs that the node daemon takes the place of, beyond those that are its own by
 * the same name. A flag that has a meaning here is another name of an option. One that has none is accepted, and a
 * message says so. */
#ifndef GPUSHARE_CLI_NVIDIA_SETTINGS_H
#define GPUSHARE_CLI_NVIDIA_SETTINGS_H

#include "cli/command.h"

/* For gs_command.aliases; ends with an entry that has neither name nor env. */
extern const struct gs_alias gs_nvidia_settings[];

/* Logs, at level info, the flags and variables that are set without effect. */
void gs_nvidia_settings_say(const struct gs_arguments *arguments);

#endif
