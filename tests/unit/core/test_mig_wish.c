/* What people write, against the profiles of a GPU; and what drivers may say. */
#include "core/mig/mig_plan.h"
#include "fixture.h"
#include "mig_fixture.h"

static void expect_error(const char *model, const char *text, const char *wanted)
{
	struct gs_mig_gpu gpu = mig_fixture(model);
	struct gs_mig_wish wish = {0}, before = wish;
	struct gs_error err;
	assert_int_equal(gs_mig_parse_list(&gpu, text, &wish, &err), -1);
	assert_string_equal(err.text, wanted);
	assert_memory_equal(&wish, &before, sizeof wish);
}

/* Each instance as "profile@start(compute sizes)". */
static void expect_list(const char *model, const char *text, const char *wanted)
{
	struct gs_mig_gpu gpu = mig_fixture(model);
	struct gs_mig_wish wish = {0};
	struct gs_error err;
	char got[512] = "";
	size_t length = 0;

	if (gs_mig_parse_list(&gpu, text, &wish, &err))
		fail_msg("%s", err.text);
	for (size_t i = 0; i < wish.count; i++) {
		const struct gs_mig_want *want = &wish.items[i];
		length += (size_t)snprintf(got + length, sizeof got - length, "%s%s", i ? " " : "",
					   gpu.profiles[want->profile].name);
		if (want->start != GS_MIG_ANYWHERE)
			length += (size_t)snprintf(got + length, sizeof got - length, "@%d", want->start);
		for (size_t k = 0; k < want->compute_count; k++)
			length += (size_t)snprintf(got + length, sizeof got - length, "%c%u", k ? '+' : '(',
						   want->compute[k]);
		length += (size_t)snprintf(got + length, sizeof got - length, ")");
	}
	assert_string_equal(got, wanted);
}

static void test_lists(void **state)
{
	(void)state;
	expect_list("A100-80GB", "1g.10gb,19,3g.40gb", "1g.10gb(1) 1g.10gb(1) 3g.40gb(3)");
	expect_list("A100-80GB", " MIG 1g.10gb+me , 9:4\t", "1g.10gb+me(1) 3g.40gb@4(3)");
	expect_list("A100-40GB", "1g.10gb,15", "1g.10gb(1) 1g.10gb(1)");
	expect_list("RTX-PRO-6000", "1g.24gb+me.all,1g.24gb-me:3", "1g.24gb+me.all(1) 1g.24gb-me@3(1)");
	expect_list("A100-80GB", "19,19,19,19,19,19,19",
		    "1g.10gb(1) 1g.10gb(1) 1g.10gb(1) 1g.10gb(1) 1g.10gb(1) 1g.10gb(1) 1g.10gb(1)");
}

static void test_compute_instances_share(void **state)
{
	(void)state;
	expect_list("A100-80GB", "1c.3g.40gb", "3g.40gb(1)");
	expect_list("A100-80GB", "1c.3g.40gb,1c.3g.40gb,2c.3g.40gb,2c.3g.40gb", "3g.40gb(2+1) 3g.40gb(2+1)");
	expect_list("A100-80GB", "3c.3g.40gb:4,1c.3g.40gb", "3g.40gb@4(3) 3g.40gb(1)");
	expect_list("A100-80GB", "1c.7g.80gb,2c.7g.80gb,4c.7g.80gb", "7g.80gb(4+2+1)");
	/* Its two slices can only begin at the first of three. */
	expect_list("A100-80GB", "1c.3g.40gb,1c.3g.40gb,1c.3g.40gb,2c.3g.40gb", "3g.40gb(2+1) 3g.40gb(1+1)");
	expect_error("A100-80GB", "1c.3g.40gb,1c.3g.40gb,2c.3g.40gb,2c.3g.40gb,1c.3g.40gb",
		     "2x 2c.3g.40gb, 3x 1c.3g.40gb take 3 GPU instances 3g.40gb (id 9 on this GPU), and at most 2 fit "
		     "on one GPU");
	expect_error("A100-80GB",
		     "1c.7g.80gb,1c.7g.80gb,1c.7g.80gb,1c.7g.80gb,1c.7g.80gb,1c.7g.80gb,1c.7g.80gb,1c.7g.80gb",
		     "8x 1c.7g.80gb take 2 GPU instances 7g.80gb (id 0 on this GPU), and at most 1 fits on one GPU");
}

