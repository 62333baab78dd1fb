#include "mps/mps_next.h"

#include "base/backoff.h"

enum {
	START_MS = 2000, /* from the end of `-d` to a control socket */
	START_LOOK_MS = 10,
	START_SEARCH_MS = 500, /* then all processes are looked at, should its socket not tell who it is */
	RETRY_MOST_MS = 30000,
	STABLE_MS = 60000,         /* after that long without a death the next one begins a new series */
	FAULT_DEADLINE_MS = 30000, /* for its clients to go by themselves; then the server is ended */
	LOOK_DELAY_MS = 100,
	LOOK_EACH_MS = 300,
	SLOW_LOOK_MS = 60000, /* finds a fault whose events were missed, and settings that a client changed */
	DRAIN_LOOK_MS = 250,
	UNANSWERED_MAX = 2, /* questions in a row, over this time */
	UNANSWERED_MS = 3000,
};

static struct mps_next act(const struct mps_facts *facts, enum mps_action action)
{
	return (struct mps_next){.action = action, .state = facts->state};
}

static struct mps_next wait_in(enum gs_mps_state state, uint64_t wait_ms)
{
	return (struct mps_next){.action = MPS_WAIT, .state = state, .wait_ms = (unsigned)wait_ms};
}

static bool is_quarantined(const struct mps_facts *facts, uint64_t now_ms)
{
	return facts->quarantine_ends_ms > now_ms;
}

/* A client can reach the control socket and may have changed them. */
static bool are_settings_old(const struct mps_facts *facts, uint64_t now_ms)
{
	return now_ms - facts->set_ms >= SLOW_LOOK_MS;
}

/* `-d` ended well: its daemon is about to listen. */
static struct mps_next await_process(const struct mps_facts *facts, uint64_t now_ms)
{
	uint64_t waited_ms = now_ms - facts->started_ms;
	if (waited_ms < START_SEARCH_MS)
		return wait_in(facts->state, START_LOOK_MS);
	return (struct mps_next){
		.action = MPS_SEARCH, .state = facts->state, .wait_ms = waited_ms < START_MS ? START_SEARCH_MS : 0};
}

/* Servers of a control daemon that was in FAULT have a deadline too. */
static struct mps_next drain(const struct mps_facts *facts, uint64_t now_ms)
{
	bool late = facts->orphan_fault_ms && now_ms - facts->orphan_fault_ms >= FAULT_DEADLINE_MS;
	struct mps_next next = wait_in(GS_MPS_DRAINING, DRAIN_LOOK_MS);
	if (late)
		next.action = MPS_END_ORPHANS;
	return next;
}

struct mps_next mps_next(const struct mps_facts *facts, uint64_t now_ms)
{
	if (!facts->wanted)
		return act(facts, facts->runs ? MPS_QUIT : MPS_FINISH);
	if (is_quarantined(facts, now_ms))
		return wait_in(facts->state, facts->quarantine_ends_ms - now_ms);
	if (facts->exclusive && !facts->mode_taken)
		return act(facts, MPS_TAKE_MODE);
	if (!facts->runs)
		return facts->started_ms ? await_process(facts, now_ms) : act(facts, MPS_START);
	if (facts->settings_due || !facts->ready_ms)
		return act(facts, MPS_SET_DEFAULTS);
	if (facts->state == GS_MPS_DRAINING && facts->orphans)
		return drain(facts, now_ms);
	if (facts->state == GS_MPS_READY && are_settings_old(facts, now_ms))
		return act(facts, MPS_SET_DEFAULTS);
	return act(facts, MPS_LOOK);
}

struct mps_next mps_next_end(struct mps_facts *facts, uint64_t now_ms)
{
	facts->ready_ms = facts->fault_ms = 0;
	facts->unanswered = 0;
	if (!facts->wanted && facts->orphans) { /* they have as long as their control daemon would have given them */
		if (!facts->quit_ms)
			facts->quit_ms = now_ms;
		struct mps_next next = wait_in(GS_MPS_STOPPING, DRAIN_LOOK_MS);
		if (now_ms - facts->quit_ms >= MPS_QUIT_SECONDS * 1000)
			next.action = MPS_END_ORPHANS;
		return next;
	}
	facts->quit_ms = 0;
	if (facts->wanted) /* the config changed its mind */
		return (struct mps_next){.action = MPS_BEGIN_AGAIN, .state = GS_MPS_STARTING};
	return act(facts, facts->mode_taken && !facts->mode_used ? MPS_RESTORE_MODE : MPS_FORGET);
}

unsigned mps_note_failure(struct mps_facts *facts)
{
	facts->started_ms = 0;
	return gs_backoff_ms(MPS_RETRY_FIRST_MS, RETRY_MOST_MS, facts->failures++);
}

bool mps_note_death(struct mps_facts *facts, uint64_t now_ms)
{
	if (facts->ready_ms && now_ms - facts->ready_ms >= STABLE_MS)
		facts->failures = 0;
	facts->unanswered = 0;
	facts->orphan_fault_ms = facts->fault_ms;
	facts->ready_ms = facts->fault_ms = 0;
	return !is_quarantined(facts, now_ms);
}

bool mps_note_silence(struct mps_facts *facts, uint64_t now_ms)
{
	if (!facts->unanswered++)
		facts->unanswered_ms = now_ms;
	return facts->runs && facts->unanswered >= UNANSWERED_MAX && now_ms - facts->unanswered_ms >= UNANSWERED_MS;
}

/* Whether this fault is one of a series that is too fast. */
static bool is_in_a_loop(struct mps_facts *facts, uint64_t now_ms)
{
	uint64_t *oldest = &facts->fault_times_ms[facts->faults % MPS_FAULTS_MAX];
	bool recent = now_ms - *oldest < MPS_FAULT_WINDOW_MS;
	*oldest = now_ms;
	return ++facts->faults > MPS_FAULTS_MAX && recent;
}

struct mps_next mps_note_fault(struct mps_facts *facts, uint64_t now_ms)
{
	if (facts->fault_ms && now_ms - facts->fault_ms >= FAULT_DEADLINE_MS) {
		facts->fault_ms = now_ms;
		return act(facts, MPS_END_SERVERS);
	}
	bool is_new = !facts->fault_ms;
	if (is_new)
		facts->fault_ms = now_ms;
	if (is_new && is_in_a_loop(facts, now_ms)) {
		facts->quarantine_ends_ms = now_ms + MPS_QUARANTINE_MS;
		return wait_in(GS_MPS_QUARANTINED, MPS_QUARANTINE_MS);
	}
	return wait_in(GS_MPS_FAULT, MPS_FAULT_LOOK_MS);
}

struct mps_next mps_note_well(struct mps_facts *facts, uint64_t now_ms)
{
	facts->fault_ms = 0;
	facts->unanswered = 0;
	if (!facts->ready_ms)
		facts->ready_ms = now_ms;
	/* A server outlives its control daemon while it has clients, and no other one can have the GPU until then. */
	if (facts->orphans)
		return drain(facts, now_ms);
	facts->orphan_fault_ms = 0;
	return wait_in(GS_MPS_READY, are_settings_old(facts, now_ms) ? 0 : facts->set_ms + SLOW_LOOK_MS - now_ms);
}

unsigned mps_look_delay(const struct mps_facts *facts, uint64_t now_ms)
{
	uint64_t soon = now_ms + LOOK_DELAY_MS, next = facts->looked_ms + LOOK_EACH_MS;
	return (unsigned)((next > soon ? next : soon) - now_ms);
}
