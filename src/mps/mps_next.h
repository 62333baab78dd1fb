/* What an MPS control daemon needs next. Pure: what happened is noted in its facts, time is an argument (milliseconds of a
 * clock that never goes back), and the answer is one action. mps_daemon.c carries it out and asks again. */
#ifndef GPUSHARE_MPS_MPS_NEXT_H
#define GPUSHARE_MPS_MPS_NEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "mps/mps_daemons.h"

enum {
	MPS_FAULTS_MAX = 5, /* within MPS_FAULT_WINDOW_MS: one more, and the device is left alone for a while */
	MPS_FAULT_WINDOW_MS = 600000,
	MPS_FAULT_LOOK_MS = 250, /* while a server is in FAULT, and after we asked it to end */
	MPS_QUARANTINE_MS = 600000,
	MPS_QUIT_SECONDS = 30, /* for the last clients of a daemon that is no longer wanted */
	MPS_RETRY_FIRST_MS = 100,
};

/* The facts that decide. Times are 0 where there is none. */
struct mps_facts {
	enum gs_mps_state state;
	bool wanted;
	bool runs;                               /* its process is known and lives */
	bool exclusive;                          /* its GPU has to be in compute mode EXCLUSIVE_PROCESS */
	bool mode_taken;                         /* and is, by us */
	bool mode_used;                          /* another daemon needs that mode of the GPU too */
	bool settings_due;                       /* the config changed them */
	bool orphans;                            /* servers of a control daemon that died still have the GPU */
	unsigned faults;                         /* of clients, so far */
	unsigned unanswered;                     /* questions in a row */
	unsigned failures;                       /* in a row */
	uint64_t started_ms;                     /* when `-d` ended well, while its process is not known */
	uint64_t ready_ms;                       /* since when it has its settings */
	uint64_t fault_ms;                       /* when a server was first seen in FAULT */
	uint64_t orphan_fault_ms;                /* the same, of servers that a control daemon left behind */
	uint64_t set_ms;                         /* when it last got its settings */
	uint64_t looked_ms;                      /* when its servers' states were last asked for */
	uint64_t unanswered_ms;                  /* the first of the unanswered questions */
	uint64_t quit_ms;                        /* since when its last clients are waited for */
	uint64_t fault_times_ms[MPS_FAULTS_MAX]; /* the last ones, as a ring */
	uint64_t quarantine_ends_ms;
};

enum mps_action {
	MPS_WAIT,      /* wait_ms */
	MPS_TAKE_MODE, /* set the GPU's compute mode to EXCLUSIVE_PROCESS */
	MPS_START,     /* run nvidia-cuda-mps-control -d */
	MPS_SEARCH, /* look at all processes for what `-d` left; without it wait for wait_ms, and fail if that is 0 */
	MPS_SET_DEFAULTS, /* tell it its settings */
	MPS_LOOK,         /* ask for its servers and their states */
	MPS_END_SERVERS,  /* those in FAULT, whose clients did not go */
	MPS_END_ORPHANS,  /* and wait for wait_ms */
	MPS_QUIT,         /* ask it to end once its clients are gone */
	MPS_FINISH,       /* its process ended and is not started again: mps_next_end gives the remaining steps */
	MPS_BEGIN_AGAIN,  /* it is wanted again: mps_next tells */
	MPS_RESTORE_MODE, /* give the GPU its compute mode back */
	MPS_FORGET,       /* nothing is left of it */
};

struct mps_next {
	enum mps_action action;
	enum gs_mps_state state; /* from now on; as it was, where the action leads to one */
	unsigned wait_ms;
};

/* The next action when none is under way. */
struct mps_next mps_next(const struct mps_facts *facts, uint64_t now_ms);
/* The same after its process has ended and it was not started again: `orphans` and `mode_used` are up to date. */
struct mps_next mps_next_end(struct mps_facts *facts, uint64_t now_ms);

/* Something failed: it is tried again after the pause that this returns, and each pause is longer, up to 30 s. */
unsigned mps_note_failure(struct mps_facts *facts);
/* Its process died without having been asked to. Whether it is started again: not before a quarantine is over. */
bool mps_note_death(struct mps_facts *facts, uint64_t now_ms);
/* A question had no answer. Whether the daemon has to be ended: it lives, and no client can reach it. */
bool mps_note_silence(struct mps_facts *facts, uint64_t now_ms);
/* A server is in FAULT: a client's work failed. */
struct mps_next mps_note_fault(struct mps_facts *facts, uint64_t now_ms);
/* It answered, and no server is in FAULT. */
struct mps_next mps_note_well(struct mps_facts *facts, uint64_t now_ms);
/* In how many milliseconds a look that something suggested is to begin: events come in bursts, and some all the time. */
unsigned mps_look_delay(const struct mps_facts *facts, uint64_t now_ms);

#endif
