#include "kube/cdi/device_nodes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const gs_control_nodes[] = {
	"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", NULL,
};

const struct gs_extra gs_extras[GS_EXTRA_COUNT] = {
	{"gdrcopy", "NVIDIA_GDRCOPY", {"/dev/gdrdrv"}, {NULL}},
	{"gds", "NVIDIA_GDS", {"/dev/nvidia-fs%u"}, {"/run/udev", "/etc/cufile.json"}},
	{"mofed", "NVIDIA_MOFED", {"/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs%u"}, {NULL}},
};

bool gs_node_exists(const struct gs_node_check *check, const char *path)
{
	return !check->exists || check->exists(path, check->user);
}

size_t gs_device_nodes(const struct gs_inventory *inventory, size_t device, gs_device_node paths[GS_DEVICE_NODES_MAX])
{
	const struct gs_device *hardware = &inventory->devices[device];
	int minor = inventory->gpus[hardware->gpu].minor;

	if (minor < 0 || (hardware->mig && !(hardware->gi_cap && hardware->ci_cap)))
		return 0;
	snprintf(paths[0], GS_DEVICE_NODE_SIZE, "/dev/nvidia%d", minor);
	if (!hardware->mig)
		return 1;
	snprintf(paths[1], GS_DEVICE_NODE_SIZE, "/dev/nvidia-caps/nvidia-cap%u", hardware->gi_cap);
	snprintf(paths[2], GS_DEVICE_NODE_SIZE, "/dev/nvidia-caps/nvidia-cap%u", hardware->ci_cap);
	return 3;
}

void gs_imex_node(int64_t channel, gs_device_node path)
{
	snprintf(path, GS_DEVICE_NODE_SIZE, "/dev/nvidia-caps-imex-channels/channel%" PRId64, channel);
}

bool gs_extra_enabled(const struct gs_config *config, const struct gs_extra *extra)
{
	const bool enabled[GS_EXTRA_COUNT] = {config->flags.gdrcopy_enabled, config->flags.gds_enabled,
					      config->flags.mofed_enabled};

	return enabled[extra - gs_extras];
}

bool gs_extra_nodes(const struct gs_extra *extra, const struct gs_node_check *check,
		    bool (*found)(const char *path, void *user), void *user)
{
	bool any = false;

	for (size_t i = 0; i < 2 && extra->nodes[i]; i++) {
		const char *counter = strstr(extra->nodes[i], "%u");
		for (unsigned n = 0; n < (counter ? GS_EXTRA_NODES_MAX : 1); n++) {
			gs_device_node path;
			if (counter)
				snprintf(path, sizeof path, "%.*s%u", (int)(counter - extra->nodes[i]), extra->nodes[i],
					 n);
			else
				snprintf(path, sizeof path, "%s", extra->nodes[i]);
			if (!gs_node_exists(check, path))
				continue;
			any = true;
			if (!found(path, user))
				return true;
		}
	}
	return any;
}
