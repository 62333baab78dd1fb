/* The table that `gpushare status` and `gpushare demo` print from the daemon's status document. */
#ifndef GPUSHARE_CLI_STATUS_TABLE_H
#define GPUSHARE_CLI_STATUS_TABLE_H

#include <jansson.h>

#include "base/strbuf.h"

/* One row a held share, and one a GPU for its free ones; problems of the daemon above it. */
void gs_status_table(const json_t *status, struct gs_strbuf *out);

#endif
