#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

static char root[64];

static int make_root(void **state)
{
	snprintf(root, sizeof root, "/tmp/gpushare-file-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	GS_AUTO_FREE char *command = gs_printf("rm -rf %s", root);
	return system(command);
}

static mode_t mode_of(const char *path)
{
	struct stat about;
	assert_int_equal(lstat(path, &about), 0);
	return about.st_mode & 07777;
}

static void test_own_file_is_read(void **state)
{
	struct gs_error err;
	size_t length;
	GS_AUTO_FREE char *path = gs_printf("%s/own", root);
	assert_int_equal(gs_write_file(path, "abc", 3, 0600, &err), 0);
	GS_AUTO_FREE char *text = gs_read_own_file(path, 3, &length, &err);
	assert_string_equal(text, "abc");
	assert_int_equal(length, 3);
	assert_null(gs_read_own_file(path, 2, &length, &err));
	assert_int_equal(err.source, GS_ERROR_LIMIT);
	GS_AUTO_FREE char *missing = gs_printf("%s/missing", root);
	assert_null(gs_read_own_file(missing, 2, &length, &err));
	assert_int_equal(err.code, ENOENT);
}

/* None of them waits, and none is read. */
static void test_what_is_no_file_is_refused(void **state)
{
	struct gs_error err;
	size_t length;
	GS_AUTO_FREE char *path = gs_printf("%s/thing", root);
	GS_AUTO_FREE char *target = gs_printf("%s/target", root);
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_null(gs_read_own_file(path, 100, &length, &err));
	assert_non_null(strstr(err.text, "no regular file"));
	unlink(path);
	assert_int_equal(gs_write_file(target, "abc", 3, 0600, &err), 0);
	assert_int_equal(symlink(target, path), 0);
	assert_null(gs_read_own_file(path, 100, &length, &err));
	assert_non_null(strstr(err.text, "is a link"));
	unlink(path);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_null(gs_read_own_file(path, 100, &length, &err));
	assert_non_null(strstr(err.text, "no regular file"));
	assert_null(gs_read_own_file("/dev/zero", 100, &length, &err));
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(target, 4711, 4711), 0);
	assert_null(gs_read_own_file(target, 100, &length, &err));
	assert_non_null(strstr(err.text, "belongs to user 4711"));
}

static void test_a_written_file_goes_through_no_link(void **state)
{
	struct gs_error err;
	size_t length;
	GS_AUTO_FREE char *path = gs_printf("%s/file", root);
	GS_AUTO_FREE char *temporary = gs_printf("%s.tmp-%d", path, (int)getpid());
	GS_AUTO_FREE char *victim = gs_printf("%s/victim", root);
	assert_int_equal(gs_write_file(victim, "kept", 4, 0600, &err), 0);
	assert_int_equal(symlink(victim, temporary), 0);
	assert_int_equal(symlink(victim, path), 0);
	assert_int_equal(gs_write_file(path, "new", 3, 0644, &err), 0);
	GS_AUTO_FREE char *written = gs_read_own_file(path, 100, &length, &err);
	GS_AUTO_FREE char *kept = gs_read_own_file(victim, 100, &length, &err);
	assert_string_equal(written, "new");
	assert_string_equal(kept, "kept");
}

static void test_modes_do_not_depend_on_the_umask(void **state)
{
	struct gs_error err;
	GS_AUTO_FREE char *parent = gs_printf("%s/a", root);
	GS_AUTO_FREE char *directory = gs_printf("%s/a/b", root);
	GS_AUTO_FREE char *file = gs_printf("%s/a/b/file", root);
	mode_t before = umask(0077);
	assert_int_equal(gs_make_directories(directory, 0755, &err), 0);
	assert_int_equal(gs_write_file(file, "", 0, 0644, &err), 0);
	umask(before);
	assert_int_equal(mode_of(parent), 0755);
	assert_int_equal(mode_of(directory), 0755);
	assert_int_equal(mode_of(file), 0644);
}

static void test_closed_directories_are_found(void **state)
{
	struct gs_error err;
	GS_AUTO_FREE char *open_one = gs_printf("%s/open", root);
	GS_AUTO_FREE char *closed = gs_printf("%s/open/closed", root);
	GS_AUTO_FREE char *below = gs_printf("%s/open/closed/below", root);
	assert_int_equal(chmod(root, 0711), 0);
	assert_int_equal(gs_make_directories(open_one, 0755, &err), 0);
	assert_null(gs_find_closed_directory(open_one));
	assert_int_equal(gs_make_directories(closed, 0750, &err), 0);
	assert_int_equal(gs_make_directories(below, 0755, &err), 0);
	GS_AUTO_FREE char *found = gs_find_closed_directory(below);
	assert_string_equal(found, closed);
	assert_null(gs_find_closed_directory("/"));
	assert_null(gs_find_closed_directory("/does/not/exist"));
}

static void test_what_killed_writers_left(void **state)
{
	static const char *const names[] = {"a.json", "b", NULL};
	pid_t gone = fork();
	if (gone == 0)
		_exit(0);
	assert_int_equal(waitpid(gone, NULL, 0), gone);
	const struct {
		const char *name;
		int pid;
		bool stays;
	} files[] = {{"a.json.tmp-", gone, false}, {"b.tmp-", gone, false}, {"b.tmp-", getpid(), false},
		     {"a.json.tmp-", 1, true},     {"c.tmp-", gone, true},  {"a.json.", gone, true},
		     {"a.json.tmp-x", gone, true}};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(files); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s%d", root, files[i].name, files[i].pid);
		assert_int_equal(gs_write_file(path, "", 0, 0600, NULL), 0);
	}
	assert_int_equal(gs_remove_unfinished(root, names), 3);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(files); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s%d", root, files[i].name, files[i].pid);
		assert_int_equal(access(path, F_OK) == 0, files[i].stays);
	}
	assert_int_equal(gs_remove_unfinished("/nonexistent", names), 0);
}

static void test_nothing_that_was_put_aside_is_lost(void **state)
{
	GS_AUTO_FREE char *path = gs_printf("%s/record", root);
	for (int i = 1; i <= 12; i++) {
		struct gs_error err;
		GS_AUTO_FREE char *text = gs_printf("%d", i);
		gs_fail(&err, GS_ERROR_INPUT, 0, "broken");
		assert_int_equal(gs_write_file(path, text, strlen(text), 0600, NULL), 0);
		assert_true(gs_set_aside(path, &err));
		GS_AUTO_FREE char *where = i == 1 ? gs_printf("moved to %s.corrupt: broken", path)
						  : gs_printf("moved to %s.corrupt.%d: broken", path, i < 9 ? i : 9);
		assert_string_equal(err.text, where);
		assert_int_equal(access(path, F_OK), -1);
	}
	size_t length;
	GS_AUTO_FREE char *first = gs_printf("%s.corrupt", path);
	GS_AUTO_FREE char *text = gs_read_file(first, 10, &length, NULL);
	assert_string_equal(text, "1");
	struct gs_error err;
	gs_fail(&err, GS_ERROR_INPUT, 0, "broken");
	assert_false(gs_set_aside("/nonexistent/record", &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_own_file_is_read, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_what_is_no_file_is_refused, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_a_written_file_goes_through_no_link, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_modes_do_not_depend_on_the_umask, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_closed_directories_are_found, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_what_killed_writers_left, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_nothing_that_was_put_aside_is_lost, make_root, remove_root),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
