"""Runs apps, and services beside them, in one event loop until a signal or a crash; the exit code says which."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta

import faust
from aiokafka.errors import KafkaConnectionError

from processors.errors import ConfigurationError, ScrapesagaError

try:
    import uvloop
except ImportError:  # Windows
    uvloop = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

#: A name for log lines, and what runs until it is cancelled.
Service = tuple[str, Callable[[], Awaitable[None]]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_apps(
    apps: Sequence[faust.App],
    *,
    resources: Sequence[AbstractAsyncContextManager[object]] = (),
    services: Sequence[Service] = (),
    on_ready: Callable[[], Awaitable[None]] | None = None,
    stop_within: timedelta = timedelta(seconds=30),
) -> int:
    """Run until SIGTERM, SIGINT or a crash; return 0 if all ended in order, 3 if a service found a setting wrong, else 1.

    `resources` (a Producer, a metrics server) are entered before the apps start and left after they have stopped.
    `services` run until they are cancelled at the stop; one that ends or raises before stops the process.
    `on_ready` is awaited once all have started and recovered. A second signal ends the process at once.
    """
    factory = None if uvloop is None else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_with_signals(apps, resources, services, on_ready, stop_within))


async def _with_signals(
    apps: Sequence[faust.App],
    resources: Sequence[AbstractAsyncContextManager[object]],
    services: Sequence[Service],
    on_ready: Callable[[], Awaitable[None]] | None,
    stop_within: timedelta,
) -> int:
    stop = asyncio.Event()

    def hear(which: signal.Signals) -> None:
        if stop.is_set():
            log.warning(
                "%s again: ending at once. What was not committed is delivered again.",
                which.name,
            )
            os._exit(1)
        log.info("%s: stopping.", which.name)
        stop.set()

    loop = asyncio.get_running_loop()
    for which in _SIGNALS:
        loop.add_signal_handler(which, hear, which)
    try:
        return await serve(
            apps, stop, resources=resources, services=services, on_ready=on_ready, stop_within=stop_within
        )
    finally:
        for which in _SIGNALS:
            loop.remove_signal_handler(which)


async def serve(
    apps: Sequence[faust.App],
    stop: asyncio.Event,
    *,
    resources: Sequence[AbstractAsyncContextManager[object]] = (),
    services: Sequence[Service] = (),
    on_ready: Callable[[], Awaitable[None]] | None = None,
    stop_within: timedelta = timedelta(seconds=30),
) -> int:
    """Run apps in the present loop until `stop` is set or one crashes; the result is that of run_apps()."""
    async with AsyncExitStack() as stack:
        try:
            for resource in resources:
                await stack.enter_async_context(resource)
        except ScrapesagaError as error:
            log.error("%s", error)
            return 1
        start = asyncio.create_task(_start(apps, on_ready), name="start")
        running = [asyncio.create_task(_until_cancelled(service), name=service[0]) for service in services]
        ends = [asyncio.create_task(stop.wait()), *(asyncio.create_task(_crash_of(app)) for app in apps), *running]
        try:
            await asyncio.wait([start, *ends], return_when=asyncio.FIRST_COMPLETED)
            in_order = not start.done() or _succeeded(start)
            if in_order:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for app in filter(_has_failed, apps):
                log.error("%s crashed and stops: %r", app.conf.id, app.crash_reason)
            failures = [found for task in running if task.done() and (found := task.exception()) is not None]
            in_order &= await _stop(apps, stop_within) and await _cancel(running, stop_within)
        finally:
            for task in (start, *ends):
                task.cancel()
            await asyncio.gather(start, *ends, return_exceptions=True)
        if any(isinstance(failure, ConfigurationError) for failure in failures):
            return 3
        return 0 if in_order and not failures and not any(map(_has_failed, apps)) else 1


async def _start(apps: Sequence[faust.App], on_ready: Callable[[], Awaitable[None]] | None) -> None:
    async with asyncio.TaskGroup() as group:
        for app in apps:
            group.create_task(app.start())
    _spare_the_collector()
    if on_ready is not None:
        await on_ready()


def _spare_the_collector() -> None:
    """Let the garbage collector forget what the start made, and look at the rest less often.

    It would walk modules, schemas and plans again and again, which stay for good, for a few exceptions with tracebacks:
    records, states and replies form no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _succeeded(start: asyncio.Task[None]) -> bool:
    error = start.exception()
    if error is None:
        return True
    first = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
    # What we explain ourselves, and what says that Kafka isn't there, needs no traceback.
    expected = isinstance(first, ScrapesagaError | KafkaConnectionError)
    log.error("Could not start: %s", first, exc_info=None if expected else first)
    return False


async def _until_cancelled(service: Service) -> None:
    name, run = service
    try:
        await run()
    except Exception as error:
        log.error("%s stops: %s", name, error, exc_info=None if isinstance(error, ScrapesagaError) else error)
        raise
    log.error("%s ended unexpectedly.", name)
    raise ScrapesagaError(f"{name} ended unexpectedly.")


async def _cancel(running: Sequence[asyncio.Task[None]], within: timedelta) -> bool:
    """Cancel services and wait; tell whether all ended in time."""
    for task in running:
        task.cancel()
    _, late = await asyncio.wait(running, timeout=within.total_seconds()) if running else ((), ())
    for task in late:
        log.error("%s did not stop within %s.", task.get_name(), within)
    return not late


async def _crash_of(app: faust.App) -> bool:
    return await app._crashed.wait()


def _has_failed(app: faust.App) -> bool:
    # An agent that is cancelled at the end of its time is a crash to Faust.
    return app.crashed and not isinstance(app.crash_reason, asyncio.CancelledError)


async def _stop(apps: Sequence[faust.App], within: timedelta) -> bool:
    stops = [asyncio.create_task(app.stop(), name=app.conf.id) for app in apps if app.started]
    if not stops:
        return True
    done, late = await asyncio.wait(stops, timeout=within.total_seconds())
    for task in late:
        log.error(
            "%s did not stop within %s: what it did not commit is delivered again.",
            task.get_name(),
            within,
        )
        task.cancel()
    failed = [task for task in done if task.exception() is not None]
    for task in failed:
        log.error("%s failed while it stopped.", task.get_name(), exc_info=task.exception())
    return not late and not failed
