/* Stand-in for the command line parser, overridden by the real one: delete this file when that is there. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"

__attribute__((weak)) const char *gs_option_value(const struct gs_command *command, const struct gs_arguments *arguments,
						  const char *name)
{
	for (size_t i = 0; command->options && command->options[i].name; i++)
		if (strcmp(command->options[i].name, name) == 0)
			return arguments->values[i];
	return NULL;
}

__attribute__((weak)) int gs_parse_arguments(const struct gs_command *command, int argc, char **argv,
					     struct gs_arguments *arguments)
{
	int count = 0, i = 1;
	memset(arguments, 0, sizeof *arguments);
	for (; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (argv[i][0] != '-') {
			if (command->rest_is_command)
				break;
			argv[count++] = argv[i];
			continue;
		}
		size_t o = 0;
		for (; command->options && command->options[o].name; o++)
			if ((strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, command->options[o].name) == 0) ||
			    (argv[i][1] == command->options[o].letter && !argv[i][2]))
				break;
		if (!command->options || !command->options[o].name || (command->options[o].argument && i + 1 == argc)) {
			fprintf(stderr, "gpushare %s: bad option %s\n", command->name, argv[i]);
			return GS_EXIT_USAGE + 1;
		}
		arguments->values[o] = command->options[o].argument ? argv[++i] : "";
	}
	while (i < argc)
		argv[count++] = argv[i++];
	argv[count] = NULL;
	arguments->operands = argv;
	arguments->operand_count = count;
	return 0;
}
