#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "rpc/http.h"
#include "rpc/link.h"
#include "rpc/rpc.h"
#include "rpc/wire.h"

enum {
	TEXT_BYTES = 4096, /* of a peer's error text */
	ATTEMPTS = 3,      /* of a call whose request never left */
};

/* One connection. A client has at most one that takes new calls; others may be finishing theirs after a GOAWAY. */
struct channel {
	struct channel *next;
	struct rpc_client *client;
	struct rpc_link link;
	nghttp2_session *http;
	struct rpc_rest rest;
	size_t call_count;
	bool draining; /* takes no new calls */
};

struct rpc_client_call {
	struct rpc_client_call *next, *previous;
	struct rpc_client *client;
	uint64_t number; /* in the order of their start */
	unsigned attempts;
	struct channel *channel; /* NULL: waits for one */
	int32_t stream;
	const char *path;
	uint8_t *request; /* with its prefix */
	size_t request_length;
	size_t request_sent;
	unsigned timeout_ms;
	uint64_t deadline_ms; /* UINT64_MAX: none */
	rpc_message_cb *on_message;
	rpc_done_cb *on_done;
	void *user;
	bool in_message; /* on_message is running */
	bool gone;       /* ended while it ran: its caller frees */

	int http_status;
	bool is_grpc;
	int status; /* -1: not seen */
	char *text;
	struct rpc_assembler reply;
};

struct rpc_client {
	uv_loop_t *loop;
	struct sockaddr_un address;
	uv_idle_t idle;
	uv_timer_t timer;
	uint64_t timer_ms;
	int handles;
	size_t message_bytes;
	struct channel *channels;
	struct rpc_client_call *first, *last; /* open calls, oldest first */
	size_t call_count;
	uint64_t calls_started;
	bool freed;
};

/* ---- calls ---- */

static void free_call(struct rpc_client_call *call)
{
	rpc_assembler_reset(&call->reply);
	rpc_buffer_free(call->request, call->request_length);
	free(call->text);
	free(call);
}

/* Takes the call out of all lists. It is freed at once, or by deliver() if that is running. */
static void forget_call(struct rpc_client_call *call)
{
	struct rpc_client *client = call->client;

	if (call->channel) {
		nghttp2_session_set_stream_user_data(call->channel->http, call->stream, NULL);
		call->channel->call_count--;
	}
	if (call->previous)
		call->previous->next = call->next;
	else
		client->first = call->next;
	if (call->next)
		call->next->previous = call->previous;
	else
		client->last = call->previous;
	client->call_count--;
	call->gone = true;
	if (!call->in_message)
		free_call(call);
}

static void end_call(struct rpc_client_call *call, enum rpc_status status, const char *text)
{
	rpc_done_cb *on_done = call->on_done;
	void *user = call->user;
	GS_AUTO_FREE char *own_text = gs_strdup(text ? text : "");

	forget_call(call);
	if (on_done)
		on_done(user, status, own_text);
}

/* Takes the stream back from the peer. */
static void reset_stream(struct rpc_client_call *call)
{
	if (call->channel)
		nghttp2_submit_rst_stream(call->channel->http, 0, call->stream, NGHTTP2_CANCEL);
}

static void on_idle(uv_idle_t *idle);

static void wake(struct rpc_client *client)
{
	uv_idle_start(&client->idle, on_idle);
}

static enum rpc_status status_of_http(int http_status)
{
	switch (http_status) {
	case 400:
		return RPC_INTERNAL;
	case 401:
		return RPC_UNAUTHENTICATED;
	case 403:
		return RPC_PERMISSION_DENIED;
	case 404:
		return RPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return RPC_UNAVAILABLE;
	}
	return RPC_UNKNOWN;
}

/* The peer has said all. */
static void end_by_peer(struct rpc_client_call *call)
{
	if (call->is_grpc && call->status >= 0) {
		if (call->status == RPC_OK && call->reply.prefix_length > 0)
			end_call(call, RPC_INTERNAL, "the peer's reply message is truncated");
		else
			end_call(call, (enum rpc_status)call->status, call->text);
	} else if (call->http_status != 200) {
		GS_AUTO_FREE char *text = gs_printf("the peer answered with HTTP status %d", call->http_status);
		end_call(call, status_of_http(call->http_status), text);
	} else if (!call->is_grpc) {
		end_call(call, RPC_UNKNOWN, "the peer's answer is no gRPC");
	} else {
		end_call(call, RPC_INTERNAL, "the peer ended the call without a status");
	}
}

