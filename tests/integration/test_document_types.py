"""The migration that gave documents a type: what was posted before keeps its place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from pydantic import BaseModel

from alembic import command
from service import jobs, migrations
from service.database import Database
from service.errors import OtherKind
from service.posting.ledger import Ledger
from service.posting.step import Actor, NewPosting

if TYPE_CHECKING:
    from tests.factories.databases import Databases

BEFORE = "2026_11_26_keys"


class Paper(BaseModel):
    """A document of which nothing is known."""


def posting(kind: str, document_type: str = "") -> NewPosting:
    """A document that is to be posted as some kind."""
    return NewPosting(
        id=uuid4(),
        kind=kind,
        connection="main",
        document_type=document_type,
        document_key="K",
        subject=Paper(),
        total_steps=1,
        reference=None,
        actor=Actor(name="tester"),
    )


async def _announce(*_: object) -> None:
    """Tell nobody."""


async def test_a_freight_of_before_is_no_expense(databases: Databases) -> None:
    """It has the type of a CTe; what is posted as any other kind has that one's own."""
    freight, receipt = posting("freight_cte", "cte"), posting("physical_receipt")
    async with databases.fresh() as address:
        database = Database(address)
        ledger = Ledger(database, jobs.POSTINGS.enqueue, _announce, _announce)
        for new in (freight, receipt):
            await ledger.accept(new)
        await asyncio.to_thread(command.downgrade, migrations._config(address), BEFORE)
        await migrations.migrate(address)

        found = [
            await ledger.of_document("main", new.document_type, "K") for new in (freight, receipt)
        ]
        with pytest.raises(OtherKind) as refused:
            await ledger.accept(posting("freight_expense", "cte"))
        await database.close()

    assert [one and one.id for one in found] == [freight.id, receipt.id]
    assert refused.value.posting_id == freight.id
