/* Finds the process that runs on each instance. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/utf8.h"
#include "mig/mig.h"
#include "gpu/sample.h"
#include "gpushare/abi.h"

enum { CGROUP_BYTES_MAX = 64 * 1024, PROCESSES_MAX = 1024, CONTAINER_ID = 64, SHORT_ID = 12 };

/* The first 12 digits of a container's id: the last 64 of them in the path of its cgroup, which every runtime puts there
 * ("/kubepods/burstable/pod.../<id>", "cri-containerd-<id>.scope", "docker-<id>.scope"). */
static bool find_container(const char *cgroup, char id[SHORT_ID + 1])
{
	bool found = false;
	for (const char *at = cgroup; *at;) {
		size_t digits = strspn(at, "0123456789abcdef");
		if (digits == CONTAINER_ID) {
			memcpy(id, at, SHORT_ID);
			id[SHORT_ID] = '\0';
			found = true;
		}
		at += digits ? digits : 1;
	}
	return found;
}

void gs_mig_describe_process(const char *proc, int pid, char *text, size_t size)
{
	char container[SHORT_ID + 1];
	size_t length;
	GS_AUTO_FREE char *comm_path = gs_printf("%s/%d/comm", proc, pid);
	GS_AUTO_FREE char *cgroup_path = gs_printf("%s/%d/cgroup", proc, pid);
	GS_AUTO_FREE char *comm = gs_read_file(comm_path, 256, &length, NULL);
	GS_AUTO_FREE char *cgroup = gs_read_file(cgroup_path, CGROUP_BYTES_MAX, &length, NULL);
	GS_AUTO_FREE char *shares = gs_process_environment(proc, pid, GPUSHARE_ENV_SHARES);
	int used = comm ? snprintf(text, size, "process %d (%.*s)", pid, (int)strcspn(comm, "\n"), comm)
			: snprintf(text, size, "process %d", pid);
	bool in_container = cgroup && find_container(cgroup, container);
	GS_AUTO_FREE char *host =
		cgroup && strstr(cgroup, "kubepods") ? gs_process_environment(proc, pid, "HOSTNAME") : gs_strdup("");
	if (used < 0 || (size_t)used >= size)
		used = (int)strlen(text);
	if (*host)
		snprintf(text + used, size - (size_t)used, ", pod %s", host);
	else if (in_container)
		snprintf(text + used, size - (size_t)used, ", container %s", container);
	else if (*shares)
		snprintf(text + used, size - (size_t)used, ", share %s", shares);
	gs_utf8_make_plain(text);
}

typedef nvmlReturn_t list_processes(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);

/* A process may be on several lists, and on several instances. */
static void add_process(struct gs_mig_board *board, const char *proc, const nvmlProcessInfo_t *info)
{
	for (size_t i = 0; i < board->process_count; i++) {
		const struct gs_mig_process *known = &board->processes[i];
		if (known->pid == (int)info->pid && known->instance == info->gpuInstanceId &&
		    known->compute == info->computeInstanceId)
			return;
	}
	if (board->process_count == PROCESSES_MAX)
		return;
	board->processes = gs_reallocarray(board->processes, board->process_count + 1, sizeof *board->processes);
	struct gs_mig_process *process = &board->processes[board->process_count++];
	*process = (struct gs_mig_process){
		.pid = (int)info->pid,
		.instance = info->gpuInstanceId,
		.compute = info->computeInstanceId,
		.memory_valid = info->usedGpuMemory != UINT64_MAX,
		.memory_bytes = info->usedGpuMemory,
	};
	gs_mig_describe_process(proc, process->pid, process->who, sizeof process->who);
}

