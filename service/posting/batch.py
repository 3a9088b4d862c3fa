"""Batches: many documents accepted at once, each a posting of its own, with one progress.

A batch counts its items. Whenever a posting ends, waits, or goes on after it had stopped, the
batches that hold it are told in the same transaction, under their row locks: their events are
numbered without gaps, and say exactly what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, insert, select, update

from service.errors import FileKnown, UnknownName
from service.tables import BatchEventRow, BatchItemRow, BatchRow, PostingRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.errors import Problem
    from service.posting.audit import Record
    from service.posting.step import Actor, NewPosting

Answer = Literal["accepted", "live", "completed", "invalid"]
BatchStatus = Literal["running", "completed", "stopped"]

OVER = ("completed", "failed", "needs_attention", "rolled_back", "canceled")
UNTOLD = ("pending", "running")


@dataclass(frozen=True, kw_only=True)
class NewItem:
    """One item of a batch: a document to be posted, or what is wrong with it."""

    position: int
    reference: str | None
    posting: NewPosting | None = None
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """A batch that is about to be written down.

    `file_sha256` is the digest of the file that it came in; one that was accepted before is refused
    unless `again`.
    """

    id: UUID
    reference: str | None
    actor: Actor
    items: Sequence[NewItem]
    file_sha256: str | None = None
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch as it is stored; `over` and `completed` count items."""

    id: UUID
    reference: str | None
    file_sha256: str | None
    actor: str
    total: int
    over: int
    completed: int
    seq: int
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> BatchStatus:
        """Whether something is still to come of it, and else how it ended."""
        return status(self)


