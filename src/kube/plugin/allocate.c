#include "kube/plugin/allocate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "gpushare/abi.h"
#include "kube/cdi/cdi.h"

/* NVIDIA's container runtime reads device names from mounts below this folder. */
#define VOLUME_ROOT "/var/run/nvidia-container-devices"

enum {
	CDI_STRATEGIES = GS_DEVICE_LIST_CDI_ANNOTATIONS | GS_DEVICE_LIST_CDI_CRI,
	RUNTIME_STRATEGIES = GS_DEVICE_LIST_ENVVAR | GS_DEVICE_LIST_VOLUME_MOUNTS,
};

struct request {
	const struct gs_allocate_options *options;
	const struct gs_config *config;
	const struct gs_inventory *inventory;
	const struct gs_resource *resource;
	const uint32_t *shares;
	size_t count;
	uint32_t *devices; /* positions in the inventory, in the order of the request, each once */
	size_t device_count;
	struct gs_container_edit *edit;
};

static int check_shares(const struct request *request, struct gs_error *err)
{
	const struct gs_resource *resource = request->resource;
	GS_AUTO_FREE uint8_t *seen = gs_calloc(resource->share_count / 8 + 1, 1);

	if (!request->count)
		return gs_fail(err, GS_ERROR_INPUT, 0, "%s: no shares were asked for", resource->name);
	for (size_t i = 0; i < request->count; i++) {
		uint32_t share = request->shares[i];
		if (share >= resource->share_count)
			return gs_fail(err, GS_ERROR_INPUT, 0, "%s has no share at position %u", resource->name, share);
		if (seen[share / 8] >> share % 8 & 1)
			return gs_fail(err, GS_ERROR_INPUT, 0, "share %s is asked for twice",
				       resource->shares[share].id);
		seen[share / 8] |= (uint8_t)(1 << share % 8);
	}
	return 0;
}

/* Fills `devices` and applies the rule of one share per request. */
static int find_devices(struct request *request, struct gs_error *err)
{
	GS_AUTO_FREE bool *seen = gs_calloc(request->resource->device_count, sizeof *seen);

	for (size_t i = 0; i < request->count; i++) {
		const struct gs_resource_device *device = gs_resource_device_of(request->resource, request->shares[i]);
		size_t position = (size_t)(device - request->resource->devices);
		if (device->fail_requests_greater_than_one && request->count > 1)
			return gs_fail(
				err, GS_ERROR_INPUT, 0,
				"%zu of %s were asked for, and one container may have 1: failRequestsGreaterThanOne is "
				"set for %s, since several shares do not add up to a larger one; ask for 1, or set it "
				"to false",
				request->count, request->resource->name, device->strategy->name);
		if (seen[position])
			continue;
		seen[position] = true;
		request->devices[request->device_count++] = device->device;
	}
	return 0;
}

static const void *instance_of(const struct request *request, const struct gs_strategy *strategy)
{
	const struct gs_allocate_options *options = request->options;
	return options->instance_of ? options->instance_of(options->instance_user, strategy) : NULL;
}

/* Each strategy sees the shares that are its own. */
static int edit_by_strategies(const struct request *request, struct gs_error *err)
{
	const struct gs_resource *resource = request->resource;
	GS_AUTO_FREE uint32_t *own = gs_calloc(request->count, sizeof *own);
	GS_AUTO_FREE bool *done = gs_calloc(request->count, sizeof *done);

	for (size_t i = 0; i < request->count; i++) {
		const struct gs_strategy *strategy = gs_resource_device_of(resource, request->shares[i])->strategy;
		size_t count = 0;
		if (done[i] || !strategy->edit)
			continue;
		for (size_t j = i; j < request->count; j++) {
			if (gs_resource_device_of(resource, request->shares[j])->strategy != strategy)
				continue;
			own[count++] = request->shares[j];
			done[j] = true;
		}
		if (strategy->edit(instance_of(request, strategy), request->config, request->inventory, resource, own,
				   count, request->edit, err))
			return -1;
	}
	return 0;
}

static const char *device_name(const struct request *request, size_t i)
{
	return gs_cdi_device_name(request->config, &request->inventory->devices[request->devices[i]]);
}

static bool stop_at_first(const char *path, void *user)
{
	return false;
}

