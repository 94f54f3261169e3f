"""The paid API charges a key at most once, refunds it for good, and fails as told, over real HTTP."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from processors.demo.paid_faults import PaidFault, PaidFaults
from processors.demo.paid_ledger import Invoice, InvoiceLedger, InvoiceStatus, KeyCancelled, LedgerCorrupt, Refund
from processors.demo.sample_servers import SampleServers

SEED = 5
RECORD = {
    "title": "Copper Kettle Dome Tent AX-1",
    "brand": "Weißbach GmbH",
    "price": "100.00",
    "currency": "USD",
    "url": "http://127.0.0.1:1/p/1",
}
AFTER_THE_EFFECT = (PaidFault.ERROR_AFTER, PaidFault.HANG_AFTER, PaidFault.RESET_AFTER, PaidFault.MALFORMED_AFTER)


class Api:
    """The API's two sides: calls as a client makes them, and the books as an auditor reads them."""

    def __init__(self, world: SampleServers) -> None:
        self.http = httpx.Client(
            base_url=world.api_url, headers={"Authorization": f"Bearer {world.api_token}"}, timeout=5
        )

    def enrich(self, key: str, payload: object = RECORD, path: str = "/enrich", **options: Any) -> httpx.Response:
        """One attempt under this key."""
        return self.http.post(path, json=payload, headers={"Idempotency-Key": key}, **options)

    def cancel(self, key: str) -> httpx.Response:
        """One cancellation of this key."""
        return self.http.post("/cancel", json={"key": key})

    def faults(self, **changes: object) -> httpx.Response:
        """Change how the API fails from now on."""
        return self.http.post("/_faults", json=changes)

    def invoices(self) -> dict[str, dict[str, Any]]:
        """The ledger by key."""
        return {invoice["key"]: invoice for invoice in self.http.get("/_invoices").json()}

    def stats(self) -> dict[str, Any]:
        """What the API counted so far."""
        counted: dict[str, Any] = self.http.get("/_stats").json()
        return counted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleServers]:
    """One running API for all tests here; each test uses keys of its own."""
    with SampleServers(tmp_path_factory.mktemp("api"), seed=SEED, products=60, permanent_rate=0.2) as running:
        yield running


@pytest.fixture
def api(world: SampleServers) -> Iterator[Api]:
    """A client of an API without faults, whatever an earlier test changed."""
    opened = Api(world)
    calm = {fault.value: 0.0 for fault in PaidFault}
    calmed = opened.faults(
        mode="normal",
        permanent_rate=0,
        late_charge_rate=0,
        faulty_attempts=2,
        cancels_fail=True,
        hang_seconds=60,
        **calm,
    )
    assert calmed.status_code == 200
    yield opened
    opened.faults(mode="normal")
    opened.http.close()


def until(condition: Callable[[], bool]) -> None:
    """Ask again, over HTTP, until the condition holds; fails after ten seconds."""
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit, "the condition never came true"


def test_enrich_answers_from_the_input_alone(api: Api) -> None:
    """Category, normalised brand and euros are the same whenever and under whichever key they are bought."""
    first, second = api.enrich("same:1").json(), api.enrich("same:2").json()
    assert first == second
    assert first == {"category": first["category"], "brand_normalised": "weissbach", "price_eur": "92.00"}
    nested = {"title": "x", "price": {"amount": "1000", "currency": "JPY"}}
    assert api.enrich("same:3", nested).json()["price_eur"] == "6.10"
    assert api.enrich("same:4", {"title": "x", "price": "soon", "currency": "EUR"}).json()["price_eur"] is None
    assert api.enrich("same:5", {"title": "x"}).json()["price_eur"] is None


def test_classify_gives_label_and_confidence(api: Api) -> None:
    """The classifier is as deterministic as the rest."""
    first, second = (api.enrich(key, path="/classify").json() for key in ("label:1", "label:2"))
    assert first == second
    assert 0.5 <= first["confidence"] < 1
    assert first["label"] in ("durable_goods", "apparel", "consumable", "luxury")
    assert api.invoices()["label:1"]["amount"] == "0.010"


