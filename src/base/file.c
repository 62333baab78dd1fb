#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"

static char *read_all(int fd, const char *path, size_t limit, size_t *length, struct gs_error *err)
{
	GS_AUTO_STRBUF struct gs_strbuf content = {0};
	char block[16384];
	for (;;) {
		ssize_t got = read(fd, block, sizeof block);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			gs_fail_errno(err, "cannot read %s", path);
			return NULL;
		}
		if (got == 0)
			break;
		if (content.length + (size_t)got > limit) {
			gs_fail(err, GS_ERROR_LIMIT, EFBIG, "%s is larger than %zu bytes", path, limit);
			return NULL;
		}
		gs_strbuf_add_bytes(&content, block, (size_t)got);
	}
	*length = content.length;
	return gs_strbuf_take(&content);
}

char *gs_read_file(const char *path, size_t limit, size_t *length, struct gs_error *err)
{
	GS_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		gs_fail_errno(err, "cannot read %s", path);
		return NULL;
	}
	return read_all(fd, path, limit, length, err);
}

char *gs_read_file_again(const char *path, size_t limit, size_t *length, struct gs_error *err)
{
	struct stat about;
	GS_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &about) < 0) {
		gs_fail_errno(err, "cannot read %s", path);
		return NULL;
	}
	if (S_ISFIFO(about.st_mode) || S_ISSOCK(about.st_mode)) {
		gs_fail(err, GS_ERROR_INPUT, EINVAL, "%s is a pipe, which can be read only once; use a file", path);
		return NULL;
	}
	return read_all(fd, path, limit, length, err);
}

char *gs_read_own_file(const char *path, size_t limit, size_t *length, struct gs_error *err)
{
	struct stat about;
	GS_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0 && errno == ELOOP) {
		gs_fail(err, GS_ERROR_INPUT, ELOOP, "%s is a link and no file; remove it", path);
		return NULL;
	}
	if (fd < 0 || fstat(fd, &about) < 0) {
		gs_fail_errno(err, "cannot read %s", path);
		return NULL;
	}
	if (!S_ISREG(about.st_mode)) {
		gs_fail(err, GS_ERROR_INPUT, EINVAL, "%s is no regular file; remove it", path);
		return NULL;
	}
	if (about.st_uid != 0 && about.st_uid != geteuid()) {
		gs_fail(err, GS_ERROR_INPUT, EPERM,
			"%s belongs to user %u, and only root or user %u may write it; remove it", path, about.st_uid,
			geteuid());
		return NULL;
	}
	return read_all(fd, path, limit, length, err);
}

static int write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t put = write(fd, bytes, length);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -1;
		bytes += put;
		length -= (size_t)put;
	}
	return 0;
}

int gs_write_file(const char *path, const void *bytes, size_t length, mode_t mode, struct gs_error *err)
{
	GS_AUTO_FREE char *temporary = gs_printf("%s.tmp-%d", path, (int)getpid());
	unlink(temporary); /* left by a killed writer with this pid, or made by another program */
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return gs_fail_errno(err, "cannot write %s", path);
	int failed = fchmod(fd, mode) < 0 || write_all(fd, bytes, length) < 0 || fsync(fd) < 0;
	int saved = errno;
	if (close(fd) < 0 && !failed) {
		failed = 1;
		saved = errno;
	}
	if (!failed && rename(temporary, path) < 0) {
		failed = 1;
		saved = errno;
	}
	if (failed) {
		unlink(temporary);
		errno = saved;
		return gs_fail_errno(err, "cannot write %s", path);
	}
	/* The rename itself survives a power cut only when the directory is synced; some file systems refuse, which is
	 * no reason to call a written file unwritten. */
	GS_AUTO_FREE char *copy = gs_strdup(path);
	GS_AUTO_CLOSE int directory = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory >= 0)
		(void)!fsync(directory);
	return 0;
}

