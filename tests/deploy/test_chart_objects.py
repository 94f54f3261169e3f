"""What the chart renders is valid, restricted, consistent with itself, and stable over versions."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.helm import CHART, CI, Object, Rendered, containers, main_container, run, template

pytestmark = pytest.mark.timeout(300)

#: The oldest that the chart's README promises, and the newest that the validator knows.
OLDEST, NEWEST = "1.27", kubernetes_validate.latest_version()

# A release's name and step names as long as Helm and the engine take them; two that differ by an underscore only.
LONG_RELEASE = "r" * 53
LONG_STEPS = ["a" * 40, "a" * 39 + "b", "a_b", "a-b", "_".join("x" * 20), "9"]
LONG_VALUES: dict[str, Any] = {
    "pipelines": {"p" * 40: {"steps": [{"use": "fetch", "name": name} for name in LONG_STEPS]}},
    "autoscaling": {"enabled": True},
    "metrics": {"podMonitor": {"enabled": True}, "dashboard": {"enabled": True}},
    "networkPolicy": {"enabled": True},
}


@pytest.fixture(params=CI)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """Each of the installations in the chart's ci/ folder."""
    name: str = request.param
    return template(name)


@pytest.mark.parametrize("values", CI)
def test_lint_finds_nothing(values: str) -> None:
    """`helm lint --strict` is content with every set of values."""
    assert "0 chart(s) failed" in run("lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{values}.yaml"))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_are_valid(rendered: Rendered, version: str) -> None:
    """Every object of Kubernetes' own kinds has only fields that its schema has, in the oldest and newest version."""
    ours = [one for one in rendered.objects if not re.search(r"\.(sh|io|com)/", one["apiVersion"])]
    ours += [one for one in rendered.objects if ".k8s.io/" in one["apiVersion"]]
    assert len(ours) > 10
    for one in ours:
        kubernetes_validate.validate(one, version, strict=True)


def test_pods_are_restricted(rendered: Rendered) -> None:
    """Every pod keeps the restricted profile of Pod Security, and more: a read-only root and no token."""
    for where, pod in rendered.pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["enableServiceLinks"] is False, where
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers"}, where
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "projected", "persistentVolumeClaim", "secret"}, where
        for container in containers(pod):
            if container["name"] in ("wait-for-mesh", "proxy"):
                continue  # The user's own.
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, (where, container["name"])
            assert context["capabilities"] == {"drop": ["ALL"]}, (where, container["name"])
            assert context["readOnlyRootFilesystem"] is True, (where, container["name"])
            assert "hostPort" not in str(container.get("ports")), where
            assert container["resources"]["requests"].keys() >= {"cpu"}, (where, container["name"])


def test_what_a_pod_writes_to_is_a_volume(rendered: Rendered) -> None:
    """With a read-only root, /tmp and the data folder are volumes, and every mount has its volume."""
    for where, pod in rendered.pods():
        claimed = {"data"} if where.startswith("StatefulSet") else set()
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | claimed
        for container in containers(pod):
            mounts = container.get("volumeMounts", [])
            assert {mount["name"] for mount in mounts} <= volumes, (where, container["name"])
            paths = [mount["mountPath"] for mount in mounts]
            assert len(paths) == len(set(paths)), (where, container["name"])
        assert {"/tmp", "/var/lib/scrapesaga"} <= {one["mountPath"] for one in main_container(pod)["volumeMounts"]}


