/* Conditions and events of the Node, for operators. docs/cluster-api.md lists them. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "node/missing.h"
#include "node/hardware.h"
#include "node/mig_manager.h"
#include "node/node_internal.h"
#include "node/selection.h"

/* --- joining --- */

static void on_config_label(void *user, const char *value)
{
	node_config_label(user, value);
}

/* What the daemon lacks for talking to an API server; NULL: nothing. Owned by the caller. */
static char *missing(const struct node *node, const char *host, const char *port)
{
	const char *directory = node->config.kubernetes.service_account_dir;
	GS_AUTO_FREE char *token = gs_printf("%s/token", directory);
	if (!host || !*host || !port || !*port)
		return gs_strdup(
			"KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, as they are in a pod");
	if (access(token, R_OK) < 0)
		return gs_printf("there is no service account's token in %s", directory);
	if (!node->config.kubernetes.node_name || !*node->config.kubernetes.node_name)
		return gs_strdup("the node's name is not known; set NODE_NAME from spec.nodeName");
	return NULL;
}

void node_join_cluster(struct node *node)
{
	enum gs_tristate wanted = node->config.kubernetes.api;
	if (wanted == GS_FALSE)
		return;
	const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
	struct gs_error err;
	node->cluster_problem = missing(node, host, port);
	if (!node->cluster_problem) {
		const struct cluster_options options = {
			.node_name = node->config.kubernetes.node_name,
			.host = host,
			.port = port,
			.service_account_dir = node->config.kubernetes.service_account_dir,
		};
		if (cluster_start(&node->loop, &options, &node->cluster, &err) < 0)
			node->cluster_problem = gs_strdup(err.text);
	}
	if (node->cluster) {
		if (node->options->config_dir)
			cluster_watch_label(node->cluster, node->options->config_label_key, on_config_label, node);
		return;
	}
	/* Outside of a pod there is nothing to miss. */
	if (wanted == GS_UNSET && !(host && *host)) {
		free(node->cluster_problem);
		node->cluster_problem = NULL;
		return;
	}
	gs_log(GS_LOG_WARNING, "the API server is not used; set kubernetes.api to false if it should not be",
	       GS_STR("reason", node->cluster_problem));
}

/* --- the configuration --- */

static void report_config(struct node *node)
{
	const char *problem = node->config_problem ? node->config_problem : node->plan_problem;
	if (node->config_waits_for_label)
		return;
	if (problem) {
		const char *reason = node->config_problem ? "ConfigRejected" : "ConfigDoesNotFit";
		GS_AUTO_FREE char *message = gs_printf("%s: %s",
						       node->config_ready ? "the last good configuration stays in force"
									  : "nothing is shared",
						       problem);
		cluster_set_condition(node->cluster, "GPUShareConfigured", false, reason, message);
		cluster_event(node->cluster, true, reason, "LoadConfig", message);
	} else if (node->config_ready && node->plan.note_count) {
		GS_AUTO_STRBUF struct gs_strbuf notes = {0};
		for (size_t i = 0; i < node->plan.note_count; i++)
			gs_strbuf_printf(&notes, "%s%s", i ? "; " : "", node->plan.notes[i]);
		cluster_set_condition(node->cluster, "GPUShareConfigured", false, "PartlyPublished", notes.data);
		cluster_event(node->cluster, true, "PartlyPublished", "LoadConfig", notes.data);
	} else if (node->config_ready) {
		GS_AUTO_FREE char *message = node->config_name && *node->config_name
						     ? gs_printf("configuration \"%s\" is in force", node->config_name)
						     : gs_strdup("the configuration is in force");
		cluster_set_condition(node->cluster, "GPUShareConfigured", true, "ConfigInForce", message);
		if (node->config_bad_reported)
			cluster_event(node->cluster, false, "ConfigLoaded", "LoadConfig", message);
	}
	node->config_bad_reported = problem != NULL;
}

/* --- the GPUs --- */

static bool was_reported(const struct node *node, const char *uuid, size_t *where)
{
	for (size_t i = 0; i < node->reported_sick.count; i++) {
		if (strcmp(node->reported_sick.items[i], uuid) != 0)
			continue;
		*where = i;
		return true;
	}
	return false;
}

