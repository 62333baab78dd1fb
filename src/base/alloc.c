#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *check(void *block)
{
	if (!block) {
		fputs("gpushare: out of memory\n", stderr);
		abort();
	}
	return block;
}

void *gs_malloc(size_t size)
{
	return check(malloc(size ? size : 1));
}

void *gs_calloc(size_t count, size_t size)
{
	return check(calloc(count ? count : 1, size ? size : 1));
}

void *gs_reallocarray(void *block, size_t count, size_t size)
{
	if (size && count > SIZE_MAX / size)
		return check(NULL);
	size_t total = count * size;
	return check(realloc(block, total ? total : 1));
}

char *gs_strdup(const char *text)
{
	return check(strdup(text));
}

char *gs_strndup(const char *text, size_t length)
{
	return check(strndup(text, length));
}

char *gs_vprintf(const char *format, va_list arguments)
{
	char *text;
	return check(vasprintf(&text, format, arguments) < 0 ? NULL : text);
}

char *gs_printf(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	char *text = gs_vprintf(format, arguments);
	va_end(arguments);
	return text;
}
