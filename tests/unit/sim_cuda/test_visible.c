#include "node.h"

#include "sim/cuda/internal.h"

static const struct simcu_candidate gpus[] = {
	{"GPU-aaaa1111-0000-0000-0000-000000000000", 10},
	{"GPU-aaaa2222-0000-0000-0000-000000000000", 30},
	{"GPU-bbbb3333-0000-0000-0000-000000000000", 20},
};

/* Positions as digits: "201". */
static void check(const char *visible, bool by_bus, const char *expected)
{
	unsigned order[SIM_GPUS_MAX];
	char got[SIM_GPUS_MAX + 1] = "";
	size_t count = simcu_visible_devices(visible, by_bus, gpus, 3, order);
	for (size_t i = 0; i < count; i++)
		got[i] = (char)('0' + order[i]);
	assert_string_equal(got, expected);
}

static void unset_shows_all(void **state)
{
	check(NULL, true, "012");
	check(NULL, false, "102"); /* the fastest first */
}

static void empty_shows_none(void **state)
{
	check("", true, "");
	check("NoDevFiles", true, "");
	check("-1", true, "");
}

static void indices_choose_and_order(void **state)
{
	check("2,0", true, "20");
	check(" 1 , 2", true, "12");
	check("0", false, "1");
}

static void the_first_wrong_entry_ends_the_list(void **state)
{
	check("0,9,1", true, "0");
	check("1,-1,0", true, "1");
	check("2,2,0", true, "2");
	check("0x1", true, "");
	check("99999999999999999999", true, "");
	check("1,,0", true, "1");
}

static void uuids_and_their_prefixes(void **state)
{
	check("GPU-bbbb3333-0000-0000-0000-000000000000", true, "2");
	check("GPU-aaaa2,GPU-b", true, "12");
	check("GPU-AAAA1", true, "0");
	check("GPU-aaaa,0", true, ""); /* two start so */
	check("aaaa1", true, "");
	check("MIG-aaaa1", true, "");
	check("GPU-cccc", true, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unset_shows_all),          cmocka_unit_test(empty_shows_none),
		cmocka_unit_test(indices_choose_and_order), cmocka_unit_test(the_first_wrong_entry_ends_the_list),
		cmocka_unit_test(uuids_and_their_prefixes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
