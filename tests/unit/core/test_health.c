#include "core/health/health.h"
#include "fixture.h"

#define SECONDS(n) ((n)*INT64_C(1000000000))

static struct gs_xid_filter everything;

static const struct gs_probe clean = {
	.result = GS_PROBE_OK, .recovery_known = true, .remap_known = true, .ecc_uncorrectable = 0, .energy_mj = 1000};
/* What a driver before R570 tells of a GPU without ECC. */
static const struct gs_probe clean_old = {
	.result = GS_PROBE_OK, .ecc_uncorrectable = UINT64_MAX, .energy_mj = UINT64_MAX};
static const struct gs_probe lost = {.result = GS_PROBE_LOST};
static const struct gs_probe failed = {.result = GS_PROBE_FAILED};

static int group_setup(void **state)
{
	return gs_xid_filter_parse(NULL, NULL, &everything, NULL);
}

static struct gs_health new_health(void)
{
	struct gs_health health;

	gs_health_init(&health, &gs_health_defaults, &everything, 0);
	return health;
}

/* Looks whenever one is due until the GPU is healthy or `until` is reached; returns the time of the last look. */
static int64_t look_until_healthy(struct gs_health *health, const struct gs_probe *probe, int64_t now, int64_t until)
{
	while (!gs_health_is_healthy(health)) {
		if (gs_health_next_look(health) > now)
			now = gs_health_next_look(health);
		if (now > until)
			return until;
		gs_health_probe(health, probe, now);
	}
	return now;
}

static void assert_reason(const struct gs_health *health, const char *part)
{
	if (!strstr(gs_health_reason(health), part))
		fail_msg("\"%s\" lacks \"%s\"", gs_health_reason(health), part);
}

static void test_new_gpu(void **state)
{
	struct gs_health health = new_health();

	assert_true(gs_health_is_healthy(&health));
	assert_string_equal(gs_health_reason(&health), "");
	assert_int_equal(gs_health_next_look(&health), 0);
	assert_false(gs_health_probe(&health, &clean, SECONDS(1)));
	assert_true(gs_health_is_healthy(&health));
	assert_int_equal(gs_health_next_look(&health), SECONDS(31));
}

static void test_application_xids_change_nothing(void **state)
{
	static const uint64_t numbers[] = {13, 31, 43, 45, 68, 109};
	struct gs_health health = new_health();

	for (size_t i = 0; i < GS_ARRAY_LENGTH(numbers); i++)
		assert_false(gs_health_xid(&health, numbers[i], SECONDS(1)));
	assert_true(gs_health_is_healthy(&health));
}

static void test_contained_xid_passes(void **state)
{
	struct gs_health health = new_health();

	assert_true(gs_health_xid(&health, 94, SECONDS(5)));
	assert_false(gs_health_is_healthy(&health));
	assert_string_equal(gs_health_reason(&health), "XID 94: memory error that stayed within one program");
	assert_int_equal(gs_health_next_look(&health), SECONDS(5));
	assert_false(gs_health_probe(&health, &clean_old, SECONDS(5)));
	assert_reason(&health, "clean now, must stay so for 10 s");
	assert_int_equal(look_until_healthy(&health, &clean_old, SECONDS(5), SECONDS(100)), SECONDS(15));
	assert_string_equal(gs_health_reason(&health),
			    "recovered from: XID 94: memory error that stayed within one program");
}

static void test_more_trouble_starts_the_wait_again(void **state)
{
	struct gs_health health = new_health();

	gs_health_xid(&health, 94, SECONDS(5));
	gs_health_probe(&health, &clean, SECONDS(5));
	assert_false(gs_health_xid(&health, 94, SECONDS(14))); /* nothing to publish: it is unhealthy already */
	assert_int_equal(look_until_healthy(&health, &clean, SECONDS(14), SECONDS(100)), SECONDS(24));
}

static void test_reset_is_proven_by_the_recovery_action(void **state)
{
	struct gs_health health = new_health();
	struct gs_probe reset_wanted = clean;

	reset_wanted.recovery_action = 1;
	gs_health_xid(&health, 48, SECONDS(1));
	assert_int_equal(look_until_healthy(&health, &reset_wanted, SECONDS(1), SECONDS(3600)), SECONDS(3600));
	assert_reason(&health, "XID 48: double-bit ECC error, the driver asks for a recovery action: reset the GPU");
	assert_reason(&health, "waits until the driver asks for no recovery action");
	int64_t since = gs_health_next_look(&health);
	assert_int_equal(look_until_healthy(&health, &clean, SECONDS(3600), SECONDS(7200)), since + SECONDS(10));
}

