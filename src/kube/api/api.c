#include "kube/api/api.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "kube/api/api_internal.h"

enum {
	TOKEN_BYTES_MAX = 64 * 1024,
	HEADER_BYTES_MAX = 64 * 1024,
	CONNECT_TIMEOUT_MS = 5000,
	KEEPALIVE_SECONDS = 9, /* an idle watch asks the peer's kernel this often whether it is still there */
	UNACKNOWLEDGED_MS = 9000,
	REQUESTS_AT_ONCE = 2,
};

/* Labels are all that is read of an object, and a Node with its images is ten times as long. */
static const char accepted[] = "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json";
static const char user_agent[] = "gpushare/" GPUSHARE_VERSION;

uint32_t api_random(void)
{
	uint32_t number = 0;
	if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
		number = (uint32_t)uv_hrtime();
	return number;
}

/* --- the token --- */

static bool is_token(const char *text)
{
	for (const char *at = text; *at; at++)
		if (*at <= ' ' || *at == 0x7f)
			return false;
	return *text;
}

/* Reads the token when its file is another one than last time; the kubelet swaps it about once an hour. */
static int refresh_token(struct api *api, struct gs_error *err)
{
	struct stat status;
	if (stat(api->token_path, &status) < 0)
		return gs_fail_errno(err, "cannot read the service account's token %s", api->token_path);
	if (api->token && status.st_ino == api->token_inode && status.st_mtim.tv_sec == api->token_time.tv_sec &&
	    status.st_mtim.tv_nsec == api->token_time.tv_nsec)
		return 0;
	size_t length;
	char *text = gs_read_file_again(api->token_path, TOKEN_BYTES_MAX, &length, err);
	if (!text)
		return -1;
	while (length > 0 && strchr(" \t\r\n", text[length - 1]))
		text[--length] = '\0';
	if (!is_token(text)) {
		free(text);
		return gs_fail(err, GS_ERROR_INPUT, 0, "the service account's token %s is empty or no token",
			       api->token_path);
	}
	free(api->token);
	api->token = text;
	api->token_inode = status.st_ino;
	api->token_time = status.st_mtim;
	return 0;
}

void api_forget_token(struct api *api)
{
	free(api->token);
	api->token = NULL;
}

/* --- libcurl's callbacks: nothing here may call libcurl --- */

static size_t on_body(char *bytes, size_t size, size_t count, void *user)
{
	struct api_exchange *exchange = user;
	size_t length = size * count;
	if (exchange->watch)
		return api_watch_receive(exchange->watch, bytes, length);
	if (length > API_REPLY_BYTES_MAX - exchange->reply.length) {
		exchange->too_long = true;
		return 0;
	}
	gs_strbuf_add_bytes(&exchange->reply, bytes, length);
	return length;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *user)
{
	struct api_exchange *exchange = user;
	exchange->header_bytes += size * count;
	exchange->too_long |= exchange->header_bytes > HEADER_BYTES_MAX;
	/* "HTTP/1.1 100 Continue" and its like come before the answer. */
	if (size * count > strlen("HTTP/1.1 1") && strncmp(bytes, "HTTP/", strlen("HTTP/")) == 0)
		exchange->informational = bytes[strlen("HTTP/1.1 ")] == '1';
	exchange->headers_complete = size * count > 0 && (*bytes == '\r' || *bytes == '\n') && !exchange->informational;
	return exchange->too_long ? 0 : size * count;
}

static int on_new_socket(void *user, curl_socket_t fd, curlsocktype purpose)
{
	/* A peer that lost its power never says so: what we sent must be acknowledged in time. */
	int milliseconds = UNACKNOWLEDGED_MS;
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
	/* The daemon's children have no business with it. */
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return CURL_SOCKOPT_OK;
}

/* --- exchanges --- */

static void add_header(struct api_exchange *exchange, const char *start, const char *value)
{
	GS_AUTO_STRBUF struct gs_strbuf line = {0};
	gs_strbuf_add(&line, start);
	gs_strbuf_add(&line, value);
	exchange->headers = exchange->api->curl->slist_append(exchange->headers, line.data);
}

