/* A client of the Kubernetes API server, on libcurl and the event loop; no thread of its own.
 *
 * HTTP/1.1 over TLS with the service account's token and CA: one connection for each watch, one for everything else, so
 * that a request that hangs takes its connection with it and nothing more. Token and CA are read again when their files
 * change. Proxies from the environment are ignored. Every reply, header and queue is bounded.
 *
 * Callbacks run from the loop, never from within a call of these functions, and may call api_send but
 * not api_close. */
#ifndef GPUSHARE_KUBE_API_H
#define GPUSHARE_KUBE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "kube/api/api_text.h"

enum {
	API_REPLY_BYTES_MAX = 4 << 20,
	API_QUEUE_MAX = 32,         /* requests waiting or under way */
	API_TIMEOUT_MS = 15 * 1000, /* of a request; of a watch: until its headers */
	API_WATCH_SECONDS = 9 * 60, /* after which the server ends a watch, and it is begun again */
	API_BURST = 20,             /* requests at once; after them */
	API_REFILL_MS = 1000,       /* one in this time */
	API_RETRY_AFTER_MAX_MS = 10 * 60 * 1000,
};

#define API_CREDENTIALS_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

struct api;

struct api_options {
	const char *host, *port;     /* an IPv6 address without brackets */
	const char *credentials_dir; /* has `token` and `ca.crt` */
	unsigned timeout_ms;         /* 0: API_TIMEOUT_MS */
	unsigned watch_seconds;      /* 0: API_WATCH_SECONDS */
};

/* -1 when libcurl is not there. */
int api_open(uv_loop_t *loop, const struct api_options *options, struct api **api, struct gs_error *err);
/* Gives up all requests and watches without calling back. Memory goes when the loop ran again. */
void api_close(struct api *api);
const char *api_server(const struct api *api); /* https://host:port */
/* Sent so far: all requests, watches included; and watches. */
void api_counts(const struct api *api, uint64_t *requests, uint64_t *watches);

struct api_reply {
	long status;      /* HTTP status; 0: there was no answer, or no whole one */
	const char *body; /* NUL-terminated, never NULL */
	size_t length;
	const char *problem;     /* "" for 2xx; else a sentence that says what went wrong */
	unsigned retry_after_ms; /* as the server asked, at most API_RETRY_AFTER_MAX_MS; 0: it did not */
};
typedef void api_done(void *user, const struct api_reply *reply);

/* Sends when the rate limit lets it. `path` begins with / and is escaped where needed; `body` may be NULL. All texts are
 * copied. `done` is called exactly once, unless api_close comes first. -1 when API_QUEUE_MAX requests wait already. */
int api_send(struct api *api, const char *method, const char *path, const char *content_type, const char *body,
	     api_done *done, void *user, struct gs_error *err);

/* For jitter; not for secrets. */
uint32_t api_random(void);

struct api_watch;

struct api_watch_owner {
	void *user;
	/* ADDED, MODIFIED or DELETED. The object is the callee's for the time of the call. False when it is another
	 * object than the requested one: then the whole answer is dropped, and the watch begins from the start. */
	bool (*event)(void *user, enum api_event_type type, const json_t *object);
	/* The server accepted the watch (""), it ended after its time and goes on (NULL), or it ended with a problem and will
	 * be begun again. */
	void (*state)(void *user, const char *problem);
};

/* Watches `path` (with its selectors, without watch's own parameters) for ever: first everything there is as ADDED, then
 * changes. Begins again with back-off where it ended: from the last resourceVersion, or from the start when the server no
 * longer knows it. Asks for metadata only (PartialObjectMetadata). */
struct api_watch *api_watch(struct api *api, const char *path, const struct api_watch_owner *owner);

#endif
