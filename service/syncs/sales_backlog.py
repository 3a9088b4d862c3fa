"""The sync `sales_backlog`: lines of sales orders with all that delivers them.

A row is a line, by its id; `sales_backlog_product` adds up the lines of an order with the same
product. What is still to be delivered is Odoo's own balance, from which canceled quantities are
taken already: they are never subtracted again. A change of the order, its partners, the carrier or
the product reaches all rows that show it. `sales_backlog_movement` tells what each change did to
the balance.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from service.odoo.prefetch import Relation
from service.sync.definition import Column, Definition
from service.sync.ready import ReadySync
from service.syncs.rules import city_of, since, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.odoo.prefetch import Node
    from service.odoo.records import Domain

NAME = "sales_backlog"
TITLE = "Backlog of sales orders"
MODEL = "sale.order.line"
UOM_RENAMED = 19
REDISPATCH = "RED"
"""The delivery term whose goods go to the carrier, who takes them on."""

CATEGORY_LEVELS = 3
STATES = ("draft", "sent", "sale", "cancel")
ORDER_TYPES = (
    "venda",
    "bonificacao",
    "industrializacao",
    "exportacao",
    "venda-industrializacao",
)


class Options(BaseModel):
    """`[syncs.sales_backlog]` of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_types: tuple[str, ...] = Field(default=ORDER_TYPES, min_length=1)
    order_prefixes: tuple[str, ...] = Field(
        default=(), description="beginnings of the numbers of orders; none: all orders"
    )
    since: date | None = Field(default=None, description="orders made before are left out")
    lookback_minutes: float = Field(default=15, gt=0)


# -- rules ---------------------------------------------------------------------------------------


def domain(options: Options) -> Domain:
    """Lines of the orders that are wanted; the beginnings of numbers are alternatives."""
    prefixes = [["order_id.name", "=like", f"{prefix}%"] for prefix in options.order_prefixes]
    return [
        ["order_id.state", "in", list(STATES)],
        ["order_id.l10n_br_tipo_pedido", "in", list(options.order_types)],
        *since("order_id.create_date", options.since),
        *["|"] * (len(prefixes) - 1),
        *prefixes,
    ]


def balance(saldo: Decimal, state: str | None) -> Decimal:
    """What is still to be delivered; nothing of a canceled order."""
    return Decimal(0) if state == "cancel" else saldo


def delivery_partner(order: Node) -> Node | None:
    """Where the goods go: to the carrier when they are redispatched, else to the address."""
    incoterm, carrier = order.one("incoterm"), order.one("carrier_id")
    if incoterm is not None and incoterm.record.text("code") == REDISPATCH and carrier is not None:
        return carrier.one("l10n_br_partner_id") or order.one("partner_shipping_id")
    return order.one("partner_shipping_id")


def category_chain(product: Node | None) -> Sequence[str]:
    """The names of the product's category and those above it, the uppermost first."""
    names: list[str] = []
    category = product.one("categ_id") if product else None
    while category is not None and len(names) < CATEGORY_LEVELS:
        names.append(category.record.text("name") or "")
        category = category.one("parent_id") if len(names) < CATEGORY_LEVELS else None
    return names[::-1]


def tags(order: Node | None) -> Sequence[str]:
    """The names of an order's tags, sorted."""
    found = order.many("tag_ids") if order else ()
    return sorted(tag.record.text("name") or "" for tag in found)


def _balance(line: Node) -> Decimal:
    return balance(line.record.number("qty_saldo"), line.record.text("state"))


def _categories(line: Node) -> list[str]:
    return list(category_chain(line.one("product_id")))


def _tags(line: Node) -> list[str]:
    return list(tags(line.one("order_id")))


def _delivery(field: str) -> Callable[[Node], str | None]:
    def read(line: Node) -> str | None:
        order = line.one("order_id")
        partner = delivery_partner(order) if order else None
        return partner.record.text(field) if partner else None

    return read


def _delivery_place(part: Callable[[str | None], str | None]) -> Callable[[Node], str | None]:
    def read(line: Node) -> str | None:
        order = line.one("order_id")
        partner = delivery_partner(order) if order else None
        return part(partner.record.ref_name("l10n_br_municipio_id")) if partner else None

    return read


# -- what is read --------------------------------------------------------------------------------

_ADDRESS = (
    "name",
    "l10n_br_cnpj",
    "l10n_br_razao_social",
    "l10n_br_municipio_id",
    "state_id",
    "zip",
    "street",
    "l10n_br_endereco_numero",
    "l10n_br_endereco_bairro",
    "phone",
    "agendamento",
    "x_studio_desconto_contratual",
    "x_studio_desconto",
)


