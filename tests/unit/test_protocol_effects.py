"""What may have happened is undone: late successes, unknown outcomes, compensations that came too early."""

from __future__ import annotations

from collections.abc import Callable

from processors.saga.commands import Note
from processors.saga.events import ResumeMode
from processors.saga.state import Action, Phase, StepStatus, Undo
from tests.sagas import ALWAYS, RUN, compensated, compensating, completed, new, parked, plan, running, step


def test_success_of_a_superseded_attempt_settles() -> None:
    """The first attempt's success settles the step while the second is under way: both have the same key."""
    job = running()
    first = job.flight.command_seq
    job.fire()
    job.succeed("a", first)
    assert job.asked == ("EXECUTE", "b")
    assert job.of("a").status is StepStatus.SUCCEEDED


def test_success_while_a_retry_waits_settles() -> None:
    """A success that comes while the retry waits makes the retry unnecessary."""
    job = running()
    first = job.flight.command_seq
    job.fail("a", retryable=True, retry_after_ms=5_000)
    job.succeed("a", first)
    assert job.asked == ("EXECUTE", "b")


def test_failure_of_a_superseded_attempt_is_ignored() -> None:
    """The first attempt's failure says nothing about the second; only that it was answered."""
    job = running()
    first = job.flight.command_seq
    job.fire()
    second = job.flight.command_seq
    job.fail("a", first)
    assert (job.phase, job.note, job.flight.command_seq) == (Phase.RUNNING, Note.ANSWERED, second)
    assert job.of("a").unanswered == (second,)


def test_repeated_failure_takes_one_attempt() -> None:
    """A failure that is delivered twice is one failure."""
    job = running()
    first = job.flight.command_seq
    job.fail("a", first, retryable=True)
    job.fail("a", first, retryable=True)
    assert (job.note, job.flight.attempt) == (Note.IGNORED, 2)


def test_certain_failure_leaves_nothing_to_undo() -> None:
    """A step that failed for sure without effect is not compensated; the steps before it are."""
    job = running()
    job.succeed("a")
    job.fail("b")
    assert job.asked == ("COMPENSATE", "a")
    assert job.of("b").undo is Undo.NONE


def test_unknown_failure_is_compensated() -> None:
    """Unknown means undo: the step that failed with an unknown outcome is undone first."""
    job = compensating()
    assert job.asked == ("COMPENSATE", "b")
    job.compensated("b")
    assert job.asked == ("COMPENSATE", "a")
    job.compensated("a")
    assert job.phase is Phase.COMPENSATED


def test_timed_out_step_is_compensated() -> None:
    """A step that ran out of attempts by time may have worked: it is undone."""
    job = running()
    job.fire()
    job.fire()
    assert (job.phase, job.asked) == (Phase.COMPENSATING, ("COMPENSATE", "a"))


def test_an_unknown_attempt_counts_after_a_certain_one() -> None:
    """The first attempt's unknown outcome is not forgotten when the second fails for sure."""
    job = running()
    job.fail("a", retryable=True, outcome_unknown=True)
    job.fail("a")
    assert job.asked == ("COMPENSATE", "a")


def test_an_unanswered_attempt_counts_after_a_certain_one() -> None:
    """While the first attempt has no answer, a certain failure of the second doesn't settle the step."""
    job = running()
    first = job.flight.command_seq
    job.fire()
    job.fail("a")
    assert job.asked == ("COMPENSATE", "a")
    assert job.of("a").unanswered == (first,)


def test_late_success_during_its_compensation() -> None:
    """A success that comes while its step is being undone: that undo may have been too early, another follows."""
    job = compensating()
    early = job.flight.command_seq
    job.succeed("b", early - 1)
    job.compensated("b", early)
    assert (job.phase, job.asked) == (Phase.COMPENSATING, ("COMPENSATE", "b"))
    job.compensated("b")
    assert job.asked == ("COMPENSATE", "a")


def test_retried_undo_after_a_late_success_counts() -> None:
    """An undo commanded after the late success is late enough, whichever attempt it is."""
    job = compensating()
    job.succeed("b", job.flight.command_seq - 1)
    job.compensation_failed("b", seq=job.flight.command_seq)
    assert job.asked == ("COMPENSATE", "b")
    job.compensated("b")
    assert job.asked == ("COMPENSATE", "a")


def test_early_undo_of_a_retried_one_is_ignored() -> None:
    """The answer of an undo from before the late success changes nothing while a later one is under way."""
    job = compensating()
    early = job.flight.command_seq
    job.succeed("b", early - 1)
    job.fire()
    later = job.flight.command_seq
    job.compensated("b", early)
    assert (job.note, job.flight.command_seq, job.of("b").undo) == (Note.IGNORED, later, Undo.NEEDED)


