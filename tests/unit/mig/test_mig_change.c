/* The engine of MIG changes: what is allocated is planned around, rounds end, and a restart is waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fake_mig.h"
#include "mig/mig_change.h"

static const char seven[] = "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 1g.10gb@4 1g.10gb@5 1g.10gb@6";

static struct gs_nvml nvml;
static char state_dir[64];
static unsigned resets;

static int set_up(void **state)
{
	strcpy(state_dir, "/tmp/gpushare-change-XXXXXX");
	fake_mig_reset(1);
	fake_mig_table(&nvml);
	resets = 0;
	return mkdtemp(state_dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	GS_AUTO_FREE char *lock = gs_printf("%s/mig.lock", state_dir);
	GS_AUTO_FREE char *record = gs_printf("%s/mig-change", state_dir);
	unlink(lock);
	unlink(record);
	return rmdir(state_dir);
}

/* `user` is the list that GPU 0 shall have. */
static enum gs_mig_outcome plan(struct gs_mig_change *change, void *user)
{
	struct gs_mig_target target = {.named = true, .enabled = true};
	assert_int_equal(gs_mig_parse_list(&change->boards.items[0].gpu, user, &target.wish, NULL), 0);
	change->tasks[0].when_restarted = true;
	return gs_mig_change_plan(change, 0, &target);
}

static int refuse_reset(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	resets++;
	return gs_fail(err, GS_ERROR_SYSTEM, 0, "not on this machine");
}

static struct gs_mig_change make(const char *list)
{
	return (struct gs_mig_change){.plan = plan,
				      .user = (void *)(uintptr_t)list,
				      .state_dir = state_dir,
				      .proc = "/proc",
				      .reset = refuse_reset};
}

static bool is_listed(const struct gs_mig_change *change, const char *uuid)
{
	for (size_t i = 0; i < change->devices.count; i++)
		if (strcmp(change->devices.items[i], uuid) == 0)
			return true;
	return false;
}

/* The UUID of the instance at this slice, as the last attempt read it. */
static char *uuid_at(const struct gs_mig_change *change, uint8_t start)
{
	const struct gs_mig_board *board = &change->boards.items[0];
	for (size_t i = 0; i < board->layout.count; i++)
		if (board->layout.instances[i].place.start == start)
			return gs_strdup(board->uuids[i][0]);
	fail_msg("nothing at slice %d", start);
	return NULL;
}

static void test_what_goes_is_withdrawn_first(void **state)
{
	struct gs_mig_change change = make("1g.10gb,1g.10gb,2g.20gb,3g.40gb");
	fake_mig_set(0, seven);
	gs_mig_change_run(&change, &nvml);
	assert_int_equal(change.outcome, GS_MIG_CHANGE_NEEDS);
	assert_int_equal(change.devices.count, 5);
	assert_false(change.touched);
	assert_string_equal(fake_mig_text(0), seven);
	gs_mig_change_withdraw_more(&change);
	gs_mig_change_run(&change, &nvml);
	assert_int_equal(change.outcome, GS_MIG_CHANGE_DONE);
	assert_string_equal(fake_mig_text(0), "2g.20gb@0 1g.10gb@2 1g.10gb@3 3g.40gb@4");
	gs_mig_change_free(&change);
}

/* The first plan would take it; without the knowledge two plans took turns for ever. */
static void test_what_is_allocated_is_planned_around(void **state)
{
	struct gs_mig_change change = make("1g.10gb,1g.10gb,2g.20gb,3g.40gb");
	fake_mig_set(0, seven);
	gs_mig_change_run(&change, &nvml);
	GS_AUTO_FREE char *held = uuid_at(&change, 0);
	assert_true(is_listed(&change, held));
	gs_mig_change_withdraw_more(&change);
	gs_mig_change_allocated(&change, held, "pod team/idle");
	gs_mig_change_run(&change, &nvml);
	assert_false(is_listed(&change, held));
	while (change.outcome == GS_MIG_CHANGE_NEEDS) {
		gs_mig_change_withdraw_more(&change);
		gs_mig_change_run(&change, &nvml);
	}
	assert_int_equal(change.outcome, GS_MIG_CHANGE_DONE);
	assert_non_null(strstr(fake_mig_text(0), "1g.10gb@0"));
	gs_mig_change_free(&change);
}

