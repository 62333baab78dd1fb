#include "cli/command.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/suggest.h"
#include "cli/completion.h"
#include "cli/help.h"

enum { COMMANDS_MAX = 64, OPTIONS_MAX = GS_ARRAY_LENGTH(((struct gs_arguments *)0)->values) };

static int usage_error(const char *command)
{
	fprintf(stderr, "See `gpushare %s%s--help`.\n", command, *command ? " " : "");
	return GS_EXIT_USAGE;
}

/* How many words of argv the command's name takes; 0 when it is not named there. */
static int name_words(const struct gs_command *command, int argc, char **argv)
{
	const char *name = command->name;
	int words = 0;
	while (words < argc) {
		size_t length = strcspn(name, " ");
		if (strlen(argv[words]) != length || strncmp(argv[words], name, length) != 0)
			return 0;
		words++;
		if (name[length] == '\0')
			return words;
		name += length + 1;
	}
	return 0;
}

const struct gs_command *gs_find_command(int argc, char **argv, int *words)
{
	const struct gs_command *best = NULL;
	*words = 0;
	for (size_t i = 0; gs_commands[i]; i++) {
		int matched = name_words(gs_commands[i], argc, argv);
		if (matched > *words) {
			best = gs_commands[i];
			*words = matched;
		}
	}
	return best;
}

bool gs_is_family(const char *family)
{
	size_t length = strlen(family);
	for (size_t i = 0; gs_commands[i]; i++)
		if (strncmp(gs_commands[i]->name, family, length) == 0 && gs_commands[i]->name[length] == ' ')
			return true;
	return false;
}

static int unknown_command(int argc, char **argv)
{
	const char *names[COMMANDS_MAX];
	size_t count = 0;
	char typed[128];
	bool family = gs_is_family(argv[0]);
	snprintf(typed, sizeof typed, "%s%s%s", argv[0], family && argc > 1 ? " " : "",
		 family && argc > 1 ? argv[1] : "");
	for (size_t i = 0; gs_commands[i] && count < COMMANDS_MAX; i++)
		names[count++] = gs_commands[i]->name;
	const char *meant = gs_suggest(typed, names, count);
	if (family && argc == 1)
		fprintf(stderr, "gpushare %s: say which:", argv[0]);
	else
		fprintf(stderr, "gpushare: there is no command \"%s\"", typed);
	if (meant && !(family && argc == 1))
		fprintf(stderr, "; did you mean \"%s\"?", meant);
	if (family && argc == 1)
		for (size_t i = 0; gs_commands[i]; i++)
			if (strncmp(gs_commands[i]->name, argv[0], strlen(argv[0])) == 0 &&
			    gs_commands[i]->name[strlen(argv[0])] == ' ')
				fprintf(stderr, " %s", gs_commands[i]->name + strlen(argv[0]) + 1);
	fputc('\n', stderr);
	return usage_error("");
}

/* A program that is started without one of these would get another file in its place, and write its errors there. A
 * write to the stand-in for standard output fails as one to a closed descriptor does: the command must not report a
 * success whose output was lost. */
static bool open_standard_files(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return false;
	return true;
}

/* A result that did not reach its file is a failure, whatever the command thought of it. */
static int end(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr,
		"gpushare: the output could not be written whole: it is closed, its reader is gone, or the disk is "
		"full\n");
	return status == GS_EXIT_OK ? GS_EXIT_FAILURE : status;
}

static bool is_help(const char *argument)
{
	return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		gs_help_overview(stderr);
		return GS_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("gpushare " GPUSHARE_VERSION);
		return GS_EXIT_OK;
	}
	if (is_help(argv[1])) {
		gs_help_overview(stdout);
		return GS_EXIT_OK;
	}
	if (strcmp(argv[1], "__complete") == 0)
		return gs_complete(argc - 2, argv + 2);
	int words;
	const struct gs_command *command = gs_find_command(argc - 1, argv + 1, &words);
	if (!command && argc > 2 && is_help(argv[2]) && gs_is_family(argv[1])) {
		gs_help_family(stdout, argv[1]);
		return GS_EXIT_OK;
	}
	if (!command)
		return unknown_command(argc - 1, argv + 1);
	struct gs_arguments arguments;
	int code;
	return gs_parse_arguments(command, argc - words, argv + words, &arguments, &code) ? command->run(&arguments)
											  : code;
}

