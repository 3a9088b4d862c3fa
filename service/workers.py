"""Which worker processes live, by the clock of the database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert

from service.tables import WorkerRow

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

REMEMBERED = timedelta(days=1)


async def show(connection: AsyncConnection, worker: str) -> None:
    """Show that a worker lives."""
    now = func.clock_timestamp()
    statement = insert(WorkerRow).values(id=worker, started_at=now, seen_at=now)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now})
    )


async def leave(connection: AsyncConnection, worker: str) -> None:
    """Take a worker off the list; what it still has is taken over at once."""
    await connection.execute(delete(WorkerRow).where(WorkerRow.id == worker))


async def forget_old(connection: AsyncConnection) -> None:
    """Take workers off the list that were not seen for a day."""
    old = WorkerRow.seen_at < func.clock_timestamp() - REMEMBERED
    await connection.execute(delete(WorkerRow).where(old))