static void report_device(struct node *node, size_t which, struct gs_strbuf *sick)
{
	const struct gs_device *gpu = &node->inventory.devices[which];
	const char *reason = "", *gpu_reason;
	bool healthy = gpus_healthy(node->gpus, gpu->uuid, &reason);
	size_t where = 0;
	bool reported = was_reported(node, gpu->uuid, &where);
	/* A message about a GPU covers every device on it. */
	if (gpu->mig && !gpus_healthy(node->gpus, node->inventory.gpus[gpu->gpu].uuid, &gpu_reason))
		return;
	GS_AUTO_FREE char *name = gs_printf("%s %s (%s)", gpu->mig ? "MIG device" : "GPU", gpu->index, gpu->uuid);
	if (!healthy) {
		gs_strbuf_printf(sick, "%s%s: %s", sick->length ? "; " : "", name, reason);
		if (reported)
			return;
		GS_AUTO_FREE char *message = gs_printf("%s is unhealthy, and new pods do not get it: %s", name, reason);
		cluster_event(node->cluster, true, "GPUUnhealthy", "CheckHealth", message);
		*GS_VEC_PUSH(&node->reported_sick) = gs_strdup(gpu->uuid);
	} else if (reported) {
		GS_AUTO_FREE char *message = gs_printf("%s is healthy again", name);
		cluster_event(node->cluster, false, "GPUHealthy", "CheckHealth", message);
		free(node->reported_sick.items[where]);
		node->reported_sick.items[where] = node->reported_sick.items[--node->reported_sick.count];
	}
}

static void report_missing_driver(struct node *node, const char *type, const char *waiting)
{
	GS_AUTO_FREE char *message = gs_printf("waiting for the NVIDIA driver: %s", waiting);
	cluster_set_condition(node->cluster, type, false, gpus_paused(node->gpus) ? "DriverPaused" : "DriverMissing",
			      message);
}

static void report_gpus(struct node *node)
{
	const char *waiting = gpus_waiting_reason(node->gpus);
	if (waiting) {
		report_missing_driver(node, "GPUShareHealthy", waiting);
		return;
	}
	if (!node->inventory_known)
		return;
	GS_AUTO_STRBUF struct gs_strbuf sick = {0};
	for (size_t i = 0; i < node->inventory.device_count; i++)
		report_device(node, i, &sick);
	for (size_t i = 0; i < node->inventory.unread_count; i++)
		gs_strbuf_printf(&sick, "%sGPU %u can't be read and is left out: %s", sick.length ? "; " : "",
				 node->inventory.unread[i].index, node->inventory.unread[i].problem);
	/* A device that was taken out is no longer reported as unhealthy. */
	for (size_t i = node->reported_sick.count; i > 0; i--) {
		if (gs_inventory_has(&node->inventory, node->reported_sick.items[i - 1]))
			continue;
		free(node->reported_sick.items[i - 1]);
		node->reported_sick.items[i - 1] = node->reported_sick.items[--node->reported_sick.count];
	}
	bool any_sick = sick.length > 0;
	node_missing_report(node, &sick);
	if (sick.length)
		cluster_set_condition(node->cluster, "GPUShareHealthy", false, any_sick ? "GPUUnhealthy" : "GPUMissing",
				      sick.data);
	else
		cluster_set_condition(node->cluster, "GPUShareHealthy", true, "GPUsHealthy",
				      node->inventory.gpu_count ? "all GPUs are healthy" : "this node has no GPU");
}

/* --- the kubelet and other plugins --- */

static void report_serving(struct node *node)
{
	const char *problem = node->serve_problem;
	const char *reason = node->serve_conflict ? "PluginConflict" : "NotServed";
	const char *waiting = gpus_waiting_reason(node->gpus);
	if (!node->options->device_plugin) {
		cluster_clear_condition(node->cluster, "GPUShareServing");
		return;
	}
	for (size_t i = 0; !problem && i < node->plugins.count; i++)
		if (*kube_plugin_problem(node->plugins.items[i])) {
			problem = kube_plugin_problem(node->plugins.items[i]);
			reason = "NotRegistered";
		}
	if (problem) {
		cluster_set_condition(node->cluster, "GPUShareServing", false, reason, problem);
		if (node->serve_conflict)
			cluster_event(node->cluster, true, reason, "Serve", problem);
	} else if (waiting) {
		report_missing_driver(node, "GPUShareServing", waiting);
	} else if (node->config_ready && node->inventory_known && !mig_manager_holds(node)) {
		cluster_set_condition(node->cluster, "GPUShareServing", true, "Serving",
				      "every resource is served and registered with the kubelet");
	}
}

bool node_lacks_gpu(const struct node *node)
{
	return gpus_waiting_reason(node->gpus) && !gpus_paused(node->gpus) &&
	       !node_may_have_gpu(node->options->pci_dir);
}

void node_report(struct node *node)
{
	static const char *const all[] = {"GPUShareConfigured", "GPUShareHealthy", "GPUShareServing"};
	if (!node->cluster || !node->gpus || node->stopping)
		return;
	if (node_lacks_gpu(node)) {
		for (size_t i = 0; i < GS_ARRAY_LENGTH(all); i++)
			cluster_clear_condition(node->cluster, all[i]);
		return;
	}
	report_config(node);
	report_gpus(node);
	report_serving(node);
}
