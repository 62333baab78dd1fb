/* The status document: what `gpushare status` reads. docs/status.md describes it. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/timestamp.h"
#include "core/health/health.h"
#include "node/mig_manager.h"
#include "node/missing.h"
#include "node/node_internal.h"
#include "node/specs.h"
#include "node/vanished.h"
#include "node/withdraw.h"

/* A question under way: the kubelet is asked for pods, then the GPUs are sampled on another thread. */
struct question {
	struct node *node;
	struct rpc_call *call; /* NULL: the client went away meanwhile */
};

static json_t *timestamp(int64_t seconds)
{
	char text[GS_TIMESTAMP_SIZE];
	return json_string(gs_timestamp((struct timespec){.tv_sec = seconds}, 0, text));
}

static void add_problem(json_t *problems, const char *what, const char *why)
{
	char *text = gs_printf("%s: %s", what, why);
	json_array_append_new(problems, json_string(text));
	free(text);
}

static void say_problem(void *user, const char *text)
{
	json_array_append_new(user, json_string(text));
}

/* GPUs that can't be read, wholly or in part: as they were read last, which is newer than what is published. */
void node_unread_problems(const struct node *node, json_t *problems)
{
	const struct gs_inventory *inventory = gpus_inventory(node->gpus);
	for (size_t i = 0; inventory && i < inventory->unread_count; i++) {
		GS_AUTO_FREE char *what = gs_printf("GPU %u can't be read and is left out", inventory->unread[i].index);
		add_problem(problems, what, inventory->unread[i].problem);
	}
	for (size_t i = 0; inventory && i < inventory->gpu_count; i++) {
		GS_AUTO_FREE char *what = gs_printf("GPU %u can't be read in full", inventory->gpus[i].index);
		if (*inventory->gpus[i].problem)
			add_problem(problems, what, inventory->gpus[i].problem);
	}
}

static json_t *node_problems(const struct node *node)
{
	json_t *problems = json_array();
	const char *waiting = gpus_waiting_reason(node->gpus);
	if (node->config_problem)
		add_problem(problems, "the config file is not in force", node->config_problem);
	if (node->config_waits_for_label)
		add_problem(
			problems, "no configuration is in force yet",
			"the API server has not said which one the node's label chooses; it is waited for, for 10 s at "
			"most");
	if (node->plan_problem)
		add_problem(problems, "the config does not fit this node's GPUs", node->plan_problem);
	for (size_t i = 0; i < node->plan.note_count; i++)
		json_array_append_new(problems, json_string(node->plan.notes[i]));
	for (size_t i = 0; i < node->plan.unmatched_count; i++)
		json_array_append_new(problems, json_string(node->plan.unmatched[i]));
	node_unread_problems(node, problems);
	gs_plan_modes(&node->plan, &node->inventory, say_problem, problems);
	node_missing_problems(node, problems);
	node_vanished_problems(node, problems);
	node_mps_problems(node, problems);
	if (mig_manager_problem(node))
		add_problem(problems, "the MIG configuration that the node's label wants is not in force",
			    mig_manager_problem(node));
	if (node_imex_problem(node))
		json_array_append_new(problems, json_string(node_imex_problem(node)));
	if (gpus_hang(node->gpus)) {
		char *why = gs_printf("%s; dmesg may tell why", gpus_hang(node->gpus));
		add_problem(problems, "the NVIDIA driver hangs", why);
		free(why);
	}
	if (waiting)
		add_problem(problems, "waiting for the NVIDIA driver", waiting);
	if (node->cluster_problem)
		add_problem(problems, "the API server is not used", node->cluster_problem);
	struct cluster_state cluster;
	cluster_get_state(node->cluster, &cluster);
	if (*cluster.problem)
		add_problem(problems, "the API server", cluster.problem);
	if (node->serve_conflict)
		add_problem(problems, "conflict", node->serve_problem);
	if (node_specs_problem(node))
		add_problem(problems, "the CDI spec is not as it should be", node_specs_problem(node));
	if (node_labels_problem(node))
		add_problem(problems, "the labels' file could not be written", node_labels_problem(node));
	const struct kube_pod_table *pods;
	const char *pods_problem;
	if (node->pods && kube_pods_get(node->pods, &pods, &pods_problem) == KUBE_PODS_FAILED)
		add_problem(problems, "pods are not known", pods_problem);
	if (node->ledger_failed)
		add_problem(problems, "allocations can't be kept for the next start", node->options->state_dir);
	for (size_t i = 0; i < node->plugins.count; i++)
		if (*kube_plugin_problem(node->plugins.items[i]))
			json_array_append_new(problems, json_string(kube_plugin_problem(node->plugins.items[i])));
	for (size_t i = 0; i < node->plan.resource_count; i++) {
		bool served = false;
		for (size_t j = 0; j < node->plugins.count; j++)
			served |= strcmp(kube_plugin_resource_name(node->plugins.items[j]),
					 node->plan.resources[i].name) == 0;
		if (!served)
			add_problem(problems, "not served", node->plan.resources[i].name);
	}
	return problems;
}

