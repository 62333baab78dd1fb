#include "mps/mps_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "gpu/sample.h"
#include "mps/mps_daemons.h"

enum {
	COMM_BYTES_MAX = 64,
	COMM_LENGTH = 15, /* the kernel keeps no more of a name: the same for the control daemon and its servers */
	STATUS_BYTES_MAX = 16 * 1024,
	CGROUP_BYTES_MAX = 16 * 1024,
	WORDS_BYTES_MAX = 256 * 1024,
};
#define CONTROL_PROGRAM "nvidia-cuda-mps-control"
#define SERVER_PROGRAM  "nvidia-cuda-mps-server"

static char *read_of(pid_t pid, const char *name, size_t limit, size_t *length)
{
	GS_AUTO_FREE char *path = gs_printf("/proc/%d/%s", (int)pid, name);
	return gs_read_file(path, limit, length, NULL);
}

bool mps_has_ended(int pidfd)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN}; /* also while it is a zombie */
	return poll(&ended, 1, 0) != 0;
}

/* Whether a process has the name that the kernel keeps of MPS' programs. */
static bool is_named_so(pid_t pid)
{
	size_t length;
	GS_AUTO_FREE char *comm = read_of(pid, "comm", COMM_BYTES_MAX, &length);
	return comm && strncmp(comm, CONTROL_PROGRAM, COMM_LENGTH) == 0;
}

/* A pidfd of a program of MPS that runs, or -1. */
static int open_process(pid_t pid)
{
	GS_AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* The name after pidfd_open, so that it is that of the process behind it. */
	if (fd < 0 || mps_has_ended(fd) || !is_named_so(pid))
		return -1;
	int found = fd;
	fd = -1;
	return found;
}

bool mps_words_have(const char *words, size_t length, const char *word)
{
	for (size_t at = 0; at < length; at += strlen(words + at) + 1)
		if (strcmp(words + at, word) == 0)
			return true;
	return false;
}

bool mps_words_run(const char *words, const char *program)
{
	const char *slash = strrchr(words, '/');
	return strcmp(slash ? slash + 1 : words, program) == 0;
}

static bool has_word(pid_t pid, const char *word)
{
	size_t length;
	GS_AUTO_FREE char *words = read_of(pid, "cmdline", WORDS_BYTES_MAX, &length);
	return words && mps_words_have(words, length, word);
}

bool mps_is_multi_user(pid_t pid)
{
	return has_word(pid, "-M");
}

/* By the name it was run with. */
static bool is_program(pid_t pid, const char *program)
{
	size_t length;
	GS_AUTO_FREE char *words = read_of(pid, "cmdline", WORDS_BYTES_MAX, &length);
	return words && mps_words_run(words, program);
}

/* Of a process that runs the control program: whether it is a front end, or a daemon. */
static bool is_daemon(pid_t pid)
{
	return has_word(pid, "-d") || has_word(pid, "-f");
}

/* The process that listens at a pipe directory's control socket, as the kernel knows it; 0: none does. The type is that
 * of R550's control daemon, which made its socket after it went to the background, so that the pid is the daemon's
 * own. */
static pid_t ask_peer(const char *pipe_directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred peer;
	struct stat about;
	socklen_t length = sizeof peer;
	GS_AUTO_FREE char *path = gs_printf("%s/control", pipe_directory);
	/* Opens the socket itself by a descriptor: a link in its place is not followed. */
	GS_AUTO_CLOSE int file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (file < 0 || fstat(file, &about) < 0 || !S_ISSOCK(about.st_mode))
		return 0;
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", file);
	GS_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return 0;
	return peer.uid == geteuid() ? peer.pid : 0;
}

/* "7:cpu,cpuacct:/a/b": its last part, as long as the line. */
static const char *cgroup_path(const char *line, size_t *length)
{
	const char *path = line, *end = line + strcspn(line, "\n");
	for (int colons = 0; colons < 2; colons++) {
		path = memchr(path, ':', (size_t)(end - path));
		if (!path)
			return NULL;
		path++;
	}
	*length = (size_t)(end - path);
	return path;
}

/* "/", or seen from inside of a cgroup namespace "/..", "/../.." and so on: where no container is. */
static bool is_above(const char *path, size_t length)
{
	if (length == 1 && *path == '/')
		return true;
	for (; length >= 3 && strncmp(path, "/..", 3) == 0; length -= 3)
		path += 3;
	return length == 0;
}

bool mps_cgroup_is_ours(const char *mine, const char *its)
{
	bool any = false;
	while (*its) {
		size_t its_length, my_length = strcspn(mine, "\n"), line_length = strcspn(its, "\n");
		const char *path = cgroup_path(its, &its_length);
		bool same = line_length == my_length && strncmp(its, mine, line_length) == 0;
		if (!path || !its_length || (!same && !is_above(path, its_length)))
			return false;
		any = true;
		its += line_length + (its[line_length] == '\n');
		mine += my_length + (mine[my_length] == '\n');
	}
	return any;
}