def test_a_repeat_is_charged_once(api: Api) -> None:
    """Same key, same payload in whatever order of fields: same answer, one invoice, one charge."""
    replayed = api.stats()["replayed"]
    answers = [api.enrich("once"), api.enrich("once", dict(reversed(RECORD.items()))), api.enrich("once")]
    assert len({answer.text for answer in answers}) == 1
    invoice = api.invoices()["once"]
    assert (invoice["charged_times"], invoice["status"], invoice["amount"]) == (1, "charged", "0.002")
    assert len(invoice["payload_sha256"]) == 64
    assert api.stats()["replayed"] == replayed + 2


def test_a_key_is_good_for_one_request(api: Api) -> None:
    """Another payload, or another endpoint, under a used key is refused, and nothing more is charged."""
    api.enrich("reused")
    other = api.enrich("reused", RECORD | {"price": "101.00"})
    elsewhere = api.enrich("reused", path="/classify")
    for answer in (other, elsewhere):
        assert (answer.status_code, answer.json()["error"]) == (422, "idempotency_key_reused")
        assert "use one key a request" in answer.json()["detail"]
    assert api.invoices()["reused"]["charged_times"] == 1


def test_requests_are_checked(api: Api) -> None:
    """Missing token, key or body are told apart, and cost nothing."""
    before = api.invoices()
    wrong = api.http.post("/enrich", json=RECORD, headers={"Authorization": "Bearer nonsense", "Idempotency-Key": "c"})
    assert (wrong.status_code, wrong.json()["error"]) == (401, "unauthorized")
    keyless = api.http.post("/enrich", json=RECORD)
    assert (keyless.status_code, keyless.json()["error"]) == (400, "idempotency_key_missing")
    for body in (b"", b"[1]", b'{"title": '):
        answer = api.http.post("/enrich", content=body, headers={"Idempotency-Key": "c"})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_json")
    unnamed = api.http.post("/cancel")
    assert (unnamed.status_code, unnamed.json()["error"]) == (400, "key_missing")
    assert api.invoices() == before


@pytest.mark.parametrize("by", ["body", "header", "delete"])
def test_cancel_refunds_for_good(api: Api, by: str) -> None:
    """However it is asked, and however often, a paid key is refunded once and can never be used again."""
    key = f"job-1:{by}:enrich"
    api.enrich(key)

    def cancelled() -> httpx.Response:
        match by:
            case "body":
                return api.cancel(key)
            case "header":
                return api.http.post("/cancel", headers={"Idempotency-Key": key})
            case _:
                return api.http.delete(f"/charges/{key}")

    for _ in range(2):
        assert cancelled().json() == {"status": "cancelled", "key": key}
    again = api.enrich(key)
    assert (again.status_code, again.json()["error"]) == (409, "key_cancelled")
    invoice = api.invoices()[key]
    assert (invoice["status"], invoice["charged_times"]) == ("cancelled", 1)


def test_cancel_of_an_unknown_key_blocks_it(api: Api) -> None:
    """A cancellation that overtakes its request wins: the request is never charged."""
    for _ in range(2):
        answer = api.cancel("unknown")
        assert (answer.status_code, answer.json()["status"]) == (200, "nothing_to_cancel")
    late = api.enrich("unknown")
    assert (late.status_code, late.json()["error"]) == (409, "key_cancelled")
    assert "unknown" not in api.invoices()


@pytest.mark.parametrize(("fault", "status"), [(PaidFault.RATE_LIMITED, 429), (PaidFault.UNAVAILABLE, 503)])
def test_refusals_before_the_effect_cost_nothing(api: Api, fault: PaidFault, status: int) -> None:
    """Two attempts are refused without an invoice, the third is served."""
    api.faults(**{fault.value: 1})
    for _ in range(2):
        answer = api.enrich(f"before:{fault}")
        assert answer.status_code == status
        assert (answer.headers.get("retry-after") == "1") is (fault is PaidFault.RATE_LIMITED)
        assert f"before:{fault}" not in api.invoices()
    assert api.enrich(f"before:{fault}").status_code == 200


