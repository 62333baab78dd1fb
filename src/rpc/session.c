#include "rpc/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "rpc/http.h"
#include "rpc/wire.h"

/* A reply message with its prefix. */
struct message {
	uint8_t *bytes;
	size_t length;
};

struct rpc_call {
	struct rpc_call *next, *previous;
	struct rpc_session *session;
	const struct rpc_method *method;
	void *data;
	char *unknown_path; /* for the error text */
	int32_t stream;

	/* The values of the request's headers. */
	size_t header_bytes;
	bool has_path, is_post, is_grpc, bad_timeout;
	bool half_closed;    /* the peer has sent all */
	uint64_t timeout_ms; /* UINT64_MAX: none */
	uint64_t deadline_ms;
	uint64_t whole_ms; /* when the request must be whole; UINT64_MAX: it is */
	bool began;        /* its headers are whole */
	struct rpc_assembler request;
	bool has_request;

	bool held;              /* the handler's side has it and must finish it */
	bool streaming;         /* it sent a message */
	bool concluded;         /* status is final */
	bool submitted;         /* reply HEADERS are queued or sent */
	bool deferred;          /* the reply waits for a message */
	bool oversize;          /* it tried to send a message that the peer would refuse */
	struct message sending; /* `sent` bytes of it are in frames */
	size_t sent;
	struct message waiting;
	enum rpc_status status;
	char *text; /* encoded; NULL: none */
};

struct rpc_session {
	struct rpc_session *next, *previous; /* of all */
	nghttp2_session *http;
	struct rpc_session_setup setup;
	struct rpc_call *calls;
	struct rpc_rest rest;
	size_t buffered_bytes; /* of requests */
	size_t unsent_bytes;   /* of replies */
	uint64_t now_ms;
	uint64_t next_deadline_ms;
	unsigned fault_tokens;
	uint64_t fault_ms; /* when fault_tokens was right */
	bool established;
	bool receiving;
	bool broken;
	bool freeing;
};

#define HEADER(name_text, value_text)                                                                               \
	{                                                                                                           \
		.name = (uint8_t *)(name_text), .value = (uint8_t *)(value_text), .namelen = sizeof(name_text) - 1, \
		.valuelen = sizeof(value_text) - 1,                                                                 \
		.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,                              \
	}

static void wake(struct rpc_session *session)
{
	if (!session->receiving && !session->freeing)
		session->setup.wake(session->setup.transport);
}

/* All sessions are the loop thread's, so what they hold is counted without a lock. */
static struct {
	struct rpc_session *sessions;
	size_t bytes;
} all;

static size_t held_by(const struct rpc_session *session)
{
	return session->buffered_bytes + session->unsent_bytes;
}

/* Breaks those that hold most, until the others hold what they may. Their memory goes when they are closed. */
static void keep_bounded(void)
{
	for (;;) {
		struct rpc_session *most = NULL;
		size_t bytes = 0;
		for (struct rpc_session *each = all.sessions; each; each = each->next) {
			if (each->broken)
				continue;
			bytes += held_by(each);
			if (!most || held_by(each) > held_by(most))
				most = each;
		}
		if (bytes <= RPC_HELD_BYTES)
			return;
		most->broken = true;
		wake(most);
	}
}

/* `which` is one of the session's counters. */
static void take_bytes(size_t *which, size_t bytes)
{
	*which += bytes;
	all.bytes += bytes;
	if (all.bytes > RPC_HELD_BYTES)
		keep_bounded();
}

static void give_bytes(size_t *which, size_t bytes)
{
	*which -= bytes;
	all.bytes -= bytes;
}

static void drop_message(struct rpc_session *session, struct message *message)
{
	give_bytes(&session->unsent_bytes, message->length);
	rpc_buffer_free(message->bytes, message->length);
	*message = (struct message){0};
}

