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

{{/* Whole values of NVIDIA's device plugin chart name its image, which is another program. */}}
{{- define "gpushare.image" -}}
{{- if regexMatch "(^|/)nvidia/|(^|/)(k8s-device-plugin|gpu-feature-discovery|gpu-operator)$" .Values.image.repository -}}
{{- fail (printf "image.repository is %q, an image of NVIDIA's, which comes along when values of its device plugin chart are used again; set image.repository (and image.tag) to gpushare's image, as --set image.repository=registry.example.com/gpushare" .Values.image.repository) -}}
{{- end -}}
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
{{- $plugin := .Values.devicePlugin.config | default dict -}}
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

{{/* With the operator's values the driver is where its driver container puts it, unless that is off. */}}
{{- define "gpushare.driverRoot" -}}
{{- $operators := ternary "" .Values.hostPaths.driverInstallDir (eq (toString (default dict .Values.driver).enabled) "false") -}}
{{- if .Values.simulatedNode.enabled -}}
{{ .Values.simulatedNode.dir }}/node/root
{{- else -}}
{{ include "gpushare.either" (list "nvidiaDriverRoot" .Values.nvidiaDriverRoot "hostPaths.driverInstallDir" $operators) | default "/" }}
{{- end -}}
{{- end -}}

{{- define "gpushare.kubeletDir" -}}
{{- include "gpushare.either" (list "kubeletDir" .Values.kubeletDir "hostPaths.kubeletRootDir" .Values.hostPaths.kubeletRootDir) | default "/var/lib/kubelet" -}}
{{- end -}}

{{/* "" or what either name says; empty: MPS is not used. */}}
{{- define "gpushare.mpsRoot" -}}
{{- .Values.devicePlugin.mps.root | default .Values.mps.root -}}
{{- end -}}

{{/* Without cdi, the operator's values mean environment variables. */}}
{{- define "gpushare.deviceListStrategy" -}}
{{- if eq (toString .Values.cdi.enabled) "false" -}}
envvar
{{- else -}}
{{- with .Values.deviceListStrategy -}}
{{- kindIs "slice" . | ternary (join "," .) . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gpushare.migConfigName" -}}
{{- $config := .Values.migManager.config -}}
{{- if $config.data -}}
{{- if not $config.create -}}
{{- fail "migManager.config.data is set, but migManager.config.create is not: set it to true to have the ConfigMap made, or remove the data" -}}
{{- end -}}
{{- if not (hasKey $config.data "config.yaml") -}}
{{- fail "migManager.config.data needs a key config.yaml with mig-parted's configurations" -}}
{{- end -}}
{{- $config.name | default (printf "%s-mig-config" (include "gpushare.fullname" .)) -}}
{{- else -}}
{{- $config.name -}}
{{- end -}}
{{- end -}}

{{/* Whether pods run on nodes at all: the operator's switches for its device plugin and its feature discovery. */}}
{{- define "gpushare.enabled" -}}
{{- if or .Values.devicePlugin.enabled .Values.gfd.enabled }}true{{ end -}}
{{- end -}}

{{/* The next daemon takes over from the one before on each node, so both run for a moment: a surge. In the node's network they would
     want the same port. Kubernetes takes either maxSurge or maxUnavailable. */}}
{{- define "gpushare.updateStrategy" -}}
{{- $rolling := .Values.updateStrategy.rollingUpdate | default dict -}}
{{- $unavailable := get $rolling "maxUnavailable" | default 0 -}}
{{- $surge := get $rolling "maxSurge" | default 1 -}}
{{- with .Values.daemonsets.rollingUpdate.maxUnavailable -}}
{{- $surge = regexMatch "^[0-9]+$" (toString .) | ternary (int .) . -}}
{{- end -}}
{{- if eq (.Values.daemonsets.updateStrategy | default .Values.updateStrategy.type | toString) "OnDelete" -}}
type: OnDelete
{{- else if include "gpushare.hostNetwork" . -}}
type: RollingUpdate
rollingUpdate: {maxUnavailable: {{ toJson $surge }}}
{{- else if has (toString $unavailable) (list "0" "0%") -}}
type: RollingUpdate
rollingUpdate: {maxSurge: {{ toJson $surge }}, maxUnavailable: 0}
{{- else -}}
type: RollingUpdate
rollingUpdate: {maxUnavailable: {{ toJson $unavailable }}}
{{- end -}}
{{- end -}}

{{- define "gpushare.hostNetwork" -}}
{{- if or .Values.devicePlugin.hostNetwork .Values.devicePlugin.enableHostNetwork }}true{{ end -}}
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

{{/* Where there is a GPU. Node Feature Discovery labels every node that it looks at, with its kernel if with nothing else: a node that
     it found no GPU on gets no pod, one that nobody looked at does. */}}
{{- define "gpushare.affinity" -}}
{{- if .Values.affinity -}}
{{- toYaml .Values.affinity -}}
{{- else if and (ne .Values.nodes "all") (not .Values.simulatedNode.enabled) -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
    - matchExpressions:
      - {key: nvidia.com/gpu.present, operator: In, values: ["true"]}
    {{- range $key := list "pci-10de.present" "pci-0300_10de.present" "pci-0302_10de.present" }}
    - matchExpressions:
      - {key: feature.node.kubernetes.io/{{ $key }}, operator: In, values: ["true"]}
    {{- end }}
    {{- if eq .Values.nodes "auto" }}
    - matchExpressions:
      - {key: feature.node.kubernetes.io/kernel-version.full, operator: DoesNotExist}
      - {key: nvidia.com/gpu.present, operator: DoesNotExist}
    {{- end }}
{{- end -}}
{{- end -}}
