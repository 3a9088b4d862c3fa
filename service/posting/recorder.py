"""What one worker writes down of one posting while it works on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service import clocks, documents
from service.odoo.errors import Fault
from service.posting import audit
from service.posting.ledger import ROLLED_BACK, Change, Entry

if TYPE_CHECKING:
    from datetime import timedelta

    from service.odoo.errors import OdooError
    from service.posting.ledger import Claim, Ledger
    from service.posting.step import AnyStep, Blocked, Call, Done


class Recorder:
    """Writes the ledger and the audit of a claimed posting, and keeps its facts.

    Every method raises `FenceLost` once another worker has claimed the posting.
    """

    def __init__(self, ledger: Ledger, claim: Claim) -> None:
        self.claim = claim
        self.facts: dict[str, Any] = dict(claim.posting.facts)
        self._ledger = ledger
        self._recorded_facts: dict[str, Any] = documents.plain(self.facts)
        self._claimed_at = clocks.seconds()
        self._sent_at = 0.0
        self._found = 0
        self._acted = False

    # -- the clock of the claim: the database's time, carried on by this machine's clock ------

    def _elapsed_seconds(self, entry: Entry) -> float | None:
        """How long ago a call was sent, by this worker or by the one before."""
        if entry.sent_at is None:
            return None
        if not entry.sent_by_another(self.claim.fence):
            return clocks.seconds() - self._sent_at
        return (self.claim.at - entry.sent_at).total_seconds() + self._since_claim()

    def remaining_seconds(self, entry: Entry) -> float:
        """How much is left of the settle time of a call; not above 0 when it is over."""
        if entry.settle_until is None:
            return 0
        return (entry.settle_until - self.claim.at).total_seconds() - self._since_claim()

    def _since_claim(self) -> float:
        return clocks.seconds() - self._claimed_at

    # -- steps -------------------------------------------------------------------------------

    def entry(self, step: AnyStep) -> Entry:
        """The ledger's entry of a step as it was claimed; an empty one if it has none."""
        return self.claim.entries.get(step.number) or Entry(
            number=step.number,
            name=step.name,
            state="found",
            attempt=0,
            run=self.claim.posting.run,
            fence=0,
            call=None,
            sent_at=None,
            settle_until=None,
            sent_seq=None,
        )

    async def doubts(self) -> list[Entry]:
        """The calls whose outcome nobody knows now."""
        entries = await self._ledger.entries(self.claim.posting.id)
        return [entry for entry in entries if entry.in_doubt]

    async def start(self, step: AnyStep, call: Call) -> Entry:
        """Commit the intent of a call; the settle time counts from now."""
        await self._resume_point(step)
        entry = await self._ledger.start(self.claim, step, call, step.settle.limit)
        self._sent_at = clocks.seconds()
        return entry

    async def _resume_point(self, step: AnyStep) -> None:
        """Say once where a posting that was claimed before goes on, and why there."""
        if self._acted or self.claim.fence == 1:
            return
        self._acted = True
        where = f"goes on at step {step.number} ({step.title})"
        found = f"{self._found} earlier steps were found done in Odoo"
        message = f"undoing {where}" if step.undoing else f"{where}: {found}"
        note = audit.Note(action="resume_point", message=message)
        await self._ledger.note(self.claim, note)

    async def found(self, step: AnyStep, done: Done) -> None:
        """The step's effect was there, or was gone, before anything was called."""
        if step.undoing:
            message = done.message or "nothing is left to undo"
            await self._uncalled(step, "undone", "found", message)
            return
        self._found += 1
        await self._uncalled(step, "found", "found", done.message or "found done in Odoo")

    async def disabled(self, step: AnyStep, reason: str) -> None:
        """The step does nothing."""
        await self._uncalled(step, "skipped", "skip", reason)

    async def _uncalled(
        self, step: AnyStep, state: str, action: audit.Action, message: str
    ) -> None:
        """Record a step that needed no call, unless the ledger says just that already.

        A posting that waits looks again and again; its audit grows only when something is new.
        """
        entry = self.entry(step)
        known = entry.over and self.claim.posting.step >= step.number
        if known and not step.undoing and not self._news():
            return
        note = replace(self._note(step, entry, action, message), duration_ms=None)
        change = Change(step=_position(step), facts=self.facts)
        await self._ledger.record(self.claim, replace(entry, state=state), note, change)
        self._recorded_facts = documents.plain(self.facts)

    async def done(
        self, step: AnyStep, entry: Entry, done: Done, error: OdooError | None = None
    ) -> None:
        """The effect of a call was seen; with `error`, although Odoo answered with a fault."""
        self.facts |= done.facts
        late = self._late(entry)
        message = done.message or ("the effect is there" if late else "done")
        note = replace(
            self._note(step, entry, "settle" if late else "done", message, error),
            status="warning" if error else "success",
            settles=entry.sent_seq if late else None,
        )
        change = Change(step=_position(step), facts=self.facts)
        state = "undone" if step.undoing else "done"
        await self._ledger.record(self.claim, replace(entry, state=state), note, change)
        self._recorded_facts = documents.plain(self.facts)

    async def written(self, step: AnyStep, entry: Entry, error: OdooError | None = None) -> None:
        """One of several writes of a step was made; with `error`, although Odoo said otherwise."""
        late = self._late(entry)
        message = "written; the step needs another call"
        note = replace(
            self._note(step, entry, "settle" if late else "done", message, error),
            status="warning" if error else "success",
            settles=entry.sent_seq if late else None,
        )
        await self._ledger.record(self.claim, replace(entry, state="done"), note)

    async def unknown(self, step: AnyStep, entry: Entry, error: OdooError) -> Entry:
        """Nobody can say whether the call has an effect; answers the entry in doubt."""
        in_doubt = replace(entry, state="unknown")
        note = self._note(step, entry, "unknown", f"outcome unknown: {error.message}", error)
        await self._ledger.record(self.claim, in_doubt, replace(note, status="warning"))
        return in_doubt

    async def nothing_came(self, step: AnyStep, entry: Entry) -> None:
        """The settle time of a call in doubt is over, and its effect was not seen."""
        note = replace(
            self._note(step, entry, "settle", "no effect was seen within the settle time"),
            status="warning",
            settles=entry.sent_seq,
        )
        await self._ledger.record(self.claim, replace(entry, state="failed"), note)

    async def not_sent(self, step: AnyStep, entry: Entry, reason: str) -> None:
        """The call was recorded, and then not made."""
        note = self._note(step, entry, "fault", f"not sent: {reason}")
        failed = replace(entry, state="failed")
        await self._ledger.record(self.claim, failed, replace(note, status="warning"))

    async def failed(self, step: AnyStep, entry: Entry, error: OdooError) -> None:
        """The call has no effect."""
        note = self._note(step, entry, "fault", error.message, error)
        failed = replace(entry, state="failed")
        await self._ledger.record(self.claim, failed, replace(note, status="error"))

    async def left_out(
        self, step: AnyStep, entry: Entry, reason: Blocked, error: OdooError
    ) -> None:
        """The posting goes on without this step's effect."""
        note = self._note(step, entry, "skip", f"left out: {reason.message}", error)
        await self._ledger.record(
            self.claim,
            replace(entry, state="skipped"),
            replace(note, status="warning", code=reason.code),
            Change(step=step.number),
        )

    # -- the posting as a whole --------------------------------------------------------------

    async def stop(
        self, reason: Blocked, step: AnyStep | None = None, error: OdooError | None = None
    ) -> None:
        """The posting stops, or waits to look again."""
        waits = reason.status == "waiting"
        note = audit.Note(
            action="stop",
            status="warning" if waits else "error",
            message=reason.message,
            step=step.number if step else 0,
            step_name=step.name if step else "",
            code=reason.code,
            error=_facts_of(error),
            odoo_ids=self._news(),
        )
        change = Change(
            status=reason.status,
            code=reason.code,
            message=reason.message,
            facts=self.facts,
            ended=not waits,
        )
        await self._ledger.stop(self.claim, note, change, look_after=reason.look_after)

    async def hand_over(self, reason: str, after: timedelta) -> None:
        """The posting goes back to the queue."""
        await self._ledger.hand_over(self.claim, reason, after)

    async def cancel(self) -> None:
        """The posting ends as somebody has asked for."""
        await self._ledger.end_canceled(self.claim)

    async def rolled_back(self) -> None:
        """All that could be undone is undone."""
        note = audit.Note(
            action="rollback",
            message="undone in Odoo; links to it were cleared",
            odoo_ids={name: value for name, value in self.facts.items() if value is not None},
        )
        await self._ledger.note(self.claim, note, ROLLED_BACK)

    async def complete(self, steps: int) -> None:
        """All steps are over."""
        note = audit.Note(action="complete", message="all steps are done")
        change = Change(status="completed", step=steps, ended=True)
        await self._ledger.note(self.claim, note, change)

    def _late(self, entry: Entry) -> bool:
        """Whether a call's effect is seen after it was in doubt."""
        return entry.state == "unknown" or entry.sent_by_another(self.claim.fence)

    def _note(
        self,
        step: AnyStep,
        entry: Entry,
        action: audit.Action,
        message: str,
        error: OdooError | None = None,
    ) -> audit.Note:
        elapsed = self._elapsed_seconds(entry)
        return audit.Note(
            action=action,
            message=message,
            step=step.number,
            step_name=step.name,
            attempt=entry.attempt,
            code=error.code if error else None,
            error=_facts_of(error),
            odoo_ids=self._news(),
            duration_ms=None if elapsed is None else round(elapsed * 1000),
        )

    def _news(self) -> dict[str, Any]:
        """The facts that differ from what was recorded last; None for one that has gone.

        A record holds these and no others: with all facts in each, an audit grew with the square
        of its steps.
        """
        before, now = self._recorded_facts, documents.plain(self.facts)
        return {name: value for name, value in now.items() if before.get(name) != value}


def _position(step: AnyStep) -> int:
    """The last step that is over once this one is."""
    return step.number - 1 if step.undoing else step.number


def _facts_of(error: OdooError | None) -> dict[str, Any] | None:
    """What the audit keeps of an error; Odoo's traceback is not part of it."""
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
