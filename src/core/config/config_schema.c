#include "core/config/config_schema.h"

#include <string.h>

#include "base/cleanup.h"

#define PLACE(member)       offsetof(struct gs_config, member)
#define FLAG_PLACE(member)  offsetof(struct gs_config, flags.member)
#define ENTRY_PLACE(member) offsetof(struct gs_sharing_resource, member)

#define NO_TEGRA "this version finds GPUs through NVML only; write auto or nvml"

static const struct gs_config_choice mig_strategies[] = {
	{"none", GS_MIG_NONE},
	{"single", GS_MIG_SINGLE},
	{"mixed", GS_MIG_MIXED},
	{NULL},
};
static const struct gs_config_choice list_strategies[] = {
	{"envvar", GS_DEVICE_LIST_ENVVAR},
	{"volume-mounts", GS_DEVICE_LIST_VOLUME_MOUNTS},
	{"cdi-annotations", GS_DEVICE_LIST_CDI_ANNOTATIONS},
	{"cdi-cri", GS_DEVICE_LIST_CDI_CRI},
	{NULL},
};
static const struct gs_config_choice id_strategies[] = {
	{"uuid", GS_DEVICE_ID_UUID}, {"index", GS_DEVICE_ID_INDEX}, {NULL}};
static const struct gs_config_choice policies[] = {
	{"distributed", GS_POLICY_DISTRIBUTED},
	{"packed", GS_POLICY_PACKED},
	{"spread", GS_POLICY_SPREAD, .addition = true},
	{"aligned", GS_POLICY_ALIGNED, .addition = true},
	{NULL},
};
static const struct gs_config_choice isolations[] = {
	{"shared", GS_MPS_SHARED, .addition = true}, {"per-share", GS_MPS_PER_SHARE, .addition = true}, {NULL}};
static const struct gs_config_choice discoveries[] = {
	{"auto", GS_DISCOVERY_AUTO},
	{"nvml", GS_DISCOVERY_NVML},
	{"tegra", GS_DISCOVERY_TEGRA, NO_TEGRA},
	{"vfio", GS_DISCOVERY_VFIO, NO_TEGRA},
	{NULL},
};

/* The keys that timeSlicing and mps have in common. */
#define SHARING_KEYS(section, member, unset_means)                                                                    \
	{"sharing." section ".renameByDefault",                                                                       \
	 GS_KEY_BOOL,                                                                                                 \
	 "Publish shared resources under their name with .shared added",                                              \
	 PLACE(member.rename_by_default),                                                                             \
	 .fallback = "false",                                                                                         \
	 .since = "0.1.0"},                                                                                           \
		{"sharing." section ".failRequestsGreaterThanOne",                                                    \
		 GS_KEY_TRISTATE,                                                                                     \
		 "Refuse a container that asks for more than one share: two shares are not twice the time",           \
		 PLACE(member.fail_requests_greater_than_one),                                                        \
		 .fallback_note = unset_means,                                                                        \
		 .since = "0.1.0"},                                                                                   \
		{"sharing." section ".resources",                                                                     \
		 GS_KEY_LIST,                                                                                         \
		 "What is shared, and into how many shares",                                                          \
		 PLACE(member.resources),                                                                             \
		 PLACE(member.resource_count),                                                                        \
		 sizeof(struct gs_sharing_resource),                                                                  \
		 .required = true,                                                                                    \
		 .minimum = 1,                                                                                        \
		 .maximum = 256,                                                                                      \
		 .since = "0.1.0"},                                                                                   \
		{"sharing." section ".resources[].name",                                                              \
		 GS_KEY_NAME,                                                                                         \
		 "The resource to share; nvidia.com/ is added when missing",                                          \
		 offsetof(struct gs_sharing_resource, name),                                                          \
		 .required = true,                                                                                    \
		 .since = "0.1.0"},                                                                                   \
		{"sharing." section ".resources[].rename",                                                            \
		 GS_KEY_NAME,                                                                                         \
		 "Publish the shares under this name",                                                                \
		 offsetof(struct gs_sharing_resource, rename),                                                        \
		 .fallback_note = "the name, or name.shared with renameByDefault",                                    \
		 .since = "0.1.0"},                                                                                   \
		{"sharing." section ".resources[].replicas",                                                          \
		 GS_KEY_COUNT,                                                                                        \
		 "Shares for each device",                                                                            \
		 offsetof(struct gs_sharing_resource, replicas),                                                      \
		 .minimum = 1,                                                                                        \
		 .maximum = GS_REPLICAS_MAX,                                                                          \
		 .required = true,                                                                                    \
		 .since = "0.1.0"},                                                                                   \
	{                                                                                                             \
		"sharing." section ".resources[].devices", GS_KEY_DEVICES,                                            \
			"Which devices of this name: all, how many, or a list of indices (0, 0:1 for MIG) and UUIDs", \
			offsetof(struct gs_sharing_resource, devices), .fallback = "all", .since = "0.1.0"            \
	}