static void drop_request(struct rpc_call *call)
{
	give_bytes(&call->session->buffered_bytes, call->request.capacity);
	rpc_assembler_reset(&call->request);
}

/* Tells the handler's side that the call is gone. */
static void release(struct rpc_call *call)
{
	if (!call->held)
		return;
	call->held = false;
	if (call->method->closed)
		call->method->closed(call, call->session->setup.user);
}

static void free_call(struct rpc_call *call)
{
	struct rpc_session *session = call->session;

	if (call->previous)
		call->previous->next = call->next;
	else
		session->calls = call->next;
	if (call->next)
		call->next->previous = call->previous;
	drop_request(call);
	drop_message(session, &call->sending);
	drop_message(session, &call->waiting);
	free(call->unknown_path);
	free(call->text);
	free(call);
}

/* The trailers, after `first` other headers. Returns how many headers there are. `status_text` must outlive the submit
 * only: nghttp2 copies them. */
static size_t add_trailers(const struct rpc_call *call, nghttp2_nv *headers, size_t first, char status_text[3])
{
	unsigned status = (unsigned)call->status;
	size_t digits = 0;
	if (status >= 10)
		status_text[digits++] = (char)('0' + status / 10 % 10);
	status_text[digits++] = (char)('0' + status % 10);
	headers[first] = (nghttp2_nv)HEADER("grpc-status", "");
	headers[first].value = (uint8_t *)status_text;
	headers[first].valuelen = digits;
	headers[first++].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
	if (call->text) {
		headers[first] = (nghttp2_nv)HEADER("grpc-message", "");
		headers[first].value = (uint8_t *)call->text;
		headers[first].valuelen = strlen(call->text);
		headers[first++].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
	}
	return first;
}

static void end_with_trailers(struct rpc_call *call, uint32_t *data_flags)
{
	nghttp2_nv headers[2];
	char status_text[3];
	size_t count = add_trailers(call, headers, 0, status_text);

	*data_flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
	if (nghttp2_submit_trailer(call->session->http, call->stream, headers, count) != 0)
		call->session->broken = true;
}

/* Status and text are final; nothing more comes from the handler's side. */
static void settle(struct rpc_call *call, enum rpc_status status, const char *text)
{
	call->concluded = true;
	call->status = status;
	drop_request(call);
	if (!text || !*text)
		return;
	GS_AUTO_STRBUF struct gs_strbuf encoded = {0};
	rpc_percent_encode(&encoded, text, strnlen(text, RPC_SESSION_TEXT_BYTES));
	call->text = gs_strbuf_take(&encoded);
}

/* nghttp2 asks for up to `length` bytes of the reply. */
static ssize_t on_read_reply(nghttp2_session *http, int32_t stream, uint8_t *bytes, size_t length, uint32_t *data_flags,
			     nghttp2_data_source *source, void *user)
{
	struct rpc_call *call = source->ptr;
	struct rpc_session *session = call->session;

	if (call->oversize && !call->concluded) {
		settle(call, RPC_RESOURCE_EXHAUSTED, "the reply is larger than a message may be");
		release(call);
	}
	if (!call->sending.bytes) {
		call->sending = call->waiting;
		call->sent = 0;
		call->waiting = (struct message){0};
	}
	if (!call->sending.bytes) {
		if (!call->concluded) {
			call->deferred = true;
			return NGHTTP2_ERR_DEFERRED;
		}
		end_with_trailers(call, data_flags);
		return 0;
	}
	size_t left = call->sending.length - call->sent;
	size_t take = left < length ? left : length;
	memcpy(bytes, call->sending.bytes + call->sent, take);
	call->sent += take;
	if (take == left) {
		drop_message(session, &call->sending);
		if (call->concluded && !call->waiting.bytes)
			end_with_trailers(call, data_flags);
	}
	return (ssize_t)take;
}

static void resume(struct rpc_call *call)
{
	if (!call->deferred)
		return;
	call->deferred = false;
	nghttp2_session_resume_data(call->session->http, call->stream);
}

