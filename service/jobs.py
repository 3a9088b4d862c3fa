"""Jobs: what waits for a worker, in PostgreSQL through PgQueuer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries

from service.database import driver_connection

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

POSTING = "posting"


async def enqueue_posting(
    connection: AsyncConnection, posting_id: UUID, *, after: timedelta | None = None
) -> None:
    """Enqueue a posting in the caller's transaction: it is queued if and when that commits.

    The transaction must have begun, that is, a statement was executed in it.
    """
    queries = Queries(AsyncpgDriver(await driver_connection(connection)))
    await queries.enqueue(POSTING, str(posting_id).encode(), execute_after=after)
