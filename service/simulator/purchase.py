"""Purchase orders: confirm, approve, bill, cancel, and the surprises of their price lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import actions, bills, catalog, errors, fields, picking
from service.simulator.orm import NEW_VERSION, Model, Operation, Record, record_method

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_PRICE_LIST = 10
OPEN_STATES = frozenset({"draft", "sent"})
CONFIRMED_STATES = frozenset({"purchase", "done"})
NOTHING_TO_BILL = (
    "There is no invoiceable line. If a product has a control policy based on received quantity, "
    "please make sure that a quantity has been received."
)
READERS = {
    17: (
        "Inventory/User",
        "Invoicing/Billing",
        "Purchase/Administrator",
        "Purchase/User",
        "Technical/Show Accounting Features - Readonly",
        "User types/Portal",
    ),
    19: (
        "Accounting/Invoicing",
        "Inventory/User",
        "Purchase/Administrator",
        "Purchase/User",
        "Role / Portal",
        "Show Accounting Features - Readonly",
    ),
}
WRITERS = ("Purchase/Administrator", "Purchase/User")
STATES = (
    ("draft", "RFQ"),
    ("sent", "RFQ Sent"),
    ("to approve", "To Approve"),
    ("purchase", "Purchase Order"),
    ("done", "Locked"),
    ("cancel", "Cancelled"),
)


def purchase_groups() -> dict[tuple[int, Operation], tuple[str, ...]]:
    """Return who may do what with purchase documents, in the words of each version."""
    table: dict[tuple[int, Operation], tuple[str, ...]] = {}
    for version, readers in READERS.items():
        table[version, "read"] = readers
        for operation in ("write", "create", "unlink"):
            table[version, operation] = WRITERS
    return table


def touch_order(line: Record) -> None:
    """Give the order of a line the time of the transaction, as its kept totals would."""
    order = line.one("order_id")
    if order is not None:
        order.update()


def of_order(line: Record, name: str) -> Any:
    """Return a value of the order of a line."""
    order = line.one("order_id")
    return order[name] if order else None


def subtotal_of(line: Record) -> float:
    """Return quantity times price."""
    return round((line["product_qty"] or 0.0) * (line["price_unit"] or 0.0), 2)


def amount_of(order: Record) -> float:
    """Return the sum of the lines."""
    return round(sum(subtotal_of(line) for line in order.many("order_line")), 2)


def billed_quantity(line: Record) -> float:
    """Return what live bills hold of a line."""
    return sum(
        bill_line["quantity"] or 0.0
        for bill_line in line.many("invoice_lines")
        if (bill := bill_line.one("move_id")) is not None and bill["state"] != "cancel"
    )


def quantity_to_bill(line: Record) -> float:
    """Return what may be billed now: ordered or received quantity, less what is billed."""
    order, product = line.one("order_id"), line.one("product_id")
    if order is None or order["state"] not in CONFIRMED_STATES:
        return 0.0
    by_order = product is not None and product["purchase_method"] == "purchase"
    due = line["product_qty"] if by_order else line["qty_received"]
    return float((due or 0.0) - billed_quantity(line))


def lines_to_bill(order: Record) -> list[tuple[Record, float]]:
    """Return the lines with something left to bill, and how much."""
    quantities = ((line, quantity_to_bill(line)) for line in order.many("order_line"))
    return [(line, quantity) for line, quantity in quantities if quantity]


def live_bills(order: Record) -> list[Record]:
    """Return the bills of an order that still exist."""
    return [bill for bill in order.many("invoice_ids") if bill.model.has(bill.id)]


def invoice_status(order: Record) -> str:
    """Return whether an order has been billed."""
    if order["state"] not in CONFIRMED_STATES:
        return "no"
    if lines_to_bill(order):
        return "to invoice"
    return "invoiced" if live_bills(order) else "no"


def usable_prices(product: Record, order: Record) -> list[Record]:
    """Return the vendor's prices that hold in the order's company."""
    return [
        entry
        for entry in catalog.vendor_prices(product, order["partner_id"])
        if entry["company_id"] in {None, order["company_id"]}
    ]


def reprice(line: Record) -> None:
    """Set the price of a line from the vendor's price list, as a change of company does.

    A vendor without any entry keeps the price that was set by hand; one whose entries belong to
    other companies gets the cost of the product.
    """
    order, product = line.one("order_id"), line.one("product_id")
    if order is None or product is None or line["invoice_lines"]:
        return
    if not catalog.vendor_prices(product, order["partner_id"]):
        return
    usable = usable_prices(product, order)
    price = usable[0]["price"] if usable else product["standard_price"] or 0.0
    line.update(price_unit=price)


def remember_price(line: Record) -> None:
    """Add the vendor and the price of a first order to the product's price list."""
    order, product = line.one("order_id"), line.one("product_id")
    if order is None or product is None:
        return
    sellers = product.many("seller_ids")
    known = any(one["partner_id"] == order["partner_id"] for one in sellers)
    if known or len(sellers) > LARGEST_PRICE_LIST:
        return
    line.model.env["product.supplierinfo"].insert(
        {
            "partner_id": order["partner_id"],
            "product_id": product.id,
            "currency_id": order["currency_id"],
            "price": line["price_unit"],
            "sequence": 1 + max((one["sequence"] or 0 for one in sellers), default=0),
        }
    )


