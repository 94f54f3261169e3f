"""The same job again: duplicates, resubmissions, redrives; operators' requests; redelivered and poisonous records."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.saga.commands import Note
from processors.saga.events import ResumeMode
from processors.saga.plan import Resubmit
from processors.saga.protocol import advance, poisoned
from processors.saga.state import Origin, Phase, StepStatus, Undo
from tests.sagas import ALWAYS, RUN, Driven, compensated, completed, parked, plan, running, step

IF_FAILED = {"resubmit": Resubmit.IF_FAILED}


# --- duplicates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", list(Resubmit))
@pytest.mark.parametrize("given", [completed, compensated])
def test_a_redelivered_submission_never_starts_a_run(given: Callable[..., Driven], policy: Resubmit) -> None:
    """The very submission that started the saga is a duplicate for ever, by its origin, whatever the policy."""
    job = given(resubmit=policy)
    job.submit(offset=1)
    assert (job.note, job.state.run, job.phase) == (Note.DUPLICATE, RUN, given().phase)


@pytest.mark.parametrize("content_hash", ["c1", "other"])
def test_a_submission_is_decided_once(content_hash: str) -> None:
    """A submission that met a running saga starts nothing when it is delivered again after the end."""
    job = running(**ALWAYS)
    job.submit(offset=2, content_hash=content_hash)
    job.succeed("a", 2)
    job.succeed("b")
    assert job.phase is Phase.COMPLETED
    job.submit(offset=2, content_hash=content_hash)
    assert (job.note, job.state.run) == (Note.DUPLICATE, RUN)


def test_a_refused_submission_is_both_refused_and_remembered() -> None:
    """Remembering a refused submission doesn't lose its dead letter."""
    job = running(**ALWAYS)
    decision = job.submit(offset=2, content_hash="other")
    assert decision.changed
    assert "different content" in job.refusal
    assert job.state.origins == (Origin(0, 2),)


def test_an_earlier_offset_is_a_repetition() -> None:
    """Of each partition of requests only the last origin is kept: what lies before it was delivered before."""
    job = completed(**ALWAYS)
    job.submit(offset=5)
    job.succeed("a")
    job.succeed("b")
    job.submit(offset=1)
    notes = [job.note]
    job.submit(offset=1, partition=3)
    notes.append(job.note)
    assert notes == [Note.DUPLICATE, Note.STARTED]
    assert job.state.origins == (Origin(0, 5), Origin(3, 1))


def test_different_content_is_refused_while_it_runs() -> None:
    """Another request under the same job_id is visible, and changes nothing."""
    job = running()
    before = job.saga
    job.submit(offset=2, content_hash="other")
    assert (job.note, job.saga) == (Note.REFUSED, before)
    assert "RUNNING with different content" in job.refusal


# --- resubmission ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "given", "starts"),
    [
        (Resubmit.REJECT, completed, False),
        (Resubmit.REJECT, compensated, False),
        (Resubmit.IF_FAILED, completed, False),
        (Resubmit.IF_FAILED, compensated, True),
        (Resubmit.ALWAYS, completed, True),
        (Resubmit.ALWAYS, compensated, True),
    ],
)
def test_resubmit_policies(policy: Resubmit, given: Callable[..., Driven], starts: bool) -> None:
    """After the end, the pipeline's policy decides whether the same request starts a new run with new keys."""
    job = given(resubmit=policy)
    job.submit(offset=2)
    assert job.note is (Note.STARTED if starts else Note.DUPLICATE)
    if starts:
        assert job.command is not None
        assert (job.state.run, job.command.key) == (RUN + 1, f"j:{RUN + 1}:a")


def test_resubmitted_other_content_is_refused_by_policy() -> None:
    """Other content under the id of an ended job is refused, and the reason says what to do."""
    job = completed()
    job.submit(offset=2, content_hash="other")
    assert "use another job_id, or resubmit: always" in job.refusal


def test_a_new_run_keeps_the_numbers_growing() -> None:
    """A new run's states and commands have higher numbers than the run before."""
    job = completed(**ALWAYS)
    before = job.state.seq
    job.submit(offset=2)
    assert job.state.seq == before + 1
    assert job.state.steps[0].unanswered == (before + 1,)


def test_no_new_run_beside_unanswered_commands() -> None:
    """An attempt that may still be at work would mix with the new run."""
    job = running(**IF_FAILED)
    job.fire()
    job.fire()
    job.compensated("a")
    assert job.phase is Phase.COMPENSATED
    job.submit(offset=2)
    assert "unanswered commands" in job.refusal


