"""`scrapesaga topics export`: the topics that would be applied, in the words of the tools that make them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from processors.cli.app import app
from processors.settings.settings import Settings
from topics.export import describe

PIPELINE = "name: p\nrecord: offer\nsteps:\n  - {use: fetch, name: get_page}\n  - use: notify\n"
OFFER = '{"type": "record", "name": "Offer", "fields": [{"name": "sku", "type": "string"}]}'


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings of a pipeline with two steps, one of them with a name that no Kubernetes object can have."""
    (tmp_path / "p.yaml").write_text(PIPELINE, "utf-8")
    (tmp_path / "offer.avsc").write_text(OFFER, "utf-8")
    return {
        "SCRAPESAGA_PIPELINES": str(tmp_path / "p.yaml"),
        "SCRAPESAGA_SCHEMAS_DIR": str(tmp_path),
        "SCRAPESAGA_PARTITIONS": "12",
        "SCRAPESAGA_REPLICATION_FACTOR": "3",
        # Nobody listens there.
        "SCRAPESAGA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }


def run(environment: dict[str, str], *arguments: str) -> str:
    """Run the command; return what it wrote."""
    result = CliRunner().invoke(app, ["topics", "export", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_strimzi_manifests_declare_every_topic(environment: dict[str, str]) -> None:
    """One KafkaTopic a topic, with its real name, counts and configuration, of the cluster and namespace named."""
    text = run(environment, "--format", "strimzi", "--cluster", "main", "--namespace", "scraping")
    manifests = list(yaml.safe_load_all(text))
    catalogue = Settings.from_env(environment).catalogue(("get_page", "notify"))
    assert {one["spec"]["topicName"]: one["spec"]["config"] for one in manifests} == {
        topic.name: dict(topic.config) for topic in catalogue
    }
    assert {(one["apiVersion"], one["kind"]) for one in manifests} == {("kafka.strimzi.io/v1", "KafkaTopic")}
    assert {one["metadata"]["labels"]["strimzi.io/cluster"] for one in manifests} == {"main"}
    assert {one["metadata"]["namespace"] for one in manifests} == {"scraping"}
    (commands,) = [one for one in manifests if one["spec"]["topicName"] == "scrape.get_page.commands"]
    assert (commands["spec"]["partitions"], commands["spec"]["replicas"]) == (12, 3)
    assert "_" not in commands["metadata"]["name"]


def test_an_older_strimzi_is_spoken_to_in_its_version(environment: dict[str, str]) -> None:
    """The API version can be chosen."""
    version = "kafka.strimzi.io/v1beta2"
    text = run(environment, "--format", "strimzi", "--cluster", "main", "--api-version", version)
    assert {one["apiVersion"] for one in yaml.safe_load_all(text)} == {version}


def test_strimzi_needs_its_cluster(environment: dict[str, str]) -> None:
    """A KafkaTopic without the label of a cluster would be ignored by every operator."""
    result = CliRunner().invoke(app, ["topics", "export", "--format", "strimzi"], env=environment)
    assert result.exit_code == 2 and "--cluster" in result.output


def test_json_and_a_table_are_told_too(environment: dict[str, str]) -> None:
    """JSON is the catalogue, for programs; the table is docs/topics.md's."""
    catalogue = Settings.from_env(environment).catalogue(("get_page", "notify"))
    assert json.loads(run(environment)) == describe(catalogue)
    assert "| `scrape.<step>.commands` | 12 |" in run(environment, "--format", "table")