def needs_approval(order: Record) -> bool:
    """Whether the amount is above the limit and nobody with the right is confirming."""
    env = order.model.env
    limit = env.options.approval_limit
    if limit is None or amount_of(order) <= limit or env.unrestricted:
        return False
    return env.options.approver != "automatic"


def may_approve(order: Record) -> bool:
    """Whether the caller may approve this order now: by user, and by team of the order."""
    env = order.model.env
    if order["state"] != "to approve":
        return False
    if env.unrestricted:
        return True
    return env.options.approver == "user" and order["team_id"] == env.seed.team_id


def check_companies(order: Record) -> None:
    """Refuse to confirm when picking type or operation belong to another company."""
    holders = [("Deliver To", "picking_type_id", order.one("picking_type_id"))]
    holders.append(("Fiscal Operation", "l10n_br_operacao_id", order.one("l10n_br_operacao_id")))
    for line in order.many("order_line"):
        operation = line.one("l10n_br_operacao_id")
        holders.append(("Fiscal Operation", "l10n_br_operacao_id", operation))
    for label, name, holder in holders:
        if holder is not None and holder["company_id"] not in {None, order["company_id"]}:
            raise _incompatible(order, label, name, holder)


def _incompatible(order: Record, label: str, name: str, holder: Record) -> errors.UserError:
    company = order.one("company_id")
    own = company.label if company else ""
    if order.model.env.version >= NEW_VERSION:
        return errors.UserError(
            "Uh-oh! You’ve got some company inconsistencies here:\n"
            f"- “{order.label}” belongs to company “{own}” while “{label}” "
            f"({name}: {holder.label}) belongs to another company."
        )
    return errors.UserError(
        "Incompatible companies on records:\n"
        f"- '{order.label}' belongs to company '{own}' and '{label}' "
        f"({name}: '{holder.label}') belongs to another company."
    )


