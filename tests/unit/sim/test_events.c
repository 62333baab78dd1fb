#include "helpers.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { XID = 8, DOUBLE_BIT = 2, PATIENCE_MS = 60000 };

static void watch(uint64_t types[SIM_GPUS_MAX], uint64_t mask)
{
	for (size_t i = 0; i < SIM_GPUS_MAX; i++)
		types[i] = mask;
}

static void only_what_was_asked_for(void **state)
{
	struct world *world = *state;
	uint64_t types[SIM_GPUS_MAX] = {[1] = XID}, sequence = sim_events_last(world->node);
	struct sim_event event;
	assert_int_equal(sim_event_wait(world->node, types, &sequence, 0, &event), 0);
	sim_event_post(world->owner, 0, XID, 79);
	sim_event_post(world->owner, 1, DOUBLE_BIT, 0);
	assert_int_equal(sim_event_wait(world->node, types, &sequence, 1, &event), 0);
	sim_event_post(world->owner, 1, XID, 48);
	assert_int_equal(sim_event_wait(world->node, types, &sequence, PATIENCE_MS, &event), 1);
	assert_int_equal(event.gpu, 1);
	assert_int_equal(event.type, XID);
	assert_int_equal(event.data, 48);
	assert_int_equal(sim_event_wait(world->node, types, &sequence, 0, &event), 0);
}

static void events_before_the_start_are_not_seen(void **state)
{
	struct world *world = *state;
	uint64_t types[SIM_GPUS_MAX];
	struct sim_event event;
	watch(types, UINT64_MAX);
	sim_event_post(world->owner, 0, XID, 1);
	uint64_t sequence = sim_events_last(world->node);
	assert_int_equal(sim_event_wait(world->node, types, &sequence, 0, &event), 0);
}

/* Law: a waiter that keeps up sees every event once, in order; one that lags sees the newest SIM_EVENTS_MAX. */
static void none_is_lost(void **state)
{
	struct world *world = *state;
	uint64_t types[SIM_GPUS_MAX], quick = 0, slow = 0, expected = 0, posted = 0, seed = 5;
	struct sim_event event;
	watch(types, XID);
	for (int round = 0; round < 200; round++) {
		uint64_t burst = next_random(&seed) % 40;
		for (uint64_t i = 0; i < burst; i++)
			sim_event_post(world->owner, i % 2, XID, ++posted);
		while (sim_event_wait(world->node, types, &quick, 0, &event))
			assert_int_equal(event.data, ++expected);
		assert_int_equal(expected, posted);
	}
	assert_true(posted > 2 * SIM_EVENTS_MAX);
	for (uint64_t i = posted - SIM_EVENTS_MAX + 1; i <= posted; i++) {
		assert_int_equal(sim_event_wait(world->node, types, &slow, 0, &event), 1);
		assert_int_equal(event.data, i);
	}
	assert_int_equal(sim_event_wait(world->node, types, &slow, 0, &event), 0);
	/* A number from some other node starts over at the newest. */
	uint64_t strange = UINT64_MAX;
	assert_int_equal(sim_event_wait(world->node, types, &strange, 0, &event), 0);
	sim_event_post(world->owner, 0, XID, 1);
	assert_int_equal(sim_event_wait(world->node, types, &strange, 0, &event), 1);
}

struct waiter {
	struct sim_node *node;
	uint64_t sum;
};

static void *wait_for_ten(void *argument)
{
	struct waiter *waiter = argument;
	uint64_t types[SIM_GPUS_MAX], sequence = 0;
	struct sim_event event;
	watch(types, XID);
	for (int i = 0; i < 10; i++)
		if (sim_event_wait(waiter->node, types, &sequence, PATIENCE_MS, &event))
			waiter->sum += event.data;
	return NULL;
}

static void every_waiter_wakes(void **state)
{
	enum { WAITERS = 6 };
	struct world *world = *state;
	struct waiter waiters[WAITERS];
	pthread_t threads[WAITERS];
	for (int i = 0; i < WAITERS; i++) {
		waiters[i] = (struct waiter){.node = i % 2 ? world->node : world->owner};
		assert_int_equal(pthread_create(&threads[i], NULL, wait_for_ten, &waiters[i]), 0);
	}
	for (uint64_t i = 1; i <= 10; i++) {
		sim_event_post(world->node, 0, XID, i);
		usleep(1000);
	}
	for (int i = 0; i < WAITERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(waiters[i].sum, 55);
	}
}

static void another_process_wakes(void **state)
{
	struct world *world = *state;
	pid_t child = fork();
	if (child == 0) {
		struct waiter waiter = {.node = world->node};
		wait_for_ten(&waiter);
		_exit(waiter.sum == 55 ? 0 : 1);
	}
	for (uint64_t i = 1; i <= 10; i++)
		sim_event_post(world->owner, 0, XID, i);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void calls_fail_as_told(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	assert_int_equal(sim_nvml_fault_take(world->node, "nvmlInit_v2"), 0);
	assert_int_equal(sim_nvml_fault_set(world->owner, "nvmlInit_v2", 9, 2, &err), 0);
	assert_int_equal(sim_nvml_fault_set(world->owner, "nvmlDeviceGetUUID", 15, SIM_FAULT_FOREVER, &err), 0);
	assert_int_equal(sim_nvml_fault_take(world->node, "nvmlShutdown"), 0);
	assert_int_equal(sim_nvml_fault_take(world->node, "nvmlInit_v2"), 9);
	assert_int_equal(sim_nvml_fault_take(world->node, "nvmlInit_v2"), 9);
	assert_int_equal(sim_nvml_fault_take(world->node, "nvmlInit_v2"), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(sim_nvml_fault_take(world->node, "nvmlDeviceGetUUID"), 15);
	assert_int_equal(sim_nvml_fault_set(world->owner, "nvmlDeviceGetUUID", 0, 0, &err), 0);
	assert_int_equal(sim_nvml_fault_take(world->node, "nvmlDeviceGetUUID"), 0);
}

static void rules_are_bounded(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	char name[SIM_FUNCTION_NAME_SIZE + 1];
	for (int i = 0; i < SIM_FAULTS_MAX; i++) {
		snprintf(name, sizeof name, "nvmlCall%d", i);
		assert_int_equal(sim_nvml_fault_set(world->node, name, 1, 1, &err), 0);
	}
	assert_int_equal(sim_nvml_fault_set(world->node, "nvmlOneMore", 1, 1, &err), -1);
	assert_int_equal(sim_nvml_fault_set(world->node, "nvmlCall3", 2, 1, &err), 0); /* a change is no new rule */
	assert_int_equal(sim_nvml_fault_take(world->node, "nvmlCall3"), 2);
	assert_int_equal(sim_nvml_fault_set(world->node, "nvmlOneMore", 1, 1, &err), 0);
	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	assert_int_equal(sim_nvml_fault_set(world->node, name, 1, 1, &err), -1);
	assert_int_equal(sim_nvml_fault_set(world->node, "", 1, 1, &err), -1);
}

int main(void)
{
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)
	const struct CMUnitTest tests[] = {
		WITH_WORLD(only_what_was_asked_for),
		WITH_WORLD(events_before_the_start_are_not_seen),
		WITH_WORLD(none_is_lost),
		WITH_WORLD(every_waiter_wakes),
		WITH_WORLD(another_process_wakes),
		WITH_WORLD(calls_fail_as_told),
		WITH_WORLD(rules_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
