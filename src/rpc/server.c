#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/socket.h"
#include "rpc/link.h"
#include "rpc/rpc.h"
#include "rpc/session.h"

enum {
	DEFAULT_CONNECTIONS = 64,
	DEFAULT_STREAMS = 100,
	BACKLOG = 4096, /* the kernel takes less where it must */
	ACCEPTS_PER_TURN = 16,
	ACCEPT_RETRY_MS = 100, /* after running out of descriptors */
	DEFAULT_HANDSHAKE_MS = 10 * 1000,
	DEFAULT_STALL_MS = 30 * 1000,
	DEFAULT_REQUEST_MS = 30 * 1000,
	DEFAULT_IDLE_MS = 10 * 1000,
	STOP_GRACE_MS = 500,
};

struct connection {
	struct connection *next, *previous;
	struct rpc_server *server;
	struct rpc_session *session; /* NULL once closed */
	struct rpc_link link;
	uv_timer_t timer;
	uint64_t timer_ms;     /* when it fires; UINT64_MAX: not set */
	uint64_t handshake_ms; /* the latest time for it */
	uint64_t stalled_ms;   /* when the socket was first found full without progress since; 0: it is not */
	uint64_t stalled_bytes;
	uint64_t heard_ms; /* when bytes last came */
	bool awake;        /* in the server's list of connections to flush */
	struct connection *next_awake;
	int handles; /* open ones */
};

struct rpc_server {
	uv_loop_t *loop;
	char *path;
	dev_t device;
	ino_t inode;
	int fd;
	uv_poll_t *listener;
	uv_timer_t timer; /* accept again; the end of the grace time */
	uv_idle_t idle;   /* flushes connections that were written to outside of their turn */
	int handles;
	const struct rpc_method *methods;
	void *user;
	struct rpc_server_limits limits;
	struct connection *connections;
	unsigned connection_count;
	struct connection *awake;
	bool stopping;
	bool told_connections; /* that we are stopping */
	void (*done)(void *user);
	void *done_user;
};

static void finish_stop(struct rpc_server *server);

/* ---- connections ---- */

static void on_connection_handle_closed(struct connection *connection)
{
	if (--connection->handles > 0)
		return;
	struct rpc_server *server = connection->server;
	if (connection->previous)
		connection->previous->next = connection->next;
	else
		server->connections = connection->next;
	if (connection->next)
		connection->next->previous = connection->previous;
	server->connection_count--;
	free(connection);
	finish_stop(server);
}

static void on_connection_timer_closed(uv_handle_t *handle)
{
	on_connection_handle_closed(handle->data);
}

static void on_link_released(void *owner)
{
	on_connection_handle_closed(owner);
}

static void close_connection(struct connection *connection)
{
	if (!connection->session)
		return;
	for (struct connection **at = &connection->server->awake; *at; at = &(*at)->next_awake) {
		if (*at == connection) {
			*at = connection->next_awake;
			break;
		}
	}
	connection->awake = true; /* for ever: no more flushes */
	struct rpc_session *session = GS_STEAL(connection->session);
	rpc_link_close(&connection->link);
	uv_close((uv_handle_t *)&connection->timer, on_connection_timer_closed);
	rpc_session_free(session);
}

static void on_timer(uv_timer_t *timer);

/* Sets the timer for the earliest of: a call's deadline, the handshake, a stall. Fires early rather than being set
 * anew for each call. */
static void arm_timer(struct connection *connection)
{
	uint64_t wanted = rpc_session_next_deadline_ms(connection->session);
	uint64_t now = uv_now(connection->server->loop);

	if (!rpc_session_established(connection->session) && connection->handshake_ms < wanted)
		wanted = connection->handshake_ms;
	if (rpc_link_blocked(&connection->link)) {
		if (!connection->stalled_ms || connection->stalled_bytes != connection->link.sent_bytes) {
			connection->stalled_ms = now;
			connection->stalled_bytes = connection->link.sent_bytes;
		}
		if (connection->stalled_ms + connection->server->limits.stall_ms < wanted)
			wanted = connection->stalled_ms + connection->server->limits.stall_ms;
	} else {
		connection->stalled_ms = 0;
	}
	if (wanted >= connection->timer_ms)
		return;
	connection->timer_ms = wanted;
	uv_timer_start(&connection->timer, on_timer, wanted > now ? wanted - now : 0, 0);
}

