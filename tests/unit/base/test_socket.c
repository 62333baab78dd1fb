#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/socket.h"

static char folder[] = "/tmp/gpushare-socket-XXXXXX";

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	return rmdir(folder);
}

static int listen_at(const char *path, int type, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void tells_who_listens_from_what_was_left_behind(void **state)
{
	char path[64];
	snprintf(path, sizeof path, "%s/socket", folder);
	assert_int_equal(gs_socket_try(path, SOCK_STREAM), ENOENT);
	int fd = listen_at(path, SOCK_STREAM, 1);
	assert_int_equal(gs_socket_try(path, SOCK_STREAM), 0);
	assert_int_equal(gs_socket_try(path, SOCK_SEQPACKET), EPROTOTYPE);
	close(fd);
	assert_int_equal(gs_socket_try(path, SOCK_STREAM), ECONNREFUSED);
	unlink(path);
}

/* One that does not come to accept anybody is there all the same, and is not waited for. */
static void a_full_queue_is_somebody(void **state)
{
	char path[64];
	snprintf(path, sizeof path, "%s/full", folder);
	int fd = listen_at(path, SOCK_STREAM, 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(gs_socket_try(path, SOCK_STREAM), 0);
	close(fd);
	unlink(path);
}

static void what_is_no_socket_refuses(void **state)
{
	char path[64], longest[200];
	snprintf(path, sizeof path, "%s/file", folder);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(gs_socket_try(path, SOCK_STREAM), ECONNREFUSED);
	unlink(path);
	memset(longest, 'a', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	assert_int_equal(gs_socket_try(longest, SOCK_STREAM), ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_who_listens_from_what_was_left_behind),
		cmocka_unit_test(a_full_queue_is_somebody),
		cmocka_unit_test(what_is_no_socket_refuses),
	};
	return cmocka_run_group_tests_name("base-socket", tests, make_folder, remove_folder);
}