int gs_cli_main(int argc, char **argv)
{
	if (!open_standard_files())
		return GS_EXIT_FAILURE;
	return end(dispatch(argc, argv));
}

/* --- options --- */

static int find_option(const struct gs_command *command, const char *name, size_t length)
{
	for (int i = 0; command->options && command->options[i].name; i++)
		if (strlen(command->options[i].name) == length && strncmp(command->options[i].name, name, length) == 0)
			return i;
	return -1;
}

static int find_letter(const struct gs_command *command, char letter)
{
	for (int i = 0; command->options && command->options[i].name; i++)
		if (command->options[i].letter == letter)
			return i;
	return -1;
}

static const struct gs_alias *find_alias(const struct gs_command *command, const char *name, size_t length)
{
	for (const struct gs_alias *alias = command->aliases; alias && (alias->name || alias->env); alias++)
		if (alias->name && strlen(alias->name) == length && strncmp(alias->name, name, length) == 0)
			return alias;
	return NULL;
}

/* The long name that was typed, behind two dashes or, as Go's programs take it, behind one; NULL: it is a letter. */
static const char *long_name(const struct gs_command *command, const char *typed, size_t *length)
{
	const char *name = typed + 1 + (typed[1] == '-');
	*length = strcspn(name, "=");
	bool known = *length > 1 && (find_option(command, name, *length) >= 0 || find_alias(command, name, *length));
	return typed[1] == '-' || known ? name : NULL;
}

/* Ends the complaint about an option; false, for the caller to return. */
static bool misused(const struct gs_command *command)
{
	usage_error(command->name);
	return false;
}

static bool unknown_option(const struct gs_command *command, const char *typed)
{
	const char *names[2 * OPTIONS_MAX];
	size_t count = 0;
	for (int i = 0; command->options && command->options[i].name; i++)
		names[count++] = command->options[i].name;
	for (const struct gs_alias *alias = command->aliases; alias && (alias->name || alias->env); alias++)
		if (alias->name && count < GS_ARRAY_LENGTH(names))
			names[count++] = alias->name;
	const char *given = typed + 1 + (typed[1] == '-');
	char name[64];
	snprintf(name, sizeof name, "%.*s", (int)strcspn(given, "="), given);
	const char *meant = *name ? gs_suggest(name, names, count) : NULL;
	fprintf(stderr, "gpushare %s: there is no option %s", command->name, typed);
	if (meant)
		fprintf(stderr, "; did you mean --%s?", meant);
	fputc('\n', stderr);
	return misused(command);
}

/* Whether an option's value may be left out: "[BOOL]". It then is "true". */
static bool value_is_optional(const struct gs_option *option)
{
	return option->argument && option->argument[0] == '[';
}

/* Takes a flag of another program that is no option here. */
static bool take_alias(const struct gs_command *command, const struct gs_alias *alias, int argc, char **argv, int *at,
		       struct gs_arguments *arguments)
{
	const char *equals = strchr(argv[*at], '=');
	const char *value = equals ? equals + 1 : "true";
	if (!equals && !alias->is_bool) {
		if (*at + 1 >= argc) {
			fprintf(stderr, "gpushare %s: --%s needs a value\n", command->name, alias->name);
			return misused(command);
		}
		value = argv[++*at];
	}
	if (alias->sets)
		setenv(alias->sets, value, 1);
	if (alias->why && arguments->ignored_count < (int)GS_ARRAY_LENGTH(arguments->ignored))
		arguments->ignored[arguments->ignored_count++] = alias;
	return true;
}