def test_a_forgotten_job_comes_back_with_new_keys_and_numbers() -> None:
    """A job_id that is used again after its retention has higher numbers and other idempotency keys than before."""
    job = completed()
    old = job.state
    job.fire()
    assert job.phase is Phase.NEW
    job.submit(offset=9)
    assert job.state.seq > old.seq
    assert job.state.run > old.run
    assert job.command is not None
    assert job.command.key != f"j:{old.run}:a"


# --- redrive ---------------------------------------------------------------------------------------------------------


def test_redrive_reuses_earlier_results() -> None:
    """The new run starts at the step, with the outputs of the steps before it and without running them."""
    job = running(steps="abc")
    job.succeed("a", output=b"A")
    job.succeed("b", output=b"B")
    job.succeed("c")
    job.redrive("c")
    assert job.asked == ("EXECUTE", "c")
    assert job.command is not None
    assert job.command.inputs == {"a": b"A", "b": b"B"}
    assert [one.status for one in job.state.steps] == [StepStatus.REUSED, StepStatus.REUSED, StepStatus.COMMANDED]


def test_redrive_refuses_what_was_undone() -> None:
    """An undone result can't be reused; the reason says from where to redrive."""
    job = compensated()
    job.redrive("b")
    assert (job.phase, job.note) == (Phase.COMPENSATED, Note.REFUSED)
    assert "redrive from 'a' or earlier" in job.refusal


def test_redrive_refuses_what_was_skipped() -> None:
    """What a person left in place for another reason isn't a result."""
    job = parked()
    job.resume(ResumeMode.SKIP, "by hand")
    job.compensated("a")
    job.redrive("b")
    assert "no result to reuse" in job.refusal


def test_redrive_refuses_an_unknown_step() -> None:
    """A step that the plan doesn't have is named."""
    job = completed()
    job.redrive("z")
    assert "has no step 'z'" in job.refusal


def test_redrive_by_a_new_plan() -> None:
    """A redrive takes the plan it names; results are found by step name."""
    job = completed(steps="ab")
    job.redrive("c", plan=plan("bc"))
    assert job.asked == ("EXECUTE", "c")
    assert [one.name for one in job.state.plan.steps] == ["b", "c"]


def test_redriven_twice_reuses_the_reused() -> None:
    """A result stays reusable over any number of runs."""
    job = completed()
    job.redrive("b")
    job.succeed("b")
    job.redrive("b")
    assert (job.asked, job.state.run) == (("EXECUTE", "b"), RUN + 2)


def test_a_failed_redrive_keeps_what_it_reused() -> None:
    """The reused page stays for the next redrive; only the steps of this run are undone."""
    job = completed()
    job.redrive("b")
    job.fail("b")
    assert job.asked == ("COMPENSATE", "b")
    job.compensated("b")
    assert job.phase is Phase.COMPENSATED
    assert job.of("a").undo is Undo.NONE
    job.redrive("b")
    assert job.asked == ("EXECUTE", "b")


def test_no_redrive_beside_unanswered_commands() -> None:
    """A redrive waits until every command of the run before was answered."""
    job = running()
    job.fire()
    job.succeed("a")
    job.succeed("b")
    job.redrive("b")
    assert (job.phase, "unanswered commands" in job.refusal) == (Phase.COMPLETED, True)


# --- operators -------------------------------------------------------------------------------------------------------


def test_cancel_undoes_what_runs() -> None:
    """The command under way may have worked: it is undone with the rest."""
    job = running()
    job.succeed("a")
    job.cancel()
    assert job.asked == ("COMPENSATE", "b")
    assert job.state.reason == "cancelled by ann: wrong list"


def test_cancel_while_a_retry_waits() -> None:
    """Nothing is under way and the attempt failed for sure: only the steps before are undone."""
    job = running()
    job.succeed("a")
    job.fail("b", retryable=True, retry_after_ms=9_000)
    job.cancel()
    assert job.asked == ("COMPENSATE", "a")


def test_skip_needs_a_reason() -> None:
    """Nobody leaves an effect in place without saying why."""
    job = parked()
    job.resume(ResumeMode.SKIP)
    assert (job.phase, "needs a reason" in job.refusal) == (Phase.PARKED, True)


