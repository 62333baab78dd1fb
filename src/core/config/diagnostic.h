/* Findings about a user's text, with their place: collected, so that all of them can be shown at once. */
#ifndef GPUSHARE_CORE_DIAGNOSTIC_H
#define GPUSHARE_CORE_DIAGNOSTIC_H

#include <stdbool.h>
#include <stddef.h>

enum { GS_DIAGNOSTICS_MAX = 100 };

struct gs_diagnostic {
	int line, column;    /* from 1; 0: no place in a file */
	bool warning;        /* else an error */
	char *text;          /* the whole line, printable as it is: "config.yaml:3:5: what is wrong; how to fix it" */
	const char *message; /* the part of `text` after the place */
};

/* Start with {0}. At most GS_DIAGNOSTICS_MAX items are kept; `omitted` counts the rest. */
struct gs_diagnostics {
	struct gs_diagnostic *items;
	size_t count, capacity;
	size_t error_count; /* omitted ones included */
	size_t omitted;
};

/* `name` is the file, or whatever the user can find the text by. Control characters and broken UTF-8 in the message are
 * replaced by '?', so that a peer's text cannot control a terminal. */
void gs_diagnostics_add(struct gs_diagnostics *diags, bool warning, const char *name, int line, int column,
			const char *format, ...) __attribute__((format(printf, 6, 7)));
/* By line and column; those without a place last. */
void gs_diagnostics_sort(struct gs_diagnostics *diags);
void gs_diagnostics_free(struct gs_diagnostics *diags);

#endif
