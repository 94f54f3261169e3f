"""An event loop whose time passes only when nothing else can happen, and processes on it that can be killed or halted.

A process is a set of tasks. Each time one of them is about to go on after an `await`, the process takes a turn: there it
can be killed, and then none of its code runs again, not even a `finally`; or halted, and then everything waits until it
is woken. What it had sent by then is on its way all the same.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any

_process: ContextVar[SimulatedProcess | None] = ContextVar("process", default=None)


def current_process() -> SimulatedProcess:
    """Return the process that the running code belongs to."""
    process = _process.get()
    if process is None:
        raise RuntimeError("this code belongs to no process")
    return process


class Stalled(Exception):
    """Nothing will ever happen again, though somebody waits."""


class _Silence:
    """The selector of a loop without files: waiting for them is how time passes."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stalled("every task waits for something that nobody will do")
        self._loop.elapsed += timeout
        return []

    def close(self) -> None:
        return None


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks in virtual time, in the same order whenever and wherever it runs; threads are run to their end at once."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0
        self._clock_resolution = 1e-7
        self._selector = _Silence(self)
        self._over = False
        self._running: dict[int, Coroutine[Any, Any, Any]] = {}
        self.set_task_factory(self._new_task)
        # Nobody retrieves what the tasks of a killed process came to.
        self.set_exception_handler(lambda loop, context: None)

    def time(self) -> float:
        """Seconds since the history began."""
        return self.elapsed

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run a function now: a thread's timing could not be repeated."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # whatever it is goes to whoever awaits it
            future.set_exception(error)
        return future

    def finish(self) -> None:
        """Close whatever still runs, inside the loop: what its `finally` blocks start doesn't begin any more."""
        self._over = True
        asyncio.events._set_running_loop(self)
        try:
            for coroutine in list(self._running.values()):
                # One that awaits in its `finally` goes on from there when it is closed again.
                for _ in range(3):
                    with suppress(BaseException):
                        coroutine.close()
                        break
        finally:
            asyncio.events._set_running_loop(None)
        self._running.clear()
        self.close()

    def _new_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **how: Any) -> asyncio.Task[Any]:
        if self._over:
            coroutine.close()
            # Nobody will look at it: what asked for it is being closed.
            return self.create_future()  # type: ignore[return-value]
        context: Context | None = how.get("context")
        process = _process.get() if context is None else context.get(_process)
        self._running[id(coroutine)] = coroutine
        task = asyncio.Task(_turns(coroutine, process, self._running), loop=self, **how)
        # Those of a killed process are pending for ever.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    # What BaseEventLoop asks of a loop with files.

    def _process_events(self, events: object) -> None:
        return None

    def _write_to_self(self) -> None:
        return None


@types.coroutine
def _turns(
    coroutine: Coroutine[Any, Any, Any], process: SimulatedProcess | None, running: dict[int, Coroutine[Any, Any, Any]]
) -> Generator[Any, Any, Any]:
    """Run a coroutine, taking a turn of its process before each step."""
    error: BaseException | None = None
    while True:
        if process is not None:
            process.take_turn()
            while process.stopped:
                try:
                    yield from process.wait_for_waking()
                except GeneratorExit:
                    raise
                except BaseException as meanwhile:  # noqa: BLE001  # a cancel: felt on waking
                    error = meanwhile
        try:
            awaited = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as done:
            running.pop(id(coroutine), None)
            return done.value
        except BaseException:
            running.pop(id(coroutine), None)
            raise
        error = None
        try:
            yield awaited
        except GeneratorExit:
            raise
        except BaseException as thrown:  # noqa: BLE001  # handed on to the coroutine
            error = thrown


class SimulatedProcess:
    """Tasks that live, stand still and die together."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.halted = False
        self.turns = 0
        #: What happens at which turn, by its number.
        self.at_turn: dict[int, Callable[[], None]] = {}
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def stopped(self) -> bool:
        """Whether none of its code may run now."""
        return self.halted or not self.alive

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task of this process; what it starts belongs to the process too."""
        context = copy_context()
        context.run(_process.set, self)
        return self.loop.create_task(coroutine, context=context)

    def take_turn(self) -> None:
        """One of its tasks is about to go on."""
        if self.stopped:
            return
        self.turns += 1
        happens = self.at_turn.pop(self.turns, None) if self.at_turn else None
        if happens is not None:
            happens()

    def kill(self) -> None:
        """Let none of its code run again."""
        self.alive = False

    def halt(self) -> None:
        """Let its code stand still."""
        self.halted = True

    def wake(self) -> None:
        """Let it go on, unless it was killed."""
        self.halted = False
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def wait_for_waking(self) -> Generator[Any, Any, None]:
        """Wait until it is woken; for ever if it was killed."""
        future: asyncio.Future[None] = self.loop.create_future()
        if self.alive:
            self._waiting.append(future)
        yield from future
