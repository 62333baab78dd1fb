/* The table that `gpushare status` and `gpushare demo` print from the daemon's status document. */
#ifndef GPUSHARE_CLI_STATUS_TABLE_H
#define GPUSHARE_CLI_STATUS_TABLE_H

#include <jansson.h>

#include "base/strbuf.h"

/* Adds a table of at most 98 columns, fewer where its names are short: the daemon's problems, the resources, and below
 * each GPU a row a process that holds a share and a row for consecutive free shares. Any JSON is accepted; a missing
 * value is shown as a dash. */
void gs_status_table(const json_t *status, struct gs_strbuf *out);

/* "NAMESPACE/POD/CONTAINER" of each pod in share.pods, with ", " between them; "" when there are none, or the kubelet
 * does not tell. Owned by the caller. */
char *gs_status_pods(const json_t *share);

/* Shows a text on the terminal in place of the present content: its beginning, as far as the terminal has room. */
void gs_status_redraw(const char *text);

#endif
