{{/*
The pipelines, resolved: JSON of
  files     {"shop-prices.yaml": text, "own.avsc": text}: what the ConfigMap holds
  names     the users' pipelines
  steps     names of the steps of all pipelines, each once, in order, then the retired ones: each has a Deployment
  own       the same without what only the release's test needs
  default   the pipeline of requests that name none; empty if that can't be known
  test      name of the test's pipeline; empty without tests
*/}}
{{- define "scrapesaga.resolved" -}}
{{- $root := . -}}
{{- $files := dict -}}
{{- $names := list -}}
{{- $steps := list -}}
{{- $uses := dict -}}
{{- $pipelines := include "scrapesaga.givenPipelines" . | fromJson -}}
{{- range $key, $given := $pipelines -}}
  {{- $text := "" -}}
  {{- $spec := $given -}}
  {{- if kindIs "string" $given -}}
    {{- $text = $given -}}
    {{- $spec = fromYaml $given -}}
    {{- if hasKey $spec "Error" -}}{{- fail (printf "pipelines.%s: the text is no YAML mapping: %s" $key $spec.Error) -}}{{- end -}}
    {{- if not $spec.name -}}{{- $text = printf "name: %s\n%s" $key $given -}}{{- end -}}
  {{- else if kindIs "map" $given -}}
    {{- /* As JSON, which is YAML: Helm's YAML leaves "0123" without quotes, and the engine would read a number. */ -}}
    {{- $text = toPrettyJson (mergeOverwrite (dict "name" $key) (deepCopy $given)) -}}
    {{- if regexMatch "[{,]\"(true|false)\":" (toJson $given) -}}{{- fail (printf "pipelines.%s: YAML reads a key of it as true or false, as it does with y, n, yes, no, on and off; put it in quotes" $key) -}}{{- end -}}
  {{- else -}}
    {{- fail (printf "pipelines.%s: write a pipeline (steps: [...]), or a pipeline file as text; this is a %s" $key (kindOf $given)) -}}
  {{- end -}}
  {{- $name := default $key $spec.name -}}
  {{- if not (kindIs "string" $name) -}}{{- fail (printf "pipelines.%s.name: YAML reads it as %v; put it in quotes" $key $name) -}}{{- end -}}
  {{- if not (regexMatch "^[a-z0-9][a-z0-9_-]{0,39}$" $name) -}}{{- fail (printf "pipelines.%s: the name %q: 1 to 40 of a-z, 0-9, '-' and '_', a letter or digit first" $key $name) -}}{{- end -}}
  {{- if has $name $names -}}{{- fail (printf "pipelines.%s: another pipeline is named %q as well" $key $name) -}}{{- end -}}
  {{- $names = append $names $name -}}
  {{- if not (and (kindIs "slice" $spec.steps) $spec.steps) -}}{{- fail (printf "pipelines.%s.steps: at least one step, such as `- use: fetch`" $key) -}}{{- end -}}
  {{- range $place, $step := $spec.steps -}}
    {{- $where := printf "pipelines.%s.steps[%d]" $key $place -}}
    {{- if not (kindIs "map" $step) -}}{{- fail (printf "%s: write `- use: NAME`; this is a %s" $where (kindOf $step)) -}}{{- end -}}
    {{- if not (and $step.use (kindIs "string" $step.use)) -}}{{- fail (printf "%s.use: the name of a step, in quotes if YAML takes it for something else" $where) -}}{{- end -}}
    {{- $stepName := default (splitList ":" $step.use | last | lower) $step.name -}}
    {{- if not (kindIs "string" $stepName) -}}{{- fail (printf "%s.name: YAML reads it as %v; put it in quotes" $where $stepName) -}}{{- end -}}
    {{- if not (regexMatch "^[a-z0-9][a-z0-9_-]{0,39}$" $stepName) -}}{{- fail (printf "%s: the step's name %q: 1 to 40 of a-z, 0-9, '-' and '_', a letter or digit first; give it a `name`" $where $stepName) -}}{{- end -}}
    {{- if has $stepName (list "intake" "coordinator" "auditor" "console") -}}{{- fail (printf "%s: a step can't be named %q, as a role of the engine is; give it another `name`" $where $stepName) -}}{{- end -}}
    {{- if not (has $stepName $steps) -}}{{- $steps = append $steps $stepName -}}{{- end -}}
    {{- if not (hasKey $uses $step.use) -}}{{- $_ := set $uses $step.use $stepName -}}{{- end -}}
  {{- end -}}
  {{- $_ := set $files (printf "%s.yaml" $key) $text -}}
{{- end -}}
{{- $own := concat $steps ($root.Values.retiredSteps | default list) | uniq -}}
{{- $test := "" -}}
{{- if $root.Values.tests.enabled -}}
  {{- $test = include "scrapesaga.testPipelineName" $root -}}
  {{- if has $test $names -}}{{- fail (printf "pipelines: %q is the name of the pipeline of `helm test`; rename yours, or set tests.enabled=false" $test) -}}{{- end -}}
  {{- /* It borrows the names of steps that are there anyway, so that it needs no Deployment of its own. */ -}}
  {{- $free := $steps -}}
  {{- $testSteps := list -}}
  {{- range $use := list "fetch" "parse" -}}
    {{- $name := get $uses $use -}}
    {{- if $name -}}{{- $free = without $free $name -}}{{- end -}}
  {{- end -}}
  {{- range $use := list "fetch" "parse" -}}
    {{- $name := get $uses $use -}}
    {{- if not $name -}}{{- $name = first (append $free $use) -}}{{- $free = without $free $name -}}{{- end -}}
    {{- $testSteps = append $testSteps $name -}}
    {{- $steps = append $steps $name -}}
  {{- end -}}
  {{- $_ := set $files (printf "%s.yaml" $test) (include "scrapesaga.testPipeline" (dict "root" $root "steps" $testSteps)) -}}
{{- end -}}
{{- range $name, $schema := $root.Values.schemas -}}
  {{- if not (regexMatch "^[A-Za-z0-9][A-Za-z0-9_.-]*$" $name) -}}{{- fail (printf "schemas.%s: a file's name without folders, such as offer.avsc" $name) -}}{{- end -}}
  {{- $file := ternary $name (printf "%s.avsc" $name) (hasSuffix ".avsc" $name) -}}
  {{- $_ := set $files $file (ternary $schema (toPrettyJson $schema) (kindIs "string" $schema)) -}}
{{- end -}}
{{- $default := $root.Values.defaultPipeline -}}
{{- if and $default (not (has $default $names)) -}}{{- fail (printf "defaultPipeline: no pipeline %q; there are: %s" $default (join ", " $names)) -}}{{- end -}}
{{- if not $default -}}
  {{- if eq (len $names) 1 -}}{{- $default = first $names -}}{{- else if has "default" $names -}}{{- $default = "default" -}}{{- end -}}
{{- end -}}
{{- $all := concat $steps ($root.Values.retiredSteps | default list) | uniq -}}
{{- dict "files" $files "names" $names "steps" $all "own" $own "default" $default "test" $test | toJson -}}
{{- end -}}

