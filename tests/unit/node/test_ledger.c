#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "node/ledger.h"

struct world {
	char dir[64];
	char path[96], aside[112];
};

static int set_up(void **state)
{
	struct world *world = gs_calloc(1, sizeof *world);
	strcpy(world->dir, "/tmp/gpushare-ledger-XXXXXX");
	if (!mkdtemp(world->dir))
		return -1;
	snprintf(world->path, sizeof world->path, "%s/allocations.json", world->dir);
	snprintf(world->aside, sizeof world->aside, "%s.corrupt", world->path);
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	unlink(world->path);
	unlink(world->aside);
	int result = rmdir(world->dir); /* nothing else was left there */
	free(world);
	return result;
}

static struct ledger *open_quietly(const struct world *world)
{
	struct gs_error warning;
	struct ledger *ledger = ledger_open(world->dir, &warning);
	assert_string_equal(warning.text, "");
	return ledger;
}

static void keeps_what_was_saved(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	struct ledger *ledger = open_quietly(world);
	assert_int_equal(ledger_get(ledger, "GPU-1::0"), 0);
	ledger_set(ledger, "GPU-1::0", 1700000000);
	ledger_set(ledger, "a \"quoted\" \xc3\xa9", 1);
	assert_int_equal(ledger_save(ledger, &err), 0);
	ledger_free(ledger);

	ledger = open_quietly(world);
	assert_int_equal(ledger_get(ledger, "GPU-1::0"), 1700000000);
	assert_int_equal(ledger_get(ledger, "a \"quoted\" \xc3\xa9"), 1);
	assert_null(ledger_render(ledger)); /* nothing changed since */
	ledger_free(ledger);
}

static void writes_only_changes(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	struct ledger *ledger = open_quietly(world);
	assert_int_equal(ledger_save(ledger, &err), 0);
	assert_int_equal(access(world->path, F_OK), -1); /* there was nothing to say */
	ledger_set(ledger, "GPU-1::0", 5);
	assert_int_equal(ledger_save(ledger, &err), 0);
	ledger_set(ledger, "GPU-1::0", 5);
	assert_null(ledger_render(ledger));
	ledger_set(ledger, "GPU-1::0", 6);
	GS_AUTO_FREE char *text = ledger_render(ledger);
	assert_non_null(strstr(text, "\"GPU-1::0\": 6"));
	ledger_free(ledger);
}

static void gives_again_what_could_not_be_written(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	struct ledger *ledger = open_quietly(world);
	ledger_set(ledger, "GPU-1::0", 5);
	assert_int_equal(mkdir(world->path, 0700),
			 0); /* a folder where the file should be: no rename, not even for root */
	assert_int_equal(ledger_save(ledger, &err), -1);
	assert_non_null(strstr(err.text, world->path));
	assert_int_equal(rmdir(world->path), 0);
	assert_int_equal(ledger_save(ledger, &err), 0);
	ledger_free(ledger);
	ledger = open_quietly(world);
	assert_int_equal(ledger_get(ledger, "GPU-1::0"), 5);
	ledger_free(ledger);
}

static int is_first(const char *share, void *user)
{
	++*(int *)user;
	return strcmp(share, "GPU-1::0") == 0;
}

static void forgets_shares_that_are_gone(void **state)
{
	struct ledger *ledger = open_quietly(*state);
	int asked = 0;
	ledger_set(ledger, "GPU-1::0", 5);
	ledger_set(ledger, "GPU-1::1", 6);
	ledger_set(ledger, "GPU-2::0", 7);
	ledger_prune(ledger, is_first, &asked);
	assert_int_equal(asked, 3);
	assert_int_equal(ledger_get(ledger, "GPU-1::0"), 5);
	assert_int_equal(ledger_get(ledger, "GPU-1::1"), 0);
	assert_int_equal(ledger_get(ledger, "GPU-2::0"), 0);
	ledger_free(ledger);
}

static void starts_anew_beside_a_corrupt_file(void **state)
{
	struct world *world = *state;
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{\"version\": 2, \"allocations\": {}}",
		"{\"version\": 1, \"allocations\": []}",
		"{\"version\": 1}",
		"{\"version\": 1, \"allocations\": {\"a\": 1, \"a\": 2}}",
		"{\"version\": 1, \"allocations\": {\"\xff\": 1}}",
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct gs_error err, warning;
		assert_int_equal(gs_write_file(world->path, texts[i], strlen(texts[i]), 0600, &err), 0);
		struct ledger *ledger = ledger_open(world->dir, &warning);
		assert_non_null(strstr(warning.text, world->aside));
		assert_int_equal(access(world->path, F_OK), -1);
		assert_int_equal(access(world->aside, F_OK), 0);
		assert_int_equal(ledger_get(ledger, "a"), 0);
		ledger_set(ledger, "a", 3);
		assert_int_equal(ledger_save(ledger, &err), 0);
		ledger_free(ledger);
		assert_int_equal(unlink(world->aside), 0);
	}
}

static void takes_no_value_that_is_no_time(void **state)
{
	struct world *world = *state;
	static const char text[] =
		"{\"version\": 1, \"allocations\": {\"a\": \"x\", \"b\": null, \"c\": 1.5, \"d\": 9}}";
	struct gs_error err;
	assert_int_equal(gs_write_file(world->path, text, sizeof text - 1, 0600, &err), 0);
	struct ledger *ledger = open_quietly(world);
	assert_int_equal(ledger_get(ledger, "a"), 0);
	assert_int_equal(ledger_get(ledger, "b"), 0);
	assert_int_equal(ledger_get(ledger, "c"), 0);
	assert_int_equal(ledger_get(ledger, "d"), 9);
	ledger_free(ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(keeps_what_was_saved, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writes_only_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(gives_again_what_could_not_be_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forgets_shares_that_are_gone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(starts_anew_beside_a_corrupt_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(takes_no_value_that_is_no_time, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