/* Our side of the limits. */
static void fail_here(struct rpc_client_call *call, enum rpc_status status, char *text)
{
	reset_stream(call);
	end_call(call, status, text);
	free(text);
}

/* ---- HTTP/2 ---- */

static int decimal(const uint8_t *text, size_t length)
{
	int value = 0;
	if (length == 0 || length > 3)
		return -1;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

static int on_header(nghttp2_session *http, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
		     const uint8_t *value, size_t length, uint8_t flags, void *user)
{
	struct rpc_client_call *call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
	if (!call)
		return 0;
	if (RPC_HTTP_IS(name, name_length, ":status")) {
		call->http_status = decimal(value, length);
	} else if (RPC_HTTP_IS(name, name_length, "content-type")) {
		call->is_grpc = rpc_content_type_is_grpc(value, length);
	} else if (RPC_HTTP_IS(name, name_length, "grpc-status")) {
		int status = decimal(value, length);
		call->status = status >= 0 && status <= RPC_UNAUTHENTICATED ? status : RPC_UNKNOWN;
	} else if (RPC_HTTP_IS(name, name_length, "grpc-message")) {
		GS_AUTO_STRBUF struct gs_strbuf text = {0};
		rpc_percent_decode(&text, value, length < TEXT_BYTES ? length : TEXT_BYTES);
		free(call->text);
		call->text = gs_strbuf_take(&text);
	}
	return 0;
}

/* Hands a message to the caller. False if that ended the call. */
static bool deliver(struct rpc_client_call *call)
{
	call->in_message = true;
	if (call->on_message)
		call->on_message(call->user, call->reply.data, call->reply.length);
	call->in_message = false;
	if (call->gone) {
		free_call(call);
		return false;
	}
	rpc_assembler_reset(&call->reply);
	return true;
}

static int on_data_chunk(nghttp2_session *http, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t length,
			 void *user)
{
	struct rpc_client_call *call = nghttp2_session_get_stream_user_data(http, stream);

	if (!call || !call->is_grpc)
		return 0;
	while (length > 0) {
		switch (rpc_assembler_feed(&call->reply, &bytes, &length)) {
		case RPC_ASSEMBLY_MORE:
			return 0;
		case RPC_ASSEMBLY_MESSAGE:
			if (!deliver(call))
				return 0;
			break;
		case RPC_ASSEMBLY_COMPRESSED:
			fail_here(call, RPC_INTERNAL, gs_strdup("the peer sent a compressed message"));
			return 0;
		case RPC_ASSEMBLY_TOO_LARGE:
			fail_here(call, RPC_RESOURCE_EXHAUSTED,
				  gs_printf("the peer's message has %zu bytes, more than the maximum of %zu",
					    call->reply.length, call->reply.limit));
			return 0;
		}
	}
	return 0;
}

static int on_frame_received(nghttp2_session *http, const nghttp2_frame *frame, void *user)
{
	struct channel *channel = user;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		channel->draining = true;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	struct rpc_client_call *call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
	if (!call)
		return 0;
	if (call->request_sent < call->request_length)
		reset_stream(call);
	end_by_peer(call);
	return 0;
}

static int on_stream_close(nghttp2_session *http, int32_t stream, uint32_t error_code, void *user)
{
	struct rpc_client_call *call = nghttp2_session_get_stream_user_data(http, stream);

	if (!call)
		return 0;
	if (error_code == NGHTTP2_REFUSED_STREAM)
		end_call(call, RPC_UNAVAILABLE, "the peer takes no more calls on this connection");
	else if (error_code == NGHTTP2_CANCEL)
		end_call(call, RPC_CANCELLED, "the peer cancelled the call");
	else if (error_code == NGHTTP2_ENHANCE_YOUR_CALM)
		end_call(call, RPC_RESOURCE_EXHAUSTED, "the peer says that we ask too much");
	else if (error_code != NGHTTP2_NO_ERROR)
		end_call(call, RPC_INTERNAL, nghttp2_http2_strerror(error_code));
	else
		end_by_peer(call);
	return 0;
}

/* A request that could not be sent, as after a GOAWAY: the peer has seen nothing of it, so another connection may. */
static int on_frame_not_sent(nghttp2_session *http, const nghttp2_frame *frame, int error, void *user)
{
	struct channel *channel = user;

	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	struct rpc_client_call *call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
	if (!call)
		return 0;
	if (++call->attempts >= ATTEMPTS) {
		end_call(call, RPC_UNAVAILABLE, nghttp2_strerror(error));
		return 0;
	}
	nghttp2_session_set_stream_user_data(http, call->stream, NULL);
	channel->draining = true;
	channel->call_count--;
	call->channel = NULL;
	wake(call->client);
	return 0;
}

static ssize_t on_read_request(nghttp2_session *http, int32_t stream, uint8_t *bytes, size_t length,
			       uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
	struct rpc_client_call *call = nghttp2_session_get_stream_user_data(http, stream);

	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	size_t left = call->request_length - call->request_sent;
	size_t take = left < length ? left : length;
	memcpy(bytes, call->request + call->request_sent, take);
	call->request_sent += take;
	if (take == left) {
		*data_flags |= NGHTTP2_DATA_FLAG_EOF;
		rpc_buffer_free(GS_STEAL(call->request), call->request_length);
	}
	return (ssize_t)take;
}

static nghttp2_nv header(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)name,
			    .value = (uint8_t *)value,
			    .namelen = strlen(name),
			    .valuelen = strlen(value),
			    .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

static void submit(struct rpc_client_call *call, struct channel *channel)
{
	char timeout[RPC_TIMEOUT_TEXT_BYTES];
	nghttp2_nv headers[9] = {
		header(":method", "POST"),
		header(":scheme", "http"),
		header(":path", call->path),
		header(":authority", "localhost"),
		header("content-type", "application/grpc"),
		header("te", "trailers"),
		header("user-agent", "gpushare/" GPUSHARE_VERSION),
	};
	size_t count = 7;
	if (call->timeout_ms) {
		rpc_timeout_format(call->timeout_ms, timeout);
		headers[count++] = header("grpc-timeout", timeout);
	}
	const nghttp2_data_provider provider = {.read_callback = on_read_request};
	int32_t stream = nghttp2_submit_request(channel->http, NULL, headers, count, &provider, call);
	if (stream < 0) {
		channel->draining = true; /* stream ids are used up, or no memory: start afresh */
		end_call(call, RPC_UNAVAILABLE, nghttp2_strerror(stream));
		return;
	}
	call->stream = stream;
	call->channel = channel;
	channel->call_count++;
}

static nghttp2_session *new_http_session(struct channel *channel)
{
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_session *http = NULL;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		abort(); /* out of memory, as in base/alloc.h */
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_received);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	if (nghttp2_session_client_new(&http, callbacks, channel) != 0)
		abort();
	nghttp2_session_callbacks_del(callbacks);
	const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
	rpc_http_begin(http, settings, GS_ARRAY_LENGTH(settings));
	return http;
}

