/* The device plugin's RPC methods: v1beta1, as the kubelet's client calls them
 * (k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1). */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"
#include "kube/plugin/edit_message.h"
#include "kube/plugin/plugin_internal.h"
#include "kube/proto/deviceplugin.pb-c.h"
#include "kube/plugin/wire.h"

static void reply(struct rpc_call *call, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	GS_AUTO_FREE uint8_t *bytes = gs_malloc(length);
	protobuf_c_message_pack(message, bytes);
	rpc_call_send(call, bytes, length);
	rpc_call_finish(call, RPC_OK, NULL);
}

/* A call that slipped in while the plugin stops: its view may be gone. */
static bool refuse_when_stopping(const struct kube_plugin *plugin, struct rpc_call *call)
{
	if (plugin->stopping)
		rpc_call_finish(call, RPC_UNAVAILABLE, "this device plugin is stopping");
	return plugin->stopping;
}

static void get_options(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	V1beta1__DevicePluginOptions options = V1BETA1__DEVICE_PLUGIN_OPTIONS__INIT;
	options.get_preferred_allocation_available = 1;
	reply(call, &options.base);
}

/* --- ListAndWatch --- */

bool kube_plugin_encode_list(struct kube_plugin *plugin)
{
	const struct kube_view *view = &plugin->view;
	const struct gs_inventory *inventory = view->inventory;
	size_t count = view->resource->share_count;

	/* One topology a GPU; every share of it points there. */
	V1beta1__NUMANode nodes[GS_GPUS_MAX];
	V1beta1__NUMANode *node_lists[GS_GPUS_MAX];
	V1beta1__TopologyInfo topologies[GS_GPUS_MAX];
	for (size_t i = 0; i < inventory->gpu_count; i++) {
		v1beta1__numanode__init(&nodes[i]);
		nodes[i].id = inventory->gpus[i].numa_node;
		node_lists[i] = &nodes[i];
		v1beta1__topology_info__init(&topologies[i]);
		topologies[i].nodes = &node_lists[i];
		topologies[i].n_nodes = 1;
	}
	GS_AUTO_FREE V1beta1__Device *devices = gs_calloc(count, sizeof *devices);
	GS_AUTO_FREE V1beta1__Device **list = gs_calloc(count, sizeof *list);
	for (size_t i = 0; i < view->resource->device_count; i++) {
		const struct gs_resource_device *device = &view->resource->devices[i];
		bool located = inventory->gpus[device->gpu].numa_node >= 0;
		for (uint32_t j = device->first_share; j < device->first_share + device->share_count; j++) {
			v1beta1__device__init(&devices[j]);
			devices[j].id = (char *)view->resource->shares[j].id;
			bool healthy = view->share_healthy(view->user, view->resource, device, j);
			devices[j].health = (char *)(healthy ? "Healthy" : "Unhealthy");
			devices[j].topology = located ? &topologies[device->gpu] : NULL;
			list[j] = &devices[j];
		}
	}
	V1beta1__ListAndWatchResponse response = V1BETA1__LIST_AND_WATCH_RESPONSE__INIT;
	response.devices = list;
	response.n_devices = count;
	size_t length = v1beta1__list_and_watch_response__get_packed_size(&response);
	GS_AUTO_FREE uint8_t *bytes = gs_malloc(length);
	v1beta1__list_and_watch_response__pack(&response, bytes);
	if (plugin->list && length == plugin->list_length && memcmp(bytes, plugin->list, length) == 0)
		return false;
	free(plugin->list);
	plugin->list = GS_STEAL(bytes);
	plugin->list_length = length;
	return true;
}

void kube_plugin_push_list(struct kube_plugin *plugin)
{
	for (size_t i = 0; i < plugin->stream_count; i++)
		rpc_call_send(plugin->streams[i], plugin->list, plugin->list_length);
}

static void list_and_watch(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	struct kube_plugin *plugin = user;
	if (refuse_when_stopping(plugin, call))
		return;
	if (plugin->stream_count == PLUGIN_STREAMS_MAX) {
		rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED,
				"too many ListAndWatch streams are open on this resource");
		return;
	}
	plugin->streams[plugin->stream_count++] = call;
	rpc_call_send(call, plugin->list, plugin->list_length);
}

static void list_and_watch_closed(struct rpc_call *call, void *user)
{
	struct kube_plugin *plugin = user;
	for (size_t i = 0; i < plugin->stream_count; i++) {
		if (plugin->streams[i] == call) {
			plugin->streams[i] = plugin->streams[--plugin->stream_count];
			kube_plugin_stream_lost(plugin);
			return;
		}
	}
}

/* --- Allocate --- */

/* Room for `count` positions, kept between calls. */
static uint32_t *reserve_positions(struct kube_plugin *plugin, size_t count)
{
	if (count > plugin->positions_capacity) {
		plugin->positions = gs_reallocarray(plugin->positions, count, sizeof *plugin->positions);
		plugin->positions_capacity = count;
	}
	return plugin->positions;
}

/* Positions of the shares whose ids are the strings of a message's field 1, in plugin->positions. Ends the call and returns
 * -1 when one is unknown, or when the bytes are no message; `name` is what it should be. */
