/* The texts that an API server sends: a watch's lines and their events, error statuses. No I/O; any bytes are
 * survived. */
#ifndef GPUSHARE_KUBE_API_TEXT_H
#define GPUSHARE_KUBE_API_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* etcd holds objects up to 1.5 MiB; JSON of one with its frame is not much more. */
enum { API_LINE_BYTES_MAX = 4 << 20 };

/* Bytes as they arrive, lines as they are complete. */
struct api_lines {
	char *data;
	size_t start, length, capacity; /* the bytes not yet taken are [start, length) */
	size_t scanned;                 /* no end of line before */
};

/* -1 when a line gets longer than API_LINE_BYTES_MAX, or as much is waiting. */
int api_lines_add(struct api_lines *lines, const void *bytes, size_t length);
/* The next complete line without its end, NUL-terminated in place and valid until the next call; NULL when there is
 * none. Empty lines are passed over. */
char *api_lines_next(struct api_lines *lines, size_t *length);
/* Drops the collected text. */
void api_lines_free(struct api_lines *lines);

enum api_event_type { API_ADDED, API_MODIFIED, API_DELETED, API_BOOKMARK, API_ERROR };

struct api_event {
	enum api_event_type type;
	json_t *object;               /* owned; free with api_event_free */
	const char *resource_version; /* in the object; NULL for errors */
	int code;                     /* API_ERROR: HTTP status, 0 when it does not say */
	const char *message;          /* API_ERROR: never NULL */
};

/* A line of a watch. -1 when it is not a watch event, or lacks what its type must have. */
int api_event_read(const char *line, size_t length, struct api_event *event, struct gs_error *err);
void api_event_free(struct api_event *event);

/* As json_loadb; NULL too for more values than any answer of a server that means well has: `{}` takes a hundred times its own
 * size in memory. */
json_t *api_json_load(const char *text, size_t length, json_error_t *where);

/* The reason in a reply that is no success: `message` of its Status object, else the first line of the text. Never
 * NULL; owned by the caller; at most 300 bytes, without control characters. */
char *api_error_message(const char *body, size_t length);

/* How long to wait before attempt number `attempt` (0: the first repetition): doubles from 500 ms up to a minute, then
 * times 0.5 to 1.5 by `random`, so that the nodes of a cluster do not come back all at once. */
unsigned api_backoff_ms(unsigned attempt, uint32_t random);

#endif
