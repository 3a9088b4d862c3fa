"""Receipts: made by orders, filled by lines and lots, validated once or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from service.simulator.faults import Fault
from service.simulator.world import World
from tests.factories.goods import LINE, LOT, PICKING, VENDOR, lines_of, lot, product, receipt, stock
from tests.unit.simulator.helpers import Client, OdooFault, one, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.simulator.app import Simulator


def fill(world: World, picking: int, *lots: tuple[int | None, float]) -> None:
    """Put lots and quantities on the only move of a picking, in place of its lines."""
    [move] = one(world, PICKING, picking)["move_ids"]
    gone = [[2, line["id"]] for line in lines_of(world, picking)]
    made = [
        [0, 0, {"move_id": move, "lot_id": lot_id, "quantity": quantity, "picked": True}]
        for lot_id, quantity in lots
    ]
    world.execute(PICKING, "write", [picking], {"move_line_ids": [*gone, *made]})


def validate(world: World, picking: int, **context: Any) -> Any:
    """Press the button."""
    return world.execute(PICKING, "button_validate", [picking], context=context)


@pytest.mark.parametrize(
    ("tracking", "quantities"),
    [("none", [5.0]), ("lot", [5.0]), ("serial", [1.0] * 5)],
)
def test_an_order_makes_a_receipt_that_is_reserved(
    world: World, tracking: str, quantities: Sequence[float]
) -> None:
    """One line holds the whole demand, without a lot; serial numbers get a line each."""
    picking = receipt(world, (product(world, tracking), 5))

    head, lines = one(world, PICKING, picking), lines_of(world, picking)

    assert (head["state"], head["picking_type_code"]) == ("assigned", "incoming")
    assert head["company_id"][0] == world.seed.home.id
    assert [line["quantity"] for line in lines] == quantities
    assert {(line["lot_id"], line["picked"], line["state"]) for line in lines} == {
        (False, False, "assigned")
    }


def test_a_service_is_not_received(world: World) -> None:
    """An order of services has no receipt."""
    order = world.execute(
        "purchase.order",
        "create",
        {
            "partner_id": VENDOR,
            "order_line": [[0, 0, {"product_id": world.seed.product_id, "price_unit": 1.0}]],
        },
    )
    world.execute("purchase.order", "button_confirm", [order])

    assert one(world, "purchase.order", order)["picking_ids"] == []


def test_the_recorded_receipt(world: World) -> None:
    """What real servers were asked: quantity and tick on the move, validate, read the state."""
    goods = product(world)
    picking = receipt(world, (goods, 5))
    [move] = one(world, PICKING, picking)["move_ids"]

    written = world.execute("stock.move", "write", [move], {"quantity": 5, "picked": True})
    validated = validate(world, picking)

    assert (written, validated) == (True, True)
    head = one(world, PICKING, picking)
    assert (head["state"], bool(head["date_done"])) == ("done", True)
    assert stock(world, goods) == {False: 5.0}
    [bought] = world.records("purchase.order.line", [["product_id", "=", goods]])
    assert bought["qty_received"] == 5.0


def test_each_lot_comes_with_its_quantity(world: World) -> None:
    """Stock has the lots of the lines, and the moves are done."""
    goods = product(world, "lot")
    picking = receipt(world, (goods, 10))
    fill(world, picking, (lot(world, goods, "A"), 6), (lot(world, goods, "B"), 4))

    assert validate(world, picking) is True

    assert stock(world, goods) == {"A": 6.0, "B": 4.0}
    assert {line["state"] for line in lines_of(world, picking)} == {"done"}


def test_validating_twice_is_refused(world: World) -> None:
    """The button is not idempotent, and the second press moves nothing."""
    goods = product(world)
    picking = receipt(world, (goods, 3))
    validate(world, picking)

    with pytest.raises(errors.UserError):
        validate(world, picking)

    assert stock(world, goods) == {False: 3.0}


async def test_validating_takes_its_time_and_goes_on_without_the_client(
    simulator: Simulator, client: Client
) -> None:
    """A validation that nobody waits for is done all the same, and the reply may be lost."""
    world = simulator.world
    goods = product(world)
    picking = receipt(world, (goods, 3))
    world.configure({"durations": {"stock.picking.button_validate": 0.05}})
    simulator.add_fault(Fault(kind="reply_lost", model=PICKING, method="button_validate"))

    with pytest.raises(Exception, match=r"disconnected|closed|reset"):
        await client(PICKING, "button_validate", [picking])
    await world.settled()

    assert one(world, PICKING, picking)["state"] == "done"


async def test_of_two_validations_at_once_one_is_refused(
    simulator: Simulator, client: Client
) -> None:
    """Both find the picking ready; the goods come once."""
    world = simulator.world
    goods = product(world)
    picking = receipt(world, (goods, 3))
    world.configure({"durations": {"stock.picking.button_validate": 0.05}})

    calls = [client(PICKING, "button_validate", [picking]) for _ in range(2)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    await until(lambda: world.in_flight == 0)

    assert [answer for answer in answers if answer is True] == [True]
    assert sum(isinstance(answer, OdooFault) for answer in answers) == 1
    assert stock(world, goods) == {False: 3.0}


def test_lines_that_were_not_picked_stay_behind(world: World) -> None:
    """Once a line is picked, only picked lines count; the rest asks for a backorder."""
    goods = product(world, "lot")
    picking = receipt(world, (goods, 10))
    fill(world, picking, (lot(world, goods, "A"), 6), (lot(world, goods, "B"), 4))
    second = lines_of(world, picking)[1]["id"]
    world.execute(LINE, "write", [second], {"picked": False})

    assert validate(world, picking)["res_model"] == "stock.backorder.confirmation"


def test_less_than_ordered_asks_for_a_backorder(world: World) -> None:
    """The question changes nothing; answered, the rest is a picking of its own, or is cancelled."""
    goods = product(world)
    first, second = receipt(world, (goods, 10)), receipt(world, (goods, 10))
    for picking in (first, second):
        fill(world, picking, (None, 6))

    asked = validate(world, first)
    assert (asked["type"], asked["res_model"]) == (
        "ir.actions.act_window",
        "stock.backorder.confirmation",
    )
    assert one(world, PICKING, first)["state"] == "assigned"

    validate(world, first, skip_backorder=True)
    validate(world, second, skip_backorder=True, picking_ids_not_to_backorder=[second])

    [later] = one(world, PICKING, first)["backorder_ids"]
    [rest] = world.records("stock.move", [["picking_id", "=", later]])
    assert (rest["product_uom_qty"], rest["state"]) == (4.0, "assigned")
    assert one(world, PICKING, second)["backorder_ids"] == []
    moves = world.records("stock.move", [["picking_id", "=", second]])
    assert {(move["product_uom_qty"], move["state"]) for move in moves} == {
        (6.0, "done"),
        (4.0, "cancel"),
    }
    assert stock(world, goods) == {False: 12.0}


def test_expired_goods_ask_first(world: World) -> None:
    """A lot beyond its date needs somebody's word."""
    goods = product(world, "lot")
    picking = receipt(world, (goods, 1))
    fill(world, picking, (lot(world, goods, "OLD", expiration_date="2020-01-01 00:00:00"), 1))

    assert validate(world, picking)["res_model"] == "expiry.picking.confirmation"
    assert validate(world, picking, skip_expired=True) is True


