"""Sales orders, their lines, tags, carriers and delivery terms: the backlog that is read out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import fields
from service.simulator.orm import Model, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES = (
    ("draft", "Quotation"),
    ("sent", "Quotation Sent"),
    ("sale", "Sales Order"),
    ("cancel", "Cancelled"),
)
ORDER_TYPES = (
    ("venda", "Sale"),
    ("bonificacao", "Bonus"),
    ("industrializacao", "Industrialisation"),
    ("exportacao", "Export"),
    ("venda-industrializacao", "Sale and Industrialisation"),
    ("transf-filial", "Transfer"),
    ("amostra", "Sample"),
)


def amount_of(order: Record) -> float:
    """Return the sum of the lines."""
    return round(sum(subtotal_of(line) for line in order.many("order_line")), 2)


def subtotal_of(line: Record) -> float:
    """Return quantity times price, less the discount in percent."""
    share = 1 - (line["discount"] or 0.0) / 100
    return round((line["product_uom_qty"] or 0.0) * (line["price_unit"] or 0.0) * share, 2)


def of_order(line: Record, name: str) -> Any:
    """Return a value of the order of a line."""
    order = line.one("order_id")
    return order[name] if order else None


class Tag(Model):
    """Tags of sales orders."""

    model = "crm.tag"
    title = "CRM Tag"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Tag Name", required=True),
        "color": fields.integer("Color"),
    }


class Incoterm(Model):
    """Who carries the goods, and who pays for it."""

    model = "account.incoterms"
    title = "Incoterms"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name", required=True),
        "code": fields.char("Code", required=True),
        "active": fields.boolean("Active", default=True),
    }

    def display(self, record_id: int) -> str:
        """Return `[code] name`."""
        incoterm = self.record(record_id)
        return f"[{incoterm['code']}] {incoterm['name']}"


class DeliveryCarrier(Model):
    """Ways of delivery; a carrier is known by its partner."""

    model = "delivery.carrier"
    title = "Shipping Methods"
    order = "sequence, id"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Delivery Method", required=True),
        "sequence": fields.integer("Sequence", default=10),
        "active": fields.boolean("Active", default=True),
        "company_id": fields.many2one("res.company", "Company"),
        "l10n_br_partner_id": fields.many2one("res.partner", "Carrier"),
    }


class SaleOrder(Model):
    """Sales orders."""

    model = "sale.order"
    title = "Sales Order"
    order = "date_order desc, id desc"
    varied = "l10n_br_pedido_compra"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Order Reference", indexed=True, copied=False),
        "state": fields.selection("Status", *STATES, default="draft", readonly=True, copied=False),
        "partner_id": fields.many2one("res.partner", "Customer", required=True),
        "partner_invoice_id": fields.many2one("res.partner", "Invoice Address"),
        "partner_shipping_id": fields.many2one("res.partner", "Delivery Address"),
        "company_id": fields.many2one(
            "res.company", "Company", required=True, default=lambda env: env.company_id
        ),
        "currency_id": fields.many2one(
            "res.currency", "Currency", default=lambda env: env.seed.currency_id
        ),
        "user_id": fields.many2one("res.users", "Salesperson", default=lambda env: env.user_id),
        "team_id": fields.many2one("crm.team", "Sales Team"),
        "date_order": fields.moment("Order Date", default=lambda env: env.now),
        "commitment_date": fields.moment("Delivery Date", copied=False),
        "payment_term_id": fields.many2one("account.payment.term", "Payment Terms"),
        "payment_provider_id": fields.many2one("payment.provider", "Payment Provider"),
        "incoterm": fields.many2one("account.incoterms", "Incoterm"),
        "carrier_id": fields.many2one("delivery.carrier", "Delivery Method"),
        "picking_note": fields.text("Note for the Delivery"),
        "tag_ids": fields.many2many("crm.tag", "Tags"),
        "l10n_br_pedido_compra": fields.char("Customer's Order"),
        "l10n_br_tipo_pedido": fields.selection("Order Type", *ORDER_TYPES, default="venda"),
        "order_line": fields.one2many("sale.order.line", "order_id", "Order Lines"),
        "amount_untaxed": fields.monetary("Untaxed Amount", compute=amount_of),
        "amount_tax": fields.monetary("Taxes", compute=lambda _: 0.0),
        "amount_total": fields.monetary("Total", compute=amount_of),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Number the order, and deliver to the customer unless told otherwise."""
        values.setdefault("name", f"S{self.table.next_id:05d}")
        for name in ("partner_invoice_id", "partner_shipping_id"):
            values.setdefault(name, values.get("partner_id"))
        return values


