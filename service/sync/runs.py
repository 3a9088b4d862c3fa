"""Runs of syncs as they are stored: claimed, checkpointed page by page, and ended.

Every write locks the run's row and compares the fence, and a page's rows are written in the same
transaction as its checkpoint: a worker whose run was taken over leaves no trace. Each write adds an
event, numbered within the run, which is told once it is committed.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import uuid4

from sqlalchemy import ARRAY, Uuid, any_, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql

from service import workers
from service.errors import LiveRun, RunCanceled, RunLost, RunOver, UnknownName
from service.tables import SyncCursorRow, SyncEventRow, SyncRunRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.database import Database

Mode = Literal["incremental", "full", "keys"]
Status = Literal["pending", "running", "completed", "failed", "canceled"]
LIVE = ("pending", "running")


@dataclass(frozen=True, kw_only=True)
class SyncRun:
    """One run as it is stored; `expected`, `read`, `written` and `removed` count rows."""

    id: UUID
    connection: str
    name: str
    mode: Mode
    status: Status
    accept_removals: bool
    fence: int
    worker: str | None
    window_from: datetime | None
    window_to: datetime | None
    after_id: int
    pages: int
    read: int
    written: int
    removed: int
    cursor_before: datetime | None
    code: str | None
    message: str | None
    actor: str
    ip: str | None
    keys: Sequence[str] | None
    expected: int
    calls: int
    missing: int
    seq: int
    cancel_requested_by: str | None
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class SyncEvent:
    """Something that happened to a run, and how far it was then."""

    run_id: UUID
    seq: int
    at: datetime
    action: str
    status: Status
    actor: str
    expected: int
    pages: int
    read: int
    written: int
    removed: int
    calls: int
    code: str | None
    message: str | None


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run that is about to be written down. `keys` go with the mode `keys`."""

    connection: str
    name: str
    mode: Mode
    actor: str
    ip: str | None = None
    keys: Sequence[str] | None = None
    accept_removals: bool = False


class Enqueue(Protocol):
    """How a run gets a job, in the caller's transaction."""

    async def __call__(
        self, connection: AsyncConnection, *ids: UUID, after: timedelta | None = None
    ) -> None:
        """Enqueue runs."""
        ...


class Announce(Protocol):
    """Who is told of an event once it is committed."""

    async def __call__(self, event: SyncEvent) -> None:
        """Tell of an event."""
        ...


@dataclass
class Pen:
    """Writes a run within one transaction; `events` are what it wrote."""

    connection: AsyncConnection
    run: SyncRun
    actor: str
    events: list[SyncEvent] = field(default_factory=list)
    _more: dict[str, Any] = field(default_factory=dict)

    def also(self, **columns: Any) -> None:
        """What each write of this transaction changes besides."""
        self._more |= columns

    async def write(self, action: str, **columns: Any) -> SyncRun:
        """Change the run, and add the event that tells so; answers the run as it is then."""
        written = await self.connection.execute(
            update(SyncRunRow)
            .where(SyncRunRow.id == self.run.id)
            .values(
                updated_at=func.clock_timestamp(), seq=SyncRunRow.seq + 1, **self._more, **columns
            )
            .returning(SyncRunRow)
        )
        self.run = _run(written.one())
        self.events.append(await _event(self.connection, self.run, action, self.actor))
        return self.run

    async def end(self, status: Status, code: str | None, message: str | None) -> SyncRun:
        """End the run."""
        return await self.write(
            "end", status=status, code=code, message=message, ended_at=func.clock_timestamp()
        )

    async def move_cursor(self, value: datetime) -> None:
        """Everything up to `value` is in the mirror."""
        run = self.run
        statement = postgresql.insert(SyncCursorRow).values(
            connection=run.connection, name=run.name, value=value, run_id=run.id
        )
        await self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=["connection", "name"], set_={"value": value, "run_id": run.id}
            )
        )


