#include "cli/help.h"

#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"

enum { WIDTH = 80, INDENT = 2, OPTION_INDENT = 6 };

static const char tagline[] =
	"share GPUs between workloads by time-slicing, MPS and MIG, with evidence of who uses what";

/* Words of one paragraph, wrapped. `column` is where the line stands. */
static void wrap(FILE *out, const char *text, size_t length, int indent)
{
	int column = indent;
	fprintf(out, "%*s", indent, "");
	for (const char *word = text; word < text + length;) {
		size_t size = 0;
		while (word + size < text + length && word[size] != ' ' && word[size] != '\n')
			size++;
		if (column > indent && column + 1 + (int)size > WIDTH) {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			fputc(' ', out);
			column++;
		}
		fprintf(out, "%.*s", (int)size, word);
		column += (int)size;
		word += size;
		while (word < text + length && (*word == ' ' || *word == '\n'))
			word++;
	}
	fputc('\n', out);
}

static void paragraphs(FILE *out, const char *text, int indent)
{
	while (*text) {
		const char *end = strstr(text, "\n\n");
		size_t length = end ? (size_t)(end - text) : strlen(text);
		wrap(out, text, length, indent);
		text += length;
		if (end) {
			text += 2;
			fputc('\n', out);
		}
	}
}

void gs_help_overview(FILE *out)
{
	fprintf(out, "gpushare %s: %s\n\nusage: gpushare COMMAND [ARGUMENT...]\n\ncommands:\n", GPUSHARE_VERSION,
		tagline);
	for (size_t i = 0; gs_commands[i]; i++)
		fprintf(out, "  %-16s %s\n", gs_commands[i]->name, gs_commands[i]->summary);
	fputs("\nStart with `gpushare demo`: it needs no GPU. `gpushare COMMAND --help` explains each command.\n", out);
}

void gs_help_family(FILE *out, const char *family)
{
	size_t length = strlen(family);
	int width = 0;
	for (size_t i = 0; gs_commands[i]; i++)
		if (strncmp(gs_commands[i]->name, family, length) == 0 && (int)strlen(gs_commands[i]->name) > width)
			width = (int)strlen(gs_commands[i]->name);
	fprintf(out, "usage: gpushare %s COMMAND [ARGUMENT...]\n\ncommands:\n", family);
	for (size_t i = 0; gs_commands[i]; i++)
		if (strncmp(gs_commands[i]->name, family, length) == 0 && gs_commands[i]->name[length] == ' ')
			fprintf(out, "  %-*s  %s\n", width, gs_commands[i]->name, gs_commands[i]->summary);
	fprintf(out, "\n`gpushare %s COMMAND --help` explains each command.\n", family);
}

static void option_line(FILE *out, const struct gs_option *option)
{
	fputs("  ", out);
	if (option->letter)
		fprintf(out, "-%c, ", option->letter);
	fprintf(out, "--%s", option->name);
	if (option->argument)
		fprintf(out, "%s%s", option->argument[0] == '[' ? "[=" : " ",
			option->argument + (option->argument[0] == '['));
	fputc('\n', out);
	char text[1024];
	int used = snprintf(text, sizeof text, "%s", option->help);
	if (option->fallback)
		used += snprintf(text + used, sizeof text - (size_t)used, "; default: %s",
				 *option->fallback ? option->fallback : "none");
	if (option->env)
		snprintf(text + used, sizeof text - (size_t)used, "; environment: %s", option->env);
	wrap(out, text, strlen(text), OPTION_INDENT);
}

static void each_example(const char *examples,
			 void (*show)(FILE *out, const char *command, int length, const char *what, int what_length),
			 FILE *out)
{
	while (examples && *examples) {
		int line = (int)strcspn(examples, "\n");
		const char *mark = strstr(examples, "  # ");
		int length = mark && mark < examples + line ? (int)(mark - examples) : line;
		show(out, examples, length, length < line ? mark + 4 : "", length < line ? line - length - 4 : 0);
		examples += line + (examples[line] == '\n');
	}
}

static void example_line(FILE *out, const char *command, int length, const char *what, int what_length)
{
	fprintf(out, "  %.*s\n      %.*s\n", length, command, what_length, what);
}

void gs_help_command(FILE *out, const struct gs_command *command)
{
	fprintf(out, "gpushare %s: %s\n\nusage: gpushare %s%s%s%s\n\n", command->name, command->summary, command->name,
		command->options && command->options[0].name ? " [OPTION...]" : "", *command->synopsis ? " " : "",
		command->synopsis);
	paragraphs(out, command->description, 0);
	if (command->options && command->options[0].name) {
		fputs("\noptions:\n", out);
		for (const struct gs_option *option = command->options; option->name; option++)
			option_line(out, option);
	}
	if (command->examples) {
		fputs("\nexamples:\n", out);
		each_example(command->examples, example_line, out);
	}
}

/* --- man pages --- */

/* scdoc gives _ and * a meaning. */
static void escaped(FILE *out, const char *text, int length)
{
	for (int i = 0; i < length && text[i]; i++) {
		if (strchr("_*\\`", text[i]))
			fputc('\\', out);
		fputc(text[i], out);
	}
}

static void escaped_text(FILE *out, const char *text)
{
	escaped(out, text, (int)strlen(text));
}

static void page_name(FILE *out, const char *name)
{
	fputs("gpushare-", out);
	for (; *name; name++)
		fputc(*name == ' ' ? '-' : *name, out);
}

