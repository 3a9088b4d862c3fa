"""Postings that are canceled, that wait for somebody in Odoo, and that are undone there."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from service.simulator.app import SimulatorSettings
from service.simulator.faults import Fault
from tests.factories.deployed import PATH, READS, history, wrong
from tests.factories.processes import command
from tests.factories.running import WAIT_SECONDS, Stage, running

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from service.settings import Settings
    from service.simulator.arrivals import SeededDocument
    from service.simulator.faults import Kind

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDER = "purchase.order"
BILL = "account.move"
CONFIRM = "button_confirm"
EFFECTIVE_SECONDS = 1.0
LOOK_SECONDS = 0.2
MOST_LOOK_SECONDS = 3.0
"""For two looks; a posting whose job was lost is found no sooner than after five seconds."""

SETTLE_SECONDS = 20.0
"""How long a call in doubt is looked for, in the times that are used here."""

UNDO = "button_cancel"
UNDOING = [
    f"11 {BILL}.{UNDO}",
    f"6 {ORDER}.{UNDO}",
    "6 l10n_br_ciel_it_account.dfe.write",
]


async def reach(stage: Stage, posting_id: str, wanted: str, times: int = 1) -> None:
    """Wait until the audit has a step and action, such as `9 fault`, so many times."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            records = await stage.runtime.ledger.history(UUID(posting_id))
            if [f"{one.step} {one.action}" for one in records].count(wanted) >= times:
                return
            await asyncio.sleep(0.01)


async def let_go(stage: Stage, document: SeededDocument) -> None:
    """Wait until no worker has the document's lock any more."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await stage.runtime.locks.holder(f"main:cte:{document.key}"):  # noqa: ASYNC110  in Redis
            await asyncio.sleep(0.01)


async def cancel(stage: Stage, posting_id: str) -> tuple[httpx.Response, float]:
    """Cancel a posting; the answer, and the seconds until it came."""
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    response = await stage.client.post(f"{PATH}/{posting_id}/cancel")
    return response, loop.time() - asked_at


def calls(stage: Stage) -> dict[str, int]:
    """How often Odoo was asked to change something; a look that has begun may still be ended."""
    received = stage.simulator.world.received
    return {name: count for name, count in received.items() if name.rpartition(".")[2] not in READS}


def states(stage: Stage, document: SeededDocument) -> tuple[list[str], list[str]]:
    """The states of all orders and bills of a document, oldest first."""
    outcome = stage.simulator.world.outcomes()[document.key]
    return (
        [order["state"] for order in outcome["orders"]],
        [bill["state"] for bill in outcome["bills"]],
    )


# -- canceled --------------------------------------------------------------------------------------


async def look_slowly(stage: Stage, document: SeededDocument) -> str:
    """A posting whose worker looks at its new order, for a while."""
    reads = stage.simulator.world.received[f"{ORDER}.read"]
    stage.simulator.add_fault(
        Fault(kind="slow", model=ORDER, method="read", key=document.key, seconds=1.5)
    )
    posting = await stage.post(document)
    await reach(stage, posting["id"], "6 done")
    await stage.until(lambda: stage.simulator.world.received[f"{ORDER}.read"] > reads)
    return str(posting["id"])


async def pause_before_another_try(stage: Stage, document: SeededDocument) -> str:
    """A posting whose order is locked by somebody, so that its worker waits to call again."""
    stage.simulator.add_fault(Fault(kind="lock_conflict", method=CONFIRM, key=document.key))
    posting = await stage.post(document)
    await reach(stage, posting["id"], "9 fault")
    return str(posting["id"])


@pytest.mark.parametrize("begin", [look_slowly, pause_before_another_try])
async def test_a_cancel_between_two_calls_is_effective_within_a_second(
    working: Stage, begin: Any
) -> None:
    """The posting is canceled with the answer, and its worker makes no further call."""
    document = working.arrive()
    posting_id = await begin(working, document)
    received = calls(working)
    before = states(working, document)

    response, seconds = await cancel(working, posting_id)
    await let_go(working, document)

    assert (response.status_code, response.json()["status"]) == (200, "canceled")
    assert seconds < EFFECTIVE_SECONDS
    assert calls(working) == received
    assert states(working, document) == before == (["draft"], [])
    found = await history(working.client, posting_id)
    assert (found.audit[-1]["action"], found.audit[-1]["actor"]) == ("cancel", "tester")
    assert found.posting["status"] == "canceled"
    assert found.verdict["valid"]


async def test_a_cancel_during_a_call_is_carried_out_once_the_call_is_settled(
    working: Stage,
) -> None:
    """202 at once, canceled with the call's outcome; posted anew, the order is the same one."""
    document = working.arrive()
    working.simulator.add_fault(Fault(kind="slow", method=CONFIRM, key=document.key, seconds=1.5))
    posting = await working.post(document)
    await reach(working, posting["id"], "9 start")

    response, seconds = await cancel(working, posting["id"])
    answered = response.json()
    meanwhile = states(working, document)
    await reach(working, posting["id"], "0 cancel")
    received = calls(working)
    await let_go(working, document)

    assert (response.status_code, answered["status"]) == (202, "running")
    assert answered["cancel_requested_by"] == "tester"
    assert seconds < EFFECTIVE_SECONDS
    assert meanwhile == (["draft"], [])
    assert states(working, document) == (["purchase"], [])
    found = await history(working.client, posting["id"])
    actions = [f"{one['step']} {one['action']}" for one in found.audit]
    assert actions[actions.index("9 start") :][:2] == ["9 start", "9 cancel_requested"]
    assert actions[-1] == "0 cancel"
    assert {step["number"]: step["state"] for step in found.posting["steps"]}[9] == "done"
    assert found.posting["status"] == "canceled"
    assert found.verdict["valid"]
    assert calls(working) == received

    again = await working.post(document)
    await working.finish(again["id"])

    assert again["id"] != posting["id"]
    assert await wrong(working.client, working.simulator, document, again["id"]) == []
    assert states(working, document) == (["purchase"], ["posted"])


