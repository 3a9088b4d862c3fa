"""Plans over HTTP, of freight bills in a simulated Odoo."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from service.simulator.faults import Fault
from tests.factories.running import Stage, own_servers, problem, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/postings/plan"
TABLES = ("posting", "posting_step", "audit_record", "pgqueuer", "pgqueuer_log")
READS = {"authenticate", "search_read", "read"}


async def plan(stage: Stage, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The planned steps."""
    response = await stage.client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    return list(response.json()["steps"])


def outcomes(steps: list[dict[str, Any]]) -> str:
    """The first letter of each step's outcome; the disabled step 8 is an x."""
    letters = {"done": "d", "would_run": "w", "blocked": "b", "disabled": "x", "depends": "-"}
    return "".join(letters[step["outcome"]] for step in steps)


async def rows(stage: Stage) -> dict[str, int]:
    """How many rows our tables have."""
    async with stage.runtime.database.transaction() as connection:
        return {
            name: (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar_one()  # noqa: S608
            for name in TABLES
        }


async def test_a_plan_tells_the_writes_of_a_new_document(idle: Stage) -> None:
    """Steps 2 to 6 would run, with before and after; what follows depends on the order."""
    document = idle.arrive()

    steps = await plan(idle, idle.body(document))

    assert outcomes(steps) == "dwwwww-x--------"
    due = steps[4]["call"]
    assert (due["model"], due["method"]) == ("l10n_br_ciel_it_account.dfe.pagamento", "write")
    assert due["after"] == {"cobr_dup_dvenc": "2026-12-31"}
    assert due["before"].keys() == due["after"].keys()
    assert {step["depends_on"] for step in steps[6:] if step["outcome"] == "depends"} == {6}


async def test_a_plan_makes_reads_only_and_writes_nothing(idle: Stage) -> None:
    """Neither in Odoo nor in our tables."""
    document = idle.arrive()
    before, received = await rows(idle), idle.simulator.world.received.copy()

    await plan(idle, idle.body(document))

    assert await rows(idle) == before
    calls = idle.simulator.world.received - received
    assert calls
    assert {name.rpartition(".")[2] for name in calls} <= READS


async def test_a_posted_document_is_planned_as_done(working: Stage) -> None:
    """Sixteen steps over, and the posting that did it is named."""
    document = working.arrive()
    posting = await working.post(document)
    await working.finish(posting["id"])

    response = await working.client.post(PATH, json=working.body(document))

    planned = response.json()
    assert outcomes(planned["steps"]) == "dddddddxdddddddd"
    assert (planned["posting_id"], planned["posting_status"]) == (posting["id"], "completed")


async def test_a_plan_of_a_stopped_posting_tells_where_it_goes_on(working: Stage) -> None:
    """What the posting did is done; the step that Odoo refused would run."""
    document = working.arrive()
    working.simulator.add_fault(Fault(kind="user_error", method="button_confirm"))
    posting = await working.post(document)
    await working.finish(posting["id"])

    steps = await plan(working, working.body(document))

    assert outcomes(steps) == "dddddddxw-------"


async def test_a_document_that_cannot_be_posted_is_blocked_in_the_plan(idle: Stage) -> None:
    """With the code and the sentence that the posting would stop with."""
    document = idle.arrive(status="07")

    steps = await plan(idle, idle.body(document))

    assert outcomes(steps) == "b------x--------"
    assert steps[0]["code"] == "dfe_rejected"
    assert steps[0]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        pytest.param("access_error", 502, "odoo_access_denied", id="fault"),
        pytest.param("gateway_502", 502, "odoo_gateway", id="gateway"),
    ],
)
async def test_trouble_of_odoo_is_a_problem_with_its_code(
    idle: Stage, fault: Any, status: int, code: str
) -> None:
    """The class of the error decides the status."""
    document = idle.arrive()
    idle.simulator.add_fault(Fault(kind=fault, method="search_read", times=20))
    try:
        response = await idle.client.post(PATH, json=idle.body(document))
    finally:
        idle.simulator.world.faults.clear()

    assert problem(response, status)["code"] == code


async def test_a_slow_odoo_is_a_timeout_and_a_missing_one_unreachable(tmp_path: Path) -> None:
    """504 within the setting's deadline, and 502 when nothing listens."""
    async with own_servers(tmp_path) as (_, settings):
        quick = settings.model_copy(update={"plan_seconds": 0.3})
        async with running(quick, with_worker=False) as stage:
            body = stage.body()
            stage.simulator.add_fault(Fault(kind="slow", method="search_read", seconds=20))
            async with asyncio.timeout(5):
                slow = await stage.client.post(PATH, json=body)
        async with running(settings, with_worker=False) as stage:
            body = stage.body()
            stage.simulator.add_fault(Fault(kind="unavailable", refuse=True))
            gone = await stage.client.post(PATH, json=body)

    assert problem(slow, 504)["code"] == "odoo_timeout"
    assert problem(gone, 502)["code"] == "odoo_unreachable"


async def test_a_plan_of_wrong_input_names_the_field(idle: Stage) -> None:
    """As posting it would."""
    body = idle.body(idle.arrive(), access_key="123")

    problem(await idle.client.post(PATH, json=body), 422, "input.access_key")
    problem(await idle.client.post(PATH, json={**body, "connection": "nope"}), 404, "connection")
