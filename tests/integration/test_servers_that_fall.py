"""PostgreSQL, Redis and Odoo go away under load, and come back.

Twenty postings are under way in two worker processes. The workers come back by themselves, and
nothing is lost or done twice.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from redis.asyncio import Redis

from service.simulator.app import SimulatorSettings
from service.simulator.faults import Fault
from tests.factories.deployed import ONCE, PATH, deployed, timings
from tests.factories.running import WAIT_SECONDS, own_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from service import embedded
    from tests.factories.deployed import Paper, Site

POSTINGS = 20
AWAY_SECONDS = 3.0
QUIET_SECONDS = 1.0
HEARTBEAT_SECONDS = 2.0
LOCK_TTL_SECONDS = 2.5
GENERATE, _, _, POST_BILL = ONCE
STOPPED = {"failed", "needs_attention"}
MARK = "a-test-was-here"


@asynccontextmanager
async def under_load(
    folder: Path, *, call_seconds: float, times: str
) -> AsyncIterator[tuple[embedded.Servers, Site, list[Paper]]]:
    """Servers that may be stopped, and a deployment on them, with half of the orders generated.

    Each call that is made once takes Odoo `call_seconds`, so that all postings are under way.
    """
    simulator = SimulatorSettings(durations=dict.fromkeys(ONCE, call_seconds))
    times_of_workers = {
        "heartbeat_seconds": HEARTBEAT_SECONDS,
        "lock_ttl_seconds": LOCK_TTL_SECONDS,
    }
    async with own_servers(folder) as (servers, given):
        settings = given.model_copy(update=times_of_workers)
        async with deployed(settings, folder, simulator=simulator, times=times) as site:
            papers = await asyncio.gather(*(site.post() for _ in range(POSTINGS)))
            await site.until(lambda: site.simulator.world.committed[GENERATE] >= POSTINGS / 2)
            yield servers, site, papers


async def quiet(site: Site) -> dict[str, int]:
    """How often each method of Odoo was called, once nothing was for a while."""
    received = site.simulator.world.received
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            before = dict(received)
            await asyncio.sleep(QUIET_SECONDS)
            if before == received:
                return before


async def some_stopped(site: Site) -> None:
    """Wait until a posting needs a person."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not STOPPED & set((await site.statuses()).values()):  # noqa: ASYNC110  polled
            await asyncio.sleep(QUIET_SECONDS)


async def check_all(site: Site, papers: list[Paper]) -> None:
    """Every posting is completed and true, and the workers are those that were started."""
    assert await site.ended() == {paper.posting_id: "completed" for paper in papers}
    assert await site.wrong(papers) == []
    assert site.alive()


async def test_postgresql_crashes_under_load(tmp_path: Path) -> None:
    """Without it nothing is called, and the API says so; with it all postings end completed."""
    times = timings(timeout=5, settle=30)
    async with under_load(tmp_path, call_seconds=0.5, times=times) as (servers, site, papers):
        await servers.stop_postgres("immediate")

        before = await quiet(site)
        assert before.get(POST_BILL, 0) < POSTINGS
        await asyncio.sleep(AWAY_SECONDS)
        assert site.simulator.world.received == before
        refused = await site.client.get(PATH)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        await servers.start_postgres()

        await check_all(site, papers)
        assert [site.calls()[name] for name in ONCE] == [POSTINGS] * len(ONCE)


async def test_redis_is_killed_under_load_and_starts_empty(tmp_path: Path) -> None:
    """Without locks nothing is called: not for postings under way, not for new ones."""
    times = timings(timeout=5, settle=30)
    async with (
        under_load(tmp_path, call_seconds=1.5, times=times) as (servers, site, papers),
        Redis.from_url(servers.redis_url) as redis,
    ):
        await redis.set(MARK, 1)
        await servers.stop_redis("kill")

        await asyncio.sleep(LOCK_TTL_SECONDS + QUIET_SECONDS)  # no lock can be valid any more
        before = dict(site.simulator.world.received)
        assert before.get(POST_BILL, 0) < POSTINGS
        early = {one for one, status in (await site.statuses()).items() if status == "completed"}
        papers.extend([await site.post() for _ in range(5)])
        await asyncio.sleep(AWAY_SECONDS)
        assert site.simulator.world.received == before
        waiting = {paper.posting_id for paper in papers} - early
        assert await site.statuses() == {
            **dict.fromkeys(early, "completed"),
            **dict.fromkeys(waiting, "pending"),
        }
        await servers.start_redis()
        assert await redis.get(MARK) is None

        await check_all(site, papers)
        assert [site.calls()[name] for name in ONCE] == [len(papers)] * len(ONCE)


@asynccontextmanager
async def answering_502(site: Site) -> AsyncIterator[None]:
    """Odoo's proxy answers in its place; what Odoo works on goes on."""
    site.simulator.add_fault(Fault(kind="unavailable"))
    yield
    site.simulator.world.faults.clear()


@asynccontextmanager
async def refusing_connections(site: Site) -> AsyncIterator[None]:
    """Odoo's process is gone, with what it was working on, until it is started again."""
    site.simulator.settings = replace(site.simulator.settings, port=site.simulator.port)
    await site.odoo.aclose()
    with pytest.raises(httpx.ConnectError):
        await site.client.get(site.simulator.url)
    yield
    await site.odoo.enter_async_context(site.simulator)


@pytest.mark.parametrize("gone", [answering_502, refusing_connections])
async def test_odoo_is_away_under_load(
    tmp_path: Path, gone: Callable[[Site], AbstractAsyncContextManager[None]]
) -> None:
    """What stopped for it is resumed once by a person, and then completes."""
    times = timings(timeout=2, settle=4)
    async with under_load(tmp_path, call_seconds=0.5, times=times) as (_, site, papers):
        async with gone(site):
            await some_stopped(site)
        statuses = await site.ended()
        stopped = [posting_id for posting_id, status in statuses.items() if status != "completed"]
        await site.simulator.world.settled()

        assert set(statuses.values()) <= {"completed", "failed", "needs_attention"}
        assert stopped
        for posting_id in stopped:
            response = await site.client.post(f"{PATH}/{posting_id}/resume")
            assert response.status_code == httpx.codes.ACCEPTED, response.text

        await check_all(site, papers)
