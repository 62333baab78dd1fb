/* Asks a running daemon, from a command line. Blocking. */
#ifndef GPUSHARE_NODE_CLIENT_H
#define GPUSHARE_NODE_CLIENT_H

#include <stddef.h>

#include "base/error.h"

/* The status document as JSON text (owned by the caller), or NULL with the reason and what to do about it. */
char *node_client_status(const char *socket_path, unsigned timeout_ms, struct gs_error *err);

/* The reply to NODE_MPS_METHOD, in the same way. */
char *node_client_mps(const char *socket_path, unsigned timeout_ms, struct gs_error *err);

/* Says that GPUs which are missing were taken out for good; none are named: all that are missing. The answer as JSON text (owned
 * by the caller), {"forgotten": [UUID, ...]}, or NULL with the reason. */
char *node_client_forget(const char *socket_path, char *const *uuids, size_t count, unsigned timeout_ms,
			 struct gs_error *err);

/* A withdrawal of devices while a MIG layout is changed (NODE_WITHDRAW_METHOD): the daemon does not hand them out until
 * it is ended, or this process is. */
struct node_withdrawal;
struct node_promised {
	char *device; /* UUID */
	char *share;
	char *who; /* "a container that was given nvidia.com/mig-1g.10gb at 2026-11-29T13:01:15Z" */
};
struct node_promises {
	struct node_promised *items;
	size_t count;
};

/* The shares of all devices that the daemon has allocated, whether or not a process uses them; none where no daemon
 * runs. -1: a daemon is there and cannot be asked. */
int node_client_allocations(const char *socket_path, unsigned timeout_ms, struct node_promises *promises,
			    struct gs_error *err);
void node_promises_free(struct node_promises *promises);

/* 0: in force, or `*withdrawal` is NULL because no daemon runs here, so that no device is handed out. -1: a daemon is
 * there and cannot be asked, so it is not safe to go on. `reason` is shown to users: "mig apply all-balanced". */
int node_client_withdraw(const char *socket_path, const char *const *uuids, size_t count, const char *reason,
			 unsigned timeout_ms, struct node_withdrawal **withdrawal, struct gs_error *err);
/* The daemon reads the GPUs anew and hands out the devices that exist then. NULL is fine. */
void node_client_restore(struct node_withdrawal *withdrawal);

#endif
