/* Scope-bound cleanup for gcc and clang, and one way to hand ownership on. */
#ifndef GPUSHARE_BASE_CLEANUP_H
#define GPUSHARE_BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define GS_CLEANUP(function) __attribute__((cleanup(function)))

static inline void gs_cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

static inline void gs_cleanup_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

static inline void gs_cleanup_fclose(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define GS_AUTO_FREE   GS_CLEANUP(gs_cleanup_free)
#define GS_AUTO_CLOSE  GS_CLEANUP(gs_cleanup_close)
#define GS_AUTO_FCLOSE GS_CLEANUP(gs_cleanup_fclose)

/* The pointer's value; the variable is NULL afterwards, so its cleanup does nothing. */
#define GS_STEAL(pointer)                                 \
	__extension__({                                   \
		__typeof__(pointer) gs_taken = (pointer); \
		(pointer) = NULL;                         \
		gs_taken;                                 \
	})

#define GS_ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#endif
