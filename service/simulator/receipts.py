"""Goods on order: products that are new, and the picking that expects them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from service.simulator import bodies, invoke
from service.simulator.orm import NEW_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.simulator.orm import Environment


PRICE = 2.0


@dataclass(frozen=True, kw_only=True)
class Goods:
    """How much is ordered of a product of its own, and how its pieces are told apart."""

    quantity: Decimal = Decimal(100)
    tracking: Literal["none", "lot", "serial"] = "none"

    def __post_init__(self) -> None:
        if self.quantity <= 0:
            raise ValueError("quantity is more than 0")
        if self.tracking not in {"none", "lot", "serial"}:
            raise ValueError("tracking is none, lot or serial")


@dataclass(frozen=True, kw_only=True)
class ReceiptOptions:
    """An order of goods from the first carrier's, by its company's code in the seed."""

    company: str = "plant"
    goods: tuple[Goods, ...] = (Goods(),)


@dataclass(frozen=True, kw_only=True)
class SeededMove:
    """What a picking expects of one product."""

    move_id: int
    product_id: int
    quantity: str
    tracking: str


@dataclass(frozen=True, kw_only=True)
class SeededReceipt:
    """A confirmed order and its picking, which is ready."""

    order_id: int
    picking_id: int
    name: str
    company_id: int
    moves: tuple[SeededMove, ...]

    def describe(self) -> dict[str, Any]:
        """Return the receipt as JSON."""
        return asdict(self)


def from_json(values: Mapping[str, Any]) -> ReceiptOptions:
    """Read receipt options from a JSON object; unknown names are refused."""
    bodies.check_names(values, ReceiptOptions)
    listed = values.get("goods", [{}])
    for one in listed:
        bodies.check_names(one, Goods)
    goods = tuple(
        Goods(**{**one, "quantity": Decimal(str(one.get("quantity", 100)))}) for one in listed
    )
    return ReceiptOptions(**{**values, "goods": goods})


def order(env: Environment, wanted: ReceiptOptions) -> SeededReceipt:
    """Order goods and confirm the order."""
    company = env.seed.companies[wanted.company]
    products = [_product(env, goods, place) for place, goods in enumerate(wanted.goods, start=1)]
    lines = [
        {"product_id": product_id, "product_qty": float(goods.quantity), "price_unit": PRICE}
        for product_id, goods in zip(products, wanted.goods, strict=True)
    ]
    order_id = _call(
        env,
        "purchase.order",
        "create",
        {
            "partner_id": env.seed.carriers[0].partner_id,
            "company_id": company.id,
            "picking_type_id": company.default_picking_type_id,
            "order_line": [[0, 0, line] for line in lines],
        },
    )
    _call(env, "purchase.order", "button_confirm", [order_id])
    [picking] = env["purchase.order"].record(order_id).many("picking_ids")
    move_of = {move["product_id"]: move.id for move in picking.many("move_ids")}
    return SeededReceipt(
        order_id=order_id,
        picking_id=picking.id,
        name=picking["name"],
        company_id=company.id,
        moves=tuple(
            SeededMove(
                move_id=move_of[product_id],
                product_id=product_id,
                quantity=str(goods.quantity),
                tracking=goods.tracking,
            )
            for product_id, goods in zip(products, wanted.goods, strict=True)
        ),
    )


def _product(env: Environment, goods: Goods, place: int) -> int:
    kind = {"is_storable": True} if env.version >= NEW_VERSION else {"type": "product"}
    name = f"Goods {env['product.product'].table.next_id}/{place}"
    values = {"name": name, "tracking": goods.tracking, **kind}
    product_id: int = _call(env, "product.product", "create", values)
    return product_id


def _call(env: Environment, model: str, method: str, *args: Any) -> Any:
    return invoke.invoke(env, model, method, args, {})
