/* Whether a GPU can be given to work: a state machine per GPU, fed with events and with looks at the hardware. Time is
 * an argument (nanoseconds of any monotonic clock).
 *
 * A fault makes the GPU unhealthy at once. It is healthy again only when that is proven:
 *   lost or not answering      it answers
 *   contained XID              a clean look
 *   XID that needs a reset,    where the driver tells a recovery action: a look that says none; where it does not
 *   double-bit ECC error       (drivers before R570): a look found the GPU lost and a later one found it back, or one
 *                              of its counters started again, so it was reset, and no row remapping is pending
 *   XID 79, fallen off         both of the above: it answers, and it was reset
 *   recovery action asked for  a look that says none
 *   row remapping failed       a look that says it has not
 * and then every look for the waiting time was clean and nothing happened. A GPU that falls sick again within the
 * damping window waits twice as long each time, up to a limit. Looks that fail for another reason than a lost GPU prove
 * nothing: three in a row are a fault of their own. */
#ifndef GPUSHARE_CORE_HEALTH_H
#define GPUSHARE_CORE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/health/xid.h"

struct gs_health_settings {
	int64_t wait_ns;         /* clean this long before healthy again */
	int64_t wait_max_ns;     /* limit of the doubled waiting time */
	int64_t damping_ns;      /* healthy for less than this: a relapse */
	int64_t look_healthy_ns; /* how often to look at a healthy GPU */
	int64_t look_sick_ns;    /* and at one that is not */
};
/* 10 s, 10 min, 10 min, 30 s, 1 s. */
extern const struct gs_health_settings gs_health_defaults;

/* The findings of one look at a GPU. `counters` are totals that only a reset or a driver reload sets back
 * (uncorrectable volatile ECC errors, energy in mJ); leave those that cannot be read at UINT64_MAX. */
enum gs_probe_result {
	GS_PROBE_OK,
	GS_PROBE_LOST /* NVML says lost, or no such GPU */,
	GS_PROBE_FAILED /* other error */
};
struct gs_probe {
	enum gs_probe_result result;
	bool recovery_known;
	uint32_t recovery_action; /* NVML field 230: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset */
	bool remap_known;
	bool remap_pending, remap_failed;
	uint64_t ecc_uncorrectable; /* volatile; UINT64_MAX unknown. An increase is a double-bit error. */
	uint64_t energy_mj;         /* UINT64_MAX unknown */
};

enum { GS_HEALTH_CAUSE_SIZE = 192, GS_HEALTH_REASON_SIZE = 320 };

/* One GPU's health. Members are the machine's own; use the functions. A GPU that went away and came back by hot-plug
 * gets a new one: it was enumerated anew, which is proof enough. */
struct gs_health {
	const struct gs_health_settings *settings;
	const struct gs_xid_filter *filter;
	unsigned faults; /* bits of what stands */
	bool healthy;
	bool seen_lost;           /* a look found it lost since the fault that needs a reset */
	bool restarted;           /* a counter went back since that fault */
	unsigned failed_looks;    /* in a row */
	int64_t wait_ns;          /* the waiting time now */
	int64_t clean_since_ns;   /* first look of an unbroken row of clean ones; -1 none */
	int64_t healthy_since_ns; /* when it was healthy again; -1: never sick so far */
	int64_t next_look_ns;
	uint64_t ecc_last, energy_last;
	bool looked;         /* reached it since the last event */
	bool recovery_known; /* that look could tell the recovery action */
	char cause[GS_HEALTH_CAUSE_SIZE];
	char reason[GS_HEALTH_REASON_SIZE];
};

/* A healthy GPU. Both pointers must outlive it. */
void gs_health_init(struct gs_health *health, const struct gs_health_settings *settings,
		    const struct gs_xid_filter *filter, int64_t now_ns);

/* Events. Each returns whether the GPU turned healthy or unhealthy, so that it must be published; an event that the
 * filter does not watch changes nothing. */
bool gs_health_xid(struct gs_health *health, uint64_t xid, int64_t now_ns);
/* A look at it does not return; the next one that does proves that it answers. */
bool gs_health_hangs(struct gs_health *health, int64_t now_ns);
bool gs_health_ecc_double(struct gs_health *health, int64_t now_ns);
bool gs_health_probe(struct gs_health *health, const struct gs_probe *probe, int64_t now_ns);

bool gs_health_is_healthy(const struct gs_health *health);
/* Why it is unhealthy and what it waits for; what it recovered from; "" when it never was sick. */
const char *gs_health_reason(const struct gs_health *health);
/* When the next look is due (a time in the past: at once); INT64_MAX: none, since nothing is watched. Every event may
 * make it earlier. */
int64_t gs_health_next_look(const struct gs_health *health);

#endif
