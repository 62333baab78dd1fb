/* The record of allocations, which an earlier version, or a disk that failed, may have left in any state. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "node/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gs_error err = {0};
	json_t *allocations = ledger_parse((const char *)data, size, "f", &err);
	if (!allocations && !*err.text)
		abort();
	json_decref(allocations);
	return 0;
}
