#include "helpers.h"

#include <string.h>

#include "sim/models.h"

static void every_promised_model_is_there(void **state)
{
	static const char *const names[] = {"A100-40GB", "A100-80GB", "A30", "H100-80GB", "H200-141GB",  "B200-180GB",
					    "L4",        "L40S",      "T4",  "V100-32GB", "RTX-PRO-6000"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		assert_non_null(sim_model_by_name(names[i]));
	assert_int_equal(sim_model_count, sizeof names / sizeof names[0]);
}

static void facts_hang_together(void **state)
{
	for (size_t i = 0; i < sim_model_count; i++) {
		const struct sim_model *model = &sim_models[i];
		assert_int_equal(model->pci_device_id & 0xFFFF, 0x10DE);
		assert_int_equal(model->pci_subsystem_id & 0xFFFF, 0x10DE);
		assert_true(model->memory_reserved < model->memory_total / 10);
		assert_true(model->power_min_mw <= model->power_limit_mw &&
			    model->power_limit_mw <= model->power_max_mw);
		assert_true(model->power_idle_mw < model->power_limit_mw);
		assert_true(model->clock_sm_idle < model->clock_sm_max &&
			    model->clock_memory_idle <= model->clock_memory_max);
		assert_true(model->temperature_idle < model->temperature_load &&
			    model->temperature_load < model->temperature_slowdown &&
			    model->temperature_slowdown < model->temperature_shutdown);
		assert_true(model->cores % model->multiprocessors == 0);
		assert_true((model->nvlinks == 0) == (model->nvlink_generation == 0));
		assert_true(strlen(model->part_number) == 18 && strlen(model->vbios) == 14);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(model->pci_device_id, sim_models[j].pci_device_id);
	}
}

static void totals_are_those_of_real_boards(void **state)
{
	assert_int_equal(sim_model_by_name("A100-80GB")->memory_total, 81920ull << 20);
	assert_int_equal(sim_model_by_name("H100-80GB")->memory_total, 81559ull << 20);
	assert_int_equal(sim_model_by_name("T4")->memory_total, 15360ull << 20);
}

static void names_ignore_case_and_are_suggested(void **state)
{
	assert_ptr_equal(sim_model_by_name("a100-80gb"), sim_model_by_name("A100-80GB"));
	assert_null(sim_model_by_name("A100"));
	assert_string_equal(sim_model_suggest("A100-8OGB"), "A100-80GB");
	assert_null(sim_model_suggest("toaster"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_promised_model_is_there),
		cmocka_unit_test(facts_hang_together),
		cmocka_unit_test(totals_are_those_of_real_boards),
		cmocka_unit_test(names_ignore_case_and_are_suggested),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
