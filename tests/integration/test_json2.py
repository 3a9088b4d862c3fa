"""A sync over JSON-2: the mirror is what Odoo has, whichever protocol reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from service import syncs
from service.odoo import errors
from service.simulator.bulk import BulkOptions
from service.simulator.faults import Fault
from service.syncs import cte, purchase_orders
from tests.factories.syncing import Syncing, syncing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.database import Database

ROWS = BulkOptions(sale_lines=120, purchase_lines=120, documents=20, products=20, partners=20)


@pytest.fixture
async def source(database: Database) -> AsyncIterator[Syncing]:
    """Odoo 19, read over JSON-2, and an empty mirror."""
    async with syncing(database, rows=ROWS, version=19, protocol="json2") as made:
        yield made


async def test_a_mirror_follows_changes_over_json2(source: Syncing) -> None:
    """All pages, then what changed; nobody logs in by password."""
    stage = source.defined(lookback=timedelta(seconds=1))
    first = await stage.sync()
    world = stage.simulator.world
    [line, *_] = world.execute("sale.order.line", "search", [])
    world.execute("sale.order.line", "write", [line], {"name": "changed"})
    second = await stage.sync()

    assert (first.status, second.status) == ("completed", "completed")
    assert first.written == ROWS.sale_lines
    assert 1 <= second.written < ROWS.sale_lines
    assert await stage.equal()
    assert world.received["common.authenticate"] == 0
    assert world.received["res.users.context_get"] == 1


@pytest.mark.parametrize("name", [cte.NAME, purchase_orders.NAME])
async def test_the_ready_syncs_read_over_json2(source: Syncing, name: str) -> None:
    """Relations, computed fields and files too."""
    ready = syncs.catalog()[name]
    definition = ready.define(ready.options(), (await source.odoo.version()).major)
    stage = replace(source, definition=definition)

    run = await stage.sync()

    assert (run.status, run.message) == ("completed", None)
    assert run.written > 0
    assert await stage.equal()


async def test_a_refused_read_fails_the_run_over_json2(source: Syncing) -> None:
    """A fault of Odoo is no empty page: the run fails with its code."""
    source.simulator.add_fault(Fault(kind="access_error", model="sale.order.line", method="*"))

    run = await source.sync()

    assert (run.status, run.code) == ("failed", errors.AccessDenied.code)
