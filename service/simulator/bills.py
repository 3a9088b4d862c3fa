"""Vendor bills: made from orders, taxed, posted, taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import catalog, errors, fields
from service.simulator.orm import NEW_VERSION, Model, Operation, Record, record_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.simulator.orm import Environment

READERS = {
    17: (
        "Invoicing/Billing",
        "Invoicing/Billing Administrator",
        "Purchase/User",
        "Sales/User: Own Documents Only",
        "Technical/Show Accounting Features - Readonly",
        "User types/Portal",
    ),
    19: (
        "Accounting/Administrator",
        "Accounting/Invoicing",
        "Purchase/User",
        "Sales/User: Own Documents Only",
        "Role / Portal",
        "Show Accounting Features - Readonly",
    ),
}
WRITERS = {
    17: ("Invoicing/Billing", "Purchase/User"),
    19: ("Accounting/Invoicing", "Purchase/User"),
}
# What the server refuses to change once a bill is posted; texts and payment data stay open.
FROZEN_WHEN_POSTED = (
    "invoice_date",
    "date",
    "journal_id",
    "partner_id",
    "company_id",
    "currency_id",
    "invoice_line_ids",
    "line_ids",
)
INVOICE_TYPES = (
    ("entry", "Journal Entry"),
    ("out_invoice", "Customer Invoice"),
    ("out_refund", "Customer Credit Note"),
    ("in_invoice", "Vendor Bill"),
    ("in_refund", "Vendor Credit Note"),
    ("out_receipt", "Sales Receipt"),
    ("in_receipt", "Purchase Receipt"),
)
DRAFT_NAME = "/"


def accounting_groups() -> dict[tuple[int, Operation], tuple[str, ...]]:
    """Return who may do what with entries, in the words of each version."""
    table: dict[tuple[int, Operation], tuple[str, ...]] = {}
    for version, readers in READERS.items():
        table[version, "read"] = readers
        for operation in ("write", "create", "unlink"):
            table[version, operation] = WRITERS[version]
    return table


def of_move(line: Record, name: str) -> Any:
    """Return a value of the entry of a line."""
    move = line.one("move_id")
    return move[name] if move else None


def subtotal_of(line: Record) -> float:
    """Return quantity times price of a product line."""
    if line["display_type"] != "product":
        return 0.0
    return round((line["quantity"] or 0.0) * (line["price_unit"] or 0.0), 2)


def amount_of(bill: Record) -> float:
    """Return the sum of the product lines."""
    return round(sum(subtotal_of(line) for line in bill.many("invoice_line_ids")), 2)


def residual_of(bill: Record) -> float:
    """Return what is still to be paid."""
    return 0.0 if bill["payment_state"] == "paid" else amount_of(bill)


def balance(bill: Record) -> None:
    """Give product lines their debit, and the bill one payable line for the sum."""
    for line in bill.many("invoice_line_ids"):
        line.update(debit=subtotal_of(line))
    total = amount_of(bill)
    payable = [line for line in bill.many("line_ids") if line["display_type"] == "payment_term"]
    values = {
        "credit": total,
        "amount_residual": -total,
        "date_maturity": bill["invoice_date_due"],
        "partner_id": bill["partner_id"],
        "company_id": bill["company_id"],
    }
    if payable:
        payable[0].update(**values)
    elif total:
        lines = bill.model.env["account.move.line"]
        lines.insert({**values, "move_id": bill.id, "display_type": "payment_term"})
    bill.update()


def journal_of(env: Environment, company_id: int, move_type: str) -> int | None:
    """Return the journal for a type of entry in a company."""
    kind = {"in": "purchase", "ou": "sale"}.get(move_type[:2], "general")
    journals = env["account.journal"]
    for journal_id in journals.table.referring("company_id", company_id):
        if journals.value(journal_id, "type") == kind:
            return journal_id
    return None


def next_number(bill: Record) -> str:
    """Return the next number of the bill's journal in its month."""
    journal = bill.one("journal_id")
    prefix = f"{journal['code'] if journal else 'MISC'}/{bill['date']:%Y/%m}/"
    names = (str(row.get("name") or "") for row in bill.model.table.rows.values())
    used = [int(name.removeprefix(prefix)) for name in names if name.startswith(prefix)]
    return f"{prefix}{max(used, default=0) + 1:04d}"