static json_t *resources_of(const struct node *node)
{
	json_t *resources = json_array();
	for (size_t i = 0; i < node->plan.resource_count; i++) {
		const struct gs_resource *resource = &node->plan.resources[i];
		size_t healthy = 0;
		bool registered = false;
		json_t *strategies = json_array();
		for (size_t j = 0; j < resource->device_count; j++) {
			const struct gs_resource_device *device = &resource->devices[j];
			for (uint32_t k = 0; k < device->share_count; k++)
				healthy += node_share_healthy(node, resource, device, device->first_share + k);
			if (j == 0 || device->strategy != resource->devices[j - 1].strategy)
				json_array_append_new(strategies, json_string(device->strategy->name));
		}
		for (size_t j = 0; j < node->plugins.count; j++)
			if (strcmp(kube_plugin_resource_name(node->plugins.items[j]), resource->name) == 0)
				registered = kube_plugin_registered(node->plugins.items[j]);
		json_array_append_new(resources,
				      json_pack("{s:s, s:o, s:b, s:I, s:I}", "name", resource->name, "strategies",
						strategies, "registered", registered, "shares",
						(json_int_t)resource->share_count, "healthy", (json_int_t)healthy));
	}
	return resources;
}

static json_t *config_of(const struct node *node)
{
	const char *name = node->config_name ? node->config_name : node->options->config_path;
	return json_pack("{s:b, s:s}", "ready", node->config_ready, "name", name ? name : "");
}

/* null where there is no API server to talk to. */
static json_t *kubernetes_of(const struct node *node)
{
	if (!node->cluster)
		return json_null();
	struct cluster_state state;
	cluster_get_state(node->cluster, &state);
	return json_pack("{s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:I}", "server", state.server, "nodeName",
			 state.node_name, "state", state.state, "since", timestamp(state.since_seconds), "problem",
			 state.problem, "requests", (json_int_t)state.requests, "watches", (json_int_t)state.watches,
			 "waiting", (json_int_t)state.waiting);
}

static void set_bytes(json_t *object, const char *key, bool valid, uint64_t bytes)
{
	json_object_set_new(object, key, valid ? json_integer((json_int_t)bytes) : json_null());
}

/* The MIG device of a GPU with these ids; NULL: none. */
static const struct gs_device *mig_device(const struct node *node, uint32_t gpu, uint32_t gpu_instance,
					  uint32_t compute_instance)
{
	for (size_t i = 0; i < node->inventory.device_count; i++) {
		const struct gs_device *device = &node->inventory.devices[i];
		if (device->mig && device->gpu == gpu && device->gpu_instance == gpu_instance &&
		    device->compute_instance == compute_instance)
			return device;
	}
	return NULL;
}

