/* Devices that were handed out and are there no more: a MIG instance that somebody removed, a GPU that was unplugged. */
#ifndef GPUSHARE_NODE_VANISHED_H
#define GPUSHARE_NODE_VANISHED_H

#include <jansson.h>

#include "node/node_internal.h"

/* Compares what was published before with what the node has now; to be called before the ledger forgets. What was withdrawn
 * went with notice, and is not told. */
void node_vanished_update(struct node *node, const struct gs_plan *old_plan, const struct gs_inventory *old_inventory);
/* Appends a sentence for each. */
void node_vanished_problems(const struct node *node, json_t *problems);
void node_vanished_free(struct node *node);

#endif
