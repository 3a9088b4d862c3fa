"""Receipts over HTTP, with a worker: one, the same again, a plan, and wrong fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.scene import TIMINGS
from service.simulator.seed import default_seed
from tests.factories import goods
from tests.factories.goods import PICKING
from tests.factories.receiving import EXPIRY, profile
from tests.factories.running import Stage, problem, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.settings import Settings

PATH = "/v1/postings"


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    """The API, a worker and a simulated Odoo."""
    companies = list(default_seed().companies.values())
    tables = "\n".join((TIMINGS, profile(companies, 17), ""))
    async with running(settings, timings=tables) as stage:
        yield stage


def delivery(stage: Stage) -> tuple[int, int]:
    """A tracked product, and the picking that expects ten of it."""
    world = stage.simulator.world
    product = goods.product(world, "lot")
    return product, goods.receipt(world, (product, 10))


def body(product: int, picking: int, **values: Any) -> dict[str, Any]:
    """A request to receive ten pieces in two lots."""
    lots = [
        {"name": "A", "quantity": "6.5", "expiry": EXPIRY},
        {"name": "B", "quantity": 3.5, "expiry": EXPIRY},
    ]
    line = {"product_id": product, "quantity": "10", "lots": lots, **values}
    return {
        "kind": "physical_receipt",
        "connection": "main",
        "input": {"picking_id": picking, "lines": [line]},
    }


async def test_a_receipt_is_posted_once(stage: Stage) -> None:
    """Planned, accepted, done, and answered as done when it is sent again."""
    product, picking = delivery(stage)
    request = body(product, picking)

    planned = await stage.client.post(f"{PATH}/plan", json=request)
    accepted = await stage.client.post(PATH, json=request)
    assert accepted.status_code == 202, accepted.text
    events = await stage.finish(accepted.json()["id"])
    again = await stage.client.post(PATH, json=request)

    assert [step["outcome"] for step in planned.json()["steps"][:2]] == ["done", "would_run"]
    assert events[-1]["status"] == "completed"
    assert (again.status_code, again.json()["id"]) == (200, accepted.json()["id"])
    assert again.json()["document_key"] == f"{PICKING},{picking}"
    assert goods.stock(stage.simulator.world, product) == {"A": 6.5, "B": 3.5}


async def test_wrong_fields_are_named(stage: Stage) -> None:
    """As those of the input, however deep they are; nothing is written down."""
    product, picking = delivery(stage)

    shape = await stage.client.post(
        PATH, json=body(product, picking, lots=[{"name": "", "quantity": -1, "expiry": "soon"}])
    )
    sums = await stage.client.post(
        PATH, json=body(product, picking, lots=[{"name": "A", "quantity": 9}])
    )
    expired = await stage.client.post(
        PATH,
        json=body(product, picking, lots=[{"name": "A", "quantity": 10, "expiry": "2020-01-01"}]),
    )

    problem(
        shape,
        422,
        "input.lines.0.lots.0.name",
        "input.lines.0.lots.0.quantity",
        "input.lines.0.lots.0.expiry",
    )
    problem(sums, 422, "input.lines.0.lots")
    problem(expired, 422, "input.lines.0.lots.0.expiry")
    assert (await stage.client.get(PATH)).json()["items"] == []
