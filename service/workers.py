"""Which worker processes live, by the clock of the database."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from service.errors import DatabaseUnavailable
from service.tables import WorkerRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.database import Database

REMEMBERED = timedelta(days=1)


async def show(connection: AsyncConnection, worker: str) -> None:
    """Show that a worker lives."""
    now = func.clock_timestamp()
    statement = insert(WorkerRow).values(id=worker, started_at=now, seen_at=now)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now})
    )


@asynccontextmanager
async def alive(database: Database, worker: str, interval: timedelta) -> AsyncIterator[None]:
    """Show that this process lives while the block runs, and be forgotten afterwards."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(interval.total_seconds())
            with contextlib.suppress(DatabaseUnavailable):
                async with database.transaction() as connection:
                    await show(connection, worker)

    async with database.transaction() as connection:
        await show(connection, worker)
    beating = asyncio.create_task(beat(), name="sign of life")
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait({beating})
        with contextlib.suppress(DatabaseUnavailable):
            async with database.transaction() as connection:
                await leave(connection, worker)


async def lives(connection: AsyncConnection, worker: str | None, silence: timedelta) -> bool:
    """Whether a worker was seen within `silence`."""
    seen = await connection.scalar(
        select(WorkerRow.seen_at > func.clock_timestamp() - silence).where(WorkerRow.id == worker)
    )
    return bool(seen)


async def leave(connection: AsyncConnection, worker: str) -> None:
    """Take a worker off the list; what it still has is taken over at once."""
    await connection.execute(delete(WorkerRow).where(WorkerRow.id == worker))


async def forget_old(connection: AsyncConnection) -> None:
    """Take workers off the list that were not seen for a day."""
    old = WorkerRow.seen_at < func.clock_timestamp() - REMEMBERED
    await connection.execute(delete(WorkerRow).where(old))
