#include "gpu/sample.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "gpushare/abi.h"

enum { ENVIRONMENT_BYTES_MAX = 128 * 1024 };

char *gs_process_environment(const char *proc, int pid, const char *variable)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/environ", proc, pid);
	size_t length, name_length = strlen(variable);
	GS_AUTO_FREE char *block = gs_read_file(path, ENVIRONMENT_BYTES_MAX, &length, NULL);
	for (const char *entry = block; block && entry < block + length; entry += strlen(entry) + 1)
		if (strncmp(entry, variable, name_length) == 0 && entry[name_length] == '=')
			return gs_strdup(entry + name_length + 1);
	return gs_strdup("");
}

static void read_name(const char *proc, struct gs_process_sample *process)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/comm", proc, process->pid);
	size_t length;
	GS_AUTO_FREE char *name = gs_read_file(path, 256, &length, NULL);
	if (name)
		snprintf(process->name, sizeof process->name, "%.*s", (int)strcspn(name, "\n"), name);
}

typedef nvmlReturn_t list_processes(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);

/* Adds the processes of one of NVML's lists to those that are there; a process may be on several. */
static void add_list(list_processes *list, nvmlDevice_t device, struct gs_gpu_sample *sample)
{
	uint32_t count = 0;
	if (!list || list(device, &count, NULL) != NVML_ERROR_INSUFFICIENT_SIZE || count == 0)
		return;
	count = count + 8 < GS_PROCESSES_MAX ? count + 8 : GS_PROCESSES_MAX; /* some may start meanwhile */
	GS_AUTO_FREE nvmlProcessInfo_t *found = gs_calloc(count, sizeof *found);
	if (list(device, &count, found) != NVML_SUCCESS)
		return;
	sample->processes = gs_reallocarray(sample->processes, sample->process_count + count, sizeof *sample->processes);
	for (uint32_t i = 0; i < count && sample->process_count < GS_PROCESSES_MAX; i++) {
		size_t known = 0;
		while (known < sample->process_count && sample->processes[known].pid != (int)found[i].pid)
			known++;
		if (known < sample->process_count)
			continue;
		struct gs_process_sample *process = &sample->processes[sample->process_count++];
		*process = (struct gs_process_sample){
			.pid = (int)found[i].pid,
			/* All bits set: not available, as on Windows and for some MIG processes. */
			.memory_valid = found[i].usedGpuMemory != UINT64_MAX,
			.memory_bytes = found[i].usedGpuMemory,
		};
	}
}

/* The newest sample of each process; the driver keeps a few seconds of them. */
static void add_utilization(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_gpu_sample *sample)
{
	uint32_t count = 0;
	if (sample->process_count == 0 ||
	    GS_NVML(nvml, DeviceGetProcessUtilization, device, NULL, &count, 0) != NVML_ERROR_INSUFFICIENT_SIZE || count == 0)
		return;
	count = count < 4 * GS_PROCESSES_MAX ? count : 4 * GS_PROCESSES_MAX;
	GS_AUTO_FREE nvmlProcessUtilizationSample_t *samples = gs_calloc(count, sizeof *samples);
	if (GS_NVML(nvml, DeviceGetProcessUtilization, device, samples, &count, 0) != NVML_SUCCESS)
		return;
	for (size_t i = 0; i < sample->process_count; i++) {
		struct gs_process_sample *process = &sample->processes[i];
		uint64_t newest = 0;
		for (uint32_t j = 0; j < count; j++) {
			if ((int)samples[j].pid != process->pid || samples[j].timeStamp < newest || samples[j].smUtil > 100)
				continue;
			newest = samples[j].timeStamp;
			process->utilization_percent = samples[j].smUtil;
			process->utilization_valid = true;
		}
	}
}

static int by_pid(const void *a, const void *b)
{
	const struct gs_process_sample *x = a, *y = b;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

static void add_processes(const struct gs_nvml *nvml, nvmlDevice_t device, const char *proc, struct gs_gpu_sample *sample)
{
	add_list(nvml->DeviceGetComputeRunningProcesses, device, sample);
	add_list(nvml->DeviceGetMPSComputeRunningProcesses, device, sample);
	add_list(nvml->DeviceGetGraphicsRunningProcesses, device, sample);
	add_utilization(nvml, device, sample);
	if (sample->process_count)
		qsort(sample->processes, sample->process_count, sizeof *sample->processes, by_pid);
	for (size_t i = 0; i < sample->process_count; i++) {
		read_name(proc, &sample->processes[i]);
		sample->processes[i].shares = gs_process_environment(proc, sample->processes[i].pid, GPUSHARE_ENV_SHARES);
	}
}

void gs_sample_read(const struct gs_nvml *nvml, const char *uuid, const char *proc, struct gs_gpu_sample *sample)
{
	nvmlDevice_t device;
	nvmlMemory_t memory;
	nvmlUtilization_t utilization;
	*sample = (struct gs_gpu_sample){0};
	if (GS_NVML(nvml, DeviceGetHandleByUUID, uuid, &device) != NVML_SUCCESS)
		return;
	if (GS_NVML(nvml, DeviceGetMemoryInfo, device, &memory) == NVML_SUCCESS) {
		sample->valid |= GS_SAMPLE_MEMORY;
		sample->memory_used_bytes = memory.used;
	}
	if (GS_NVML(nvml, DeviceGetUtilizationRates, device, &utilization) == NVML_SUCCESS) {
		sample->valid |= GS_SAMPLE_UTILIZATION;
		sample->utilization_percent = utilization.gpu;
	}
	if (GS_NVML(nvml, DeviceGetTemperature, device, NVML_TEMPERATURE_GPU, &sample->temperature_c) == NVML_SUCCESS)
		sample->valid |= GS_SAMPLE_TEMPERATURE;
	if (GS_NVML(nvml, DeviceGetPowerUsage, device, &sample->power_mw) == NVML_SUCCESS)
		sample->valid |= GS_SAMPLE_POWER;
	add_processes(nvml, device, proc, sample);
}

void gs_sample_free(struct gs_gpu_sample *sample)
{
	for (size_t i = 0; i < sample->process_count; i++)
		free(sample->processes[i].shares);
	free(sample->processes);
	*sample = (struct gs_gpu_sample){0};
}
