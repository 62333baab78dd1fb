#include "telemetry/http_server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "telemetry/microhttpd_library.h"

enum { ADDRESS_SIZE = 80, BACKLOG = 64, LOOK_MS = 1000 };

/* A connection that libmicrohttpd has accepted. */
struct http_connection {
	struct http_connection *next, **link;
	int fd;
	uint64_t until_ms; /* deadline of its present phase */
};

struct http_server {
	const struct gs_microhttpd *mhd;
	struct MHD_Daemon *daemon;
	http_get *get;
	void *user;
	char address[ADDRESS_SIZE];
	uv_poll_t poll;   /* on libmicrohttpd's own epoll */
	uv_timer_t timer; /* when it wants to look at its connections without an event */
	uv_timer_t look;  /* at how long they have taken, while there are any */
	struct http_connection *connections;
	bool ended; /* one of them, in this run */
	unsigned handles;
};

/* --- how long connections take --- */

/* libmicrohttpd's own limit counts from the last byte, so that a client with a byte now and then never met it. */
static void on_look(uv_timer_t *timer)
{
	struct http_server *server = timer->data;
	for (struct http_connection *each = server->connections; each; each = each->next)
		if (each->until_ms <= uv_now(timer->loop))
			shutdown(each->fd, SHUT_RDWR); /* libmicrohttpd sees the end of it, and closes */
}

static void give_seconds(const struct http_server *server, struct MHD_Connection *connection, unsigned seconds)
{
	const union MHD_ConnectionInfo *info =
		server->mhd->get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_connection *own = info ? info->socket_context : NULL;
	if (own)
		own->until_ms = uv_now(server->look.loop) + seconds * 1000;
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	struct http_server *server = user;
	struct http_connection *own = *context;
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		own = *context = gs_calloc(1, sizeof *own);
		own->fd = server->mhd->get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		own->until_ms = uv_now(server->look.loop) + HTTP_REQUEST_SECONDS * 1000;
		own->next = server->connections;
		own->link = &server->connections;
		if (own->next)
			own->next->link = &own->next;
		server->connections = own;
		if (!uv_is_active((uv_handle_t *)&server->look) && !uv_is_closing((uv_handle_t *)&server->look))
			uv_timer_start(&server->look, on_look, LOOK_MS, LOOK_MS);
		return;
	}
	server->ended = true;
	*own->link = own->next;
	if (own->next)
		own->next->link = own->link;
	free(own);
	if (!server->connections)
		uv_timer_stop(&server->look);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **request,
			 enum MHD_RequestTerminationCode how)
{
	give_seconds(user, connection, HTTP_REQUEST_SECONDS);
}

/* --- answering --- */

static enum MHD_Result send_answer(const struct http_server *server, struct MHD_Connection *connection,
				   struct http_answer *answer)
{
	size_t length = answer->body.length;
	struct MHD_Response *response =
		server->mhd->create_response_from_buffer(length, gs_strbuf_take(&answer->body), MHD_RESPMEM_MUST_FREE);
	if (!response)
		return MHD_NO;
	server->mhd->add_response_header(response, "Content-Type", answer->content_type);
	server->mhd->add_response_header(response, "Cache-Control", "no-store");
	if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED)
		server->mhd->add_response_header(response, "Allow", "GET, HEAD");
	enum MHD_Result result = server->mhd->queue_response(connection, answer->status, response);
	server->mhd->destroy_response(response);
	return result;
}