static void test_a_hang_ends_with_an_answer(void **state)
{
	struct gs_health health = new_health();
	struct gs_xid_filter nothing;

	assert_true(gs_health_hangs(&health, SECONDS(5)));
	assert_false(gs_health_hangs(&health, SECONDS(6)));
	assert_string_equal(gs_health_reason(&health), "the driver hangs on it; waits until it answers");
	assert_false(gs_health_probe(&health, &clean, SECONDS(20)));
	assert_int_equal(look_until_healthy(&health, &clean, SECONDS(20), SECONDS(100)), SECONDS(30));
	assert_true(gs_health_is_healthy(&health));

	assert_int_equal(gs_xid_filter_parse("all", NULL, &nothing, NULL), 0);
	gs_health_init(&health, &gs_health_defaults, &nothing, 0);
	assert_false(gs_health_hangs(&health, SECONDS(5)));
	assert_true(gs_health_is_healthy(&health));
}

static void test_recovery_action_alone_is_a_fault(void **state)
{
	struct gs_health health = new_health();
	struct gs_probe drain = clean;

	drain.recovery_action = 4;
	assert_true(gs_health_probe(&health, &drain, SECONDS(1)));
	assert_reason(&health, "drain and reset");
	/* a look that cannot tell proves nothing */
	assert_int_equal(look_until_healthy(&health, &clean_old, SECONDS(2), SECONDS(3600)), SECONDS(3600));
	look_until_healthy(&health, &clean, SECONDS(3600), SECONDS(3700));
	assert_true(gs_health_is_healthy(&health));
}

static void test_without_recovery_action_a_reset_must_be_seen(void **state)
{
	struct gs_health health = new_health();

	gs_health_xid(&health, 62, SECONDS(1));
	assert_int_equal(look_until_healthy(&health, &clean_old, SECONDS(1), SECONDS(86400)), SECONDS(86400));
	assert_reason(&health, "waits for a reset");
	gs_health_probe(&health, &lost, SECONDS(86401));
	look_until_healthy(&health, &clean_old, SECONDS(86402), SECONDS(86500));
	assert_true(gs_health_is_healthy(&health));
}

static void test_a_loss_before_the_fault_proves_nothing(void **state)
{
	struct gs_health health = new_health();

	gs_health_probe(&health, &lost, SECONDS(1));
	look_until_healthy(&health, &clean_old, SECONDS(1), SECONDS(100));
	assert_true(gs_health_is_healthy(&health));
	gs_health_xid(&health, 62, SECONDS(100));
	look_until_healthy(&health, &clean_old, SECONDS(100), SECONDS(86400));
	assert_false(gs_health_is_healthy(&health));
}

static void test_counters_that_start_again_prove_a_reset(void **state)
{
	struct gs_health health = new_health();
	struct gs_probe probe = clean_old;

	probe.energy_mj = 5000;
	gs_health_probe(&health, &probe, SECONDS(1));
	/* the driver was reloaded, and then it happened: that restart is older than the fault */
	gs_health_ecc_double(&health, SECONDS(10));
	probe.energy_mj = 100;
	assert_int_equal(look_until_healthy(&health, &probe, SECONDS(10), SECONDS(3600)), SECONDS(3600));
	probe.energy_mj = 20;
	look_until_healthy(&health, &probe, SECONDS(3600), SECONDS(3700));
	assert_true(gs_health_is_healthy(&health));
}

static void test_pending_remap_holds_back_where_no_action_is_told(void **state)
{
	struct gs_health health = new_health();
	struct gs_probe probe = clean_old;

	gs_health_ecc_double(&health, SECONDS(1));
	gs_health_probe(&health, &lost, SECONDS(1));
	probe.remap_known = probe.remap_pending = true;
	assert_int_equal(look_until_healthy(&health, &probe, SECONDS(2), SECONDS(3600)), SECONDS(3600));
	probe.remap_pending = false;
	look_until_healthy(&health, &probe, SECONDS(3600), SECONDS(3700));
	assert_true(gs_health_is_healthy(&health));
}

static void test_remap_failure_stays(void **state)
{
	struct gs_health health = new_health();
	struct gs_probe probe = clean;

	probe.remap_failed = true;
	assert_true(gs_health_probe(&health, &probe, SECONDS(1)));
	assert_reason(&health, "should be replaced");
	look_until_healthy(&health, &probe, SECONDS(1), SECONDS(3600));
	assert_false(gs_health_is_healthy(&health));
	/* a look that cannot tell proves nothing */
	look_until_healthy(&health, &clean_old, SECONDS(3600), SECONDS(7200));
	assert_false(gs_health_is_healthy(&health));
}

