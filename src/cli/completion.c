/* `gpushare completion`: what bash, zsh and fish need to complete command lines, made from the table of commands. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"

static bool has_word_after(const struct gs_command *command)
{
	return strchr(command->name, ' ') != NULL;
}

/* How operands complete, as gs_option.complete says it; NULL: not at all. */
static const char *operands(const struct gs_command *command)
{
	if (command->complete)
		return command->complete;
	return strstr(command->synopsis, "FILE") ? "file" : NULL;
}

static bool is_words(const char *complete)
{
	return complete && strcmp(complete, "file") != 0 && strcmp(complete, "dir") != 0;
}

/* The first words of the commands, each once. */
static void each_first_word(void (*show)(const char *word, int length, const char *summary))
{
	for (size_t i = 0; gs_commands[i]; i++) {
		const char *name = gs_commands[i]->name;
		int length = (int)strcspn(name, " ");
		bool seen = false;
		for (size_t j = 0; j < i && !seen; j++)
			seen = (int)strcspn(gs_commands[j]->name, " ") == length &&
			       strncmp(gs_commands[j]->name, name, (size_t)length) == 0;
		if (!seen)
			show(name, length, name[length] ? "" : gs_commands[i]->summary);
	}
}

/* The words that may follow a first word: "config" has "check explain schema". */
static void print_second_words(const char *first, int length)
{
	const char *between = "";
	for (size_t i = 0; gs_commands[i]; i++) {
		const char *name = gs_commands[i]->name;
		if (strncmp(name, first, (size_t)length) == 0 && name[length] == ' ') {
			printf("%s%s", between, name + length + 1);
			between = " ";
		}
	}
}

static bool is_family(const char *first, int length)
{
	for (size_t i = 0; gs_commands[i]; i++)
		if (strncmp(gs_commands[i]->name, first, (size_t)length) == 0 && gs_commands[i]->name[length] == ' ')
			return true;
	return false;
}