static void set_transport(struct api_exchange *exchange)
{
	struct api *api = exchange->api;
	const struct gs_curl *curl = api->curl;
	CURL *easy = exchange->easy;
#if LIBCURL_VERSION_NUM >= 0x075500
	curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
#else
	curl->easy_setopt(easy, CURLOPT_PROTOCOLS, (long)CURLPROTO_HTTPS);
#endif
	curl->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl->easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl->easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl->easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	/* The cluster's CA alone: not the system's. */
	curl->easy_setopt(easy, CURLOPT_CAINFO, api->ca_path);
	curl->easy_setopt(easy, CURLOPT_CAPATH, NULL);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Else a CA that was replaced is noticed a day later. */
	curl->easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	/* Else ending an exchange waits for a name server. */
	curl->easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	curl->easy_setopt(easy, CURLOPT_PROXY, "");
	curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	curl->easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl->easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_SECONDS);
	curl->easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_SECONDS / 3);
	curl->easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
	curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl->easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
	curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl->easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
	curl->easy_setopt(easy, CURLOPT_PRIVATE, exchange);
	curl->easy_setopt(easy, CURLOPT_USERAGENT, user_agent);
}

int api_exchange_begin(struct api_exchange *exchange, const char *method, const char *url_path,
		       const char *content_type, const char *body, struct gs_error *err)
{
	struct api *api = exchange->api;
	const struct gs_curl *curl = api->curl;
	if (refresh_token(api, err) < 0)
		return -1;
	exchange->easy = curl->easy_init();
	if (!exchange->easy)
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "libcurl could not make a request");
	exchange->header_bytes = 0;
	exchange->headers_complete = exchange->informational = false;
	exchange->too_long = false;
	set_transport(exchange);
	GS_AUTO_FREE char *url = gs_printf("%s%s", api->server, url_path);
	curl->easy_setopt(exchange->easy, CURLOPT_URL, url);
	curl->easy_setopt(exchange->easy, CURLOPT_CUSTOMREQUEST, method);
	curl->easy_setopt(exchange->easy, CURLOPT_TIMEOUT_MS,
			  exchange->watch ? (long)api->watch_seconds * 1000 + api->timeout_ms : (long)api->timeout_ms);
	add_header(exchange, "Authorization: Bearer ", api->token);
	add_header(exchange, accepted, "");
	if (body) {
		add_header(exchange, "Content-Type: ", content_type);
		add_header(exchange, "Expect:", "");
		curl->easy_setopt(exchange->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
		curl->easy_setopt(exchange->easy, CURLOPT_COPYPOSTFIELDS, body);
	}
	curl->easy_setopt(exchange->easy, CURLOPT_HTTPHEADER, exchange->headers);
	CURLMcode failed = curl->multi_add_handle(api->multi, exchange->easy);
	if (failed) {
		api_exchange_end(exchange);
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "libcurl took no request (code %d)", (int)failed);
	}
	api->requests++;
	return 0;
}

void api_exchange_end(struct api_exchange *exchange)
{
	const struct gs_curl *curl = exchange->api->curl;
	if (exchange->easy) {
		curl->multi_remove_handle(exchange->api->multi, exchange->easy);
		curl->easy_cleanup(exchange->easy);
	}
	curl->slist_free_all(exchange->headers);
	exchange->easy = NULL;
	exchange->headers = NULL;
}

char *api_exchange_problem(const struct api_exchange *exchange, CURLcode code, long status, const char *body,
			   size_t length)
{
	const struct api *api = exchange->api;
	if (exchange->too_long)
		return gs_printf("%s sent more than any answer is long; is it an API server?", api->server);
	if (code == CURLE_SSL_CACERT_BADFILE)
		return gs_printf("cannot read the cluster's CA certificates %s", api->ca_path);
	if (code == CURLE_PEER_FAILED_VERIFICATION)
		return gs_printf("%s has a certificate that %s does not vouch for", api->server, api->ca_path);
	if (code != CURLE_OK)
		return gs_printf("%s gave no answer: %s", api->server, api->curl->easy_strerror(code));
	if (status >= 200 && status < 300)
		return gs_strdup("");
	GS_AUTO_FREE char *said = api_error_message(body, length);
	return gs_printf("%s answered %ld: %s", api->server, status, said);
}

unsigned api_exchange_retry_after_ms(const struct api_exchange *exchange)
{
	curl_off_t seconds = 0;
	exchange->api->curl->easy_getinfo(exchange->easy, CURLINFO_RETRY_AFTER, &seconds);
	if (seconds <= 0)
		return 0;
	return seconds > API_RETRY_AFTER_MAX_MS / 1000 ? API_RETRY_AFTER_MAX_MS : (unsigned)seconds * 1000;
}

/* --- requests --- */

static void free_request(struct api_exchange *request)
{
	api_exchange_end(request);
	free(request->method);
	free(request->path);
	free(request->content_type);
	free(request->body);
	gs_strbuf_free(&request->reply);
	free(request);
}