bool mps_is_beside_us(pid_t pid)
{
	size_t length;
	GS_AUTO_FREE char *mine = read_of(getpid(), "cgroup", CGROUP_BYTES_MAX, &length);
	GS_AUTO_FREE char *its = read_of(pid, "cgroup", CGROUP_BYTES_MAX, &length);
	return mine && its && mps_cgroup_is_ours(mine, its);
}

uint64_t mps_parse_start(const char *stat)
{
	enum { FIELD_AFTER_NAME = 3, START_FIELD = 22 };
	/* The name may have anything in it. */
	const char *at = strrchr(stat, ')');
	for (int field = FIELD_AFTER_NAME - 1; at && field < START_FIELD; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return at ? strtoull(at, NULL, 10) : 0;
}

struct mps_identity mps_identify(pid_t pid)
{
	size_t length;
	GS_AUTO_FREE char *stat = read_of(pid, "stat", STATUS_BYTES_MAX, &length);
	return (struct mps_identity){.pid = pid, .start = stat ? mps_parse_start(stat) : 0};
}

static bool is_same(const struct mps_identity *a, const struct mps_identity *b)
{
	return a->pid == b->pid && a->start == b->start && a->pid > 0 && a->start;
}

int mps_open_identity(const struct mps_identity *identity)
{
	GS_AUTO_CLOSE int fd = identity->pid > 0 ? open_process(identity->pid) : -1;
	struct mps_identity now = mps_identify(identity->pid);
	if (fd < 0 || !is_same(&now, identity))
		return -1;
	int found = fd;
	fd = -1;
	return found;
}

int mps_find_daemon(const char *pipe_directory, const struct mps_identity *known, pid_t *pid)
{
	int recorded = known ? mps_open_identity(known) : -1;
	*pid = recorded >= 0 ? known->pid : ask_peer(pipe_directory);
	if (recorded >= 0 || *pid <= 0)
		return recorded;
	GS_AUTO_CLOSE int fd = open_process(*pid);
	/* Of a process in some container nothing more is read: it can make a reader of its memory wait for ever. */
	if (fd < 0 || !mps_is_beside_us(*pid) || !is_program(*pid, CONTROL_PROGRAM) || !is_daemon(*pid))
		return -1;
	int found = fd;
	fd = -1;
	return found;
}

static pid_t parent_of(pid_t pid)
{
	size_t length;
	GS_AUTO_FREE char *status = read_of(pid, "status", STATUS_BYTES_MAX, &length);
	const char *line = status ? strstr(status, "\nPPid:") : NULL;
	return line ? (pid_t)strtol(line + strlen("\nPPid:"), NULL, 10) : 0;
}

char *mps_parse_key(const char *pipe_directory, char **root)
{
	static const char tail[] = "/pipe";
	size_t length = strlen(pipe_directory), tail_length = sizeof tail - 1;
	if (*pipe_directory != '/' || length <= tail_length || strcmp(pipe_directory + length - tail_length, tail) != 0)
		return NULL;
	GS_AUTO_FREE char *folder = gs_printf("%.*s", (int)(length - tail_length), pipe_directory);
	char *slash = strrchr(folder, '/');
	size_t key_length = strlen(slash + 1);
	if (!key_length || key_length >= GS_MPS_KEY_SIZE || slash[1] == '.')
		return NULL;
	*slash = '\0';
	*root = gs_strdup(*folder ? folder : "/");
	return gs_strdup(slash + 1);
}

/* Whether a path as the process sees it is that directory. */
static bool sees_directory(pid_t pid, const char *path, const char *directory)
{
	struct stat its, ours;
	GS_AUTO_FREE char *seen = gs_printf("/proc/%d/root%s", (int)pid, path);
	return stat(seen, &its) == 0 && stat(directory, &ours) == 0 && S_ISDIR(ours.st_mode) &&
	       its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
}

/* The folder below `root` that the process works for, owned by the caller. NULL: it is not proven that there is one.
 * Its own word for its pipe directory counts only where its root directory has our folder at that place. */
static char *proven_key(pid_t pid, const char *root)
{
	GS_AUTO_FREE char *pipes = gs_process_environment("/proc", pid, "CUDA_MPS_PIPE_DIRECTORY");
	GS_AUTO_FREE char *its_root = NULL;
	GS_AUTO_FREE char *key = mps_parse_key(pipes, &its_root);
	return key && sees_directory(pid, its_root, root) ? GS_STEAL(key) : NULL;
}

/* The next process of /proc that runs this program for a folder below `root`: a pidfd, its pid and the folder's name (owned by
 * the caller); -1 when there is none. */
static int next_process(DIR *processes, const char *program, const char *root, pid_t *pid, char **key)
{
	struct dirent *entry;
	while ((entry = readdir(processes))) {
		*pid = (pid_t)strtol(entry->d_name, NULL, 10);
		/* The name first: nearly all processes are others, and there are thousands of them on a busy node. */
		int fd = *pid > 0 && is_named_so(*pid) ? open_process(*pid) : -1;
		if (fd < 0)
			continue;
		*key = mps_is_beside_us(*pid) && is_program(*pid, program) ? proven_key(*pid, root) : NULL;
		if (*key)
			return fd;
		close(fd);
	}
	return -1;
}

static bool is_among(pid_t pid, const int *pids, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static void search(const char *program, const char *root, mps_found *found, void *user)
{
	DIR *processes = opendir("/proc");
	char *key;
	pid_t pid;
	int fd;
	while (processes && (fd = next_process(processes, program, root, &pid, &key)) >= 0) {
		found(user, key, pid, fd);
		free(key);
	}
	if (processes)
		closedir(processes);
}

/* Whose servers are looked for. */
struct orphanage {
	const char *key;
	pid_t control;
	const int *servers;
	size_t server_count;
	struct mps_pidfds *orphans;
};

static void add_orphan(void *user, const char *key, pid_t pid, int pidfd)
{
	const struct orphanage *home = user;
	if (strcmp(key, home->key) == 0 && parent_of(pid) != home->control &&
	    !is_among(pid, home->servers, home->server_count) && home->orphans->count < MPS_ORPHANS_MAX)
		home->orphans->items[home->orphans->count++] = pidfd;
	else
		close(pidfd);
}

void mps_find_orphans(const char *root, const char *key, pid_t control, const int *servers, size_t server_count,
		      struct mps_pidfds *orphans)
{
	struct orphanage home = {key, control, servers, server_count, orphans};
	mps_pidfds_close(orphans);
	search(SERVER_PROGRAM, root, add_orphan, &home);
}

/* The callback for each control daemon found. */
struct control_search {
	mps_found *found;
	void *user;
};

static void take_daemon(void *user, const char *key, pid_t pid, int pidfd)
{
	const struct control_search *asked = user;
	if (is_daemon(pid))
		asked->found(asked->user, key, pid, pidfd);
	else
		close(pidfd);
}

void mps_search_daemons(const char *root, mps_found *found, void *user)
{
	struct control_search asked = {found, user};
	search(CONTROL_PROGRAM, root, take_daemon, &asked);
}

bool mps_pidfds_alive(struct mps_pidfds *pidfds)
{
	for (size_t i = pidfds->count; i > 0; i--)
		if (mps_has_ended(pidfds->items[i - 1])) {
			close(pidfds->items[i - 1]);
			pidfds->items[i - 1] = pidfds->items[--pidfds->count];
		}
	return pidfds->count > 0;
}

void mps_pidfds_kill(const struct mps_pidfds *pidfds)
{
	for (size_t i = 0; i < pidfds->count; i++)
		mps_kill(pidfds->items[i]);
}

void mps_pidfds_close(struct mps_pidfds *pidfds)
{
	for (size_t i = 0; i < pidfds->count; i++)
		close(pidfds->items[i]);
	pidfds->count = 0;
}

void mps_kill(int pidfd)
{
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

/* The kernel takes one number a write. */
static bool enter_cgroup(pid_t pid, const char *directory, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/cgroup.procs", directory);
	GS_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d\n", (int)pid) < 0) {
		gs_fail_errno(err, "cannot move process %d to %s", (int)pid, directory);
		return false;
	}
	return true;
}

size_t mps_leave_cgroups(pid_t pid, const char *root, struct gs_error *err)
{
	GS_AUTO_FREE char *unified = gs_printf("%s/cgroup.procs", root);
	if (access(unified, F_OK) == 0)
		return enter_cgroup(pid, root, err);
	DIR *directory = opendir(root);
	struct dirent *entry;
	size_t entered = 0;
	if (!directory) {
		gs_fail_errno(err, "cannot look at the cgroups in %s", root);
		return 0;
	}
	while ((entry = readdir(directory))) {
		GS_AUTO_FREE char *hierarchy = gs_printf("%s/%s", root, entry->d_name);
		GS_AUTO_FREE char *processes = gs_printf("%s/cgroup.procs", hierarchy);
		if (entry->d_name[0] != '.' && entry->d_type != DT_LNK && access(processes, F_OK) == 0)
			entered += enter_cgroup(pid, hierarchy, err);
	}
	closedir(directory);
	return entered;
}