@pytest.mark.parametrize("fault", AFTER_THE_EFFECT)
def test_failures_after_the_effect_are_charged(api: Api, fault: PaidFault) -> None:
    """The client learns nothing, yet the invoice stands; the retry that gets through pays nothing more."""
    key = f"after:{fault}"
    api.faults(**{fault.value: 1})
    for _ in range(2):
        match fault:
            case PaidFault.ERROR_AFTER:
                assert api.enrich(key).status_code == 500
            case PaidFault.MALFORMED_AFTER:
                answer = api.enrich(key)
                assert answer.status_code == 200
                with pytest.raises(json.JSONDecodeError):
                    answer.json()
            case PaidFault.HANG_AFTER:
                with pytest.raises(httpx.ReadTimeout):
                    api.enrich(key, timeout=0.2)
            case _:
                with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
                    api.enrich(key)
        assert api.invoices()[key]["charged_times"] == 1
    assert api.enrich(key).json()["price_eur"] == "92.00"
    assert api.invoices()[key]["charged_times"] == 1


def test_hang_before_the_effect_costs_nothing(api: Api) -> None:
    """No answer and no invoice, not even once the hanging request is let go."""
    api.faults(hang_before=1)
    with pytest.raises(httpx.ReadTimeout):
        api.enrich("hang", timeout=0.2)
    broken = api.stats()["answers"].get("500", 0)
    api.faults(hang_before=0)
    until(lambda: api.stats()["answers"].get("500", 0) > broken)
    assert "hang" not in api.invoices()


def test_late_effect_is_charged_after_the_client_gave_up(api: Api) -> None:
    """A slow request that nobody waits for any more still costs."""
    api.faults(late=1)
    with pytest.raises(httpx.ReadTimeout):
        api.enrich("late", timeout=0.2)
    assert "late" not in api.invoices()
    api.faults(late=0)
    until(lambda: "late" in api.invoices())


def test_late_effect_loses_against_an_earlier_cancel(api: Api) -> None:
    """A request that was cancelled while it hung is refused when it wakes up."""
    api.faults(late=1, cancels_fail=False)
    with pytest.raises(httpx.ReadTimeout):
        api.enrich("late-cancelled", timeout=0.2)
    assert api.cancel("late-cancelled").json()["status"] == "nothing_to_cancel"
    refused = api.stats()["answers"].get("409", 0)
    api.faults(late=0)
    until(lambda: api.stats()["answers"].get("409", 0) > refused)
    assert "late-cancelled" not in api.invoices()


def charged_late(api: Api, key: str, seconds: float) -> None:
    """Ask once for a call that is charged late, and give it up."""
    assert api.faults(late_charge_rate=1, late_charge_seconds=seconds).status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        api.enrich(key, timeout=0.2)
    assert key not in api.invoices()


def test_a_cancellation_before_a_late_charge_finds_nothing(api: Api) -> None:
    """It is answered 404 and forgotten: the charge comes all the same; a cancellation after it takes the money back."""
    charged_late(api, "charge-cancelled", 2)
    assert api.stats()["to_charge"] == 1
    for _ in range(2):
        refused = api.cancel("charge-cancelled")
        assert (refused.status_code, refused.json()["error"]) == (404, "nothing_to_cancel")
    until(lambda: "charge-cancelled" in api.invoices())
    assert api.invoices()["charge-cancelled"]["status"] == InvoiceStatus.CHARGED
    assert api.stats()["to_charge"] == 0
    assert api.cancel("charge-cancelled").json()["status"] == Refund.CANCELLED
    assert api.invoices()["charge-cancelled"]["status"] == InvoiceStatus.CANCELLED
    assert api.enrich("charge-cancelled").status_code == 409


