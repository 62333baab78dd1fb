#include "kube/plugin/plugin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/socket.h"
#include "kube/plugin/plugin_internal.h"
#include "kube/proto/deviceplugin.pb-c.h"

enum {
	RETRY_FIRST_MS = 1,
	RETRY_MOST_MS = 10000,
	/* The kubelet dials our socket inside Register and waits up to 10 s for it. */
	REGISTER_TIMEOUT_MS = 15000,
	/* A kubelet that dropped the stream is often restarting: its new socket triggers a registration sooner. */
	STREAM_LOST_RETRY_MS = 1000,
	/* Between the deletion of our socket and the moment in which another plugin listens at its own. */
	AWAY_MS = 500,
};

/* Reports a change to the owner; a failure that repeats is reported once. */
static void report(struct kube_plugin *plugin, const struct gs_error *err)
{
	const char *text = err ? err->text : "";
	if (err && strcmp(plugin->problem, text) == 0)
		return;
	snprintf(plugin->problem, sizeof plugin->problem, "%s", text);
	plugin->owner.registration(plugin->owner.user, plugin, err);
}

static void on_retry(uv_timer_t *timer)
{
	kube_plugin_register(timer->data);
}

static void retry_later(struct kube_plugin *plugin, unsigned delay_ms)
{
	uv_timer_start(&plugin->retry, on_retry, delay_ms, 0);
}

static void close_kubelet(struct kube_plugin *plugin)
{
	if (plugin->registering) {
		rpc_client_cancel(plugin->registering);
		plugin->registering = NULL;
	}
	if (plugin->kubelet) {
		rpc_client_free(plugin->kubelet);
		plugin->kubelet = NULL;
	}
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct kube_plugin *plugin = handle->data;
	void (*stopped)(void *user) = plugin->stopped;
	void *user = plugin->stopped_user;
	gs_preferred_scratch_free(&plugin->scratch);
	free(plugin->positions);
	free(plugin->list);
	free(plugin->endpoint);
	free(plugin->socket_path);
	free(plugin->kubelet_socket);
	free(plugin);
	if (stopped)
		stopped(user);
}

static void on_server_stopped(void *user)
{
	struct kube_plugin *plugin = user;
	plugin->servers--;
	if (plugin->stopping && plugin->servers == 0)
		uv_close((uv_handle_t *)&plugin->retry, on_timer_closed);
}

/* The server goes on in the background until its peers are flushed; its streams are over for us at once. */
static void stop_server(struct kube_plugin *plugin)
{
	if (!plugin->server)
		return;
	while (plugin->stream_count > 0)
		rpc_call_finish(plugin->streams[--plugin->stream_count], RPC_OK, NULL);
	struct rpc_server *server = plugin->server;
	plugin->server = NULL;
	rpc_server_stop(server, on_server_stopped, plugin);
}

static int serve(struct kube_plugin *plugin, struct gs_error *err)
{
	/* Taking its socket would make two plugins hand out the same GPUs in turns. */
	if (gs_socket_try(plugin->socket_path, SOCK_STREAM) == 0)
		return gs_fail(
			err, GS_ERROR_SYSTEM, EADDRINUSE,
			"another device plugin serves %s at %s; remove it, as NVIDIA's from the gpu-operator with "
			"--set devicePlugin.enabled=false, or by itself with helm uninstall",
			plugin->view.resource->name, plugin->socket_path);
	if (rpc_server_start(plugin->loop, plugin->socket_path, kube_plugin_methods, plugin, NULL, &plugin->server,
			     err) < 0)
		return -1;
	plugin->servers++;
	if (stat(plugin->socket_path, &plugin->socket_stat) < 0) {
		gs_fail_errno(err, "%s: cannot look at the socket just made", plugin->socket_path);
		stop_server(plugin);
		return -1;
	}
	return 0;
}

int kube_plugin_start(uv_loop_t *loop, const char *directory, const char *kubelet_socket, const struct kube_view *view,
		      const struct kube_plugin_owner *owner, struct kube_plugin **ret, struct gs_error *err)
{
	const char *slash = strrchr(view->resource->name, '/');
	struct kube_plugin *plugin = gs_calloc(1, sizeof *plugin);
	plugin->loop = loop;
	plugin->endpoint = gs_printf("nvidia-%s.sock", slash ? slash + 1 : view->resource->name);
	plugin->socket_path = gs_printf("%s/%s", directory, plugin->endpoint);
	plugin->kubelet_socket = gs_strdup(kubelet_socket);
	plugin->owner = *owner;
	plugin->view = *view;
	kube_plugin_encode_list(plugin);
	uv_timer_init(loop, &plugin->retry);
	plugin->retry.data = plugin;
	if (serve(plugin, err) < 0) {
		kube_plugin_stop(plugin, NULL, NULL);
		return -1;
	}
	*ret = plugin;
	return 0;
}

void kube_plugin_stop(struct kube_plugin *plugin, void (*done)(void *user), void *user)
{
	plugin->stopping = true;
	plugin->stopped = done;
	plugin->stopped_user = user;
	close_kubelet(plugin);
	uv_timer_stop(&plugin->retry);
	if (plugin->servers > 0)
		stop_server(plugin);
	else
		uv_close((uv_handle_t *)&plugin->retry, on_timer_closed);
}

