/* MIG configurations: which GPUs of a node should have MIG on, and how they are divided. The file format is that of
 * NVIDIA's mig-parted (version v1), read strictly:
 *
 *     version: v1
 *     mig-configs:
 *       mixed:
 *         - devices: [0, 1]                 # or: all
 *           device-filter: ["0x20B210DE"]   # optional: only GPUs with these PCI device ids
 *           mig-enabled: true
 *           mig-devices: {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
 *
 * A ConfigMap that has such a file among its data, or one only, is read as that file.
 *
 * Pure: files are read, and GPUs looked at, elsewhere. */
#ifndef GPUSHARE_CORE_MIG_CONFIG_H
#define GPUSHARE_CORE_MIG_CONFIG_H

#include "core/config/diagnostic.h"
#include "core/mig/mig_wish.h"

enum {
	GS_MIG_CONFIG_NAME_MAX = 253,   /* bytes in the name of a configuration */
	GS_MIG_CONFIG_GPU_MAX = 1024,   /* largest GPU index that can be written */
	GS_MIG_CONFIG_COUNT_MAX = 1000, /* and the largest count */
};

/* As in device-filter: "0x20B210DE", or "0x20B210DE:0x146310DE" with the board's maker. NVML's pciDeviceId and
 * pciSubSystemId. */
struct gs_mig_filter {
	uint32_t device, subsystem;
	bool any_subsystem;
};

struct gs_mig_count {
	char *profile; /* "1g.10gb", "1c.3g.40gb": formed like one, but not known to exist */
	uint32_t count;
	int line, column;
};

/* A GPU by its index, as NVML numbers them. */
struct gs_mig_index {
	uint32_t gpu;
	int line, column;
};

struct gs_mig_entry {
	int line, column; /* from 1; 0 when it comes from no file */
	bool all_devices;
	struct gs_mig_index *devices; /* else these */
	size_t device_count;
	struct gs_mig_filter *filters; /* none: every GPU */
	size_t filter_count;
	bool enabled;
	struct gs_mig_count *counts; /* none when not enabled */
	size_t count_count;
};

struct gs_mig_named {
	char *name;
	int line, column;
	struct gs_mig_entry *entries;
	size_t entry_count;
};

/* Owns everything in it. */
struct gs_mig_config {
	char *file; /* for messages */
	struct gs_mig_named *items;
	size_t count, capacity;
};

/* Reads a file's text. All findings go to `diags`, in file order, each with its place. 0: `config` is whole, and the
 * caller frees it; -1: there were errors, and it is empty. Its earlier content is not freed. */
int gs_mig_config_parse(const char *file, const char *text, size_t length, struct gs_mig_config *config,
			struct gs_diagnostics *diags);
void gs_mig_config_free(struct gs_mig_config *config);
void gs_mig_entry_free(struct gs_mig_entry *entry);

/* NULL: there is none of that name. A NULL name finds the only configuration, if there is just one. The error
 * (GS_ERROR_INPUT) suggests a name, or lists them. */
const struct gs_mig_named *gs_mig_config_find(const struct gs_mig_config *config, const char *name,
					      struct gs_error *err);

/* A GPU of the node, at its NVML index. */
struct gs_mig_node_gpu {
	const struct gs_mig_gpu *mig; /* NULL: it can't do MIG */
	uint32_t pci_device, pci_subsystem;
};

/* The part of a configuration that concerns one GPU. */
struct gs_mig_target {
	bool named;              /* false: the configuration does not speak of this GPU, so it stays as it is */
	bool enabled;            /* MIG mode */
	struct gs_mig_wish wish; /* when enabled */
};

/* What a configuration wants of each GPU of a node; `targets` has room for `count`. Entries with "devices: all" and
 * entries that turn MIG off pass over GPUs that can't do MIG, and GPU indexes that the node does not have are passed over too,
 * as mig-parted does. Warnings, each with its place in `config->file`: those indexes; a device-filter that matches no GPU
 * here, when gs_mig_config_is_matched is false. Errors: MIG on for a GPU that can't do it, a profile that the GPU does not have, more instances than fit, two entries that want different
 * things of one GPU. Whether the profiles fit together is the planner's to say. -1 when there were errors. */
int gs_mig_config_resolve(const struct gs_mig_config *config, const struct gs_mig_named *named,
			  const struct gs_mig_node_gpu *gpus, size_t count, struct gs_mig_target *targets,
			  struct gs_diagnostics *diags);

/* After that: whether the configuration says something of this node. false: it names none of its GPUs, or it leaves out
 * one that can do MIG while the filter of one of its entries matches none. Such a node must not be reported as
 * configured. */
bool gs_mig_config_is_matched(const struct gs_mig_named *named, const struct gs_mig_node_gpu *gpus, size_t count,
			      const struct gs_mig_target *targets);

/* The configurations that every node with MIG has, made from its hardware, with the names that NVIDIA's mig-manager
 * gives them: all-disabled, all-enabled, all-balanced, and for each profile all-PROFILE with as many as fit ('+' in a
 * profile is '.' in the name: all-1g.10gb.me). GPUs that differ get entries of their own, told apart by device-filter.
 * all-balanced is two of the smallest, then one each of 2g, 3g... while slices last; left out for GPUs where that does
 * not fit. An empty configuration when no GPU can do MIG. The caller frees it. */
void gs_mig_config_generate(const struct gs_mig_node_gpu *gpus, size_t count, struct gs_mig_config *config);

/* Adds the configuration that describes what GPUs have: `targets` as gs_mig_config_resolve would give them. Equal GPUs
 * share an entry; without any that is named, nothing is added. The format has no GPU instances without compute
 * instances: those are left out. */
void gs_mig_config_describe(struct gs_mig_config *config, const char *name, const struct gs_mig_node_gpu *gpus,
			    const struct gs_mig_target *targets, size_t count);

/* The file's text; reading it gives the same configuration. The caller frees it. */
char *gs_mig_config_text(const struct gs_mig_config *config);

#endif