/* Takes the option at argv[*at] (and its value). False after a usage error. */
static bool take_option(const struct gs_command *command, int argc, char **argv, int *at,
			struct gs_arguments *arguments)
{
	const char *typed = argv[*at];
	const char *value = NULL;
	int which;
	size_t length;
	const char *name = long_name(command, typed, &length);
	if (name) {
		which = find_option(command, name, length);
		const struct gs_alias *alias = which < 0 ? find_alias(command, name, length) : NULL;
		if (alias && !alias->option)
			return take_alias(command, alias, argc, argv, at, arguments);
		if (alias)
			which = find_option(command, alias->option, strlen(alias->option));
		value = name[length] == '=' ? name + length + 1 : NULL;
	} else {
		which = find_letter(command, typed[1]);
		value = typed[2] ? typed + 2 + (typed[2] == '=') : NULL;
	}
	if (which < 0)
		return unknown_option(command, typed);
	const struct gs_option *option = &command->options[which];
	if (!option->argument && value) {
		fprintf(stderr, "gpushare %s: --%s takes no value\n", command->name, option->name);
		return misused(command);
	}
	if (option->argument && !value && value_is_optional(option))
		value = "true";
	if (option->argument && !value) {
		if (*at + 1 >= argc) {
			fprintf(stderr, "gpushare %s: --%s needs a value: --%s %s\n", command->name, option->name,
				option->name, option->argument);
			return misused(command);
		}
		value = argv[++*at];
	}
	arguments->values[which] = value ? value : "";
	return true;
}

bool gs_parse_arguments(const struct gs_command *command, int argc, char **argv, struct gs_arguments *arguments,
			int *ret_code)
{
	*arguments = (struct gs_arguments){.command = command, .words = argv + 1, .operands = argv};
	int at = 1;
	for (; at < argc; at++) {
		if (strcmp(argv[at], "--") == 0) {
			at++;
			break;
		}
		if (is_help(argv[at])) {
			gs_help_command(stdout, command);
			*ret_code = GS_EXIT_OK;
			return false;
		}
		if (argv[at][0] != '-' || argv[at][1] == '\0') {
			if (command->rest_is_command)
				break;
			argv[arguments->operand_count++] = argv[at];
			continue;
		}
		if (!take_option(command, argc, argv, &at, arguments)) {
			*ret_code = GS_EXIT_USAGE;
			return false;
		}
	}
	while (at < argc)
		argv[arguments->operand_count++] = argv[at++];
	argv[arguments->operand_count] = NULL;
	return true;
}

const char *gs_option_value(const struct gs_arguments *arguments, const char *name)
{
	const struct gs_command *command = arguments->command;
	int which = find_option(command, name, strlen(name));
	if (which < 0)
		return NULL;
	const struct gs_option *option = &command->options[which];
	if (arguments->values[which])
		return arguments->values[which];
	const char *value = option->env ? getenv(option->env) : NULL;
	for (const struct gs_alias *alias = command->aliases; alias && (alias->name || alias->env); alias++)
		if (!(value && *value) && alias->env && alias->option && strcmp(alias->option, name) == 0)
			value = getenv(alias->env);
	return value && *value ? value : option->fallback;
}

int gs_wants_json(const struct gs_arguments *arguments)
{
	const struct gs_command *command = arguments->command;
	const char *formats = command->options[find_option(command, "output", strlen("output"))].complete;
	const char *output = gs_option_value(arguments, "output");
	bool json_first = strncmp(formats, "json ", 5) == 0;
	const char *other = json_first ? formats + 5 : formats;
	size_t length = strcspn(other, " ");
	bool json = strcmp(output, "json") == 0;
	if (json || (strlen(output) == length && strncmp(output, other, length) == 0))
		return json;
	fprintf(stderr, "gpushare %s: unknown output format \"%s\"; use %.*s or json\n", command->name, output,
		(int)length, other);
	return -1;
}

void gs_print_diagnostics(const struct gs_diagnostics *diags)
{
	for (size_t i = 0; i < diags->count; i++)
		fprintf(stderr, "%s\n", diags->items[i].text);
	if (diags->omitted)
		fprintf(stderr, "and %zu more\n", diags->omitted);
}