/* Seven slices of 10 GB, as half the internet creates them. */
static void test_folklore(void **state)
{
	(void)state;
	expect_error("A100-80GB", "9,9,9,9,9,9,9",
		     "at most 2 of 3g.40gb (id 9 on this GPU) fit on one GPU, not 7; 7 fit of 1g.10gb (id 19)");
	expect_error("A100-40GB", "1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb",
		     "at most 4 of 1g.10gb (id 15 on this GPU) fit on one GPU, not 5; 7 fit of 1g.5gb (id 19)");
	expect_error("A30", "14,14,14,14,14", "at most 4 of 1g.6gb (id 14 on this GPU) fit on one GPU, not 5");
}

static void test_errors_say_what_was_meant(void **state)
{
	(void)state;
	expect_error(
		"A30", "1g.5gb",
		"this GPU has no MIG profile \"1g.5gb\"; did you mean \"1g.6gb\"? It has 1g.6gb (id 14), 1g.6gb+me (id "
		"21), 2g.12gb (id 5), 2g.12gb+me (id 6), 4g.24gb (id 0)");
	expect_error(
		"A30", "1c.2g.10gb+me",
		"this GPU has no MIG profile \"1c.2g.10gb+me\"; did you mean \"1c.2g.12gb+me\"? It has 1g.6gb (id 14), "
		"1g.6gb+me (id 21), 2g.12gb (id 5), 2g.12gb+me (id 6), 4g.24gb (id 0)");
	expect_error(
		"A30", "everything",
		"this GPU has no MIG profile \"everything\"; it has 1g.6gb (id 14), 1g.6gb+me (id 21), 2g.12gb (id 5), "
		"2g.12gb+me (id 6), 4g.24gb (id 0)");
	expect_error("A30", "9",
		     "no MIG profile of this GPU has id 9; it has 1g.6gb (id 14), 1g.6gb+me (id 21), 2g.12gb (id 5), "
		     "2g.12gb+me (id 6), 4g.24gb (id 0)");
	expect_error(
		"A30", "3c.2g.12gb",
		"there is no compute instance 3c.2g.12gb; there is 1c.2g.12gb, and 2g.12gb, which takes all of it");
	expect_error(
		"A30", "0c.2g.12gb",
		"there is no compute instance 0c.2g.12gb; there is 1c.2g.12gb, and 2g.12gb, which takes all of it");
	expect_error("A30", "2c.1g.6gb",
		     "there is no compute instance 2c.1g.6gb; there is only 1g.6gb, which takes all of it");
	expect_error("A30", "1g.6gb.me",
		     "this GPU has no MIG profile \"1g.6gb.me\"; did you mean \"1g.6gb+me\"? It has 1g.6gb (id 14), "
		     "1g.6gb+me (id 21), 2g.12gb (id 5), 2g.12gb+me (id 6), 4g.24gb (id 0)");
	expect_error("A30", "1g.5gb.me",
		     "this GPU has no MIG profile \"1g.5gb.me\"; did you mean \"1g.6gb+me\"? It has 1g.6gb (id 14), "
		     "1g.6gb+me (id 21), 2g.12gb (id 5), 2g.12gb+me (id 6), 4g.24gb (id 0)");
	expect_error("A30", "4x1g.6gb",
		     "\"4x1g.6gb\" is no MIG profile; did you mean \"1g.6gb\", 4 times with commas?");
	expect_error("A30", "2g.12gb:1", "2g.12gb can't begin at memory slice 1; it can at: 0, 2");
	expect_error("A30", "5:x", "\"x\" is no memory slice; write a number behind the colon, such as 5:4");
	expect_error("A30", "5:", "\"\" is no memory slice; write a number behind the colon, such as 5:4");
	expect_error("A30", "14,,14",
		     "an entry of the list of MIG profiles is empty; separate profiles with one comma, such as "
		     "1g.6gb,1g.6gb");
	expect_error("A30", "",
		     "an entry of the list of MIG profiles is empty; separate profiles with one comma, such as "
		     "1g.6gb,1g.6gb");
}

static void test_long_lists(void **state)
{
	(void)state;
	char text[4096];
	memset(text, 'x', sizeof text);
	text[sizeof text - 1] = 0;
	expect_error("A30", text, "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\" is too long for a MIG profile");
	for (size_t i = 0; i + 2 < sizeof text; i += 2)
		memcpy(text + i, "0,", 2);
	text[sizeof text - 2] = '0';
	expect_error("A30", text, "more than 16 GPU instances are wanted; no GPU can have that many");
}

