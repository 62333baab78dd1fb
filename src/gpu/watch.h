/* NVML's events: a thread that waits for them, since NVML has no descriptor to wait on. */
#ifndef GPUSHARE_GPU_WATCH_H
#define GPUSHARE_GPU_WATCH_H

#include <stdint.h>

#include "core/share/inventory.h"
#include "gpu/nvml.h"

struct gs_watch;

enum gs_watch_event_kind {
	GS_WATCH_XID, /* `data` is the XID */
	GS_WATCH_ECC_DOUBLE,
	GS_WATCH_MIG_CHANGED,  /* MIG mode or instances of this GPU changed */
	GS_WATCH_MIG_WATCHED,  /* from now on, such changes of this GPU are told */
	GS_WATCH_REOPENED,     /* NVML was opened anew, as gs_watch_reopen asked: it may list other GPUs */
	GS_WATCH_NOT_REOPENED, /* it was not, and will not be: `text` says why */
	GS_WATCH_PROBLEM,      /* events of this GPU (or of all, uuid "") can't be had: `text` says why */
};

struct gs_watch_event {
	enum gs_watch_event_kind kind;
	char uuid[GS_UUID_SIZE]; /* "" when the driver does not say which GPU: it may be any */
	uint64_t data;
	uint32_t gpu_instance, compute_instance; /* of an XID on a MIG instance; UINT32_MAX: of the GPU, or not told */
	char text[160];
};

/* Called on the watch's own thread; must not block, nor call gs_watch_stop. */
typedef void gs_watch_notify(void *user, const struct gs_watch_event *event);

int gs_watch_start(const struct gs_nvml *nvml, const struct gs_inventory *inventory, gs_watch_notify *notify,
		   void *user, struct gs_watch **watch, struct gs_error *err);
/* Other GPUs from now on; in force when the current wait ends, after 20 s at the latest. */
void gs_watch_set_inventory(struct gs_watch *watch, const struct gs_inventory *inventory);
/* Opens NVML anew once the current wait has ended, and goes on watching; the watch does it because no event set may be
 * in use then. */
void gs_watch_reopen(struct gs_watch *watch);
/* `notify` is not called any more once this returns. The thread itself ends with its current wait, up to 20 s later, and
 * frees the watch; NVML offers no way to wake it sooner, so the table must live that long. */
void gs_watch_stop(struct gs_watch *watch);

#endif
