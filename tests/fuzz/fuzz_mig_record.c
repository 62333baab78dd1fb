/* The record of a MIG change, as a damaged disk may give it back: the input is what stands between its header and its sum,
 * or all of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "mig/mig_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is read can be written, and read again. */
static void check(const char *text, size_t length)
{
	struct gs_mig_record record, again;
	struct gs_error err = {0};
	if (gs_mig_record_parse(text, length, &record, &err) < 0) {
		if (!err.text[0] || record.gpus)
			abort();
		return;
	}
	GS_AUTO_FREE char *written = gs_mig_record_text(&record);
	if (gs_mig_record_parse(written, strlen(written), &again, &err) < 0 || again.count != record.count)
		abort();
	GS_AUTO_FREE char *twice = gs_mig_record_text(&again);
	if (strcmp(written, twice) != 0)
		abort();
	gs_mig_record_free(&record);
	gs_mig_record_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char header[] = "gpushare mig change 1\n";
	const size_t before = sizeof header - 1;
	char *text = malloc(before + size + 32);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	check(text, size);
	memcpy(text, header, before);
	memcpy(text + before, data, size);
	uint64_t sum = UINT64_C(14695981039346656037); /* FNV-1a */
	for (size_t i = 0; i < before + size; i++)
		sum = (sum ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
	int tail = snprintf(text + before + size, 32, "sum %016" PRIx64 "\n", sum);
	check(text, before + size + (size_t)tail);
	free(text);
	return 0;
}