/* ---- connections ---- */

static void free_client_if_over(struct rpc_client *client)
{
	if (client->freed && client->handles == 0 && !client->channels)
		free(client);
}

/* Ends the calls of a connection that is no more. */
static void end_calls_of(struct channel *channel, enum rpc_status status, const char *text)
{
	struct rpc_client_call *call = channel->client->first;

	while (call) {
		if (call->channel != channel) {
			call = call->next;
			continue;
		}
		end_call(call, status, text);
		call = channel->client->first; /* the callback may have changed the list */
	}
}

static void close_channel(struct channel *channel)
{
	channel->draining = true;
	rpc_link_close(&channel->link);
}

static int on_received(void *owner, const uint8_t *bytes, size_t length)
{
	struct channel *channel = owner;
	ssize_t taken = nghttp2_session_mem_recv(channel->http, bytes, length);
	return taken == (ssize_t)length ? 0 : -1;
}

static size_t on_output(void *owner, uint8_t *bytes, size_t capacity)
{
	struct channel *channel = owner;
	ssize_t length = rpc_http_output(channel->http, &channel->rest, bytes, capacity);
	return length > 0 ? (size_t)length : 0;
}

/* The client outlives this: it is freed when its last channel is released. */
static void on_failed(void *owner, int error)
{
	struct channel *channel = owner;
	const char *path = channel->client->address.sun_path;
	GS_AUTO_FREE char *text = error ? gs_printf("connection to %s: %s", path, strerror(error))
					: gs_printf("%s: the peer closed the connection", path);
	close_channel(channel);
	end_calls_of(channel, RPC_UNAVAILABLE, text);
}

