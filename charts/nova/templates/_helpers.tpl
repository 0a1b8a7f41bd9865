{{- define "nova.operator" -}}
{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Name of the webhooks' Service, Secret and configurations. */ -}}
{{- define "nova.webhooks" -}}
{{ printf "%s-webhooks" (include "nova.operator" . | trunc 54 | trimSuffix "-") }}
{{- end }}

{{- /* cert-manager writes caBundle where it finds this; elsewhere the operator does. */ -}}
{{- define "nova.webhooks.injectCa" -}}
{{- if .Values.webhooks.certManager.enabled -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "nova.webhooks" . }}
{{- end -}}
{{- end }}

{{- define "nova.selector" -}}
app.kubernetes.io/name: nova
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "nova.labels" -}}
{{ include "nova.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* An image reference: call with a dict of image and chart. */ -}}
{{- define "nova.image" -}}
{{ .image.repository }}:{{ .image.tag | default .chart.AppVersion }}
{{- end }}

{{- /* What the operator may do in a namespace it serves; operator/nova_operator/main.py says why. */ -}}
{{- define "nova.rules" -}}
{{- /* patch is for the finalizer of services that adopt a Deployment; no other field of theirs is written. */}}
- apiGroups: [nova.dev]
  resources: [novaservices]
  verbs: [get, list, watch, patch]
- apiGroups: [nova.dev]
  resources: [novaservices/status]
  verbs: [patch]
- apiGroups: [nova.dev]
  resources: [novaservices/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
{{- /* Where these are installed; elsewhere the rules mean nothing. */}}
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
{{- /* The key that session cookies are signed with. It is created and never read: who may read one Secret by a role may
       read all of the namespace. It goes with its NovaService. */}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
{{- /* Only for pods that came without the sidecar, and where their NovaService asks for it (nova.dev/repair). */}}
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "nova.subject" -}}
- kind: ServiceAccount
  name: {{ include "nova.operator" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* A resource list as the operator's command line takes it: cpu=50m,memory=64Mi */ -}}
{{- define "nova.requests" -}}
{{- $parts := list }}
{{- range $name, $quantity := . }}{{ $parts = append $parts (printf "%s=%v" $name $quantity) }}{{ end }}
{{- join "," $parts }}
{{- end }}