/* Whatever is chosen is allocated to somebody before it is withdrawn. */
static void test_rounds_end(void **state)
{
	struct gs_mig_change change = make("7g.80gb");
	unsigned rounds = 0;
	fake_mig_set(0, seven);
	gs_mig_change_run(&change, &nvml);
	for (; change.outcome == GS_MIG_CHANGE_NEEDS; rounds++) {
		assert_true(rounds <= 7);
		gs_mig_change_allocated(&change, change.devices.items[0], "pod team/quick");
		gs_mig_change_withdraw_more(&change);
		gs_mig_change_run(&change, &nvml);
	}
	assert_int_equal(change.outcome, GS_MIG_CHANGE_BLOCKED);
	assert_non_null(strstr(change.text, "pod team/quick"));
	/* Nobody new gets what is waited for; the rest is given out again. */
	assert_int_equal(change.devices.count, rounds);
	gs_mig_change_withdraw_only(&change);
	assert_int_equal(change.withdrawn.count, rounds);
	assert_string_equal(fake_mig_text(0), seven);
	gs_mig_change_free(&change);
}

static void test_a_gpu_that_was_given_out_keeps_its_mode(void **state)
{
	struct gs_mig_change change = make("7g.80gb");
	fake_mig->gpus[0].enabled = fake_mig->gpus[0].pending = false;
	gs_mig_change_allocated(&change, fake_mig->gpus[0].uuid, "pod team/whole");
	gs_mig_change_run(&change, &nvml);
	assert_int_equal(change.outcome, GS_MIG_CHANGE_BLOCKED);
	assert_non_null(strstr(change.text, "pod team/whole"));
	assert_true(is_listed(&change, fake_mig->gpus[0].uuid));
	gs_mig_change_free(&change);
}

static void test_a_refused_reset_is_waited_for(void **state)
{
	struct gs_mig_change change = make("7g.80gb");
	fake_mig->gpus[0].enabled = fake_mig->gpus[0].pending = false;
	fake_mig->gpus[0].needs_reset = true;
	gs_mig_change_run(&change, &nvml);
	assert_int_equal(change.outcome, GS_MIG_CHANGE_NEEDS);
	gs_mig_change_withdraw_more(&change);
	for (int i = 0; i < 3; i++) {
		gs_mig_change_run(&change, &nvml);
		assert_int_equal(change.outcome, GS_MIG_CHANGE_WAITS);
		assert_non_null(strstr(change.text, "not on this machine"));
		assert_true(is_listed(&change, fake_mig->gpus[0].uuid));
		assert_true(fake_mig->gpus[0].pending && !fake_mig->gpus[0].enabled);
	}
	assert_int_equal(resets, 1);
	fake_mig->gpus[0].enabled = true; /* the restart */
	gs_mig_change_run(&change, &nvml);
	assert_int_equal(change.outcome, GS_MIG_CHANGE_DONE);
	assert_string_equal(fake_mig_text(0), "7g.80gb@0");
	gs_mig_change_free(&change);
}

static void test_a_dry_run_only_plans(void **state)
{
	struct gs_mig_change change = make("7g.80gb");
	change.dry_run = true;
	fake_mig_set(0, seven);
	gs_mig_change_run(&change, &nvml);
	assert_int_equal(change.outcome, GS_MIG_CHANGE_DONE);
	assert_int_equal(change.tasks[0].plan.destroyed, 7);
	assert_string_equal(fake_mig_text(0), seven);
	gs_mig_change_free(&change);
}

static void test_without_a_driver(void **state)
{
	struct gs_mig_change change = make("7g.80gb");
	gs_mig_change_run(&change, NULL);
	assert_int_equal(change.outcome, GS_MIG_CHANGE_BLOCKED);
	gs_mig_change_free(&change);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_goes_is_withdrawn_first),
		TEST(test_what_is_allocated_is_planned_around),
		TEST(test_rounds_end),
		TEST(test_a_gpu_that_was_given_out_keeps_its_mode),
		TEST(test_a_refused_reset_is_waited_for),
		TEST(test_a_dry_run_only_plans),
		TEST(test_without_a_driver),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
