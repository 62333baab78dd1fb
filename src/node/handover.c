#include "node/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "node/mig_manager.h"
#include "node/node_internal.h"
#include "node/pause.h"
#include "node/withdraw.h"

enum {
	LOOK_MS = 100,
	SETTLE_MS = 10 * 1000, /* MPS control daemons are asked whether they are well */
	LEAVE_MS = 20 * 1000,  /* how long a daemon that must stop waits for the next one to be ready */
	WORD_BYTES = 16,
	CONNECTIONS_MAX = 200, /* given along: SCM_MAX_FD is 253 */
};

/* The packets: the next one says TAKE, and DONE once it serves; the one before answers TAKE with YOURS. */
static const char take[] = "take 1", yours[] = "yours 1", done[] = "done 1";

/* A connection of the kubelet to a daemon from before. */
struct kept {
	struct handover *handover;
	uv_poll_t poll;
	int fd;
};

struct handover {
	struct node *node;
	char *path;
	uv_timer_t timer;
	int handles; /* that are open */
	bool freed;

	/* As the next one. */
	int before;             /* the connection to the one before; -1: none */
	uv_poll_t *before_poll; /* of it */
	bool ready, asked, charged, said_done;
	uint64_t charged_ms;
	GS_VEC(struct kept *) kept;

	/* As the one before. */
	int listener, next; /* -1: none */
	uv_poll_t *listener_poll, *next_poll;
	dev_t device; /* of the socket's file */
	ino_t inode;
	bool wanted;     /* the next one asked */
	bool given;      /* and has all */
	bool next_ready; /* and serves */
	bool leaving;    /* this daemon was asked to stop */
	uint64_t leave_until_ms;
};

static void on_timer(uv_timer_t *timer);

/* One handle less. */
static void release(struct handover *handover)
{
	if (--handover->handles > 0 || !handover->freed)
		return;
	free(handover->path);
	free(handover);
}

static void on_timer_closed(uv_handle_t *handle)
{
	release(handle->data);
}

static struct handover *handover_of(struct node *node)
{
	if (node->handover)
		return node->handover;
	struct handover *handover = gs_calloc(1, sizeof *handover);
	handover->node = node;
	handover->path = gs_printf("%s/handover.sock", node->options->state_dir);
	handover->before = handover->listener = handover->next = -1;
	uv_timer_init(&node->loop, &handover->timer);
	handover->timer.data = handover;
	handover->handles = 1;
	node->handover = handover;
	return handover;
}

static bool set_address(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address->sun_path)
		return false;
	memcpy(address->sun_path, path, strlen(path) + 1);
	return true;
}

static int new_socket(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct handover *handover = handle->data;
	free(handle);
	release(handover);
}

static uv_poll_t *watch(struct handover *handover, int fd, int events, uv_poll_cb ready)
{
	uv_poll_t *poll = gs_calloc(1, sizeof *poll);
	uv_poll_init(&handover->node->loop, poll, fd);
	poll->data = handover;
	handover->handles++;
	uv_poll_start(poll, events, ready);
	return poll;
}

static void unwatch(uv_poll_t **poll, int *fd)
{
	if (*fd < 0)
		return;
	uv_close((uv_handle_t *)GS_STEAL(*poll), on_poll_closed);
	close(*fd);
	*fd = -1;
}

/* --- connections that are kept open --- */

static void on_kept_closed(uv_handle_t *handle)
{
	struct kept *kept = handle->data;
	struct handover *handover = kept->handover;
	free(kept);
	release(handover);
}

static void drop_kept(struct handover *handover, size_t which)
{
	struct kept *kept = handover->kept.items[which];
	handover->kept.items[which] = handover->kept.items[--handover->kept.count];
	uv_close((uv_handle_t *)&kept->poll, on_kept_closed);
	close(kept->fd);
}

static void on_hung_up(uv_poll_t *poll, int status, int events)
{
	struct kept *kept = poll->data;
	for (size_t i = 0; i < kept->handover->kept.count; i++) {
		if (kept->handover->kept.items[i] != kept)
			continue;
		drop_kept(kept->handover, i);
		return;
	}
}

/* A descriptor that is no connection can't be watched, and is closed. */
static void keep(struct handover *handover, int fd)
{
	struct kept *kept = gs_calloc(1, sizeof *kept);
	*kept = (struct kept){.handover = handover, .fd = fd};
	if (handover->kept.count >= CONNECTIONS_MAX || uv_poll_init(&handover->node->loop, &kept->poll, fd) != 0) {
		close(fd);
		free(kept);
		return;
	}
	kept->poll.data = kept;
	handover->handles++;
	uv_poll_start(&kept->poll, UV_DISCONNECT, on_hung_up);
	*GS_VEC_PUSH(&handover->kept) = kept;
}

/* --- the next one --- */

static bool try_lock(const char *path, int *lock)
{
	if (*lock >= 0)
		return true;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
		*lock = fd;
		return true;
	}
	if (fd >= 0)
		close(fd);
	return false;
}

