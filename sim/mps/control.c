/* The simulated MPS control daemon: one loop over its front ends, its clients that wait, and its servers. */
#include "sim/mps/control.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "sim/cuda/found.h"

#define LOG_DIRECTORY_DEFAULT "/var/log/nvidia-mps"
enum { PEERS_MAX = 1024, SERVERS_MAX = 64, LAST_GRACE_MS = 2000, LISTEN_BACKLOG = 128 };

void mps_control_log(const struct mps_control *control, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	char text[8192];
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	mps_log(control->log_directory, "control", "Control", "%s", text);
	if (control->foreground) {
		printf("%s\n", text);
		fflush(stdout);
	}
}

/* --- servers --- */

struct mps_server *mps_control_find_server(struct mps_control *control, pid_t pid)
{
	for (size_t i = 0; i < control->servers.count; i++)
		if (control->servers.items[i].pid == pid)
			return &control->servers.items[i];
	return NULL;
}

void mps_control_tell(struct mps_server *server, enum mps_kind kind, int32_t value)
{
	struct mps_packet packet = {.magic = MPS_MAGIC, .kind = kind, .value = value, .settings = server->settings};
	mps_send_in_turn(server->fd, &packet);
}

bool mps_control_ask(struct mps_control *control, struct mps_server *server, enum mps_kind kind, int32_t client_pid,
		     void (*each)(void *user, const struct mps_client_info *client), void *user, int32_t *value)
{
	struct mps_packet packet = {.magic = MPS_MAGIC, .kind = kind, .client.pid = client_pid};
	if (mps_send_in_turn(server->fd, &packet) < 0)
		return false;
	while (mps_receive(server->fd, &packet, MPS_ASK_MS, NULL) > 0) {
		if (packet.kind == MPS_READY)
			server->ready = true;
		else if (packet.kind == MPS_CLIENT && each)
			each(user, &packet.client);
		else if (packet.kind == MPS_END) {
			*value = packet.value;
			return true;
		}
	}
	return false;
}

/* The program of the servers lies beside this one. */
static char *server_program(void)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
	if (length < 0)
		return NULL;
	path[length] = '\0';
	return gs_printf("%s/nvidia-cuda-mps-server", dirname(path));
}

static void become_server(const char *program, const char *log_directory, int fd)
{
	/* The descriptor has a number of its own, so this does not clear close-on-exec of another one. */
	if (fd == MPS_SERVER_FD)
		fcntl(fd, F_SETFD, 0);
	else if (dup2(fd, MPS_SERVER_FD) < 0)
		_exit(1);
	execl(program, "nvidia-cuda-mps-server", log_directory, (char *)NULL);
	_exit(1);
}

