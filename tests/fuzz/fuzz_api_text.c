/* What an API server sends: the input as a watch's bytes, in pieces whose length the first byte says, and as the body of a
 * refusal. However it is cut, the same lines must come out. */
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "base/utf8.h"
#include "kube/api/api_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The lines, each followed by a bar, and what events were read from them. */
static void collect(const uint8_t *data, size_t size, size_t piece, struct gs_strbuf *out)
{
	struct api_lines lines = {0};
	for (size_t i = 0; i < size; i += piece) {
		if (api_lines_add(&lines, data + i, size - i < piece ? size - i : piece) < 0)
			abort();
		size_t length;
		for (const char *line; (line = api_lines_next(&lines, &length));) {
			if (length == 0 || line[length] != '\0' || memchr(line, '\n', length))
				abort();
			gs_strbuf_add_bytes(out, line, length);
			struct api_event event;
			struct gs_error err = {0};
			if (api_event_read(line, length, &event, &err) < 0) {
				if (!*err.text)
					abort();
				gs_strbuf_add(out, "|");
				continue;
			}
			if (event.type == API_ERROR ? !event.message || event.code < 0 : !event.resource_version)
				abort();
			gs_strbuf_printf(out, "!%d %d\n", (int)event.type, event.code);
			api_event_free(&event);
		}
	}
	api_lines_free(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	size_t piece = 1 + data[0];
	data++;
	size--;
	struct gs_strbuf whole = {0}, pieces = {0};
	collect(data, size, size ? size : 1, &whole);
	collect(data, size, piece, &pieces);
	if (whole.length != pieces.length || (whole.length && memcmp(whole.data, pieces.data, whole.length) != 0))
		abort();
	gs_strbuf_free(&whole);
	gs_strbuf_free(&pieces);

	char *message = api_error_message((const char *)data, size);
	size_t length = strlen(message);
	if (length == 0 || length > 303)
		abort();
	for (size_t i = 0; i < length;) {
		size_t character = gs_utf8_length(message + i, length - i);
		if (character == 0 || gs_utf8_control(message + i, length - i))
			abort();
		i += character;
	}
	free(message);
	return 0;
}
