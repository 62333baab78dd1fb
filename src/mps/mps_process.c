#include "mps/mps_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "gpu/sample.h"

enum {
	PID_FILE_BYTES_MAX = 64,
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

static bool has_ended(int pidfd)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN}; /* also when nobody has reaped it */
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
	if (fd < 0 || has_ended(fd) || !is_named_so(pid))
		return -1;
	int found = fd;
	fd = -1;
	return found;
}

/* Whether one of the words of its command line is this one. */
static bool has_word(pid_t pid, const char *word)
{
	size_t length;
	GS_AUTO_FREE char *words = read_of(pid, "cmdline", WORDS_BYTES_MAX, &length);
	for (size_t at = 0; words && at < length; at += strlen(words + at) + 1)
		if (strcmp(words + at, word) == 0)
			return true;
	return false;
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
	const char *slash = words ? strrchr(words, '/') : NULL;
	return words && strcmp(slash ? slash + 1 : words, program) == 0;
}

/* Of a process that runs the control program: whether it is a front end, or a daemon. */
static bool is_daemon(pid_t pid)
{
	return has_word(pid, "-d") || has_word(pid, "-f");
}

int mps_find_daemon(const char *pipe_directory, pid_t *pid)
{
	GS_AUTO_FREE char *path = gs_printf("%s/nvidia-cuda-mps-control.pid", pipe_directory);
	size_t length;
	GS_AUTO_FREE char *text = gs_read_file(path, PID_FILE_BYTES_MAX, &length, NULL);
	long number = text ? strtol(text, NULL, 10) : 0;
	if (number <= 0 || number > INT32_MAX)
		return -1;
	*pid = (pid_t)number;
	GS_AUTO_CLOSE int fd = open_process(*pid);
	if (fd < 0 || !is_program(*pid, CONTROL_PROGRAM) || !is_daemon(*pid))
		return -1;
	/* A number that was given out again, or in another PID namespace. */
	GS_AUTO_FREE char *its = gs_process_environment("/proc", *pid, "CUDA_MPS_PIPE_DIRECTORY");
	if (*its && strcmp(its, pipe_directory) != 0)
		return -1;
	int found = fd;
	fd = -1;
	return found;
}

/* What runs in some pod's container is none of ours, whatever its name says: ours have left their pod's cgroups, or are in
 * that of this process. Of a cgroup outside of this process's namespace only the path from here is seen: "/../pod<uid>/...". */
static bool is_in_another_pod(pid_t pid)
{
	size_t length;
	GS_AUTO_FREE char *mine = read_of(getpid(), "cgroup", CGROUP_BYTES_MAX, &length);
	GS_AUTO_FREE char *its = read_of(pid, "cgroup", CGROUP_BYTES_MAX, &length);
	return its && (strstr(its, "kubepods") || strstr(its, "/pod")) && !(mine && strcmp(its, mine) == 0);
}

static pid_t parent_of(pid_t pid)
{
	size_t length;
	GS_AUTO_FREE char *status = read_of(pid, "status", STATUS_BYTES_MAX, &length);
	const char *line = status ? strstr(status, "\nPPid:") : NULL;
	return line ? (pid_t)strtol(line + strlen("\nPPid:"), NULL, 10) : 0;
}

/* The next process of /proc that runs this program: a pidfd, its pid and its pipe directory (owned by the caller, "" when its
 * environment cannot be read); -1 when there is none. */
static int next_process(DIR *processes, const char *program, pid_t *pid, char **pipe_directory)
{
	struct dirent *entry;
	while ((entry = readdir(processes))) {
		*pid = (pid_t)strtol(entry->d_name, NULL, 10);
		/* The name first: nearly all processes are others, and there are thousands of them on a busy node. */
		int fd = *pid > 0 && is_named_so(*pid) ? open_process(*pid) : -1;
		if (fd < 0)
			continue;
		if (is_program(*pid, program) && !is_in_another_pod(*pid)) {
			*pipe_directory = gs_process_environment("/proc", *pid, "CUDA_MPS_PIPE_DIRECTORY");
			return fd;
		}
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

static void search(const char *program, mps_found *found, void *user)
{
	DIR *processes = opendir("/proc");
	char *pipe_directory;
	pid_t pid;
	int fd;
	while (processes && (fd = next_process(processes, program, &pid, &pipe_directory)) >= 0) {
		found(user, pipe_directory, pid, fd);
		free(pipe_directory);
	}
	if (processes)
		closedir(processes);
}

void mps_search_servers(mps_found *found, void *user)
{
	search(SERVER_PROGRAM, found, user);
}

/* Whose servers are looked for. */
struct orphanage {
	const char *pipe_directory;
	pid_t control;
	const int *servers;
	size_t server_count;
	struct mps_pidfds *orphans;
};

static void add_orphan(void *user, const char *pipe_directory, pid_t pid, int pidfd)
{
	const struct orphanage *home = user;
	if (strcmp(pipe_directory, home->pipe_directory) == 0 && parent_of(pid) != home->control &&
	    !is_among(pid, home->servers, home->server_count) && home->orphans->count < MPS_ORPHANS_MAX)
		home->orphans->items[home->orphans->count++] = pidfd;
	else
		close(pidfd);
}

void mps_find_orphans(const char *pipe_directory, pid_t control, const int *servers, size_t server_count,
		      struct mps_pidfds *orphans)
{
	struct orphanage home = {pipe_directory, control, servers, server_count, orphans};
	mps_pidfds_close(orphans);
	mps_search_servers(add_orphan, &home);
}

/* Who is told of control daemons. */
struct control_search {
	mps_found *found;
	void *user;
};

static void take_daemon(void *user, const char *pipe_directory, pid_t pid, int pidfd)
{
	const struct control_search *asked = user;
	if (is_daemon(pid))
		asked->found(asked->user, pipe_directory, pid, pidfd);
	else
		close(pidfd);
}

void mps_search_daemons(mps_found *found, void *user)
{
	struct control_search asked = {found, user};
	search(CONTROL_PROGRAM, take_daemon, &asked);
}

bool mps_pidfds_alive(struct mps_pidfds *pidfds)
{
	for (size_t i = pidfds->count; i > 0; i--)
		if (has_ended(pidfds->items[i - 1])) {
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
