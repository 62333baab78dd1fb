/* The methods that the daemon serves on its socket, and the default paths of the socket and the state: for the daemon
 * and its clients. */
#ifndef GPUSHARE_CLIENT_METHODS_H
#define GPUSHARE_CLIENT_METHODS_H

#define NODE_DEFAULT_STATE_DIR "/var/lib/gpushare"
#define NODE_DEFAULT_SOCKET    "/run/gpushare/gpushare.sock"

/* Served on the daemon's socket: an empty request, a JSON document in reply (docs/status.md). */
#define NODE_STATUS_METHOD "/gpushare.v1.Node/Status"
/* An empty request; the reply is {"daemons": [...], "clients": [...]}: the MPS control daemons as in the status document, each with
 * the number of its `clients`, and the processes on devices that MPS shares, as `gpushare mps clients -o json` prints them. */
#define NODE_MPS_METHOD "/gpushare.v1.Node/Mps"
/* A request {"devices": [UUID, ...], "reason": TEXT}: these devices (a GPU's UUID stands for its MIG devices too) are
 * not handed out any more while the call stays open. One reply, when that is so: {"promised": [{"device": UUID,
 * "share": ID, "who": TEXT}, ...]}, the shares that the kubelet was given before and that may be in use though no
 * process shows it. docs/node.md */
#define NODE_WITHDRAW_METHOD "/gpushare.v1.Node/Withdraw"
/* An empty request; the same reply about all devices, and the end: no device is withheld. */
#define NODE_ALLOCATIONS_METHOD "/gpushare.v1.Node/Allocations"

/* A request {"gpus": [UUID, ...]}: these GPUs, if they are missing, are not missed any more; without any, all that are missing.
 * The reply is {"forgotten": [UUID, ...]}. docs/health.md */
#define NODE_FORGET_METHOD "/gpushare.v1.Node/Forget"

/* A status document is about 300 bytes a share and as much a process. */
enum { NODE_STATUS_BYTES_MAX = 32 * 1024 * 1024 };

#endif
