/* What an MPS control daemon answers, or whoever listens in its place. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "mps/mps_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { MOST = 4 };
	int servers[MOST];
	char line[24];
	GS_AUTO_FREE char *text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	size_t count = mps_answer_servers(text, servers, MOST);
	if (count > MOST)
		abort();
	for (size_t i = 0; i < count; i++)
		if (servers[i] <= 0)
			abort();
	mps_answer_has_percentage(text, 10);
	mps_answer_has_fault(text);
	const char *said = mps_answer_line(text, line, sizeof line);
	for (const char *at = said; *at; at += gs_utf8_length(at, strlen(at)))
		if (!gs_utf8_length(at, strlen(at)) || gs_utf8_control(at, strlen(at)))
			abort();
	return 0;
}
