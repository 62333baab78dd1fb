/* gRPC over nghttp2 on unix sockets, in a libuv loop. Knows bytes and paths; nothing of Kubernetes or protobuf.
 *
 * Everything runs on the loop's thread. Handlers may answer at once or later. Limits guard every direction: message
 * size, connections, streams, queued bytes. */
#ifndef GPUSHARE_RPC_RPC_H
#define GPUSHARE_RPC_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"

/* https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
enum rpc_status {
	RPC_OK = 0,
	RPC_CANCELLED = 1,
	RPC_UNKNOWN = 2,
	RPC_INVALID_ARGUMENT = 3,
	RPC_DEADLINE_EXCEEDED = 4,
	RPC_NOT_FOUND = 5,
	RPC_ALREADY_EXISTS = 6,
	RPC_PERMISSION_DENIED = 7,
	RPC_RESOURCE_EXHAUSTED = 8,
	RPC_FAILED_PRECONDITION = 9,
	RPC_ABORTED = 10,
	RPC_OUT_OF_RANGE = 11,
	RPC_UNIMPLEMENTED = 12,
	RPC_INTERNAL = 13,
	RPC_UNAVAILABLE = 14,
	RPC_DATA_LOSS = 15,
	RPC_UNAUTHENTICATED = 16,
};

enum { RPC_MESSAGE_MAX = 4 * 1024 * 1024 /* what grpc-go accepts by default */ };

struct rpc_server;
struct rpc_call;

/* A method. The request is valid during the handler only. The handler, or later code, must end the call once with
 * rpc_call_finish (streams may send before). `closed` (may be NULL) tells a call that was not finished by us that the
 * peer went away: the call is gone after it returns. */
struct rpc_method {
	const char *path; /* "/v1beta1.DevicePlugin/Allocate" */
	void (*handler)(struct rpc_call *call, const uint8_t *request, size_t length, void *user);
	void (*closed)(struct rpc_call *call, void *user);
};

struct rpc_server_limits {
	unsigned connections;  /* 0: 64 */
	unsigned streams;      /* concurrent per connection; 0: 100 */
	size_t message_bytes;  /* of one request or reply; 0: RPC_MESSAGE_MAX */
	unsigned handshake_ms; /* to say a first HTTP/2 frame; 0: 10 s */
	unsigned stall_ms;     /* with replies to take and taking nothing; 0: 30 s */
	unsigned request_ms;   /* from a request's first byte to its last; 0: 30 s */
	unsigned
		idle_ms; /* without a call, before a connection makes room for a new one where all are taken; 0: 10 s */
};

/* Binds `path` (0600, an old socket file there is removed), listens and serves. `methods` must outlive the server; it
 * ends with a NULL path. Peers whose uid is neither root's nor ours are refused. */
int rpc_server_start(uv_loop_t *loop, const char *path, const struct rpc_method *methods, void *user,
		     const struct rpc_server_limits *limits, struct rpc_server **server, struct gs_error *err);
/* Where the socket file was deleted or replaced: binds anew, and connections go on. `again` tells whether that was needed. -1
 * when it can't be done; EADDRINUSE: another process serves there. */
int rpc_server_listen_again(struct rpc_server *server, bool *again, struct gs_error *err);
/* Removes the socket file at once if it is still ours. Then, from the loop: GOAWAY to all peers; calls that have sent a
 * message (streams) end with OK and those that have not may still be finished; both hear `closed` if they are cut off.
 * Everything is freed once flushed or after half a second; `done` (may be NULL) runs last. May be called by a handler. */
void rpc_server_stop(struct rpc_server *server, void (*done)(void *user), void *user);

/* Accepts no more connections, and leaves the socket's file to the process that binds it next. Connections that are
 * open are served on, until rpc_server_stop. */
void rpc_server_close_listener(struct rpc_server *server);
/* The descriptors of up to `capacity` open connections, which stay the server's; how many. */
size_t rpc_server_connections(const struct rpc_server *server, int *fds, size_t capacity);

/* Copies the message. For a stream only the latest unsent message is kept: a slow reader skips older ones. A message
 * above the server's limit ends the call with RESOURCE_EXHAUSTED. */
void rpc_call_send(struct rpc_call *call, const uint8_t *message, size_t length);
/* Ends the call. `text` may be NULL; it is percent-encoded as the gRPC wire format asks. The call is gone afterwards. */
void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *text);
void rpc_call_set_data(struct rpc_call *call, void *data);
void *rpc_call_data(struct rpc_call *call);

/* A client connection to one unix socket; connects at the first call and again after a failure or the peer's GOAWAY.
 * All functions here may be called from inside the callbacks. */
struct rpc_client;
struct rpc_client_call;

enum { RPC_CLIENT_CALLS = 1000 };

/* Does not connect yet; fails only if `path` is too long for a socket. */
int rpc_client_new(uv_loop_t *loop, const char *path, struct rpc_client **client, struct gs_error *err);
/* Outstanding calls end with CANCELLED before it returns; memory goes when the loop next turns. */
void rpc_client_free(struct rpc_client *client);
/* The largest reply message taken, RPC_MESSAGE_MAX unless set; larger ones end their call with RESOURCE_EXHAUSTED. */
void rpc_client_set_message_bytes(struct rpc_client *client, size_t bytes);

/* One message of the reply (a stream calls it many times); bytes are valid during the call only. */
typedef void rpc_message_cb(void *user, const uint8_t *message, size_t length);
/* Once, at the end: status, and the peer's decoded text ("" if none). A peer that cannot be reached or goes away is
 * UNAVAILABLE, and the text says why. */
typedef void rpc_done_cb(void *user, enum rpc_status status, const char *text);
/* timeout_ms 0: none. `path` must outlive the call, the request is copied. Never calls back before it returns.
 * on_message may be NULL. NULL only when out of local limits (RPC_CLIENT_CALLS open calls) or while the client is freed. */
struct rpc_client_call *rpc_client_start(struct rpc_client *client, const char *path, const uint8_t *request,
					 size_t length, unsigned timeout_ms, rpc_message_cb *on_message,
					 rpc_done_cb *on_done, void *user);
void rpc_client_cancel(struct rpc_client_call *call); /* on_done is not called */

/* "UNAVAILABLE"; "UNKNOWN" for numbers that are no gRPC status. */
const char *rpc_status_name(int status);

#endif
