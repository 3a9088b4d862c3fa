"""The progress of postings and batches as others see it: made from what is stored of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.events import Event, EventType
from service.posting import batch
from service.posting.ledger import Posting

if TYPE_CHECKING:
    from service.posting.audit import Record
    from service.posting.batch import BatchEvent
    from service.posting.ledger import Job, Ledger

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


def head(job: Job) -> int:
    """The id of a job's last event."""
    return job.audit_seq if isinstance(job, Posting) else job.seq


def ended(job: Job) -> bool:
    """Whether the last event of a job was its end."""
    return job.status in ENDED if isinstance(job, Posting) else job.status != "running"


async def history(ledger: Ledger, job: Job, after: int) -> list[Event]:
    """The events of a job with an id above `after`, oldest first, from what is stored."""
    if isinstance(job, Posting):
        records = await ledger.history(job.id, after=after)
        return [event(record, job.total_steps) for record in records]
    return [batch_event(one) for one in await ledger.batch_events(job.id, after=after)]
