"""What the chart tells the engine is what the engine understands: settings, roles, pipelines, topics, groups, metrics."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import REGISTRY, CollectorRegistry
from typer.core import TyperGroup

from processors.cli.app import app
from processors.observability import metrics
from processors.pipeline.pipeline import read_pipelines
from processors.process.apps import group_of
from processors.process.provisioning import steps_served
from processors.process.roles import COORDINATOR, INTAKE
from processors.saga.plan import Plan
from processors.settings.settings import SETTINGS, Settings, Store
from tests.deploy.helm import CHART, CI, Object, Rendered, containers, environment, main_container, template
from topics.export import strimzi

pytestmark = pytest.mark.timeout(300)

DEPLOY = CHART.parents[1]
EXAMPLES = DEPLOY.parent / "examples" / "pipelines"
WITH_ENGINE = ("worker", "topics")


def engine_containers(pod: Object) -> Iterator[Object]:
    """The containers that run the engine's command line."""
    for container in containers(pod):
        if (container.get("args") or [""])[0] in WITH_ENGINE:
            yield container


def config_maps(rendered: Rendered) -> dict[str, dict[str, str]]:
    return {one["metadata"]["name"]: one["data"] for one in rendered.of("ConfigMap")}


def files_of(pod: Object, rendered: Rendered, folder: Path) -> None:
    """Put what a pod has mounted below a folder: ConfigMaps with their content, secrets with some."""
    maps = config_maps(rendered)
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for mount in main_container(pod)["volumeMounts"]:
        target = folder / mount["mountPath"].lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        volume = volumes.get(mount["name"], {})
        if "configMap" in volume:
            for name, text in maps[volume["configMap"]["name"]].items():
                (target / name).write_text(text)
        for source in volume.get("projected", {}).get("sources", []):
            (inner,) = source.values()
            for item in inner.get("items", []):
                (target / item["path"]).write_text("hunter2")


def settings_of(container: Object, folder: Path) -> Settings:
    """Read a container's settings as its process would, with its paths below a folder."""
    variables = environment(container)
    for one in container["env"]:
        variables.setdefault(one["name"], "from a Secret")
    moved = {name: re.sub(r"^/(etc|var)/", f"{folder}/\\1/", value) for name, value in variables.items()}
    return Settings.from_env(moved)


@pytest.mark.parametrize("values", CI)
def test_every_container_has_settings_that_work(values: str, tmp_path: Path) -> None:
    """The engine accepts the environment of each of its containers: no unknown variable, no missing file."""
    rendered = template(values)
    seen = 0
    for where, pod in rendered.pods():
        for container in engine_containers(pod):
            folder = tmp_path / str(seen)
            files_of(pod, rendered, folder)
            settings = settings_of(container, folder)
            assert settings.bootstrap_servers.startswith(("kafka", "events")), where
            assert settings.pipelines, where
            seen += 1
    assert seen >= 10


def test_values_become_settings(tmp_path: Path) -> None:
    """What was asked for in values is what the processes read, for all, for a role, and for one step."""
    rendered = template("production")
    read: dict[str, Settings] = {}
    for where, pod in rendered.workers():
        files_of(pod, rendered, tmp_path / where)
        read[where.rpartition("scrapesaga-")[2]] = settings_of(main_container(pod), tmp_path / where)
    fetch, enrich, coordinator, intake = (read[role] for role in ("step-fetch", "step-enrich", "coordinator", "intake"))
    assert (fetch.max_in_flight, enrich.max_in_flight) == (128, 64)
    assert (fetch.session_timeout.seconds, enrich.drain_timeout.seconds, fetch.drain_timeout.seconds) == (30, 60, 25)
    assert (coordinator.store, coordinator.standby_replicas, intake.store) == (Store.ROCKSDB, 1, Store.MEMORY)
    assert (fetch.sasl_username, fetch.sasl_password.reveal()) == ("scrapesaga", "hunter2")
    assert fetch.clickhouse_password.reveal() == "hunter2" == fetch.schema_registry_password.reveal()
    assert len(fetch.allow_addresses) == 2
    assert (intake.default_pipeline, intake.retired_steps) == ("shop-prices", ("classify",))
    # Who doesn't call anybody has no credentials for it.
    assert not intake.clickhouse_url and not coordinator.clickhouse_password and not intake.secrets_dir
    assert fetch.retention_dead_letters.total_seconds() == 129_600
    other = main_container(dict(rendered.workers())["Deployment shop-scrapesaga-step-fetch"])
    assert environment(other)["HTTPS_PROXY"] == "http://proxy:3128"


