/* The input of a hook from the container runtime: the container's state, and the bundle that it names (OCI runtime
 * specification). */
#ifndef GPUSHARE_HOOK_STATE_H
#define GPUSHARE_HOOK_STATE_H

#include <stddef.h>

/* A text member of a JSON object, or of the object `object` in it; owned by the caller. NULL when the text is no JSON (errno
 * EINVAL) or has no such member. */
char *state_member(const char *text, size_t size, const char *object, const char *name);

/* The root of the container whose state is read from `fd`; a descriptor, or -1 after an error on standard error. */
int state_open_root(int fd);

/* Says on standard error what failed, with errno; returns -1. */
int complain(const char *what, const char *which);

#endif