def status(counted: Batch | BatchEvent) -> BatchStatus:
    """`stopped`: nothing goes on by itself, and not everything is completed."""
    if counted.over < counted.total:
        return "running"
    return "completed" if counted.completed == counted.total else "stopped"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item as it is stored, with the present status of its posting."""

    position: int
    answer: Answer
    reference: str | None
    problems: Sequence[Mapping[str, Any]]
    posting_id: UUID | None
    document_key: str | None
    status: str | None
    code: str | None
    message: str | None


@dataclass(frozen=True, kw_only=True)
class BatchEvent:
    """Something that happened to a batch: a posting's new status, or its acceptance."""

    batch_id: UUID
    seq: int
    at: datetime
    over: int
    completed: int
    total: int
    posting_id: UUID | None
    document_key: str | None
    posting_status: str | None
    code: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of an item: how it was answered, and the posting of its document."""

    item: NewItem
    answer: Answer
    posting_id: UUID | None = None
    status: str | None = None
    over: bool = field(init=False)

    def __post_init__(self) -> None:
        """An invalid item is over, and never completed."""
        object.__setattr__(self, "over", self.posting_id is None or self.status in OVER)


async def store(
    connection: AsyncConnection, new: NewBatch, taken: Sequence[Taken], at: datetime
) -> BatchEvent:
    """Write a batch with its items and its first event."""
    counts = {
        "total": len(taken),
        "over": sum(one.over for one in taken),
        "completed": sum(one.status == "completed" for one in taken),
    }
    await connection.execute(
        insert(BatchRow).values(
            id=new.id,
            reference=new.reference,
            file_sha256=new.file_sha256,
            actor=new.actor.name,
            ip=new.actor.ip,
            seq=1,
            created_at=at,
            updated_at=at,
            **counts,
        )
    )
    await connection.execute(insert(BatchItemRow), [_item(new.id, one) for one in taken])
    event = BatchEvent(
        batch_id=new.id,
        seq=1,
        at=at,
        posting_id=None,
        document_key=None,
        posting_status=None,
        code=None,
        message=f"accepted with {len(taken)} items",
        **counts,
    )
    await connection.execute(insert(BatchEventRow).values(**event.__dict__))
    return event


async def refuse_known(connection: AsyncConnection, file_sha256: str) -> None:
    """Raise `FileKnown` for a file that was accepted before.

    Whoever asks holds its digest until the end of the transaction: of two who send the same file at
    the same time, the second one sees the first one's batch.
    """
    await connection.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(file_sha256, 0)))
    )
    first = await connection.scalar(
        select(BatchRow.id)
        .where(BatchRow.file_sha256 == file_sha256)
        .order_by(BatchRow.created_at)
        .limit(1)
    )
    if first is not None:
        raise FileKnown(first)


def _item(batch_id: UUID, taken: Taken) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "position": taken.item.position,
        "posting_id": taken.posting_id,
        "answer": taken.answer,
        "reference": taken.item.reference,
        "problems": [dict(problem.__dict__) for problem in taken.item.problems],
    }


async def tell(
    connection: AsyncConnection, document_key: str, before: str, record: Record
) -> list[BatchEvent]:
    """Count a posting's new status in its batches; answers their new events.

    To be called under the posting's row lock. Batches are locked in the order of their ids.
    """
    after = record.posting_status
    if before == after or (after in UNTOLD and before not in OVER):
        return []
    holding = select(BatchItemRow.batch_id).where(BatchItemRow.posting_id == record.posting_id)
    locked = select(BatchRow.id).where(BatchRow.id.in_(holding)).order_by(BatchRow.id)
    batches = list(await connection.scalars(locked.with_for_update()))
    if not batches:
        return []
    places = (
        select(func.count())
        .where(BatchItemRow.batch_id == BatchRow.id, BatchItemRow.posting_id == record.posting_id)
        .scalar_subquery()
    )
    over = (after in OVER) - (before in OVER)
    completed = (after == "completed") - (before == "completed")
    rows = await connection.execute(
        update(BatchRow)
        .where(BatchRow.id.in_(batches))
        .values(
            seq=BatchRow.seq + 1,
            over=BatchRow.over + over * places,
            completed=BatchRow.completed + completed * places,
            updated_at=record.at,
        )
        .returning(BatchRow.id, BatchRow.seq, BatchRow.over, BatchRow.completed, BatchRow.total)
    )
    events = [
        BatchEvent(
            batch_id=row.id,
            seq=row.seq,
            at=record.at,
            over=row.over,
            completed=row.completed,
            total=row.total,
            posting_id=record.posting_id,
            document_key=document_key,
            posting_status=after,
            code=record.code,
            message=f"{document_key}: {after}" + (f" ({record.code})" if record.code else ""),
        )
        for row in rows
    ]
    await connection.execute(insert(BatchEventRow), [dict(event.__dict__) for event in events])
    return events


async def get(connection: AsyncConnection, batch_id: UUID) -> Batch:
    """One batch; raises `UnknownName`."""
    columns = (getattr(BatchRow, name) for name in Batch.__dataclass_fields__)
    row = (await connection.execute(select(*columns).where(BatchRow.id == batch_id))).one_or_none()
    if row is None:
        raise UnknownName("batch", str(batch_id))
    return Batch(**row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a row's names


async def items(
    connection: AsyncConnection, batch_id: UUID, *, after: int, limit: int
) -> list[Item]:
    """The items of a batch behind the position `after`, in the order that they were given."""
    rows = await connection.execute(
        select(
            BatchItemRow.position,
            BatchItemRow.answer,
            BatchItemRow.reference,
            BatchItemRow.problems,
            BatchItemRow.posting_id,
            PostingRow.document_key,
            PostingRow.status,
            PostingRow.code,
            PostingRow.message,
        )
        .outerjoin(PostingRow, PostingRow.id == BatchItemRow.posting_id)
        .where(BatchItemRow.batch_id == batch_id, BatchItemRow.position > after)
        .order_by(BatchItemRow.position)
        .limit(limit)
    )
    return [Item(**row._mapping) for row in rows]  # noqa: SLF001  see `get`


async def connections(connection: AsyncConnection, batch_id: UUID) -> list[str]:
    """The connections that the documents of a batch go to."""
    rows = await connection.scalars(
        select(PostingRow.connection)
        .join(BatchItemRow, BatchItemRow.posting_id == PostingRow.id)
        .where(BatchItemRow.batch_id == batch_id)
        .distinct()
        .order_by(PostingRow.connection)
    )
    return list(rows)


async def events(connection: AsyncConnection, batch_id: UUID, *, after: int) -> list[BatchEvent]:
    """The events of a batch with a `seq` above `after`, oldest first."""
    rows = await connection.execute(
        select(BatchEventRow)
        .where(BatchEventRow.batch_id == batch_id, BatchEventRow.seq > after)
        .order_by(BatchEventRow.seq)
    )
    return [BatchEvent(**row._mapping) for row in rows]  # noqa: SLF001  see `get`