/* 1 when the channel is to be used, 0 when not, -1 when it must be there and is not. */
static int use_imex_channel(const struct request *request, int64_t channel, struct gs_error *err)
{
	gs_device_node path;

	gs_imex_node(channel, path);
	if (gs_node_exists(&request->options->node_check, path))
		return 1;
	if (!request->config->imex_required)
		return 0;
	return gs_fail(err, GS_ERROR_INPUT, 0,
		       "IMEX channel %" PRId64
		       " is required (imex.required) and %s does not exist; load the driver's IMEX "
		       "support, or set imex.required to false",
		       channel, path);
}

static int check_cdi_nodes(const struct request *request, struct gs_error *err)
{
	gs_device_node paths[GS_DEVICE_NODES_MAX];

	for (size_t i = 0; i < request->device_count; i++)
		if (!gs_device_nodes(request->inventory, request->devices[i], paths))
			return gs_fail(err, GS_ERROR_INPUT, 0,
				       "the device nodes of %s are not known, so it cannot be given to a container",
				       request->inventory->devices[request->devices[i]].uuid);
	return 0;
}

static int edit_cdi(const struct request *request, struct gs_error *err)
{
	const struct gs_config *config = request->config;
	GS_AUTO_STRBUF struct gs_strbuf names = {0};

	if (check_cdi_nodes(request, err))
		return -1;
	for (size_t i = 0; i < request->device_count; i++)
		gs_strbuf_printf(&names, "%s" GS_CDI_VENDOR "/gpu=%s", i ? "," : "", device_name(request, i));
	for (size_t i = 0; i < config->imex_channel_count; i++) {
		int use = use_imex_channel(request, config->imex_channel_ids[i], err);
		if (use < 0)
			return -1;
		if (use)
			gs_strbuf_printf(&names, "," GS_CDI_VENDOR "/imex-channel=%" PRId64,
					 config->imex_channel_ids[i]);
	}
	for (size_t i = 0; i < GS_EXTRA_COUNT; i++)
		if (gs_extra_enabled(config, &gs_extras[i]) &&
		    gs_extra_nodes(&gs_extras[i], &request->options->node_check, stop_at_first, NULL))
			gs_strbuf_printf(&names, "," GS_CDI_VENDOR "/%s=all", gs_extras[i].class_name);
	GS_AUTO_FREE char *list = gs_strbuf_take(&names);
	if (config->flags.plugin.device_list_strategy & GS_DEVICE_LIST_CDI_ANNOTATIONS) {
		if (!request->options->request_uuid)
			return gs_fail(err, GS_ERROR_INTERNAL, 0, "cdi-annotations needs a name for the request");
		GS_AUTO_FREE char *key =
			gs_printf("%snvidia-device-plugin_%s", config->flags.plugin.cdi_annotation_prefix,
				  request->options->request_uuid);
		gs_container_edit_annotation(request->edit, key, list);
	}
	if (config->flags.plugin.device_list_strategy & GS_DEVICE_LIST_CDI_CRI) {
		char *rest = list, *name;
		while ((name = strsep(&rest, ",")))
			gs_container_edit_cdi(request->edit, name);
	}
	return 0;
}

static int edit_envvar(const struct request *request, struct gs_error *err)
{
	GS_AUTO_STRBUF struct gs_strbuf devices = {0}, channels = {0};

	for (size_t i = 0; i < request->device_count; i++) {
		if (i)
			gs_strbuf_add_char(&devices, ',');
		gs_strbuf_add(&devices, device_name(request, i));
	}
	gs_container_edit_env(request->edit, "NVIDIA_VISIBLE_DEVICES", devices.data);
	for (size_t i = 0; i < request->config->imex_channel_count; i++) {
		int use = use_imex_channel(request, request->config->imex_channel_ids[i], err);
		if (use < 0)
			return -1;
		if (use)
			gs_strbuf_printf(&channels, "%s%" PRId64, channels.length ? "," : "",
					 request->config->imex_channel_ids[i]);
	}
	if (channels.length)
		gs_container_edit_env(request->edit, "NVIDIA_IMEX_CHANNELS", channels.data);
	return 0;
}