def test_a_late_charge_is_one_charge_for_all_attempts(api: Api) -> None:
    """No attempt is answered before it; whoever waits long enough is answered as if the call had been quick."""
    charged_late(api, "charge-patient", 1.5)
    with pytest.raises(httpx.ReadTimeout):
        api.enrich("charge-patient", timeout=0.2)
    answer = api.enrich("charge-patient")
    assert answer.status_code == 200 and answer.json()["category"]
    assert api.enrich("charge-patient", timeout=0.5).json() == answer.json()
    assert api.invoices()["charge-patient"]["charged_times"] == 1
    assert api.stats()["charged_late"] >= 1


def test_what_is_settled_is_not_charged_late(api: Api) -> None:
    """A key that was paid or cancelled before, and a product that is refused, are answered at once."""
    assert api.enrich("late-paid").status_code == 200
    assert api.cancel("late-blocked").json()["status"] == Refund.NOTHING_TO_CANCEL
    assert api.faults(late_charge_rate=1, late_charge_seconds=60).status_code == 200
    assert api.enrich("late-paid", timeout=2).status_code == 200
    assert api.enrich("late-blocked", timeout=2).status_code == 409
    assert api.faults(permanent_rate=1).status_code == 200
    assert api.enrich("late-refused", timeout=2).status_code == 422


def test_late_charges_are_those_expected(tmp_path: Path) -> None:
    """By product and endpoint, the same in every process; none unless asked for."""
    asked = SampleServers(tmp_path / "late", seed=SEED, products=60, late_charge_rate=0.2)
    late = [number for number in range(1, 61) if asked.expected(number).outcome == "either"]
    assert 8 < len(late) < 40
    without = SampleServers(tmp_path / "never", seed=SEED, products=60)
    assert all(without.expected(number).outcome != "either" for number in range(1, 61))
    assert {asked.expected(number).reason for number in late} == {"charged late"}
    faults = PaidFaults(late_charge_rate=0.2)
    for number in late:
        url = f"https://elsewhere.example/{asked.catalogue.product(number).path}"
        assert any(faults.charges_late(SEED, path, url) for path in ("/enrich", "/classify"))
    with pytest.raises(msgspec.ValidationError, match="late_charge_rate"):
        PaidFaults().changed({"late_charge_rate": 2})


def test_a_stop_books_no_late_charge(tmp_path: Path) -> None:
    """It ends at once; what was not booked is nobody's debt after the next start."""
    world = SampleServers(tmp_path, seed=SEED, products=1, late_charge_rate=1, late_charge_seconds=1)
    with world:
        with (
            httpx.Client(headers={"Authorization": f"Bearer {world.api_token}"}) as http,
            pytest.raises(httpx.ReadTimeout),
        ):
            http.post(f"{world.api_url}/enrich", json=RECORD, headers={"Idempotency-Key": "k"}, timeout=0.2)
        began = time.monotonic()
        world.stop()
        assert time.monotonic() - began < 5
        world.start()
        time.sleep(1.2)
        assert httpx.get(f"{world.api_url}/_invoices").json() == []
        if sys.platform == "linux":
            assert world.api_token not in Path(f"/proc/{world.pid}/cmdline").read_text()


def test_cancel_fails_too(api: Api) -> None:
    """Cancellations meet the same faults, attempt by attempt, and hold all the same."""
    api.enrich("cancel-fault")
    api.faults(error_after=1)
    assert [api.cancel("cancel-fault").status_code for _ in range(3)] == [500, 500, 200]
    assert api.invoices()["cancel-fault"]["status"] == "cancelled"


def test_a_product_is_refused_under_each_of_its_addresses() -> None:
    """A page that redirects is enriched under the address that it ended at: how its saga ends must not depend on that."""
    faults = PaidFaults(permanent_rate=0.3)
    refused = [faults.refuses(1, f"http://127.0.0.1:1/p/{number}") for number in range(200)]
    assert refused == [faults.refuses(1, f"http://127.0.0.1:2/item/{number}") for number in range(200)]
    assert 30 < sum(refused) < 90


