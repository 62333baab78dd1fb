/* One peer's HTTP/2 connection to a server, as bytes in and bytes out: no sockets, no clock, no event loop.
 * The server feeds it from a socket, tests and the fuzzer from memory.
 *
 * What all sessions of the process hold together is bounded: beyond RPC_HELD_BYTES, the one that holds most is broken, so
 * that many peers with a little each do not add up, and one with little is served whatever others do.
 *
 * Never reentered: handlers run inside rpc_session_receive, and what they send leaves with the next
 * rpc_session_output. */
#ifndef GPUSHARE_RPC_SESSION_H
#define GPUSHARE_RPC_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/rpc.h"

enum {
	RPC_SESSION_HEADER_BYTES = 16 * 1024,        /* of one request, as HTTP/2 counts them */
	RPC_SESSION_UNSENT_BYTES = 16 * 1024 * 1024, /* replies that wait for the peer to read */
	RPC_HELD_BYTES = 48 * 1024 * 1024,  /* requests that are not whole and unread replies, of all sessions */
	RPC_SESSION_TEXT_BYTES = 2048,      /* of an error text, before it is encoded */
	RPC_SESSION_FAULT_BURST = 1000,     /* streams a peer may break at once... */
	RPC_SESSION_FAULTS_PER_SECOND = 50, /* ...and for ever after */
};

struct rpc_session;

struct rpc_session_setup {
	const struct rpc_method *methods;
	void *user;                      /* the handlers' */
	struct rpc_server_limits limits; /* no zeros */
	/* There is something to send, outside of rpc_session_receive. May be called often. */
	void (*wake)(void *transport);
	void *transport;
};

struct rpc_session *rpc_session_new(const struct rpc_session_setup *setup);
/* `closed` is called for each call that its owner still holds. */
void rpc_session_free(struct rpc_session *session);

/* -1: the peer broke the protocol beyond repair; send what rpc_session_output still has, then close. */
int rpc_session_receive(struct rpc_session *session, const uint8_t *bytes, size_t length, uint64_t now_ms);
/* Fills `bytes`; 0 when there is nothing to send for now. */
size_t rpc_session_output(struct rpc_session *session, uint8_t *bytes, size_t capacity);
/* Nothing more to say or hear: close the connection. */
bool rpc_session_done(const struct rpc_session *session);
/* Beyond repair, or more replies wait than a peer may leave unread: close at once, whatever is unsent. */
bool rpc_session_broken(const struct rpc_session *session);
/* No call is open. */
bool rpc_session_idle(const struct rpc_session *session);
/* The peer said SETTINGS, so it is an HTTP/2 client. */
bool rpc_session_established(const struct rpc_session *session);

/* When rpc_session_expire wants to be called; UINT64_MAX: never. */
uint64_t rpc_session_next_deadline_ms(const struct rpc_session *session);
void rpc_session_expire(struct rpc_session *session, uint64_t now_ms);

/* GOAWAY; streams end with OK, calls that their handler has not answered may finish. */
void rpc_session_shut_down(struct rpc_session *session);

#endif
