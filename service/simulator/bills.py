"""Entries and their items: vendor bills from orders, customer invoices, entries of payments."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import catalog, errors, fields, reconciliation
from service.simulator.orm import NEW_VERSION, Model, Operation, Record, record_method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.simulator.orm import Environment
    from service.simulator.seed import Accounts

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
# What of an item holds once its entry is posted.
FROZEN_ITEM = frozenset({"account_id", "credit", "debit"})
TO_BE_PAID = frozenset({"asset_receivable", "liability_payable"})
UNCHECKED = "check_move_validity"
PHANTOM_DAY = date(2000, 1, 1)
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


def product_total(bill: Record) -> float:
    """Return the sum of the product lines."""
    return round(sum(subtotal_of(line) for line in bill.many("invoice_line_ids")), 2)


def instalments_of(bill: Record) -> list[Record]:
    """Return the items that are to be paid."""
    return [line for line in bill.many("line_ids") if line["account_type"] in TO_BE_PAID]


def amount_of(bill: Record) -> float:
    """Return what is to be paid of an invoice, the debits of any other entry."""
    if bill["move_type"] == "entry":
        return sum(reconciliation.cents(line["debit"]) for line in bill.many("line_ids")) / 100
    return _sum(line["balance"] for line in instalments_of(bill)) or product_total(bill)


def residual_of(bill: Record) -> float:
    """Return what is still to be paid."""
    return _sum(line["amount_residual"] for line in instalments_of(bill))


def _sum(amounts: Iterable[float]) -> float:
    return abs(sum(reconciliation.cents(amount) for amount in amounts)) / 100


def payment_state_of(bill: Record) -> str:
    """Return how far an invoice is paid."""
    if bill["state"] != "posted" or bill["move_type"] == "entry":
        return "not_paid"
    left, total = residual_of(bill), amount_of(bill)
    if left >= total:
        return "not_paid"
    return "partial" if left else "paid"


def has_matches(bill: Record) -> bool:
    """Whether any item is matched with another entry's."""
    return any(reconciliation.partials_of(line) for line in bill.many("line_ids"))


def accounts_of(bill: Record) -> Accounts:
    """Return the accounts of the entry's company."""
    return bill.model.env.seed.company(bill["company_id"]).accounts


def balance(bill: Record) -> None:
    """Give product lines their amounts, and one line for the sum that is to be paid.

    An invoice of several instalments, or with a discount, is balanced by who made it.
    """
    terms = [line for line in bill.many("line_ids") if line["display_type"] == "payment_term"]
    discounts = [line for line in bill.many("line_ids") if line["display_type"] == "discount"]
    if bill["move_type"] == "entry" or discounts or len(terms) > 1:
        return
    sold = bill["move_type"].startswith("out_")
    own, opposite = ("credit", "debit") if sold else ("debit", "credit")
    accounts = accounts_of(bill)
    for line in bill.many("invoice_line_ids"):
        account_id = line["account_id"] or (accounts.sales if sold else accounts.purchases)
        line.update(**{own: subtotal_of(line), "account_id": account_id})
    total = product_total(bill)
    values = {
        opposite: total,
        "account_id": accounts.receivable if sold else accounts.payable,
        "date_maturity": bill["invoice_date_due"],
        "partner_id": bill["partner_id"],
        "company_id": bill["company_id"],
    }
    if terms:
        terms[0].update(**values)
    elif total:
        lines = bill.model.env["account.move.line"]
        lines.insert({**values, "move_id": bill.id, "display_type": "payment_term"})
    bill.update()


def check_balanced(entry: Record) -> None:
    """Refuse an entry whose debits are not its credits."""
    lines = entry.many("line_ids")
    if not all(line["account_id"] for line in lines):
        return
    if sum(reconciliation.cents(line["balance"]) for line in lines):
        raise errors.UserError(f"The entry {entry.label} is not balanced.")


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


