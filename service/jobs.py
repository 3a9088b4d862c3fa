"""Jobs: what waits for a worker, in PostgreSQL through PgQueuer.

A job is a bell: it tells some worker of a posting, which that worker claims. From then on the job
is over, and the posting is kept alive by its worker showing that it lives. What has lost its bell
or its worker is enqueued again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from sqlalchemy import text

from service.database import driver_connection

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection

POSTING = "posting"
RECOVER_LIMIT = 1_000

_ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(hashtext('eclusa.jobs.recover'))")
_WITHOUT_JOB = """
    NOT EXISTS (
        SELECT FROM pgqueuer
        WHERE entrypoint = :entrypoint AND payload = convert_to(posting.id::text, 'UTF8')
    )
    ORDER BY updated_at
    LIMIT :limit
"""
_WITHOUT_WORKER = text(f"""
    SELECT id FROM posting
    WHERE status = 'running'
      AND NOT EXISTS (
        SELECT FROM worker
        WHERE worker.id = posting.worker AND seen_at > clock_timestamp() - :silence
      )
      AND {_WITHOUT_JOB}
""")  # noqa: S608  constants only
_WITHOUT_BELL = text(f"""
    SELECT id FROM posting WHERE status IN ('pending', 'waiting') AND {_WITHOUT_JOB}
""")  # noqa: S608  constants only


async def enqueue_postings(
    connection: AsyncConnection, *posting_ids: UUID, after: timedelta | None = None
) -> None:
    """Enqueue postings in the caller's transaction: they are queued if and when that commits.

    The transaction must have begun, that is, a statement was executed in it.
    """
    if not posting_ids:
        return
    queries = Queries(AsyncpgDriver(await driver_connection(connection)))
    count = len(posting_ids)
    await queries.enqueue(
        [POSTING] * count,
        [str(posting_id).encode() for posting_id in posting_ids],
        [0] * count,
        [after] * count,
    )


async def recover_silent(connection: AsyncConnection, silence: timedelta) -> list[UUID]:
    """Enqueue the postings whose worker was not seen for `silence`; answers which."""
    return await _recover(connection, _WITHOUT_WORKER.bindparams(silence=silence))


async def recover_forgotten(connection: AsyncConnection) -> list[UUID]:
    """Enqueue the postings that should have a job and have none; answers which.

    A job and its posting are written together, but the queue drops a job whose end it could not
    write, as when PostgreSQL went away at that moment.
    """
    return await _recover(connection, _WITHOUT_BELL)


async def _recover(connection: AsyncConnection, query: TextClause) -> list[UUID]:
    if not await connection.scalar(_ONE_AT_A_TIME):
        return []
    bound = query.bindparams(entrypoint=POSTING, limit=RECOVER_LIMIT)
    found = list(await connection.scalars(bound))
    await enqueue_postings(connection, *found)
    return found
