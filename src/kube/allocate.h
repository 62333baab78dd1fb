/* Allocate, without the wire: which edits a container needs for the shares it was given. Pure; the same question has
 * the same answer, nothing is remembered. Behaviour follows NVIDIA's device plugin. */
#ifndef GPUSHARE_KUBE_ALLOCATE_H
#define GPUSHARE_KUBE_ALLOCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "core/container_edit.h"
#include "core/share.h"

struct gs_allocate_options {
	const struct gs_config *config;
	const struct gs_inventory *inventory;
	/* Whether a device node ("/dev/nvidiactl", without the dev root) exists on the host; NULL: all do. */
	bool (*node_exists)(const char *path, void *user);
	void *user;
	/* A random UUID: part of the annotation's key, which cdi-annotations needs. */
	const char *request_uuid;
};

/* Fills `edit` (empty before) for one container that got these shares of a resource. Devices appear in the order of the
 * request, each once. The environment variable GPUSHARE_SHARES lists the shares' ids, so that a process can be traced to
 * its share. Errors (GS_ERROR_INPUT): no shares, a position out of range or there twice, more than one share where
 * failRequestsGreaterThanOne forbids it, a device whose nodes are not known. On failure `edit` is empty. */
int gs_allocate(const struct gs_allocate_options *options, const struct gs_resource *resource, const uint32_t *shares,
		size_t count, struct gs_container_edit *edit, struct gs_error *err);

/* Paths of a device's own nodes: /dev/nvidia<minor>, and for a MIG device its two capability nodes. Returns how many
 * (1 or 3), or 0 when a minor is not known. */
enum { GS_DEVICE_NODES_MAX = 3, GS_DEVICE_NODE_SIZE = 48 };
size_t gs_device_nodes(const struct gs_inventory *inventory, uint32_t device,
		       char paths[GS_DEVICE_NODES_MAX][GS_DEVICE_NODE_SIZE]);
/* Nodes that every container with a GPU needs, where they exist; ends with NULL. */
extern const char *const gs_control_nodes[];

#endif