static void test_fallen_off_the_bus(void **state)
{
	struct gs_health health = new_health();

	assert_true(gs_health_xid(&health, 79, SECONDS(1)));
	look_until_healthy(&health, &lost, SECONDS(1), SECONDS(60));
	assert_reason(&health, "waits until it answers");
	int64_t back = gs_health_next_look(&health);
	assert_int_equal(look_until_healthy(&health, &clean_old, SECONDS(60), SECONDS(100)), back + SECONDS(10));
}

static void test_growing_ecc_counter_is_a_fault(void **state)
{
	struct gs_health health = new_health();
	struct gs_probe probe = clean;

	probe.ecc_uncorrectable = 7; /* old ones are no news */
	assert_false(gs_health_probe(&health, &probe, SECONDS(1)));
	probe.ecc_uncorrectable = 8;
	assert_true(gs_health_probe(&health, &probe, SECONDS(2)));
	assert_reason(&health, "uncorrectable ECC errors were counted");
	assert_int_equal(look_until_healthy(&health, &probe, SECONDS(3), SECONDS(100)), SECONDS(13));
}

static void test_failed_looks(void **state)
{
	struct gs_health health = new_health();

	assert_false(gs_health_probe(&health, &failed, SECONDS(1)));
	assert_false(gs_health_probe(&health, &failed, SECONDS(2)));
	assert_true(gs_health_is_healthy(&health));
	assert_int_equal(gs_health_next_look(&health), SECONDS(3));
	assert_false(gs_health_probe(&health, &clean, SECONDS(3))); /* the row is broken */
	assert_false(gs_health_probe(&health, &failed, SECONDS(4)));
	assert_false(gs_health_probe(&health, &failed, SECONDS(5)));
	assert_true(gs_health_probe(&health, &failed, SECONDS(6)));
	assert_reason(&health, "NVML cannot read it");
	gs_health_probe(&health, &clean, SECONDS(7));
	gs_health_probe(&health, &failed, SECONDS(8)); /* a gap in the proof */
	assert_int_equal(look_until_healthy(&health, &clean, SECONDS(8), SECONDS(100)), SECONDS(19));
}

static void test_relapses_wait_longer(void **state)
{
	struct gs_health health = new_health();
	int64_t now = SECONDS(1);
	static const int64_t waits[] = {10, 20, 40, 80, 160, 320, 600, 600};

	for (size_t i = 0; i < GS_ARRAY_LENGTH(waits); i++) {
		gs_health_xid(&health, 94, now);
		int64_t healthy = look_until_healthy(&health, &clean, now, now + SECONDS(3600));
		assert_int_equal(healthy - now, SECONDS(waits[i]));
		now = healthy + SECONDS(599);
	}
	now += SECONDS(1); /* ten minutes of health count as cured */
	gs_health_xid(&health, 94, now);
	assert_int_equal(look_until_healthy(&health, &clean, now, now + SECONDS(3600)) - now, SECONDS(10));
}

static void test_filter(void **state)
{
	struct gs_xid_filter filter;
	struct gs_health health;

	gs_xid_filter_parse("all", "79", &filter, NULL);
	gs_health_init(&health, &gs_health_defaults, &filter, 0);
	assert_int_equal(gs_health_next_look(&health), INT64_MAX);
	assert_false(gs_health_xid(&health, 48, 1));
	assert_false(gs_health_ecc_double(&health, 1));
	for (int64_t i = 0; i < 5; i++)
		assert_false(gs_health_probe(&health, i % 2 ? &lost : &failed, i));
	assert_int_equal(gs_health_next_look(&health), INT64_MAX);
	assert_true(gs_health_xid(&health, 79, SECONDS(10)));
	look_until_healthy(&health, &lost, SECONDS(10), SECONDS(20));
	look_until_healthy(&health, &clean_old, SECONDS(20), SECONDS(100));
	assert_true(gs_health_is_healthy(&health)); /* what is watched recovers by proof as ever */
	assert_int_equal(gs_health_next_look(&health), INT64_MAX);
}

static void test_long_stories_stay_in_bounds(void **state)
{
	struct gs_health health = new_health();
	struct gs_probe probe = clean;

	probe.recovery_action = 77;
	probe.remap_failed = true;
	gs_health_probe(&health, &lost, 1);
	gs_health_xid(&health, 95, 2);
	gs_health_xid(&health, 137, 3);
	for (int64_t i = 0; i < 20; i++) {
		gs_health_probe(&health, i % 5 ? &failed : &probe, i + 4);
		assert_true(strlen(gs_health_reason(&health)) < GS_HEALTH_REASON_SIZE);
	}
	assert_reason(&health, "the GPU is lost, XID 95");
}

/* ---- Laws, on a model GPU whose truth is known ---- */

struct model {
	bool tells_recovery; /* R570 or later */
	bool gone, must_reset, remap_failed;
	uint64_t ecc, energy;
};

