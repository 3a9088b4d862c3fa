"""Receipts that Odoo, its users or the caller make difficult: nothing comes twice or silently."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories.goods import LINE, LOT, PICKING
from tests.factories.receiving import ACTOR, CHECK, EXPIRY, timings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from service.odoo.records import Caller
    from service.posting.ledger import Posting
    from service.posting.step import Call
    from service.simulator.faults import Kind
    from tests.factories.receiving import Dock

MOVE = "stock.move"
CREATE, WRITE, VALIDATE = f"{LOT}.create", f"{PICKING}.write", f"{PICKING}.button_validate"


def stopped(posting: Posting) -> tuple[str, str | None]:
    """How a posting stopped; its message says what a person has to do."""
    assert posting.message
    assert "resume" in posting.message.lower() or "cancel" in posting.message.lower()
    return posting.status, posting.code


def lots(**quantities: float) -> list[dict[str, Any]]:
    """Lots by name, without expiry."""
    return [{"name": name, "quantity": quantity} for name, quantity in quantities.items()]


def line(product_id: int, quantity: float, **values: Any) -> dict[str, Any]:
    """A line of a receipt."""
    return {"product_id": product_id, "quantity": quantity, **values}


# -- the picking -------------------------------------------------------------------------------


async def test_a_picking_that_is_not_there_is_told(dock: Dock) -> None:
    """An id that Odoo does not have."""
    posting = await dock.receive(4711, line(dock.product(), 1))

    assert stopped(posting) == ("failed", "picking_not_found")


async def test_a_cancelled_picking_is_told(dock: Dock) -> None:
    """What was cancelled expects nothing."""
    product = dock.product()
    picking = dock.picking((product, 1))
    dock.person(PICKING, "action_cancel", [picking])

    posting = await dock.receive(picking, line(product, 1))

    assert stopped(posting) == ("failed", "picking_canceled")
    assert dock.calls() == {}


@pytest.mark.parametrize("state", ["draft", "waiting", "confirmed"])
async def test_a_picking_that_is_not_ready_is_told(dock: Dock, state: str) -> None:
    """A person makes it ready, and the receipt goes on."""
    product = dock.product()
    picking = dock.picking((product, 5))
    moves = dock.one(PICKING, picking)["move_ids"]
    dock.person(LINE, "unlink", dock.one(PICKING, picking)["move_line_ids"])
    dock.person(MOVE, "write", moves, {"state": state})

    posting = await dock.receive(picking, line(product, 5))
    assert stopped(posting) == ("failed", "picking_not_ready")
    assert dock.calls() == {}

    dock.person(PICKING, "action_assign", [picking])
    assert (await dock.resume(posting.id)).status == "completed"


async def test_a_picking_of_another_company_is_not_received(dock: Dock) -> None:
    """Neither where the caller names another one, nor where the profile does not have it."""
    product = dock.product()
    hub = dock.simulator.world.seed.companies["hub"].id
    picking, foreign = dock.picking((product, 1)), dock.picking((product, 1), company="sister")

    wrong = await dock.receive(picking, line(product, 1), company_id=hub)
    unknown = await dock.receive(foreign, line(product, 1))

    assert stopped(wrong) == ("needs_attention", "wrong_company")
    assert stopped(unknown) == ("failed", "unknown_company")
    assert dock.calls() == {}


async def test_only_receipts_of_goods_are_received(dock: Dock) -> None:
    """Another kind of picking of the same company is not."""
    product = dock.product()
    picking = dock.picking((product, 1))
    freight = dock.simulator.world.seed.home.picking_type_id
    dock.person(PICKING, "write", [picking], {"picking_type_id": freight})

    posting = await dock.receive(picking, line(product, 1))

    assert stopped(posting) == ("failed", "wrong_picking_type")


async def test_a_name_that_is_not_the_pickings_is_told(dock: Dock) -> None:
    """An id that was mistyped names another picking than the caller means."""
    product = dock.product()
    picking, other = dock.picking((product, 1)), dock.picking((product, 1))
    name = dock.one(PICKING, other)["name"]

    posting = await dock.receive(picking, line(product, 1), picking_name=name)

    assert stopped(posting) == ("failed", "wrong_picking")


@pytest.mark.parametrize("version", [17, 19])
async def test_a_picking_that_is_done_as_said_is_found_done(dock: Dock) -> None:
    """A person received the same lots; nothing is called, and the movements are known."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    known = dock.lot(product, "A")
    [reserved] = dock.one(PICKING, picking)["move_line_ids"]
    dock.person(LINE, "write", [reserved], {"lot_id": known, "picked": True})
    dock.person(PICKING, "button_validate", [picking])

    posting = await dock.receive(picking, line(product, 10, lots=lots(A=10)))

    assert posting.status == "completed"
    assert dock.calls() == {}
    assert [one["lots"] for one in posting.facts["movements"]] == [{"A": "10"}]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"quantity": 10, "lots": lots(B=10)}, id="another lot"),
        pytest.param({"quantity": 9, "lots": lots(A=9)}, id="less"),
        pytest.param({"quantity": 10, "lots": lots(A=6, B=4)}, id="parts of several lots"),
        pytest.param({"quantity": 10}, id="no lot"),
    ],
)
async def test_a_picking_that_is_done_otherwise_needs_a_person(
    dock: Dock, said: dict[str, Any]
) -> None:
    """What is in stock is not what has come."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    known = dock.lot(product, "A")
    [reserved] = dock.one(PICKING, picking)["move_line_ids"]
    dock.person(LINE, "write", [reserved], {"lot_id": known, "picked": True})
    dock.person(PICKING, "button_validate", [picking])

    posting = await dock.receive(picking, {"product_id": product, **said})

    assert stopped(posting) == ("needs_attention", "received_differs")
    assert "A" in (posting.message or "")
    assert dock.calls() == {}


# -- what is expected --------------------------------------------------------------------------


async def test_a_product_that_nobody_ordered_is_told(dock: Dock) -> None:
    """It is not added, and not left out."""
    product, other = dock.product(), dock.product()
    picking = dock.picking((product, 1))

    posting = await dock.receive(picking, line(product, 1), line(other, 1))

    assert stopped(posting) == ("failed", "product_not_expected")
    assert dock.calls() == {}


async def test_a_product_of_which_nothing_is_said_is_told(dock: Dock) -> None:
    """Validating the picking would receive, or drop, what nobody has counted."""
    product, other = dock.product(), dock.product(name="Hearts of nothing")
    picking = dock.picking((product, 1), (other, 2))

    posting = await dock.receive(picking, line(product, 1))

    assert stopped(posting) == ("failed", "move_not_listed")
    assert "Hearts of nothing" in (posting.message or "")
    assert dock.calls() == {}


async def test_several_moves_of_a_product_are_not_guessed(dock: Dock) -> None:
    """The line has to name its move, and the move has to be of the product."""
    product, other = dock.product(), dock.product()
    picking = dock.picking((product, 1), (product, 1))
    mixed = dock.picking((product, 1), (other, 1))
    [_, of_other] = dock.one(PICKING, mixed)["move_ids"]

    several = await dock.receive(picking, line(product, 1))
    wrong = await dock.receive(mixed, line(product, 1, move_id=of_other), line(other, 1))

    assert stopped(several) == ("failed", "several_moves")
    assert stopped(wrong) == ("failed", "product_not_expected")


@pytest.mark.parametrize("quantity", [99.99, 100.01, 50])
async def test_another_quantity_than_ordered_is_told(dock: Dock, quantity: float) -> None:
    """Exactly what is expected is received, unless the profile has a tolerance."""
    product = dock.product()
    picking = dock.picking((product, 100))

    posting = await dock.receive(picking, line(product, quantity))

    assert stopped(posting) == ("failed", "quantity_mismatch")
    assert dock.calls() == {}


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("quantity", [99.5, 100.5])
async def test_a_difference_within_the_tolerance_leaves_no_backorder(
    dock: Dock, quantity: float
) -> None:
    """What has come is in stock, and nothing more is expected."""
    await dock.reconfigure('quantity_tolerance = "0.5"')
    product = dock.product()
    picking = dock.picking((product, 100))

    posting = await dock.receive(picking, line(product, quantity))

    assert (posting.status, posting.code) == ("completed", None)
    assert dock.stock(product) == {False: quantity}
    assert dock.one(PICKING, picking)["backorder_ids"] == []


@pytest.mark.parametrize(
    ("tracking", "given", "code"),
    [
        ("lot", [], "lots_missing"),
        ("serial", [], "lots_missing"),
        ("none", lots(A=2), "lots_not_tracked"),
        ("serial", lots(A=2), "serial_quantity"),
    ],
)
async def test_lots_are_those_of_a_tracked_product(
    dock: Dock, tracking: str, given: list[dict[str, Any]], code: str
) -> None:
    """Only Odoo can tell how a product is tracked."""
    product = dock.product(tracking)
    picking = dock.picking((product, 2))

    posting = await dock.receive(picking, line(product, 2, lots=given))

    assert stopped(posting) == ("failed", code)
    assert dock.calls() == {}


async def test_a_lot_that_expires_while_the_receipt_waits_is_refused(dock: Dock) -> None:
    """A receipt that is resumed later may hold what could not be accepted any more."""
    product = dock.product("lot")
    picking = dock.picking((product, 1))
    given = [{"name": "A", "quantity": 1, "expiry": EXPIRY}]
    posting_id = await dock.post(picking, line(product, 1, lots=given))
    dock.today = date(2099, 12, 31)
    dock.definition = replace(dock.definition, today=lambda _: dock.today)

    posting = await dock.run(posting_id)

    assert stopped(posting) == ("failed", "lot_expired")
    assert dock.calls() == {}


# -- lots --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [17, 19])
async def test_a_lot_that_is_there_is_used(dock: Dock) -> None:
    """Its id is that of the line; no second one is made."""
    product = dock.product("lot")
    known = dock.lot(product, "105/26", expiration_date=f"{EXPIRY} 03:00:00")
    picking = dock.picking((product, 10))
    given = [{"name": "  105/26 ", "quantity": 10, "expiry": EXPIRY}]

    posting = await dock.receive(picking, line(product, 10, lots=given))

    assert posting.status == "completed"
    assert dock.calls() == {WRITE: 1, VALIDATE: 1}
    assert [lot["id"] for lot in dock.records(LOT)] == [known]
    assert dock.stock(product) == {"105/26": 10.0}


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("a_1", "ax1"),
        ("50%", "50 of all"),
        ("Lot A", "LOT A"),
        ("a\\b", "a\\\\b"),
        ("A,B", "A"),
    ],
)
async def test_a_name_is_meant_as_it_is_written(dock: Dock, name: str, like: str) -> None:
    """A lot with another case, or that a wildcard would fit, is another lot."""
    product = dock.product("lot")
    similar = dock.lot(product, like)
    picking = dock.picking((product, 2))

    posting = await dock.receive(picking, line(product, 2, lots=[{"name": name, "quantity": 2}]))

    assert posting.status == "completed"
    assert dock.stock(product) == {name: 2.0}
    assert dock.one(LOT, similar)["product_qty"] == 0
    assert sorted(dock.lots(product)) == sorted([name, like])


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("name", ["105/26", "a_1", "50%", "a\\b"])
async def test_a_lot_that_a_search_by_name_misses_is_found_by_pattern(
    dock: Dock, name: str
) -> None:
    """Odoo was seen to answer with nothing; creating the lot would fail as a duplicate."""
    product = dock.product("lot")
    known = dock.lot(product, name)
    picking = dock.picking((product, 2))
    dock.trouble("truncated", LOT, "search_read", rows=0)

    posting = await dock.receive(picking, line(product, 2, lots=[{"name": name, "quantity": 2}]))

    assert posting.status == "completed"
    assert CREATE not in dock.calls()
    assert [lot["id"] for lot in dock.records(LOT)] == [known]


async def test_lots_of_other_products_and_companies_are_not_taken(dock: Dock) -> None:
    """The same name is another lot there."""
    product, other = dock.product("lot"), dock.product("lot")
    hub = dock.simulator.world.seed.companies["hub"].id
    foreign = [dock.lot(other, "A"), dock.lot(product, "A", company_id=hub)]
    picking = dock.picking((product, 2))

    posting = await dock.receive(picking, line(product, 2, lots=lots(A=2)))

    assert posting.status == "completed"
    assert dock.stock(product) == {"A": 2.0}
    assert [dock.one(LOT, lot)["product_qty"] for lot in foreign] == [0, 0]


@pytest.mark.parametrize("version", [19])
async def test_a_lot_of_all_companies_is_used(dock: Dock) -> None:
    """Newer versions have lots without a company."""
    product = dock.product("lot")
    shared = dock.lot(product, "A", company_id=False)
    picking = dock.picking((product, 2))

    posting = await dock.receive(picking, line(product, 2, lots=lots(A=2)))

    assert posting.status == "completed"
    assert [lot["id"] for lot in dock.records(LOT)] == [shared]


async def test_two_lots_of_a_name_need_a_person(dock: Dock) -> None:
    """Older data may hold what Odoo would refuse today."""
    product = dock.product("lot")
    for _ in range(2):
        values = {"name": "A", "product_id": product, "company_id": 1}
        dock.simulator.world.environment()[LOT].insert(values)
    picking = dock.picking((product, 2))

    posting = await dock.receive(picking, line(product, 2, lots=lots(A=2)))

    assert stopped(posting) == ("needs_attention", "several_lots")
    assert dock.calls() == {}


@pytest.mark.parametrize("names", ["A", "AB", "ABC"])
async def test_lots_that_somebody_else_makes_first_are_looked_for_again(
    dock: Dock, names: str
) -> None:
    """Odoo refuses the duplicate, all of the call; what is still missing is made then."""
    product = dock.product("lot")
    picking = dock.picking((product, 3))
    dock.simulator.world.configure({"durations": {CREATE: 0.2}})
    quantities = {name: 3 / len(names) for name in names}
    posting_id = await dock.post(picking, line(product, 3, lots=lots(**quantities)))

    posting = await dock.while_called(posting_id, CREATE, lambda: dock.lot(product, "A"))

    assert (posting.status, posting.code) == ("completed", None)
    assert dock.calls()[CREATE] == (1 if names == "A" else 2)
    assert dock.stock(product) == quantities


async def test_lots_without_an_expiry_get_it(dock: Dock) -> None:
    """However many dates there are; those that have it are left alone."""
    product = dock.product("lot")
    names = [f"L{number:02d}" for number in range(12)]
    for name in names:
        dock.lot(product, name)
    picking = dock.picking((product, 12))
    given = [
        {"name": name, "quantity": 1, "expiry": f"2099-{month:02d}-01"}
        for month, name in enumerate(names, start=1)
    ]

    posting = await dock.receive(picking, line(product, 12, lots=given))

    assert posting.status == "completed"
    expiries = {lot["name"]: lot["expiration_date"][:10] for lot in dock.records(LOT)}
    assert expiries == {lot["name"]: lot["expiry"] for lot in given}


async def test_an_expiry_that_differs_is_not_overwritten(dock: Dock) -> None:
    """One of the two is a mistake; goods that are in stock may carry the other date."""
    product = dock.product("lot")
    known = dock.lot(product, "A", expiration_date="2098-01-31 00:00:00")
    picking = dock.picking((product, 1))
    given = [{"name": "A", "quantity": 1, "expiry": EXPIRY}]

    posting = await dock.receive(picking, line(product, 1, lots=given))
    assert stopped(posting) == ("needs_attention", "lot_expiry_differs")
    assert WRITE not in dock.calls()

    dock.person(LOT, "write", [known], {"expiration_date": f"{EXPIRY} 00:00:00"})
    assert (await dock.resume(posting.id)).status == "completed"


async def test_a_lot_that_is_deleted_meanwhile_is_made_again(dock: Dock) -> None:
    """The step that misses it says so; the next run makes it."""
    product = dock.product("lot")
    picking = dock.picking((product, 1))
    dock.simulator.world.configure({"durations": {WRITE: 0.2}})
    posting_id = await dock.post(picking, line(product, 1, lots=lots(A=1)))

    def delete() -> None:
        dock.person(LOT, "unlink", [lot["id"] for lot in dock.records(LOT)])

    posting = await dock.while_called(posting_id, WRITE, delete)
    assert stopped(posting) == ("failed", "lot_deleted")

    assert (await dock.resume(posting_id)).status == "completed"
    assert dock.stock(product) == {"A": 1.0}


# -- lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("tracking", ["none", "lot"])
async def test_a_product_without_a_line_gets_one(dock: Dock, tracking: str) -> None:
    """It is not left out with a warning while the picking is validated."""
    product, other = dock.product(tracking), dock.product()
    picking = dock.picking((product, 5), (other, 1))
    [first, _] = dock.one(PICKING, picking)["move_ids"]
    dock.person(LINE, "unlink", dock.one(MOVE, first)["move_line_ids"])
    given = {"lots": lots(A=5)} if tracking == "lot" else {}

    posting = await dock.receive(picking, line(product, 5, **given), line(other, 1))

    assert posting.status == "completed"
    assert dock.stock(product) == ({"A": 5.0} if given else {False: 5.0})


async def test_lines_are_made_those_that_are_wanted(dock: Dock) -> None:
    """Whatever an earlier attempt or a person has left: too many, too much, of other lots."""
    product = dock.product("lot")
    picking = dock.picking((product, 100))
    [move] = dock.one(PICKING, picking)["move_ids"]
    for name, quantity in (("A", 60), ("A", 60), ("B", 100), ("X", 7)):
        found = dock.records(LOT, ["name", "=", name])
        known = found[0]["id"] if found else dock.lot(product, name)
        values = {"move_id": move, "lot_id": known, "quantity": quantity, "picked": True}
        dock.person(LINE, "create", values)
    dock.person(LINE, "create", {"move_id": move, "lot_name": "A", "quantity": 60})

    posting = await dock.receive(picking, line(product, 100, lots=lots(A=60, B=40)))

    assert posting.status == "completed"
    assert dock.calls() == {WRITE: 1, VALIDATE: 1}
    assert sorted(dock.lines(picking)) == [("A", 60.0, True), ("B", 40.0, True)]
    assert dock.stock(product) == {"A": 60.0, "B": 40.0}


async def test_lines_keep_the_place_that_odoo_chose(dock: Dock) -> None:
    """A rule has put the reserved line on a shelf; what comes for each lot goes there too."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    stock = dock.one(PICKING, picking)["location_dest_id"][0]
    shelf = dock.person(
        "stock.location", "create", {"name": "Shelf", "location_id": stock, "company_id": 1}
    )
    dock.person(
        LINE, "write", dock.one(PICKING, picking)["move_line_ids"], {"location_dest_id": shelf}
    )

    await dock.receive(picking, line(product, 10, lots=lots(A=6, B=4)))

    quants = dock.records("stock.quant", ["product_id", "=", product])
    assert {quant["location_id"][0] for quant in quants} == {shelf}


