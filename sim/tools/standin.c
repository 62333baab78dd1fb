#include "sim/tools/standin.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"
#include "kube/proto/deviceplugin.pb-c.h"
#include "rpc/rpc.h"

enum { RESOURCES_MAX = 64, CALL_TIMEOUT_MS = 10000 };

struct standin_device {
	char *id;
	bool healthy;
	bool used;
};

struct standin_resource {
	struct kube_standin *standin;
	char *name;
	struct rpc_client *plugin;
	GS_VEC(struct standin_device) devices;
};

struct kube_standin {
	uv_loop_t *loop;
	char *directory;
	struct kube_standin_events events;
	struct rpc_server *server;
	struct standin_resource *resources[RESOURCES_MAX];
	size_t resource_count;
	void (*stopped)(void *user);
	void *stopped_user;
};

/* One allocation under way. */
struct allocation {
	struct standin_resource *resource;
	size_t count;
	char **ids; /* chosen, `count` of them */
	kube_standin_done *done;
	void *user;
	bool answered;
};

static struct standin_resource *find_resource(struct kube_standin *standin, const char *name)
{
	for (size_t i = 0; i < standin->resource_count; i++)
		if (strcmp(standin->resources[i]->name, name) == 0)
			return standin->resources[i];
	return NULL;
}

static struct standin_device *find_device(struct standin_resource *resource, const char *id)
{
	for (size_t i = 0; i < resource->devices.count; i++)
		if (strcmp(resource->devices.items[i].id, id) == 0)
			return &resource->devices.items[i];
	return NULL;
}

static void clear_devices(struct standin_resource *resource)
{
	for (size_t i = 0; i < resource->devices.count; i++)
		free(resource->devices.items[i].id);
	GS_VEC_FREE(&resource->devices);
}

/* A full list: what was used stays used, also when it is sick or gone for a while. */
static void on_list(void *user, const uint8_t *bytes, size_t length)
{
	struct standin_resource *resource = user;
	V1beta1__ListAndWatchResponse *list = v1beta1__list_and_watch_response__unpack(NULL, length, bytes);
	if (!list)
		return;
	GS_VEC(struct standin_device) devices = {0};
	size_t healthy = 0;
	for (size_t i = 0; i < list->n_devices; i++) {
		struct standin_device *old = find_device(resource, list->devices[i]->id);
		bool fit = strcmp(list->devices[i]->health, "Healthy") == 0;
		healthy += fit;
		*GS_VEC_PUSH(&devices) = (struct standin_device){
			.id = gs_strdup(list->devices[i]->id), .healthy = fit, .used = old && old->used};
	}
	clear_devices(resource);
	resource->devices.items = devices.items;
	resource->devices.count = devices.count;
	resource->devices.capacity = devices.capacity;
	struct kube_standin *standin = resource->standin;
	if (standin->events.devices)
		standin->events.devices(standin->events.user, resource->name, list->n_devices, healthy);
	v1beta1__list_and_watch_response__free_unpacked(list, NULL);
}

/* The plugin went away: its devices are unhealthy until it registers again, as in the kubelet. */
static void on_watch_done(void *user, enum rpc_status status, const char *text)
{
	struct standin_resource *resource = user;
	for (size_t i = 0; i < resource->devices.count; i++)
		resource->devices.items[i].healthy = false;
}

/* Watches the resource's list from now on, through the endpoint the plugin named. */
static int take_registration(struct kube_standin *standin, const V1beta1__RegisterRequest *request,
			     struct gs_error *err)
{
	struct standin_resource *resource = find_resource(standin, request->resource_name);
	if (strcmp(request->version, "v1beta1") != 0 || strchr(request->endpoint, '/'))
		return gs_fail(err, GS_ERROR_INPUT, 0, "not a v1beta1 registration of a socket in this directory");
	if (!resource && standin->resource_count == RESOURCES_MAX)
		return gs_fail(err, GS_ERROR_LIMIT, 0, "%d resources are registered already", RESOURCES_MAX);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", standin->directory, request->endpoint);
	struct rpc_client *plugin;
	if (rpc_client_new(standin->loop, path, &plugin, err) < 0)
		return -1;
	if (!resource) {
		resource = gs_calloc(1, sizeof *resource);
		resource->standin = standin;
		resource->name = gs_strdup(request->resource_name);
		standin->resources[standin->resource_count++] = resource;
	} else {
		rpc_client_free(resource->plugin);
	}
	resource->plugin = plugin;
	rpc_client_start(plugin, "/v1beta1.DevicePlugin/ListAndWatch", NULL, 0, 0, on_list, on_watch_done, resource);
	return 0;
}

