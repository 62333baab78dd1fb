/* Which process a client is, as the asking process numbers it: a driver in the kernel tells each asker the number that
 * a process has in the asker's PID namespace, while a process knows only its own. DIR/pids has a byte for each client,
 * which its process locks with a lock of the kind that belongs to a process; the kernel tells an asker the holder's
 * number as it is there.
 *
 * Such locks go when the process closes any descriptor of the file, so a descriptor is opened once and never closed. */
#include "sim/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"

struct opened {
	dev_t device;
	ino_t inode;
	int fd;
};

static struct {
	pthread_mutex_t lock;
	GS_VEC(struct opened) files;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int open_once(const char *path)
{
	struct stat info;
	if (lstat(path, &info) < 0 || !S_ISREG(info.st_mode))
		return -1;
	for (size_t i = 0; i < cache.files.count; i++)
		if (cache.files.items[i].device == info.st_dev && cache.files.items[i].inode == info.st_ino)
			return cache.files.items[i].fd;
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat opened;
	if (fd < 0)
		return -1;
	/* Another file by now: it stands under its own name. */
	if (fstat(fd, &opened) < 0)
		opened = info;
	*GS_VEC_PUSH(&cache.files) = (struct opened){opened.st_dev, opened.st_ino, fd};
	return fd;
}

static int pids_fd(const struct sim_node *node)
{
	GS_AUTO_FREE char *path = gs_printf("%s/pids", node->dir);
	pthread_mutex_lock(&cache.lock);
	int fd = open_once(path);
	pthread_mutex_unlock(&cache.lock);
	return fd;
}

static void lock_slot(const struct sim_node *node, int slot, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
	int fd = pids_fd(node);
	if (fd >= 0)
		fcntl(fd, F_SETLK, &lock);
}

void sim_pid_take(const struct sim_node *node, int slot)
{
	lock_slot(node, slot, F_WRLCK);
}

void sim_pid_drop(const struct sim_node *node, int slot)
{
	lock_slot(node, slot, F_UNLCK);
}

int32_t sim_pid_of(const struct sim_node *node, int slot)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
	int fd = pids_fd(node);
	bool told = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0;
	return told ? (int32_t)lock.l_pid : node->state->clients[slot].pid;
}

int sim_pids_create(int dir_fd, const char *dir, struct gs_error *err)
{
	/* The file is new: processes of an earlier node may still hold locks in the old one. */
	if (unlinkat(dir_fd, "pids", 0) < 0 && errno != ENOENT)
		return gs_fail_errno(err, "cannot replace %s/pids", dir);
	if (mknodat(dir_fd, "pids", S_IFREG | 0600, 0) < 0)
		return gs_fail_errno(err, "cannot create %s/pids", dir);
	return 0;
}
