/* MIG layouts read, and changed while calls fail, processes die, and others interfere. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "fake_mig.h"
#include "mig/mig_apply.h"
#include "mig/mig_record.h"

static const char seven[] = "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 1g.10gb@4 1g.10gb@5 1g.10gb@6";

/* What becomes of it when it shall have two of 1g, one of 2g and one of 3g. */
static const char divided[] = "2g.20gb@0 1g.10gb@2 1g.10gb@3 3g.40gb@4";

static struct gs_nvml nvml;
static char state_dir[64];

static int set_up(void **state)
{
	/* In memory where that is possible: there is a sync for each of thousands of changes. */
	strcpy(state_dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/gpushare-mig-XXXXXX" : "/tmp/gpushare-mig-XXXXXX");
	fake_mig_reset(2);
	return mkdtemp(state_dir) ? 0 : -1;
}

static char *in_state(const char *name)
{
	return gs_printf("%s/%s", state_dir, name);
}

static int tear_down(void **state)
{
	static const char *const names[] = {"mig.lock", "mig-change", "mig-change.corrupt"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++) {
		GS_AUTO_FREE char *path = in_state(names[i]);
		unlink(path);
	}
	return rmdir(state_dir);
}

static bool has_record(void)
{
	GS_AUTO_FREE char *path = in_state("mig-change");
	return access(path, F_OK) == 0;
}

/* What the tool does: session, reading, planning, applying; each GPU gets `list`, "off" is MIG off. With `armed`, faults
 * begin once the plan is made. */
static void (*armed)(void);

static bool when_restarted; /* of all tasks */

static int make(const char *list, gs_mig_reset *reset, struct gs_error *err)
{
	struct gs_mig_session session;
	struct gs_mig_boards boards;
	char *recovered;
	if (gs_mig_begin(&session, &nvml, state_dir, "/proc", &recovered, err) < 0)
		return -1;
	free(recovered);
	assert_int_equal(gs_mig_read(&nvml, "/proc", &boards, err), 0);
	struct gs_mig_task *tasks = gs_calloc(boards.count, sizeof *tasks);
	for (size_t i = 0; i < boards.count; i++) {
		struct gs_mig_wish wish = {0};
		tasks[i].board = &boards.items[i];
		tasks[i].enabled = strcmp(list, "off") != 0;
		tasks[i].when_restarted = when_restarted;
		assert_string_equal(boards.items[i].problem, "");
		if (*list && tasks[i].enabled)
			assert_int_equal(gs_mig_parse_list(&boards.items[i].gpu, list, &wish, NULL), 0);
		if (gs_mig_plan_make(&boards.items[i].gpu, &boards.items[i].layout, &wish, GS_MIG_BECOME,
				     &tasks[i].plan) < 0)
			fail_msg("%s", tasks[i].plan.reason);
	}
	if (armed)
		armed();
	int result = gs_mig_apply(&session, tasks, boards.count, reset, NULL, err);
	gs_mig_end(&session);
	free(tasks);
	gs_mig_boards_free(&boards);
	return result;
}

static void recover(void)
{
	struct gs_error err;
	char *told = NULL;
	if (gs_mig_recover(&nvml, state_dir, "/proc", &told, &err) < 0)
		fail_msg("%s", err.text);
	free(told);
	assert_false(has_record());
}

static void no_faults(void)
{
	fake_mig->fail_call = fake_mig->kill_call = fake_mig->hook_call = 0;
	fake_mig->fail_on = false;
}

/* Reading
 * ---- */

static void test_reads_what_there_is(void **state)
{
	struct gs_mig_boards boards;
	struct gs_error err;
	fake_mig_table(&nvml);
	fake_mig_set(0, "1g.10gb@2 3g.40gb@4(1@0,2@1) 1g.10gb+me@0");
	fake_mig_at(0, 4)->computes[1].pid = (int)getpid();
	fake_mig->gpus[1].enabled = fake_mig->gpus[1].pending = false;
	assert_int_equal(gs_mig_read(&nvml, "/proc", &boards, &err), 0);
	assert_int_equal(boards.count, 2);
	const struct gs_mig_board *board = &boards.items[0];
	assert_string_equal(board->problem, "");
	assert_true(board->capable && board->enabled && board->profiles_known);
	assert_int_equal(board->gpu.profile_count, fake_mig_profiles.profile_count);
	assert_int_equal(board->gpu.slice_count, 8);
	int large = gs_mig_profile_by_name(&board->gpu, "3g.40gb");
	assert_int_equal(board->gpu.profiles[large].id, 9);
	assert_int_equal(board->gpu.profiles[large].placement_count, 2);
	assert_int_equal(board->layout.count, 3);
	const struct gs_mig_instance *split = &board->layout.instances[2];
	assert_int_equal(split->place.start, 4);
	assert_int_equal(split->compute_count, 2);
	assert_true(split->busy);
	assert_int_equal(split->compute[0].slices + split->compute[1].slices, 3);
	assert_true(split->compute[0].busy != split->compute[1].busy);
	assert_non_null(strstr(split->holder, "process "));
	assert_non_null(strstr(split->holder, "test_mig_apply"));
	assert_false(board->layout.instances[0].busy);
	assert_string_equal(board->uuids[0][0], "MIG-0-7-0");
	assert_true(boards.items[1].capable && !boards.items[1].enabled && boards.items[1].profiles_known);
	assert_true(gs_mig_mark_busy(&boards, "MIG-0-7-0", "pod web-0"));
	assert_true(board->layout.instances[0].busy);
	assert_string_equal(board->layout.instances[0].holder, "pod web-0");
	assert_false(gs_mig_mark_busy(&boards, "MIG-9-7-0", "pod web-0"));
	gs_mig_boards_free(&boards);
}

static void test_old_drivers_tell_no_names(void **state)
{
	struct gs_mig_boards boards;
	struct gs_error err;
	fake_mig->old_driver = true;
	fake_mig->gpus[1].enabled = fake_mig->gpus[1].pending = false;
	fake_mig_table(&nvml);
	assert_int_equal(gs_mig_read(&nvml, "/proc", &boards, &err), 0);
	for (size_t i = 0; i < fake_mig_profiles.profile_count; i++)
		assert_string_equal(
			boards.items[0].gpu.profiles[i].name,
			fake_mig_profiles
				.profiles[gs_mig_profile_by_id(&fake_mig_profiles, boards.items[0].gpu.profiles[i].id)]
				.name);
	assert_true(boards.items[1].capable && !boards.items[1].profiles_known);
	assert_string_equal(boards.items[1].problem, "");
	gs_mig_boards_free(&boards);
}

static void test_one_sick_gpu_costs_no_other(void **state)
{
	struct gs_mig_boards boards;
	struct gs_error err;
	fake_mig_table(&nvml);
	fake_mig->fail_code = NVML_ERROR_GPU_IS_LOST;
	fake_mig->fail_call = 2; /* the first GPU's handle */
	assert_int_equal(gs_mig_read(&nvml, "/proc", &boards, &err), 0);
	assert_true(boards.items[0].problem[0]);
	assert_false(boards.items[0].capable);
	assert_string_equal(boards.items[1].problem, "");
	gs_mig_boards_free(&boards);
}

static void test_an_instance_of_a_profile_that_is_not_listed(void **state)
{
	struct gs_mig_boards boards;
	struct gs_error err;
	fake_mig_table(&nvml);
	fake_mig_set(0, "1g.10gb+me@0 3g.40gb@4");
	fake_mig->hidden_profile = 20;
	assert_int_equal(gs_mig_read(&nvml, "/proc", &boards, &err), 0);
	assert_string_equal(boards.items[0].problem, "");
	assert_int_equal(boards.items[0].layout.count, 2);
	assert_int_equal(boards.items[0].layout.instances[0].profile, GS_MIG_UNKNOWN);
	assert_int_equal(boards.items[0].profile_ids[0], 20);
	gs_mig_boards_free(&boards);
}

/* Applying
 * ---- */

static void test_changes_only_what_differs(void **state)
{
	struct gs_error err;
	fake_mig_table(&nvml);
	fake_mig_set(0, divided);
	fake_mig_set(1, seven);
	uint32_t kept = fake_mig_at(0, 4)->serial;
	if (make("1g.10gb,1g.10gb,2g.20gb,3g.40gb", NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(fake_mig_at(0, 4)->serial, kept);
	assert_string_equal(fake_mig_text(1), divided);
	assert_int_equal(fake_mig->destroys, 5);
	assert_false(has_record());
	uint32_t calls = fake_mig->serials;
	assert_int_equal(make("1g.10gb,1g.10gb,2g.20gb,3g.40gb", NULL, &err), 0);
	assert_int_equal(fake_mig->serials, calls);
}

static void test_compute_instances(void **state)
{
	struct gs_error err;
	for (int old = 0; old < 2; old++) {
		fake_mig_reset(1);
		fake_mig->old_driver = old;
		fake_mig_table(&nvml);
		fake_mig_set(0, "3g.40gb@4");
		assert_int_equal(make("1c.3g.40gb,1c.3g.40gb,1c.3g.40gb,2g.20gb", NULL, &err), 0);
		assert_string_equal(fake_mig_text(0), "2g.20gb@0 3g.40gb@4(1@0,1@1,1@2)");
	}
}

/* Two GPUs: one divided anew, with compute instances, the other freshly. */
static void set_stage(void)
{
	fake_mig_reset(2);
	fake_mig_table(&nvml);
	fake_mig_set(0, "1g.10gb@0 1g.10gb@1 1g.10gb+me@2 3g.40gb@4(1@0,1@1,1@2)");
	fake_mig_set(1, seven);
	fake_mig_at(0, 1)->computes[0].pid = 1;
}

static const char before_0[] = "1g.10gb@0 1g.10gb@1 1g.10gb+me@2 3g.40gb@4(1@0,1@1,1@2)";
static const char wanted[] = "3g.40gb,2g.20gb,1g.10gb,1g.10gb";
static uint32_t nth;

static void arm_failure(void)
{
	fake_mig->fail_call = fake_mig->calls + nth;
}

static void test_any_call_fails(void **state)
{
	static const nvmlReturn_t codes[] = {NVML_ERROR_UNKNOWN, NVML_ERROR_IN_USE, NVML_ERROR_NOT_FOUND,
					     NVML_ERROR_INSUFFICIENT_RESOURCES, NVML_ERROR_GPU_IS_LOST};
	for (size_t k = 0; k < GS_ARRAY_LENGTH(codes); k++) {
		uint32_t failures = 0, untouched = 0;
		for (nth = 1;; nth++) {
			struct gs_error err = {0};
			set_stage();
			uint32_t busy = fake_mig_at(0, 1)->computes[0].serial;
			fake_mig->fail_code = codes[k];
			armed = arm_failure;
			int result = make(wanted, NULL, &err);
			armed = NULL;
			bool reached = fake_mig->calls >= fake_mig->fail_call;
			assert_false(has_record());
			assert_int_equal(fake_mig_at(0, 1)->computes[0].serial, busy);
			if (result < 0) {
				failures++;
				assert_string_equal(fake_mig_text(0), before_0);
				assert_string_equal(fake_mig_text(1), seven);
				assert_non_null(strstr(err.text, "every GPU is as it was"));
				untouched += fake_mig->creates == 0;
			} else {
				assert_string_equal(fake_mig_text(1), divided);
			}
			if (!reached)
				break;
		}
		assert_true(failures > 50);
		assert_true(untouched > 0 && untouched < failures);
	}
}

static void arm_loss(void)
{
	arm_failure();
	fake_mig->fail_on = true;
}

/* The GPU does not answer any more, not even for undoing: the next one does it. */
static void test_every_call_fails_from_one_on(void **state)
{
	bool reached = true;
	uint32_t left = 0;
	for (nth = 1; reached; nth++) {
		struct gs_error err = {0};
		set_stage();
		fake_mig->fail_code = NVML_ERROR_GPU_IS_LOST;
		armed = arm_loss;
		int result = make(wanted, NULL, &err);
		armed = NULL;
		reached = fake_mig->calls >= fake_mig->fail_call;
		no_faults();
		assert_true(result < 0 || !reached);
		if (result < 0) {
			/* Without a record nothing had begun. */
			assert_non_null(
				strstr(err.text, has_record() ? "can't be undone now" : "every GPU is as it was"));
			left += has_record();
			recover();
			assert_string_equal(fake_mig_text(0), before_0);
			assert_string_equal(fake_mig_text(1), seven);
		}
	}
	assert_true(left > 50);
}

static void arm_death(void)
{
	fake_mig->kill_call = fake_mig->calls + nth;
}

/* true: it was killed */
static bool killed_in(void (*arm)(void), bool recovering)
{
	pid_t child = fork();
	int status;
	if (child == 0) {
		struct gs_error err;
		char *told;
		if (recovering) {
			arm();
			_exit(gs_mig_recover(&nvml, state_dir, "/proc", &told, &err) < 0);
		}
		armed = arm;
		_exit(make(wanted, NULL, &err) < 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	no_faults();
	if (WIFSIGNALED(status))
		assert_int_equal(WTERMSIG(status), SIGKILL);
	else
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status);
}

static void test_killed_at_any_call(void **state)
{
	bool killed = true;
	for (nth = 1; killed; nth++) {
		set_stage();
		uint32_t busy = fake_mig_at(0, 1)->computes[0].serial;
		killed = killed_in(arm_death, false);
		if (killed) {
			assert_true(has_record());
			recover();
			assert_string_equal(fake_mig_text(0), before_0);
			assert_string_equal(fake_mig_text(1), seven);
		}
		assert_int_equal(fake_mig_at(0, 1)->computes[0].serial, busy);
	}
	assert_true(nth > 50);
}

static void test_killed_while_recovering(void **state)
{
	for (uint32_t first = 40; first < 400; first += 90) {
		bool killed = true;
		for (uint32_t second = 1; killed; second += 17) {
			set_stage();
			nth = first;
			if (!killed_in(arm_death, false))
				return;
			nth = second;
			killed = killed_in(arm_death, true);
			recover();
			assert_string_equal(fake_mig_text(0), before_0);
			assert_string_equal(fake_mig_text(1), seven);
		}
	}
}

/* Somebody runs on what the dead process made: that can't be taken back, so the rest is done. */
static void test_what_is_in_use_is_finished(void **state)
{
	uint32_t finished = 0;
	for (nth = 1;; nth += 4) {
		set_stage();
		if (!killed_in(arm_death, false))
			break;
		struct fake_mig_instance *made = fake_mig_at(1, 4);
		if (!made || fake_mig_profiles.profiles[made->profile].id != 9 || !made->computes[0].serial)
			continue;
		made->computes[0].pid = 7;
		uint32_t serial = made->computes[0].serial;
		recover();
		assert_string_equal(fake_mig_text(1), divided);
		assert_int_equal(made->computes[0].serial, serial);
		finished++;
	}
	assert_true(finished > 0);
}

/* Each GPU for itself
 * ---- */

static bool is_old(uint32_t gpu, uint32_t start)
{
	const struct fake_mig_instance *there = fake_mig_at(gpu, start);
	return there && fake_mig_profiles.profiles[there->profile].id == 19 && there->computes[0].serial;
}

static bool is_new(uint32_t gpu, uint32_t start)
{
	const struct fake_mig_instance *there = fake_mig_at(gpu, start);
	return there && fake_mig_profiles.profiles[there->profile].id != 19 && there->computes[0].serial;
}

/* One is done and the other not begun, and both are in use: both stay. */
static void test_each_gpu_goes_its_own_way(void **state)
{
	struct gs_error err;
	char after_0[256];
	set_stage();
	assert_int_equal(make(wanted, NULL, &err), 0);
	snprintf(after_0, sizeof after_0, "%s", fake_mig_text(0));
	for (nth = 1;; nth++) {
		set_stage();
		assert_true(killed_in(arm_death, false));
		if (strcmp(fake_mig_text(0), after_0) == 0 && strcmp(fake_mig_text(1), seven) == 0)
			break;
		recover();
	}
	fake_mig_at(0, 4)->computes[0].pid = 7;
	fake_mig_at(1, 6)->computes[0].pid = 8;
	recover();
	assert_string_equal(fake_mig_text(0), after_0);
	assert_string_equal(fake_mig_text(1), seven);
}

/* Somebody is on what was, and somebody on what was to be: it is left alone by every attempt, and keeps no other GPU. */
static void test_a_gpu_that_cannot_be_settled_is_not_touched(void **state)
{
	struct gs_error err;
	char *told, half[256];
	for (nth = 1;; nth++) {
		set_stage();
		assert_true(killed_in(arm_death, false));
		if ((is_new(1, 4) && is_old(1, 0)) || (is_new(1, 0) && is_old(1, 4)))
			break;
		recover();
	}
	snprintf(half, sizeof half, "%s", fake_mig_text(1));
	fake_mig_at(1, 4)->computes[0].pid = 7;
	fake_mig_at(1, 0)->computes[0].pid = 8;
	struct fake_mig_instance *old = fake_mig_at(1, is_old(1, 0) ? 0 : 4);
	uint32_t changes = 0;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(gs_mig_recover(&nvml, state_dir, "/proc", &told, &err), -1);
		assert_non_null(strstr(err.text, fake_mig->gpus[1].uuid));
		assert_true(has_record());
		free(told);
		assert_string_equal(fake_mig_text(0), before_0);
		assert_string_equal(fake_mig_text(1), half);
		if (i)
			assert_int_equal(fake_mig->creates + fake_mig->destroys, changes);
		changes = fake_mig->creates + fake_mig->destroys;
	}
	/* A change that leaves it as it is goes through, and forgets nothing. */
	struct gs_mig_session session;
	struct gs_mig_boards boards;
	struct gs_mig_wish wish = {0};
	assert_int_equal(gs_mig_begin(&session, &nvml, state_dir, "/proc", &told, &err), 0);
	free(told);
	assert_int_equal(gs_mig_read(&nvml, "/proc", &boards, &err), 0);
	struct gs_mig_task tasks[2] = {gs_mig_task_idle(&boards.items[0]), gs_mig_task_idle(&boards.items[1])};
	assert_int_equal(gs_mig_parse_list(&boards.items[0].gpu, "1g.10gb", &wish, NULL), 0);
	assert_int_equal(
		gs_mig_plan_make(&boards.items[0].gpu, &boards.items[0].layout, &wish, GS_MIG_BECOME, &tasks[0].plan),
		0);
	assert_int_equal(gs_mig_apply(&session, tasks, 2, NULL, NULL, &err), 0);
	assert_string_equal(fake_mig_text(0), "1g.10gb@1");
	assert_true(has_record());
	/* One that concerns it waits. */
	tasks[1].plan = tasks[0].plan;
	assert_int_equal(gs_mig_apply(&session, tasks, 2, NULL, NULL, &err), -1);
	assert_int_equal(err.code, EBUSY);
	assert_string_equal(fake_mig_text(1), half);
	gs_mig_end(&session);
	gs_mig_boards_free(&boards);

	old->computes[0].pid = 0;
	recover();
	assert_string_equal(fake_mig_text(1), divided);
}

static volatile sig_atomic_t interrupted;

static void interrupt(void)
{
	interrupted = 1;
}

static void test_an_interrupted_change_is_undone(void **state)
{
	uint32_t undone = 0;
	for (nth = 1; !undone || interrupted; nth += 7) {
		struct gs_mig_session session;
		struct gs_mig_boards boards;
		struct gs_mig_wish wish = {0};
		struct gs_error err;
		char *told;
		set_stage();
		assert_int_equal(gs_mig_begin(&session, &nvml, state_dir, "/proc", &told, &err), 0);
		assert_int_equal(gs_mig_read(&nvml, "/proc", &boards, &err), 0);
		struct gs_mig_task tasks[2] = {gs_mig_task_idle(&boards.items[0]), gs_mig_task_idle(&boards.items[1])};
		assert_int_equal(gs_mig_parse_list(&boards.items[1].gpu, wanted, &wish, NULL), 0);
		assert_int_equal(gs_mig_plan_make(&boards.items[1].gpu, &boards.items[1].layout, &wish, GS_MIG_BECOME,
						  &tasks[1].plan),
				 0);
		interrupted = 0;
		session.interrupted = &interrupted;
		fake_mig->hook = interrupt;
		fake_mig->hook_call = fake_mig->calls + nth;
		int result = gs_mig_apply(&session, tasks, 2, NULL, NULL, &err);
		if (result < 0) {
			assert_non_null(strstr(err.text, "interrupted; all that had been done was undone"));
			assert_string_equal(fake_mig_text(1), seven);
			undone += fake_mig->destroys > 0;
		} else { /* it came too late */
			assert_string_equal(fake_mig_text(1), divided);
		}
		assert_false(has_record());
		gs_mig_end(&session);
		gs_mig_boards_free(&boards);
	}
	assert_true(undone > 0);
}

/* Others
 * ---- */

static void another_creates(void)
{
	if (!fake_mig_at(0, 4))
		fake_mig_set(0, "7g.80gb@0");
}

static void arm_other(void)
{
	fake_mig->hook_call = fake_mig->calls + nth;
}

static void test_another_tool_creates_meanwhile(void **state)
{
	uint32_t refused = 0;
	bool reached = true;
	for (nth = 1; reached; nth++) {
		struct gs_error err = {0};
		fake_mig_reset(1);
		fake_mig_table(&nvml);
		fake_mig_set(0, "");
		fake_mig->hook = another_creates;
		armed = arm_other;
		int result = make("3g.40gb", NULL, &err);
		armed = NULL;
		reached = fake_mig->calls >= fake_mig->hook_call;
		assert_false(has_record());
		if (result < 0) {
			refused++;
			assert_string_equal(fake_mig_text(0), "7g.80gb@0"); /* theirs stays */
		} else {
			assert_true(!reached || fake_mig_at(0, 4) || fake_mig_at(0, 0));
		}
	}
	assert_true(refused > 10);
}

static uint32_t foreign;

static void another_adds(void)
{
	struct fake_mig_gpu *gpu = &fake_mig->gpus[0];
	if (fake_mig_at(0, 6) || fake_mig_at(0, 4))
		return;
	gpu->instances[13] =
		(struct fake_mig_instance){.serial = foreign = ++fake_mig->serials,
					   .profile = (uint32_t)gs_mig_profile_by_name(&fake_mig_profiles, "1g.10gb"),
					   .start = 6};
}

/* An instance that is nobody's business here makes the change fail, and outlives it. */
static void test_another_tool_adds_beside(void **state)
{
	uint32_t refused = 0;
	bool reached = true;
	for (nth = 1; reached; nth++) {
		struct gs_error err = {0};
		fake_mig_reset(1);
		fake_mig_table(&nvml);
		fake_mig_set(0, "1g.10gb@0");
		foreign = 0;
		fake_mig->hook = another_adds;
		armed = arm_other;
		int result = make("2g.20gb", NULL, &err);
		armed = NULL;
		reached = fake_mig->calls >= fake_mig->hook_call;
		assert_false(has_record());
		if (foreign && (!fake_mig_at(0, 6) || fake_mig_at(0, 6)->serial != foreign))
			fail_msg("call %u: theirs is gone", nth);
		if (result == 0)
			continue;
		refused++;
		assert_string_equal(fake_mig_text(0), "1g.10gb@0 1g.10gb@6()");
	}
	assert_true(refused > 10);
}

static void process_starts(void)
{
	struct fake_mig_instance *instance = fake_mig_at(1, 6);
	if (instance && instance->computes[0].serial)
		instance->computes[0].pid = (int)getppid();
}

static void test_a_process_starts_on_what_is_to_go(void **state)
{
	uint32_t refused = 0;
	bool reached = true;
	for (nth = 1; reached; nth++) {
		struct gs_error err = {0};
		set_stage();
		uint32_t serial = fake_mig_at(1, 6)->serial;
		fake_mig->hook = process_starts;
		armed = arm_other;
		int result = make(wanted, NULL, &err);
		armed = NULL;
		reached = fake_mig->calls >= fake_mig->hook_call;
		assert_false(has_record());
		struct fake_mig_instance *instance = fake_mig_at(1, 6);
		bool runs = instance && instance->computes[0].pid;
		assert_int_equal(result < 0, runs);
		if (!runs)
			continue;
		refused++;
		assert_int_equal(instance->serial, serial);
		assert_string_equal(fake_mig_text(0), before_0);
		assert_string_equal(fake_mig_text(1), seven);
		assert_non_null(strstr(err.text, "in use by process"));
		assert_int_equal(err.code, NVML_ERROR_IN_USE);
	}
	assert_true(refused > 10);
}

static void arm_change(void)
{
	fake_mig_set(1, "7g.80gb@0");
}

static void test_a_layout_that_changed_after_planning(void **state)
{
	struct gs_error err;
	set_stage();
	armed = arm_change;
	assert_int_equal(make(wanted, NULL, &err), -1);
	armed = NULL;
	assert_non_null(strstr(err.text, "another tool has changed the layout"));
	assert_string_equal(fake_mig_text(0), before_0);
	assert_string_equal(fake_mig_text(1), "7g.80gb@0");
	assert_false(has_record());
}

/* Mode
 * ---- */

static int reset_called;

static int reset(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	struct fake_mig_gpu *gpu = &fake_mig->gpus[board->index];
	reset_called++;
	memset(gpu->instances, 0, sizeof gpu->instances);
	gpu->enabled = gpu->pending;
	return 0;
}

static void all_off(bool needs_reset)
{
	fake_mig_reset(2);
	fake_mig_table(&nvml);
	for (int i = 0; i < 2; i++) {
		fake_mig->gpus[i].enabled = fake_mig->gpus[i].pending = false;
		fake_mig->gpus[i].needs_reset = needs_reset;
	}
	reset_called = 0;
}

static void test_mode_without_reset(void **state)
{
	struct gs_error err;
	all_off(false);
	if (make("7g.80gb", reset, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(reset_called, 0);
	assert_string_equal(fake_mig_text(1), "7g.80gb@0");
	assert_int_equal(make("off", reset, &err), 0);
	assert_string_equal(fake_mig_text(0), "off");
	assert_string_equal(fake_mig_text(1), "off");
}

static void test_mode_touches_only_who_needs_it(void **state)
{
	struct gs_error err;
	all_off(true);
	fake_mig->gpus[0].enabled = fake_mig->gpus[0].pending = true;
	fake_mig_set(0, "7g.80gb@0");
	fake_mig_at(0, 0)->computes[0].pid = 1;
	assert_int_equal(make("7g.80gb", reset, &err), 0);
	assert_int_equal(reset_called, 1);
	assert_string_equal(fake_mig_text(1), "7g.80gb@0");
}

static void test_mode_that_needs_a_reset_nobody_allows(void **state)
{
	struct gs_error err;
	all_off(true);
	assert_int_equal(make("7g.80gb", NULL, &err), -1);
	assert_non_null(strstr(err.text, "gpushare mig enable -i 0 --reset"));
	for (int i = 0; i < 2; i++)
		assert_false(fake_mig->gpus[i].enabled || fake_mig->gpus[i].pending);
	assert_false(has_record());
}

static void test_a_mode_that_waits_for_a_reset_goes_on_waiting(void **state)
{
	struct gs_error err;
	all_off(true);
	fake_mig->gpus[0].pending = true;
	assert_int_equal(make("7g.80gb", NULL, &err), -1);
	assert_true(fake_mig->gpus[0].pending && !fake_mig->gpus[1].pending);
	assert_false(fake_mig->gpus[0].enabled || fake_mig->gpus[1].enabled);
	assert_false(has_record());
}

static int reset_first_only(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	return board->index ? gs_fail(err, GS_ERROR_SYSTEM, 0, "not this one") : reset(board, user, err);
}

/* What was reset to be changed is reset to be as before. */
static void test_undoing_resets_too(void **state)
{
	struct gs_error err;
	all_off(true);
	assert_int_equal(make("7g.80gb", reset_first_only, &err), -1);
	assert_int_equal(reset_called, 2);
	for (int i = 0; i < 2; i++)
		assert_false(fake_mig->gpus[i].enabled || fake_mig->gpus[i].pending);
	assert_false(has_record());
}

/* Then the mode is noted, nothing is created, and the other GPU is done. */
static void test_a_reset_that_is_refused_may_wait_for_a_restart(void **state)
{
	struct gs_error err;
	all_off(true);
	when_restarted = true;
	if (make("7g.80gb", reset_first_only, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(fake_mig_text(0), "7g.80gb@0");
	assert_true(fake_mig->gpus[1].pending && !fake_mig->gpus[1].enabled);
	assert_false(has_record());
	fake_mig->gpus[1].enabled = true; /* the restart */
	assert_int_equal(make("7g.80gb", NULL, &err), 0);
	assert_string_equal(fake_mig_text(1), "7g.80gb@0");
	when_restarted = false;
}

static void test_mode_while_clients_run(void **state)
{
	struct gs_error err;
	all_off(false);
	fake_mig->gpus[1].client = (int)getpid();
	assert_int_equal(make("7g.80gb", reset, &err), -1);
	assert_int_equal(err.code, NVML_ERROR_IN_USE);
	assert_non_null(strstr(err.text, "in use by process"));
	for (int i = 0; i < 2; i++)
		assert_false(fake_mig->gpus[i].enabled || fake_mig->gpus[i].pending);
	fake_mig->gpus[1].client = 0;
	assert_int_equal(make("7g.80gb", reset, &err), 0);
}

static void test_mode_any_call_fails(void **state)
{
	for (int to_off = 0; to_off < 2; to_off++) {
		bool reached = true;
		for (nth = 1; reached; nth++) {
			struct gs_error err;
			all_off(false);
			for (int i = 0; to_off && i < 2; i++) {
				fake_mig->gpus[i].enabled = fake_mig->gpus[i].pending = true;
				fake_mig_set((uint32_t)i, "2g.20gb@2 3g.40gb@4");
			}
			fake_mig->fail_code = NVML_ERROR_UNKNOWN;
			armed = arm_failure;
			int result = make(to_off ? "off" : "7g.80gb", NULL, &err);
			armed = NULL;
			reached = fake_mig->calls >= fake_mig->fail_call;
			assert_false(has_record());
			const char *was = to_off ? "2g.20gb@2 3g.40gb@4" : "off", *is = to_off ? "off" : "7g.80gb@0";
			for (uint32_t i = 0; i < 2; i++)
				assert_string_equal(fake_mig_text(i), result < 0 ? was : is);
		}
	}
}

/* Lock and record
 * ---- */

static void test_one_at_a_time(void **state)
{
	struct gs_mig_session first, second;
	struct gs_error err;
	char *told, text[32];
	fake_mig_table(&nvml);
	assert_int_equal(gs_mig_begin(&first, &nvml, state_dir, "/proc", &told, &err), 0);
	assert_int_equal(gs_mig_begin(&second, &nvml, state_dir, "/proc", &told, &err), -1);
	assert_int_equal(err.source, GS_ERROR_LIMIT);
	snprintf(text, sizeof text, "process %d", (int)getpid());
	assert_non_null(strstr(err.text, text));
	gs_mig_end(&first);
	assert_int_equal(gs_mig_begin(&second, &nvml, state_dir, "/proc", &told, &err), 0);
	gs_mig_end(&second);
}

static void write_record(const char *text)
{
	GS_AUTO_FREE char *path = in_state("mig-change");
	assert_int_equal(gs_write_file(path, text, strlen(text), 0600, NULL), 0);
}

static void test_a_damaged_record_is_put_aside(void **state)
{
	struct gs_error err;
	char *told = NULL;
	fake_mig_table(&nvml);
	fake_mig_set(0, seven);
	write_record("gpushare mig change 1\nboot -\nsum 0000000000000000\n");
	assert_int_equal(gs_mig_recover(&nvml, state_dir, "/proc", &told, &err), 0);
	assert_non_null(strstr(told, "mig-change.corrupt"));
	free(told);
	assert_false(has_record());
	assert_string_equal(fake_mig_text(0), seven);
}

static struct gs_mig_record example(struct gs_mig_record_gpu *gpu)
{
	*gpu = (struct gs_mig_record_gpu){
		.uuid = "GPU-00000000-0000-0000-0000-000000000000",
		.before = {.enabled = true, .items = {{.profile_id = 9, .place = {4, 4}}}, .count = 1},
		.after = {.enabled = true,
			  .items = {{.profile_id = 0, .place = {0, 8}, .compute = {{7, 0}}, .compute_count = 1}},
			  .count = 1}};
	return (struct gs_mig_record){.gpus = gpu, .count = 1, .boot = "1-2-3"};
}

static void test_a_record_of_another_boot_is_dropped(void **state)
{
	struct gs_mig_record_gpu gpu;
	struct gs_mig_record record = example(&gpu);
	struct gs_error err;
	char *told = NULL;
	GS_AUTO_FREE char *text = gs_mig_record_text(&record);
	fake_mig_table(&nvml);
	fake_mig_set(0, seven);
	write_record(text);
	assert_int_equal(gs_mig_recover(&nvml, state_dir, "/proc", &told, &err), 0);
	assert_non_null(strstr(told, "restart"));
	free(told);
	assert_false(has_record());
	assert_string_equal(fake_mig_text(0), seven);
}

static void test_a_record_of_gpus_that_are_gone(void **state)
{
	struct gs_mig_record_gpu gpu;
	struct gs_mig_record record = example(&gpu);
	fake_mig_table(&nvml);
	strcpy(gpu.uuid, "GPU-of-another-node");
	record.boot[0] = '\0';
	GS_AUTO_FREE char *text = gs_mig_record_text(&record);
	write_record(text);
	recover();
}

static void test_every_damage_of_a_record_shows(void **state)
{
	struct gs_mig_record_gpu gpu;
	struct gs_mig_record record = example(&gpu), back;
	struct gs_error err;
	GS_AUTO_FREE char *text = gs_mig_record_text(&record);
	size_t length = strlen(text);
	assert_int_equal(gs_mig_record_parse(text, length, &back, &err), 0);
	assert_memory_equal(back.gpus, &gpu, sizeof gpu);
	assert_string_equal(back.boot, "1-2-3");
	gs_mig_record_free(&back);
	for (size_t i = 0; i < length; i++) {
		for (int bit = 0; bit < 8; bit++) {
			GS_AUTO_FREE char *copy = gs_strdup(text);
			copy[i] = (char)(copy[i] ^ 1 << bit);
			if (gs_mig_record_parse(copy, length, &back, &err) == 0)
				fail_msg("byte %zu, bit %d", i, bit);
		}
		GS_AUTO_FREE char *cut = gs_strndup(text, i);
		assert_int_equal(gs_mig_record_parse(cut, i, &back, &err), -1);
	}
}

static void test_a_state_directory_that_can_not_be_used(void **state)
{
	struct gs_mig_session session;
	struct gs_error err;
	char *told;
	fake_mig_table(&nvml);
	assert_int_equal(gs_mig_begin(&session, &nvml, "/dev/null/state", "/proc", &told, &err), -1);
	assert_non_null(strstr(err.text, "/dev/null"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reads_what_there_is),
		TEST(test_old_drivers_tell_no_names),
		TEST(test_one_sick_gpu_costs_no_other),
		TEST(test_an_instance_of_a_profile_that_is_not_listed),
		TEST(test_changes_only_what_differs),
		TEST(test_compute_instances),
		TEST(test_any_call_fails),
		TEST(test_every_call_fails_from_one_on),
		TEST(test_killed_at_any_call),
		TEST(test_killed_while_recovering),
		TEST(test_what_is_in_use_is_finished),
		TEST(test_each_gpu_goes_its_own_way),
		TEST(test_a_gpu_that_cannot_be_settled_is_not_touched),
		TEST(test_an_interrupted_change_is_undone),
		TEST(test_another_tool_creates_meanwhile),
		TEST(test_another_tool_adds_beside),
		TEST(test_a_process_starts_on_what_is_to_go),
		TEST(test_a_layout_that_changed_after_planning),
		TEST(test_mode_without_reset),
		TEST(test_mode_touches_only_who_needs_it),
		TEST(test_mode_that_needs_a_reset_nobody_allows),
		TEST(test_a_mode_that_waits_for_a_reset_goes_on_waiting),
		TEST(test_undoing_resets_too),
		TEST(test_a_reset_that_is_refused_may_wait_for_a_restart),
		TEST(test_mode_while_clients_run),
		TEST(test_mode_any_call_fails),
		TEST(test_one_at_a_time),
		TEST(test_a_damaged_record_is_put_aside),
		TEST(test_a_record_of_another_boot_is_dropped),
		TEST(test_a_record_of_gpus_that_are_gone),
		TEST(test_every_damage_of_a_record_shows),
		TEST(test_a_state_directory_that_can_not_be_used),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
