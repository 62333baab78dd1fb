#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/nvidia_settings.h"
#include "core/config/config_parse.h"
#include "node/hardware.h"
#include "node/node.h"
#include "node/pause.h"
#include "node/selection.h"
#include "node/uninstall.h"

enum { DELETE_SECONDS = 120 };

/* The first of NVIDIA's flags, which the config room knows by the same names; the options before it are ours. */
#define FIRST_SETTING "mig-strategy"

static const struct gs_option options[] = {
	{"config", 'c', "FILE", "CONFIG_FILE", NULL,
	 "NVIDIA's device-plugin config, version v1, or a ConfigMap that wraps one", "file"},
	{"config-dir", 0, "DIR", "CONFIG_FILE_SRCDIR", NULL,
	 "a mounted ConfigMap of several configs; the node's label nvidia.com/device-plugin.config chooses one, and "
	 "--config is not read",
	 "dir"},
	{"default-config", 0, "NAME", "DEFAULT_CONFIG", NULL, "of --config-dir, for a node without the label", NULL},
	{"node-label", 0, "KEY", "NODE_LABEL", SELECTION_LABEL, "of --config-dir: the node's label that chooses", NULL},
	{"fallback-strategies", 0, "LIST", "FALLBACK_STRATEGIES", SELECTION_FALLBACKS,
	 "without label and default, the first that applies: named (the config \"default\"), single (the only one "
	 "there is), empty (none: every GPU is published whole)",
	 "named single empty"},
	{"trust-config", 0, "[BOOL]", "GPUSHARE_TRUST_CONFIG", NULL,
	 "the config may name files and programs of the node, as this command line does; without the option, one may "
	 "not in a pod or with --config-dir, since who can edit a ConfigMap need not be root on nodes, and a plain "
	 "file may",
	 "true false"},
	{"kubelet-dir", 0, "DIR", NULL, NODE_DEFAULT_KUBELET_DIR,
	 "the kubelet's --root-dir: below it, in pod-resources, the kubelet tells which pod holds what", "dir"},
	{"device-plugin-dir", 0, "DIR", "GPUSHARE_DEVICE_PLUGIN_DIR", NODE_DEFAULT_PLUGIN_DIR,
	 "where device plugins and the kubelet meet; the kubelet's --root-dir does not move it", "dir"},
	{"kubelet-socket", 0, "PATH", NULL, NULL,
	 "the kubelet's socket, if not kubelet.sock in that place; empty: serve, but do not register (environment: "
	 "KUBELET_SOCKET)",
	 "file"},
	{"pod-resources-socket", 0, "PATH", "GPUSHARE_POD_RESOURCES_SOCKET", NULL,
	 "where the kubelet tells which pod holds what, if not pod-resources/kubelet.sock below --kubelet-dir; empty: "
	 "do not ask",
	 "file"},
	{"state-dir", 0, "DIR", "GPUSHARE_STATE_DIR", NODE_DEFAULT_STATE_DIR, "what is kept from run to run", "dir"},
	{"socket", 0, "PATH", "GPUSHARE_SOCKET", NODE_DEFAULT_SOCKET, "where gpushare status asks", "file"},
	{"cdi-dir", 0, "DIR", "GPUSHARE_CDI_DIR", NODE_DEFAULT_CDI_DIR,
	 "where CDI specs are written, if deviceListStrategy asks for CDI", "dir"},
	{"cdi-disable-hooks", 0, "LIST", "CDI_DISABLE_HOOKS", NULL,
	 "hooks that CDI specs leave out: create-symlinks, update-ldcache, and others of NVIDIA's; or all",
	 "create-symlinks enable-cuda-compat update-ldcache disable-device-node-modification "
	 "update-application-profile all"},
	{"mig-config", 0, "FILE", "MIG_CONFIG_FILE", NULL,
	 "mig-parted's configurations, of which the node's label nvidia.com/mig.config chooses; those that the "
	 "hardware gives (all-balanced, all-1g.10gb) are there in any case",
	 "file"},
	{"host-cgroups", 0, "DIR", "GPUSHARE_HOST_CGROUPS", NULL,
	 "in a container: where the node's cgroups are mounted, so that MPS control daemons outlive it", "dir"},
	{"metrics-address", 0, "HOST:PORT", "GPUSHARE_METRICS_ADDRESS", NULL,
	 "serve /metrics (for Prometheus), /healthz and /readyz there by HTTP, to whoever can reach it; :9400 is every "
	 "address of the machine, and without the option nothing is served",
	 NULL},
	{"pci-devices", 0, "DIR", "GPUSHARE_PCI_DEVICES", NODE_DEFAULT_PCI_DIR,
	 "where the machine's PCI devices are listed: where none is a GPU of NVIDIA's, no driver is missed", "dir"},
	{"take-over", 0, "BOOL", "GPUSHARE_TAKE_OVER", "false",
	 "true: where a daemon runs that was started so, too, take over from it with no gap, instead of giving up",
	 "true false"},
	{"device-plugin", 0, "BOOL", "GPUSHARE_DEVICE_PLUGIN", "true",
	 "false: give no GPU to pods; the node is labelled all the same", "true false"},
	{"labels", 0, "BOOL", "GPUSHARE_LABELS", "true", "false: set no labels of GPUs on the node", "true false"},
	{"mig-manager", 0, "BOOL", "GPUSHARE_MIG_MANAGER", "true",
	 "false: do not follow the node's label nvidia.com/mig.config", "true false"},
	{"log-level", 0, "LEVEL", "GPUSHARE_LOG_LEVEL", "info", "debug, info, warning or error",
	 "debug info warning error"},
	{"log-format", 0, "FORMAT", "GPUSHARE_LOG_FORMAT", "text", "text or json", "text json"},
	{"uninstall", 0, NULL, NULL, NULL,
	 "run no daemon, but leave the node as it was before one ran: no MPS, CDI specs, sockets, labels, state", NULL},
	{"daemonset", 0, "NAMESPACE/NAME", "GPUSHARE_DAEMONSET", NULL,
	 "that this daemon's pod belongs to; stopped because that is deleted, it uninstalls itself from the node",
	 NULL},
	{"delete-daemonset", 0, "NAMESPACE/NAME", NULL, NULL,
	 "run no daemon, but delete that DaemonSet and wait until its nodes are clean", NULL},
	{"mig-strategy", 0, "STRATEGY", NULL, NULL, "as flags.migStrategy (environment: MIG_STRATEGY)",
	 "none single mixed"},
	{"fail-on-init-error", 0, "[BOOL]", NULL, NULL, "as flags.failOnInitError (environment: FAIL_ON_INIT_ERROR)",
	 "true false"},
	{"driver-root", 0, "DIR", NULL, NULL, "as flags.nvidiaDriverRoot (environment: NVIDIA_DRIVER_ROOT)", "dir"},
	{"nvidia-driver-root", 0, "DIR", NULL, NULL, "the same as --driver-root", "dir"},
	{"dev-root", 0, "DIR", NULL, NULL, "as flags.nvidiaDevRoot (environment: NVIDIA_DEV_ROOT)", "dir"},
	{"nvidia-dev-root", 0, "DIR", NULL, NULL, "the same as --dev-root", "dir"},
	{"pass-device-specs", 0, "[BOOL]", NULL, NULL,
	 "as flags.plugin.passDeviceSpecs (environment: PASS_DEVICE_SPECS)", "true false"},
	{"device-list-strategy", 0, "LIST", NULL, NULL,
	 "as flags.plugin.deviceListStrategy, with commas (environment: DEVICE_LIST_STRATEGY)",
	 "envvar volume-mounts cdi-annotations cdi-cri"},
	{"device-id-strategy", 0, "STRATEGY", NULL, NULL,
	 "as flags.plugin.deviceIDStrategy (environment: DEVICE_ID_STRATEGY)", "uuid index"},
	{"gdrcopy-enabled", 0, "[BOOL]", NULL, NULL, "as flags.gdrcopyEnabled (environment: GDRCOPY_ENABLED)",
	 "true false"},
	{"gds-enabled", 0, "[BOOL]", NULL, NULL, "as flags.gdsEnabled (environment: GDS_ENABLED)", "true false"},
	{"mofed-enabled", 0, "[BOOL]", NULL, NULL, "as flags.mofedEnabled (environment: MOFED_ENABLED)", "true false"},
	{"cdi-annotation-prefix", 0, "PREFIX", NULL, NULL,
	 "as flags.plugin.cdiAnnotationPrefix (environment: CDI_ANNOTATION_PREFIX)", NULL},
	{"nvidia-cdi-hook-path", 0, "PATH", NULL, NULL,
	 "as flags.plugin.nvidiaCTKPath (environment: NVIDIA_CDI_HOOK_PATH)", "file"},
	{"nvidia-ctk-path", 0, "PATH", NULL, NULL, "the same as --nvidia-cdi-hook-path", "file"},
	{"driver-root-ctr-path", 0, "DIR", NULL, NULL,
	 "as flags.plugin.containerDriverRoot (environment: DRIVER_ROOT_CTR_PATH)", "dir"},
	{"container-driver-root", 0, "DIR", NULL, NULL, "the same as --driver-root-ctr-path", "dir"},
	{"mps-root", 0, "DIR", NULL, NULL, "as flags.mpsRoot (environment: MPS_ROOT)", "dir"},
	{"shared-devices-allocation-policy", 0, "POLICY", NULL, NULL,
	 "as flags.plugin.sharedDevicesAllocationPolicy (environment: SHARED_DEVICES_ALLOCATION_POLICY)",
	 "distributed packed spread aligned"},
	{"device-discovery-strategy", 0, "STRATEGY", NULL, NULL,
	 "as flags.deviceDiscoveryStrategy (environment: DEVICE_DISCOVERY_STRATEGY)", "auto nvml"},
	{"imex-channel-ids", 0, "LIST", NULL, NULL, "as imex.channelIDs (environment: IMEX_CHANNEL_IDS)", NULL},
	{"imex-required", 0, "[BOOL]", NULL, NULL, "as imex.required (environment: IMEX_REQUIRED)", "true false"},
	{"kubernetes-api", 0, "[BOOL]", NULL, NULL, "as kubernetes.api (environment: GPUSHARE_KUBERNETES_API)",
	 "true false"},
	{"node-name", 0, "NAME", NULL, NULL, "as kubernetes.nodeName (environment: NODE_NAME)", NULL},
	{"service-account-dir", 0, "DIR", NULL, NULL,
	 "as kubernetes.serviceAccountDir (environment: GPUSHARE_SERVICE_ACCOUNT_DIR)", "dir"},
	{"oneshot", 0, "[BOOL]", NULL, NULL, "as flags.gfd.oneshot (environment: GFD_ONESHOT)", "true false"},
	{"no-timestamp", 0, "[BOOL]", NULL, NULL, "as flags.gfd.noTimestamp (environment: GFD_NO_TIMESTAMP)",
	 "true false"},
	{"sleep-interval", 0, "DURATION", NULL, NULL, "as flags.gfd.sleepInterval (environment: GFD_SLEEP_INTERVAL)",
	 NULL},
	{"output-file", 'o', "FILE", NULL, NULL, "as flags.gfd.outputFile (environment: GFD_OUTPUT_FILE)", "file"},
	{"machine-type-file", 0, "FILE", NULL, NULL,
	 "as flags.gfd.machineTypeFile (environment: GFD_MACHINE_TYPE_FILE)", "file"},
	{"use-node-feature-api", 0, "[BOOL]", NULL, NULL,
	 "as flags.useNodeFeatureAPI (environment: USE_NODE_FEATURE_API)", "true false"},
	{NULL},
};

