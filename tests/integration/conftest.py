"""The API of a test module, started once: that takes longer than most of its tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest_asyncio
from sqlalchemy import text

from service.scene import TIMINGS
from service.settings import Settings
from service.simulator.seed import default_seed
from tests.factories import settling
from tests.factories.running import Stage, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from service import embedded
    from tests.factories.databases import Databases


@asynccontextmanager
async def _on_a_fresh_database(
    servers: embedded.Servers,
    databases: Databases,
    folders: pytest.TempPathFactory,
    *,
    with_worker: bool,
    timings: str = TIMINGS,
) -> AsyncIterator[Stage]:
    async with databases.fresh() as address:
        settings = Settings(
            database_url=address,
            redis_url=servers.redis_url,
            config=folders.mktemp("stage") / "eclusa.toml",
            heartbeat_seconds=1,
            lock_ttl_seconds=3,
            refused_keys_per_minute=60_000,
        )
        async with running(settings, with_worker=with_worker, timings=timings) as stage:
            yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def working(
    servers: embedded.Servers, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """The API, a worker and a simulated Odoo. Postings of earlier tests are still there."""
    async with _on_a_fresh_database(
        servers, databases, tmp_path_factory, with_worker=True
    ) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _idle(
    servers: embedded.Servers, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with _on_a_fresh_database(
        servers, databases, tmp_path_factory, with_worker=False
    ) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(
    servers: embedded.Servers, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """The API without a worker, and with a profile of titles."""
    tables = "\n".join((TIMINGS, settling.profile(list(default_seed().companies.values()), 17), ""))
    async with _on_a_fresh_database(
        servers, databases, tmp_path_factory, with_worker=False, timings=tables
    ) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def idle(_idle: Stage) -> Stage:
    """The API without a worker: what is accepted stays pending. There is no posting yet."""
    async with _idle.runtime.database.transaction() as connection:
        await connection.execute(text("TRUNCATE posting, pgqueuer CASCADE"))
    return _idle
