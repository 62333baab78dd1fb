/* One MPS control daemon on the loop: what mps_next.h decides, carried out with programs, processes and timers. Inside of
 * mps_daemons.h. */
#ifndef GPUSHARE_MPS_MPS_DAEMON_H
#define GPUSHARE_MPS_MPS_DAEMON_H

#include "mps/mps_control.h"
#include "mps/mps_daemons.h"
#include "mps/mps_next.h"
#include "mps/mps_process.h"

enum { MPS_SERVERS_MAX = 64 };

/* The question that a daemon is answering now. */
enum mps_step {
	MPS_STEP_NONE,
	MPS_STEP_MODE,     /* waits for the compute mode */
	MPS_STEP_START,    /* nvidia-cuda-mps-control -d */
	MPS_STEP_SETTINGS, /* defaults, and the answer that proves it is there */
	MPS_STEP_SERVERS,  /* get_server_list, for MPS_STEP_APPLY or MPS_STEP_STATES */
	MPS_STEP_APPLY,    /* settings of servers that run */
	MPS_STEP_STATES,   /* get_server_status of each */
	MPS_STEP_END_SERVERS,
	MPS_STEP_QUIT,
	MPS_STEP_RESTORE, /* waits for the compute mode as it was */
};

struct mps_death;

struct mps_daemon {
	struct mps_daemon *next;
	struct gs_mps_daemons *all;
	struct gs_mps_spec spec;
	char *root, *directory, *pipe_directory, *log_directory, *control_socket;
	struct mps_facts facts;
	char reason[512];
	bool elsewhere; /* below a root that is not the set's any more: it only has to go */
	bool look_due;
	bool tries_multi_user, multi_user;
	bool orphans_due; /* an earlier control daemon may have left servers here */
	enum mps_step step, after_servers;
	struct mps_run *run;
	struct mps_death *death; /* of its process; NULL: it does not run */
	pid_t pid;
	struct mps_identity known; /* the process that is on record for it; it may have ended */
	uv_timer_t timer;
	uv_fs_event_t log_event, pipe_event;
	unsigned handles;
	int servers[MPS_SERVERS_MAX];
	size_t server_count;
	struct mps_pidfds orphans; /* servers of a control daemon that died, and that still have the GPU */
	unsigned starts;
};

struct gs_mps_daemons {
	uv_loop_t *loop;
	struct gs_mps_options options;
	char *root, *program, *cgroups;
	struct mps_daemon *first;
	bool no_multi_user; /* the program does not know -M */
	bool freeing;
	void (*done)(void *user);
	void *done_user;
};

/* Adds one at the end of the set; nothing is done for it before mps_daemon_wake. */
struct mps_daemon *mps_daemon_add(struct gs_mps_daemons *all, const char *root, const struct gs_mps_spec *spec);
/* Its process is this one, which runs already. Takes over the descriptor. */
void mps_daemon_adopt(struct mps_daemon *daemon, pid_t pid, int pidfd);
/* Takes the next step that is due, soon. A busy one decides on its next step once it is done. */
void mps_daemon_wake(struct mps_daemon *daemon);
/* Something happened that a client's fault may have caused. */
void mps_daemon_look(struct mps_daemon *daemon);
/* The answer to options.set_mode for its GPU; `err` NULL: done. */
void mps_daemon_mode_set(struct mps_daemon *daemon, const struct gs_error *err);
/* Takes it out of the set; its process goes on. Its memory goes with its handles, and the set's with the last one when
 * that is being freed. */
void mps_daemon_delete(struct mps_daemon *daemon);
/* Nothing is done for it any more. */
bool mps_daemon_is_going(const struct mps_daemon *daemon);

/* mps_daemons.c: frees the set, which has no daemons left, and calls what waits for that. */
void mps_daemons_finish(struct gs_mps_daemons *all);

#endif
