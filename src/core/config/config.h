/* The configuration, after parsing: NVIDIA's device-plugin schema v1 with our additions. Defaults are filled in; where
 * the difference matters, has_* and tri-states keep whether the user set a value. gs_config_parse and friends are in
 * core/config_parse.h. */
#ifndef GPUSHARE_CORE_CONFIG_H
#define GPUSHARE_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gs_mig_strategy { GS_MIG_NONE, GS_MIG_SINGLE, GS_MIG_MIXED };
enum gs_device_discovery { GS_DISCOVERY_AUTO, GS_DISCOVERY_NVML, GS_DISCOVERY_TEGRA, GS_DISCOVERY_VFIO };
enum gs_device_id_strategy { GS_DEVICE_ID_UUID, GS_DEVICE_ID_INDEX };

/* Bits of flags.plugin.deviceListStrategy. */
enum gs_device_list_strategy {
	GS_DEVICE_LIST_ENVVAR = 1 << 0,
	GS_DEVICE_LIST_VOLUME_MOUNTS = 1 << 1,
	GS_DEVICE_LIST_CDI_ANNOTATIONS = 1 << 2,
	GS_DEVICE_LIST_CDI_CRI = 1 << 3,
};

/* flags.plugin.sharedDevicesAllocationPolicy. `distributed` and `packed` are NVIDIA's; `spread` and `aligned` ours:
 * spread takes distinct GPUs first, aligned the best linked GPUs. Whole, unshared GPUs are always aligned. */
enum gs_allocation_policy { GS_POLICY_DISTRIBUTED, GS_POLICY_PACKED, GS_POLICY_SPREAD, GS_POLICY_ALIGNED };

/* sharing.mps.resources[].isolation: one server for a device, or one for each share. */
enum gs_mps_isolation { GS_MPS_SHARED, GS_MPS_PER_SHARE };

enum gs_tristate { GS_UNSET = -1, GS_FALSE = 0, GS_TRUE = 1 };

/* Which devices an entry applies to: all, the first `count`, or the listed indices ("0", "0:1") and UUIDs. */
struct gs_device_selector {
	enum { GS_SELECT_ALL, GS_SELECT_COUNT, GS_SELECT_LIST } kind;
	unsigned count;
	char **list;
	size_t list_length;
};

struct gs_sharing_resource {
	char *name;        /* full: "nvidia.com/gpu" */
	char *rename;      /* full name to publish under; NULL: as renameByDefault says */
	unsigned replicas; /* 1..GS_REPLICAS_MAX */
	struct gs_device_selector devices;
	/* sharing.mps only; zeros where unset. */
	int64_t memory_limit_bytes;        /* of each client process; 0: the device's memory / replicas */
	unsigned active_thread_percentage; /* 0: 100 / replicas */
	unsigned priority;                 /* 0 normal, 1 below normal */
	bool oversubscribe;                /* limits may add up to more than the device has */
	bool overcommit;                   /* thread percentages may add up to more than 100 */
	enum gs_mps_isolation isolation;
	int line, column; /* of the entry, for messages; 0 when unknown */
};

struct gs_sharing {
	bool present;
	bool rename_by_default;
	enum gs_tristate fail_requests_greater_than_one;
	struct gs_sharing_resource *resources;
	size_t resource_count;
	int line, column;
};

/* resources.gpus[] / resources.mig[]: devices whose name (GPU product or MIG profile) matches `pattern`
 * (a glob with *) are published as `name`. First match wins. */
struct gs_resource_pattern {
	char *pattern;
	char *name; /* full */
	int line, column;
};

enum { GS_REPLICAS_MAX = 65536, GS_RESOURCE_NAME_MAX = 63 };

struct gs_config {
	struct {
		enum gs_mig_strategy mig_strategy;
		bool fail_on_init_error;
		char *mps_root; /* NULL unless set */
		char *nvidia_driver_root;
		char *nvidia_dev_root; /* never NULL: defaults to the driver root */
		bool gdrcopy_enabled, gds_enabled, mofed_enabled;
		bool use_node_feature_api;
		enum gs_device_discovery device_discovery;
		struct {
			bool pass_device_specs;
			unsigned device_list_strategy; /* bits */
			enum gs_device_id_strategy device_id_strategy;
			char *cdi_annotation_prefix;
			char *nvidia_ctk_path;
			char *container_driver_root;
			enum gs_allocation_policy allocation_policy;
		} plugin;
		struct {
			bool oneshot, no_timestamp;
			int64_t sleep_interval_ns; /* INT64_MAX: infinite */
			char *output_file;
			char *machine_type_file;
		} gfd;
	} flags;
	struct gs_resource_pattern *gpu_patterns;
	size_t gpu_pattern_count;
	struct gs_resource_pattern *mig_patterns;
	size_t mig_pattern_count;
	struct gs_sharing time_slicing;
	struct gs_sharing mps;
	int64_t *imex_channel_ids;
	size_t imex_channel_count;
	bool imex_required;
	struct {
		enum gs_tristate api; /* unset: where there is an API server to talk to */
		char *node_name;      /* NULL unless set */
		char *service_account_dir;
	} kubernetes;
};

/* Fills in every default, as for an empty file. */
void gs_config_init(struct gs_config *config);
void gs_config_free(struct gs_config *config);

/* activeThreadPercentage of an entry of sharing.mps, or what it is without one: 100 / replicas, and at least 1. */
unsigned gs_sharing_thread_percentage(const struct gs_sharing_resource *entry);

#endif