def from_order(order: Record, lines: list[tuple[Record, float]]) -> int:
    """Make a draft bill of an order's lines and link it; return its id."""
    env = order.model.env
    document = order.one("dfe_id")
    company_id = order["company_id"]
    bill_id = env["account.move"].insert(
        {
            "move_type": "in_invoice",
            "partner_id": order["partner_id"],
            "company_id": company_id,
            "currency_id": order["currency_id"],
            "journal_id": journal_of(env, company_id, "in_invoice"),
            "invoice_origin": order["name"],
            "payment_reference": order["partner_ref"],
            "payment_provider_id": order["payment_provider_id"],
            "team_id": order["team_id"],
            "dfe_id": order["dfe_id"],
            "l10n_br_operacao_id": order["l10n_br_operacao_id"],
            "l10n_br_tipo_pedido": order["l10n_br_tipo_pedido"],
            "invoice_date": document["nfe_infnfe_ide_dhemi"].date() if document else None,
        }
    )
    bill = env["account.move"].record(bill_id)
    for line, quantity in lines:
        _add_line(bill, line, quantity)
    balance(bill)
    order.update(invoice_ids=(*(order["invoice_ids"] or ()), bill_id))
    if document is not None:
        document.update(invoice_ids=(*(document["invoice_ids"] or ()), bill_id))
    return bill_id


def _add_line(bill: Record, line: Record, quantity: float) -> None:
    bill.model.env["account.move.line"].insert(
        {
            "move_id": bill.id,
            "company_id": bill["company_id"],
            "partner_id": bill["partner_id"],
            "purchase_line_id": line.id,
            "product_id": line["product_id"],
            "name": line["name"],
            "quantity": quantity,
            "price_unit": line["price_unit"],
            "l10n_br_operacao_id": line["l10n_br_operacao_id"],
        }
    )


