/* The GPUs that the node should have: those that it ever had, kept across restarts in STATE-DIR/gpus.json, and reported
 * as missing until they are back, another GPU stands in their place, or an operator says that they are gone for
 * good. */
#ifndef GPUSHARE_NODE_MISSING_H
#define GPUSHARE_NODE_MISSING_H

#include <jansson.h>

#include "base/strbuf.h"
#include "node/node_internal.h"

struct missing;

/* Reads the remembered GPUs. A file that can't be understood is moved aside to gpus.json.corrupt, and logged. */
struct missing *node_missing_open(struct node *node);
/* Nothing is written any more, once a write under way is over. NULL is fine. */
void node_missing_stop(struct missing *missing);
void node_missing_free(struct missing *missing);
/* The GPUs were read: present ones are remembered, and remembered ones that are absent are reported as missing. */
void node_missing_update(struct node *node, const struct gs_inventory *inventory);
/* The GPUs were looked at: what could not be written before may be by now. */
void node_missing_looked(struct node *node);
size_t node_missing_count(const struct node *node);
/* A sentence each, with what to do. */
void node_missing_problems(const struct node *node, json_t *problems);
/* A list for the status document. */
json_t *node_missing_json(const struct node *node);
/* Which GPUs are missing, for a condition: "GPU 1 (GPU-...) is missing", after what `text` holds; tells the cluster what
 * came or went since. */
void node_missing_report(struct node *node, struct gs_strbuf *text);
/* Calls `tell` with each missing GPU, as it was when it was there. */
void node_missing_each(const struct node *node, void (*tell)(void *user, const struct gs_gpu *gpu), void *user);

/* Handler of NODE_FORGET_METHOD. */
void node_on_forget(struct rpc_call *call, const uint8_t *request, size_t length, void *user);

#endif
