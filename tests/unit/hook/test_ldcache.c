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
#include <sys/stat.h>
#include <unistd.h>

#include "hook/ldcache.h"
#include "hook/root.h"

enum { HEADER = 48, ENTRY = 24 };

static uint32_t word(const uint8_t *data, size_t at)
{
	uint32_t value;
	memcpy(&value, data + at, sizeof value);
	return value;
}

/* The path that a cache gives for a name; NULL without one. */
static const char *look_up(const void *cache, const char *name)
{
	const uint8_t *data = cache;
	for (size_t i = 0; i < word(data, 20); i++) {
		const char *key = (const char *)data + word(data, HEADER + i * ENTRY + 4);
		if (!strcmp(key, name))
			return (const char *)data + word(data, HEADER + i * ENTRY + 8);
	}
	return NULL;
}

static void assert_order(const void *cache, const char *const *names, size_t count)
{
	const uint8_t *data = cache;
	assert_int_equal(word(data, 20), count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal((const char *)data + word(data, HEADER + i * ENTRY + 4), names[i]);
}

static void test_a_new_cache(void **state)
{
	static const struct ldcache_library libraries[] = {
		{"libcuda.so.1", "/usr/lib64/libcuda.so.1"},
		{"libcuda.so.550.163.01", "/usr/lib64/libcuda.so.550.163.01"},
		{"libnvidia-ml.so.1", "/usr/lib64/libnvidia-ml.so.1"},
		{"libcuda.so", "/usr/lib64/libcuda.so"},
	};
	/* Descending, and digits as numbers: 550 is more than 1. */
	static const char *const order[] = {"libnvidia-ml.so.1", "libcuda.so.550.163.01", "libcuda.so.1", "libcuda.so"};
	size_t size;
	void *cache = ldcache_add(NULL, 0, libraries, 4, &size);
	assert_non_null(cache);
	assert_order(cache, order, 4);
	assert_string_equal(look_up(cache, "libcuda.so.1"), "/usr/lib64/libcuda.so.1");
	free(cache);
}

static void test_what_was_there_stays_and_ours_win(void **state)
{
	static const struct ldcache_library image[] = {{"libcuda.so.1", "/compat/libcuda.so.1"},
						       {"libm.so.6", "/lib/libm.so.6"},
						       {"libz.so.1", "/lib/libz.so.1"}};
	static const struct ldcache_library driver[] = {{"libcuda.so.1", "/usr/lib64/libcuda.so.1"}};
	static const char *const order[] = {"libz.so.1", "libm.so.6", "libcuda.so.1"};
	size_t size, more, again;
	void *first = ldcache_add(NULL, 0, image, 3, &size);
	void *second = ldcache_add(first, size, driver, 1, &more);
	assert_non_null(second);
	assert_order(second, order, 3);
	assert_string_equal(look_up(second, "libcuda.so.1"), "/usr/lib64/libcuda.so.1");
	assert_string_equal(look_up(second, "libm.so.6"), "/lib/libm.so.6");
	void *third = ldcache_add(second, more, driver, 1, &again);
	assert_non_null(third);
	assert_order(third, order, 3);
	free(first);
	free(second);
	free(third);
}

/* This machine's own cache, which the real ldconfig made, is kept whole, its extension included. */
static void test_the_machines_own_cache(void **state)
{
	static const struct ldcache_library driver[] = {{"libgpushare-test.so.1", "/opt/libgpushare-test.so.1"}};
	size_t size, more;
	int fd = open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		skip();
	char *old = read_whole(fd, 64 << 20, &size);
	close(fd);
	assert_non_null(old);
	void *cache = ldcache_add(old, size, driver, 1, &more);
	assert_non_null(cache);
	assert_string_equal(look_up(cache, "libgpushare-test.so.1"), "/opt/libgpushare-test.so.1");
	if (!memcmp(old, "glibc-ld.so.cache1.1", 20)) {
		assert_int_equal(word(cache, 20), word((uint8_t *)old, 20) + 1);
		assert_string_equal(look_up(cache, "libc.so.6"), look_up(old, "libc.so.6"));
	}
	free(cache);
	free(old);
}

/* An image may hold anything. */
static void test_broken_caches(void **state)
{
	static const struct ldcache_library image[] = {{"liba.so", "/a"}, {"libb.so", "/b"}};
	size_t size, more;
	uint8_t *good = ldcache_add(NULL, 0, image, 2, &size);
	for (size_t length = 1; length < size; length++) {
		uint8_t *part = malloc(length); /* of just this size, for the sanitizer's sake */
		memcpy(part, good, length);
		void *cache = ldcache_add(part, length, image, 1, &more);
		free(cache);
		free(part);
	}
	for (size_t i = 0; i < size; i++)
		for (int value = 0; value < 256; value += 51) {
			uint8_t *bent = malloc(size);
			memcpy(bent, good, size);
			bent[i] = (uint8_t)value;
			free(ldcache_add(bent, size, image, 1, &more));
			free(bent);
		}
	assert_null(ldcache_add("nonsense", 8, image, 1, &more));
	free(good);
}

/* `count` entries that share one text of `length` characters. Owned by the caller. */
static uint8_t *shared_names(uint32_t count, size_t length, size_t *size)
{
	uint32_t text = HEADER + count * ENTRY;
	*size = text + length + 1;
	uint8_t *data = calloc(1, *size);
	assert_non_null(data);
	memcpy(data, "glibc-ld.so.cache1.1", 20);
	memcpy(data + 20, &count, sizeof count);
	data[28] = 2; /* little endian */
	for (uint32_t i = 0; i < count; i++) {
		static const int32_t flags = 0x0303;
		memcpy(data + HEADER + i * ENTRY, &flags, sizeof flags);
		memcpy(data + HEADER + i * ENTRY + 4, &text, sizeof text);
		memcpy(data + HEADER + i * ENTRY + 8, &text, sizeof text);
	}
	memset(data + text, 'l', length);
	return data;
}

/* A small file can ask for much work: each entry may have the same long name. */
static void test_names_that_are_shared(void **state)
{
	static const struct ldcache_library driver[] = {{"libcuda.so.1", "/usr/lib64/libcuda.so.1"}};
	static const struct {
		uint32_t count;
		size_t length;
		bool accepted;
	} cases[] = {{4, 255, true},
		     {4, 256, false},
		     {1000, 4000000, false},
		     {20000, 8, true},
		     {LDCACHE_ENTRIES_MAX + 1, 8, false}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t size, more;
		uint8_t *old = shared_names(cases[i].count, cases[i].length, &size);
		void *cache = ldcache_add(old, size, driver, 1, &more);
		assert_int_equal(cache != NULL, cases[i].accepted);
		if (cache)
			assert_string_equal(look_up(cache, "libcuda.so.1"), "/usr/lib64/libcuda.so.1");
		free(cache);
		free(old);
	}
}

/* Sections of an extension that lie over each other, each as large as the file. */
static void test_sections_that_are_shared(void **state)
{
	static const struct ldcache_library driver[] = {{"libcuda.so.1", "/usr/lib64/libcuda.so.1"}};
	size_t size, more;
	for (uint32_t count = 1; count <= 4; count++) {
		uint8_t *old = shared_names(1, 255, &size);
		const uint32_t at = HEADER + ENTRY + 16, extension[] = {0xEAA42174, count};
		const uint32_t section[] = {1, 0, (uint32_t)size - 160, 160};
		memcpy(old + 32, &at, sizeof at);
		memcpy(old + at, extension, sizeof extension);
		for (size_t i = 0; i < count; i++)
			memcpy(old + at + sizeof extension + i * sizeof section, section, sizeof section);
		void *cache = ldcache_add(old, size, driver, 1, &more);
		assert_int_equal(cache != NULL, count < 3);
		free(cache);
		free(old);
	}
}

/* The root of a container whose image tries to get out of it. */
static void test_links_do_not_lead_out(void **state)
{
	char dir[] = "/tmp/gpushare-test-XXXXXX", path[128], target[64];
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/root", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof path, "%s/root/etc", dir);
	assert_int_equal(symlink("../../../../../../../../outside", path), 0);
	snprintf(path, sizeof path, "%s/root/outside", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof path, "%s/root", dir);
	int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(root_write(root, "etc", "file", "text", 4), 0);
	snprintf(path, sizeof path, "%s/root/outside/file", dir);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(root_link(root, "/usr/lib/libcuda.so.1", "libcuda.so.550"), 0);
	assert_int_equal(root_link(root, "/usr/lib/libcuda.so.1", "libcuda.so.570"), 0);
	snprintf(path, sizeof path, "%s/root/usr/lib/libcuda.so.1", dir);
	ssize_t length = readlink(path, target, sizeof target);
	assert_int_equal(length, strlen("libcuda.so.570"));
	assert_memory_equal(target, "libcuda.so.570", (size_t)length);
	close(root);
	snprintf(path, sizeof path, "rm -rf %s", dir);
	assert_int_equal(system(path), 0);
}

/* Opening a FIFO waits for its other end, and opening a device can make it act. */
static void test_regular_files_only(void **state)
{
	char dir[] = "/tmp/gpushare-test-XXXXXX", path[128];
	assert_non_null(mkdtemp(dir));
	int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof path, "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(root_write(root, "", "file", "text", 4), 0);
	assert_int_equal(root_open_regular(root_open(root, "fifo", O_PATH)), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(root_open_regular(root_open(root, ".", O_PATH)), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(root_open_regular(root_open(root, "missing", O_PATH)), -1);
	assert_int_equal(errno, ENOENT);
	int fd = root_open_regular(root_open(root, "file", O_PATH));
	assert_int_equal(read(fd, path, sizeof path), 4);
	assert_memory_equal(path, "text", 4);
	close(fd);
	close(root);
	snprintf(path, sizeof path, "rm -rf %s", dir);
	assert_int_equal(system(path), 0);
}

static void test_libraries(void **state)
{
	char head[64] = {0};
	assert_false(ldcache_is_library(head, sizeof head));
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, head, sizeof head), sizeof head);
	close(fd);
	head[16] = 3; /* ET_DYN, if this test is not one that moves */
	assert_true(ldcache_is_library(head, sizeof head));
	assert_false(ldcache_is_library(head, sizeof head - 1));
	head[4] = 1; /* 32 bits */
	assert_false(ldcache_is_library(head, sizeof head));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_cache),
		cmocka_unit_test(test_what_was_there_stays_and_ours_win),
		cmocka_unit_test(test_the_machines_own_cache),
		cmocka_unit_test(test_broken_caches),
		cmocka_unit_test(test_names_that_are_shared),
		cmocka_unit_test(test_sections_that_are_shared),
		cmocka_unit_test(test_links_do_not_lead_out),
		cmocka_unit_test(test_regular_files_only),
		cmocka_unit_test(test_libraries),
	};
	return cmocka_run_group_tests_name("ldcache", tests, NULL, NULL);
}
