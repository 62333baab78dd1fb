/* Shares, and the plan that turns a configuration and an inventory into them. Pure. */
#ifndef GPUSHARE_CORE_SHARE_H
#define GPUSHARE_CORE_SHARE_H

#include "base/error.h"
#include "core/config/config.h"
#include "core/config/sharing.h"
#include "core/share/inventory.h"

enum {
	GS_SHARE_ID_SIZE = GS_UUID_SIZE + 8,
	/* A kubelet refuses a ListAndWatch message above this (the default of grpc-go), so a resource may not need more. */
	GS_RESOURCE_LIST_BYTES_MAX = 4 * 1024 * 1024,
};

struct gs_strategy;
struct gs_strategy_life;
struct gs_container_edit;

/* One entitlement to a device. `id` is what the kubelet checkpoints, so its form never changes:
 * the device's UUID for an exclusive device, "<uuid>::<n>" for a replica. */
struct gs_share {
	char id[GS_SHARE_ID_SIZE];
	uint32_t device;       /* position in the inventory's devices */
	uint32_t replica;      /* n; 0 for an exclusive device */
	uint64_t memory_bytes; /* entitlement: for time-slicing the device's memory / replicas, not enforced */
	uint32_t compute_permille;
};

/* A device that a resource publishes. Its shares lie side by side: first_share + n is replica n. One resource may hold
 * devices of several strategies (two shared GPUs and two that are left whole, all nvidia.com/gpu). */
struct gs_resource_device {
	uint32_t device;     /* position in the inventory's devices */
	uint32_t gpu;        /* position in the inventory's GPUs */
	uint32_t uuid_bytes; /* of its shares' ids, the UUID */
	uint32_t first_share, share_count;
	uint32_t first_replica; /* n of the first share: not 0 where another resource has shares of the device too */
	const struct gs_strategy *strategy;
	bool replicated; /* ids end in "::<n>" */
	bool fail_requests_greater_than_one;
	void *kept; /* what its strategy keeps of its entry, in one piece of memory; owned */
};

/* One resource: the shares that are published under one name. Devices are in the inventory's order, shares by device,
 * then replica. Owns its arrays. */
struct gs_resource {
	char name[GS_RESOURCE_NAME_MAX + 1]; /* "nvidia.com/gpu", "nvidia.com/gpu.shared" */
	struct gs_share *shares;
	size_t share_count;
	size_t share_capacity;
	struct gs_resource_device *devices;
	size_t device_count;
	size_t device_capacity;
	size_t list_bytes;    /* upper bound of the ListAndWatch message */
	uint32_t number_from; /* first_replica of the device that is added next */
	uint32_t *slots;      /* hash of the devices' UUIDs: position in `devices` + 1, 0 is empty */
	uint32_t slot_mask;
};

struct gs_plan {
	struct gs_resource *resources; /* in the order of their first device */
	size_t resource_count;
	char **notes; /* sentences: which shares are left out or withheld against the config, and why */
	size_t note_count;
	/* By device of the inventory, with NULL for the others; NULL where there is none. */
	char **misfits;  /* why it is not published */
	char **withheld; /* why its shares are withheld */
	size_t device_count;
	char **unmatched; /* sentences: what the config names and this node does not have */
	size_t unmatched_count;
};

/* A sharing strategy: one file implements one of these, and nothing else knows it. `plan`, `check` and `edit` are pure. */
struct gs_strategy {
	const char *name; /* "exclusive", "time-slicing", "mps": also the label value of gpu.sharing-strategy */
	/* NVIDIA's node label, without its prefix, that tells whether a device is shared so: "mps.capable"; NULL: it has none. */
	const char *capable_label;
	/* The section of the config that selects it; NULL for exclusive. */
	const struct gs_sharing_section *section;
	/* For `config explain`, of a strategy with a section: "by MPS"; what one share of an entry is, owned by the caller; what a
	 * container gets of several; whether one share's memory is safe from another. */
	const char *by;
	char *(*terms)(const struct gs_sharing_resource *entry);
	const char *several_shares;
	bool memory_isolated;
	/* It sets the compute mode itself, as it needs it. */
	bool sets_compute_mode;
	/* Adds the shares of one device with one call of gs_resource_add_device, and may change their entitlements.
	 * `entry` is NULL for exclusive. */
	void (*plan)(const struct gs_sharing_resource *entry, const struct gs_inventory *inventory, uint32_t device,
		     struct gs_resource *resource);
	/* Refuses (gs_plan_refuse) the devices that all it planned together does not fit; NULL: it always does. */
	void (*check)(const struct gs_inventory *inventory, struct gs_plan *plan);
	/* The needs of a container that gets these shares (all of this strategy), beyond the devices; NULL: none.
	 * `instance` is the strategy's on this node and holds its facts about the node; NULL: none are known. */
	int (*edit)(const void *instance, const struct gs_config *config, const struct gs_inventory *inventory,
		    const struct gs_resource *resource, const uint32_t *shares, size_t count,
		    struct gs_container_edit *edit, struct gs_error *err);
	/* strategy/life.h: what it does on a node beyond the plan; NULL: nothing. */
	const struct gs_strategy_life *life;
};

