{{/* What holds for the pods of one role, and their environment. */}}

{{/* The values for all pods, and over them the role's own: (dict "root" $ "layers" (list $.Values.intake)). Lists of
     things to add are added up; everything else is replaced, maps key by key. JSON, as all that templates hand to each other: Helm's YAML would make a number of "0123". */}}
{{- define "scrapesaga.role" -}}
{{- $added := list "extraEnv" "extraEnvFrom" "extraVolumes" "extraVolumeMounts" "initContainers" "extraContainers" "topologySpreadConstraints" -}}
{{- $everywhere := list "settings" "resources" "podLabels" "podAnnotations" "podSecurityContext" "securityContext" "nodeSelector" "tolerations" "affinity" "topologySpread" "priorityClassName" "runtimeClassName" "schedulerName" "hostAliases" "dnsPolicy" "dnsConfig" "probes" "podDisruptionBudget" "terminationGracePeriodSeconds" "revisionHistoryLimit" "autoscaling" "keda" "lifecycle" -}}
{{- $role := dict -}}
{{- range $key := concat $added $everywhere -}}
{{- if hasKey $.root.Values $key -}}{{- $_ := set $role $key (get $.root.Values $key | deepCopy) -}}{{- end -}}
{{- end -}}
{{- range $layer := .layers -}}
{{- range $key, $value := ($layer | default dict) -}}
  {{- $before := get $role $key -}}
  {{- if and (has $key $added) $before -}}
    {{- $_ := set $role $key (concat $before ($value | default list)) -}}
  {{- else if and (kindIs "map" $value) (kindIs "map" $before) -}}
    {{- $_ := set $role $key (mergeOverwrite $before (deepCopy $value)) -}}
  {{- else -}}
    {{- $_ := set $role $key $value -}}
  {{- end -}}
{{- end -}}
{{- end -}}
{{- include "scrapesaga.withoutNulls" $role -}}
{{- end -}}

{{/* Null takes away: a limit, a probe, an id that the platform gives. */}}
{{- define "scrapesaga.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}{{- $_ := set $kept $key (include "scrapesaga.withoutNulls" $value | fromJson) -}}
{{- else if not (kindIs "invalid" $value) -}}{{- $_ := set $kept $key $value -}}{{- end -}}
{{- end -}}
{{- toJson $kept -}}
{{- end -}}

{{- define "scrapesaga.stepRole" -}}
{{- include "scrapesaga.role" (dict "root" .root "layers" (list .root.Values.stepDefaults (get .root.Values.steps .step))) -}}
{{- end -}}

{{/* A value as an environment variable has it: no number in scientific notation, lists with commas. */}}
{{- define "scrapesaga.text" -}}
{{- if kindIs "slice" . -}}{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) (float64 .)) -}}{{- int64 . -}}
{{- else -}}{{- toString . -}}{{- end -}}
{{- end -}}