def command_line(args: list[str]) -> None:
    """Parse arguments as the command line does, without running anything. Raises UsageError."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("scrapesaga", list(args), resilient_parsing=False)
    while isinstance(command, TyperGroup):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest, parent=context)


@pytest.mark.parametrize("values", CI)
def test_commands_and_roles_exist(values: str, tmp_path: Path) -> None:
    """Every container's arguments are a command of the command line, and each role one of the engine's."""
    rendered = template(values)
    (tmp_path / "p").mkdir()
    steps = steps_of(rendered, tmp_path / "p")
    played = []
    for _, pod in rendered.pods():
        for container in engine_containers(pod):
            command_line(container["args"])
            if container["args"][0] == "worker":
                played.append(container["args"][1])
    audits = ["auditor"] if values != "openshift" else []
    assert sorted(played) == sorted([*steps, INTAKE, COORDINATOR, *audits])


def pipelines_of(rendered: Rendered, folder: Path) -> dict[str, Plan]:
    """Read the rendered pipelines as every role does."""
    for name, text in rendered.one("ConfigMap", "pipelines")["data"].items():
        (folder / name).write_text(text)
    return read_pipelines([folder])


def steps_of(rendered: Rendered, folder: Path) -> tuple[str, ...]:
    """The steps that the engine serves with the rendered pipelines."""
    intake = next(pod for where, pod in rendered.workers() if where.endswith("intake"))
    retired = environment(main_container(intake)).get("SCRAPESAGA_RETIRED_STEPS", "")
    return steps_served(
        Settings.from_env({"SCRAPESAGA_RETIRED_STEPS": retired}), pipelines_of(rendered, folder).values()
    )


@pytest.mark.parametrize("values", CI)
def test_pipelines_can_be_read(values: str, tmp_path: Path) -> None:
    """The engine reads what the ConfigMap holds, and each step of it has a Deployment, plugged-in record schema or not."""
    rendered = template(values)
    steps = steps_of(rendered, tmp_path)
    deployed = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"].removeprefix("step-")
        for where, pod in rendered.workers()
        if pod["metadata"]["labels"]["scrapesaga/kind"] == "step"
    }
    assert deployed == set(steps)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("way", ["values", "text"])
def test_a_pipeline_means_the_same_as_its_file(example: Path, way: str, tmp_path: Path) -> None:
    """Given as values or as text, a pipeline has the plan, hash and all, that its file has."""
    text = example.read_text()
    given = text if way == "text" else yaml.safe_load(text)
    plans = pipelines_of(template({"pipelines": {example.stem: given}}), tmp_path)
    assert plans[example.stem].hash == read_pipelines([example])[example.stem].hash


def test_numbers_and_odd_words_survive(tmp_path: Path) -> None:
    """Large numbers don't become 1e+07, and quoted words that YAML takes for booleans stay words."""
    spec = {
        "record": "product",
        "steps": [
            {
                "use": "fetch",
                "name": "on",
                "with": {"max_bytes": 16_000_000, "headers": {"y": "n", "X": "0123", "off": "1e3"}},
            },
            {
                "use": "enrich",
                "name": "no",
                "with": {"url": "https://a.example/", "cost": 0.0000001, "cap": 10_000_000},
            },
        ],
    }
    (tmp_path / "direct").mkdir()
    (tmp_path / "chart").mkdir()
    (tmp_path / "direct" / "p.yaml").write_text(yaml.safe_dump({"name": "p", **spec}))
    values = {"pipelines": {"p": spec}, "tests": {"enabled": False}}
    assert pipelines_of(template(values), tmp_path / "chart")["p"] == read_pipelines([tmp_path / "direct"])["p"]
    rendered = template(
        {"settings": {"MAX_PAGE_SIZE": 10_485_760, "RETENTION_URLS": "7d"}, "topics": {"partitions": 100_000}}
    )
    variables = environment(main_container(next(rendered.workers())[1]))
    assert (variables["SCRAPESAGA_MAX_PAGE_SIZE"], variables["SCRAPESAGA_PARTITIONS"]) == ("10485760", "100000")


@pytest.mark.parametrize(
    ("pipelines", "default", "expected"),
    [
        ({}, "", "default"),
        ({"a": {"steps": [{"use": "fetch"}]}}, "", "a"),
        ({"a": {"steps": [{"use": "fetch"}]}, "b": {"steps": [{"use": "fetch"}]}}, "", None),
        ({"a": {"steps": [{"use": "fetch"}]}, "b": {"steps": [{"use": "fetch"}]}}, "b", "b"),
    ],
)
def test_the_tests_pipeline_is_never_the_default(pipelines: Any, default: str, expected: str | None) -> None:
    """A request that names no pipeline goes where it would without the pipeline of `helm test`."""
    rendered = template({"pipelines": pipelines, "defaultPipeline": default})
    variables = environment(main_container(next(rendered.workers())[1]))
    assert variables.get("SCRAPESAGA_DEFAULT_PIPELINE") == expected


