/* Another device plugin on the node. While one that has these GPUs is alive, this daemon serves nothing and changes nothing
 * that both could want otherwise: CDI specs, compute modes and MPS daemons, MIG layouts, labels. Once it is gone, all of
 * that is put in force. */
#ifndef GPUSHARE_NODE_OTHERS_H
#define GPUSHARE_NODE_OTHERS_H

#include <stdbool.h>

struct node;
struct node_others;

/* Looks for the first time, at the files alone: waits for them. Whether another plugin may be there. */
bool node_others_start(struct node *node);
/* A plugin may have come or gone: looks again, on another thread and by asking the kubelet. */
void node_others_look(struct node *node);
/* Called before the first publication, or a new one: the other plugins have to be known before. False: not yet, and
 * node_republish is called once it is. */
bool node_others_known(struct node *node);
/* Whether the node is to be left as it is: another plugin has the GPUs, or it is not known yet. */
bool node_others_hold(const struct node *node);
/* A sentence that says which other plugin has the GPUs, and what to do; NULL: none that is known. */
const char *node_others_reason(const struct node *node);
void node_others_stop(struct node *node);

#endif