static int configure_log(const struct gs_arguments *arguments)
{
	const char *level_name = gs_option_value(arguments, "log-level");
	const char *format = gs_option_value(arguments, "log-format");
	enum gs_log_level level;
	if (!gs_log_level_by_name(level_name, &level)) {
		fprintf(stderr, "gpushare node: unknown log level \"%s\"; use debug, info, warning or error\n",
			level_name);
		return -1;
	}
	if (strcmp(format, "text") != 0 && strcmp(format, "json") != 0) {
		fprintf(stderr, "gpushare node: unknown log format \"%s\"; use text or json\n", format);
		return -1;
	}
	gs_log_configure(level, strcmp(format, "json") == 0);
	return 0;
}

/* --trust-config; -1 after saying that it is neither true nor false. */
static int read_trust(const struct gs_arguments *arguments, bool fallback, bool *trusted)
{
	const char *value = gs_option_value(arguments, "trust-config");
	*trusted = value ? strcmp(value, "true") == 0 || !*value : fallback;
	if (!value || *trusted || strcmp(value, "false") == 0)
		return 0;
	fprintf(stderr, "gpushare node: --trust-config is \"%s\"; write true or false\n", value);
	return -1;
}

/* The switches of parts of the daemon. */
static int read_switch(const struct gs_arguments *arguments, const char *name, bool *on)
{
	const char *value = gs_option_value(arguments, name);
	*on = strcmp(value, "true") == 0;
	if (*on || strcmp(value, "false") == 0)
		return 0;
	fprintf(stderr, "gpushare node: --%s is \"%s\"; use true or false\n", name, value);
	return -1;
}