def test_the_release_test_needs_no_deployment_of_its_own() -> None:
    """Its pipeline borrows the names of steps that are there, so that tests don't change what runs."""
    for steps in (
        [{"use": "fetch", "name": "get"}, {"use": "load"}],
        [{"use": "a.b:One"}, {"use": "a.b:Two"}, {"use": "notify"}],
    ):
        values = {"pipelines": {"p": {"steps": steps}}}
        with_, without = template(values), template({**values, "tests": {"enabled": False}})
        assert len(with_.of("Deployment")) == len(without.of("Deployment")) == len(steps) + 2


def test_load_is_part_of_the_default_where_there_is_a_clickhouse(tmp_path: Path) -> None:
    """Without pipelines of one's own, a ClickHouse is used if one is named."""
    plans = pipelines_of(template({"clickhouse": {"url": "http://clickhouse:8123"}}), tmp_path)
    assert [step.name for step in plans["default"].steps] == ["fetch", "parse", "load", "notify"]


TOPICS: list[dict[str, Any]] = [
    {},
    {"prefix": "My_Shop.raw", "partitions": 3, "replicationFactor": 1, "maxPageSize": "1.5 MB"},
    {
        "maxPageSize": 2_000_000,
        "retention": {"urls": "1d2h3m4s5ms", "pages": "1.5h", "history": "90m", "deadLetters": "61s250ms"},
    },
]


@pytest.mark.parametrize("topics", TOPICS)
def test_strimzi_topics_are_the_catalogue(topics: dict[str, Any], tmp_path: Path) -> None:
    """The KafkaTopics are those that the engine's own catalogue exports, to the last configuration value."""
    values = {
        "topics": {**topics, "provisioning": "strimzi", "strimzi": {"cluster": "events"}},
        "pipelines": {
            "p": {"steps": [{"use": "fetch"}, {"use": "parse", "name": "read_it", "with": {"preset": "product"}}]}
        },
        "retiredSteps": ["old"],
    }
    rendered = template(values)
    where, pod = next(rendered.workers())
    files_of(pod, rendered, tmp_path)
    settings = settings_of(main_container(pod), tmp_path)
    steps = steps_of(rendered, tmp_path / "etc" / "scrapesaga" / "pipelines")
    expected = {one["spec"]["topicName"]: one for one in strimzi(settings.catalogue(steps), cluster="events")}
    found = {one["spec"]["topicName"]: one for one in rendered.of("KafkaTopic")}
    assert found.keys() == expected.keys() and len(found) == 14, where
    for name, one in expected.items():
        assert found[name]["spec"] == one["spec"]
        assert found[name]["metadata"]["name"] == one["metadata"]["name"]
        assert found[name]["apiVersion"] == one["apiVersion"]
        assert found[name]["metadata"]["labels"]["strimzi.io/cluster"] == "events"
        assert found[name]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_scalers_watch_the_groups_and_topics_of_the_engine() -> None:
    """KEDA asks for the lag of the consumer group that the role really has; no autoscaler goes beyond the partitions."""
    rendered = template("production")
    settings = Settings.from_env({"SCRAPESAGA_TOPIC_PREFIX": "shop", "SCRAPESAGA_PARTITIONS": "24"})
    catalogue = settings.catalogue(("fetch",))
    expected = {
        "shop-scrapesaga-intake": (group_of(settings, "intake"), catalogue.urls.name),
        "shop-scrapesaga-step-fetch": (group_of(settings, "step:fetch"), catalogue.commands("fetch").name),
    }
    found = {}
    for scaled in rendered.of("ScaledObject"):
        (trigger,) = scaled["spec"]["triggers"]
        about = trigger["metadata"]
        found[scaled["metadata"]["name"]] = (about["consumerGroup"], about["topic"])
        assert scaled["spec"]["maxReplicaCount"] == 24
        assert (about["sasl"], about["tls"]) == ("scram_sha512", "enable")
        # Kafka 4 refuses what KEDA speaks by default.
        assert about["version"] == "2.8.0"
        assert all(isinstance(value, str) for value in about.values())
        (authentication,) = rendered.of("TriggerAuthentication")
        assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
    assert found == expected
    scaled_names = {*found, "shop-scrapesaga-step-parse"}
    for deployment in rendered.of("Deployment"):
        # A number here would undo, at each upgrade, what the autoscaler did.
        assert ("replicas" in deployment["spec"]) != (deployment["metadata"]["name"] in scaled_names)
    (hpa,) = rendered.of("HorizontalPodAutoscaler")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (2, 6)
    for one in template({"autoscaling": {"enabled": True, "maxReplicas": 50}}).of("HorizontalPodAutoscaler"):
        assert one["spec"]["maxReplicas"] == 8