async def test_lines_that_change_while_they_are_read_are_no_answer(dock: Dock) -> None:
    """An answer that lacks lines would make them twice."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    posting_id = await dock.post(picking, line(product, 10, lots=lots(A=10)))
    dock.trouble("truncated", LINE, "search_read", rows=0)

    posting = await dock.run(posting_id)
    assert stopped(posting) == ("failed", "odoo_lock_conflict")
    assert WRITE not in dock.calls()

    assert (await dock.resume(posting_id)).status == "completed"
    assert dock.stock(product) == {"A": 10.0}


async def test_lines_that_a_person_changes_are_set_right_before_the_picking_is_done(
    dock: Dock,
) -> None:
    """The gate sees it; what was changed is not received."""
    product = dock.product()
    picking = dock.picking((product, 10))
    check = dock.check(picking)
    dock.simulator.world.configure({"durations": {f"{CHECK}.do_pass": 0.2}})
    posting_id = await dock.post(
        picking, line(product, 10), checks=[{"check_id": check, "result": "pass"}]
    )
    lines = dock.one(PICKING, picking)["move_line_ids"]

    posting = await dock.while_called(
        posting_id,
        f"{CHECK}.do_pass",
        lambda: dock.person(LINE, "write", lines, {"quantity": 12}),
    )
    assert stopped(posting) == ("failed", "lines_changed")
    assert VALIDATE not in dock.calls()

    assert (await dock.resume(posting_id)).status == "completed"
    assert dock.stock(product) == {False: 10.0}


# -- quality -----------------------------------------------------------------------------------


async def test_checks_and_results_belong_together(dock: Dock) -> None:
    """No check is left open, none is invented, none is decided against somebody's decision."""
    product = dock.product()
    checked, unchecked, decided = (dock.picking((product, 1)) for _ in range(3))
    check, failed = dock.check(checked), dock.check(decided)
    dock.person(CHECK, "do_fail", [failed])

    def result(check_id: int) -> list[dict[str, Any]]:
        return [{"check_id": check_id, "result": "pass"}]

    left_open = await dock.receive(checked, line(product, 1))
    invented = await dock.receive(unchecked, line(product, 1), checks=result(check))
    against = await dock.receive(decided, line(product, 1), checks=result(failed))

    assert stopped(left_open) == ("failed", "check_open")
    assert stopped(invented) == ("failed", "check_not_found")
    assert stopped(against) == ("needs_attention", "check_decided")
    assert dock.calls() == {}


