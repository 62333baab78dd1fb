/* What NVML says of a node follows the node's state. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "node.h"
#include "sim/models.h"

#define MIB (UINT64_C(1) << 20)

static void memory_is_what_clients_hold(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(1);
	nvmlMemory_v2_t whole = {.version = nvmlMemory_v2};
	nvmlMemory_t old;
	node_client(1, SIM_CLIENT_COMPUTE, 1000);
	assert_int_equal(nvmlDeviceGetMemoryInfo_v2(device, &whole), NVML_SUCCESS);
	assert_int_equal(whole.used, 1000 * MIB);
	assert_int_equal(whole.total, 81920 * MIB);
	assert_true(whole.reserved > 0);
	assert_int_equal(whole.used + whole.free + whole.reserved, whole.total);
	assert_int_equal(nvmlDeviceGetMemoryInfo(device, &old), NVML_SUCCESS);
	assert_int_equal(old.used, whole.used + whole.reserved);
	assert_int_equal(old.used + old.free, old.total);

	whole.version = 2; /* as nvtop gives it */
	assert_int_equal(nvmlDeviceGetMemoryInfo_v2(device, &whole), NVML_SUCCESS);
	whole.version = NVML_STRUCT_WORD(nvmlMemory_v2_t, 3);
	assert_int_equal(nvmlDeviceGetMemoryInfo_v2(device, &whole), NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
}

static void process_lists_keep_their_abi(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(0);
	uint32_t count = 7;
	assert_int_equal(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, NULL), NVML_SUCCESS);
	assert_int_equal(count, 0);
	node_client(0, SIM_CLIENT_COMPUTE, 64);
	node_client(0, SIM_CLIENT_MPS, 36);
	node_client(0, SIM_CLIENT_GRAPHICS, 5);

	nvmlProcessInfo_t list[4];
	count = 0;
	assert_int_equal(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, list), NVML_ERROR_INSUFFICIENT_SIZE);
	assert_int_equal(count, 1);
	memset(list, 0x5A, sizeof list);
	count = 4;
	assert_int_equal(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, list), NVML_SUCCESS);
	assert_int_equal(count, 1); /* one process, though it holds two contexts */
	assert_int_equal(list[0].pid, getpid());
	assert_int_equal(list[0].usedGpuMemory, 100 * MIB);
	assert_int_equal(list[0].gpuInstanceId, UINT32_MAX);
	assert_int_equal(list[1].pid, 0x5A5A5A5A);

	nvmlProcessInfo_v1_t old[2];
	memset(old, 0x5A, sizeof old);
	count = 2;
	assert_int_equal(nvmlDeviceGetComputeRunningProcesses(device, &count, old), NVML_SUCCESS);
	assert_int_equal(old[0].pid, getpid());
	assert_int_equal(old[0].usedGpuMemory, 100 * MIB);
	assert_int_equal(old[1].pid, 0x5A5A5A5A); /* the old entries are shorter */

	count = 4;
	assert_int_equal(nvmlDeviceGetMPSComputeRunningProcesses_v3(device, &count, list), NVML_SUCCESS);
	assert_int_equal(list[0].usedGpuMemory, 36 * MIB);
	count = 4;
	assert_int_equal(nvmlDeviceGetGraphicsRunningProcesses_v2(device, &count, list), NVML_SUCCESS);
	assert_int_equal(list[0].usedGpuMemory, 5 * MIB);

	nvmlProcessDetail_v1_t details[2];
	nvmlProcessDetailList_v1_t all = {nvmlProcessDetailList_v1, NVML_PROCESS_MODE_ALL, 2, details};
	assert_int_equal(nvmlDeviceGetRunningProcessDetailList(device, &all), NVML_SUCCESS);
	assert_int_equal(all.numProcArrayEntries, 1);
	assert_int_equal(details[0].usedGpuMemory, 105 * MIB);
}

/* Work done in the past, so that no clock has to be waited for: it is queued and then time passes. */
static void work(int slot, uint64_t milliseconds)
{
	uint64_t end = sim_client_submit(node, slot, sim_now_ns(), milliseconds * 1000000);
	while (sim_now_ns() < end)
		usleep(5000);
}

