/* How a process that uses an instance is described. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "mig/mig.h"

#define CONTAINER "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char proc[] = "/tmp/gpushare-proc-XXXXXX";

static int set_up(void **state)
{
	return mkdtemp(proc) ? 0 : -1;
}

static int tear_down(void **state)
{
	GS_AUTO_FREE char *command = gs_printf("rm -r '%s'", proc);
	return system(command);
}

static void put(int pid, const char *name, const char *content, size_t length)
{
	GS_AUTO_FREE char *folder = gs_printf("%s/%d", proc, pid);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, name);
	assert_int_equal(gs_make_directories(folder, 0755, NULL), 0);
	assert_int_equal(gs_write_file(path, content, length, 0644, NULL), 0);
}

#define PUT(pid, name, content) put((pid), (name), (content), sizeof(content) - 1)

static void expect(int pid, const char *text)
{
	char found[GS_MIG_HOLDER_SIZE];
	gs_mig_describe_process(proc, pid, found, sizeof found);
	assert_string_equal(found, text);
}

static void test_pods_containers_and_shares(void **state)
{
	PUT(1, "comm", "python\n");
	PUT(1, "cgroup", "0::/user.slice\n");
	PUT(1, "environ", "HOSTNAME=desk\0A=b\0");
	expect(1, "process 1 (python)");
	PUT(1, "environ", "HOSTNAME=desk\0GPUSHARE_SHARES=MIG-1::0\0");
	expect(1, "process 1 (python), share MIG-1::0");
	PUT(1, "cgroup", "0::/system.slice/docker-" CONTAINER ".scope\n");
	expect(1, "process 1 (python), container 0123456789ab");
	PUT(1, "cgroup",
	    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_34.slice/cri-containerd-" CONTAINER
	    ".scope\n");
	expect(1, "process 1 (python), pod desk");
	PUT(1, "environ", "A=b\0");
	expect(1, "process 1 (python), container 0123456789ab");
	PUT(1, "cgroup", "12:devices:/kubepods/besteffort/pod12-34/" CONTAINER "\n1:name=systemd:/\n");
	expect(1, "process 1 (python), container 0123456789ab");
}

static void test_one_that_is_gone(void **state)
{
	expect(2, "process 2");
}

static void test_names_can_not_steer_a_terminal(void **state)
{
	PUT(3, "comm",
	    "a\033[2J\xc2\x9b"
	    "b\xff\n");
	PUT(3, "cgroup", "0::/\n");
	expect(3, "process 3 (a?[2J??b?)");
}

static void test_long_names_are_cut(void **state)
{
	char variables[2000], found[GS_MIG_HOLDER_SIZE];
	memset(variables, 'x', sizeof variables);
	memcpy(variables, "GPUSHARE_SHARES=", 16);
	put(4, "environ", variables, sizeof variables);
	PUT(4, "comm", "python\n");
	gs_mig_describe_process(proc, 4, found, sizeof found);
	assert_int_equal(strlen(found), sizeof found - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pods_containers_and_shares),
		cmocka_unit_test(test_one_that_is_gone),
		cmocka_unit_test(test_names_can_not_steer_a_terminal),
		cmocka_unit_test(test_long_names_are_cut),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