static void submit_reply(struct rpc_call *call)
{
	static const nghttp2_nv headers[] = {HEADER(":status", "200"), HEADER("content-type", "application/grpc")};
	nghttp2_data_provider provider = {.source.ptr = call, .read_callback = on_read_reply};

	call->submitted = true;
	if (nghttp2_submit_response(call->session->http, call->stream, headers, GS_ARRAY_LENGTH(headers), &provider) !=
	    0)
		call->session->broken = true;
}

/* Headers and trailers in one frame. */
static void submit_trailers_only(struct rpc_call *call, unsigned http_status)
{
	nghttp2_nv headers[4] = {HEADER(":status", "200"), HEADER("content-type", "application/grpc")};
	char status_text[3];
	if (http_status == 405)
		headers[0] = (nghttp2_nv)HEADER(":status", "405");
	else if (http_status == 415)
		headers[0] = (nghttp2_nv)HEADER(":status", "415");
	size_t count = add_trailers(call, headers, 2, status_text);

	call->submitted = true;
	if (nghttp2_submit_response(call->session->http, call->stream, headers, count, NULL) != 0)
		call->session->broken = true;
}

/* Ends a call, for the handler, the peer or the session. */
static void conclude(struct rpc_call *call, enum rpc_status status, const char *text)
{
	if (call->concluded)
		return;
	settle(call, status, text);
	if (call->submitted)
		resume(call);
	else
		submit_trailers_only(call, 200);
}

static void refuse(struct rpc_call *call, unsigned http_status, enum rpc_status status, const char *text)
{
	settle(call, status, text);
	submit_trailers_only(call, http_status);
}

void rpc_call_send(struct rpc_call *call, const uint8_t *message, size_t length)
{
	struct rpc_session *session = call->session;

	if (call->concluded || session->freeing)
		return;
	if (length > session->setup.limits.message_bytes) {
		call->oversize = true;
	} else {
		/* A message of which nothing has left yet is outdated; one that has begun must be completed. */
		struct message *slot = call->sending.bytes && call->sent > 0 ? &call->waiting : &call->sending;
		drop_message(session, slot);
		slot->length = RPC_PREFIX_BYTES + length;
		slot->bytes = rpc_buffer_new(slot->length);
		rpc_prefix_write(slot->bytes, length);
		if (length)
			memcpy(slot->bytes + RPC_PREFIX_BYTES, message, length);
		if (slot == &call->sending)
			call->sent = 0;
		take_bytes(&session->unsent_bytes, slot->length);
		if (session->unsent_bytes > RPC_SESSION_UNSENT_BYTES + session->setup.limits.message_bytes)
			session->broken = true;
	}
	call->streaming = true;
	if (call->submitted)
		resume(call);
	else
		submit_reply(call);
	wake(session);
}

void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *text)
{
	struct rpc_session *session = call->session;

	call->held = false;
	if (session->freeing)
		return;
	if (call->oversize)
		conclude(call, RPC_RESOURCE_EXHAUSTED, "the reply is larger than a message may be");
	else
		conclude(call, status, text);
	wake(session);
}

void rpc_call_set_data(struct rpc_call *call, void *data)
{
	call->data = data;
}

void *rpc_call_data(struct rpc_call *call)
{
	return call->data;
}

