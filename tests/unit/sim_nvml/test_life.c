/* Begin and end, events, planned faults, threads. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node.h"

static void inits_are_counted(void **state)
{
	(void)state;
	uint32_t count;
	assert_int_equal(nvmlInit(), NVML_SUCCESS);
	assert_int_equal(nvmlInitWithFlags(0), NVML_SUCCESS);
	assert_int_equal(nvmlShutdown(), NVML_SUCCESS);
	assert_int_equal(nvmlShutdown(), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
	assert_int_equal(nvmlShutdown(), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_ERROR_UNINITIALIZED);
	assert_int_equal(nvmlInit_v2(), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
}

static void every_code_has_words(void **state)
{
	(void)state;
	for (int a = 0; a <= NVML_ERROR_RESET_TYPE_NOT_SUPPORTED; a++) {
		assert_string_not_equal(nvmlErrorString(a), "Unknown Error");
		for (int b = 0; b < a; b++)
			assert_string_not_equal(nvmlErrorString(a), nvmlErrorString(b));
	}
	assert_string_equal(nvmlErrorString(NVML_ERROR_UNKNOWN), "Unknown Error");
	assert_string_equal(nvmlErrorString(12345), "Unknown Error");
}

static void events_are_for_who_registered(void **state)
{
	(void)state;
	nvmlEventSet_t set;
	nvmlEventData_t data;
	uint64_t types;
	assert_int_equal(nvmlEventSetCreate(&set), NVML_SUCCESS);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 0), NVML_ERROR_TIMEOUT);
	assert_int_equal(nvmlDeviceGetSupportedEventTypes(node_device(1), &types), NVML_SUCCESS);
	assert_true(types & nvmlEventTypeXidCriticalError);
	assert_int_equal(nvmlDeviceRegisterEvents(node_device(1), ~UINT64_C(0), set), NVML_ERROR_NOT_SUPPORTED);
	sim_event_post(node, 1, nvmlEventTypeXidCriticalError, 13); /* before: not told */
	assert_int_equal(nvmlDeviceRegisterEvents(node_device(1), types, set), NVML_SUCCESS);
	sim_event_post(node, 0, nvmlEventTypeXidCriticalError, 31); /* another GPU */
	sim_event_post(node, 1, nvmlEventTypeXidCriticalError, 79);
	memset(&data, 0, sizeof data);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 10000), NVML_SUCCESS);
	assert_ptr_equal(data.device, node_device(1));
	assert_int_equal(data.eventType, nvmlEventTypeXidCriticalError);
	assert_int_equal(data.eventData, 79);
	assert_int_equal(data.gpuInstanceId, UINT32_MAX);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 0), NVML_ERROR_TIMEOUT);

	sim_event_post(node, 1, nvmlEventTypeDoubleBitEccError, 0);
	memset(&data, 0, sizeof data);
	assert_int_equal(nvmlEventSetWait(set, &data, 10000), NVML_SUCCESS);
	assert_int_equal(data.eventType, nvmlEventTypeDoubleBitEccError);
	assert_int_equal(data.gpuInstanceId, 0); /* not in the old struct */
	assert_int_equal(nvmlEventSetFree(set), NVML_SUCCESS);
	assert_int_equal(nvmlEventSetFree(set), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 0), NVML_ERROR_INVALID_ARGUMENT);
}

/* All 32 slots are taken, so that the next board goes where one was. */
static void a_successor_is_not_registered(void **state)
{
	(void)state;
	node_end(NULL);
	node_make("32xT4");
	nvmlEventSet_t set;
	nvmlEventData_t data;
	nvmlDevice_t device = node_device(3);
	assert_int_equal(nvmlEventSetCreate(&set), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceRegisterEvents(device, nvmlEventTypeXidCriticalError, set), NVML_SUCCESS);
	assert_int_equal(sim_gpu_unplug(node, 3, NULL), 0);
	assert_int_equal(sim_gpu_plug(node, 0, NULL), 3);
	sim_event_post(node, 3, nvmlEventTypeXidCriticalError, 79);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 0), NVML_ERROR_TIMEOUT);
	assert_ptr_not_equal(node_device(3), device);
	assert_int_equal(nvmlDeviceRegisterEvents(node_device(3), nvmlEventTypeXidCriticalError, set), NVML_SUCCESS);
	sim_event_post(node, 3, nvmlEventTypeXidCriticalError, 48);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 10000), NVML_SUCCESS);
	assert_int_equal(data.eventData, 48);
	assert_ptr_equal(data.device, node_device(3));
	assert_int_equal(nvmlEventSetFree(set), NVML_SUCCESS);
}

static void *post_later(void *argument)
{
	(void)argument;
	usleep(50000);
	sim_event_post(node, 0, nvmlEventTypeXidCriticalError, 48);
	return NULL;
}

static void an_event_wakes_the_waiter(void **state)
{
	(void)state;
	nvmlEventSet_t set;
	nvmlEventData_t data;
	pthread_t thread;
	assert_int_equal(nvmlEventSetCreate(&set), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceRegisterEvents(node_device(0), nvmlEventTypeXidCriticalError, set), NVML_SUCCESS);
	assert_int_equal(pthread_create(&thread, NULL, post_later, NULL), 0);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 60000), NVML_SUCCESS);
	assert_int_equal(data.eventData, 48);
	pthread_join(thread, NULL);
	assert_int_equal(nvmlEventSetFree(set), NVML_SUCCESS);
}