static void man_option(FILE *out, const struct gs_option *option)
{
	fputc('*', out);
	if (option->letter)
		fprintf(out, "-%c*, *", option->letter);
	fprintf(out, "--%s*", option->name);
	if (option->argument && option->argument[0] == '[')
		fprintf(out, "[=_%.*s_]", (int)strlen(option->argument) - 2, option->argument + 1);
	else if (option->argument)
		fprintf(out, " _%s_", option->argument);
	fputs("\n\t", out);
	escaped_text(out, option->help);
	fputs(".", out);
	if (option->fallback) {
		fputs(" Default: ", out);
		escaped_text(out, *option->fallback ? option->fallback : "none");
		fputs(".", out);
	}
	if (option->env) {
		fputs(" Environment: ", out);
		escaped_text(out, option->env);
		fputs(".", out);
	}
	fputs("\n\n", out);
}

static void man_example(FILE *out, const char *command, int length, const char *what, int what_length)
{
	fputs("*", out);
	escaped(out, command, length);
	fputs("*\n\t", out);
	escaped(out, what, what_length);
	fputs("\n\n", out);
}

static const char exit_status[] =
	"# EXIT STATUS\n\n0 on success, 1 when it failed (the reason is on standard error), 2 when the command "
	"line was wrong.\n\n";

/* The command's man page in section 1, as scdoc source. */
static void gs_help_man(FILE *out, const struct gs_command *command)
{
	page_name(out, command->name);
	fputs("(1)\n\n# NAME\n\n", out);
	page_name(out, command->name);
	fprintf(out, " - ");
	escaped_text(out, command->summary);
	fprintf(out, "\n\n# SYNOPSIS\n\n*gpushare %s*%s%s", command->name,
		command->options && command->options[0].name ? " [OPTION...]" : "", *command->synopsis ? " " : "");
	escaped_text(out, command->synopsis);
	fputs("\n\n# DESCRIPTION\n\n", out);
	escaped_text(out, command->description);
	fputs("\n\n# OPTIONS\n\n", out);
	for (const struct gs_option *option = command->options; option && option->name; option++)
		man_option(out, option);
	fputs("*-h*, *--help*\n\tShow help.\n\n", out);
	if (command->examples) {
		fputs("# EXAMPLES\n\n", out);
		each_example(command->examples, man_example, out);
	}
	fputs(command->rest_is_command
		      ? "# EXIT STATUS\n\nThat of the command; 128 and the signal's number when a signal ended it; 1 "
			"when it could not be started, 2 when the command line was wrong.\n\n"
		      : exit_status,
	      out);
	fputs("# SEE ALSO\n\n*gpushare*(1)\n", out);
}

/* The page of gpushare itself. */
static void gs_help_man_overview(FILE *out)
{
	fprintf(out,
		"gpushare(1)\n\n# NAME\n\ngpushare - %s\n\n# SYNOPSIS\n\n*gpushare* _COMMAND_ [ARGUMENT...]\n\n# "
		"DESCRIPTION\n\n",
		tagline);
	escaped_text(out, "gpushare splits each GPU of a machine, or of a Kubernetes node, into shares and hands them "
			  "to workloads. It takes "
			  "NVIDIA's device-plugin config file, resource names and environment variables unchanged. "
			  "Time-slicing gives "
			  "workloads turns on the whole GPU: it isolates neither memory nor faults.\n\n"
			  "Without a GPU, everything runs on a simulated node: see gpushare-sim(1).");
	fputs("\n\n# COMMANDS\n\n", out);
	for (size_t i = 0; gs_commands[i]; i++) {
		fputs("*", out);
		page_name(out, gs_commands[i]->name);
		fputs("*(1)\n\t", out);
		escaped_text(out, gs_commands[i]->summary);
		fputs("\n\n", out);
	}
	fputs(exit_status, out);
}

/* --- gpushare help --- */

static int man_page(const char *name)
{
	if (strcmp(name, "gpushare") == 0) {
		gs_help_man_overview(stdout);
		return GS_EXIT_OK;
	}
	for (size_t i = 0; gs_commands[i]; i++) {
		if (strcmp(gs_commands[i]->name, name) == 0) {
			gs_help_man(stdout, gs_commands[i]);
			return GS_EXIT_OK;
		}
	}
	fprintf(stderr, "gpushare help: there is no command \"%s\"\n", name);
	return GS_EXIT_FAILURE;
}

static int run(const struct gs_arguments *arguments)
{
	const char *man = gs_option_value(arguments, "man");
	if (man)
		return man_page(man);
	if (gs_option_value(arguments, "list")) {
		for (size_t i = 0; gs_commands[i]; i++)
			puts(gs_commands[i]->name);
		return GS_EXIT_OK;
	}
	int words;
	const struct gs_command *command = gs_find_command(arguments->operand_count, arguments->operands, &words);
	if (arguments->operand_count == 0) {
		gs_help_overview(stdout);
		return GS_EXIT_OK;
	}
	if (!command && arguments->operand_count == 1 && gs_is_family(arguments->operands[0])) {
		gs_help_family(stdout, arguments->operands[0]);
		return GS_EXIT_OK;
	}
	if (!command) {
		fprintf(stderr, "gpushare help: there is no command \"%s\"; `gpushare help` lists them\n",
			arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	gs_help_command(stdout, command);
	return GS_EXIT_OK;
}

static const struct gs_option options[] = {
	{"man", 0, "COMMAND", NULL, NULL, "print a command's man page as scdoc source; \"gpushare\" is the overview",
	 NULL},
	{"list", 0, NULL, NULL, NULL, "print the commands' names only", NULL},
	{NULL},
};

const struct gs_command gs_command_help = {
	.name = "help",
	.synopsis = "[COMMAND]",
	.summary = "explain gpushare, or one command",
	.description =
		"Without a command, lists what there is. With one, explains it as `gpushare COMMAND --help` does.",
	.examples = "gpushare help config check  # explain a command",
	.options = options,
	.run = run,
};
