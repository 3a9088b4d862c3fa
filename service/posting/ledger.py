"""The ledger: what was started for a posting, how it ended, and who may write it.

Every write is one short transaction that first locks the posting's row and compares the fence: a
worker whose posting was taken over raises `FenceLost` and leaves no trace. The audit records of a
write are stored in its transaction and announced after the commit.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import ARRAY, Uuid, any_, func, literal, select, tuple_, union_all, update
from sqlalchemy.dialects.postgresql import insert

from service import documents, workers
from service.bulk import Given
from service.errors import (
    EclusaError,
    FenceLost,
    LivePosting,
    OtherKind,
    Problem,
    Refused,
    UnknownName,
    WrongStatus,
)
from service.posting import audit, batch, chain
from service.posting.batch import Batch, Taken
from service.posting.step import Actor
from service.tables import BatchRow, PostingRow, StepRow

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Mapping,
        Sequence,
    )
    from datetime import datetime, timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.database import Database
    from service.posting.batch import Answer, BatchEvent, NewBatch, NewItem
    from service.posting.step import AnyStep, Call, NewPosting

QUEUED = ("pending", "running", "waiting")
RESUMABLE = ("failed", "needs_attention", "waiting", "rolled_back")
ROLLBACK_FROM = ("pending", "failed", "needs_attention", "waiting")
OVER_FOR_GOOD = ("completed", "canceled")
IN_DOUBT = ("started", "unknown")
OVER = ("done", "found", "skipped")


class CancelRequested(EclusaError):
    """Somebody wants the posting to end: no further call is made."""

    code = "cancel_requested"


class Enqueue(Protocol):
    """Puts the jobs of postings into the queue, inside the given transaction."""

    async def __call__(
        self, connection: AsyncConnection, *posting_ids: UUID, after: timedelta | None = None
    ) -> None:
        """Enqueue, to run at once or after a delay."""
        ...


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The ledger's row of one step."""

    number: int
    name: str
    state: str
    attempt: int
    run: int
    fence: int
    undo: bool = False
    call: Mapping[str, Any] | None
    sent_at: datetime | None
    settle_until: datetime | None
    sent_seq: int | None

    @property
    def in_doubt(self) -> bool:
        """A call was, or may have been, sent, and nobody knows its outcome."""
        return self.state in IN_DOUBT

    @property
    def over(self) -> bool:
        """The step's effect was seen, or it was left out."""
        return self.state in OVER

    def sent_by_another(self, fence: int) -> bool:
        """Whether an earlier claim than `fence` sent the call."""
        return self.fence < fence


@dataclass(frozen=True, kw_only=True)
class Posting:
    """A posting as it is stored."""

    id: UUID
    kind: str
    connection: str
    document_type: str
    document_key: str
    reference: str | None
    status: str
    subject: Mapping[str, Any]
    facts: Mapping[str, Any]
    step: int
    total_steps: int
    run: int
    fence: int
    worker: str | None
    intent: str
    cancel_requested_by: str | None
    code: str | None
    message: str | None
    actor: str
    ip: str | None
    audit_seq: int
    audit_hash: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class First:
    """A posting as it is about to be written, and its first audit record."""

    posting: Posting
    record: audit.Record


Job = Posting | Batch
"""What has progress."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to work on a posting, until somebody else claims it.

    `at` is the database's time of the claim; `entries` the ledger as it was then.
    """

    posting: Posting
    at: datetime
    entries: Mapping[int, Entry]

    @property
    def fence(self) -> int:
        """The number that every write of this worker must still find in the row."""
        return self.posting.fence


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a write changes in the posting's row; None leaves a column as it is."""

    status: str | None = None
    step: int | None = None
    facts: Mapping[str, Any] | None = None
    code: str | None = None
    message: str | None = None
    ended: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def columns(self, at: datetime) -> dict[str, Any]:
        """The columns to set, at the database's time `at`."""
        values: dict[str, Any] = {"updated_at": at, **self.more}
        if self.status is not None:
            values |= {
                "status": self.status,
                "code": self.code,
                "message": self.message,
                "ended_at": at if self.ended else None,
            }
        if self.step is not None:
            values["step"] = self.step
        if self.facts is not None:
            values["facts"] = documents.plain(dict(self.facts))
        return values


