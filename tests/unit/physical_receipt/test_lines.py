"""The difference between the lines that are there and those that are wanted."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from service.odoo.records import Record
from service.postings.physical_receipt.lines import Wanted, differences
from service.postings.physical_receipt.profile import ReceiptProfile

MOVE = Record(
    "stock.move",
    {
        "id": 1,
        "product_id": [7, "Palm hearts"],
        "product_uom": [1, "Units"],
        "location_id": [4, "Vendors"],
        "location_dest_id": [18, "Stock"],
    },
)
PLACE = {"location_id": [4, "Vendors"], "location_dest_id": [19, "Shelf"]}
AT = {"location_id": 4, "location_dest_id": 19}


def profile(version: int = 17) -> ReceiptProfile:
    """The rules of a deployment."""
    companies = [{"company_id": 1, "picking_type_ids": [11]}]
    return ReceiptProfile.model_validate({"odoo_version": version, "companies": companies})


def present(line_id: int, lot_id: int | None, quantity: str, **more: Any) -> Record:
    """A line as Odoo 17 shows it."""
    values = {
        "id": line_id,
        "move_id": [1, "Palm hearts"],
        "product_uom_id": [1, "Units"],
        "lot_id": [lot_id, "A"] if lot_id else False,
        "lot_name": False,
        "quantity": Decimal(quantity),
        "picked": True,
        **PLACE,
        **more,
    }
    return Record("stock.move.line", values)


def wanted(lot_id: int | None, quantity: str) -> Wanted:
    """A line as it should be."""
    lot = Record("stock.lot", {"id": lot_id, "name": "A"}) if lot_id else None
    return Wanted(move=MOVE, lot=lot, quantity=Decimal(quantity))


def made(lot_id: int | None, quantity: str, **place: int) -> dict[str, Any]:
    """What is written of a new line."""
    return {
        "move_id": 1,
        "product_id": 7,
        "lot_id": lot_id or False,
        **(place or AT),
        "product_uom_id": 1,
        "quantity": Decimal(quantity),
        "picked": True,
    }


def changed(quantity: str) -> dict[str, Any]:
    """What is written of a line that is there."""
    return {"product_uom_id": 1, "quantity": Decimal(quantity), "picked": True}


@pytest.mark.parametrize(
    ("there", "want", "commands"),
    [
        pytest.param([present(5, 3, "60")], [wanted(3, "60")], [], id="as wanted"),
        pytest.param(
            [present(5, 3, "60.0000000001")], [wanted(3, "60")], [], id="as wanted, but for dust"
        ),
        pytest.param(
            [present(5, 3, "50")], [wanted(3, "60")], [[1, 5, changed("60")]], id="another quantity"
        ),
        pytest.param(
            [present(5, None, "60", picked=False)],
            [wanted(None, "60")],
            [[1, 5, changed("60")]],
            id="only reserved",
        ),
        pytest.param(
            [present(5, None, "5", product_uom_id=[2, "Dozens"])],
            [wanted(None, "5")],
            [[1, 5, changed("5")]],
            id="another unit",
        ),
        pytest.param(
            [present(5, None, "100", picked=False)],
            [wanted(3, "60"), wanted(4, "40")],
            [[2, 5], [0, 0, made(3, "60")], [0, 0, made(4, "40")]],
            id="reserved without a lot",
        ),
        pytest.param(
            [present(5, 3, "60"), present(6, 3, "60"), present(7, 9, "1")],
            [wanted(3, "60")],
            [[2, 6], [2, 7]],
            id="too many",
        ),
        pytest.param(
            [],
            [wanted(3, "60")],
            [[0, 0, made(3, "60", location_id=4, location_dest_id=18)]],
            id="none",
        ),
        pytest.param(
            [present(5, None, "1", move_id=False)],
            [wanted(None, "1")],
            [[2, 5], [0, 0, made(None, "1", location_id=4, location_dest_id=18)]],
            id="of no move",
        ),
    ],
)
def test_only_what_differs_is_written(
    there: list[Record], want: list[Wanted], commands: list[Any]
) -> None:
    """Lines that are as wanted stay; a reserved line is never added to, it is replaced."""
    assert differences(profile(), there, want) == commands


def test_before_17_a_line_holds_what_is_done_beside_what_is_reserved() -> None:
    """The field has another name, and there is no tick."""
    lines = [
        present(5, 3, "60", qty_done=Decimal(60)),
        present(6, 4, "40", qty_done=Decimal(0)),
    ]

    commands = differences(profile(16), lines, [wanted(3, "60"), wanted(4, "40")])

    assert commands == [[1, 6, {"product_uom_id": 1, "qty_done": Decimal(40)}]]
