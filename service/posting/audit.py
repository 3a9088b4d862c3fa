"""The audit of a posting: an append-only chain of records, each sealed by the one before.

A record's hash is SHA-256 over the previous hash and the record's own content as canonical JSON
(`service.documents.to_json`). The posting row keeps the number and the hash of the last record, so
a changed, removed, reordered or cut-off record is found by `service.posting.chain`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import insert, select

from service import documents
from service.bulk import Given
from service.tables import AuditRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.posting.step import Actor, Call

GENESIS = "0" * 64

Action = Literal[
    "accept",
    "claim",
    "resume_point",
    "found",
    "start",
    "unknown",
    "fault",
    "done",
    "settle",
    "skip",
    "stop",
    "pause",
    "complete",
    "resume",
    "rollback",
    "compensate",
    "cancel_requested",
    "cancel",
]
Status = Literal["success", "warning", "error"]

ENGINE = "eclusa"


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is to be recorded: an action on a step (0: the posting as a whole)."""

    action: Action
    message: str
    status: Status = "success"
    step: int = 0
    step_name: str = ""
    attempt: int = 0
    call: Call | None = None
    code: str | None = None
    error: Mapping[str, Any] | None = None
    odoo_ids: Mapping[str, Any] | None = None
    duration_ms: int | None = None
    settles: int | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One sealed record, as it is stored and shown."""

    posting_id: UUID
    seq: int
    at: datetime
    run: int
    fence: int
    step: int
    step_name: str
    action: str
    status: str
    posting_status: str
    attempt: int
    model: str | None
    method: str | None
    message: str
    code: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    changed_fields: Sequence[str] | None
    context: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    odoo_ids: Mapping[str, Any] | None
    duration_ms: int | None
    settles: int | None
    actor: str
    ip: str | None
    previous_hash: str
    hash: str = ""

    def seal(self) -> str:
        """The hash that belongs to this content."""
        content = {name: value for name, value in self.__dict__.items() if name != "hash"}
        return hashlib.sha256(documents.to_json(content).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Head:
    """The end of a posting's chain, read under its row lock, and the time of the database."""

    posting_id: UUID
    seq: int
    hash: str
    run: int
    fence: int
    at: datetime


def sealed(head: Head, note: Note, posting_status: str, actor: Actor) -> Record:
    """The record that follows `head`."""
    call = note.call
    record = Record(
        posting_id=head.posting_id,
        seq=head.seq + 1,
        at=head.at,
        run=head.run,
        fence=head.fence,
        step=note.step,
        step_name=note.step_name,
        action=note.action,
        status=note.status,
        posting_status=posting_status,
        attempt=note.attempt,
        model=call.model if call else None,
        method=call.method if call else None,
        message=note.message,
        code=note.code,
        before=documents.plain(dict(call.before)) if call else None,
        after=documents.plain(dict(call.after)) if call else None,
        changed_fields=sorted(call.after) if call else None,
        context=documents.plain(dict(call.kwargs.get("context", {}))) if call else None,
        error=documents.plain(dict(note.error)) if note.error else None,
        odoo_ids=documents.plain(dict(note.odoo_ids)) if note.odoo_ids else None,
        duration_ms=note.duration_ms,
        settles=note.settles,
        actor=actor.name,
        ip=actor.ip,
        previous_hash=head.hash,
    )
    values = {**record.__dict__, "hash": record.seal()}
    return Record(**values)


_GIVEN = Given(AuditRow, tuple(Record.__dataclass_fields__))
_INSERT = insert(AuditRow).from_select(_GIVEN.names, select(*_GIVEN.columns))


async def append(connection: AsyncConnection, *records: Record) -> None:
    """Store sealed records, in the transaction of what they record."""
    if records:
        rows = [record.__dict__ for record in records]
        await connection.execute(_INSERT, _GIVEN.parameters(rows))


def _record(row: Row[Any]) -> Record:
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a row's names
    del values["id"]
    return Record(**values)


async def history(
    connection: AsyncConnection, posting_id: UUID, *, after: int = 0, limit: int | None = None
) -> list[Record]:
    """The records of a posting with a `seq` above `after`, oldest first."""
    rows = await connection.execute(
        select(AuditRow)
        .where(AuditRow.posting_id == posting_id, AuditRow.seq > after)
        .order_by(AuditRow.seq)
        .limit(limit)
    )
    return [_record(row) for row in rows]
