"""The sync `purchase_orders`: lines of purchase orders with order, vendor, product and document.

A row is a line, by its id: two lines of an order with the same product are two rows. A change of
the order, the vendor, the product or the fiscal document reaches all rows that show it, and every
change is kept in `purchase_orders_change`. A line counts as canceled when its order says so; a row
goes only when Odoo, asked for its id, has no such line any more.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from service.odoo.prefetch import Relation
from service.sync.definition import Column, Definition
from service.sync.ready import ReadySync
from service.syncs.rules import CnpjRoot, since, without_roots

if TYPE_CHECKING:
    from service.odoo.prefetch import Node
    from service.odoo.records import Domain

NAME = "purchase_orders"
TITLE = "Lines of purchase orders"
MODEL = "purchase.order.line"
DFE = "l10n_br_ciel_it_account.dfe"
STORABLE_FIELD_CHANGED = 18
"""Since then `is_storable` says what `detailed_type` did."""

UOM_RENAMED = 19
ORDER_TYPES = (
    "compra",
    "importacao",
    "comp-importacao",
    "devolucao",
    "devolucao_compra",
    "industrializacao",
    "serv-industrializacao",
    "ent-bonificacao",
    "rem-conta-ordem",
)


class Options(BaseModel):
    """`[syncs.purchase_orders]` of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_types: tuple[str, ...] = Field(default=ORDER_TYPES, min_length=1)
    since: date | None = Field(default=None, description="orders made before are left out")
    own_cnpj_roots: tuple[CnpjRoot, ...] = Field(
        default=(), description="companies of one's own group, whose orders are left out"
    )
    blocked_cnpj_roots: tuple[CnpjRoot, ...] = Field(
        default=(), description="vendors whose orders are left out"
    )
    lookback_minutes: float = Field(default=15, gt=0)


def open_quantity(ordered: Decimal, received: Decimal, *, canceled: bool) -> Decimal:
    """What is still to come: nothing of a canceled order, and never less than nothing."""
    return Decimal(0) if canceled else max(ordered - received, Decimal(0))


def domain(options: Options, major: int) -> Domain:
    """Lines of goods with a code, in orders of the wanted types, not from one's own group."""
    storable = (
        ["product_id.is_storable", "=", True]
        if major >= STORABLE_FIELD_CHANGED
        else ["product_id.detailed_type", "=", "product"]
    )
    return [
        ["order_id.l10n_br_tipo_pedido", "in", list(options.order_types)],
        ["product_id.default_code", "!=", False],
        storable,
        *since("order_id.create_date", options.since),
        *without_roots(
            "order_id.partner_id.l10n_br_cnpj",
            (*options.own_cnpj_roots, *options.blocked_cnpj_roots),
        ),
    ]


def _open_quantity(line: Node) -> Decimal:
    record = line.record
    return open_quantity(
        record.number("product_qty"),
        record.number("qty_received"),
        canceled=record.text("state") == "cancel",
    )


def columns(major: int) -> tuple[Column, ...]:
    """The columns of the mirror."""
    uom = "product_uom_id" if major >= UOM_RENAMED else "product_uom"
    return (
        Column(name="order_id", field="order_id", kind="ref"),
        Column(name="order_name", field="order_id.name", kind="text"),
        Column(name="order_type", field="order_id.l10n_br_tipo_pedido", kind="text"),
        Column(name="order_created_at", field="order_id.create_date", kind="moment"),
        Column(name="ordered_at", field="order_id.date_order", kind="moment"),
        Column(name="order_total", field="order_id.amount_total", kind="number"),
        Column(name="invoice_status", field="order_id.invoice_status", kind="text"),
        Column(name="currency", field="order_id.currency_id", kind="ref_name"),
        Column(name="company_id", field="order_id.company_id", kind="ref"),
        Column(name="company_name", field="order_id.company_id", kind="ref_name"),
        Column(name="vendor_id", field="order_id.partner_id", kind="ref"),
        Column(name="vendor_name", field="order_id.partner_id.name", kind="text"),
        Column(name="vendor_cnpj", field="order_id.partner_id.l10n_br_cnpj", kind="text"),
        Column(name="document_id", field="order_id.dfe_id", kind="ref"),
        Column(name="document_key", field="order_id.dfe_id.protnfe_infnfe_chnfe", kind="text"),
        Column(name="document_number", field="order_id.dfe_id.nfe_infnfe_ide_nnf", kind="text"),
        Column(name="document_series", field="order_id.dfe_id.nfe_infnfe_ide_serie", kind="text"),
        Column(
            name="document_issued_at", field="order_id.dfe_id.nfe_infnfe_ide_dhemi", kind="moment"
        ),
        Column(
            name="document_total",
            field="order_id.dfe_id.nfe_infnfe_total_icmstot_vnf",
            kind="number",
        ),
        Column(name="product_id", field="product_id", kind="ref"),
        Column(name="product_code", field="product_id.default_code", kind="text"),
        Column(name="product_name", field="product_id.name", kind="text"),
        Column(name="description", field="name", kind="text"),
        Column(name="state", field="state", kind="text"),
        Column(name="planned_at", field="date_planned", kind="moment"),
        Column(name="quantity", field="product_qty", kind="number"),
        Column(name="received", field="qty_received", kind="number"),
        Column(name="open_quantity", rule=_open_quantity, kind="number"),
        Column(name="unit", field=uom, kind="ref_name"),
        Column(name="price_unit", field="price_unit", kind="number"),
        Column(name="subtotal", field="price_subtotal", kind="number"),
        Column(name="total", field="price_total", kind="number"),
        Column(name="icms", field="l10n_br_icms_valor", kind="number"),
        Column(name="pis", field="l10n_br_pis_valor", kind="number"),
        Column(name="cofins", field="l10n_br_cofins_valor", kind="number"),
    )


def define(options: Options, major: int) -> Definition:
    """The sync for an Odoo of that version."""
    document = Relation(
        field="dfe_id",
        model=DFE,
        fields=(
            "protnfe_infnfe_chnfe",
            "nfe_infnfe_ide_nnf",
            "nfe_infnfe_ide_serie",
            "nfe_infnfe_ide_dhemi",
            "nfe_infnfe_total_icmstot_vnf",
        ),
    )
    vendor = Relation(field="partner_id", model="res.partner", fields=("name", "l10n_br_cnpj"))
    order = Relation(
        field="order_id",
        model="purchase.order",
        fields=(
            "name",
            "l10n_br_tipo_pedido",
            "create_date",
            "date_order",
            "amount_total",
            "invoice_status",
            "currency_id",
            "company_id",
        ),
        relations=(vendor, document),
    )
    product = Relation(field="product_id", model="product.product", fields=("default_code", "name"))
    return Definition(
        name=NAME,
        title=TITLE,
        model=MODEL,
        domain=domain(options, major),
        columns=columns(major),
        relations=(order, product),
        follows={
            "order_id": "purchase.order",
            "order_id.partner_id": "res.partner",
            "order_id.dfe_id": DFE,
            "product_id": "product.product",
        },
        history=True,
        lookback=timedelta(minutes=options.lookback_minutes),
    )


PURCHASE_ORDERS = ReadySync(name=NAME, title=TITLE, model=MODEL, define=define, options=Options)
