"""Whether an app works, as a list of problems: an empty list means that it works.

Faust's own `GET /` always says OK.
"""

from __future__ import annotations

from time import monotonic
from typing import cast

import faust
from faust.agents import Agent

from processors.transport.consumer import FastConsumer

# The fetch loop turns at least once a second, commits run every half second.
_LATE_S = 10.0
# No turn for this long: the loop is blocked, or the fetcher has died without a crash of the app.
_DEAD_S = 60.0
# A batch that takes longer than this never ends, because every step has a time limit.
_STUCK_S = 900.0


def ready(app: faust.App) -> list[str]:
    """Reasons why the app does not take work now."""
    if app.crashed or app.should_stop:
        return ["stopping"]
    if not app.started:
        return ["not started"]
    consumer = cast("FastConsumer | None", app._consumer)
    reasons = [] if consumer is None else _consumer_reasons(consumer)
    if app._assignment is None:
        reasons.append(f"waits for partitions of group {app.conf.id}")
    elif app.in_recovery:
        reasons.append("recovers its table")
    elif app.rebalancing:
        reasons.append("rebalances")
    return reasons + dead_agents(app)


def alive(app: faust.App) -> list[str]:
    """Reasons why the app should be restarted."""
    if app.crashed:
        return [f"crashed: {app.crash_reason!r}"]
    reasons = dead_agents(app) if app.started and not app.should_stop else []
    consumer = cast("FastConsumer | None", app._consumer)
    if consumer is not None and app._assignment is not None and not app.rebalancing:
        idle_s = monotonic() - consumer.turned_at
        if idle_s > _DEAD_S:
            reasons.append(f"has not fetched for {idle_s:.0f} s")
        if consumer.oldest_in_flight_s > _STUCK_S:
            reasons.append(f"has worked on one record for {consumer.oldest_in_flight_s:.0f} s")
    return reasons


def dead_agents(app: faust.App) -> list[str]:
    """Agents whose task has ended."""
    return [
        f"agent {agent.name} has ended"
        for agent in cast(dict[str, Agent], app.agents).values()
        if any(actor.actor_task is None or actor.actor_task.done() for actor in agent._actors)
    ]


def _consumer_reasons(consumer: FastConsumer) -> list[str]:
    if consumer._kafka is None:
        return ["not connected to Kafka"]
    reasons = [f"topic {topic} doesn't exist: provision the topics" for topic in consumer.missing_topics()]
    now = monotonic()
    if consumer.commit_failing_since is not None and now - consumer.commit_failing_since > _LATE_S:
        reasons.append(f"has not been able to commit for {now - consumer.commit_failing_since:.0f} s")
    if consumer.flow_active and now - consumer.turned_at > _LATE_S:
        reasons.append(f"has not fetched for {now - consumer.turned_at:.0f} s")
    return reasons
