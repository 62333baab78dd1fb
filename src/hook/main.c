/* gpushare-cdi-hook: what a container needs done to its files before it starts, so that programs in it find the driver's
 * libraries. A container runtime calls it, as CDI specs ask, with the container's state on standard input. It is one
 * static file, because it runs on the node and not in an image; it runs no program of the container, and follows no
 * link out of it. Sub-commands and options are those of NVIDIA's own hook, which can take its place. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook/ldcache.h"
#include "hook/root.h"
#include "hook/state.h"

enum {
	CACHE_BYTES_MAX = 16 * 1024 * 1024,
	LIBRARIES_MAX = 16384,
	NAMES_MAX = 131072, /* that are looked at in all folders */
	CPU_SECONDS_MAX = 20,
	OPTIONS_MAX = 256,
};

/* Each "TARGET::PATH". */
static int create_symlinks(int root, char *const *links, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *path = strstr(links[i], "::");
		if (!path || path - links[i] >= PATH_MAX) {
			fprintf(stderr, "gpushare-cdi-hook: --link %s is not TARGET::PATH\n", links[i]);
			return -1;
		}
		char target[PATH_MAX];
		snprintf(target, sizeof target, "%.*s", (int)(path - links[i]), links[i]);
		if (root_link(root, path + 2, target) < 0)
			return complain("cannot create the link", path + 2);
	}
	return 0;
}

struct found {
	struct ldcache_library *libraries;
	size_t count;
	size_t names; /* that were looked at */
};

static void add_library(struct found *found, const char *folder, const char *name)
{
	size_t length = strlen(folder) + strlen(name) + 2;
	char *path = malloc(length);
	struct ldcache_library *larger = realloc(found->libraries, (found->count + 1) * sizeof *found->libraries);
	if (larger)
		found->libraries = larger;
	if (!path || !larger) {
		free(path);
		return;
	}
	snprintf(path, length, "%s/%s", folder, name);
	found->libraries[found->count++] = (struct ldcache_library){.name = path + strlen(folder) + 1, .path = path};
}

/* Whether a file was mounted into the container: what else is in its folders is the image's own, and known to it. A
 * kernel before 5.8 does not say; then all count. */
