#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/lane.h"
#include "base/log.h"
#include "node/handover.h"
#include "node/mig_manager.h"
#include "node/missing.h"
#include "node/node_internal.h"
#include "node/others.h"
#include "node/pause.h"
#include "node/specs.h"
#include "node/state.h"
#include "node/vanished.h"
#include "node/withdraw.h"
#include "telemetry/http_server.h"

enum { STOP_MS_MAX = 10000 };

/* --- stopping: plugins, then the GPU room, then the loop runs dry --- */

static void on_gpus_stopped(void *user)
{
	struct node *node = user;
	node->gpus = NULL;
	if (!node->retired)
		return;
	uv_timer_stop(&node->stop_timer);
	node->on_retired(node->retired_user);
}

static void close_handles(struct node *node)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(node->config_events); i++)
		uv_close((uv_handle_t *)&node->config_events[i], NULL);
	uv_close((uv_handle_t *)&node->plugin_event, NULL);
	uv_close((uv_handle_t *)&node->config_timer, NULL);
	uv_close((uv_handle_t *)&node->plugin_timer, NULL);
	uv_close((uv_handle_t *)&node->ledger_timer, NULL);
}

/* An NVML call that hangs on a sick GPU must not keep the daemon: by now the kubelet has every answer. */
static void on_stop_overdue(uv_timer_t *timer)
{
	struct node *node = timer->loop->data;
	gs_log(GS_LOG_WARNING, "a call to NVML does not return; stopping without it");
	node->abandoned = true;
	uv_stop(timer->loop);
}

/* All but the plugins, the cluster and the GPU room. */
static void stop_services(struct node *node)
{
	struct gs_error err;
	/* While it is being written, the writer's end saves what came since. */
	if (node->ledger && !node->ledger_text && ledger_save(node->ledger, &err) < 0)
		gs_log(GS_LOG_WARNING, "allocations can't be kept for the next start", GS_STR("error", err.text));
	if (node->ledger_lane)
		lane_close(node->ledger_lane, NULL, NULL);
	node->ledger_lane = NULL;
	node_missing_stop(node->missing);
	node_others_stop(node);
	node_specs_stop(node);
	node_withdrawals_stop(node);
	mig_manager_stop(node);
	http_server_stop(node->metrics_server);
	if (node->status_server)
		rpc_server_stop(node->status_server, NULL, NULL);
	node_labels_stop(node);
	kube_pods_close(node->pods);
	node->pods = NULL;
	gs_active_stop(node->strategies);
	close_handles(node);
}

static void stop_gpus(struct node *node)
{
	if (!node->gpus)
		return;
	node->left_behind = gpus_left_behind(node->gpus);
	gpus_stop(node->gpus, on_gpus_stopped, node);
}

void node_stop(struct node *node)
{
	if (node->stopping)
		return;
	node->stopping = true;
	uv_timer_start(&node->stop_timer, on_stop_overdue, STOP_MS_MAX, 0);
	uv_unref((uv_handle_t *)&node->stop_timer);
	handover_free(node);
	node_unpublish(node);
	stop_services(node);
	/* One that begins anew says itself how it is. */
	if (node->pause)
		cluster_close(node->cluster);
	else
		cluster_stop(node->cluster);
	node->cluster = NULL;
	stop_gpus(node);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(node->signals); i++)
		uv_close((uv_handle_t *)&node->signals[i], NULL);
}

/* --- retiring: another daemon takes over, and the kubelet's connections are served on --- */

static void on_retire_overdue(uv_timer_t *timer)
{
	struct node *node = timer->loop->data;
	gs_log(GS_LOG_WARNING, "a call to NVML does not return; handing over without it");
	node->on_retired(node->retired_user);
}

void node_retire(struct node *node, void (*done)(void *user), void *user)
{
	node->stopping = node->retired = true;
	node->on_retired = done;
	node->retired_user = user;
	for (size_t i = 0; i < node->plugins.count; i++)
		kube_plugin_retire(node->plugins.items[i]);
	stop_services(node);
	cluster_close(node->cluster);
	node->cluster = NULL;
	uv_timer_start(&node->stop_timer, on_retire_overdue, STOP_MS_MAX, 0);
	stop_gpus(node);
}