def post(entry: Record) -> None:
    """Post a draft, and number it."""
    _check_postable(entry)
    if entry["name"] in {None, DRAFT_NAME}:
        entry.update(name=next_number(entry))
    entry.update(state="posted", invoice_date_due=entry["invoice_date_due"])
    if entry.model.env.options.phantom_returns:
        _bring_phantom_back(entry)


def _bring_phantom_back(invoice: Record) -> None:
    lines = invoice.many("line_ids")
    discounts = [line for line in lines if line["display_type"] == "discount"]
    phantoms = [line for line in lines if line["date_maturity"] == PHANTOM_DAY]
    if discounts and phantoms:
        phantoms[0].update(debit=discounts[0]["debit"])
        discounts[0].update(debit=0.0)


def _check_postable(entry: Record) -> None:
    if entry["state"] != "draft":
        raise errors.UserError(f"The entry {entry['name']} (id {entry.id}) must be in draft.")
    if entry["move_type"].startswith("in_"):
        _check_vendor_bill(entry)
    if not entry["invoice_line_ids"]:
        raise errors.UserError("You need to add a line before posting.")
    check_balanced(entry)


def _check_vendor_bill(bill: Record) -> None:
    if not bill["partner_id"]:
        raise errors.UserError(
            "The field 'Vendor' is required, please complete it to validate the Vendor Bill."
        )
    if not bill["invoice_date"]:
        raise errors.UserError("The Bill/Refund date is required to validate this document.")
    if not bill["invoice_date_due"]:
        raise errors.UserError("The due date is required to validate this document.")


def reset_to_draft(entry: Record) -> None:
    """Take a posted or cancelled entry back to draft; what settled its items no more does."""
    if entry["state"] not in {"posted", "cancel"}:
        raise errors.UserError("Only posted/cancelled journal entries can be reset to draft.")
    reconciliation.undo(entry.many("line_ids"))
    entry.update(state="draft")


def cancel(entry: Record) -> None:
    """Cancel a draft."""
    if entry["state"] != "draft":
        raise errors.UserError("Only draft journal entries can be cancelled.")
    entry.update(state="cancel")


