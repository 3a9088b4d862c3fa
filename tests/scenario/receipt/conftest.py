"""A dock: a deployment that receives goods."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest

from service import jobs
from service.locks import Locks
from service.posting.ledger import Ledger
from service.simulator.app import Simulator, SimulatorSettings
from tests.factories.receiving import Dock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from service.database import Database


@pytest.fixture
async def dock(
    database: Database,
    redis: Redis,
    tmp_path: Path,
    version: Literal[17, 19],
    _no_waiting: None,
) -> AsyncIterator[Dock]:
    """A dock where nothing has come yet."""

    async def announce(*_: object) -> None:
        """Tell nobody."""

    ledger = Ledger(database, jobs.POSTINGS.enqueue, announce, announce)
    locks = Locks(redis, ttl=timedelta(seconds=30))
    async with Simulator(SimulatorSettings(version=version)) as simulator:
        made = Dock(
            simulator=simulator,
            ledger=ledger,
            locks=locks,
            file=tmp_path / "eclusa.toml",
        )
        made.configure()
        yield made
        await made.close()
