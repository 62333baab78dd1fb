/* The daemon's answers by HTTP: whether it lives and serves, and metrics of itself, in one table. The use of GPUs is
 * not among them. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "node/handover.h"
#include "node/missing.h"
#include "node/mig_manager.h"
#include "node/node_internal.h"
#include "node/usage.h"
#include "telemetry/exposition.h"
#include "telemetry/http_server.h"

enum { PROC_BYTES_MAX = 4096 };

struct output {
	const struct node *node;
	const struct gs_usage *usage;
	struct gs_strbuf *text;
	const struct gs_metric *metric;
	const struct gs_strategy_metric *strategy; /* of one that a strategy tells */
	const void *instance;
};

static void add(const struct output *output, gs_metric_labels labels, double value)
{
	gs_exposition_add(output->text, output->metric, labels, value);
}

static void add_labelled(void *user, const char *const *labels, double value)
{
	add(user, labels, value);
}

/* --- the daemon --- */

static void add_build_info(const struct output *output)
{
	const char *const labels[] = {"version", GPUSHARE_VERSION, "driver_version",
				      gpus_driver_version(output->node->gpus), NULL};
	add(output, labels, 1);
}

static void add_driver(const struct output *output)
{
	add(output, NULL, gpus_waiting_reason(output->node->gpus) == NULL);
}

static void add_config(const struct output *output)
{
	add(output, NULL, output->node->config_ready && !output->node->config_problem && !output->node->plan_problem);
}

static void add_registered(const struct output *output)
{
	for (size_t i = 0; i < output->node->plugins.count; i++) {
		const struct kube_plugin *plugin = output->node->plugins.items[i];
		const char *const labels[] = {"resource", kube_plugin_resource_name(plugin), NULL};
		add(output, labels, kube_plugin_registered(plugin));
	}
}

/* --- requests of the kubelet --- */

static void each_plugin(const struct output *output, uint64_t (*count)(const struct kube_allocations *allocations))
{
	for (size_t i = 0; i < output->node->plugins.count; i++) {
		const struct kube_plugin *plugin = output->node->plugins.items[i];
		const char *const labels[] = {"resource", kube_plugin_resource_name(plugin), NULL};
		add(output, labels, (double)count(kube_plugin_allocations(plugin)));
	}
}

static uint64_t containers_of(const struct kube_allocations *allocations)
{
	return allocations->containers;
}

static uint64_t shares_of(const struct kube_allocations *allocations)
{
	return allocations->shares;
}

static void add_allocations(const struct output *output)
{
	each_plugin(output, containers_of);
}

static void add_allocated_shares(const struct output *output)
{
	each_plugin(output, shares_of);
}

static void add_allocation_errors(const struct output *output)
{
	for (size_t i = 0; i < output->node->plugins.count; i++) {
		const struct kube_plugin *plugin = output->node->plugins.items[i];
		const struct kube_allocations *allocations = kube_plugin_allocations(plugin);
		const char *const request[] = {"resource", kube_plugin_resource_name(plugin), "reason", "request",
					       NULL};
		const char *const failure[] = {"resource", kube_plugin_resource_name(plugin), "reason", "node", NULL};
		add(output, request, (double)allocations->bad_requests);
		add(output, failure, (double)allocations->failures);
	}
}

/* --- MIG, as the status has it --- */

static void add_mig_state(const struct output *output)
{
	json_t *mig = mig_manager_json(output->node);
	const char *const labels[] = {"config", json_string_value(json_object_get(mig, "config")), "state",
				      json_string_value(json_object_get(mig, "state")), NULL};
	if (labels[1] && labels[3])
		add(output, labels, 1);
	json_decref(mig);
}

static void add_mig_changes(const struct output *output)
{
	struct mig_manager_counts counts;
	static const char *const success[] = {"result", "success", NULL}, *const failed[] = {"result", "failed", NULL};
	if (!mig_manager_get_counts(output->node, &counts))
		return;
	add(output, success, (double)counts.successes);
	add(output, failed, (double)counts.failures);
}

static void add_api_requests(const struct output *output)
{
	struct cluster_state state;
	if (!output->node->cluster)
		return;
	cluster_get_state(output->node->cluster, &state);
	add(output, NULL, (double)state.requests);
}

