/* GPUs on which the driver hangs: they are found, and nobody waits for them but the threads that are left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>
#include <time.h>

#include "fake_nvml.h"
#include "gpu/hangs.h"
#include "gpu/inventory_read.h"

enum { PATIENCE_MS = 100 };

static struct gs_nvml nvml;
static struct gs_inventory known;

static void begin(uint32_t count)
{
	fake_reset(count);
	fake_table(&nvml);
	gs_hangs_guard(&nvml);
}

static void look(void)
{
	gs_hangs_look(&nvml, &known, fake.count, PATIENCE_MS);
}

/* Looks until just these hang: on a busy machine a thread takes its time to begin, and to come back. */
static void look_until(uint64_t indexes)
{
	do
		look();
	while (gs_hangs_indexes() != indexes);
}

/* Reads the inventory as the daemon does. */
static void read_inventory(void)
{
	const struct gs_inventory_places places = {.sysfs = "/nonexistent", .driver_roots = {NULL}};
	struct gs_inventory now = {0};
	struct gs_problems problems = {0};
	struct gs_error err;
	assert_int_equal(gs_inventory_read(&nvml, &places, &known, &now, &problems, &err), 0);
	gs_problems_free(&problems);
	gs_inventory_free(&known);
	known = now;
}

static int end(void **state)
{
	for (int i = 0; i < FAKE_GPUS_MAX; i++)
		fake.gpus[i].hangs = false;
	while (gs_hangs_any())
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	gs_inventory_free(&known);
	look_until(0); /* nothing is barred for the next test */
	return 0;
}

static void take_out(uint32_t index)
{
	pthread_mutex_lock(&fake.lock);
	memmove(&fake.order[index], &fake.order[index + 1], (fake.count - index - 1) * sizeof fake.order[0]);
	fake.count--;
	pthread_mutex_unlock(&fake.lock);
}

static void put_in(uint32_t gpu)
{
	pthread_mutex_lock(&fake.lock);
	fake.order[fake.count++] = &fake.gpus[gpu];
	pthread_mutex_unlock(&fake.lock);
}

static void assert_uuids(const char *gpus)
{
	assert_int_equal(known.gpu_count, strlen(gpus));
	for (size_t i = 0; i < known.gpu_count; i++)
		assert_string_equal(known.gpus[i].uuid, fake.gpus[gpus[i] - '0'].uuid);
}

static void test_those_that_hang_are_found_and_the_others_go_on(void **state)
{
	nvmlDevice_t device;
	begin(6);
	look_until(0);
	read_inventory();
	fake.gpus[0].hangs = fake.gpus[2].hangs = fake.gpus[3].hangs = fake.gpus[5].hangs = true;
	for (int i = 0; i < 3; i++) {
		look_until(1 << 0 | 1 << 2 | 1 << 3 | 1 << 5);
		for (uint32_t gpu = 0; gpu < 6; gpu++) {
			bool hangs = gs_hangs_indexes() >> gpu & 1;
			nvmlReturn_t code = hangs ? NVML_ERROR_TIMEOUT : NVML_SUCCESS;
			assert_int_equal(gs_hangs_on(fake.gpus[gpu].uuid), hangs);
			assert_int_equal(GS_NVML(&nvml, DeviceGetHandleByUUID, fake.gpus[gpu].uuid, &device), code);
			assert_int_equal(GS_NVML(&nvml, DeviceGetHandleByIndex, gpu, &device), code);
		}
		assert_false(gs_inventory_differs(&nvml, &known));
	}
	read_inventory();
	assert_uuids("012345");
	assert_true(gs_hangs_any());
	fake.gpus[2].hangs = false;
	look_until(1 << 0 | 1 << 3 | 1 << 5);
	assert_false(gs_hangs_on(fake.gpus[2].uuid));
	assert_true(gs_hangs_on(fake.gpus[3].uuid));
}

static void test_gpus_come_and_go_beside_one_that_hangs(void **state)
{
	begin(5);
	look_until(0);
	read_inventory();
	fake.gpus[3].hangs = true;
	look_until(1 << 3);
	take_out(1);
	look_until(1 << 2);
	assert_true(gs_inventory_differs(&nvml, &known));
	read_inventory();
	assert_uuids("0234");
	put_in(6);
	look_until(1 << 2);
	assert_true(gs_inventory_differs(&nvml, &known));
	read_inventory();
	assert_uuids("02346");
	take_out(0);
	put_in(7);
	look_until(1 << 1);
	read_inventory();
	assert_uuids("23467");
	assert_true(gs_hangs_on(fake.gpus[3].uuid));
	take_out(1);
	fake.gpus[3].hangs = false;
	look_until(0);
	read_inventory();
	assert_uuids("2467");
	assert_int_equal(gs_hangs_indexes(), 0);
}

static void test_one_that_hangs_from_the_start_is_left_out(void **state)
{
	begin(4);
	fake.gpus[1].hangs = true;
	for (int i = 0; i < 2; i++) {
		look_until(1 << 1);
		read_inventory();
		assert_uuids("023");
	}
	fake.gpus[1].hangs = false;
	look_until(0);
	read_inventory();
	assert_uuids("0123");
}

static void test_mig_devices_hang_with_their_gpu(void **state)
{
	nvmlDevice_t device;
	begin(2);
	struct fake_mig *mig = fake_add_mig(1, 0, 1, 0);
	look_until(0);
	read_inventory();
	fake.gpus[1].hangs = true;
	look_until(1 << 1);
	assert_true(gs_hangs_on(mig->uuid));
	assert_int_equal(GS_NVML(&nvml, DeviceGetHandleByUUID, mig->uuid, &device), NVML_ERROR_TIMEOUT);
	assert_true(gs_hangs_on("MIG-GPU-00000001-0000-0000-0000-000000000000/7/0"));
	assert_false(gs_hangs_on(fake.gpus[0].uuid));
}

static void test_threads_left_behind_have_a_limit(void **state)
{
	begin(2);
	look_until(0);
	read_inventory();
	fake.gpus[1].hangs = true;
	fake.gpus[2].lost = true;
	for (int i = 0; i < 40; i++) { /* each time the list is another one, so that the index is touched anew */
		if (fake.count == 2)
			put_in(2);
		else
			take_out(2);
		gs_hangs_look(&nvml, &known, fake.count, 1);
		assert_true(gs_hangs_on(fake.gpus[1].uuid));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_those_that_hang_are_found_and_the_others_go_on, end),
		cmocka_unit_test_teardown(test_gpus_come_and_go_beside_one_that_hangs, end),
		cmocka_unit_test_teardown(test_one_that_hangs_from_the_start_is_left_out, end),
		cmocka_unit_test_teardown(test_mig_devices_hang_with_their_gpu, end),
		cmocka_unit_test_teardown(test_threads_left_behind_have_a_limit, end),
	};
	return cmocka_run_group_tests_name("hangs", tests, NULL, NULL);
}
