#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/backoff.h"

static void doubles_up_to_the_most(void **state)
{
	static const unsigned expected[] = {100, 200, 400, 800, 1000, 1000};
	for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++)
		assert_int_equal(gs_backoff_ms(100, 1000, i), expected[i]);
}

static void never_passes_the_most(void **state)
{
	assert_int_equal(gs_backoff_ms(100, 1000, UINT32_MAX), 1000);
	assert_int_equal(gs_backoff_ms(1, UINT32_MAX, UINT32_MAX), UINT32_MAX);
	assert_int_equal(gs_backoff_ms(3, UINT32_MAX, 31), UINT32_MAX);
	assert_int_equal(gs_backoff_ms(5000, 1000, 0), 1000);
}

static void no_pause_stays_none(void **state)
{
	assert_int_equal(gs_backoff_ms(0, 1000, UINT32_MAX), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(doubles_up_to_the_most),
		cmocka_unit_test(never_passes_the_most),
		cmocka_unit_test(no_pause_stays_none),
	};
	return cmocka_run_group_tests_name("base-backoff", tests, NULL, NULL);
}
