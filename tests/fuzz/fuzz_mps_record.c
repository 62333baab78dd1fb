/* STATE-DIR/mps.json, as a damaged disk may give it back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mps/mps_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gs_mps_record record = {0};
	if (gs_mps_record_parse((const char *)data, size, "boot", &record) < 0) {
		if (record.modes || record.daemons || record.root)
			abort();
		return 0;
	}
	size_t count;
	struct gs_mps_known *known = gs_mps_record_known(&record, &count);
	for (size_t i = 0; i < count; i++)
		if (known[i].identity.pid <= 0 || !known[i].identity.start || !*known[i].key || *known[i].root != '/')
			abort();
	gs_mps_known_free(known, count);
	gs_mps_record_free(&record);
	return 0;
}
