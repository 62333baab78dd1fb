#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/cleanup.h"
#include "mps/mps_next.h"

enum { NOW = 10000000 };

/* A daemon that is well, and was told its settings `ago` milliseconds ago. */
static struct mps_facts well(unsigned ago)
{
	return (struct mps_facts){.state = GS_MPS_READY,
				  .wanted = true,
				  .runs = true,
				  .exclusive = true,
				  .mode_taken = true,
				  .ready_ms = NOW - ago,
				  .set_ms = NOW - ago};
}

static void assert_next(const char *what, struct mps_next next, enum mps_action action, enum gs_mps_state state,
			unsigned wait_ms)
{
	if (next.action != action || next.state != state || next.wait_ms != wait_ms)
		fail_msg("%s: action %d, state %s, wait %u; not action %d, state %s, wait %u", what, next.action,
			 gs_mps_state_name(next.state), next.wait_ms, action, gs_mps_state_name(state), wait_ms);
}

static void each_situation_has_one_action(void **state)
{
	static const struct row {
		const char *what;
		struct mps_facts facts;
		enum mps_action action;
		unsigned wait_ms;
	} rows[] = {
		{"new, needs the mode", {.wanted = true, .exclusive = true}, MPS_TAKE_MODE, 0},
		{"new, needs no mode", {.wanted = true}, MPS_START, 0},
		{"has the mode", {.wanted = true, .exclusive = true, .mode_taken = true}, MPS_START, 0},
		{"-d has just ended", {.wanted = true, .started_ms = NOW}, MPS_WAIT, 10},
		{"and tells nothing", {.wanted = true, .started_ms = NOW - 500}, MPS_SEARCH, 500},
		{"for too long", {.wanted = true, .started_ms = NOW - 2000}, MPS_SEARCH, 0},
		{"adopted", {.wanted = true, .runs = true, .set_ms = NOW}, MPS_SET_DEFAULTS, 0},
		{"adopted without its mode", {.wanted = true, .runs = true, .exclusive = true}, MPS_TAKE_MODE, 0},
		{"ready, looked at",
		 {.wanted = true, .runs = true, .state = GS_MPS_READY, .ready_ms = 1, .set_ms = NOW},
		 MPS_LOOK,
		 0},
		{"ready, its settings are old",
		 {.wanted = true, .runs = true, .state = GS_MPS_READY, .ready_ms = 1, .set_ms = NOW - 60000},
		 MPS_SET_DEFAULTS,
		 0},
		{"ready, its settings are others",
		 {.wanted = true,
		  .runs = true,
		  .state = GS_MPS_READY,
		  .ready_ms = 1,
		  .set_ms = NOW,
		  .settings_due = true},
		 MPS_SET_DEFAULTS,
		 0},
		{"in FAULT",
		 {.wanted = true, .runs = true, .state = GS_MPS_FAULT, .ready_ms = 1, .fault_ms = NOW - 9},
		 MPS_LOOK,
		 0},
		{"drains",
		 {.wanted = true, .runs = true, .state = GS_MPS_DRAINING, .ready_ms = 1, .orphans = true},
		 MPS_WAIT,
		 250},
		{"drains what was in FAULT",
		 {.wanted = true,
		  .runs = true,
		  .state = GS_MPS_DRAINING,
		  .ready_ms = 1,
		  .orphans = true,
		  .orphan_fault_ms = NOW - 30000},
		 MPS_END_ORPHANS,
		 250},
		{"has drained", {.wanted = true, .runs = true, .state = GS_MPS_DRAINING, .ready_ms = 1}, MPS_LOOK, 0},
		{"in quarantine",
		 {.wanted = true,
		  .runs = true,
		  .state = GS_MPS_QUARANTINED,
		  .ready_ms = 1,
		  .quarantine_ends_ms = NOW + 77},
		 MPS_WAIT,
		 77},
		{"died in quarantine",
		 {.wanted = true, .state = GS_MPS_QUARANTINED, .quarantine_ends_ms = NOW + 77},
		 MPS_WAIT,
		 77},
		{"quarantine is over",
		 {.wanted = true, .runs = true, .state = GS_MPS_QUARANTINED, .ready_ms = 1, .quarantine_ends_ms = NOW},
		 MPS_LOOK,
		 0},
		{"no longer wanted", {.runs = true, .state = GS_MPS_READY, .ready_ms = 1}, MPS_QUIT, 0},
		{"not wanted in quarantine",
		 {.runs = true, .state = GS_MPS_QUARANTINED, .quarantine_ends_ms = NOW + 77},
		 MPS_QUIT,
		 0},
		{"not wanted, and gone", {.state = GS_MPS_FAILED}, MPS_FINISH, 0},
		{"not wanted, while -d is awaited", {.started_ms = NOW}, MPS_FINISH, 0},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(rows); i++)
		assert_next(rows[i].what, mps_next(&rows[i].facts, NOW), rows[i].action, rows[i].facts.state,
			    rows[i].wait_ms);
}

