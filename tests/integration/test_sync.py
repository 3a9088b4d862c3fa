"""Syncs: the mirror becomes what Odoo has, whatever happens in between, and nothing is made up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service import workers
from service.errors import LiveRun, RunLost
from service.simulator.changes import Change, Scheduled
from service.simulator.faults import Fault
from service.sync.definition import Column
from tests.factories.syncing import LINE, SILENCE, Syncing, syncing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.database import Database
    from service.simulator.faults import Kind

COUNT = 400
PAGES = COUNT // 50


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Syncing]:
    """Four hundred lines in eight pages, and an empty mirror."""
    async with syncing(database, lines=COUNT) as made:
        yield made


def meet(stage: Syncing, kind: Kind, call: int, **more: Any) -> None:
    """Let the `call`-th search from now on meet a trouble."""
    stage.simulator.add_fault(Fault(kind=kind, model=LINE, method="search_read", call=call, **more))


def change(stage: Syncing, action: str, count: int) -> list[int]:
    """Change some lines in Odoo; answers their ids."""
    wanted = Change(action=action, model=LINE, count=count)  # type: ignore[arg-type]
    return stage.simulator.world.change(wanted)


async def test_the_first_run_reads_everything(stage: Syncing) -> None:
    """Every row and every value, page by page; the cursor is Odoo's newest stamp."""
    run = await stage.sync()

    assert (run.status, run.read, run.written, run.removed) == ("completed", COUNT, COUNT, 0)
    assert run.pages == PAGES
    assert await stage.equal()
    newest = max(row[2] for row in (await stage.source()).values())
    assert await stage.runs.cursor("main", "sale_line") == newest


async def test_the_next_run_reads_what_was_changed(stage: Syncing) -> None:
    """Written and made rows arrive, deleted ones go."""
    await stage.sync()
    changed = change(stage, "write", 20)
    made = change(stage, "copy", 5)
    gone = change(stage, "delete", 7)

    run = await stage.defined(lookback=timedelta(seconds=1)).sync()

    assert run.status == "completed"
    assert run.read < COUNT
    assert run.written >= len({*changed, *made} - {*gone})
    assert run.removed == len({*gone} - {*made})
    assert await stage.equal()


async def test_a_quiet_source_costs_five_calls(stage: Syncing) -> None:
    """The newest stamp, how much to expect, one page, that nothing is behind it, and all ids."""
    await stage.sync()
    before = dict(stage.simulator.world.received)

    run = await stage.defined(lookback=timedelta(seconds=0)).sync()

    received = stage.simulator.world.received
    calls = {name: received[name] - before.get(name, 0) for name in received}
    assert calls[f"{LINE}.search_read"] == 2
    assert calls[f"{LINE}.search_count"] == 3
    assert run.calls == 5
    assert run.written == 0


async def test_a_row_that_commits_late_is_read_by_the_next_run(stage: Syncing) -> None:
    """Its stamp is older than the cursor, and within the lookback."""
    late = stage.simulator.world.begin(
        changes=[Change(action="copy", model=LINE, count=3)], age=600
    )
    change(stage, "write", 5)
    await stage.sync()
    assert len(await stage.mirrored()) == COUNT

    stage.simulator.world.transactions.commit(late.id)
    await stage.sync()

    assert len(await stage.mirrored()) == COUNT + 3
    assert await stage.equal()


async def test_what_changes_during_a_run_is_there_after_the_next_one(stage: Syncing) -> None:
    """Rows written, made and deleted between two pages."""
    world = stage.simulator.world
    for call, action in ((3, "write"), (4, "delete"), (5, "copy"), (6, "write")):
        wanted = Change(action=action, model=LINE, count=10)  # type: ignore[arg-type]
        world.schedule.waiting.append(Scheduled(model=LINE, call=call, change=wanted))

    first = await stage.sync()
    second = await stage.sync()

    assert (first.status, second.status) == ("completed", "completed")
    assert not world.schedule.waiting
    assert await stage.equal()


@pytest.mark.parametrize("call", [1, 2, 5, PAGES + 1])
async def test_a_call_that_fails_fails_the_run(stage: Syncing, call: int) -> None:
    """Nothing is taken away, the cursor stays, and the next run makes it good."""
    await stage.sync()
    cursor = await stage.runs.cursor("main", "sale_line")
    change(stage, "write", 300)
    change(stage, "delete", 50)
    before = await stage.mirrored()
    stage.simulator.add_fault(
        Fault(kind="gateway_502", model=LINE, method="search_read", call=call)
    )

    run = await stage.sync()

    assert (run.status, run.code) == ("failed", "odoo_gateway")
    assert run.removed == 0
    assert (await stage.mirrored()).keys() == before.keys()
    assert await stage.runs.cursor("main", "sale_line") == cursor
    again = await stage.sync()
    assert again.status == "completed"
    assert await stage.equal()


@pytest.mark.parametrize("rows", [0, 1, 49])
@pytest.mark.parametrize("call", [2, 4, PAGES + 1])
async def test_a_truncated_page_loses_nothing(stage: Syncing, call: int, rows: int) -> None:
    """A short page ends the reading only when Odoo counts nothing behind it."""
    meet(stage, "truncated", call, rows=rows)

    run = await stage.sync()

    if run.status == "failed":
        assert (run.code, rows) == ("source_inconsistent", 0)
        assert (await stage.sync()).status == "completed"
    assert await stage.equal()


