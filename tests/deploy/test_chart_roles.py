"""The chart runs each role as the role declares itself: its topics, its settings, its probes, what it may call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from processors.process.apps import group_of
from processors.process.health_server import PATHS
from processors.process.role import Role
from processors.process.roles import ROLES
from processors.process.step import step_role
from processors.settings.environment import PREFIX
from processors.settings.settings import SETTINGS, Settings
from tests.deploy.helm import CI, Object, Rendered, main_container, template

pytestmark = pytest.mark.timeout(300)

REGISTRY = {"url": "http://registry:8081", "user": "me", "existingSecret": "registry"}
#: Everything that values can say of what only some roles read.
EVERYTHING: dict[str, Any] = {
    "schemaRegistry": REGISTRY,
    "clickhouse": {"url": "http://clickhouse:8123", "existingSecret": "clickhouse"},
    "stepSecrets": ["enrich-api"],
    "allowAddresses": ["10.1.0.0/16"],
    "defaultPipeline": "default",
    "networkPolicy": {"enabled": True},
    "keda": {"enabled": True},
}


def deployed(rendered: Rendered) -> Iterator[tuple[Object, Object, Role]]:
    """Yield each workload that plays a role, its pod, and the role as it is declared."""
    for workload in rendered.of("Deployment", "StatefulSet"):
        pod = workload["spec"]["template"]
        if pod["metadata"]["labels"].get("scrapesaga/metrics") != "true":
            continue
        command, name = main_container(pod)["args"]
        assert command == "worker"
        yield workload, pod, ROLES.get(name) or step_role(name)


@pytest.mark.parametrize("values", CI)
def test_every_role_is_deployed_under_its_kind(values: str) -> None:
    """Each built-in role has a workload, unless values switch it off, and its pods carry the role's kind."""
    played = set()
    for workload, pod, role in deployed(template(values)):
        assert pod["metadata"]["labels"]["scrapesaga/kind"] == (role.kind or role.name)
        assert (workload["kind"] == "StatefulSet") == role.stateful, role.name
        played.add(role.name)
    assert ROLES.keys() - played <= {"auditor"}


def test_a_role_that_can_do_nothing_twice_has_one_pod() -> None:
    """Where no lag says how many there should be there is one, whatever is scaled."""
    counts = {
        role.name: workload["spec"]["replicas"]
        for workload, _, role in deployed(template({"keda": {"enabled": True}}))
        if not role.scales_by
    }
    assert counts == {"auditor": 1}


def test_scalers_are_made_of_the_roles() -> None:
    """KEDA watches, for each role that a moment's load may scale, the topic and the group that the role declares."""
    rendered = template(EVERYTHING)
    settings = Settings()
    wanted = {}
    for workload, pod, role in deployed(rendered):
        if role.scales_by and not role.stateful:
            steps = (role.name,) if pod["metadata"]["labels"]["scrapesaga/kind"] == "step" else ()
            topic = settings.catalogue(steps).topic(role.scales_by.replace("<step>", role.name))
            wanted[workload["metadata"]["name"]] = (topic.name, group_of(settings, role.group))
    found = {}
    for scaled in rendered.of("ScaledObject"):
        (trigger,) = scaled["spec"]["triggers"]
        about = trigger["metadata"]
        found[scaled["spec"]["scaleTargetRef"]["name"]] = (about["topic"], about["consumerGroup"])
    assert found == wanted
    assert len(found) == 5


def test_a_pod_is_told_what_its_role_reads_and_nothing_of_the_others() -> None:
    """Settings that only some roles declare are in the pods of those roles alone, and in all of them."""
    owners: dict[str, set[str]] = {}
    for role in (*ROLES.values(), step_role("fetch")):
        for field in role.settings:
            owners.setdefault(field, set()).add(role.kind or role.name)
    variables = {one: setting.field for setting in SETTINGS for one in setting.variables if setting.field in owners}
    given: dict[str, set[str]] = {}
    for _, pod, role in deployed(template(EVERYTHING)):
        for entry in main_container(pod)["env"]:
            if entry["name"] in variables:
                given.setdefault(variables[entry["name"]], set()).add(role.kind or role.name)
    # Every pod publishes, or resolves, the same pipelines.
    given.pop("default_pipeline")
    assert {field: given[field] - owners[field] for field in given} == {field: set() for field in given}
    assert {field: owners[field] - kinds for field, kinds in given.items()} == {field: set() for field in given}
    said = {f"{PREFIX}{field.upper()}" for field in given}
    assert said >= {f"{PREFIX}STORE", f"{PREFIX}SCHEMA_REGISTRY_URL", f"{PREFIX}CLICKHOUSE_PASSWORD"}


def test_only_who_calls_outside_may() -> None:
    """The policy that opens the world is over the roles that declare it; the others reach Kafka, DNS, the registry."""
    rendered = template(EVERYTHING)
    policies = [policy["spec"] for policy in rendered.of("NetworkPolicy")]
    for _, pod, role in deployed(rendered):
        kind = pod["metadata"]["labels"]["scrapesaga/kind"]
        (over,) = [one for one in policies if kind in one["podSelector"]["matchExpressions"][0]["values"]]
        assert ({} in over["egress"]) == role.calls_outside, role.name
        ports = {port["port"] for rule in over["egress"] for port in rule.get("ports", [])}
        if "schema_registry_url" in role.settings and not role.calls_outside:
            assert ports == {53, 5353, 9092, 8081}


@pytest.mark.parametrize(
    ("url", "port"), [("https://registry.example", 443), ("http://registry", 80), ("http://registry:99/api", 99)]
)
def test_the_registrys_port_is_that_of_its_address(url: str, port: int) -> None:
    """Written or not, the port of the address is open to intake."""
    rendered = template({"schemaRegistry": {"url": url}, "networkPolicy": {"enabled": True}})
    (engine,) = [one for one in rendered.of("NetworkPolicy") if one["metadata"]["name"].endswith("engine")]
    assert {"port": port, "protocol": "TCP"} in engine["spec"]["egress"][-1]["ports"]


@pytest.mark.parametrize("values", CI)
def test_probes_ask_for_what_the_process_answers(values: str) -> None:
    """Paths and port of each probe are those of the health server, at the port that the process is told."""
    for _, pod, role in deployed(template(values)):
        container = main_container(pod)
        port = {one["name"]: one["value"] for one in container["env"] if "value" in one}[f"{PREFIX}HTTP_PORT"]
        assert {one["name"]: str(one["containerPort"]) for one in container["ports"]}["http"] == port, role.name
        asked = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
        assert {one["port"] for one in asked.values()} <= {"http"}
        assert {one["path"] for one in asked.values()} <= set(PATHS)
        if "readinessProbe" in asked:
            assert asked["readinessProbe"]["path"] == "/ready"
