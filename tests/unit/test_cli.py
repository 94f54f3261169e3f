"""The command line: what it reads, how it ends, and what its audit finds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException
from msgspec.structs import replace
from typer.testing import CliRunner

from processors.auditor.scope import Scope
from processors.cli import show
from processors.cli.app import app
from processors.cli.context import environment
from processors.cli.errors import Exit, exit_code, explain
from processors.cli.jobs import PhaseName, job_filter
from processors.cli.reference import reference
from processors.errors import BadRecord, ConfigurationError, PipelineError
from processors.kafka.record import Record
from processors.messages.scrape_request import derived_job_id
from processors.messages.wire import decode_saga, encode_command, encode_event, encode_saga
from processors.operations.job_history import decode
from processors.operations.operator_requests import RequestPosition, not_reusable, refusal, state_after
from processors.operations.queries import Newest, plan_book
from processors.operations.replays import read_start
from processors.operations.submissions import RequestDefaults, identity, read_line, read_lines
from processors.operations.verification import Verification, verify_records
from processors.pipeline.plan_store import UnknownPlan
from processors.process.apps import role_app
from processors.saga.commands import StepCommand
from processors.saga.events import Cancelled, Submitted, Succeeded
from processors.saga.moves import first_due
from processors.saga.plan import Plan, RetryPolicy, StepPlan, encode_plan, pin
from processors.saga.protocol import advance
from processors.saga.state import Origin, Saga
from processors.settings.settings import Settings
from topics.catalogue import Catalogue
from topics.errors import BrokerUnusable

NOW = 1_800_000_000_000
CATALOGUE = Catalogue(partitions=2, steps=("fetch", "load"))


def a_plan() -> Plan:
    once = RetryPolicy(attempts=1, base_ms=1, cap_ms=1, total_ms=1)
    steps = tuple(
        StepPlan(name, name, "{}", True, False, 1_000, 1_000, once, 1_000, once) for name in ("fetch", "load")
    )
    return pin(Plan("shop", "{}", steps, 0, 60_000))


PLAN = a_plan()


def plans(plan_hash: str) -> Plan:
    if plan_hash != PLAN.hash:
        raise UnknownPlan(plan_hash)
    return PLAN


def record(topic: str, offset: int, value: bytes | None, *, key: bytes = b"j", at: int = NOW) -> Record:
    return Record(topic, 0, offset, at, key, value, ())


class Log:
    """Events of one job, with the states and commands that a coordinator writes for them."""

    def __init__(self) -> None:
        self.events: list[Record] = []
        self.states: list[Record] = []
        self.commands: list[Record] = []
        self.saga: Saga | None = None

    def apply(self, event: Submitted | Succeeded | Cancelled) -> None:
        offset = len(self.events)
        self.events.append(record("scrape.events", offset, encode_event(event)))
        decision = advance(self.saga, offset, event, NOW)
        for one in decision.commands:
            assert isinstance(one, StepCommand)
            self.commands.append(record(f"scrape.{one.step}.commands", len(self.commands), encode_command(one)))
        if decision.changed and decision.saga is not None:
            self.saga = decision.saga
            self.states.append(record("scrape.sagas", len(self.states), encode_saga(decision.saga)))

    def audit(self, starts: int = 0, commands_ms: int = 0) -> Verification:
        scope = Scope(CATALOGUE, {0: starts, 1: 0}, commands_ms=commands_ms)
        seeds = [] if not starts else [(0, decode_saga(self.states[starts - 1].value or b"", plans))]
        return verify_records(scope, plans, self.events[starts:], [*self.states, *self.commands], seeds)


@pytest.fixture
def log() -> Log:
    """A job that ran through both steps."""
    log = Log()
    log.apply(Submitted("j", PLAN, "https://shop.example/1", b"", "c", Origin(0, 0)))
    for step in ("fetch", "load"):
        assert log.saga is not None
        log.apply(Succeeded("j", log.saga.run, step, first_due(log.saga)[1].command_seq, b'{"data":{}}'))
    return log


def test_audit_explains_an_honest_log(log: Log) -> None:
    """Every state and command that a coordinator wrote follows from the events, byte for byte."""
    report = log.audit()
    assert report.divergences == []
    assert (report.events, report.states, report.commands, report.pending) == (3, 3, 2, 0)


def test_audit_ignores_exact_repeats(log: Log) -> None:
    """What a crash makes a coordinator write again is no divergence."""
    log.states += [one._replace(offset=one.offset + 100) for one in log.states]
    log.commands += [one._replace(offset=one.offset + 100) for one in log.commands]
    report = log.audit()
    assert (report.divergences, report.repeats) == ([], 5)


def tamper_state(log: Log) -> None:
    assert log.saga is not None
    log.states[-1] = log.states[-1]._replace(value=encode_saga(replace(log.saga, reason="edited")))


def lose_state(log: Log) -> None:
    del log.states[1]


def invent_state(log: Log) -> None:
    assert log.saga is not None
    log.states.append(record("scrape.sagas", 9, encode_saga(replace(log.saga, seq=log.saga.seq + 1))))


def lose_command(log: Log) -> None:
    del log.commands[0]


def move_command(log: Log) -> None:
    log.commands[0] = log.commands[0]._replace(partition=1)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (tamper_state, "is not what follows"),
        (lose_state, "is on no topic"),
        (invent_state, "follows from no event"),
        (lose_command, "is on no topic"),
        (move_command, "is on no topic"),
    ],
)
def test_audit_finds_what_the_log_does_not_say(log: Log, harm: Callable[[Log], None], says: str) -> None:
    """A state or command that was edited, lost, made up or put elsewhere is a divergence that is named."""
    harm(log)
    assert says in log.audit().divergences[0]


def test_audit_waits_for_a_coordinator_that_lags(log: Log) -> None:
    """Events behind the last state that was written are pending, not diverging."""
    del log.states[-1], log.commands[-1]
    del log.states[-1]
    report = log.audit()
    assert report.divergences == []
    assert report.pending == 3


def test_audit_allows_for_retention(log: Log) -> None:
    """A command that its topic may have removed by now is counted, not missed."""
    del log.commands[0]
    report = log.audit(commands_ms=NOW + 1)
    assert (report.divergences, report.expired) == ([], 1)


def test_audit_starts_from_the_states_where_the_log_was_cut(log: Log) -> None:
    """Where early events are gone, the last state from before them is where the fold begins."""
    report = log.audit(starts=1)
    assert report.divergences == []
    assert (report.events, report.before_log) == (2, 2)


def test_newest_state_has_the_highest_seq(log: Log) -> None:
    """A stale owner's late write doesn't count as the state of a job."""
    state = Newest([*log.states, log.states[0]]).state("j")
    assert state is not None
    assert state["phase"] == "COMPLETED"


def test_forgotten_job_has_no_state(log: Log) -> None:
    """A tombstone that carries the last seq removes the job from every list."""
    assert log.saga is not None
    grave = record("scrape.sagas", 9, None)._replace(headers=(("seq", str(log.saga.seq).encode()),))
    assert list(Newest([*log.states, grave]).all()) == []


def test_plan_book_knows_plans_and_the_current_one() -> None:
    """Plans are found by hash, the current one by the pipeline's name; an unknown hash is a bad record."""
    book = plan_book(
        [
            record("plans", 0, encode_plan(PLAN), key=b"plan:" + PLAN.hash.encode()),
            record("plans", 1, PLAN.hash.encode(), key=b"pipeline:shop"),
        ]
    )
    assert book.current("shop") == book(PLAN.hash) == PLAN
    assert (book.pipelines, book.current("other"), PLAN.hash in book) == (("shop",), None, True)
    with pytest.raises(BadRecord, match="no plan"):
        book("none")


