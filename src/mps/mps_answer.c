#include "mps/mps_answer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

size_t mps_answer_servers(const char *output, int *servers, size_t most)
{
	size_t count = 0;
	for (const char *at = output; *at && count < most;) {
		char *end;
		long pid = strtol(at, &end, 10);
		if (end == at)
			break;
		if (pid > 0 && pid <= INT32_MAX)
			servers[count++] = (int)pid;
		at = end + strspn(end, " \r\n");
	}
	return count;
}

bool mps_answer_has_percentage(const char *output, unsigned percentage)
{
	char wanted[16];
	snprintf(wanted, sizeof wanted, "%u.0\n", percentage);
	size_t length = strlen(output), tail = strlen(wanted);
	bool last = length >= tail && strcmp(output + length - tail, wanted) == 0;
	return last && (length == tail || output[length - tail - 1] == '\n');
}

bool mps_answer_has_fault(const char *output)
{
	return strstr(output, "FAULT");
}

const char *mps_answer_line(const char *output, char *line, size_t size)
{
	size_t length = strcspn(output, "\n");
	snprintf(line, size, "%.*s", (int)(length < size ? length : size - 1), output);
	gs_utf8_make_plain(line);
	return *line ? line : "it said nothing";
}