async def test_results_without_quality_checks_in_the_database_are_told(dock: Dock) -> None:
    """Nobody would look at them."""
    await dock.reconfigure("quality_checks = false")
    product = dock.product()
    picking = dock.picking((product, 1))

    posting = await dock.receive(
        picking, line(product, 1), checks=[{"check_id": 1, "result": "pass"}]
    )

    assert stopped(posting) == ("failed", "check_not_found")


async def test_a_measure_that_somebody_else_decided_otherwise_needs_a_person(dock: Dock) -> None:
    """The measure in Odoo is another one, and the check is closed."""
    product = dock.product()
    picking = dock.picking((product, 1))
    check = dock.check(picking, test_type="measure", tolerance_min=1, tolerance_max=9, measure=3)
    dock.person(CHECK, "do_measure", [check])

    posting = await dock.receive(
        picking, line(product, 1), checks=[{"check_id": check, "measure": 4}]
    )

    assert stopped(posting) == ("needs_attention", "check_decided")
    assert dock.one(CHECK, check)["measure"] == 3


# -- validation --------------------------------------------------------------------------------


def _raise_demand(dock: Dock, picking: int) -> None:
    dock.person(MOVE, "write", dock.one(PICKING, picking)["move_ids"], {"product_uom_qty": 11})


