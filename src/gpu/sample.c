#include "gpu/sample.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/utf8.h"
#include "gpushare/abi.h"

enum {
	ENVIRONMENT_BYTES_MAX = 128 * 1024,
	CGROUP_BYTES_MAX = 64 * 1024,
	/* Of what processes say of their shares, for all of a GPU: then each may still name some. */
	SHARES_BYTES_MAX = 1024 * 1024,
	SHARES_BYTES_LEAST = 512,
};

char *gs_environment_value(const char *block, size_t length, const char *variable)
{
	size_t name_length = strlen(variable);
	for (const char *entry = block; entry < block + length; entry += strlen(entry) + 1)
		if (strncmp(entry, variable, name_length) == 0 && entry[name_length] == '=')
			return gs_strdup(entry + name_length + 1);
	return gs_strdup("");
}

char *gs_process_environment(const char *proc, int pid, const char *variable)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/environ", proc, pid);
	size_t length;
	GS_AUTO_FREE char *block = gs_read_file(path, ENVIRONMENT_BYTES_MAX, &length, NULL);
	return block ? gs_environment_value(block, length, variable) : gs_strdup("");
}

static void read_name(const char *proc, struct gs_process_sample *process)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/comm", proc, process->pid);
	size_t length;
	GS_AUTO_FREE char *name = gs_read_file(path, 256, &length, NULL);
	if (!name)
		return;
	snprintf(process->name, sizeof process->name, "%.*s", (int)strcspn(name, "\n"), name);
	/* A process calls itself what it likes; a name that is not UTF-8 would not fit in the status document. */
	for (char *at = process->name; *at;) {
		size_t character = gs_utf8_length(at, strlen(at));
		if (!character)
			*at = '?';
		at += character ? character : 1;
	}
}

static struct gs_place read_place(const char *proc, int pid)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/cgroup", proc, pid);
	size_t length = 0;
	GS_AUTO_FREE char *text = gs_read_file(path, CGROUP_BYTES_MAX, &length, NULL);
	return gs_place_read(text, text ? length : 0);
}

typedef nvmlReturn_t list_processes(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);

/* The entries of a list now; false when NVML does not give it. Processes may start between the call for the number and
 * the one for the list, so there is room to spare, and another try. */
static bool fetch_list(list_processes *list, nvmlDevice_t device, nvmlProcessInfo_t **found, uint32_t *count)
{
	nvmlReturn_t code = NVML_ERROR_FUNCTION_NOT_FOUND;
	*count = 0;
	*found = NULL;
	for (int tries = 0; list && tries < 3; tries++) {
		uint32_t needed = 0;
		code = list(device, &needed, NULL);
		if (code == NVML_SUCCESS)
			return true; /* none */
		if (code != NVML_ERROR_INSUFFICIENT_SIZE)
			return false;
		uint32_t room = needed < GS_PROCESSES_MAX - 8 ? needed + 8 : GS_PROCESSES_MAX;
		*found = gs_reallocarray(*found, room, sizeof **found);
		*count = room;
		code = list(device, count, *found);
		if (code == NVML_SUCCESS) {
			*count = *count < room ? *count : room;
			return true;
		}
	}
	free(*found);
	*found = NULL;
	*count = 0;
	return false;
}

static bool is_process(const struct gs_process_sample *process, const nvmlProcessInfo_t *found)
{
	return process->pid == (int)found->pid && process->gpu_instance == found->gpuInstanceId &&
	       process->compute_instance == found->computeInstanceId;
}

/* Adds the processes of one of NVML's lists to those that are there; a process may be on several. */
static bool add_list(list_processes *list, nvmlDevice_t device, struct gs_gpu_sample *sample)
{
	uint32_t count;
	nvmlProcessInfo_t *list_items;
	bool valid = fetch_list(list, device, &list_items, &count);
	GS_AUTO_FREE nvmlProcessInfo_t *found = list_items;
	if (count)
		sample->processes =
			gs_reallocarray(sample->processes, sample->process_count + count, sizeof *sample->processes);
	for (uint32_t i = 0; i < count && sample->process_count < GS_PROCESSES_MAX; i++) {
		size_t known = 0;
		while (known < sample->process_count && !is_process(&sample->processes[known], &found[i]))
			known++;
		if (known < sample->process_count)
			continue;
		struct gs_process_sample *process = &sample->processes[sample->process_count++];
		*process = (struct gs_process_sample){
			.pid = (int)found[i].pid,
			/* All bits set: not available, as on Windows and for some MIG processes. */
			.memory_valid = found[i].usedGpuMemory != UINT64_MAX,
			.memory_bytes = found[i].usedGpuMemory,
			.gpu_instance = found[i].gpuInstanceId,
			.compute_instance = found[i].computeInstanceId,
		};
	}
	return valid;
}

