"""Workers that are killed or stopped in the middle of a sync: another goes on at the page."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from service.simulator.app import SimulatorSettings
from service.simulator.bulk import BulkOptions
from service.simulator.faults import Fault
from tests.factories.processes import command
from tests.factories.running import Stage, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.settings import Settings

LINE = "sale.order.line"
LINES = 2_000
PAGES = LINES // 100
SYNC = f"""
[syncs.lines]
model = "{LINE}"
fields = ["order_id", "name", "product_uom_qty"]
page_rows = 100
"""


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    """The API without a worker, and two thousand lines that are read slowly."""
    rows = BulkOptions(sale_lines=LINES, products=20, partners=20)
    options = SimulatorSettings(rows=rows)
    async with running(settings, with_worker=False, simulator=options, more=SYNC) as made:
        made.simulator.add_fault(
            Fault(kind="slow", model=LINE, method="search_read", seconds=0.15, times=1_000)
        )
        yield made


async def pages(stage: Stage, run_id: str, count: int) -> None:
    """Wait for so many pages of a run."""
    async with asyncio.timeout(30):
        async for event in stage.events(run_id):
            count -= event["action"] == "page"
            if count == 0:
                return


async def mirrored(stage: Stage) -> dict[int, str]:
    """The mirror, by id."""
    async with stage.runtime.database.transaction() as connection:
        rows = await connection.execute(text("SELECT id, name FROM mirror.lines"))
    return {row.id: row.name for row in rows}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_another_worker_goes_on_at_the_page(
    stage: Stage, settings: Settings, tmp_path: Path, end: signal.Signals
) -> None:
    """Every page is written once, by one or the other, and the mirror equals the source."""
    response = await stage.client.post(
        "/v1/syncs/lines/runs", json={"connection": "main", "mode": "full"}
    )
    run_id = response.json()["id"]
    async with command(settings, tmp_path / "first.log", "worker") as first:
        await pages(stage, run_id, 4)
        first.send_signal(end)
        await asyncio.wait_for(first.wait(), 20)
        async with command(settings, tmp_path / "second.log", "worker"):
            events = await stage.all_events(run_id)

    assert events[-1]["status"] == "completed"
    run = (await stage.client.get(f"/v1/syncs/lines/runs/{run_id}")).json()
    assert (run["pages"], run["read"], run["written"]) == (PAGES, LINES, LINES)
    kept: list[dict[str, Any]] = (
        await stage.client.get(f"/v1/syncs/lines/runs/{run_id}/events")
    ).json()["items"]
    workers = [event["actor"] for event in kept if event["action"] == "claim"]
    assert len(set(workers)) == 2
    written_by = {event["actor"] for event in kept if event["action"] == "page"}
    assert written_by == set(workers)
    world = stage.simulator.world
    truth = {one["id"]: one["name"] for one in world.records(LINE, [], ["id", "name"])}
    assert await mirrored(stage) == truth