static int read_shares(struct kube_plugin *plugin, struct rpc_call *call, const uint8_t *bytes, size_t length,
		       const char *name, size_t *count)
{
	const struct gs_resource *resource = plugin->view.resource;
	uint32_t *positions = reserve_positions(plugin, resource->share_count);
	struct wire_reader reader = {.at = bytes, .end = bytes + length};
	struct wire_field field;

	*count = 0;
	while (wire_next(&reader, &field)) {
		if (field.number != 1 || field.type != 2)
			continue;
		if (*count == resource->share_count) {
			rpc_call_finish(call, RPC_INVALID_ARGUMENT,
					"the request names more devices than this resource has");
			return -1;
		}
		int64_t position = gs_resource_find(resource, (const char *)field.bytes, field.length);
		if (position < 0) {
			GS_AUTO_FREE char *text =
				gs_printf("%s has no device \"%.*s\"; the list may have changed since it was read",
					  resource->name, field.length < 100 ? (int)field.length : 100,
					  (const char *)field.bytes);
			rpc_call_finish(call, RPC_INVALID_ARGUMENT, text);
			return -1;
		}
		positions[(*count)++] = (uint32_t)position;
	}
	if (!reader.bad)
		return 0;
	GS_AUTO_FREE char *text = gs_printf("the request is not %s", name);
	rpc_call_finish(call, RPC_INVALID_ARGUMENT, text);
	return -1;
}

static enum rpc_status status_of(const struct gs_error *err)
{
	return err->source == GS_ERROR_INPUT ? RPC_INVALID_ARGUMENT : RPC_INTERNAL;
}

/* Counts a request that is refused, for the metrics. */
static int refused(struct kube_plugin *plugin, enum rpc_status status)
{
	if (status == RPC_INVALID_ARGUMENT)
		plugin->allocations.bad_requests++;
	else
		plugin->allocations.failures++;
	return -1;
}

/* Ends the call when the bytes are no AllocateRequest, or one with too many containers. */
static int check_containers(struct rpc_call *call, const uint8_t *bytes, size_t length)
{
	struct wire_reader reader = {.at = bytes, .end = bytes + length};
	struct wire_field field;
	const char *problem = NULL;

	for (size_t containers = 0; !problem && wire_next(&reader, &field);)
		if (field.number == 1 && field.type == 2 && ++containers > PLUGIN_CONTAINERS_MAX)
			problem = "too many container requests in one message";
	if (reader.bad)
		problem = "the request is not an AllocateRequest";
	if (problem)
		rpc_call_finish(call, RPC_INVALID_ARGUMENT, problem);
	return problem ? -1 : 0;
}

/* Appends the answer to one container request; or ends the call with the reason and returns -1. */
static int allocate_container(struct kube_plugin *plugin, struct rpc_call *call, const struct wire_field *container,
			      struct gs_strbuf *response, size_t *shares)
{
	struct gs_container_edit edit = {0};
	struct gs_error err;
	size_t count;

	if (read_shares(plugin, call, container->bytes, container->length, "an AllocateRequest", &count) < 0)
		return refused(plugin, RPC_INVALID_ARGUMENT);
	if (plugin->owner.allocate(plugin->owner.user, &plugin->view, plugin->positions, count, &edit, &err) < 0) {
		rpc_call_finish(call, status_of(&err), err.text);
		return refused(plugin, status_of(&err));
	}
	kube_add_edit(response, &edit);
	gs_container_edit_free(&edit);
	*shares += count;
	return 0;
}

static void allocate(struct rpc_call *call, const uint8_t *bytes, size_t length, void *user)
{
	struct kube_plugin *plugin = user;
	GS_AUTO_STRBUF struct gs_strbuf response = {0};
	struct wire_reader reader = {.at = bytes, .end = bytes + length};
	struct wire_field field;
	size_t containers = 0, shares = 0;

	if (refuse_when_stopping(plugin, call))
		return;
	if (check_containers(call, bytes, length) < 0) {
		refused(plugin, RPC_INVALID_ARGUMENT);
		return;
	}
	while (wire_next(&reader, &field)) {
		if (field.number != 1 || field.type != 2)
			continue;
		if (allocate_container(plugin, call, &field, &response, &shares) < 0)
			return;
		containers++;
	}
	plugin->allocations.containers += containers;
	plugin->allocations.shares += shares;
	rpc_call_send(call, (const uint8_t *)response.data, response.length);
	rpc_call_finish(call, RPC_OK, NULL);
}

/* --- GetPreferredAllocation --- */

struct preferred_request {
	uint32_t *available;
	size_t available_count;
	uint32_t *required;
	size_t required_count;
	int64_t size;
};

/* Decodes one ContainerPreferredAllocationRequest {1 available, 2 must include, 3 size}. The answer to NULL is what
 * to tell the peer. */