{{/* Environment variables: (dict "root" $ "kind" "step" "role" $role). Kinds: intake, coordinator, auditor, step, topics,
     test. Later ones replace earlier ones of the same name. */}}
{{- define "scrapesaga.env" -}}
{{- $values := .root.Values -}}
{{- $kafka := $values.kafka -}}
{{- $plain := dict "BOOTSTRAP_SERVERS" $kafka.bootstrapServers "SECURITY_PROTOCOL" $kafka.securityProtocol -}}
{{- $entries := dict -}}
{{- if hasPrefix "SASL_" $kafka.securityProtocol -}}
  {{- $_ := set $plain "SASL_MECHANISM" $kafka.sasl.mechanism -}}
  {{- $_ := set $plain "SASL_PASSWORD_FILE" "/etc/scrapesaga/credentials/kafka-password" -}}
  {{- if $kafka.sasl.username -}}
    {{- $_ := set $plain "SASL_USERNAME" $kafka.sasl.username -}}
  {{- else -}}
    {{- $ref := dict "name" $kafka.sasl.existingSecret "key" $kafka.sasl.usernameKey -}}
    {{- $_ := set $entries "SCRAPESAGA_SASL_USERNAME" (dict "name" "SCRAPESAGA_SASL_USERNAME" "valueFrom" (dict "secretKeyRef" $ref)) -}}
  {{- end -}}
{{- end -}}
{{- if or $kafka.tls.ca.existingSecret $kafka.tls.ca.existingConfigMap -}}{{- $_ := set $plain "SSL_CAFILE" "/etc/scrapesaga/credentials/kafka-ca.crt" -}}{{- end -}}
{{- if $kafka.tls.client.existingSecret -}}
  {{- $_ := set $plain "SSL_CERTFILE" "/etc/scrapesaga/credentials/kafka-client.crt" -}}
  {{- $_ := set $plain "SSL_KEYFILE" "/etc/scrapesaga/credentials/kafka-client.key" -}}
{{- end -}}
{{- $topics := $values.topics -}}
{{- $_ := set $plain "TOPIC_PREFIX" $topics.prefix -}}
{{- $_ := set $plain "PARTITIONS" $topics.partitions -}}
{{- $_ := set $plain "REPLICATION_FACTOR" $topics.replicationFactor -}}
{{- range $key, $value := $topics.retention -}}{{- $_ := set $plain (printf "RETENTION_%s" (snakecase $key | upper)) $value -}}{{- end -}}
{{- $_ := set $plain "MAX_PAGE_SIZE" $topics.maxPageSize -}}
{{- $_ := set $plain "LOG_LEVEL" $values.log.level -}}
{{- $_ := set $plain "LOG_FORMAT" $values.log.format -}}
{{- $_ := set $plain "DATA_DIR" "/var/lib/scrapesaga" -}}
{{- $_ := set $entries "HOME" (dict "name" "HOME" "value" "/tmp") -}}
{{- $resolved := include "scrapesaga.resolved" .root | fromJson -}}
{{- if ne .kind "test" -}}
  {{- $_ := set $plain "PIPELINES" "/etc/scrapesaga/pipelines" -}}
  {{- $_ := set $plain "DEFAULT_PIPELINE" $resolved.default -}}
  {{- $_ := set $plain "RETIRED_STEPS" ($values.retiredSteps | default list) -}}
  {{- with include "scrapesaga.pluginPath" .root -}}{{- $_ := set $entries "PYTHONPATH" (dict "name" "PYTHONPATH" "value" .) -}}{{- end -}}
{{- end -}}
{{- if has .kind (list "intake" "coordinator" "auditor" "step") -}}
  {{- $_ := set $plain "HTTP_HOST" $values.http.host -}}
  {{- $_ := set $plain "HTTP_PORT" $values.http.port -}}
  {{- $_ := set $plain "DRAIN_TIMEOUT" $values.drainTimeout -}}
  {{- $_ := set $plain "OTEL_ENDPOINT" $values.tracing.otlpEndpoint -}}
{{- end -}}
{{- if eq .kind "coordinator" -}}
  {{- $_ := set $plain "STORE" .role.store -}}
  {{- $_ := set $plain "STANDBY_REPLICAS" .role.standbyReplicas -}}
{{- end -}}
{{- if eq .kind "step" -}}
  {{- $_ := set $plain "ALLOW_ADDRESSES" $values.allowAddresses -}}
  {{- if $values.stepSecrets -}}{{- $_ := set $plain "SECRETS_DIR" "/etc/scrapesaga/secrets" -}}{{- end -}}
  {{- $_ := set $plain "CLICKHOUSE_URL" $values.clickhouse.url -}}
  {{- if $values.clickhouse.url -}}
    {{- $_ := set $plain "CLICKHOUSE_USER" $values.clickhouse.user -}}
    {{- $_ := set $plain "CLICKHOUSE_DATABASE" $values.clickhouse.database -}}
    {{- if $values.clickhouse.existingSecret -}}{{- $_ := set $plain "CLICKHOUSE_PASSWORD_FILE" "/etc/scrapesaga/credentials/clickhouse-password" -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- if has .kind (list "intake" "step") -}}
  {{- $_ := set $plain "SCHEMA_REGISTRY_URL" $values.schemaRegistry.url -}}
  {{- if $values.schemaRegistry.url -}}
    {{- $_ := set $plain "SCHEMA_REGISTRY_USER" $values.schemaRegistry.user -}}
    {{- if $values.schemaRegistry.existingSecret -}}{{- $_ := set $plain "SCHEMA_REGISTRY_PASSWORD_FILE" "/etc/scrapesaga/credentials/registry-password" -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $value := .role.settings -}}
  {{- if hasSuffix "PASSWORD" $name -}}{{- fail (printf "settings.%s: a secret doesn't belong into values; name an existing Secret, as in kafka.sasl.existingSecret" $name) -}}{{- end -}}
  {{- if not (regexMatch "^[A-Z][A-Z0-9_]*$" $name) -}}{{- fail (printf "settings.%s: write the variable of docs/settings.md without SCRAPESAGA_, such as SESSION_TIMEOUT" $name) -}}{{- end -}}
  {{- $_ := set $plain (trimPrefix "SCRAPESAGA_" $name) $value -}}
{{- end -}}
{{- range $name, $value := $plain -}}
  {{- $text := include "scrapesaga.text" $value -}}
  {{- /* An empty variable counts as not set: left out, so that a pod shows what holds. */ -}}
  {{- if ne $text "" -}}{{- $_ := set $entries (printf "SCRAPESAGA_%s" $name) (dict "name" (printf "SCRAPESAGA_%s" $name) "value" $text) -}}{{- end -}}
{{- end -}}
{{- range $entry := .role.extraEnv -}}
  {{- $entry = deepCopy $entry -}}
  {{- if hasKey $entry "value" -}}{{- $_ := set $entry "value" (include "scrapesaga.text" $entry.value) -}}{{- end -}}
  {{- $_ := set $entries $entry.name $entry -}}
{{- end -}}
{{- $list := list -}}
{{- /* In the order of names, but for those that refer to others, which Kubernetes wants after them. */ -}}
{{- range $name, $entry := $entries -}}{{- if not (contains "$(" (toString $entry.value)) -}}{{- $list = append $list $entry -}}{{- end -}}{{- end -}}
{{- range $entry := .role.extraEnv -}}{{- if contains "$(" (toString $entry.value) -}}{{- $list = append $list (get $entries $entry.name) -}}{{- end -}}{{- end -}}
{{- toYaml ($list | uniq) -}}
{{- end -}}

{{- define "scrapesaga.pluginPath" -}}
{{- $paths := list -}}
{{- if .Values.plugins.images -}}{{- $paths = append $paths "/opt/scrapesaga-plugins/copied" -}}{{- end -}}
{{- range .Values.plugins.volumes -}}{{- $paths = append $paths (printf "/opt/scrapesaga-plugins/%s" .name) -}}{{- end -}}
{{- join ":" $paths -}}
{{- end -}}

{{/* Seconds for a clean hand-over: a worker stops within 1.2 times its drain timeout, then says goodbye to Kafka. */}}
{{- define "scrapesaga.grace" -}}
{{- if .role.terminationGracePeriodSeconds -}}
{{- int .role.terminationGracePeriodSeconds -}}
{{- else -}}
{{- $drain := default .root.Values.drainTimeout (get (.role.settings | default dict) "DRAIN_TIMEOUT") -}}
{{- $ms := include "scrapesaga.ms" (dict "value" $drain "key" "drainTimeout") | float64 -}}
{{- add (ceil (divf (mulf $ms 1.2) 1000) | int64) 20 -}}
{{- end -}}
{{- end -}}
