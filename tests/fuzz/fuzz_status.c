/* The status document as the command shows it: the daemon may be of another version, so any JSON gives a table. */
#include <stddef.h>
#include <stdint.h>

#include "cli/status_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *status = json_loadb((const char *)data, size, 0, NULL);
	struct gs_strbuf table = {0};
	if (!status)
		return 0;
	gs_status_table(status, &table);
	gs_strbuf_free(&table);
	json_decref(status);
	return 0;
}
