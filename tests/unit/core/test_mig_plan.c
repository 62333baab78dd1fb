#include "core/mig/mig_plan.h"
#include "fixture.h"
#include "mig_fixture.h"

static struct gs_mig_wish wish_of(const struct gs_mig_gpu *gpu, const char *text)
{
	struct gs_mig_wish wish = {0};
	struct gs_error err = {0};
	if (*text && gs_mig_parse_list(gpu, text, &wish, &err))
		fail_msg("%s", err.text);
	return wish;
}

/* "(1@0,2@2!)": compute instances with their first slices; ! marks a busy one. */
static const char *parse_parts(const char *text, struct gs_mig_instance *instance)
{
	unsigned size, start;
	int used;

	instance->compute_count = 0;
	while (sscanf(text + 1, "%u@%u%n", &size, &start, &used) == 2) {
		struct gs_mig_compute *compute = &instance->compute[instance->compute_count];
		text += 1 + used;
		*compute = (struct gs_mig_compute){.id = instance->compute_count++,
						   .start = (uint8_t)start,
						   .slices = (uint8_t)size,
						   .busy = *text == '!'};
		instance->busy = instance->busy || compute->busy;
		text += compute->busy;
	}
	assert_int_equal(*text, ')');
	return text + 1;
}

/* "1g.10gb:6 3g.40gb:0!" puts instances at their slices; ! marks a busy one. Their ids count from 100. */
static struct gs_mig_layout layout_of(const struct gs_mig_gpu *gpu, const char *text)
{
	struct gs_mig_layout layout = {0};
	char name[32];
	unsigned start;
	int used;

	while (sscanf(text, " %31[^:]:%u%n", name, &start, &used) == 2) {
		struct gs_mig_instance *instance = &layout.instances[layout.count];
		int profile = gs_mig_profile_by_name(gpu, name);
		assert_true(profile >= 0);
		text += used;
		*instance = (struct gs_mig_instance){
			.id = 100 + layout.count,
			.profile = (uint8_t)profile,
			.place = {(uint8_t)start, gpu->profiles[profile].placements[0].size},
			.busy = *text == '!',
			.compute = {{.slices = (uint8_t)gpu->profiles[profile].compute_slices}},
			.compute_count = 1,
		};
		text += instance->busy;
		if (*text == '(')
			text = parse_parts(text, instance);
		layout.count++;
	}
	assert_string_equal(text, "");
	return layout;
}

/* "+1g.10gb:6 -100" and so on; "impossible" with blockers. */
static void expect(const char *model, const char *now, const char *wanted, enum gs_mig_goal goal, const char *steps)
{
	struct gs_mig_gpu gpu = mig_fixture(model);
	struct gs_mig_layout layout = layout_of(&gpu, now);
	struct gs_mig_wish wish = wish_of(&gpu, wanted);
	struct gs_mig_plan plan;
	char text[1024] = "";
	size_t length = 0;

	if (gs_mig_plan_make(&gpu, &layout, &wish, goal, &plan)) {
		length += (size_t)snprintf(text, sizeof text, "impossible");
		for (size_t i = 0; i < plan.blocker_count; i++)
			length += (size_t)snprintf(text + length, sizeof text - length, " %u", 100 + plan.blockers[i]);
		assert_true(plan.reason[0]);
	}
	for (size_t i = 0; i < plan.step_count; i++) {
		const struct gs_mig_step *step = &plan.steps[i];
		const char *space = length ? " " : "";
		if (step->kind == GS_MIG_CREATE_INSTANCE)
			length += (size_t)snprintf(text + length, sizeof text - length, "%s+%s:%u", space,
						   gpu.profiles[step->profile].name, step->place.start);
		else if (step->kind == GS_MIG_DESTROY_INSTANCE)
			length += (size_t)snprintf(text + length, sizeof text - length, "%s-%u", space,
						   step->instance_id);
		else
			length += (size_t)snprintf(text + length, sizeof text - length, "%s%c%u/%uc", space,
						   step->kind == GS_MIG_CREATE_COMPUTE ? '+' : '-', step->instance_id,
						   step->compute[0]);
	}
	assert_string_equal(text, steps);
}

static void test_places_that_leave_the_most_open(void **state)
{
	(void)state;
	expect("A100-80GB", "", "1g.10gb", GS_MIG_BECOME, "+1g.10gb:6");
	expect("A100-80GB", "", "9", GS_MIG_BECOME, "+3g.40gb:4");
	/* In the order 19,19,14,9 a driver that places by itself fails at the last one. */
	expect("A100-80GB", "", "19,19,14,9", GS_MIG_BECOME, "+3g.40gb:4 +2g.20gb:0 +1g.10gb:2 +1g.10gb:3");
	expect("A30", "", "1g.6gb", GS_MIG_BECOME, "+1g.6gb:0");
	expect("RTX-PRO-6000", "", "1g.24gb+me.all,1g.24gb-me,2g.48gb-me", GS_MIG_BECOME,
	       "+2g.48gb-me:0 +1g.24gb+me.all:6 +1g.24gb-me:9");
}