static void utilisation_is_work(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(0);
	nvmlUtilization_t rates;
	uint32_t count = 0, idle_mw, busy_mw;
	nvmlProcessUtilizationSample_t samples[4];
	assert_int_equal(nvmlDeviceGetUtilizationRates(device, &rates), NVML_SUCCESS);
	assert_int_equal(rates.gpu, 0);
	assert_int_equal(nvmlDeviceGetPowerUsage(device, &idle_mw), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetProcessUtilization(device, samples, &count, 0), NVML_ERROR_NOT_FOUND);

	int slot = node_client(0, SIM_CLIENT_COMPUTE, 1);
	work(slot, 400);
	assert_int_equal(nvmlDeviceGetUtilizationRates(device, &rates), NVML_SUCCESS);
	assert_in_range(rates.gpu, 10, 100);
	assert_true(rates.memory < rates.gpu);
	assert_int_equal(nvmlDeviceGetPowerUsage(device, &busy_mw), NVML_SUCCESS);
	assert_true(busy_mw > idle_mw);

	count = 0;
	assert_int_equal(nvmlDeviceGetProcessUtilization(device, NULL, &count, 0), NVML_ERROR_INSUFFICIENT_SIZE);
	assert_int_equal(count, 1);
	count = 4;
	assert_int_equal(nvmlDeviceGetProcessUtilization(device, samples, &count, 0), NVML_SUCCESS);
	assert_int_equal(count, 1);
	assert_int_equal(samples[0].pid, getpid());
	assert_in_range(samples[0].smUtil, 10, 100);
	count = 4; /* nothing can be newer than a stamp of tomorrow */
	assert_int_equal(nvmlDeviceGetProcessUtilization(device, samples, &count, samples[0].timeStamp + 86400000000),
			 NVML_ERROR_NOT_FOUND);

	nvmlProcessUtilizationInfo_v1_t details[4];
	nvmlProcessesUtilizationInfo_v1_t info = {nvmlProcessesUtilizationInfo_v1, 4, 0, details};
	assert_int_equal(nvmlDeviceGetProcessesUtilizationInfo(device, &info), NVML_SUCCESS);
	assert_int_equal(info.processSamplesCount, 1);
	assert_int_equal(details[0].pid, getpid());

	nvmlSample_t series[128];
	nvmlValueType_t type;
	count = 128;
	assert_int_equal(nvmlDeviceGetSamples(device, NVML_GPU_UTILIZATION_SAMPLES, 0, &type, &count, series),
			 NVML_SUCCESS);
	assert_int_equal(type, NVML_VALUE_TYPE_UNSIGNED_INT);
	assert_in_range(count, 2, 128);
	uint32_t most = 0;
	for (uint32_t i = 0; i < count; i++) {
		assert_true(i == 0 || series[i].timeStamp > series[i - 1].timeStamp);
		assert_true(series[i].sampleValue.uiVal <= 100);
		most = series[i].sampleValue.uiVal > most ? series[i].sampleValue.uiVal : most;
	}
	assert_in_range(most, 50, 100); /* the buckets in which the kernel ran */
}

static void energy_never_falls(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(0);
	uint64_t before, after;
	int slot = node_client(0, SIM_CLIENT_COMPUTE, 1);
	assert_int_equal(nvmlDeviceGetTotalEnergyConsumption(device, &before), NVML_SUCCESS);
	work(slot, 100);
	assert_int_equal(nvmlDeviceGetTotalEnergyConsumption(device, &after), NVML_SUCCESS);
	/* 100 ms at full load is some 30 J, and idling adds more. */
	assert_true(after >= before + 20000);
}

static void a_handle_belongs_to_one_board(void **state)
{
	(void)state;
	nvmlDevice_t first = node_device(0), second = node_device(1), found = NULL;
	uint32_t count, index = 9;
	char uuid[96], name[96], bus_id[32], tiny[8];
	nvmlPciInfo_t pci;
	assert_ptr_equal(node_device(0), first);
	assert_int_equal(nvmlDeviceGetUUID(second, uuid, sizeof uuid), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetUUID(second, tiny, sizeof tiny), NVML_ERROR_INSUFFICIENT_SIZE);
	assert_int_equal(nvmlDeviceGetHandleByUUID(uuid, &found), NVML_SUCCESS);
	assert_ptr_equal(found, second);
	assert_int_equal(nvmlDeviceGetPciInfo_v3(second, &pci), NVML_SUCCESS);
	snprintf(bus_id, sizeof bus_id, "%s", pci.busIdLegacy);
	assert_int_equal(nvmlDeviceGetHandleByPciBusId_v2(bus_id, &found), NVML_SUCCESS);
	assert_ptr_equal(found, second);
	assert_int_equal(nvmlDeviceGetHandleByPciBusId_v2("junk", &found), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceGetHandleByUUID("GPU-0", &found), NVML_ERROR_NOT_FOUND);

	/* Unplugged: the other one moves up, and the old handle stays dead even when a new board takes the place. */
	assert_int_equal(sim_gpu_unplug(node, 0, NULL), 0);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
	assert_int_equal(count, 1);
	assert_int_equal(nvmlDeviceGetIndex(second, &index), NVML_SUCCESS);
	assert_int_equal(index, 0);
	assert_int_equal(nvmlDeviceGetName(first, name, sizeof name), NVML_ERROR_GPU_IS_LOST);
	assert_ptr_equal(node_device(0), second);
	assert_true(sim_gpu_plug(node, (uint32_t)(sim_model_by_name("T4") - sim_models), NULL) >= 0);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
	assert_int_equal(count, 2);
	assert_int_equal(nvmlDeviceGetName(first, name, sizeof name), NVML_ERROR_GPU_IS_LOST);
}