def columns(major: int) -> tuple[Column, ...]:
    """The columns of the mirror."""
    uom = "product_uom_id" if major >= UOM_RENAMED else "product_uom"
    return (
        Column(name="order_id", field="order_id", kind="ref"),
        Column(name="order_name", field="order_id.name", kind="text"),
        Column(name="order_type", field="order_id.l10n_br_tipo_pedido", kind="text"),
        Column(name="customer_order", field="order_id.l10n_br_pedido_compra", kind="text"),
        Column(name="state", field="state", kind="text"),
        Column(name="order_created_at", field="order_id.create_date", kind="moment"),
        Column(name="ordered_at", field="order_id.date_order", kind="moment"),
        Column(name="delivery_at", field="order_id.commitment_date", kind="moment"),
        Column(name="seller", field="order_id.user_id", kind="ref_name"),
        Column(name="team", field="order_id.team_id", kind="ref_name"),
        Column(name="payment_term", field="order_id.payment_term_id", kind="ref_name"),
        Column(name="payment_provider", field="order_id.payment_provider_id", kind="ref_name"),
        Column(name="incoterm", field="order_id.incoterm.code", kind="text"),
        Column(name="carrier", field="order_id.carrier_id.name", kind="text"),
        Column(name="delivery_note", field="order_id.picking_note", kind="text"),
        Column(name="tags", rule=_tags, kind="texts"),
        Column(name="customer_id", field="order_id.partner_id", kind="ref"),
        Column(name="customer_name", field="order_id.partner_id.name", kind="text"),
        Column(
            name="customer_legal", field="order_id.partner_id.l10n_br_razao_social", kind="text"
        ),
        Column(name="customer_cnpj", field="order_id.partner_id.l10n_br_cnpj", kind="text"),
        Column(name="by_appointment", field="order_id.partner_id.agendamento", kind="text"),
        Column(
            name="contract_discount",
            field="order_id.partner_id.x_studio_desconto_contratual",
            kind="flag",
        ),
        Column(name="discount_rate", field="order_id.partner_id.x_studio_desconto", kind="number"),
        Column(name="delivery_name", rule=_delivery("name"), kind="text"),
        Column(name="delivery_cnpj", rule=_delivery("l10n_br_cnpj"), kind="text"),
        Column(name="delivery_street", rule=_delivery("street"), kind="text"),
        Column(name="delivery_number", rule=_delivery("l10n_br_endereco_numero"), kind="text"),
        Column(name="delivery_district", rule=_delivery("l10n_br_endereco_bairro"), kind="text"),
        Column(name="delivery_zip", rule=_delivery("zip"), kind="text"),
        Column(name="delivery_phone", rule=_delivery("phone"), kind="text"),
        Column(name="delivery_city", rule=_delivery_place(city_of), kind="text"),
        Column(name="delivery_state", rule=_delivery_place(state_of), kind="text"),
        Column(name="product_id", field="product_id", kind="ref"),
        Column(name="product_code", field="product_id.default_code", kind="text"),
        Column(name="product_name", field="product_id.name", kind="text"),
        Column(name="categories", rule=_categories, kind="texts"),
        Column(name="unit", field=uom, kind="ref_name"),
        Column(name="quantity", field="product_uom_qty", kind="number"),
        Column(name="canceled", field="qty_cancelado", kind="number"),
        Column(name="balance", rule=_balance, kind="number"),
        Column(name="price_unit", field="price_unit", kind="number"),
        Column(name="icms", field="l10n_br_icms_valor", kind="number"),
        Column(name="icms_st", field="l10n_br_icmsst_valor", kind="number"),
        Column(name="pis", field="l10n_br_pis_valor", kind="number"),
        Column(name="cofins", field="l10n_br_cofins_valor", kind="number"),
    )


def _category(levels: int) -> Relation:
    above = (_category(levels - 1),) if levels > 1 else ()
    field = "categ_id" if levels == CATEGORY_LEVELS else "parent_id"
    return Relation(field=field, model="product.category", fields=("name",), relations=above)


def define(options: Options, major: int) -> Definition:
    """The sync for an Odoo of that version."""
    carrier = Relation(
        field="carrier_id",
        model="delivery.carrier",
        fields=("name",),
        relations=(Relation(field="l10n_br_partner_id", model="res.partner", fields=_ADDRESS),),
    )
    order = Relation(
        field="order_id",
        model="sale.order",
        fields=(
            "name",
            "l10n_br_tipo_pedido",
            "l10n_br_pedido_compra",
            "create_date",
            "date_order",
            "commitment_date",
            "user_id",
            "team_id",
            "payment_term_id",
            "payment_provider_id",
            "picking_note",
        ),
        relations=(
            Relation(field="partner_id", model="res.partner", fields=_ADDRESS),
            Relation(field="partner_shipping_id", model="res.partner", fields=_ADDRESS),
            Relation(field="incoterm", model="account.incoterms", fields=("code",)),
            Relation(field="tag_ids", model="crm.tag", fields=("name",)),
            carrier,
        ),
    )
    product = Relation(
        field="product_id",
        model="product.product",
        fields=("default_code", "name"),
        relations=(_category(CATEGORY_LEVELS),),
    )
    return Definition(
        name=NAME,
        title=TITLE,
        model=MODEL,
        domain=domain(options),
        columns=columns(major),
        reads=("qty_saldo",),
        relations=(order, product),
        follows={
            "order_id": "sale.order",
            "order_id.partner_id": "res.partner",
            "order_id.partner_shipping_id": "res.partner",
            "order_id.carrier_id": "delivery.carrier",
            "order_id.carrier_id.l10n_br_partner_id": "res.partner",
            "order_id.tag_ids": "crm.tag",
            "product_id": "product.product",
            "product_id.categ_id": "product.category",
        },
        history=True,
        lookback=timedelta(minutes=options.lookback_minutes),
    )


SALES_BACKLOG = ReadySync(name=NAME, title=TITLE, model=MODEL, define=define, options=Options)