/* Each process's samples of the last seconds, averaged; the driver lists none for a process that did nothing. Its own
 * buffer goes back much further, so older ones are not asked for. */
static void add_utilization(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_gpu_sample *sample)
{
	enum { WINDOW_US = 2 * 1000 * 1000 };
	struct timespec now;
	uint32_t count = 0;
	if (sample->process_count == 0)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t since_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 - WINDOW_US;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetProcessUtilization, device, NULL, &count, since_us);
	uint32_t room = count < 4 * GS_PROCESSES_MAX ? count : 4 * GS_PROCESSES_MAX;
	GS_AUTO_FREE nvmlProcessUtilizationSample_t *samples = gs_calloc(room, sizeof *samples);
	count = room;
	if (code == NVML_ERROR_INSUFFICIENT_SIZE && room)
		code = GS_NVML(nvml, DeviceGetProcessUtilization, device, samples, &count, since_us);
	if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_FOUND)
		return;
	count = code == NVML_ERROR_NOT_FOUND ? 0 : count < room ? count : room;
	for (size_t i = 0; i < sample->process_count; i++) {
		struct gs_process_sample *process = &sample->processes[i];
		uint32_t sum = 0, number = 0;
		for (uint32_t j = 0; j < count; j++) {
			if ((int)samples[j].pid != process->pid || samples[j].smUtil > 100)
				continue;
			sum += samples[j].smUtil;
			number++;
		}
		process->utilization_percent = number ? (sum + number / 2) / number : 0;
		process->utilization_valid = true;
	}
}