# -- waiting ---------------------------------------------------------------------------------------


async def test_a_posting_goes_on_by_itself_once_its_order_is_approved(
    settings: Settings, tmp_path: Path
) -> None:
    """It waits, looks every `approval_look_seconds`, and needs no resume."""
    simulator = SimulatorSettings(approval_limit=1, approver="other")
    async with running(settings, with_worker=False, simulator=simulator) as stage:
        text = settings.config.read_text(encoding="utf-8")
        line = "accept_homologation = true"
        looks = f"{line}\napproval_look_seconds = {LOOK_SECONDS}"
        assert text.count(line) == 1
        settings.config.write_text(text.replace(line, looks), encoding="utf-8")
        document = stage.arrive()
        async with command(settings, tmp_path / "worker.log", "worker"):
            posting = await stage.post(document)
            await reach(stage, posting["id"], "10 stop", times=3)
            received = stage.simulator.world.received
            before = Counter(received)
            waiting = await history(stage.client, posting["id"])

            [order] = stage.simulator.world.outcomes()[document.key]["orders"]
            stage.simulator.world.execute(ORDER, "button_approve", [order["id"]])
            await stage.finish(posting["id"])

        stops = [one for one in waiting.audit if one["action"] == "stop"]
        assert {(one["code"], one["posting_status"]) for one in stops} == {
            ("waiting_approval", "waiting")
        }
        looked_at = [datetime.fromisoformat(one["at"]) for one in stops]
        assert (looked_at[2] - looked_at[0]).total_seconds() < MOST_LOOK_SECONDS
        assert order["state"] == "to approve"
        assert before[f"{ORDER}.{CONFIRM}"] == received[f"{ORDER}.{CONFIRM}"] == 1
        assert f"{ORDER}.button_approve" not in received
        found = await history(stage.client, posting["id"])
        assert "resume" not in {one["action"] for one in found.audit}
        assert found.posting["run"] == 1
        assert await wrong(stage.client, stage.simulator, document, posting["id"]) == []


