/* A server session, fed with what a peer could send, while its handlers answer at odd moments.
 *
 * The input is a list of steps, each one byte of kind and, for bytes to receive, two bytes of length. The connection
 * preface is given unless the first byte is 0xFF, for it would take a fuzzer long to find. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "rpc/session.h"

enum step { RECEIVE, RECEIVE_SLOWLY, DRAIN, SEND, SEND_MUCH, FINISH, FAIL, PASS_TIME, SHUT_DOWN, STEPS };

enum { HELD = 16 };

static struct rpc_call *held[HELD];

static void echo(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	rpc_call_send(call, request, length);
	rpc_call_finish(call, RPC_OK, NULL);
}

static void hold(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	for (size_t i = 0; i < HELD; i++) {
		if (held[i])
			continue;
		held[i] = call;
		return;
	}
	rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "full\n%");
}

static void on_closed(struct rpc_call *call, void *user)
{
	for (size_t i = 0; i < HELD; i++) {
		if (held[i] == call) {
			held[i] = NULL;
			return;
		}
	}
	abort(); /* told twice, or of a call that was finished */
}

static const struct rpc_method methods[] = {{"/t/E", echo, on_closed}, {"/t/H", hold, on_closed}, {NULL}};

static void on_wake(void *transport)
{
}

static struct rpc_call **some_held(uint8_t choice)
{
	return &held[choice % HELD];
}

static void finish(uint8_t choice, enum rpc_status status, const char *text)
{
	struct rpc_call **call = some_held(choice);
	if (!*call)
		return;
	struct rpc_call *taken = *call;
	*call = NULL;
	rpc_call_finish(taken, status, text);
}

static void drain(struct rpc_session *session)
{
	uint8_t bytes[1000];
	for (int turn = 0; turn < 1000 && rpc_session_output(session, bytes, sizeof bytes) > 0; turn++)
		;
}

/* The session gets copies of exact size, so that a read beyond them is seen. */
static int receive(struct rpc_session *session, const uint8_t *bytes, size_t length, uint64_t now_ms)
{
	uint8_t *copy = gs_malloc(length + 1);
	memcpy(copy, bytes, length);
	int rc = rpc_session_receive(session, copy, length, now_ms);
	free(copy);
	return rc;
}

static void play(struct rpc_session *session, const uint8_t *data, size_t size)
{
	static uint8_t much[3000];
	uint64_t now_ms = 1000;

	while (size >= 2) {
		uint8_t kind = data[0] % STEPS, value = data[1];
		data += 2;
		size -= 2;
		if (kind == RECEIVE || kind == RECEIVE_SLOWLY) {
			if (size == 0)
				return;
			size_t length = (size_t)value << 8 | data[0];
			data++;
			size--;
			if (length > size)
				length = size;
			size_t piece = kind == RECEIVE ? length : 1;
			for (size_t done = 0; done < length; done += piece) {
				if (receive(session, data + done, piece, now_ms) < 0)
					return;
			}
			data += length;
			size -= length;
		} else if (kind == DRAIN) {
			drain(session);
		} else if (kind == SEND || kind == SEND_MUCH) {
			struct rpc_call *call = *some_held(value);
			if (call)
				rpc_call_send(call, much, kind == SEND ? value : sizeof much);
		} else if (kind == FINISH || kind == FAIL) {
			finish(value, kind == FINISH ? RPC_OK : (enum rpc_status)(value % 17),
			       kind == FINISH ? NULL : "why\xff%\n");
		} else if (kind == PASS_TIME) {
			now_ms += (uint64_t)value * value;
			rpc_session_expire(session, now_ms);
		} else {
			rpc_session_shut_down(session);
		}
		if (rpc_session_done(session))
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	const struct rpc_session_setup setup = {
		.methods = methods,
		.limits = {.connections = 1, .streams = 5, .message_bytes = 2000},
		.wake = on_wake,
	};
	struct rpc_session *session = rpc_session_new(&setup);

	memset(held, 0, sizeof held);
	if (size == 0 || data[0] != 0xFF)
		rpc_session_receive(session, (const uint8_t *)preface, sizeof preface - 1, 0);
	play(session, data, size);
	drain(session);
	rpc_session_free(session);
	for (size_t i = 0; i < HELD; i++) {
		if (held[i])
			abort(); /* never told that it is gone */
	}
	return 0;
}
