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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_own_file_is_read, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_what_is_no_file_is_refused, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_a_written_file_goes_through_no_link, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_modes_do_not_depend_on_the_umask, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_closed_directories_are_found, make_root, remove_root),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