def test_late_success_of_a_step_undone_before() -> None:
    """A success of a step that was undone already is undone again, before those that come before it."""
    job = compensating()
    execute = job.flight.command_seq - 1
    job.compensated("b")
    job.succeed("b", execute)
    assert job.of("b").undo is Undo.NEEDED
    job.compensated("a")
    assert job.asked == ("COMPENSATE", "b")


def test_late_success_after_the_end() -> None:
    """A success after COMPENSATED is evidence of an effect: the saga undoes it and ends once more."""
    job = compensated()
    job.succeed("a", 2)
    assert (job.phase, job.asked) == (Phase.COMPENSATING, ("COMPENSATE", "a"))
    job.compensated("a")
    assert (job.phase, job.note) == (Phase.COMPENSATED, Note.COMPENSATED)


def test_repeated_undone_of_an_earlier_round_is_ignored() -> None:
    """The repeated answer of the first compensation doesn't pass for an answer of the second."""
    job = running()
    job.succeed("a")
    job.fail("b")
    first_round = job.flight.command_seq
    job.compensated("a")
    job.succeed("a", 2)
    job.compensated("a", first_round)
    assert (job.phase, job.note) == (Phase.COMPENSATING, Note.IGNORED)
    job.compensated("a")
    assert job.phase is Phase.COMPENSATED


def test_late_unknown_failure_is_undone_again() -> None:
    """ "Outcome unknown" after the compensation may be an effect after the compensation: it is undone again."""
    job = running()
    first = job.flight.command_seq
    job.fire()
    job.fire()
    job.compensated("a")
    assert job.phase is Phase.COMPENSATED
    job.fail("a", first, outcome_unknown=True)
    assert (job.phase, job.note, job.asked) == (Phase.COMPENSATING, Note.LATE_EFFECT, ("COMPENSATE", "a"))


def test_late_success_of_a_step_without_undo() -> None:
    """A late success of a step that has nothing to undo is only recorded."""
    job = running(steps=(step("a", undoable=False), step("b")))
    first = job.flight.command_seq
    job.fire()
    job.fire()
    assert job.phase is Phase.COMPENSATED
    job.succeed("a", first)
    assert (job.phase, job.note, job.of("a").status) == (Phase.COMPENSATED, Note.ANSWERED, StepStatus.SUCCEEDED)


def test_parked_saga_hears_a_late_undone() -> None:
    """The undo that was given up reports success after all: the saga goes on by itself."""
    job = compensating()
    given_up = job.flight.command_seq
    job.compensation_failed("b", retryable=False)
    job.compensated("b", given_up)
    assert (job.phase, job.asked) == (Phase.COMPENSATING, ("COMPENSATE", "a"))


def test_skip_does_not_cover_an_effect_reported_since() -> None:
    """Who skips may not have seen the effect that was reported since: that one is undone all the same."""
    job = parked()
    job.succeed("b", 4)
    job.resume(ResumeMode.SKIP, "refunded by phone")
    assert job.asked == ("COMPENSATE", "b")
    job.compensation_failed("b", retryable=False)
    job.resume(ResumeMode.SKIP, "refunded by phone")
    assert job.asked == ("COMPENSATE", "a")
    assert job.of("b").undo is Undo.SKIPPED


def test_reverse_order() -> None:
    """Compensations run in the reverse order of their steps."""
    job = running(steps="abc")
    job.succeed("a")
    job.succeed("b")
    job.fail("c", outcome_unknown=True)
    order = []
    while job.phase is Phase.COMPENSATING:
        order.append(job.asked[1])
        job.compensated(order[-1])
    assert order == ["c", "b", "a"]


def test_a_failed_run_withdraws_the_completed_one() -> None:
    """A run that follows a completed one and fails undoes the steps that it didn't reach, too: the old record goes."""
    job = completed(**ALWAYS)
    job.submit(offset=2)
    job.fail("a")
    assert job.asked == ("COMPENSATE", "b")
    job.compensated("b")
    assert job.asked == ("COMPENSATE", "a")
    job.compensated("a")
    assert job.phase is Phase.COMPENSATED


def test_a_failed_run_after_a_compensated_one_withdraws_nothing() -> None:
    """There is no record to withdraw after a compensated run."""
    job = compensated(**ALWAYS)
    job.submit(offset=2)
    job.fail("a")
    assert (job.phase, job.asked) == (Phase.COMPENSATED, ("", ""))


def test_late_effect_of_an_earlier_compensated_run_is_visible() -> None:
    """Nothing would undo a success of a run that was compensated before this one began: it becomes a dead letter."""
    job = compensated(**ALWAYS)
    job.submit(offset=2)
    job.succeed("a", 2, run=RUN)
    assert job.note is Note.LATE_EFFECT
    assert "undo it by its key" in job.refusal


def test_late_effect_of_the_run_before_the_last_is_visible() -> None:
    """That a completed run lies between doesn't make the effect of a compensated one right."""
    job = compensated(**ALWAYS)
    job.submit(offset=2)
    job.succeed("a")
    job.succeed("b")
    job.submit(offset=3)
    job.succeed("a", 2, run=RUN)
    assert "undo it by its key" in job.refusal