static void old_structs_are_not_overrun(void **state)
{
	(void)state;
	nvmlPciInfo_t pci;
	memset(&pci, 0x5A, sizeof pci);
	assert_int_equal(nvmlDeviceGetPciInfo(node_device(0), &pci), NVML_SUCCESS);
	assert_int_equal(pci.pciDeviceId, 0x20B210DE);
	assert_int_equal(pci.pciSubSystemId, 0x5A5A5A5A);
	assert_int_equal(nvmlDeviceGetPciInfo_v2(node_device(0), &pci), NVML_SUCCESS);
	assert_int_not_equal(pci.pciSubSystemId, 0x5A5A5A5A);
	assert_int_equal(pci.busId[0], 0x5A);
	assert_int_equal(nvmlDeviceGetPciInfo_v3(node_device(0), &pci), NVML_SUCCESS);
	assert_string_equal(pci.busIdLegacy, pci.busId + 4);
}

static void break_memory(struct sim_gpu *gpu, void *user)
{
	(void)user;
	gpu->ecc_double_volatile = 3;
	gpu->ecc_single_aggregate = 4;
	gpu->remap_uncorrectable = 2;
	gpu->remap_failed = 1;
	gpu->recovery_action = NVML_GPU_RECOVERY_ACTION_GPU_RESET;
	gpu->temperature_override = 95;
}