static void on_register(struct rpc_call *call, const uint8_t *bytes, size_t length, void *user)
{
	struct gs_error err;
	V1beta1__RegisterRequest *request = v1beta1__register_request__unpack(NULL, length, bytes);
	if (!request) {
		rpc_call_finish(call, RPC_INVALID_ARGUMENT, "not a RegisterRequest");
		return;
	}
	if (take_registration(user, request, &err) < 0) {
		rpc_call_finish(call, RPC_INVALID_ARGUMENT, err.text);
	} else {
		rpc_call_send(call, NULL, 0);
		rpc_call_finish(call, RPC_OK, NULL);
	}
	v1beta1__register_request__free_unpacked(request, NULL);
}

static const struct rpc_method registration_methods[] = {
	{"/v1beta1.Registration/Register", on_register, NULL},
	{NULL, NULL, NULL},
};

int kube_standin_start(uv_loop_t *loop, const char *directory, const struct kube_standin_events *events,
		       struct kube_standin **ret, struct gs_error *err)
{
	struct kube_standin *standin = gs_calloc(1, sizeof *standin);
	standin->loop = loop;
	standin->directory = gs_strdup(directory);
	standin->events = *events;
	GS_AUTO_FREE char *path = gs_printf("%s/kubelet.sock", directory);
	if (rpc_server_start(loop, path, registration_methods, standin, NULL, &standin->server, err) < 0) {
		free(standin->directory);
		free(standin);
		return -1;
	}
	*ret = standin;
	return 0;
}

static void on_server_stopped(void *user)
{
	struct kube_standin *standin = user;
	void (*stopped)(void *user) = standin->stopped;
	void *stopped_user = standin->stopped_user;
	free(standin->directory);
	free(standin);
	if (stopped)
		stopped(stopped_user);
}

void kube_standin_stop(struct kube_standin *standin, void (*done)(void *user), void *user)
{
	standin->stopped = done;
	standin->stopped_user = user;
	for (size_t i = 0; i < standin->resource_count; i++) {
		struct standin_resource *resource = standin->resources[i];
		if (resource->plugin)
			rpc_client_free(resource->plugin);
		clear_devices(resource);
		free(resource->name);
		free(resource);
	}
	standin->resource_count = 0;
	rpc_server_stop(standin->server, on_server_stopped, standin);
}

/* --- allocation --- */

static void on_allocated(void *user, const uint8_t *bytes, size_t length)
{
	struct allocation *allocation = user;
	V1beta1__AllocateResponse *response = v1beta1__allocate_response__unpack(NULL, length, bytes);
	if (!response || response->n_container_responses != 1) {
		if (response)
			v1beta1__allocate_response__free_unpacked(response, NULL);
		return; /* on_allocate_done reports it */
	}
	const V1beta1__ContainerAllocateResponse *container = response->container_responses[0];
	GS_AUTO_FREE struct gs_edit_pair *env = gs_calloc(container->n_envs, sizeof *env);
	for (size_t i = 0; i < container->n_envs; i++)
		env[i] = (struct gs_edit_pair){container->envs[i]->key, container->envs[i]->value};
	allocation->answered = true;
	allocation->done(allocation->user, allocation->ids, allocation->count, env, container->n_envs, NULL);
	v1beta1__allocate_response__free_unpacked(response, NULL);
}

static void free_allocation(struct allocation *allocation)
{
	for (size_t i = 0; i < allocation->count && allocation->ids; i++)
		free(allocation->ids[i]);
	free(allocation->ids);
	free(allocation);
}

static void fail_allocation(struct allocation *allocation, enum rpc_status status, const char *text)
{
	struct gs_error err;
	gs_fail(&err, GS_ERROR_GRPC, (int)status, "%s: %s", allocation->resource->name, text);
	for (size_t i = 0; i < allocation->count && allocation->ids; i++)
		kube_standin_release(allocation->resource->standin, allocation->resource->name, allocation->ids[i]);
	allocation->done(allocation->user, NULL, 0, NULL, 0, &err);
}

static void on_allocate_done(void *user, enum rpc_status status, const char *text)
{
	struct allocation *allocation = user;
	if (!allocation->answered)
		fail_allocation(allocation, status,
				status == RPC_OK ? "the plugin's answer is not an AllocateResponse" : text);
	free_allocation(allocation);
}