def test_every_message_is_told_in_a_line(log: Log) -> None:
    """Events, commands and states are decoded by what they are, and belong to their job."""
    lines = [decode(one) for one in (log.events[0], log.events[1], log.commands[0], log.states[2])]
    gists = [one.gist() for one in lines]
    assert gists[0].startswith("submitted to shop")
    assert gists[1].startswith("EXECUTE fetch") and gists[1].endswith("SUCCEEDED")
    assert gists[2].startswith("EXECUTE fetch run")
    assert gists[3].startswith("COMPLETED run")
    assert {one.job_id for one in lines} == {"j"}


def test_damaged_record_is_shown_as_bytes() -> None:
    """An audit shows a record that can't be decoded, as JSON too, instead of failing at it."""
    one = decode(record("events", 0, b"\xc3\x01damaged"))
    assert (one.gist(), one.job_id) == ("9 bytes", "")
    assert '"base64"' in show.record_json(one)


def test_a_record_in_confluents_format_names_its_schema() -> None:
    """Without a registry at hand, an audit still says by which schema the bytes can be read."""
    assert decode(record("urls", 0, b"\0\0\0\0\x29\x02a")).gist() == "7 bytes of the registry's schema 41"


def test_bad_lines_are_named_and_the_others_read() -> None:
    """Each wrong line is named by file and number; comments and empty lines count, but ask for nothing."""
    lines = [
        "# shops",
        "",
        "https://a.example/1",
        "nonsense",
        '{"url": "https://a.example/2", "label": "mine"}',
        '{"u": 1}',
    ]
    asked = list(read_lines("urls.txt", lines, RequestDefaults(label="batch")))
    assert [(one.place, one.request and one.request.label) for one in asked] == [
        ("urls.txt:3", "batch"),
        ("urls.txt:4", None),
        ("urls.txt:5", "mine"),
        ("urls.txt:6", None),
    ]
    assert all(one.problem for one in asked if one.request is None)


