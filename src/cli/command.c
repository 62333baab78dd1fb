#include "cli/command.h"

#include <stdio.h>
#include <string.h>

int gs_cli_main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && gs_commands[i]; i++)
		if (strcmp(gs_commands[i]->name, argv[1]) == 0)
			return gs_commands[i]->run(argc - 1, argv + 1);
	fputs("usage: gpushare COMMAND\n", stderr);
	return GS_EXIT_USAGE;
}