class PurchaseOrder(Model):
    """Purchase orders."""

    model = "purchase.order"
    varied = "partner_ref"
    title = "Purchase Order"
    order = "priority desc, id desc"
    company_rule = True
    groups = purchase_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Order Reference", indexed=True, copied=False),
        "priority": fields.selection("Priority", ("0", "Normal"), ("1", "Urgent"), default="0"),
        "state": fields.selection("Status", *STATES, default="draft", readonly=True, copied=False),
        "partner_id": fields.many2one("res.partner", "Vendor", required=True),
        "partner_ref": fields.char("Vendor Reference", copied=False),
        "origin": fields.char("Source Document", copied=False),
        "company_id": fields.many2one(
            "res.company", "Company", required=True, default=lambda env: env.company_id
        ),
        "currency_id": fields.many2one(
            "res.currency", "Currency", default=lambda env: env.seed.currency_id
        ),
        "user_id": fields.many2one("res.users", "Buyer", default=lambda env: env.user_id),
        "date_order": fields.moment("Order Deadline", default=lambda env: env.now),
        "date_planned": fields.moment("Expected Arrival"),
        "date_approve": fields.moment("Confirmation Date", readonly=True, copied=False),
        "picking_type_id": fields.many2one(
            "stock.picking.type", "Deliver To", default=catalog.default_picking_type
        ),
        "payment_term_id": fields.many2one("account.payment.term", "Payment Terms"),
        "payment_provider_id": fields.many2one("payment.provider", "Payment Provider"),
        "team_id": fields.many2one("crm.team", "Purchase Team"),
        "dfe_id": fields.many2one("l10n_br_ciel_it_account.dfe", "Fiscal Document"),
        "l10n_br_operacao_id": fields.many2one(catalog.OPERATION_MODEL, "Fiscal Operation"),
        "l10n_br_tipo_pedido": fields.char("Order Type"),
        "notes": fields.html("Terms and Conditions", versions=frozenset({17})),
        "note": fields.html("Terms and Conditions", versions=frozenset({19})),
        "order_line": fields.one2many("purchase.order.line", "order_id", "Order Lines"),
        "picking_ids": fields.many2many(
            "stock.picking",
            "Receptions",
            compute=lambda order: [one.id for one in picking.of_order(order.model.env, order.id)],
        ),
        "invoice_ids": fields.many2many("account.move", "Bills", readonly=True, copied=False),
        "invoice_count": fields.integer(
            "Bill Count", compute=lambda order: len(order["invoice_ids"] or ())
        ),
        "invoice_status": fields.selection(
            "Billing Status",
            ("no", "Nothing to Bill"),
            ("to invoice", "Waiting Bills"),
            ("invoiced", "Fully Billed"),
            compute=invoice_status,
        ),
        "amount_untaxed": fields.monetary("Untaxed Amount", compute=amount_of),
        "amount_tax": fields.monetary("Taxes", compute=lambda _: 0.0),
        "amount_total": fields.monetary("Total", compute=amount_of),
        "is_current_approver": fields.boolean(
            "Current Approver", compute=may_approve, searchable=False
        ),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Number the order."""
        values.setdefault("name", f"P{self.table.next_id:05d}")
        return values

    def on_stored(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Follow a write of the company, even one of the same value, with new prices.

        A price that the same write gives to a line comes after this, and stays.
        """
        if "company_id" in values:
            order = self.record(record_id)
            for line in order.many("order_line"):
                reprice(line)

    def on_unlinking(self, record_id: int) -> None:
        """Refuse to delete an order that is not cancelled."""
        order = self.record(record_id)
        if order["state"] != "cancel":
            raise errors.UserError("In order to delete a purchase order, you must cancel it first.")

    @record_method
    def button_confirm(self, ids: list[int]) -> bool:
        """Confirm drafts; what is confirmed already stays as it is."""
        for order in self._writable(ids):
            if self.env.overtaken(self.model, order.id, "button_confirm"):
                # The loser of two parallel confirmations fails on the second follower entry,
                # although the order is confirmed by then.
                raise errors.ValidationError(
                    "The operation cannot be completed: "
                    "Error, a partner cannot follow twice the same object."
                )
            if order["state"] in OPEN_STATES:
                self._confirm(order)
        return True

    @record_method
    def button_approve(self, ids: list[int], force: bool = False) -> dict[str, Any]:  # noqa: FBT001 - Odoo's signature
        """Approve orders that wait for it, when the caller is an approver."""
        for order in self._writable(ids):
            if order["state"] != "to approve":
                continue
            if not (force or may_approve(order)):
                raise errors.UserError("You are not allowed to approve this purchase order.")
            self._approve(order)
        return {}

    @record_method
    def button_cancel(self, ids: list[int]) -> None:
        """Cancel orders without a live bill."""
        for order in self._writable(ids):
            if any(bill["state"] != "cancel" for bill in live_bills(order)):
                raise errors.UserError(
                    "Unable to cancel this purchase order. "
                    "You must first cancel the related vendor bills."
                )
            picking.stop_expecting(order)
            order.update(state="cancel")

    @record_method
    def button_draft(self, ids: list[int]) -> dict[str, Any]:
        """Take orders back to draft."""
        for order in self._writable(ids):
            order.update(state="draft")
        return {}

    @record_method
    def action_create_invoice(
        self,
        ids: list[int],
        attachment_ids: list[int] | bool = False,  # noqa: ARG002, FBT001 - Odoo's signature
    ) -> dict[str, Any]:
        """Bill orders; 17 refuses when nothing is left to bill, 19 makes an empty draft bill."""
        orders = self._writable(ids)
        billable = [order for order in orders if invoice_status(order) == "to invoice"]
        if self.env.version >= NEW_VERSION:
            billable = orders
        elif not billable:
            raise errors.UserError(NOTHING_TO_BILL)
        made = [bills.from_order(order, lines_to_bill(order)) for order in billable]
        return actions.vendor_bills(self.env, made, billable[0]["partner_id"])

    @record_method
    def onchange_l10n_br_calcular_imposto(self, ids: list[int]) -> None:
        """Recompute the taxes of orders, which sets their amounts to zero."""
        for order in self._writable(ids):
            for line in order.many("order_line"):
                line.update(price_unit=0.0)
            order.update()

    def _writable(self, ids: list[int]) -> list[Record]:
        self.check_access("write")
        orders = self.records(ids)
        self.check_rules(ids, "write")
        return orders

    def _confirm(self, order: Record) -> None:
        check_companies(order)
        for line in order.many("order_line"):
            remember_price(line)
        if needs_approval(order):
            order.update(state="to approve")
        else:
            self._approve(order)

    def _approve(self, order: Record) -> None:
        check_companies(order)
        order.update(state="purchase", date_approve=self.env.now)
        picking.expect(order)