UNCHANGED = Change()
AS_NEW: Mapping[str, Any] = {"worker": None, "intent": "post", "cancel_requested_by": None}
ROLLED_BACK = Change(status="rolled_back", step=0, facts={}, ended=True, more=AS_NEW)
CANCELED = Change(status="canceled", ended=True, more=AS_NEW)


@dataclass
class _Pen:
    """Writes audit records and the row of one posting within one transaction."""

    connection: AsyncConnection
    posting: Posting
    head: audit.Head
    status: str
    actor: Actor
    records: list[audit.Record] = field(default_factory=list)
    batch_events: list[BatchEvent] = field(default_factory=list)

    async def write(self, note: audit.Note, change: Change = UNCHANGED) -> audit.Record:
        before, self.status = self.status, change.status or self.status
        record = audit.sealed(self.head, note, self.status, self.actor)
        await audit.append(self.connection, record)
        self.head = replace(self.head, seq=record.seq, hash=record.hash)
        await self.connection.execute(
            update(PostingRow)
            .where(PostingRow.id == self.head.posting_id)
            .values(audit_seq=record.seq, audit_hash=record.hash, **change.columns(self.head.at))
        )
        self.records.append(record)
        self.batch_events += await batch.tell(
            self.connection, self.posting.document_key, before, record
        )
        return record

    async def raise_numbers(self, *, fence: bool = False, run: bool = False) -> None:
        self.head = replace(self.head, fence=self.head.fence + fence, run=self.head.run + run)
        await self.connection.execute(
            update(PostingRow)
            .where(PostingRow.id == self.head.posting_id)
            .values(run=self.head.run, fence=self.head.fence)
        )


