"""Goods on their way into a simulated Odoo: products, receipts, lots, and what is in stock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.simulator.world import World

PICKING, LINE, LOT = "stock.picking", "stock.move.line", "stock.lot"
VENDOR = 101


def product(world: World, tracking: str = "none", **values: Any) -> int:
    """Return a new product that is received."""
    kind = {"type": "product"} if world.version == 17 else {"is_storable": True}
    made: int = world.execute(
        "product.product", "create", {"name": "Palm hearts", "tracking": tracking, **kind, **values}
    )
    return made


def receipt(world: World, *goods: tuple[int, float], company: str = "plant") -> int:
    """Order goods, confirm the order, and return its receipt."""
    place = world.seed.companies[company]
    lines = [
        [0, 0, {"product_id": product_id, "product_qty": quantity, "price_unit": 2.0}]
        for product_id, quantity in goods
    ]
    order = world.execute(
        "purchase.order",
        "create",
        {
            "partner_id": VENDOR,
            "company_id": place.id,
            "picking_type_id": place.default_picking_type_id,
            "order_line": lines,
        },
    )
    world.execute("purchase.order", "button_confirm", [order])
    [picking] = world.records("purchase.order", [["id", "=", order]])[0]["picking_ids"]
    return int(picking)


def lot(world: World, product_id: int, name: str, **values: Any) -> int:
    """Return a new lot."""
    made: int = world.execute(
        LOT, "create", {"name": name, "product_id": product_id, "company_id": 1, **values}
    )
    return made


def lines_of(world: World, picking: int) -> list[dict[str, Any]]:
    """Return the lines of a picking as a client reads them."""
    return world.records(LINE, [["picking_id", "=", picking]])


def stock(world: World, product_id: int) -> dict[Any, float]:
    """Return how much of a product is in stock, by lot."""
    quants = world.records("stock.quant", [["product_id", "=", product_id]])
    return {quant["lot_id"] and quant["lot_id"][1]: quant["quantity"] for quant in quants}