static void test_fewest_destroyed(void **state)
{
	(void)state;
	expect("A100-80GB", "1g.10gb:0 1g.10gb:1 1g.10gb:2 1g.10gb:3 1g.10gb:4 1g.10gb:5 1g.10gb:6",
	       "1g.10gb,1g.10gb,2g.20gb,3g.40gb", GS_MIG_BECOME, "-100 -101 +2g.20gb:0 -104 -105 -106 +3g.40gb:4");
	expect("A100-80GB", "1g.10gb:6", "1g.10gb", GS_MIG_BECOME, "");
	expect("A100-80GB", "1g.10gb:6", "2g.20gb", GS_MIG_BECOME, "+2g.20gb:4 -100");
	expect("A100-80GB", "1g.10gb:6", "", GS_MIG_BECOME, "-100");
	/* A second one can never be beside the first, wherever it is. */
	expect("A30", "1g.6gb+me:0", "2g.12gb+me", GS_MIG_BECOME, "-100 +2g.12gb+me:2");
}

static void test_busy_ones_stay(void **state)
{
	(void)state;
	expect("A100-80GB", "1g.10gb:1! 1g.10gb:6", "3g.40gb,1g.10gb", GS_MIG_BECOME, "-101 +3g.40gb:4");
	expect("A100-80GB", "1g.10gb:1! 1g.10gb:6!", "3g.40gb,1g.10gb,1g.10gb", GS_MIG_BECOME, "impossible 101");
	expect("A100-80GB", "1g.10gb:1! 1g.10gb:6", "3g.40gb", GS_MIG_BECOME, "impossible 100");
	expect("A100-80GB", "1g.10gb:0! 2g.20gb:4", "4g.40gb", GS_MIG_ADD, "impossible 100");
	expect("A100-80GB", "2g.20gb:4", "3g.40gb,1g.10gb", GS_MIG_ADD, "+3g.40gb:0 +1g.10gb:6");
}

static void test_never_possible(void **state)
{
	(void)state;
	expect("A100-80GB", "", "4g.40gb,3g.40gb,2g.20gb", GS_MIG_BECOME, "impossible");
	expect("A100-80GB", "", "4g.40gb,2g.20gb,2g.20gb", GS_MIG_BECOME, "impossible");
	expect("A100-80GB", "1g.10gb+me:0", "1g.10gb+me", GS_MIG_ADD, "impossible 100");
	expect("A30", "1g.6gb:0 1g.6gb+me:1", "2g.12gb+me", GS_MIG_ADD, "impossible 101");
	expect("RTX-PRO-6000", "1g.24gb:0! 1g.24gb:3 1g.24gb-me:6", "1g.24gb+me.all", GS_MIG_ADD, "impossible 100 101");
	expect("RTX-PRO-6000", "", "1g.24gb+me.all,1g.24gb", GS_MIG_BECOME, "impossible");
	expect("A30", "", "1g.6gb+me,2g.12gb+me", GS_MIG_BECOME, "impossible");
}

static void test_compute_instances(void **state)
{
	(void)state;
	expect("A100-80GB", "3g.40gb:4", "1c.3g.40gb,2c.3g.40gb", GS_MIG_BECOME, "-100/3c +100/2c +100/1c");
	expect("A100-80GB", "3g.40gb:4!", "1c.3g.40gb,2c.3g.40gb", GS_MIG_BECOME, "impossible 100");
	expect("A100-80GB", "", "1c.3g.40gb,2c.3g.40gb,1c.3g.40gb,2c.3g.40gb", GS_MIG_BECOME, "+3g.40gb:0 +3g.40gb:4");
	/* Which instance becomes which is chosen so that nothing has to change. */
	expect("A100-80GB", "3g.40gb:0(2@0,1@2) 3g.40gb:4", "1c.3g.40gb,2c.3g.40gb,3c.3g.40gb", GS_MIG_BECOME, "");
	/* One goes rather than two: 3c can begin at 0 or 4. */
	expect("A100-80GB", "7g.80gb:0(1@0,1@1,1@4)", "3c.7g.80gb,1c.7g.80gb,1c.7g.80gb", GS_MIG_BECOME,
	       "-100/1c +100/3c");
	expect("A100-80GB", "7g.80gb:0(1@0,1@1,1@4!)", "3c.7g.80gb,1c.7g.80gb,1c.7g.80gb", GS_MIG_BECOME,
	       "-100/1c -100/1c +100/3c +100/1c");
	expect("A100-80GB", "7g.80gb:0(1@0,1@1!,1@4!)", "3c.7g.80gb,1c.7g.80gb,1c.7g.80gb", GS_MIG_BECOME,
	       "impossible 100");
	expect("A100-80GB", "3g.40gb:0(1@0,1@1!)", "2g.20gb,1c.3g.40gb", GS_MIG_BECOME, "+2g.20gb:4 -100/1c");
}

