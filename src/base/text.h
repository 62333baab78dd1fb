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

/* libyaml compares each %TAG line with all before it, so a megabyte of them takes it many seconds. */
enum { GS_YAML_DIRECTIVES_MAX = 16 };
/* The line (from 1) of a YAML text that begins with % when more than GS_YAML_DIRECTIVES_MAX did; 0: it has no more than that. */
int gs_yaml_many_directives(const char *text, size_t length);

#endif
