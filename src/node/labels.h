/* The node's labels: when they change, and where they go. docs/labels.md describes them. */
#ifndef GPUSHARE_NODE_LABELS_H
#define GPUSHARE_NODE_LABELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* The field manager of the labels on the Node object. */
#define NODE_LABELS_MANAGER "gpushare"

struct node;
struct node_labels;

void node_labels_start(struct node *node);
/* The facts for labels may have changed: publishes the labels if they differ. */
void node_labels_update(struct node *node);
/* Labels stay: they describe the node, which does not change when the daemon is upgraded. */
void node_labels_stop(struct node *node);
/* Why the feature file could not be written; NULL: it was, or none is wanted. */
const char *node_labels_problem(const struct node *node);

/* The daemon's own namespace: NAMESPACE, as NVIDIA's program is told it, or what the kubelet wrote beside the token, else
 * "default". Owned by the caller. */
char *node_own_namespace(const char *service_account_dir);
/* The machine's product name: the file's first line; "" without one. */
void node_read_machine(const char *path, char *machine, size_t size);

/* In the state directory: what the feature file was last made. */
#define NODE_LABELS_RECORD "labels.last"
/* Whether the feature file is what the daemon made it last. */
bool node_feature_file_is_ours(const char *path, const char *state_dir);

#endif
