/* Sizes and durations: known values, refusals, and that formatting and parsing are inverse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/quantity.h"

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} cases[] = {
		{"0", 0},
		{"8Gi", 8589934592},
		{"1k", 1000},
		{"1Ki", 1024},
		{"500M", 500000000},
		{"+5", 5},
		{"1e9", 1000000000},
		{"1E3", 1000},
		{"1E", 1000000000000000000},
		{"1.5k", 1500},
		{".5Ki", 512},
		{"5.", 5},
		{"0.1", 1},
		{"1e-3", 1},
		{"1.0000000001", 2},
		{"0.5Gi", 536870912},
		{"9223372036854775807", INT64_MAX},
		{"1.000000000000000000000001Ei", (1ll << 60) + 1},
		{"0.000000000000000000000000000000000000001Ei", 1},
		{"00000000000000000000000000000000000000007", 7},
		{"0e999", 0},
		{"123e-999", 1},
		{"1.5e1", 15},
		{"1e+2", 100},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++) {
		int64_t bytes = -1;
		struct gs_error err;
		if (gs_parse_quantity(cases[i].text, &bytes, &err) || bytes != cases[i].bytes)
			fail_msg("%s gives %lld", cases[i].text, (long long)bytes);
	}
}

static void test_not_sizes(void **state)
{
	static const char *const texts[] = {"",
					    ".",
					    "-1",
					    "8 Gi",
					    " 8",
					    "8gi",
					    "8GiB",
					    "8K",
					    "NaN",
					    "inf",
					    "0x10",
					    "1e",
					    "1e1000",
					    "1e9999999999",
					    "8Ei",
					    "7.9999999999999999999Ei",
					    "9223372036854775808",
					    "1e19",
					    "1..2",
					    "1.2.3",
					    "--1",
					    "1m",
					    "1_000"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(texts); i++) {
		int64_t bytes = -7;
		struct gs_error err = {0};
		if (gs_parse_quantity(texts[i], &bytes, &err) == 0)
			fail_msg("\"%s\" was accepted", texts[i]);
		assert_int_equal(bytes, -7);
		assert_int_equal(err.source, GS_ERROR_INPUT);
		assert_true(err.text[0]);
	}
}

static void assert_inverse(int64_t bytes)
{
	char text[24];
	int64_t again = -1;
	gs_format_quantity(bytes, text, sizeof text);
	assert_int_equal(gs_parse_quantity(text, &again, NULL), 0);
	assert_true(again == bytes);
}

static void test_format_and_parse_are_inverse(void **state)
{
	char text[24];
	gs_format_quantity(8589934592, text, sizeof text);
	assert_string_equal(text, "8Gi");
	gs_format_quantity(1000, text, sizeof text);
	assert_string_equal(text, "1000");
	gs_format_quantity(0, text, sizeof text);
	assert_string_equal(text, "0");
	assert_inverse(0);
	assert_inverse(INT64_MAX);
	uint64_t random = 88172645463325252ull; /* xorshift64: the same numbers in each run */
	for (int i = 0; i < 20000; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		int64_t value = (int64_t)(random >> 1 >> (random % 60));
		assert_inverse(value);
		assert_inverse(value & ~((1ll << (random % 62)) - 1));
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int64_t nanoseconds;
	} cases[] = {
		{"0", 0},
		{"60s", 60000000000},
		{"1h30m", 5400000000000},
		{"250ms", 250000000},
		{"1.5s", 1500000000},
		{"7ns", 7},
		{"3us", 3000},
		{"3\xc2\xb5s", 3000},
		{"3\xce\xbcs", 3000},
		{"0.5ns", 0},
		{"1.23456789019s", 1234567890},
		{"2562047h47m16.854775807s", INT64_MAX},
		{".5m", 30000000000},
		{"1h0m0.5s", 3600500000000},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++) {
		int64_t value = -1;
		if (gs_parse_duration(cases[i].text, &value, NULL) || value != cases[i].nanoseconds)
			fail_msg("%s gives %lld", cases[i].text, (long long)value);
	}
	static const char *const bad[] = {"",
					  "60",
					  "s",
					  ".s",
					  "1x",
					  "1s ",
					  " 1s",
					  "-1s",
					  "1h30",
					  "2562047h47m16.854775808s",
					  "9999999999h",
					  "99999999999999999999999999999999999999999999h"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(bad); i++) {
		int64_t value = -7;
		struct gs_error err = {0};
		if (gs_parse_duration(bad[i], &value, &err) == 0)
			fail_msg("\"%s\" was accepted", bad[i]);
		assert_int_equal(value, -7);
		assert_true(err.text[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_not_sizes),
		cmocka_unit_test(test_format_and_parse_are_inverse),
		cmocka_unit_test(test_durations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