static json_t *process_json(const struct node *node, uint32_t gpu, const struct gs_process_sample *process)
{
	json_t *object = json_pack("{s:i, s:s}", "pid", (int)process->pid, "name", process->name);
	set_bytes(object, "memoryBytes", process->memory_valid, process->memory_bytes);
	json_object_set_new(object, "utilizationPercent",
			    process->utilization_valid ? json_integer((json_int_t)process->utilization_percent)
						       : json_null());
	const struct gs_device *device = mig_device(node, gpu, process->gpu_instance, process->compute_instance);
	if (device)
		json_object_set_new(object, "migDevice", json_string(device->uuid));
	return object;
}

/* Whether GPUSHARE_SHARES of a process names the share. */
static bool holds(const struct gs_process_sample *process, const char *share)
{
	size_t length = strlen(share);
	for (const char *at = process->shares; (at = strstr(at, share)); at += length)
		if ((at == process->shares || at[-1] == ',') && (at[length] == '\0' || at[length] == ','))
			return true;
	return false;
}

/* The pods that hold a share, as the kubelet tells; null when it does not. */
static json_t *pods_json(const struct node *node, const char *share)
{
	const struct kube_pod_table *table;
	const char *problem;
	if (!node->pods || kube_pods_get(node->pods, &table, &problem) != KUBE_PODS_KNOWN)
		return json_null();
	json_t *pods = json_array();
	size_t count;
	const struct kube_pod_holder *holders = kube_pod_table_find(table, share, &count);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(pods, json_pack("{s:s, s:s, s:s}", "namespace", holders[i].namespace, "name",
						      holders[i].pod, "container", holders[i].container));
	return pods;
}

static json_t *share_json(const struct node *node, const struct gs_resource *resource,
			  const struct gs_resource_device *device, uint32_t position,
			  const struct gs_gpu_sample *sample, bool *traced)
{
	const struct gs_share *share = &resource->shares[position];
	json_t *holders = json_array();
	for (size_t i = 0; i < sample->process_count; i++) {
		if (!holds(&sample->processes[i], share->id))
			continue;
		traced[i] = true;
		json_array_append_new(holders, process_json(node, device->gpu, &sample->processes[i]));
	}
	int64_t allocated = ledger_get(node->ledger, share->id);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "id", share->id, "device",
			 node->inventory.devices[device->device].uuid, "resource", resource->name, "strategy",
			 device->strategy->name, "state",
			 node_share_healthy(node, resource, device, position) ? "Healthy" : "Unhealthy", "memoryBytes",
			 (json_int_t)share->memory_bytes, "computePermille", (json_int_t)share->compute_permille,
			 "lastAllocated", allocated ? timestamp(allocated) : json_null(), "pods",
			 pods_json(node, share->id), "holders", holders);
}

static json_t *shares_of(const struct node *node, uint32_t gpu, const struct gs_gpu_sample *sample, bool *traced)
{
	json_t *shares = json_array();
	for (size_t i = 0; i < node->plan.resource_count; i++) {
		const struct gs_resource *resource = &node->plan.resources[i];
		for (size_t j = 0; j < resource->device_count; j++) {
			const struct gs_resource_device *device = &resource->devices[j];
			for (uint32_t k = 0; device->gpu == gpu && k < device->share_count; k++)
				json_array_append_new(shares, share_json(node, resource, device,
									 device->first_share + k, sample, traced));
		}
	}
	return shares;
}

