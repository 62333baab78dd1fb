/* What the simulated MPS speaks: between its control daemon, its servers, and libcuda in a client process.
 *
 * All talk is over Unix sockets of type SEQPACKET, one struct a packet. A client knocks at PIPE-DIRECTORY/control; the
 * daemon finds or starts the server of its user and hands the connection over to it. From then on the connection is the
 * client's life line: when either end dies, the other one knows at once. NVIDIA's own protocol is not documented, so
 * nothing of it is imitated here but the names of the files. */
#ifndef GPUSHARE_SIM_MPS_H
#define GPUSHARE_SIM_MPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sim/state.h"

#define MPS_MAGIC 0x3153504du /* "MPS1" */
enum {
	MPS_TEXT_BYTES = 4096, /* a command, or a part of an answer */
	MPS_CLIENTS_MAX = 60,  /* of one server and GPU, CUDA 13.1; less before: mps_clients_max */
	MPS_FULL_PERCENT = 100,
	MPS_ASK_MS = 2000, /* how long the daemon and a server wait for each other */
	MPS_SERVER_FD = 3, /* where a server finds its connection to the daemon */
};

enum mps_kind {
	/* The front end, to the daemon: a command. Answers are MPS_TEXT (more follows) and MPS_END. */
	MPS_COMMAND = 1,
	MPS_TEXT,
	MPS_END, /* value: the exit status that `quit` reports */
	/* libcuda, to the daemon. The server answers MPS_WELCOME, or closes. */
	MPS_HELLO,
	MPS_WELCOME,
	/* libcuda, to its server: a GPU's first context is made, its last one is gone, its work failed (value: CUresult). The
	 * first is answered by MPS_ATTACHED (value: CUresult). */
	MPS_ATTACH,
	MPS_ATTACHED,
	MPS_DETACH,
	MPS_FAULT,
	/* A server, to libcuda: what the process has on this GPU (or, ordinal -1, all it has) is lost (value: CUresult). */
	MPS_BROKEN,
	/* The daemon, to a server. */
	MPS_TAKE_CLIENT, /* with the connection; `client` is filled in */
	MPS_LIST,        /* answered by MPS_CLIENT each, then MPS_END */
	MPS_CLIENT,
	MPS_STATUS,    /* answered by MPS_END; value: enum mps_server_state */
	MPS_SET,       /* settings for clients to come */
	MPS_TERMINATE, /* client.pid; answered by MPS_END; value: 0 done, 1 there is no such client */
	MPS_SHUTDOWN,  /* value: 0 when the last client is gone, 1 now */
	/* A server, to the daemon. */
	MPS_READY,
};

enum mps_server_state { MPS_INITIALIZING, MPS_ACTIVE, MPS_FAULTED };

/* The limits that a server gives its clients, and those that a client asks for: both may only lower them. 0 is no
 * limit. */
struct mps_settings {
	double percent;                      /* of the threads */
	uint32_t priority;                   /* 0 normal, 1 below normal */
	uint64_t memory_bytes[SIM_GPUS_MAX]; /* by the daemon's device ordinal */
};

struct mps_client_info {
	int32_t pid; /* as the daemon sees it */
	uint32_t uid;
	uint32_t id;      /* 0, 1, ... among the clients of a server */
	uint32_t devices; /* bit per ordinal: those with a context */
};

/* A GPU as clients see it, in the daemon's order. */
struct mps_device {
	uint32_t slot; /* on the simulated node */
	char uuid[48];
};

struct mps_packet {
	uint32_t magic;
	uint32_t kind; /* enum mps_kind */
	int32_t value;
	int32_t ordinal; /* which of the daemon's devices */
	int32_t server_pid;
	struct mps_settings settings;
	struct mps_client_info client;
	uint32_t device_count;
	struct mps_device devices[SIM_GPUS_MAX];
	char text[MPS_TEXT_BYTES];
};

/* $CUDA_MPS_PIPE_DIRECTORY, or the place below the simulated node's own root, so that no real daemon of this machine is
 * met there (the real default is /tmp/nvidia-mps). Owned by the caller. */
char *mps_pipe_directory(void);

/* Sends one packet, with a descriptor unless `fd` is -1. Never waits; -1 when the peer is gone, or (errno EAGAIN) has
 * not read what it was sent before. */
int mps_send(int socket, const struct mps_packet *packet, int fd);
/* Sends one between the daemon and a server, once the other has read enough of what it was sent before (a server that
 * starts has many clients to take, and its list of them is longer than a socket's queue). -1 as above, or after 2 s. */
int mps_send_in_turn(int socket, const struct mps_packet *packet);
/* Receives one, waiting up to `timeout_ms` (-1: for ever): 1; 0 nothing came in time; -1 the peer is gone or sent something
 * else. *fd gets a descriptor that came with it, or -1; NULL: those are closed. */
int mps_receive(int socket, struct mps_packet *packet, int timeout_ms, int *fd);
/* A connection to DIRECTORY/control; -1 when no process listens there. */
int mps_connect(const char *directory);

/* "0=2G,1=512M" as CUDA_MPS_PINNED_DEVICE_MEM_LIMIT has it, into `bytes` by ordinal; what makes no sense is left out. */
void mps_parse_limits(const char *text, uint64_t bytes[SIM_GPUS_MAX]);
/* "2G", "512M" or a plain number of MiB, as the control program reads it; 0 where it reads nothing. What is too
 * large wraps. */
uint64_t mps_parse_limit(const char *text);
/* 0 when it is not in (0, 100]. */
double mps_parse_percent(const char *text);
/* How many clients a GPU takes: 16 before Volta, then 48, and 60 from the driver of CUDA 13.1 (R590) on. */
unsigned mps_clients_max(uint32_t compute_major, const char *driver_version);

/* Whether the program of this driver knows -M: R550 does not, R580 does; where in between is a guess. */
bool mps_knows_multi_user(const char *driver_version);
/* The daemon's life, from start to `quit`; returns its exit status. `foreground` logs to standard output too. */
int mps_control_run(bool foreground, bool multi_user);
/* The front end: commands from standard input, answers to standard output. Returns the exit status. */
int mps_front_end_run(void);
/* A server: talks to the daemon over `control`, until told to end. Does not return. */
struct mps_server_setup {
	int control;
	const char *log_directory;
	const struct mps_settings *settings;
	const struct mps_device *devices;
	size_t device_count;
};
_Noreturn void mps_server_run(const struct mps_server_setup *setup);

/* A line of DIRECTORY/NAME.log: "[time WHO PID] text". Nothing happens when it cannot be written. */
void mps_log(const char *directory, const char *name, const char *who, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
