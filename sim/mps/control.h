/* Inside of the simulated MPS control daemon: its loop (control.c) and the commands of its front end (commands.c). */
#ifndef GPUSHARE_SIM_MPS_CONTROL_H
#define GPUSHARE_SIM_MPS_CONTROL_H

#include "base/vec.h"
#include "sim/mps/mps.h"

struct mps_server {
	pid_t pid;
	uid_t uid;
	int fd; /* to the server */
	bool ready;
	bool full;   /* a client waits until it reads what it was sent */
	bool ending; /* told to end once its clients are gone */
	struct mps_settings settings;
};

/* A peer connected: a front end, or a client that waits for a server. */
struct mps_peer {
	int fd;
	bool known;               /* to be a front end */
	bool waiting;             /* a client, until the servers of other users are gone */
	struct mps_packet *hello; /* of a waiting client */
	uid_t uid;
	pid_t pid;
};

struct mps_control {
	char *pipe_directory, *log_directory;
	bool foreground, multi_user;
	int listener, privileged, lock;
	struct mps_settings defaults;
	struct mps_device devices[SIM_GPUS_MAX];
	size_t device_count;
	GS_VEC(struct mps_server) servers;
	GS_VEC(struct mps_peer) peers;
	bool quitting;
	int quit_fd;       /* the front end that asked, -1: it went away */
	uint64_t force_ns; /* when servers are told to end now; 0: never */
	int status;        /* 1 once a server failed */
};

/* Runs one command of a front end and answers it on `fd`, all but `quit`, which is answered at the end. */
void mps_command_run(struct mps_control *control, int fd, const char *command);

/* control.c */
void mps_control_log(const struct mps_control *control, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* NULL: could not be started; the reason is in the log. */
struct mps_server *mps_control_start_server(struct mps_control *control, uid_t uid);
struct mps_server *mps_control_find_server(struct mps_control *control, pid_t pid);
/* Asks a server and hears its answers until MPS_END: false when it is busy or gone. `each` may be NULL. */
bool mps_control_ask(struct mps_control *control, struct mps_server *server, enum mps_kind kind, int32_t client_pid,
		     void (*each)(void *user, const struct mps_client_info *client), void *user, int32_t *value);
void mps_control_tell(struct mps_server *server, enum mps_kind kind, int32_t value);
void mps_control_quit(struct mps_control *control, int fd, int timeout_seconds);

#endif
