/* The snapshot as JSON: docs/status.md describes it. */
#include <string.h>

#include "base/timestamp.h"
#include "node/usage.h"

json_t *node_timestamp_json(int64_t seconds)
{
	char text[GS_TIMESTAMP_SIZE];
	return json_string(gs_timestamp((struct timespec){.tv_sec = seconds}, 0, text));
}

static const char *health_name(bool healthy)
{
	return healthy ? "Healthy" : "Unhealthy";
}

/* null: it is unknown. */
static json_t *figure_json(const struct gs_figure *figure)
{
	return figure->source == GS_SOURCE_UNKNOWN ? json_null() : json_integer((json_int_t)figure->value);
}

static json_t *process_json(const struct gs_usage *usage, const struct gs_usage_process *process)
{
	const struct gs_process_sample *sample = process->sample;
	json_t *percent =
		sample->utilization_valid ? json_integer((json_int_t)sample->utilization_percent) : json_null();
	json_t *object = json_pack("{s:i, s:s, s:o, s:o}", "pid", (int)sample->pid, "name", sample->name, "memoryBytes",
				   figure_json(&process->memory_bytes), "utilizationPercent", percent);
	const struct gs_device *device =
		process->device == GS_USAGE_NONE ? NULL : &usage->inventory->devices[process->device];
	if (device && device->mig)
		json_object_set_new(object, "migDevice", json_string(device->uuid));
	return object;
}

/* null: the kubelet does not tell. */
static json_t *pods_json(const struct gs_usage *usage, const struct gs_usage_share *share)
{
	if (!usage->pods_known)
		return json_null();
	json_t *pods = json_array();
	for (size_t i = 0; i < share->pod_count; i++)
		json_array_append_new(pods, json_pack("{s:s, s:s, s:s}", "namespace", share->pods[i].namespace, "name",
						      share->pods[i].pod, "container", share->pods[i].container));
	return pods;
}

static json_t *share_json(const struct gs_usage *usage, const struct gs_usage_share *share)
{
	const struct gs_usage_group *group = &usage->groups[share->group];
	json_t *holders = json_array();
	for (size_t i = 0; i < share->claim_count; i++)
		json_array_append_new(
			holders, process_json(usage, &usage->processes[usage->claims[share->first_claim + i].process]));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "id", share->share->id, "device",
			 usage->inventory->devices[share->share->device].uuid, "resource", group->resource->name,
			 "strategy", group->on->strategy->name, "state", health_name(share->healthy), "memoryBytes",
			 (json_int_t)share->share->memory_bytes, "computePermille",
			 (json_int_t)share->share->compute_permille, "lastAllocated",
			 share->allocated_seconds ? node_timestamp_json(share->allocated_seconds) : json_null(), "pods",
			 pods_json(usage, share), "holders", holders);
}

static json_t *shares_json(const struct gs_usage *usage, uint32_t gpu)
{
	json_t *shares = json_array();
	for (size_t i = 0; i < usage->group_count; i++) {
		const struct gs_usage_group *group = &usage->groups[i];
		for (uint32_t j = 0; group->on->gpu == gpu && j < group->on->share_count; j++)
			json_array_append_new(shares, share_json(usage, &usage->shares[group->first_share + j]));
	}
	return shares;
}

static json_t *mig_devices_json(const struct gs_usage *usage, uint32_t gpu)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < usage->inventory->device_count; i++) {
		const struct gs_device *device = &usage->inventory->devices[i];
		const struct gs_usage_device *known = &usage->devices[i];
		if (!device->mig || device->gpu != gpu)
			continue;
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:{s:I, s:o}}", "index", device->index,
					"uuid", device->uuid, "profile", device->mig_profile, "gpuInstance",
					(json_int_t)device->gpu_instance, "computeInstance",
					(json_int_t)device->compute_instance, "health", health_name(known->healthy),
					"reason", known->healthy ? "" : known->reason, "memory", "totalBytes",
					(json_int_t)device->memory_bytes, "usedBytes",
					figure_json(&known->memory_used_bytes)));
	}
	return list;
}

