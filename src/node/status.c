/* The status document: what `gpushare status` reads. docs/status.md describes it. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "node/mig_manager.h"
#include "node/missing.h"
#include "node/node_internal.h"
#include "node/specs.h"
#include "node/usage.h"
#include "node/vanished.h"
#include "node/withdraw.h"

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

/* GPUs that can't be read, wholly or in part: as they were read last, which is newer than the published inventory. */
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
	gs_active_problems(node->strategies, say_problem, problems);
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

static bool is_registered(const struct node *node, const struct gs_resource *resource)
{
	for (size_t i = 0; i < node->plugins.count; i++)
		if (strcmp(kube_plugin_resource_name(node->plugins.items[i]), resource->name) == 0)
			return kube_plugin_registered(node->plugins.items[i]);
	return false;
}

static json_t *resources_of(const struct node *node, const struct gs_usage *usage)
{
	json_t *resources = json_array();
	const struct gs_usage_group *group = usage->groups;
	for (size_t i = 0; i < node->plan.resource_count; i++) {
		const struct gs_resource *resource = &node->plan.resources[i];
		size_t healthy = 0;
		json_t *strategies = json_array();
		for (size_t j = 0; j < resource->device_count; j++, group++) {
			for (uint32_t k = 0; k < group->on->share_count; k++)
				healthy += usage->shares[group->first_share + k].healthy;
			if (j == 0 || group->on->strategy != group[-1].on->strategy)
				json_array_append_new(strategies, json_string(group->on->strategy->name));
		}
		json_array_append_new(resources,
				      json_pack("{s:s, s:o, s:b, s:I, s:I}", "name", resource->name, "strategies",
						strategies, "registered", is_registered(node, resource), "shares",
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
			 state.node_name, "state", state.state, "since", node_timestamp_json(state.since_seconds),
			 "problem", state.problem, "requests", (json_int_t)state.requests, "watches",
			 (json_int_t)state.watches, "waiting", (json_int_t)state.waiting);
}

static json_t *status_document(const struct node *node, const struct gs_usage *usage)
{
	json_t *status =
		json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o}", "version", GPUSHARE_VERSION, "startedAt",
			  node_timestamp_json(node->started_seconds), "driverVersion", gpus_driver_version(node->gpus),
			  "problems", node_problems(node), "kubernetes", kubernetes_of(node), "config", config_of(node),
			  "resources", resources_of(node, usage));
	gs_active_status(node->strategies, status);
	json_object_set_new(status, "gpus", node_usage_gpus_json(usage));
	json_object_set_new(status, "mig", mig_manager_json(node));
	json_object_set_new(status, "missingGpus", node_missing_json(node));
	return status;
}

static json_t *clients_document(const struct node *node, const struct gs_usage *usage)
{
	return node_usage_clients_json(node, usage);
}

/* --- calls --- */

/* A question under way. */
struct question {
	struct rpc_call *call; /* NULL: the client went away meanwhile */
	json_t *(*document)(const struct node *node, const struct gs_usage *usage);
};

static void answer(struct node *node, const struct gs_usage *usage, void *user)
{
	GS_AUTO_FREE struct question *question = user;
	struct rpc_call *call = question->call;
	if (!call)
		return;
	if (!usage) {
		rpc_call_finish(call, RPC_UNAVAILABLE, "the daemon is stopping");
		return;
	}
	json_t *document = question->document(node, usage);
	GS_AUTO_FREE char *text = json_dumps(document, JSON_COMPACT);
	json_decref(document);
	if (!text) {
		rpc_call_finish(call, RPC_INTERNAL, "the answer could not be rendered");
		return;
	}
	rpc_call_send(call, (const uint8_t *)text, strlen(text));
	rpc_call_finish(call, RPC_OK, NULL);
}

static void ask(struct rpc_call *call, struct node *node,
		json_t *(*document)(const struct node *node, const struct gs_usage *usage))
{
	if (!node->gpus || node->stopping) {
		rpc_call_finish(call, RPC_UNAVAILABLE, "the daemon is starting or stopping");
		return;
	}
	struct question *question = gs_calloc(1, sizeof *question);
	*question = (struct question){.call = call, .document = document};
	rpc_call_set_data(call, question);
	node_usage_ask(node, answer, question);
}

static void on_status(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	ask(call, user, status_document);
}

static void on_clients(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	ask(call, user, clients_document);
}

static void on_closed(struct rpc_call *call, void *user)
{
	struct question *question = rpc_call_data(call);
	question->call = NULL;
}

const struct rpc_method node_status_methods[] = {
	{NODE_STATUS_METHOD, on_status, on_closed},
	{NODE_MPS_METHOD, on_clients, on_closed},
	{NODE_FORGET_METHOD, node_on_forget, NULL},
	{NODE_ALLOCATIONS_METHOD, node_on_allocations, node_on_allocations_closed},
	{NODE_WITHDRAW_METHOD, node_on_withdraw, node_on_withdraw_closed},
	{NULL, NULL, NULL},
};