class Runs:
    """Reads and writes runs."""

    def __init__(self, database: Database, enqueue: Enqueue, announce: Announce) -> None:
        self._database = database
        self._enqueue = enqueue
        self._announce = announce

    # -- people ------------------------------------------------------------------------------

    async def start(self, new: NewRun) -> SyncRun:
        """Write a run that waits for a worker; raises `LiveRun` when there is one."""
        async with self._database.transaction() as transaction:
            event = await self.start_within(transaction, new)
            found = await transaction.execute(
                select(SyncRunRow).where(SyncRunRow.id == event.run_id)
            )
            run = _run(found.one())
        await self._announce(event)
        return run

    async def start_within(self, transaction: AsyncConnection, new: NewRun) -> SyncEvent:
        """The same in the caller's transaction, whose commit is to be told of by `tell`."""
        statement = postgresql.insert(SyncRunRow).values(
            id=uuid4(),
            connection=new.connection,
            name=new.name,
            mode=new.mode,
            status="pending",
            accept_removals=new.accept_removals,
            actor=new.actor,
            ip=new.ip,
            keys=None if new.keys is None else list(new.keys),
            seq=1,
            created_at=func.clock_timestamp(),
            updated_at=func.clock_timestamp(),
            **dict.fromkeys(_ZERO, 0),
        )
        row = (
            await transaction.execute(statement.on_conflict_do_nothing().returning(SyncRunRow))
        ).one_or_none()
        if row is None:
            live = await transaction.execute(
                select(SyncRunRow).where(
                    SyncRunRow.connection == new.connection,
                    SyncRunRow.name == new.name,
                    SyncRunRow.status.in_(LIVE),
                )
            )
            found = live.one_or_none()
            if found is None:  # ended between the two statements
                return await self.start_within(transaction, new)
            raise LiveRun(found.id, found.status)
        await self._enqueue(transaction, row.id)
        return await _event(transaction, _run(row), "start", new.actor)

    async def tell(self, *events: SyncEvent) -> None:
        """Tell of events that are committed."""
        for event in events:
            await self._announce(event)

    async def cancel(self, run_id: UUID, actor: str) -> SyncRun:
        """End a run that waits, or have its worker end it after its page.

        Raises `UnknownName`, and `RunOver` when it has ended.
        """
        async with self._changing(run_id, actor) as pen:
            if pen.run.status not in LIVE:
                raise RunOver(run_id, pen.run.status)
            if pen.run.status == "pending":
                return await pen.end("canceled", None, f"canceled by {actor}")
            return await pen.write("cancel", cancel_requested_by=actor)

    async def get(self, run_id: UUID) -> SyncRun:
        """One run; raises `UnknownName`."""
        async with self._database.transaction() as transaction:
            found = await transaction.execute(select(SyncRunRow).where(SyncRunRow.id == run_id))
            row = found.one_or_none()
        if row is None:
            raise UnknownName("run", str(run_id))
        return _run(row)

    async def newest(
        self,
        name: str,
        *,
        connection: str | None = None,
        connections: Collection[str] | None = None,
        status: str | None = None,
        before: tuple[datetime, UUID] | None = None,
        limit: int,
    ) -> list[SyncRun]:
        """Runs of a sync, newest first, below a place in that order.

        With `connections`, only those on these.
        """
        query = select(SyncRunRow).where(SyncRunRow.name == name)
        if connection is not None:
            query = query.where(SyncRunRow.connection == connection)
        if connections is not None:
            query = query.where(SyncRunRow.connection.in_(connections))
        if status is not None:
            query = query.where(SyncRunRow.status == status)
        if before is not None:
            at, run_id = before
            query = query.where(
                (SyncRunRow.created_at < at)
                | ((SyncRunRow.created_at == at) & (SyncRunRow.id < run_id))
            )
        query = query.order_by(SyncRunRow.created_at.desc(), SyncRunRow.id.desc()).limit(limit)
        async with self._database.transaction() as transaction:
            return [_run(row) for row in await transaction.execute(query)]

    async def events(self, run_id: UUID, *, after: int = 0) -> list[SyncEvent]:
        """The events of a run above `after`, oldest first."""
        query = (
            select(SyncEventRow)
            .where(SyncEventRow.run_id == run_id, SyncEventRow.seq > after)
            .order_by(SyncEventRow.seq)
        )
        async with self._database.transaction() as transaction:
            return [SyncEvent(**row._mapping) for row in await transaction.execute(query)]  # noqa: SLF001  SQLAlchemy's public way to a row's names

    async def heads(self, run_ids: Collection[UUID]) -> Mapping[UUID, int]:
        """The number of the last event of each run."""
        array = literal(list(run_ids), ARRAY(Uuid))  # one parameter, however many runs
        query = select(SyncRunRow.id, SyncRunRow.seq).where(SyncRunRow.id == any_(array))
        async with self._database.transaction() as transaction:
            return {row.id: row.seq for row in await transaction.execute(query)}

    async def cursor(self, connection: str, name: str) -> datetime | None:
        """Up to which `write_date` the rows are in the mirror; None before the first run."""
        async with self._database.transaction() as transaction:
            return await transaction.scalar(
                select(SyncCursorRow.value).where(
                    SyncCursorRow.connection == connection, SyncCursorRow.name == name
                )
            )

    async def cursors(self) -> dict[tuple[str, str], datetime]:
        """All cursors, by connection and sync."""
        async with self._database.transaction() as transaction:
            rows = await transaction.execute(select(SyncCursorRow))
        return {(row.connection, row.name): row.value for row in rows}

    # -- workers -----------------------------------------------------------------------------

    async def claim(self, run_id: UUID, worker: str, silence: timedelta) -> SyncRun | None:
        """Take a run, or take it over; None when it is over.

        Raises `UnknownName`, and `LiveRun` when another worker has it that was seen within
        `silence`.
        """
        async with self._changing(run_id, worker) as pen:
            run = pen.run
            if run.status not in LIVE:
                return None
            if run.worker != worker and await workers.lives(pen.connection, run.worker, silence):
                raise LiveRun(run.id, run.status)
            return await pen.write("claim", status="running", worker=worker, fence=run.fence + 1)

    @asynccontextmanager
    async def writing(self, run: SyncRun) -> AsyncIterator[Pen]:
        """One transaction on a claimed run whose end nobody asked for.

        Raises `RunLost` once another worker has it, and `RunCanceled` once somebody asked for its
        end; nothing of the block is written then.
        """
        async with self.holding(run) as pen:
            if pen.run.cancel_requested_by is not None:
                raise RunCanceled(run.id, pen.run.cancel_requested_by)
            yield pen

    @asynccontextmanager
    async def holding(self, run: SyncRun) -> AsyncIterator[Pen]:
        """One transaction on a claimed run; raises `RunLost` once another worker has it."""
        async with self._changing(run.id, run.worker or "") as pen:
            if pen.run.fence != run.fence or pen.run.status not in LIVE:
                raise RunLost(run.id, run.fence)
            yield pen

    async def hand_over(self, run: SyncRun) -> SyncRun:
        """Put a run back into the queue; raises `RunLost` once another worker has it."""
        async with self.holding(run) as pen:
            handed = await pen.write("hand_over", status="pending", worker=None)
            await self._enqueue(pen.connection, run.id)
        return handed

    @asynccontextmanager
    async def _changing(self, run_id: UUID, actor: str) -> AsyncIterator[Pen]:
        """One transaction on a run, whose events are told after it; raises `UnknownName`."""
        async with self._database.transaction() as transaction:
            found = await transaction.execute(
                select(SyncRunRow).where(SyncRunRow.id == run_id).with_for_update()
            )
            row = found.one_or_none()
            if row is None:
                raise UnknownName("run", str(run_id))
            pen = Pen(transaction, _run(row), actor)
            yield pen
        await self.tell(*pen.events)


_ZERO = ("fence", "after_id", "pages", "read", "written", "removed", "expected", "calls", "missing")


async def _event(connection: AsyncConnection, run: SyncRun, action: str, actor: str) -> SyncEvent:
    event = SyncEvent(
        run_id=run.id,
        seq=run.seq,
        at=run.updated_at,
        action=action,
        status=run.status,
        actor=actor,
        expected=run.expected,
        pages=run.pages,
        read=run.read,
        written=run.written,
        removed=run.removed,
        calls=run.calls,
        code=run.code,
        message=run.message,
    )
    await connection.execute(insert(SyncEventRow).values(**vars(event)))
    return event


def _run(row: Any) -> SyncRun:
    return SyncRun(**row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a row's names
