/* The files of the state directory, and what writers that were killed left beside them. */
#ifndef GPUSHARE_NODE_STATE_H
#define GPUSHARE_NODE_STATE_H

#include <stdbool.h>

#include "core/config/config.h"
#include "node/node.h"

/* Whether the daemon's parts, strategies and commands write a file of this name there, or put it aside or half write it: then it
 * has such a name with a dot and more behind it. */
bool node_is_state_file(const char *name);

/* Removes half-written files of processes that are gone: of the state directory, CDI specs, the labels' file. */
void node_state_tidy(const struct node_options *options, const struct gs_config *config);

#endif
