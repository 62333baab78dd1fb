#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/timestamp.h"
#include "base/utf8.h"

enum { LINE_LIMIT = 4096 };

static enum gs_log_level minimum_level = GS_LOG_INFO;
static bool as_json;

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static const char *const level_labels[] = {"DEBUG", "INFO", "WARNING", "ERROR"};

struct line {
	char text[LINE_LIMIT];
	size_t length;
};

static void put(struct line *line, const char *text)
{
	/* Two bytes stay free for a closing brace and the newline. */
	while (*text && line->length < LINE_LIMIT - 2)
		line->text[line->length++] = *text++;
}

/* Whole characters only, so that a line is valid UTF-8 and JSON whatever a peer sent and wherever it is cut. */
static void put_escaped(struct line *line, const char *text)
{
	size_t available = strlen(text);
	while (available) {
		size_t length = gs_utf8_length(text, available);
		unsigned char byte = (unsigned char)*text;
		char escape[8];
		if (!length)
			strcpy(escape, "\\ufffd");
		else if (byte == '"' || byte == '\\')
			snprintf(escape, sizeof escape, "\\%c", byte);
		else if (byte == '\n')
			strcpy(escape, "\\n");
		else if (gs_utf8_control(text, available))
			snprintf(escape, sizeof escape, "\\u%04x", length == 2 ? (unsigned char)text[1] : byte);
		else
			snprintf(escape, sizeof escape, "%.*s", (int)length, text);
		/* Room for the closing quote: a cut line is still valid JSON. */
		if (line->length + strlen(escape) >= LINE_LIMIT - 4)
			return;
		put(line, escape);
		text += length ? length : 1;
		available -= length ? length : 1;
	}
}

static bool needs_quotes(const char *text)
{
	if (!*text)
		return true;
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || *text == '"' || *text == '=' || *text == '\\' || *text == 0x7f)
			return true;
	return false;
}

static void put_quoted(struct line *line, const char *text)
{
	put(line, "\"");
	put_escaped(line, text);
	put(line, "\"");
}

static void put_field(struct line *line, const struct gs_log_field *field)
{
	char number[24];
	snprintf(number, sizeof number, "%" PRId64, field->number);
	const char *text = field->kind == GS_FIELD_INT ? number : field->text ? field->text : "";
	size_t room = strlen(field->key) + sizeof number; /* a number is whole or not there */
	if (line->length + room >= LINE_LIMIT - 4)
		return;
	if (as_json) {
		put(line, ",");
		put_quoted(line, field->key);
		put(line, ":");
	} else {
		put(line, " ");
		put(line, field->key);
		put(line, "=");
	}
	if (field->kind == GS_FIELD_INT)
		put(line, text);
	else if (as_json || needs_quotes(text))
		put_quoted(line, text);
	else
		put_escaped(line, text);
}

void gs_log_fields(enum gs_log_level level, const char *message, const struct gs_log_field *fields, size_t count)
{
	if (level < minimum_level)
		return;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	char stamp[GS_TIMESTAMP_SIZE];
	gs_timestamp(now, 3, stamp);

	struct line line = {.length = 0};
	if (as_json) {
		put(&line, "{\"time\":");
		put_quoted(&line, stamp);
		put(&line, ",\"level\":");
		put_quoted(&line, level_names[level]);
		put(&line, ",\"message\":");
		put_quoted(&line, message);
	} else {
		put(&line, stamp);
		put(&line, " ");
		put(&line, level_labels[level]);
		put(&line, " ");
		put_escaped(&line, message);
	}
	for (size_t i = 0; i < count; i++)
		put_field(&line, &fields[i]);
	if (as_json)
		line.text[line.length++] = '}';
	line.text[line.length++] = '\n';
	ssize_t written = write(STDERR_FILENO, line.text, line.length);
	(void)written; /* nowhere left to report a failing stderr */
}

bool gs_log_level_by_name(const char *name, enum gs_log_level *level)
{
	for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum gs_log_level)i;
			return true;
		}
	}
	return false;
}

void gs_log_configure(enum gs_log_level minimum, bool json)
{
	minimum_level = minimum;
	as_json = json;
}
