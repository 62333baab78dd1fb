#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "node/selection.h"

struct place {
	char directory[64];
};

static int make(void **state)
{
	struct place *place = gs_calloc(1, sizeof *place);
	strcpy(place->directory, "/tmp/gpushare-selection-XXXXXX");
	*state = place;
	return mkdtemp(place->directory) ? 0 : -1;
}

static void touch(const struct place *place, const char *name)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", place->directory, name);
	assert_int_equal(gs_write_file(path, "version: v1\n", 12, 0600, NULL), 0);
}

static int clear(void **state)
{
	static const char *const names[] = {"default", "a", "b", ".hidden", "config.json"};
	struct place *place = *state;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", place->directory, names[i]);
		unlink(path);
	}
	for (int i = 1; i < 10; i++) {
		GS_AUTO_FREE char *path = i == 1 ? gs_printf("%s/config.json.corrupt", place->directory)
						 : gs_printf("%s/config.json.corrupt.%d", place->directory, i);
		unlink(path);
	}
	int result = rmdir(place->directory);
	free(place);
	return result;
}

/* `expected` NULL: an error that has `reason` in it. */
static void assert_choice(const struct place *place, const char *label, const char *default_name, const char *fallbacks,
			  const char *expected, const char *reason)
{
	const struct selection_rules rules = {
		.directory = place->directory, .default_name = default_name, .fallbacks = fallbacks};
	struct gs_error err = {0};
	GS_AUTO_FREE char *name = selection_choose(&rules, label, &err);
	if (expected) {
		assert_non_null(name);
		assert_string_equal(name, expected);
	} else {
		assert_null(name);
		assert_non_null(strstr(err.text, reason));
	}
}

static void the_label_comes_first_then_the_default(void **state)
{
	touch(*state, "a");
	touch(*state, "b");
	touch(*state, "default");
	assert_choice(*state, "a", "b", "named", "a", NULL);
	assert_choice(*state, NULL, "b", "named", "b", NULL);
	assert_choice(*state, "", "b", "named", "b", NULL);
	assert_choice(*state, NULL, "", "named", "default", NULL);
	/* What was asked for and is not there does not fall through. */
	assert_choice(*state, "c", "b", "named", NULL, "\"c\"");
	assert_choice(*state, NULL, "c", "named", NULL, "the default is \"c\"");
}

static void fallbacks_go_in_their_order(void **state)
{
	touch(*state, "a");
	touch(*state, ".hidden");
	assert_choice(*state, NULL, NULL, "named,single", "a", NULL);
	assert_choice(*state, NULL, NULL, "named", NULL, "none of the fallbacks (named)");
	assert_choice(*state, NULL, NULL, "empty,single", "", NULL);
	assert_choice(*state, NULL, NULL, "", NULL, "none of the fallbacks (none)");
	touch(*state, "b");
	assert_choice(*state, NULL, NULL, "named,single", NULL, "none of the fallbacks");
	assert_choice(*state, NULL, NULL, "named,single,empty", "", NULL);
	touch(*state, "default");
	assert_choice(*state, NULL, NULL, "single,named", "default", NULL);
}

static void names_stay_in_the_directory(void **state)
{
	static const char *const names[] = {"../etc", "/etc/passwd", ".", "..", ".hidden", "a/b"};
	touch(*state, ".hidden");
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++)
		assert_choice(*state, names[i], NULL, "empty", NULL, "no configuration at all");
}

static void a_directory_that_is_missing_chooses_nothing(void **state)
{
	const struct place nowhere = {"/nonexistent"};
	assert_choice(&nowhere, "a", NULL, "named", NULL, "mount the ConfigMap");
	assert_choice(&nowhere, NULL, NULL, "named,single", NULL, "which has none");
	assert_choice(&nowhere, NULL, NULL, "empty", "", NULL);
}

static void fallback_names_are_checked(void **state)
{
	struct gs_error err = {0};
	assert_int_equal(selection_check_fallbacks("", &err), 0);
	assert_int_equal(selection_check_fallbacks("named", &err), 0);
	assert_int_equal(selection_check_fallbacks("empty,single,named", &err), 0);
	assert_int_equal(selection_check_fallbacks("named,nam", &err), -1);
	assert_non_null(strstr(err.text, "\"nam\""));
	assert_int_equal(selection_check_fallbacks("named,,single", &err), -1);
	assert_int_equal(selection_check_fallbacks("Named", &err), -1);
}

static void write_remembered(const struct place *place, const char *text)
{
	GS_AUTO_FREE char *path = gs_printf("%s/config.json", place->directory);
	assert_int_equal(gs_write_file(path, text, strlen(text), 0600, NULL), 0);
}

static void what_was_in_force_is_remembered(void **state)
{
	const struct place *place = *state;
	struct gs_error err;
	char *name, *text;
	assert_int_equal(selection_recall(place->directory, &name, &text, &err), -1);
	assert_int_equal(selection_remember(place->directory, "a", "version: v1 # \"ä\"\n", NULL), 0);
	assert_int_equal(selection_recall(place->directory, &name, &text, &err), 0);
	assert_string_equal(name, "a");
	assert_string_equal(text, "version: v1 # \"ä\"\n");
	free(name);
	free(text);
	assert_int_equal(selection_remember("/nonexistent", "a", "x", NULL), -1);
	assert_int_equal(selection_remember(place->directory, "a", "\xff", NULL), -1);
}

static void what_is_damaged_is_forgotten(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{}",
		"{\"name\":7,\"text\":\"x\"}",
		"{\"name\":\"a\"}",
		"{\"name\":\"../a\",\"text\":\"x\"}",
		"{\"name\":\"a\",\"text\":\"x\\u0000y\"}",
	};
	const struct place *place = *state;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(texts); i++) {
		struct gs_error err;
		char *name, *text;
		write_remembered(place, texts[i]);
		assert_int_equal(selection_recall(place->directory, &name, &text, &err), -1);
		assert_non_null(strstr(err.text, "config.json.corrupt")); /* and is still there to be looked at */
	}
	GS_AUTO_FREE char *last = gs_printf("%s/config.json.corrupt.8", place->directory);
	size_t length;
	GS_AUTO_FREE char *text = gs_read_file(last, 100, &length, NULL);
	assert_string_equal(text, texts[7]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_label_comes_first_then_the_default, make, clear),
		cmocka_unit_test_setup_teardown(fallbacks_go_in_their_order, make, clear),
		cmocka_unit_test_setup_teardown(names_stay_in_the_directory, make, clear),
		cmocka_unit_test(a_directory_that_is_missing_chooses_nothing),
		cmocka_unit_test(fallback_names_are_checked),
		cmocka_unit_test_setup_teardown(what_was_in_force_is_remembered, make, clear),
		cmocka_unit_test_setup_teardown(what_is_damaged_is_forgotten, make, clear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