def test_repeated_success_of_a_completed_run_is_stale() -> None:
    """What a completed run did is where it belongs while the next run goes on."""
    job = completed(**ALWAYS)
    job.submit(offset=2)
    job.succeed("b", 3, run=RUN)
    assert (job.note, job.refusal) == (Note.STALE, "")


def test_late_effect_of_a_withdrawn_run_is_visible() -> None:
    """Once the next run has withdrawn a completed one, an effect of that one is in the wrong."""
    job = completed(**ALWAYS)
    job.submit(offset=2)
    job.fail("a")
    job.succeed("b", 3, run=RUN)
    assert "undo it by its key" in job.refusal


def test_unknown_failure_of_a_forgotten_job_is_visible() -> None:
    """A forgotten job's attempt that may have had an effect is kept for a person."""
    job = new()
    job.fail("a", outcome_unknown=True)
    assert (job.note, bool(job.refusal)) == (Note.ORPHANED, True)


def test_replies_to_commands_that_were_never_sent_are_refused() -> None:
    """A reply that names a later state, an unknown step or a run to come is no reply of ours: it is set aside."""
    job = running()
    replies: list[Callable[[], object]] = [
        lambda: job.succeed("a", job.state.seq + 1),
        lambda: job.succeed("z"),
        lambda: job.succeed("b"),
        lambda: job.succeed("a", run=RUN + 1),
    ]
    for reply in replies:
        reply()
        assert (job.note, bool(job.refusal), job.flight.command_seq) == (Note.REFUSED, True, 2)


def test_confirmations_come_last_and_in_order() -> None:
    """Every step that asks for it is confirmed once all steps have succeeded, then the saga completes."""
    job = running(steps=(step("a", confirms=True), step("b", confirms=True), step("c")))
    for name in "abc":
        job.succeed(name)
    assert job.asked == ("CONFIRM", "a")
    job.confirmed("a")
    assert job.asked == ("CONFIRM", "b")
    job.confirmed("b")
    assert job.phase is Phase.COMPLETED


def test_a_confirmation_is_given_up_only_by_a_person() -> None:
    """A confirmation that runs out of attempts parks the saga; a late answer or a person lets it go on."""
    job = running(steps=(step("a", confirms=True), step("b")))
    job.succeed("a")
    job.succeed("b")
    seq = job.flight.command_seq
    job.confirm_failed("a", retryable=False)
    assert (job.phase, job.flight.action) == (Phase.PARKED, Action.CONFIRM)
    job.cancel()
    assert "can't be cancelled any more" in job.refusal
    job.confirmed("a", seq)
    assert job.phase is Phase.COMPLETED


def test_after_all_steps_a_cancel_is_too_late() -> None:
    """What is being confirmed can't be cancelled."""
    job = running(steps=(step("a", confirms=True), step("b")))
    job.succeed("a")
    job.succeed("b")
    job.cancel()
    assert (job.phase, job.note) == (Phase.RUNNING, Note.REFUSED)


def test_nothing_done_ends_at_once() -> None:
    """A first step that fails for sure leaves nothing to undo: the saga is compensated at once."""
    job = running()
    job.fail("a")
    assert (job.phase, job.asked) == (Phase.COMPENSATED, ("", ""))


def test_an_aborted_run_names_its_step_and_reason() -> None:
    """The state says which step failed and why."""
    job = running()
    job.succeed("a")
    job.fail("b", reason="HTTP 404")
    assert (job.state.failed_step, job.state.reason) == ("b", "HTTP 404")


def test_a_command_carries_what_its_step_needs() -> None:
    """Outputs of the steps before it, its key, its number, and in a compensation its own output."""
    job = running()
    job.succeed("a", output=b'{"data":{"n":1}}')
    command = job.command
    assert command is not None
    assert command.inputs == {"a": b'{"data":{"n":1}}'}
    assert (command.key, command.seq, command.attempt) == (f"j:{RUN}:b", job.state.seq, 1)
    assert command.expires_ms == job.now + 1_000
    job.fail("b")
    assert job.command is not None
    assert (job.command.output, job.command.expires_ms) == (b'{"data":{"n":1}}', 0)
    assert job.command.plan_hash == plan().hash


def test_what_a_failed_redrive_left_is_withdrawn_by_the_next_failure() -> None:
    """A redrive that reused a published step and failed leaves it; the next run that doesn't reuse it and fails does not."""
    job = completed(steps="abc")
    job.redrive("c")
    job.fail("c")
    job.compensated("c")
    assert (job.phase, job.of("b").status) == (Phase.COMPENSATED, StepStatus.REUSED)
    job.redrive("b")
    job.fail("b")
    assert job.asked == ("COMPENSATE", "c")
    job.compensated("c")
    assert job.asked == ("COMPENSATE", "b")
