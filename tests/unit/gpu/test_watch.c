/* The event thread: events arrive, faults neither stop it nor make it spin, and stopping never hangs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "fake_nvml.h"
#include "gpu/watch.h"

enum { TOLD_MAX = 64, PATIENCE_S = 60 };

/* A table for each test: a stopped watch's thread may still look into its own. */
static struct gs_nvml tables[10], *nvml;
static size_t tables_used;
static struct {
	struct gs_watch_event events[TOLD_MAX];
	unsigned count;
} told; /* under fake.lock */

static void on_event(void *user, const struct gs_watch_event *event)
{
	pthread_mutex_lock(&fake.lock);
	if (told.count < TOLD_MAX)
		told.events[told.count++] = *event;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

/* Under fake.lock: until a counter of the fake reaches a value; fails when that takes for ever. */
static void wait_for(const unsigned *counter, unsigned value)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&fake.lock);
	while (*counter < value)
		if (pthread_cond_timedwait(&fake.changed, &fake.lock, &until) != 0)
			break;
	bool reached = *counter >= value;
	pthread_mutex_unlock(&fake.lock);
	assert_true(reached);
}

static void wait_registered(uint32_t gpu)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&fake.lock);
	while (!fake.gpus[gpu].registered)
		if (pthread_cond_timedwait(&fake.changed, &fake.lock, &until) != 0)
			break;
	bool registered = fake.gpus[gpu].registered;
	pthread_mutex_unlock(&fake.lock);
	assert_true(registered);
}

static struct gs_inventory inventory_of(uint32_t count)
{
	struct gs_inventory inventory = {.gpus = gs_calloc(count, sizeof(struct gs_gpu)), .gpu_count = count};
	for (uint32_t i = 0; i < count; i++)
		snprintf(inventory.gpus[i].uuid, sizeof inventory.gpus[i].uuid, "%s", fake.gpus[i].uuid);
	return inventory;
}

static struct gs_watch *start(uint32_t count)
{
	struct gs_watch *watch = NULL;
	struct gs_inventory inventory = inventory_of(count);
	assert_int_equal(gs_watch_start(nvml, &inventory, on_event, NULL, &watch, NULL), 0);
	gs_inventory_free(&inventory);
	return watch;
}

/* Stops, and waits until the thread has let go of its event set, so that the next test has the fake for itself. */
static void stop(struct gs_watch *watch)
{
	gs_watch_stop(watch);
	pthread_mutex_lock(&fake.lock);
	unsigned told_then = told.count;
	pthread_mutex_unlock(&fake.lock);
	fake_event(fake_handle(0), nvmlEventTypeXidCriticalError, 99);
	fake_hurry();
	wait_for(&fake.sets_freed, fake.sets_made);
	assert_int_equal(told.count, told_then); /* nothing is told after stop */
}

static int setup(void **state)
{
	fake_reset(3);
	nvml = &tables[tables_used++];
	fake_table(nvml);
	memset(&told, 0, sizeof told);
	return 0;
}

static void test_event_arrives(void **state)
{
	struct gs_watch *watch = start(3);
	fake_event(fake_handle(2), nvmlEventTypeXidCriticalError, 79);
	fake_event(fake_handle(1), nvmlEventTypeDoubleBitEccError, 0);
	fake_event(fake_handle(1), nvmlEventTypeSingleBitEccError, 0); /* not worth a word */
	fake_event(NULL, nvmlEventTypeXidCriticalError, 48);
	wait_for(&told.count, 3);
	assert_int_equal(told.events[0].kind, GS_WATCH_XID);
	assert_int_equal(told.events[0].data, 79);
	assert_string_equal(told.events[0].uuid, fake.gpus[2].uuid);
	assert_int_equal(told.events[1].kind, GS_WATCH_ECC_DOUBLE);
	assert_string_equal(told.events[1].uuid, fake.gpus[1].uuid);
	assert_string_equal(told.events[2].uuid, "");
	stop(watch);
}

static void test_registration_of_one_fails(void **state)
{
	fake.fail_name = "DeviceRegisterEvents";
	fake.fail_code = NVML_ERROR_UNKNOWN;
	fake.fail_times = 1;
	struct gs_watch *watch = start(3);
	wait_registered(2);
	fake_event(fake_handle(2), nvmlEventTypeXidCriticalError, 31);
	wait_for(&told.count, 2);
	assert_int_equal(told.events[0].kind, GS_WATCH_PROBLEM);
	assert_string_equal(told.events[0].uuid, fake.gpus[0].uuid);
	assert_non_null(strstr(told.events[0].text, "nvmlDeviceRegisterEvents"));
	assert_int_equal(told.events[1].kind, GS_WATCH_XID);
	wait_registered(0); /* tried again with the next wait */
	stop(watch);
}

static void test_new_gpu_joins_the_set(void **state)
{
	struct gs_watch *watch = start(2);
	wait_for(&fake.waits, 1);
	struct gs_inventory more = inventory_of(3);
	gs_watch_set_inventory(watch, &more);
	gs_inventory_free(&more);
	fake_event(fake_handle(0), nvmlEventTypeXidCriticalError, 31); /* ends the wait */
	wait_registered(2);
	assert_int_equal(fake.sets_made, 1); /* a second set would miss what happens in between */
	stop(watch);
}

