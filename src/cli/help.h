/* Help, made from the table of commands. */
#ifndef GPUSHARE_CLI_HELP_H
#define GPUSHARE_CLI_HELP_H

#include <stdio.h>

#include "cli/command.h"

/* The overview: a sentence about gpushare, and its commands. */
void gs_help_overview(FILE *out);
/* The commands of a family: "mig". */
void gs_help_family(FILE *out, const char *family);
/* One command: usage, description, options, examples. */
void gs_help_command(FILE *out, const struct gs_command *command);

#endif