static struct gs_probe look_at(const struct model *model)
{
	struct gs_probe probe = {.result = model->gone ? GS_PROBE_LOST : GS_PROBE_OK,
				 .recovery_known = model->tells_recovery,
				 .recovery_action = model->must_reset && model->tells_recovery,
				 .remap_known = true,
				 .remap_failed = model->remap_failed,
				 .ecc_uncorrectable = model->ecc,
				 .energy_mj = model->energy};

	return probe;
}

/* Something bad happens, and an event or a look tells. */
static void harm(struct model *model, struct gs_health *health, uint64_t *seed, int64_t now)
{
	static const uint64_t contained[] = {94, 63, 32, 154}, severe[] = {48, 62, 95, 119, 143, 777};

	switch (fixture_random(seed) % 5) {
	case 0:
		gs_health_xid(health, contained[fixture_random(seed) % GS_ARRAY_LENGTH(contained)], now);
		break;
	case 1:
		model->must_reset = true;
		gs_health_xid(health, severe[fixture_random(seed) % GS_ARRAY_LENGTH(severe)], now);
		break;
	case 2:
		model->must_reset = true;
		model->ecc++;
		gs_health_ecc_double(health, now);
		break;
	case 3:
		model->gone = model->must_reset = true;
		gs_health_xid(health, 79, now);
		break;
	case 4:
		model->remap_failed = true;
		struct gs_probe probe = look_at(model);
		gs_health_probe(health, &probe, now);
		break;
	}
}

/* Someone resets the GPU, which takes a moment in which looks find it lost, and swaps the board if need be. */
static void cure(struct model *model, struct gs_health *health, int64_t now)
{
	struct gs_probe probe;

	model->gone = true;
	probe = look_at(model);
	gs_health_probe(health, &probe, now);
	*model = (struct model){.tells_recovery = model->tells_recovery};
}

static void live(uint64_t seed, bool tells_recovery)
{
	struct gs_health health = new_health();
	struct model model = {.tells_recovery = tells_recovery};
	int64_t now = 0, last_harm = -SECONDS(1000000);

	for (unsigned step = 0; step < 400; step++) {
		uint32_t dice = fixture_random(&seed) % 100;
		now += SECONDS(fixture_random(&seed) % 4);
		model.energy += 10;
		if (dice < 4) {
			harm(&model, &health, &seed, now);
			last_harm = now;
		} else if (dice < 7) {
			cure(&model, &health, now);
		} else {
			struct gs_probe probe = look_at(&model);
			gs_health_probe(&health, dice < 12 ? &failed : &probe, now);
		}
		bool standing = model.gone || model.must_reset || model.remap_failed;
		if (gs_health_is_healthy(&health)) {
			assert_false(standing);
			assert_true(now - last_harm >= gs_health_defaults.wait_ns);
		} else {
			assert_true(gs_health_next_look(&health) <= now + gs_health_defaults.look_sick_ns);
			assert_true(gs_health_reason(&health)[0]);
		}
	}
	cure(&model, &health, now);
	struct gs_probe probe = look_at(&model);
	int64_t healthy = look_until_healthy(&health, &probe, now, now + SECONDS(100000));
	assert_true(gs_health_is_healthy(&health));
	assert_true(healthy - now <= gs_health_defaults.wait_max_ns + 2 * gs_health_defaults.look_sick_ns);
}

static void test_laws_hold_in_random_lives(void **state)
{
	for (uint64_t seed = 1; seed <= 300; seed++)
		live(seed, seed % 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_gpu),
		cmocka_unit_test(test_application_xids_change_nothing),
		cmocka_unit_test(test_contained_xid_passes),
		cmocka_unit_test(test_more_trouble_starts_the_wait_again),
		cmocka_unit_test(test_reset_is_proven_by_the_recovery_action),
		cmocka_unit_test(test_recovery_action_alone_is_a_fault),
		cmocka_unit_test(test_a_hang_ends_with_an_answer),
		cmocka_unit_test(test_without_recovery_action_a_reset_must_be_seen),
		cmocka_unit_test(test_a_loss_before_the_fault_proves_nothing),
		cmocka_unit_test(test_counters_that_start_again_prove_a_reset),
		cmocka_unit_test(test_pending_remap_holds_back_where_no_action_is_told),
		cmocka_unit_test(test_remap_failure_stays),
		cmocka_unit_test(test_fallen_off_the_bus),
		cmocka_unit_test(test_growing_ecc_counter_is_a_fault),
		cmocka_unit_test(test_failed_looks),
		cmocka_unit_test(test_relapses_wait_longer),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_long_stories_stay_in_bounds),
		cmocka_unit_test(test_laws_hold_in_random_lives),
	};
	return cmocka_run_group_tests(tests, group_setup, NULL);
}
