{{/* A pod of the engine: (dict "root" $ "kind" "step" "component" "step-fetch" "args" (list ...) "role" $role). Also
     "pipelines", the ConfigMap's name where it isn't the release's; "data" false where the volume comes from a claim. */}}

{{- define "scrapesaga.podLabels" -}}
{{- $more := mergeOverwrite (deepCopy (.role.podLabels | default dict)) (dict "scrapesaga/kind" .kind) -}}
{{- if .serves -}}{{- $_ := set $more "scrapesaga/metrics" "true" -}}{{- end -}}
{{- include "scrapesaga.labels" (dict "root" .root "component" .component "more" $more "pod" true) -}}
{{- end -}}

{{- define "scrapesaga.podAnnotations" -}}
{{- $files := (include "scrapesaga.resolved" .root | fromJson).files -}}
{{- $sum := dict "checksum/pipelines" ($files | toYaml | sha256sum) -}}
{{- include "scrapesaga.annotations" (dict "root" .root "more" (mergeOverwrite $sum (deepCopy (.role.podAnnotations | default dict)))) -}}
{{- end -}}

{{- define "scrapesaga.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /var/lib/scrapesaga}
{{- if ne .kind "test" }}
- {name: pipelines, mountPath: /etc/scrapesaga/pipelines, readOnly: true}
{{- if .root.Values.plugins.images }}
- {name: plugins, mountPath: /opt/scrapesaga-plugins/copied, readOnly: true}
{{- end }}
{{- range .root.Values.plugins.volumes }}
- {name: {{ printf "plugin-%s" .name }}, mountPath: {{ printf "/opt/scrapesaga-plugins/%s" .name }}, readOnly: true}
{{- end }}
{{- end }}
{{- if include "scrapesaga.credentials" . }}
- {name: credentials, mountPath: /etc/scrapesaga/credentials, readOnly: true}
{{- end }}
{{- if and (eq .kind "step") .root.Values.stepSecrets }}
- {name: secrets, mountPath: /etc/scrapesaga/secrets, readOnly: true}
{{- end }}
{{- with .role.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Sources of the projected volume of credentials: only those that the kind of pod needs. */}}
{{- define "scrapesaga.credentials" -}}
{{- $kafka := .root.Values.kafka -}}
{{- if hasPrefix "SASL_" $kafka.securityProtocol }}
- secret: {name: {{ $kafka.sasl.existingSecret | quote }}, items: [{key: {{ $kafka.sasl.passwordKey | quote }}, path: kafka-password}]}
{{- end }}
{{- with $kafka.tls.ca }}
{{- if .existingSecret }}
- secret: {name: {{ .existingSecret | quote }}, items: [{key: {{ .key | quote }}, path: kafka-ca.crt}]}
{{- else if .existingConfigMap }}
- configMap: {name: {{ .existingConfigMap | quote }}, items: [{key: {{ .key | quote }}, path: kafka-ca.crt}]}
{{- end }}
{{- end }}
{{- with $kafka.tls.client }}
{{- if .existingSecret }}
- secret: {name: {{ .existingSecret | quote }}, items: [{key: {{ .certKey | quote }}, path: kafka-client.crt}, {key: {{ .keyKey | quote }}, path: kafka-client.key}]}
{{- end }}
{{- end }}
{{- if eq .kind "step" }}
{{- with .root.Values.clickhouse }}
{{- if and .url .existingSecret }}
- secret: {name: {{ .existingSecret | quote }}, items: [{key: {{ .passwordKey | quote }}, path: clickhouse-password}]}
{{- end }}
{{- end }}
{{- end }}
{{- if has .kind (list "intake" "step") }}
{{- with .root.Values.schemaRegistry }}
{{- if and .url .existingSecret }}
- secret: {name: {{ .existingSecret | quote }}, items: [{key: {{ .passwordKey | quote }}, path: registry-password}]}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "scrapesaga.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- if .data }}
- {name: data, emptyDir: {}}
{{- end }}
{{- if ne .kind "test" }}
- name: pipelines
  configMap: {name: {{ default (include "scrapesaga.pipelinesName" .root) .pipelines }}}
{{- if .root.Values.plugins.images }}
- {name: plugins, emptyDir: {}}
{{- end }}
{{- range .root.Values.plugins.volumes }}
- {{ mergeOverwrite (deepCopy .) (dict "name" (printf "plugin-%s" .name)) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- with include "scrapesaga.credentials" . }}
- name: credentials
  projected:
    # Readable whatever the group: nobody else is in the container, and a security context may lack fsGroup.
    defaultMode: 0444
    sources: {{- . | trim | nindent 6 }}
{{- end }}
{{- if and (eq .kind "step") .root.Values.stepSecrets }}
- name: secrets
  projected:
    defaultMode: 0444
    sources:
    {{- range .root.Values.stepSecrets }}
      {{- if kindIs "string" . }}
      - secret: {name: {{ . | quote }}}
      {{- else }}
      - secret: {{- toYaml . | nindent 10 }}
      {{- end }}
    {{- end }}
{{- end }}
{{- with .role.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What all containers of the engine's image have. */}}
{{- define "scrapesaga.container" -}}
image: {{ include "scrapesaga.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env: {{- include "scrapesaga.env" . | nindent 2 }}
{{- with .role.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
# Where an init container or a Job fails, `kubectl describe` then says why.
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts: {{- include "scrapesaga.mounts" . | nindent 2 }}
{{- end -}}

{{- define "scrapesaga.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if not (or $probe.httpGet $probe.exec $probe.tcpSocket $probe.grpc) -}}
{{- $_ := set $probe "httpGet" (dict "path" .path "port" "http") -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{/* What runs before the engine's container. */}}
{{- define "scrapesaga.initContainers" -}}
{{- if ne .kind "test" }}
{{- range $place, $plugin := .root.Values.plugins.images }}
- name: {{ printf "plugin-%s" (default (toString $place) $plugin.name) | trunc 63 }}
  image: {{ $plugin.image | quote }}
  {{- with $plugin.pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  command: [cp, -R, {{ printf "%s/." (default "/plugins" $plugin.path | trimSuffix "/") | quote }}, /copied/]
  {{- with $.role.resources }}
  resources: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.role.securityContext }}
  securityContext: {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts: [{name: plugins, mountPath: /copied}]
{{- end }}
{{- end }}
{{- with .role.initContainers }}
{{ toYaml . }}
{{- end }}
{{- if .waits }}
# Until Kafka answers and the topics are as declared: a worker would refuse to start, and be held back ever longer.
- name: topics
  args: [topics, verify, --wait, {{ .root.Values.topics.wait | quote }}]
  {{- include "scrapesaga.container" . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "scrapesaga.podSpec" -}}
serviceAccountName: {{ default (include "scrapesaga.serviceAccountName" .root) .account }}
automountServiceAccountToken: false
# Variables of a Service named scrapesaga-... would look like settings.
enableServiceLinks: false
{{- with include "scrapesaga.pullSecrets" .root }}
{{ . }}
{{- end }}
{{- with .role.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
terminationGracePeriodSeconds: {{ include "scrapesaga.grace" . }}
{{- with include "scrapesaga.initContainers" . | trim }}
initContainers: {{- . | nindent 2 }}
{{- end }}
containers:
  - name: scrapesaga
    {{- with .command }}
    command: {{- toYaml . | nindent 6 }}
    {{- end }}
    args: {{- toYaml .args | nindent 6 }}
    {{- include "scrapesaga.container" . | nindent 4 }}
    {{- if .serves }}
    ports:
      - {name: http, containerPort: {{ int .root.Values.http.port }}, protocol: TCP}
    {{- with .role.lifecycle }}
    lifecycle: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .role.probes }}
    {{- with .startup }}
    startupProbe: {{- include "scrapesaga.probe" (dict "probe" . "path" "/live") | nindent 6 }}
    {{- end }}
    {{- with .readiness }}
    readinessProbe: {{- include "scrapesaga.probe" (dict "probe" . "path" "/ready") | nindent 6 }}
    {{- end }}
    {{- with .liveness }}
    livenessProbe: {{- include "scrapesaga.probe" (dict "probe" . "path" "/live") | nindent 6 }}
    {{- end }}
    {{- end }}
    {{- end }}
  {{- with .role.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes: {{- include "scrapesaga.volumes" . | nindent 2 }}
{{- if .serves }}
{{- with include "scrapesaga.spread" . }}
topologySpreadConstraints: {{- . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" }}
{{- with get $.role $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" }}
{{- with get $.role $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "scrapesaga.spread" -}}
{{- $constraints := list -}}
{{- $selector := include "scrapesaga.selector" . | fromYaml -}}
{{- if .role.topologySpread.enabled -}}
{{- range $key := .role.topologySpread.topologyKeys -}}
{{- $constraints = append $constraints (dict "topologyKey" $key "maxSkew" (int $.role.topologySpread.maxSkew) "whenUnsatisfiable" $.role.topologySpread.whenUnsatisfiable "labelSelector" (dict "matchLabels" $selector)) -}}
{{- end -}}
{{- end -}}
{{- range .role.topologySpreadConstraints -}}
{{- $constraints = append $constraints (mergeOverwrite (dict "labelSelector" (dict "matchLabels" $selector)) (deepCopy .)) -}}
{{- end -}}
{{- if $constraints -}}{{- toYaml $constraints -}}{{- end -}}
{{- end -}}