static void on_settled(void *owner)
{
	struct channel *channel = owner;

	if (channel->link.closing || channel->link.broken)
		return;
	bool over = !nghttp2_session_want_read(channel->http) && !nghttp2_session_want_write(channel->http);
	if (over && channel->rest.length == 0 && !rpc_link_blocked(&channel->link))
		on_failed(channel, 0);
	else if (channel->draining && channel->call_count == 0)
		close_channel(channel);
}

static void on_released(void *owner)
{
	struct channel *channel = owner;
	struct rpc_client *client = channel->client;
	struct channel **at = &client->channels;

	while (*at != channel)
		at = &(*at)->next;
	*at = channel->next;
	nghttp2_session_del(channel->http);
	free(channel);
	free_client_if_over(client);
}

static const struct rpc_link_ops link_ops = {
	.received = on_received,
	.output = on_output,
	.settled = on_settled,
	.failed = on_failed,
	.released = on_released,
};

/* A connected channel, or NULL with errno. */
static struct channel *connect_channel(struct rpc_client *client)
{
	GS_AUTO_CLOSE int fd = rpc_socket();
	if (fd < 0)
		return NULL;
	/* On a unix socket this is immediate: done, refused, or EAGAIN when the peer's queue is full. */
	if (connect(fd, (const struct sockaddr *)&client->address, sizeof client->address) < 0)
		return NULL;
	struct channel *channel = gs_calloc(1, sizeof *channel);
	channel->client = client;
	int rc = rpc_link_open(&channel->link, client->loop, fd, &link_ops, channel, true);
	fd = -1;
	if (rc < 0) {
		free(channel);
		errno = -rc;
		return NULL;
	}
	channel->http = new_http_session(channel);
	channel->next = client->channels;
	client->channels = channel;
	return channel;
}

static struct channel *find_channel(struct rpc_client *client)
{
	for (struct channel *channel = client->channels; channel; channel = channel->next) {
		if (!channel->draining && nghttp2_session_check_request_allowed(channel->http))
			return channel;
	}
	return connect_channel(client);
}

/* Ends the calls that wait for a connection, but not those that the callbacks start. */
static void end_waiting(struct rpc_client *client, const char *text)
{
	uint64_t newest = client->calls_started;
	struct rpc_client_call *call = client->first;

	while (call && call->number <= newest) {
		if (call->channel) {
			call = call->next;
			continue;
		}
		end_call(call, RPC_UNAVAILABLE, text);
		call = client->first;
	}
}

static void submit_waiting(struct rpc_client *client)
{
	struct rpc_client_call *call = client->first;

	while (call && call->channel)
		call = call->next;
	if (!call)
		return;
	struct channel *channel = find_channel(client);
	if (!channel) {
		GS_AUTO_FREE char *text =
			gs_printf("cannot connect to %s: %s", client->address.sun_path, strerror(errno));
		end_waiting(client, text);
		return;
	}
	while (call && !channel->draining) {
		struct rpc_client_call *next = call->next;
		if (!call->channel)
			submit(call, channel);
		call = next;
	}
}