/* --- devices and shares --- */

enum { LABELS_MAX = 8 };

/* Labels as dcgm-exporter has them. */
struct device_labels {
	char gpu[16], device[32], instance[16];
	size_t count; /* of items: names and values */
	const char *items[2 * LABELS_MAX + 1];
};

static void label(struct device_labels *labels, const char *name, const char *value)
{
	if (labels->count >= 2 * LABELS_MAX)
		return;
	labels->items[labels->count++] = name;
	labels->items[labels->count++] = value;
	labels->items[labels->count] = NULL;
}

static void label_gpu(const struct gs_gpu *gpu, const char *uuid, struct device_labels *labels)
{
	labels->count = 0;
	snprintf(labels->gpu, sizeof labels->gpu, "%u", gpu->index);
	snprintf(labels->device, sizeof labels->device, "nvidia%d", gpu->minor < 0 ? (int)gpu->index : gpu->minor);
	label(labels, "gpu", labels->gpu);
	label(labels, "UUID", uuid);
	label(labels, "device", labels->device);
	label(labels, "modelName", gpu->name);
}

static void label_device(const struct gs_inventory *inventory, uint32_t which, struct device_labels *labels)
{
	const struct gs_device *device = &inventory->devices[which];
	label_gpu(&inventory->gpus[device->gpu], device->uuid, labels);
	snprintf(labels->instance, sizeof labels->instance, "%u", device->gpu_instance);
	if (!device->mig)
		return;
	label(labels, "GPU_I_PROFILE", device->mig_profile);
	label(labels, "GPU_I_ID", labels->instance);
}

static void add_missing(void *user, const struct gs_gpu *gpu)
{
	struct device_labels labels;
	label_gpu(gpu, gpu->uuid, &labels);
	add(user, labels.items, 0);
}

static void add_missing_count(const struct output *output)
{
	add(output, NULL, (double)node_missing_count(output->node));
}

static void add_healthy(const struct output *output)
{
	const struct gs_usage *usage = output->usage;
	struct device_labels labels;
	for (uint32_t i = 0; i < usage->inventory->device_count; i++) {
		label_device(usage->inventory, i, &labels);
		add(output, labels.items, usage->devices[i].healthy);
	}
	node_missing_each(output->node, add_missing, (void *)output);
}

/* How many of a group's shares some pod holds. */
static uint32_t count_held(const struct gs_usage *usage, const struct gs_usage_group *group)
{
	uint32_t held = 0;
	for (uint32_t i = 0; i < group->on->share_count; i++)
		held += usage->shares[group->first_share + i].pod_count > 0;
	return held;
}

static void each_share_group(const struct output *output, bool held)
{
	const struct gs_usage *usage = output->usage;
	struct device_labels labels;
	for (size_t i = 0; i < usage->group_count; i++) {
		const struct gs_usage_group *group = &usage->groups[i];
		label_device(usage->inventory, group->on->device, &labels);
		label(&labels, "resource", group->resource->name);
		label(&labels, "strategy", group->on->strategy->name);
		add(output, labels.items, held ? count_held(usage, group) : group->on->share_count);
	}
}

static void add_shares(const struct output *output)
{
	each_share_group(output, false);
}

static void add_shares_held(const struct output *output)
{
	if (output->usage->pods_known)
		each_share_group(output, true);
}

/* --- this process, by the names that Prometheus' own libraries use --- */

static double cpu_seconds(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void add_cpu(const struct output *output)
{
	add(output, NULL, cpu_seconds());
}

/* The n-th number of /proc/self/statm, in bytes. */
static void add_statm(const struct output *output, unsigned n)
{
	size_t length;
	GS_AUTO_FREE char *text = gs_read_file("/proc/self/statm", PROC_BYTES_MAX, &length, NULL);
	char *at = text;
	for (unsigned i = 0; at && i < n; i++)
		at = strchr(at + 1, ' ');
	if (at)
		add(output, NULL, (double)strtoull(at, NULL, 10) * (double)sysconf(_SC_PAGESIZE));
}

static void add_resident(const struct output *output)
{
	add_statm(output, 1);
}

static void add_virtual(const struct output *output)
{
	add_statm(output, 0);
}

static void add_open_files(const struct output *output)
{
	double count = -3; /* ".", ".." and the folder itself */
	DIR *directory = opendir("/proc/self/fd");
	if (!directory)
		return;
	while (readdir(directory))
		count++;
	closedir(directory);
	add(output, NULL, count);
}

static void add_file_limit(const struct output *output)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		add(output, NULL, (double)limit.rlim_cur);
}

