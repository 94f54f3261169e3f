"""Values: what is wrong is refused with one sentence, what is right is taken, and what an upgrade must not do it doesn't."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.helm import CHART, CI, ChartRefused, Object, containers, environment, main_container, template
from tests.deploy.test_chart_engine import command_line

pytestmark = pytest.mark.timeout(300)

FETCH = [{"use": "fetch"}]

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kafka": {"bootstrapServers": ""}}, "kafka.bootstrapServers: say where Kafka is"),
    ({"kafka": {"bootstrapServers": "kafka"}}, "/kafka/bootstrapServers"),
    ({"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.sasl.existingSecret: SASL_SSL needs a Secret"),
    ({"kafka": {"securityProtocol": "SASL_SSL", "sasl": {"existingSecret": "s"}}}, "kafka.sasl.username: SASL_SSL needs"),
    ({"kafka": {"sasl": {"username": "u"}}}, "kafka.sasl: no effect with kafka.securityProtocol=PLAINTEXT"),
    ({"kafka": {"tls": {"ca": {"existingSecret": "s"}}}}, "kafka.tls: no effect with kafka.securityProtocol=PLAINTEXT"),
    ({"kafka": {"sasl": {"password": "p"}}}, "'password' not allowed"),
    ({"settings": {"SASL_PASSWORD": "p"}}, "settings.SASL_PASSWORD: a secret doesn't belong into values"),
    ({"settings": {"sessionTimeout": "5s"}}, "settings.sessionTimeout: write the variable of docs/settings.md without SCRAPESAGA_"),
    ({"pipelines": {"My Shop": {"steps": FETCH}}}, 'pipelines.My Shop: the name "My Shop"'),
    ({"schemas": {"a/b": {}}}, "schemas.a/b: a file's name without folders"),
    ({"topics": {"provisioning": "strimzi"}}, "topics.strimzi.cluster: say which"),
    ({"topics": {"retention": {"urls": "7"}}}, "/topics/retention/urls"),
    ({"topics": {"maxPageSize": "10 MX", "provisioning": "strimzi", "strimzi": {"cluster": "c"}}}, "topics.maxPageSize"),
    ({"pipelines": {"p": {"steps": []}}}, "pipelines.p.steps: at least one step"),
    ({"pipelines": {"p": {"steps": ["fetch"]}}}, r"pipelines.p.steps\[0\]: write `- use: NAME`"),
    ({"pipelines": {"p": {"steps": [{"name": "x"}]}}}, r"pipelines.p.steps\[0\].use"),
    ({"pipelines": {"p": {"steps": [{"use": True}]}}}, "in quotes if YAML takes it for something else"),
    ({"pipelines": {"p": {"steps": [{"use": "fetch", "name": True}]}}}, "YAML reads it as true; put it in quotes"),
    ({"pipelines": {"p": {"steps": [{"use": "a.b:Big_Step."}]}}}, "give it a `name`"),
    ({"pipelines": {"p": {"steps": [{"use": "fetch", "name": "intake"}]}}}, "as a role of the engine is"),
    ({"pipelines": {"p": {"steps": [{"use": "fetch", "with": {"headers": {"true": "x"}}}]}}}, "put it in quotes"),
    ({"pipelines": {"p": "steps: [{use: fetch"}}, "pipelines.p: the text is no YAML mapping"),
    ({"pipelines": {"a": {"name": "x", "steps": FETCH}, "b": {"name": "x", "steps": FETCH}}}, 'named "x" as well'),
    ({"pipelines": {"a": {"name": "release-test", "steps": FETCH}}}, "the name of the pipeline of `helm test`"),
    ({"defaultPipeline": "q"}, 'defaultPipeline: no pipeline "q"; there are: default'),
    ({"steps": {"fetsh": {"replicas": 2}}}, "steps.fetsh: no pipeline has a step of that name; there are: fetch, parse, notify"),
    ({"coordinator": {"standbyReplicas": 1}}, "1 warm copies need at least 2 coordinator.replicas"),
    ({"autoscaling": {"enabled": True}, "keda": {"enabled": True}}, "autoscaling .by CPU. and keda .by lag."),
    ({"metrics": {"prometheusRule": {"enabled": True, "disabled": ["Nope"]}}}, 'no alert "Nope"; there are: Scrapesaga'),
    ({"replicas": 3}, "'replicas' not allowed"),
    ({"intake": {"replica": 3}}, "'replica' not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_mistakes_are_told_in_a_sentence(values: dict[str, Any], says: str) -> None:
    """What can't work is refused by name before anything is installed."""
    with pytest.raises(ChartRefused) as caught:
        template(values)
    assert re.search(says, str(caught.value)), str(caught.value)


