/* Allocate, without the wire: which edits a container needs for the shares it was given. Pure; the same question has
 * the same answer, nothing is remembered. Behaviour follows NVIDIA's device plugin. */
#ifndef GPUSHARE_KUBE_ALLOCATE_H
#define GPUSHARE_KUBE_ALLOCATE_H

#include <stddef.h>
#include <stdint.h>

#include "core/config/config.h"
#include "core/share/container_edit.h"
#include "core/share/share.h"
#include "kube/cdi/device_nodes.h"

struct gs_allocate_options {
	const struct gs_config *config;
	const struct gs_inventory *inventory;
	struct gs_node_check node_check;
	/* A random UUID: part of the annotation's key, which cdi-annotations needs. */
	const char *request_uuid;
	/* A strategy's instance on this node, for its `edit`; may be NULL, and return NULL. */
	const void *(*instance_of)(void *user, const struct gs_strategy *strategy);
	void *instance_user;
};

/* Fills `edit` (empty before) for one container that got these shares of a resource. Devices appear in the order of the
 * request, each once. What the flags gdrcopyEnabled and so on ask for by CDI comes along only where the node has it, as
 * the spec files say. The environment variable GPUSHARE_SHARES lists the shares' ids, so that a process can be traced
 * to its share. Errors (GS_ERROR_INPUT): no shares, a position out of range or there twice, more than one share where
 * failRequestsGreaterThanOne forbids it, a device whose nodes are needed and not known, a required IMEX channel that is
 * not there. On failure `edit` is empty. */
int gs_allocate(const struct gs_allocate_options *options, const struct gs_resource *resource, const uint32_t *shares,
		size_t count, struct gs_container_edit *edit, struct gs_error *err);

#endif