/* Whatever the facts, no action is impossible, and none is asked for again at once without end. */
static void no_action_is_impossible(void **state)
{
	static const uint64_t times[] = {0, 1, NOW - 60000, NOW - 2000, NOW - 500, NOW};
	enum { FLAGS = 7, STATES = GS_MPS_STOPPING + 1 };
	for (unsigned flags = 0; flags < 1U << FLAGS; flags++)
		for (unsigned which = 0; which < STATES * GS_ARRAY_LENGTH(times); which++) {
			uint64_t time = times[which / STATES];
			const struct mps_facts facts = {.state = (enum gs_mps_state)(which % STATES),
							.wanted = flags & 1,
							.runs = flags & 2,
							.exclusive = flags & 4,
							.mode_taken = flags & 8,
							.settings_due = flags & 16,
							.orphans = flags & 32,
							.ready_ms = flags & 64 ? time : 0,
							.started_ms = time,
							.set_ms = time,
							.fault_ms = time,
							.quarantine_ends_ms = time + 100};
			struct mps_next next = mps_next(&facts, NOW);
			assert_true(next.state == facts.state || next.state == GS_MPS_DRAINING);
			switch (next.action) {
			case MPS_WAIT:
			case MPS_END_ORPHANS:
				assert_true(facts.wanted && next.wait_ms > 0);
				break;
			case MPS_TAKE_MODE:
				assert_true(facts.wanted && facts.exclusive && !facts.mode_taken);
				break;
			case MPS_START:
			case MPS_SEARCH:
				assert_true(facts.wanted && !facts.runs && (!facts.exclusive || facts.mode_taken));
				break;
			case MPS_SET_DEFAULTS:
			case MPS_LOOK:
				assert_true(facts.wanted && facts.runs && (!facts.exclusive || facts.mode_taken));
				break;
			case MPS_QUIT:
				assert_true(!facts.wanted && facts.runs);
				break;
			case MPS_FINISH:
				assert_true(!facts.wanted && !facts.runs);
				break;
			default:
				fail_msg("action %d", next.action);
			}
		}
}

static void faults_in_a_loop_end_in_quarantine(void **state)
{
	struct mps_facts facts = well(1000);
	for (unsigned i = 0; i < MPS_FAULTS_MAX; i++) {
		assert_next("a fault", mps_note_fault(&facts, NOW + i * 1000), MPS_WAIT, GS_MPS_FAULT, 250);
		assert_next("the same", mps_note_fault(&facts, NOW + i * 1000 + 250), MPS_WAIT, GS_MPS_FAULT, 250);
		assert_int_equal(facts.faults, i + 1);
		assert_int_equal(mps_note_well(&facts, NOW + i * 1000 + 500).state, GS_MPS_READY);
	}
	struct mps_facts later = facts;
	assert_next("one more", mps_note_fault(&facts, NOW + 60000), MPS_WAIT, GS_MPS_QUARANTINED, MPS_QUARANTINE_MS);
	assert_false(mps_note_death(&facts, NOW + 60001));
	assert_next("dead in quarantine", mps_next(&facts, NOW + 60001), MPS_WAIT, facts.state, MPS_QUARANTINE_MS - 1);
	assert_next("ten minutes after the first", mps_note_fault(&later, NOW + MPS_FAULT_WINDOW_MS), MPS_WAIT,
		    GS_MPS_FAULT, 250);
}

static void a_fault_has_a_deadline(void **state)
{
	struct mps_facts facts = well(1000);
	assert_int_equal(mps_note_fault(&facts, NOW).state, GS_MPS_FAULT);
	assert_int_equal(mps_note_fault(&facts, NOW + 29999).action, MPS_WAIT);
	assert_int_equal(mps_note_fault(&facts, NOW + 30000).action, MPS_END_SERVERS);
	assert_int_equal(mps_note_fault(&facts, NOW + 30250).action,
			 MPS_WAIT); /* the next order, half a minute later */
	assert_int_equal(mps_note_fault(&facts, NOW + 60000).action, MPS_END_SERVERS);
	assert_int_equal(facts.faults, 1);
}