#define PATTERN_KEYS(section, member, what)                                                            \
	{"resources." section,                                                                         \
	 GS_KEY_LIST,                                                                                  \
	 "Names for " what ", first match wins; without a match the usual name is kept",               \
	 PLACE(member##_patterns),                                                                     \
	 PLACE(member##_pattern_count),                                                                \
	 sizeof(struct gs_resource_pattern),                                                           \
	 .maximum = 256,                                                                               \
	 .since = "0.1.0"},                                                                            \
		{"resources." section "[].pattern",                                                    \
		 GS_KEY_PATTERN,                                                                       \
		 "What " what " are called, * stands for anything",                                    \
		 offsetof(struct gs_resource_pattern, pattern),                                        \
		 .required = true,                                                                     \
		 .since = "0.1.0"},                                                                    \
	{                                                                                              \
		"resources." section "[].name", GS_KEY_NAME,                                           \
			"The resource to publish them as; nvidia.com/ is added when missing",          \
			offsetof(struct gs_resource_pattern, name), .required = true, .since = "0.1.0" \
	}

const struct gs_config_key gs_config_keys[] = {
	{"version", GS_KEY_VERSION, "Version of this file's form", .fallback = "v1", .since = "0.1.0"},

	{"flags", GS_KEY_OBJECT, "How the node's devices are found and handed to containers", .since = "0.1.0"},
	{"flags.migStrategy", GS_KEY_CHOICE, "How MIG devices are published", FLAG_PLACE(mig_strategy),
	 .choices = mig_strategies, .fallback = "none", .env = {"MIG_STRATEGY", "GFD_MIG_STRATEGY"},
	 .flags = {"mig-strategy"}, .since = "0.1.0"},
	{"flags.failOnInitError", GS_KEY_BOOL,
	 "Accepted; a missing driver is waited for in either case, and served when it comes",
	 FLAG_PLACE(fail_on_init_error), .fallback = "true", .env = {"FAIL_ON_INIT_ERROR", "GFD_FAIL_ON_INIT_ERROR"},
	 .flags = {"fail-on-init-error"}, .since = "0.1.0"},
	{"flags.mpsRoot", GS_KEY_PATH, "Where MPS keeps its pipes and logs on the host", FLAG_PLACE(mps_root),
	 .env = {"MPS_ROOT"}, .flags = {"mps-root"}, .fallback = "/run/nvidia/mps", .of_node = true, .since = "0.1.0"},
	{"flags.nvidiaDriverRoot", GS_KEY_PATH, "Where the driver is installed on the host",
	 FLAG_PLACE(nvidia_driver_root), .fallback = "/", .env = {"NVIDIA_DRIVER_ROOT", "DRIVER_ROOT"},
	 .flags = {"nvidia-driver-root", "driver-root"}, .of_node = true, .since = "0.1.0"},
	{"flags.nvidiaDevRoot", GS_KEY_PATH, "Where the driver's /dev is on the host", FLAG_PLACE(nvidia_dev_root),
	 .fallback_note = "the driver root", .env = {"NVIDIA_DEV_ROOT"}, .flags = {"nvidia-dev-root", "dev-root"},
	 .of_node = true, .since = "0.1.0"},
	{"flags.gdrcopyEnabled", GS_KEY_BOOL, "Hand out GDRCopy devices as well", FLAG_PLACE(gdrcopy_enabled),
	 .fallback = "false", .env = {"GDRCOPY_ENABLED"}, .flags = {"gdrcopy-enabled"}, .since = "0.1.0"},
	{"flags.gdsEnabled", GS_KEY_BOOL, "Hand out GPUDirect Storage devices as well", FLAG_PLACE(gds_enabled),
	 .fallback = "false", .env = {"GDS_ENABLED"}, .flags = {"gds-enabled"}, .since = "0.1.0"},
	{"flags.mofedEnabled", GS_KEY_BOOL, "Hand out MOFED (InfiniBand) devices as well", FLAG_PLACE(mofed_enabled),
	 .fallback = "false", .env = {"MOFED_ENABLED"}, .flags = {"mofed-enabled"}, .since = "0.1.0"},
	{"flags.useNodeFeatureAPI", GS_KEY_BOOL,
	 "Publish labels as a NodeFeature object if the cluster has Node Feature Discovery, instead of on the Node",
	 FLAG_PLACE(use_node_feature_api), .fallback = "false",
	 .env = {"GFD_USE_NODE_FEATURE_API", "USE_NODE_FEATURE_API"}, .flags = {"use-node-feature-api"},
	 .since = "0.1.0"},
	{"flags.deviceDiscoveryStrategy", GS_KEY_CHOICE, "How GPUs are found", FLAG_PLACE(device_discovery),
	 .choices = discoveries, .fallback = "auto", .env = {"DEVICE_DISCOVERY_STRATEGY"},
	 .flags = {"device-discovery-strategy"}, .since = "0.1.0"},

	{"flags.plugin", GS_KEY_OBJECT, "How devices reach containers", .since = "0.1.0"},
	{"flags.plugin.passDeviceSpecs", GS_KEY_BOOL,
	 "Hand device nodes to the kubelet too, needed with its CPU manager", FLAG_PLACE(plugin.pass_device_specs),
	 .fallback = "false", .env = {"PASS_DEVICE_SPECS"}, .flags = {"pass-device-specs"}, .since = "0.1.0"},
	{"flags.plugin.deviceListStrategy", GS_KEY_CHOICES, "How a container is told its devices, one way or several",
	 FLAG_PLACE(plugin.device_list_strategy), .choices = list_strategies, .fallback = "envvar",
	 .env = {"DEVICE_LIST_STRATEGY"}, .flags = {"device-list-strategy"}, .since = "0.1.0"},
	{"flags.plugin.deviceIDStrategy", GS_KEY_CHOICE, "What a device is called inside a container",
	 FLAG_PLACE(plugin.device_id_strategy), .choices = id_strategies, .fallback = "uuid",
	 .env = {"DEVICE_ID_STRATEGY"}, .flags = {"device-id-strategy"}, .since = "0.1.0"},
	{"flags.plugin.cdiAnnotationPrefix", GS_KEY_STRING, "What the CDI annotation's key begins with",
	 FLAG_PLACE(plugin.cdi_annotation_prefix), .fallback = "cdi.k8s.io/", .env = {"CDI_ANNOTATION_PREFIX"},
	 .flags = {"cdi-annotation-prefix"}, .since = "0.1.0"},
	{"flags.plugin.nvidiaCTKPath", GS_KEY_PATH, "Where nvidia-ctk is on the host, for hooks in CDI files",
	 FLAG_PLACE(plugin.nvidia_ctk_path), .fallback = "/usr/bin/nvidia-ctk",
	 .env = {"NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"}, .flags = {"nvidia-cdi-hook-path", "nvidia-ctk-path"},
	 .of_node = true, .since = "0.1.0"},
	{"flags.plugin.containerDriverRoot", GS_KEY_PATH,
	 "Where the host's driver is mounted in the plugin's container", FLAG_PLACE(plugin.container_driver_root),
	 .fallback = "/driver-root", .env = {"DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"},
	 .flags = {"driver-root-ctr-path", "container-driver-root"}, .of_node = true, .since = "0.1.0"},
	{"flags.plugin.sharedDevicesAllocationPolicy", GS_KEY_CHOICE,
	 "Which GPUs a container's shares are taken from first", FLAG_PLACE(plugin.allocation_policy),
	 .choices = policies, .fallback = "distributed", .env = {"SHARED_DEVICES_ALLOCATION_POLICY"},
	 .flags = {"shared-devices-allocation-policy"}, .since = "0.1.0"},

	{"flags.gfd", GS_KEY_OBJECT, "GPU feature discovery: node labels", .since = "0.1.0"},
	{"flags.gfd.oneshot", GS_KEY_BOOL, "Publish labels once after the start; later changes wait for the next one",
	 FLAG_PLACE(gfd.oneshot), .fallback = "false", .env = {"GFD_ONESHOT"}, .flags = {"oneshot"}, .since = "0.1.0"},
	{"flags.gfd.noTimestamp", GS_KEY_BOOL, "Leave the timestamp label out", FLAG_PLACE(gfd.no_timestamp),
	 .fallback = "false", .env = {"GFD_NO_TIMESTAMP"}, .flags = {"no-timestamp"}, .since = "0.1.0"},
	{"flags.gfd.sleepInterval", GS_KEY_DURATION,
	 "How often the labels' file is looked at and mended: 60s, a number of nanoseconds, or infinite, which is as "
	 "oneshot; changes are published at once",
	 FLAG_PLACE(gfd.sleep_interval_ns), .fallback = "60s", .env = {"GFD_SLEEP_INTERVAL"},
	 .flags = {"sleep-interval"}, .since = "0.1.0"},
	{"flags.gfd.outputFile", GS_KEY_PATH,
	 "File for Node Feature Discovery that the labels are written to when its directory exists, empty: none",
	 FLAG_PLACE(gfd.output_file), .fallback = "/etc/kubernetes/node-feature-discovery/features.d/gfd",
	 .env = {"GFD_OUTPUT_FILE"}, .flags = {"output-file"}, .of_node = true, .since = "0.1.0"},
	{"flags.gfd.machineTypeFile", GS_KEY_PATH, "File that names the machine's type",
	 FLAG_PLACE(gfd.machine_type_file), .fallback = "/sys/class/dmi/id/product_name",
	 .env = {"GFD_MACHINE_TYPE_FILE"}, .flags = {"machine-type-file"}, .of_node = true, .since = "0.1.0"},

	{"resources", GS_KEY_OBJECT, "Resource names by product", .since = "0.1.0"},
	PATTERN_KEYS("gpus", gpu, "GPUs"),
	PATTERN_KEYS("mig", mig, "MIG profiles"),

	{"sharing", GS_KEY_OBJECT, "What is shared", .since = "0.1.0"},
	{"sharing.timeSlicing", GS_KEY_SHARING, "Share by taking turns: memory and faults are not isolated",
	 PLACE(time_slicing), .since = "0.1.0"},
	SHARING_KEYS("timeSlicing", time_slicing, "false: allowed"),
	{"sharing.mps", GS_KEY_SHARING, "Share by MPS: work runs side by side, memory is bounded for each process",
	 PLACE(mps), .since = "0.1.0"},
	SHARING_KEYS("mps", mps, "true: refused"),
	{"sharing.mps.resources[].memoryLimit", GS_KEY_QUANTITY, "Device memory that each client process may have",
	 ENTRY_PLACE(memory_limit_bytes), .minimum = 1 << 20, .fallback_note = "the device's memory / replicas",
	 .since = "0.1.0"},
	{"sharing.mps.resources[].activeThreadPercentage", GS_KEY_COUNT,
	 "Part of the device's multiprocessors that each client may use", ENTRY_PLACE(active_thread_percentage),
	 .minimum = 1, .maximum = 100, .fallback_note = "100 / replicas", .since = "0.1.0"},
	{"sharing.mps.resources[].priority", GS_KEY_COUNT, "Of clients' work: 0 is normal, 1 below normal",
	 ENTRY_PLACE(priority), .minimum = 0, .maximum = 1, .fallback_note = "0", .since = "0.1.0"},
	{"sharing.mps.resources[].overcommit", GS_KEY_BOOL,
	 "The thread percentages of a device's shares may add up to more than 100", ENTRY_PLACE(overcommit),
	 .fallback = "false", .since = "0.1.0"},
	{"sharing.mps.resources[].oversubscribe", GS_KEY_BOOL,
	 "The memory limits of a device's shares may add up to more than it has, and as overcommit",
	 ENTRY_PLACE(oversubscribe), .fallback = "false", .since = "0.1.0"},
	{"sharing.mps.resources[].isolation", GS_KEY_CHOICE,
	 "shared: one server for a device, whose clients run side by side and fail together; per-share: one for each "
	 "share, which take turns and fail alone",
	 ENTRY_PLACE(isolation), .choices = isolations, .fallback = "shared", .since = "0.1.0"},

	{"imex", GS_KEY_OBJECT, "IMEX channels, for memory shared between nodes", .since = "0.1.0"},
	{"imex.channelIDs", GS_KEY_CHANNELS, "Channels to hand out: none, or [0]", PLACE(imex_channel_ids),
	 PLACE(imex_channel_count), .fallback = "", .env = {"IMEX_CHANNEL_IDS"}, .flags = {"imex-channel-ids"},
	 .since = "0.1.0"},
	{"imex.required", GS_KEY_BOOL, "A channel that is missing at start is an error", PLACE(imex_required),
	 .fallback = "false", .env = {"IMEX_REQUIRED"}, .flags = {"imex-required"}, .since = "0.1.0"},

	{"kubernetes", GS_KEY_OBJECT, "What is asked of the cluster's API server and said to it; read at start",
	 .since = "0.1.0"},
	{"kubernetes.api", GS_KEY_TRISTATE,
	 "Use the API server: labels, events, conditions, and the config chosen by the node's label; false needs no "
	 "rights",
	 PLACE(kubernetes.api), .fallback_note = "used where there is one: in a pod with a service account",
	 .env = {"GPUSHARE_KUBERNETES_API"}, .flags = {"kubernetes-api"}, .since = "0.1.0"},
	{"kubernetes.nodeName", GS_KEY_STRING, "Name of this node in the cluster, from spec.nodeName",
	 PLACE(kubernetes.node_name), .fallback_note = "none, and the API server is not used", .env = {"NODE_NAME"},
	 .flags = {"node-name"}, .of_node = true, .since = "0.1.0"},
	{"kubernetes.serviceAccountDir", GS_KEY_PATH, "Where the service account's token and ca.crt are mounted",
	 PLACE(kubernetes.service_account_dir), .fallback = "/var/run/secrets/kubernetes.io/serviceaccount",
	 .env = {"GPUSHARE_SERVICE_ACCOUNT_DIR"}, .flags = {"service-account-dir"}, .of_node = true, .since = "0.1.0"},
};
const size_t gs_config_key_count = GS_ARRAY_LENGTH(gs_config_keys);

#define MPS_LIMITS                                                                                                    \
	"time-slicing does not bound memory; share by MPS and give sharing.mps.resources[] a memoryLimit, or remove " \
	"it"
#define MPS_PARTS "time-slicing gives equal turns; share by MPS and set it in sharing.mps.resources[], or remove it"
const struct gs_config_absent_key gs_config_absent_keys[] = {
	{"memoryLimit", MPS_LIMITS},
	{"memoryLimits", MPS_LIMITS},
	{"memory", MPS_LIMITS},
	{"memoryGB", MPS_LIMITS},
	{"defaultPinnedDeviceMemoryLimit", MPS_LIMITS},
	{"defaultActiveThreadPercentage", "write activeThreadPercentage in sharing.mps.resources[]"},
	{"activeThreadPercentage", MPS_PARTS},
	{"priority", MPS_PARTS},
	{"timeslice", "this version leaves the length of a time slice to the driver; remove it"},
	{"interval", "this version leaves the length of a time slice to the driver; remove it"},
	{"weight", "shares of a GPU are equal under time-slicing; remove it"},
};
const size_t gs_config_absent_key_count = GS_ARRAY_LENGTH(gs_config_absent_keys);

const char *gs_config_key_name(const struct gs_config_key *key)
{
	const char *dot = strrchr(key->path, '.');
	return dot ? dot + 1 : key->path;
}

bool gs_config_key_in(const struct gs_config_key *key, const char *parent)
{
	const char *name = gs_config_key_name(key);
	size_t length = name == key->path ? 0 : (size_t)(name - key->path - 1);
	return strlen(parent) == length && strncmp(key->path, parent, length) == 0;
}

const struct gs_config_key *gs_config_key_find(const char *path)
{
	for (size_t i = 0; i < gs_config_key_count; i++)
		if (strcmp(gs_config_keys[i].path, path) == 0)
			return &gs_config_keys[i];
	return NULL;
}

bool gs_config_key_in_list(const struct gs_config_key *key)
{
	return strstr(key->path, "[]") != NULL;
}
