#include "cli/command.h"

#include <stddef.h>

const struct gs_command *const gs_commands[] = {
	NULL,
};