class PurchaseOrderLine(Model):
    """Lines of purchase orders."""

    model = "purchase.order.line"
    varied = "product_qty"
    title = "Purchase Order Line"
    order = "order_id, sequence, id"
    company_rule = False
    groups = purchase_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "order_id": fields.many2one(
            "purchase.order", "Order Reference", required=True, ondelete="cascade"
        ),
        "sequence": fields.integer("Sequence", default=10),
        "name": fields.text("Description"),
        "product_id": fields.many2one("product.product", "Product", ondelete="restrict"),
        "product_qty": fields.floating("Quantity", default=1.0),
        "product_uom": fields.many2one("uom.uom", "Unit of Measure", versions=frozenset({17})),
        "product_uom_id": fields.many2one("uom.uom", "Unit", versions=frozenset({19})),
        "price_unit": fields.floating("Unit Price", required=True),
        "price_subtotal": fields.monetary("Subtotal", compute=subtotal_of),
        "price_total": fields.monetary("Total", compute=subtotal_of),
        "price_tax": fields.floating("Tax", compute=lambda _: 0.0),
        "qty_received": fields.floating("Received Qty", default=0.0, copied=False),
        "qty_invoiced": fields.floating("Billed Qty", compute=billed_quantity),
        "qty_to_invoice": fields.floating("To Invoice Quantity", compute=quantity_to_bill),
        "move_ids": fields.one2many("stock.move", "purchase_line_id", "Reservation"),
        "invoice_lines": fields.one2many("account.move.line", "purchase_line_id", "Bill Lines"),
        "l10n_br_operacao_id": fields.many2one(catalog.OPERATION_MODEL, "Fiscal Operation"),
        "taxes_id": fields.many2many("account.tax", "Taxes", versions=frozenset({17})),
        "tax_ids": fields.many2many("account.tax", "Taxes", versions=frozenset({19})),
        "l10n_br_icms_valor": fields.monetary("ICMS", default=0.0),
        "l10n_br_pis_valor": fields.monetary("PIS", default=0.0),
        "l10n_br_cofins_valor": fields.monetary("COFINS", default=0.0),
        "company_id": fields.many2one(
            "res.company", "Company", compute=lambda line: of_order(line, "company_id")
        ),
        "partner_id": fields.many2one(
            "res.partner", "Partner", compute=lambda line: of_order(line, "partner_id")
        ),
        "currency_id": fields.many2one(
            "res.currency", "Currency", compute=lambda line: of_order(line, "currency_id")
        ),
        "state": fields.selection(
            "Order Status", *STATES, compute=lambda line: of_order(line, "state")
        ),
        "date_planned": fields.moment("Expected Arrival"),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take name and price from the product where they were not given."""
        if not values.get("product_id"):
            return values
        product = self.env["product.product"].record(values["product_id"])
        values.setdefault("name", product.label)
        if values.get("price_unit") is None:
            values["price_unit"] = self._listed_price(product, values)
        return values

    def _listed_price(self, product: Record, values: Mapping[str, Any]) -> float:
        order = self.env["purchase.order"].record(values["order_id"])
        listed = usable_prices(product, order)
        return float(listed[0]["price"] if listed else product["standard_price"] or 0.0)

    def on_created(self, record_id: int) -> None:
        """Let the order change with its lines."""
        touch_order(self.record(record_id))

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:  # noqa: ARG002 - any value counts
        """Let the order change with its lines."""
        touch_order(self.record(record_id))

    def on_unlinking(self, record_id: int) -> None:
        """Refuse to delete lines of confirmed orders; let the order change with its lines."""
        order = self.record(record_id).one("order_id")
        if order and order["state"] in CONFIRMED_STATES:
            raise errors.UserError(
                f"Cannot delete a purchase order line which is in state “{order['state']}”."
            )
        touch_order(self.record(record_id))


MODELS: tuple[type[Model], ...] = (PurchaseOrder, PurchaseOrderLine)
