{{/* JSON of a list of the Deployments: kind, component, args, role, and for what reads a topic its group and topic. */}}
{{- define "scrapesaga.deployments" -}}
{{- $prefix := .Values.topics.prefix -}}
{{- $list := list -}}
{{- $intake := include "scrapesaga.role" (dict "root" . "layers" (list .Values.intake)) | fromJson -}}
{{- $list = append $list (dict "kind" "intake" "component" "intake" "args" (list "worker" "intake") "role" $intake "group" (printf "%s.intake" $prefix) "topic" (printf "%s.urls" $prefix)) -}}
{{- range (include "scrapesaga.resolved" . | fromJson).steps -}}
{{- $role := include "scrapesaga.stepRole" (dict "root" $ "step" .) | fromJson -}}
{{- $list = append $list (dict "kind" "step" "component" (printf "step-%s" .) "args" (list "worker" .) "role" $role "group" (printf "%s.step.%s" $prefix .) "topic" (printf "%s.%s.commands" $prefix .)) -}}
{{- end -}}
{{- if .Values.auditor.enabled -}}
{{- $auditor := include "scrapesaga.role" (dict "root" . "layers" (list .Values.auditor)) | fromJson -}}
{{- /* One reads everything: a second would find the same once more. */ -}}
{{- $_ := set $auditor "replicas" 1 -}}
{{- $_ := set $auditor "autoscaling" dict -}}
{{- $_ := set $auditor "keda" dict -}}
{{- $list = append $list (dict "kind" "auditor" "component" "auditor" "args" (list "worker" "auditor") "role" $auditor) -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}