/* Connects, submits and sends what waits. */
static void on_idle(uv_idle_t *idle)
{
	struct rpc_client *client = idle->data;

	uv_idle_stop(idle);
	submit_waiting(client);
	for (struct channel *channel = client->channels; channel; channel = channel->next) {
		if (channel->link.closing)
			continue;
		rpc_link_flush(&channel->link);
		on_settled(channel);
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct rpc_client *client = timer->data;
	uint64_t now = uv_now(client->loop);
	uint64_t earliest = UINT64_MAX;

	client->timer_ms = UINT64_MAX;
	struct rpc_client_call *call = client->first;
	while (call) {
		if (call->deadline_ms <= now) {
			reset_stream(call);
			end_call(call, RPC_DEADLINE_EXCEEDED, "no answer within the deadline");
			if (client->freed)
				return;
			wake(client);
			call = client->first;
			earliest = UINT64_MAX;
			continue;
		}
		if (call->deadline_ms < earliest)
			earliest = call->deadline_ms;
		call = call->next;
	}
	if (earliest < client->timer_ms) {
		client->timer_ms = earliest;
		uv_timer_start(timer, on_timer, earliest - now, 0);
	}
}

/* ---- the public side ---- */

int rpc_client_new(uv_loop_t *loop, const char *path, struct rpc_client **result, struct gs_error *err)
{
	size_t length = strlen(path);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (length == 0 || length >= sizeof address.sun_path)
		return gs_fail(err, GS_ERROR_INPUT, ENAMETOOLONG,
			       "socket path \"%s\" has %zu bytes, Linux allows 1 to %zu", path, length,
			       sizeof address.sun_path - 1);
	struct rpc_client *client = gs_calloc(1, sizeof *client);
	memcpy(address.sun_path, path, length + 1);
	client->address = address;
	client->loop = loop;
	client->message_bytes = RPC_MESSAGE_MAX;
	client->timer_ms = UINT64_MAX;
	uv_idle_init(loop, &client->idle);
	uv_timer_init(loop, &client->timer);
	client->idle.data = client;
	client->timer.data = client;
	client->handles = 2;
	*result = client;
	return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct rpc_client *client = handle->data;
	client->handles--;
	free_client_if_over(client);
}

void rpc_client_free(struct rpc_client *client)
{
	if (!client || client->freed)
		return;
	client->freed = true;
	while (client->first)
		end_call(client->first, RPC_CANCELLED, "the client was closed");
	for (struct channel *channel = client->channels; channel; channel = channel->next)
		close_channel(channel);
	uv_close((uv_handle_t *)&client->idle, on_handle_closed);
	uv_close((uv_handle_t *)&client->timer, on_handle_closed);
}

void rpc_client_set_message_bytes(struct rpc_client *client, size_t bytes)
{
	client->message_bytes = bytes;
}

struct rpc_client_call *rpc_client_start(struct rpc_client *client, const char *path, const uint8_t *request,
					 size_t length, unsigned timeout_ms, rpc_message_cb *on_message,
					 rpc_done_cb *on_done, void *user)
{
	if (client->freed || client->call_count >= RPC_CLIENT_CALLS || length > UINT32_MAX)
		return NULL;
	struct rpc_client_call *call = gs_calloc(1, sizeof *call);
	call->client = client;
	call->number = ++client->calls_started;
	call->path = path;
	call->request_length = RPC_PREFIX_BYTES + length;
	call->request = rpc_buffer_new(call->request_length);
	rpc_prefix_write(call->request, length);
	if (length)
		memcpy(call->request + RPC_PREFIX_BYTES, request, length);
	call->on_message = on_message;
	call->on_done = on_done;
	call->user = user;
	call->status = -1;
	call->reply.limit = client->message_bytes;
	call->timeout_ms = timeout_ms;
	call->deadline_ms = UINT64_MAX;
	call->previous = client->last;
	if (call->previous)
		call->previous->next = call;
	else
		client->first = call;
	client->last = call;
	client->call_count++;
	if (timeout_ms) {
		uv_update_time(client->loop); /* the caller may have been busy for long */
		call->deadline_ms = uv_now(client->loop) + timeout_ms;
		if (call->deadline_ms < client->timer_ms) {
			client->timer_ms = call->deadline_ms;
			uv_timer_start(&client->timer, on_timer, timeout_ms, 0);
		}
	}
	wake(client);
	return call;
}

void rpc_client_cancel(struct rpc_client_call *call)
{
	reset_stream(call);
	wake(call->client);
	forget_call(call);
}
