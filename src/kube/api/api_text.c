#include "kube/api/api_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/strbuf.h"
#include "base/utf8.h"

enum {
	LINES_CAPACITY_FIRST = 16 * 1024,
	MESSAGE_BYTES_MAX = 300,
	VERSION_LENGTH_MAX = 20,
	BACKOFF_FIRST_MS = 500,
	BACKOFF_MOST_MS = 60 * 1000,
};

/* --- lines --- */

static void make_room(struct api_lines *lines, size_t more)
{
	if (lines->start > 0) {
		memmove(lines->data, lines->data + lines->start, lines->length - lines->start);
		lines->length -= lines->start;
		lines->scanned -= lines->start;
		lines->start = 0;
	}
	if (lines->length + more <= lines->capacity)
		return;
	size_t capacity = lines->capacity ? lines->capacity : LINES_CAPACITY_FIRST;
	while (capacity < lines->length + more)
		capacity *= 2;
	lines->data = gs_reallocarray(lines->data, capacity, 1);
	lines->capacity = capacity;
}

int api_lines_add(struct api_lines *lines, const void *bytes, size_t length)
{
	if (length > API_LINE_BYTES_MAX - (lines->length - lines->start))
		return -1;
	if (length == 0)
		return 0;
	make_room(lines, length);
	memcpy(lines->data + lines->length, bytes, length);
	lines->length += length;
	return 0;
}

char *api_lines_next(struct api_lines *lines, size_t *length)
{
	while (lines->scanned < lines->length) {
		char *from = lines->data + lines->scanned;
		char *end = memchr(from, '\n', lines->length - lines->scanned);
		if (!end) {
			lines->scanned = lines->length;
			return NULL;
		}
		char *line = lines->data + lines->start;
		*length = (size_t)(end - line);
		*end = '\0';
		lines->start = lines->scanned = (size_t)(end - lines->data) + 1;
		if (*length > 0 && line[*length - 1] == '\r')
			line[--*length] = '\0';
		if (*length > 0)
			return line;
	}
	/* All was taken: a large buffer was for a large object, and the next may be hours away. */
	if (lines->start == lines->length)
		api_lines_free(lines);
	return NULL;
}

void api_lines_free(struct api_lines *lines)
{
	free(lines->data);
	*lines = (struct api_lines){0};
}

/* --- events --- */

static const char *const type_names[] = {
	[API_ADDED] = "ADDED",       [API_MODIFIED] = "MODIFIED", [API_DELETED] = "DELETED",
	[API_BOOKMARK] = "BOOKMARK", [API_ERROR] = "ERROR",
};

static int type_of(const char *name)
{
	for (int i = 0; i <= API_ERROR; i++)
		if (name && strcmp(name, type_names[i]) == 0)
			return i;
	return -1;
}

/* The resource versions of Kubernetes are decimal numbers. A text accepted here can stand in a URL unescaped. */
static bool is_version(const char *text)
{
	size_t length = text ? strlen(text) : 0;
	return length > 0 && length <= VERSION_LENGTH_MAX && strspn(text, "0123456789") == length;
}

json_t *api_json_load(const char *text, size_t length, json_error_t *where)
{
	enum { VALUES_MAX = 40000 }; /* some ten MiB; a Node with a hundred images has less than a tenth of them */
	size_t values = 0;
	for (size_t i = 0; i < length; i++)
		values += text[i] == ',' || text[i] == '{' || text[i] == '[';
	if (values <= VALUES_MAX)
		return json_loadb(text, length, 0, where);
	if (where)
		snprintf(where->text, sizeof where->text, "more than %d values", VALUES_MAX);
	return NULL;
}

int api_event_read(const char *line, size_t length, struct api_event *event, struct gs_error *err)
{
	json_error_t where;
	json_t *root = api_json_load(line, length, &where);
	if (!root)
		return gs_fail(err, GS_ERROR_INPUT, 0, "a line that is not JSON: %s", where.text);
	int type = type_of(json_string_value(json_object_get(root, "type")));
	json_t *object = json_object_get(root, "object");
	if (type < 0 || !json_is_object(object)) {
		json_decref(root);
		return gs_fail(err, GS_ERROR_INPUT, 0, "a line that is not a watch event");
	}
	*event = (struct api_event){.type = (enum api_event_type)type, .object = json_incref(object)};
	json_decref(root);
	if (type == API_ERROR) {
		json_t *code = json_object_get(object, "code");
		if (json_is_integer(code) && json_integer_value(code) > 0 && json_integer_value(code) < 1000)
			event->code = (int)json_integer_value(code);
		const char *message = json_string_value(json_object_get(object, "message"));
		event->message = message ? message : "no reason was given";
		return 0;
	}
	event->resource_version =
		json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion"));
	if (!is_version(event->resource_version)) {
		api_event_free(event);
		return gs_fail(err, GS_ERROR_INPUT, 0, "a watch event without a resourceVersion");
	}
	return 0;
}

void api_event_free(struct api_event *event)
{
	json_decref(event->object);
	*event = (struct api_event){0};
}

/* --- errors --- */

char *api_error_message(const char *body, size_t length)
{
	json_t *root = length > 0 ? api_json_load(body, length, NULL) : NULL;
	json_t *said = json_object_get(root, "message");
	const char *text = body;
	if (json_is_string(said)) {
		text = json_string_value(said);
		length = json_string_length(said);
	}
	struct gs_strbuf message = {0};
	for (size_t i = 0; i < length && message.length < MESSAGE_BYTES_MAX && text[i] != '\n';) {
		size_t control = gs_utf8_control(text + i, length - i);
		size_t character = gs_utf8_length(text + i, length - i);
		if (character > 0 && control == 0)
			gs_strbuf_add_bytes(&message, text + i, character);
		else
			gs_strbuf_add_char(&message, '?');
		i += character > 0 ? character : 1;
	}
	json_decref(root);
	if (message.length == 0)
		gs_strbuf_add(&message, "it gave no reason");
	return gs_strbuf_take(&message);
}

unsigned api_backoff_ms(unsigned attempt, uint32_t random)
{
	uint64_t base = gs_backoff_ms(BACKOFF_FIRST_MS, BACKOFF_MOST_MS, attempt);
	return (unsigned)(base / 2 + base * random / UINT32_MAX);
}
