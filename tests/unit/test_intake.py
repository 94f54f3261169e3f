"""Which pipeline a request goes to, and which steps have topics besides those of the pipelines."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from processors.errors import BadRecord, ConfigurationError
from processors.kafka.producer import Outgoing
from processors.kafka.record import Record
from processors.process.provisioning import steps_served
from processors.roles.intake import Intake
from processors.saga.commands import outstanding
from processors.saga.plan import Identity
from processors.saga.protocol import advance
from processors.settings.settings import Settings
from tests.sagas import plan
from topics.catalogue import Catalogue


class NoSender:
    """Intake's decisions need nobody to send them."""

    async def send(self, records: Sequence[Outgoing]) -> list[int]:
        raise AssertionError("nothing is sent here")


def request(text: str) -> Record:
    return Record("scrape.urls", 0, 7, 1, None, text.encode(), ())


def intake(*names: str, default: str = "") -> Intake:
    plans = {name: plan("ab", pipeline=name) for name in names}
    return Intake(NoSender(), plans, Catalogue(), default)


@pytest.mark.parametrize(
    ("names", "default", "goes_to"),
    [
        (("shop",), "", "shop"),
        (("shop", "news"), "news", "news"),
        (("shop", "default"), "", "default"),
        (("shop", "default"), "shop", "shop"),
    ],
)
def test_request_without_a_pipeline_goes_to_the_default(names: tuple[str, ...], default: str, goes_to: str) -> None:
    """The setting decides; without it the only pipeline, or the one named default."""
    submitted = intake(*names, default=default).accept(request("https://a.example/1"))
    assert submitted.plan.pipeline == goes_to


def test_request_that_names_a_pipeline_gets_it() -> None:
    """A default is for requests that name none."""
    asked = request('{"url": "https://a.example/", "pipeline": "shop"}')
    submitted = intake("shop", "news", default="news").accept(asked)
    assert submitted.plan.pipeline == "shop"


def test_identity_and_address_travel_side_by_side() -> None:
    """The canonical URL names the job; the address is what was submitted, less the fragment, and empty if it is the same."""
    taken = intake("shop").accept(request("https://A.example/p?utm_source=m&id=2&id=1#reviews"))
    assert (taken.url, taken.address) == ("https://a.example/p?utm_source=m&id=2&id=1", "")
    shop = replace(plan("ab", pipeline="shop"), identity=Identity(ignore=("utm_*",)))
    accepts = Intake(NoSender(), {"shop": shop}, Catalogue())
    taken = accepts.accept(request("https://A.example/p?utm_source=m&id=2&id=1#reviews"))
    assert taken.url == "https://a.example/p?id=2&id=1"
    assert taken.address == "https://a.example/p?utm_source=m&id=2&id=1"
    saga = advance(None, 0, taken, 1_000_000).saga
    assert saga is not None
    (command,) = outstanding(saga)
    assert (command.url, command.address) == (taken.url, taken.address)
    other = accepts.accept(request("https://a.example/p?id=2&id=1&utm_id=7"))
    assert (other.job_id, other.content_hash) == (taken.job_id, taken.content_hash)


def test_without_a_default_the_request_is_set_aside() -> None:
    """Of several pipelines none is guessed."""
    with pytest.raises(BadRecord, match="there are: news, shop"):
        intake("shop", "news").accept(request("https://a.example/1"))


def test_default_that_is_no_pipeline_stops_the_process() -> None:
    """A misspelt default is named at the start, not request by request."""
    with pytest.raises(ConfigurationError, match="SCRAPESAGA_DEFAULT_PIPELINE: no pipeline 'shops'; there are: shop"):
        intake("shop", default="shops")


def test_retired_steps_keep_their_topics() -> None:
    """A step that left the pipelines is still served while the setting names it, each step once."""
    settings = Settings.from_env({"SCRAPESAGA_RETIRED_STEPS": "classify, a"})
    assert steps_served(settings, [plan("ab"), plan("bc")]) == ("a", "b", "c", "classify")
    assert steps_served(Settings(), [plan("ab")]) == ("a", "b")