static void expect_reason(const char *model, const char *now, const char *wanted, enum gs_mig_goal goal,
			  const char *reason)
{
	struct gs_mig_gpu gpu = mig_fixture(model);
	struct gs_mig_layout layout = layout_of(&gpu, now);
	struct gs_mig_wish wish = wish_of(&gpu, wanted);
	struct gs_mig_plan plan;

	if (layout.count)
		snprintf(layout.instances[0].holder, sizeof layout.instances[0].holder, "process 4711 (python)");
	assert_int_equal(gs_mig_plan_make(&gpu, &layout, &wish, goal, &plan), -1);
	assert_string_equal(plan.reason, reason);
}

static void test_reasons(void **state)
{
	(void)state;
	expect_reason(
		"A100-80GB", "1g.10gb:1! 1g.10gb:6!", "3g.40gb,1g.10gb,1g.10gb", GS_MIG_BECOME,
		"the GPU can't become 2x 1g.10gb, 1x 3g.40gb: no arrangement of it leaves every instance in use where "
		"it is; there is one without GPU instance 101 (1g.10gb on slice 6, in use)");
	expect_reason(
		"A100-80GB", "2g.20gb:0! 3g.40gb:4!", "7g.80gb", GS_MIG_BECOME,
		"the GPU can't become 1x 7g.80gb: no arrangement of it leaves every instance in use where it is; there "
		"is one without GPU instance 100 (2g.20gb on slices 0-1, used by process 4711 (python), not "
		"wished for) and GPU instance 101 (3g.40gb on slices 4-7, in use, not wished for)");
	expect_reason("A100-80GB", "1g.10gb:0 1g.10gb:1! 1g.10gb:4!", "4g.40gb", GS_MIG_ADD,
		      "there is no place for 1x 4g.40gb beside what the GPU has; there is without GPU instance 100 "
		      "(1g.10gb on slice 0, idle) and GPU instance 101 (1g.10gb on slice 1, in use)");
	expect_reason(
		"A100-80GB", "3g.40gb:4 1g.10gb:0", "4g.40gb", GS_MIG_ADD,
		"there is no place for 1x 4g.40gb beside what the GPU has; there is without GPU instance 101 (1g.10gb "
		"on slice 0, idle)");
	expect_reason("A30", "1g.6gb+me:0", "2g.12gb+me", GS_MIG_ADD,
		      "with what the GPU has they need 2 JPEG decoders, and the GPU has 1; they are free without GPU "
		      "instance 100 (1g.6gb+me on slice 0, idle)");
	expect_reason("A100-80GB", "1g.10gb+me:0", "1g.10gb+me", GS_MIG_ADD,
		      "at most 1 of 1g.10gb+me can be on one GPU; there is room without GPU instance 100 (1g.10gb+me "
		      "on slice 0, idle)");
	expect_reason("A100-80GB", "", "1g.10gb:0,1g.10gb:0", GS_MIG_ADD,
		      "1g.10gb at slice 0 is asked for twice; one instance can be there");
	expect_reason("A100-80GB", "", "1g.10gb,1g.10gb:3,3g.40gb:0", GS_MIG_BECOME,
		      "1g.10gb at slice 3 and 3g.40gb at slice 0 are both asked for, and they overlap");
	expect_reason(
		"A100-80GB", "", "4g.40gb,3g.40gb,2g.20gb", GS_MIG_BECOME,
		"1x 2g.20gb, 1x 3g.40gb, 1x 4g.40gb can't be on one GPU together, not even on an empty one: they take "
		"10 memory slices, and it has 8; without one 2g.20gb the rest would fit");
	expect_reason(
		"A100-80GB", "", "4g.40gb,2g.20gb,2g.20gb", GS_MIG_BECOME,
		"2x 2g.20gb, 1x 4g.40gb can't be on one GPU together, not even on an empty one: 4g.40gb can begin at "
		"slice 0; 2g.20gb can begin at slice 0, 2 or 4; without one 2g.20gb the rest would fit");
	expect_reason("RTX-PRO-6000", "", "1g.24gb+me.all,1g.24gb", GS_MIG_BECOME,
		      "together they need 5 video decoders, and the GPU has 4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places_that_leave_the_most_open),
		cmocka_unit_test(test_fewest_destroyed),
		cmocka_unit_test(test_busy_ones_stay),
		cmocka_unit_test(test_never_possible),
		cmocka_unit_test(test_compute_instances),
		cmocka_unit_test(test_reasons),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
