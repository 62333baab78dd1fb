/* Whole files: bounded reads, and writes that leave either the old content or the new. */
#ifndef GPUSHARE_BASE_FILE_H
#define GPUSHARE_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* The content with a NUL behind it (owned by the caller), or NULL. More than `limit` bytes is an error; "-" is not
 * special. Files of unknown size (/proc, pipes, /dev/null) are read to their end. */
char *gs_read_file(const char *path, size_t limit, size_t *length, struct gs_error *err);
/* The same for what may be read more than once, and never waits: a pipe is an error. */
char *gs_read_file_again(const char *path, size_t limit, size_t *length, struct gs_error *err);
/* The same for a file that only this program writes, in a folder that others may reach: it must be a regular file that belongs
 * to root or to this user. A link is not followed, and a pipe, a socket or a device never waits: each is an error. */
char *gs_read_own_file(const char *path, size_t limit, size_t *length, struct gs_error *err);

/* Writes PATH.tmp-<pid>, syncs, renames over PATH and syncs the directory. On failure PATH is as it was and nothing
 * is left behind. The mode is `mode` whatever the umask is. A link with either name is replaced and not followed. */
int gs_write_file(const char *path, const void *bytes, size_t length, mode_t mode, struct gs_error *err);

/* Makes a directory and its parents, each with `mode` when new, whatever the umask is. */
int gs_make_directories(const char *path, mode_t mode, struct gs_error *err);
/* The first directory on the way to `path`, or `path` itself, that users other than its owner and group cannot enter; owned by
 * the caller. NULL: they can enter all of them, or one of them is not there. Links are followed. */
char *gs_find_closed_directory(const char *path);

/* Puts a file that can't be used under another name, PATH.corrupt, or PATH.corrupt.2 to .9 where there is one already,
 * so that a person can look at it and no later writer trips over it. `err` (what is wrong with it) then begins with
 * where it is, or with why it is still there. False in that case. */
bool gs_set_aside(const char *path, struct gs_error *err);

/* Removes what writers of these files that were killed left in a folder: NAME.tmp-<pid>, where no such process lives. `names`
 * ends with NULL. How many there were. */
size_t gs_remove_unfinished(const char *folder, const char *const *names);

/* Locks a directory: no file to leave behind, and the lock dies with its holder. A holder that ends now may keep it for
 * a moment longer (a child that was forked and has not run its program yet), so this waits for up to a second. The
 * descriptor that holds the lock, or -1. err->code is EWOULDBLOCK when another process holds it. */
int gs_lock_directory(const char *path, struct gs_error *err);
/* The same without a wait. */
int gs_try_lock_directory(const char *path, struct gs_error *err);

#endif
