{{- define "gpushare.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "gpushare.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "gpushare.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "gpushare.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gpushare.selector" -}}
app.kubernetes.io/name: {{ include "gpushare.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gpushare.labels" -}}
{{ include "gpushare.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "gpushare.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (.Chart.AppVersion | replace "+" "_") }}
{{- end -}}
{{- end -}}

{{- define "gpushare.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "gpushare.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* One setting that two charts name differently: both may be given if they agree. */}}
{{- define "gpushare.either" -}}
{{- $one := index . 1 -}}{{- $other := index . 3 -}}
{{- if and $one $other (ne (toString $one) (toString $other)) -}}
{{- fail (printf "%s is %q but %s is %q, and they mean the same: set one of them" (index . 0) (toString $one) (index . 2) (toString $other)) -}}
{{- end -}}
{{- $one | default $other -}}
{{- end -}}

{{- define "gpushare.migStrategy" -}}
{{- include "gpushare.either" (list "migStrategy" .Values.migStrategy "mig.strategy" .Values.mig.strategy) -}}
{{- end -}}

{{/* The configurations that the chart makes a ConfigMap of, as YAML; empty without any. */}}
{{- define "gpushare.configData" -}}
{{- $plugin := .Values.devicePlugin.config -}}
{{- if and .Values.config.map $plugin.data -}}
{{- fail "config.map and devicePlugin.config.data mean the same: set one of them" -}}
{{- end -}}
{{- if .Values.config.map -}}
{{- toYaml .Values.config.map -}}
{{- else if and $plugin.create $plugin.data -}}
{{- toYaml $plugin.data -}}
{{- else if $plugin.data -}}
{{- fail "devicePlugin.config.data is set, but devicePlugin.config.create is not: set it to true to have the ConfigMap made, or remove the data" -}}
{{- end -}}
{{- end -}}

{{/* The name of the ConfigMap with configurations; empty without one. */}}
{{- define "gpushare.configName" -}}
{{- $name := include "gpushare.either" (list "config.name" .Values.config.name "devicePlugin.config.name" .Values.devicePlugin.config.name) -}}
{{- if include "gpushare.configData" . -}}
{{- if and $name (not .Values.devicePlugin.config.create) -}}
{{- fail (printf "config.name (%s) is a ConfigMap of yours, config.map one that the chart would make: set one of them" $name) -}}
{{- end -}}
{{- $name | default (printf "%s-config" (include "gpushare.fullname" .)) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{/* What a node without label and default takes. The operator shares no GPU that nobody labelled; the plugin's own chart, whose
users give one configuration for all nodes, takes that. Neither leaves a node without GPUs. */}}
{{- define "gpushare.fallbacks" -}}
{{- if .Values.config.fallbackStrategies -}}
{{- join "," .Values.config.fallbackStrategies -}}
{{- else if or .Values.devicePlugin.config.name .Values.devicePlugin.config.data -}}
empty
{{- else -}}
named,single,empty
{{- end -}}
{{- end -}}

{{- define "gpushare.driverRoot" -}}
{{- if .Values.simulatedNode.enabled -}}
{{ .Values.simulatedNode.dir }}/node/root
{{- else -}}
{{ .Values.nvidiaDriverRoot | default "/" }}
{{- end -}}
{{- end -}}

{{/* Device nodes of real GPUs can be opened only by a privileged container, or where NVIDIA's runtime puts them in. */}}
{{- define "gpushare.privileged" -}}
{{- if kindIs "bool" .Values.privileged -}}
{{- if .Values.privileged }}true{{ end -}}
{{- else if not (or .Values.simulatedNode.enabled .Values.runtimeClassName) -}}
true
{{- end -}}
{{- end -}}

{{- define "gpushare.securityContext" -}}
{{- if .Values.securityContext -}}
{{- toYaml .Values.securityContext -}}
{{- else -}}
readOnlyRootFilesystem: true
runAsUser: 0
{{- if include "gpushare.privileged" . }}
privileged: true
{{- else }}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  {{- if kindIs "slice" .Values.capabilities }}
  add: {{ toJson .Values.capabilities }}
  {{- else if and .Values.simulatedNode.enabled (has (include "gpushare.migStrategy" .) (list "single" "mixed")) }}
  # The simulated driver makes an instance's device nodes in the process that asks for it.
  add: [SYS_PTRACE, SYS_ADMIN, MKNOD]
  {{- else if has (include "gpushare.migStrategy" .) (list "single" "mixed") }}
  add: [SYS_PTRACE, SYS_ADMIN]
  {{- else }}
  add: [SYS_PTRACE]
  {{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- end -}}
{{- end -}}

{{/* Values of NVIDIA's charts that mean nothing here, one a line, for the notes: those that were set. */}}
{{- define "gpushare.ignored" -}}
{{- $why := dict
  "driver" "the driver must be on the node: from its packages, or from the operator's driver container with nvidiaDriverRoot=/run/nvidia/driver"
  "toolkit" "containers get their GPU by CDI, which needs no NVIDIA runtime; one that is there does no harm"
  "operator" "there is no operator"
  "validator" "nothing waits for a validator"
  "daemonsets" "set tolerations, priorityClassName, podLabels and updateStrategy instead"
  "gfd" "node labels come from the one daemon; kubernetes.api=false turns them off"
  "dcgm" "there is no DCGM in this daemon"
  "dcgmExporter" "no metrics of GPUs and processes in this version, only of shares (see metrics); an exporter of NVIDIA's can run beside it"
  "nodeStatusExporter" "see gpushare status"
  "nfd" "node feature discovery is not needed"
  "node-feature-discovery" "node feature discovery is not needed"
  "nvidiaDriver" "the driver must be on the node"
  "vgpuManager" "there is no vGPU management"
  "vgpuDeviceManager" "there is no vGPU management"
  "vfioManager" "there is no passthrough to virtual machines"
  "sandboxWorkloads" "there are no sandbox workloads"
  "sandboxDevicePlugin" "there are no sandbox workloads"
  "kataManager" "there are no sandbox workloads"
  "kataSandboxDevicePlugin" "there are no sandbox workloads"
  "ccManager" "there is no confidential computing mode"
  "gds" "set gdsEnabled instead"
  "gdrcopy" "set gdrcopyEnabled instead"
  "platform" "every platform is treated alike"
  "psa" "label the namespace yourself"
  "psp" "pod security policies are gone from Kubernetes"
  "hostPaths" "set nvidiaDriverRoot instead"
  "gpuCluster" "there is no dynamic resource allocation in this version"
  "legacyDaemonsetAPI" "only apps/v1 is used"
  "namespaceOverride" "everything goes to the release's namespace"
  "selectorLabelsOverride" "set nameOverride instead"
  "allowDefaultNamespace" "any namespace does"
  "componentSelectorLabels" "set nameOverride instead"
  "imex" "set it in the configuration file"
-}}
{{- range $key := keys $why | sortAlpha -}}
{{- if hasKey $.Values $key }}
- {{ $key }}: {{ index $why $key }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .Values.devicePlugin -}}
{{- if ne $key "config" }}
- devicePlugin.{{ $key }}: only devicePlugin.config is used; the daemon's own settings are at the top level
{{- end -}}
{{- end -}}
{{- range $key, $value := .Values.migManager -}}
{{- if ne $key "config" }}
- migManager.{{ $key }}: the daemon follows the label nvidia.com/mig.config itself
{{- end -}}
{{- end -}}
{{- range $key, $value := .Values.migManager.config -}}
{{- if ne $key "name" }}
- migManager.config.{{ $key }}: only the name of a ConfigMap is used
{{- end -}}
{{- end -}}
{{- range $key, $value := .Values.mps -}}
{{- if not (has $key (list "root" "keepClients")) }}
- mps.{{ $key }}: the daemon runs MPS itself
{{- end -}}
{{- end -}}
{{- range $key, $value := .Values.cdi -}}
{{- if ne $key "nvidiaHookPath" }}
- cdi.{{ $key }}: deviceListStrategy says whether CDI is used
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Deletes one DaemonSet, and waits until its pods are gone. */}}
{{- define "gpushare.cleanupContainer" -}}
{{- $root := index . 0 -}}{{- $daemonSet := index . 1 -}}
- name: {{ $daemonSet }}
  image: {{ include "gpushare.image" $root }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  args: [node, --delete-daemonset={{ $root.Release.Namespace }}/{{ $daemonSet }}]
  securityContext:
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    runAsUser: 65534
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
{{- end -}}
