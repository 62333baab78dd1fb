{{/* The daemon's settings, as a list of YAML. */}}
{{- define "gpushare.settings" -}}
{{- $config := include "gpushare.configName" . -}}
{{- $root := include "gpushare.driverRoot" . -}}
{{- $mps := include "gpushare.mpsRoot" . -}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: GPUSHARE_KUBERNETES_API, value: {{ .Values.kubernetes.api | quote }}}
{{- if and .Values.kubernetes.api .Values.cleanup.enabled }}
# Stopped because this is deleted, the daemon leaves the node clean.
- {name: GPUSHARE_DAEMONSET, value: {{ printf "%s/%s" .Release.Namespace (include "gpushare.fullname" .) | quote }}}
{{- end }}
# An upgrade's next daemon takes over from the one before.
- {name: GPUSHARE_TAKE_OVER, value: "true"}
- {name: NVIDIA_DRIVER_ROOT, value: {{ $root | quote }}}
- {name: DRIVER_ROOT_CTR_PATH, value: {{ .Values.simulatedNode.enabled | ternary $root "/driver-root" }}}
{{- if .Values.nvidiaDevRoot }}
- {name: NVIDIA_DEV_ROOT, value: {{ .Values.nvidiaDevRoot | quote }}}
{{- else if not .Values.simulatedNode.enabled }}
- {name: NVIDIA_DEV_ROOT, value: /}
{{- end }}
{{- if .Values.simulatedNode.enabled }}
- {name: GPUSHARE_SIM, value: {{ printf "%s/node" .Values.simulatedNode.dir | quote }}}
{{- end }}
{{- if .Values.runtimeClassName }}
- {name: NVIDIA_VISIBLE_DEVICES, value: all}
- {name: NVIDIA_DRIVER_CAPABILITIES, value: "utility,compute"}
- {name: NVIDIA_MIG_CONFIG_DEVICES, value: all}
- {name: NVIDIA_MIG_MONITOR_DEVICES, value: all}
{{- end }}
{{- if $config }}
- {name: CONFIG_FILE_SRCDIR, value: /etc/gpushare/config}
{{- with include "gpushare.either" (list "config.default" .Values.config.default "devicePlugin.config.default" .Values.devicePlugin.config.default) }}
- {name: DEFAULT_CONFIG, value: {{ . | quote }}}
{{- end }}
- {name: FALLBACK_STRATEGIES, value: {{ include "gpushare.fallbacks" . | quote }}}
{{- end }}
{{- if include "gpushare.migConfigName" . }}
- {name: MIG_CONFIG_FILE, value: /etc/gpushare/mig/config.yaml}
{{- end }}
{{- with include "gpushare.migStrategy" . }}
- {name: MIG_STRATEGY, value: {{ . | quote }}}
{{- end }}
{{- if .Values.nodeFeatureDiscovery.api }}
- {name: USE_NODE_FEATURE_API, value: "true"}
{{- end }}
{{- with $mps }}
- {name: MPS_ROOT, value: {{ . | quote }}}
{{- end }}
{{- if and $mps .Values.mps.keepClients }}
# MPS control daemons are moved out of this pod's cgroup, so that an upgrade ends none of their clients.
- {name: GPUSHARE_HOST_CGROUPS, value: /host/sys/fs/cgroup}
{{- end }}
{{- with include "gpushare.deviceListStrategy" . }}
- {name: DEVICE_LIST_STRATEGY, value: {{ . | quote }}}
{{- end }}
{{- with .Values.deviceIDStrategy }}
- {name: DEVICE_ID_STRATEGY, value: {{ . | quote }}}
{{- end }}
{{- if .Values.compatWithCPUManager }}
- {name: PASS_DEVICE_SPECS, value: "true"}
{{- end }}
{{- range $name, $value := dict "FAIL_ON_INIT_ERROR" .Values.failOnInitError "GDRCOPY_ENABLED" .Values.gdrcopyEnabled "GDS_ENABLED" .Values.gdsEnabled "MOFED_ENABLED" .Values.mofedEnabled "GFD_NO_TIMESTAMP" .Values.gfd.noTimestamp }}
{{- if kindIs "bool" $value }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- with .Values.deviceDiscoveryStrategy }}
- {name: DEVICE_DISCOVERY_STRATEGY, value: {{ . | quote }}}
{{- end }}
{{- with .Values.cdi.nvidiaHookPath }}
- {name: NVIDIA_CDI_HOOK_PATH, value: {{ . | quote }}}
{{- end }}
{{- with .Values.gfd.sleepInterval }}
- {name: GFD_SLEEP_INTERVAL, value: {{ . | quote }}}
{{- end }}
{{- /* What the operator's switches turn off. */}}
{{- range $name, $value := dict "GPUSHARE_DEVICE_PLUGIN" .Values.devicePlugin.enabled "GPUSHARE_LABELS" .Values.gfd.enabled "GPUSHARE_MIG_MANAGER" .Values.migManager.enabled }}
{{- if not $value }}
- {name: {{ $name }}, value: "false"}
{{- end }}
{{- end }}
{{- if .Values.metrics.enabled }}
- {name: GPUSHARE_METRICS_ADDRESS, value: ":{{ .Values.metrics.port }}"}
{{- end }}
{{- end -}}

{{/* The same with what the user adds, who wins: a name that stands twice is refused by the API server. */}}
{{- define "gpushare.environment" -}}
{{- $names := list -}}{{- $kept := list -}}
{{- $all := concat (include "gpushare.settings" . | fromYamlArray) (.Values.devicePlugin.env | default list) (.Values.env | default list) -}}
{{- range $entry := reverse $all -}}
{{- if not (has $entry.name $names) -}}
{{- $names = append $names $entry.name -}}{{- $kept = prepend $kept $entry -}}
{{- end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}
