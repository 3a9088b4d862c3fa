"""`eclusa sync` as a process: a sync of the configuration file, killed and run again."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from service import documents
from service.scene import TIMINGS, configuration
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.bulk import BulkOptions
from service.simulator.changes import Change
from service.simulator.faults import Fault
from tests.factories.processes import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.database import Database
    from service.settings import Settings

SECONDS = 40.0
LINES = 3_000
LINE = "sale.order.line"
SYNC = """
[syncs.lines]
model = "sale.order.line"
fields = ["order_id", "name", "product_uom_qty", "qty_saldo"]
page_rows = 500
spared_rows = 10
"""


@pytest.fixture
async def odoo(settings: Settings) -> AsyncIterator[Simulator]:
    """An Odoo with three thousand lines, and a configuration file with a sync of them."""
    rows = BulkOptions(sale_lines=LINES, products=20, partners=20)
    async with Simulator(SimulatorSettings(rows=rows)) as simulator:
        content = configuration(simulator.world.seed.describe(), simulator.url, TIMINGS)
        settings.config.write_text(content + SYNC, encoding="utf-8")
        yield simulator


async def run(settings: Settings, tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `eclusa sync` to its end: exit code, standard output, standard error."""
    log = tmp_path / "sync.log"
    log.unlink(missing_ok=True)
    async with command(settings, log, "sync", *arguments, COLUMNS="200") as process:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode or 0, output.decode(), log.read_text(encoding="utf-8")


async def mirrored(database: Database) -> dict[int, tuple[Any, ...]]:
    """The mirror: order, its name, text, quantity and balance by id."""
    async with database.transaction() as connection:
        rows = await connection.execute(
            text(
                "SELECT id, order_id, order_id_name, name, product_uom_qty, qty_saldo"
                " FROM mirror.lines WHERE connection = 'main'"
            )
        )
    return {row.id: tuple(row)[1:] for row in rows}


def source(odoo: Simulator) -> dict[int, tuple[Any, ...]]:
    """What Odoo has, in the same shape."""
    fields = ["id", "order_id", "name", "product_uom_qty", "qty_saldo"]
    found = documents.plain(odoo.world.records(LINE, [], fields))
    return {
        row["id"]: (
            *row["order_id"],
            row["name"],
            Decimal(row["product_uom_qty"]),
            Decimal(row["qty_saldo"]),
        )
        for row in found
    }


async def test_a_sync_of_the_file_mirrors_a_model(
    settings: Settings, odoo: Simulator, database: Database, tmp_path: Path
) -> None:
    """Everything at first, then what was changed; the summary and the exit code say how it went."""
    first, said, progress = await run(settings, tmp_path, "run", "lines")

    assert first == 0, progress
    assert f"lines on main: completed, {LINES} rows read, {LINES} new or changed" in said
    assert "page 6: 3000 of 3000 rows read" in progress
    assert await mirrored(database) == source(odoo)

    for action in ("write", "delete"):
        odoo.world.change(Change(action=action, model=LINE, count=5))
    second, line, _ = await run(settings, tmp_path, "run", "lines", "--json")

    ended = json.loads(line)
    assert (second, ended["status"], ended["removed"]) == (0, "completed", 5)
    assert await mirrored(database) == source(odoo)


async def test_a_killed_sync_goes_on_at_its_page(
    settings: Settings, odoo: Simulator, database: Database, tmp_path: Path
) -> None:
    """The next command takes the run over once the dead process is known to be silent."""
    odoo.add_fault(Fault(kind="slow", model=LINE, method="search_read", call=5, seconds=60))
    async with command(settings, tmp_path / "killed.log", "sync", "run", "lines") as process:
        async with asyncio.timeout(SECONDS):
            while "page 3" not in (tmp_path / "killed.log").read_text(encoding="utf-8"):  # noqa: ASYNC110  another process: polled
                await asyncio.sleep(0.05)
        refused, _, why = await run(settings, tmp_path, "run", "lines")
        process.kill()
        await process.wait()
    assert refused == 2
    assert "this sync runs already" in why

    async with asyncio.timeout(SECONDS):
        while (ended := await run(settings, tmp_path, "run", "lines", "--json"))[0] == 2:  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.1)

    code, line, _ = ended
    result = json.loads(line)
    assert (code, result["status"], result["fence"]) == (0, "completed", 2)
    assert (result["pages"], result["read"]) == (LINES // 500, LINES)
    assert await mirrored(database) == source(odoo)


async def test_what_cannot_be_mirrored_is_named(
    settings: Settings, odoo: Simulator, tmp_path: Path
) -> None:
    """A wrong field, with those that are written nearly so; an unknown sync; a failed run."""
    good = settings.config.read_text(encoding="utf-8")
    settings.config.write_text(good.replace('"qty_saldo"', '"qty_sald"'), encoding="utf-8")
    wrong, _, named = await run(settings, tmp_path, "run", "lines")
    settings.config.write_text(good, encoding="utf-8")
    unknown, _, known = await run(settings, tmp_path, "run", "rows")
    odoo.add_fault(Fault(kind="access_error", model=LINE, method="search_read", call=2))
    failed, said, _ = await run(settings, tmp_path, "run", "lines")
    listed, table, _ = await run(settings, tmp_path, "list")

    assert (wrong, unknown, failed, listed) == (2, 2, 1, 0)
    assert "syncs.lines.fields: sale.order.line has no field 'qty_sald'" in named
    assert "qty_saldo" in named
    assert "known: cte, lines, purchase_orders, sales_backlog" in known
    assert "lines on main: failed" in said
    assert LINE in table