def test_skip_is_recorded() -> None:
    """The skipped compensation is marked, and the act is on record."""
    job = parked()
    job.resume(ResumeMode.SKIP, "refunded by phone")
    assert job.of("b").undo is Undo.SKIPPED
    assert job.state.operator_actions[-1].endswith("resumed (skip) by ann: refunded by phone")


def test_the_last_twenty_acts_are_kept() -> None:
    """The state doesn't grow with the number of manual acts."""
    job = parked()
    for _ in range(30):
        job.resume()
        job.compensation_failed("b", retryable=False)
    assert len(job.state.operator_actions) == 20


def test_an_action_cannot_be_skipped() -> None:
    """Of a saga parked on its way forward a step can be repeated or the whole cancelled, but no step left out."""
    job = running()
    job.saga = poisoned(job.state, 2, "boom", job.now)
    job.offset = 2
    job.resume(ResumeMode.SKIP, "no need")
    assert "can't be skipped" in job.refusal
    job.cancel()
    assert job.asked == ("COMPENSATE", "a")


def test_a_skipped_confirmation_completes() -> None:
    """A person may let a saga complete without the confirmation that keeps failing."""
    job = running(steps=(step("a", confirms=True), step("b")))
    job.succeed("a")
    job.succeed("b")
    job.confirm_failed("a", retryable=False)
    job.resume(ResumeMode.SKIP, "made live by hand")
    assert job.phase is Phase.COMPLETED


# --- redelivery ------------------------------------------------------------------------------------------------------


def test_a_redelivered_event_repeats_its_commands() -> None:
    """The last applied record gives the same command once more, and no new state."""
    job = running()
    offset, event, now = job.inbox[-1]
    again = advance(job.saga, offset, event, now)
    assert (again.note, again.changed, again.saga) == (Note.REPEATED, False, job.saga)
    assert again.commands == job.decisions[-1].commands


def test_an_older_redelivered_event_gives_nothing() -> None:
    """Records before the last applied one were applied, and their commands have been followed."""
    job = running()
    job.succeed("a")
    offset, event, now = job.inbox[0]
    assert advance(job.saga, offset, event, now).commands == ()


def test_an_event_that_changed_nothing_may_come_again() -> None:
    """A redelivered record that was ignored before is ignored again, or passed over."""
    job = running()
    job.compensated("a")
    ignored = job.inbox[-1]
    job.succeed("a")
    assert advance(job.saga, *ignored[:2], ignored[2]).note is Note.REPEATED


def test_state_is_the_fold_of_its_inbox() -> None:
    """Whoever folds the same records has the same state."""
    job = parked()
    job.resume()
    job.compensated("b")
    job.compensated("a")
    saga = None
    for offset, event, now in job.inbox:
        saga = advance(saga, offset, event, now).saga
    assert saga == job.saga


def test_the_first_number_is_above_all_before() -> None:
    """A saga begins above the offset of its event, so above every number that its job_id ever had."""
    job = Driven(plan())
    job.offset = 499
    job.submit()
    assert (job.state.seq, job.state.offset) == (501, 500)
    assert job.command is not None
    assert job.command.seq == 501


# --- poison ----------------------------------------------------------------------------------------------------------


def test_poison_parks_the_job() -> None:
    """A saga whose event can't be decided waits for a person, with the reason; a retry repeats its command."""
    job = running()
    seq = job.state.seq
    job.saga = poisoned(job.state, 2, "KeyError('x')", job.now)
    job.offset = 2
    assert (job.phase, job.state.seq, job.state.offset, job.state.due_ms) == (Phase.PARKED, seq + 1, 2, 0)
    assert "offset 2 failed: KeyError('x')" in job.state.reason
    job.resume()
    assert job.asked == ("EXECUTE", "a")


def test_a_success_while_parked_on_the_way_forward_is_kept() -> None:
    """The command under way succeeds while the job waits for a person: resuming goes on behind it."""
    job = running()
    job.saga = poisoned(job.state, 2, "boom", job.now)
    job.offset = 2
    job.succeed("a", 2)
    assert (job.phase, job.note) == (Phase.PARKED, Note.ANSWERED)
    job.resume()
    assert job.asked == ("EXECUTE", "b")


@pytest.mark.parametrize("given", [completed, compensated])
def test_poison_leaves_an_ended_saga(given: Callable[..., Driven]) -> None:
    """What has ended stays ended."""
    job = given()
    assert poisoned(job.state, 99, "boom", job.now) is job.state
