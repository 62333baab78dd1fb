/* A driver that hangs: on a GPU, which the look's touches find out, or as a whole. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "gpu/hangs.h"
#include "monitor/gpus_internal.h"

enum {
	OVERSEE_MS = 5000, /* how often the loop checks that a look makes progress */
	STANDSTILLS = 3,   /* checks in a row without progress: the driver hangs */
	ABANDONED_MAX = 4, /* looks in a row that are left behind, until another one would hang as well */
};

/* Makes the devices that hang unhealthy; all of them, when the driver hangs as a whole. */
static void make_unhealthy(struct gpus *gpus, bool all)
{
	bool changed = false;
	for (size_t i = 0; i < gpus->inventory.device_count; i++) {
		if ((!all && !gs_hangs_on(gpus->inventory.devices[i].uuid)) ||
		    !gs_health_hangs(&gpus->health[i], gpus_now_ns()))
			continue;
		gpus_log_health(gpus, i);
		changed = true;
	}
	if (changed)
		gpus->owner.health(gpus->owner.user);
}

static void set_hang(struct gpus *gpus, char *hang)
{
	if (hang && (!gpus->hang || strcmp(gpus->hang, hang) != 0))
		gs_log(GS_LOG_WARNING, "the driver hangs", GS_STR("where", hang));
	else if (!hang && gpus->hang)
		gs_log(GS_LOG_INFO, "the driver answers again");
	free(gpus->hang);
	gpus->hang = hang;
}

void gpus_tell_hangs(struct gpus *gpus)
{
	struct gs_strbuf text = {0};
	uint64_t indexes = gs_hangs_indexes();
	for (unsigned i = 0; i < GS_GPUS_MAX; i++)
		if (indexes >> i & 1)
			gs_strbuf_printf(&text, "%s%u", text.length ? ", " : "calls to NVML on GPU ", i);
	if (text.length)
		gs_strbuf_add(&text, " do not return");
	set_hang(gpus, text.data);
	make_unhealthy(gpus, false);
}

static void on_oversee(uv_timer_t *timer)
{
	struct gpus *gpus = timer->data;
	unsigned steps = gpus->look->steps;
	int place = gpus->look->place;
	bool came_on = steps != gpus->seen_steps || place == LOOK_AT_EACH;
	gpus->seen_steps = steps;
	gpus->standstills = came_on ? 0 : gpus->standstills + 1;
	if (gpus->standstills != STANDSTILLS)
		return;
	if (place == LOOK_AT_GPUS && gpus->abandoned < ABANDONED_MAX) {
		/* On a GPU that answered a moment ago: the next look's touches find it, and that look goes past it. */
		bool rescan = gpus->look->rescan;
		gpus->abandoned++;
		lane_abandon(gpus->look_lane);
		if (lane_is_busy(gpus->look_lane))
			return; /* over in this moment */
		gpus->look = NULL;
		gpus_overseen(gpus);
		gpus_look(gpus, rescan);
		return;
	}
	set_hang(gpus, gs_strdup("a call to NVML does not return"));
	if (gpus->read_once)
		make_unhealthy(gpus, true);
	else
		gpus_set_waiting_reason(gpus, "it hangs");
}

void gpus_oversee(struct gpus *gpus)
{
	gpus->seen_steps = 0;
	gpus->standstills = 0;
	uv_timer_start(&gpus->oversee, on_oversee, OVERSEE_MS, OVERSEE_MS);
}

void gpus_overseen(struct gpus *gpus)
{
	if (!gpus->stopping)
		uv_timer_stop(&gpus->oversee);
}

const char *gpus_hang(const struct gpus *gpus)
{
	return gpus->hang;
}