static void on_settled(void *owner)
{
	struct connection *connection = owner;

	if (!connection->session)
		return;
	bool flushed = rpc_session_done(connection->session) && !rpc_link_blocked(&connection->link);
	if (flushed || rpc_session_broken(connection->session))
		close_connection(connection);
	else
		arm_timer(connection);
}

static void on_timer(uv_timer_t *timer)
{
	struct connection *connection = timer->data;
	uint64_t now = uv_now(connection->server->loop);

	connection->timer_ms = UINT64_MAX;
	bool silent = !rpc_session_established(connection->session) && now >= connection->handshake_ms;
	bool stalled = connection->stalled_ms && now >= connection->stalled_ms + connection->server->limits.stall_ms &&
		       connection->stalled_bytes == connection->link.sent_bytes;
	if (silent || stalled) {
		close_connection(connection);
		return;
	}
	if (now >= rpc_session_next_deadline_ms(connection->session))
		rpc_session_expire(connection->session, now);
	rpc_link_flush(&connection->link);
	on_settled(connection);
}

static int on_received(void *owner, const uint8_t *bytes, size_t length)
{
	struct connection *connection = owner;
	connection->heard_ms = uv_now(connection->server->loop);
	return rpc_session_receive(connection->session, bytes, length, uv_now(connection->server->loop));
}

static size_t on_output(void *owner, uint8_t *bytes, size_t capacity)
{
	struct connection *connection = owner;
	return connection->session ? rpc_session_output(connection->session, bytes, capacity) : 0;
}

static void on_failed(void *owner, int error)
{
	close_connection(owner);
}

static const struct rpc_link_ops link_ops = {
	.received = on_received,
	.output = on_output,
	.settled = on_settled,
	.failed = on_failed,
	.released = on_link_released,
};

static void on_idle(uv_idle_t *idle);

static void wake_server(struct rpc_server *server)
{
	uv_idle_start(&server->idle, on_idle);
}

/* A handler's late answer: sent from the loop, not from inside the caller. */
static void on_wake(void *transport)
{
	struct connection *connection = transport;

	if (connection->awake)
		return;
	connection->awake = true;
	connection->next_awake = connection->server->awake;
	connection->server->awake = connection;
	wake_server(connection->server);
}

static void flush_awake(struct rpc_server *server)
{
	while (server->awake) {
		struct connection *connection = server->awake;
		server->awake = connection->next_awake;
		connection->awake = false;
		rpc_link_flush(&connection->link);
		on_settled(connection);
	}
}

