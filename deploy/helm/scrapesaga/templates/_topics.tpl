{{/* The topics, as topics/catalogue.py declares them: tests/deploy compares the two. */}}

{{/* Milliseconds of a duration such as 1m30s: (dict "value" "7d" "key" "topics.retention.urls"). */}}
{{- define "scrapesaga.ms" -}}
{{- $text := toString .value -}}
{{- if or (eq $text "") (not (regexMatch "^([0-9]+(\\.[0-9]+)?d)?([0-9]+(\\.[0-9]+)?h)?([0-9]+(\\.[0-9]+)?m)?([0-9]+(\\.[0-9]+)?s)?([0-9]+(\\.[0-9]+)?ms)?$" $text)) -}}
{{- fail (printf "%s: %q is not a duration: write for example 30s, 1m30s, 250ms, 2h or 7d" .key $text) -}}
{{- end -}}
{{- $units := dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1 -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|[dhms])" $text -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $total = addf $total (mulf (trimSuffix $unit . | float64) (get $units $unit)) -}}
{{- end -}}
{{- round $total 0 | int64 -}}
{{- end -}}

{{/* Bytes of a size such as 10MiB. */}}
{{- define "scrapesaga.bytes" -}}
{{- $text := .value | toString -}}
{{- if kindIs "float64" .value -}}{{- $text = .value | int64 | toString -}}{{- end -}}
{{- $unit := regexFind "[A-Za-z]*$" $text | lower -}}
{{- $units := dict "" 1 "b" 1 "kb" 1000 "mb" 1000000 "gb" 1000000000 "kib" 1024 "mib" 1048576 "gib" 1073741824 -}}
{{- if not (and (regexMatch "^[0-9]+(\\.[0-9]+)?\\s*[A-Za-z]*$" $text) (hasKey $units $unit)) -}}
{{- fail (printf "%s: %q is not a size: write for example 10MB, 10MiB or a number of bytes" .key $text) -}}
{{- end -}}
{{- round (mulf (regexFind "^[0-9.]+" $text | float64) (get $units $unit)) 0 | int64 -}}
{{- end -}}

{{/* JSON of a list "topics": name, partitions, replicas and config of each. */}}
{{- define "scrapesaga.catalogue" -}}
{{- $t := .Values.topics -}}
{{- $ms := dict -}}
{{- range $key, $value := $t.retention -}}
{{- $_ := set $ms $key (include "scrapesaga.ms" (dict "value" $value "key" (printf "topics.retention.%s" $key))) -}}
{{- end -}}
{{- $day := "86400000" -}}
{{- $message := 1048576 -}}
{{- $state := 4194304 -}}
{{- $page := add (include "scrapesaga.bytes" (dict "value" $t.maxPageSize "key" "topics.maxPageSize") | int64) 524288 -}}
{{- $topics := list
      (dict "short" "urls" "keep" $ms.urls "max" $message)
      (dict "short" "events" "keep" $ms.events "max" $message)
      (dict "short" "sagas" "compact" true "segment" 67108864 "max" $state)
      (dict "short" "plans" "compact" true "segment" 16777216 "max" $message "single" true) -}}
{{- range (include "scrapesaga.resolved" . | fromJson).steps -}}
{{- $topics = append $topics (dict "short" (printf "%s.commands" .) "keep" $ms.commands "max" $state) -}}
{{- $topics = append $topics (dict "short" (printf "%s.results" .) "keep" $ms.results "max" $message) -}}
{{- end -}}
{{- $topics = concat $topics (list
      (dict "short" "pages" "compact" true "segment" 268435456 "keep" $ms.pages "max" $page)
      (dict "short" "records" "compact" true "segment" 67108864 "max" $state)
      (dict "short" "spend" "compact" true "segment" 16777216 "max" $message "single" true)
      (dict "short" "dead-letters" "keep" $ms.deadLetters "max" $page)) -}}
{{- $replicas := int $t.replicationFactor -}}
{{- $result := list -}}
{{- range $topics -}}
{{- $config := dict "message.timestamp.type" "LogAppendTime" "min.insync.replicas" (min 2 $replicas | toString) "max.message.bytes" (toString .max) "cleanup.policy" "delete" -}}
{{- with .keep -}}{{- $_ := set $config "retention.ms" . -}}{{- end -}}
{{- if .compact -}}
{{- $_ := set $config "cleanup.policy" (ternary "compact,delete" "compact" (hasKey . "keep")) -}}
{{- $_ := set $config "segment.bytes" (toString .segment) -}}
{{- $_ := set $config "segment.ms" $day -}}
{{- $_ := set $config "min.compaction.lag.ms" $ms.history -}}
{{- $_ := set $config "delete.retention.ms" $ms.tombstones -}}
{{- $_ := set $config "min.cleanable.dirty.ratio" "0.2" -}}
{{- end -}}
{{- $result = append $result (dict "name" (printf "%s.%s" $t.prefix .short) "partitions" (ternary 1 (int $t.partitions) (hasKey . "single")) "replicas" $replicas "config" $config) -}}
{{- end -}}
{{- dict "topics" $result | toJson -}}
{{- end -}}

{{/* A topic's name as Kubernetes takes it, one of a kind; as topics/export.py has it. */}}
{{- define "scrapesaga.topicResource" -}}
{{- $name := regexReplaceAll "[^a-z0-9]*\\.[^a-z0-9]*" (regexReplaceAll "[^a-z0-9.-]" (lower .) "-") "." | trimAll "-." -}}
{{- if eq $name . -}}{{- $name -}}{{- else -}}{{- printf "%s-%s" $name (sha256sum . | trunc 8) -}}{{- end -}}
{{- end -}}
