{{/* Names and labels. Every name is cut to what Kubernetes takes, and stays one of a kind by a hash of the whole. */}}

{{- define "scrapesaga.chartName" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "scrapesaga.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "scrapesaga.chartName" . -}}
{{- if contains $name .Release.Name -}}{{- .Release.Name -}}{{- else -}}{{- printf "%s-%s" .Release.Name $name -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of an object: (dict "root" $ "suffix" "intake" "max" 63). An underscore of a step's name is no part of one. */}}
{{- define "scrapesaga.name" -}}
{{- $max := int (default 63 .max) -}}
{{- $full := include "scrapesaga.fullname" .root -}}
{{- if .suffix -}}{{- $full = printf "%s-%s" $full .suffix -}}{{- end -}}
{{- $plain := $full | lower | replace "_" "-" -}}
{{- if and (eq $plain $full) (le (len $full) $max) (not (hasSuffix "-" $full)) -}}
{{- $full -}}
{{- else -}}
{{- printf "%s-%s" ($plain | trunc (int (sub $max 9)) | trimSuffix "-") ($full | sha256sum | trunc 8) -}}
{{- end -}}
{{- end -}}

{{- define "scrapesaga.pipelinesName" -}}{{- include "scrapesaga.name" (dict "root" . "suffix" "pipelines") -}}{{- end -}}

{{- define "scrapesaga.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "scrapesaga.name" (dict "root" .)) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "scrapesaga.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- with default (.Values.global | default dict).imageRegistry $image.registry -}}{{- $name = printf "%s/%s" . $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{- define "scrapesaga.pullSecrets" -}}
{{- $found := list -}}
{{- range concat (.Values.imagePullSecrets | default list) ((.Values.global | default dict).imagePullSecrets | default list) -}}
{{- if kindIs "string" . -}}{{- $found = append $found (dict "name" .) -}}{{- else -}}{{- $found = append $found . -}}{{- end -}}
{{- end -}}
{{- if $found -}}
imagePullSecrets:
{{ toYaml ($found | uniq) | indent 2 }}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component. Never more than this: selectors can't be changed. */}}
{{- define "scrapesaga.selector" -}}
app.kubernetes.io/name: {{ include "scrapesaga.chartName" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* All labels of an object: (dict "root" $ "component" "intake" "more" (dict)). Those that select always win. Pods
     don't have the chart's version: it would restart them for nothing. */}}
{{- define "scrapesaga.labels" -}}
{{- $root := .root -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $labels := dict "app.kubernetes.io/managed-by" $root.Release.Service "app.kubernetes.io/part-of" "scrapesaga" -}}
{{- if not .pod -}}{{- $_ := set $labels "helm.sh/chart" $chart -}}{{- end -}}
{{- $_ := set $labels "app.kubernetes.io/version" (default $root.Chart.AppVersion $root.Values.image.tag | toString | replace "+" "_" | trunc 63) -}}
{{- $labels = mergeOverwrite $labels (deepCopy ($root.Values.commonLabels | default dict)) (deepCopy (.more | default dict)) (include "scrapesaga.selector" . | fromYaml) -}}
{{- range $key, $value := $labels -}}{{- $_ := set $labels $key (toString $value) -}}{{- end -}}
{{- toYaml $labels -}}
{{- end -}}

{{/* Annotations of an object: (dict "root" $ "more" (dict)); empty if there are none. */}}
{{- define "scrapesaga.annotations" -}}
{{- $all := mergeOverwrite (deepCopy (.root.Values.commonAnnotations | default dict)) (deepCopy (.more | default dict)) -}}
{{- if $all -}}
{{- range $key, $value := $all -}}{{- $_ := set $all $key (toString $value) -}}{{- end -}}
{{- dict "annotations" $all | toYaml -}}
{{- end -}}
{{- end -}}
