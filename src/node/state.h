/* The files of the state directory, and what writers that were killed left beside them. */
#ifndef GPUSHARE_NODE_STATE_H
#define GPUSHARE_NODE_STATE_H

#include "core/config/config.h"
#include "node/node.h"

/* The names that the daemon's parts and the commands write there; ends with NULL. What was put aside or half written has
 * one of them with a dot and more behind it. */
extern const char *const node_state_files[];

/* Removes half-written files of processes that are gone: of the state directory, CDI specs, the labels' file. */
void node_state_tidy(const struct node_options *options, const struct gs_config *config);

#endif
