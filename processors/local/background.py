"""An engine in the background: started by `up --detach`, ended by `down`, and read by `logs`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from processors.local import child
from processors.local.claim import holder_of
from processors.local.errors import DataDirInUse, LocalError, StartFailed
from processors.local.private import private_folder

_CHILD = "import sys; from processors.local.background import main; sys.exit(main(sys.argv[1:]))"
# Ten seconds are usual; a server that doesn't listen is killed after fifteen more.
_DOWN_WITHIN = timedelta(seconds=60)
_EXIT_WITHIN_S = 5.0
_POLL_S = 0.1
_FOLLOW_S = 0.3
_UP = "up"


def up_detached(data_dir: Path, pipelines: Sequence[Path], options: Mapping[str, str | None]) -> int:
    """Start an engine that outlives this process and its terminal; return its pid once it is up.

    Raises DataDirInUse, or StartFailed with the end of its log. Ctrl-C meanwhile ends it.
    """
    folder = private_folder(data_dir.absolute())
    if (holder := holder_of(folder)) is not None:
        raise DataDirInUse(f"{folder} is in use by process {holder}: `scrapesaga down` stops it.")
    told = {"data_dir": str(folder), "pipelines": [str(path.absolute()) for path in pipelines], **options}
    reading, writing = os.pipe()
    try:
        process = child.spawn(
            (sys.executable, "-P", "-c", _CHILD, json.dumps(told), str(writing)),
            log_path=_log(folder),
            pass_fds=(writing,),
            die_with_parent=False,
        )
    finally:
        os.close(writing)
    try:
        with Console().status("starting in the background") as status, os.fdopen(reading, encoding="utf-8") as news:
            for line in news:
                if line.strip() == _UP:
                    return process.pid
                status.update(line.strip())
    except BaseException:
        child.end(process, within=_DOWN_WITHIN)
        raise
    child.end(process, within=_DOWN_WITHIN)
    raise StartFailed(f"The engine didn't start. The end of {_log(folder)}:\n{child.last_lines(_log(folder))}")


def main(arguments: Sequence[str]) -> int:
    """Be the engine in the background; the arguments are `up_detached`'s."""
    from processors.local.up import run_up

    told = json.loads(arguments[0])
    news = os.fdopen(int(arguments[1]), "w", encoding="utf-8", buffering=1)

    def announce(what: str) -> None:
        # Whoever listens may have gone away, and has no need of it once everything is up.
        if not news.closed:
            try:
                news.write(f"{what or _UP}\n")
            except BrokenPipeError:
                pass
            if not what:
                news.close()

    try:
        return run_up(
            data_dir=Path(told["data_dir"]),
            pipelines=[Path(path) for path in told["pipelines"]],
            bootstrap_servers=told["bootstrap_servers"],
            clickhouse_url=told["clickhouse_url"],
            processes=told["processes"],
            announce=announce,
        )
    except Exception as error:
        if isinstance(error, LocalError) or type(error).__module__.startswith(("processors.", "topics.")):
            # One of ours says what to do; a traceback would hide it.
            print(f"scrapesaga: {error}", file=sys.stderr)
            return 3
        raise


def down(data_dir: Path) -> int:
    """Stop the engine of this folder, in the background or in another terminal; return its pid.

    Raises LocalError if none runs there, or it doesn't end.
    """
    folder = data_dir.absolute()
    pid = holder_of(folder)
    if pid is None:
        raise LocalError(f"No engine runs in {folder}: give another folder with --data-dir.")
    try:
        os.kill(pid or _unknown(folder), signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise LocalError(
            f"The engine in {folder} (process {pid}) belongs to another user: you can't stop it."
        ) from None
    give_up = time.monotonic() + _DOWN_WITHIN.total_seconds()
    while holder_of(folder) is not None:
        if time.monotonic() > give_up:
            raise LocalError(f"Process {pid} hasn't ended within {_DOWN_WITHIN}: see {_log(folder)}, or kill it.")
        time.sleep(_POLL_S)
    # It has let go of the folder and says so; a zombie that nobody collects isn't waited for.
    give_up = time.monotonic() + _EXIT_WITHIN_S
    while _exists(pid) and time.monotonic() < give_up:
        time.sleep(_POLL_S)
    return pid


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _unknown(folder: Path) -> int:
    raise LocalError(f"{folder} is in use by a process that left no pid: stop that process.")


def log_files(data_dir: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the logs in a folder by name, those that were named or all. Raises LocalError if there is none."""
    folder = data_dir.absolute()
    found = {path.stem: path for path in sorted((folder / "logs").glob("*.log"))}
    for name, path in (
        ("kafka", folder / "kafka" / "broker.log"),
        ("clickhouse", folder / "clickhouse" / "clickhouse.log"),
    ):
        if path.exists():
            found[name] = path
    if not found:
        raise LocalError(f"No engine has run in {folder}: give another folder with --data-dir.")
    for name in names:
        if name not in found:
            raise LocalError(f"There is no log of {name!r}; there are: {', '.join(found)}.")
    return {name: found[name] for name in names} if names else found


def ends(logs: Mapping[str, Path], lines: int) -> Iterator[tuple[str, str]]:
    """Yield the last lines of each log, with its name."""
    for name, path in logs.items():
        if lines:
            for line in child.last_lines(path, lines).splitlines():
                yield name, line


def followed(logs: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield each line that is added from now on, with the name of its log; never ends."""
    places = {name: path.stat().st_size for name, path in logs.items()}
    rests = dict.fromkeys(logs, b"")
    while True:
        for name, path in logs.items():
            with path.open("rb") as log:
                if log.seek(0, os.SEEK_END) < places[name]:
                    # Cut off, or begun anew.
                    places[name], rests[name] = 0, b""
                log.seek(places[name])
                added = log.read()
            places[name] += len(added)
            *whole, rests[name] = (rests[name] + added).split(b"\n")
            for line in whole:
                yield name, line.decode(errors="replace")
        time.sleep(_FOLLOW_S)


def _log(folder: Path) -> Path:
    return folder / "logs" / "up.log"
