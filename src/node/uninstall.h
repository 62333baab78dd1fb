/* Leaves a node as it was before gpushare: for an uninstall. */
#ifndef GPUSHARE_NODE_UNINSTALL_H
#define GPUSHARE_NODE_UNINSTALL_H

#include <stdbool.h>

#include "node/node.h"

/* Ends MPS and restores compute modes, removes CDI specs, sockets, labels, conditions and state, and prints a line for
 * each. MIG layouts stay. No daemon may run on these directories, and none may start meanwhile. A step that fails does
 * not keep the others from being done: then -1 with the first reason. */
int node_uninstall(const struct node_options *options, struct gs_error *err);

/* The same by another process, gpushare node --uninstall with these options (up to a NULL): for a process that NVML hangs
 * in. */
int node_uninstall_apart(char *const *options, struct gs_error *err);

/* In a cluster. `daemon_set` is "NAMESPACE/NAME". */

/* Whether the DaemonSet that this daemon's pod belongs to is being deleted, or is gone; false when the API server does
 * not say. */
bool node_daemon_set_is_going(const struct node_options *options, const char *daemon_set);
/* Deletes the DaemonSet and waits until its pods are gone, so that each daemon has left its node clean; at most
 * `seconds`: pods of a node that is away may take longer, which is no error. */
int node_delete_daemon_set(const struct node_options *options, const char *daemon_set, unsigned seconds,
			   struct gs_error *err);

/* Before the driver is left alone: ends MPS and restores compute modes, so that nothing of ours holds it open. A step
 * that fails is logged. */
void node_release_driver(const struct node_options *options);

#endif