void node_unlock(struct node *node)
{
	int *const locks[] = {&node->plugin_dir_lock, &node->state_dir_lock};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(locks); i++) {
		if (*locks[i] >= 0)
			close(*locks[i]);
		*locks[i] = -1;
	}
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct node *node = handle->loop->data;
	if (number == SIGHUP && !node->in_charge)
		return;
	if (number == SIGHUP && !node->retired) {
		gs_log(GS_LOG_INFO, "SIGHUP: reading the config and looking at the GPUs again");
		if (node_config_reload(node, true))
			node_republish(node);
		node_report(node);
		gpus_rescan(node->gpus);
		return;
	}
	if (number == SIGHUP)
		return;
	gs_log(GS_LOG_INFO, "stopping", GS_STR("signal", strsignal(number)));
	if (!handover_leave(node))
		node_stop(node);
}

/* --- starting --- */

/* One daemon a directory. */
static int lock_directory(const char *path, const char *what, int *lock, struct gs_error *err)
{
	*lock = gs_lock_directory(path, err);
	if (*lock < 0 && err->code == EWOULDBLOCK)
		return gs_fail(err, GS_ERROR_SYSTEM, EWOULDBLOCK,
			       "another gpushare node uses %s %s; stop it, or give this one directories of its own",
			       what, path);
	return *lock < 0 ? -1 : 0;
}

/* In `taken`: whether another daemon has them, and this one may take over. */
static int take_directories(struct node *node, bool *taken, struct gs_error *err)
{
	const struct node_options *options = node->options;
	const size_t longest = sizeof((struct sockaddr_un *)0)->sun_path - sizeof "/nvidia-gpu.sock";
	if (strlen(options->plugin_dir) > longest)
		return gs_fail(err, GS_ERROR_INPUT, ENAMETOOLONG,
			       "%s is too long for the sockets in it; name a directory of at most %zu characters with "
			       "--device-plugin-dir",
			       options->plugin_dir, longest);
	if (!*options->socket_path)
		return gs_fail(err, GS_ERROR_INPUT, 0, "--socket is empty; name a path for the daemon's own socket");
	GS_AUTO_FREE char *socket_copy = gs_strdup(options->socket_path);
	struct gs_error problem;
	/* A read-only state directory costs the memory of allocations, not the service. */
	if (gs_make_directories(options->state_dir, 0700, &problem) < 0)
		gs_log(GS_LOG_WARNING, "no state directory; allocations are not kept", GS_STR("error", problem.text));
	else if (lock_directory(options->state_dir, "the state directory", &node->state_dir_lock, err) < 0 &&
		 !(*taken = options->take_over && err->code == EWOULDBLOCK))
		return -1;
	if (gs_make_directories(options->plugin_dir, 0755, err) < 0 ||
	    gs_make_directories(dirname(socket_copy), 0755, err) < 0)
		return -1;
	return *taken ? 0 : lock_directory(options->plugin_dir, "the kubelet's directory", &node->plugin_dir_lock, err);
}

static void init_handles(struct node *node)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(node->signals); i++) {
		uv_signal_init(&node->loop, &node->signals[i]);
		uv_signal_start(&node->signals[i], on_signal, numbers[i]);
	}
	for (size_t i = 0; i < GS_ARRAY_LENGTH(node->config_events); i++)
		uv_fs_event_init(&node->loop, &node->config_events[i]);
	uv_fs_event_init(&node->loop, &node->plugin_event);
	uv_timer_init(&node->loop, &node->config_timer);
	uv_timer_init(&node->loop, &node->plugin_timer);
	uv_timer_init(&node->loop, &node->ledger_timer);
	uv_timer_init(&node->loop, &node->stop_timer);
}

static bool is_share(void *user, const char *id, size_t length)
{
	const struct node *node = user;
	for (size_t i = 0; i < node->plan.resource_count; i++)
		if (gs_resource_find(&node->plan.resources[i], id, length) >= 0)
			return true;
	return false;
}

static void start_pods(struct node *node)
{
	const struct kube_pods_owner owner = {.user = node, .wanted = is_share};
	struct gs_error err;
	if (*node->options->pod_resources_socket &&
	    kube_pods_open(&node->loop, node->options->pod_resources_socket, &owner, &node->pods, &err) < 0)
		gs_log(GS_LOG_WARNING, "pods can't be named as holders of shares", GS_STR("error", err.text));
}