static void test_drivers_that_make_no_sense(void **state)
{
	(void)state;
	const struct gs_mig_gpu good = mig_fixture("A100-80GB");
	struct gs_mig_gpu gpu = {0};
	struct gs_error err;

	assert_int_equal(gs_mig_gpu_complete(&gpu, &err), -1);
	assert_string_equal(err.text, "the driver lists 0 MIG profiles; 1 to 32 are possible");
	gpu = good;
	gpu.profiles[1].id = 19;
	assert_int_equal(gs_mig_gpu_complete(&gpu, &err), -1);
	assert_string_equal(err.text, "the driver lists two MIG profiles with id 19: 1g.10gb and 1g.10gb+me");
	gpu = good;
	gpu.profiles[6].placements[0].size = 13;
	assert_int_equal(gs_mig_gpu_complete(&gpu, &err), -1);
	assert_string_equal(err.text,
			    "the driver places MIG profile 7g.80gb at 0:13; at most 12 memory slices are possible");
	gpu = good;
	gpu.profiles[6].placements[0].size = 0;
	assert_int_equal(gs_mig_gpu_complete(&gpu, &err), -1);
	gpu = good;
	gpu.profiles[6].compute_slices = 70;
	assert_int_equal(gs_mig_gpu_complete(&gpu, &err), -1);
	gpu = good;
	memset(gpu.profiles[2].name, 'x', sizeof gpu.profiles[2].name);
	assert_int_equal(gs_mig_gpu_complete(&gpu, &err), -1);
	gpu = good;
	gpu.profiles[2].placement_count = 200;
	assert_int_equal(gs_mig_gpu_complete(&gpu, &err), -1);
}

/* An engine is divided only where profiles agree that it is. */
static void test_engines(void **state)
{
	(void)state;
	struct gs_mig_gpu gpu = mig_fixture("H100-80GB");
	assert_int_equal(gpu.engines[GS_MIG_DECODER], 7);
	assert_int_equal(gpu.engines[GS_MIG_OFA], 1);
	assert_int_equal(mig_fixture("A30").engines[GS_MIG_JPEG], 1);
	assert_int_equal(mig_fixture("RTX-PRO-6000").engines[GS_MIG_ENCODER], 4);
	/* 4g and 3g fit together, and would take more than the whole GPU has. */
	gpu.profiles[4].engines[GS_MIG_DECODER] = 4;
	assert_int_equal(gs_mig_gpu_complete(&gpu, NULL), 0);
	assert_int_equal(gpu.engines[GS_MIG_DECODER], 0);
	assert_int_equal(gpu.engines[GS_MIG_JPEG], 7);
}

/* NVML numbers kinds in the order in which drivers learned them. */
static void test_order_of_profiles(void **state)
{
	(void)state;
	struct gs_mig_gpu sorted = mig_fixture("A100-80GB"), gpu = sorted;
	static const uint8_t as_numbered[] = {0, 3, 4, 5, 6, 1, 2};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(as_numbered); i++)
		gpu.profiles[i] = sorted.profiles[as_numbered[i]];
	assert_int_equal(gs_mig_gpu_complete(&gpu, NULL), 0);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(as_numbered); i++)
		assert_string_equal(gpu.profiles[i].name, sorted.profiles[i].name);
}

static void test_facts(void **state)
{
	(void)state;
	struct gs_mig_gpu gpu = mig_fixture("A100-80GB");
	struct gs_mig_layout layout = {0};
	char name[GS_MIG_NAME_SIZE];

	assert_int_equal(gpu.slice_count, 8);
	assert_int_equal(gpu.engines[GS_MIG_DECODER], 5);
	assert_int_equal(gpu.engines[GS_MIG_OFA], 1);
	assert_int_equal(gpu.engines[GS_MIG_ENCODER], 0);
	assert_int_equal(mig_fixture("A30").slice_count, 4);
	assert_int_equal(mig_fixture("RTX-PRO-6000").slice_count, 12);
	assert_string_equal(gs_mig_compute_name(&gpu.profiles[4], 1, name), "1c.3g.40gb");
	assert_string_equal(gs_mig_compute_name(&gpu.profiles[4], 3, name), "3g.40gb");
	for (uint8_t i = 0; i < gpu.profile_count; i++)
		assert_int_equal(gs_mig_room(&gpu, &layout, i), gpu.profiles[i].max_count);
	layout.instances[layout.count++] = (struct gs_mig_instance){.profile = 1, .place = {1, 1}};
	static const uint8_t room[] = {6, 0, 3, 2, 1, 0, 0};
	for (uint8_t i = 0; i < gpu.profile_count; i++)
		assert_int_equal(gs_mig_room(&gpu, &layout, i), room[i]);
	assert_int_equal(gs_mig_layout_mask(&layout), 2);

	/* One that has all media engines leaves room only for those that have none. */
	struct gs_mig_gpu rtx = mig_fixture("RTX-PRO-6000");
	struct gs_mig_layout taken = {.count = 1};
	int all = gs_mig_profile_by_name(&rtx, "1g.24gb+me.all"), none = gs_mig_profile_by_name(&rtx, "1g.24gb-me");
	taken.instances[0] = (struct gs_mig_instance){.profile = (uint8_t)all, .place = {0, 3}};
	assert_int_equal(gs_mig_room(&rtx, &taken, (uint8_t)gs_mig_profile_by_name(&rtx, "1g.24gb")), 0);
	assert_int_equal(gs_mig_room(&rtx, &taken, (uint8_t)none), 3);
	assert_int_equal(gs_mig_open_places(&gpu, 0xff), 0);
	/* 7 x 1, 4 x 2, 3 x 2, 2 x 4, 4 and 8, and those that slice 1 closes */
	assert_int_equal(gs_mig_open_places(&gpu, 0), 7 + 8 + 6 + 8 + 4 + 8);
	assert_int_equal(gs_mig_open_places(&gpu, 2), 6 + 6 + 4 + 4);
}

