"""The engine: runs a posting step by step, and can be killed at any point.

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

import structlog

from service.errors import EclusaError, FenceLost, LockHeld, LockUnavailable
from service.odoo.errors import Effect, Fault, LockConflict, OdooError
from service.posting import reasons
from service.posting.recorder import Recorder
from service.posting.step import Blocked, Done, Halt, Pending, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from service.locks import Lease, Locks
    from service.posting.ledger import Claim, Entry, Ledger
    from service.posting.step import AnyDefinition, AnyStep, Deployment, Observation

log = structlog.get_logger()

MOST_CALLS = 8
"""Calls of one step in one run; a step that needs more is being undone by somebody."""

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


class Engine:
    """Runs postings in one worker process."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        locks: Locks,
        definitions: Mapping[str, AnyDefinition],
        deploy: Callable[[str, str], Awaitable[Deployment]],
        worker: str,
        stopping: asyncio.Event,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._definitions = definitions
        self._deploy = deploy
        self._worker = worker
        self._stopping = stopping

    async def run(self, posting_id: UUID) -> None:
        """Bring a posting as far as it goes; its end is in the ledger.

        Raises `HandOver` when the work has to go on elsewhere or later.
        """
        claim = await self._ledger.claim(posting_id, self._worker)
        if claim is None:
            return
        recorder = Recorder(self._ledger, claim)
        try:
            await self._run_locked(claim, recorder)
        except FenceLost as error:
            log.warning("fence_lost", posting_id=str(posting_id), fence=error.fence)

    async def _run_locked(self, claim: Claim, recorder: Recorder) -> None:
        posting = claim.posting
        key = f"{posting.connection}:{posting.kind}:{posting.document_key}"
        try:
            async with self._locks.hold(key, owner=str(posting.id), rank=claim.fence) as lease:
                await self._run(claim, recorder, lease)
        except (LockUnavailable, LockHeld) as error:
            await recorder.pause(str(error))
            raise HandOver(str(error), after=LOCK_RETRY) from error
        except HandOver as error:
            await recorder.pause(str(error))
            raise

    async def _run(self, claim: Claim, recorder: Recorder, lease: Lease) -> None:
        """Take every step, and record how the posting ended."""
        try:
            run = await self._prepare(claim, recorder, lease)
            await run.settle_doubts()
            for step in run.steps:
                await run.take(step)
        except Stop as stop:
            await recorder.stop(stop.reason, stop.step, stop.error)
        except EclusaError:
            raise
        except Exception as error:
            log.exception("posting_broke", posting_id=str(claim.posting.id))
            await recorder.stop(reasons.internal_error(error))
        else:
            await recorder.complete(len(run.steps))

    async def _prepare(self, claim: Claim, recorder: Recorder, lease: Lease) -> Run:
        """Bring together what the posting needs; stops when the deployment has it no more."""
        posting = claim.posting
        definition = self._definitions.get(posting.kind)
        if definition is None:
            raise Stop(reasons.not_deployed(f"no posting is of the kind {posting.kind!r}"))
        try:
            deployment = await self._deploy(posting.connection, posting.kind)
        except EclusaError as error:
            raise Stop(reasons.not_deployed(str(error))) from error
        return Run(definition, deployment, recorder, lease, self._stopping)


class Run:
    """One worker's way through one posting."""

    def __init__(
        self,
        definition: AnyDefinition,
        deployment: Deployment,
        recorder: Recorder,
        lease: Lease,
        stopping: asyncio.Event,
    ) -> None:
        timings = deployment.profile.timings
        self.steps = tuple(step.timed(timings.get(step.name)) for step in definition.steps)
        self._definition = definition
        self._subject = definition.subject_model.model_validate(recorder.claim.posting.subject)
        self._deployment = deployment
        self._recorder = recorder
        self._lease = lease
        self._stopping = stopping

    # -- calls in doubt ----------------------------------------------------------------------

    async def settle_doubts(self) -> None:
        """Settle a call that an earlier worker left in doubt, before anything else is changed.

        The steps before it are only looked at, so that their facts are as fresh as its own look.
        """
        doubts = [entry for entry in self._recorder.claim.entries.values() if entry.in_doubt]
        if not doubts:
            return
        entry = max(doubts, key=lambda doubt: doubt.number)
        step = self.steps[entry.number - 1]
        if entry.name != step.name:
            raise Stop(reasons.definition_changed(step, entry.name), step)
        if step.repeatable:
            return
        if await self._can_be_seen(step):
            await self._settle(step, entry)
        else:
            await self._wait(self._recorder.remaining_seconds(entry))

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
        `Pending` when the call may be made again.
        """
        while True:
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
            remaining = self._recorder.remaining_seconds(entry)
            if remaining <= 0:
                return self._after_settle_time(step, entry, observation, error)
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
        for _ in range(MOST_CALLS):
            match observation:
                case Done():
                    return
                case Blocked():
                    raise Stop(observation, step)
                case Pending():
                    observation = await self._bring_about(step, observation, tries)
                case _:
                    assert_never(observation)
        raise Stop(reasons.does_not_converge(step, MOST_CALLS), step)

    async def _bring_about(self, step: AnyStep, pending: Pending, tries: Tries) -> Observation:
        """Make the missing call and answer what Odoo shows afterwards; `Done` is recorded."""
        self._check()
        entry = await self._recorder.start(step, pending.call)
        self._check_lease()
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
        await self._recorder.failed(step, entry, error)
        if isinstance(observation, Blocked):
            raise Stop(observation, step, error)
        if isinstance(error, LockConflict):
            tries.conflicts += 1
            if tries.conflicts < MOST_CONFLICTS:
                await self._wait(CONFLICT_PAUSE.total_seconds())
                return observation
        return await self._give_up(step, entry, pending, reasons.of_error(error), error)

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
        self._check_lease()
        work = Work(
            odoo=self._deployment.odoo,
            subject=self._subject,
            profile=self._deployment.profile,
            facts=self._definition.facts_model.model_validate(self._recorder.facts),
            today=self._definition.today(self._deployment.profile),
        )
        try:
            observation = await step.observe(work)
        except Halt as halt:
            observation = halt.blocked
        if isinstance(observation, Done):
            self._recorder.facts |= observation.facts
        return observation

    # -- between two calls -------------------------------------------------------------------

    def _check(self) -> None:
        """Go on only while this worker runs and holds the lock."""
        if self._stopping.is_set():
            raise HandOver("the worker is stopping")
        self._check_lease()

    def _check_lease(self) -> None:
        if not self._lease.valid:
            raise HandOver("the lock was lost", after=LOCK_RETRY)

    async def _wait(self, seconds: float) -> None:
        """Wait between two looks; a stopping worker does not."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), timeout=max(seconds, 0))
        self._check()


@dataclass
class Tries:
    """How often a step's call came to nothing in this run."""

    unknown: int = 0
    conflicts: int = 0