/* `words` are the arguments as they were given. NODE_HANGS as node_run has it. */
static int run_or_uninstall(const struct node_options *node, const struct gs_arguments *arguments, char *const *words,
			    struct gs_error *err)
{
	const char *deleted = gs_option_value(arguments, "delete-daemonset");
	const char *daemon_set = gs_option_value(arguments, "daemonset");
	if (gs_option_value(arguments, "uninstall"))
		return node_uninstall(node, err);
	if (deleted)
		return node_delete_daemon_set(node, deleted, DELETE_SECONDS, err);
	int result = node_run(node, err);
	if (result == NODE_PAUSED) {
		node_release_driver(node);
		node_execute_again(err->text);
		return -1;
	}
	if (result < 0 || result == NODE_TAKEN_OVER || !daemon_set || !node_daemon_set_is_going(node, daemon_set))
		return result;
	gs_log(GS_LOG_INFO, "uninstalling, since the DaemonSet is deleted", GS_STR("daemonset", daemon_set));
	if (result != NODE_HANGS)
		return node_uninstall(node, err);
	if (node_uninstall_apart(words, err) < 0)
		gs_log(GS_LOG_ERROR, "the node is not clean", GS_STR("error", err->text));
	return NODE_HANGS;
}

static int run(const struct gs_arguments *arguments)
{
	if (arguments->operand_count > 0) {
		fprintf(stderr, "gpushare node: takes no argument \"%s\"; see gpushare node --help\n",
			arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	if (configure_log(arguments) < 0)
		return GS_EXIT_USAGE;
	gs_nvidia_settings_say(arguments);

	const char *config_dir = gs_option_value(arguments, "config-dir");
	bool has_config_dir = config_dir && *config_dir, trust_config;
	if (read_trust(arguments, !has_config_dir && !getenv("KUBERNETES_SERVICE_HOST"), &trust_config) < 0)
		return GS_EXIT_USAGE;

	struct gs_config_override overrides[GS_ARRAY_LENGTH(options)];
	size_t override_count = 0;
	size_t first = 0;
	while (strcmp(options[first].name, FIRST_SETTING) != 0)
		first++;
	for (size_t i = first; options[i].name; i++)
		if (arguments->values[i])
			overrides[override_count++] =
				(struct gs_config_override){.name = options[i].name, .value = arguments->values[i]};

	const char *plugin_dir = gs_option_value(arguments, "device-plugin-dir");
	GS_AUTO_FREE char *default_socket = gs_printf("%s/kubelet.sock", plugin_dir);
	GS_AUTO_FREE char *default_pods =
		gs_printf("%s/pod-resources/kubelet.sock", gs_option_value(arguments, "kubelet-dir"));
	const char *pods = gs_option_value(arguments, "pod-resources-socket");
	/* An empty KUBELET_SOCKET has a meaning, so the environment is asked here and not by the table. */
	const char *kubelet_socket = gs_option_value(arguments, "kubelet-socket");
	if (!kubelet_socket)
		kubelet_socket = getenv("KUBELET_SOCKET");
	GS_AUTO_FREE char *paused = node_pause_reason();
	struct node_options node = {
		.config_path = gs_option_value(arguments, "config"),
		.config_dir = has_config_dir ? config_dir : NULL,
		.trust_config = trust_config,
		.default_config = gs_option_value(arguments, "default-config"),
		.config_label_key = gs_option_value(arguments, "node-label"),
		.cdi_disable_hooks = gs_option_value(arguments, "cdi-disable-hooks"),
		.fallback_strategies = gs_option_value(arguments, "fallback-strategies"),
		.plugin_dir = plugin_dir,
		.kubelet_socket = kubelet_socket ? kubelet_socket : default_socket,
		.pod_resources_socket = pods ? pods : default_pods,
		.state_dir = gs_option_value(arguments, "state-dir"),
		.socket_path = gs_option_value(arguments, "socket"),
		.cdi_dir = gs_option_value(arguments, "cdi-dir"),
		.host_cgroups = gs_option_value(arguments, "host-cgroups"),
		.pci_dir = gs_option_value(arguments, "pci-devices"),
		.metrics_address = gs_option_value(arguments, "metrics-address"),
		.mig_config_path = gs_option_value(arguments, "mig-config"),
		.disable_healthchecks = getenv("DP_DISABLE_HEALTHCHECKS"),
		.enable_healthchecks = getenv("DP_ENABLE_HEALTHCHECKS"),
		.paused = paused,
		.overrides = overrides,
		.override_count = override_count,
	};
	if (read_switch(arguments, "device-plugin", &node.device_plugin) < 0 ||
	    read_switch(arguments, "labels", &node.labels) < 0 ||
	    read_switch(arguments, "mig-manager", &node.mig_manager) < 0 ||
	    read_switch(arguments, "take-over", &node.take_over) < 0)
		return GS_EXIT_USAGE;
	struct gs_error err;
	int result = run_or_uninstall(&node, arguments, arguments->words, &err);
	if (result == NODE_HANGS || result == NODE_TAKEN_OVER)
		_exit(GS_EXIT_OK);
	if (result == 0)
		return GS_EXIT_OK;
	fprintf(stderr, "gpushare node: %s\n", err.text);
	return GS_EXIT_FAILURE;
}

const struct gs_command gs_command_node = {
	.name = "node",
	.synopsis = "",
	.summary = "run the node daemon: share this machine's GPUs",
	.description =
		"Finds the GPUs, makes the shares that the config asks for, and serves each resource to the kubelet as "
		"a device plugin "
		"(v1beta1). It needs no restart when GPUs come or go, fall sick or recover, when the kubelet restarts, "
		"or when the config "
		"file is edited; a config that is not valid is reported and the last good one stays in force. SIGHUP "
		"reads the config and looks at the GPUs again. SIGTERM stops it; workloads go on.\n\n"
		"Without a driver it waits for one. One daemon runs per state directory and device plugin "
		"directory; with --take-over, the next one takes its place.\n\n"
		"For each setting the command line wins over the environment, that over the file, and that over the "
		"default. The variables "
		"are those of NVIDIA's device plugin; one that is set but empty counts as set. DP_DISABLE_HEALTHCHECKS "
		"and DP_ENABLE_HEALTHCHECKS choose which XIDs make a GPU unhealthy (all, xids, or numbers with commas; "
		"enable wins).\n\n"
		"The option --uninstall is refused while a daemon runs. The chart's daemons uninstall themselves when "
		"their DaemonSet is deleted; upgrades and restarts leave everything in place.\n\n"
		"Time-slicing isolates neither memory nor faults: any of the workloads that share a GPU can use all "
		"its memory, and one that crashes the GPU crashes it for all.",
	.examples = "gpushare node --config config.yaml  # on a Kubernetes node, as root\n"
		    "gpushare sim 8xA100-80GB -- gpushare node --kubelet-socket= --state-dir /tmp/s --socket "
		    "/tmp/s/sock --kubelet-dir /tmp/s/k --device-plugin-dir /tmp/s/k/device-plugins  # "
		    "without a GPU or a cluster",
	.options = options,
	.aliases = gs_nvidia_settings,
	.run = run,
};