def test_url_that_intake_would_refuse_is_refused_before_it_is_sent() -> None:
    """A URL with a password never reaches Kafka, where it would be kept for days."""
    assert "user name or password" in read_line("URL 1", "https://me:secret@a.example/", RequestDefaults()).problem


def test_job_id_is_told_where_the_pipeline_is_known() -> None:
    """The id that intake will derive is printed: by the named pipeline, else by the only one; else none can be."""
    request = read_line("URL 1", "https://a.example/?b=1&a=2", RequestDefaults()).request
    assert request is not None
    assert identity(request, "shop") == derived_job_id("shop", "https://a.example/?b=1&a=2")
    assert identity(request, None) is None


@pytest.mark.parametrize(
    ("text", "offset", "since"),
    [
        ("17", 17, None),
        ("2h", 0, datetime(2026, 1, 31, 4, tzinfo=UTC)),
        ("2026-01-30T06:00", 0, datetime(2026, 1, 30, 6, tzinfo=UTC)),
        ("2026-01-30T06:00+02:00", 0, datetime(2026, 1, 30, 4, tzinfo=UTC)),
    ],
)
def test_replay_begins_at_an_offset_or_a_time(text: str, offset: int, since: datetime | None) -> None:
    """Digits are an offset, a duration is so long ago, and a time without a zone is UTC."""
    start = read_start(text, datetime(2026, 1, 31, 6, tzinfo=UTC))
    assert start == (offset, 0 if since is None else int(since.timestamp() * 1000))


def test_local_engine_is_found(tmp_path: Path) -> None:
    """Without a Kafka in the environment, the one that `scrapesaga up` wrote down is used; what is set wins."""
    (tmp_path / "up.env").write_text("SCRAPESAGA_BOOTSTRAP_SERVERS=127.0.0.1:1\nSCRAPESAGA_PARTITIONS=4\n")
    folder = {"SCRAPESAGA_DATA_DIR": str(tmp_path)}
    found = environment({**folder, "SCRAPESAGA_PARTITIONS": "6"})
    assert (found["SCRAPESAGA_BOOTSTRAP_SERVERS"], found["SCRAPESAGA_PARTITIONS"]) == ("127.0.0.1:1", "6")
    named = {**folder, "SCRAPESAGA_BOOTSTRAP_SERVERS": "kafka:9092"}
    assert environment(named) == named


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadRecord("x"), Exit.REFUSED),
        (ConfigurationError("x"), Exit.UNUSABLE),
        (PipelineError("x"), Exit.UNUSABLE),
        (BrokerUnusable("x"), Exit.UNUSABLE),
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), Exit.UNUSABLE),
    ],
)
def test_errors_have_their_exit_codes(error: Exception, code: Exit) -> None:
    """Scripts tell by the exit code whether to mend what they gave, or the surroundings."""
    assert exit_code(error) is code
    assert explain(error, None)


def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env=env, catch_exceptions=False)
    return result.exit_code, result.output


