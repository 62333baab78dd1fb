/* Moments as text: RFC 3339, in UTC. */
#ifndef GPUSHARE_BASE_TIMESTAMP_H
#define GPUSHARE_BASE_TIMESTAMP_H

#include <time.h>

enum { GS_TIMESTAMP_SIZE = 40 };

/* Writes "2026-11-23T10:00:00.123Z" with `digits` of the second's fraction (0 to 9, cut, not rounded; 0: no point either) and
 * returns `text`. */
char *gs_timestamp(struct timespec when, int digits, char text[GS_TIMESTAMP_SIZE]);

#endif
