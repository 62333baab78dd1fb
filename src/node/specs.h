/* CDI specs as desired state: at every look at the GPUs they are compared with what should be, and put right. A
 * container gets the CDI names of its share from them, so no share is healthy before its spec is right. Files are read
 * and written on another thread. */
#ifndef GPUSHARE_NODE_SPECS_H
#define GPUSHARE_NODE_SPECS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/config/config.h"

struct node;
struct node_specs;

void node_specs_start(struct node *node);
void node_specs_stop(struct node *node);
/* Makes the specs what config and inventory say now. A config without CDI has none. Does nothing while others have the GPUs. */
void node_specs_look(struct node *node);
/* The same for a new plan: nothing new is served before it is done. */
void node_specs_renew(struct node *node);
/* Another daemon has the node now: our knowledge of the specs is void. */
void node_specs_forget(struct node *node);
/* Whether they were written for the plan in force, or could not be. Once they are, node_retry_publish is called. */
bool node_specs_known(const struct node *node);
/* Whether a right spec has the CDI name that a container would get for this device of the inventory. */
bool node_specs_ready(const struct node *node, uint32_t which, const char **reason);
/* Why the specs are not as they should be; NULL: they are, or none are wanted. */
const char *node_specs_problem(const struct node *node);
/* Frees a config that was node->config; later if it is in use on the other thread. */
void node_specs_release(struct node *node, struct gs_config *config);

#endif
