"""Runs of syncs as they are stored: claimed, checkpointed page by page, and ended.

Every write locks the run's row and compares the fence, and a page's rows are written in the same
transaction as its checkpoint: a worker whose run was taken over leaves no trace.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from service import workers
from service.errors import LiveRun, RunLost, UnknownName
from service.tables import SyncCursorRow, SyncRunRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime, timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.database import Database

Mode = Literal["incremental", "full"]
LIVE = ("pending", "running")


@dataclass(frozen=True, kw_only=True)
class SyncRun:
    """One run as it is stored; `read`, `written` and `removed` count rows."""

    id: UUID
    connection: str
    name: str
    mode: Mode
    status: str
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
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Pen:
    """Writes a run within one transaction."""

    connection: AsyncConnection
    run: SyncRun

    async def write(self, **columns: Any) -> SyncRun:
        """Change the run; answers it as it is then."""
        row = await self.connection.execute(
            update(SyncRunRow)
            .where(SyncRunRow.id == self.run.id)
            .values(updated_at=func.clock_timestamp(), **columns)
            .returning(SyncRunRow)
        )
        return _run(row.one())

    async def end(self, status: str, code: str | None, message: str | None) -> SyncRun:
        """End the run."""
        return await self.write(
            status=status, code=code, message=message, ended_at=func.clock_timestamp()
        )

    async def move_cursor(self, value: datetime) -> None:
        """Everything up to `value` is in the mirror."""
        run = self.run
        statement = insert(SyncCursorRow).values(
            connection=run.connection, name=run.name, value=value, run_id=run.id
        )
        await self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=["connection", "name"],
                set_={"value": value, "run_id": run.id},
            )
        )


class Runs:
    """Reads and writes runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(
        self, connection: str, name: str, mode: Mode, actor: str, *, accept_removals: bool = False
    ) -> SyncRun:
        """Write a run that waits for a worker; raises `LiveRun` when there is one."""
        async with self._database.transaction() as transaction:
            statement = insert(SyncRunRow).values(
                id=uuid4(),
                connection=connection,
                name=name,
                mode=mode,
                status="pending",
                accept_removals=accept_removals,
                fence=0,
                after_id=0,
                pages=0,
                read=0,
                written=0,
                removed=0,
                actor=actor,
                created_at=func.clock_timestamp(),
                updated_at=func.clock_timestamp(),
            )
            row = (
                await transaction.execute(statement.on_conflict_do_nothing().returning(SyncRunRow))
            ).one_or_none()
            if row is not None:
                return _run(row)
            live = await transaction.execute(
                select(SyncRunRow).where(
                    SyncRunRow.connection == connection,
                    SyncRunRow.name == name,
                    SyncRunRow.status.in_(LIVE),
                )
            )
            found = live.one_or_none()
        if found is None:  # ended between the two statements
            return await self.start(connection, name, mode, actor, accept_removals=accept_removals)
        raise LiveRun(found.id, found.status)

    async def claim(self, run_id: UUID, worker: str, silence: timedelta) -> SyncRun | None:
        """Take a run, or take it over; None when it is over.

        Raises `LiveRun` when another worker has it that was seen within `silence`.
        """
        async with self._database.transaction() as transaction:
            found = await transaction.execute(
                select(SyncRunRow)
                .where(SyncRunRow.id == run_id, SyncRunRow.status.in_(LIVE))
                .with_for_update()
            )
            row = found.one_or_none()
            if row is None:
                return None
            if row.worker != worker and await workers.lives(transaction, row.worker, silence):
                raise LiveRun(row.id, row.status)
            pen = Pen(transaction, _run(row))
            return await pen.write(status="running", worker=worker, fence=row.fence + 1)

    async def get(self, run_id: UUID) -> SyncRun:
        """One run; raises `UnknownName`."""
        async with self._database.transaction() as transaction:
            found = await transaction.execute(select(SyncRunRow).where(SyncRunRow.id == run_id))
            row = found.one_or_none()
        if row is None:
            raise UnknownName("run", str(run_id))
        return _run(row)

    async def cursor(self, connection: str, name: str) -> datetime | None:
        """Up to which `write_date` the rows are in the mirror; None before the first run."""
        async with self._database.transaction() as transaction:
            return await transaction.scalar(
                select(SyncCursorRow.value).where(
                    SyncCursorRow.connection == connection, SyncCursorRow.name == name
                )
            )

    @asynccontextmanager
    async def writing(self, run: SyncRun) -> AsyncIterator[Pen]:
        """One transaction on a claimed run; raises `RunLost` when another worker has it."""
        async with self._database.transaction() as transaction:
            found = await transaction.execute(
                select(SyncRunRow).where(SyncRunRow.id == run.id).with_for_update()
            )
            present = _run(found.one())
            if present.fence != run.fence or present.status not in LIVE:
                raise RunLost(run.id, run.fence)
            yield Pen(transaction, present)


def _run(row: Any) -> SyncRun:
    return SyncRun(**row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a row's names
