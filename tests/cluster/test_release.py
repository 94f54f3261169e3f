"""A release from its installation to its end, on a real cluster: each test goes on from where the one before left it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from confluent_kafka import Producer

from processors.demo import observations as outside
from processors.demo.demo import PRICE
from processors.demo.verdict import DemoVerdict, Observed, judge
from processors.messages.scrape_request import ScrapeRequest, encode_request
from tests.cluster.conftest import API, IMAGE, PIPELINE, PREFIX, Ground
from tests.cluster.kubernetes import CommandFailed

# Pods that start on a busy node, a session timeout, and a rebalance.
WITHIN_S = 600.0
ENDED = ("COMPLETED", "COMPENSATED", "PARKED")
FIRST, KILLED, OLD_PLAN, NEW_PLAN, ROLLED_BACK = (
    range(1, 41),
    range(41, 141),
    range(141, 241),
    range(241, 281),
    range(281, 381),
)

pytestmark = pytest.mark.timeout(2400)


def pipeline(endpoint: str) -> dict[str, Any]:
    """The pipeline, whose paid step asks one endpoint of the API or the other."""
    retry = {"attempts": 8, "base": "200ms", "cap": "2s"}
    answers = {"enrich": ["category", "brand_normalised", "price_eur"], "classify": ["label", "confidence"]}
    return {
        "record": "product",
        "steps": [
            # Slow on purpose: a batch of a hundred takes half a minute, so that what happens, happens in its middle.
            {"use": "fetch", "timeout": "10s", "retry": retry, "with": {"host_concurrency": 2, "host_delay": "250ms"}},
            {
                "use": "parse",
                "with": {
                    "preset": "product",
                    "fields": {"price": PRICE},
                },
            },
            {
                "use": "enrich",
                "timeout": "3s",
                "retry": retry,
                "undo": {"timeout": "3s", "retry": {"base": "200ms", "cap": "2s"}},
                "with": {
                    "url": f"{API}/{endpoint}",
                    "auth": {"bearer": "SHOP_API_TOKEN"},
                    "cost": "0.002",
                    "response": {field: field for field in answers[endpoint]},
                    "cancel": {"url": f"{API}/cancel", "body": {"key": "{key}"}},
                },
            },
            {"use": "notify"},
        ],
    }


def values(endpoint: str = "enrich") -> dict[str, Any]:
    """The values of the release; the pipeline by one endpoint of the API or the other."""
    repository, _, tag = IMAGE.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "kafka": {"bootstrapServers": "kafka:9092"},
        "topics": {"partitions": 4, "replicationFactor": 1},
        "pipelines": {PIPELINE: pipeline(endpoint)},
        "stepSecrets": ["api"],
        # Where clusters have their services and pods.
        "allowAddresses": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"],
        "coordinator": {
            "persistence": {
                "size": "1Gi",
                "storageClass": os.environ.get("SCRAPESAGA_CLUSTER_STORAGE_CLASS", ""),
                "retentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            }
        },
    }


def submit(ground: Ground, numbers: range) -> None:
    """Produce one request for each product, as any client of Kafka does."""
    producer = Producer({"bootstrap.servers": ground.kafka, "acks": "all", "enable.idempotence": True})
    for url in ground.urls(numbers):
        producer.produce(f"{PREFIX}.urls", value=encode_request(ScrapeRequest(url=url, label="cluster")))
    assert producer.flush(60) == 0


def wait_until(what: str, seen: Callable[[], str]) -> None:
    """Look until nothing is missing any more; fail with what is missing."""
    give_up = time.monotonic() + WITHIN_S
    while missing := seen():
        if time.monotonic() > give_up:
            pytest.fail(f"{what}, but after {WITHIN_S:.0f} s: {missing}")
        time.sleep(1)


def wait_for_progress(ground: Ground, numbers: range, *, accepted: int, ended: int) -> None:
    """Wait until so many jobs of a batch have a state, and so many of them have ended."""
    jobs = ground.jobs(numbers)

    def seen() -> str:
        phases = Counter(str(state["phase"]) for job, state in ground.states().items() if job in jobs)
        done = sum(phases[phase] for phase in ENDED)
        return "" if phases.total() >= accepted and done >= ended else f"of {len(jobs)} jobs {dict(phases)}"

    wait_until(f"{accepted} accepted and {ended} ended", seen)


def running(ground: Ground, numbers: range) -> int:
    """Return how many jobs of a batch have begun and not ended."""
    jobs = ground.jobs(numbers)
    return sum(job in jobs and state["phase"] not in ENDED for job, state in ground.states().items())


def judged(ground: Ground, numbers: range) -> DemoVerdict:
    """Wait for the end of a batch; judge it by the topics and by the API's invoices."""
    wait_for_progress(ground, numbers, accepted=len(numbers), ended=len(numbers))
    jobs = ground.jobs(numbers)
    reader = ground.reader()
    states = {job: state for job, state in ground.states().items() if job in jobs}
    records = frozenset(key.decode() for key in outside.compacted(reader, f"{PREFIX}.records")) & jobs.keys()
    letters = outside.dead_letters(reader, f"{PREFIX}.dead-letters")
    return judge(
        Observed(
            expected=jobs,
            phases={job: str(state["phase"]) for job, state in states.items()},
            rejected=0,
            set_aside=len(letters),
            # No warehouse here: what the topic shows is all that there is to show.
            warehouse=records,
            records=records,
            invoices=tuple(one for one in outside.invoices(ground.api) if job_of(one) in jobs),
            reasons={job: f"{state['failed_step']}: {state['reason']}" for job, state in states.items()},
        )
    )