/* Both locks, or none of the two. */
static bool try_locks(struct node *node)
{
	const struct node_options *options = node->options;
	return try_lock(options->state_dir, &node->state_dir_lock) &&
	       try_lock(options->plugin_dir, &node->plugin_dir_lock);
}

static void say(int fd, const char *word)
{
	(void)!send(fd, word, strlen(word), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void ask(struct handover *handover)
{
	if (handover->before < 0 || !handover->ready || handover->asked)
		return;
	handover->asked = true;
	say(handover->before, take);
}

static void take_charge(struct handover *handover)
{
	handover->charged = true;
	handover->charged_ms = uv_now(&handover->node->loop);
	node_take_charge(handover->node);
}

/* The word that came ("" for none), and connections that came with it; -1 when the peer is gone. */
static int hear(struct handover *handover, int fd, char word[WORD_BYTES])
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * CONNECTIONS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec text = {.iov_base = word, .iov_len = WORD_BYTES - 1};
	struct msghdr message = {
		.msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	word[length > 0 ? length : 0] = '\0';
	if (length <= 0)
		return length < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (part->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int connection;
			memcpy(&connection, CMSG_DATA(part) + i * sizeof connection, sizeof connection);
			keep(handover, connection);
		}
	}
	return 0;
}

static void on_before(uv_poll_t *poll, int status, int events)
{
	struct handover *handover = poll->data;
	char word[WORD_BYTES];
	if (status < 0 || hear(handover, handover->before, word) < 0)
		unwatch(&handover->before_poll, &handover->before);
	if (handover->before < 0 || handover->charged || strcmp(word, yours) != 0 || !try_locks(handover->node))
		return;
	gs_log(GS_LOG_INFO, "taking over from the daemon before", GS_INT("connections", handover->kept.count));
	take_charge(handover);
}

static void find_predecessor(struct handover *handover)
{
	struct sockaddr_un address;
	int fd = set_address(handover->path, &address) ? new_socket() : -1;
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		close(fd);
		return;
	}
	handover->before = fd;
	handover->asked = false;
	handover->before_poll = watch(handover, fd, UV_READABLE | UV_DISCONNECT, on_before);
	ask(handover);
}

void handover_wait(struct node *node)
{
	struct handover *handover = handover_of(node);
	gs_log(GS_LOG_INFO, "another daemon runs here; waiting to take over from it");
	find_predecessor(handover);
	uv_timer_start(&handover->timer, on_timer, LOOK_MS, LOOK_MS);
}

void handover_ready(struct node *node)
{
	struct handover *handover = node->handover;
	if (!handover || node->in_charge)
		return;
	handover->ready = true;
	ask(handover);
}

bool handover_needs_predecessor_gone(const struct node *node)
{
	return node->handover && !node->in_charge && node->handover->before < 0;
}

bool handover_has_predecessor(const struct node *node)
{
	return node->handover && node->handover->before >= 0 && !node->handover->said_done;
}

bool handover_may_wait(const struct node *node)
{
	return handover_has_predecessor(node) && uv_now(&node->loop) < node->handover->charged_ms + SETTLE_MS;
}

/* --- the one before --- */

static void end(struct handover *handover)
{
	gs_log(GS_LOG_INFO, "stopped; another daemon has taken over");
	handover->node->taken_over = handover->node->abandoned = true;
	uv_stop(&handover->node->loop);
}

/* The next one is gone, and its locks are free: as if this one had just been started. */
static void begin_anew(void)
{
	gs_log(GS_LOG_WARNING, "the daemon that took over is gone; beginning anew");
	node_execute_again(NULL);
	_exit(1);
}

