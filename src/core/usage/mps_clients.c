#include <string.h>

#include "core/usage/usage.h"

static bool is_mps(const struct gs_usage_group *group)
{
	return strcmp(group->on->strategy->name, "mps") == 0;
}

const struct gs_usage_group *gs_usage_mps_group(const struct gs_usage *usage, uint32_t device)
{
	for (size_t i = 0; i < usage->group_count; i++)
		if (usage->groups[i].on->device == device && is_mps(&usage->groups[i]))
			return &usage->groups[i];
	return NULL;
}

/* A server has a context on the device as its clients have. */
static bool is_server(const struct gs_usage *usage, const struct gs_process_sample *process)
{
	for (size_t i = 0; i < usage->mps_count; i++)
		for (size_t j = 0; j < usage->mps[i].server_count; j++)
			if (usage->mps[i].servers[j] == process->pid)
				return true;
	/* One that a dead control daemon left behind; the kernel cuts names after 15 characters. */
	return strcmp(process->name, "nvidia-cuda-mps") == 0;
}

static void tell_group(const struct gs_usage *usage, const struct gs_usage_group *group, gs_usage_mps_client *tell,
		       void *user)
{
	for (uint32_t i = 0; i < group->on->share_count; i++) {
		const struct gs_usage_share *share = &usage->shares[group->first_share + i];
		for (size_t j = 0; j < share->claim_count; j++)
			tell(user, share, &usage->processes[usage->claims[share->first_claim + j].process]);
	}
}

void gs_usage_mps_clients(const struct gs_usage *usage, gs_usage_mps_client *tell, void *user)
{
	for (uint32_t gpu = 0; gpu < usage->inventory->gpu_count; gpu++)
		for (size_t i = 0; i < usage->group_count; i++)
			if (usage->groups[i].on->gpu == gpu && is_mps(&usage->groups[i]))
				tell_group(usage, &usage->groups[i], tell, user);
	for (size_t i = 0; i < usage->process_count; i++) {
		const struct gs_usage_process *process = &usage->processes[i];
		if (!process->claims && gs_usage_mps_group(usage, process->device) &&
		    !is_server(usage, process->sample))
			tell(user, NULL, process);
	}
}

struct counting {
	const struct gs_usage *usage;
	const struct gs_usage_mps *daemon;
	bool alone; /* on its device */
	size_t count;
};

static void count_client(void *user, const struct gs_usage_share *share, const struct gs_usage_process *process)
{
	struct counting *counting = user;
	const struct gs_usage_mps *daemon = counting->daemon;
	uint32_t device = share ? share->share->device : process->device;
	if (strcmp(daemon->device, counting->usage->inventory->devices[device].uuid) != 0)
		return;
	bool serves = daemon->replica == GS_USAGE_NONE || (share && daemon->replica == share->share->replica);
	counting->count += share ? serves : counting->alone;
}

size_t gs_usage_mps_count(const struct gs_usage *usage, const struct gs_usage_mps *daemon)
{
	struct counting counting = {.usage = usage, .daemon = daemon};
	size_t on_device = 0;
	for (size_t i = 0; i < usage->mps_count; i++)
		on_device += strcmp(usage->mps[i].device, daemon->device) == 0;
	counting.alone = on_device == 1;
	gs_usage_mps_clients(usage, count_client, &counting);
	return counting.count;
}
