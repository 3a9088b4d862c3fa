"""The progress of jobs as others see it: of postings, batches and runs of syncs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import UnknownName
from service.events import Event, EventType
from service.posting import batch
from service.posting.ledger import Posting

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from service.posting.audit import Record
    from service.posting.batch import BatchEvent
    from service.posting.ledger import Job, Ledger
    from service.sync.runs import Runs, SyncEvent, SyncRun

ENDED = ("completed", "failed", "needs_attention", "rolled_back", "canceled")
STOPPED = ("failed", "needs_attention", "waiting")
STEP_OVER = ("found", "done", "settle", "skip")


def percent(steps_over: int, total_steps: int) -> int:
    """Whole percents of the steps that are over."""
    return 100 * steps_over // total_steps


def event(record: Record, total_steps: int) -> Event:
    """The event that tells of an audit record; its id is the record's number."""
    over = record.step if record.action in STEP_OVER else max(record.step - 1, 0)
    if record.posting_status == "completed":
        over = total_steps
    return Event(
        job_id=record.posting_id,
        id=record.seq,
        type=_type(record),
        data={
            "job_id": record.posting_id,
            "status": record.posting_status,
            "step": record.step,
            "step_name": record.step_name,
            "total_steps": total_steps,
            "percent": percent(over, total_steps),
            "action": record.action,
            "outcome": record.status,
            "attempt": record.attempt,
            "message": record.message,
            "code": record.code,
            "duration_ms": record.duration_ms,
            "timestamp": record.at,
            "posting_id": record.posting_id,
        },
    )


def _type(record: Record) -> EventType:
    if record.posting_status in ENDED:
        return EventType.END
    return EventType.STEP if record.step else EventType.STATUS


def batch_event(of: BatchEvent) -> Event:
    """The event that tells of a batch's event. Its steps are the batch's items."""
    status = batch.status(of)
    return Event(
        job_id=of.batch_id,
        id=of.seq,
        type=EventType.STATUS if status == "running" else EventType.END,
        data={
            "job_id": of.batch_id,
            "status": status,
            "step": of.over,
            "step_name": of.document_key or "",
            "total_steps": of.total,
            "percent": percent(of.over, of.total),
            "action": of.posting_status or "accept",
            "outcome": "warning" if of.posting_status in STOPPED else "success",
            "attempt": 0,
            "message": of.message,
            "code": of.code,
            "duration_ms": None,
            "timestamp": of.at,
            "posting_id": of.posting_id,
        },
    )


def run_event(of: SyncEvent) -> Event:
    """The event that tells of an event of a sync's run. Its steps are the rows to be read."""
    over = of.status not in ("pending", "running")
    total = max(of.expected, of.read)
    return Event(
        job_id=of.run_id,
        id=of.seq,
        type=_run_event_type(of),
        data={
            "job_id": of.run_id,
            "status": of.status,
            "step": of.read,
            "step_name": "rows",
            "total_steps": total,
            "percent": _run_percent(of, total),
            "action": of.action,
            "outcome": "error" if of.status == "failed" else "success",
            "attempt": 0,
            "message": of.message if over and of.message else _counts(of),
            "code": of.code,
            "duration_ms": None,
            "timestamp": of.at,
            "posting_id": None,
        },
    )


def _run_event_type(of: SyncEvent) -> EventType:
    if of.status not in ("pending", "running"):
        return EventType.END
    return EventType.STEP if of.action == "page" else EventType.STATUS


def _run_percent(of: SyncEvent, total: int) -> int:
    if of.status == "completed":
        return 100
    return percent(of.read, total) if total else 0


def _counts(of: SyncEvent) -> str:
    return (
        f"{of.read} of {max(of.expected, of.read)} rows read, {of.written} written, "
        f"{of.removed} removed, {of.calls} calls"
    )


@dataclass(frozen=True)
class State:
    """How far a job is: the id of its last event, and whether that was its end."""

    head: int
    ended: bool


class Book:
    """Finds the progress of whatever has any."""

    def __init__(self, ledger: Ledger, runs: Runs) -> None:
        self._ledger = ledger
        self._runs = runs

    async def state(self, job_id: UUID) -> State:
        """How far a job is; raises `UnknownName`."""
        job = await self._job(job_id)
        if isinstance(job, Posting):
            return State(head=job.audit_seq, ended=job.status in ENDED)
        return State(head=job.seq, ended=job.status not in ("pending", "running"))

    async def connections(self, job_id: UUID) -> Sequence[str]:
        """The connections that a job is about; raises `UnknownName`."""
        job = await self._job(job_id)
        if isinstance(job, batch.Batch):
            return await self._ledger.batch_connections(job_id)
        return [job.connection]

    async def history(self, job_id: UUID, after: int) -> list[Event]:
        """The events of a job with an id above `after`, oldest first; raises `UnknownName`."""
        job = await self._job(job_id)
        if isinstance(job, Posting):
            records = await self._ledger.history(job.id, after=after)
            return [event(record, job.total_steps) for record in records]
        if isinstance(job, batch.Batch):
            return [batch_event(of) for of in await self._ledger.batch_events(job_id, after=after)]
        return [run_event(of) for of in await self._runs.events(job_id, after=after)]

    async def heads(self, job_ids: Collection[UUID]) -> Mapping[UUID, int]:
        """The id of the last event of each job."""
        return {**await self._ledger.heads(job_ids), **await self._runs.heads(job_ids)}

    async def _job(self, job_id: UUID) -> Job | SyncRun:
        try:
            return await self._ledger.job(job_id)
        except UnknownName as unknown:
            try:
                return await self._runs.get(job_id)
            except UnknownName:
                raise unknown from None