def _let_expire(dock: Dock, picking: int) -> None:
    del picking
    known = [lot["id"] for lot in dock.records(LOT)]
    dock.person(LOT, "write", known, {"expiration_date": "2020-01-01 00:00:00"})


def _take_ticks(dock: Dock, picking: int) -> None:
    dock.person(LINE, "write", dock.one(PICKING, picking)["move_line_ids"], {"picked": False})


def _want_check(dock: Dock, picking: int) -> None:
    dock.check(picking)


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("meanwhile", "wizard", "code"),
    [
        pytest.param(
            _raise_demand, "stock.backorder.confirmation", "quantity_mismatch", id="backorder"
        ),
        pytest.param(_let_expire, "expiry.picking.confirmation", "wizard_returned", id="expiry"),
        pytest.param(_take_ticks, "stock.immediate.transfer", "lines_changed", id="immediate"),
        pytest.param(_want_check, "quality.check.wizard", "check_open", id="quality"),
    ],
)
async def test_a_wizard_is_told_and_never_answered(
    dock: Dock, meanwhile: Callable[[Dock, int], None], wizard: str, code: str
) -> None:
    """Odoo asks where a person would be: nothing is done, nothing is left for later.

    What has made it ask is told, where that can be seen; the wizard stands in the audit anyway.
    """
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    durations = {"durations": {VALIDATE: 0.2}, "immediate_transfer": True}
    dock.simulator.world.configure(durations)
    posting_id = await dock.post(picking, line(product, 10, lots=lots(A=10)))

    posting = await dock.while_called(posting_id, VALIDATE, lambda: meanwhile(dock, picking))

    assert stopped(posting) == ("failed", code)
    [fault] = [one for one in await dock.ledger.history(posting_id) if one.action == "fault"]
    assert (fault.code, wizard in fault.message) == ("wizard_returned", True)
    assert dock.state(picking) == "assigned"
    assert dock.calls()[VALIDATE] == 1
    assert dock.stock(product) == {}
    assert dock.one(PICKING, picking)["backorder_ids"] == []