/* Plans every resource.
 *
 * A GPU is published as resources.gpus says (first pattern that matches its name), else as nvidia.com/gpu. With
 * migStrategy none, MIG devices are left out; with single they are published like GPUs (resources.mig, else
 * nvidia.com/gpu), with mixed as resources.mig says, else as nvidia.com/mig-<profile>, and a GPU with MIG enabled is
 * not published itself. Single promises that all devices of one name are alike: of several kinds (whole GPUs, a profile
 * on a GPU model) the one that has the most memory is published, and a note tells what is left out. `strategies` holds
 * the ones this build can run, exclusive first. A device that a sharing entry names goes to that entry, under its
 * `rename`, or name.shared with renameByDefault; what is left stays exclusive under its own name.
 *
 * A device that does not fit costs only itself. A device is not published (gs_plan_misfit) where two entries claim it,
 * where its strategy finds that the hardware can't do it, or where it would make a list too long. Its shares are
 * published and withheld (gs_plan_withheld) where a container could not get its device nodes. `notes` says all of it,
 * `unmatched` what the config names and this node does not have (it may come by hot-plug).
 *
 * Errors: a sharing section that no strategy runs; a name that is too long. On failure `plan` is untouched; what it
 * held before is never freed. */
int gs_plan_build(const struct gs_config *config, const struct gs_inventory *inventory,
		  const struct gs_strategy *const *strategies, size_t strategy_count, struct gs_plan *plan,
		  struct gs_error *err);
void gs_plan_free(struct gs_plan *plan);
/* NULL when there is none of that name. */
const struct gs_resource *gs_plan_find(const struct gs_plan *plan, const char *name);

/* Why the config does not fit this device of the inventory; NULL: it does. */
const char *gs_plan_misfit(const struct gs_plan *plan, uint32_t device);
/* Why no container can get this device of the inventory; NULL: it can. */
const char *gs_plan_withheld(const struct gs_plan *plan, uint32_t device);

/* Calls `say` with a sentence for each GPU whose compute mode, set by another program, keeps its shares from being
 * used: with several time-sliced shares EXCLUSIVE_PROCESS lets one process in, and PROHIBITED none. */
void gs_plan_modes(const struct gs_plan *plan, const struct gs_inventory *inventory,
		   void (*say)(void *user, const char *text), void *user);

/* For strategies: says why the config does not fit a device (the first reason stays); says something else. */
__attribute__((format(printf, 4, 5))) void gs_plan_refuse(struct gs_plan *plan, const struct gs_inventory *inventory,
							  uint32_t device, const char *format, ...);
__attribute__((format(printf, 2, 3))) void gs_plan_note(struct gs_plan *plan, const char *format, ...);

/* Appends a device with `replicas` equal shares (at most GS_REPLICAS_MAX), or as one exclusive share when 0; used by
 * strategies. Returns its first share, valid until the next call, so that entitlements can be changed. */
struct gs_share *gs_resource_add_device(struct gs_resource *resource, const struct gs_inventory *inventory,
					uint32_t device, uint32_t replicas);

/* Takes the device that was added last away again. */
void gs_resource_drop_last(struct gs_resource *resource);

/* Position of the share with this id (any bytes, no NUL needed), or -1. Constant time. */
int64_t gs_resource_find(const struct gs_resource *resource, const char *id, size_t length);
/* The resource's device that a share lives on. */
const struct gs_resource_device *gs_resource_device_of(const struct gs_resource *resource, uint32_t share);

#endif
