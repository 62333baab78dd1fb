#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void gs_strbuf_reserve(struct gs_strbuf *buffer, size_t extra)
{
	size_t needed = buffer->length + extra + 1;
	if (needed <= buffer->capacity)
		return;
	size_t capacity = buffer->capacity ? buffer->capacity : 64;
	while (capacity < needed)
		capacity *= 2;
	buffer->data = gs_reallocarray(buffer->data, capacity, 1);
	buffer->capacity = capacity;
}

void gs_strbuf_add_bytes(struct gs_strbuf *buffer, const void *bytes, size_t length)
{
	gs_strbuf_reserve(buffer, length);
	if (length)
		memcpy(buffer->data + buffer->length, bytes, length);
	buffer->length += length;
	buffer->data[buffer->length] = '\0';
}

void gs_strbuf_add(struct gs_strbuf *buffer, const char *text)
{
	gs_strbuf_add_bytes(buffer, text, strlen(text));
}

void gs_strbuf_add_char(struct gs_strbuf *buffer, char character)
{
	gs_strbuf_add_bytes(buffer, &character, 1);
}

void gs_strbuf_vprintf(struct gs_strbuf *buffer, const char *format, va_list args)
{
	va_list again;
	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (length < 0)
		return;
	gs_strbuf_reserve(buffer, (size_t)length);
	vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, args);
	buffer->length += (size_t)length;
}

void gs_strbuf_printf(struct gs_strbuf *buffer, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	gs_strbuf_vprintf(buffer, format, args);
	va_end(args);
}

char *gs_strbuf_take(struct gs_strbuf *buffer)
{
	gs_strbuf_reserve(buffer, 0);
	buffer->data[buffer->length] = '\0';
	char *text = buffer->data;
	*buffer = (struct gs_strbuf){0};
	return text;
}

void gs_strbuf_free(struct gs_strbuf *buffer)
{
	free(buffer->data);
	*buffer = (struct gs_strbuf){0};
}