static void give(struct handover *handover)
{
	struct node *node = handover->node;
	int fds[CONNECTIONS_MAX];
	size_t count = 0;
	for (size_t i = 0; i < node->plugins.count; i++)
		count += kube_plugin_connections(node->plugins.items[i], fds + count, CONNECTIONS_MAX - count);
	for (size_t i = 0; i < handover->kept.count && count < CONNECTIONS_MAX; i++)
		fds[count++] = handover->kept.items[i]->fd;
	union {
		char bytes[CMSG_SPACE(sizeof fds)];
		struct cmsghdr align;
	} control = {0};
	struct iovec text = {.iov_base = (char *)yours, .iov_len = strlen(yours)};
	struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1};
	if (count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		struct cmsghdr *part = CMSG_FIRSTHDR(&message);
		*part = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * count)};
		memcpy(CMSG_DATA(part), fds, sizeof(int) * count);
	}
	struct stat about;
	if (lstat(handover->path, &about) == 0 && about.st_dev == handover->device && about.st_ino == handover->inode)
		unlink(handover->path);
	unwatch(&handover->listener_poll, &handover->listener);
	node_unlock(node);
	handover->given = true;
	if (handover->next < 0 || sendmsg(handover->next, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		begin_anew();
	gs_log(GS_LOG_INFO, "another daemon takes over; answering the kubelet until it does",
	       GS_INT("connections", count));
}

static void on_retired(void *user)
{
	struct handover *handover = user;
	if (!handover->given)
		give(handover);
}

/* Waits for the work that must not be cut off. */
static void try_to_give(struct handover *handover)
{
	struct node *node = handover->node;
	if (node->retired || mig_manager_busy(node) || node->withdrawals.count || node->ledger_text)
		return;
	node_retire(node, on_retired, handover);
}

static void on_next(uv_poll_t *poll, int status, int events)
{
	struct handover *handover = poll->data;
	char word[WORD_BYTES];
	if (status < 0 || hear(handover, handover->next, word) < 0) {
		unwatch(&handover->next_poll, &handover->next);
		handover->wanted = false;
		if (handover->given)
			begin_anew();
		return;
	}
	if (strcmp(word, take) == 0) {
		handover->wanted = true;
		uv_timer_start(&handover->timer, on_timer, LOOK_MS, LOOK_MS);
		try_to_give(handover);
	} else if (strcmp(word, done) == 0) {
		handover->next_ready = true;
		if (handover->leaving)
			end(handover);
	}
}

static bool is_trusted(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
	struct handover *handover = poll->data;
	int fd = accept4(handover->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (handover->next >= 0 || !is_trusted(fd)) { /* one at a time */
		close(fd);
		return;
	}
	handover->next = fd;
	handover->next_poll = watch(handover, fd, UV_READABLE | UV_DISCONNECT, on_next);
}

static int listen_at(struct handover *handover, struct gs_error *err)
{
	struct sockaddr_un address;
	struct stat about;
	if (!set_address(handover->path, &address))
		return gs_fail(err, GS_ERROR_INPUT, ENAMETOOLONG, "%s is too long for a socket", handover->path);
	unlink(handover->path); /* the directory is locked: the daemon that made it is gone */
	GS_AUTO_CLOSE int fd = new_socket();
	/* Linux gives the file the mode of the unbound socket. */
	if (fd < 0 || fchmod(fd, S_IRUSR | S_IWUSR) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(fd, 4) < 0 || lstat(handover->path, &about) < 0)
		return gs_fail_errno(err, "cannot listen at %s", handover->path);
	handover->device = about.st_dev;
	handover->inode = about.st_ino;
	handover->listener = fd;
	fd = -1;
	return 0;
}

void handover_offer(struct node *node)
{
	struct handover *handover = handover_of(node);
	struct gs_error err;
	if (node->state_dir_lock < 0) /* it can't be written */
		return;
	if (listen_at(handover, &err) < 0) {
		gs_log(GS_LOG_WARNING, "no other daemon can take over without a gap", GS_STR("error", err.text));
		return;
	}
	handover->listener_poll = watch(handover, handover->listener, UV_READABLE, on_listener);
	uv_timer_start(&handover->timer, on_timer, LOOK_MS, LOOK_MS);
	uv_unref((uv_handle_t *)&handover->timer);
}

bool handover_leave(struct node *node)
{
	struct handover *handover = node->handover;
	if (!handover || handover->next < 0)
		return false;
	handover->leaving = true;
	handover->leave_until_ms = uv_now(&node->loop) + LEAVE_MS;
	if (handover->next_ready)
		end(handover);
	else
		uv_timer_start(&handover->timer, on_timer, LOOK_MS, LOOK_MS);
	return true;
}

/* The next one is gone, or takes too long. */
static void leave_in_time(struct handover *handover)
{
	if (handover->next >= 0 && uv_now(&handover->node->loop) < handover->leave_until_ms)
		return;
	if (handover->given)
		end(handover);
	else if (!handover->node->retired)
		node_stop(handover->node);
}

/* --- both --- */

static void on_timer(uv_timer_t *timer)
{
	struct handover *handover = timer->data;
	struct node *node = handover->node;
	if (!node->in_charge) {
		if (try_locks(node)) {
			gs_log(GS_LOG_INFO, "the daemon before is gone");
			take_charge(handover);
		} else if (handover->before < 0) {
			find_predecessor(handover);
		}
		return;
	}
	if (handover->before >= 0 && !handover->said_done)
		node_announce(node);
	if (handover->before >= 0 && !handover->said_done && node_is_ready(node)) {
		handover->said_done = true;
		say(handover->before, done);
	}
	if (handover->wanted && !handover->given)
		try_to_give(handover);
	if (handover->leaving) {
		leave_in_time(handover);
		return;
	}
	/* No next daemon has asked, and none is to be answered. */
	if ((handover->before < 0 || handover->said_done) && !handover->wanted)
		uv_timer_stop(timer);
}

void handover_free(struct node *node)
{
	struct handover *handover = GS_STEAL(node->handover);
	struct stat about;
	if (!handover)
		return;
	if (handover->listener >= 0 && lstat(handover->path, &about) == 0 && about.st_dev == handover->device &&
	    about.st_ino == handover->inode)
		unlink(handover->path);
	unwatch(&handover->before_poll, &handover->before);
	unwatch(&handover->next_poll, &handover->next);
	unwatch(&handover->listener_poll, &handover->listener);
	while (handover->kept.count)
		drop_kept(handover, handover->kept.count - 1);
	GS_VEC_FREE(&handover->kept);
	handover->freed = true;
	uv_close((uv_handle_t *)&handover->timer, on_timer_closed);
}
