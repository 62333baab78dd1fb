/* The MPS control daemons of a node: one for each device (or share) that is shared by MPS; started, proven ready, watched,
 * started again, drained after a fault, and given back.
 *
 * They outlive this process, so that its restart ends no client: at the next start a daemon that runs is adopted, if
 * it is recorded or listens at its control socket beside us. A death is the kernel's word, by pidfd. All on the loop's thread; the programs that it runs are waited for there. */
#ifndef GPUSHARE_MPS_MPS_DAEMONS_H
#define GPUSHARE_MPS_MPS_DAEMONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "core/share/inventory.h"

enum { GS_MPS_KEY_SIZE = GS_UUID_SIZE + 8 };

/* One daemon that there should be. */
struct gs_mps_spec {
	char key[GS_MPS_KEY_SIZE]; /* its directory below the root: the device's UUID, or "<uuid>-<n>" for a share's own */
	char device[GS_UUID_SIZE];  /* what its clients see */
	char gpu[GS_UUID_SIZE];     /* whose compute mode it needs */
	bool exclusive;             /* it wants the GPU for itself: compute mode EXCLUSIVE_PROCESS */
	unsigned thread_percentage; /* of new clients */
	uint64_t memory_bytes;      /* of each new client */
	unsigned priority;
	bool multi_user; /* clients of several users at once, where the program can do that */
};

enum gs_mps_state {
	GS_MPS_STARTING,    /* not ready yet */
	GS_MPS_READY,       /* it answered, with the settings it should have */
	GS_MPS_FAULT,       /* a client's fault: its server takes no new client until the present ones are gone */
	GS_MPS_FAILED,      /* it does not come up, or died; started again after a pause */
	GS_MPS_QUARANTINED, /* faults in a loop: left alone for a while */
	GS_MPS_DRAINING,    /* clients of a control daemon that died still have the GPU */
	GS_MPS_STOPPING,    /* asked to quit, waits for clients */
};

struct gs_mps_status {
	const struct gs_mps_spec *spec; /* valid until the loop turns */
	enum gs_mps_state state;
	int pid;            /* 0: none */
	bool wanted;        /* else it ends */
	const char *reason; /* why it is not ready; "" */
	bool multi_user;    /* clients of several users run at once; else one user's wait for the other's to end */
	const int *servers; /* their pids, as in the daemon's last answer; valid until the loop turns */
	size_t server_count;
	unsigned starts; /* so far */
	unsigned faults;
	const char *pipe_directory;
};

struct gs_mps_daemons;
struct gs_mps_known;
struct mps_identity;

struct gs_mps_options {
	const char *root; /* flags.mpsRoot, as this process sees it */
	const struct gs_mps_known
		*known; /* what earlier processes started, also below other roots: used at the start only */
	size_t known_count;
	const char *program; /* nvidia-cuda-mps-control: a path, or a name on PATH */
	const char *
		cgroups; /* where the node's cgroups are mounted, for daemons that outlive a container; NULL: not in one */
	void *user;
	/* A daemon became ready, or is no longer. */
	void (*changed)(void *user);
	/* Sets a GPU's compute mode (exclusive, or what it was before); answered by gs_mps_mode_set, once, later. */
	void (*set_mode)(void *user, const char *gpu, bool exclusive);
	/* Keeps for the next start that the control daemon of this directory, "ROOT/KEY", is that process; pid 0: there is
	 * none any more. Not called before gs_mps_new has returned. */
	void (*keep)(void *user, const char *directory, const struct mps_identity *identity);
};

/* Those of options.known go with the first gs_mps_want that does not name them. */
struct gs_mps_daemons *gs_mps_new(uv_loop_t *loop, const struct gs_mps_options *options);
/* The daemons that should run from now on. Starts missing ones, changes settings of running ones without ending
 * clients, and lets those that are no longer wanted quit once their clients are gone, or after a grace period. */
void gs_mps_want(struct gs_mps_daemons *daemons, const struct gs_mps_spec *specs, size_t count);
/* The answer to set_mode; `err` NULL: done. */
void gs_mps_mode_set(struct gs_mps_daemons *daemons, const char *gpu, const struct gs_error *err);
/* Something happened on this GPU that a client's fault may have caused. */
void gs_mps_look(struct gs_mps_daemons *daemons, const char *gpu);

/* Whether shares of the device can be used: its daemon is ready and no daemon that should go holds its GPU. `*reason` is ""
 * or a sentence, valid until the next call back. */
bool gs_mps_is_ready(const struct gs_mps_daemons *daemons, const char *device, const char **reason);
/* The same for a share with a daemon of its own. */
bool gs_mps_is_share_ready(const struct gs_mps_daemons *daemons, const char *key);
/* Whether a daemon that should go still has this device, or the whole GPU that it is on. */
bool gs_mps_holds(const struct gs_mps_daemons *daemons, const char *device, const char *gpu);
size_t gs_mps_count(const struct gs_mps_daemons *daemons);
struct gs_mps_status gs_mps_status(const struct gs_mps_daemons *daemons, size_t which);
/* As in the status document; a new reference. */
json_t *gs_mps_status_json(const struct gs_mps_status *status);
const char *gs_mps_state_name(enum gs_mps_state state);

/* Stops watching and frees everything; the daemons go on. `done` runs last. */
void gs_mps_free(struct gs_mps_daemons *daemons, void (*done)(void *user), void *user);

#endif
