/* A connected stream socket in the loop: reads when there is something, writes in as few calls as it can. */
#ifndef GPUSHARE_RPC_LINK_H
#define GPUSHARE_RPC_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct rpc_link_ops {
	/* -1: send the rest, then fail with EPROTO. */
	int (*received)(void *owner, const uint8_t *bytes, size_t length);
	/* Fills `bytes`; 0 when there is nothing to send. Asked only while the socket takes bytes. */
	size_t (*output)(void *owner, uint8_t *bytes, size_t capacity);
	/* After each round of reading and writing; the owner may close the link here. */
	void (*settled)(void *owner);
	/* The peer hung up (0) or an errno value. The owner closes the link, at once or later. */
	void (*failed)(void *owner, int error);
	/* After rpc_link_close: the memory is the owner's again. */
	void (*released)(void *owner);
};

struct rpc_link {
	uv_poll_t poll;
	int fd;
	const struct rpc_link_ops *ops;
	void *owner;
	bool reads_while_blocked; /* a server does not: a peer's requests are bounded by the replies that it reads */
	bool broken;
	bool closing;
	int events;
	uint8_t *unsent; /* bytes that the socket did not take */
	size_t unsent_length;
	size_t unsent_start;
	uint64_t sent_bytes; /* ever; a stall is when it stops growing */
};

/* Takes the descriptor over, on failure too. 0 or a negative libuv code. */
int rpc_link_open(struct rpc_link *link, uv_loop_t *loop, int fd, const struct rpc_link_ops *ops, void *owner,
		  bool reads_while_blocked);
/* Sends what `output` gives until the socket is full. */
void rpc_link_flush(struct rpc_link *link);
/* The socket took less than it was given. */
bool rpc_link_blocked(const struct rpc_link *link);
/* Closes the descriptor now; `released` comes from the loop later. */
void rpc_link_close(struct rpc_link *link);

/* Nonblocking, close-on-exec. -1 with errno. */
int rpc_socket(void);

#endif
