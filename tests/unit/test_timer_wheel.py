"""The index of deadlines rings for everything once, nothing early, and forgets what is disarmed."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from processors.roles.timer_wheel import BUCKET_MS, TimerWheel

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
TIMES = st.integers(1, 400)


def test_never_is_never() -> None:
    """A state without a timer isn't armed, and disarming it is nothing."""
    timers = TimerWheel()
    timers.arm(b"a", 1, 0)
    timers.disarm(b"a", 0)
    assert (len(timers), timers.next_ms(), list(timers.due(10**15))) == (0, None, [])


def test_nothing_rings_before_its_time() -> None:
    """A timer rings within one bucket after its time, and not a millisecond before it."""
    timers = TimerWheel()
    timers.arm(b"a", 1, 1_001)
    assert list(timers.due(1_000)) == []
    assert timers.next_ms() is not None
    assert list(timers.due(1_001 + BUCKET_MS)) == [(b"a", 1)]


def test_what_is_due_rings_once() -> None:
    """What was taken out is not there any more."""
    timers = TimerWheel()
    timers.arm(b"a", 1, 10)
    assert list(timers.due(100)) == [(b"a", 1)]
    assert list(timers.due(100)) == []


def test_the_oldest_ring_first() -> None:
    """Buckets ring in the order of their times."""
    timers = TimerWheel()
    for number, due in enumerate([900, 100, 500]):
        timers.arm(b"%d" % number, number, due)
    assert [seq for _, seq in timers.due(1_000)] == [1, 2, 0]


def test_a_limit_leaves_the_rest_for_later() -> None:
    """No more than the limit is taken at once, and nothing is lost by it."""
    timers = TimerWheel()
    for number in range(25):
        timers.arm(b"%d" % number, number, 10)
    taken = [seq for _ in range(3) for _, seq in timers.due(20, limit=10)]
    assert sorted(taken) == list(range(25))
    assert len(timers) == 0


def test_a_later_state_takes_the_timer_over() -> None:
    """The next state of the same job, due in the same bucket, rings in place of the one before."""
    timers = TimerWheel()
    timers.arm(b"a", 1, 1_000)
    timers.disarm(b"a", 1_000)
    timers.arm(b"a", 2, 1_001)
    assert list(timers.due(2_000)) == [(b"a", 2)]


def test_what_is_disarmed_leaves_nothing_behind() -> None:
    """Under load all timers of an hour are disarmed long before their time, and take no memory until then."""
    timers = TimerWheel()
    timers.arm(b"a", 1, 10**9)
    for number in range(20_000):
        timers.arm(b"b", number, 10 * number + 10)
        timers.disarm(b"b", 10 * number + 10)
    assert len(timers._buckets.at) == 1
    assert len(timers._buckets._order) < 2_000
    assert list(timers.due(10**9)) == [(b"a", 1)]


class Wheel(RuleBasedStateMachine):
    """The wheel against a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = TimerWheel()
        self.armed: dict[bytes, tuple[int, int]] = {}
        self.now = 0
        self.seq = 0

    @rule(key=KEYS, after=TIMES)
    def change(self, key: bytes, after: int) -> None:
        """A saga has a new state: the old timer goes, a new one comes."""
        self.seq += 1
        if key in self.armed:
            self.wheel.disarm(key, self.armed[key][1])
        self.armed[key] = (self.seq, self.now + after)
        self.wheel.arm(key, *self.armed[key])

    @rule(key=KEYS)
    def forget(self, key: bytes) -> None:
        """A saga ends."""
        if key in self.armed:
            self.wheel.disarm(key, self.armed.pop(key)[1])

    @rule(by=TIMES, limit=st.integers(1, 5))
    def wait(self, by: int, limit: int) -> None:
        """Time passes; what rings was due, and all that is a bucket overdue rings."""
        self.now += by
        taken = list(self.wheel.due(self.now, limit))
        for key, seq in taken:
            armed = self.armed.pop(key)
            assert armed[0] == seq
            assert armed[1] <= self.now
        if len(taken) < limit:
            assert all(due + BUCKET_MS > self.now for _, due in self.armed.values())

    @invariant()
    def agrees(self) -> None:
        """As many timers as there are, and the next one no later than a bucket after the first."""
        assert len(self.wheel) == len(self.armed)
        following = self.wheel.next_ms()
        assert (following is None) == (not self.armed)
        if following is not None:
            first = min(due for _, due in self.armed.values())
            assert first <= following < first + BUCKET_MS


TestWheel = Wheel.TestCase
TestWheel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
