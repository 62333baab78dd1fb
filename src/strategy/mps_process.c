#include "strategy/mps_process.h"

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

enum {
	PID_FILE_BYTES_MAX = 64,
	COMM_BYTES_MAX = 64,
	COMM_LENGTH = 15, /* the kernel keeps no more of a name: the same for the control daemon and its servers */
	STATUS_BYTES_MAX = 16 * 1024,
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

/* A pidfd of a program of MPS that runs, or -1. */
static int open_process(pid_t pid)
{
	size_t length;
	GS_AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0 || has_ended(fd))
		return -1;
	/* After pidfd_open, so that the name is that of the process behind it. */
	GS_AUTO_FREE char *comm = read_of(pid, "comm", COMM_BYTES_MAX, &length);
	if (!comm || strncmp(comm, CONTROL_PROGRAM, COMM_LENGTH) != 0)
		return -1;
	int found = fd;
	fd = -1;
	return found;
}

int mps_find_daemon(const char *pipe_directory, pid_t *pid)
{
	GS_AUTO_FREE char *path = gs_printf("%s/nvidia-cuda-mps-control.pid", pipe_directory);
	size_t length;
	GS_AUTO_FREE char *text = gs_read_file(path, PID_FILE_BYTES_MAX, &length, NULL);
	long number = text ? strtol(text, NULL, 10) : 0;
	if (number <= 0 || number > INT32_MAX)
		return -1;
	int fd = open_process((pid_t)number);
	if (fd < 0)
		return -1;
	*pid = (pid_t)number;
	return fd;
}

/* Whether one of the words in a list that NUL bytes end (environ, cmdline) is this one. */
static bool has_word(pid_t pid, const char *list, const char *word)
{
	size_t length;
	GS_AUTO_FREE char *words = read_of(pid, list, WORDS_BYTES_MAX, &length);
	for (size_t at = 0; words && at < length; at += strlen(words + at) + 1)
		if (strcmp(words + at, word) == 0)
			return true;
	return false;
}

bool mps_is_multi_user(pid_t pid)
{
	return has_word(pid, "cmdline", "-M");
}

/* By the name it was run with, and the pipe directory in its environment. */
static bool is_program_of(pid_t pid, const char *program, const char *pipe_directory)
{
	size_t length;
	GS_AUTO_FREE char *variable = gs_printf("CUDA_MPS_PIPE_DIRECTORY=%s", pipe_directory);
	GS_AUTO_FREE char *words = read_of(pid, "cmdline", WORDS_BYTES_MAX, &length);
	const char *slash = words ? strrchr(words, '/') : NULL;
	return words && strcmp(slash ? slash + 1 : words, program) == 0 && has_word(pid, "environ", variable);
}

static pid_t parent_of(pid_t pid)
{
	size_t length;
	GS_AUTO_FREE char *status = read_of(pid, "status", STATUS_BYTES_MAX, &length);
	const char *line = status ? strstr(status, "\nPPid:") : NULL;
	return line ? (pid_t)strtol(line + strlen("\nPPid:"), NULL, 10) : 0;
}

void mps_find_orphans(const char *pipe_directory, pid_t control, const int *servers, size_t server_count,
		      struct mps_pidfds *orphans)
{
	struct dirent *entry;
	DIR *processes = opendir("/proc");
	mps_pidfds_close(orphans);
	while (processes && orphans->count < MPS_ORPHANS_MAX && (entry = readdir(processes))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		bool known = pid <= 0;
		for (size_t i = 0; i < server_count; i++)
			known |= servers[i] == pid;
		int fd = known ? -1 : open_process(pid);
		if (fd < 0)
			continue;
		if (parent_of(pid) != control && is_program_of(pid, SERVER_PROGRAM, pipe_directory))
			orphans->items[orphans->count++] = fd;
		else
			close(fd);
	}
	if (processes)
		closedir(processes);
}

/* Not a front end. */
static bool is_daemon(pid_t pid)
{
	return has_word(pid, "cmdline", "-d") || has_word(pid, "cmdline", "-f");
}

int mps_search_daemon(const char *pipe_directory, pid_t *pid)
{
	struct dirent *entry;
	DIR *processes = opendir("/proc");
	int found = -1;
	while (processes && found < 0 && (entry = readdir(processes))) {
		*pid = (pid_t)strtol(entry->d_name, NULL, 10);
		found = *pid > 0 ? open_process(*pid) : -1;
		if (found >= 0 && !(is_program_of(*pid, CONTROL_PROGRAM, pipe_directory) && is_daemon(*pid))) {
			close(found);
			found = -1;
		}
	}
	if (processes)
		closedir(processes);
	return found;
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