void kube_plugin_retire(struct kube_plugin *plugin)
{
	plugin->retired = true;
	close_kubelet(plugin);
	uv_timer_stop(&plugin->retry);
	if (plugin->server)
		rpc_server_close_listener(plugin->server);
}

size_t kube_plugin_connections(const struct kube_plugin *plugin, int *fds, size_t capacity)
{
	return plugin->server ? rpc_server_connections(plugin->server, fds, capacity) : 0;
}

bool kube_plugin_is_unannounced(const struct kube_plugin *plugin)
{
	return !plugin->registered && !plugin->registering && !uv_is_active((const uv_handle_t *)&plugin->retry);
}

void kube_plugin_update(struct kube_plugin *plugin, const struct kube_view *view)
{
	plugin->view = *view;
	if (kube_plugin_encode_list(plugin))
		kube_plugin_push_list(plugin);
}

void kube_plugin_stream_lost(struct kube_plugin *plugin)
{
	if (plugin->stopping || plugin->retired || plugin->stream_count > 0 || !plugin->registered)
		return;
	plugin->registered = false;
	retry_later(plugin, STREAM_LOST_RETRY_MS);
	struct gs_error err;
	gs_fail(&err, GS_ERROR_GRPC, RPC_UNAVAILABLE, "the kubelet closed its ListAndWatch stream");
	report(plugin, &err);
}

static void on_register_done(void *user, enum rpc_status status, const char *text)
{
	struct kube_plugin *plugin = user;
	plugin->registering = NULL;
	close_kubelet(plugin);
	if (status == RPC_OK) {
		plugin->registered = true;
		plugin->retries = 0;
		report(plugin, NULL);
		return;
	}
	retry_later(plugin, gs_backoff_ms(RETRY_FIRST_MS, RETRY_MOST_MS, plugin->retries++));
	struct gs_error err;
	gs_fail(&err, GS_ERROR_GRPC, (int)status, "the kubelet at %s did not register %s: %s", plugin->kubelet_socket,
		plugin->view.resource->name, text);
	report(plugin, &err);
}

void kube_plugin_register(struct kube_plugin *plugin)
{
	if (plugin->stopping || plugin->retired || !*plugin->kubelet_socket)
		return;
	close_kubelet(plugin);
	uv_timer_stop(&plugin->retry);
	plugin->registered = false;

	V1beta1__DevicePluginOptions options = V1BETA1__DEVICE_PLUGIN_OPTIONS__INIT;
	options.get_preferred_allocation_available = 1;
	V1beta1__RegisterRequest request = V1BETA1__REGISTER_REQUEST__INIT;
	request.version = (char *)"v1beta1";
	request.endpoint = plugin->endpoint;
	request.resource_name = (char *)plugin->view.resource->name;
	request.options = &options;
	uint8_t bytes[512];
	size_t length = v1beta1__register_request__get_packed_size(&request);
	if (length > sizeof bytes)
		return; /* a resource name has at most 63 characters, so this cannot be */
	v1beta1__register_request__pack(&request, bytes);

	struct gs_error err;
	if (rpc_client_new(plugin->loop, plugin->kubelet_socket, &plugin->kubelet, &err) < 0) {
		retry_later(plugin, RETRY_MOST_MS);
		report(plugin, &err);
		return;
	}
	plugin->registering = rpc_client_start(plugin->kubelet, "/v1beta1.Registration/Register", bytes, length,
					       REGISTER_TIMEOUT_MS, NULL, on_register_done, plugin);
}

static bool is_ours(const struct kube_plugin *plugin, const struct stat *now)
{
	return now->st_ino == plugin->socket_stat.st_ino && now->st_dev == plugin->socket_stat.st_dev;
}

bool kube_plugin_is_away(struct kube_plugin *plugin)
{
	struct stat now;
	bool there = lstat(plugin->socket_path, &now) == 0;
	/* Between bind and listen, the socket of a plugin that starts refuses connections as one of a dead plugin does. */
	if (!plugin->server || (there && is_ours(plugin, &now)) || (!there && errno != ENOENT) ||
	    (there && gs_socket_try(plugin->socket_path, SOCK_STREAM) == 0)) {
		plugin->away_since_ms = 0;
		return false;
	}
	uint64_t now_ms = uv_now(plugin->loop);
	if (!plugin->away_since_ms)
		plugin->away_since_ms = now_ms;
	return now_ms - plugin->away_since_ms < AWAY_MS;
}

int kube_plugin_check_socket(struct kube_plugin *plugin, struct gs_error *err)
{
	struct stat now;
	if (plugin->server && stat(plugin->socket_path, &now) == 0 && is_ours(plugin, &now))
		return 0;
	plugin->away_since_ms = 0;
	stop_server(plugin);
	plugin->registered = false;
	if (serve(plugin, err) < 0)
		return -1;
	plugin->retries = 0;
	kube_plugin_register(plugin);
	return 0;
}

const struct kube_allocations *kube_plugin_allocations(const struct kube_plugin *plugin)
{
	return &plugin->allocations;
}

const char *kube_plugin_resource_name(const struct kube_plugin *plugin)
{
	return plugin->view.resource->name;
}

bool kube_plugin_served(const struct kube_plugin *plugin)
{
	return plugin->server != NULL;
}

bool kube_plugin_registered(const struct kube_plugin *plugin)
{
	return plugin->registered;
}

const char *kube_plugin_problem(const struct kube_plugin *plugin)
{
	return plugin->problem;
}