/* Servers in FAULT keep their deadline when their control daemon dies. */
static void orphans_are_waited_for(void **state)
{
	struct mps_facts facts = well(1000);
	mps_note_fault(&facts, NOW);
	assert_true(mps_note_death(&facts, NOW + 1000));
	assert_int_equal(facts.fault_ms, 0);
	facts.orphans = true;
	facts.set_ms = NOW + 1000;
	assert_next("started anew", mps_note_well(&facts, NOW + 1100), MPS_WAIT, GS_MPS_DRAINING, 250);
	facts.state = GS_MPS_DRAINING;
	assert_next("at last", mps_next(&facts, NOW + 30000), MPS_END_ORPHANS, GS_MPS_DRAINING, 250);
	facts.orphans = false;
	assert_int_equal(mps_next(&facts, NOW + 30250).action, MPS_LOOK);
	assert_int_equal(mps_note_well(&facts, NOW + 30260).state, GS_MPS_READY);
	assert_int_equal(facts.orphan_fault_ms, 0);
}

static void pauses_grow_until_it_was_stable(void **state)
{
	struct mps_facts facts = well(0);
	unsigned pause_ms = 0, sum_ms = 0;
	for (int i = 0; i < 12; i++) {
		unsigned last_ms = pause_ms;
		pause_ms = mps_note_failure(&facts);
		assert_true(pause_ms >= last_ms);
		sum_ms += pause_ms;
	}
	assert_int_equal(pause_ms, 30000);
	assert_true(sum_ms > 100 + 200 + 400);
	facts.ready_ms = NOW;
	mps_note_death(&facts, NOW + 59999);
	assert_int_equal(facts.failures, 12);
	facts.ready_ms = NOW;
	mps_note_death(&facts, NOW + 60000);
	assert_int_equal(mps_note_failure(&facts), MPS_RETRY_FIRST_MS);
	assert_int_equal(facts.ready_ms, 0);
}

static void who_cannot_be_reached_is_ended(void **state)
{
	struct mps_facts facts = well(1000);
	assert_false(mps_note_silence(&facts, NOW));
	assert_false(mps_note_silence(&facts, NOW + 2999));
	assert_true(mps_note_silence(&facts, NOW + 3000));
	mps_note_well(&facts, NOW + 3001);
	assert_false(mps_note_silence(&facts, NOW + 9000)); /* an answer between them begins a new count */
	facts.runs = false;
	assert_false(mps_note_silence(&facts, NOW + 99000));
}

static void an_end_leaves_nothing_to_do(void **state)
{
	struct mps_facts facts = well(1000);
	facts.runs = facts.wanted = false;
	facts.state = GS_MPS_STOPPING;
	facts.orphans = true;
	assert_next("servers still run", mps_next_end(&facts, NOW), MPS_WAIT, GS_MPS_STOPPING, 250);
	assert_next("for long", mps_next_end(&facts, NOW + 30000), MPS_END_ORPHANS, GS_MPS_STOPPING, 250);
	facts.orphans = false;
	assert_int_equal(mps_next_end(&facts, NOW + 30250).action, MPS_RESTORE_MODE);
	facts.mode_used = true;
	assert_int_equal(mps_next_end(&facts, NOW + 30250).action, MPS_FORGET);
	facts.mode_used = facts.mode_taken = false;
	assert_int_equal(mps_next_end(&facts, NOW + 30250).action, MPS_FORGET);
	facts.wanted = facts.orphans = true; /* drained by the daemon to come */
	assert_next("wanted again", mps_next_end(&facts, NOW + 30250), MPS_BEGIN_AGAIN, GS_MPS_STARTING, 0);
	assert_int_equal(facts.quit_ms, 0);
	assert_int_equal(facts.ready_ms, 0);
}

static void looks_come_neither_in_bursts_nor_late(void **state)
{
	struct mps_facts facts = well(1000);
	assert_int_equal(mps_look_delay(&facts, NOW), 100);
	facts.looked_ms = NOW;
	assert_int_equal(mps_look_delay(&facts, NOW), 300);
	assert_int_equal(mps_look_delay(&facts, NOW + 250), 100);
	facts.set_ms = NOW - 59000;
	assert_next("its settings soon are old", mps_note_well(&facts, NOW), MPS_WAIT, GS_MPS_READY, 1000);
	assert_next("they are", mps_note_well(&facts, NOW + 9000), MPS_WAIT, GS_MPS_READY, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_situation_has_one_action),
		cmocka_unit_test(no_action_is_impossible),
		cmocka_unit_test(faults_in_a_loop_end_in_quarantine),
		cmocka_unit_test(a_fault_has_a_deadline),
		cmocka_unit_test(orphans_are_waited_for),
		cmocka_unit_test(pauses_grow_until_it_was_stable),
		cmocka_unit_test(who_cannot_be_reached_is_ended),
		cmocka_unit_test(an_end_leaves_nothing_to_do),
		cmocka_unit_test(looks_come_neither_in_bursts_nor_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