#: Fields of Kubernetes that people need, in the places where they give them.
LEGITIMATE: dict[str, Any] = {
    "extraEnv": [
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "B", "value": "$(A)/b"},
    ],
    "extraEnvFrom": [{"secretRef": {"name": "s", "optional": True}}],
    "extraVolumes": [{"name": "v", "csi": {"driver": "d", "readOnly": True}}],
    "extraVolumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}],
    "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}],
    "extraContainers": [{"name": "c", "image": "c", "ports": [{"containerPort": 1}]}],
    "podLabels": {"n": 1, "t": True},
    "podAnnotations": {"n": 1.5},
    "podSecurityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}], "fsGroup": None},
    "securityContext": {"seLinuxOptions": {"level": "s0"}},
    "nodeSelector": {"x": "y"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpread": {"enabled": False},
    "topologySpreadConstraints": [
        {"topologyKey": "k", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}
    ],
    "priorityClassName": "p",
    "runtimeClassName": "gvisor",
    "schedulerName": "s",
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["h"]}],
    "dnsPolicy": "None",
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
    "resources": {"limits": {"memory": "3Gi", "nvidia.com/gpu": 1}},
    "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    "terminationGracePeriodSeconds": 300,
    "revisionHistoryLimit": 0,
    "probes": {"startup": None, "liveness": {"exec": {"command": ["true"]}, "periodSeconds": 1}},
    "podDisruptionBudget": {"minAvailable": 1},
    "settings": {"SESSION_TIMEOUT": "30s", "ALLOW_ADDRESSES": ["10.0.0.0/8", "::1"], "MAX_IN_FLIGHT": 10_000_000},
}


@pytest.mark.parametrize("place", ["all", "coordinator", "intake", "stepDefaults", "step"])
def test_fields_of_pods_are_taken_everywhere(place: str) -> None:
    """What a pod can have may be said for all pods and for each role, and arrives in the pod."""
    values: dict[str, Any] = LEGITIMATE if place == "all" else {place: LEGITIMATE}
    if place == "step":
        values = {"steps": {"fetch": LEGITIMATE}}
    role = {"all": "coordinator", "coordinator": "coordinator", "intake": "intake"}.get(place, "step-fetch")
    pods = {where.rpartition("scrapesaga-")[2]: pod for where, pod in template(values).workers()}
    pod, spec = pods[role], pods[role]["spec"]
    container = main_container(pod)
    for key in ("nodeSelector", "tolerations", "priorityClassName", "runtimeClassName", "schedulerName", "hostAliases",
                "dnsPolicy", "dnsConfig", "terminationGracePeriodSeconds"):  # fmt: skip
        assert spec[key] == LEGITIMATE[key], key
    assert LEGITIMATE["extraVolumes"][0] in spec["volumes"]
    assert LEGITIMATE["extraVolumeMounts"][0] in container["volumeMounts"]
    assert LEGITIMATE["extraContainers"][0] in spec["containers"]
    assert [one["name"] for one in spec["initContainers"]] == ["i", "topics"]
    names = [one["name"] for one in container["env"]]
    assert names.index("A") < names.index("B") and len(names) == len(set(names))
    variables = environment(container)
    assert variables["SCRAPESAGA_ALLOW_ADDRESSES"] == "10.0.0.0/8,::1"
    assert variables["SCRAPESAGA_MAX_IN_FLIGHT"] == "10000000"
    memory = "2Gi" if (place, role) == ("all", "coordinator") else "3Gi"
    assert container["resources"]["limits"] == {"memory": memory, "nvidia.com/gpu": 1}
    assert container["resources"]["requests"] == {"cpu": "50m", "memory": "192Mi"}
    assert "startupProbe" not in container and "httpGet" not in container["livenessProbe"]
    assert spec["securityContext"]["runAsNonRoot"] is True and "fsGroup" not in spec["securityContext"]
    assert container["securityContext"].keys() >= {"seLinuxOptions", "capabilities"}
    assert [one["topologyKey"] for one in spec["topologySpreadConstraints"]] == ["k"]
    assert (pod["metadata"]["labels"]["n"], pod["metadata"]["annotations"]["n"]) == ("1", "1.5")
    if place in ("intake", "coordinator"):
        assert "tolerations" not in pods["step-fetch"]["spec"]