static void faults_are_told(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(0);
	uint64_t count, reasons;
	uint32_t correctable, uncorrectable, pending, failed, celsius;
	sim_gpu_update(node, 0, break_memory, NULL);
	assert_int_equal(
		nvmlDeviceGetTotalEccErrors(device, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(nvmlDeviceGetMemoryErrorCounter(device, NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_AGGREGATE_ECC,
							 NVML_MEMORY_LOCATION_DRAM, &count),
			 0);
	assert_int_equal(count, 4);
	assert_int_equal(nvmlDeviceGetRemappedRows(device, &correctable, &uncorrectable, &pending, &failed),
			 NVML_SUCCESS);
	assert_int_equal(correctable, 0);
	assert_int_equal(uncorrectable, 2);
	assert_int_equal(failed, 1);
	assert_int_equal(nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU, &celsius), NVML_SUCCESS);
	assert_int_equal(celsius, 95);
	assert_int_equal(nvmlDeviceGetCurrentClocksEventReasons(device, &reasons), NVML_SUCCESS);
	assert_true(reasons & nvmlClocksThrottleReasonHwThermalSlowdown);

	nvmlFieldValue_t fields[] = {
		{.fieldId = NVML_FI_DEV_GET_GPU_RECOVERY_ACTION},
		{.fieldId = NVML_FI_DEV_REMAPPED_FAILURE},
		{.fieldId = NVML_FI_DEV_ECC_DBE_VOL_TOTAL},
		{.fieldId = 60000},
	};
	assert_int_equal(nvmlDeviceGetFieldValues(device, GS_ARRAY_LENGTH(fields), fields), NVML_SUCCESS);
	assert_int_equal(fields[0].value.uiVal, NVML_GPU_RECOVERY_ACTION_GPU_RESET);
	assert_int_equal(fields[1].value.uiVal, 1);
	assert_int_equal(fields[2].value.ullVal, 3);
	assert_int_equal(fields[2].valueType, NVML_VALUE_TYPE_UNSIGNED_LONG_LONG);
	assert_int_equal(fields[3].nvmlReturn, NVML_ERROR_NOT_SUPPORTED);
	if (geteuid() == 0) {
		assert_int_equal(nvmlDeviceClearEccErrorCounts(device, NVML_VOLATILE_ECC), NVML_SUCCESS);
		assert_int_equal(nvmlDeviceGetTotalEccErrors(device, 1, NVML_VOLATILE_ECC, &count), NVML_SUCCESS);
		assert_int_equal(count, 0);
	}
}

static void settings_are_the_nodes(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(0);
	nvmlComputeMode_t mode;
	uint32_t least, most, limit;
	assert_int_equal(nvmlDeviceGetPowerManagementLimitConstraints(device, &least, &most), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceSetPowerManagementLimit(device, most + 1), NVML_ERROR_INVALID_ARGUMENT);
	nvmlReturn_t allowed = geteuid() == 0 ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
	assert_int_equal(nvmlDeviceSetPowerManagementLimit(device, least), allowed);
	assert_int_equal(nvmlDeviceSetComputeMode(device, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS), allowed);
	assert_int_equal(nvmlDeviceSetComputeMode(device, 4), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceGetEnforcedPowerLimit(device, &limit), NVML_SUCCESS);
	assert_int_equal(limit, allowed == NVML_SUCCESS ? least : most);
	assert_int_equal(nvmlDeviceGetComputeMode(device, &mode), NVML_SUCCESS);
	struct sim_gpu gpu;
	assert_true(sim_gpu_get(node, 0, &gpu));
	assert_int_equal(gpu.compute_mode, mode);
}

static uint32_t clock_of(nvmlDevice_t device, nvmlClockType_t type)
{
	uint32_t mhz;
	assert_int_equal(nvmlDeviceGetClockInfo(device, type, &mhz), NVML_SUCCESS);
	return mhz;
}

static uint32_t application_clock(nvmlDevice_t device)
{
	uint32_t mhz;
	assert_int_equal(nvmlDeviceGetApplicationsClock(device, NVML_CLOCK_GRAPHICS, &mhz), NVML_SUCCESS);
	return mhz;
}

static void clocks_can_be_held(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(0);
	nvmlReturn_t allowed = geteuid() == 0 ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
	uint32_t rest = clock_of(device, NVML_CLOCK_SM);
	assert_int_equal(nvmlDeviceSetGpuLockedClocks(device, 1000, 900), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceSetApplicationsClocks(device, 1, 1410), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceSetApplicationsClocks(device, 1593, 1411), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceSetGpuLockedClocks(device, 904, 1204), allowed);
	assert_int_equal(nvmlDeviceSetMemoryLockedClocks(device, 1593, 1593), allowed);
	assert_int_equal(nvmlDeviceSetApplicationsClocks(device, 1593, 1005), allowed);
	if (allowed != NVML_SUCCESS)
		return;
	assert_int_equal(clock_of(device, NVML_CLOCK_SM), 900); /* the next below that the board has */
	assert_int_equal(application_clock(device), 1005);
	assert_int_equal(nvmlDeviceSetGpuLockedClocks(device, 0, 1), NVML_SUCCESS);
	assert_int_equal(clock_of(device, NVML_CLOCK_SM), rest);
	assert_int_equal(nvmlDeviceSetGpuLockedClocks(device, NVML_CLOCK_LIMIT_ID_TDP, NVML_CLOCK_LIMIT_ID_UNLIMITED),
			 NVML_SUCCESS);
	assert_int_equal(clock_of(device, NVML_CLOCK_SM), 1410);
	assert_int_equal(nvmlDeviceResetGpuLockedClocks(device), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceResetMemoryLockedClocks(device), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceResetApplicationsClocks(device), NVML_SUCCESS);
	assert_int_equal(clock_of(device, NVML_CLOCK_SM), rest);
	assert_int_equal(application_clock(device), 1410);
}

static void a_reset_takes_the_ecc_mode_and_forgets_settings(void **state)
{
	(void)state;
	nvmlDevice_t device = node_device(0);
	nvmlEnableState_t current, pending;
	uint64_t count;
	uint32_t limit;
	struct gs_error err;
	if (nvmlDeviceSetEccMode(device, NVML_FEATURE_DISABLED) != NVML_SUCCESS) {
		assert_int_not_equal(geteuid(), 0);
		return;
	}
	assert_int_equal(nvmlDeviceSetPowerManagementLimit(device, 300000), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceSetApplicationsClocks(device, 1593, 1005), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetEccMode(device, &current, &pending), NVML_SUCCESS);
	assert_int_equal(current, NVML_FEATURE_ENABLED);
	assert_int_equal(pending, NVML_FEATURE_DISABLED);
	assert_int_equal(sim_gpu_reset(node, 0, &err), 0);
	assert_int_equal(nvmlDeviceGetEccMode(device, &current, &pending), NVML_SUCCESS);
	assert_int_equal(current, NVML_FEATURE_DISABLED);
	assert_int_equal(nvmlDeviceGetTotalEccErrors(device, 1, NVML_VOLATILE_ECC, &count), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetPowerManagementLimit(device, &limit), NVML_SUCCESS);
	assert_int_equal(limit, 400000);
	assert_int_equal(application_clock(device), 1410);
}

static void capabilities_follow_the_model(void **state)
{
	(void)state;
	node_end(NULL);
	node_make("T4,H100-80GB");
	uint32_t current = 9, pending = 9, pages;
	nvmlGpmSupport_t support = {.version = NVML_GPM_SUPPORT_VERSION};
	assert_int_equal(nvmlDeviceGetMigMode(node_device(0), &current, &pending), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetMigMode(node_device(1), &current, &pending), NVML_SUCCESS);
	assert_int_equal(current, NVML_DEVICE_MIG_DISABLE);
	assert_int_equal(nvmlDeviceGetRetiredPages(node_device(0), 0, &pages, NULL), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetRetiredPages(node_device(1), 0, &pages, NULL), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlGpmQueryDeviceSupport(node_device(0), &support), NVML_SUCCESS);
	assert_int_equal(support.isSupportedDevice, 0);
	assert_int_equal(nvmlGpmQueryDeviceSupport(node_device(1), &support), NVML_SUCCESS);
	assert_int_equal(support.isSupportedDevice, 1);
}

static void gpm_is_the_difference_of_samples(void **state)
{
	(void)state;
	node_end(NULL);
	node_make("H100-80GB");
	nvmlDevice_t device = node_device(0);
	nvmlGpmSample_t before, after;
	int slot = node_client(0, SIM_CLIENT_COMPUTE, 1);
	assert_int_equal(nvmlGpmSampleAlloc(&before), NVML_SUCCESS);
	assert_int_equal(nvmlGpmSampleAlloc(&after), NVML_SUCCESS);
	assert_int_equal(nvmlGpmSampleGet(device, before), NVML_SUCCESS);
	work(slot, 200);
	assert_int_equal(nvmlGpmSampleGet(device, after), NVML_SUCCESS);
	nvmlGpmMetricsGet_t *get = calloc(1, sizeof *get + 2 * sizeof get->metrics[0]);
	assert_non_null(get);
	get->version = NVML_GPM_METRICS_GET_VERSION;
	get->numMetrics = 2;
	get->sample1 = before;
	get->sample2 = after;
	get->metrics[0].metricId = NVML_GPM_METRIC_GRAPHICS_UTIL;
	get->metrics[1].metricId = 999;
	assert_int_equal(nvmlGpmMetricsGet(get), NVML_SUCCESS);
	assert_int_equal(get->metrics[0].nvmlReturn, NVML_SUCCESS);
	assert_true(get->metrics[0].value > 10 && get->metrics[0].value <= 100);
	assert_int_equal(get->metrics[1].nvmlReturn, NVML_ERROR_NOT_SUPPORTED);
	get->sample1 = after; /* the wrong way round */
	get->sample2 = before;
	assert_int_equal(nvmlGpmMetricsGet(get), NVML_ERROR_INVALID_ARGUMENT);
	free(get);
	assert_int_equal(nvmlGpmSampleFree(before), NVML_SUCCESS);
	assert_int_equal(nvmlGpmSampleFree(before), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlGpmSampleFree(after), NVML_SUCCESS);
}

int main(void)
{
#define ON_NODE(test) cmocka_unit_test_setup_teardown(test, node_begin, node_end)
	const struct CMUnitTest tests[] = {
		ON_NODE(memory_is_what_clients_hold),
		ON_NODE(process_lists_keep_their_abi),
		ON_NODE(utilisation_is_work),
		ON_NODE(energy_never_falls),
		ON_NODE(a_handle_belongs_to_one_board),
		ON_NODE(old_structs_are_not_overrun),
		ON_NODE(faults_are_told),
		ON_NODE(settings_are_the_nodes),
		ON_NODE(clocks_can_be_held),
		ON_NODE(a_reset_takes_the_ecc_mode_and_forgets_settings),
		ON_NODE(capabilities_follow_the_model),
		ON_NODE(gpm_is_the_difference_of_samples),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