static json_t *mig_device_json(const struct node *node, uint32_t which, const struct gs_gpu_sample *sample)
{
	const struct gs_device *device = &node->inventory.devices[which];
	const struct gs_mig_sample *mig = NULL;
	for (size_t i = 0; i < sample->mig_count && !mig; i++)
		if (sample->migs[i].gpu_instance == device->gpu_instance &&
		    sample->migs[i].compute_instance == device->compute_instance)
			mig = &sample->migs[i];
	const char *reason;
	bool healthy = node_device_healthy(node, which, &reason);
	json_t *memory = json_object();
	set_bytes(memory, "totalBytes", true, device->memory_bytes);
	set_bytes(memory, "usedBytes", mig && mig->memory_valid, mig ? mig->memory_used_bytes : 0);
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:o}", "index", device->index, "uuid", device->uuid,
			 "profile", device->mig_profile, "gpuInstance", (json_int_t)device->gpu_instance,
			 "computeInstance", (json_int_t)device->compute_instance, "health",
			 healthy ? "Healthy" : "Unhealthy", "reason", healthy ? "" : reason, "memory", memory);
}

static json_t *mig_devices_of(const struct node *node, uint32_t gpu, const struct gs_gpu_sample *sample)
{
	json_t *devices = json_array();
	for (uint32_t i = 0; i < node->inventory.device_count; i++)
		if (node->inventory.devices[i].mig && node->inventory.devices[i].gpu == gpu)
			json_array_append_new(devices, mig_device_json(node, i, sample));
	return devices;
}

/* Why no container can get a GPU that is well; NULL: it can. */
static const char *withheld_text(const struct node *node, uint32_t gpu)
{
	for (uint32_t i = 0; i < node->inventory.device_count; i++)
		if (node->inventory.devices[i].gpu == gpu && !node->inventory.devices[i].mig)
			return gs_plan_withheld(&node->plan, i) ? gs_plan_withheld(&node->plan, i)
								: gs_plan_misfit(&node->plan, i);
	return NULL;
}

static json_t *gpu_json(const struct node *node, uint32_t which, const struct gs_gpu_sample *sample)
{
	const struct gs_gpu *gpu = &node->inventory.gpus[which];
	const char *reason;
	bool healthy = gpus_healthy(node->gpus, gpu->uuid, &reason);
	bool traced[GS_PROCESSES_MAX] = {false};
	json_t *memory = json_object();
	set_bytes(memory, "totalBytes", gpu->memory_bytes > 0, gpu->memory_bytes);
	set_bytes(memory, "usedBytes", sample->valid & GS_SAMPLE_MEMORY, sample->memory_used_bytes);
	json_t *shares = shares_of(node, which, sample, traced);
	json_t *strangers = json_array();
	for (size_t i = 0; i < sample->process_count; i++)
		if (!traced[i])
			json_array_append_new(strangers, process_json(node, which, &sample->processes[i]));
	json_t *object =
		json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "index", (int)gpu->index, "uuid", gpu->uuid,
			  "name", gpu->name, "pciBusId", gpu->pci_bus_id, "health", healthy ? "Healthy" : "Unhealthy",
			  "reason", healthy ? "" : reason, "memory", memory, "shares", shares, "processes", strangers);
	const char *withheld = withheld_text(node, which);
	if (healthy && withheld)
		json_object_set_new(object, "reason", json_string(withheld));
	json_object_set_new(object, "migEnabled", json_boolean(gpu->mig_enabled));
	json_object_set_new(object, "migDevices", mig_devices_of(node, which, sample));
	json_object_set_new(object, "numaNode", gpu->numa_node < 0 ? json_null() : json_integer(gpu->numa_node));
	json_object_set_new(object, "utilizationPercent",
			    sample->valid & GS_SAMPLE_UTILIZATION
				    ? json_integer((json_int_t)sample->utilization_percent)
				    : json_null());
	json_object_set_new(object, "temperatureCelsius",
			    sample->valid & GS_SAMPLE_TEMPERATURE ? json_integer((json_int_t)sample->temperature_c)
								  : json_null());
	json_object_set_new(object, "powerWatts",
			    sample->valid & GS_SAMPLE_POWER ? json_real(sample->power_mw / 1000.0) : json_null());
	return object;
}