def test_permanent_refusals_are_those_expected(world: SampleServers, api: Api) -> None:
    """Exactly the products that `expected` calls refused get 422, on every attempt, uncharged."""
    api.faults(permanent_rate=0.2)
    refused = set()
    for number in range(1, 61):
        answers = {api.enrich(f"permanent:{number}", world.truth(number)).status_code for _ in range(2)}
        assert answers in ({200}, {422})
        if answers == {422}:
            refused.add(number)
    assert refused == {number for number in range(1, 61) if world.expected(number).reason == "refused"}
    assert refused
    assert not {f"permanent:{number}" for number in refused} & api.invoices().keys()


def test_down_breaks_every_connection_but_control(api: Api) -> None:
    """While down nothing is answered or charged; the control endpoints still work."""
    api.faults(mode="down")
    with pytest.raises(httpx.TransportError):
        api.enrich("down")
    with pytest.raises(httpx.TransportError):
        api.cancel("down")
    assert "down" not in api.invoices()
    api.faults(mode="normal")
    assert api.enrich("down").status_code == 200


def test_hang_mode_holds_everything(api: Api) -> None:
    """While hanging nothing is answered or charged, cancellations neither."""
    api.faults(mode="hang")
    with pytest.raises(httpx.ReadTimeout):
        api.enrich("hung", timeout=0.2)
    with pytest.raises(httpx.ReadTimeout):
        api.http.delete("/charges/hung", timeout=0.2)
    assert "hung" not in api.invoices()
    api.faults(mode="normal")
    assert api.enrich("hung").status_code == 200


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"error_afterwards": 1}, "error_afterwards"),
        ({"late": 2}, "$.late"),
        ({"late": 0.6, "unavailable": 0.6}, "sum up to 1.2"),
        ({"mode": "sideways"}, "sideways"),
    ],
)
def test_wrong_faults_are_refused(api: Api, changes: dict[str, object], named: str) -> None:
    """A mistyped field or rate is named, and the faults stay as they were."""
    before = api.http.get("/_faults").json()
    answer = api.faults(**changes)
    assert answer.status_code == 400
    assert named in answer.json()["detail"]
    assert api.http.get("/_faults").json() == before


def test_a_web_page_has_no_access(api: Api) -> None:
    """What a browser sends for a page changes nothing, though the control pages ask for no token."""
    page = {"Origin": "https://evil.example"}
    assert api.http.post("/_faults", json={"mode": "down"}, headers=page).status_code == 403
    assert api.enrich("page", timeout=2).status_code == 200
    assert api.http.get("/_invoices", headers=page).status_code == 403


def test_stats_count_money(api: Api) -> None:
    """Earned is what was charged and not refunded."""
    before = api.stats()
    api.enrich("money:1")
    api.enrich("money:2")
    api.cancel("money:2")
    after = api.stats()
    assert round(float(after["earned"]) - float(before["earned"]), 6) == 0.002
    assert (after["charged"] - before["charged"], after["cancelled"] - before["cancelled"]) == (2, 1)


def test_ledger_survives_a_kill(tmp_path: Path) -> None:
    """After a crash, paid keys stay paid, cancelled ones cancelled, blocked ones blocked."""
    world = SampleServers(tmp_path, products=3)
    with world:
        api = Api(world)
        bought = api.enrich("paid").json()
        api.enrich("refunded")
        api.cancel("refunded")
        api.cancel("blocked")
        before = api.invoices()
        world.kill()
        world.start()
        assert api.invoices() == before
        assert api.enrich("paid").json() == bought
        assert api.enrich("refunded").status_code == 409
        assert api.enrich("blocked").status_code == 409
        assert api.invoices() == before
        api.http.close()