static void a_planned_fault_is_told_once(void **state)
{
	(void)state;
	uint32_t count;
	assert_int_equal(sim_nvml_fault_set(node, "nvmlDeviceGetCount_v2", NVML_ERROR_UNKNOWN, 1, NULL), 0);
	assert_int_equal(sim_nvml_fault_set(node, "nvmlSystemGetConfComputeState", NVML_ERROR_TIMEOUT, 1, NULL), 0);
	assert_int_equal(nvmlDeviceGetCount(&count), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_ERROR_UNKNOWN);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
	assert_int_equal(sim_nvml_fault_set(node, "nvmlInit_v2", NVML_ERROR_LIB_RM_VERSION_MISMATCH, 1, NULL), 0);
	assert_int_equal(nvmlInit_v2(), NVML_ERROR_LIB_RM_VERSION_MISMATCH);
}

/* In a process of its own, for the environment is read once. */
static void any_call_can_be_made_to_fail(void **state)
{
	(void)state;
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	char trace[] = "/tmp/gpushare-trace-XXXXXX";
	int fd = mkstemp(trace);
	assert_true(fd >= 0);
	pid_t child = fork();
	if (child == 0) {
		setenv("GPUSHARE_SIM_NVML_FAIL", "3:17", 1);
		setenv("GPUSHARE_SIM_NVML_TRACE", trace, 1);
		execl(getenv("TEST_LIFE_SELF"), "test_life", "three-counts", (char *)NULL);
		_exit(99);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 17);
	char text[256] = {0};
	assert_true(read(fd, text, sizeof text - 1) > 0);
	assert_string_equal(text, "nvmlInit_v2\nnvmlDeviceGetCount_v2\nnvmlDeviceGetCount_v2\n");
	close(fd);
	unlink(trace);
	close(ends[0]);
	close(ends[1]);
}

static int three_counts(void)
{
	uint32_t count;
	if (nvmlInit_v2() != NVML_SUCCESS || nvmlDeviceGetCount_v2(&count) != NVML_SUCCESS)
		return 98;
	return (int)nvmlDeviceGetCount_v2(&count);
}

static void *hammer(void *argument)
{
	for (int i = 0; i < 200; i++) {
		nvmlDevice_t device;
		nvmlUtilization_t rates;
		nvmlProcessInfo_t list[8];
		uint32_t count = 8;
		char uuid[96];
		if (nvmlInit_v2() != NVML_SUCCESS ||
		    nvmlDeviceGetHandleByIndex_v2((uint32_t)i % 2, &device) != NVML_SUCCESS ||
		    nvmlDeviceGetUUID(device, uuid, sizeof uuid) != NVML_SUCCESS ||
		    nvmlDeviceGetUtilizationRates(device, &rates) != NVML_SUCCESS ||
		    nvmlDeviceGetComputeRunningProcesses_v3(device, &count, list) != NVML_SUCCESS ||
		    nvmlShutdown() != NVML_SUCCESS)
			*(int *)argument = 1;
	}
	return NULL;
}

static void threads_do_not_meet(void **state)
{
	(void)state;
	pthread_t threads[4];
	int failed[4] = {0};
	node_client(0, SIM_CLIENT_COMPUTE, 1);
	assert_int_equal(nvmlShutdown(), NVML_SUCCESS); /* the threads open and close the node themselves */
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, &failed[i]), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(failed[i], 0);
	}
}

static void *keep_calling(void *argument)
{
	uint32_t count;
	while (!__atomic_load_n((int *)argument, __ATOMIC_RELAXED))
		nvmlDeviceGetCount_v2(&count);
	return NULL;
}

static void a_forked_child_goes_on(void **state)
{
	(void)state;
	int stop = 0;
	pthread_t thread;
	nvmlDevice_t device = node_device(1);
	assert_int_equal(pthread_create(&thread, NULL, keep_calling, &stop), 0);
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();
		if (child == 0) {
			char uuid[96];
			bool fine = nvmlDeviceGetUUID(device, uuid, sizeof uuid) == NVML_SUCCESS &&
				    nvmlShutdown() == NVML_SUCCESS && nvmlInit_v2() == NVML_SUCCESS &&
				    nvmlDeviceGetUUID(device, uuid, sizeof uuid) == NVML_SUCCESS;
			_exit(fine ? 0 : 1);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "three-counts") == 0)
		return three_counts();
	setenv("TEST_LIFE_SELF", argv[0], 1);
#define ON_NODE(test) cmocka_unit_test_setup_teardown(test, node_begin, node_end)
	const struct CMUnitTest tests[] = {
		ON_NODE(inits_are_counted),
		cmocka_unit_test(every_code_has_words),
		ON_NODE(events_are_for_who_registered),
		ON_NODE(a_successor_is_not_registered),
		ON_NODE(an_event_wakes_the_waiter),
		ON_NODE(a_planned_fault_is_told_once),
		ON_NODE(any_call_can_be_made_to_fail),
		ON_NODE(threads_do_not_meet),
		ON_NODE(a_forked_child_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