def _posting(row: Any) -> Posting:
    return Posting(**row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a row's names


class Announce(Protocol):
    """Tells of records that are committed, each with how many steps its posting has."""

    async def __call__(self, *told: tuple[audit.Record, int]) -> None:
        """Tell of them, in this order."""
        ...


class Ledger:
    """Reads and writes postings; announces what was committed."""

    def __init__(
        self,
        database: Database,
        enqueue: Enqueue,
        announce: Announce,
        announce_batch: Callable[[BatchEvent], Awaitable[None]],
    ) -> None:
        self._database = database
        self._enqueue = enqueue
        self._announce = announce
        self._announce_batch = announce_batch

    # -- the caller's side -------------------------------------------------------------------

    async def accept(self, new: NewPosting) -> Posting:
        """Write a posting and its job in one transaction.

        Raises `LivePosting` when the document has a posting that was not completed or canceled, and
        `OtherKind` when that is of another kind; answers the completed one when there is one.
        """
        async with self._database.transaction() as connection:
            now = await clock(connection)
            [posting], records = await self.enter(connection, [first(new, now)])
        await self.tell(records, {new.id: new.total_steps})
        refusal = refused(new, posting)
        if refusal is not None:
            raise refusal
        return posting

    async def accept_batch(self, new: NewBatch) -> Batch:
        """Write a batch, the postings of its valid items and their jobs in one transaction.

        Raises `FileKnown` when it comes in a file that was accepted before.
        """
        items = [item for item in new.items if item.posting is not None]
        news = [item.posting for item in items if item.posting is not None]
        async with self._database.transaction() as connection:
            if new.file_sha256 and not new.again:
                await batch.refuse_known(connection, new.file_sha256)
            now = await clock(connection)
            firsts = [first(one, now) for one in news]
            postings, records = await self.enter(connection, firsts, hold=True)
            found = dict(zip((item.position for item in items), postings, strict=True))
            taken = [_taken(item, found.get(item.position)) for item in new.items]
            event = await batch.store(connection, new, taken, now)
            stored = await batch.get(connection, new.id)
        await self.tell(records, {one.id: one.total_steps for one in news})
        await self._announce_batch(event)
        return stored

    async def enter(
        self, connection: AsyncConnection, firsts: Sequence[First], *, hold: bool = False
    ) -> tuple[list[Posting], list[audit.Record]]:
        """Write those postings whose document has none, with their jobs.

        Answers the posting of each document, and the audit records of those that were written.
        The order of the documents is that of all callers, so that none waits for another in a
        circle. With `hold`, the postings that were there cannot change until the commit.
        """
        ordered = sorted((one.posting for one in firsts), key=_document)
        news = {one.posting.id: one.record for one in firsts}
        present: dict[tuple[str, str, str], Posting] = {}
        while missing := [one for one in ordered if _document(one) not in present]:
            present |= {_document(one): one for one in await _insert(connection, missing)}
            others = {_document(one) for one in missing} - present.keys()
            for posting in await _of_documents(connection, others, hold=hold):
                present[_document(posting)] = posting  # else canceled in between: written next time
        records = [news[one.id] for one in present.values() if one.id in news]
        await audit.append(connection, *records)
        await self._enqueue(connection, *(record.posting_id for record in records))
        return [present[_document(one.posting)] for one in firsts], records

    async def refuse_known_file(self, file_sha256: str) -> None:
        """Raise `FileKnown` for a file that was accepted before."""
        async with self._database.transaction() as connection:
            await batch.refuse_known(connection, file_sha256)

    async def get_batch(self, batch_id: UUID) -> Batch:
        """One batch; raises `UnknownName`."""
        async with self._database.transaction() as connection:
            return await batch.get(connection, batch_id)

    async def batch_items(self, batch_id: UUID, *, after: int, limit: int) -> list[batch.Item]:
        """The items of a batch behind a position; raises `UnknownName`."""
        async with self._database.transaction() as connection:
            await batch.get(connection, batch_id)
            return await batch.items(connection, batch_id, after=after, limit=limit)

    async def batch_connections(self, batch_id: UUID) -> list[str]:
        """The connections that the documents of a batch go to."""
        async with self._database.transaction() as connection:
            return await batch.connections(connection, batch_id)

    async def batch_events(self, batch_id: UUID, *, after: int) -> list[BatchEvent]:
        """The events of a batch above `after`, oldest first."""
        async with self._database.transaction() as connection:
            return await batch.events(connection, batch_id, after=after)

    async def resume(self, posting_id: UUID, actor: Actor) -> Posting:
        """Start a stopped posting again; `WrongStatus` when it is not stopped."""
        async with self._writing(posting_id, actor) as pen:
            if pen.posting.status not in RESUMABLE:
                raise WrongStatus(posting_id, pen.posting.status, "only a stopped one is resumed")
            await pen.raise_numbers(run=True)
            note = audit.Note(action="resume", message=f"resumed from {pen.posting.status}")
            await pen.write(note, Change(status="pending", more=AS_NEW))
            await self._enqueue(pen.connection, posting_id)
        return await self.get(posting_id)

    async def roll_back(self, posting_id: UUID, actor: Actor) -> Posting:
        """Forget what was found in Odoo, so that the posting can start from nothing.

        Odoo itself is left as it is. `WrongStatus` when the posting is running or completed.
        """
        async with self._writing(posting_id, actor) as pen:
            _check_rollback(pen.posting, ROLLBACK_FROM)
            await pen.raise_numbers(fence=True)
            note = audit.Note(
                action="rollback",
                message="links to Odoo were cleared; Odoo is unchanged",
                odoo_ids=pen.posting.facts,
            )
            await pen.write(note, ROLLED_BACK)
        return await self.get(posting_id)

    async def compensate(self, posting_id: UUID, actor: Actor) -> Posting:
        """Let a worker take back in Odoo what the steps can undo, and roll the posting back.

        `WrongStatus` when the posting is running or completed.
        """
        async with self._writing(posting_id, actor) as pen:
            _check_rollback(pen.posting, (*ROLLBACK_FROM, "rolled_back"))
            await pen.raise_numbers(run=True, fence=True)
            note = audit.Note(action="compensate", message="what was done in Odoo is to be undone")
            more = {**AS_NEW, "intent": "compensate"}
            await pen.write(note, Change(status="pending", more=more))
            await self._enqueue(pen.connection, posting_id)
        return await self.get(posting_id)

    async def cancel(self, posting_id: UUID, actor: Actor) -> Posting:
        """End a posting for good: no further call is made for it, and Odoo is left as it is.

        At once, unless a call is under way or its outcome may still show itself: then as soon as
        that is settled, by the worker that has it or by another. `WrongStatus` when it is over.
        """
        async with self._writing(posting_id, actor) as pen:
            posting = pen.posting
            if posting.status in OVER_FOR_GOOD:
                raise WrongStatus(posting_id, posting.status, "it is over already")
            doubt = _open_doubt(posting, pen.head.at, await _entries(pen.connection, posting_id))
            if doubt is None:
                await pen.raise_numbers(fence=True)
                await pen.write(_canceled(posting, actor.name), CANCELED)
            elif posting.cancel_requested_by is None:
                await self._request_cancel(pen, doubt)
        return await self.get(posting_id)

    async def _request_cancel(self, pen: _Pen, doubt: Entry) -> None:
        note = audit.Note(
            action="cancel_requested",
            message="to be canceled once the outcome of a call is known",
            step=doubt.number,
            step_name=doubt.name,
            attempt=doubt.attempt,
        )
        stopped = pen.posting.status not in QUEUED
        more = {"cancel_requested_by": pen.actor.name}
        await pen.write(note, Change(status="pending" if stopped else None, more=more))
        if stopped:
            await self._enqueue(pen.connection, pen.posting.id)

    async def get(self, posting_id: UUID) -> Posting:
        """One posting; raises `UnknownName`."""
        async with self._database.transaction() as connection:
            row = (
                await connection.execute(select(PostingRow).where(PostingRow.id == posting_id))
            ).one_or_none()
        if row is None:
            raise UnknownName("posting", str(posting_id))
        return _posting(row)

    async def job(self, job_id: UUID) -> Job:
        """What has progress under an id; raises `UnknownName`."""
        try:
            return await self.get(job_id)
        except UnknownName:
            return await self.get_batch(job_id)

    async def heads(self, job_ids: Collection[UUID]) -> Mapping[UUID, int]:
        """The number of the last event of each job, in one query."""
        array = literal(list(job_ids), ARRAY(Uuid))  # one parameter, however many jobs
        queries = (
            select(row.id, seq.label("seq")).where(row.id == any_(array))
            for row, seq in ((PostingRow, PostingRow.audit_seq), (BatchRow, BatchRow.seq))
        )
        async with self._database.transaction() as connection:
            rows = await connection.execute(union_all(*queries))
        return {row.id: row.seq for row in rows}

    async def of_document(
        self, connection_name: str, document_type: str, key: str
    ) -> Posting | None:
        """The posting of a document that was not canceled."""
        async with self._database.transaction() as connection:
            row = (
                await connection.execute(
                    select(PostingRow).where(
                        PostingRow.connection == connection_name,
                        PostingRow.document_type == document_type,
                        PostingRow.document_key == key,
                        PostingRow.status != "canceled",
                    )
                )
            ).one_or_none()
        return None if row is None else _posting(row)

    async def page(
        self,
        *,
        filters: Mapping[str, str],
        connections: Collection[str] | None = None,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Posting]:
        """Postings, newest first, older than the `before` cursor.

        `filters` compares columns: status, kind, connection, document_key, reference. With
        `connections`, only postings on these.
        """
        query = select(PostingRow).order_by(PostingRow.created_at.desc(), PostingRow.id.desc())
        for column, value in filters.items():
            query = query.where(getattr(PostingRow, column) == value)
        if connections is not None:
            query = query.where(PostingRow.connection.in_(connections))
        if before is not None:
            cursor = func.row(PostingRow.created_at, PostingRow.id)
            query = query.where(cursor < func.row(*before))
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query.limit(limit))).all()
        return [_posting(row) for row in rows]

    async def entries(self, posting_id: UUID) -> list[Entry]:
        """The ledger's rows of a posting, by step."""
        async with self._database.transaction() as connection:
            return await _entries(connection, posting_id)

    async def history(
        self, posting_id: UUID, *, after: int = 0, limit: int | None = None
    ) -> list[audit.Record]:
        """The audit records of a posting above `after`, oldest first."""
        async with self._database.transaction() as connection:
            return await audit.history(connection, posting_id, after=after, limit=limit)

    async def verify(self, posting_id: UUID) -> chain.Verdict:
        """Whether the posting's audit chain is whole; raises `UnknownName`."""
        async with self._database.transaction() as connection:
            # The row first: records that follow it in the meantime would look like added ones.
            query = select(PostingRow).where(PostingRow.id == posting_id).with_for_update(read=True)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise UnknownName("posting", str(posting_id))
            records = await audit.history(connection, posting_id)
        head = chain.Head(seq=row.audit_seq, hash=row.audit_hash, status=row.status)
        return await asyncio.to_thread(chain.check, posting_id, records, head)

    async def ids(self, after: UUID | None, limit: int) -> list[UUID]:
        """The ids of postings above `after`, in their own order: a way through all of them."""
        query = select(PostingRow.id).order_by(PostingRow.id).limit(limit)
        if after is not None:
            query = query.where(PostingRow.id > after)
        async with self._database.transaction() as connection:
            return list(await connection.scalars(query))

    # -- the worker's side -------------------------------------------------------------------

    async def claim(self, posting_id: UUID, worker: str, silence: timedelta) -> Claim | None:
        """Raise the fence and take the posting; None when there is nothing to do for this worker.

        A posting that another worker has is left to it, unless nothing was seen of that worker for
        as long as `silence`.
        """
        async with self._writing(posting_id, Actor(name=audit.ENGINE)) as pen:
            posting = pen.posting
            if posting.status not in QUEUED:
                return None
            running = posting.status == "running"
            others = running and posting.worker not in {None, worker}
            if others and await workers.lives(pen.connection, posting.worker, silence):
                return None
            await pen.raise_numbers(fence=True)
            verb = "taken over by" if running else "claimed by"
            note = audit.Note(action="claim", message=f"{verb} {worker}")
            await pen.write(note, Change(status="running", more={"worker": worker}))
            entries = await _entries(pen.connection, posting_id)
        return Claim(
            posting=replace(posting, status="running", worker=worker, fence=pen.head.fence),
            at=pen.head.at,
            entries={entry.number: entry for entry in entries},
        )

    async def start(self, claim: Claim, step: AnyStep, call: Call, limit: timedelta) -> Entry:
        """Record the intent of a call, before it is sent.

        Raises `CancelRequested` when the posting is to end.
        """
        async with self._working(claim) as pen:
            if pen.posting.cancel_requested_by is not None:
                raise CancelRequested("the posting is to be canceled")
            attempt = await _last_attempt(pen.connection, claim.posting.id, step.number) + 1
            note = audit.Note(
                action="start",
                message=f"calling {call.model}.{call.method}",
                step=step.number,
                step_name=step.name,
                attempt=attempt,
                call=call,
            )
            record = await pen.write(note)
            entry = Entry(
                number=step.number,
                name=step.name,
                state="started",
                attempt=attempt,
                run=claim.posting.run,
                fence=claim.fence,
                undo=step.undoing,
                call={"model": call.model, "method": call.method, "ids": list(call.ids)},
                sent_at=record.at,
                settle_until=record.at + limit,
                sent_seq=record.seq,
            )
            await _store(pen, entry, ended=False)
        return entry

    async def record(
        self, claim: Claim, entry: Entry, note: audit.Note, change: Change = UNCHANGED
    ) -> None:
        """Record what became of a step, with its audit record."""
        async with self._working(claim) as pen:
            await pen.write(note, change)
            await _store(pen, entry, ended=not entry.in_doubt)

    async def note(self, claim: Claim, note: audit.Note, change: Change = UNCHANGED) -> None:
        """Record something about the posting as a whole."""
        async with self._working(claim) as pen:
            await pen.write(note, change)

    async def stop(
        self, claim: Claim, note: audit.Note, change: Change, *, look_after: timedelta | None = None
    ) -> None:
        """End this run; with `look_after`, a job will look again then.

        One that is to be canceled is, unless a call is still in doubt.
        """
        async with self._working(claim) as pen:
            canceler = pen.posting.cancel_requested_by
            if canceler and not await _doubts(pen.connection, claim.posting.id):
                canceled = _canceled(claim.posting, canceler)
                message = f"{canceled.message}; it had stopped: {note.message}"
                note, change = replace(canceled, message=message, code=note.code), CANCELED
                look_after = None
            await pen.write(note, change)
            if look_after is not None:
                await self._enqueue(pen.connection, claim.posting.id, after=look_after)

    async def end_canceled(self, claim: Claim) -> None:
        """Cancel the posting as it was asked for."""
        async with self._working(claim) as pen:
            await pen.write(
                _canceled(claim.posting, str(pen.posting.cancel_requested_by)), CANCELED
            )

    async def hand_over(self, claim: Claim, reason: str, after: timedelta) -> None:
        """Put the posting back into the queue, to be taken after a while."""
        async with self._working(claim) as pen:
            note = audit.Note(action="pause", status="warning", message=reason)
            await pen.write(note, Change(status="pending", more={"worker": None}))
            await self._enqueue(pen.connection, claim.posting.id, after=after or None)

    @asynccontextmanager
    async def _working(self, claim: Claim) -> AsyncIterator[_Pen]:
        async with self._writing(claim.posting.id, Actor(name=audit.ENGINE)) as pen:
            if pen.posting.fence != claim.fence:
                raise FenceLost(claim.posting.id, claim.fence)
            yield pen

    @asynccontextmanager
    async def _writing(
        self,
        posting_id: UUID,
        actor: Actor,
    ) -> AsyncIterator[_Pen]:
        async with self._database.transaction() as connection:
            found = (
                await connection.execute(
                    select(PostingRow, func.clock_timestamp().label("now"))
                    .where(PostingRow.id == posting_id)
                    .with_for_update()
                )
            ).one_or_none()
            if found is None:
                raise UnknownName("posting", str(posting_id))
            values = dict(found._mapping)  # noqa: SLF001  SQLAlchemy's public way to the names
            now = values.pop("now")
            pen = _pen(connection, Posting(**values), now, actor)
            yield pen
        await self.tell(pen.records, {posting_id: pen.posting.total_steps})
        for event in pen.batch_events:
            await self._announce_batch(event)

    async def tell(self, records: Sequence[audit.Record], totals: Mapping[UUID, int]) -> None:
        """Announce records that are committed; `totals` are the steps of their postings."""
        if records:
            await self._announce(*((record, totals[record.posting_id]) for record in records))


