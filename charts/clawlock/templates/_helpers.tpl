{{/* Labels of every object. */}}
{{- define "clawlock.labels" -}}
app.kubernetes.io/name: clawlock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: clawlock
{{- end }}

{{/* What selects the pods of one role: (dict "root" $ "role" "operator"). */}}
{{- define "clawlock.selector" -}}
app.kubernetes.io/name: clawlock
app.kubernetes.io/instance: {{ .root.Release.Name }}
clawlock.dev/role: {{ .role }}
{{- end }}

{{/* An image's reference: (dict "root" $ "image" .Values.images.operator). */}}
{{- define "clawlock.image" -}}
{{- $images := .root.Values.images -}}
{{- $repository := .image.repository -}}
{{- if $images.registry -}}{{- $repository = printf "%s/%s" (trimSuffix "/" $images.registry) $repository -}}{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What each pod of the release is set to, whatever its role: (dict "root" $ "role" "operator" "values" .Values.operator). */}}
{{- define "clawlock.podSpec" -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- if .root.Values.priorityClass.create }}
priorityClassName: {{ .root.Values.priorityClass.name }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "clawlock.selector" . | nindent 6 }}
{{- end }}

{{/* Security context of a container of the release: nothing that `restricted` would refuse, and a file system that nobody writes. */}}
{{- define "clawlock.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{- define "clawlock.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65514
runAsGroup: 65514
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The operator as the API server names it. */}}
{{- define "clawlock.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:clawlock-operator
{{- end }}

{{/* Selects the agents' namespaces. Those without which nothing runs are none, whatever somebody writes on them. */}}
{{- define "clawlock.agentsNamespaces" -}}
matchExpressions:
- {key: clawlock.dev/tenant, operator: Exists}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, kube-public, kube-node-lease, {{ .Release.Namespace }}]
{{- end }}

{{/* CEL: the request is the platform team's. */}}
{{- define "clawlock.isPlatform" -}}
request.userInfo.?username.orValue('') in {{ include "clawlock.celList" .Values.admission.platformUsers }} || request.userInfo.?groups.orValue([]).exists(g, g in {{ include "clawlock.celList" .Values.admission.platformGroups }})
{{- end }}

{{/* A list of strings as CEL. The schema of the values allows no quote and no backslash in them. */}}
{{- define "clawlock.celList" -}}
[{{ range $index, $text := . }}{{ if $index }}, {{ end }}'{{ $text }}'{{ end }}]
{{- end }}

{{/*
Metadata of an admission policy or of its binding: (dict "root" $ "name" "clawlock-sidecar").
They stay when the release is uninstalled: as long as a namespace has the tenant's label, what they refuse is refused.
*/}}
{{- define "clawlock.policyMetadata" -}}
name: {{ .name }}
labels: {{- include "clawlock.labels" .root | nindent 2 }}
annotations:
  helm.sh/resource-policy: keep
{{- end }}

{{/* The binding of a policy; with "parameters" it takes the operator's ConfigMap, and denies without it. */}}
{{- define "clawlock.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{- include "clawlock.policyMetadata" . | nindent 2 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
  {{- if .parameters }}
  paramRef:
    name: clawlock-admission
    namespace: {{ .root.Release.Namespace }}
    parameterNotFoundAction: Deny
  {{- end }}
{{- end }}

{{/* The file release.json; its hash in a pod's template rolls the pods when it changes. */}}
{{- define "clawlock.release" -}}
{{- $release := dict
  "namespace" .Release.Namespace
  "gatewayImage" (include "clawlock.image" (dict "root" . "image" .Values.images.gateway))
  "sidecarImage" (include "clawlock.image" (dict "root" . "image" .Values.images.sidecar))
  "imagePullPolicy" .Values.images.pullPolicy
  "imagePullSecrets" .Values.images.pullSecrets
  "gatewayResources" .Values.gateway.resources
  "sidecarResources" .Values.sidecar.resources
  "nodeSelector" .Values.gateway.nodeSelector
  "tolerations" .Values.gateway.tolerations
  "monitoring" .Values.monitoring.namespaceLabels
-}}
{{- if .Values.priorityClass.create }}{{ $_ := set $release "priorityClass" .Values.priorityClass.name }}{{ end -}}
{{ $release | toPrettyJson }}
{{- end }}

{{/* Rules by which the release's pods reach the API server, and nothing else. */}}
{{- define "clawlock.apiServerEgress" -}}
- ports:
  {{- range .Values.networkPolicies.apiServer.ports }}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
  {{- with .Values.networkPolicies.apiServer.cidrs }}
  to:
  {{- range . }}
  - ipBlock: {cidr: {{ . }}}
  {{- end }}
  {{- end }}
{{- end }}

{{/* Rules by which Prometheus reaches the metrics; none without labels of its namespaces. */}}
{{- define "clawlock.metricsIngress" -}}
{{- with .Values.monitoring.namespaceLabels -}}
- from:
  - namespaceSelector:
      matchLabels: {{- toYaml . | nindent 8 }}
  ports:
  - {protocol: TCP, port: 9090}
{{- end }}
{{- end }}

{{/* Probes of a program of the release. */}}
{{- define "clawlock.probes" -}}
startupProbe: {httpGet: {path: /healthz, port: admin}, periodSeconds: 1, failureThreshold: 60}
livenessProbe: {httpGet: {path: /healthz, port: admin}, periodSeconds: 10, failureThreshold: 3}
readinessProbe: {httpGet: {path: /readyz, port: admin}, periodSeconds: 2, failureThreshold: 2}
{{- end }}

{{/* The highest priority that agents may have: the gateways' own, so that none of them is preempted by an agent. */}}
{{- define "clawlock.highestPriority" -}}
{{ .Values.priorityClass.create | ternary .Values.priorityClass.value 1000000000 | int64 }}
{{- end }}
