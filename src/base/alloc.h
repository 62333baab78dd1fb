/* Allocation for a program that cannot go on without memory: the process says so and aborts.
 * Everything that a peer can grow is bounded before it gets here, so these are small by design. */
#ifndef GPUSHARE_BASE_ALLOC_H
#define GPUSHARE_BASE_ALLOC_H

#include <stdarg.h>
#include <stddef.h>

void *gs_malloc(size_t size) __attribute__((malloc, returns_nonnull));
void *gs_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
/* Overflow of count * size aborts as well. The old block is freed or moved. */
void *gs_reallocarray(void *block, size_t count, size_t size) __attribute__((returns_nonnull));
char *gs_strdup(const char *text) __attribute__((malloc, returns_nonnull));
char *gs_strndup(const char *text, size_t length) __attribute__((malloc, returns_nonnull));
char *gs_printf(const char *format, ...) __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));
char *gs_vprintf(const char *format, va_list arguments) __attribute__((malloc, returns_nonnull, format(printf, 1, 0)));

#endif