static bool is_trusted(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

static void add_connection(struct rpc_server *server, int fd)
{
	struct connection *connection = gs_calloc(1, sizeof *connection);
	connection->server = server;
	connection->timer_ms = UINT64_MAX;
	connection->heard_ms = uv_now(server->loop);
	connection->handshake_ms = connection->heard_ms + server->limits.handshake_ms;
	if (rpc_link_open(&connection->link, server->loop, fd, &link_ops, connection, false) < 0) {
		free(connection);
		return;
	}
	uv_timer_init(server->loop, &connection->timer);
	connection->timer.data = connection;
	connection->handles = 2;
	connection->next = server->connections;
	if (connection->next)
		connection->next->previous = connection;
	server->connections = connection;
	server->connection_count++;
	const struct rpc_session_setup setup = {
		.methods = server->methods,
		.user = server->user,
		.limits = server->limits,
		.wake = on_wake,
		.transport = connection,
	};
	connection->session = rpc_session_new(&setup);
	/* SETTINGS at once: a kubelet takes the connection as ready only then. */
	rpc_link_flush(&connection->link);
	on_settled(connection);
}

/* ---- listening ---- */

/* Whether there is room for one more: where all are taken, of those without a call the one that has been silent longest
 * is closed, so that peers which forget their connections keep no others out. */
static bool has_room(struct rpc_server *server)
{
	struct connection *oldest = NULL;

	if (server->connection_count < server->limits.connections)
		return true;
	for (struct connection *each = server->connections; each; each = each->next)
		if (each->session && rpc_session_idle(each->session) && !rpc_link_blocked(&each->link) &&
		    (!oldest || each->heard_ms < oldest->heard_ms))
			oldest = each;
	if (!oldest || uv_now(server->loop) < oldest->heard_ms + server->limits.idle_ms)
		return false;
	close_connection(oldest);
	return true;
}

static void on_connection(uv_poll_t *listener, int status, int events);

static void on_accept_again(uv_timer_t *timer)
{
	struct rpc_server *server = timer->data;
	uv_poll_start(server->listener, UV_READABLE, on_connection);
}

static void on_connection(uv_poll_t *listener, int status, int events)
{
	struct rpc_server *server = listener->data;

	for (int turn = 0; turn < ACCEPTS_PER_TURN; turn++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			if (is_trusted(fd) && has_room(server))
				add_connection(server, fd);
			else
				close(fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		/* No descriptors or no memory: the connection stays in the queue and would wake us for ever. */
		uv_poll_stop(listener);
		uv_timer_start(&server->timer, on_accept_again, ACCEPT_RETRY_MS, 0);
		return;
	}
}

static int unlink_old_socket(const char *path, struct gs_error *err)
{
	struct stat status;

	if (lstat(path, &status) < 0)
		return errno == ENOENT ? 0 : gs_fail_errno(err, "cannot look at %s", path);
	if (!S_ISSOCK(status.st_mode))
		return gs_fail(err, GS_ERROR_INPUT, EEXIST,
			       "%s exists and is no socket; remove it or choose another path", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return gs_fail_errno(err, "cannot remove the old socket %s", path);
	return 0;
}

/* A listening socket at `path`, mode 0600 from its first moment on. -1 on failure. */
static int listen_at(const char *path, struct stat *status, struct gs_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof address.sun_path)
		return gs_fail(err, GS_ERROR_INPUT, ENAMETOOLONG,
			       "socket path %s has %zu bytes, Linux allows %zu; choose a shorter folder", path,
			       strlen(path), sizeof address.sun_path - 1);
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (unlink_old_socket(path, err) < 0)
		return -1;
	GS_AUTO_CLOSE int fd = rpc_socket();
	if (fd < 0)
		return gs_fail_errno(err, "cannot create a socket");
	/* Linux gives the file the mode of the unbound socket, less the umask: no window, no global umask. */
	if (fchmod(fd, S_IRUSR | S_IWUSR) < 0)
		return gs_fail_errno(err, "cannot restrict a socket");
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return gs_fail_errno(err, "cannot create the socket %s", path);
	if (lstat(path, status) < 0)
		return gs_fail_errno(err, "cannot look at the new socket %s", path);
	if ((status->st_mode & 0777) != (S_IRUSR | S_IWUSR) && chmod(path, S_IRUSR | S_IWUSR) < 0)
		return gs_fail_errno(err, "cannot restrict the socket %s", path);
	if (listen(fd, BACKLOG) < 0)
		return gs_fail_errno(err, "cannot listen on %s", path);
	int listening = fd;
	fd = -1;
	return listening;
}

static struct rpc_server_limits with_defaults(const struct rpc_server_limits *given)
{
	struct rpc_server_limits limits = given ? *given : (struct rpc_server_limits){0};
	if (!limits.connections)
		limits.connections = DEFAULT_CONNECTIONS;
	if (!limits.streams)
		limits.streams = DEFAULT_STREAMS;
	if (!limits.message_bytes)
		limits.message_bytes = RPC_MESSAGE_MAX;
	if (!limits.handshake_ms)
		limits.handshake_ms = DEFAULT_HANDSHAKE_MS;
	if (!limits.stall_ms)
		limits.stall_ms = DEFAULT_STALL_MS;
	if (!limits.request_ms)
		limits.request_ms = DEFAULT_REQUEST_MS;
	if (!limits.idle_ms)
		limits.idle_ms = DEFAULT_IDLE_MS;
	return limits;
}

static void on_listener_closed(uv_handle_t *handle)
{
	free(handle);
}

/* Binds the server's path and accepts there from now on. */
static int begin_listening(struct rpc_server *server, struct gs_error *err)
{
	struct stat status;
	int fd = listen_at(server->path, &status, err);
	if (fd < 0)
		return -1;
	uv_poll_t *listener = gs_calloc(1, sizeof *listener);
	int rc = uv_poll_init(server->loop, listener, fd);
	if (rc < 0) {
		close(fd);
		unlink(server->path);
		free(listener);
		return gs_fail(err, GS_ERROR_SYSTEM, -rc, "cannot watch the socket %s: %s", server->path,
			       uv_strerror(rc));
	}
	server->device = status.st_dev;
	server->inode = status.st_ino;
	server->fd = fd;
	server->listener = listener;
	listener->data = server;
	uv_poll_start(listener, UV_READABLE, on_connection);
	return 0;
}

int rpc_server_start(uv_loop_t *loop, const char *path, const struct rpc_method *methods, void *user,
		     const struct rpc_server_limits *limits, struct rpc_server **result, struct gs_error *err)
{
	struct rpc_server *server = gs_calloc(1, sizeof *server);
	server->loop = loop;
	server->path = gs_strdup(path);
	server->methods = methods;
	server->user = user;
	server->limits = with_defaults(limits);
	if (begin_listening(server, err) < 0) {
		free(server->path);
		free(server);
		return -1;
	}
	uv_timer_init(loop, &server->timer);
	uv_idle_init(loop, &server->idle);
	server->timer.data = server;
	server->idle.data = server;
	server->handles = 2;
	*result = server;
	return 0;
}

static bool is_own_socket(const struct rpc_server *server)
{
	struct stat status;
	return lstat(server->path, &status) == 0 && status.st_dev == server->device && status.st_ino == server->inode;
}

int rpc_server_listen_again(struct rpc_server *server, bool *again, struct gs_error *err)
{
	struct rpc_server before = *server;
	*again = false;
	if (server->stopping || server->fd < 0 || is_own_socket(server))
		return 0;
	if (gs_socket_try(server->path, SOCK_STREAM) == 0)
		return gs_fail(err, GS_ERROR_SYSTEM, EADDRINUSE, "another process serves at %s now", server->path);
	if (begin_listening(server, err) < 0)
		return -1;
	uv_timer_stop(&server->timer);
	uv_close((uv_handle_t *)before.listener, on_listener_closed);
	close(before.fd);
	*again = true;
	return 0;
}

/* ---- stopping ---- */

static void on_server_handle_closed(uv_handle_t *handle)
{
	struct rpc_server *server = handle->data;

	if (--server->handles > 0)
		return;
	void (*done)(void *) = server->done;
	void *user = server->done_user;
	free(server->path);
	free(server);
	if (done)
		done(user);
}

/* Once the last connection is gone. */
static void finish_stop(struct rpc_server *server)
{
	if (!server->told_connections || server->connections || uv_is_closing((uv_handle_t *)&server->timer))
		return;
	uv_close((uv_handle_t *)&server->timer, on_server_handle_closed);
	uv_close((uv_handle_t *)&server->idle, on_server_handle_closed);
}

static void on_grace_over(uv_timer_t *timer)
{
	struct rpc_server *server = timer->data;

	for (struct connection *connection = server->connections; connection; connection = connection->next)
		close_connection(connection);
}

static void tell_connections(struct rpc_server *server)
{
	server->told_connections = true;
	for (struct connection *connection = server->connections; connection; connection = connection->next) {
		if (connection->session)
			rpc_session_shut_down(connection->session);
	}
	uv_timer_start(&server->timer, on_grace_over, STOP_GRACE_MS, 0);
}

static void on_idle(uv_idle_t *idle)
{
	struct rpc_server *server = idle->data;

	uv_idle_stop(idle);
	if (server->stopping && !server->told_connections)
		tell_connections(server);
	flush_awake(server);
	finish_stop(server);
}

void rpc_server_close_listener(struct rpc_server *server)
{
	if (server->stopping || server->fd < 0)
		return;
	uv_timer_stop(&server->timer);
	uv_close((uv_handle_t *)server->listener, on_listener_closed);
	close(server->fd);
	server->fd = -1;
}

size_t rpc_server_connections(const struct rpc_server *server, int *fds, size_t capacity)
{
	size_t count = 0;
	for (const struct connection *at = server->connections; at && count < capacity; at = at->next)
		if (at->session)
			fds[count++] = at->link.fd;
	return count;
}

void rpc_server_stop(struct rpc_server *server, void (*done)(void *user), void *user)
{
	if (server->stopping)
		return;
	server->done = done;
	server->done_user = user;
	if (is_own_socket(server))
		unlink(server->path);
	rpc_server_close_listener(server);
	server->stopping = true;
	/* We may be inside a handler: the connections hear of it from the loop. */
	wake_server(server);
}
