"""The intake: accepts documents, and writes those that come at one moment in one transaction.

While a transaction is being committed the next ones gather, so that a busy process writes many
postings for the price of one. The record of an Idempotency-Key is written in the same transaction:
it claims the key with the answer that a new posting will get, before the posting is written, and
only what turns out otherwise is recorded once more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from service import idempotency
from service.errors import DatabaseUnavailable, Refused
from service.idempotency import Answer
from service.posting import ledger
from service.posting.ledger import Posting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.database import Database
    from service.idempotency import Ticket
    from service.posting.audit import Record
    from service.posting.ledger import First, Ledger
    from service.posting.step import NewPosting

log = structlog.get_logger()

MOST_TOGETHER = 100
WRITERS = 2
"""One prepares its statements while PostgreSQL works on the other's."""

Render = Callable[[Posting | Refused], Answer]
"""How what became of a document is answered: its posting, or why it was refused."""


@dataclass(eq=False)
class _Order:
    new: NewPosting
    ticket: Ticket | None
    render: Render
    answer: asyncio.Future[Answer]

    @property
    def key(self) -> tuple[UUID, str] | None:
        return None if self.ticket is None else (self.ticket.owner, self.ticket.key)


class Intake:
    """Accepts documents for this process."""

    def __init__(self, database: Database, of_postings: Ledger, *, keep: timedelta) -> None:
        self._database = database
        self._ledger = of_postings
        self._keep = keep
        self._waiting: deque[_Order] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    async def accept(self, new: NewPosting, ticket: Ticket | None, render: Render) -> Answer:
        """Write a posting and its job, or find the one that its document has; answer that.

        With a ticket, what was answered under its key before is answered again; raises
        `IdempotencyKeyReused` or `IdempotencyInProgress` where there is no such answer.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Order(new, ticket, render, answer))
        if len(self._writers) < WRITERS:
            writer = asyncio.create_task(self._write_all(), name="intake")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await answer

    async def close(self) -> None:
        """Wait until everything is written and told."""
        await asyncio.gather(*self._writers)

    async def _write_all(self) -> None:
        while group := self._gather():
            await self._write(group)

    def _gather(self) -> list[_Order]:
        """Orders that may be written together: each key once, the others wait for its answer."""
        group: list[_Order] = []
        later: list[_Order] = []
        keys: set[Any] = set()
        while self._waiting and len(group) < MOST_TOGETHER:
            order = self._waiting.popleft()
            (later if order.key in keys else group).append(order)
            keys |= {order.key} - {None}
        self._waiting.extendleft(reversed(later))
        return group

    async def _write(self, group: Sequence[_Order]) -> None:
        try:
            answers, records = await self._commit(group)
        except Exception as error:
            if len(group) == 1 or isinstance(error, DatabaseUnavailable):
                for order in group:
                    _settle(order, error)
                return
            log.exception("intake_group_failed", count=len(group))
            for order in group:  # each by itself, so that only the one that is wrong fails
                await self._write([order])
            return
        for order, answer in zip(group, answers, strict=True):
            _settle(order, answer)
        await self._ledger.tell(records, {order.new.id: order.new.total_steps for order in group})

    async def _commit(self, group: Sequence[_Order]) -> tuple[list[Answer | Refused], list[Record]]:
        async with self._database.transaction() as connection:
            now = await ledger.clock(connection)
            firsts = {order: ledger.first(order.new, now) for order in group}
            standing = await self._claim(connection, firsts)
            fresh = [order for order in group if order not in standing]
            postings, records = await self._ledger.enter(
                connection, [firsts[order] for order in fresh]
            )
            found = {
                order: order.render(ledger.refused(order.new, posting) or posting)
                for order, posting in zip(fresh, postings, strict=True)
            }
            written = {record.posting_id for record in records}
            unexpected = {
                order.ticket: answer
                for order, answer in found.items()
                if order.ticket and order.new.id not in written
            }
            await idempotency.settle(connection, unexpected)
        answers: dict[_Order, Answer | Refused] = {**standing, **found}
        return [answers[order] for order in group], records

    async def _claim(
        self, connection: AsyncConnection, firsts: Mapping[_Order, First]
    ) -> Mapping[_Order, Answer | Refused]:
        """Claim the keys as if no document had a posting; answers what stands against it."""
        orders = {order.ticket: order for order in firsts if order.ticket}
        expected = {ticket: order.render(firsts[order].posting) for ticket, order in orders.items()}
        if not expected:
            return {}
        standing = await idempotency.enter(connection, expected, keep=self._keep)
        return {orders[ticket]: answer for ticket, answer in standing.items()}


def _settle(order: _Order, outcome: Answer | Exception) -> None:
    if order.answer.done():
        return
    if isinstance(outcome, Exception):
        order.answer.set_exception(outcome)
    else:
        order.answer.set_result(outcome)
