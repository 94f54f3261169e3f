"""The audit of a real engine's topics: an honest run breaks no promise, a tampered copy exactly those it breaks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import zstandard
from typer.testing import CliRunner

from processors.auditor.follow import Beginning, Follower
from processors.auditor.violations import Invariant
from processors.cli.app import app
from processors.cli.errors import Exit
from processors.kafka.reader import Reader
from processors.local.ports import free_port
from processors.messages.wire import decode_command, decode_saga, encode_saga
from processors.operations.conservation import count
from processors.operations.job_history import decode
from processors.operations.queries import read_plans
from processors.spend.book import SpendEntry, SpendState
from tests.broker.tampered import Topics, added, read, write
from tests.broker.transport_world import wait_for
from tests.golden.scenario import PASSWORD, PREFIX, QUERY, Run, play, started
from topics.catalogue import Catalogue

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """An engine that has been through everything once, its coordinator killed on the way."""
    with started(tmp_path_factory.mktemp("audited")) as running:
        play(running)
        yield running


@pytest.fixture(scope="module")
def tampered(run: Run) -> Catalogue:
    """A copy of its topics with five wrongs in it."""
    topics = read(Reader(run.client), run.catalogue)
    plans = read_plans(Reader(run.client), run.catalogue.plans.name)
    states = [one for one in topics["sagas"] if one.value is not None]
    forged = next(one for one in states if one.key == b"waits")
    topics["sagas"].append(
        added(forged, encode_saga(msgspec.structs.replace(decode_saga(forged.value or b"", plans), label="forged")))
    )
    topics["sagas"].remove(next(one for one in states if one.key == b"undone"))
    topics["parse.commands"].remove(next(one for one in topics["parse.commands"] if one.key == b"brief"))
    pay_twice(topics)
    withdraw_nothing(topics, run)
    return write(run.client, run.catalogue, topics, "tampered")


def pay_twice(topics: Topics) -> None:
    """Let a paid call be answered a second time, with another charge."""
    # The last word on its key: to an entry that another follows this one would be a repeat that is overruled.
    last = {one.key: one for one in topics["spend"] if one.value is not None}
    entries = [(one, SpendEntry.decode(one.value or b"")) for one in last.values()]
    paid, entry = next((one, entry) for one, entry in entries if entry.state is SpendState.PAID and entry.known)
    again = replace(entry, version=entry.version + 1, response=b'{"charge": 2}')
    topics["spend"].append(added(paid, again.encode()))


def withdraw_nothing(topics: Topics, run: Run) -> None:
    """Leave the record of a compensated job in place, as if its tombstone had never been sent."""
    job = next(job for job, phase in sorted(run.phases().items()) if phase == "COMPENSATED" and job.startswith("shop"))
    last = next(one for one in topics["sagas"] if one.key == job.encode())
    published = next(one for one in topics["records"] if one.value is not None)
    headers = tuple((name, job.encode() if name == "job_id" else value) for name, value in published.headers)
    kept = added(last, published.value, later_ms=-1)._replace(topic=published.topic, headers=headers)
    topics["records"] = [one for one in topics["records"] if one.key != job.encode()] + [kept]


def audited(run: Run, catalogue: Catalogue, since_ms: int = 0) -> Follower:
    begin = Beginning(catalogue, since_ms, run.settings.retention_history, run.settings.retention_commands)
    follower = Follower(Reader(run.client), begin)
    follower.to_end()
    return follower


def test_an_honest_run_breaks_no_promise(run: Run) -> None:
    """Faults, a killed coordinator, cancels, a parked job, a redrive, a forgotten job and poison: nothing to report."""
    follower = audited(run, run.catalogue)
    auditor = follower.auditor
    assert auditor.examples == []
    assert auditor.events == sum(1 for _ in run.reader.records(run.catalogue.events.name))
    assert (auditor.unjudged, auditor.ahead, auditor.stuck, follower.lag) == (0, 0, 0, 0)
    phases = list(run.phases().values())
    sums = auditor.conservation()
    assert (sums["completed"], sums["compensated"]) == (phases.count("COMPLETED"), phases.count("COMPENSATED"))
    assert (sums["forgotten"], sums["rejected"], sums["waiting"]) == (1, 2, 0)
    follower.close()


def test_an_audit_from_a_time_on_breaks_no_promise(run: Run) -> None:
    """What was in flight is taken over, what can't be judged is counted, and no promise is called broken."""
    times = sorted(one.timestamp_ms for one in run.reader.records(run.catalogue.events.name))
    follower = audited(run, run.catalogue, times[len(times) // 3])
    assert follower.auditor.examples == []
    assert follower.taken_over > 0
    assert 0 < follower.auditor.events < len(times)
    follower.close()


def test_a_tampered_copy_breaks_what_was_tampered_with(run: Run, tampered: Catalogue) -> None:
    """A forged and a lost state, a lost command, a second payment, a missing tombstone: each one promise, and no other."""
    follower = audited(run, tampered)
    expected = {Invariant.FOLD, Invariant.NO_GAPS, Invariant.SENT, Invariant.PAID_ONCE, Invariant.RECORD_GONE}
    assert dict(follower.auditor.violations) == dict.fromkeys(expected, 1), follower.auditor.examples
    assert all(one.position and one.position.topic.startswith("tampered.") for one in follower.auditor.examples)
    follower.close()


def environment(run: Run, prefix: str) -> dict[str, str]:
    return {**run.engine.environment(), "SCRAPESAGA_TOPIC_PREFIX": prefix, "SCRAPESAGA_CLICKHOUSE_URL": ""}


@pytest.mark.parametrize("prefix", [PREFIX, "tampered"])
def test_the_command_line_says_it_by_its_exit_code(run: Run, tampered: Catalogue, prefix: str) -> None:
    """`audit --follow --to-end` and `audit verify` end with 0 for an honest log and with 4 for a tampered one."""
    wanted = Exit.OK if prefix == PREFIX else Exit.DIVERGED
    env = environment(run, prefix)
    verified = CliRunner().invoke(app, ["audit", "verify"], env=env)
    assert verified.exit_code == wanted, verified.output
    followed = CliRunner().invoke(app, ["audit", "--follow", "--to-end", "--json"], env=env)
    assert followed.exit_code == wanted, followed.output
    lines = [json.loads(line) for line in followed.stdout.splitlines()]
    assert sum(lines[-1]["broken"].values()) == len(lines) - 1
    assert all({"invariant", "job_id", "topic", "partition", "offset", "detail"} <= line.keys() for line in lines[:-1])


def test_no_secret_is_anywhere(run: Run) -> None:
    """The API's token, a URL's password and a query's token are in no log, key, header, state, event or message.

    What a request says is on scrape.urls, and in its dead letter as it came. A job's URL is what the job is: it goes with
    it, and is told without its query.
    """
    token = run.world.api_token
    seen = 0
    for topic in run.catalogue:
        for record in run.reader.records(topic.name):
            value = record.value or b""
            if topic.short_name == "pages" and value:
                value = zstandard.decompress(value)
            said = b"\n".join((record.key or b"", *(header or b"" for _, header in record.headers)))
            assert token.encode() not in value + said, record
            assert PASSWORD.encode() not in said, record
            assert (PASSWORD.encode() in value) <= (topic.short_name in ("urls", "dead-letters")), record
            for name, text in decode(record).fields.items():
                assert name in ("url", "steps", "output", "inputs") or QUERY not in str(text), record
            seen += 1
    assert seen > 300
    logs = list((run.engine.data_dir / "logs").glob("*.log"))
    assert len(logs) > 5
    for log in logs:
        text = log.read_text("utf-8", "replace")
        assert [secret for secret in (token, PASSWORD, QUERY) if secret in text] == [], log
    reason = run.states()["query"]["reason"]
    assert "/nowhere?*** answered 404" in reason


def test_every_job_of_a_batch_is_accounted_for(run: Run) -> None:
    """The report by label is a sum that comes out, and agrees with the states."""
    result = CliRunner().invoke(
        app, ["audit", "conservation", "--label", "golden", "--json"], env=environment(run, PREFIX)
    )
    assert result.exit_code == Exit.OK, result.output
    sums = json.loads(result.stdout)
    phases = list(run.phases().values())
    assert sums["accepted"] == len(phases) + 1
    assert (sums["completed"], sums["compensated"]) == (phases.count("COMPLETED"), phases.count("COMPENSATED"))
    assert (sums["forgotten"], sums["nowhere"], sums["lost"]) == (1, 0, [])
    parts = [number for name, number in sums.items() if name not in ("label", "accepted", "rejected", "lost")]
    assert sums["accepted"] == sum(parts)
    told = CliRunner().invoke(app, ["audit", "conservation", "--label", "golden"], env=environment(run, PREFIX)).stdout
    assert re.match(rf"golden: {sums['accepted']} accepted = {sums['completed']} completed \+ ", told)


def test_a_job_without_a_state_is_nowhere(run: Run) -> None:
    """A state that vanished is named, and ends the command with 4."""
    topics = read(Reader(run.client), run.catalogue)
    topics["sagas"] = [one for one in topics["sagas"] if one.key != b"undone"]
    lossy = write(run.client, run.catalogue, topics, "lossy")
    assert count(Reader(run.client), lossy, 0)["golden"].lost == {"undone"}
    result = CliRunner().invoke(app, ["audit", "conservation"], env=environment(run, "lossy"))
    assert (result.exit_code, "nowhere: undone" in result.stdout) == (Exit.DIVERGED, True)


def test_the_role_exports_what_it_finds(run: Run, tmp_path: Path) -> None:
    """A forged record is counted under its promise while the role runs; SIGTERM ends it in order."""
    port = free_port()
    env = {**os.environ, **environment(run, PREFIX), "SCRAPESAGA_HTTP_PORT": str(port), "SCRAPESAGA_AUDIT_SINCE": "0s"}
    log = tmp_path / "auditor.log"
    start = "import sys; from processors.process.process import main; sys.exit(main(['auditor']))"
    with log.open("w") as lines:
        process = subprocess.Popen([sys.executable, "-c", start], env=env, stdout=lines, stderr=lines)
    try:
        wait_for(lambda: metric(port, "scrapesaga_audited_events_total") > 0, seconds=90, what="auditing")
        assert broken(port) == {}
        forged = next(one for one in run.reader.records(run.catalogue.commands("fetch").name) if one.key == b"waits")
        assert decode_command(forged.value).job_id == "waits"
        run.send("parse.commands", forged.value, key=forged.key)
        wait_for(lambda: broken(port) == {"same-seq-same-command": 1.0}, seconds=90, what="finding a forged command")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
    assert re.search(
        r"invariant violated: same seq, same command .*job_id=waits .*topic=golden.parse.commands", log.read_text()
    )


def scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return ""


def metric(port: int, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", scrape(port), re.MULTILINE)
    return float(found[1]) if found else -1.0


def broken(port: int) -> dict[str, float]:
    found = re.findall(
        r'^scrapesaga_invariant_violations_total\{invariant="(.*?)"\} (\S+)$', scrape(port), re.MULTILINE
    )
    return {promise: float(number) for promise, number in found if float(number)}