static void test_no_gpu_at_all(void **state)
{
	struct gs_watch *watch = start(0);
	wait_for(&fake.sets_made, 1);
	struct gs_inventory one = inventory_of(1);
	gs_watch_set_inventory(watch, &one);
	gs_inventory_free(&one);
	wait_registered(0);
	stop(watch);
}

static void test_set_cannot_be_made(void **state)
{
	fake.fail_name = "EventSetCreate";
	fake.fail_code = NVML_ERROR_UNKNOWN;
	fake.fail_times = 3;
	struct gs_watch *watch = start(1);
	wait_for(&fake.sets_made, 1);
	assert_int_equal(told.count, 1); /* once, not with every try */
	assert_int_equal(told.events[0].kind, GS_WATCH_PROBLEM);
	assert_string_equal(told.events[0].uuid, "");
	wait_registered(0);
	stop(watch);
}

static void test_wait_fails(void **state)
{
	fake.fail_name = "EventSetWait";
	fake.fail_code = NVML_ERROR_GPU_IS_LOST;
	fake.fail_times = 3;
	struct gs_watch *watch = start(2);
	wait_for(&fake.waits, 4);
	fake_event(fake_handle(1), nvmlEventTypeXidCriticalError, 74);
	wait_for(&told.count, 2);
	assert_int_equal(told.events[0].kind, GS_WATCH_PROBLEM);
	assert_int_equal(told.events[1].data, 74);
	assert_int_equal(fake.sets_made, 4); /* each failed set is given back */
	assert_int_equal(fake.sets_freed, 3);
	stop(watch);
}

static void test_driver_without_events(void **state)
{
	nvml->EventSetCreate = NULL;
	struct gs_watch *watch = start(1);
	wait_for(&told.count, 1);
	assert_non_null(strstr(told.events[0].text, "nvmlEventSetCreate"));
	stop(watch);
}

static void test_stop_at_once(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct gs_watch *watch = start(3);
		gs_watch_stop(watch);
	}
	fake_hurry();
	wait_for(&fake.sets_freed, fake.sets_made);
}

static bool has_told(enum gs_watch_event_kind kind)
{
	bool found = false;
	pthread_mutex_lock(&fake.lock);
	for (unsigned i = 0; i < told.count; i++)
		found |= told.events[i].kind == kind;
	pthread_mutex_unlock(&fake.lock);
	return found;
}

/* Faults name their instance, and changes of layouts are told where the driver can tell them. */
static void test_mig_events(void **state)
{
	fake.mig_events = true;
	struct gs_watch *watch = start(2);
	wait_registered(1);
	fake_mig_event(fake_handle(1), nvmlEventTypeXidCriticalError, 48, 9, 0);
	fake_event(fake_handle(0), nvmlEventMigConfigChange, 0);
	wait_for(&told.count, 4);
	assert_true(has_told(GS_WATCH_MIG_WATCHED));
	assert_int_equal(told.events[2].kind, GS_WATCH_XID);
	assert_int_equal(told.events[2].gpu_instance, 9);
	assert_int_equal(told.events[2].compute_instance, 0);
	assert_string_equal(told.events[2].uuid, fake.gpus[1].uuid);
	assert_int_equal(told.events[3].kind, GS_WATCH_MIG_CHANGED);
	assert_string_equal(told.events[3].uuid, fake.gpus[0].uuid);
	stop(watch);
}

/* A driver that refuses the combination: faults are watched all the same, and nobody relies on being told of layouts. */
static void test_mig_events_refused(void **state)
{
	fake.mig_events = true;
	fake.fail_name = "DeviceRegisterEvents";
	fake.fail_code = NVML_ERROR_NOT_SUPPORTED;
	fake.fail_times = 1;
	struct gs_watch *watch = start(1);
	wait_registered(0);
	fake_event(fake_handle(0), nvmlEventTypeXidCriticalError, 48);
	wait_for(&told.count, 1);
	assert_int_equal(told.events[0].kind, GS_WATCH_XID);
	assert_int_equal(told.events[0].gpu_instance, UINT32_MAX);
	assert_false(has_told(GS_WATCH_MIG_WATCHED));
	stop(watch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_event_arrives, setup),
		cmocka_unit_test_setup(test_registration_of_one_fails, setup),
		cmocka_unit_test_setup(test_new_gpu_joins_the_set, setup),
		cmocka_unit_test_setup(test_no_gpu_at_all, setup),
		cmocka_unit_test_setup(test_set_cannot_be_made, setup),
		cmocka_unit_test_setup(test_wait_fails, setup),
		cmocka_unit_test_setup(test_driver_without_events, setup),
		cmocka_unit_test_setup(test_mig_events, setup),
		cmocka_unit_test_setup(test_mig_events_refused, setup),
		cmocka_unit_test_setup(test_stop_at_once, setup),
	};
	return cmocka_run_group_tests_name("gpu watch", tests, NULL, NULL);
}
