/* Completion of command lines. `gpushare completion SHELL` prints a script that asks `gpushare __complete -- WORD...` what
 * may stand where the last WORD, still unfinished, stands. The answer is lines: words that fit, each with a tab and what it
 * means, or one of ":file", ":dir", and ":command N" (words from the Nth on are another command's line). */
#include "cli/completion.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"

/* The word that the user types: `word` comes after `given`, which stays as it is ("--output="). */
struct typed {
	const char *given, *word;
	int given_length;
};

static void offer(const struct typed *typed, const char *word, int length, const char *meaning)
{
	size_t begun = strlen(typed->word);
	if (begun <= (size_t)length && strncmp(word, typed->word, begun) == 0)
		printf("%.*s%.*s\t%s\n", typed->given_length, typed->given, length, word, meaning);
}

/* `complete` as gs_option.complete has it. */
static void offer_values(const struct typed *typed, const char *complete)
{
	if (!complete)
		return;
	if (strcmp(complete, "file") == 0 || strcmp(complete, "dir") == 0) {
		printf(":%s\n", complete);
		return;
	}
	for (const char *word = complete; *word; word += strspn(word, " ")) {
		int length = (int)strcspn(word, " ");
		offer(typed, word, length, "");
		word += length;
	}
}

static void offer_first_words(const struct typed *typed)
{
	if (*typed->word == '-') {
		offer(typed, "--help", 6, "show the commands");
		offer(typed, "--version", 9, "show the version");
		return;
	}
	for (size_t i = 0; gs_commands[i]; i++) {
		const char *name = gs_commands[i]->name;
		int length = (int)strcspn(name, " ");
		bool seen = false;
		for (size_t j = 0; j < i && !seen; j++)
			seen = (int)strcspn(gs_commands[j]->name, " ") == length &&
			       strncmp(gs_commands[j]->name, name, (size_t)length) == 0;
		if (!seen)
			offer(typed, name, length, name[length] ? "" : gs_commands[i]->summary);
	}
}

static void offer_second_words(const struct typed *typed, const char *family)
{
	size_t length = strlen(family);
	for (size_t i = 0; gs_commands[i]; i++) {
		const char *name = gs_commands[i]->name;
		if (strncmp(name, family, length) == 0 && name[length] == ' ')
			offer(typed, name + length + 1, (int)strlen(name + length + 1), gs_commands[i]->summary);
	}
}

static void offer_options(const struct typed *typed, const struct gs_command *command)
{
	char name[64];
	for (const struct gs_option *option = command->options; option && option->name; option++)
		offer(typed, name, snprintf(name, sizeof name, "--%s", option->name), option->help);
	offer(typed, "--help", 6, "show help");
}

static void offer_operands(const struct typed *typed, const struct gs_command *command)
{
	if (command->complete)
		offer_values(typed, command->complete);
	else if (strstr(command->synopsis, "FILE"))
		offer_values(typed, "file");
}

/* The option that takes a value and that a word names ("--config", "--config=x", "-c"); or NULL. */
static const struct gs_option *find_option(const struct gs_command *command, const char *word)
{
	size_t length = strcspn(word, "=");
	for (const struct gs_option *option = command->options; option && option->name; option++) {
		bool is_long = length > 2 && strncmp(word, "--", 2) == 0 && strlen(option->name) == length - 2 &&
			       strncmp(option->name, word + 2, length - 2) == 0;
		bool is_short = length == 2 && word[0] == '-' && option->letter && word[1] == option->letter;
		if (option->argument && (is_long || is_short))
			return option;
	}
	return NULL;
}

/* Completes the last word as the value of an option, when it is one. */
static bool complete_value(const struct gs_command *command, int count, char **words)
{
	const char *word = words[count - 1], *equals = strchr(word, '=');
	const char *before = count > 1 ? words[count - 2] : "";
	struct typed typed = {.given = "", .word = word};
	const struct gs_option *option;
	if (strcmp(word, "=") == 0) { /* bash makes three words of --option=value */
		option = find_option(command, before);
		typed.word = "";
	} else if (strcmp(before, "=") == 0 && count > 2) {
		option = find_option(command, words[count - 3]);
	} else if (*word == '-' && equals) {
		option = find_option(command, word);
		typed = (struct typed){.given = word, .given_length = (int)(equals + 1 - word), .word = equals + 1};
	} else {
		option = find_option(command, before);
		if (option && (option->argument[0] == '[' || strchr(before, '=')))
			return false; /* its value may be left out, and then is never the next word; or is there already */
	}
	if (option)
		offer_values(&typed, option->complete);
	return option != NULL;
}

int gs_complete(int count, char **words)
{
	if (count > 0 && strcmp(words[0], "--") == 0) {
		count--;
		words++;
	}
	if (count < 1)
		return GS_EXIT_USAGE;
	struct typed typed = {.given = "", .word = words[count - 1]};
	if (count == 1) {
		offer_first_words(&typed);
		return GS_EXIT_OK;
	}
	if (count == 2 && gs_is_family(words[0]) && *typed.word != '-') {
		offer_second_words(&typed, words[0]);
		return GS_EXIT_OK;
	}
	int name_words;
	const struct gs_command *command = gs_find_command(count - 1, words, &name_words);
	if (!command)
		return GS_EXIT_OK;
	for (int i = name_words; i < count - 1; i++) {
		if (strcmp(words[i], "--") != 0)
			continue;
		if (command->rest_is_command)
			printf(":command %d\n", i + 1);
		else
			offer_operands(&typed, command);
		return GS_EXIT_OK;
	}
	if (complete_value(command, count - name_words, words + name_words))
		return GS_EXIT_OK;
	if (*typed.word == '-')
		offer_options(&typed, command);
	else
		offer_operands(&typed, command);
	return GS_EXIT_OK;
}

