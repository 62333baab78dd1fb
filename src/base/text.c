#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"

static void add_utf8(struct gs_strbuf *out, uint32_t point)
{
	if (point < 0x80) {
		gs_strbuf_add_char(out, (char)point);
		return;
	}
	int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
	static const unsigned char leads[] = {0, 0xC0, 0xE0, 0xF0};
	gs_strbuf_add_char(out, (char)(leads[more] | point >> (6 * more)));
	while (more-- > 0)
		gs_strbuf_add_char(out, (char)(0x80 | (point >> (6 * more) & 0x3F)));
}

static uint32_t unit_at(const char *bytes, bool big_endian)
{
	const unsigned char *pair = (const unsigned char *)bytes;
	return big_endian ? (uint32_t)pair[0] << 8 | pair[1] : (uint32_t)pair[1] << 8 | pair[0];
}

/* `bytes` without their byte order mark. */
static char *from_utf16(const char *bytes, size_t *length, bool big_endian, struct gs_error *err)
{
	GS_AUTO_STRBUF struct gs_strbuf out = {0};
	int line = 1;
	if (*length % 2) {
		gs_fail(err, GS_ERROR_INPUT, 0, "the file is UTF-16 that is cut off; save it as UTF-8");
		return NULL;
	}
	for (size_t i = 0; i < *length; i += 2) {
		uint32_t point = unit_at(bytes + i, big_endian);
		bool high = point >= 0xD800 && point < 0xDC00;
		uint32_t low = high && i + 4 <= *length ? unit_at(bytes + i + 2, big_endian) : 0;
		if (low >= 0xDC00 && low < 0xE000) {
			point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
			i += 2;
		} else if (point >= 0xD800 && point < 0xE000) {
			gs_fail(err, GS_ERROR_INPUT, 0,
				"the file is UTF-16 with half a character on line %d; save it as UTF-8", line);
			return NULL;
		}
		line += point == '\n';
		add_utf8(&out, point);
	}
	*length = out.length;
	return gs_strbuf_take(&out);
}

static bool begins(const char *bytes, size_t length, const char *mark, size_t mark_length)
{
	return length >= mark_length && memcmp(bytes, mark, mark_length) == 0;
}

char *gs_text_decode(const char *bytes, size_t *length, struct gs_error *err)
{
	if (begins(bytes, *length, "\xFF\xFE\0\0", 4) || begins(bytes, *length, "\0\0\xFE\xFF", 4)) {
		gs_fail(err, GS_ERROR_INPUT, 0, "the file is UTF-32; save it as UTF-8");
		return NULL;
	}
	bool big_endian = begins(bytes, *length, "\xFE\xFF", 2);
	if (big_endian || begins(bytes, *length, "\xFF\xFE", 2)) {
		*length -= 2;
		return from_utf16(bytes + 2, length, big_endian, err);
	}
	size_t skip = begins(bytes, *length, "\xEF\xBB\xBF", 3) ? 3 : 0;
	struct gs_strbuf out = {0};
	*length -= skip;
	gs_strbuf_add_bytes(&out, bytes + skip, *length);
	return gs_strbuf_take(&out);
}

char *gs_trim(char *text)
{
	static const char white[] = " \t\r\n\v\f";
	text += strspn(text, white);
	size_t length = strlen(text);
	while (length && strchr(white, text[length - 1]))
		length--;
	text[length] = '\0';
	return text;
}

/* Whether a line of YAML ends just before `at`: YAML 1.1 knows more ends than LF. */
static bool line_begins(const char *text, size_t at)
{
	const char *before = text + at;
	return at == 0 || before[-1] == '\n' || before[-1] == '\r' || (at >= 2 && !memcmp(before - 2, "\xC2\x85", 2)) ||
	       (at >= 3 && (!memcmp(before - 3, "\xE2\x80\xA8", 3) || !memcmp(before - 3, "\xE2\x80\xA9", 3)));
}

int gs_yaml_many_directives(const char *text, size_t length)
{
	int line = 1, found = 0;
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '%' && line_begins(text, i) && ++found > GS_YAML_DIRECTIVES_MAX)
			return line;
		line += text[i] == '\n';
	}
	return 0;
}
