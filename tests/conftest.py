"""Servers of the tests: the embedded ones, started once in each test process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import structlog
from redis.asyncio import Redis

from service import embedded
from service.database import Database
from service.settings import Settings
from tests.factories.databases import Databases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


MOST_PROCESSES = 8


def pytest_xdist_auto_num_workers() -> int:
    """Two processes a core: half of what a test takes is waiting. Each has servers of its own."""
    return min(2 * (os.cpu_count() or 1), MOST_PROCESSES)


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Tracebacks do without the local variables, which take seconds to print."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test."""
    for name in ("DATABASE_URL", "REDIS_URL", "CONFIG", "API_KEY", "API_URL", "CONNECTION"):
        monkeypatch.delenv(f"ECLUSA_{name}", raising=False)
    monkeypatch.setenv("ECLUSA_DATA_DIR", str(tmp_path / "data"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[embedded.Servers]:
    """PostgreSQL and Valkey of this test process."""
    folder = tmp_path_factory.mktemp("servers") / "data"
    async with embedded.open_servers(folder, durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def databases(servers: embedded.Servers) -> Databases:
    """Where fresh databases come from."""
    return Databases(servers.database_url)


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """A fresh, migrated database."""
    async with databases.fresh() as address:
        yield address


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The pool of a fresh, migrated database."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def redis(servers: embedded.Servers) -> AsyncIterator[Redis]:
    """An empty Redis."""
    client = Redis.from_url(servers.redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def settings(
    servers: embedded.Servers, database_url: str, redis: Redis, tmp_path: Path
) -> Settings:
    """Settings of a process on fresh servers, with a configuration file yet to be written."""
    assert redis is not None
    return Settings(
        database_url=database_url,
        redis_url=servers.redis_url,
        config=tmp_path / "eclusa.toml",
        heartbeat_seconds=1,
        lock_ttl_seconds=3,
        refused_keys_per_minute=60_000,
    )
