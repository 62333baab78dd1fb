/* What a runtime writes to a hook's standard input, and a bundle's config.json, which holds an image's own texts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hook/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	free(state_member((const char *)data, size, NULL, "bundle"));
	free(state_member((const char *)data, size, "root", "path"));
	return 0;
}
