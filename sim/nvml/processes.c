/* NVML calls about who uses a GPU. */
#include "sim/nvml/processes.h"

#include <stdlib.h>
#include <string.h>

static int compare(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

static int by_pid(const void *a, const void *b)
{
	const struct nvml_process *x = a, *y = b;
	if (x->pid != y->pid)
		return compare(x->pid, y->pid);
	if (x->gpu_instance != y->gpu_instance)
		return compare(x->gpu_instance, y->gpu_instance);
	return compare(x->compute_instance, y->compute_instance);
}

/* Entries of one process in one place become one; the list is sorted. */
static int merge(struct nvml_process *list, int count)
{
	int kept = 0;
	for (int i = 0; i < count; i++) {
		struct nvml_process *last = kept ? &list[kept - 1] : NULL;
		if (!last || by_pid(last, &list[i]) != 0) {
			list[kept++] = list[i];
			continue;
		}
		last->kinds |= list[i].kinds;
		last->memory_bytes += list[i].memory_bytes;
		last->busy_permille += list[i].busy_permille;
		if (last->busy_permille > 1000)
			last->busy_permille = 1000;
	}
	return kept;
}

int nvml_processes(const struct nvml_call *call, unsigned kinds, uint64_t window_ns, struct nvml_process **list)
{
	*list = NULL;
	size_t room = sim_clients(call->node, call->slot, NULL, 0);
	if (!room)
		return 0;
	GS_AUTO_FREE struct sim_client *clients = calloc(room, sizeof *clients);
	GS_AUTO_FREE struct nvml_process *found = calloc(room, sizeof *found);
	if (!clients || !found)
		return -1;
	size_t got = sim_clients(call->node, call->slot, clients, room);
	uint64_t now_ns = sim_now_ns();
	int count = 0;
	for (size_t i = 0; i < got && i < room; i++) { /* some may have come since the first count: the next call's */
		if (!(1u << clients[i].kind & kinds))
			continue;
		if (nvml_is_mig(call) && (clients[i].gpu_instance != call->instance.gpu_instance ||
					  clients[i].compute_instance != call->instance.compute_instance))
			continue;
		struct nvml_process *process = &found[count++];
		process->pid = (uint32_t)clients[i].pid;
		process->kinds = 1u << clients[i].kind;
		process->memory_bytes = clients[i].memory_bytes;
		process->gpu_instance = clients[i].gpu_instance;
		process->compute_instance = clients[i].compute_instance;
		process->busy_permille = sim_client_busy_permille(&clients[i], now_ns, window_ns);
		memcpy(process->name, clients[i].name, sizeof process->name);
	}
	qsort(found, (size_t)count, sizeof *found, by_pid);
	count = merge(found, count);
	if (count)
		*list = GS_STEAL(found);
	return count;
}

/* The lists. `width` is the size of the caller's entries: a prefix of nvmlProcessInfo_t. */
static nvmlReturn_t fill_list(const struct nvml_call *call, unsigned kinds, uint32_t *count, void *list, size_t width)
{
	GS_AUTO_FREE struct nvml_process *processes = NULL;
	int found = nvml_processes(call, kinds, SIM_BUCKET_NS, &processes);
	if (found < 0)
		return NVML_ERROR_MEMORY;
	uint32_t room = *count;
	*count = (uint32_t)found;
	if (found && (!list || room < *count))
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (int i = 0; i < found; i++) {
		nvmlProcessInfo_t entry;
		memset(&entry, 0, sizeof entry);
		entry.pid = processes[i].pid;
		entry.usedGpuMemory = processes[i].memory_bytes;
		entry.gpuInstanceId = processes[i].gpu_instance;
		entry.computeInstanceId = processes[i].compute_instance;
		memcpy((char *)list + (size_t)i * width, &entry, width);
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_v1_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_COMPUTE, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_COMPUTE, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_COMPUTE, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_v1_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_GRAPHICS, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_GRAPHICS, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_GRAPHICS, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_v1_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_MPS, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_MPS, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	NVML_ANY_DEVICE_CALL(call, device, count != NULL);
	return fill_list(&call, NVML_KIND_MPS, count, list, sizeof *list);
}

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_v1_t *list)
{
	static const unsigned kinds_of_mode[] = {NVML_KIND_COMPUTE, NVML_KIND_GRAPHICS, NVML_KIND_MPS, NVML_KIND_ANY};
	NVML_ANY_DEVICE_CALL(call, device, list && list->mode < GS_ARRAY_LENGTH(kinds_of_mode));
	if (!nvml_version_is(list->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	GS_AUTO_FREE struct nvml_process *processes = NULL;
	int found = nvml_processes(&call, kinds_of_mode[list->mode], SIM_BUCKET_NS, &processes);
	if (found < 0)
		return NVML_ERROR_MEMORY;
	uint32_t room = list->numProcArrayEntries;
	list->numProcArrayEntries = (uint32_t)found;
	if (found && (!list->procArray || room < (uint32_t)found))
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (int i = 0; i < found; i++)
		list->procArray[i] = (nvmlProcessDetail_v1_t){
			.pid = processes[i].pid,
			.usedGpuMemory = processes[i].memory_bytes,
			.gpuInstanceId = processes[i].gpu_instance,
			.computeInstanceId = processes[i].compute_instance,
		};
	return NVML_SUCCESS;
}

/* Who was busy since the caller's last sample: the mean over that time, stamped with the end of the last full bucket,
 * so that asking again within a bucket finds nothing new. */
struct usage {
	struct nvml_process *list;
	uint32_t count;
	uint64_t stamp_us;
};

static nvmlReturn_t read_usage(const struct nvml_call *call, uint64_t last_seen_us, struct usage *usage)
{
	if (call->gpu.mig_mode)
		return NVML_ERROR_NOT_SUPPORTED;
	uint64_t now_ns = sim_now_ns();
	usage->stamp_us = nvml_timestamp_us(now_ns - now_ns % SIM_BUCKET_NS);
	/* The two clocks are read apart, so one bucket's stamp may come out a little differently each time. */
	if (last_seen_us + 1000 >= usage->stamp_us)
		return NVML_ERROR_NOT_FOUND;
	uint64_t window_ns = 1000000000;
	if (last_seen_us) {
		uint64_t since_us = usage->stamp_us - last_seen_us;
		window_ns = since_us < SIM_WINDOW_MAX_NS / 1000 ? since_us * 1000 : SIM_WINDOW_MAX_NS;
		if (window_ns < SIM_BUCKET_NS)
			window_ns = SIM_BUCKET_NS;
	}
	int found = nvml_processes(call, NVML_KIND_ANY, window_ns, &usage->list);
	if (found < 0)
		return NVML_ERROR_MEMORY;
	for (int i = 0; i < found; i++)
		if (usage->list[i].busy_permille)
			usage->list[usage->count++] = usage->list[i];
	return usage->count ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

static uint32_t percent(uint32_t permille)
{
	return (permille + 9) / 10; /* who did anything at all is seen */
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
					     uint32_t *count, uint64_t last_seen)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	struct usage usage = {0};
	nvmlReturn_t code = read_usage(&call, last_seen, &usage);
	GS_AUTO_FREE struct nvml_process *list = usage.list;
	uint32_t room = *count;
	*count = usage.count;
	if (code != NVML_SUCCESS)
		return code;
	if (!samples || room < usage.count)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (uint32_t i = 0; i < usage.count; i++) {
		memset(&samples[i], 0, sizeof samples[i]);
		samples[i].pid = list[i].pid;
		samples[i].timeStamp = usage.stamp_us;
		samples[i].smUtil = percent(list[i].busy_permille);
		samples[i].memUtil = percent(NVML_MEMORY_BUSY(list[i].busy_permille));
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_v1_t *info)
{
	NVML_DEVICE_CALL(call, device, info != NULL);
	if (!nvml_version_is(info->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	struct usage usage = {0};
	nvmlReturn_t code = read_usage(&call, info->lastSeenTimeStamp, &usage);
	GS_AUTO_FREE struct nvml_process *list = usage.list;
	uint32_t room = info->processSamplesCount;
	info->processSamplesCount = usage.count;
	if (code != NVML_SUCCESS)
		return code;
	if (!info->procUtilArray || room < usage.count)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (uint32_t i = 0; i < usage.count; i++)
		info->procUtilArray[i] = (nvmlProcessUtilizationInfo_v1_t){
			.timeStamp = usage.stamp_us,
			.pid = list[i].pid,
			.smUtil = percent(list[i].busy_permille),
			.memUtil = percent(NVML_MEMORY_BUSY(list[i].busy_permille)),
		};
	return NVML_SUCCESS;
}