static void forget_request(struct api *api, struct api_exchange *request)
{
	for (size_t i = 0; i < api->underway.count; i++)
		if (api->underway.items[i] == request)
			api->underway.items[i] = api->underway.items[--api->underway.count];
}

static void dispatch(struct api *api);

static void request_ended(struct api_exchange *request, CURLcode code)
{
	struct api *api = request->api;
	long status = 0;
	if (code == CURLE_OK)
		api->curl->easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status == 401)
		api_forget_token(api);
	const char *body = request->reply.data ? request->reply.data : "";
	GS_AUTO_FREE char *problem = api_exchange_problem(request, code, status, body, request->reply.length);
	const struct api_reply reply = {
		.status = status,
		.body = body,
		.length = request->reply.length,
		.problem = problem,
		.retry_after_ms = api_exchange_retry_after_ms(request),
	};
	forget_request(api, request);
	request->done(request->user, &reply);
	free_request(request);
	dispatch(api);
}

static void on_send_timer(uv_timer_t *timer)
{
	dispatch(timer->data);
}

static void refill(struct api *api)
{
	uint64_t passed = (uv_now(api->loop) - api->refilled_ms) / API_REFILL_MS;
	api->refilled_ms += passed * API_REFILL_MS;
	api->allowance = passed > API_BURST - api->allowance ? API_BURST : api->allowance + (unsigned)passed;
}

static void begin_request(struct api *api, struct api_exchange *request)
{
	struct gs_error err;
	*GS_VEC_PUSH(&api->underway) = request;
	if (api_exchange_begin(request, request->method, request->path, request->content_type, request->body, &err) ==
	    0)
		return;
	forget_request(api, request);
	const struct api_reply reply = {.body = "", .problem = err.text};
	request->done(request->user, &reply);
	free_request(request);
}

/* Begins what the limits allow. Not from within libcurl. */
static void dispatch(struct api *api)
{
	refill(api);
	while (!api->closing && api->waiting.count > 0 && api->underway.count < REQUESTS_AT_ONCE &&
	       api->allowance > 0) {
		struct api_exchange *request = api->waiting.items[0];
		memmove(api->waiting.items, api->waiting.items + 1, --api->waiting.count * sizeof *api->waiting.items);
		api->allowance--;
		begin_request(api, request);
	}
	if (!api->closing && api->waiting.count > 0 && api->allowance == 0)
		uv_timer_start(&api->send_timer, on_send_timer, API_REFILL_MS, 0);
}

int api_send(struct api *api, const char *method, const char *path, const char *content_type, const char *body,
	     api_done *done, void *user, struct gs_error *err)
{
	if (api->waiting.count + api->underway.count >= API_QUEUE_MAX)
		return gs_fail(err, GS_ERROR_LIMIT, 0, "%d requests to the API server wait already", API_QUEUE_MAX);
	struct api_exchange *request = gs_calloc(1, sizeof *request);
	*request = (struct api_exchange){
		.api = api,
		.method = gs_strdup(method),
		.path = gs_strdup(path),
		.content_type = content_type ? gs_strdup(content_type) : NULL,
		.body = body ? gs_strdup(body) : NULL,
		.done = done,
		.user = user,
	};
	*GS_VEC_PUSH(&api->waiting) = request;
	/* The caller may be in a callback of libcurl, or count on its own next line coming first. */
	if (!uv_is_active((uv_handle_t *)&api->send_timer))
		uv_timer_start(&api->send_timer, on_send_timer, 0, 0);
	return 0;
}

/* --- libcurl on the loop --- */

static void pump(struct api *api)
{
	for (size_t i = 0; i < api->watches.count && !api->closing; i++)
		api_watch_deliver(api->watches.items[i]);
	CURLMsg *message;
	int left;
	while (!api->closing && (message = api->curl->multi_info_read(api->multi, &left))) {
		if (message->msg != CURLMSG_DONE)
			continue;
		CURLcode code = message->data.result;
		struct api_exchange *exchange = NULL;
		api->curl->easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&exchange);
		if (exchange->watch)
			api_watch_ended(exchange->watch, code);
		else
			request_ended(exchange, code);
	}
}

