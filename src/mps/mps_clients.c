#include "mps/mps_clients.h"

#include <stdlib.h>
#include <string.h>

const struct gs_usage_group *gs_mps_group(const struct gs_usage *usage, const struct gs_strategy *mps, uint32_t device)
{
	for (size_t i = 0; i < usage->group_count; i++)
		if (usage->groups[i].on->device == device && usage->groups[i].on->strategy == mps)
			return &usage->groups[i];
	return NULL;
}

/* A server has a context on the device as its clients have. */
static bool is_server(const struct gs_mps_status *daemons, size_t count, const struct gs_process_sample *process)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < daemons[i].server_count; j++)
			if (daemons[i].servers[j] == process->pid)
				return true;
	/* One that a dead control daemon left behind; the kernel cuts names after 15 characters. */
	return strcmp(process->name, "nvidia-cuda-mps") == 0;
}

static void tell_group(const struct gs_usage *usage, const struct gs_usage_group *group, gs_usage_client *tell,
		       void *user)
{
	for (uint32_t i = 0; i < group->on->share_count; i++) {
		const struct gs_usage_share *share = &usage->shares[group->first_share + i];
		for (size_t j = 0; j < share->claim_count; j++)
			tell(user, share, &usage->processes[usage->claims[share->first_claim + j].process]);
	}
}

void gs_mps_clients(const struct gs_usage *usage, const struct gs_strategy *mps, const struct gs_mps_status *daemons,
		    size_t count, gs_usage_client *tell, void *user)
{
	for (uint32_t gpu = 0; gpu < usage->inventory->gpu_count; gpu++)
		for (size_t i = 0; i < usage->group_count; i++)
			if (usage->groups[i].on->gpu == gpu && usage->groups[i].on->strategy == mps)
				tell_group(usage, &usage->groups[i], tell, user);
	for (size_t i = 0; i < usage->process_count; i++) {
		const struct gs_usage_process *process = &usage->processes[i];
		if (!process->claims && gs_mps_group(usage, mps, process->device) &&
		    !is_server(daemons, count, process->sample))
			tell(user, NULL, process);
	}
}

/* A share's own daemon is in "<device>-<replica>"; GS_USAGE_NONE: this one serves all of the device. */
static uint32_t replica_of(const struct gs_mps_spec *spec)
{
	size_t length = strlen(spec->device);
	return strlen(spec->key) > length ? (uint32_t)strtoul(spec->key + length + 1, NULL, 10) : GS_USAGE_NONE;
}

struct counting {
	const struct gs_usage *usage;
	const char *device;
	uint32_t replica;
	bool alone; /* on its device */
	size_t count;
};

static void count_client(void *user, const struct gs_usage_share *share, const struct gs_usage_process *process)
{
	struct counting *counting = user;
	uint32_t device = share ? share->share->device : process->device;
	if (strcmp(counting->device, counting->usage->inventory->devices[device].uuid) != 0)
		return;
	bool serves = counting->replica == GS_USAGE_NONE || (share && counting->replica == share->share->replica);
	counting->count += share ? serves : counting->alone;
}

size_t gs_mps_client_count(const struct gs_usage *usage, const struct gs_strategy *mps,
			   const struct gs_mps_status *daemons, size_t count, size_t which)
{
	const struct gs_mps_spec *spec = daemons[which].spec;
	struct counting counting = {.usage = usage, .device = spec->device, .replica = replica_of(spec)};
	size_t on_device = 0;
	for (size_t i = 0; i < count; i++)
		on_device += strcmp(daemons[i].spec->device, spec->device) == 0;
	counting.alone = on_device == 1;
	gs_mps_clients(usage, mps, daemons, count, count_client, &counting);
	return counting.count;
}