static bool is_mounted(int fd)
{
	struct statx about;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &about) < 0)
		return false;
	return !(about.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) || (about.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static bool is_library(int root, const char *folder, const char *name)
{
	char path[PATH_MAX], head[64];
	const char *suffix = strstr(name, ".so");
	if (strncmp(name, "lib", 3) != 0 || !suffix || (suffix[3] && suffix[3] != '.'))
		return false;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	int fd = root_open(root, path, O_PATH);
	if (fd >= 0 && !is_mounted(fd)) {
		close(fd);
		return false;
	}
	fd = root_open_regular(fd);
	if (fd < 0)
		return false;
	ssize_t size = read(fd, head, sizeof head);
	close(fd);
	return size > 0 && ldcache_is_library(head, (size_t)size);
}

/* The files mounted into a folder, under all their names; none for a missing folder. An image can hold any number of
 * files: -1 with more than can be looked at. */
static int scan(int root, const char *folder, struct found *found)
{
	int fd = root_open(root, folder, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return 0;
	for (struct dirent *entry; found->names <= NAMES_MAX && found->count <= LIBRARIES_MAX && (entry = readdir(dir));
	     found->names++)
		if (is_library(root, folder, entry->d_name))
			add_library(found, folder, entry->d_name);
	closedir(dir);
	if (found->names <= NAMES_MAX && found->count <= LIBRARIES_MAX)
		return 0;
	fprintf(stderr,
		"gpushare-cdi-hook: the folder %s of the image has too many files: at most %d are looked at, and %d "
		"libraries\n",
		folder, NAMES_MAX, LIBRARIES_MAX);
	return -1;
}

/* The image's cache with the libraries that were found; NULL when it cannot be read. An image without one gets one. */
static void *make_cache(int root, const struct found *found, size_t *size)
{
	size_t old_size = 0;
	int fd = root_open_regular(root_open(root, "etc/ld.so.cache", O_PATH));
	if (fd < 0 && errno != ENOENT)
		return NULL;
	char *old = fd < 0 ? NULL : read_whole(fd, CACHE_BYTES_MAX, &old_size);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && !old)
		return NULL;
	void *cache = ldcache_add(old_size ? old : NULL, old_size, found->libraries, found->count, size);
	free(old);
	return cache;
}

static int write_cache(int root, const struct found *found)
{
	size_t size;
	void *cache = make_cache(root, found, &size);
	if (!cache) {
		fprintf(stderr, "gpushare-cdi-hook: the image's /etc/ld.so.cache is not one that can be read; "
				"libraries in folders that the loader does not know by itself are not found\n");
		return 0;
	}
	int result = root_write(root, "etc", "ld.so.cache", cache, size);
	free(cache);
	return result < 0 ? complain("cannot write", "/etc/ld.so.cache of the container") : 0;
}

/* The folders go into the loader's configuration as well, so that a container that runs ldconfig keeps them. */
static int write_configuration(int root, char *const *folders, size_t count)
{
	char text[OPTIONS_MAX * 64] = "";
	size_t length = 0;
	int fd = root_open(root, "etc/ld.so.conf.d", O_PATH | O_DIRECTORY);
	if (fd < 0)
		return 0;
	close(fd);
	for (size_t i = 0; i < count && length < sizeof text; i++)
		length += (size_t)snprintf(text + length, sizeof text - length, "%s\n", folders[i]);
	if (length >= sizeof text)
		return 0;
	return root_write(root, "etc/ld.so.conf.d", "00-gpushare.conf", text, length) < 0
		       ? complain("cannot write", "/etc/ld.so.conf.d of the container")
		       : 0;
}

static int update_ldcache(int root, char *const *folders, size_t count)
{
	struct found found = {0};
	int result = 0;
	for (size_t i = 0; i < count && result == 0; i++)
		result = scan(root, folders[i], &found);
	if (found.count && result == 0)
		result = write_cache(root, &found) < 0 || write_configuration(root, folders, count) < 0 ? -1 : 0;
	for (size_t i = 0; i < found.count; i++)
		free((char *)(uintptr_t)found.libraries[i].path);
	free(found.libraries);
	return result;
}

static const struct command {
	const char *name, *option;
	int (*run)(int root, char *const *values, size_t count);
} commands[] = {
	{"create-symlinks", "--link", create_symlinks},
	{"update-ldcache", "--folder", update_ldcache},
};

static int usage(void)
{
	fprintf(stderr, "usage: gpushare-cdi-hook create-symlinks --link TARGET::PATH...\n"
			"       gpushare-cdi-hook update-ldcache --folder DIR...\n"
			"A container runtime calls it, with the container's state on standard input.\n");
	return 2;
}

/* "--link X" or "--link=X", any number of times. */
static int run(const struct command *command, int argc, char **argv)
{
	char *values[OPTIONS_MAX];
	size_t count = 0, length = strlen(command->option);
	for (int i = 0; i < argc; i++) {
		bool apart = !strcmp(argv[i], command->option);
		if (count == OPTIONS_MAX || strncmp(argv[i], command->option, length) != 0 ||
		    (!apart && argv[i][length] != '=') || (apart && ++i == argc))
			return usage();
		values[count++] = apart ? argv[i] : argv[i] + length + 1;
	}
	int root = state_open_root(STDIN_FILENO);
	if (root < 0)
		return 1;
	return command->run(root, values, count) < 0;
}

/* Each step bounds its own work for an image. This limit holds where a step has no bound. */
static void bound_work(void)
{
	const struct rlimit seconds = {CPU_SECONDS_MAX, CPU_SECONDS_MAX};
	setrlimit(RLIMIT_CPU, &seconds);
}

int main(int argc, char **argv)
{
	bound_work();
	for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(argv[1], commands[i].name))
			return run(&commands[i], argc - 2, argv + 2);
	return usage();
}
