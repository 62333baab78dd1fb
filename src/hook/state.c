#include "hook/state.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hook/root.h"

enum {
	STATE_BYTES_MAX = 1024 * 1024,
	SPEC_BYTES_MAX = 16 * 1024 * 1024,
};

int complain(const char *what, const char *which)
{
	fprintf(stderr, "gpushare-cdi-hook: %s %s: %s\n", what, which, strerror(errno));
	return -1;
}

char *state_member(const char *text, size_t size, const char *object, const char *name)
{
	json_t *root = json_loadb(text, size, 0, NULL);
	const char *value = json_string_value(json_object_get(object ? json_object_get(root, object) : root, name));
	char *copy = value ? strdup(value) : NULL;
	if (!value)
		errno = EINVAL;
	json_decref(root);
	return copy;
}

static char *read_member(int fd, size_t limit, const char *object, const char *name)
{
	size_t size;
	char *text = read_whole(fd, limit, &size);
	char *value = text ? state_member(text, size, object, name) : NULL;
	int error = errno;
	free(text);
	errno = error;
	return value;
}

/* "A/B", or B if it is absolute; false when that is longer than a path. */
static bool join(char path[PATH_MAX], const char *folder, const char *name)
{
	bool absolute = *name == '/';
	int length = snprintf(path, PATH_MAX, "%s%s%s", absolute ? "" : folder, absolute ? "" : "/", name);
	if (length < PATH_MAX)
		return true;
	errno = ENAMETOOLONG;
	return false;
}

/* The root that the bundle's config.json names. */
static int open_bundle(const char *bundle)
{
	char path[PATH_MAX];
	int fd = join(path, bundle, "config.json") ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	char *root = fd < 0 ? NULL : read_member(fd, SPEC_BYTES_MAX, "root", "path");
	if (!root)
		complain("cannot find the container's root in", path);
	if (fd >= 0)
		close(fd);
	if (!root)
		return -1;
	fd = join(path, bundle, root) ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0)
		complain("cannot open the container's root", path);
	free(root);
	return fd;
}

int state_open_root(int fd)
{
	char *bundle = read_member(fd, STATE_BYTES_MAX, NULL, "bundle");
	if (!bundle)
		return complain("cannot read the container's state from", "standard input");
	int root = open_bundle(bundle);
	free(bundle);
	return root;
}