/* One more stream went wrong by the peer's doing. Peers that make a habit of it (rapid resets) are sent away. */
static void count_fault(struct rpc_session *session)
{
	uint64_t refill = (session->now_ms - session->fault_ms) * RPC_SESSION_FAULTS_PER_SECOND / 1000;
	if (refill > 0) {
		session->fault_ms = session->now_ms;
		uint64_t tokens = session->fault_tokens + refill;
		session->fault_tokens = tokens < RPC_SESSION_FAULT_BURST ? (unsigned)tokens : RPC_SESSION_FAULT_BURST;
	}
	if (session->fault_tokens > 0)
		session->fault_tokens--;
	else
		nghttp2_session_terminate_session(session->http, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int on_begin_headers(nghttp2_session *http, const nghttp2_frame *frame, void *user)
{
	struct rpc_session *session = user;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct rpc_call *call = gs_calloc(1, sizeof *call);
	call->session = session;
	call->stream = frame->hd.stream_id;
	call->timeout_ms = UINT64_MAX;
	call->deadline_ms = UINT64_MAX;
	call->whole_ms =
		session->setup.limits.request_ms ? session->now_ms + session->setup.limits.request_ms : UINT64_MAX;
	if (call->whole_ms < session->next_deadline_ms)
		session->next_deadline_ms = call->whole_ms;
	call->request.limit = session->setup.limits.message_bytes;
	call->next = session->calls;
	if (call->next)
		call->next->previous = call;
	session->calls = call;
	nghttp2_session_set_stream_user_data(http, call->stream, call);
	return 0;
}

static void take_path(struct rpc_call *call, const uint8_t *path, size_t length)
{
	call->has_path = true;
	for (const struct rpc_method *method = call->session->setup.methods; method->path; method++) {
		if (rpc_http_equals(path, length, method->path, strlen(method->path))) {
			call->method = method;
			return;
		}
	}
	call->unknown_path = gs_strndup((const char *)path, length < 200 ? length : 200);
}

static int on_header(nghttp2_session *http, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
		     const uint8_t *value, size_t value_length, uint8_t flags, void *user)
{
	struct rpc_call *call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
	if (!call)
		return 0;
	call->header_bytes += name_length + value_length + 32;
	if (call->header_bytes > RPC_SESSION_HEADER_BYTES)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	if (RPC_HTTP_IS(name, name_length, ":path")) {
		if (call->has_path)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		take_path(call, value, value_length);
	} else if (RPC_HTTP_IS(name, name_length, ":method")) {
		call->is_post = RPC_HTTP_IS(value, value_length, "POST");
	} else if (RPC_HTTP_IS(name, name_length, "content-type")) {
		call->is_grpc = rpc_content_type_is_grpc(value, value_length);
	} else if (RPC_HTTP_IS(name, name_length, "grpc-timeout")) {
		call->bad_timeout = !rpc_timeout_parse(value, value_length, &call->timeout_ms);
	}
	return 0;
}

static void begin_call(struct rpc_call *call)
{
	struct rpc_session *session = call->session;

	call->began = true;
	if (!call->is_post) {
		refuse(call, 405, RPC_INTERNAL, "gRPC needs the method POST");
	} else if (!call->is_grpc) {
		refuse(call, 415, RPC_INTERNAL, "gRPC needs the content type application/grpc");
	} else if (!call->method) {
		GS_AUTO_FREE char *text = gs_printf("unknown method %s", call->unknown_path ? call->unknown_path : "");
		refuse(call, 200, RPC_UNIMPLEMENTED, text);
	} else if (call->bad_timeout) {
		refuse(call, 200, RPC_INTERNAL, "malformed grpc-timeout");
	} else if (call->timeout_ms != UINT64_MAX) {
		call->deadline_ms = session->now_ms + call->timeout_ms;
		if (call->deadline_ms < session->next_deadline_ms)
			session->next_deadline_ms = call->deadline_ms;
	}
}

/* The request is whole. */
static void dispatch(struct rpc_call *call)
{
	struct rpc_session *session = call->session;

	call->whole_ms = UINT64_MAX;
	if (call->concluded)
		return;
	if (!call->has_request) {
		bool truncated = call->request.prefix_length > 0;
		conclude(call, truncated ? RPC_INTERNAL : RPC_UNIMPLEMENTED,
			 truncated ? "the request message is truncated" : "the request has no message");
		return;
	}
	call->held = true;
	call->method->handler(call, call->request.data, call->request.length, session->setup.user);
	/* A call that its handler finished is still here: it ends with its stream. */
	drop_request(call);
}

static int on_data_chunk(nghttp2_session *http, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t length,
			 void *user)
{
	struct rpc_session *session = user;
	struct rpc_call *call = nghttp2_session_get_stream_user_data(http, stream);

	if (!call || call->concluded || length == 0)
		return 0;
	if (call->has_request) {
		conclude(call, RPC_UNIMPLEMENTED, "the request has more than one message");
		return 0;
	}
	size_t before = call->request.capacity;
	enum rpc_assembly state = rpc_assembler_feed(&call->request, &bytes, &length);
	take_bytes(&session->buffered_bytes, call->request.capacity - before);
	if (state == RPC_ASSEMBLY_TOO_LARGE) {
		GS_AUTO_FREE char *text = gs_printf("the request message has %zu bytes, more than the maximum of %zu",
						    call->request.length, call->request.limit);
		conclude(call, RPC_RESOURCE_EXHAUSTED, text);
	} else if (state == RPC_ASSEMBLY_COMPRESSED) {
		conclude(call, RPC_UNIMPLEMENTED, "compressed messages are not supported");
	} else if (session->buffered_bytes > 2 * session->setup.limits.message_bytes) {
		conclude(call, RPC_RESOURCE_EXHAUSTED, "too many bytes of unfinished requests on this connection");
	} else if (length > 0) {
		conclude(call, RPC_UNIMPLEMENTED, "the request has more than one message");
	}
	call->has_request = state == RPC_ASSEMBLY_MESSAGE;
	return 0;
}

static int on_frame_received(nghttp2_session *http, const nghttp2_frame *frame, void *user)
{
	struct rpc_session *session = user;

	if (frame->hd.type == NGHTTP2_SETTINGS)
		session->established = true;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	struct rpc_call *call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
	if (!call)
		return 0;
	bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	call->half_closed = ends;
	if (frame->hd.type == NGHTTP2_HEADERS) {
		if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
			begin_call(call);
		else if (!ends) /* trailers that do not end anything */
			nghttp2_submit_rst_stream(http, 0, call->stream, NGHTTP2_PROTOCOL_ERROR);
	}
	if (ends)
		dispatch(call);
	return 0;
}

/* A reply that is complete before its request: tell the peer to stop sending it. */
static int on_frame_sent(nghttp2_session *http, const nghttp2_frame *frame, void *user)
{
	if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	struct rpc_call *call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
	if (call && !call->half_closed)
		nghttp2_submit_rst_stream(http, 0, call->stream, NGHTTP2_NO_ERROR);
	return 0;
}

static int on_invalid_frame(nghttp2_session *http, const nghttp2_frame *frame, int error, void *user)
{
	count_fault(user);
	return 0;
}

static int on_stream_close(nghttp2_session *http, int32_t stream, uint32_t error_code, void *user)
{
	struct rpc_call *call = nghttp2_session_get_stream_user_data(http, stream);

	if (error_code != NGHTTP2_NO_ERROR)
		count_fault(user);
	if (!call)
		return 0;
	nghttp2_session_set_stream_user_data(http, stream, NULL);
	call->concluded = true; /* so that `closed` cannot send */
	release(call);
	free_call(call);
	return 0;
}

static nghttp2_session *new_http_session(struct rpc_session *session)
{
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_option *option = NULL;
	nghttp2_session *http = NULL;

	if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
		abort(); /* out of memory, as in base/alloc.h */
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_received);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	/* Kubelets before 1.26 send a file path as :authority, which strict HTTP refuses. What gRPC needs of HTTP is
	 * checked here instead. */
	nghttp2_option_set_no_http_messaging(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	if (nghttp2_session_server_new2(&http, callbacks, session, option) != 0)
		abort();
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	return http;
}

struct rpc_session *rpc_session_new(const struct rpc_session_setup *setup)
{
	struct rpc_session *session = gs_calloc(1, sizeof *session);
	session->setup = *setup;
	session->next_deadline_ms = UINT64_MAX;
	session->fault_tokens = RPC_SESSION_FAULT_BURST;
	session->next = all.sessions;
	if (session->next)
		session->next->previous = session;
	all.sessions = session;
	session->http = new_http_session(session);
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, setup->limits.streams},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_SESSION_HEADER_BYTES},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};
	rpc_http_begin(session->http, settings, GS_ARRAY_LENGTH(settings));
	return session;
}

