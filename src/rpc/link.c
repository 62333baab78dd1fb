#include "rpc/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"

/* On the stack, so that connections that are idle own no buffers. */
enum { BUFFER_BYTES = 64 * 1024, READS_PER_TURN = 4 };

int rpc_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void fail(struct rpc_link *link, int error)
{
	if (link->broken || link->closing)
		return;
	link->broken = true;
	uv_poll_stop(&link->poll);
	link->ops->failed(link->owner, error);
}

bool rpc_link_blocked(const struct rpc_link *link)
{
	return link->unsent != NULL;
}

/* Bytes the socket took (0 if it is full), or -1 after a failure. */
static ssize_t send_some(struct rpc_link *link, const uint8_t *bytes, size_t length)
{
	ssize_t sent;
	do
		sent = send(link->fd, bytes, length, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0) {
		link->sent_bytes += (uint64_t)sent;
		return sent;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return 0;
	fail(link, errno);
	return -1;
}

static void send_unsent(struct rpc_link *link)
{
	ssize_t sent = send_some(link, link->unsent + link->unsent_start, link->unsent_length - link->unsent_start);
	if (sent < 0)
		return;
	link->unsent_start += (size_t)sent;
	if (link->unsent_start < link->unsent_length)
		return;
	free(link->unsent);
	link->unsent = NULL;
}

static void send_output(struct rpc_link *link)
{
	uint8_t buffer[BUFFER_BYTES];

	while (!link->unsent && !link->broken && !link->closing) {
		size_t length = link->ops->output(link->owner, buffer, sizeof buffer);
		if (length == 0)
			return;
		ssize_t sent = send_some(link, buffer, length);
		if (sent >= 0 && (size_t)sent == length && length < sizeof buffer)
			return; /* there was room for more */
		if (sent < 0 || (size_t)sent == length)
			continue;
		link->unsent_start = 0;
		link->unsent_length = length - (size_t)sent;
		link->unsent = gs_malloc(link->unsent_length);
		memcpy(link->unsent, buffer + sent, link->unsent_length);
	}
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Changes what the loop watches only when it differs: each change is a system call. */
static void watch(struct rpc_link *link)
{
	if (link->broken || link->closing)
		return;
	int events = UV_READABLE;
	if (link->unsent)
		events = link->reads_while_blocked ? UV_READABLE | UV_WRITABLE : UV_WRITABLE;
	if (events == link->events)
		return;
	link->events = events;
	uv_poll_start(&link->poll, events, on_poll);
}

void rpc_link_flush(struct rpc_link *link)
{
	if (link->unsent && !link->broken && !link->closing)
		send_unsent(link);
	send_output(link);
	watch(link);
}

static void read_some(struct rpc_link *link)
{
	uint8_t buffer[BUFFER_BYTES];

	for (int turn = 0; turn < READS_PER_TURN && !link->broken && !link->closing; turn++) {
		ssize_t got = recv(link->fd, buffer, sizeof buffer, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (got <= 0) {
			fail(link, got < 0 ? errno : 0);
			return;
		}
		if (link->ops->received(link->owner, buffer, (size_t)got) < 0) {
			rpc_link_flush(link); /* the GOAWAY that says why */
			fail(link, EPROTO);
			return;
		}
		if ((size_t)got < sizeof buffer)
			return;
	}
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct rpc_link *link = poll->data;

	/* libuv reports a socket error as UV_EBADF and stops watching; the bytes that the peer sent before can still be
	 * read. */
	if (status < 0) {
		link->events = 0;
		events = UV_READABLE;
	}
	if (events & UV_READABLE)
		read_some(link);
	rpc_link_flush(link);
	if (!link->closing)
		link->ops->settled(link->owner);
}

int rpc_link_open(struct rpc_link *link, uv_loop_t *loop, int fd, const struct rpc_link_ops *ops, void *owner,
		  bool reads_while_blocked)
{
	*link = (struct rpc_link){.fd = fd, .ops = ops, .owner = owner, .reads_while_blocked = reads_while_blocked};
	int rc = uv_poll_init(loop, &link->poll, fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	link->poll.data = link;
	watch(link);
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct rpc_link *link = handle->data;
	free(link->unsent);
	link->unsent = NULL;
	link->ops->released(link->owner);
}

void rpc_link_close(struct rpc_link *link)
{
	if (link->closing)
		return;
	link->closing = true;
	uv_close((uv_handle_t *)&link->poll, on_closed);
	close(link->fd);
}