def test_every_worker_is_probed(rendered: Rendered) -> None:
    """Ready is asked of /ready and live of /live, at the port that the settings open."""
    workers = list(rendered.workers())
    assert len(workers) >= 5
    for where, pod in workers:
        container = main_container(pod)
        for probe, path in (("startupProbe", "/live"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")):
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}, (where, probe)
        (port,) = container["ports"]
        assert {"name": "SCRAPESAGA_HTTP_PORT", "value": str(port["containerPort"])} in container["env"], where


def test_no_worker_starts_before_its_topics(rendered: Rendered) -> None:
    """The last thing before a worker is to wait for the topics, with the worker's own settings."""
    for where, pod in rendered.workers():
        wait = pod["spec"]["initContainers"][-1]
        assert wait["args"][:3] == ["topics", "verify", "--wait"], where
        assert wait["env"] == main_container(pod)["env"], where


def selected_by(one: Object) -> list[dict[str, str]]:
    match one["kind"]:
        case "Service":
            return [one["spec"]["selector"]]
        case "PodMonitor":
            return [one["spec"]["selector"]["matchLabels"]]
        case "Deployment" | "StatefulSet" | "PodDisruptionBudget":
            return [one["spec"]["selector"]["matchLabels"]]
        case _:
            return []


def test_selectors_find_their_pods_and_no_others(rendered: Rendered) -> None:
    """Each selector matches pods; those of a workload match its own alone."""
    labels = {where: pod["metadata"]["labels"] for where, pod in rendered.pods()}
    for one in rendered.objects:
        for selector in selected_by(one):
            found = [where for where, has in labels.items() if selector.items() <= has.items()]
            assert found, (one["kind"], one["metadata"]["name"], selector)
            if one["kind"] in ("Deployment", "StatefulSet"):
                assert found == [f"{one['kind']} {one['metadata']['name']}"]
            if one["kind"] == "PodDisruptionBudget":
                assert len(found) == 1


def test_pods_spread_by_their_own_labels(rendered: Rendered) -> None:
    """Spreading counts the pods of the same role only; none keeps a pod from a cluster of one node unless asked to."""
    for where, pod in rendered.workers():
        constraints = pod["spec"]["topologySpreadConstraints"]
        keys = [one["topologyKey"] for one in constraints]
        assert keys[:2] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"], where
        for one in constraints:
            assert one["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), where
            assert one["whenUnsatisfiable"] == ("DoNotSchedule" if one["topologyKey"] == "rack" else "ScheduleAnyway")


def test_network_policies_cover_every_pod() -> None:
    """Each pod, those of hooks and tests too, is under one policy, which lets it reach DNS and Kafka."""
    for values in ("production", "openshift"):
        objects = template(values)
        policies = [one["spec"] for one in objects.of("NetworkPolicy")]
        for where, pod in objects.pods():
            labels = pod["metadata"]["labels"]
            over = []
            for policy in policies:
                (kinds,) = policy["podSelector"]["matchExpressions"]
                if (
                    policy["podSelector"]["matchLabels"].items() <= labels.items()
                    and labels[kinds["key"]] in kinds["values"]
                ):
                    over.append(policy)
            assert len(over) == 1, where
            ports = {port["port"] for rule in over[0]["egress"] for port in rule.get("ports", [])}
            assert ports >= ({53, 9093} if values == "production" else {53, 9092, 9095}), where


NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def labels_in(value: Any, path: str = "") -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            if key in ("labels", "matchLabels") and isinstance(inside, dict):
                yield inside
            yield from labels_in(inside, f"{path}.{key}")
    elif isinstance(value, list):
        for inside in value:
            yield from labels_in(inside, path)


@pytest.mark.parametrize("override", ["", "f" * 63])
def test_names_fit_and_are_one_of_a_kind(override: str) -> None:
    """With the longest names of release and steps every name and label is one that Kubernetes takes, none twice."""
    values = {**LONG_VALUES, "fullnameOverride": override}
    rendered = template(values, release=LONG_RELEASE)
    names = Counter((one["kind"], one["metadata"]["name"]) for one in rendered.objects)
    assert max(names.values()) == 1
    for kind, name in names:
        # A StatefulSet's pods carry "<name>-<hash of ten>" as a label; a Job's pods "<name>-<five>" as their name.
        longest = {"StatefulSet": 52, "Job": 57}.get(kind, 63)
        assert len(name) <= longest and NAME.fullmatch(name), (kind, name)
    for one in rendered.objects:
        for labels in labels_in(one):
            for key, value in labels.items():
                assert len(value) <= 63 and re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", value), (
                    key,
                    value,
                )
    # Every step has its Deployment, under a label that says which.
    components = {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for one in rendered.of("Deployment")
    }
    assert {f"step-{name}" for name in LONG_STEPS} <= components
    names_of_containers = [c["name"] for _, pod in rendered.pods() for c in containers(pod)]
    assert all(len(name) <= 63 for name in names_of_containers)


def test_what_cannot_be_changed_stays_over_versions(tmp_path: Path) -> None:
    """Another version of chart and image, and other labels, leave selectors, claims and the service's name as they are."""
    newer = tmp_path / "scrapesaga"
    shutil.copytree(CHART, newer)
    chart = yaml.safe_load((newer / "Chart.yaml").read_text())
    (newer / "Chart.yaml").write_text(yaml.safe_dump({**chart, "version": "9.9.9+build.7", "appVersion": "9.9.9"}))
    before = template("minimal")
    after = template({"commonLabels": {"a": "b"}, "podLabels": {"c": "d"}, "image": {"tag": "x"}}, chart=newer)

    def fixed(rendered: Rendered) -> dict[str, Any]:
        (state,) = rendered.of("StatefulSet")
        spec = state["spec"]
        selectors = {
            one["metadata"]["name"]: one["spec"]["selector"] for one in rendered.of("Deployment", "StatefulSet")
        }
        return {
            "selectors": selectors,
            "claims": spec["volumeClaimTemplates"],
            "service": spec["serviceName"],
            "management": spec["podManagementPolicy"],
        }

    assert fixed(before) == fixed(after)
    assert "9.9.9" in str(after.objects)


def test_plain_job_is_named_by_its_content() -> None:
    """The same values make the same Job; any difference in it makes another one, as a Job can't be changed."""
    plain = {"useHelmHooks": False, "podDisruptionBudget": {"enabled": True}}

    def job(**values: Any) -> Object:
        (found,) = template({**plain, **values}).of("Job")
        return found

    assert job()["metadata"]["name"] == job(steps={"fetch": {"replicas": 5}})["metadata"]["name"]
    for other in (
        {"topics": {"partitions": 4}},
        {"image": {"tag": "2"}},
        {"pipelines": {"p": {"steps": [{"use": "fetch"}]}}},
    ):
        assert job(**other)["metadata"]["name"] != job()["metadata"]["name"], other
    assert "helm.sh/hook" not in job()["metadata"]["annotations"]


def test_hook_job_needs_nothing_of_the_release() -> None:
    """Before the first install only the hook's own objects exist: the Job refers to no others, and they come first."""
    rendered = template("minimal")
    job = rendered.one("Job", "topics")
    hooks = {
        (one["kind"], one["metadata"]["name"]): one["metadata"]["annotations"]
        for one in rendered.objects
        if "pre-install" in one["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    }
    spec = job["spec"]["template"]["spec"]
    (config,) = [volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume]
    for needed in (("ConfigMap", config), ("ServiceAccount", spec["serviceAccountName"])):
        assert int(hooks[needed]["helm.sh/hook-weight"]) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    # The copy is the release's own pipelines, and none of the hook's objects is one of the release's.
    assert rendered.one("ConfigMap", config)["data"] == rendered.one("ConfigMap", "pipelines")["data"]
    names = Counter((one["kind"], one["metadata"]["name"]) for one in rendered.objects)
    assert max(names.values()) == 1
    events = hooks["Job", job["metadata"]["name"]]["helm.sh/hook"].split(",")
    assert events == ["pre-install", "pre-upgrade", "pre-rollback"]


def test_hooks_of_the_test_are_pods(rendered: Rendered) -> None:
    """`helm test --logs` asks for the logs of every hook of the test, so that each of them has to be a pod."""
    for one in rendered.objects:
        if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "test":
            assert one["kind"] == "Pod", one["metadata"]["name"]


def test_argo_cd_makes_the_topics_first() -> None:
    """Without hooks the sync waves bring what the Job needs, then the Job, then the workers."""
    rendered = template("argocd")
    waves = {
        one["kind"]: int(one["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0))
        for one in rendered.objects
        if one["kind"] in ("Job", "Deployment", "StatefulSet")
    }
    config = rendered.one("ConfigMap", "pipelines")["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]
    assert int(config) < waves["Job"] < waves["Deployment"] == waves["StatefulSet"] == 0


def test_grace_period_covers_the_hand_over() -> None:
    """A pod is left alone for longer than its worker may take to stop, 1.2 times its drain timeout."""
    pods = dict(template("production").workers())
    for where, pod in pods.items():
        drain_s = 60 if where.endswith("step-enrich") else 25
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain_s * 1.2 + 15, where


def test_images_are_named_in_each_way() -> None:
    """Registry, repository, tag and digest make one reference; pull secrets are names or objects."""
    pod = dict(template("production").workers())["Deployment shop-scrapesaga-intake"]
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    assert main_container(pod)["image"] == f"registry.example:5000/scraping/scrapesaga@{digest}"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull-one"}, {"name": "pull-two"}]
    values = {"global": {"imageRegistry": "mirror.example", "imagePullSecrets": ["g"]}, "image": {"tag": 1.5}}
    pod = dict(template(values).workers())["Deployment shop-scrapesaga-intake"]
    assert main_container(pod)["image"] == "mirror.example/scrapesaga:1.5"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "g"}]
