/* Withheld devices: they are not allocated while the daemon or `gpushare mig` changes a MIG layout. */
#ifndef GPUSHARE_NODE_WITHDRAW_H
#define GPUSHARE_NODE_WITHDRAW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/node_internal.h"

struct withdrawal;

enum { WITHDRAW_BYTES_MAX = 256 * 1024 };

/* A client's request: {"devices": [UUID, ...], "reason": TEXT}. */
struct withdraw_request {
	json_t *document; /* owns the texts; freed with the list by node_withdraw_request_free */
	const char **uuids;
	size_t count;
	const char *reason;
};
/* False when the bytes are no such request, or more than WITHDRAW_BYTES_MAX: JSON takes many times its own size in memory. */
bool node_withdraw_request_read(const uint8_t *bytes, size_t length, struct withdraw_request *request);
void node_withdraw_request_free(struct withdraw_request *request);

/* From now on the daemon reports these devices to the kubelet as unhealthy, and Allocate refuses them. The UUID of a
 * GPU stands for the GPU and all its MIG devices; UUIDs that the node does not have (yet) are fine. Several withdrawals
 * of one device add up. `reason` is shown to users. */
struct withdrawal *node_withdraw(struct node *node, const char *const *uuids, size_t count, const char *reason);
/* Ends it: after a look at the GPUs, the devices that still exist are allocated again. */
void node_unwithdraw(struct node *node, struct withdrawal *withdrawal);
/* Why this device of the node's inventory is withheld; NULL when it is not. */
const char *node_withdrawn(const struct node *node, uint32_t device);
/* The same for any device of any GPU. */
const char *node_withdrawn_device(const struct node *node, const char *gpu_uuid, const char *uuid);
/* The GPUs were looked at: withdrawals that ended before are over now. */
void node_withdrawals_looked(struct node *node);
/* Ends the calls of clients, since the daemon stops. */
void node_withdrawals_stop(struct node *node);
/* Frees the rest, at the end. */
void node_withdrawals_free(struct node *node);

/* Asks the kubelet which pods hold which devices, for two seconds at most, and then calls `ready`. Not when the
 * withdrawal (NULL: of none; then `ready` is always called, also when the daemon stops meanwhile) ends before. */
typedef void node_withdrawal_ready(struct node *node, struct withdrawal *withdrawal, void *user);
void node_withdrawal_settle(struct node *node, struct withdrawal *withdrawal, node_withdrawal_ready *ready, void *user);

/* After that: the allocated shares of the withdrawal's devices (NULL: of all), though perhaps no process runs on them.
 * Calls `tell` for each share. */
typedef void node_promise(void *user, const char *device, const char *share, const char *who);
void node_promises(const struct node *node, const struct withdrawal *withdrawal, node_promise *tell, void *user);

/* Handlers of NODE_ALLOCATIONS_METHOD. */
void node_on_allocations(struct rpc_call *call, const uint8_t *request, size_t length, void *user);
void node_on_allocations_closed(struct rpc_call *call, void *user);

/* Handlers of NODE_WITHDRAW_METHOD. */
void node_on_withdraw(struct rpc_call *call, const uint8_t *request, size_t length, void *user);
void node_on_withdraw_closed(struct rpc_call *call, void *user);

#endif