def _pen(connection: AsyncConnection, posting: Posting, at: datetime, actor: Actor) -> _Pen:
    head = audit.Head(
        posting_id=posting.id,
        seq=posting.audit_seq,
        hash=posting.audit_hash,
        run=posting.run,
        fence=posting.fence,
        at=at,
    )
    return _Pen(connection, posting, head, posting.status, actor)


async def clock(connection: AsyncConnection) -> datetime:
    """The time of the database."""
    now: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return now


def _document(of: NewPosting | Posting) -> tuple[str, str, str]:
    """What tells documents apart."""
    return of.connection, of.document_type, of.document_key


def _other_kind(posting: Posting) -> OtherKind:
    return OtherKind(posting.id, posting.kind, posting.status)


def refused(new: NewPosting, posting: Posting) -> Refused | None:
    """Why the posting that a document has is not what was asked for; None when it is."""
    if posting.kind != new.kind:
        return _other_kind(posting)
    if posting.id != new.id and posting.status != "completed":
        return LivePosting(posting.id, posting.status)
    return None


def first(new: NewPosting, now: datetime) -> First:
    """A posting as it begins, at the database's time."""
    head = audit.Head(posting_id=new.id, seq=0, hash=audit.GENESIS, run=1, fence=0, at=now)
    note = audit.Note(action="accept", message="accepted")
    record = audit.sealed(head, note, "pending", new.actor)
    posting = Posting(
        id=new.id,
        kind=new.kind,
        connection=new.connection,
        document_type=new.document_type,
        document_key=new.document_key,
        reference=new.reference,
        status=record.posting_status,
        subject=new.subject.model_dump(mode="json"),
        facts={},
        step=0,
        total_steps=new.total_steps,
        run=record.run,
        fence=record.fence,
        worker=None,
        intent="post",
        cancel_requested_by=None,
        code=None,
        message=None,
        actor=new.actor.name,
        ip=new.actor.ip,
        audit_seq=record.seq,
        audit_hash=record.hash,
        created_at=now,
        updated_at=now,
        ended_at=None,
    )
    return First(posting=posting, record=record)


