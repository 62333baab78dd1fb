/* The dynamic loader's cache, /etc/ld.so.cache, in the format "glibc-ld.so.cache1.1" that every glibc since 2.2 reads
 * (glibc, sysdeps/generic/dl-cache.h). */
#ifndef GPUSHARE_HOOK_LDCACHE_H
#define GPUSHARE_HOOK_LDCACHE_H

#include <stdbool.h>
#include <stddef.h>

enum { LDCACHE_ENTRIES_MAX = 32768 };

struct ldcache_library {
	const char *name; /* "libcuda.so.1" */
	const char *path; /* "/usr/lib/x86_64-linux-gnu/libcuda.so.1" */
};

/* A cache that has what the old one has (NULL: nothing) and these libraries, which must be of this machine's own kind;
 * where both name one, the new path counts. Owned by the caller. NULL when the old one is not a whole cache of this
 * byte order, is larger than any image needs (LDCACHE_ENTRIES_MAX, names of NAME_MAX, paths of PATH_MAX), or there is no
 * memory. The work is bounded by what these limits allow, whatever the old one holds: entries may share their texts. */
void *ldcache_add(const void *old, size_t old_size, const struct ldcache_library *libraries, size_t count,
		  size_t *size);

/* Whether a file that begins with these bytes is a shared library that this machine's own programs can load. */
bool ldcache_is_library(const void *head, size_t size);

#endif
