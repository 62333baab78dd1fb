/* The usage snapshot (core/usage/usage.h), filled from the parts of the daemon. */
#ifndef GPUSHARE_NODE_USAGE_H
#define GPUSHARE_NODE_USAGE_H

#include "core/usage/usage.h"
#include "node/node_internal.h"

/* Made from present knowledge: the pods of the kubelet's last answer, and no processes. The caller frees it
 * (gs_usage_free) before the loop turns. */
void node_usage_take(const struct node *node, struct gs_usage *usage);

/* Calls `done` once, later: the kubelet is asked for pods, and the GPUs are sampled, within about four seconds. `usage` is valid
 * during the call; NULL: the daemon is stopping. */
typedef void node_usage_done(struct node *node, const struct gs_usage *usage, void *user);
void node_usage_ask(struct node *node, node_usage_done *done, void *user);

/* usage_json.c: parts of what the daemon tells on its socket. New references. */
json_t *node_usage_gpus_json(const struct gs_usage *usage);
/* The reply to NODE_MPS_METHOD. */
json_t *node_usage_clients_json(const struct node *node, const struct gs_usage *usage);
/* "2026-11-29T13:01:15Z" */
json_t *node_timestamp_json(int64_t seconds);

#endif