async def test_a_wizard_that_nothing_explains_stops_with_its_name(dock: Dock) -> None:
    """The profile says that there are no checks, and Odoo asks for one."""
    await dock.reconfigure("quality_checks = false")
    product = dock.product()
    picking = dock.picking((product, 1))
    check = dock.check(picking)

    posting = await dock.receive(picking, line(product, 1))
    assert stopped(posting) == ("failed", "wizard_returned")
    assert "Quality Check" in (posting.message or "")
    assert "quality.check.wizard" in (posting.message or "")

    dock.person(CHECK, "do_pass", [check])
    assert (await dock.resume(posting.id)).status == "completed"


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("late_success", {"seconds": 0.2, "after": 0.6}),
        ("reply_lost", {}),
        ("gateway_502", {"seconds": 0.1, "after": 0.4}),
        ("gateway_504", {"seconds": 0.1, "after": 0.4}),
        ("fault_after_commit", {}),
        ("missing_result", {}),
        ("slow", {"seconds": 0.3}),
        ("lock_conflict", {}),
    ],
)
async def test_the_picking_is_validated_once_whatever_is_said_of_it(
    dock: Dock, kind: Kind, more: dict[str, Any]
) -> None:
    """The state decides, never the answer."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    dock.trouble(kind, PICKING, "button_validate", **more)

    posting = await dock.receive(picking, line(product, 10, lots=lots(A=6, B=4)))

    assert (posting.status, posting.code) == ("completed", None)
    assert dock.calls()[VALIDATE] == (2 if kind == "lock_conflict" else 1)
    assert dock.stock(product) == {"A": 6.0, "B": 4.0}


async def test_an_answer_without_an_effect_is_no_success(dock: Dock) -> None:
    """Odoo says nothing, or yes, and the picking is not done: a person looks."""

    async def say_yes(_: Caller, __: Call, ___: timedelta) -> None:
        """Answer like a validation, and do nothing."""

    await dock.reconfigure(times=timings(timeout=0.2, settle=0.4))
    steps = tuple(
        replace(step, act=say_yes) if step.name == "validate" else step
        for step in dock.definition.steps
    )
    dock.definition = replace(dock.definition, steps=steps)
    product = dock.product()
    picking = dock.picking((product, 1))

    posting = await dock.receive(picking, line(product, 1))

    assert stopped(posting) == ("needs_attention", "outcome_unknown")
    assert dock.state(picking) == "assigned"


async def test_a_call_that_may_come_late_is_not_repeated(dock: Dock) -> None:
    """A proxy gives up for good; whoever resumes has looked, and then it is called again."""
    await dock.reconfigure(times=timings(timeout=0.2, settle=0.4))
    product = dock.product()
    picking = dock.picking((product, 1))
    dock.trouble("gateway_504", PICKING, "button_validate", applied=False)

    posting = await dock.receive(picking, line(product, 1))
    assert stopped(posting) == ("needs_attention", "outcome_unknown")
    assert dock.calls()[VALIDATE] == 1

    assert (await dock.resume(posting.id)).status == "completed"
    assert dock.stock(product) == {False: 1.0}


@pytest.mark.parametrize(
    ("quantity", "end"),
    [(10, ("completed", None)), (9, ("needs_attention", "received_differs"))],
)
async def test_a_person_who_validates_first_is_not_overruled(
    dock: Dock, quantity: float, end: tuple[str, str | None]
) -> None:
    """Odoo refuses the second validation; what is in stock decides how the posting ends."""
    product = dock.product()
    picking = dock.picking((product, 10))
    dock.simulator.world.configure({"durations": {VALIDATE: 0.2}})
    posting_id = await dock.post(picking, line(product, 10))

    def validate() -> None:
        moves = dock.one(PICKING, picking)["move_ids"]
        dock.person(MOVE, "write", moves, {"quantity": quantity, "product_uom_qty": quantity})
        dock.person(PICKING, "button_validate", [picking])

    posting = await dock.while_called(posting_id, VALIDATE, validate)

    assert (posting.status, posting.code) == end
    assert dock.stock(product) == {False: quantity}


@pytest.mark.parametrize(
    ("model", "method"),
    [(LOT, "create"), (PICKING, "write"), (PICKING, "button_validate")],
)
async def test_missing_rights_in_the_middle_are_told(dock: Dock, model: str, method: str) -> None:
    """Once the user may, the receipt goes on where it was."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    dock.trouble("access_error", model, method)

    posting = await dock.receive(picking, line(product, 10, lots=lots(A=10)))
    assert stopped(posting) == ("failed", "odoo_access_denied")

    assert (await dock.resume(posting.id)).status == "completed"
    assert dock.stock(product) == {"A": 10.0}


