#include "node.h"

#include "sim/cuda/internal.h"

static const struct simcu_candidate gpus[] = {
	{.uuid = "GPU-aaaa1111-0000-0000-0000-000000000000", .speed = 10},
	{.uuid = "GPU-aaaa2222-0000-0000-0000-000000000000", .speed = 30},
	{.uuid = "GPU-bbbb3333-0000-0000-0000-000000000000", .speed = 20},
};

/* Positions as digits: "201". */
static void check(const char *visible, bool by_bus, const char *expected)
{
	unsigned order[SIM_GPUS_MAX];
	char got[SIM_GPUS_MAX + 1] = "";
	int instance;
	size_t count = simcu_visible_devices(visible, by_bus, gpus, 3, order, &instance);
	assert_int_equal(instance, -1);
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

/* GPU 0 is whole, 1 has two instances, 2 is in MIG mode and has none. "" for nothing, "G1" for a GPU, "1/0" for GPU 1's
 * first instance. */
static void check_mig(const char *visible, const char *expected)
{
	static const struct simcu_instance instances[] = {
		{"MIG-11111111-0000-5000-8000-000000000000", "MIG-GPU-aaaa2222-0000-0000-0000-000000000000/1/0"},
		{"MIG-22222222-0000-5000-8000-000000000000", "MIG-GPU-aaaa2222-0000-0000-0000-000000000000/2/0"},
	};
	const struct simcu_candidate boards[] = {
		{.uuid = gpus[0].uuid, .speed = 10},
		{gpus[1].uuid, 10, true, instances, 2},
		{gpus[2].uuid, 10, true, NULL, 0},
	};
	unsigned order[SIM_GPUS_MAX];
	char got[32] = "";
	int instance;
	size_t count = simcu_visible_devices(visible, true, boards, 3, order, &instance);
	if (count)
		snprintf(got, sizeof got, instance < 0 ? "G%u" : "%u/%d", order[0], instance);
	assert_true(count <= 1);
	assert_string_equal(got, expected);
}

static void a_program_sees_one_instance(void **state)
{
	check_mig(NULL, "1/0");
	check_mig("MIG-22222222-0000-5000-8000-000000000000", "1/1");
	check_mig("mig-22222222-0000-5000-8000-000000000000", "");
	check_mig("MIG-11111111-0000-5000-8000-000000000000,MIG-22222222-0000-5000-8000-000000000000", "1/0");
	check_mig("MIG-GPU-aaaa2222-0000-0000-0000-000000000000/2/0", "1/1");
	check_mig("MIG-GPU-aaaa2222-0000-0000-0000-000000000000/3/0", "");
	check_mig("MIG-2222", ""); /* of an instance no part will do */
	check_mig("0", "G0");
	check_mig("0,MIG-11111111-0000-5000-8000-000000000000", "1/0");
	check_mig("0,1", "1/0");
	check_mig("1", "1/0");
	check_mig("GPU-aaaa2", "1/0");
	check_mig("2", ""); /* partitioned, and nothing made of it */
	check_mig("2,0", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unset_shows_all),          cmocka_unit_test(empty_shows_none),
		cmocka_unit_test(indices_choose_and_order), cmocka_unit_test(the_first_wrong_entry_ends_the_list),
		cmocka_unit_test(uuids_and_their_prefixes), cmocka_unit_test(a_program_sees_one_instance),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
