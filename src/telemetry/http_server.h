/* An HTTP server that answers GET and HEAD, on libmicrohttpd and the event loop; no thread of its own.
 *
 * Whatever clients do, it has at most HTTP_CONNECTIONS_MAX of them, HTTP_CONNECTIONS_OF_ONE from one address, and
 * HTTP_CONNECTION_BYTES for each. One that is silent for HTTP_IDLE_SECONDS is cut off, and so is one whose request is
 * not whole after HTTP_REQUEST_SECONDS or that has not taken its answer after HTTP_ANSWER_SECONDS, however busy it
 * seems: a byte now and then holds no connection. It has no TLS and no authentication: every client that can reach its
 * address gets all that it serves. */
#ifndef GPUSHARE_TELEMETRY_HTTP_SERVER_H
#define GPUSHARE_TELEMETRY_HTTP_SERVER_H

#include <stdbool.h>
#include <uv.h>

#include "base/error.h"
#include "base/strbuf.h"

enum {
	HTTP_CONNECTIONS_MAX = 64,
	HTTP_CONNECTIONS_OF_ONE = 16,
	HTTP_CONNECTION_BYTES = 16 * 1024,
	HTTP_IDLE_SECONDS = 10,
	HTTP_REQUEST_SECONDS = 10, /* from the connection, or the end of the answer before */
	HTTP_ANSWER_SECONDS = 30
};

struct http_server;

struct http_answer {
	unsigned status; /* 200 unless it is set */
	const char *content_type;
	struct gs_strbuf body; /* taken over by the server */
};
/* Answers a GET of `path` (without its query). False: there is no such path. On the loop's thread. */
typedef bool http_get(void *user, const char *path, struct http_answer *answer);

/* Listens at "HOST:PORT", "[IPv6]:PORT" or ":PORT" (all addresses of the machine); port 0: any that is free. -1 with the
 * reason: not an address, taken, or no libmicrohttpd. */
int http_server_start(uv_loop_t *loop, const char *address, http_get *get, void *user, struct http_server **server,
		      struct gs_error *err);
/* Where it listens: "[::]:9400". Valid as long as the server. */
const char *http_server_address(const struct http_server *server);
/* Cuts all connections off. NULL: nothing. Its memory goes when the loop ran again. */
void http_server_stop(struct http_server *server);

#endif