def series(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Every series name that the engine can show, with its labels."""
    found: dict[str, set[str]] = {}
    for name, metric in vars(metrics).items():
        labels = getattr(metric, "_labelnames", None)
        if name.startswith("_") or labels is None:
            continue
        base = metric._name
        kinds = {"Counter": ["_total"], "Histogram": ["_bucket", "_count", "_sum"]}.get(type(metric).__name__, [""])
        for kind in kinds:
            found[base + kind] = set(labels) | ({"le"} if kind == "_bucket" else set())
    for family in registry.collect():
        if family.name.startswith("process_"):
            found |= {sample.name: set() for sample in family.samples}
    return found


#: What Prometheus adds to every series of a pod.
OF_THE_TARGET = {"namespace", "pod"}


def check_expression(expression: str) -> None:
    """Every series of an expression exists, with every label that it is asked for."""
    known = series(REGISTRY)
    selected = re.findall(r"\b((?:scrapesaga|process)_[a-z_]+)(?:\{([^}]*)\})?", expression)
    assert selected, expression
    for name, matchers in selected:
        assert name in known, f"no metric {name}"
        labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers))
        assert labels >= OF_THE_TARGET, f"{name} isn't limited to the release"
        assert labels <= known[name] | OF_THE_TARGET, f"{name} has no {labels - known[name] - OF_THE_TARGET}"
    known_labels = OF_THE_TARGET.union(*(known[name] for name, _ in selected))
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= known_labels, expression


def test_alerts_ask_for_metrics_that_exist() -> None:
    """Every alert's expression names metrics and labels of the engine, and says what to do by commands that exist."""
    (rule,) = template("production").of("PrometheusRule")
    (group,) = rule["spec"]["groups"]
    names = [one["alert"] for one in group["rules"]]
    assert len(set(names) - {"ScrapesagaRoleDown"}) >= 10
    for one in group["rules"]:
        check_expression(one["expr"])
        assert one["labels"]["severity"] in ("critical", "warning", "info")
        assert one["annotations"].keys() == {"summary", "description"}
        for command in re.findall(r"`scrapesaga ([^`]+)`", one["annotations"]["description"]):
            command_line(re.sub(r"\b[A-Z]{3,}\b", "x", command).split())
    down = {one["labels"]["role"] for one in group["rules"] if one["alert"] == "ScrapesagaRoleDown"}
    assert down == {"intake", "coordinator", "fetch", "parse", "enrich", "load", "notify", "classify", "auditor"}


def test_alerts_can_be_left_out_and_added() -> None:
    """By name; a name that no alert has is refused."""
    rule = {
        "enabled": True,
        "disabled": ["ScrapesagaLateEffects", "ScrapesagaRoleDown"],
        "rules": [{"alert": "Mine", "expr": "1"}],
    }
    (found,) = template({"metrics": {"prometheusRule": rule}}).of("PrometheusRule")
    names = {one["alert"] for one in found["spec"]["groups"][0]["rules"]}
    assert "Mine" in names and "ScrapesagaSagaParked" in names
    assert not names & {"ScrapesagaLateEffects", "ScrapesagaRoleDown"}


def test_dashboard_asks_for_metrics_that_exist() -> None:
    """The dashboard is JSON that Grafana imports, and every panel's query names metrics and labels of the engine."""
    dashboard = template("production").one("ConfigMap", "dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = json.loads(dashboard["data"]["scrapesaga.json"])["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(queries) >= 20
    for query in queries:
        check_expression(query.replace("$__rate_interval", "5m"))


@pytest.mark.parametrize("script", ["dashboard.py", "chart_readme.py"])
def test_made_files_are_up_to_date(script: str) -> None:
    """README.md and dashboard.json are what their scripts make of values.yaml and of the table of panels."""
    done = subprocess.run(
        [sys.executable, str(DEPLOY / script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_retention_values_are_all_settings() -> None:
    """Each topic's retention that the engine knows can be said in values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    settings = {setting.field for setting in SETTINGS if setting.field.startswith("retention_")}
    said = {re.sub("([A-Z])", r"_\1", key).lower() for key in values["topics"]["retention"]}
    assert {f"retention_{key}" for key in said} == settings
