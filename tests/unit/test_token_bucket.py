"""A pace lets what is seldom go at once, and bounds what is frequent."""

from __future__ import annotations

from processors.kafka.token_bucket import TokenBucket


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_goes_at_once_and_then_turns_are_taken() -> None:
    """As many as a burst has, none more until time has passed."""
    clock = _Clock()
    bucket = TokenBucket(10, 3, clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert round(bucket.wait_s(), 6) == 0.1


def test_turns_come_back_with_time() -> None:
    """One a tenth of a second here; a wait that was told is enough."""
    clock = _Clock()
    bucket = TokenBucket(10, 3, clock)
    while bucket.take():
        pass
    clock.now += bucket.wait_s()
    assert bucket.take()
    assert not bucket.take()


def test_turns_are_not_saved_up_beyond_a_burst() -> None:
    """A long quiet doesn't allow a long storm."""
    clock = _Clock()
    bucket = TokenBucket(10, 3, clock)
    clock.now += 3600
    assert sum(bucket.take() for _ in range(10)) == 3
