"""Workers as processes, with a simulated Odoo in this one: killed, and told to stop."""

from __future__ import annotations

import asyncio
import signal
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from service import jobs
from service.posting.step import Actor, NewPosting
from service.postings.freight_cte.freight import Freight
from service.runtime import Runtime, open_runtime
from service.scene import TIMINGS, configuration
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.arrivals import DocumentOptions
from service.simulator.faults import Fault
from service.worker import ListeningFirst, plain_url
from tests.factories.processes import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.database import Database
    from service.posting.ledger import Ledger, Posting
    from service.settings import Settings

GENERATE = "action_gerar_po_dfe"
WAIT_SECONDS = 30.0
TAKE_OVER_SECONDS = 5.0


@pytest.fixture
async def odoo(settings: Settings) -> AsyncIterator[Simulator]:
    """A simulated Odoo that the settings' configuration file points to."""
    async with Simulator(SimulatorSettings()) as simulator:
        text_ = configuration(simulator.world.seed.describe(), simulator.url, TIMINGS)
        settings.config.write_text(text_, encoding="utf-8")
        yield simulator


@pytest.fixture
async def runtime(settings: Settings, odoo: Simulator) -> AsyncIterator[Runtime]:
    """What this process needs to accept postings and to look at them."""
    assert odoo.url
    async with open_runtime(settings) as opened:
        yield opened


async def accept(ledger: Ledger, odoo: Simulator) -> tuple[UUID, str]:
    """A posting of a document that has just arrived in Odoo."""
    [document] = odoo.world.add_documents(DocumentOptions())
    freight = Freight(access_key=document.key, due_date=date(2026, 12, 31), amount=document.amount)
    posting = await ledger.accept(
        NewPosting(
            id=uuid4(),
            kind="freight_cte",
            connection="main",
            document_key=document.key,
            subject=freight,
            total_steps=16,
            reference=None,
            actor=Actor(name="tester"),
        )
    )
    return posting.id, document.key


