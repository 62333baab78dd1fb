/* Dispatch and options, on a command of the test's own and on the real table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/command.h"

enum { WORDS_MAX = 16 };

static const struct gs_option options[] = {
	{"file", 'f', "FILE", "GS_TEST_FILE", "none.yaml", "a file", "file"},
	{"verbose", 'v', NULL, NULL, NULL, "a switch", NULL},
	{"maybe", 0, "[BOOL]", NULL, NULL, "a value that may be left out", "true false"},
	{NULL},
};
static const struct gs_command plain = {
	.name = "test", .synopsis = "", .summary = "", .description = "", .options = options};
static const struct gs_command delegating = {
	.name = "test", .synopsis = "", .summary = "", .description = "", .options = options, .rest_is_command = true};

struct line {
	char text[256];
	char *argv[WORDS_MAX + 1];
	int argc;
	struct gs_arguments arguments;
};

/* Splits at blanks. */
static void split(struct line *line, const char *text)
{
	*line = (struct line){0};
	snprintf(line->text, sizeof line->text, "%s", text);
	for (char *word = strtok(line->text, " "); word; word = strtok(NULL, " ")) {
		assert_true(line->argc < WORDS_MAX);
		line->argv[line->argc++] = word;
	}
}

/* -1: the command may run; else the exit code. */
static int parse(const struct gs_command *command, struct line *line, const char *text)
{
	int code = -1;
	split(line, text);
	bool parsed = gs_parse_arguments(command, line->argc, line->argv, &line->arguments, &code);
	assert_true(parsed == (code == -1));
	return code;
}

static void takes_options_in_every_form(void **state)
{
	static const char *const forms[] = {"test --file a", "test --file=a", "test -f a", "test -fa", "test -f=a"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(forms); i++) {
		struct line line;
		assert_int_equal(parse(&plain, &line, forms[i]), -1);
		assert_string_equal(gs_option_value(&line.arguments, "file"), "a");
		assert_int_equal(line.arguments.operand_count, 0);
	}
}

static void mixes_options_and_operands(void **state)
{
	struct line line;
	assert_int_equal(parse(&plain, &line, "test one -v two --file=a three"), -1);
	assert_int_equal(line.arguments.operand_count, 3);
	assert_string_equal(line.arguments.operands[0], "one");
	assert_string_equal(line.arguments.operands[1], "two");
	assert_string_equal(line.arguments.operands[2], "three");
	assert_null(line.arguments.operands[3]);
	assert_non_null(gs_option_value(&line.arguments, "verbose"));
}

static void stops_at_two_dashes(void **state)
{
	struct line line;
	assert_int_equal(parse(&plain, &line, "test one -- -v --file"), -1);
	assert_int_equal(line.arguments.operand_count, 3);
	assert_string_equal(line.arguments.operands[1], "-v");
	assert_string_equal(line.arguments.operands[2], "--file");
	assert_null(gs_option_value(&line.arguments, "verbose"));
}

static void a_single_dash_is_an_operand(void **state)
{
	struct line line;
	assert_int_equal(parse(&plain, &line, "test -"), -1);
	assert_int_equal(line.arguments.operand_count, 1);
	assert_string_equal(line.arguments.operands[0], "-");
}

static void leaves_another_command_alone(void **state)
{
	struct line line;
	assert_int_equal(parse(&delegating, &line, "test -v run --help -v"), -1);
	assert_int_equal(line.arguments.operand_count, 3);
	assert_string_equal(line.arguments.operands[0], "run");
	assert_string_equal(line.arguments.operands[1], "--help");
}

static void an_optional_value_is_never_the_next_word(void **state)
{
	struct line line;
	assert_int_equal(parse(&plain, &line, "test --maybe false"), -1);
	assert_string_equal(gs_option_value(&line.arguments, "maybe"), "true");
	assert_int_equal(line.arguments.operand_count, 1);
	assert_int_equal(parse(&plain, &line, "test --maybe=false"), -1);
	assert_string_equal(gs_option_value(&line.arguments, "maybe"), "false");
}

