/* Shared by api.c and api_watch.c. */
#ifndef GPUSHARE_KUBE_API_INTERNAL_H
#define GPUSHARE_KUBE_API_INTERNAL_H

#include "base/strbuf.h"
#include "base/vec.h"
#include "kube/api/api.h"
#include "kube/api/curl_library.h"

/* One HTTP exchange: of a request, or of a watch. */
struct api_exchange {
	struct api *api;
	CURL *easy; /* NULL: not under way */
	struct curl_slist *headers;
	struct api_watch *watch; /* NULL: a request */
	size_t header_bytes;
	bool headers_complete, informational; /* the block of headers that comes is of a status 1xx */
	bool too_long;

	/* A request's. */
	char *method, *path, *content_type, *body;
	struct gs_strbuf reply;
	api_done *done;
	void *user;
};

struct api_watch {
	struct api *api;
	char *path;
	struct api_watch_owner owner;
	struct api_exchange exchange;
	struct api_lines lines;
	struct gs_strbuf refusal; /* body of an answer other than 200 */
	char *resource_version;   /* to resume from; NULL: from the start */
	bool accepted;            /* its headers came, with 200 */
	bool answered;            /* its headers came */
	uint64_t begun_ms;
	unsigned attempt; /* failures in a row */
	uv_timer_t timer; /* until the next try; while one is under way: for its headers */
};

struct api {
	uv_loop_t *loop;
	const struct gs_curl *curl;
	CURLM *multi;
	char *server;
	char *token_path, *ca_path;
	unsigned timeout_ms, watch_seconds;

	char *token;
	struct timespec token_time; /* of the file it was read from */
	ino_t token_inode;

	GS_VEC(struct api_exchange *) waiting;  /* in order of their sending */
	GS_VEC(struct api_exchange *) underway; /* requests only */
	GS_VEC(struct api_watch *) watches;
	unsigned allowance; /* requests that may be sent at once */
	uint64_t refilled_ms;
	uint64_t requests, watch_requests;

	uv_timer_t curl_timer, send_timer;
	unsigned handles; /* open */
	bool closing;
};

/* Opens the connection or takes an idle one, and sends. -1: nothing is under way. */
int api_exchange_begin(struct api_exchange *exchange, const char *method, const char *url_path,
		       const char *content_type, const char *body, struct gs_error *err);
/* Ends it, whatever its state. */
void api_exchange_end(struct api_exchange *exchange);
/* The token is read again at the next request, whatever its file's time. */
void api_forget_token(struct api *api);
/* The result of a finished exchange, as a sentence owned by the caller. `status` is 0 without a whole answer. */
char *api_exchange_problem(const struct api_exchange *exchange, CURLcode code, long status, const char *body,
			   size_t length);
unsigned api_exchange_retry_after_ms(const struct api_exchange *exchange);
/* Of a handle that api->handles counts. The last one frees the client. */
void api_handle_closed(struct api *api);

/* api_watch.c */
size_t api_watch_receive(struct api_watch *watch, const char *bytes, size_t length);
/* Hands on what arrived. */
void api_watch_deliver(struct api_watch *watch);
void api_watch_ended(struct api_watch *watch, CURLcode code);
void api_watch_free(struct api_watch *watch);

#endif
