"""Documents that come at one moment: written together, each answered by itself."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from service.errors import LivePosting, Refused
from service.idempotency import Answer, Ticket
from service.posting.ledger import Posting
from service.posting.step import Actor, NewPosting
from service.postings.freight_cte.freight import Freight
from tests.factories import cte

if TYPE_CHECKING:
    from tests.factories.running import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 60
NUL = "\x00"


def new(number: int, **values: Any) -> NewPosting:
    """A document that is to be posted."""
    key = cte.make_key(number=number)
    given = {
        "id": uuid4(),
        "kind": "freight_cte",
        "connection": "main",
        "document_type": "cte",
        "document_key": key,
        "subject": Freight(access_key=key, due_date=date(2026, 12, 31)),
        "total_steps": 16,
        "reference": None,
        "actor": Actor(name="tester"),
    }
    return NewPosting(**{**given, **values})


def answer(outcome: Posting | Refused) -> Answer:
    """The id of the posting, or of the one that stands in the way."""
    if isinstance(outcome, LivePosting):
        return Answer(status=409, headers={}, body=str(outcome.posting_id).encode())
    assert isinstance(outcome, Posting)
    return Answer(status=202, headers={}, body=str(outcome.id).encode())


async def accept(stage: Stage, *orders: tuple[NewPosting, Ticket | None]) -> list[Any]:
    """What becomes of orders that come at one moment; errors are answers too."""
    accepted = (stage.runtime.intake.accept(*order, answer) for order in orders)
    return await asyncio.gather(*accepted, return_exceptions=True)


async def rows(stage: Stage, query: str) -> list[Any]:
    """What a query answers."""
    async with stage.runtime.database.transaction() as connection:
        return list(await connection.execute(text(query)))


async def test_documents_of_one_moment_are_written_together(idle: Stage) -> None:
    """Sixty in two transactions at most, each with its first audit record and its job."""
    orders = [new(number) for number in range(1, MANY + 1)]

    answers = await accept(idle, *((order, None) for order in orders))

    assert [UUID(one.body.decode()) for one in answers] == [order.id for order in orders]
    assert {one.status for one in answers} == {202}
    [(postings, transactions)] = await rows(
        idle, "SELECT count(*), count(DISTINCT xmin::text) FROM posting"
    )
    assert (postings, transactions) in ((MANY, 1), (MANY, 2))
    assert await rows(idle, "SELECT count(*) FROM pgqueuer") == [(MANY,)]
    verdict = await idle.runtime.ledger.verify(orders[7].id)
    assert (verdict.valid, verdict.records) == (True, 1)


async def test_one_that_cannot_be_stored_fails_alone(idle: Stage) -> None:
    """A defect of one request is not told to those that came with it."""
    orders = [new(number) for number in range(1, 11)]
    orders[4] = new(5, reference=NUL)

    answers = await accept(idle, *((order, None) for order in orders))

    assert [isinstance(one, Answer) for one in answers] == [place != 4 for place in range(10)]
    assert await rows(idle, "SELECT count(*) FROM posting") == [(9,)]


async def test_a_document_that_comes_twice_is_posted_once(idle: Stage) -> None:
    """The second of a group is told of the first one's posting."""
    orders = [new(1), new(2), new(1), new(1)]

    answers = await accept(idle, *((order, None) for order in orders))

    statuses = sorted((one.status for one in answers), reverse=False)
    assert statuses == [202, 202, 409, 409]
    [posted] = {one.body for one in (answers[0], answers[2], answers[3])}
    assert UUID(posted.decode()) in {order.id for order in orders}
    assert await rows(idle, "SELECT count(*) FROM posting") == [(2,)]


async def test_a_key_that_comes_twice_is_answered_twice(idle: Stage) -> None:
    """One is carried out; the others, sent at the same moment, get its answer."""
    owner = uuid4()
    tickets = [Ticket(owner=owner, key="k", fingerprint="f") for _ in range(5)]

    answers = await accept(idle, *((new(1), ticket) for ticket in tickets))

    assert len({one.body for one in answers}) == 1
    assert sorted(one.replayed for one in answers) == [False, True, True, True, True]
    assert {one.status for one in answers} == {202}


async def test_the_record_of_a_key_is_gone_with_its_posting(
    idle: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are one transaction: where the posting was not written, the key is free."""
    ticket = Ticket(owner=uuid4(), key="k", fingerprint="f")

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(idle.runtime.ledger, "_enqueue", broken)
        [failure] = await accept(idle, (new(1), ticket))
    [again] = await accept(idle, (new(1), Ticket(owner=ticket.owner, key="k", fingerprint="g")))

    assert isinstance(failure, ZeroDivisionError)
    assert (again.status, again.replayed) == (202, False)