/* Text inside single quotes of a shell. */
static void print_quoted(const char *text, const char *escaped)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (strchr(escaped, *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

/* --- bash --- */

static void bash_word(const char *word, int length, const char *summary)
{
	printf("%.*s ", length, word);
}

static void bash_family(const char *word, int length, const char *summary)
{
	if (!is_family(word, length))
		return;
	printf("\t%.*s) next='", length, word);
	print_second_words(word, length);
	puts("' ;;");
}

static void bash_option(const struct gs_command *command, const struct gs_option *option)
{
	if (!option->argument)
		return;
	printf("\t'%s:--%s'", command->name, option->name);
	if (option->letter)
		printf(" | '%s:-%c'", command->name, option->letter);
	/* A value that may be left out never is the next word. */
	printf(") kind='%s' %s;;\n", option->complete ? option->complete : "nothing",
	       option->argument[0] == '[' ? "joined=1 " : "");
}

static void bash_command(const struct gs_command *command)
{
	printf("\t'%s') options='--help", command->name);
	for (const struct gs_option *option = command->options; option && option->name; option++)
		printf(" --%s", option->name);
	printf("' operands='%s'%s ;;\n", operands(command) ? operands(command) : "nothing",
	       command->rest_is_command ? " delegates=1" : "");
}

static void print_bash(void)
{
	fputs("# bash completion for gpushare, made by `gpushare completion bash`\n"
	      "_gpushare_offer() {\n"
	      "\tcase $1 in\n"
	      "\tfile) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$2\") ;;\n"
	      "\tdir) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$2\") ;;\n"
	      "\tcommand) mapfile -t COMPREPLY < <(compgen -c -- \"$2\") ;;\n"
	      "\tnothing) ;;\n"
	      "\t*) mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$2\") ;;\n"
	      "\tesac\n"
	      "}\n"
	      "_gpushare() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}\n"
	      "\tlocal next= kind= joined= assigned= options= operands=nothing delegates= i first=2\n"
	      "\tCOMPREPLY=()\n"
	      "\tif ((COMP_CWORD == 1)); then\n"
	      "\t\t_gpushare_offer '",
	      stdout);
	each_first_word(bash_word);
	fputs("--help --version' \"$cur\"\n"
	      "\t\treturn\n"
	      "\tfi\n"
	      "\tcase $command in\n",
	      stdout);
	each_first_word(bash_family);
	fputs("\tesac\n"
	      "\tif [[ $next && $COMP_CWORD == 2 && $cur != -* ]]; then\n"
	      "\t\t_gpushare_offer \"$next\" \"$cur\"\n"
	      "\t\treturn\n"
	      "\tfi\n"
	      "\tif [[ \" $next \" == *\" ${COMP_WORDS[2]} \"* && ${COMP_WORDS[2]} ]]; then\n"
	      "\t\tcommand+=\" ${COMP_WORDS[2]}\"\n"
	      "\t\tfirst=3\n"
	      "\tfi\n"
	      "\tcase $command in\n",
	      stdout);
	for (size_t i = 0; gs_commands[i]; i++)
		bash_command(gs_commands[i]);
	fputs("\tesac\n"
	      "\tfor ((i = first; i < COMP_CWORD; i++)); do\n"
	      "\t\t[[ ${COMP_WORDS[i]} == -- ]] || continue\n"
	      "\t\t[[ $delegates ]] || { _gpushare_offer \"$operands\" \"$cur\"; return; }\n"
	      "\t\tif declare -F _command_offset >/dev/null; then\n"
	      "\t\t\t_command_offset $((i + 1))\n"
	      "\t\telif ((i + 1 == COMP_CWORD)); then\n"
	      "\t\t\t_gpushare_offer command \"$cur\"\n"
	      "\t\telse\n"
	      "\t\t\t_gpushare_offer file \"$cur\"\n"
	      "\t\tfi\n"
	      "\t\treturn\n"
	      "\tdone\n"
	      "\t# bash makes three words of --option=value\n"
	      "\tif [[ $cur == '=' ]]; then\n"
	      "\t\tassigned=1 cur=\n"
	      "\telif [[ $prev == '=' ]] && ((COMP_CWORD > 2)); then\n"
	      "\t\tassigned=1 prev=${COMP_WORDS[COMP_CWORD-2]}\n"
	      "\tfi\n"
	      "\tcase $command:$prev in\n",
	      stdout);
	for (size_t i = 0; gs_commands[i]; i++)
		for (const struct gs_option *option = gs_commands[i]->options; option && option->name; option++)
			bash_option(gs_commands[i], option);
	fputs("\tesac\n"
	      "\tif [[ $kind && ( $assigned || ! $joined ) ]]; then\n"
	      "\t\t_gpushare_offer \"$kind\" \"$cur\"\n"
	      "\telif [[ $cur == -* ]]; then\n"
	      "\t\t_gpushare_offer \"$options\" \"$cur\"\n"
	      "\telse\n"
	      "\t\t_gpushare_offer \"$operands\" \"$cur\"\n"
	      "\tfi\n"
	      "}\n"
	      "complete -F _gpushare gpushare\n",
	      stdout);
}

/* --- zsh --- */

static void zsh_word(const char *word, int length, const char *summary)
{
	printf("\t\t\t'%.*s", length, word);
	if (*summary) {
		putchar(':');
		print_quoted(summary, ":\\");
	}
	puts("'");
}

static void zsh_family(const char *word, int length, const char *summary)
{
	if (!is_family(word, length))
		return;
	printf("\t%.*s) next=(", length, word);
	print_second_words(word, length);
	puts(") ;;");
}

static void zsh_action(const char *complete)
{
	if (!complete)
		fputs(" ", stdout);
	else if (is_words(complete))
		printf("(%s)", complete);
	else
		fputs(strcmp(complete, "dir") == 0 ? "_files -/" : "_files", stdout);
}

static void zsh_option(const struct gs_option *option)
{
	bool optional = option->argument && option->argument[0] == '[';
	const char *mark = !option->argument ? "" : optional ? "=-" : "=";
	if (option->letter)
		printf(" \\\n\t\t\t'(-%c --%s)'{-%c%s,--%s%s}'", option->letter, option->name, option->letter,
		       option->argument ? "+" : "", option->name, mark);
	else
		printf(" \\\n\t\t\t'--%s%s", option->name, mark);
	putchar('[');
	print_quoted(option->help, "[]\\:");
	putchar(']');
	if (option->argument) {
		printf("%s:%.*s:", optional ? ":" : "", (int)strcspn(option->argument + optional, "]"),
		       option->argument + optional);
		zsh_action(option->complete);
	}
	putchar('\'');
}

static void zsh_command(const struct gs_command *command)
{
	printf("\t'%s')\n\t\t_arguments -s '(-h --help)'{-h,--help}'[show help]'", command->name);
	for (const struct gs_option *option = command->options; option && option->name; option++)
		zsh_option(option);
	if (command->rest_is_command) {
		fputs(" \\\n\t\t\t'1:operand: ' '*::command:_normal'", stdout);
	} else if (operands(command)) {
		fputs(" \\\n\t\t\t'*:operand:", stdout);
		zsh_action(operands(command));
		putchar('\'');
	}
	puts("\n\t\t;;");
}

static void print_zsh(void)
{
	fputs("#compdef gpushare\n"
	      "# zsh completion for gpushare, made by `gpushare completion zsh`\n"
	      "_gpushare() {\n"
	      "\tlocal command=$words[2]\n"
	      "\tlocal -a next names\n"
	      "\tif ((CURRENT == 2)); then\n"
	      "\t\tnames=(\n",
	      stdout);
	each_first_word(zsh_word);
	fputs("\t\t)\n"
	      "\t\t_describe command names\n"
	      "\t\treturn\n"
	      "\tfi\n"
	      "\tcase $command in\n",
	      stdout);
	each_first_word(zsh_family);
	fputs("\tesac\n"
	      "\tif ((CURRENT == 3 && $#next)) && [[ $words[3] != -* ]]; then\n"
	      "\t\t_describe command next\n"
	      "\t\treturn\n"
	      "\tfi\n"
	      "\tshift words\n"
	      "\t((CURRENT--))\n"
	      "\tif (($next[(Ie)$words[2]])); then\n"
	      "\t\tcommand+=\" $words[2]\"\n"
	      "\t\tshift words\n"
	      "\t\t((CURRENT--))\n"
	      "\tfi\n"
	      "\tcase $command in\n",
	      stdout);
	for (size_t i = 0; gs_commands[i]; i++)
		zsh_command(gs_commands[i]);
	fputs("\tesac\n"
	      "}\n"
	      "# Sourced or autoloaded.\n"
	      "if [[ $funcstack[1] == _gpushare ]]; then\n"
	      "\t_gpushare \"$@\"\n"
	      "else\n"
	      "\tcompdef _gpushare gpushare\n"
	      "fi\n",
	      stdout);
}

/* --- fish --- */

static void fish_word(const char *word, int length, const char *summary)
{
	printf("complete -c gpushare -n '__gpushare_in \"\"' -a '%.*s' -d '", length, word);
	for (; *summary; summary++)
		printf(*summary == '\'' || *summary == '\\' ? "\\%c" : "%c", *summary);
	puts("'");
}

static void fish_family(const char *word, int length, const char *summary)
{
	if (!is_family(word, length))
		return;
	printf("complete -c gpushare -n '__gpushare_in \"%.*s\"; and test (count (commandline -opc)) -eq 2' -a '",
	       length, word);
	print_second_words(word, length);
	puts("'");
}

static void fish_values(const char *complete)
{
	if (!complete)
		return;
	if (is_words(complete))
		printf(" -a '%s'", complete);
	else if (strcmp(complete, "dir") == 0)
		fputs(" -a '(__fish_complete_directories)'", stdout);
	else
		fputs(" -F", stdout);
}

static void fish_option(const struct gs_command *command, const struct gs_option *option)
{
	printf("complete -c gpushare -n '__gpushare_in \"%s\"' -l %s", command->name, option->name);
	if (option->letter)
		printf(" -s %c", option->letter);
	if (option->argument) {
		/* -r: a value must follow, -x: and it is no file. One that may be left out is offered after = only. */
		bool file = option->complete && strcmp(option->complete, "file") == 0;
		if (option->argument[0] != '[')
			fputs(file ? " -r" : " -x", stdout);
		fish_values(option->complete);
	}
	fputs(" -d '", stdout);
	for (const char *at = option->help; *at; at++)
		printf(*at == '\'' || *at == '\\' ? "\\%c" : "%c", *at);
	puts("'");
}

static void print_fish(void)
{
	fputs("# fish completion for gpushare, made by `gpushare completion fish`\n"
	      "function __gpushare_in --description 'whether the command line is in this command'\n"
	      "\tset -l words (commandline -opc)\n"
	      "\tset -l found \"$words[2]\"\n"
	      "\tif contains -- \"$words[2] $words[3]\"",
	      stdout);
	for (size_t i = 0; gs_commands[i]; i++)
		if (has_word_after(gs_commands[i]))
			printf(" '%s'", gs_commands[i]->name);
	fputs("\n"
	      "\t\tset found \"$words[2] $words[3]\"\n"
	      "\tend\n"
	      "\ttest \"$found\" = \"$argv[1]\"\n"
	      "end\n"
	      "complete -c gpushare -f\n"
	      "complete -c gpushare -s h -l help -d 'show help'\n"
	      "complete -c gpushare -n '__gpushare_in \"\"' -l version -d 'show the version'\n",
	      stdout);
	each_first_word(fish_word);
	each_first_word(fish_family);
	for (size_t i = 0; gs_commands[i]; i++) {
		const struct gs_command *command = gs_commands[i];
		for (const struct gs_option *option = command->options; option && option->name; option++)
			fish_option(command, option);
		if (command->rest_is_command) {
			printf("complete -c gpushare -n '__gpushare_in \"%s\"; and contains -- -- (commandline -opc)' "
			       "-a "
			       "'(__fish_complete_subcommand --commandline (string replace -r \"^.*? -- \" \"\" -- "
			       "(commandline -p)))'\n",
			       command->name);
		} else if (operands(command)) {
			printf("complete -c gpushare -n '__gpushare_in \"%s\"'", command->name);
			fish_values(operands(command));
			puts("");
		}
	}
}

/* --- the command --- */

static const struct {
	const char *name;
	void (*print)(void);
} shells[] = {{"bash", print_bash}, {"fish", print_fish}, {"zsh", print_zsh}};

static int run(const struct gs_arguments *arguments)
{
	for (size_t i = 0; arguments->operand_count == 1 && i < sizeof shells / sizeof *shells; i++) {
		if (strcmp(shells[i].name, arguments->operands[0]) == 0) {
			shells[i].print();
			return GS_EXIT_OK;
		}
	}
	if (arguments->operand_count == 1)
		fprintf(stderr, "gpushare completion: there is no completion for \"%s\"; name bash, fish or zsh\n",
			arguments->operands[0]);
	else
		fprintf(stderr, "gpushare completion: name one shell: bash, fish or zsh\n");
	return GS_EXIT_USAGE;
}

const struct gs_command gs_command_completion = {
	.name = "completion",
	.synopsis = "SHELL",
	.summary = "print what a shell needs to complete gpushare's command lines",
	.description = "SHELL is bash, fish or zsh. An installed gpushare brings these files along; the command is for "
		       "one that was not "
		       "installed.",
	.examples = "source <(gpushare completion bash)  # in this shell, from now on\n"
		    "gpushare completion fish > ~/.config/fish/completions/gpushare.fish  # in every fish",
	.complete = "bash fish zsh",
	.run = run,
};