async def test_two_workers_receive_once(dock: Dock) -> None:
    """A job that is delivered twice finds the posting taken."""
    product = dock.product()
    picking = dock.picking((product, 10))
    dock.simulator.world.configure({"durations": {VALIDATE: 0.2}})
    posting_id = await dock.post(picking, line(product, 10))

    posting = await dock.while_called(posting_id, WRITE, lambda: None)
    again = await dock.run(posting_id)

    assert (posting.status, again.status) == ("completed", "completed")
    assert dock.calls() == {WRITE: 1, VALIDATE: 1}


# -- taking back -------------------------------------------------------------------------------


async def test_a_receipt_that_is_not_done_is_rolled_back(dock: Dock) -> None:
    """Lots and lines are nothing in stock: they may stay, and the receipt may begin anew."""
    product = dock.product("lot")
    picking = dock.picking((product, 10))
    dock.trouble("user_error", PICKING, "button_validate")
    posting = await dock.receive(picking, line(product, 10, lots=lots(A=10)))
    assert stopped(posting) == ("failed", "odoo_user_fault")

    await dock.ledger.compensate(posting.id, ACTOR)
    assert (await dock.run(posting.id)).status == "rolled_back"

    assert (await dock.resume(posting.id)).status == "completed"
    assert dock.stock(product) == {"A": 10.0}