static void say(struct http_answer *answer, unsigned status, const char *text)
{
	answer->status = status;
	answer->content_type = "text/plain; charset=utf-8";
	gs_strbuf_add(&answer->body, text);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *upload, size_t *upload_size, void **request)
{
	static int seen;
	const struct http_server *server = user;
	struct http_answer answer = {.status = MHD_HTTP_OK};
	bool reads = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	/* The first call comes before a body, the second after it; of a body there is nothing to keep. */
	if (reads && !*request) {
		*request = &seen;
		return MHD_YES;
	}
	if (reads && *upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	if (!reads)
		say(&answer, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
	else if (!server->get(server->user, url, &answer))
		say(&answer, MHD_HTTP_NOT_FOUND, "there is no such page; see /metrics and /healthz\n");
	give_seconds(server, connection, HTTP_ANSWER_SECONDS);
	return send_answer(server, connection, &answer);
}

/* --- running --- */

static void on_timer(uv_timer_t *timer);

static void run(struct http_server *server)
{
	MHD_UNSIGNED_LONG_LONG milliseconds = 0;
	server->ended = false;
	server->mhd->run(server->daemon);
	/* It listens no more when there are as many connections as may be, or no descriptor is left, and again only in the
	 * run after the one in which a connection ended. */
	if (server->ended)
		uv_timer_start(&server->timer, on_timer, 0, 0);
	else if (server->mhd->get_timeout(server->daemon, &milliseconds) == MHD_YES)
		uv_timer_start(&server->timer, on_timer, milliseconds, 0);
	else
		uv_timer_stop(&server->timer);
}

static void on_timer(uv_timer_t *timer)
{
	run(timer->data);
}

static void on_events(uv_poll_t *poll, int status, int events)
{
	run(poll->data);
}

/* --- listening --- */

/* "[::1]:9400" into its parts; false: it is not of that form. An empty host is NULL. */
static bool split(const char *address, char host[ADDRESS_SIZE], char port[ADDRESS_SIZE])
{
	const char *colon = strrchr(address, ':'), *from = address, *to = colon;
	if (!colon || strlen(address) >= ADDRESS_SIZE)
		return false;
	if (*from == '[') {
		from++;
		if (to == from || *--to != ']')
			return false;
	} else if (memchr(from, ':', (size_t)(to - from))) {
		return false;
	}
	snprintf(host, ADDRESS_SIZE, "%.*s", (int)(to - from), from);
	snprintf(port, ADDRESS_SIZE, "%s", colon + 1);
	size_t digits = strspn(port, "0123456789");
	return digits > 0 && digits <= 5 && !port[digits] && strtol(port, NULL, 10) <= UINT16_MAX;
}

static int open_socket(const struct addrinfo *at)
{
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (at->ai_family == AF_INET6) /* all addresses are those of IPv4 too */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
	if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int listen_at(const char *address, struct gs_error *err)
{
	char host[ADDRESS_SIZE], port[ADDRESS_SIZE];
	struct addrinfo *found, hints = {.ai_family = AF_UNSPEC,
					 .ai_socktype = SOCK_STREAM,
					 .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
	if (!split(address, host, port) || getaddrinfo(*host ? host : "::", port, &hints, &found) != 0)
		return gs_fail(
			err, GS_ERROR_INPUT, 0,
			"\"%s\" is not an address to listen at; write :9400 for all, 127.0.0.1:9400 or [::1]:9400",
			address);
	int fd = open_socket(found);
	freeaddrinfo(found);
	/* A machine without IPv6. */
	if (fd < 0 && !*host && errno == EAFNOSUPPORT && getaddrinfo("0.0.0.0", port, &hints, &found) == 0) {
		fd = open_socket(found);
		freeaddrinfo(found);
	}
	if (fd < 0)
		return gs_fail_errno(err, "cannot listen at %s", address);
	return fd;
}

static void name_address(int fd, char text[ADDRESS_SIZE])
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof address;
	char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
	if (getsockname(fd, (struct sockaddr *)&address, &length) == 0)
		getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port, sizeof port,
			    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(text, ADDRESS_SIZE, strchr(host, ':') ? "[%.64s]:%.8s" : "%.64s:%.8s", host, port);
}

static struct MHD_Daemon *start_daemon(struct http_server *server, int fd)
{
	return server->mhd->start_daemon(
		MHD_USE_EPOLL, 0, NULL, NULL, on_request, server, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned)HTTP_CONNECTIONS_OF_ONE, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_SECONDS,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_END);
}

static void on_closed(uv_handle_t *handle)
{
	struct http_server *server = handle->data;
	if (--server->handles == 0)
		free(server);
}

int http_server_start(uv_loop_t *loop, const char *address, http_get *get, void *user, struct http_server **ret,
		      struct gs_error *err)
{
	const struct gs_microhttpd *mhd = gs_microhttpd_open(err);
	if (!mhd)
		return -1;
	int fd = listen_at(address, err);
	if (fd < 0)
		return -1;
	struct http_server *server = gs_calloc(1, sizeof *server);
	*server = (struct http_server){.mhd = mhd, .get = get, .user = user, .handles = 3};
	name_address(fd, server->address);
	uv_timer_init(loop, &server->look);
	server->look.data = server;
	server->daemon = start_daemon(server, fd);
	const union MHD_DaemonInfo *info =
		server->daemon ? mhd->get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info || uv_poll_init(loop, &server->poll, info->epoll_fd) < 0) {
		if (server->daemon)
			mhd->stop_daemon(server->daemon);
		else
			close(fd);
		server->handles = 1;
		uv_close((uv_handle_t *)&server->look, on_closed);
		return gs_fail(err, GS_ERROR_SYSTEM, 0, "libmicrohttpd cannot serve %s", address);
	}
	uv_timer_init(loop, &server->timer);
	server->poll.data = server->timer.data = server;
	uv_poll_start(&server->poll, UV_READABLE, on_events);
	*ret = server;
	return 0;
}

const char *http_server_address(const struct http_server *server)
{
	return server->address;
}

void http_server_stop(struct http_server *server)
{
	if (!server)
		return;
	uv_close((uv_handle_t *)&server->look, on_closed);
	uv_close((uv_handle_t *)&server->timer, on_closed);
	uv_close((uv_handle_t *)&server->poll, on_closed); /* before its descriptor goes */
	server->mhd->stop_daemon(server->daemon);
}
