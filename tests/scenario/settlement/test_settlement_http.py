"""Settlements over HTTP, with a worker: one, the same again, and a lot of which one is wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from service.scene import TIMINGS
from service.simulator.seed import default_seed
from service.simulator.titles import TitleOptions
from tests.factories import sheets
from tests.factories.running import Stage, problem, running
from tests.factories.settling import DAY, LINE, PAYMENT, profile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.settings import Settings
    from service.simulator.titles import SeededTitle

PATH = "/v1/postings"


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    """The API, a worker and a simulated Odoo."""
    companies = list(default_seed().companies.values())
    tables = "\n".join((TIMINGS, profile(companies, 17), ""))
    async with running(settings, timings=tables) as stage:
        yield stage


def title(stage: Stage, amount: str = "1000.00") -> SeededTitle:
    """A receivable."""
    return stage.simulator.world.add_title(TitleOptions(amounts=(Decimal(amount),)))


def body(stage: Stage, owed: SeededTitle, **values: Any) -> dict[str, Any]:
    """A request to settle a title."""
    given = {
        "direction": "receivable",
        "number": str(owed.number),
        "instalment": 1,
        "reference": "line 1",
        "date": DAY,
        "journal_id": stage.simulator.world.seed.home.journals.bank,
        "principal": "1000.00",
    }
    return {"kind": "title_settlement", "connection": "main", "input": {**given, **values}}


def residual(stage: Stage, owed: SeededTitle) -> float:
    """What is open of a title."""
    [record] = stage.simulator.world.records(LINE, [["id", "=", owed.line_id]])
    left: float = record["amount_residual"]
    return left


async def test_a_settlement_is_posted_once(stage: Stage) -> None:
    """Accepted, done, and answered as done when it is sent again."""
    owed = title(stage)
    accepted = await stage.client.post(PATH, json=body(stage, owed))
    assert accepted.status_code == 202, accepted.text
    events = await stage.finish(accepted.json()["id"])

    again = await stage.client.post(PATH, json=body(stage, owed, principal="500.00"))

    assert events[-1]["status"] == "completed"
    assert (again.status_code, again.json()["id"]) == (200, accepted.json()["id"])
    assert residual(stage, owed) == 0.0
    assert len(stage.simulator.world.records(PAYMENT)) == 1


async def test_wrong_fields_are_named(stage: Stage) -> None:
    """As those of the input, whatever other kinds of posting there are."""
    owed = title(stage)

    wrong = await stage.client.post(
        PATH, json=body(stage, owed, principal="1.001", date="soon", discount="-1")
    )
    missing = await stage.client.post(PATH, json=body(stage, owed, journal_id=None))

    problem(wrong, 422, "input.principal", "input.date", "input.discount")
    problem(missing, 422, "input.journal_id")
    assert stage.simulator.world.records(PAYMENT) == []


async def test_a_file_is_settled_but_for_its_wrong_rows(stage: Stage) -> None:
    """Each right row is paid once, also when the file is sent again; the wrong one is not."""
    titles = [title(stage) for _ in range(4)]
    bank = stage.simulator.world.seed.home.journals.bank
    rows = [
        sheets.row(NF=owed.number, valor=980.10, desconto=19.90, diário=bank) for owed in titles
    ]
    rows[2][sheets.HEADER.index("data")] = "31/02/2026"
    form = {"kind": "title_settlement", "connection": "main", "partial": "true"}
    files = {"file": ("titles.xlsx", sheets.xlsx(*rows))}

    accepted = await stage.client.post(f"{PATH}/batch", data=form, files=files)
    assert accepted.status_code == 202, accepted.text
    events = await stage.all_events(accepted.json()["id"])
    again = await stage.client.post(f"{PATH}/batch", data={**form, "again": "true"}, files=files)

    assert (events[-1]["status"], events[-1]["percent"]) == ("stopped", 100)
    assert again.json()["answers"] == {"completed": 3, "invalid": 1}
    assert [residual(stage, owed) for owed in titles] == [0.0, 0.0, 1000.0, 0.0]
    amounts = sorted(payment["amount"] for payment in stage.simulator.world.records(PAYMENT))
    assert amounts == [19.9] * 3 + [980.1] * 3


async def test_a_lot_with_an_error_is_not_completed(stage: Stage) -> None:
    """Each title is settled by itself; the lot says that one was not, and runs again with it."""
    titles = [title(stage) for _ in range(3)]
    amounts = ("1000.00", "1200.00", "400.00")
    items = [
        body(stage, owed, principal=amount) for owed, amount in zip(titles, amounts, strict=True)
    ]

    accepted = await stage.client.post(f"{PATH}/batch", json={"items": items})
    assert accepted.status_code == 202, accepted.text
    batch_id = accepted.json()["id"]
    for item in accepted.json()["items"]:
        await stage.finish(item["posting_id"])
    batch = (await stage.client.get(f"{PATH}/batch/{batch_id}")).json()
    stopped = (await stage.client.get(PATH, params={"status": "failed"})).json()["items"]

    assert (batch["status"], batch["over"], batch["total"]) == ("stopped", 3, 3)
    assert [one["code"] for one in stopped] == ["amount_above_balance"]
    assert [residual(stage, owed) for owed in titles] == [0.0, 1000.0, 600.0]
    assert len(stage.simulator.world.records(PAYMENT)) == 2
