"""Requests that may be repeated: the answer to each is kept under the key that the caller gave it.

Keys belong to the API key that sent them. A key is claimed before its request is carried out, in a
transaction of its own or in that of the request, and settled with the answer. A claim whose process
was killed is free again after a lease, which a request that takes longer renews; whoever claims a
key anew is not disturbed by the first one's late answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Interval, bindparam, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from service.bulk import Given
from service.errors import (
    AnswerNotKept,
    DatabaseUnavailable,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    Refused,
)
from service.tables import IdempotencyRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert

    from service.database import Database

log = structlog.get_logger()

LEASE = timedelta(seconds=15)
FORGOTTEN_AT_ONCE = 5_000


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A request with a key: the API key that sent it, and a digest of what it asks for.

    `claim` tells it from other requests with the same key.
    """

    owner: UUID
    key: str
    fingerprint: str
    claim: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as it is sent. Without a body, it holds what is not to be kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    replayed: bool = False


_GIVEN = Given(
    IdempotencyRow, ("owner", "key", "fingerprint", "claim", "status", "headers", "body")
)


def _claiming() -> ReturningInsert[tuple[UUID]]:
    """Claims the keys that are given, as far as they are free; answers the claims."""
    now = func.clock_timestamp()
    until = {
        "claimed_until": now + bindparam("lease", type_=Interval),
        "expires_at": now + bindparam("keep", type_=Interval),
    }
    names = [*_GIVEN.names, *until]
    new = insert(IdempotencyRow).from_select(names, select(*_GIVEN.columns, *until.values()))
    return new.on_conflict_do_update(
        index_elements=["owner", "key"],
        set_={name: new.excluded[name] for name in names if name not in ("owner", "key")},
        where=or_(
            IdempotencyRow.expires_at <= now,
            IdempotencyRow.status.is_(None) & (IdempotencyRow.claimed_until <= now),
        ),
    ).returning(IdempotencyRow.claim)


_CLAIM = _claiming()


async def enter(
    connection: AsyncConnection,
    entries: Mapping[Ticket, Answer | None],
    *,
    keep: timedelta,
    lease: timedelta = LEASE,
) -> Mapping[Ticket, Answer | Refused]:
    """Claim keys, each with its answer where that is known; in one statement.

    Answers what stands against those that could not be claimed. No two may be the same key. Waits
    for transactions that claimed the same keys; in the order of the keys, so not in a circle.
    """
    ordered = sorted(entries, key=lambda ticket: (ticket.owner, ticket.key))
    rows = [{**ticket.__dict__, **_columns(entries[ticket])} for ticket in ordered]
    given = {**_GIVEN.parameters(rows), "lease": lease, "keep": keep}
    claimed = set(await connection.scalars(_CLAIM, given))
    refused = [ticket for ticket in ordered if ticket.claim not in claimed]
    return await _standing(connection, refused) if refused else {}


def _columns(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {"status": None, "headers": {}, "body": None}
    return {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}


async def _standing(
    connection: AsyncConnection, tickets: list[Ticket]
) -> Mapping[Ticket, Answer | Refused]:
    """What is recorded under keys that are taken."""
    identity = tuple_(IdempotencyRow.owner, IdempotencyRow.key)
    keys = [(ticket.owner, ticket.key) for ticket in tickets]
    rows = await connection.execute(select(IdempotencyRow).where(identity.in_(keys)))
    found = {(row.owner, row.key): row for row in rows}
    return {ticket: _recorded(ticket, found.get((ticket.owner, ticket.key))) for ticket in tickets}


def _recorded(ticket: Ticket, row: Any) -> Answer | Refused:
    if row is None:  # given back since
        return IdempotencyInProgress(ticket.key)
    if row.fingerprint != ticket.fingerprint:
        return IdempotencyKeyReused(ticket.key)
    if row.status is None:
        return IdempotencyInProgress(ticket.key)
    if row.body is None:
        return AnswerNotKept(ticket.key, row.headers.get("location"))
    return Answer(status=row.status, headers=row.headers, body=row.body, replayed=True)


async def settle(connection: AsyncConnection, answers: Mapping[Ticket, Answer]) -> None:
    """Record the answers under keys that are still claimed by these tickets."""
    for ticket, answer in answers.items():
        await connection.execute(
            update(IdempotencyRow).where(*_own(ticket)).values(**_columns(answer))
        )


def _own(ticket: Ticket) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyRow.owner == ticket.owner,
        IdempotencyRow.key == ticket.key,
        IdempotencyRow.claim == ticket.claim,
    )


async def forget_expired(connection: AsyncConnection) -> int:
    """Remove records whose time is over, some at once; answers how many."""
    over = (
        select(IdempotencyRow.owner, IdempotencyRow.key)
        .where(IdempotencyRow.expires_at <= func.clock_timestamp())
        .order_by(IdempotencyRow.expires_at)
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
        .subquery()
    )
    gone = delete(IdempotencyRow).where(
        IdempotencyRow.owner == over.c.owner, IdempotencyRow.key == over.c.key
    )
    return (await connection.execute(gone)).rowcount


class Idempotency:
    """Claims, settles and gives back keys, each in a transaction of its own."""

    def __init__(self, database: Database, *, keep: timedelta, lease: timedelta = LEASE) -> None:
        self._database = database
        self._lease = lease
        self.keep = keep

    async def claim(self, ticket: Ticket) -> Answer | None:
        """Claim a key; answers what was answered before, where it was.

        Raises `IdempotencyKeyReused`, `IdempotencyInProgress` or `AnswerNotKept`.
        """
        async with self._database.transaction() as connection:
            standing = await enter(connection, {ticket: None}, keep=self.keep, lease=self._lease)
        before = standing.get(ticket)
        if isinstance(before, Refused):
            raise before
        return before

    async def settle(self, ticket: Ticket, answer: Answer) -> None:
        """Record the answer. PostgreSQL may be away: then the key is free after its lease."""
        try:
            async with self._database.transaction() as connection:
                await settle(connection, {ticket: answer})
        except DatabaseUnavailable as error:
            log.warning("answer_not_kept", key=ticket.key, error=str(error))

    async def release(self, ticket: Ticket) -> None:
        """Give a key back: nothing was done under it."""
        with contextlib.suppress(DatabaseUnavailable):
            async with self._database.transaction() as connection:
                await connection.execute(delete(IdempotencyRow).where(*_own(ticket)))

    @asynccontextmanager
    async def renewing(self, ticket: Ticket) -> AsyncIterator[None]:
        """Renew the claim of a key while the block runs."""
        renewal = asyncio.create_task(self._renew(ticket), name="idempotency lease")
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})

    async def _renew(self, ticket: Ticket) -> None:
        until = func.clock_timestamp() + self._lease
        renewed = update(IdempotencyRow).where(*_own(ticket)).values(claimed_until=until)
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            with contextlib.suppress(DatabaseUnavailable):
                async with self._database.transaction() as connection:
                    await connection.execute(renewed)