{{/* The users' pipelines; without any, one that shows the engine at work: product pages to records. */}}
{{- define "scrapesaga.givenPipelines" -}}
{{- $given := dict -}}
{{- range $key, $value := .Values.pipelines -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $given $key $value -}}{{- end -}}
{{- end -}}
{{- if $given -}}
{{- toJson $given -}}
{{- else -}}
{{- include "scrapesaga.defaultPipeline" . | fromYaml | toJson -}}
{{- end -}}
{{- end -}}

{{- define "scrapesaga.defaultPipeline" -}}
default:
  record: product
  steps:
    - use: fetch
    - use: parse
      with: {preset: product}
    {{- if .Values.clickhouse.url }}
    - use: load
    {{- end }}
    - use: notify
{{- end -}}

{{- define "scrapesaga.testPipelineName" -}}release-test{{- end -}}

{{- define "scrapesaga.testHost" -}}
{{- printf "%s.%s.svc" (include "scrapesaga.name" (dict "root" . "suffix" "test")) .Release.Namespace -}}
{{- end -}}

{{/* Neither loads nor publishes: whoever reads the records of this release never sees a test's. */}}
{{- define "scrapesaga.testPipeline" -}}
# The pipeline of `helm test`. It writes no record and no row.
name: {{ include "scrapesaga.testPipelineName" .root }}
record: product
deadline: 5m
retention: 1h
steps:
  - use: fetch
    name: {{ index .steps 0 | quote }}
    timeout: 10s
    retry: {attempts: 10, base: 500ms, cap: 2s}
    # The test's own pod, and nothing else.
    with: {allow_addresses: [{{ include "scrapesaga.testHost" .root | quote }}], http2: false}
  - use: parse
    name: {{ index .steps 1 | quote }}
    with: {fields: {title: h1}}
{{- end -}}
