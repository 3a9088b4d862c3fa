"""One worker's way through one posting, step by step; it can be killed at any point.

For each step it observes Odoo. Done: the step is recorded as *found*. Blocked: the posting stops
with the code. Pending: the intent is committed, the call is made, and Odoo is observed until the
effect is there. A first run, a resume and a take-over are the same loop; only a call in doubt comes
first: it is settled by looking, from the time it was sent, before anything else is done.

A call ends in one of three ways. *Done*: the effect is seen. *Failed*: Odoo's fault, and the effect
is not seen. *Unknown*: nobody can say yet; it is never repeated blindly.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

from service.errors import EclusaError
from service.odoo.errors import Effect, Fault, LockConflict, OdooError
from service.posting import reasons
from service.posting.ledger import CancelRequested
from service.posting.step import Blocked, Done, Pending

if TYPE_CHECKING:
    from service.locks import Lease
    from service.posting.ledger import Entry
    from service.posting.recorder import Recorder
    from service.posting.step import AnyDefinition, AnyStep, Call, Deployment, Observation
    from service.pulse import Pulse

MOST_UNKNOWN = 3
MOST_CONFLICTS = 3
CONFLICT_PAUSE = timedelta(seconds=2)
LOCK_RETRY = timedelta(seconds=2)


class HandOver(EclusaError):
    """This worker stops between two calls; the posting goes on elsewhere, or `after` a while."""

    code = "hand_over"

    def __init__(self, reason: str, *, after: timedelta = timedelta(0)) -> None:
        super().__init__(reason)
        self.after = after


class Stop(EclusaError):
    """The posting stops: the reason, and where it stopped."""

    code = "stop"

    def __init__(
        self, reason: Blocked, step: AnyStep | None = None, error: OdooError | None = None
    ) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.step = step
        self.error = error


class Hold:
    """What allows a worker to call Odoo for a posting: its lock, and an unbroken pulse."""

    def __init__(self, lease: Lease, pulse: Pulse) -> None:
        self._lease = lease
        self._pulse = pulse
        self._mark = pulse.mark()

    @property
    def lost(self) -> str | None:
        """Why nothing may be called any more; None while it may."""
        if not self._pulse.steady(self._mark):
            return "this worker stood still for a while"
        return None if self._lease.valid else "the lock was lost"


class Run:
    """One worker's way through one posting."""

    def __init__(
        self,
        definition: AnyDefinition,
        deployment: Deployment,
        recorder: Recorder,
        hold: Hold,
        stopping: asyncio.Event,
    ) -> None:
        timings = deployment.profile.timings
        self.steps = tuple(step.timed(timings.get(step.name)) for step in definition.steps)
        self._definition = definition
        self._subject = definition.subject_model.model_validate(recorder.claim.posting.subject)
        self._deployment = deployment
        self._recorder = recorder
        self._hold = hold
        self._stopping = stopping

    # -- the whole way ------------------------------------------------------------------------

    async def post(self) -> None:
        """Take every step; then the posting is completed."""
        for step in self.steps:
            await self.take(step)
        await self._recorder.complete(len(self.steps))

    async def undo(self) -> None:
        """Take back, last step first, what this posting called; then it is rolled back.

        What was found done was not this posting's work, and is left as it is.
        """
        for step in reversed(self.steps):
            undoing = step.turned_round()
            if undoing is not None and self._recorder.entry(step).attempt:
                await self.take(undoing)
        await self._recorder.rolled_back()

    # -- calls in doubt ----------------------------------------------------------------------

    async def settle_doubts(self) -> None:
        """Settle what an earlier worker left in doubt, before anything else is changed.

        The steps before it are only looked at, so that their facts are as fresh as its own look.
        """
        doubts = [entry for entry in self._recorder.claim.entries.values() if entry.in_doubt]
        for entry in sorted(doubts, key=lambda doubt: doubt.number):
            step = self._step_of(entry)
            if not step.repeatable:
                await self._settle_doubt(step, entry)
            elif self._recorder.claim.posting.intent == "compensate":
                await self._wait(self._recorder.remaining_seconds(entry))

    def _step_of(self, entry: Entry) -> AnyStep:
        """The step that an entry of the ledger is about, as it is defined now."""
        step = self.steps[entry.number - 1]
        if entry.name != step.name:
            raise Stop(reasons.definition_changed(step, entry.name), step)
        return (step.turned_round() or step) if entry.undo else step

    async def _settle_doubt(self, step: AnyStep, entry: Entry) -> None:
        if step.undoing or await self._can_be_seen(step):
            observation = await self._settle(step, entry)
            if not isinstance(observation, Pending) or _misses_another(step, entry, observation):
                return
        else:
            await self._wait(self._recorder.remaining_seconds(entry))
        await self._recorder.nothing_came(step, entry)

    async def _can_be_seen(self, doubtful: AnyStep) -> bool:
        """Whether what the doubtful step builds on is still there."""
        for step in self.steps[: doubtful.number - 1]:
            observation = None if step.disabled else await self._look(step)
            if isinstance(observation, Blocked):
                raise Stop(observation, step)
            if isinstance(observation, Pending) and not step.repeatable:
                return False
        return True

    async def _settle(
        self, step: AnyStep, entry: Entry, error: OdooError | None = None
    ) -> Observation:
        """Look for the effect of a sent call until it is there or its settle time has passed.

        Of a repeatable step the first look is the answer. Answers `Done` once that is recorded;
        `Pending` when the call may be made again, or when another one is missing now.
        """
        while True:
            # Only a look that begins after the settle time shows all that came within it.
            last = self._recorder.remaining_seconds(entry) <= 0
            try:
                observation = await self._observe(step)
            except OdooError as trouble:
                error, observation = trouble, None
            match observation:
                case Done():
                    await self._recorder.done(step, entry, observation)
                    return observation
                case Blocked():
                    raise Stop(observation, step, error)
                case Pending() if step.repeatable:
                    return observation
                case Pending() if _misses_another(step, entry, observation):
                    await self._recorder.written(step, entry)
                    return observation
            if last:
                return self._after_settle_time(step, entry, observation, error)
            remaining = self._recorder.remaining_seconds(entry)
            await self._wait(min(step.settle.interval.total_seconds(), remaining))

    def _after_settle_time(
        self,
        step: AnyStep,
        entry: Entry,
        observation: Pending | None,
        error: OdooError | None,
    ) -> Pending:
        """Nothing came: a new attempt may act only where nothing can come any more.

        A person who resumes the posting later has looked, and says so by resuming.
        """
        resumed_since = entry.run < self._recorder.claim.posting.run
        if observation is None or (step.settle.late_arrival and not resumed_since):
            raise Stop(reasons.outcome_unknown(step, entry), step, error)
        return observation

    # -- one step ----------------------------------------------------------------------------

    async def take(self, step: AnyStep) -> None:
        """See to it that the step's effect is there, and that this is recorded."""
        self._check()
        if step.disabled is not None:
            await self._recorder.disabled(step, step.disabled)
            return
        observation = await self._look(step)
        if isinstance(observation, Done):
            await self._recorder.found(step, observation)
            return
        tries = Tries()
        for _ in range(step.most_calls):
            match observation:
                case Done():
                    return
                case Blocked():
                    raise Stop(observation, step)
                case Pending():
                    observation = await self._bring_about(step, observation, tries)
                case _:
                    assert_never(observation)
        raise Stop(reasons.does_not_converge(step), step)

    async def _bring_about(self, step: AnyStep, pending: Pending, tries: Tries) -> Observation:
        """Make the missing call and answer what Odoo shows afterwards; `Done` is recorded."""
        self._check()
        entry = await self._start(step, pending.call)
        if reason := self._hold.lost:
            await self._recorder.not_sent(step, entry, reason)
            raise HandOver(reason, after=LOCK_RETRY)
        try:
            answer = await step.act(self._deployment.odoo, pending.call, step.timeout)
        except OdooError as error:
            if error.effect is Effect.UNKNOWN:
                return await self._after_unknown(step, entry, pending, error, tries)
            return await self._after_failure(step, entry, pending, error, tries)
        if answer is not None:
            await self._recorder.done(step, entry, answer)
            return answer
        observation = await self._settle(step, entry)
        if isinstance(observation, Pending) and step.repeatable:
            await self._recorder.written(step, entry)
        return observation

    async def _start(self, step: AnyStep, call: Call) -> Entry:
        """Commit the intent; a posting that is to end does so when nothing can come any more.

        Its document may be posted anew with other values, which a late write must not undo.
        """
        try:
            return await self._recorder.start(step, call)
        except CancelRequested:
            for doubt in await self._recorder.doubts():
                await self._wait(self._recorder.remaining_seconds(doubt))
            raise

    async def _after_unknown(
        self, step: AnyStep, entry: Entry, pending: Pending, error: OdooError, tries: Tries
    ) -> Observation:
        """Look for the effect; where the call may be made again, not for ever."""
        in_doubt = await self._recorder.unknown(step, entry, error)
        observation = await self._settle(step, in_doubt, error)
        if isinstance(observation, Pending):
            tries.unknown += 1
            if tries.unknown == MOST_UNKNOWN:
                reason = reasons.outcome_unknown(step, in_doubt)
                return await self._give_up(step, in_doubt, pending, reason, error)
        return observation

    async def _after_failure(
        self, step: AnyStep, entry: Entry, pending: Pending, error: OdooError, tries: Tries
    ) -> Observation:
        """A fault proves nothing by itself: what Odoo shows decides. What was not sent, does."""
        observation: Observation = pending
        if isinstance(error, Fault):
            try:
                observation = await self._observe(step)
            except OdooError as trouble:
                await self._recorder.unknown(step, entry, error)
                raise Stop(reasons.of_error(trouble), step, trouble) from error
        if isinstance(observation, Done):
            await self._recorder.done(step, entry, observation, error)
            return observation
        if _moved_on(step, pending, observation):
            await self._recorder.written(step, entry, error)
            return observation
        await self._recorder.failed(step, entry, error)
        if isinstance(observation, Blocked):
            raise Stop(observation, step, error)
        if observation.call.args != pending.call.args:
            # Somebody else has done a part of it: what was refused is not what is missing now.
            return observation
        if isinstance(error, LockConflict):
            tries.conflicts += 1
            if tries.conflicts < MOST_CONFLICTS:
                return await self._after_conflict(step, entry, error)
        return await self._give_up(step, entry, pending, reasons.of_error(error), error)

    async def _after_conflict(
        self, step: AnyStep, entry: Entry, error: LockConflict
    ) -> Observation:
        """Look again after a pause: whoever had the records may have done the same."""
        await self._wait(CONFLICT_PAUSE.total_seconds())
        observation = await self._look(step)
        if isinstance(observation, Done):
            await self._recorder.done(step, entry, observation, error)
        return observation

    async def _give_up(
        self, step: AnyStep, entry: Entry, pending: Pending, reason: Blocked, error: OdooError
    ) -> Observation:
        """Stop, unless the posting can do without this call."""
        if step.required and not pending.tolerated:
            raise Stop(reason, step, error)
        await self._recorder.left_out(step, entry, reason, error)
        return Done(message=reason.message)

    async def _look(self, step: AnyStep) -> Observation:
        """Observe outside of a settlement: trouble stops the posting, it is never "not done"."""
        try:
            return await self._observe(step)
        except OdooError as error:
            raise Stop(reasons.of_error(error), step, error) from error

    async def _observe(self, step: AnyStep) -> Observation:
        self._check_hold()
        observation = await self._definition.observe(
            step,
            odoo=self._deployment.odoo,
            subject=self._subject,
            profile=self._deployment.profile,
            facts=self._recorder.facts,
        )
        if isinstance(observation, Done):
            self._recorder.facts |= observation.facts
        return observation

    # -- between two calls -------------------------------------------------------------------

    def _check(self) -> None:
        """Go on only while this worker is not told to stop and holds the posting."""
        if self._stopping.is_set():
            raise HandOver("the worker is stopping")
        self._check_hold()

    def _check_hold(self) -> None:
        if reason := self._hold.lost:
            raise HandOver(reason, after=LOCK_RETRY)

    async def _wait(self, seconds: float) -> None:
        """Wait between two looks; a stopping worker does not."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), timeout=max(seconds, 0))
        self._check()


def _moved_on(step: AnyStep, before: Pending, after: Observation) -> bool:
    """Whether a step of several writes misses another one now: the one that was sent is there."""
    several = step.repeatable or step.undoing
    return several and isinstance(after, Pending) and after.call != before.call


def _misses_another(step: AnyStep, entry: Entry, observation: Pending) -> bool:
    """Whether a step that undoes misses another call than the sent one, whose effect is there."""
    return step.undoing and observation.call.target != entry.call


@dataclass
class Tries:
    """How often a step's call came to nothing in this run."""

    unknown: int = 0
    conflicts: int = 0