def job_of(invoice: Mapping[str, object]) -> str:
    """Return the job that a paid call was for."""
    return str(invoice["key"]).rsplit(":", 2)[0]


def endpoints(ground: Ground, numbers: range) -> set[str]:
    """Return which of the API's endpoints a batch has paid."""
    jobs = ground.jobs(numbers)
    return {str(one["endpoint"]).strip("/") for one in outside.invoices(ground.api) if job_of(one) in jobs}


def test_a_release_is_ready_under_restricted_pod_security(ground: Ground) -> None:
    """`helm install --wait` ends with every pod ready: topics are there, partitions assigned, tables recovered."""
    ground.namespace.upgrade(values())
    pods = ground.namespace.pods("app.kubernetes.io/instance=shop,scrapesaga/metrics=true")
    assert len(pods) >= 6
    for name, pod in pods.items():
        restarts = [status["restartCount"] for status in pod["status"]["containerStatuses"]]
        assert restarts == [0], f"{name} was restarted"


def test_its_own_test_passes(ground: Ground) -> None:
    """`helm test` takes one saga through the release, and one that has to be undone."""
    ground.namespace.helm("test", "shop", "--timeout", "600s", "--logs")


def test_a_batch_keeps_every_promise(ground: Ground) -> None:
    """Of a shop that misbehaves every job ends as shop and API make it end; nothing is paid twice or half-written."""
    submit(ground, FIRST)
    verdict = judged(ground, FIRST)
    assert not verdict.problems, verdict
    assert verdict.completed and verdict.compensated


def test_a_coordinator_killed_in_mid_load_loses_and_repeats_nothing(ground: Ground) -> None:
    """Its pod dies without a word; the next one goes on from the volume and the topics."""
    submit(ground, KILLED)
    wait_for_progress(ground, KILLED, accepted=len(KILLED) // 2, ended=10)
    before = ground.namespace.pods("scrapesaga/kind=coordinator")
    assert running(ground, KILLED) > 0
    ground.namespace.kubectl("delete", "pod", *before, "--grace-period=0", "--force")
    verdict = judged(ground, KILLED)
    assert not verdict.problems, verdict
    after = ground.namespace.pods("scrapesaga/kind=coordinator")
    assert {pod["metadata"]["uid"] for pod in before.values()}.isdisjoint(
        pod["metadata"]["uid"] for pod in after.values()
    )


def test_an_upgrade_leaves_sagas_in_flight_on_their_plan(ground: Ground) -> None:
    """Jobs accepted before a changed pipeline end by the old one, those after by the new one, and none is disturbed."""
    submit(ground, OLD_PLAN)
    wait_for_progress(ground, OLD_PLAN, accepted=len(OLD_PLAN), ended=5)
    assert running(ground, OLD_PLAN) > len(OLD_PLAN) // 2
    ground.namespace.upgrade(values("classify"))
    submit(ground, NEW_PLAN)
    for numbers, endpoint in ((OLD_PLAN, "enrich"), (NEW_PLAN, "classify")):
        verdict = judged(ground, numbers)
        assert not verdict.problems, verdict
        assert endpoints(ground, numbers) == {endpoint}


def test_a_rollback_with_sagas_in_flight_loses_and_repeats_nothing(ground: Ground) -> None:
    """`helm rollback` goes back to the first pipeline; jobs of the second end by the second."""
    submit(ground, ROLLED_BACK)
    wait_for_progress(ground, ROLLED_BACK, accepted=len(ROLLED_BACK), ended=5)
    ground.namespace.helm("rollback", "shop", "1", "--wait", "--timeout", "600s")
    verdict = judged(ground, ROLLED_BACK)
    assert not verdict.problems, verdict
    assert endpoints(ground, ROLLED_BACK) == {"classify"}


def test_another_number_of_partitions_is_refused(ground: Ground) -> None:
    """It would send jobs to other partitions than their states: the upgrade fails, says so, and disturbs no pod."""
    selector = "app.kubernetes.io/instance=shop,scrapesaga/metrics=true"
    before = ground.namespace.pods(selector).keys()
    with pytest.raises(CommandFailed) as refused:
        ground.namespace.upgrade({**values(), "topics": {"partitions": 6, "replicationFactor": 1}})
    assert "partitions" in str(refused.value)
    assert ground.namespace.pods(selector).keys() == before
    ground.namespace.upgrade(values())


def test_the_log_explains_every_state(ground: Ground) -> None:
    """After all of that, the audit replays the whole log inside the cluster and finds each state that it implies."""
    ground.namespace.exec("deployment/shop-scrapesaga-intake", "scrapesaga", "audit", "verify")


def test_nothing_of_a_release_stays_behind(ground: Ground) -> None:
    """`helm uninstall` leaves no object of the release; the topics, and with them all jobs, stay."""
    ground.namespace.helm("uninstall", "shop", "--wait", "--timeout", "300s")
    # Helm leaves the finished pods of `helm test` for their logs to be read; the next test replaces them.
    labelled = "app.kubernetes.io/instance=shop,app.kubernetes.io/component!=test"

    def left() -> str:
        kinds = "all,configmaps,secrets,serviceaccounts,persistentvolumeclaims,poddisruptionbudgets,networkpolicies"
        found = ground.namespace.get(kinds, "--selector", labelled)["items"]
        return ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in found)

    wait_until("nothing left", left)
    assert len(ground.states()) >= len(FIRST)
