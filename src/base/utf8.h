/* UTF-8, as peers and users send it. */
#ifndef GPUSHARE_BASE_UTF8_H
#define GPUSHARE_BASE_UTF8_H

#include <stddef.h>

/* Length of the UTF-8 character that starts at `text` (1..4), or 0 when these bytes are not UTF-8. */
size_t gs_utf8_length(const char *text, size_t available);
/* Length of the control character that starts there (C0, DEL, or C1 as UTF-8), or 0 when it is none. */
size_t gs_utf8_control(const char *text, size_t available);
/* Puts question marks over control characters and bytes that are not UTF-8: a name that a process or a peer chose must
 * not steer a terminal, nor break a document. */
void gs_utf8_make_plain(char *text);

#endif
