/* Sizes and durations, as anybody may write them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/quantity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int fact)
{
	if (!fact)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gs_error err = {0};
	int64_t value = -1, again = -1;
	char *text = gs_strndup((const char *)data, size), formatted[24];
	if (gs_parse_quantity(text, &value, &err) == 0) {
		require(value >= 0);
		gs_format_quantity(value, formatted, sizeof formatted);
		require(gs_parse_quantity(formatted, &again, &err) == 0 && again == value);
	} else {
		require(err.text[0] && value == -1);
	}
	value = -1;
	memset(&err, 0, sizeof err);
	if (gs_parse_duration(text, &value, &err) == 0)
		require(value >= 0);
	else
		require(err.text[0] && value == -1);
	free(text);
	return 0;
}