/* The scripts
 * ---- */

static const char bash[] =
	"# bash completion for gpushare, made by `gpushare completion bash`\n"
	"_gpushare() {\n"
	"\tlocal program=${COMP_WORDS[0]/#\\~/$HOME} cur=${COMP_WORDS[COMP_CWORD]} given= at offers\n"
	"\tmapfile -t offers < <(\"$program\" __complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
	"\t[[ $cur == '=' ]] && cur=\n"
	"\t[[ $cur == -*=* ]] && given=${cur%%=*}= cur=${cur#*=}\n"
	"\tCOMPREPLY=()\n"
	"\tcase ${offers[0]} in\n"
	"\t:file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -P \"$given\" -f -- \"$cur\") ;;\n"
	"\t:dir) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -P \"$given\" -d -- \"$cur\") ;;\n"
	"\t:command*)\n"
	"\t\tat=$((${offers[0]#:command } + 1))\n"
	"\t\tif declare -F _command_offset >/dev/null; then\n"
	"\t\t\t_command_offset $at\n"
	"\t\telif ((COMP_CWORD == at)); then\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -c -- \"$cur\")\n"
	"\t\telse\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"\t\tfi ;;\n"
	"\t*) COMPREPLY=(\"${offers[@]%%$'\\t'*}\") ;;\n"
	"\tesac\n"
	"\tif ((COMP_CWORD == 1)) && [[ ! $cur ]]; then COMPREPLY+=(--help --version); fi\n"
	"}\n"
	"complete -F _gpushare gpushare\n";

static const char zsh[] = "#compdef gpushare\n"
			  "# zsh completion for gpushare, made by `gpushare completion zsh`\n"
			  "_gpushare() {\n"
			  "\tlocal program=${words[1]/#\\~/$HOME} first\n"
			  "\tlocal -a offers names shown\n"
			  "\toffers=(\"${(@f)$($program __complete -- \"${(@Q)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
			  "\tcase $offers[1] in\n"
			  "\t'') ;;\n"
			  "\t:file) compset -P '-*='; _files ;;\n"
			  "\t:dir) compset -P '-*='; _files -/ ;;\n"
			  "\t:command*)\n"
			  "\t\tfirst=$((${offers[1]#:command } + 2))\n"
			  "\t\twords=(\"${(@)words[first,-1]}\")\n"
			  "\t\t((CURRENT -= first - 1))\n"
			  "\t\t_normal ;;\n"
			  "\t*)\n"
			  "\t\tnames=(\"${(@)offers%%$'\\t'*}\")\n"
			  "\t\tshown=(\"${(@)offers/$'\\t'/:}\")\n"
			  "\t\t_describe gpushare shown names ;;\n"
			  "\tesac\n"
			  "}\n"
			  "# Sourced or autoloaded.\n"
			  "if [[ $funcstack[1] == _gpushare ]]; then\n"
			  "\t_gpushare \"$@\"\n"
			  "else\n"
			  "\tcompdef _gpushare gpushare\n"
			  "fi\n";

static const char fish[] =
	"# fish completion for gpushare, made by `gpushare completion fish`\n"
	"function __gpushare_complete --description 'what may stand at the cursor'\n"
	"\tset -l words (commandline -opc)\n"
	"\tset -l current (commandline -ct)\n"
	"\tset -l program (string replace -r '^~' $HOME -- $words[1])\n"
	"\tset -e words[1]\n"
	"\tset -l offers ($program __complete -- $words \"$current\" 2>/dev/null)\n"
	"\tset -l given (string replace -r '^(-[^=]*=)?.*' '$1' -- \"$current\")\n"
	"\tset -l rest (string replace -r '^-[^=]*=' '' -- \"$current\")\n"
	"\tswitch \"$offers[1]\"\n"
	"\t\tcase :file\n"
	"\t\t\tprintf \"$given%s\\n\" (__fish_complete_path \"$rest\")\n"
	"\t\tcase :dir\n"
	"\t\t\tprintf \"$given%s\\n\" (__fish_complete_directories \"$rest\")\n"
	"\t\tcase ':command*'\n"
	"\t\t\t__fish_complete_subcommand --commandline (string replace -r '^.*? -- ' '' -- (commandline -p))\n"
	"\t\tcase ''\n"
	"\t\tcase '*'\n"
	"\t\t\tprintf '%s\\n' $offers\n"
	"\tend\n"
	"end\n"
	"complete -c gpushare -f -a '(__gpushare_complete)'\n";

static const struct {
	const char *name, *script;
} shells[] = {{"bash", bash}, {"fish", fish}, {"zsh", zsh}};

static int run(const struct gs_arguments *arguments)
{
	for (size_t i = 0; arguments->operand_count == 1 && i < sizeof shells / sizeof *shells; i++) {
		if (strcmp(shells[i].name, arguments->operands[0]) == 0) {
			fputs(shells[i].script, stdout);
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
	.description =
		"SHELL is bash, fish or zsh. The script asks gpushare itself what fits (gpushare __complete), so it is "
		"right for each version. An installed gpushare brings these files along; the command is for one that "
		"was not installed.",
	.examples = "source <(gpushare completion bash)  # in this shell, from now on\n"
		    "gpushare completion fish > ~/.config/fish/completions/gpushare.fish  # in every fish",
	.complete = "bash fish zsh",
	.run = run,
};
