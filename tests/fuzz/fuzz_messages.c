/* The device plugin's methods, fed with any bytes as a request: byte 0 picks the method. The rpc room is replaced by
 * what counts: every call ends exactly once, and what is answered is what was asked for. */
#include <stdlib.h>
#include <string.h>

#include "core/config/config_parse.h"
#include "kube/plugin/allocate.h"
#include "kube/plugin/plugin_internal.h"
#include "kube/proto/deviceplugin.pb-c.h"
#include "strategy/strategies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GPUS = 3, REPLICAS = 4 };

/* The one call under way. */
struct rpc_call {
	unsigned ended;
	enum rpc_status status;
	uint8_t *reply;
	size_t reply_length;
};

static void check(bool holds)
{
	if (!holds)
		abort();
}

void rpc_call_send(struct rpc_call *call, const uint8_t *message, size_t length)
{
	check(!call->ended);
	free(call->reply);
	call->reply = malloc(length + 1);
	memcpy(call->reply, message, length);
	call->reply_length = length;
}

void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *text)
{
	call->ended++;
	call->status = status;
	check(status == RPC_OK || (text && *text));
}

void kube_plugin_stream_lost(struct kube_plugin *plugin)
{
}

static int allocate(void *user, const struct kube_view *view, const uint32_t *shares, size_t count,
		    struct gs_container_edit *edit, struct gs_error *err)
{
	const struct gs_allocate_options options = {
		.config = user, .inventory = view->inventory, .request_uuid = "00000000-0000-4000-8000-000000000000"};
	return gs_allocate(&options, view->resource, shares, count, edit, err);
}

static bool is_healthy(const void *user, const struct gs_resource *resource, const struct gs_resource_device *on,
		       uint32_t share)
{
	return on->device != 1;
}

/* Three GPUs, four shares each, all ways to tell a container. */
static void make_plugin(struct kube_plugin *plugin)
{
	static const char text[] = "flags: {plugin: {passDeviceSpecs: true, deviceListStrategy: "
				   "[envvar, volume-mounts, cdi-annotations, cdi-cri]}}\n"
				   "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n";
	static struct gs_config config;
	static struct gs_inventory inventory;
	static struct gs_plan plan;
	const struct gs_config_source source = {.name = "fuzz", .text = text, .length = sizeof text - 1};
	struct gs_diagnostics diagnostics = {0};
	check(gs_config_parse(&source, NULL, NULL, NULL, 0, &config, &diagnostics) == 0);
	inventory.gpus = calloc(GPUS, sizeof *inventory.gpus);
	inventory.devices = calloc(GPUS, sizeof *inventory.devices);
	inventory.gpu_count = inventory.device_count = GPUS;
	for (unsigned i = 0; i < GPUS; i++) {
		snprintf(inventory.gpus[i].uuid, GS_UUID_SIZE, "GPU-%u", i);
		memcpy(inventory.devices[i].uuid, inventory.gpus[i].uuid, GS_UUID_SIZE);
		inventory.gpus[i].index = i;
		inventory.gpus[i].minor = (int)i;
		inventory.devices[i].gpu = i;
	}
	check(gs_plan_build(&config, &inventory, gs_strategies, gs_strategy_count, &plan, NULL) == 0);
	plugin->view = (struct kube_view){
		.resource = &plan.resources[0], .inventory = &inventory, .share_healthy = is_healthy};
	plugin->owner = (struct kube_plugin_owner){.user = &config, .allocate = allocate};
	check(kube_plugin_encode_list(plugin));
}

/* An answered preference has, for each container, as many different shares as it asked for. */
static void check_preferred(const struct kube_plugin *plugin, const struct rpc_call *call)
{
	V1beta1__PreferredAllocationResponse *response =
		v1beta1__preferred_allocation_response__unpack(NULL, call->reply_length, call->reply);
	check(response != NULL);
	for (size_t i = 0; i < response->n_container_responses; i++) {
		bool seen[GPUS * REPLICAS] = {false};
		for (size_t j = 0; j < response->container_responses[i]->n_deviceids; j++) {
			const char *id = response->container_responses[i]->deviceids[j];
			int64_t position = gs_resource_find(plugin->view.resource, id, strlen(id));
			check(position >= 0 && !seen[position]);
			seen[position] = true;
		}
	}
	v1beta1__preferred_allocation_response__free_unpacked(response, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { METHODS = 5, LIST_AND_WATCH = 1, PREFERRED = 2 };
	static struct kube_plugin plugin;
	if (!plugin.list)
		make_plugin(&plugin);
	if (size == 0)
		return 0;
	const struct rpc_method *method = &kube_plugin_methods[data[0] % METHODS];
	struct rpc_call call = {0};
	method->handler(&call, data + 1, size - 1, &plugin);
	if (method == &kube_plugin_methods[LIST_AND_WATCH]) {
		check(!call.ended && plugin.stream_count == 1);
		method->closed(&call, &plugin);
		check(plugin.stream_count == 0);
	} else {
		check(call.ended == 1);
		if (call.status == RPC_OK && method == &kube_plugin_methods[PREFERRED])
			check_preferred(&plugin, &call);
	}
	free(call.reply);
	return 0;
}
