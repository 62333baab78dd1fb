#include "core/health/xid.h"
#include "fixture.h"

static void test_table_is_found_and_worded(void **state)
{
	size_t count = 0;
	for (uint64_t number = 0; number < 2 * GS_XIDS_MAX; number++) {
		const struct gs_xid *xid = gs_xid_find(number);
		if (!xid)
			continue;
		count++;
		assert_int_equal(xid->number, number);
		assert_true(number > 0 && number < GS_XIDS_MAX);
		assert_true(strlen(xid->text) > 4 && strlen(xid->text) < 70);
	}
	assert_true(count > 50);
	assert_null(gs_xid_find(UINT64_MAX));
}

static void test_classes(void **state)
{
	static const uint64_t application[] = {13, 31, 43, 45, 68, 109};
	size_t applications = 0;
	for (uint64_t number = 0; number < GS_XIDS_MAX; number++)
		applications += gs_xid_find(number) && gs_xid_class(number) == GS_XID_APPLICATION;
	assert_int_equal(applications, GS_ARRAY_LENGTH(application));
	for (size_t i = 0; i < GS_ARRAY_LENGTH(application); i++)
		assert_int_equal(gs_xid_class(application[i]), GS_XID_APPLICATION);
	assert_int_equal(gs_xid_class(48), GS_XID_NEEDS_RESET);
	assert_int_equal(gs_xid_class(79), GS_XID_LOST);
	assert_int_equal(gs_xid_class(94), GS_XID_CONTAINED);
	assert_int_equal(gs_xid_class(95), GS_XID_NEEDS_RESET);
	assert_int_equal(gs_xid_class(999), GS_XID_NEEDS_RESET);
	assert_string_equal(gs_xid_text(999), "unknown error");
}

/* The numbers below 200 that are watched, as text, and "+" for those beyond the table, "o" for other checks. */
static void assert_filter(const char *disable, const char *enable, const char *watched_not)
{
	struct gs_xid_filter filter;
	struct gs_error err = {0};
	char text[1024] = "";

	if (gs_xid_filter_parse(disable, enable, &filter, &err))
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < 200; i++)
		if (!gs_xid_filter_watches(&filter, i))
			snprintf(text + strlen(text), sizeof text - strlen(text), "%u ", i);
	if (!gs_xid_filter_watches(&filter, 5000))
		strcat(text, "beyond ");
	if (!filter.other_checks)
		strcat(text, "other ");
	assert_string_equal(text, watched_not);
}

static void test_defaults(void **state)
{
	assert_filter(NULL, NULL, "13 31 43 45 68 109 ");
	assert_filter("", "", "13 31 43 45 68 109 ");
	assert_filter(" , ,", NULL, "13 31 43 45 68 109 ");
}

static void test_disable_adds_and_enable_wins(void **state)
{
	assert_filter("79, 48", NULL, "13 31 43 45 48 68 79 109 ");
	assert_filter("79,48", "48,13", "31 43 45 68 79 109 ");
	assert_filter(NULL, "13,31,43,45,68,109", "");
	assert_filter("79", "ALL", "");
	assert_filter("79", "xids", "");
}

static void assert_only(const char *disable, const char *enable, uint64_t only, bool other_checks)
{
	struct gs_xid_filter filter;

	assert_int_equal(gs_xid_filter_parse(disable, enable, &filter, NULL), 0);
	for (uint64_t i = 0; i < 2 * GS_XIDS_MAX; i++)
		assert_int_equal(gs_xid_filter_watches(&filter, i), i == only);
	assert_int_equal(filter.other_checks, other_checks);
	assert_int_equal(gs_xid_filter_any(&filter), only < GS_XIDS_MAX || other_checks);
}

static void test_disable_all(void **state)
{
	assert_only("all", NULL, UINT64_MAX, false);
	assert_only("All", "79", 79, false); /* the documented meaning */
	assert_only("xids", NULL, UINT64_MAX, true);
	assert_only(" XIDS ", "1023", 1023, true);
	assert_filter("all", "all", "");
}

static void test_bad_items_are_named_and_the_rest_holds(void **state)
{
	static const char *const bad[] = {"x79", "-1", "1024", "99999999999999999999", "7 9,7.5", "0x4f"};
	struct gs_xid_filter filter;

	for (size_t i = 0; i < GS_ARRAY_LENGTH(bad); i++) {
		struct gs_error err = {0};
		GS_AUTO_FREE char *value = gs_printf("48,%s,62", bad[i]);
		assert_int_equal(gs_xid_filter_parse(value, NULL, &filter, &err), -1);
		assert_int_equal(err.source, GS_ERROR_INPUT);
		assert_non_null(strstr(err.text, "DP_DISABLE_HEALTHCHECKS: \""));
		assert_false(gs_xid_filter_watches(&filter, 48));
		assert_false(gs_xid_filter_watches(&filter, 62));
		assert_true(gs_xid_filter_watches(&filter, 79));
	}
	struct gs_error err = {0};
	assert_int_equal(gs_xid_filter_parse("48", "what,13", &filter, &err), -1);
	assert_non_null(strstr(err.text, "DP_ENABLE_HEALTHCHECKS: \"what\" is no XID"));
	assert_true(gs_xid_filter_watches(&filter, 13));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_is_found_and_worded),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_disable_adds_and_enable_wins),
		cmocka_unit_test(test_disable_all),
		cmocka_unit_test(test_bad_items_are_named_and_the_rest_holds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
