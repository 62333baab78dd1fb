#include "core/config/diagnostic.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/strbuf.h"
#include "base/utf8.h"
#include "base/vec.h"

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
	gs_utf8_make_plain(whole);
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