async def reach(ledger: Ledger, posting_id: UUID, *wanted: str) -> list[Any]:
    """The audit of a posting, once it has an action of `wanted`, such as `6 start`."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            records = await ledger.history(posting_id)
            if {f"{record.step} {record.action}" for record in records} >= set(wanted):
                return records
            await asyncio.sleep(0.02)


async def completed(ledger: Ledger, posting_id: UUID) -> Posting:
    """The posting, once it is complete."""
    await reach(ledger, posting_id, "0 complete")
    return await ledger.get(posting_id)


def live(odoo: Simulator, key: str) -> tuple[list[str], list[str]]:
    """The states of the live orders and bills of a document."""
    outcome = odoo.world.outcomes()[key]
    return (
        [order["state"] for order in outcome["orders"] if order["state"] != "cancel"],
        [bill["state"] for bill in outcome["bills"] if bill["state"] != "cancel"],
    )


async def test_a_killed_worker_is_followed_within_seconds(
    settings: Settings, odoo: Simulator, runtime: Runtime, tmp_path: Path
) -> None:
    """Another worker takes the posting over, and makes no second order."""
    settings = settings.model_copy(update={"heartbeat_seconds": 4.0})
    posting_id, key = await accept(runtime.ledger, odoo)
    odoo.add_fault(Fault(kind="slow", method=GENERATE, seconds=1.0))
    async with command(settings, tmp_path / "first.log", "worker") as first:
        await reach(runtime.ledger, posting_id, "6 start")
        first.kill()
        killed_at = asyncio.get_running_loop().time()
        async with command(settings, tmp_path / "second.log", "worker"):
            records = await reach(runtime.ledger, posting_id, "6 settle")
            took = asyncio.get_running_loop().time() - killed_at
            await completed(runtime.ledger, posting_id)

    assert [record.action for record in records].count("claim") == 2
    assert took < TAKE_OVER_SECONDS
    assert live(odoo, key) == (["purchase"], ["posted"])
    assert odoo.world.received[f"l10n_br_ciel_it_account.dfe.{GENERATE}"] == 1


async def test_a_worker_told_to_stop_ends_its_call_and_hands_over(
    settings: Settings, odoo: Simulator, runtime: Runtime, tmp_path: Path
) -> None:
    """SIGTERM during a call: its outcome is recorded, and the process ends with 0."""
    posting_id, key = await accept(runtime.ledger, odoo)
    odoo.add_fault(Fault(kind="slow", method=GENERATE, seconds=1.0))
    async with command(settings, tmp_path / "first.log", "worker") as first:
        await reach(runtime.ledger, posting_id, "6 start")
        first.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(first.wait(), WAIT_SECONDS)
    records = await runtime.ledger.history(posting_id)

    assert code == 0
    assert [f"{record.step} {record.action}" for record in records][-2:] == ["6 done", "0 pause"]

    async with command(settings, tmp_path / "second.log", "worker"):
        await completed(runtime.ledger, posting_id)
    assert live(odoo, key) == (["purchase"], ["posted"])


async def test_an_idle_worker_stops_at_once(
    settings: Settings, odoo: Simulator, runtime: Runtime, tmp_path: Path
) -> None:
    """SIGTERM without work: the process ends with 0 within seconds."""
    posting_id, _ = await accept(runtime.ledger, odoo)
    async with command(settings, tmp_path / "worker.log", "worker") as process:
        await completed(runtime.ledger, posting_id)
        process.send_signal(signal.SIGTERM)

        assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_a_paused_worker_leaves_no_trace_when_it_wakes(
    settings: Settings, odoo: Simulator, runtime: Runtime, tmp_path: Path
) -> None:
    """SIGSTOP past the heartbeat, take-over, SIGCONT: one order, one bill, one claimant."""
    posting_id, key = await accept(runtime.ledger, odoo)
    odoo.add_fault(Fault(kind="slow", method=GENERATE, seconds=0.5))
    async with command(settings, tmp_path / "first.log", "worker") as first:
        await reach(runtime.ledger, posting_id, "6 start")
        first.send_signal(signal.SIGSTOP)
        async with command(settings, tmp_path / "second.log", "worker"):
            await completed(runtime.ledger, posting_id)
            before = await runtime.ledger.history(posting_id)
            first.send_signal(signal.SIGCONT)
            other, _ = await accept(runtime.ledger, odoo)
            await completed(runtime.ledger, other)
            first.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(first.wait(), WAIT_SECONDS) == 0

    assert await runtime.ledger.history(posting_id) == before
    assert live(odoo, key) == (["purchase"], ["posted"])


async def test_many_postings_by_two_workers(
    settings: Settings, odoo: Simulator, runtime: Runtime, tmp_path: Path
) -> None:
    """Each document is posted once, whoever posts it."""
    postings = [await accept(runtime.ledger, odoo) for _ in range(12)]
    async with (
        command(settings, tmp_path / "first.log", "worker"),
        command(settings, tmp_path / "second.log", "worker"),
    ):
        for posting_id, _ in postings:
            await completed(runtime.ledger, posting_id)

    for posting_id, key in postings:
        assert live(odoo, key) == (["purchase"], ["posted"])
        assert (await runtime.ledger.verify(posting_id)).valid


async def test_a_posting_without_its_job_is_enqueued_again(
    settings: Settings, odoo: Simulator, runtime: Runtime, database: Database, tmp_path: Path
) -> None:
    """A job that the queue lost is found by the sweep."""
    posting_id, _ = await accept(runtime.ledger, odoo)
    async with database.transaction() as connection:
        await connection.execute(text("DELETE FROM pgqueuer"))

    async with command(settings, tmp_path / "worker.log", "worker"):
        await completed(runtime.ledger, posting_id)


async def test_the_sweep_leaves_jobs_alone_that_exist(
    odoo: Simulator, runtime: Runtime, database: Database
) -> None:
    """Nothing is enqueued twice."""
    await accept(runtime.ledger, odoo)

    async with database.transaction() as connection:
        assert await jobs.recover_forgotten(connection) == []


async def test_the_queue_hears_what_it_says_before_it_listens(settings: Settings) -> None:
    """Otherwise its check at the start fails, and it is opened again ten seconds later."""
    heard = asyncio.Event()
    url = plain_url(settings.database_url or "")
    async with (
        asyncpg.create_pool(url, min_size=2, max_size=2) as pool,  # type: ignore[no-untyped-call]  # asyncpg has no types here
        ListeningFirst(pool) as driver,
    ):
        saying = asyncio.create_task(driver.notify("eclusa_test", "here"))
        async with pool.acquire() as other:
            await other.execute("SELECT 1")

        await driver.add_listener("eclusa_test", lambda _: heard.set())
        await saying

        async with asyncio.timeout(WAIT_SECONDS):
            await heard.wait()
    assert heard.is_set()
