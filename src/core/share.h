/* Shares, and the plan that turns a configuration and an inventory into them. Pure. */
#ifndef GPUSHARE_CORE_SHARE_H
#define GPUSHARE_CORE_SHARE_H

#include "base/error.h"
#include "core/config.h"
#include "core/inventory.h"

enum { GS_SHARE_ID_SIZE = GS_UUID_SIZE + 8 };

struct gs_strategy;

/* One entitlement to a device. `id` is what the kubelet checkpoints, so its form never changes:
 * the device's UUID for an exclusive device, "<uuid>::<n>" for a replica. */
struct gs_share {
	char id[GS_SHARE_ID_SIZE];
	uint32_t device;            /* position in the inventory's devices */
	uint32_t replica;           /* n; 0 for an exclusive device */
	uint64_t memory_bytes;      /* entitlement: for time-slicing the device's memory / replicas, not enforced */
	uint32_t compute_permille;
};

/* What is published under one name. Shares are ordered by device, then replica. Owns its array. */
struct gs_resource {
	char name[GS_RESOURCE_NAME_MAX + 1]; /* "nvidia.com/gpu", "nvidia.com/gpu.shared" */
	const struct gs_strategy *strategy;
	bool fail_requests_greater_than_one;
	struct gs_share *shares;
	size_t share_count;
};

struct gs_plan {
	struct gs_resource *resources;
	size_t resource_count;
};

/* What a container gets: collected by the strategies and the device plugin, rendered by whoever prepares it.
 * Strings are owned. */
struct gs_edit_pair { char *key, *value; };
struct gs_edit_mount { char *host_path, *container_path; bool read_only; };
struct gs_edit_device { char *host_path, *container_path, *permissions; };
struct gs_container_edit {
	struct gs_edit_pair *env; size_t env_count;
	struct gs_edit_pair *annotations; size_t annotation_count;
	struct gs_edit_mount *mounts; size_t mount_count;
	struct gs_edit_device *devices; size_t device_count;
	char **cdi_devices; size_t cdi_device_count;   /* qualified names */
};
void gs_container_edit_env(struct gs_container_edit *edit, const char *key, const char *value);
void gs_container_edit_annotation(struct gs_container_edit *edit, const char *key, const char *value);
void gs_container_edit_mount(struct gs_container_edit *edit, const char *host, const char *container, bool read_only);
void gs_container_edit_device(struct gs_container_edit *edit, const char *host, const char *container, const char *permissions);
void gs_container_edit_cdi(struct gs_container_edit *edit, const char *qualified_name);
void gs_container_edit_free(struct gs_container_edit *edit);

/* A sharing strategy: one file implements one of these, and nothing else knows it. Members that a strategy does
 * not need are NULL. `plan` appends the shares of one device to a resource. */
struct gs_strategy {
	const char *name;      /* "exclusive", "time-slicing", "mps": also the label value of gpu.sharing-strategy */
	/* The sharing section of the config that selects it; NULL section for exclusive. */
	const struct gs_sharing *(*section)(const struct gs_config *config);
	void (*plan)(const struct gs_sharing_resource *entry /* NULL when exclusive */, const struct gs_inventory *inventory,
		     uint32_t device, struct gs_resource *resource);
	int (*activate)(const struct gs_resource *resource, const struct gs_inventory *inventory, struct gs_error *err);
	int (*edit)(const struct gs_resource *resource, const struct gs_inventory *inventory, const uint32_t *shares,
		    size_t count, struct gs_container_edit *edit, struct gs_error *err);
	void (*deactivate)(const struct gs_resource *resource, const struct gs_inventory *inventory);
};

/* Plans every resource. `strategies` holds the ones this build can run, exclusive first. A device that a sharing
 * entry names goes to that entry; what is left stays exclusive under its own name. Errors: two entries claim one
 * device; a selector names a device the node lacks is not an error (it may come by hot-plug), see
 * gs_plan_unmatched. On failure `plan` is untouched. */
int gs_plan_build(const struct gs_config *config, const struct gs_inventory *inventory,
		  const struct gs_strategy *const *strategies, size_t strategy_count, struct gs_plan *plan,
		  struct gs_error *err);
void gs_plan_free(struct gs_plan *plan);

/* Appends a share; used by strategies. */
struct gs_share *gs_resource_add_share(struct gs_resource *resource);
/* Position of the share with this id, or -1. Constant time after gs_resource_index was built by gs_plan_build. */

#endif