static void add_start(const struct output *output)
{
	add(output, NULL, (double)output->node->started_seconds);
}

/* --- the table --- */

static const struct {
	struct gs_metric metric;
	void (*add)(const struct output *output);
} metrics[] = {
	{{"gpushare_build_info", GS_GAUGE, "1, with the versions of gpushare and of the NVIDIA driver"},
	 add_build_info},
	{{"gpushare_driver_up", GS_GAUGE, "Whether NVML answers"}, add_driver},
	{{"gpushare_config_in_force", GS_GAUGE, "Whether the configuration that is wanted is the one in force"},
	 add_config},
	{{"gpushare_resource_registered", GS_GAUGE, "Whether the kubelet knows the resource"}, add_registered},
	{{"gpushare_device_healthy", GS_GAUGE, "Whether shares of the GPU or MIG device can be given out"},
	 add_healthy},
	{{"gpushare_gpus_missing", GS_GAUGE, "GPUs that the node had and that are not there"}, add_missing_count},
	{{"gpushare_shares", GS_GAUGE, "Shares that are published on the GPU or MIG device"}, add_shares},
	{{"gpushare_shares_held", GS_GAUGE,
	  "Shares that pods hold, as the kubelet said at the scrape before; absent while it does not tell"},
	 add_shares_held},
	{{"gpushare_allocations_total", GS_COUNTER, "Containers that were given shares of the resource"},
	 add_allocations},
	{{"gpushare_allocated_shares_total", GS_COUNTER, "Shares of the resource that containers were given"},
	 add_allocated_shares},
	{{"gpushare_allocation_errors_total", GS_COUNTER,
	  "Requests for shares that were refused: reason request (such a one cannot be met) or node (it could not be "
	  "met then)"},
	 add_allocation_errors},
	{{NULL}, NULL}, /* those of the strategies */
	{{"gpushare_mig_config_state", GS_GAUGE,
	  "1, with the MIG configuration that the node's label wants, and its state"},
	 add_mig_state},
	{{"gpushare_mig_changes_total", GS_COUNTER, "How often what the node's label wants of MIG came to a result"},
	 add_mig_changes},
	{{"gpushare_api_requests_total", GS_COUNTER, "Requests to the API server, watches included"}, add_api_requests},
	{{"process_cpu_seconds_total", GS_COUNTER, "Processor time of the daemon in seconds"}, add_cpu},
	{{"process_resident_memory_bytes", GS_GAUGE, "Resident memory of the daemon in bytes"}, add_resident},
	{{"process_virtual_memory_bytes", GS_GAUGE, "Virtual memory of the daemon in bytes"}, add_virtual},
	{{"process_open_fds", GS_GAUGE, "Open file descriptors of the daemon"}, add_open_files},
	{{"process_max_fds", GS_GAUGE, "How many file descriptors the daemon may open"}, add_file_limit},
	{{"process_start_time_seconds", GS_GAUGE, "When the daemon started, in seconds since 1970"}, add_start},
};

static void on_pods(void *user)
{
	struct node *node = user;
	node->metrics_ask_pods = false;
}

/* Without samples there is nothing to tell. */
static void add_metric(struct output *output, const struct gs_metric *metric, void (*tell)(const struct output *output))
{
	size_t before = output->text->length;
	output->metric = metric;
	gs_exposition_begin(output->text, metric);
	size_t begun = output->text->length;
	tell(output);
	if (output->text->length == begun)
		output->text->length = before;
}

static void tell_strategy(const struct output *output)
{
	output->strategy->tell(output->instance, add_labelled, (void *)output);
}

static void add_strategy_metric(void *user, const struct gs_strategy_metric *strategy, const void *instance)
{
	struct output *output = user;
	const struct gs_metric metric = {strategy->name, strategy->counter ? GS_COUNTER : GS_GAUGE, strategy->help};
	output->strategy = strategy;
	output->instance = instance;
	add_metric(output, &metric, tell_strategy);
}

