"""Jobs: what waits for a worker, in PostgreSQL through PgQueuer.

A job is a bell: it tells some worker of a posting, or of a sync's run, which that worker claims.
From then on the job is over, and the work is kept alive by its worker showing that it lives. What
has lost its bell or its worker is enqueued again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from sqlalchemy import any_, column, exists, func, literal, select, table, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from service.database import driver_connection
from service.tables import PostingRow, SyncRunRow, WorkerRow

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

RECOVER_LIMIT = 1_000

_ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(hashtext('eclusa.jobs.recover'))")
_QUEUE = table("pgqueuer", column("entrypoint"), column("payload"))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What jobs of one entry point name: a row of `table`, which is to be told of while `waits`."""

    entrypoint: str
    table: type[PostingRow | SyncRunRow]
    waits: tuple[str, ...]

    async def enqueue(
        self, connection: AsyncConnection, *ids: UUID, after: timedelta | None = None
    ) -> None:
        """Enqueue in the caller's transaction: they are queued if and when that commits.

        The transaction must have begun, that is, a statement was executed in it.
        """
        if not ids:
            return
        queries = Queries(AsyncpgDriver(await driver_connection(connection)))
        count = len(ids)
        await queries.enqueue(
            [self.entrypoint] * count,
            [str(one).encode() for one in ids],
            [0] * count,
            [after] * count,
        )

    def without_worker(self, silence: timedelta) -> Select[UUID]:
        """The ids of what a worker had that was not seen for `silence`."""
        seen = exists().where(
            WorkerRow.id == self.table.worker,
            WorkerRow.seen_at > func.clock_timestamp() - silence,
        )
        return self._without_job(self.table.status == "running", ~seen)

    def without_bell(self) -> Select[UUID]:
        """The ids of what waits for a worker, and no job names."""
        waits = literal(list(self.waits), ARRAY(Text))
        return self._without_job(self.table.status == any_(waits))

    def _without_job(self, *conditions: ColumnElement[bool]) -> Select[UUID]:
        named = exists().where(
            _QUEUE.c.entrypoint == self.entrypoint,
            _QUEUE.c.payload == func.convert_to(self.table.id.cast(Text), "UTF8"),
        )
        query = select(self.table.id).where(*conditions, ~named)
        return query.order_by(self.table.updated_at).limit(RECOVER_LIMIT)


POSTINGS = Kind(entrypoint="posting", table=PostingRow, waits=("pending", "waiting"))
SYNC_RUNS = Kind(entrypoint="sync_run", table=SyncRunRow, waits=("pending",))
KINDS = (POSTINGS, SYNC_RUNS)


async def recover_silent(connection: AsyncConnection, silence: timedelta) -> list[UUID]:
    """Enqueue what a worker had that was not seen for `silence`; answers which."""
    return await _recover(connection, {kind: kind.without_worker(silence) for kind in KINDS})


async def recover_forgotten(connection: AsyncConnection) -> list[UUID]:
    """Enqueue what should have a job and has none; answers which.

    A job and what it names are written together, but the queue drops a job whose end it could not
    write, as when PostgreSQL went away at that moment.
    """
    return await _recover(connection, {kind: kind.without_bell() for kind in KINDS})


async def _recover(connection: AsyncConnection, queries: dict[Kind, Select[UUID]]) -> list[UUID]:
    if not await connection.scalar(_ONE_AT_A_TIME):
        return []
    recovered: list[UUID] = []
    for kind, query in queries.items():
        found = list(await connection.scalars(query))
        await kind.enqueue(connection, *found)
        recovered += found
    return recovered