def test_words_that_look_like_numbers_stay_words() -> None:
    """A variable's or annotation's text reaches the pod as it was written."""
    odd = {"A": "0123", "B": "1e3", "C": "0x1F", "D": "on", "E": "1:30", "F": "2026-01-01", "G": "~"}
    values = {"extraEnv": [{"name": name, "value": text} for name, text in odd.items()], "podAnnotations": odd}
    pod = next(template(values).workers())[1]
    assert odd.items() <= environment(main_container(pod)).items()
    assert odd.items() <= pod["metadata"]["annotations"].items()


def test_schema_and_values_have_the_same_keys() -> None:
    """Every key of values.yaml is in the schema, so that its type is checked, and every key of the schema has a default."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def resolve(node: Any) -> Any:
        while "$ref" in node:
            target: Any = schema
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def compare(node: Any, value: Any, path: str) -> None:
        node = resolve(node)
        for key, inside in value.items():
            assert key in node["properties"], f"{path}{key} is in values.yaml, not in the schema"
            if isinstance(inside, dict) and "properties" in resolve(node["properties"][key]):
                compare(node["properties"][key], inside, f"{path}{key}.")
        # What all pods have is given to a role only where it differs.
        shared = set(schema["$defs"]["pod"]["properties"]) if path else {"global", "enabled"}
        assert set(node["properties"]) - set(value) <= shared, path

    compare(schema, values, "")


@pytest.mark.parametrize("values", CI)
def test_secrets_are_only_named(values: str) -> None:
    """The chart makes no Secret; a Secret is mounted or referred to, and no password has a plain value anywhere."""
    rendered = template(values)
    assert not rendered.of("Secret")
    for where, pod in rendered.pods():
        for container in containers(pod):
            for name, value in environment(container).items():
                if re.search("PASSWORD|TOKEN|SECRET|KEY", name):
                    assert value.startswith("/etc/scrapesaga/"), (where, name)


def test_only_who_needs_credentials_gets_them() -> None:
    """Those of ClickHouse and paid APIs are in no other pod than the steps'; the registry's are with intake besides."""
    for where, pod in template("production").pods():
        mounted = {
            name
            for name in ("clickhouse", "registry", "enrich-api")
            if f"'name': '{name}'" in str(pod["spec"]["volumes"])
        }
        needed = {"step": {"clickhouse", "registry", "enrich-api"}, "intake": {"registry"}}
        assert mounted == needed.get(pod["metadata"]["labels"].get("scrapesaga/kind", ""), set()), where


def test_extra_objects_are_templates() -> None:
    """Objects of one's own may use the release's name, as values or as text."""
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}"
    rendered = template(
        {"extraObjects": [text, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}-s"}}]}
    )
    assert rendered.one("ConfigMap", "shop-text") and rendered.one("Secret", "shop-s")


def test_as_a_part_of_another_chart() -> None:
    """`global` and the condition's `enabled` are taken."""
    assert template({"global": {"anything": 1}, "enabled": True}).objects


