{{/* Mistakes that are cheaper to say now than to find in a pod's log. Each is one sentence that says what to do. */}}
{{- define "scrapesaga.checks" -}}
{{- $values := .Values -}}
{{- $kafka := $values.kafka -}}
{{- if not $kafka.bootstrapServers -}}
{{- fail "kafka.bootstrapServers: say where Kafka is, for example --set kafka.bootstrapServers=my-cluster-kafka-bootstrap:9092" -}}
{{- end -}}
{{- if hasPrefix "SASL_" $kafka.securityProtocol -}}
  {{- if not $kafka.sasl.existingSecret -}}{{- fail (printf "kafka.sasl.existingSecret: %s needs a Secret with the password; name it" $kafka.securityProtocol) -}}{{- end -}}
  {{- if not (or $kafka.sasl.username $kafka.sasl.usernameKey) -}}{{- fail (printf "kafka.sasl.username: %s needs a user name, or kafka.sasl.usernameKey, its key in the Secret" $kafka.securityProtocol) -}}{{- end -}}
{{- else if or $kafka.sasl.existingSecret $kafka.sasl.username -}}
  {{- fail (printf "kafka.sasl: no effect with kafka.securityProtocol=%s; did you mean SASL_SSL or SASL_PLAINTEXT?" $kafka.securityProtocol) -}}
{{- end -}}
{{- if and (not (has $kafka.securityProtocol (list "SSL" "SASL_SSL"))) (or $kafka.tls.ca.existingSecret $kafka.tls.ca.existingConfigMap $kafka.tls.client.existingSecret) -}}
{{- fail (printf "kafka.tls: no effect with kafka.securityProtocol=%s; did you mean SSL or SASL_SSL?" $kafka.securityProtocol) -}}
{{- end -}}
{{- if and $kafka.tls.ca.existingSecret $kafka.tls.ca.existingConfigMap -}}{{- fail "kafka.tls.ca: name a Secret or a ConfigMap, not both" -}}{{- end -}}
{{- if and $values.schemaRegistry.user (not $values.schemaRegistry.url) -}}{{- fail "schemaRegistry.user: no effect without schemaRegistry.url" -}}{{- end -}}
{{- if and (eq $values.topics.provisioning "strimzi") (not $values.topics.strimzi.cluster) -}}
{{- fail "topics.strimzi.cluster: say which Strimzi cluster the KafkaTopics are for" -}}
{{- end -}}
{{- $resolved := include "scrapesaga.resolved" . | fromJson -}}
{{- if $resolved.Error -}}{{- fail $resolved.Error -}}{{- end -}}
{{- range $step, $_ := $values.steps -}}
  {{- if not (has $step $resolved.steps) -}}{{- fail (printf "steps.%s: no pipeline has a step of that name; there are: %s" $step (join ", " $resolved.steps)) -}}{{- end -}}
{{- end -}}
{{- $coordinator := include "scrapesaga.role" (dict "root" . "layers" (list $values.coordinator)) | fromJson -}}
{{- if and (gt (int $coordinator.standbyReplicas) 0) (ge (int $coordinator.standbyReplicas) (int $coordinator.replicas)) -}}
{{- fail (printf "coordinator.standbyReplicas: %d warm copies need at least %d coordinator.replicas: a copy is kept by another pod" (int $coordinator.standbyReplicas) (add (int $coordinator.standbyReplicas) 1 | int)) -}}
{{- end -}}
{{- $roles := dict "intake" (include "scrapesaga.role" (dict "root" . "layers" (list $values.intake)) | fromJson) -}}
{{- range $resolved.steps -}}{{- $_ := set $roles (printf "steps.%s" .) (include "scrapesaga.stepRole" (dict "root" $ "step" .) | fromJson) -}}{{- end -}}
{{- range $name, $role := $roles -}}
  {{- if and $role.autoscaling.enabled $role.keda.enabled -}}{{- fail (printf "%s: autoscaling (by CPU) and keda (by lag) would both set the number of replicas; enable one" $name) -}}{{- end -}}
{{- end -}}
{{- include "scrapesaga.upgradeChecks" . -}}
{{- end -}}

{{/* What an upgrade must not do. Known only where Helm can ask the cluster: not in `helm template`, and so not in Argo CD,
     where `scrapesaga topics apply` refuses another partition count all the same. */}}
{{- define "scrapesaga.upgradeChecks" -}}
{{- $before := lookup "v1" "ConfigMap" .Release.Namespace (include "scrapesaga.pipelinesName" .) -}}
{{- $noted := (($before | default dict).metadata | default dict).annotations | default dict -}}
{{- $prefix := get $noted "scrapesaga/topic-prefix" -}}
{{- if and $prefix (eq $prefix .Values.topics.prefix) -}}
  {{- $partitions := get $noted "scrapesaga/partitions" -}}
  {{- if ne $partitions (toString (int .Values.topics.partitions)) -}}
  {{- fail (printf "topics.partitions: this release has %s partitions, and with %d keys would move: a saga's next event would miss its state; set topics.partitions=%s, or start afresh under another topics.prefix once every saga has ended" $partitions (int .Values.topics.partitions) $partitions) -}}
  {{- end -}}
  {{- $resolved := include "scrapesaga.resolved" . | fromJson -}}
  {{- $retired := splitList "," (get $noted "scrapesaga/retired-steps") -}}
  {{- range splitList "," (get $noted "scrapesaga/steps") | compact -}}
    {{- if not (or (has . $resolved.own) (has . $retired)) -}}
    {{- fail (printf "pipelines: the step %q is in none any more, and sagas in flight may still need it; add it to retiredSteps, and take it out in a later upgrade, once `scrapesaga list` shows no saga that is running, compensating or parked on a plan with it" .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $set := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "scrapesaga.name" (dict "root" . "suffix" "coordinator" "max" 52)) -}}
{{- if $set -}}
  {{- $claims := $set.spec.volumeClaimTemplates | default list -}}
  {{- $wanted := .Values.coordinator.persistence -}}
  {{- if ne (ternary 1 0 (eq true $wanted.enabled)) (len $claims) -}}
  {{- fail (printf "coordinator.persistence.enabled: the claims of a StatefulSet can't be changed; first `kubectl delete statefulset %s --cascade=orphan -n %s`: its pods run on, and this upgrade takes them over" $set.metadata.name .Release.Namespace) -}}
  {{- end -}}
  {{- range $claims -}}
    {{- if ne .spec.resources.requests.storage (toString $wanted.size) -}}
    {{- fail (printf "coordinator.persistence.size: the claims of a StatefulSet can't be changed; enlarge each claim with `kubectl edit pvc`, then `kubectl delete statefulset %s --cascade=orphan -n %s`: its pods run on, and this upgrade takes them over" $set.metadata.name $.Release.Namespace) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