void rpc_session_free(struct rpc_session *session)
{
	session->freeing = true;
	while (session->calls) {
		session->calls->concluded = true;
		release(session->calls);
		free_call(session->calls);
	}
	if (session->previous)
		session->previous->next = session->next;
	else
		all.sessions = session->next;
	if (session->next)
		session->next->previous = session->previous;
	nghttp2_session_del(session->http);
	free(session);
}

int rpc_session_receive(struct rpc_session *session, const uint8_t *bytes, size_t length, uint64_t now_ms)
{
	session->now_ms = now_ms;
	session->receiving = true;
	ssize_t taken = nghttp2_session_mem_recv(session->http, bytes, length);
	session->receiving = false;
	if (taken < 0 || (size_t)taken != length)
		session->broken = true;
	return session->broken ? -1 : 0;
}

size_t rpc_session_output(struct rpc_session *session, uint8_t *bytes, size_t capacity)
{
	session->receiving = true; /* `closed` may be called from here: this loop sees the messages that it sends */
	ssize_t filled = rpc_http_output(session->http, &session->rest, bytes, capacity);
	session->receiving = false;
	if (filled < 0)
		session->broken = true;
	return filled > 0 ? (size_t)filled : 0;
}

bool rpc_session_done(const struct rpc_session *session)
{
	if (session->broken)
		return true;
	return session->rest.length == 0 && !nghttp2_session_want_read(session->http) &&
	       !nghttp2_session_want_write(session->http);
}

