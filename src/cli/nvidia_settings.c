#include "cli/nvidia_settings.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"

#define SIGNALS    "no process is signalled: a configuration that changes is read at once"
#define KUBERNETES "the API server is asked as the pod's service account"
#define PAUSES     "nothing is stopped while MIG changes: what is in the way is waited for, by name"
#define OWN_STATE  "the state directory holds what has to outlive a restart"

const struct gs_alias gs_nvidia_settings[] = {
	/* the device plugin, GPU Feature Discovery, mps-control-daemon */
	{"config-file", "GFD_CONFIG_FILE", .option = "config"},
	{"cdi-feature-flags", "CDI_FEATURE_FLAGS", .why = "the CDI specs are gpushare's own"},
	{"output", NULL, .option = "output-file"},
	{"kubeconfig", "KUBECONFIG", .why = KUBERNETES},
	{"kube-api-qps", "KUBE_API_QPS", .why = "there is one request for each real change"},
	{"kube-api-burst", "KUBE_API_BURST", .why = "there is one request for each real change"},
	{"namespace", NULL, .sets = "NAMESPACE"},
	{"pod-name", "POD_NAME", .why = "the NodeFeature object belongs to no pod"},

	/* config-manager */
	{"config-file-srcdir", NULL, .option = "config-dir"},
	{"config-file-dst", "CONFIG_FILE_DST", .why = "configurations are read where they are"},
	{"send-signal", "SEND_SIGNAL", .is_bool = true, .why = SIGNALS},
	{"signal", "SIGNAL", .why = SIGNALS},
	{"process-to-signal", "PROCESS_TO_SIGNAL", .why = SIGNALS},
	{NULL, "ONESHOT", .why = "configurations are followed; for labels there is GFD_ONESHOT"},

	/* mig-manager */
	{"reconfigure-script", "RECONFIGURE_SCRIPT", .why = "layouts are changed through NVML, by no script"},
	{"host-root-mount", "HOST_ROOT_MOUNT", .why = "nothing of the host is run"},
	{"host-nvidia-dir", "HOST_NVIDIA_DIR", .why = OWN_STATE},
	{"host-mig-manager-state-file", "HOST_MIG_MANAGER_STATE_FILE", .why = OWN_STATE},
	{"host-kubelet-systemd-service", "HOST_KUBELET_SYSTEMD_SERVICE", .why = PAUSES},
	{"gpu-clients-file", "GPU_CLIENTS_FILE", .why = PAUSES},
	{"with-reboot", "WITH_REBOOT", .is_bool = true,
	 .why = "a node is never rebooted: a GPU that needs a reset is named"},
	{"with-shutdown-host-gpu-clients", "WITH_SHUTDOWN_HOST_GPU_CLIENTS", .is_bool = true, .why = PAUSES},
	{"default-gpu-clients-namespace", "DEFAULT_GPU_CLIENTS_NAMESPACE", .why = PAUSES},
	{"cdi-enabled", "CDI_ENABLED", .is_bool = true, .why = "deviceListStrategy says whether CDI specs are written"},
	{"dev-root-ctr-path", "DEV_ROOT_CTR_PATH", .why = "no device nodes are made"},
	{NULL},
};

void gs_nvidia_settings_say(const struct gs_arguments *arguments)
{
	for (int i = 0; i < arguments->ignored_count; i++) {
		GS_AUTO_FREE char *flag = gs_printf("--%s", arguments->ignored[i]->name);
		gs_log(GS_LOG_INFO, "a flag of NVIDIA's is accepted and has no meaning here", GS_STR("flag", flag),
		       GS_STR("why", arguments->ignored[i]->why));
	}
	for (const struct gs_alias *alias = gs_nvidia_settings; alias->name || alias->env; alias++)
		if (alias->why && alias->env && getenv(alias->env))
			gs_log(GS_LOG_INFO, "a variable of NVIDIA's is accepted and has no meaning here",
			       GS_STR("variable", alias->env), GS_STR("why", alias->why));
}