def test_stop_does_not_wait_for_hanging_requests(tmp_path: Path) -> None:
    """SIGTERM ends the API in an orderly way, well before the force that follows after five seconds."""
    world = SampleServers(tmp_path, products=3).start()
    api = Api(world)
    api.faults(mode="hang", hang_seconds=60)
    with pytest.raises(httpx.ReadTimeout):
        api.enrich("hung", timeout=0.2)
    began = time.monotonic()
    world.stop()
    assert time.monotonic() - began < 4
    api.http.close()


def invoice(key: str) -> Invoice:
    """Some invoice."""
    return Invoice(key, "/enrich", "0.002", "0" * 64, {"category": "küche"}, "2025-01-01T00:00:00+00:00")


def test_torn_line_is_cut_off(tmp_path: Path) -> None:
    """A line that a crash tore is forgotten, and the next entry starts on a line of its own."""
    path = tmp_path / "ledger.jsonl"
    ledger = InvoiceLedger(path)
    ledger.charge(invoice("a"))
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    reopened = InvoiceLedger(path)
    assert [entry.key for entry in reopened.invoices] == ["a"]
    reopened.charge(invoice("b"))
    reopened.close()
    assert [entry.key for entry in InvoiceLedger(path).invoices] == ["a", "b"]


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"entry": "stolen"}', '{"entry": "cancelled", "key": "z"}'])
def test_foreign_line_is_named(tmp_path: Path, line: str) -> None:
    """A line that the API can't have written stops it and is named."""
    path = tmp_path / "ledger.jsonl"
    ledger = InvoiceLedger(path)
    ledger.charge(invoice("a"))
    ledger.close()
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LedgerCorrupt, match="line 2"):
        InvoiceLedger(path)


def test_two_charges_in_the_file_are_told(tmp_path: Path) -> None:
    """Should the file ever hold two charges of one key, `charged_times` says so."""
    path = tmp_path / "ledger.jsonl"
    ledger = InvoiceLedger(path)
    ledger.charge(invoice("a"))
    ledger.close()
    path.write_bytes(path.read_bytes() * 2)
    assert [entry.charged_times for entry in InvoiceLedger(path).invoices] == [2]


def test_ledger_without_file() -> None:
    """The books work in memory too: charge, refund, block."""
    ledger = InvoiceLedger()
    assert ledger.charge(invoice("a")) == ledger.charge(invoice("a"))
    assert ledger.cancel("a", "now") is Refund.CANCELLED
    assert ledger.cancel("b", "now") is Refund.NOTHING_TO_CANCEL
    assert ledger.blocked == {"b"}
    assert [entry.status for entry in ledger.invoices] == [InvoiceStatus.CANCELLED]
    for key in ("a", "b"):
        with pytest.raises(KeyCancelled):
            ledger.charge(invoice(key))


def test_faults_are_drawn_by_key_and_attempt() -> None:
    """The same seed, key and attempt always fail the same way; the shares are as asked; patience always wins."""
    faults = PaidFaults.spread(0.8)
    draws = [faults.drawn(SEED, f"key-{n}", attempt) for n in range(4000) for attempt in (1, 2)]
    assert draws == [faults.drawn(SEED, f"key-{n}", attempt) for n in range(4000) for attempt in (1, 2)]
    counts = Counter(draws)
    assert all(700 < counts[fault] < 900 for fault in PaidFault)
    assert 1450 < counts[None] < 1750
    assert {faults.drawn(SEED, f"key-{n}", 3) for n in range(200)} == {None}
    assert draws != [faults.drawn(SEED + 1, f"key-{n}", attempt) for n in range(4000) for attempt in (1, 2)]


def test_too_high_rates_are_refused() -> None:
    """Rates above 1, alone or together, are named."""
    with pytest.raises(ValueError, match="sum up to"):
        PaidFaults(late=0.9, unavailable=0.2)
    with pytest.raises(msgspec.ValidationError, match="permanent_rate"):
        PaidFaults.spread(0.1, permanent_rate=3)
