/* A string that grows. Always NUL-terminated once anything was added. */
#ifndef GPUSHARE_BASE_STRBUF_H
#define GPUSHARE_BASE_STRBUF_H

#include <stdarg.h>
#include <stddef.h>

struct gs_strbuf {
	char *data;
	size_t length;
	size_t capacity;
};

/* Room for so many bytes more, where it is known that they will come. */
void gs_strbuf_reserve(struct gs_strbuf *buffer, size_t extra);
void gs_strbuf_add(struct gs_strbuf *buffer, const char *text);
void gs_strbuf_add_bytes(struct gs_strbuf *buffer, const void *bytes, size_t length);
void gs_strbuf_add_char(struct gs_strbuf *buffer, char character);
void gs_strbuf_printf(struct gs_strbuf *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gs_strbuf_vprintf(struct gs_strbuf *buffer, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));
/* The text (never NULL), owned by the caller; the buffer is empty afterwards. */
char *gs_strbuf_take(struct gs_strbuf *buffer);
void gs_strbuf_free(struct gs_strbuf *buffer);

#define GS_AUTO_STRBUF __attribute__((cleanup(gs_strbuf_free)))

#endif
