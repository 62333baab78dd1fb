/* Which files under /dev a container needs for its devices, and for what goes along with GPUs on some nodes. */
#ifndef GPUSHARE_KUBE_DEVICE_NODES_H
#define GPUSHARE_KUBE_DEVICE_NODES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/config/config.h"
#include "core/share/inventory.h"

/* Whether a device node ("/dev/nvidiactl", without the dev root) exists on the host. A NULL function: all do. */
struct gs_node_check {
	bool (*exists)(const char *path, void *user);
	void *user;
};
bool gs_node_exists(const struct gs_node_check *check, const char *path);

enum { GS_DEVICE_NODES_MAX = 3, GS_DEVICE_NODE_SIZE = 64 };
typedef char gs_device_node[GS_DEVICE_NODE_SIZE];

/* Paths of a device's own nodes: /dev/nvidia<minor>, and for a MIG device its two capability nodes. Returns how many
 * (1 or 3), or 0 when one is not known. */
size_t gs_device_nodes(const struct gs_inventory *inventory, size_t device, gs_device_node paths[GS_DEVICE_NODES_MAX]);

/* Nodes that every container with a GPU needs, where they exist; ends with NULL. */
extern const char *const gs_control_nodes[];

/* "/dev/nvidia-caps-imex-channels/channel<n>" */
void gs_imex_node(int64_t channel, gs_device_node path);

/* The extra device nodes that a flag adds to those of GPUs. */
struct gs_extra {
	const char *class_name; /* of the CDI device "all": "gdrcopy" */
	const char *env;        /* set to "enabled" for NVIDIA's container runtime */
	const char *nodes[2];   /* patterns: a %u counts from 0 to below GS_EXTRA_NODES_MAX */
	const char *mounts[2];  /* host files and folders that come along where they exist */
};
enum { GS_EXTRA_COUNT = 3, GS_EXTRA_NODES_MAX = 64 };
extern const struct gs_extra gs_extras[GS_EXTRA_COUNT];
bool gs_extra_enabled(const struct gs_config *config, const struct gs_extra *extra);
/* Calls `found` for each node that exists until it returns false; whether there was any. */
bool gs_extra_nodes(const struct gs_extra *extra, const struct gs_node_check *check,
		    bool (*found)(const char *path, void *user), void *user);

#endif