static bool add_list(list_processes *list, nvmlDevice_t device, const char *proc, struct gs_mig_board *board)
{
	nvmlReturn_t code = list ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_ERROR_FUNCTION_NOT_FOUND;
	uint32_t count = 0, room = 0;
	GS_AUTO_FREE nvmlProcessInfo_t *found = NULL;
	/* Processes may start between the question for the number and the one for the list. */
	for (int tries = 0; code == NVML_ERROR_INSUFFICIENT_SIZE && tries < 4; tries++) {
		room = count ? (count < PROCESSES_MAX - 8 ? count + 8 : PROCESSES_MAX) : 0;
		count = room;
		if (room)
			found = gs_reallocarray(found, room, sizeof *found);
		code = list(device, &count, found);
	}
	for (uint32_t i = 0; code == NVML_SUCCESS && i < count && i < room; i++)
		add_process(board, proc, &found[i]);
	return code == NVML_SUCCESS;
}

static int by_pid(const void *a, const void *b)
{
	const struct gs_mig_process *x = a, *y = b;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

static void hold(struct gs_mig_instance *instance, const char *who)
{
	size_t length = strlen(instance->holder);
	instance->busy = true;
	if (!length)
		snprintf(instance->holder, sizeof instance->holder, "%s", who);
	else if (length + 16 < sizeof instance->holder && !strstr(instance->holder, " and others"))
		snprintf(instance->holder + length, sizeof instance->holder - length, " and others");
}

static void mark_process(struct gs_mig_board *board, const struct gs_mig_process *process)
{
	for (size_t i = 0; i < board->layout.count; i++) {
		struct gs_mig_instance *instance = &board->layout.instances[i];
		if (instance->id != process->instance)
			continue;
		hold(instance, process->who);
		for (size_t k = 0; k < instance->compute_count; k++)
			if (instance->compute[k].id == process->compute)
				instance->compute[k].busy = true;
	}
}

void gs_mig_read_processes(const struct gs_nvml *nvml, const char *proc, nvmlDevice_t device,
			   struct gs_mig_board *board)
{
	free(board->processes);
	board->processes = NULL;
	board->process_count = 0;
	for (size_t i = 0; i < board->layout.count; i++) {
		struct gs_mig_instance *instance = &board->layout.instances[i];
		instance->busy = false;
		instance->holder[0] = '\0';
		for (size_t k = 0; k < instance->compute_count; k++)
			instance->compute[k].busy = false;
	}
	board->processes_known = add_list(nvml->DeviceGetComputeRunningProcesses, device, proc, board);
	(void)add_list(nvml->DeviceGetMPSComputeRunningProcesses, device, proc, board);
	(void)add_list(nvml->DeviceGetGraphicsRunningProcesses, device, proc, board);
	if (board->process_count)
		qsort(board->processes, board->process_count, sizeof *board->processes, by_pid);
	for (size_t i = 0; i < board->process_count; i++)
		mark_process(board, &board->processes[i]);
}

static bool has_process(const struct gs_mig_board *board, uint32_t instance, uint32_t compute)
{
	for (size_t i = 0; i < board->process_count; i++)
		if (board->processes[i].instance == instance && board->processes[i].compute == compute)
			return true;
	return false;
}

/* A process on the instance says more than the allocation of the device. */
static void mark_compute(struct gs_mig_board *board, size_t instance, size_t compute, const char *who)
{
	struct gs_mig_instance *on = &board->layout.instances[instance];
	if (!has_process(board, on->id, on->compute[compute].id))
		hold(on, who);
	on->compute[compute].busy = true;
}

bool gs_mig_mark_busy(struct gs_mig_boards *boards, const char *uuid, const char *who)
{
	bool found = false;
	for (size_t i = 0; i < boards->count && !found; i++) {
		struct gs_mig_board *board = &boards->items[i];
		bool all = strcmp(board->uuid, uuid) == 0;
		for (size_t j = 0; j < board->layout.count; j++) {
			for (size_t k = 0; k < board->layout.instances[j].compute_count; k++) {
				if (!all && strcmp(board->uuids[j][k], uuid) != 0)
					continue;
				mark_compute(board, j, k, who);
				found = true;
			}
		}
	}
	return found;
}