class AccountMove(Model):
    """Entries: bills and invoices, and what payments and bank statements book."""

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
            compute=payment_state_of,
        ),
        "payment_id": fields.many2one(
            "account.payment", "Payment", copied=False, versions=frozenset({17})
        ),
        "origin_payment_id": fields.many2one(
            "account.payment", "Payment", copied=False, versions=frozenset({19})
        ),
        "statement_line_id": fields.many2one(
            "account.bank.statement.line", "Statement Line", copied=False
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
        "amount_residual_signed": fields.monetary(
            "Amount Due Signed",
            compute=lambda bill: _signed(bill, residual_of(bill)),
        ),
        "has_reconciled_entries": fields.boolean(
            "Has Reconciled Entries", compute=has_matches, searchable=False
        ),
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
        entry = self.record(record_id)
        balance(entry)
        check_balanced(entry)

    @record_method
    def write(self, ids: list[int], vals: Any) -> bool:
        """Change entries; what is posted holds its accounting data."""
        # The server looks at the state first, so who may not read is told that.
        self.check_access("read")
        self.check_access("write")
        for bill in self.records(ids):
            if bill["state"] == "posted":
                self._refuse_frozen(vals)
        # Commands change one item after the other: only the whole has to be balanced.
        context = {**self.env.context, UNCHECKED: False}
        super(AccountMove, AccountMove(replace(self.env, context=context))).write(ids, vals)
        for entry in self.records(ids):
            check_balanced(entry)
        return True

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
            post(bill)
        return False

    @record_method
    def button_draft(self, ids: list[int]) -> None:
        """Take posted or cancelled entries back to draft; what settled their items no more does."""
        for bill in self._writable(ids):
            reset_to_draft(bill)

    @record_method
    def button_cancel(self, ids: list[int]) -> None:
        """Cancel drafts."""
        for bill in self._writable(ids):
            cancel(bill)

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


def _signed(bill: Record, amount: float) -> float:
    return -amount if bill["move_type"] in {"in_invoice", "out_refund"} else amount


def payment_of(line: Record) -> int | None:
    """Return the payment whose entry an item belongs to."""
    name = "origin_payment_id" if line.model.env.version >= NEW_VERSION else "payment_id"
    payment_id: int | None = of_move(line, name)
    return payment_id


def account_type_of(line: Record) -> str | None:
    """Return the type of an item's account."""
    account = line.one("account_id")
    return account["account_type"] if account else None


class AccountMoveLine(Model):
    """Items of entries: product lines, and the instalments that balance them."""

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
        "move_type": fields.selection(
            "Type", *INVOICE_TYPES, compute=lambda line: of_move(line, "move_type")
        ),
        "ref": fields.char("Reference", compute=lambda line: of_move(line, "ref")),
        "journal_id": fields.many2one(
            "account.journal", "Journal", compute=lambda line: of_move(line, "journal_id")
        ),
        "payment_id": fields.many2one("account.payment", "Originator Payment", compute=payment_of),
        "statement_line_id": fields.many2one(
            "account.bank.statement.line",
            "Originator Statement Line",
            compute=lambda line: of_move(line, "statement_line_id"),
        ),
        "account_id": fields.many2one("account.account", "Account"),
        "account_type": fields.selection(
            "Internal Type", *catalog.ACCOUNT_TYPES, compute=account_type_of
        ),
        "company_id": fields.many2one("res.company", "Company"),
        "partner_id": fields.many2one("res.partner", "Partner"),
        "purchase_line_id": fields.many2one("purchase.order.line", "Purchase Order Line"),
        "product_id": fields.many2one("product.product", "Product"),
        "name": fields.char("Label"),
        "display_type": fields.selection(
            "Display Type",
            ("product", "Product"),
            ("tax", "Tax"),
            ("discount", "Discount"),
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
        "balance": fields.monetary("Balance", compute=reconciliation.balance_of),
        "amount_currency": fields.monetary("Amount in Currency", compute=reconciliation.balance_of),
        **reconciliation.matching_fields(),
        "date_maturity": fields.day("Due Date"),
        "x_studio_nf_e": fields.char("NF-e", indexed=True),
        "x_studio_status_de_pagamento": fields.char("Payment Status"),
        "l10n_br_cobranca_parcela": fields.integer("Instalment"),
        "l10n_br_paga": fields.boolean("Paid"),
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

    @record_method
    def write(self, ids: list[int], vals: Any) -> bool:
        """Change items; what is posted holds its accounts and amounts, and entries are balanced."""
        self.check_access("write")
        lines = self.records(ids)
        if FROZEN_ITEM & set(vals) and any(line["parent_state"] == "posted" for line in lines):
            raise errors.UserError(
                "You cannot do this modification on a posted journal entry, you can just change "
                "some non legal fields. You must revert the journal entry to cancel it."
            )
        super().write(ids, vals)
        if self.env.context.get(UNCHECKED, True):
            for entry in self.env["account.move"].records({line["move_id"] for line in lines}):
                check_balanced(entry)
        return True

    @record_method
    def reconcile(self, ids: list[int]) -> None:
        """Match items of one account with each other."""
        self.check_access("write")
        lines = self.records(ids)
        self.check_rules(ids, "write")
        reconciliation.reconcile(lines)

    @record_method
    def remove_move_reconcile(self, ids: list[int]) -> None:
        """Take items out of their matches."""
        self.check_access("write")
        reconciliation.undo(self.records(ids))

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Balance the entry again when a product line changed."""
        move = self.record(record_id).one("move_id")
        if move is not None and {"quantity", "price_unit"} & set(values):
            balance(move)


MODELS: tuple[type[Model], ...] = (AccountMove, AccountMoveLine)
