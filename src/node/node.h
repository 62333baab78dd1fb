/* The node daemon: one process, one event loop, wiring only. */
#ifndef GPUSHARE_NODE_NODE_H
#define GPUSHARE_NODE_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "client/methods.h"

#define NODE_DEFAULT_KUBELET_DIR "/var/lib/kubelet"
/* The kubelet has it as a constant, and its --root-dir does not move it: DevicePluginPath of its device plugin API. */
#define NODE_DEFAULT_PLUGIN_DIR "/var/lib/kubelet/device-plugins"
#define NODE_DEFAULT_CDI_DIR    "/var/run/cdi"

struct gs_config_override; /* core/config_parse.h */

struct node_options {
	const char *config_path;      /* NULL: defaults, environment and flags alone */
	const char *config_dir;       /* a directory of configurations, of which the node's label chooses; NULL: none */
	bool trust_config;            /* the configuration may name files and programs of the node */
	const char *default_config;   /* of that directory, when there is no label; NULL: none */
	const char *config_label_key; /* the label that chooses from config_dir */
	const char *cdi_disable_hooks;    /* enum gs_hook by name, with commas, or "all"; NULL: none */
	const char *fallback_strategies;  /* node/selection.h */
	const char *plugin_dir;           /* where the kubelet looks for device plugins */
	const char *kubelet_socket;       /* "": never register */
	const char *pod_resources_socket; /* where the kubelet tells which pod holds what; "": never ask */
	const char *state_dir;
	const char *socket_path;
	const char *cdi_dir;
	const char *host_cgroups;    /* NULL: not in a container */
	const char *metrics_address; /* "[HOST]:PORT" to serve metrics at by HTTP; NULL or "": nowhere */
	const char *pci_dir;         /* node/hardware.h */
	const char *mig_config_path; /* mig-parted's file, for the label nvidia.com/mig.config; NULL: none */
	const char *disable_healthchecks, *enable_healthchecks; /* DP_*_HEALTHCHECKS; NULL: unset */
	const char *paused; /* why NVML is not to be opened, see node/pause.h; NULL: it is */
	bool take_over;     /* from another daemon that has the directories, instead of giving up */
	bool device_plugin; /* else no share is allocated, and labels are set */
	bool labels, mig_manager;
	const struct gs_config_override *overrides; /* NVIDIA's flags given on the command line */
	size_t override_count;
};

/* Runs until SIGTERM, SIGINT or SIGQUIT: 0. -1 when it could not start, with the reason. Logs as it goes. NODE_HANGS when
 * it stopped but a thread is left that NVML does not return to: the process must end by _exit, for exit would wait for
 * it, and must not call NVML. NODE_TAKEN_OVER when another daemon has the node: the process must end by _exit and touch
 * nothing of it. NODE_PAUSED when the driver is to be left alone, for the reason in `err`: node_release_driver, then
 * node_execute_again (node/pause.h). */
enum { NODE_HANGS = 1, NODE_TAKEN_OVER = 2, NODE_PAUSED = 3 };
int node_run(const struct node_options *options, struct gs_error *err);

#endif
