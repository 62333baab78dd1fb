#include "base/timestamp.h"

#include <stdio.h>

char *gs_timestamp(struct timespec when, int digits, char text[GS_TIMESTAMP_SIZE])
{
	struct tm parts = {0};
	char fraction[24];
	gmtime_r(&when.tv_sec, &parts);
	snprintf(fraction, sizeof fraction, ".%09ld", when.tv_nsec);
	size_t length = strftime(text, GS_TIMESTAMP_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(text + length, GS_TIMESTAMP_SIZE - length, "%.*sZ", digits ? 1 + digits : 0, fraction);
	return text;
}
