"""A namespace with restricted Pod Security, a Kafka and a sample world in it, for the release to be judged in."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from processors.demo import observations as outside
from processors.demo.paid_faults import PaidFaults
from processors.demo.shop_products import ProductCatalogue
from processors.kafka.reader import Reader
from processors.messages.scrape_request import canonical_url, derived_job_id
from tests.cluster.kubernetes import Namespace, free_port, manifest

MANIFESTS = Path(__file__).parents[2] / "deploy" / "cluster"
IMAGE = os.environ.get("SCRAPESAGA_CLUSTER_IMAGE", "scrapesaga:dev")
KAFKA_IMAGE = os.environ.get("SCRAPESAGA_CLUSTER_KAFKA_IMAGE", "apache/kafka:4.1.0")
SHOP = "http://world:8001"
API = "http://world:8002"
PREFIX = "scrape"
PIPELINE = "shop"
# Every kind of misbehaviour of the sample shop occurs among these, and some products that the API refuses for good.
SEED, PRODUCTS, FAULT_RATE, PERMANENT_RATE = 7, 400, 0.15, 0.05


@dataclass(frozen=True, slots=True)
class Ground:
    """What a release stands on, and the means to look at it from outside."""

    namespace: Namespace
    kafka: str
    api: str
    api_token: str

    @property
    def catalogue(self) -> ProductCatalogue:
        """What the sample shop sells, and how each product misbehaves."""
        return ProductCatalogue(SEED, PRODUCTS, FAULT_RATE)

    def jobs(self, numbers: range) -> dict[str, str]:
        """Return the jobs over some products, each with the outcome that shop and API give it."""
        faults = PaidFaults.spread(FAULT_RATE, permanent_rate=PERMANENT_RATE)
        found: dict[str, str] = {}
        for number in numbers:
            url = SHOP + self.catalogue.product(number).path
            scraped = self.catalogue.expected(number).outcome
            refused = scraped == "completed" and faults.refuses(SEED, url)
            found[derived_job_id(PIPELINE, canonical_url(url))] = "compensated" if refused else scraped
        return found

    def urls(self, numbers: range) -> list[str]:
        """Return the addresses of some products."""
        return [SHOP + self.catalogue.product(number).path for number in numbers]

    def reader(self) -> Reader:
        """Return a reader of the topics, by a client of this machine."""
        return Reader({"bootstrap.servers": self.kafka})

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the latest state of every job."""
        return outside.saga_states(self.reader(), f"{PREFIX}.sagas")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a cluster nothing here can run; `make test-cluster` refuses before it comes to that."""
    if not os.environ.get("KUBECONFIG"):
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs a cluster: set KUBECONFIG and run `make test-cluster`"))


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    """A namespace of its own that enforces the strictest Pod Security; deleted at the end, unless asked to stay."""
    made = Namespace(f"scrapesaga-test-{secrets.token_hex(3)}")
    made.kubectl("create", "namespace", made.name)
    made.kubectl("label", "namespace", made.name, "pod-security.kubernetes.io/enforce=restricted")
    try:
        yield made
    finally:
        if not os.environ.get("SCRAPESAGA_CLUSTER_KEEP"):
            made.kubectl("delete", "namespace", made.name, "--timeout", "300s")


@pytest.fixture(scope="session")
def ground(namespace: Namespace) -> Iterator[Ground]:
    """Kafka and the sample world, ready, and ports of this machine that lead to them."""
    port, token = free_port(), secrets.token_urlsafe(12).replace("-", "x")
    namespace.apply(manifest(MANIFESTS / "kafka.yaml", KAFKA_IMAGE=KAFKA_IMAGE, OUTSIDE_PORT=str(port)))
    script = Path(__file__).with_name("sample_world.py")
    namespace.kubectl("create", "configmap", "world", f"--from-file={script}")
    namespace.kubectl("create", "secret", "generic", "api", f"--from-literal=SHOP_API_TOKEN={token}")
    namespace.apply(
        manifest(
            MANIFESTS / "world.yaml",
            IMAGE=IMAGE,
            SEED=str(SEED),
            PRODUCTS=str(PRODUCTS),
            FAULT_RATE=str(FAULT_RATE),
            PERMANENT_RATE=str(PERMANENT_RATE),
            API_TOKEN=token,
        )
    )
    for name in ("kafka", "world"):
        namespace.kubectl("rollout", "status", f"deployment/{name}", "--timeout", "300s")
    with (
        namespace.forwarded("deployment/kafka", port, port),
        namespace.forwarded("deployment/world", 8002) as api,
    ):
        yield Ground(namespace, f"127.0.0.1:{port}", f"http://127.0.0.1:{api}", token)