static void command_line_beats_environment_beats_default(void **state)
{
	struct line line;
	assert_int_equal(parse(&plain, &line, "test"), -1);
	assert_string_equal(gs_option_value(&line.arguments, "file"), "none.yaml");
	setenv("GS_TEST_FILE", "", 1);
	assert_string_equal(gs_option_value(&line.arguments, "file"), "none.yaml");
	setenv("GS_TEST_FILE", "env.yaml", 1);
	assert_string_equal(gs_option_value(&line.arguments, "file"), "env.yaml");
	assert_int_equal(parse(&plain, &line, "test -f line.yaml"), -1);
	assert_string_equal(gs_option_value(&line.arguments, "file"), "line.yaml");
	unsetenv("GS_TEST_FILE");
	assert_null(gs_option_value(&line.arguments, "verbose"));
	assert_null(gs_option_value(&line.arguments, "no-such"));
}

static void the_last_of_two_wins(void **state)
{
	struct line line;
	assert_int_equal(parse(&plain, &line, "test -f a --file b"), -1);
	assert_string_equal(gs_option_value(&line.arguments, "file"), "b");
}

static void mistakes_are_usage_errors(void **state)
{
	static const char *const mistakes[] = {"test --fil a", "test -x",          "test --file",
					       "test -f",      "test --verbose=1", "test --=x"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(mistakes); i++) {
		struct line line;
		assert_int_equal(parse(&plain, &line, mistakes[i]), GS_EXIT_USAGE);
	}
}

static void finds_the_longest_name(void **state)
{
	static const struct {
		const char *text, *name;
		int words;
	} cases[] = {
		{"sim load x", "sim load", 2},
		{"sim 8xT4", "sim", 1},
		{"status", "status", 1},
		{"config check a b", "config check", 2},
		{"config", NULL, 0},
		{"simx", NULL, 0},
		{"", NULL, 0},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++) {
		struct line line;
		int words;
		split(&line, cases[i].text);
		const struct gs_command *found = gs_find_command(line.argc, line.argv, &words);
		assert_int_equal(words, cases[i].words);
		if (cases[i].name) {
			assert_non_null(found);
			assert_string_equal(found->name, cases[i].name);
		} else {
			assert_null(found);
		}
	}
}

/* What help, man pages and completion take for granted. */
static void the_table_is_sound(void **state)
{
	struct gs_arguments arguments;
	for (size_t i = 0; gs_commands[i]; i++) {
		const struct gs_command *command = gs_commands[i];
		assert_true(command->name[0] && command->summary[0] && command->description[0]);
		assert_non_null(command->synopsis);
		assert_non_null(command->run);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(command->name, gs_commands[j]->name);
		size_t count = 0;
		for (const struct gs_option *option = command->options; option && option->name; option++, count++) {
			assert_true(option->help[0] != '\0');
			assert_true(option->help[strlen(option->help) - 1] != '.');
			assert_true(option->argument || !option->fallback);
			assert_true(strcmp(option->name, "help") != 0 && option->letter != 'h');
			for (const struct gs_option *other = command->options; other < option; other++) {
				assert_string_not_equal(option->name, other->name);
				assert_true(!option->letter || option->letter != other->letter);
			}
			for (const char *at = option->name; *at; at++)
				assert_true(islower((unsigned char)*at) || isdigit((unsigned char)*at) || *at == '-');
		}
		assert_true(count <= GS_ARRAY_LENGTH(arguments.values));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_options_in_every_form),
		cmocka_unit_test(mixes_options_and_operands),
		cmocka_unit_test(stops_at_two_dashes),
		cmocka_unit_test(a_single_dash_is_an_operand),
		cmocka_unit_test(leaves_another_command_alone),
		cmocka_unit_test(an_optional_value_is_never_the_next_word),
		cmocka_unit_test(command_line_beats_environment_beats_default),
		cmocka_unit_test(the_last_of_two_wins),
		cmocka_unit_test(mistakes_are_usage_errors),
		cmocka_unit_test(finds_the_longest_name),
		cmocka_unit_test(the_table_is_sound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
