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
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, assert_never

import structlog

from service import documents
from service.errors import EclusaError, FenceLost, LockHeld, LockUnavailable
from service.odoo.errors import Effect, Fault, LockConflict, OdooError
from service.posting import audit, reasons
from service.posting.ledger import Change, Entry
from service.posting.step import Blocked, Done, Halt, Pending, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from service.locks import Lease, Locks
    from service.posting.ledger import Claim, Ledger
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
        try:
            await self._run_locked(claim)
        except FenceLost as error:
            log.warning("fence_lost", posting_id=str(posting_id), fence=error.fence)

    async def _run_locked(self, claim: Claim) -> None:
        posting = claim.posting
        key = f"{posting.connection}:{posting.kind}:{posting.document_key}"
        try:
            async with self._locks.hold(key, owner=str(posting.id), rank=claim.fence) as lease:
                run = Run(
                    ledger=self._ledger,
                    claim=claim,
                    definition=self._definitions[posting.kind],
                    deployment=await self._deploy(posting.connection, posting.kind),
                    lease=lease,
                    stopping=self._stopping,
                )
                await run.to_the_end()
        except (LockUnavailable, LockHeld) as error:
            await self._pause(claim, HandOver(str(error), after=LOCK_RETRY))
        except HandOver as error:
            await self._pause(claim, error)

    async def _pause(self, claim: Claim, hand_over: HandOver) -> None:
        note = audit.Note(action="pause", status="warning", message=str(hand_over))
        await self._ledger.note(claim, note, Change(status="pending"))
        raise hand_over


