#include "telemetry/exposition.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"

/* In help a quote is plain, in a label's value it is not. Bytes that are no UTF-8 would spoil the whole page. */
static void add_escaped(struct gs_strbuf *out, const char *text, const char *quote)
{
	for (size_t left = strlen(text), length; left > 0; text += length, left -= length) {
		length = gs_utf8_length(text, left);
		if (*text == '\\')
			gs_strbuf_add(out, "\\\\");
		else if (*text == '\n')
			gs_strbuf_add(out, "\\n");
		else if (*text == '"')
			gs_strbuf_add(out, quote);
		else if (length)
			gs_strbuf_add_bytes(out, text, length);
		else
			gs_strbuf_add(out, "\xef\xbf\xbd"); /* U+FFFD */
		if (!length)
			length = 1;
	}
}

void gs_exposition_begin(struct gs_strbuf *out, const struct gs_metric *metric)
{
	gs_strbuf_printf(out, "# HELP %s ", metric->name);
	add_escaped(out, metric->help, "\"");
	gs_strbuf_printf(out, "\n# TYPE %s %s\n", metric->name, metric->type == GS_COUNTER ? "counter" : "gauge");
}

static void add_value(struct gs_strbuf *out, double value)
{
	if (isnan(value))
		gs_strbuf_add(out, "NaN");
	else if (isinf(value))
		gs_strbuf_add(out, value > 0 ? "+Inf" : "-Inf");
	else
		gs_strbuf_printf(out, "%.15g", value);
}

void gs_exposition_add(struct gs_strbuf *out, const struct gs_metric *metric, gs_metric_labels labels, double value)
{
	gs_strbuf_add(out, metric->name);
	for (size_t i = 0; labels && labels[i]; i += 2) {
		gs_strbuf_printf(out, "%s%s=\"", i ? "," : "{", labels[i]);
		add_escaped(out, labels[i + 1], "\\\"");
		gs_strbuf_add_char(out, '"');
	}
	gs_strbuf_add(out, labels && labels[0] ? "} " : " ");
	add_value(out, value);
	gs_strbuf_add_char(out, '\n');
}
