/* The control daemons and servers of MPS as processes of this node: found, told apart, kept and ended. */
#ifndef GPUSHARE_MPS_MPS_PROCESS_H
#define GPUSHARE_MPS_MPS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum { MPS_ORPHANS_MAX = 64 };

/* A process for as long as this boot lasts: `start` is its start time as /proc tells it (proc(5), stat, field 22). `pid` 0:
 * none. */
struct mps_identity {
	pid_t pid;
	uint64_t start;
};
/* Of a process that runs; `start` is 0 when it does not. */
struct mps_identity mps_identify(pid_t pid);
/* A pidfd (pidfd_open(2)) of that very process, -1 when it has ended. */
int mps_open_identity(const struct mps_identity *identity);

/* Whether a daemon was started with -M: then clients of all users share its one server. */
bool mps_is_multi_user(pid_t pid);
/* The control daemon of a pipe directory: a pidfd and its pid, else -1. It is the one of `known` (may be NULL) while that runs;
 * else the one that listens at PIPE-DIRECTORY/control by the kernel's word (SO_PEERCRED), if it has this user id and is
 * beside us. Files of that directory are no evidence: containers may have been able to write them. */
int mps_find_daemon(const char *pipe_directory, const struct mps_identity *known, pid_t *pid);
/* Whether the process is in this one's cgroup, or above all containers: no process of another container is. */
bool mps_is_beside_us(pid_t pid);

/* Control daemons beside us that work for a folder below `root`, by a look at all processes: also one that no client
 * can reach, because its pipe directory was deleted. That it works for this root, and not for one of the same name in
 * another mount namespace, is proven by device and inode. `key`, the folder's name, is valid during the call; `pidfd`
 * is the callee's. */
typedef void mps_found(void *user, const char *key, pid_t pid, int pidfd);
void mps_search_daemons(const char *root, mps_found *found, void *user);

/* --- the parsers, for tests --- */

/* Whether `its` content of /proc/PID/cgroup names `mine` cgroups, or ones above all containers, in every hierarchy. */
bool mps_cgroup_is_ours(const char *mine, const char *its);
/* The start time in the content of /proc/PID/stat; 0: there is none. */
uint64_t mps_parse_start(const char *stat);
/* Of the content of /proc/PID/cmdline, with a NUL behind it: whether one of its words is this one; whether the first one is this
 * program, with or without a path. */
bool mps_words_have(const char *words, size_t length, const char *word);
bool mps_words_run(const char *words, const char *program);
/* The name of the folder in "ROOT/NAME/pipe", and `*root`; both owned by the caller. NULL when it is something else. */
char *mps_parse_key(const char *pipe_directory, char **root);

/* Processes, each by a pidfd. Zeroed: none. */
struct mps_pidfds {
	int items[MPS_ORPHANS_MAX];
	size_t count;
};

/* The servers that a control daemon of ROOT/KEY left behind when it died: each runs on as long as it has clients, and keeps
 * the GPU. Those of `control`, the daemon that runs there now (0: none), are its children or in the list that it gave,
 * `servers`. Replaces what `orphans` held. Found and proven as by mps_search_daemons. */
void mps_find_orphans(const char *root, const char *key, pid_t control, const int *servers, size_t server_count,
		      struct mps_pidfds *orphans);
/* Whether one of them still runs; those that have ended are taken out. */
bool mps_pidfds_alive(struct mps_pidfds *pidfds);
void mps_pidfds_kill(const struct mps_pidfds *pidfds);
void mps_pidfds_close(struct mps_pidfds *pidfds);

/* Whether the process behind a pidfd has ended; until then no other one has its pid. */
bool mps_has_ended(int pidfd);
/* Ends the process behind a pidfd at once: never another one that has its pid by now. */
void mps_kill(int pidfd);
/* Moves a process to the root of every cgroup hierarchy mounted below `root` (of version 2, or one folder for each
 * controller of version 1), so that it does not end with the container that started it. How many could be entered; `err`
 * tells of the last that could not. */
size_t mps_leave_cgroups(pid_t pid, const char *root, struct gs_error *err);

#endif
