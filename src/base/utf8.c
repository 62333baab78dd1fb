#include "base/utf8.h"

#include <string.h>

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

size_t gs_utf8_control(const char *text, size_t available)
{
	unsigned char lead = available ? (unsigned char)text[0] : ' ';
	if (lead < 0x20 || lead == 0x7f)
		return 1;
	/* U+0080..U+009F */
	return lead == 0xC2 && available > 1 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xA0 ? 2 : 0;
}

void gs_utf8_make_plain(char *text)
{
	size_t available = strlen(text);
	while (available) {
		size_t length = gs_utf8_length(text, available);
		if (!length || gs_utf8_control(text, available)) {
			length = length ? length : 1;
			memset(text, '?', length);
		}
		text += length;
		available -= length;
	}
}