struct mps_server *mps_control_start_server(struct mps_control *control, uid_t uid)
{
	int ends[2];
	if (control->servers.count >= SERVERS_MAX || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return NULL;
	GS_AUTO_FREE char *program = server_program();
	pid_t pid = program ? fork() : -1;
	if (pid == 0)
		become_server(program, control->log_directory, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		mps_control_log(control, "Failed to start server using uid %d. %s", (int)uid, strerror(errno));
		close(ends[0]);
		return NULL;
	}
	mps_control_log(control, "Starting new server %d for user %d", (int)pid, (int)uid);
	struct mps_server *server = GS_VEC_PUSH(&control->servers);
	*server = (struct mps_server){.pid = pid, .uid = uid, .fd = ends[0], .settings = control->defaults};
	struct mps_packet packet = {.magic = MPS_MAGIC, .kind = MPS_SET, .settings = control->defaults};
	packet.device_count = (uint32_t)control->device_count;
	memcpy(packet.devices, control->devices, sizeof packet.devices);
	mps_send(server->fd, &packet, -1);
	return server;
}

static void bury(struct mps_control *control, size_t which)
{
	struct mps_server server = control->servers.items[which];
	int status = 0;
	close(server.fd);
	kill(server.pid, SIGKILL); /* it hung up: if it has not ended, it never will */
	while (waitpid(server.pid, &status, 0) < 0 && errno == EINTR)
		continue;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	mps_control_log(control, "Server %d exited with status %d", (int)server.pid, code);
	if (code)
		control->status = 1;
	control->servers.items[which] = control->servers.items[--control->servers.count];
}

static void hear_server(struct mps_control *control, size_t which)
{
	struct mps_packet packet;
	int got = mps_receive(control->servers.items[which].fd, &packet, 0, NULL);
	if (got < 0)
		bury(control, which);
	else if (got > 0 && packet.kind == MPS_READY) {
		control->servers.items[which].ready = true;
		mps_control_log(control, "NEW SERVER %d: Ready", (int)control->servers.items[which].pid);
	}
}

/* --- peers --- */

static void drop_peer(struct mps_control *control, size_t which)
{
	struct mps_peer *peer = &control->peers.items[which];
	if (peer->fd == control->quit_fd)
		control->quit_fd = -1;
	if (peer->fd >= 0)
		close(peer->fd);
	free(peer->hello);
	/* The others stay in the order in which they came. */
	control->peers.count--;
	memmove(peer, peer + 1, (control->peers.count - which) * sizeof *peer);
}

/* Gives a client to the server of its user. One user's server runs at a time: others are asked to end when their clients
 * have gone, and until then the client waits, as it does while the server's queue is full. True when the client is no longer ours. */
static bool place_client(struct mps_control *control, struct mps_peer *peer)
{
	struct mps_server *server = NULL;
	for (size_t i = 0; i < control->servers.count; i++) {
		struct mps_server *other = &control->servers.items[i];
		if (other->uid == peer->uid && !other->ending)
			server = other;
		else if (!other->ending) {
			mps_control_log(control, "Server %d is asked to end for a client of user %d", (int)other->pid,
					(int)peer->uid);
			mps_control_tell(other, MPS_SHUTDOWN, 0);
			other->ending = true;
		}
	}
	if (!server && control->servers.count > 0)
		return false;
	if (!server)
		server = mps_control_start_server(control, peer->uid);
	if (!server)
		return true;
	peer->hello->kind = MPS_TAKE_CLIENT;
	peer->hello->client = (struct mps_client_info){.pid = peer->pid, .uid = peer->uid};
	server->full = mps_send(server->fd, peer->hello, peer->fd) < 0 && errno == EAGAIN;
	return !server->full;
}

/* True when the peer was dropped. */
static bool hear_peer(struct mps_control *control, size_t which)
{
	struct mps_peer *peer = &control->peers.items[which];
	struct mps_packet packet;
	int got = mps_receive(peer->fd, &packet, 0, NULL);
	if (got == 0)
		return false;
	if (got < 0 || peer->waiting || (packet.kind != MPS_COMMAND && packet.kind != MPS_HELLO)) {
		if (!peer->waiting)
			mps_control_log(control, "UI closed");
		drop_peer(control, which);
		return true;
	}
	if (packet.kind == MPS_COMMAND) {
		if (!peer->known)
			mps_control_log(control, "NEW UI");
		peer->known = true;
		mps_command_run(control, peer->fd, packet.text);
		return false;
	}
	mps_control_log(control, "NEW CLIENT %d from user %d", (int)peer->pid, (int)peer->uid);
	if (control->quitting) {
		drop_peer(control, which);
		return true;
	}
	peer->waiting = true;
	peer->hello = gs_malloc(sizeof *peer->hello);
	*peer->hello = packet;
	return false;
}

static void accept_peer(struct mps_control *control, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred credentials;
	socklen_t length = sizeof credentials;
	if (fd < 0)
		return;
	mps_control_log(control, "Accepting connection...");
	if (control->peers.count >= PEERS_MAX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) {
		mps_control_log(control, "User did not send valid credentials");
		close(fd);
		return;
	}
	if (control->multi_user)
		credentials.uid = 0; /* all come as root, to root's server */
	*GS_VEC_PUSH(&control->peers) = (struct mps_peer){.fd = fd, .uid = credentials.uid, .pid = credentials.pid};
}

/* First come, first served: no client overtakes one that waits. */
static void place_clients(struct mps_control *control)
{
	for (size_t i = 0; i < control->peers.count;) {
		if (!control->peers.items[i].waiting)
			i++;
		else if (place_client(control, &control->peers.items[i]))
			drop_peer(control, i);
		else
			return;
	}
}

/* --- quitting --- */

void mps_control_quit(struct mps_control *control, int fd, int timeout_seconds)
{
	control->quitting = true;
	control->quit_fd = fd;
	control->force_ns = timeout_seconds >= 0 ? sim_now_ns() + (uint64_t)timeout_seconds * 1000000000 : 0;
	for (size_t i = 0; i < control->servers.count; i++)
		mps_control_tell(&control->servers.items[i], MPS_SHUTDOWN, 0);
}

static void force_servers(struct mps_control *control)
{
	for (size_t i = 0; i < control->servers.count; i++) {
		mps_control_log(control, "Force shutting down server %d", (int)control->servers.items[i].pid);
		mps_control_tell(&control->servers.items[i], MPS_SHUTDOWN, 1);
	}
}

static void finish(struct mps_control *control)
{
	GS_AUTO_FREE char *pid = gs_printf("%s/nvidia-cuda-mps-control.pid", control->pipe_directory);
	GS_AUTO_FREE char *log = gs_printf("%s/log", control->pipe_directory);
	unlink(pid);
	unlink(log);
	mps_control_log(control, "Exit with status %d", control->status);
	struct mps_packet packet = {.magic = MPS_MAGIC, .kind = MPS_END, .value = control->status};
	/* The front end may look for the daemon at once. */
	close(control->listener);
	close(control->privileged);
	close(control->lock);
	if (control->quit_fd >= 0)
		mps_send(control->quit_fd, &packet, -1);
}

/* --- the loop --- */

/* How long poll may wait: until a `quit -t` runs out. */
static int timeout_of(const struct mps_control *control)
{
	if (!control->quitting || !control->force_ns)
		return -1;
	uint64_t now = sim_now_ns();
	return now >= control->force_ns ? 0 : (int)((control->force_ns - now) / 1000000 + 1);
}

static int serve(struct mps_control *control)
{
	while (!control->quitting || control->servers.count > 0) {
		GS_VEC(struct pollfd) watched = {0};
		*GS_VEC_PUSH(&watched) = (struct pollfd){.fd = control->listener, .events = POLLIN};
		*GS_VEC_PUSH(&watched) = (struct pollfd){.fd = control->privileged, .events = POLLIN};
		size_t servers = control->servers.count, peers = control->peers.count;
		for (size_t i = 0; i < servers; i++)
			*GS_VEC_PUSH(&watched) =
				(struct pollfd){.fd = control->servers.items[i].fd,
						.events = POLLIN | (control->servers.items[i].full ? POLLOUT : 0)};
		for (size_t i = 0; i < peers; i++)
			*GS_VEC_PUSH(&watched) = (struct pollfd){.fd = control->peers.items[i].fd, .events = POLLIN};
		int ready = poll(watched.items, watched.count, timeout_of(control));
		if (ready == 0 && control->quitting) {
			force_servers(control);
			control->force_ns = 0;
		}
		/* From the end of each list, since what goes is replaced by the last one. */
		for (size_t i = servers; ready > 0 && i > 0; i--)
			if (watched.items[1 + i].revents)
				hear_server(control, i - 1);
		for (size_t i = peers; ready > 0 && i > 0; i--)
			if (watched.items[1 + servers + i].revents)
				hear_peer(control, i - 1);
		for (size_t i = 0; ready > 0 && i < 2; i++)
			if (watched.items[i].revents)
				accept_peer(control, watched.items[i].fd);
		GS_VEC_FREE(&watched);
		place_clients(control);
	}
	finish(control);
	return control->status;
}

/* --- starting --- */

static int listen_at(const char *directory, const char *name, mode_t mode)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, name);
	if (length < 0 || (size_t)length >= sizeof address.sun_path)
		return -1;
	unlink(address.sun_path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(address.sun_path, mode) < 0 ||
	    listen(fd, LISTEN_BACKLOG) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* The GPUs that the daemon, and so its clients, may use. */
static void find_devices(struct mps_control *control)
{
	struct sim_node *node;
	struct gs_error err;
	if (sim_node_open(NULL, &node, &err) < 0)
		return;
	/* By bus, so that the daemon, its servers and its clients count alike. */
	GS_AUTO_FREE struct simcu_found *found = gs_calloc(SIM_GPUS_MAX, sizeof *found);
	control->device_count = simcu_find_devices(node, getenv("CUDA_VISIBLE_DEVICES"), true, NULL, 0, found);
	for (size_t i = 0; i < control->device_count; i++) {
		control->devices[i].slot = found[i].slot;
		snprintf(control->devices[i].uuid, sizeof control->devices[i].uuid, "%s", found[i].uuid);
	}
	sim_node_close(node);
}

static void take_settings(struct mps_control *control)
{
	const char *percent = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
		   *priority = getenv("CUDA_MPS_CLIENT_PRIORITY");
	control->defaults.percent = percent ? mps_parse_percent(percent) : MPS_FULL_PERCENT;
	if (control->defaults.percent <= 0) {
		mps_control_log(control, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE should be between (0.0, 100.0]");
		control->defaults.percent = MPS_FULL_PERCENT;
	}
	long wanted = priority ? strtol(priority, NULL, 10) : 0;
	if (wanted < 0 || wanted > 1)
		mps_control_log(control, "CUDA_MPS_CLIENT_PRIORITY should be between [0,1]");
	control->defaults.priority = wanted == 1;
}

static bool is_writable(const char *directory)
{
	return mkdir(directory, 0777) == 0 || (errno == EEXIST && access(directory, W_OK | X_OK) == 0);
}

/* -1 after it said why. */
static int prepare(struct mps_control *control)
{
	const char *log = getenv("CUDA_MPS_LOG_DIRECTORY");
	control->pipe_directory = mps_pipe_directory();
	control->log_directory = gs_strdup(log && *log ? log : LOG_DIRECTORY_DEFAULT);
	if (!is_writable(control->pipe_directory)) {
		printf("Cannot access CUDA_MPS_PIPE_DIRECTORY=%s\n", control->pipe_directory);
		return -1;
	}
	GS_AUTO_FREE char *lock = gs_printf("%s/control_lock", control->pipe_directory);
	control->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (control->lock < 0 || flock(control->lock, LOCK_EX | LOCK_NB) < 0) {
		if (control->lock >= 0)
			puts("An instance of this daemon is already running");
		else
			printf("Cannot access CUDA_MPS_PIPE_DIRECTORY=%s\n", control->pipe_directory);
		return -1;
	}
	if (!is_writable(control->log_directory))
		printf("Warning: Failed writing log files to directory [%s]. No logs will be available.\n",
		       control->log_directory);
	GS_AUTO_FREE char *fifo = gs_printf("%s/log", control->pipe_directory);
	mkfifo(fifo, 0777);
	control->listener = listen_at(control->pipe_directory, "control", 0666);
	control->privileged = listen_at(control->pipe_directory, "control_privileged", 0755);
	if (control->listener >= 0 && control->privileged >= 0)
		return 0;
	printf("Cannot access CUDA_MPS_PIPE_DIRECTORY=%s\n", control->pipe_directory);
	return -1;
}

static void write_pid(const struct mps_control *control)
{
	GS_AUTO_FREE char *path = gs_printf("%s/nvidia-cuda-mps-control.pid", control->pipe_directory);
	GS_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd >= 0)
		dprintf(fd, "%d", (int)getpid());
}

/* Goes on in a child without a terminal. The parent ends once the child has closed `ready`, so that the program that
 * started the daemon finds its PID file. */
static int go_to_background(int *ready)
{
	int ends[2];
	char byte;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	pid_t child = fork();
	if (child < 0)
		return -1;
	if (child > 0) {
		close(ends[1]);
		ssize_t got = read(ends[0], &byte, 1);
		_exit(got == 0 ? 0 : 1);
	}
	close(ends[0]);
	*ready = ends[1];
	setsid();
	int nothing = open("/dev/null", O_RDWR);
	for (int fd = STDIN_FILENO; nothing >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(nothing, fd);
	if (nothing > STDERR_FILENO)
		close(nothing);
	return 0;
}

int mps_control_run(bool foreground, bool multi_user)
{
	struct mps_control control = {
		.foreground = foreground, .multi_user = multi_user, .listener = -1, .privileged = -1, .quit_fd = -1};
	umask(0); /* as the real one: every user may connect */
	if (prepare(&control) < 0)
		return 1;
	fflush(stdout);
	int ready = -1;
	if (!foreground && go_to_background(&ready) < 0)
		return 1;
	/* SO_PEERCRED names the process that called listen last: as with the real daemon, this one. */
	listen(control.listener, LISTEN_BACKLOG);
	listen(control.privileged, LISTEN_BACKLOG);
	signal(SIGPIPE, SIG_IGN);
	write_pid(&control);
	if (ready >= 0)
		close(ready);
	mps_control_log(&control, "Starting control daemon using socket %s/control", control.pipe_directory);
	mps_control_log(&control, "To connect CUDA applications to this daemon, set env CUDA_MPS_PIPE_DIRECTORY=%s",
			control.pipe_directory);
	mps_log(control.log_directory, "server", "Other", "Using log directory: %s", control.log_directory);
	take_settings(&control);
	find_devices(&control);
	int status = serve(&control);
	while (control.peers.count)
		drop_peer(&control, 0);
	GS_VEC_FREE(&control.peers);
	GS_VEC_FREE(&control.servers);
	free(control.pipe_directory);
	free(control.log_directory);
	return status;
}