_GIVEN = Given(PostingRow, tuple(Posting.__dataclass_fields__))
_INSERT = (
    insert(PostingRow)
    .from_select(_GIVEN.names, select(*_GIVEN.columns))
    .on_conflict_do_nothing()
    .returning(PostingRow.id)
)


async def _insert(connection: AsyncConnection, postings: Sequence[Posting]) -> list[Posting]:
    """Write the postings whose document has none; answers these."""
    rows = [posting.__dict__ for posting in postings]
    written = set(await connection.scalars(_INSERT, _GIVEN.parameters(rows)))
    return [posting for posting in postings if posting.id in written]


async def _of_documents(
    connection: AsyncConnection, documents_: Collection[tuple[str, str, str]], *, hold: bool
) -> list[Posting]:
    """The postings of documents that were not canceled."""
    if not documents_:
        return []
    columns = tuple_(PostingRow.connection, PostingRow.document_type, PostingRow.document_key)
    query = select(PostingRow).where(columns.in_(documents_), PostingRow.status != "canceled")
    if hold:
        query = query.order_by(PostingRow.id).with_for_update(read=True)
    return [_posting(row) for row in await connection.execute(query)]


def _taken(item: NewItem, posting: Posting | None) -> Taken:
    """How an item of a batch is answered."""
    if posting is None or item.posting is None:
        return Taken(item=item, answer="invalid")
    if posting.kind != item.posting.kind:
        error = _other_kind(posting)
        wrong = Problem("kind", str(error), error.code)
        return Taken(item=replace(item, problems=[wrong]), answer="invalid")
    answer: Answer = "accepted"
    if posting.id != item.posting.id:
        answer = "completed" if posting.status == "completed" else "live"
    return Taken(item=item, answer=answer, posting_id=posting.id, status=posting.status)


