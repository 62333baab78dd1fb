/* Files of a container, reached so that no link of its image leads out of its root. */
#ifndef GPUSHARE_HOOK_ROOT_H
#define GPUSHARE_HOOK_ROOT_H

#include <stddef.h>
#include <sys/types.h>

/* All return -1 with errno set when they fail. `path` counts from the root. */
int root_open(int root, const char *path, int flags);
/* Opens for reading what an O_PATH descriptor stands for, if it is a regular file (errno EINVAL: it is not). A FIFO or a
 * device of an image is never opened for real: that alone can block, or make a device act. Takes over `at`. */
int root_open_regular(int at);
/* Makes the link, in place of any other file that is there. */
int root_link(int root, const char *path, const char *target);
/* Writes a new file and renames it, so that there is the old content or the new. */
int root_write(int root, const char *folder, const char *name, const void *data, size_t size);
/* The whole file, with a NUL behind it, owned by the caller; NULL (errno EFBIG when it is larger than `limit`). */
char *read_whole(int fd, size_t limit, size_t *size);

#endif