# -- undone ----------------------------------------------------------------------------------------


async def stopped_at_its_bill(stage: Stage, document: SeededDocument) -> str:
    """A posting that Odoo refused to post the bill of: its order and its draft bill are made."""
    stage.simulator.add_fault(Fault(kind="user_error", method="action_post", key=document.key))
    posting = await stage.post(document)
    await stage.finish(posting["id"])
    assert states(stage, document) == (["purchase"], ["draft"])
    return str(posting["id"])


async def compensate(stage: Stage, posting_id: str) -> None:
    """Ask for the posting to be undone in Odoo."""
    response = await stage.client.post(f"{PATH}/{posting_id}/rollback?compensate=true")
    assert response.status_code == 202, response.text
    assert (response.json()["status"], response.json()["intent"]) == ("pending", "compensate")


async def check_undone(
    stage: Stage, document: SeededDocument, posting_id: str, since: float
) -> None:
    """Undone in Odoo, each call once and without waiting; resumed, it is posted from nothing."""
    seconds = asyncio.get_running_loop().time() - since
    undone = await history(stage.client, posting_id)
    between = states(stage, document)
    await stage.client.post(f"{PATH}/{posting_id}/resume")
    await stage.finish(posting_id)

    assert {name: undone.posting[name] for name in ("status", "step", "facts", "intent")} == {
        "status": "rolled_back",
        "step": 0,
        "facts": {},
        "intent": "post",
    }
    assert between == (["cancel"], ["cancel"])
    began = next(n for n, one in enumerate(undone.audit) if one["action"] == "compensate")
    assert [
        f"{one['step']} {one['model']}.{one['method']}"
        for one in undone.audit[began:]
        if one["action"] == "start"
    ] == UNDOING
    assert seconds < SETTLE_SECONDS
    assert await wrong(stage.client, stage.simulator, document, posting_id) == []
    assert states(stage, document) == (["cancel", "purchase"], ["cancel", "posted"])


@pytest.mark.parametrize("trouble", ["none", "reply_lost", "fault_after_commit"])
@pytest.mark.parametrize("model", [BILL, ORDER])
async def test_a_compensated_posting_starts_from_nothing(
    working: Stage, trouble: Kind, model: str
) -> None:
    """Order and draft bill are cancelled in Odoo, whatever it answers, before it is resumed."""
    document = working.arrive()
    posting_id = await stopped_at_its_bill(working, document)
    working.simulator.add_fault(Fault(kind=trouble, model=model, method=UNDO, key=document.key))

    began = asyncio.get_running_loop().time()
    await compensate(working, posting_id)
    await working.finish(posting_id)

    await check_undone(working, document, posting_id, began)


async def test_a_compensation_outlives_its_worker(settings: Settings, tmp_path: Path) -> None:
    """Killed while Odoo cancels the order: another worker sees that it did, and goes on."""
    async with running(settings, with_worker=False) as stage:
        document = stage.arrive()
        async with command(settings, tmp_path / "first.log", "worker") as first:
            posting_id = await stopped_at_its_bill(stage, document)
            stage.simulator.add_fault(
                Fault(kind="slow", model=ORDER, method=UNDO, key=document.key, seconds=0.5)
            )
            began = asyncio.get_running_loop().time()
            await compensate(stage, posting_id)
            await reach(stage, posting_id, "6 start", times=2)
            await stage.until(lambda: stage.simulator.world.received[f"{ORDER}.{UNDO}"] == 1)
            first.kill()
        async with command(settings, tmp_path / "second.log", "worker"):
            await stage.finish(posting_id)
            records = await stage.runtime.ledger.history(UUID(posting_id))

            await check_undone(stage, document, posting_id, began)
        [settled] = [one for one in records if one.action == "settle"]
        assert (settled.step, settled.status) == (6, "success")