def _check_rollback(posting: Posting, allowed: Sequence[str]) -> None:
    if posting.status not in allowed:
        raise WrongStatus(posting.id, posting.status, "only one that is stopped and not completed")


def _canceled(posting: Posting, by: str) -> audit.Note:
    message = f"canceled by {by}; what was done in Odoo is left as it is"
    return audit.Note(action="cancel", message=message, odoo_ids=posting.facts)


def _open_doubt(posting: Posting, at: datetime, entries: Sequence[Entry]) -> Entry | None:
    """A call whose outcome a worker will still find, or that may still show itself."""
    taken = posting.status in QUEUED
    for entry in entries:
        still_settles = entry.settle_until is not None and entry.settle_until > at
        if entry.in_doubt and (taken or still_settles):
            return entry
    return None


async def _doubts(connection: AsyncConnection, posting_id: UUID) -> list[Entry]:
    return [entry for entry in await _entries(connection, posting_id) if entry.in_doubt]


async def _entries(connection: AsyncConnection, posting_id: UUID) -> list[Entry]:
    rows = await connection.execute(
        select(
            StepRow.number,
            StepRow.name,
            StepRow.state,
            StepRow.attempt,
            StepRow.run,
            StepRow.fence,
            StepRow.undo,
            StepRow.call,
            StepRow.sent_at,
            StepRow.settle_until,
            StepRow.sent_seq,
        )
        .where(StepRow.posting_id == posting_id)
        .order_by(StepRow.number)
    )
    return [Entry(**row._mapping) for row in rows]  # noqa: SLF001  see _posting


async def _last_attempt(connection: AsyncConnection, posting_id: UUID, number: int) -> int:
    attempt = await connection.scalar(
        select(StepRow.attempt).where(StepRow.posting_id == posting_id, StepRow.number == number)
    )
    return attempt or 0


async def _store(pen: _Pen, entry: Entry, *, ended: bool) -> None:
    values = {
        **entry.__dict__,
        "posting_id": pen.head.posting_id,
        "ended_at": pen.head.at if ended else None,
    }
    key = ("posting_id", "number")
    statement = insert(StepRow).values(**values)
    await pen.connection.execute(
        statement.on_conflict_do_update(
            index_elements=key,
            set_={name: statement.excluded[name] for name in values if name not in key},
        )
    )
