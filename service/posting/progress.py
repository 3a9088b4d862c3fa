"""A posting's progress as others see it: made from its audit records and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.events import Event, EventType

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from service.posting.audit import Record
    from service.posting.ledger import Posting

ENDED = ("completed", "failed", "needs_attention", "rolled_back", "canceled")
STEP_OVER = ("found", "done", "settle", "skip")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is."""

    job_id: UUID
    status: str
    step: int
    total_steps: int
    percent: int
    message: str
    timestamp: datetime


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
        },
    )


def _type(record: Record) -> EventType:
    if record.posting_status in ENDED:
        return EventType.END
    return EventType.STEP if record.step else EventType.STATUS


def of_posting(posting: Posting) -> Progress:
    """The progress of a stored posting."""
    return Progress(
        job_id=posting.id,
        status=posting.status,
        step=posting.step,
        total_steps=posting.total_steps,
        percent=percent(posting.step, posting.total_steps),
        message=posting.message or posting.status,
        timestamp=posting.updated_at,
    )
