"""A running simulator per test, and a client that calls it as any program would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.world import World
from tests.unit.simulator.helpers import DEADLINE_SECONDS, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Return a simulator of Odoo 17 on a free port."""
    async with Simulator(SimulatorSettings()) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Client]:
    """Return a client of the simulator."""
    async with httpx.AsyncClient(base_url=simulator.url, timeout=DEADLINE_SECONDS) as http:
        yield Client(http)


@pytest.fixture(params=[17, 19])
def world(request: pytest.FixtureRequest) -> World:
    """Return a world of each version, without a server."""
    return World(version=request.param)
