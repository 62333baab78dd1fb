/* Every command in one table: it drives dispatch, --help, man pages and shell completion. */
#ifndef GPUSHARE_CLI_COMMAND_H
#define GPUSHARE_CLI_COMMAND_H

#include <stdbool.h>

#include "core/config/diagnostic.h"

/* Exit codes, stable: scripts rely on them. */
enum gs_exit { GS_EXIT_OK = 0, GS_EXIT_FAILURE = 1, GS_EXIT_USAGE = 2 };

struct gs_option {
	const char *name;     /* "config", without dashes */
	char letter;          /* 0: none */
	const char *argument; /* "FILE"; "[BOOL]": may be left out and then is "true"; NULL: a switch */
	const char *env;      /* environment variable that sets it too; NULL: none */
	const char *fallback; /* default, as shown in help; NULL: none */
	const char *help;     /* one sentence, no full stop */
	const char *complete; /* completion: "file", "dir", or a space separated word list; NULL: nothing */
};

/* A name that another program (NVIDIA's) has for one of our options, or a flag of it that means nothing here. */
struct gs_alias {
	const char *name;   /* long option; NULL: none */
	const char *env;    /* variable; NULL: none. Of an option: read after the option's own */
	const char *option; /* the option that it is; NULL: none */
	const char *sets;   /* the variable that the flag's value goes to; NULL: none */
	const char *why;    /* why it has no meaning here; NULL: it has one */
	bool is_bool;       /* the flag's value may be left out */
};

struct gs_arguments;

struct gs_command {
	const char *name;                /* "node", or "config check" for a sub-command */
	const char *synopsis;            /* arguments after the name: "FILE..." */
	const char *summary;             /* one line for the list of commands */
	const char *description;         /* paragraphs for --help and the man page */
	const char *examples;            /* lines "command  # what it does"; NULL: none */
	const char *complete;            /* operands, as gs_option.complete; NULL: files where the synopsis says FILE */
	const struct gs_option *options; /* ends with a NULL name; NULL: none */
	const struct gs_alias *aliases;  /* ends with an empty one; NULL: none */
	/* Gets the command line parsed and checked. Returns an exit code. */
	int (*run)(const struct gs_arguments *arguments);
	bool rest_is_command; /* parsing stops at the first operand: the rest is another program's command line */
};

/* Ends with NULL. The program has it (src/main/commands.c), for some commands are of rooms above this one. */
extern const struct gs_command *const gs_commands[];

/* Whether commands "FAMILY something" exist: "mig". */
bool gs_is_family(const char *family);

/* The command whose name the words of argv begin with, the longest if several do, and how many words that is; or NULL. */
const struct gs_command *gs_find_command(int argc, char **argv, int *words);

/* Parsed options of a command: values[i] belongs to options[i] (the flag's argument, "" for a switch that is on, or
 * NULL when the command line does not have it). operands ends with NULL; they are moved to the front of the words, so
 * only without any the words are whole. */
struct gs_arguments {
	const struct gs_command *command;
	char **words; /* what followed the command's name */
	const char *values[64];
	char **operands;
	int operand_count;
	const struct gs_alias *ignored[32]; /* flags that were given and mean nothing, as far as there is room */
	int ignored_count;
};
/* Runs the command that argv names; an exit code. */
int gs_cli_main(int argc, char **argv);

/* Parses what follows argv[0]. False when there is nothing more to do: help was shown, or a usage error was printed with
 * a did-you-mean; *ret_code then is the exit code. */
bool gs_parse_arguments(const struct gs_command *command, int argc, char **argv, struct gs_arguments *arguments,
			int *ret_code);
/* The value of an option: from the command line, else its environment variable unless that is empty, else its default;
 * NULL without any. */
const char *gs_option_value(const struct gs_arguments *arguments, const char *name);
/* The value of --output: 1 json, 0 the default format, -1 after an error was printed since it is neither. */
int gs_wants_json(const struct gs_arguments *arguments);
/* Prints the findings about a file on standard error. */
void gs_print_diagnostics(const struct gs_diagnostics *diags);

#endif
