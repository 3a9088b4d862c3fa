"""Receipts that meet no trouble: what is called, and what is in stock in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.errors import LivePosting
from tests.factories.goods import LINE, LOT, PICKING
from tests.factories.receiving import CHECK, EXPIRY

if TYPE_CHECKING:
    from tests.factories.receiving import Dock

CREATE, WRITE, VALIDATE = f"{LOT}.create", f"{PICKING}.write", f"{PICKING}.button_validate"


def lots(**quantities: float) -> list[dict[str, Any]]:
    """Lots by name, each with the same expiry."""
    return [
        {"name": name, "quantity": quantity, "expiry": EXPIRY}
        for name, quantity in quantities.items()
    ]


@pytest.mark.parametrize("version", [17, 19])
async def test_an_untracked_product_is_received(dock: Dock) -> None:
    """One line is ticked, the picking is validated, and nothing else is called."""
    product = dock.product()
    picking = dock.picking((product, 100))

    posting = await dock.receive(picking, {"product_id": product, "quantity": 100})

    assert (posting.status, posting.step, posting.code) == ("completed", 8, None)
    assert dock.calls() == {WRITE: 1, VALIDATE: 1}
    assert dock.state(picking) == "done"
    assert dock.stock(product) == {False: 100.0}


@pytest.mark.parametrize("version", [17, 19])
async def test_lots_come_each_with_its_quantity_and_expiry(dock: Dock) -> None:
    """All lots are made by one call, all lines by another."""
    product = dock.product("lot")
    picking = dock.picking((product, 100))

    posting = await dock.receive(
        picking, {"product_id": product, "quantity": 100, "lots": lots(A=60, B=39.5, C=0.5)}
    )

    assert (posting.status, posting.code) == ("completed", None)
    assert dock.calls() == {CREATE: 1, WRITE: 1, VALIDATE: 1}
    assert dock.stock(product) == {"A": 60.0, "B": 39.5, "C": 0.5}
    expiries = {lot["expiration_date"] for lot in dock.records(LOT)}
    assert expiries == {f"{EXPIRY} 00:00:00"}


@pytest.mark.parametrize("version", [17, 19])
async def test_serial_numbers_come_one_by_one(dock: Dock) -> None:
    """Each piece has a line and a number of its own; more than a call of a step each."""
    product = dock.product("serial")
    picking = dock.picking((product, 30))
    names = [f"S{number:02d}" for number in range(30)]

    posting = await dock.receive(
        picking,
        {
            "product_id": product,
            "quantity": 30,
            "lots": [{"name": name, "quantity": 1} for name in names],
        },
    )

    assert posting.status == "completed"
    assert dock.stock(product) == dict.fromkeys(names, 1.0)
    assert dock.calls() == {CREATE: 1, WRITE: 1, VALIDATE: 1}


@pytest.mark.parametrize("version", [17, 19])
async def test_several_products_and_companies_are_received(dock: Dock) -> None:
    """Tracked or not, in a company that is not the user's own: stock and lots are of that one."""
    plain, tracked = dock.product(), dock.product("lot")
    picking = dock.picking((plain, 7), (tracked, 3), company="hub")
    hub = dock.simulator.world.seed.companies["hub"].id

    posting = await dock.receive(
        picking,
        {"product_id": tracked, "quantity": 3, "lots": [{"name": "A", "quantity": 3}]},
        {"product_id": plain, "quantity": 7},
        company_id=hub,
        picking_name=dock.one(PICKING, picking)["name"],
    )

    assert (posting.status, posting.facts["company_id"]) == ("completed", hub)
    assert (dock.stock(plain), dock.stock(tracked)) == ({False: 7.0}, {"A": 3.0})
    assert {lot["company_id"][0] for lot in dock.records(LOT)} == {hub}


async def test_two_moves_of_a_product_are_told_apart(dock: Dock) -> None:
    """Each line names its move; a lot may be in both."""
    product = dock.product("lot")
    picking = dock.picking((product, 10), (product, 5))
    first, second = dock.one(PICKING, picking)["move_ids"]

    posting = await dock.receive(
        picking,
        {"product_id": product, "move_id": first, "quantity": 10, "lots": lots(A=6, B=4)},
        {"product_id": product, "move_id": second, "quantity": 5, "lots": lots(A=5)},
    )

    assert posting.status == "completed"
    assert dock.stock(product) == {"A": 11.0, "B": 4.0}
    received = {move["move_id"]: move["lots"] for move in posting.facts["movements"]}
    assert received == {first: {"A": "6", "B": "4"}, second: {"A": "5"}}


