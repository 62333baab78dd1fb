#include "node/vanished.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "node/withdraw.h"

enum {
	VANISHED_MAX = 64,       /* the oldest are forgotten first */
	VANISHED_SECONDS = 3600, /* by then the pod was seen to, or the log has it */
};

struct vanished {
	char share[GS_SHARE_ID_SIZE], device[GS_UUID_SIZE];
	char resource[GS_RESOURCE_NAME_MAX + 1];
	int64_t allocated_seconds, seen_seconds;
};

static void forget(struct node *node, size_t which)
{
	free(node->vanished.items[which]);
	node->vanished.count--;
	memmove(&node->vanished.items[which], &node->vanished.items[which + 1],
		(node->vanished.count - which) * sizeof *node->vanished.items);
}

static void remember(struct node *node, const struct gs_resource *resource, const struct gs_share *share,
		     const struct gs_device *device, int64_t allocated)
{
	if (node->vanished.count == VANISHED_MAX)
		forget(node, 0);
	struct vanished *vanished = gs_calloc(1, sizeof *vanished);
	memcpy(vanished->share, share->id, sizeof vanished->share);
	memcpy(vanished->device, device->uuid, sizeof vanished->device);
	memcpy(vanished->resource, resource->name, sizeof vanished->resource);
	vanished->allocated_seconds = allocated;
	vanished->seen_seconds = (int64_t)time(NULL);
	*GS_VEC_PUSH(&node->vanished) = vanished;
	gs_log(GS_LOG_WARNING, "an allocated device vanished; if its container still runs, it has lost its device",
	       GS_STR("share", share->id), GS_STR("index", device->index), GS_STR("resource", resource->name));
}

void node_vanished_update(struct node *node, const struct gs_plan *old_plan, const struct gs_inventory *old_inventory)
{
	int64_t now = (int64_t)time(NULL);
	for (size_t i = node->vanished.count; i > 0; i--)
		if (now - node->vanished.items[i - 1]->seen_seconds > VANISHED_SECONDS ||
		    gs_inventory_has(&node->inventory, node->vanished.items[i - 1]->device))
			forget(node, i - 1);
	for (size_t i = 0; i < old_plan->resource_count; i++) {
		const struct gs_resource *resource = &old_plan->resources[i];
		for (size_t j = 0; j < resource->device_count; j++) {
			const struct gs_resource_device *published = &resource->devices[j];
			const struct gs_device *device = &old_inventory->devices[published->device];
			if (gs_inventory_has(&node->inventory, device->uuid) ||
			    node_withdrawn_device(node, old_inventory->gpus[device->gpu].uuid, device->uuid))
				continue;
			for (uint32_t k = 0; k < published->share_count; k++) {
				const struct gs_share *share = &resource->shares[published->first_share + k];
				int64_t allocated = ledger_get(node->ledger, share->id);
				if (allocated)
					remember(node, resource, share, device, allocated);
			}
		}
	}
}

void node_vanished_problems(const struct node *node, json_t *problems)
{
	for (size_t i = 0; i < node->vanished.count; i++) {
		const struct vanished *vanished = node->vanished.items[i];
		GS_AUTO_FREE char *text = gs_printf("%s of %s vanished %lld s after it was handed out; if its "
						    "container still runs, it has lost its "
						    "device, and its pod should be deleted",
						    vanished->share, vanished->resource,
						    (long long)(vanished->seen_seconds - vanished->allocated_seconds));
		json_array_append_new(problems, json_string(text));
	}
}

void node_vanished_free(struct node *node)
{
	while (node->vanished.count > 0)
		forget(node, node->vanished.count - 1);
	GS_VEC_FREE(&node->vanished);
}