static void on_curl_timer(uv_timer_t *timer)
{
	struct api *api = timer->data;
	int running;
	api->curl->multi_socket_action(api->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	pump(api);
}

static int set_timer(CURLM *multi, long milliseconds, void *user)
{
	struct api *api = user;
	if (milliseconds < 0 || api->closing)
		uv_timer_stop(&api->curl_timer);
	else
		uv_timer_start(&api->curl_timer, on_curl_timer, (uint64_t)milliseconds, 0);
	return 0;
}

struct socket_watch {
	struct api *api;
	curl_socket_t fd;
	uv_poll_t poll;
};

void api_handle_closed(struct api *api)
{
	if (--api->handles > 0)
		return;
	GS_VEC_FREE(&api->waiting);
	GS_VEC_FREE(&api->underway);
	GS_VEC_FREE(&api->watches);
	free(api->server);
	free(api->token_path);
	free(api->ca_path);
	free(api->token);
	free(api);
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct socket_watch *socket = handle->data;
	struct api *api = socket->api;
	free(socket);
	api_handle_closed(api);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
	struct socket_watch *socket = poll->data;
	struct api *api = socket->api;
	int flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0) |
		    (status < 0 ? CURL_CSELECT_ERR : 0);
	int running;
	api->curl->multi_socket_action(api->multi, socket->fd, flags, &running);
	pump(api);
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *data)
{
	struct api *api = user;
	struct socket_watch *socket = data;
	if (what == CURL_POLL_REMOVE) {
		if (!socket)
			return 0;
		uv_poll_stop(&socket->poll);
		uv_close((uv_handle_t *)&socket->poll, on_poll_closed);
		api->curl->multi_assign(api->multi, fd, NULL);
		return 0;
	}
	if (!socket) {
		socket = gs_calloc(1, sizeof *socket);
		*socket = (struct socket_watch){.api = api, .fd = fd};
		if (uv_poll_init(api->loop, &socket->poll, fd) < 0) {
			free(socket);
			return -1;
		}
		socket->poll.data = socket;
		api->handles++;
		api->curl->multi_assign(api->multi, fd, socket);
	}
	uv_poll_start(&socket->poll, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
		      on_socket);
	return 0;
}

/* --- life --- */

int api_open(uv_loop_t *loop, const struct api_options *options, struct api **out, struct gs_error *err)
{
	const struct gs_curl *curl = gs_curl_open(err);
	if (!curl)
		return -1;
	CURLM *multi = curl->multi_init();
	if (!multi)
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "libcurl could not be set up");
	struct api *api = gs_calloc(1, sizeof *api);
	bool is_ipv6 = strchr(options->host, ':') != NULL;
	*api = (struct api){
		.loop = loop,
		.curl = curl,
		.multi = multi,
		.server = gs_printf(is_ipv6 ? "https://[%s]:%s" : "https://%s:%s", options->host, options->port),
		.token_path = gs_printf("%s/token", options->credentials_dir),
		.ca_path = gs_printf("%s/ca.crt", options->credentials_dir),
		.timeout_ms = options->timeout_ms ? options->timeout_ms : API_TIMEOUT_MS,
		.watch_seconds = options->watch_seconds ? options->watch_seconds : API_WATCH_SECONDS,
		.allowance = API_BURST,
		.refilled_ms = uv_now(loop),
		.handles = 2,
	};
	uv_timer_init(loop, &api->curl_timer);
	uv_timer_init(loop, &api->send_timer);
	api->curl_timer.data = api->send_timer.data = api;
	curl->multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, set_socket);
	curl->multi_setopt(multi, CURLMOPT_SOCKETDATA, api);
	curl->multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl->multi_setopt(multi, CURLMOPT_TIMERDATA, api);
	curl->multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl->multi_setopt(multi, CURLMOPT_MAXCONNECTS, 2L);
	*out = api;
	return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
	api_handle_closed(handle->data);
}

void api_close(struct api *api)
{
	api->closing = true;
	for (size_t i = 0; i < api->watches.count; i++) {
		api_exchange_end(&api->watches.items[i]->exchange);
		api_watch_free(api->watches.items[i]);
	}
	for (size_t i = 0; i < api->underway.count; i++)
		free_request(api->underway.items[i]);
	for (size_t i = 0; i < api->waiting.count; i++)
		free_request(api->waiting.items[i]);
	api->curl->multi_cleanup(api->multi);
	uv_close((uv_handle_t *)&api->curl_timer, on_timer_closed);
	uv_close((uv_handle_t *)&api->send_timer, on_timer_closed);
}

const char *api_server(const struct api *api)
{
	return api->server;
}

void api_counts(const struct api *api, uint64_t *requests, uint64_t *watches)
{
	*requests = api->requests;
	*watches = api->watch_requests;
}
