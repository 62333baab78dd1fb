/* The control daemons and servers of MPS as processes of this node: found, told apart, kept and ended. */
#ifndef GPUSHARE_STRATEGY_MPS_PROCESS_H
#define GPUSHARE_STRATEGY_MPS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

enum { MPS_ORPHANS_MAX = 64 };

/* Whether a daemon was started with -M: then clients of all users share its one server. */
bool mps_is_multi_user(pid_t pid);
/* The daemon whose PID file is in DIRECTORY if it runs: a pidfd (pidfd_open(2)) and its pid, else -1. A file that names some
 * other program, or the daemon of another directory, is a leftover. */
int mps_find_daemon(const char *pipe_directory, pid_t *pid);
/* Every control daemon of this machine, by a look at its processes: also one that could not write its PID file, or whose
 * pipe directory was deleted. `pipe_directory` is valid during the call; `pidfd` is the callee's. */
typedef void mps_found(void *user, const char *pipe_directory, pid_t pid, int pidfd);
void mps_search_daemons(mps_found *found, void *user);
/* The same for servers. Those whose environment cannot be read have the pipe directory "". */
void mps_search_servers(mps_found *found, void *user);

/* Processes, each by a pidfd. Zeroed: none. */
struct mps_pidfds {
	int items[MPS_ORPHANS_MAX];
	size_t count;
};

/* The servers that a control daemon of this pipe directory left behind when it died: each runs on as long as it has clients,
 * and keeps the GPU. Those of `control`, the daemon that runs there now (0: none), are its children or in the list that it
 * gave, `servers`. Replaces what `orphans` held. Servers whose environment cannot be read are not found, nor are processes of other pods that call themselves so. */
void mps_find_orphans(const char *pipe_directory, pid_t control, const int *servers, size_t server_count,
		      struct mps_pidfds *orphans);
/* Whether one of them still runs; those that have ended are taken out. */
bool mps_pidfds_alive(struct mps_pidfds *pidfds);
void mps_pidfds_kill(const struct mps_pidfds *pidfds);
void mps_pidfds_close(struct mps_pidfds *pidfds);

/* Ends the process behind a pidfd at once: never another one that has its pid by now. */
void mps_kill(int pidfd);
/* Moves a process to the root of every cgroup hierarchy mounted below `root` (of version 2, or one folder for each
 * controller of version 1), so that it does not end with the container that started it. How many could be entered; `err`
 * tells of the last that could not. */
size_t mps_leave_cgroups(pid_t pid, const char *root, struct gs_error *err);

#endif
