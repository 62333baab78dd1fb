/* Metrics as text, in the Prometheus exposition format 0.0.4
 * (prometheus.io/docs/instrumenting/exposition_formats). */
#ifndef GPUSHARE_TELEMETRY_EXPOSITION_H
#define GPUSHARE_TELEMETRY_EXPOSITION_H

#include "base/strbuf.h"

#define GS_EXPOSITION_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum gs_metric_type { GS_GAUGE, GS_COUNTER };

/* A metric's name, with its unit and, of a counter, _total; `help` is one sentence. */
struct gs_metric {
	const char *name;
	enum gs_metric_type type;
	const char *help;
};

/* Names and values in turn, ended by NULL; a value may be any text. */
typedef const char *const *gs_metric_labels;

/* Begins a metric: its samples must follow it at once. */
void gs_exposition_begin(struct gs_strbuf *out, const struct gs_metric *metric);
/* One sample; `labels` NULL: none. */
void gs_exposition_add(struct gs_strbuf *out, const struct gs_metric *metric, gs_metric_labels labels, double value);

#endif