static int edit_volume_mounts(const struct request *request, struct gs_error *err)
{
	gs_container_edit_env(request->edit, "NVIDIA_VISIBLE_DEVICES", VOLUME_ROOT);
	for (size_t i = 0; i < request->device_count; i++) {
		GS_AUTO_FREE char *path = gs_printf(VOLUME_ROOT "/%s", device_name(request, i));
		gs_container_edit_mount(request->edit, "/dev/null", path, false);
	}
	for (size_t i = 0; i < request->config->imex_channel_count; i++) {
		int use = use_imex_channel(request, request->config->imex_channel_ids[i], err);
		if (use < 0)
			return -1;
		if (!use)
			continue;
		GS_AUTO_FREE char *path = gs_printf(VOLUME_ROOT "/imex/%" PRId64, request->config->imex_channel_ids[i]);
		gs_container_edit_mount(request->edit, "/dev/null", path, false);
	}
	return 0;
}

static void add_node(const struct request *request, const char *path)
{
	GS_AUTO_FREE char *host = gs_dev_root_path(request->config, path);

	gs_container_edit_device(request->edit, host, path, "rw");
}

static int edit_device_specs(const struct request *request, struct gs_error *err)
{
	if (check_cdi_nodes(request, err))
		return -1;
	for (const char *const *node = gs_control_nodes; *node; node++)
		if (gs_node_exists(&request->options->node_check, *node))
			add_node(request, *node);
	for (size_t i = 0; i < request->device_count; i++) {
		gs_device_node paths[GS_DEVICE_NODES_MAX];
		size_t count = gs_device_nodes(request->inventory, request->devices[i], paths);
		for (size_t j = 0; j < count; j++)
			add_node(request, paths[j]);
	}
	return 0;
}

/* The variables that NVIDIA's container runtime reads; with CDI only, none is set. */
static int edit_for_runtime(const struct request *request, struct gs_error *err)
{
	const struct gs_config *config = request->config;
	unsigned strategies = config->flags.plugin.device_list_strategy;

	if (strategies & GS_DEVICE_LIST_ENVVAR && edit_envvar(request, err))
		return -1;
	if (strategies & GS_DEVICE_LIST_VOLUME_MOUNTS && edit_volume_mounts(request, err))
		return -1;
	if (config->flags.plugin.pass_device_specs && edit_device_specs(request, err))
		return -1;
	return 0;
}

static void name_shares(const struct request *request)
{
	GS_AUTO_STRBUF struct gs_strbuf ids = {0};

	for (size_t i = 0; i < request->count; i++) {
		if (i)
			gs_strbuf_add_char(&ids, ',');
		gs_strbuf_add(&ids, request->resource->shares[request->shares[i]].id);
	}
	gs_container_edit_env(request->edit, GPUSHARE_ENV_SHARES, ids.data);
}

static int fill(struct request *request, struct gs_error *err)
{
	unsigned strategies = request->config->flags.plugin.device_list_strategy;

	if (find_devices(request, err) || edit_by_strategies(request, err))
		return -1;
	if (strategies & CDI_STRATEGIES && edit_cdi(request, err))
		return -1;
	if (strategies & RUNTIME_STRATEGIES && edit_for_runtime(request, err))
		return -1;
	/* As NVIDIA's plugin has it, whatever the strategy: programs ask for them. */
	for (size_t i = 0; i < GS_EXTRA_COUNT; i++)
		if (gs_extra_enabled(request->config, &gs_extras[i]))
			gs_container_edit_env(request->edit, gs_extras[i].env, "enabled");
	name_shares(request);
	return 0;
}

int gs_allocate(const struct gs_allocate_options *options, const struct gs_resource *resource, const uint32_t *shares,
		size_t count, struct gs_container_edit *edit, struct gs_error *err)
{
	struct request request = {.options = options,
				  .config = options->config,
				  .inventory = options->inventory,
				  .resource = resource,
				  .shares = shares,
				  .count = count,
				  .edit = edit};

	if (check_shares(&request, err))
		return -1;
	GS_AUTO_FREE uint32_t *devices = gs_calloc(resource->device_count, sizeof *devices);
	request.devices = devices;
	if (fill(&request, err)) {
		gs_container_edit_free(edit);
		return -1;
	}
	return 0;
}