class AccountMove(Model):
    """Entries, of which only bills are used here."""

    model = "account.move"
    title = "Journal Entry"
    order = "date desc, name desc, invoice_date desc, id desc"
    company_rule = True
    groups = accounting_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Number", default=DRAFT_NAME, copied=False),
        "state": fields.selection(
            "Status",
            ("draft", "Draft"),
            ("posted", "Posted"),
            ("cancel", "Cancelled"),
            default="draft",
            required=True,
            readonly=True,
            copied=False,
        ),
        "move_type": fields.selection("Type", *INVOICE_TYPES, default="entry", required=True),
        "date": fields.day("Date", default=lambda env: env.now.date(), required=True),
        "ref": fields.char("Reference", copied=False),
        "partner_id": fields.many2one("res.partner", "Partner"),
        "company_id": fields.many2one(
            "res.company", "Company", required=True, default=lambda env: env.company_id
        ),
        "currency_id": fields.many2one(
            "res.currency", "Currency", required=True, default=lambda env: env.seed.currency_id
        ),
        "journal_id": fields.many2one("account.journal", "Journal", required=True),
        "invoice_date": fields.day("Invoice/Bill Date", copied=False),
        "invoice_date_due": fields.day("Due Date", copied=False),
        "invoice_origin": fields.char("Origin", readonly=True),
        "invoice_payment_term_id": fields.many2one("account.payment.term", "Payment Terms"),
        "payment_reference": fields.char("Payment Reference", copied=False),
        "payment_state": fields.selection(
            "Payment Status",
            ("not_paid", "Not Paid"),
            ("in_payment", "In Payment"),
            ("paid", "Paid"),
            ("partial", "Partially Paid"),
            ("reversed", "Reversed"),
            ("invoicing_legacy", "Invoicing App Legacy"),
            default="not_paid",
            readonly=True,
            copied=False,
        ),
        "payment_provider_id": fields.many2one("payment.provider", "Payment Provider"),
        "team_id": fields.many2one("crm.team", "Team"),
        "dfe_id": fields.many2one("l10n_br_ciel_it_account.dfe", "Fiscal Document"),
        "l10n_br_operacao_id": fields.many2one(catalog.OPERATION_MODEL, "Fiscal Operation"),
        "l10n_br_tipo_pedido": fields.char("Order Type"),
        "l10n_br_compra_indcom": fields.selection(
            "Purchase Destination",
            ("uso", "Own Use"),
            ("rev", "Resale"),
            ("ind", "Industry"),
            ("out", "Other"),
        ),
        "l10n_br_situacao_nf": fields.selection(
            "Document Status",
            ("rascunho", "Draft"),
            ("autorizado", "Authorised"),
            ("cce", "Corrected"),
            ("cancelado", "Cancelled"),
        ),
        "l10n_br_total_nfe": fields.monetary("Document Total", default=0.0),
        "line_ids": fields.one2many("account.move.line", "move_id", "Journal Items"),
        "invoice_line_ids": fields.one2many("account.move.line", "move_id", "Invoice lines"),
        "amount_untaxed": fields.monetary("Untaxed Amount", compute=amount_of),
        "amount_tax": fields.monetary("Tax", compute=lambda _: 0.0),
        "amount_total": fields.monetary("Total", compute=amount_of),
        "amount_residual": fields.monetary("Amount Due", compute=residual_of),
    }

    def value(self, record_id: int, name: str) -> Any:
        """Show only product lines among the invoice lines."""
        value = super().value(record_id, name)
        if name != "invoice_line_ids":
            return value
        lines = self.env["account.move.line"]
        return [one for one in value if lines.value(one, "display_type") == "product"]

    def display(self, record_id: int) -> str:
        """Return the number, or what a draft without one is called."""
        bill = self.record(record_id)
        if bill["name"] in {None, DRAFT_NAME}:
            return f"Draft Bill (* {record_id})"
        return f"{bill['name']} ({bill['ref']})" if bill["ref"] else str(bill["name"])

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Choose the journal by type and company."""
        company = values.get("company_id") or self.env.company_id
        kind = str(values.get("move_type") or "entry")
        values.setdefault("journal_id", journal_of(self.env, company, kind))
        return values

    def on_created(self, record_id: int) -> None:
        """Balance the product lines."""
        balance(self.record(record_id))

    @record_method
    def write(self, ids: list[int], vals: Any) -> bool:
        """Change entries; what is posted holds its accounting data."""
        # The server looks at the state first, so who may not read is told that.
        self.check_access("read")
        self.check_access("write")
        for bill in self.records(ids):
            if bill["state"] == "posted":
                self._refuse_frozen(vals)
        return super().write(ids, vals)

    def _refuse_frozen(self, vals: Mapping[str, Any]) -> None:
        touched = [name for name in vals if name in FROZEN_WHEN_POSTED]
        if not touched:
            return
        if self.env.version >= NEW_VERSION:
            listed = ", ".join(touched)
            raise errors.UserError(
                f"You cannot modify the following readonly fields on a posted move: {listed}"
            )
        if {"line_ids", "invoice_line_ids"} & set(touched):
            raise errors.ValidationError(
                "You cannot delete a payable/receivable line as it would not be consistent "
                "with the payment terms"
            )
        raise errors.UserError(
            "You cannot modify a posted entry of this journal: " + ", ".join(touched)
        )

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Keep the payable line and its date equal to the bill."""
        if {"invoice_line_ids", "line_ids", "invoice_date_due"} & set(values):
            balance(self.record(record_id))

    def on_unlinking(self, record_id: int) -> None:
        """Refuse to delete what is posted; leave its orders."""
        bill = self.record(record_id)
        if bill["state"] == "posted":
            raise errors.UserError(
                "You can't delete a posted journal item. Don’t play games with your accounting "
                "records; reset the journal entry to draft before deleting it."
            )
        self._leave_orders(record_id)

    def _leave_orders(self, record_id: int) -> None:
        orders = self.env["purchase.order"]
        for order_id, row in list(orders.table.rows.items()):
            linked = row.get("invoice_ids") or ()
            if record_id in linked:
                kept = tuple(one for one in linked if one != record_id)
                orders.store(order_id, {"invoice_ids": kept})

    @record_method
    def action_post(self, ids: list[int]) -> bool:
        """Post drafts. Success is the answer `false`: there is no screen to open next."""
        for bill in self._writable(ids):
            self._check_postable(bill)
            if bill["name"] in {None, DRAFT_NAME}:
                bill.update(name=next_number(bill))
            due = bill["invoice_date_due"]
            bill.update(state="posted", invoice_date_due=due)
        return False

    def _check_postable(self, bill: Record) -> None:
        if bill["state"] != "draft":
            raise errors.UserError(f"The entry {bill['name']} (id {bill.id}) must be in draft.")
        if bill["move_type"].startswith("in_"):
            if not bill["partner_id"]:
                raise errors.UserError(
                    "The field 'Vendor' is required, please complete it to validate the "
                    "Vendor Bill."
                )
            if not bill["invoice_date"]:
                raise errors.UserError(
                    "The Bill/Refund date is required to validate this document."
                )
            if not bill["invoice_date_due"]:
                raise errors.UserError("The due date is required to validate this document.")
        if not bill["invoice_line_ids"]:
            raise errors.UserError("You need to add a line before posting.")

    @record_method
    def button_draft(self, ids: list[int]) -> None:
        """Take posted or cancelled entries back to draft."""
        for bill in self._writable(ids):
            if bill["state"] not in {"posted", "cancel"}:
                raise errors.UserError(
                    "Only posted/cancelled journal entries can be reset to draft."
                )
            bill.update(state="draft")

    @record_method
    def button_cancel(self, ids: list[int]) -> None:
        """Cancel drafts."""
        for bill in self._writable(ids):
            if bill["state"] != "draft":
                raise errors.UserError("Only draft journal entries can be cancelled.")
            bill.update(state="cancel")

    @record_method
    def onchange_l10n_br_calcular_imposto(self, ids: list[int]) -> None:
        """Compute the taxes of bills."""
        for bill in self._writable(ids):
            self._compute_taxes(bill)

    @record_method
    def onchange_l10n_br_calcular_imposto_btn(self, ids: list[int]) -> None:
        """Compute the taxes of bills, as the button does."""
        for bill in self._writable(ids):
            self._compute_taxes(bill)

    def _compute_taxes(self, bill: Record) -> None:
        if bill["state"] != "draft":
            raise errors.UserError("Taxes can only be computed while the document is a draft.")
        balance(bill)
        bill.update(l10n_br_total_nfe=amount_of(bill))

    def _writable(self, ids: list[int]) -> list[Record]:
        self.check_access("write")
        found = self.records(ids)
        self.check_rules(ids, "write")
        return found


