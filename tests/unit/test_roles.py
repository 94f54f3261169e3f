"""The registry of roles: what each declares is there, and what a process is asked to play is checked before it starts."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import processors
from processors.errors import ConfigurationError, ScrapesagaError
from processors.process import roles
from processors.process.layout import process_name, read_layout
from processors.process.reference import reference
from processors.process.role import Process, Role
from processors.process.roles import AUDITOR, COORDINATOR, INTAKE, ROLES, find_roles, known_roles, load_role
from processors.process.step import step_role
from processors.settings.settings import SETTINGS, Settings
from processors.transport.run import serve
from topics.catalogue import DEFAULT_STEPS, Catalogue

EVERY = (*ROLES.values(), *map(step_role, DEFAULT_STEPS))
CATALOGUE = Catalogue()
# Sections of settings of which some role alone reads some.
OF_ROLES = ("Steps", "Processes", "Observation")
# What every process reads: it resolves pipelines, keeps a folder, is in a group, shows itself.
OF_ALL = {
    "pipelines",
    "retired_steps",
    "schemas_dir",
    "data_dir",
    "session_timeout",
    "commit_interval",
    "drain_timeout",
    "http_host",
    "http_port",
    "log_level",
    "log_format",
    "otel_endpoint",
}


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    """The roles that packages bring: none but those that a test puts here."""
    found: dict[str, EntryPoint] = {}
    monkeypatch.setattr(roles, "installed_roles", lambda: found)
    return found


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, roles.GROUP)


def test_every_topic_has_roles_on_both_sides() -> None:
    """Roles read and write topics of the catalogue; what no role writes is users', what none reads is for people."""
    read = {topic.name for role in EVERY for topic in role.topics(CATALOGUE)[0]}
    written = {topic.name for role in EVERY for topic in role.topics(CATALOGUE)[1]}
    everything = {topic.name for topic in CATALOGUE}
    assert everything - written == {CATALOGUE.urls.name}
    assert everything - read == {CATALOGUE.results(step).name for step in DEFAULT_STEPS}


def test_a_step_has_its_own_topics_and_no_other_steps() -> None:
    """`<step>` is the step's name in a step's role, and every step's in other roles."""
    reads, writes = step_role("fetch").topics(CATALOGUE)
    assert CATALOGUE.commands("fetch") in reads and CATALOGUE.results("fetch") in writes
    assert CATALOGUE.commands("parse") not in reads
    commanded = [topic for topic in ROLES[COORDINATOR].topics(CATALOGUE)[1] if topic.short_name.endswith(".commands")]
    assert commanded == [CATALOGUE.commands(step) for step in DEFAULT_STEPS]


def test_a_role_scales_by_what_it_reads() -> None:
    """The lag that counts is that of a topic whose records the role works on."""
    for role in EVERY:
        assert role.scales_by in ("", *role.reads), role.name
        assert bool(role.scales_by) == (role.name != AUDITOR)


def test_groups_are_apart() -> None:
    """No two roles share a consumer group, whatever a step is called."""
    assert [role.group for role in EVERY] == [INTAKE, COORDINATOR, AUDITOR, *(f"step:{step}" for step in DEFAULT_STEPS)]


def test_settings_that_not_all_read_are_declared() -> None:
    """Each setting of a role is one that there is; each that isn't everybody's is declared by whoever reads it."""
    fields = {setting.field: setting.section for setting in SETTINGS}
    declared = {field for role in EVERY for field in role.settings}
    assert declared <= fields.keys()
    assert {field for field, section in fields.items() if section in OF_ROLES} | {"audit_since"} == declared | OF_ALL
    assert not declared & OF_ALL


def steps_ask_for() -> Iterator[str]:
    """The settings that code of steps asks its host for."""
    for path in Path(processors.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="setting"), args=[ast.Constant(value=str(name)), *_]):
                    yield name.lower()


def test_what_steps_ask_for_is_declared() -> None:
    """A pod of a step is given what the role declares: nothing that its code asks for may be missing there."""
    asked = set(steps_ask_for())
    assert len(asked) > 5
    assert asked <= set(step_role("fetch").settings)


def test_the_reference_is_made_of_the_declarations() -> None:
    """docs/roles.md is `python -m processors.process.reference`."""
    docs = Path(__file__).parents[2] / "docs" / "roles.md"
    assert docs.read_text("utf-8") == reference()


def test_roles_are_found_by_name(packages: dict[str, EntryPoint]) -> None:
    """Built-in ones and steps, each once, in the order in which they were asked for."""
    found = find_roles(["fetch", INTAKE, "fetch"], ("fetch", "load"))
    assert [role.name for role in found] == ["fetch", INTAKE]
    with pytest.raises(ConfigurationError, match=r"no role 'nope'; there are: intake, coordinator, auditor, fetch"):
        find_roles(["nope"], ("fetch",))


def test_the_auditor_plays_alone(packages: dict[str, EntryPoint]) -> None:
    """What it reads would hold up everybody who shares its process."""
    assert find_roles([AUDITOR], ()) == (ROLES[AUDITOR],)
    with pytest.raises(ConfigurationError, match="auditor needs a process of its own"):
        find_roles([INTAKE, AUDITOR], ())


def test_two_roles_of_one_name_are_refused(packages: dict[str, EntryPoint]) -> None:
    """A step named as a built-in role would never be served, and a package's role would hide a step."""
    with pytest.raises(ConfigurationError, match="two roles are named coordinator"):
        find_roles(["fetch"], ("fetch", "coordinator"))
    packages["fetch"] = point("fetch", "somewhere:FETCH")
    with pytest.raises(ConfigurationError, match=r"two roles are named fetch.*scrapesaga\.roles"):
        known_roles(("fetch",))


