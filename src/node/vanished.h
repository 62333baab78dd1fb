/* Allocated devices that are gone: a MIG instance that another program destroyed, a GPU that was unplugged. */
#ifndef GPUSHARE_NODE_VANISHED_H
#define GPUSHARE_NODE_VANISHED_H

#include <jansson.h>

#include "node/node_internal.h"

/* Compares what was published before with what the node has now; to be called before the record of allocations forgets
 * them. A withheld device was expected to go, and is not reported. */
void node_vanished_update(struct node *node, const struct gs_plan *old_plan, const struct gs_inventory *old_inventory);
/* Appends a sentence for each. */
void node_vanished_problems(const struct node *node, json_t *problems);
void node_vanished_free(struct node *node);

#endif
