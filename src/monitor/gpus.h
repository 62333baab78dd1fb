/* The daemon's view of the GPUs: NVML's life, the inventory, events, health. NVML may block for seconds on a sick GPU,
 * so every call is made on worker threads; results arrive on the loop's thread. */
#ifndef GPUSHARE_NODE_GPUS_H
#define GPUSHARE_NODE_GPUS_H

#include <stdbool.h>
#include <uv.h>

#include "base/error.h"
#include "core/share/inventory.h"
#include "core/labels/labels.h"
#include "monitor/sampler.h"

struct gpus;

struct gpus_owner {
	void *user;
	/* The set of GPUs, or a value that a plan depends on, changed; also the first reading. */
	void (*inventory)(void *user, const struct gs_inventory *inventory);
	/* The health of one or more devices changed, or why there is no NVML. */
	void (*health)(void *user);
	/* Something happened on this GPU (its UUID), whatever it means for its health. */
	void (*event)(void *user, const char *gpu);
	/* A look at the GPUs has ended, and the callbacks above have told its results. A look that gpus_rescan asked
	 * for began after that call. */
	void (*looked)(void *user);
};

struct gpus_options {
	const char *driver_root;      /* where to look for libnvidia-ml.so.1 besides the default path */
	const char *host_driver_root; /* another place where the driver's proc may be */
	const char *disable_healthchecks, *enable_healthchecks;
	const char *paused;    /* why NVML is not to be opened before gpus_resume; NULL: it is at once */
	const char *state_dir; /* where a change of MIG layouts that was cut off is noted */
	bool leave_mig;        /* for now; see gpus_leave_mig */
};

int gpus_start(uv_loop_t *loop, const struct gpus_options *options, const struct gpus_owner *owner, struct gpus **gpus,
	       struct gs_error *err);
/* Frees everything after the threads have ended; `done` runs last. */
void gpus_stop(struct gpus *gpus, void (*done)(void *user), void *user);
/* Whether a change of MIG layouts that was cut off is left as it is: the GPUs are another program's. */
void gpus_leave_mig(struct gpus *gpus, bool leave);
/* Looks again now, for instance on SIGHUP. */
void gpus_rescan(struct gpus *gpus);

/* Whether it was started without NVML, and not resumed since. */
bool gpus_paused(const struct gpus *gpus);
void gpus_resume(struct gpus *gpus);
/* Why there is no NVML yet; NULL when there is. */
const char *gpus_waiting_reason(const struct gpus *gpus);
/* Which calls to NVML do not return, in words; NULL: all do. Valid until the next callback. */
const char *gpus_hang(const struct gpus *gpus);
/* A thread was left behind with a driver that hangs: the process must end by _exit, and must not shut NVML down. */
bool gpus_left_behind(const struct gpus *gpus);
const char *gpus_driver_version(const struct gpus *gpus);
/* The facts about the GPUs for labels; valid until the next callback. The machine and the start are left out. */
const struct gs_label_facts *gpus_label_facts(const struct gpus *gpus);
/* Health of the device (a GPU or a MIG device) with this UUID; `reason` is "" when healthy, else a sentence, valid until
 * the next callback. A MIG device is no healthier than its GPU. */
bool gpus_healthy(const struct gpus *gpus, const char *uuid, const char **reason);

/* Samples every GPU; see sampler_ask. processes' shares are filled in. */
void gpus_sample(struct gpus *gpus, sampler_done *done, void *user);

/* The inventory that was read last; NULL before the first reading. Valid until the loop turns. */
const struct gs_inventory *gpus_inventory(const struct gpus *gpus);

/* Kinds of work that need NVML, each with a lane of its own (base/lane.h). */
enum gpus_lane { GPUS_LANE_MIG, GPUS_LANE_MODES, GPUS_LANES };
/* Has `run` called on the lane's thread, with NVML (NULL: not there yet), then `done` on the loop's thread, also when the
 * daemon stops meanwhile. */
typedef void gpus_work_run(const struct gs_nvml *nvml, void *user);
void gpus_work(struct gpus *gpus, enum gpus_lane lane, gpus_work_run *run, void (*done)(void *user), void *user);

#endif