class SaleOrderLine(Model):
    """Lines of sales orders; `qty_saldo` is what is still to be delivered."""

    model = "sale.order.line"
    title = "Sales Order Line"
    order = "order_id, sequence, id"
    varied = "qty_saldo"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "order_id": fields.many2one(
            "sale.order", "Order Reference", required=True, ondelete="cascade"
        ),
        "sequence": fields.integer("Sequence", default=10),
        "name": fields.text("Description"),
        "product_id": fields.many2one("product.product", "Product", ondelete="restrict"),
        "product_uom": fields.many2one("uom.uom", "Unit of Measure", versions=frozenset({17})),
        "product_uom_id": fields.many2one("uom.uom", "Unit", versions=frozenset({19})),
        "product_uom_qty": fields.floating("Quantity", required=True, default=1.0),
        "qty_delivered": fields.floating("Delivery Quantity", default=0.0, copied=False),
        "qty_saldo": fields.floating("Balance", default=0.0),
        "qty_cancelado": fields.floating("Cancelled", default=0.0, copied=False),
        "price_unit": fields.floating("Unit Price", required=True, default=0.0),
        "discount": fields.floating("Discount (%)", default=0.0),
        "tax_id": fields.many2many("account.tax", "Taxes", versions=frozenset({17})),
        "tax_ids": fields.many2many("account.tax", "Taxes", versions=frozenset({19})),
        "price_subtotal": fields.monetary("Subtotal", compute=subtotal_of),
        "price_tax": fields.floating("Total Tax", compute=lambda _: 0.0),
        "price_total": fields.monetary("Total", compute=subtotal_of),
        "l10n_br_icms_valor": fields.monetary("ICMS", default=0.0),
        "l10n_br_icmsst_valor": fields.monetary("ICMS ST", default=0.0),
        "l10n_br_pis_valor": fields.monetary("PIS", default=0.0),
        "l10n_br_cofins_valor": fields.monetary("COFINS", default=0.0),
        "company_id": fields.many2one("res.company", "Company", readonly=True),
        "currency_id": fields.many2one(
            "res.currency", "Currency", compute=lambda line: of_order(line, "currency_id")
        ),
        "order_partner_id": fields.many2one(
            "res.partner", "Customer", compute=lambda line: of_order(line, "partner_id")
        ),
        "salesman_id": fields.many2one(
            "res.users", "Salesperson", compute=lambda line: of_order(line, "user_id")
        ),
        "state": fields.selection(
            "Order Status", *STATES, compute=lambda line: of_order(line, "state")
        ),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take name and price from the product, the company from the order."""
        if values.get("order_id"):
            order = self.env["sale.order"].record(values["order_id"])
            values.setdefault("company_id", order["company_id"])
        if values.get("product_id"):
            product = self.env["product.product"].record(values["product_id"])
            values.setdefault("name", product.label)
            values.setdefault("price_unit", product["list_price"])
        values.setdefault("qty_saldo", values.get("product_uom_qty", 1.0))
        return values

    def on_created(self, record_id: int) -> None:
        """Let the order change with its lines."""
        self._touch_order(record_id)

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:  # noqa: ARG002 - any value counts
        """Let the order change with its lines."""
        self._touch_order(record_id)

    def on_unlinking(self, record_id: int) -> None:
        """Let the order change with its lines."""
        self._touch_order(record_id)

    def _touch_order(self, record_id: int) -> None:
        order = self.record(record_id).one("order_id")
        if order is not None:
            order.update()


MODELS: tuple[type[Model], ...] = (Tag, Incoterm, DeliveryCarrier, SaleOrder, SaleOrderLine)