static void start_allocate(struct allocation *allocation)
{
	for (size_t i = 0; i < allocation->count; i++) {
		struct standin_device *device = find_device(allocation->resource, allocation->ids[i]);
		if (device)
			device->used = true;
	}
	V1beta1__ContainerAllocateRequest container = V1BETA1__CONTAINER_ALLOCATE_REQUEST__INIT;
	container.devices_ids = allocation->ids;
	container.n_devices_ids = allocation->count;
	V1beta1__ContainerAllocateRequest *containers[] = {&container};
	V1beta1__AllocateRequest request = V1BETA1__ALLOCATE_REQUEST__INIT;
	request.container_requests = containers;
	request.n_container_requests = 1;
	size_t length = v1beta1__allocate_request__get_packed_size(&request);
	GS_AUTO_FREE uint8_t *bytes = gs_malloc(length);
	v1beta1__allocate_request__pack(&request, bytes);
	rpc_client_start(allocation->resource->plugin, "/v1beta1.DevicePlugin/Allocate", bytes, length, CALL_TIMEOUT_MS,
			 on_allocated, on_allocate_done, allocation);
}

static void on_preferred(void *user, const uint8_t *bytes, size_t length)
{
	struct allocation *allocation = user;
	V1beta1__PreferredAllocationResponse *response =
		v1beta1__preferred_allocation_response__unpack(NULL, length, bytes);
	if (!response)
		return;
	if (response->n_container_responses == 1 &&
	    response->container_responses[0]->n_deviceids == allocation->count) {
		allocation->ids = gs_calloc(allocation->count, sizeof *allocation->ids);
		for (size_t i = 0; i < allocation->count; i++)
			allocation->ids[i] = gs_strdup(response->container_responses[0]->deviceids[i]);
	}
	v1beta1__preferred_allocation_response__free_unpacked(response, NULL);
}

static void on_preferred_done(void *user, enum rpc_status status, const char *text)
{
	struct allocation *allocation = user;
	if (allocation->ids) {
		start_allocate(allocation);
		return;
	}
	fail_allocation(allocation, status, status == RPC_OK ? "the plugin's preference has the wrong size" : text);
	free_allocation(allocation);
}

void kube_standin_allocate(struct kube_standin *standin, const char *name, size_t count, kube_standin_done *done,
			   void *user)
{
	struct gs_error err;
	struct standin_resource *resource = find_resource(standin, name);
	if (!resource || !resource->plugin) {
		gs_fail(&err, GS_ERROR_GRPC, RPC_NOT_FOUND, "no device plugin has registered %s", name);
		done(user, NULL, 0, NULL, 0, &err);
		return;
	}
	GS_AUTO_FREE char **available = gs_calloc(resource->devices.count, sizeof *available);
	V1beta1__ContainerPreferredAllocationRequest container = V1BETA1__CONTAINER_PREFERRED_ALLOCATION_REQUEST__INIT;
	container.available_deviceids = available;
	container.allocation_size = (int32_t)count;
	for (size_t i = 0; i < resource->devices.count; i++)
		if (resource->devices.items[i].healthy && !resource->devices.items[i].used)
			available[container.n_available_deviceids++] = resource->devices.items[i].id;
	if (container.n_available_deviceids < count) {
		gs_fail(&err, GS_ERROR_GRPC, RPC_RESOURCE_EXHAUSTED,
			"Insufficient %s: %zu wanted, %zu free and healthy", name, count,
			container.n_available_deviceids);
		done(user, NULL, 0, NULL, 0, &err);
		return;
	}
	struct allocation *allocation = gs_calloc(1, sizeof *allocation);
	*allocation = (struct allocation){.resource = resource, .count = count, .done = done, .user = user};
	V1beta1__ContainerPreferredAllocationRequest *containers[] = {&container};
	V1beta1__PreferredAllocationRequest request = V1BETA1__PREFERRED_ALLOCATION_REQUEST__INIT;
	request.container_requests = containers;
	request.n_container_requests = 1;
	size_t length = v1beta1__preferred_allocation_request__get_packed_size(&request);
	GS_AUTO_FREE uint8_t *bytes = gs_malloc(length);
	v1beta1__preferred_allocation_request__pack(&request, bytes);
	rpc_client_start(resource->plugin, "/v1beta1.DevicePlugin/GetPreferredAllocation", bytes, length,
			 CALL_TIMEOUT_MS, on_preferred, on_preferred_done, allocation);
}

void kube_standin_release(struct kube_standin *standin, const char *name, const char *id)
{
	struct standin_resource *resource = find_resource(standin, name);
	struct standin_device *device = resource ? find_device(resource, id) : NULL;
	if (device)
		device->used = false;
}