/* A GPU that is there, and of which nothing is known but that. */
static json_t *unread_json(const struct gs_unread_gpu *unread)
{
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:{s:n, s:n}, s:[], s:[], s:b, s:[], s:n, s:n, s:n, s:n}",
			 "index", (int)unread->index, "uuid", "", "name", "", "pciBusId", "", "health", "Unhealthy",
			 "reason", unread->problem, "memory", "totalBytes", "usedBytes", "shares", "processes",
			 "migEnabled", 0, "migDevices", "numaNode", "utilizationPercent", "temperatureCelsius",
			 "powerWatts");
}

static const struct gs_gpu_sample *sample_of(const struct gs_inventory *inventory, const struct gs_gpu_sample *samples,
					     const char *uuid)
{
	static const struct gs_gpu_sample nothing;
	for (size_t i = 0; i < inventory->gpu_count; i++)
		if (strcmp(inventory->gpus[i].uuid, uuid) == 0)
			return &samples[i];
	return &nothing;
}

static void answer(void *user, const struct gs_inventory *inventory, const struct gs_gpu_sample *samples)
{
	struct question *question = user;
	const struct node *node = question->node;
	struct rpc_call *call = question->call;
	free(question);
	if (!call)
		return;
	if (node->stopping) {
		rpc_call_finish(call, RPC_UNAVAILABLE, "the daemon is stopping");
		return;
	}
	json_t *gpus = json_array();
	for (uint32_t i = 0; i < node->inventory.gpu_count; i++)
		json_array_append_new(gpus,
				      gpu_json(node, i, sample_of(inventory, samples, node->inventory.gpus[i].uuid)));
	for (size_t i = 0; i < node->inventory.unread_count; i++)
		json_array_append_new(gpus, unread_json(&node->inventory.unread[i]));
	json_t *status =
		json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "version", GPUSHARE_VERSION, "startedAt",
			  timestamp(node->started_seconds), "driverVersion", gpus_driver_version(node->gpus),
			  "problems", node_problems(node), "kubernetes", kubernetes_of(node), "config", config_of(node),
			  "resources", resources_of(node), "mps", node_mps_status(node), "gpus", gpus);
	json_object_set_new(status, "mig", mig_manager_json(node));
	json_object_set_new(status, "missingGpus", node_missing_json(node));
	char *text = json_dumps(status, JSON_COMPACT);
	json_decref(status);
	if (!text) {
		rpc_call_finish(call, RPC_INTERNAL, "the status could not be rendered");
		return;
	}
	rpc_call_send(call, (const uint8_t *)text, strlen(text));
	rpc_call_finish(call, RPC_OK, NULL);
	free(text);
}

/* The kubelet has told what it tells. */
static void on_pods(void *user)
{
	struct question *question = user;
	struct node *node = question->node;
	if (question->call && !node->stopping && node->gpus) {
		gpus_sample(node->gpus, answer, question);
		return;
	}
	if (question->call)
		rpc_call_finish(question->call, RPC_UNAVAILABLE, "the daemon is stopping");
	free(question);
}

static void on_status(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	struct node *node = user;
	if (!node->gpus || node->stopping) {
		rpc_call_finish(call, RPC_UNAVAILABLE, "the daemon is starting or stopping");
		return;
	}
	struct question *question = gs_calloc(1, sizeof *question);
	*question = (struct question){.node = node, .call = call};
	rpc_call_set_data(call, question);
	if (node->pods)
		kube_pods_refresh(node->pods, on_pods, question);
	else
		on_pods(question);
}

static void on_status_closed(struct rpc_call *call, void *user)
{
	struct question *question = rpc_call_data(call);
	question->call = NULL;
}

const struct rpc_method node_status_methods[] = {
	{NODE_STATUS_METHOD, on_status, on_status_closed},
	{NODE_FORGET_METHOD, node_on_forget, NULL},
	{NODE_ALLOCATIONS_METHOD, node_on_allocations, node_on_allocations_closed},
	{NODE_WITHDRAW_METHOD, node_on_withdraw, node_on_withdraw_closed},
	{NULL, NULL, NULL},
};