async def test_goods_in_stock_are_not_taken_back(dock: Dock) -> None:
    """They were changed while they were validated; only a return takes them out."""
    product = dock.product()
    picking = dock.picking((product, 10))
    dock.simulator.world.configure({"durations": {VALIDATE: 0.2}})
    posting_id = await dock.post(picking, line(product, 10))
    lines = dock.one(PICKING, picking)["move_line_ids"]
    posting = await dock.while_called(
        posting_id, VALIDATE, lambda: dock.person(LINE, "write", lines, {"quantity": 12})
    )
    assert stopped(posting) == ("needs_attention", "received_differs")

    await dock.ledger.compensate(posting_id, ACTOR)
    undone = await dock.run(posting_id)

    assert stopped(undone) == ("needs_attention", "picking_done")
    assert dock.stock(product) == {False: 12.0}


@pytest.mark.parametrize(("version", "told"), [(17, 19), (19, 17)])
async def test_versions_with_the_same_words_are_one(dock: Dock, told: int) -> None:
    """Lines of 17 and later are alike, so that an upgrade of Odoo breaks nothing."""
    await dock.reconfigure(told=told)
    product = dock.product()
    picking = dock.picking((product, 1))

    assert (await dock.receive(picking, line(product, 1))).status == "completed"


async def test_a_version_that_is_not_the_true_one_is_told_before_anything_is_changed(
    dock: Dock,
) -> None:
    """Its field is not there: the first look at a line says so."""
    await dock.reconfigure(told=16)
    product = dock.product()
    picking = dock.picking((product, 1))

    posting = await dock.receive(picking, line(product, 1))

    assert stopped(posting) == ("failed", "odoo_invalid_field")
    assert dock.calls() == {}
