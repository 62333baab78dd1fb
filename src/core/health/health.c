#include "core/health/health.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

const struct gs_health_settings gs_health_defaults = {
	.wait_ns = 10 * SECOND,
	.wait_max_ns = 600 * SECOND,
	.damping_ns = 600 * SECOND,
	.look_healthy_ns = 30 * SECOND,
	.look_sick_ns = SECOND,
};

enum fault {
	FAULT_LOST = 1 << 0,
	FAULT_SILENT = 1 << 1, /* looks fail */
	FAULT_CONTAINED = 1 << 2,
	FAULT_RESET = 1 << 3,    /* something happened that only a reset cures */
	FAULT_RECOVERY = 1 << 4, /* the driver asks for a recovery action */
	FAULT_REMAP = 1 << 5,
};

enum { FAILED_LOOKS_MAX = 3 };

static const char *recovery_text(uint32_t action)
{
	switch (action) {
	case 1:
		return "reset the GPU";
	case 2:
		return "reboot the node";
	case 3:
		return "drain peer-to-peer traffic";
	case 4:
		return "drain and reset";
	}
	return "see nvidia-smi -q";
}

static void update_reason(struct gs_health *health)
{
	const char *wait = "";

	if (health->healthy) {
		snprintf(health->reason, sizeof health->reason, "%s%s", health->cause[0] ? "recovered from: " : "",
			 health->cause);
		return;
	}
	if (!health->looked)
		wait = "";
	else if (health->faults & (FAULT_LOST | FAULT_SILENT))
		wait = "; waits until it answers";
	else if (health->faults & FAULT_RECOVERY)
		wait = "; waits until the driver asks for no recovery action";
	else if (health->faults & FAULT_REMAP)
		wait = "; the GPU should be replaced";
	else if (health->faults & FAULT_RESET && !health->recovery_known)
		wait = "; waits for a reset (if this driver hides it, restart gpushare after the reset)";
	else if (health->faults & FAULT_RESET)
		wait = "; waits until the driver asks for no recovery action";
	if (health->faults)
		snprintf(health->reason, sizeof health->reason, "%s%s", health->cause, wait);
	else
		snprintf(health->reason, sizeof health->reason, "%s; clean now, must stay so for %" PRId64 " s",
			 health->cause, health->wait_ns / SECOND);
}

/* A fault happened or was seen to stand. `text` is kept when it is new. Returns whether the GPU turned unhealthy. */
static bool raise_fault(struct gs_health *health, unsigned fault, const char *text, int64_t now_ns)
{
	bool was_healthy = health->healthy, is_new = fault & ~health->faults;

	if (fault & FAULT_RESET) {
		/* Looks from before this fault prove nothing about it: a loss may have ended unseen. */
		health->restarted = false;
		health->seen_lost = false;
	}
	health->faults |= fault;
	health->healthy = false;
	health->clean_since_ns = -1;
	if (was_healthy) {
		bool relapse = health->healthy_since_ns >= 0 &&
			       now_ns - health->healthy_since_ns < health->settings->damping_ns;
		int64_t doubled = health->wait_ns > health->settings->wait_max_ns / 2 ? health->settings->wait_max_ns
										      : health->wait_ns * 2;
		health->wait_ns = relapse ? doubled : health->settings->wait_ns;
		snprintf(health->cause, sizeof health->cause, "%s", text);
	} else if (is_new) {
		size_t length = strlen(health->cause);
		snprintf(health->cause + length, sizeof health->cause - length, ", %s", text);
	}
	update_reason(health);
	return was_healthy;
}

/* A fault that came as an event: have a look at once. Counters may have started again between the last look and the
 * fault, so that look sets the mark which a reset must go below. */
static bool event(struct gs_health *health, unsigned fault, const char *text, int64_t now_ns)
{
	health->looked = false;
	if (fault & FAULT_RESET)
		health->ecc_last = health->energy_last = UINT64_MAX;
	bool changed = raise_fault(health, fault, text, now_ns);
	health->next_look_ns = now_ns;
	return changed;
}

void gs_health_init(struct gs_health *health, const struct gs_health_settings *settings,
		    const struct gs_xid_filter *filter, int64_t now_ns)
{
	*health = (struct gs_health){
		.settings = settings,
		.filter = filter,
		.healthy = true,
		.wait_ns = settings->wait_ns,
		.clean_since_ns = -1,
		.healthy_since_ns = -1,
		.next_look_ns = filter->other_checks ? now_ns : INT64_MAX,
		.ecc_last = UINT64_MAX,
		.energy_last = UINT64_MAX,
	};
}

bool gs_health_xid(struct gs_health *health, uint64_t xid, int64_t now_ns)
{
	char text[96];
	unsigned fault = FAULT_RESET;

	if (!gs_xid_filter_watches(health->filter, xid))
		return false;
	switch (gs_xid_class(xid)) {
	case GS_XID_APPLICATION:
	case GS_XID_CONTAINED:
		fault = FAULT_CONTAINED;
		break;
	case GS_XID_NEEDS_RESET:
		break;
	case GS_XID_LOST:
		fault = FAULT_LOST | FAULT_RESET;
		break;
	}
	snprintf(text, sizeof text, "XID %" PRIu64 ": %s", xid, gs_xid_text(xid));
	return event(health, fault, text, now_ns);
}