@pytest.mark.parametrize("values", ["minimal", "production"])
def test_notes_have_commands_that_exist(values: str, tmp_path: Path) -> None:
    """What the notes tell one to type names a Deployment of the release, and commands of the command line."""
    chart = tmp_path / "scrapesaga"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "zz-notes.yaml").write_text(
        "apiVersion: v1\nkind: Notes\nmetadata: {name: notes}\n"
        'text: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}\n'
    )
    given = yaml.safe_load((CHART / "ci" / f"{values}.yaml").read_text())
    rendered = template(given, chart=chart)
    ((text,)) = [one["text"] for one in rendered.of("Notes")]
    typed = re.findall(r"kubectl exec (?:-i )?-n scraping deploy/(\S+) -c scrapesaga -- scrapesaga (.+)", text)
    assert len(typed) >= 8
    for deployment, command in typed:
        assert rendered.one("Deployment", deployment)
        command_line(command.partition("<")[0].replace("JOB", "x").split())
    assert "helm test -n scraping shop --logs" in text and "kcat -C -b" in text
    assert ("WARNING" in text) is False
    warned = template({**given, "topics": {"replicationFactor": 1}, "intake": {"replicas": 99}}, chart=chart)
    ((text,)) = [one["text"] for one in warned.of("Notes")]
    assert "WARNING: topics.replicationFactor is 1" in text and "WARNING: intake has 99 replicas" in text


class Cluster(BaseHTTPRequestHandler):
    """As much of a Kubernetes API as Helm's `lookup` asks for: what kinds there are, and some objects by path."""

    objects: Mapping[str, Object] = {}

    def do_GET(self) -> None:  # the name that http.server calls
        kinds = {"/api/v1": ("configmaps", "ConfigMap"), "/apis/apps/v1": ("statefulsets", "StatefulSet")}
        path = self.path.partition("?")[0]
        if path in kinds:
            name, kind = kinds[path]
            version = path.removeprefix("/apis/").removeprefix("/api/")
            resource = {
                "name": name,
                "singularName": kind.lower(),
                "namespaced": True,
                "kind": kind,
                "verbs": ["get", "list"],
            }
            return self._answer(200, {"kind": "APIResourceList", "groupVersion": version, "resources": [resource]})
        if path in self.objects:
            return self._answer(200, self.objects[path])
        return self._answer(
            404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        )

    def _answer(self, status: int, body: Object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def cluster_with(installed: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The flags for Helm to ask a cluster in which the chart is installed with some values."""
    places = {
        "ConfigMap": "/api/v1/namespaces/scraping/configmaps",
        "StatefulSet": "/apis/apps/v1/namespaces/scraping/statefulsets",
    }
    objects = {
        f"{places[one['kind']]}/{one['metadata']['name']}": one
        for one in template(installed).of("ConfigMap", "StatefulSet")
    }
    handler = type("Installed", (Cluster,), {"objects": objects})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ("--dry-run=server", "--kube-apiserver", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


OLD = {"pipelines": {"p": {"steps": [{"use": "fetch"}, {"use": "parse", "name": "classify"}]}}}
NEW = {"pipelines": {"p": {"steps": [{"use": "fetch"}]}}}

UPGRADES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (OLD, {**OLD, "topics": {"partitions": 16}}, "this release has 8 partitions, and with 16 keys would move"),
    (OLD, NEW, 'the step "classify" is in none any more.*add it to retiredSteps'),
    ({}, {"coordinator": {"persistence": {"size": "9Gi"}}}, "coordinator.persistence.size.*--cascade=orphan"),
    ({}, {"coordinator": {"persistence": {"enabled": False}}}, "coordinator.persistence.enabled.*--cascade=orphan"),
]


@pytest.mark.parametrize(("before", "after", "says"), UPGRADES)
def test_upgrades_that_would_harm_are_refused(before: dict[str, Any], after: dict[str, Any], says: str) -> None:
    """Where Helm can ask the cluster it refuses, with the reason and the way out, before anything is changed."""
    with cluster_with(before) as flags, pytest.raises(ChartRefused) as caught:
        template(after, *flags)
    assert re.search(says, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OLD, OLD),
        (OLD, {**NEW, "retiredSteps": ["classify"]}),
        ({**NEW, "retiredSteps": ["classify"]}, NEW),
        (OLD, {**NEW, "topics": {"prefix": "afresh", "partitions": 16}}),
        (OLD, {**OLD, "coordinator": {"replicas": 3}, "image": {"tag": "2"}}),
    ],
)
def test_other_upgrades_go_through(before: dict[str, Any], after: dict[str, Any]) -> None:
    """No change, a step retired first and dropped later, a fresh prefix, more pods: all fine."""
    with cluster_with(before) as flags:
        assert template(after, *flags).objects
