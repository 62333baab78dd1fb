#include "hook/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int root_open(int root, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

int root_open_regular(int at)
{
	struct stat about;
	char path[64];
	int fd = -1;
	if (at < 0 || fstat(at, &about) < 0)
		about.st_mode = 0;
	else if (!S_ISREG(about.st_mode))
		errno = EINVAL;
	if (S_ISREG(about.st_mode)) {
		/* By its descriptor, so that no other file can take its place in between. */
		snprintf(path, sizeof path, "/proc/self/fd/%d", at);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	int error = errno;
	if (at >= 0)
		close(at);
	errno = error;
	return fd;
}

/* The folder, made with its parents where it is missing; a descriptor. */
static int root_open_folder(int root, const char *path)
{
	char part[PATH_MAX];
	size_t length = strlen(path);
	int fd = root_open(root, ".", O_RDONLY | O_DIRECTORY);
	if (length >= sizeof part) {
		errno = ENAMETOOLONG;
		length = 0;
	}
	for (size_t end = 0; fd >= 0 && end < length;) {
		size_t begin = end + strspn(path + end, "/");
		end = begin + strcspn(path + begin, "/");
		if (begin == end)
			break;
		snprintf(part, sizeof part, "%.*s", (int)end, path);
		int next = root_open(root, part, O_RDONLY | O_DIRECTORY);
		if (next < 0 && errno == ENOENT) {
			snprintf(part, sizeof part, "%.*s", (int)(end - begin), path + begin);
			if (mkdirat(fd, part, 0755) == 0 || errno == EEXIST)
				next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		}
		int error = errno;
		close(fd);
		errno = error;
		fd = next;
	}
	return fd;
}

int root_link(int root, const char *path, const char *target)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX];
	snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 0, path);
	const char *name = slash ? slash + 1 : path;
	int fd = root_open_folder(root, folder);
	if (fd < 0)
		return -1;
	int result = symlinkat(target, fd, name);
	if (result < 0 && errno == EEXIST) {
		result = unlinkat(fd, name, 0);
		if (result == 0)
			result = symlinkat(target, fd, name);
	}
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static int write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t written = write(fd, data, size);
		if (written < 0 && errno != EINTR)
			return -1;
		data += written > 0 ? written : 0;
		size -= written > 0 ? (size_t)written : 0;
	}
	return 0;
}

int root_write(int root, const char *folder, const char *name, const void *data, size_t size)
{
	char temporary[NAME_MAX + 1];
	int at = root_open_folder(root, folder);
	if (at < 0)
		return -1;
	snprintf(temporary, sizeof temporary, ".%s.gpushare", name);
	unlinkat(at, temporary, 0);
	int fd = openat(at, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	bool written = fd >= 0 && write_all(fd, data, size) == 0 && fchmod(fd, 0644) == 0;
	int result = written && renameat(at, temporary, at, name) == 0 ? 0 : -1;
	int error = errno;
	if (fd >= 0)
		close(fd);
	if (result < 0)
		unlinkat(at, temporary, 0);
	close(at);
	errno = error;
	return result;
}

char *read_whole(int fd, size_t limit, size_t *size)
{
	char *data = NULL;
	size_t room = 0;
	for (*size = 0;;) {
		if (*size + 1 >= room) {
			room = room ? room * 2 : 4096;
			char *larger = realloc(data, room);
			if (!larger)
				break;
			data = larger;
		}
		ssize_t n = read(fd, data + *size, room - *size - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0) {
			data[*size] = '\0';
			return data;
		}
		if (n < 0)
			break;
		*size += (size_t)n;
		if (*size > limit) {
			errno = EFBIG;
			break;
		}
	}
	int error = errno;
	free(data);
	errno = error;
	return NULL;
}