static void on_inventory(void *user, const struct gs_inventory *inventory)
{
	struct node *node = user;
	handover_ready(node);
	if (!node->in_charge)
		return;
	node_missing_update(node, inventory);
	node_publish(node, inventory);
	if (!node_others_hold(node))
		mig_manager_seen(node);
}

static void on_health(void *user)
{
	struct node *node = user;
	if (gpus_waiting_reason(node->gpus))
		handover_ready(node);
	if (node->in_charge)
		node_publish_health(node);
}

static void on_event(void *user, const char *gpu)
{
	struct node *node = user;
	if (node->in_charge)
		gs_active_observe(node->strategies, gpu);
}

/* Makes the status socket anew when its file, or the folder around it, was deleted. */
static void keep_status_socket(struct node *node)
{
	struct gs_error err;
	bool again;
	GS_AUTO_FREE char *copy = gs_strdup(node->options->socket_path);
	if (gs_make_directories(dirname(copy), 0755, &err) < 0 ||
	    rpc_server_listen_again(node->status_server, &again, &err) < 0) {
		if (!node->socket_lost)
			gs_log(GS_LOG_WARNING, "the status can't be asked for; trying again",
			       GS_STR("error", err.text));
		node->socket_lost = true;
		return;
	}
	node->socket_lost = false;
	if (again)
		gs_log(GS_LOG_INFO, "the socket for the status was gone, and is there again",
		       GS_STR("socket", node->options->socket_path));
}

static void on_looked(void *user)
{
	struct node *node = user;
	if (!node->in_charge || node->stopping)
		return;
	if (node->config.imex_required && node->inventory_known) /* its device node comes and goes unseen */
		node_publish_health(node);
	node_withdrawals_looked(user);
	mig_manager_looked(user);
	node_kubelet_watch(node);
	node_specs_look(node);
	node_missing_looked(node);
	node_config_looked(node);
	keep_status_socket(node);
}

/* `leave_mig`: another program settles, or may settle, a change of MIG layouts that was cut off. */
static int start_gpus(struct node *node, bool leave_mig, struct gs_error *err)
{
	const struct node_options *options = node->options;
	const struct gpus_options gpus_options = {
		.driver_root = node->config.flags.plugin.container_driver_root,
		.host_driver_root = node->config.flags.nvidia_driver_root,
		.disable_healthchecks = options->disable_healthchecks,
		.enable_healthchecks = options->enable_healthchecks,
		.state_dir = options->state_dir,
		.leave_mig = leave_mig,
		.paused = options->paused,
	};
	const struct gpus_owner owner = {
		.user = node, .inventory = on_inventory, .health = on_health, .event = on_event, .looked = on_looked};
	return gpus_start(&node->loop, &gpus_options, &owner, &node->gpus, err);
}

/* Starts the parts that need the directories. */
static int start_services(struct node *node, struct gs_error *err)
{
	const struct node_options *options = node->options;
	node->in_charge = true;
	*err = (struct gs_error){0};
	node_state_tidy(options, &node->config);
	node->ledger = ledger_open(options->state_dir, err);
	node->ledger_lane = lane_new(&node->loop, "allocations");
	if (*err->text)
		gs_log(GS_LOG_WARNING, "the record of allocations could not be read", GS_STR("error", err->text));
	node->missing = node_missing_open(node);
	if (!node->metrics_server && node_metrics_start(node, err) < 0)
		return -1;
	static const struct rpc_server_limits limits = {
		.connections = 16, .streams = 8, .message_bytes = NODE_STATUS_BYTES_MAX};
	if (rpc_server_start(&node->loop, options->socket_path, node_status_methods, node, &limits,
			     &node->status_server, err) < 0)
		return -1;
	bool others = node_others_start(node);
	node_specs_start(node);
	if (node->gpus)
		gpus_leave_mig(node->gpus, others);
	else if (start_gpus(node, others, err) < 0)
		return -1;
	node_join_cluster(node);
	node_pause_join(node);
	mig_manager_start(node);
	node_config_begin(node);
	node_labels_start(node);
	start_pods(node);
	node_config_watch(node);
	node_kubelet_watch(node);
	if (options->take_over)
		handover_offer(node);
	if (gpus_paused(node->gpus)) /* no look will */
		node_report(node);
	return 0;
}

