{{/* Names, labels and the parts both programs share. */}}

{{- define "herald.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 48 | trimSuffix "-" }}
{{- end }}

{{/* At most 48 characters, so that the longest suffix still fits a label value. */}}
{{- define "herald.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "herald.selectorLabels" -}}
app.kubernetes.io/name: {{ include "herald.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "herald.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "herald.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* How speakers find each other: the selector of the speaker Pods in flag syntax. */}}
{{- define "herald.speakerSelector" -}}
app.kubernetes.io/name={{ include "herald.name" . }},app.kubernetes.io/instance={{ .Release.Name }},app.kubernetes.io/component=speaker
{{- end }}

{{- define "herald.controllerServiceAccount" -}}
{{- $sa := .Values.controller.serviceAccount }}
{{- $sa.name | default (ternary (printf "%s-controller" (include "herald.fullname" .)) "default" $sa.create) }}
{{- end }}

{{- define "herald.speakerServiceAccount" -}}
{{- $sa := .Values.speaker.serviceAccount }}
{{- $sa.name | default (ternary (printf "%s-speaker" (include "herald.fullname" .)) "default" $sa.create) }}
{{- end }}

{{- define "herald.memberlistSecret" -}}
{{- .Values.speaker.secretName | default (printf "%s-memberlist" (include "herald.fullname" .)) }}
{{- end }}

{{/* image takes a dict of image and root. */}}
{{- define "herald.image" -}}
image: {{ printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) | quote }}
{{- with .image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{/* podAnnotations takes a dict of component (values) and root. */}}
{{- define "herald.podAnnotations" -}}
{{- $all := dict }}
{{- if .root.Values.prometheus.scrapeAnnotations }}
{{- $all = dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString .root.Values.prometheus.metricsPort) }}
{{- end }}
{{- with mergeOverwrite $all (deepCopy .component.podAnnotations) }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* probes takes the values of a component. */}}
{{- define "herald.probes" -}}
{{- if .livenessProbe.enabled }}
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  {{- omit .livenessProbe "enabled" | toYaml | nindent 2 }}
{{- end }}
{{- if .readinessProbe.enabled }}
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  {{- omit .readinessProbe "enabled" | toYaml | nindent 2 }}
{{- end }}
{{- end }}