bool gs_health_hangs(struct gs_health *health, int64_t now_ns)
{
	if (!health->filter->other_checks)
		return false;
	bool changed = raise_fault(health, FAULT_SILENT, "the driver hangs on it", now_ns);
	health->looked = true;
	update_reason(health);
	return changed;
}

bool gs_health_ecc_double(struct gs_health *health, int64_t now_ns)
{
	return health->filter->other_checks && event(health, FAULT_RESET, "double-bit ECC error", now_ns);
}

/* Whether a counter is lower than it was; keeps its last known value. */
static bool went_back(uint64_t *last, uint64_t now)
{
	bool back = now != UINT64_MAX && *last != UINT64_MAX && now < *last;

	if (now != UINT64_MAX)
		*last = now;
	return back;
}

static bool reset_proven(const struct gs_health *health, const struct gs_probe *probe)
{
	if (probe->recovery_known)
		return probe->recovery_action == 0;
	return (health->seen_lost || health->restarted) && !(probe->remap_known && probe->remap_pending);
}

static void clear_faults(struct gs_health *health, const struct gs_probe *probe)
{
	health->faults &= ~(unsigned)(FAULT_LOST | FAULT_SILENT | FAULT_CONTAINED);
	if (probe->recovery_known && probe->recovery_action == 0)
		health->faults &= ~(unsigned)FAULT_RECOVERY;
	if (probe->remap_known && !probe->remap_failed)
		health->faults &= ~(unsigned)FAULT_REMAP;
	if (reset_proven(health, probe))
		health->faults &= ~(unsigned)FAULT_RESET;
}

static bool raise_from_probe(struct gs_health *health, const struct gs_probe *probe, bool more_ecc, int64_t now_ns)
{
	bool changed = false;

	if (more_ecc)
		changed |= raise_fault(health, FAULT_RESET, "uncorrectable ECC errors were counted", now_ns);
	if (probe->recovery_known && probe->recovery_action) {
		char text[96];
		snprintf(text, sizeof text, "the driver asks for a recovery action: %s",
			 recovery_text(probe->recovery_action));
		changed |= raise_fault(health, FAULT_RECOVERY, text, now_ns);
	}
	if (probe->remap_known && probe->remap_failed)
		changed |= raise_fault(health, FAULT_REMAP, "a memory row could not be remapped", now_ns);
	return changed;
}

/* A look that reached the GPU. */
static bool looked(struct gs_health *health, const struct gs_probe *probe, int64_t now_ns)
{
	bool more_ecc = probe->ecc_uncorrectable != UINT64_MAX && health->ecc_last != UINT64_MAX &&
			probe->ecc_uncorrectable > health->ecc_last;
	bool ecc_back = went_back(&health->ecc_last, probe->ecc_uncorrectable);
	bool energy_back = went_back(&health->energy_last, probe->energy_mj);

	health->failed_looks = 0;
	health->looked = true;
	health->recovery_known = probe->recovery_known;
	health->restarted = health->restarted || ecc_back || energy_back;
	if (health->healthy && !health->filter->other_checks)
		return false;
	clear_faults(health, probe);
	bool changed = raise_from_probe(health, probe, more_ecc, now_ns);
	if (health->healthy)
		return changed;
	if (!health->faults) {
		if (health->clean_since_ns < 0)
			health->clean_since_ns = now_ns;
		if (now_ns - health->clean_since_ns >= health->wait_ns) {
			health->healthy = true;
			health->healthy_since_ns = now_ns;
			changed = true;
		}
	}
	update_reason(health);
	return changed;
}

static bool looked_in_vain(struct gs_health *health, bool lost, int64_t now_ns)
{
	if (health->healthy && !health->filter->other_checks)
		return false;
	health->clean_since_ns = -1;
	health->looked = true;
	if (lost) {
		health->seen_lost = true;
		health->failed_looks = 0;
		return raise_fault(health, FAULT_LOST, "the GPU is lost", now_ns);
	}
	if (health->failed_looks < FAILED_LOOKS_MAX)
		health->failed_looks++;
	if (health->failed_looks < FAILED_LOOKS_MAX)
		return false;
	return raise_fault(health, FAULT_SILENT, "NVML cannot read it", now_ns);
}

static int64_t when_to_look(const struct gs_health *health, int64_t now_ns)
{
	if (health->healthy && !health->filter->other_checks)
		return INT64_MAX;
	if (health->healthy && !health->failed_looks)
		return now_ns + health->settings->look_healthy_ns;
	int64_t next = now_ns + health->settings->look_sick_ns;
	int64_t proven = health->clean_since_ns + health->wait_ns;
	return !health->healthy && health->clean_since_ns >= 0 && proven > now_ns && proven < next ? proven : next;
}

bool gs_health_probe(struct gs_health *health, const struct gs_probe *probe, int64_t now_ns)
{
	bool changed = probe->result == GS_PROBE_OK ? looked(health, probe, now_ns)
						    : looked_in_vain(health, probe->result == GS_PROBE_LOST, now_ns);

	health->next_look_ns = when_to_look(health, now_ns);
	return changed;
}

bool gs_health_is_healthy(const struct gs_health *health)
{
	return health->healthy;
}

const char *gs_health_reason(const struct gs_health *health)
{
	return health->reason;
}

int64_t gs_health_next_look(const struct gs_health *health)
{
	return health->next_look_ns;
}