static int by_pid(const void *a, const void *b)
{
	const struct gs_process_sample *x = a, *y = b;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

/* Its GPUSHARE_SHARES, without the names that do not fit into the room. */
static char *read_shares(const char *proc, int pid, size_t room)
{
	char *shares = gs_process_environment(proc, pid, GPUSHARE_ENV_SHARES);
	size_t length = strlen(shares);
	if (length <= room)
		return shares;
	while (room > 0 && shares[room] != ',')
		room--;
	char *cut = gs_strndup(shares, room);
	free(shares);
	return cut;
}

static void add_processes(const struct gs_nvml *nvml, nvmlDevice_t device, const char *proc,
			  struct gs_gpu_sample *sample)
{
	if (add_list(nvml->DeviceGetComputeRunningProcesses, device, sample))
		sample->valid |= GS_SAMPLE_PROCESSES;
	add_list(nvml->DeviceGetMPSComputeRunningProcesses, device, sample);
	add_list(nvml->DeviceGetGraphicsRunningProcesses, device, sample);
	add_utilization(nvml, device, sample);
	if (sample->process_count)
		qsort(sample->processes, sample->process_count, sizeof *sample->processes, by_pid);
	size_t room = SHARES_BYTES_MAX;
	for (size_t i = 0; i < sample->process_count; i++) {
		struct gs_process_sample *process = &sample->processes[i];
		read_name(proc, process);
		process->place = read_place(proc, process->pid);
		process->shares =
			read_shares(proc, process->pid, room > SHARES_BYTES_LEAST ? room : SHARES_BYTES_LEAST);
		size_t used = strlen(process->shares);
		room -= used < room ? used : room;
	}
}

/* The second version does not count what the driver keeps for itself as used, as nvidia-smi shows it. */
static bool read_memory(const struct gs_nvml *nvml, nvmlDevice_t device, uint64_t *used_bytes, uint64_t *free_bytes,
			uint64_t *total_bytes)
{
	nvmlMemory_v2_t memory = {.version = nvmlMemory_v2};
	nvmlMemory_t older = {0};
	if (GS_NVML(nvml, DeviceGetMemoryInfo_v2, device, &memory) == NVML_SUCCESS) {
		*used_bytes = memory.used;
		*free_bytes = memory.free;
		*total_bytes = memory.total;
	} else if (GS_NVML(nvml, DeviceGetMemoryInfo, device, &older) == NVML_SUCCESS) {
		*used_bytes = older.used;
		*free_bytes = older.free;
		*total_bytes = older.total;
	} else {
		return false;
	}
	return true;
}

/* Those that answer. */
static void add_migs(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_gpu_sample *sample)
{
	uint32_t current = 0, pending = 0, places = 0;
	if (GS_NVML(nvml, DeviceGetMigMode, device, &current, &pending) != NVML_SUCCESS ||
	    current != NVML_DEVICE_MIG_ENABLE ||
	    GS_NVML(nvml, DeviceGetMaxMigDeviceCount, device, &places) != NVML_SUCCESS)
		return;
	places = places < GS_MIGS_MAX ? places : GS_MIGS_MAX;
	sample->migs = gs_calloc(places, sizeof *sample->migs);
	for (uint32_t i = 0; i < places; i++) {
		struct gs_mig_sample *mig = &sample->migs[sample->mig_count];
		nvmlDevice_t handle;
		if (GS_NVML(nvml, DeviceGetMigDeviceHandleByIndex, device, i, &handle) != NVML_SUCCESS ||
		    GS_NVML(nvml, DeviceGetGpuInstanceId, handle, &mig->gpu_instance) != NVML_SUCCESS ||
		    GS_NVML(nvml, DeviceGetComputeInstanceId, handle, &mig->compute_instance) != NVML_SUCCESS)
			continue;
		mig->memory_valid = read_memory(nvml, handle, &mig->memory_used_bytes, &mig->memory_free_bytes,
						&mig->memory_total_bytes);
		sample->mig_count++;
	}
}

static void read_temperature(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_gpu_sample *sample)
{
	nvmlTemperature_v1_t newer = {.version = nvmlTemperature_v1, .sensorType = NVML_TEMPERATURE_GPU};
	if (GS_NVML(nvml, DeviceGetTemperatureV, device, &newer) == NVML_SUCCESS && newer.temperature >= 0)
		sample->temperature_c = (uint32_t)newer.temperature;
	else if (GS_NVML(nvml, DeviceGetTemperature, device, NVML_TEMPERATURE_GPU, &sample->temperature_c) !=
		 NVML_SUCCESS)
		return;
	sample->valid |= GS_SAMPLE_TEMPERATURE;
}

static int64_t read_clock(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void gs_sample_read(const struct gs_nvml *nvml, const char *uuid, const char *proc, struct gs_gpu_sample *sample)
{
	nvmlDevice_t device;
	nvmlUtilization_t utilization = {0};
	*sample = (struct gs_gpu_sample){.at_ms = read_clock()};
	if (GS_NVML(nvml, DeviceGetHandleByUUID, uuid, &device) != NVML_SUCCESS)
		return;
	if (read_memory(nvml, device, &sample->memory_used_bytes, &sample->memory_free_bytes,
			&sample->memory_total_bytes))
		sample->valid |= GS_SAMPLE_MEMORY;
	if (GS_NVML(nvml, DeviceGetUtilizationRates, device, &utilization) == NVML_SUCCESS) {
		sample->valid |= GS_SAMPLE_UTILIZATION;
		sample->utilization_percent = utilization.gpu;
	}
	read_temperature(nvml, device, sample);
	if (GS_NVML(nvml, DeviceGetPowerUsage, device, &sample->power_mw) == NVML_SUCCESS)
		sample->valid |= GS_SAMPLE_POWER;
	add_processes(nvml, device, proc, sample);
	add_migs(nvml, device, sample);
}

void gs_sample_free(struct gs_gpu_sample *sample)
{
	for (size_t i = 0; i < sample->process_count; i++)
		free(sample->processes[i].shares);
	free(sample->processes);
	free(sample->migs);
	*sample = (struct gs_gpu_sample){0};
}
