#include "mps/mps_remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/socket.h"

enum { FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

/* The folder `name` of `parent`; NULL when it is none. Closing it closes its descriptor. */
static DIR *open_folder(int parent, const char *name)
{
	int fd = openat(parent, name, FOLDER);
	DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
	if (fd >= 0 && !folder)
		close(fd);
	return folder;
}

/* The content of a folder of pipes, logs or shared memory: files only, since MPS makes nothing else there. */
static void remove_files(int parent, const char *name)
{
	DIR *folder = open_folder(parent, name);
	if (!folder)
		return;
	for (struct dirent *entry; (entry = readdir(folder));)
		(void)!unlinkat(dirfd(folder), entry->d_name, 0);
	closedir(folder);
	(void)!unlinkat(parent, name, AT_REMOVEDIR);
}

static bool is_device(const char *name)
{
	return strncmp(name, "GPU-", 4) == 0 || strncmp(name, "MIG-", 4) == 0;
}

/* Whether any process listens at the folder's control socket. */
static bool is_in_use(const char *root, const char *name)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s/pipe/control", root, name);
	int failed = gs_socket_try(path, SOCK_SEQPACKET);
	return !failed || failed == EPROTOTYPE;
}

static int remove_device(DIR *root, const char *path, const char *name, struct gs_error *err)
{
	static const char *const parts[] = {"pipe", "log"};
	DIR *folder = open_folder(dirfd(root), name);
	if (!folder)
		return gs_fail_errno(err, "cannot look into %s/%s", path, name);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(parts); i++)
		remove_files(dirfd(folder), parts[i]);
	closedir(folder);
	if (unlinkat(dirfd(root), name, AT_REMOVEDIR) < 0)
		return gs_fail_errno(err, "cannot remove %s/%s", path, name);
	return 0;
}

int gs_mps_remove_folders(const char *root, size_t *removed, struct gs_error *err)
{
	struct gs_error problem;
	int result = 0;
	bool others = false;
	*removed = 0;
	DIR *folder = open_folder(AT_FDCWD, root);
	if (!folder)
		return errno == ENOENT ? 0 : gs_fail_errno(err, "cannot look into %s", root);
	/* A node daemon with another state directory may have the root: then the files are its own. */
	GS_AUTO_CLOSE int lock = gs_try_lock_directory(root, &problem);
	if (lock < 0) {
		closedir(folder);
		return problem.code == EWOULDBLOCK ? 0 : gs_fail(err, problem.source, problem.code, "%s", problem.text);
	}
	for (struct dirent *entry; (entry = readdir(folder));) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    strcmp(entry->d_name, "shm") == 0)
			continue;
		others |= !is_device(entry->d_name) || is_in_use(root, entry->d_name);
		if (!is_device(entry->d_name) || is_in_use(root, entry->d_name))
			continue;
		if (remove_device(folder, root, entry->d_name, &problem) == 0)
			++*removed;
		else if (result == 0)
			*err = problem, result = -1;
	}
	/* If another MPS runs, the shared files may be its own. */
	if (!others)
		remove_files(dirfd(folder), "shm");
	closedir(folder);
	(void)!rmdir(root); /* as a pod's mount it stays */
	return result;
}