void node_take_charge(struct node *node)
{
	struct gs_error err;
	if (start_services(node, &err) < 0) {
		gs_log(GS_LOG_ERROR, "cannot take over", GS_STR("error", err.text));
		node->start_error = err;
		node_stop(node);
		return;
	}
	const struct gs_inventory *inventory = gpus_inventory(node->gpus);
	if (!inventory)
		return;
	struct gs_inventory copy;
	gs_inventory_copy(&copy, inventory);
	on_inventory(node, &copy);
	gs_inventory_free(&copy);
}

static int start(struct node *node, struct gs_error *err)
{
	bool taken = false;
	if (take_directories(node, &taken, err) < 0)
		return -1;
	if (!taken)
		return start_services(node, err);
	/* In the network of the daemon before, its port is taken until it goes. */
	struct gs_error problem;
	if (node_metrics_start(node, &problem) < 0)
		gs_log(GS_LOG_INFO, "metrics are served once the daemon before is gone",
		       GS_STR("reason", problem.text));
	if (start_gpus(node, true, err) < 0)
		return -1;
	handover_wait(node);
	return 0;
}

static void free_node(struct node *node)
{
	gs_plan_free(&node->plan);
	gs_inventory_free(&node->inventory);
	free(node->device_healthy);
	mig_manager_free(node);
	node_withdrawals_free(node);
	node_vanished_free(node);
	node_missing_free(node->missing);
	gs_config_free(&node->config);
	ledger_free(node->ledger);
	gs_active_free(node->strategies);
	GS_VEC_FREE(&node->plugins);
	free(node->config_text);
	free(node->config_name);
	free(node->config_label);
	free(node->cluster_problem);
	for (size_t i = 0; i < node->reported_sick.count; i++)
		free(node->reported_sick.items[i]);
	GS_VEC_FREE(&node->reported_sick);
	free(node->config_problem);
	free(node->plan_problem);
	free(node->serve_problem);
	free(node);
}

/* Runs the loop until no work is left, or the rest hangs. */
static void run_dry(struct node *node)
{
	uv_run(&node->loop, UV_RUN_DEFAULT);
	if (node->abandoned)
		return;
	uv_close((uv_handle_t *)&node->stop_timer, NULL);
	uv_run(&node->loop, UV_RUN_DEFAULT);
}

int node_run(const struct node_options *options, struct gs_error *err)
{
	struct node *node = gs_calloc(1, sizeof *node);
	*node = (struct node){.options = options,
			      .started_seconds = (int64_t)time(NULL),
			      .plugin_dir_lock = -1,
			      .state_dir_lock = -1};
	signal(SIGPIPE, SIG_IGN);
	int failed = node_config_load(node, err) < 0 ? -1 : 0;
	if (!failed && (failed = uv_loop_init(&node->loop)))
		gs_fail(err, GS_ERROR_SYSTEM, -failed, "cannot make an event loop: %s", uv_strerror(failed));
	if (failed) {
		free_node(node);
		return -1;
	}
	node->loop.data = node;
	init_handles(node);
	node_strategies_start(node);
	int result = start(node, err);
	if (result < 0) {
		struct gs_error reason = *err;
		node_stop(node);
		run_dry(node);
		*err = reason;
	} else {
		run_dry(node);
		if (node->taken_over)
			return NODE_TAKEN_OVER;
		gs_log(GS_LOG_INFO, "stopped");
		if (*node->start_error.text) {
			*err = node->start_error;
			result = -1;
		}
	}
	node_unlock(node);
	if (node->pause && result == 0) {
		gs_fail(err, GS_ERROR_INTERNAL, 0, "%s", node->pause);
		return NODE_PAUSED;
	}
	if (node->abandoned) /* its memory is still the thread's */
		return result < 0 ? result : NODE_HANGS;
	uv_loop_close(&node->loop);
	bool left_behind = node->left_behind;
	free_node(node);
	return left_behind && result == 0 ? NODE_HANGS : result;
}
