#include "core/diagnostic.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "base/vec.h"

size_t gs_utf8_length(const char *text, size_t available)
{
	const unsigned char *byte = (const unsigned char *)text;
	if (!available)
		return 0;
	if (byte[0] < 0x80)
		return 1;
	size_t length = byte[0] >= 0xF0 ? 4 : byte[0] >= 0xE0 ? 3 : 2;
	if (byte[0] < 0xC2 || byte[0] > 0xF4 || available < length)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((byte[i] & 0xC0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and what lies above U+10FFFF. */
	if ((byte[0] == 0xE0 && byte[1] < 0xA0) || (byte[0] == 0xED && byte[1] > 0x9F) ||
	    (byte[0] == 0xF0 && byte[1] < 0x90) || (byte[0] == 0xF4 && byte[1] > 0x8F))
		return 0;
	return length;
}

static void make_printable(char *text)
{
	size_t available = strlen(text);
	while (available) {
		size_t length = gs_utf8_length(text, available);
		unsigned char lead = (unsigned char)text[0], next = (unsigned char)text[1];
		/* U+0080..U+009F are controls too. */
		if (length == 0 || lead < 0x20 || lead == 0x7f || (length == 2 && lead == 0xC2 && next < 0xA0)) {
			memset(text, '?', length ? length : 1);
			length = length ? length : 1;
		}
		text += length;
		available -= length;
	}
}

void gs_diagnostics_add(struct gs_diagnostics *diags, bool warning, const char *name, int line, int column,
			const char *format, ...)
{
	if (!warning)
		diags->error_count++;
	if (diags->count >= GS_DIAGNOSTICS_MAX) {
		diags->omitted++;
		return;
	}
	struct gs_strbuf text = {0};
	gs_strbuf_add(&text, name);
	if (line > 0)
		gs_strbuf_printf(&text, ":%d:%d", line, column);
	gs_strbuf_add(&text, warning ? ": warning: " : ": ");
	size_t start = text.length;
	va_list args;
	va_start(args, format);
	gs_strbuf_vprintf(&text, format, args);
	va_end(args);
	char *whole = gs_strbuf_take(&text);
	make_printable(whole);
	*GS_VEC_PUSH(diags) = (struct gs_diagnostic){
		.line = line, .column = column, .warning = warning, .text = whole, .message = whole + start};
}

static bool comes_before(const struct gs_diagnostic *a, const struct gs_diagnostic *b)
{
	if ((a->line == 0) != (b->line == 0))
		return b->line == 0;
	return a->line != b->line ? a->line < b->line : a->column < b->column;
}

void gs_diagnostics_sort(struct gs_diagnostics *diags)
{
	for (size_t i = 1; i < diags->count; i++) {
		struct gs_diagnostic item = diags->items[i];
		size_t at = i;
		for (; at > 0 && comes_before(&item, &diags->items[at - 1]); at--)
			diags->items[at] = diags->items[at - 1];
		diags->items[at] = item;
	}
}

void gs_diagnostics_free(struct gs_diagnostics *diags)
{
	for (size_t i = 0; i < diags->count; i++)
		free(diags->items[i].text);
	GS_VEC_FREE(diags);
	*diags = (struct gs_diagnostics){0};
}
