{{/* What is not taken of NVIDIA's charts, and why: a key, or a key of a section of which the rest is taken. */}}
{{- define "gpushare.why" -}}
allowDefaultNamespace: any namespace does
ccManager: there is no confidential computing mode
cdi.featureFlags: CDI specs are written by gpushare, without flags
cdi.nriPluginEnabled: CDI needs no plugin of the container runtime
cdi: deviceListStrategy says whether CDI is used
clusterPolicy: there is no operator, and no object of its own
componentSelectorLabels: set nameOverride instead
daemonsets: set the values of that name at the top level instead
dcgm: there is no DCGM in this daemon
dcgmExporter: no metrics of GPUs and processes in this version, only of shares (see metrics); an exporter of NVIDIA's can run beside it
devicePlugin.image: the image is gpushare's own, see image.repository
devicePlugin.imagePullPolicy: see image.pullPolicy
devicePlugin.imagePullSecrets: see imagePullSecrets
devicePlugin.repository: the image is gpushare's own, see image.repository
devicePlugin.version: the image is gpushare's own, see image.tag
devicePlugin: the daemon's own settings are at the top level
draDriver: there is no dynamic resource allocation in this version
driver: no driver is installed; it must be on the node, from its packages or from the operator's driver container (nvidiaDriverRoot, or hostPaths.driverInstallDir)
extraObjects: objects of yours are not installed; apply them yourself
gds: set gdsEnabled instead
gdrcopy: set gdrcopyEnabled instead
gfd: node labels come from the one daemon; of gfd only enabled, noTimestamp and sleepInterval are used
gpuCluster: there is no dynamic resource allocation in this version
hostPaths.rootFS: nothing on the node is entered by chroot
hostPaths: only driverInstallDir and kubeletRootDir are used
imex: set it in the configuration file
kataManager: there are no sandbox workloads
kataSandboxDevicePlugin: there are no sandbox workloads
legacyDaemonsetAPI: only apps/v1 is used
mig: only the strategy is used
migManager.config.default: a node without the label nvidia.com/mig.config keeps its layout
migManager.gpuClientsConfig: no service of the node is stopped for a change of the layout
migManager: the daemon follows the label nvidia.com/mig.config itself
mps.enableHostNetwork: the daemon runs MPS itself
mps.enableHostPID: the daemon runs MPS itself, and its pod has the node's process ids in any case
mps: the daemon runs MPS itself
namespace: everything goes to the release's namespace
namespaceOverride: everything goes to the release's namespace
nfd: node feature discovery is not needed, and not installed
node-feature-discovery: node feature discovery is not needed, and not installed
nodeStatusExporter: see gpushare status
noTimestamp: set gfd.noTimestamp instead
nvidiaDriver: the driver must be on the node
operator: there is no operator
platform: every platform is treated alike; docs/distributions.md says what to set for OpenShift
psa: label the namespace yourself
psp: pod security policies are gone from Kubernetes
replicaCount: a DaemonSet has a pod for each node
sandboxDevicePlugin: there are no sandbox workloads
sandboxWorkloads: there are no sandbox workloads
selectorLabelsOverride: set nameOverride instead
sleepInterval: set gfd.sleepInterval instead
toolkit: containers get their GPU by CDI, which needs no NVIDIA runtime; one that is there does no harm
validator: nothing waits for a validator
vfioManager: there is no passthrough to virtual machines
vgpuDeviceManager: there is no vGPU management
vgpuManager: there is no vGPU management
{{- end -}}

{{/* Of these sections a part is taken: the keys that are. */}}
{{- define "gpushare.taken" -}}
cdi: [enabled, nvidiaHookPath]
daemonsets: [labels, annotations, priorityClassName, tolerations, updateStrategy, rollingUpdate]
devicePlugin: [enabled, config, env, args, resources, mps, hostNetwork, enableHostNetwork]
gfd: [enabled, noTimestamp, sleepInterval]
hostPaths: [driverInstallDir, kubeletRootDir]
mig: [strategy]
migManager: [enabled, config]
migManager.config: [name, create, data]
mps: [root, keepClients]
{{- end -}}

{{/* The values that were set and are ignored, one a line, for the notes. */}}
{{- define "gpushare.ignored" -}}
{{- $why := include "gpushare.why" . | fromYaml -}}
{{- $taken := include "gpushare.taken" . | fromYaml -}}
{{- range $key := keys $why | sortAlpha -}}
{{- if and (hasKey $.Values $key) (not (hasKey $taken $key)) }}
- {{ $key }}: {{ index $why $key }}
{{- end -}}
{{- end -}}
{{- range $section := keys $taken | sortAlpha -}}
{{- $values := $.Values -}}
{{- range splitList "." $section -}}
{{- $values = index $values . | default dict -}}
{{- end -}}
{{- range $key := keys $values | sortAlpha -}}
{{- $path := printf "%s.%s" $section $key -}}
{{- if not (has $key (index $taken $section)) }}
- {{ $path }}: {{ index $why $path | default (index $why $section) | default (index $why (splitList "." $section | first)) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