static const char *decode_preferred(struct kube_plugin *plugin, const struct wire_field *container,
				    struct preferred_request *request)
{
	const struct gs_resource *resource = plugin->view.resource;
	const size_t most = resource->share_count;
	uint32_t *available = reserve_positions(plugin, 2 * most), *required = available + most;
	size_t available_count = 0, required_count = 0;
	int64_t size = 0;
	struct wire_reader reader = {.at = container->bytes, .end = container->bytes + container->length};
	struct wire_field field;

	while (wire_next(&reader, &field)) {
		if (field.type == 2 && field.number == 1) {
			int64_t position = gs_resource_find(resource, (const char *)field.bytes, field.length);
			if (position < 0) /* it may be gone since the kubelet last heard */
				continue;
			if (available_count == most)
				return "the request names more devices than this resource has";
			available[available_count++] = (uint32_t)position;
		} else if (field.type == 2 && field.number == 2) {
			int64_t position = gs_resource_find(resource, (const char *)field.bytes, field.length);
			if (position < 0)
				return "the request names a device that this resource does not have; the list may have "
				       "changed since it was read";
			if (required_count == most)
				return "the request names more devices than this resource has";
			required[required_count++] = (uint32_t)position;
		} else if (field.type == 0 && field.number == 3) {
			size = (int32_t)field.value;
		}
	}
	*request = (struct preferred_request){available, available_count, required, required_count, size};
	return reader.bad ? "the request is not a PreferredAllocationRequest" : NULL;
}

static V1beta1__ContainerPreferredAllocationResponse *make_preferred(const struct kube_plugin *plugin,
								     const uint32_t *chosen, size_t count)
{
	V1beta1__ContainerPreferredAllocationResponse *response = gs_malloc(sizeof *response);
	v1beta1__container_preferred_allocation_response__init(response);
	response->deviceids = gs_calloc(count, sizeof *response->deviceids);
	response->n_deviceids = count;
	for (size_t i = 0; i < count; i++)
		response->deviceids[i] = (char *)plugin->view.resource->shares[chosen[i]].id;
	return response;
}

static void get_preferred(struct rpc_call *call, const uint8_t *bytes, size_t length, void *user)
{
	struct kube_plugin *plugin = user;
	if (refuse_when_stopping(plugin, call))
		return;
	GS_VEC(V1beta1__ContainerPreferredAllocationResponse *) containers = {0};
	const char *problem = NULL;
	struct gs_error err;
	struct wire_reader reader = {.at = bytes, .end = bytes + length};
	struct wire_field field;
	while (!problem && wire_next(&reader, &field)) {
		if (field.number != 1 || field.type != 2)
			continue;
		struct preferred_request request;
		problem = containers.count == PLUGIN_CONTAINERS_MAX ? "too many container requests in one message"
								    : decode_preferred(plugin, &field, &request);
		if (problem)
			break;
		if (request.size < 0 || (uint64_t)request.size > plugin->view.resource->share_count) {
			problem = "allocation_size is negative or more than this resource has";
			break;
		}
		GS_AUTO_FREE uint32_t *chosen = gs_calloc((size_t)request.size, sizeof *chosen);
		if (gs_preferred(&plugin->scratch, plugin->view.resource, plugin->view.inventory, plugin->view.policy,
				 request.available, request.available_count, request.required, request.required_count,
				 (size_t)request.size, chosen, &err) < 0) {
			problem = err.text;
			break;
		}
		*GS_VEC_PUSH(&containers) = make_preferred(plugin, chosen, (size_t)request.size);
	}
	if (reader.bad)
		problem = "the request is not a PreferredAllocationRequest";
	if (problem) {
		rpc_call_finish(call, RPC_INVALID_ARGUMENT, problem);
	} else {
		V1beta1__PreferredAllocationResponse response = V1BETA1__PREFERRED_ALLOCATION_RESPONSE__INIT;
		response.container_responses = containers.items;
		response.n_container_responses = containers.count;
		reply(call, &response.base);
	}
	for (size_t i = 0; i < containers.count; i++) {
		free(containers.items[i]->deviceids);
		free(containers.items[i]);
	}
	GS_VEC_FREE(&containers);
}

/* Shares need no work between admission and start, and Register says so; the kubelet does not call this then. */
static void pre_start(struct rpc_call *call, const uint8_t *bytes, size_t length, void *user)
{
	struct kube_plugin *plugin = user;
	size_t count;
	if (refuse_when_stopping(plugin, call) ||
	    read_shares(plugin, call, bytes, length, "a PreStartContainerRequest", &count) < 0)
		return;
	V1beta1__PreStartContainerResponse response = V1BETA1__PRE_START_CONTAINER_RESPONSE__INIT;
	reply(call, &response.base);
}

const struct rpc_method kube_plugin_methods[] = {
	{"/v1beta1.DevicePlugin/GetDevicePluginOptions", get_options, NULL},
	{"/v1beta1.DevicePlugin/ListAndWatch", list_and_watch, list_and_watch_closed},
	{"/v1beta1.DevicePlugin/GetPreferredAllocation", get_preferred, NULL},
	{"/v1beta1.DevicePlugin/Allocate", allocate, NULL},
	{"/v1beta1.DevicePlugin/PreStartContainer", pre_start, NULL},
	{NULL, NULL, NULL},
};