static json_t *processes_json(const struct gs_usage *usage, const struct gs_usage_gpu *gpu)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < gpu->process_count; i++)
		if (!usage->processes[gpu->first_process + i].claims)
			json_array_append_new(list, process_json(usage, &usage->processes[gpu->first_process + i]));
	return list;
}

static json_t *gpu_json(const struct gs_usage *usage, uint32_t which)
{
	const struct gs_gpu *gpu = &usage->inventory->gpus[which];
	const struct gs_usage_gpu *known = &usage->gpus[which];
	const char *reason = known->healthy ? (known->withheld ? known->withheld : "") : known->reason;
	json_t *total = gpu->memory_bytes ? json_integer((json_int_t)gpu->memory_bytes) : json_null();
	json_t *watts = known->power_mw.source == GS_SOURCE_UNKNOWN ? json_null()
								    : json_real((double)known->power_mw.value / 1000.0);
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:{s:o, s:o}, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o}",
			 "index", (int)gpu->index, "uuid", gpu->uuid, "name", gpu->name, "pciBusId", gpu->pci_bus_id,
			 "health", health_name(known->healthy), "reason", reason, "memory", "totalBytes", total,
			 "usedBytes", figure_json(&known->memory_used_bytes), "shares", shares_json(usage, which),
			 "processes", processes_json(usage, known), "migEnabled", gpu->mig_enabled, "migDevices",
			 mig_devices_json(usage, which), "numaNode",
			 gpu->numa_node < 0 ? json_null() : json_integer(gpu->numa_node), "utilizationPercent",
			 figure_json(&known->utilization_percent), "temperatureCelsius",
			 figure_json(&known->temperature_c), "powerWatts", watts);
}

/* A GPU that is present and that NVML could not read. */
static json_t *unread_json(const struct gs_unread_gpu *unread)
{
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:{s:n, s:n}, s:[], s:[], s:b, s:[], s:n, s:n, s:n, s:n}",
			 "index", (int)unread->index, "uuid", "", "name", "", "pciBusId", "", "health", "Unhealthy",
			 "reason", unread->problem, "memory", "totalBytes", "usedBytes", "shares", "processes",
			 "migEnabled", 0, "migDevices", "numaNode", "utilizationPercent", "temperatureCelsius",
			 "powerWatts");
}

json_t *node_usage_gpus_json(const struct gs_usage *usage)
{
	json_t *gpus = json_array();
	for (uint32_t i = 0; i < usage->inventory->gpu_count; i++)
		json_array_append_new(gpus, gpu_json(usage, i));
	for (size_t i = 0; i < usage->inventory->unread_count; i++)
		json_array_append_new(gpus, unread_json(&usage->inventory->unread[i]));
	return gpus;
}

/* --- parts that strategies run, and their clients --- */

struct rendering {
	const struct gs_usage *usage;
	json_t *clients;
};

static void add_client(void *user, const struct gs_usage_share *share, const struct gs_usage_process *process)
{
	const struct rendering *rendering = user;
	const struct gs_usage *usage = rendering->usage;
	uint32_t device = share ? share->share->device : process->device;
	json_t *client = process_json(usage, process);
	json_object_set_new(client, "device", json_string(usage->inventory->devices[device].uuid));
	json_object_set_new(client, "pods", share ? pods_json(usage, share) : json_null());
	json_object_set_new(client, "share", share ? json_string(share->share->id) : json_null());
	json_object_set_new(client, "resource",
			    share ? json_string(usage->groups[share->group].resource->name) : json_null());
	json_object_set_new(client, "memoryLimitBytes",
			    share ? json_integer((json_int_t)share->share->memory_bytes) : json_null());
	json_object_set_new(client, "computePermille",
			    share ? json_integer((json_int_t)share->share->compute_permille) : json_null());
	json_array_append_new(rendering->clients, client);
}

json_t *node_usage_clients_json(const struct node *node, const struct gs_usage *usage)
{
	struct rendering rendering = {usage, json_array()};
	gs_active_clients(node->strategies, usage, add_client, &rendering);
	return json_pack("{s:o, s:o}", "daemons", gs_active_details(node->strategies, usage), "clients",
			 rendering.clients);
}
