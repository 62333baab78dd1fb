/* What the parts of the GPU room share: looks (look.c), what they found (found.c), events (events.c), hangs (hang.c) and
 * errands (errand.c). All on the loop's thread, unless it says otherwise. */
#ifndef GPUSHARE_MONITOR_GPUS_INTERNAL_H
#define GPUSHARE_MONITOR_GPUS_INTERNAL_H

#include "core/health/health.h"
#include "gpu/inventory_read.h"
#include "gpu/label_facts.h"
#include "gpu/watch.h"
#include "monitor/gpus.h"
#include "base/lane.h"

enum {
	EVENTS_MAX = 128,     /* between the event thread and the loop; a flood beyond it forces a look at every GPU */
	RETRY_FIRST_MS = 100, /* until NVML is there */
	RETRY_MOST_MS = 5000,
};

/* The stage of a look: it decides what the loop thread can do when the look makes no progress. */
enum look_place {
	LOOK_AT_DRIVER, /* calls that name no GPU */
	LOOK_AT_EACH,   /* each GPU is touched on a thread of its own, which has a limit of its own */
	LOOK_AT_GPUS,   /* all of them, one after the other: another look finds out which GPU it hangs on */
	LOOK_AT_CHANGE, /* a MIG change that was cut off is settled, which no other may do meanwhile */
};

/* A look: what it is to do, and what it found. One at a time; one that hangs on a GPU is left behind. Its thread owns it
 * until it is over, so what it needs is copied. */
struct look {
	struct gpus *gpus;
	char *driver_root, *host_driver_root, *state_dir;
	bool rescan; /* read the inventory even if the cheap check sees no change */
	bool settle; /* a MIG change that was cut off, if there is one */
	struct gs_inventory before;
	bool *probe; /* which devices of `before` to look at */

	/* Written by the thread, read by the loop's thread while it works. */
	_Atomic unsigned steps; /* how far it is: grows */
	_Atomic int place;      /* enum look_place */

	struct gs_nvml *nvml; /* the owner's, or newly opened */
	char driver_version[80];
	bool failed;
	struct gs_error err;
	bool changed; /* `inventory` was read */
	struct gs_inventory inventory;
	struct gs_label_facts facts_before, facts;
	struct gs_problems problems;
	struct gs_probe *probes;
	char *settled, *unsettled; /* the steps that settled a MIG change that was cut off, or why none could */
	bool stale;                /* the driver has another number of GPUs than NVML lists */
	size_t driver_count;
};

struct gpus {
	uv_loop_t *loop;
	struct gpus_owner owner;
	char *driver_root, *host_driver_root, *state_dir;
	char *unsettled;          /* as last logged */
	int64_t settle_ns;        /* when to try again */
	unsigned settle_failures; /* in a row */
	bool leave_mig;
	struct gs_nvml *nvml; /* NULL until a look opened it; used by looks, samples and the watch */
	char driver_version[80];
	char *waiting_reason;
	unsigned retries; /* in a row */

	struct gs_inventory inventory;
	struct gs_problems problems; /* of the last reading, as told */
	struct gs_label_facts facts;
	bool read_once;
	struct gs_xid_filter filter;
	struct gs_health *health;    /* health[i] of inventory.devices[i] */
	bool tells_mig[GS_GPUS_MAX]; /* the watch tells changes of inventory.gpus[i]'s MIG layout */

	struct lane *look_lane;
	struct lane *errand_lanes[GPUS_LANES];
	struct look *look; /* under way, or NULL */
	bool again, rescan_due;
	size_t reopened_for; /* GPUs of the driver for which NVML was opened anew; 0: none */
	uv_timer_t look_timer, oversee;
	unsigned seen_steps;             /* of the look, when it was last looked after */
	unsigned standstills, abandoned; /* in a row */
	char *hang;                      /* on what the driver hangs, as told; NULL: it does not */

	struct gs_watch *watch;
	uv_async_t arrived;
	uv_mutex_t lock; /* guards the events, which the watch's thread adds */
	struct gs_watch_event events[EVENTS_MAX];
	size_t event_count;
	bool events_lost;

	struct sampler *sampler;
	unsigned errands;
	unsigned handles;           /* still to close */
	bool paused;                /* nothing is looked at */
	bool stopping, left_behind; /* a thread is with a driver that hangs */
	void (*stopped)(void *user);
	void *stopped_user;
};

int64_t gpus_now_ns(void);
void gpus_free_when_stopped(struct gpus *gpus);

/* look.c: looks now, or, when a look is under way, once more after it if everything is to be read anew. */
void gpus_look(struct gpus *gpus, bool rescan);
void gpus_set_waiting_reason(struct gpus *gpus, const char *reason);

/* found.c: takes over the results of a look. */
void gpus_adopt_look(struct gpus *gpus, struct look *look);
void gpus_log_health(const struct gpus *gpus, size_t which);
/* Of the device with this UUID; -1: none. */
long gpus_position(const struct gs_inventory *inventory, const char *uuid);

/* events.c */
void gpus_start_watch(struct gpus *gpus);
void gpus_on_arrived(uv_async_t *async);

/* hang.c: looks after the look that begins; it is over. */
void gpus_oversee(struct gpus *gpus);
void gpus_overseen(struct gpus *gpus);
/* Makes the devices unhealthy that hung at the last look. */
void gpus_tell_hangs(struct gpus *gpus);

#endif