async def test_a_truncated_answer_deletes_nothing(stage: Syncing) -> None:
    """Ids that are missing in a list are asked for; a second short answer is noticed."""
    await stage.sync()
    gone = change(stage, "delete", 1)
    for call in (3, 4):  # the newest stamp, one page, then the ids and the doubtful ones
        meet(stage, "truncated", call, rows=0)

    run = await stage.defined(lookback=timedelta(0)).sync()

    assert (run.status, run.code) == ("failed", "source_inconsistent")
    assert len(await stage.mirrored()) == COUNT
    assert (await stage.sync()).removed == len(gone)
    assert await stage.equal()


async def test_a_suspicious_emptying_is_refused(stage: Syncing) -> None:
    """As when the user lost a right: taken away only when somebody says so."""
    await stage.sync()
    change(stage, "delete", 300)

    refused = await stage.sync()

    assert (refused.status, refused.code) == ("failed", "suspicious_emptying")
    assert "300 of 400" in str(refused.message)
    assert len(await stage.mirrored()) == COUNT
    accepted = await stage.sync(accept_removals=True)
    assert (accepted.status, accepted.removed) == ("completed", 300)
    assert await stage.equal()


async def test_a_row_that_leaves_the_domain_is_taken_away(stage: Syncing) -> None:
    """It is in Odoo, and no more a row of the sync."""
    open_lines = stage.defined(domain=[["qty_saldo", ">", 0]])
    await open_lines.sync()
    before = len(await open_lines.mirrored())
    ids = sorted(await open_lines.mirrored())[:5]
    stage.simulator.world.execute(LINE, "write", ids, {"qty_saldo": 0.0})

    run = await open_lines.sync()

    assert run.removed == len(ids)
    assert len(await open_lines.mirrored()) == before - len(ids)
    assert await open_lines.equal()


async def test_a_row_without_a_fresh_stamp_is_found_by_its_id(stage: Syncing) -> None:
    """One that was committed later than the lookback reaches, or that was lost in the mirror."""
    late = stage.simulator.world.begin(
        changes=[Change(action="copy", model=LINE, count=3)], age=600
    )
    change(stage, "write", 5)
    brief = stage.defined(lookback=timedelta(0))
    await brief.sync()
    stage.simulator.world.transactions.commit(late.id)

    run = await brief.sync()

    assert (run.status, run.written) == ("completed", 3)
    assert await stage.equal()


async def test_a_run_goes_on_at_its_page(stage: Syncing) -> None:
    """A worker that dies leaves its checkpoint; the next one reads the rest, by the same window."""
    run = await stage.start("full")
    stage.simulator.add_fault(
        Fault(kind="slow", model=LINE, method="search_read", call=6, seconds=60)
    )
    worker = asyncio.create_task(stage.work(run, "first"))
    async with asyncio.timeout(20):
        while (await stage.runs.get(run.id)).pages < 4:  # noqa: ASYNC110  another's row: polled
            await asyncio.sleep(0.01)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)

    ended = await stage.work(run, "second")

    assert (ended.status, ended.worker, ended.fence) == ("completed", "second", 2)
    assert (ended.pages, ended.read) == (PAGES, COUNT)
    assert await stage.equal()


async def test_a_worker_that_was_overtaken_writes_nothing(stage: Syncing) -> None:
    """Its page is not written, nor its checkpoint, nor the cursor."""
    run = await stage.start()
    claimed = await stage.runs.claim(run.id, "first", SILENCE)
    assert claimed is not None
    await stage.runs.claim(run.id, "second", SILENCE)

    with pytest.raises(RunLost):
        async with stage.runs.writing(claimed):
            pass


async def test_a_run_is_left_to_a_worker_that_lives(stage: Syncing) -> None:
    """Only one that was not seen for a while is taken over."""
    run = await stage.start()
    async with stage.database.transaction() as connection:
        await workers.show(connection, "first")
    await stage.runs.claim(run.id, "first", SILENCE)

    with pytest.raises(LiveRun):
        await stage.work(run, "second")

    async with stage.database.transaction() as connection:
        await workers.leave(connection, "first")
    assert (await stage.work(run, "second")).status == "completed"


async def test_a_sync_runs_once_at_a_time(stage: Syncing) -> None:
    """A second run of the same sync is refused, and names the first."""
    run = await stage.start()

    with pytest.raises(LiveRun) as refused:
        await stage.start("full")

    assert refused.value.run_id == run.id
    await stage.work(run)
    assert (await stage.sync("full")).status == "completed"


async def test_a_new_column_is_added_and_filled_by_a_full_run(stage: Syncing) -> None:
    """What the definition gained; a column of another type is refused."""
    await stage.sync()
    more = Column(name="price", field="price_unit", kind="number")
    richer = stage.defined(columns=(*stage.definition.columns, more))

    assert (await richer.sync("full")).status == "completed"

    assert await richer.equal()
    wrong = stage.defined(columns=(replace(more, kind="text"),))
    refused = await wrong.sync("full")
    assert (refused.status, refused.code) == ("failed", "misconfigured")
    assert "price is NUMERIC and should be TEXT" in (refused.message or "")


async def test_an_empty_source_is_an_empty_mirror(database: Database) -> None:
    """There is no stamp to begin with, and nothing to read."""
    async with syncing(database, lines=0) as stage:
        run = await stage.sync()

        assert (run.status, run.read, run.window_to) == ("completed", 0, None)
        assert await stage.equal()