bool rpc_session_broken(const struct rpc_session *session)
{
	return session->broken;
}

bool rpc_session_idle(const struct rpc_session *session)
{
	return !session->calls;
}

bool rpc_session_established(const struct rpc_session *session)
{
	return session->established;
}

uint64_t rpc_session_next_deadline_ms(const struct rpc_session *session)
{
	return session->next_deadline_ms;
}

void rpc_session_expire(struct rpc_session *session, uint64_t now_ms)
{
	session->now_ms = now_ms;
	session->receiving = true;
	session->next_deadline_ms = UINT64_MAX;
	for (struct rpc_call *call = session->calls; call; call = call->next) {
		if (call->concluded)
			continue;
		uint64_t next_ms = call->deadline_ms < call->whole_ms ? call->deadline_ms : call->whole_ms;
		if (next_ms > now_ms) {
			if (next_ms < session->next_deadline_ms)
				session->next_deadline_ms = next_ms;
		} else if (!call->began) {
			session->broken =
				true; /* there is no request to answer yet, and nothing else can come before it */
		} else {
			conclude(call, RPC_DEADLINE_EXCEEDED,
				 call->deadline_ms <= now_ms ? "the call's deadline has passed"
							     : "the request did not become whole in time");
			release(call);
		}
	}
	session->receiving = false;
}

void rpc_session_shut_down(struct rpc_session *session)
{
	session->receiving = true;
	nghttp2_submit_goaway(session->http, 0, nghttp2_session_get_last_proc_stream_id(session->http),
			      NGHTTP2_NO_ERROR, NULL, 0);
	for (struct rpc_call *call = session->calls; call; call = call->next) {
		if (call->concluded || !call->held || !call->streaming)
			continue;
		conclude(call, RPC_OK, NULL);
		release(call);
	}
	session->receiving = false;
	session->setup.wake(session->setup.transport);
}