int gs_make_directories(const char *path, mode_t mode, struct gs_error *err)
{
	GS_AUTO_FREE char *partial = gs_strdup(path);
	for (char *slash = partial + 1;; slash++) {
		if (*slash != '/' && *slash != '\0')
			continue;
		char kept = *slash;
		*slash = '\0';
		bool made = mkdir(partial, mode) == 0;
		if (!made && errno != EEXIST)
			return gs_fail_errno(err, "cannot make the directory %s", partial);
		if (made && chmod(partial, mode) < 0) /* mkdir takes the umask's bits away */
			return gs_fail_errno(err, "cannot set the mode of the directory %s", partial);
		if (kept == '\0')
			break;
		*slash = kept;
	}
	struct stat status;
	if (stat(path, &status) < 0)
		return gs_fail_errno(err, "cannot use the directory %s", path);
	if (!S_ISDIR(status.st_mode)) {
		errno = ENOTDIR;
		return gs_fail_errno(err, "cannot use the directory %s", path);
	}
	return 0;
}

char *gs_find_closed_directory(const char *path)
{
	GS_AUTO_FREE char *partial = gs_strdup(path);
	struct stat status;
	for (char *slash = partial + 1;; slash++) {
		if (*slash != '/' && *slash != '\0')
			continue;
		char kept = *slash;
		*slash = '\0';
		if (stat(partial, &status) < 0)
			return NULL;
		if (!(status.st_mode & S_IXOTH))
			return gs_strdup(partial);
		if (kept == '\0')
			return NULL;
		*slash = kept;
	}
}

int gs_try_lock_directory(const char *path, struct gs_error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return gs_fail_errno(err, "cannot open the directory %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	gs_fail_errno(err, "cannot lock the directory %s", path);
	close(fd);
	return -1;
}

bool gs_set_aside(const char *path, struct gs_error *err)
{
	enum { LAST = 9 };
	for (int i = 1; i <= LAST; i++) {
		GS_AUTO_FREE char *aside = i == 1 ? gs_printf("%s.corrupt", path) : gs_printf("%s.corrupt.%d", path, i);
		/* The last one gives way: some process that breaks the file again and again must not fill the disk. */
		struct stat about;
		if (i < LAST && lstat(aside, &about) == 0)
			continue;
		if (rename(path, aside) == 0) {
			gs_error_prefix(err, "moved to %s", aside);
			return true;
		}
		break;
	}
	gs_error_prefix(err, "it can't be put aside (%s)", strerror(errno));
	return false;
}

/* Whether it is the unfinished file of a process that is gone. One that was begun by this process's number is by an earlier
 * one: in a container it is always the same. */
static bool is_unfinished(const char *name, const char *of)
{
	static const char between[] = ".tmp-";
	size_t length = strlen(of);
	char *end;
	if (strncmp(name, of, length) != 0 || strncmp(name + length, between, sizeof between - 1) != 0)
		return false;
	long pid = strtol(name + length + sizeof between - 1, &end, 10);
	if (*end || pid <= 0 || pid > INT_MAX)
		return false;
	return (pid_t)pid == getpid() || (kill((pid_t)pid, 0) < 0 && errno == ESRCH);
}

size_t gs_remove_unfinished(const char *folder, const char *const *names)
{
	size_t removed = 0;
	DIR *dir = opendir(folder);
	if (!dir)
		return 0;
	for (struct dirent *entry; (entry = readdir(dir));)
		for (size_t i = 0; names[i]; i++)
			if (is_unfinished(entry->d_name, names[i]))
				removed += unlinkat(dirfd(dir), entry->d_name, 0) == 0;
	closedir(dir);
	return removed;
}

int gs_lock_directory(const char *path, struct gs_error *err)
{
	enum { ATTEMPTS = 50, PAUSE_NS = 20000000 };
	int fd = gs_try_lock_directory(path, err);
	for (int attempt = 1; fd < 0 && err->code == EWOULDBLOCK && attempt < ATTEMPTS; attempt++) {
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
		fd = gs_try_lock_directory(path, err);
	}
	return fd;
}
