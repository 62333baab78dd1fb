/* Text as people's editors and shells write it. */
#ifndef GPUSHARE_BASE_TEXT_H
#define GPUSHARE_BASE_TEXT_H

#include <stddef.h>

#include "base/error.h"

/* The text of a file as UTF-8 without a byte order mark, with a NUL behind it; owned by the caller. `length` is that of
 * `bytes`, and becomes that of the result. UTF-16 is told by its byte order mark, which Windows PowerShell writes with `>`.
 * NULL with the reason for UTF-32 and for UTF-16 that is cut off or has half a character. Other bytes stay as they are:
 * whether they are UTF-8 is for the reader to say, who knows the line. */
char *gs_text_decode(const char *bytes, size_t *length, struct gs_error *err);

/* Without the white space around it: a pointer into `text`, whose end is cut. */
char *gs_trim(char *text);

#endif