@pytest.mark.parametrize("version", [17, 19])
async def test_checks_are_decided_before_the_picking_is_done(dock: Dock) -> None:
    """Passed, failed and measured: Odoo would ask for them otherwise."""
    product = dock.product()
    picking = dock.picking((product, 1))
    passed = [dock.check(picking) for _ in range(3)]
    failed = dock.check(picking)
    limits = {"test_type": "measure", "tolerance_min": 4.5, "tolerance_max": 5.5}
    measured = [dock.check(picking, **limits) for _ in range(12)]
    measures = [5.0 if place % 2 else 7.25 for place in range(12)]

    posting = await dock.receive(
        picking,
        {"product_id": product, "quantity": 1},
        checks=[
            *({"check_id": check, "result": "pass"} for check in passed),
            {"check_id": failed, "result": "fail"},
            *(
                {"check_id": check, "measure": measure}
                for check, measure in zip(measured, measures, strict=True)
            ),
        ],
    )

    assert (posting.status, posting.code) == ("completed", None)
    states = {check["id"]: check["quality_state"] for check in dock.records(CHECK)}
    assert [states[check] for check in passed] == ["pass"] * 3
    assert states[failed] == "fail"
    assert [states[check] for check in measured] == ["fail", "pass"] * 6
    calls = dock.calls()
    assert (calls[f"{CHECK}.do_pass"], calls[f"{CHECK}.do_fail"]) == (1, 1)
    assert (calls[f"{CHECK}.write"], calls[f"{CHECK}.do_measure"]) == (12, 12)
    assert calls[VALIDATE] == 1


async def test_a_check_that_is_decided_as_said_is_left_alone(dock: Dock) -> None:
    """Somebody was faster; nothing is decided twice."""
    product = dock.product()
    picking = dock.picking((product, 1))
    check, other = dock.check(picking), dock.check(picking)
    dock.person(CHECK, "do_pass", [check, other])

    posting = await dock.receive(
        picking,
        {"product_id": product, "quantity": 1},
        checks=[{"check_id": check, "result": "pass"}],
    )

    assert posting.status == "completed"
    assert f"{CHECK}.do_pass" not in dock.calls()


async def test_a_database_without_quality_checks_is_not_asked_for_them(dock: Dock) -> None:
    """The model need not exist."""
    await dock.reconfigure("quality_checks = false")
    product = dock.product()
    picking = dock.picking((product, 1))

    posting = await dock.receive(picking, {"product_id": product, "quantity": 1})

    assert posting.status == "completed"
    assert not any(name.startswith(CHECK) for name in dock.simulator.world.received)


async def test_the_audit_tells_each_step(dock: Dock) -> None:
    """What is changed is started and done, the rest is found; the facts are the movements."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    [move] = dock.one(PICKING, picking)["move_ids"]
    location = dock.one("stock.move", move)["location_dest_id"][0]

    posting = await dock.receive(
        picking, {"product_id": product, "quantity": 10, "lots": lots(A=6, B=4)}
    )

    assert await dock.steps(posting.id, "start") == [2, 4, 7]
    assert await dock.steps(posting.id, "done") == [2, 4, 7]
    assert await dock.steps(posting.id, "found") == [1, 3, 5, 6, 8]
    assert (await dock.ledger.verify(posting.id)).valid
    [filled] = [
        one
        for one in await dock.ledger.history(posting.id)
        if (one.step, one.action) == (4, "start")
    ]
    assert filled.before is not None
    assert filled.after is not None
    [reserved] = filled.before["move_line_ids"]
    assert (reserved["lot"], reserved["quantity"], reserved["done"]) == (
        None,
        "10.0",
        False,
    )
    meant = [(line["lot"], line["quantity"]) for line in filled.after["move_line_ids"]]
    assert meant == [("A", "6"), ("B", "4")]
    assert posting.facts["movements"] == [
        {
            "move_id": move,
            "product_id": product,
            "location_id": location,
            "quantity": "10",
            "lots": {"A": "6", "B": "4"},
        }
    ]
    assert posting.facts["done_at"]


async def test_each_step_repeated_changes_nothing(dock: Dock) -> None:
    """Looked at again from the first step, everything is found done."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    check = dock.check(picking)
    posting_id = await dock.post(
        picking,
        {"product_id": product, "quantity": 10, "lots": lots(A=6, B=4)},
        checks=[{"check_id": check, "result": "pass"}],
    )
    dock.trouble("user_error", PICKING, "button_validate")
    stopped = await dock.run(posting_id)
    assert (stopped.status, stopped.code, stopped.step) == ("failed", "odoo_user_fault", 6)
    before = dock.records(LINE)
    dock.forget_calls()

    posting = await dock.resume(posting_id)

    assert posting.status == "completed"
    assert dock.calls() == {VALIDATE: 1}
    assert [line["id"] for line in dock.records(LINE)] == [line["id"] for line in before]
    assert dock.stock(product) == {"A": 6.0, "B": 4.0}


async def test_a_picking_is_one_posting(dock: Dock) -> None:
    """The same picking is not posted beside itself, nor again once it is done."""
    product = dock.product()
    picking = dock.picking((product, 1))
    line = {"product_id": product, "quantity": 1}
    posting_id = await dock.post(picking, line)

    with pytest.raises(LivePosting):
        await dock.post(picking, line)
    await dock.run(posting_id)
    dock.forget_calls()

    assert await dock.post(picking, line) == posting_id
    assert dock.calls() == {}


async def test_a_plan_shows_what_would_be_written(dock: Dock) -> None:
    """Nothing is called; what follows the missing lots depends on them."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    receipt = dock.receipt(picking, {"product_id": product, "quantity": 10, "lots": lots(A=10)})

    steps = await dock.plan(receipt)

    assert [step.outcome for step in steps] == ["done", "would_run", *["depends"] * 6]
    assert steps[1].call is not None
    assert steps[1].call.after == {"name": ["A"]}
    assert dock.calls() == {}