def test_an_immediate_transfer_asks_where_that_is_set(world: World) -> None:
    """Nothing was picked: older servers ask whether all is there."""
    world.configure({"immediate_transfer": True})
    picking = receipt(world, (product(world), 1))

    assert validate(world, picking)["res_model"] == "stock.immediate.transfer"


def test_tracked_goods_without_a_lot_are_refused(world: World) -> None:
    """A product by lot cannot come without one."""
    picking = receipt(world, (product(world, "lot"), 5))

    with pytest.raises(errors.UserError, match="Lot/Serial"):
        validate(world, picking)


def test_a_serial_number_is_one_piece(world: World) -> None:
    """Two pieces of one serial number are refused."""
    goods = product(world, "serial")
    picking = receipt(world, (goods, 2))
    fill(world, picking, (lot(world, goods, "S1"), 2))

    with pytest.raises(errors.UserError, match="unique serial"):
        validate(world, picking)


def test_a_named_lot_is_made_or_found_when_the_picking_is_done(world: World) -> None:
    """A line may name its lot; one of that name and product is used."""
    goods = product(world, "lot")
    known = lot(world, goods, "K")
    picking = receipt(world, (goods, 5))
    fill(world, picking, (None, 2), (None, 3))
    for line, name in zip(lines_of(world, picking), ("K", "NEW"), strict=True):
        world.execute(LINE, "write", [line["id"]], {"lot_name": name})

    validate(world, picking)

    assert stock(world, goods) == {"K": 2.0, "NEW": 3.0}
    assert [found["id"] for found in world.records(LOT, [["name", "=", "K"]])] == [known]


@pytest.mark.parametrize("name", ["A", "a_b", "50%"])
def test_a_lot_is_unique_by_name_product_and_company(world: World, name: str) -> None:
    """The same name is refused for the same product and company, and nowhere else."""
    goods, other = product(world, "lot"), product(world, "lot")
    lot(world, goods, name)

    with pytest.raises(errors.ValidationError, match="unique across a company"):
        lot(world, goods, name)

    made = {
        lot(world, other, name),
        lot(world, goods, name, company_id=3),
        lot(world, goods, name.swapcase() + "x"),
    }
    assert len(made) == 3