MINE = Role(name="mine", does="nothing", reads=("records",), writes=(), start=lambda process: None)
OTHER = 7


def test_a_packages_role_is_loaded_when_it_is_played(packages: dict[str, EntryPoint]) -> None:
    """Another package that is broken does no harm until its role is asked for."""
    packages["mine"] = point("mine", f"{__name__}:MINE")
    packages["broken"] = point("broken", "no.such.module:ROLE")
    assert find_roles(["mine", INTAKE], ()) == (MINE, ROLES[INTAKE])
    with pytest.raises(ConfigurationError, match=r"role 'broken' can't be imported from no\.such\.module:ROLE"):
        find_roles(["broken"], ())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("mine", "OTHER", "is 7, not a processors.process.role.Role"),
        ("another", "MINE", "is named 'mine'"),
        ("mine", "NONE", "can't be imported"),
    ],
)
def test_a_packages_role_that_is_none_is_refused(name: str, value: str, said: str) -> None:
    """The error says what the entry point names, and what is wrong with it."""
    with pytest.raises(ConfigurationError, match=said):
        load_role(point(name, f"{__name__}:{value}"))


# --- what shares a process --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("each", (("a",), ("b",), ("c",))),
        ("", (("a",), ("b",), ("c",))),
        ("one", (("a", "b", "c"),)),
        ("a+c", (("a", "c"), ("b",))),
        ("one, x", (("a", "b", "c"), ("x",))),
        ("one+x,b", (("a", "c", "x"), ("b",))),
        ("b,each", (("b",), ("a",), ("c",))),
        ("a+b+c,one", (("a", "b", "c"),)),
    ],
)
def test_a_layout_is_read(text: str, layout: tuple[tuple[str, ...], ...]) -> None:
    """Commas part processes, a plus the roles of one; what is not named gets a process each, or is in `one`."""
    assert read_layout(text, ("a", "b", "c")) == layout


@pytest.mark.parametrize("text", ["a,a+b", "a+a", "one,one", "each,one", "each+a"])
def test_a_layout_that_contradicts_itself_is_refused(text: str) -> None:
    """A role in two places would be two members of its group; that is asked for by a second process."""
    with pytest.raises(ConfigurationError, match="processes"):
        read_layout(text, ("a", "b", "c"))


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1), max_size=4), st.sampled_from(["", "one", "each"]))
def test_every_role_runs_once(groups: list[list[str]], rest: str) -> None:
    """Whatever is named, no role is left out and none runs twice."""
    seen: set[str] = set()
    once: list[list[str]] = []
    for group in groups:
        once.append([role for role in dict.fromkeys(group) if role not in seen])
        seen.update(group)
    layout = read_layout(",".join(filter(None, ["+".join(group) for group in once] + [rest])), "abcdef")
    assert sorted(role for process in layout for role in process) == list("abcdef")
    assert len({process_name(process) for process in layout}) == len(layout)


# --- what a process makes for its roles -------------------------------------------------------------------------------


def process_of(*names: str, **settings: object) -> Process:
    made = Process(Settings(**settings), CATALOGUE, {}, names)  # type: ignore[arg-type]  # what the test says
    for role in find_roles(names, DEFAULT_STEPS):
        role.start(made)
    return made


def test_roles_share_what_a_process_has(tmp_path: Path, packages: dict[str, EntryPoint]) -> None:
    """Seven roles: an app each, and one producer and one reader of plans for all of them."""
    made = process_of(INTAKE, COORDINATOR, *DEFAULT_STEPS, data_dir=tmp_path)
    assert sorted(app.conf.id for app in made._apps) == sorted(
        f"scrape.{group}" for group in (INTAKE, COORDINATOR, *(f"step.{step}" for step in DEFAULT_STEPS))
    )
    # The producer and the plans; and each step closes its connections.
    assert len(made._resources) == 2 + len(DEFAULT_STEPS)
    assert made._publishes_plans


def test_nothing_is_made_that_no_role_asks_for(tmp_path: Path, packages: dict[str, EntryPoint]) -> None:
    """The auditor writes nowhere: its process has no producer, and needs no right to write."""
    made = process_of(AUDITOR, data_dir=tmp_path)
    assert made._resources == [] and made._apps == []
    assert [name for name, _ in made._services] == [AUDITOR]
    assert not process_of("fetch", data_dir=tmp_path)._publishes_plans


async def until_cancelled() -> None:
    await asyncio.Event().wait()


async def returns() -> None:
    return None


async def finds_a_setting_wrong() -> None:
    raise ConfigurationError("set another")


async def fails() -> None:
    raise ScrapesagaError("told to")


@pytest.mark.parametrize(("run", "code"), [(returns, 1), (finds_a_setting_wrong, 3), (fails, 1)])
async def test_a_service_that_ends_ends_the_process(run: object, code: int) -> None:
    """A process without one of its services would look well and do half of its work."""
    services = [("well", until_cancelled), ("ill", run)]
    assert await asyncio.wait_for(serve([], asyncio.Event(), services=services), 10) == code  # type: ignore[arg-type]  # one of them


async def test_a_service_is_cancelled_at_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """It may finish what it has in hand; what takes too long is told, and the process doesn't end in order."""
    ended = []

    async def careful() -> None:
        try:
            await until_cancelled()
        finally:
            await asyncio.sleep(0.01)
            ended.append("careful")

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0.3)
                return
            except asyncio.CancelledError:
                continue

    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, stop.set)
    assert await asyncio.wait_for(serve([], stop, services=[("careful", careful)]), 10) == 0
    assert ended == ["careful"]
    within = timedelta(seconds=0.05)
    assert await serve([], stop, services=[("stubborn", stubborn)], stop_within=within) == 1
    assert "stubborn did not stop within" in caplog.text
