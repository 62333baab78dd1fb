#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Cuts a UTF-8 string that filled its buffer back to the last whole character. */
static void trim_partial_utf8(char *text, size_t capacity)
{
	size_t length = strlen(text);
	if (length + 1 < capacity)
		return;
	size_t start = length;
	while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
		start--;
	if (start == 0)
		return;
	unsigned char lead = (unsigned char)text[start - 1];
	size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
	if (length - (start - 1) < need)
		text[start - 1] = '\0';
}

__attribute__((format(printf, 4, 0))) static void fill(struct gs_error *err, enum gs_error_source source, int code,
						       const char *format, va_list args)
{
	err->source = source;
	err->code = code;
	vsnprintf(err->text, sizeof err->text, format, args);
	trim_partial_utf8(err->text, sizeof err->text);
}

int gs_fail(struct gs_error *err, enum gs_error_source source, int code, const char *format, ...)
{
	if (err) {
		va_list args;
		va_start(args, format);
		fill(err, source, code, format, args);
		va_end(args);
	}
	return -1;
}

int gs_fail_errno(struct gs_error *err, const char *format, ...)
{
	int saved = errno;
	if (err) {
		va_list args;
		va_start(args, format);
		fill(err, GS_ERROR_SYSTEM, saved, format, args);
		va_end(args);
		size_t used = strlen(err->text);
		snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(saved));
		trim_partial_utf8(err->text, sizeof err->text);
	}
	errno = saved;
	return -1;
}

int gs_error_prefix(struct gs_error *err, const char *format, ...)
{
	if (err) {
		char text[sizeof err->text];
		va_list args;
		va_start(args, format);
		vsnprintf(text, sizeof text, format, args);
		va_end(args);
		size_t used = strlen(text);
		snprintf(text + used, sizeof text - used, ": %s", err->text);
		trim_partial_utf8(text, sizeof text);
		memcpy(err->text, text, sizeof text);
	}
	return -1;
}
