/* MIG by label: the node's label nvidia.com/mig.config names a configuration, and the daemon makes the GPUs so, as
 * NVIDIA's mig-manager does; but it withholds only the devices that go, waits for pods that are in the way and names
 * them, tries again, and always ends in a clear state: the label nvidia.com/mig.config.state. */
#ifndef GPUSHARE_NODE_MIG_MANAGER_H
#define GPUSHARE_NODE_MIG_MANAGER_H

#include <jansson.h>

#include "node/node_internal.h"

#define MIG_CONFIG_LABEL "nvidia.com/mig.config"
#define MIG_STATE_LABEL  "nvidia.com/mig.config.state"

/* The cluster is joined: watches the label. */
void mig_manager_start(struct node *node);
/* The GPUs were read and are ours, and their allocations are known: from now on the daemon carries out the label. */
void mig_manager_seen(struct node *node);
/* A look at the GPUs has ended. */
void mig_manager_looked(struct node *node);
/* Whether nothing may be published yet: the node may have been born with the label, and a pod that got a whole GPU before it
 * was read would be in MIG's way for as long as it runs. Ends with the first attempt, or after a while, and then calls
 * node_republish. A node without a GPU that can do MIG does not wait. */
bool mig_manager_holds(const struct node *node);
/* The GPUs are ours now (others.h): begins the change that was held back. */
void mig_manager_resume(struct node *node);
/* Begins no further change; one under way ends by itself. */
void mig_manager_stop(struct node *node);
void mig_manager_free(struct node *node);

/* {"config": ..., "state": ..., "reason": ...}, or null when no label asks for anything. */
json_t *mig_manager_json(const struct node *node);
/* How many changes by the label came to an end; false where no label is followed. */
struct mig_manager_counts {
	unsigned successes, failures;
};
bool mig_manager_get_counts(const struct node *node, struct mig_manager_counts *counts);
/* The obstacle to the change, as a sentence; NULL: none. */
const char *mig_manager_problem(const struct node *node);

/* Whether a change is under way, which must not be cut off. */
bool mig_manager_busy(const struct node *node);

#endif