static void metrics_page(struct node *node, struct http_answer *answer)
{
	/* For the next scrape: no client waits for the kubelet. */
	if (node->pods && !node->metrics_ask_pods) {
		node->metrics_ask_pods = true;
		kube_pods_refresh(node->pods, on_pods, node);
	}
	struct gs_usage usage;
	node_usage_take(node, &usage);
	answer->content_type = GS_EXPOSITION_CONTENT_TYPE;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(metrics); i++) {
		struct output output = {.node = node, .usage = &usage, .text = &answer->body};
		if (metrics[i].add)
			add_metric(&output, &metrics[i].metric, metrics[i].add);
		else
			gs_active_metrics(node->strategies, add_strategy_metric, &output);
	}
	gs_usage_free(&usage);
}

/* The reasons why the daemon is not ready, a line each. Ready: the GPUs were read, a configuration is in force, and the
 * kubelet knows every resource, where there is one to tell; or there is no GPU, and nothing to do; or a daemon that
 * can't hand over must be stopped first. */
static void add_obstacles(const struct node *node, struct gs_strbuf *text)
{
	if (!node->in_charge) {
		if (!handover_needs_predecessor_gone(node))
			gs_strbuf_add(text, "waiting to take over from the daemon before this one\n");
		return;
	}
	if (node_lacks_gpu(node))
		return;
	if (gpus_waiting_reason(node->gpus))
		gs_strbuf_printf(text, "waiting for the NVIDIA driver: %s\n", gpus_waiting_reason(node->gpus));
	else if (!node->inventory_known)
		gs_strbuf_add(text, "the GPUs were not read yet\n");
	if (!node->config_ready)
		gs_strbuf_add(text, "no configuration is in force yet\n");
	if (node->serve_problem)
		gs_strbuf_printf(text, "%s\n", node->serve_problem);
	for (size_t i = 0; *node->options->kubelet_socket && i < node->plugins.count; i++)
		if (!kube_plugin_registered(node->plugins.items[i]))
			gs_strbuf_printf(text, "%s is not registered with the kubelet\n",
					 kube_plugin_resource_name(node->plugins.items[i]));
}

bool node_is_ready(const struct node *node)
{
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	if (node->gpus)
		add_obstacles(node, &text);
	return node->gpus && !text.length;
}

static void readiness_page(const struct node *node, struct http_answer *answer)
{
	answer->content_type = "text/plain; charset=utf-8";
	add_obstacles(node, &answer->body);
	answer->status = answer->body.length ? 503 : 200;
	if (!answer->body.length)
		gs_strbuf_add(&answer->body, "ok\n");
}

/* The daemon lives, whatever GPUs it can't read. */
static void liveness_page(const struct node *node, struct http_answer *answer)
{
	size_t i;
	const json_t *problem;
	json_t *problems = json_array();
	node_unread_problems(node, problems);
	answer->content_type = "text/plain; charset=utf-8";
	gs_strbuf_add(&answer->body, "ok\n");
	json_array_foreach(problems, i, problem)
		gs_strbuf_printf(&answer->body, "problem: %s\n", json_string_value(problem));
	json_decref(problems);
}

static bool get(void *user, const char *path, struct http_answer *answer)
{
	struct node *node = user;
	bool is_known = true;
	if (strcmp(path, "/metrics") == 0) {
		metrics_page(node, answer);
	} else if (strcmp(path, "/readyz") == 0) {
		readiness_page(node, answer);
	} else if (strcmp(path, "/healthz") == 0) {
		liveness_page(node, answer);
	} else {
		is_known = false;
	}
	return is_known;
}

int node_metrics_start(struct node *node, struct gs_error *err)
{
	const char *address = node->options->metrics_address;
	if (!address || !*address)
		return 0;
	if (http_server_start(&node->loop, address, get, node, &node->metrics_server, err) < 0)
		return gs_error_prefix(err, "metrics");
	gs_log(GS_LOG_INFO, "serving metrics", GS_STR("address", http_server_address(node->metrics_server)));
	return 0;
}
