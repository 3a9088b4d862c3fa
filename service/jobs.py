"""Jobs: what waits for a worker, in PostgreSQL through PgQueuer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from sqlalchemy import text

from service.database import driver_connection

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

POSTING = "posting"

_SWEEP_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('eclusa.jobs.sweep'))")
_WITHOUT_JOB = text("""
    SELECT id FROM posting
    WHERE status IN ('pending', 'running', 'waiting')
      AND NOT EXISTS (
        SELECT FROM pgqueuer
        WHERE entrypoint = :entrypoint AND payload = convert_to(posting.id::text, 'UTF8')
      )
    ORDER BY updated_at
    LIMIT :limit
""")
SWEEP_LIMIT = 1_000


async def enqueue_posting(
    connection: AsyncConnection, posting_id: UUID, *, after: timedelta | None = None
) -> None:
    """Enqueue a posting in the caller's transaction: it is queued if and when that commits.

    The transaction must have begun, that is, a statement was executed in it.
    """
    queries = Queries(AsyncpgDriver(await driver_connection(connection)))
    await queries.enqueue(POSTING, str(posting_id).encode(), execute_after=after)


async def enqueue_orphans(connection: AsyncConnection) -> list[UUID]:
    """Enqueue the unfinished postings that have no job any more; answers which.

    A job and its posting are written together, but the queue drops a job whose end it could not
    write, as when PostgreSQL went away at that moment.
    """
    if not await connection.scalar(_SWEEP_LOCK):
        return []
    rows = await connection.scalars(_WITHOUT_JOB, {"entrypoint": POSTING, "limit": SWEEP_LIMIT})
    orphans = list(rows)
    for posting_id in orphans:
        await enqueue_posting(connection, posting_id)
    return orphans