/* The counts that nvidia-smi mig -lcip prints. */
static void test_places_of_compute_instances(void **state)
{
	(void)state;
	static const struct {
		uint32_t slices;
		uint8_t size, count;
	} cases[] = {{1, 1, 1}, {2, 1, 2}, {3, 1, 3}, {3, 2, 1}, {3, 3, 1}, {4, 1, 4}, {4, 2, 2},
		     {4, 4, 1}, {7, 1, 7}, {7, 2, 3}, {7, 3, 2}, {7, 4, 1}, {7, 7, 1}};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++) {
		uint8_t sizes[8], starts[8];
		memset(sizes, cases[i].size, sizeof sizes);
		assert_true(gs_mig_compute_arrange(cases[i].slices, 0, sizes, cases[i].count, starts));
		assert_false(gs_mig_compute_arrange(cases[i].slices, 0, sizes, cases[i].count + 1u, starts));
	}
	static const uint8_t absent[][2] = {{4, 3}, {7, 5}, {7, 6}, {7, 0}, {3, 4}};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(absent); i++) {
		uint8_t start;
		assert_false(gs_mig_compute_arrange(absent[i][0], 0, &absent[i][1], 1, &start));
	}
	/* The driver's first choice would leave no room: 3c must not begin at 0. */
	uint8_t sizes[] = {3, 2, 2}, starts[3];
	assert_true(gs_mig_compute_arrange(7, 0, sizes, 3, starts));
	assert_int_equal(starts[0], 4);
}

static void test_wish_of_a_layout(void **state)
{
	(void)state;
	struct gs_mig_gpu gpu = mig_fixture("A100-80GB");
	struct gs_mig_layout layout = {.count = 3};
	struct gs_mig_wish wish;

	layout.instances[0] =
		(struct gs_mig_instance){.profile = 4, .compute = {{.slices = 1}, {.slices = 2}}, .compute_count = 2};
	layout.instances[1] = (struct gs_mig_instance){.profile = GS_MIG_UNKNOWN};
	layout.instances[2] = (struct gs_mig_instance){.profile = 0};
	gs_mig_wish_from_layout(&gpu, &layout, &wish);
	assert_int_equal(wish.count, 2);
	GS_AUTO_FREE char *text = gs_mig_wish_text(&gpu, &wish);
	assert_string_equal(text, "1x 1g.10gb without compute instances, 1x 2c.3g.40gb, 1x 1c.3g.40gb");
	assert_true(gs_mig_wish_same(&wish, &wish));
	struct gs_mig_wish other = wish;
	other.items[0] = wish.items[1];
	other.items[1] = wish.items[0];
	assert_true(gs_mig_wish_same(&wish, &other));
	other.items[1].start = 4;
	assert_false(gs_mig_wish_same(&wish, &other));
	other.count = 1;
	assert_false(gs_mig_wish_same(&wish, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_compute_instances_share),
		cmocka_unit_test(test_folklore),
		cmocka_unit_test(test_errors_say_what_was_meant),
		cmocka_unit_test(test_long_lists),
		cmocka_unit_test(test_drivers_that_make_no_sense),
		cmocka_unit_test(test_engines),
		cmocka_unit_test(test_order_of_profiles),
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_places_of_compute_instances),
		cmocka_unit_test(test_wish_of_a_layout),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