class AccountMoveLine(Model):
    """Items of entries: product lines and the payable line that balances them."""

    model = "account.move.line"
    title = "Journal Item"
    order = "date desc, move_name desc, id"
    company_rule = True
    groups = accounting_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "move_id": fields.many2one(
            "account.move", "Journal Entry", required=True, ondelete="cascade"
        ),
        "move_name": fields.char("Number", compute=lambda line: of_move(line, "name")),
        "parent_state": fields.selection(
            "Status",
            ("draft", "Draft"),
            ("posted", "Posted"),
            ("cancel", "Cancelled"),
            compute=lambda line: of_move(line, "state"),
        ),
        "date": fields.day("Date", compute=lambda line: of_move(line, "date")),
        "company_id": fields.many2one("res.company", "Company"),
        "partner_id": fields.many2one("res.partner", "Partner"),
        "purchase_line_id": fields.many2one("purchase.order.line", "Purchase Order Line"),
        "product_id": fields.many2one("product.product", "Product"),
        "name": fields.char("Label"),
        "display_type": fields.selection(
            "Display Type",
            ("product", "Product"),
            ("tax", "Tax"),
            ("payment_term", "Payment Term"),
            ("line_section", "Section"),
            ("line_note", "Note"),
            required=True,
            default="product",
        ),
        "quantity": fields.floating("Quantity", default=1.0),
        "price_unit": fields.floating("Unit Price", default=0.0),
        "price_subtotal": fields.monetary("Subtotal", compute=subtotal_of),
        "price_total": fields.monetary("Total", compute=subtotal_of),
        "debit": fields.monetary("Debit", default=0.0),
        "credit": fields.monetary("Credit", default=0.0),
        "balance": fields.monetary(
            "Balance", compute=lambda line: round((line["debit"] or 0) - (line["credit"] or 0), 2)
        ),
        "amount_residual": fields.monetary("Residual Amount", default=0.0),
        "date_maturity": fields.day("Due Date"),
        "reconciled": fields.boolean("Reconciled"),
        "l10n_br_operacao_id": fields.many2one(catalog.OPERATION_MODEL, "Fiscal Operation"),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take partner and company from the entry, and the label from the product."""
        move = self.env["account.move"].record(values["move_id"])
        values.setdefault("company_id", move["company_id"])
        values.setdefault("partner_id", move["partner_id"])
        if values.get("product_id"):
            product = self.env["product.product"].record(values["product_id"])
            values.setdefault("name", product.label)
        return values

    def display(self, record_id: int) -> str:
        """Return the number of the entry and the label."""
        line = self.record(record_id)
        return f"{of_move(line, 'name')} {line['name'] or ''}".strip()

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Balance the entry again when a product line changed."""
        move = self.record(record_id).one("move_id")
        if move is not None and {"quantity", "price_unit"} & set(values):
            balance(move)


MODELS: tuple[type[Model], ...] = (AccountMove, AccountMoveLine)