def test_a_lot_of_all_companies_takes_the_name_from_each() -> None:
    """Version 19 knows lots without a company; 17 asks for one."""
    new, old = World(version=19), World(version=17)
    goods = product(new, "lot")
    lot(new, goods, "A", company_id=False)

    with pytest.raises(errors.ValidationError, match="unique"):
        lot(new, goods, "A")
    with pytest.raises(errors.ValidationError, match="mandatory"):
        lot(old, product(old, "lot"), "A", company_id=False)


def test_a_product_may_say_how_long_it_keeps(world: World) -> None:
    """A lot made without a date gets one, unless the product has none to give."""
    dated = product(world, "lot", use_expiration_date=True, expiration_time=30)

    expires = one(world, LOT, lot(world, dated, "A"))["expiration_date"]
    given = one(world, LOT, lot(world, dated, "B", expiration_date="2027-05-01 00:00:00"))

    assert expires > one(world, LOT, 1)["create_date"]
    assert given["expiration_date"] == "2027-05-01 00:00:00"
    assert one(world, LOT, lot(world, product(world), "A"))["expiration_date"] is False


def test_a_line_takes_no_lot_of_another_product_or_company(world: World) -> None:
    """Wrong lots and negative quantities are refused where they are written."""
    goods, other = product(world, "lot"), product(world, "lot")
    picking = receipt(world, (goods, 5))
    [line] = [found["id"] for found in lines_of(world, picking)]

    with pytest.raises(errors.ValidationError, match="incompatible with this product"):
        world.execute(LINE, "write", [line], {"lot_id": lot(world, other, "A")})
    with pytest.raises(errors.UserError, match="another company"):
        world.execute(LINE, "write", [line], {"lot_id": lot(world, goods, "A", company_id=3)})
    with pytest.raises(errors.ValidationError, match="negative"):
        world.execute(LINE, "write", [line], {"quantity": -1})


def test_a_deleted_line_is_not_deleted_twice(world: World) -> None:
    """A write that replaces a line is refused as a whole when it comes a second time."""
    goods = product(world, "lot")
    picking = receipt(world, (goods, 5))
    [line] = lines_of(world, picking)
    made = {"move_id": line["move_id"][0], "lot_id": lot(world, goods, "A"), "quantity": 5}
    values = {"move_line_ids": [[2, line["id"]], [0, 0, made]]}
    world.execute(PICKING, "write", [picking], values)

    with pytest.raises(errors.MissingError):
        world.execute(PICKING, "write", [picking], values)

    assert [found["quantity"] for found in lines_of(world, picking)] == [5.0]


def test_what_was_moved_is_not_deleted_and_what_is_added_moves_at_once(world: World) -> None:
    """A line written after the validation is goods that nobody has seen."""
    goods = product(world)
    picking = receipt(world, (goods, 5))
    validate(world, picking)
    [line] = lines_of(world, picking)

    with pytest.raises(errors.UserError, match="can not delete"):
        world.execute(LINE, "unlink", [line["id"]])
    world.execute(LINE, "create", {"move_id": line["move_id"][0], "quantity": 2})

    assert stock(world, goods) == {False: 7.0}


def test_a_cancelled_order_expects_nothing_and_a_received_one_stays(world: World) -> None:
    """Receipts are cancelled with their order, unless the goods have come."""
    goods = product(world)
    waiting, come = receipt(world, (goods, 5)), receipt(world, (goods, 5))
    validate(world, come)
    orders = [one(world, PICKING, picking)["purchase_id"][0] for picking in (waiting, come)]

    world.execute("purchase.order", "button_cancel", [orders[0]])
    with pytest.raises(errors.UserError, match="receipts have already been done"):
        world.execute("purchase.order", "button_cancel", [orders[1]])

    states = [one(world, PICKING, picking)["state"] for picking in (waiting, come)]
    assert states == ["cancel", "done"]
    with pytest.raises(errors.UserError, match="items to move"):
        validate(world, waiting)


def test_a_picking_without_lines_is_filled_by_reserving_again(world: World) -> None:
    """Deleted lines leave the picking waiting; reserving makes them anew."""
    picking = receipt(world, (product(world), 5))
    world.execute(LINE, "unlink", [line["id"] for line in lines_of(world, picking)])
    assert one(world, PICKING, picking)["state"] == "confirmed"
    with pytest.raises(errors.UserError, match="no quantities"):
        validate(world, picking)

    world.execute(PICKING, "action_assign", [picking])

    assert one(world, PICKING, picking)["state"] == "assigned"
    assert [line["quantity"] for line in lines_of(world, picking)] == [5.0]


def test_who_may_not_see_stock_is_refused(world: World) -> None:
    """Stock belongs to those who work with it."""
    with pytest.raises(errors.AccessError, match="Inventory"):
        world.execute(PICKING, "search_read", [], user_id=world.seed.observer_id)
