"""A cashier's desk: a deployment that settles titles."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest

from service import jobs
from service.locks import Locks
from service.posting.ledger import Ledger
from service.simulator.app import Simulator, SimulatorSettings
from tests.factories.settling import Cashier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from service.database import Database


@pytest.fixture
async def cashier(
    database: Database,
    redis: Redis,
    tmp_path: Path,
    version: Literal[17, 19],
    _no_waiting: None,
) -> AsyncIterator[Cashier]:
    """A desk at which nothing was settled yet."""

    async def announce(*_: object) -> None:
        """Tell nobody."""

    ledger = Ledger(database, jobs.POSTINGS.enqueue, announce, announce)
    locks = Locks(redis, ttl=timedelta(seconds=30))
    async with Simulator(SimulatorSettings(version=version)) as simulator:
        made = Cashier(
            simulator=simulator,
            ledger=ledger,
            locks=locks,
            file=tmp_path / "eclusa.toml",
            version=version,
        )
        made.configure()
        yield made
        await made.close()