@dataclass(kw_only=True)
class Run:
    """One worker's way through one posting."""

    ledger: Ledger
    claim: Claim
    definition: AnyDefinition
    deployment: Deployment
    lease: Lease
    stopping: asyncio.Event
    _facts: dict[str, Any] = field(init=False)
    _recorded_facts: dict[str, Any] = field(init=False)
    _claimed_at: float = field(init=False)
    _sent_at: float = field(default=0.0, init=False)
    _found: int = field(default=0, init=False)
    _acted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Start from the facts that earlier runs found."""
        self._facts = dict(self.claim.posting.facts)
        self._recorded_facts = dict(self._facts)
        self._claimed_at = time.monotonic()
        self._subject = self.definition.subject_model.model_validate(self.claim.posting.subject)
        timings = self.deployment.profile.timings
        self._steps = tuple(step.timed(timings.get(step.name)) for step in self.definition.steps)

    async def to_the_end(self) -> None:
        """Take every step, and record how the posting ended."""
        try:
            await self._settle_doubts()
            for step in self._steps:
                await self._take(step)
        except Stop as stop:
            await self._record_stop(stop)
        except (EclusaError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("posting_broke", posting_id=str(self.claim.posting.id))
            await self._record_stop(Stop(reasons.internal_error(error)))
        else:
            note = audit.Note(
                action="complete", message="all steps are done", odoo_ids=self._odoo_ids()
            )
            change = Change(status="completed", step=len(self._steps), ended=True)
            await self.ledger.note(self.claim, note, change)

    # -- calls in doubt ----------------------------------------------------------------------

    async def _settle_doubts(self) -> None:
        """Settle a call that an earlier worker left in doubt, before anything else is changed.

        The steps before it are only looked at, so that their facts are as fresh as its own look.
        """
        doubts = [entry for entry in self.claim.entries.values() if entry.in_doubt]
        if not doubts:
            return
        entry = max(doubts, key=lambda doubt: doubt.number)
        doubtful = self._steps[entry.number - 1]
        if entry.name != doubtful.name:
            raise Stop(reasons.definition_changed(doubtful, entry.name), doubtful)
        for step in self._steps[: entry.number - 1]:
            if step.disabled is None:
                await self._look(step)
        if not doubtful.repeatable:
            await self._settle(doubtful, entry)

    async def _look(self, step: AnyStep) -> Observation:
        """Observe outside of a settlement: trouble stops the posting, it is never "not done"."""
        try:
            return await self._observe(step)
        except OdooError as error:
            raise Stop(reasons.of_error(error), step, error) from error

    def _entry(self, step: AnyStep) -> Entry:
        return self.claim.entries.get(step.number) or _unsent(step, self.claim.posting.run)

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
                error = trouble
                observation = None
            match observation:
                case Done():
                    await self._record_done(step, entry, observation)
                    return observation
                case Blocked():
                    raise Stop(observation, step, error)
                case Pending() if step.repeatable:
                    return observation
            remaining = self._remaining_seconds(entry)
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
        resumed_since = entry.run < self.claim.posting.run
        if observation is None or (step.settle.late_arrival and not resumed_since):
            raise Stop(reasons.outcome_unknown(step, entry), step, error)
        return observation

    def _remaining_seconds(self, entry: Entry) -> float:
        if entry.settle_until is None:
            return 0
        since_claim = time.monotonic() - self._claimed_at
        return (entry.settle_until - self.claim.at).total_seconds() - since_claim

    # -- one step ----------------------------------------------------------------------------

    async def _take(self, step: AnyStep) -> None:
        self._check()
        if step.disabled is not None:
            await self._record_over(step, "skipped", "skip", step.disabled)
            return
        observation = await self._look(step)
        if isinstance(observation, Done):
            self._found += 1
            message = observation.message or "found done in Odoo"
            await self._record_over(step, "found", "found", message)
            return
        await self._record_resume_point(step)
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
        entry = await self.ledger.start(self.claim, step, pending.call, step.settle.limit)
        self._acted = True
        self._check_lease()
        self._sent_at = time.monotonic()
        try:
            answer = await step.act(self.deployment.odoo, pending.call, step.timeout)
        except OdooError as error:
            if error.effect is Effect.UNKNOWN:
                return await self._after_unknown(step, entry, error, tries)
            return await self._after_failure(step, entry, pending, error, tries)
        if answer is not None:
            await self._record_done(step, entry, answer)
            return answer
        observation = await self._settle(step, entry)
        if isinstance(observation, Pending) and step.repeatable:
            await self._record_written(step, entry)
        return observation

    async def _after_unknown(
        self, step: AnyStep, entry: Entry, error: OdooError, tries: Tries
    ) -> Observation:
        entry = replace(entry, state="unknown")
        note = self._note(step, entry, "unknown", f"outcome unknown: {error.message}", error)
        await self.ledger.record(self.claim, entry, replace(note, status="warning"))
        observation = await self._settle(step, entry, error)
        if isinstance(observation, Pending):
            tries.unknown += 1
            if tries.unknown == MOST_UNKNOWN:
                return await self._give_up(step, entry, reasons.outcome_unknown(step, entry), error)
        return observation

    async def _after_failure(
        self, step: AnyStep, entry: Entry, pending: Pending, error: OdooError, tries: Tries
    ) -> Observation:
        """A fault proves nothing by itself: what Odoo shows decides."""
        note = self._note(step, entry, "fault", error.message, error)
        try:
            observation = await self._observe(step)
        except OdooError as trouble:
            await self.ledger.record(self.claim, replace(entry, state="unknown"), note)
            raise Stop(reasons.of_error(trouble), step, trouble) from error
        if isinstance(observation, Done):
            await self._record_done(step, entry, observation, error)
            return observation
        await self.ledger.record(
            self.claim, replace(entry, state="failed"), replace(note, status="error")
        )
        if isinstance(observation, Blocked):
            raise Stop(observation, step, error)
        if isinstance(error, LockConflict):
            tries.conflicts += 1
            if tries.conflicts < MOST_CONFLICTS:
                await self._wait(CONFLICT_PAUSE.total_seconds())
                return observation
        if pending.tolerated:
            return Done(message=error.message)
        return await self._give_up(step, entry, reasons.of_error(error), error)

    async def _give_up(
        self, step: AnyStep, entry: Entry, reason: Blocked, error: OdooError
    ) -> Observation:
        """Stop, unless the posting can do without this step."""
        if step.required:
            raise Stop(reason, step, error)
        note = self._note(step, entry, "skip", f"left out: {reason.message}", error)
        await self.ledger.record(
            self.claim,
            replace(entry, state="skipped"),
            replace(note, status="warning", code=reason.code),
            Change(step=step.number),
        )
        return Done(message=reason.message)

    async def _observe(self, step: AnyStep) -> Observation:
        self._check_lease()
        work = Work(
            odoo=self.deployment.odoo,
            subject=self._subject,
            profile=self.deployment.profile,
            facts=self.definition.facts_model.model_validate(self._facts),
            today=self.definition.today(self.deployment.profile),
        )
        try:
            observation = await step.observe(work)
        except Halt as halt:
            observation = halt.blocked
        if isinstance(observation, Done):
            self._facts |= observation.facts
        return observation

    # -- between two calls -------------------------------------------------------------------

    def _check(self) -> None:
        """Go on only while this worker runs and holds the lock."""
        if self.stopping.is_set():
            raise HandOver("the worker is stopping")
        self._check_lease()

    def _check_lease(self) -> None:
        if not self.lease.valid:
            raise HandOver("the lock was lost", after=LOCK_RETRY)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), timeout=seconds)
        self._check()

    # -- what is recorded --------------------------------------------------------------------

    def _note(
        self,
        step: AnyStep,
        entry: Entry,
        action: audit.Action,
        message: str,
        error: OdooError | None = None,
    ) -> audit.Note:
        return audit.Note(
            action=action,
            message=message,
            step=step.number,
            step_name=step.name,
            attempt=entry.attempt,
            code=error.code if error else None,
            error=_facts_of(error),
            odoo_ids=self._odoo_ids(),
            duration_ms=self._duration_ms(entry),
        )

    def _duration_ms(self, entry: Entry) -> int | None:
        """How long since the call was sent, here or by the worker that had the posting before."""
        if entry.sent_at is None:
            return None
        if not entry.sent_by_another(self.claim.fence):
            return round((time.monotonic() - self._sent_at) * 1000)
        since_claim = time.monotonic() - self._claimed_at
        return round(((self.claim.at - entry.sent_at).total_seconds() + since_claim) * 1000)

    def _odoo_ids(self) -> dict[str, Any]:
        return {name: value for name, value in self._facts.items() if value is not None}

    async def _record_over(
        self, step: AnyStep, state: str, action: audit.Action, message: str
    ) -> None:
        """Record a step that needs no call, unless the ledger says just that already.

        A posting that waits looks again and again; its audit grows only when something is new.
        """
        entry = self._entry(step)
        facts = documents.plain(self._facts)
        known = entry.over and self.claim.posting.step >= step.number
        if known and facts == self._recorded_facts:
            return
        self._recorded_facts = facts
        note = replace(self._note(step, entry, action, message), duration_ms=None)
        change = Change(step=step.number, facts=facts)
        await self.ledger.record(self.claim, replace(entry, state=state), note, change)

    async def _record_done(
        self, step: AnyStep, entry: Entry, done: Done, error: OdooError | None = None
    ) -> None:
        self._facts |= done.facts
        late = entry.state == "unknown" or entry.sent_by_another(self.claim.fence)
        note = self._note(
            step,
            entry,
            "settle" if late else "done",
            done.message or ("the effect is there" if late else "done"),
            error,
        )
        await self.ledger.record(
            self.claim,
            replace(entry, state="done"),
            replace(
                note,
                status="warning" if error else "success",
                settles=entry.sent_seq if late else None,
            ),
            Change(step=step.number, facts=self._facts),
        )

    async def _record_written(self, step: AnyStep, entry: Entry) -> None:
        note = self._note(step, entry, "done", "written; the step needs another call")
        await self.ledger.record(self.claim, replace(entry, state="done"), note)

    async def _record_resume_point(self, step: AnyStep) -> None:
        """Say once where a run that found earlier work goes on, and why there."""
        again = self.claim.taken_over or self.claim.posting.run > 1
        if self._acted or not again:
            return
        self._acted = True
        note = audit.Note(
            action="resume_point",
            message=(
                f"goes on at step {step.number} ({step.title}): "
                f"{self._found} earlier steps were found done in Odoo"
            ),
            odoo_ids=self._odoo_ids(),
        )
        await self.ledger.note(self.claim, note)

    async def _record_stop(self, stop: Stop) -> None:
        reason = stop.reason
        note = audit.Note(
            action="stop",
            status="warning" if reason.status == "waiting" else "error",
            message=reason.message,
            step=stop.step.number if stop.step else 0,
            step_name=stop.step.name if stop.step else "",
            code=reason.code,
            error=_facts_of(stop.error),
            odoo_ids=self._odoo_ids(),
        )
        change = Change(
            status=reason.status,
            code=reason.code,
            message=reason.message,
            facts=self._facts,
            ended=reason.status != "waiting",
        )
        await self.ledger.stop(self.claim, note, change, look_after=reason.look_after)


@dataclass
class Tries:
    """How often a step's call came to nothing in this run."""

    unknown: int = 0
    conflicts: int = 0


def _unsent(step: AnyStep, run: int) -> Entry:
    return Entry(
        number=step.number,
        name=step.name,
        state="found",
        attempt=0,
        run=run,
        fence=0,
        call=None,
        sent_at=None,
        settle_until=None,
        sent_seq=None,
    )


def _facts_of(error: OdooError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    facts: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error.message,
        "effect": error.effect.value,
    }
    if isinstance(error, Fault):
        facts["exception"] = error.exception
    return facts