def test_wrong_setting_ends_with_its_name_and_no_traceback() -> None:
    """A wrong variable is one message that names it, and exit code 3."""
    code, output = run("status", "j", env={"SCRAPESAGA_PARTITIONS": "many", "SCRAPESAGA_BOOTSTRAP_SERVERS": "k:9092"})
    assert code == Exit.UNUSABLE
    assert output.startswith("scrapesaga: SCRAPESAGA_PARTITIONS") and "Traceback" not in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",),
        ("submit", "--job-id", "x", "https://a.example/", "https://b.example/"),
        ("submit", "--payload", "[1]", "https://a.example/"),
        ("resume", "j", "--skip"),
        ("cancel", "j", "--wait", "-1"),
        ("list", "--since", "yesterday"),
        ("list", "--phase", "broken"),
        ("watch", "--seconds", "0"),
        ("redrive", "j"),
        ("replay", "--from", "yesterday"),
        ("topics", "verify", "--wait", "5"),
        ("replay", "--from", "0", "--job", "a", "--label", "b"),
        ("nonsense",),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    """What can't be meant is refused before Kafka is asked for anything."""
    assert run(*arguments, env={"SCRAPESAGA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})[0] == Exit.USAGE


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_folder_that_cannot_be_made_is_named(command: str, tmp_path: Path) -> None:
    """A data folder below a file is one message, before anything starts."""
    (tmp_path / "file").write_text("")
    (tmp_path / "p.yaml").write_text("name: p\nsteps: [{use: fetch}]\n")
    where = ("--data-dir", str(tmp_path / "file" / "data"))
    code, output = run(command, *where, *(("--pipelines", str(tmp_path / "p.yaml")) if command == "up" else ()))
    assert code == Exit.UNUSABLE
    assert "file/data" in output and "--data-dir" in output and len(output.splitlines()) == 1


def test_a_worker_whose_folder_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    """Faust needs a folder; on a read-only disk the worker says which variable to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="SCRAPESAGA_DATA_DIR"):
        role_app(Settings(data_dir=tmp_path / "file" / "data"), "intake")


def test_lint_names_what_is_wrong_and_goes_on(tmp_path: Path) -> None:
    """Each file is judged; one wrong file makes the exit code 1."""
    (tmp_path / "a.yaml").write_text("name: a\nsteps: [{use: nothing-like-it}]\n")
    (tmp_path / "b.yaml").write_text("name: b\nsteps: [{use: fetch}]\n")
    code, output = run("pipeline", "lint", str(tmp_path))
    assert code == Exit.REFUSED
    assert "no step 'nothing-like-it'" in output and "b.yaml: ok" in output


def test_help_tells_the_exit_codes() -> None:
    """The root and every command list what the exit codes mean."""
    for arguments in ((), ("submit",), ("audit", "verify"), ("replay",), ("list",)):
        code, output = run(*arguments, "--help")
        assert code == 0
        assert "Exit codes" in output


def test_redrive_says_which_result_is_missing() -> None:
    """A redrive that the coordinator would refuse is refused at once: the earlier step has no result, or was undone."""
    done = {"status": "SUCCEEDED", "undo": "NONE"}
    assert not_reusable(PLAN, "load", {"fetch": done}) == ""
    assert not_reusable(PLAN, "fetch", {}) == ""
    assert not_reusable(PLAN, "load", {"fetch": {**done, "undo": "DONE"}}) == "fetch"
    assert not_reusable(PLAN, "load", {}) == "fetch"


def test_a_state_answers_a_request_by_its_offset(log: Log) -> None:
    """The state that the request's own event led to, or a later one; an earlier one, and another job's, say nothing."""
    last = log.states[-1]
    offset = len(log.events) - 1
    assert state_after(last, "j", offset) is not None
    assert state_after(last, "j", offset + 1) is None
    assert state_after(last, "other", offset) is None
    assert state_after(last._replace(value=None), "j", offset) is None


def test_a_refusal_is_told_from_other_dead_letters() -> None:
    """Only the dead letter of the very record that was sent is its answer."""
    place = RequestPosition("events", 1, 7, 1)
    headers = (
        ("dead-letter-reason", b"no"),
        ("dead-letter-topic", b"events"),
        ("dead-letter-partition", b"1"),
        ("dead-letter-offset", b"7"),
    )
    letter = record("dead-letters", 0, b"x")._replace(headers=headers)
    assert refusal(letter, place) == "no"
    assert refusal(letter, RequestPosition("events", 1, 8, 1)) is None
    assert refusal(record("dead-letters", 0, b"x"), place) is None


def test_jobs_are_chosen_by_phase_label_pipeline_and_time(log: Log) -> None:
    """Every filter that is given has to hold."""
    state = Newest(log.states).state("j")
    assert state is not None
    assert job_filter([PhaseName.COMPLETED], "", "shop", "1h").matches({**state, "updated_ms": 2**50})
    assert not job_filter([PhaseName.PARKED], None, None, None).matches(state)
    assert not job_filter(None, "mine", None, None).matches(state)
    assert not job_filter(None, None, "news", None).matches(state)
    assert not job_filter(None, None, None, "2100-01-01").matches(state)


# --- reference -------------------------------------------------------------------------------------------------------


def test_the_reference_is_that_of_the_commands() -> None:
    """docs/cli.md says what `--help` says: python -m processors.cli.reference > docs/cli.md."""
    assert (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8") == reference()


def test_every_command_and_option_says_what_it_does() -> None:
    """No part of the reference is empty, and all that an operator needs is there by its name."""
    text = reference()
    assert "|  |" not in text.replace("| | |", "")
    commands = {line.removeprefix("## scrapesaga ") for line in text.splitlines() if line.startswith("## scrapesaga ")}
    wanted = "submit status list watch cancel resume redrive replay worker up demo"
    assert set(wanted.split()) <= commands
    grouped = {"topics": "plan apply verify", "pipeline": "lint plan steps", "audit": "job verify"}
    assert {f"{group} {one}" for group, names in grouped.items() for one in names.split()} <= commands


def test_every_exit_code_is_documented() -> None:
    """What a script may see is in the table."""
    for code in Exit:
        assert f"| {code.value} | " in reference()
