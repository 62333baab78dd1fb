/* The GPU operator wants its device plugin away from the driver: while its driver container is upgraded, or NVIDIA's
 * MIG manager changes a layout, it sets the label nvidia.com/gpu.deploy.device-plugin to "paused-for-...", and kernel
 * modules that a process holds open can't be unloaded. Then this daemon allocates no share, ends MPS, and begins anew
 * without NVML: only a new program has surely closed all that a library opened. It goes on when the label says
 * something else. */
#ifndef GPUSHARE_NODE_PAUSE_H
#define GPUSHARE_NODE_PAUSE_H

#include <stdbool.h>

struct node;

#define NODE_PAUSE_LABEL "nvidia.com/gpu.deploy.device-plugin"

/* Once there is a cluster: follows the label. */
void node_pause_join(struct node *node);

/* Executes this program again with its own command line, and `pause` (NULL: none) as the reason for not opening NVML. All
 * descriptors are closed. Returns only on failure. */
void node_execute_again(const char *pause);
/* That reason, in a program that was executed so; NULL otherwise. Owned by the caller; forgotten once it was asked for. */
char *node_pause_reason(void);

#endif
