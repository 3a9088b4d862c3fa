"""Payments, and the wizard that registers one for open items: neither is made twice for nothing.

Version 17 books a payment when it is made, and its state is that of the entry. Version 19 books it
when it is posted, gives it states of its own, and calls its reference `memo`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from service.simulator import bills, errors, fields, reconciliation
from service.simulator.orm import NEW_VERSION, Model, Record, record_method

if TYPE_CHECKING:
    from collections.abc import Mapping

PAYMENT = "account.payment"
REGISTER = "account.payment.register"
OLD, NEW = frozenset({17}), frozenset({19})
MONEY = frozenset({"bank", "cash"})
STATES = (
    ("draft", "Draft"),
    ("posted", "Posted"),
    ("cancel", "Cancelled"),
    ("in_process", "In Process"),
    ("paid", "Paid"),
    ("canceled", "Canceled"),
    ("rejected", "Rejected"),
)
BOOKED = frozenset({"amount", "date", "journal_id", "partner_id", "payment_type", "company_id"})
NOTHING_LEFT = (
    "You can't register a payment because there is nothing left to pay on the selected journal "
    "items."
)


class Item(NamedTuple):
    """What an entry books on an account; positive is a debit."""

    account_id: int
    label: str | None
    balance: float


def is_new(model: Model) -> bool:
    """Whether the version is the one with states and entries of its own."""
    return model.env.version >= NEW_VERSION


def reference_of(payment: Record) -> str | None:
    """Return what the payment is for, whatever the version calls it."""
    text: str | None = payment["memo" if is_new(payment.model) else "ref"]
    return text


def counterpart_of(payment: Record) -> Record | None:
    """Return the item of a payment that settles invoices."""
    entry = payment.one("move_id")
    lines = bills.instalments_of(entry) if entry else []
    return lines[0] if lines else None


def liquidity_of(payment: Record) -> Record | None:
    """Return the item of a payment that stands for the money."""
    entry = payment.one("move_id")
    lines = entry.many("line_ids") if entry else []
    return next((line for line in lines if line["account_id"] == outstanding_of(payment)), None)


def outstanding_of(payment: Record) -> int | None:
    """Return where money waits for the bank; a journal that is no bank has one account for all."""
    journal = payment.one("journal_id")
    if journal is None or journal["type"] not in MONEY:
        return None
    if journal["type"] == "cash":
        account_id: int | None = journal["default_account_id"]
        return account_id
    accounts = payment.model.env.seed.company(payment["company_id"]).accounts
    inbound = payment["payment_type"] == "inbound"
    return accounts.outstanding_receipts if inbound else accounts.outstanding_payments


def destination_of(payment: Record) -> int:
    """Return the account of what is settled."""
    accounts = payment.model.env.seed.company(payment["company_id"]).accounts
    return accounts.receivable if payment["partner_type"] == "customer" else accounts.payable


def state_of(payment: Record) -> str:
    """Return the state: that of the entry in 17, its own in 19."""
    if not is_new(payment.model):
        entry = payment.one("move_id")
        return str(entry["state"]) if entry else "draft"
    stage = str(payment.model.table.rows[payment.id].get("stage") or "draft")
    return "paid" if stage == "in_process" and _arrived(payment) else stage


def _arrived(payment: Record) -> bool:
    """Whether the bank has confirmed the money, or the invoices that it is for are paid."""
    liquidity = liquidity_of(payment)
    if liquidity is not None and liquidity["reconciled"]:
        return True
    invoices = payment.many("invoice_ids")
    return bool(invoices) and all(one["payment_state"] == "paid" for one in invoices)


def is_reconciled(payment: Record) -> bool:
    """Whether the payment is used up."""
    counterpart = counterpart_of(payment)
    return counterpart is not None and bool(counterpart["reconciled"])


def settled_by(payment: Record, *kinds: str) -> tuple[int, ...]:
    """Return the invoices that a payment settles, wholly or in part."""
    counterpart = counterpart_of(payment)
    partials = reconciliation.partials_of(counterpart) if counterpart else []
    sides = (
        partial.one(name) for partial in partials for name in ("debit_move_id", "credit_move_id")
    )
    moves = (side.one("move_id") for side in sides if side is not None)
    found = {move.id for move in moves if move is not None and move["move_type"] in kinds}
    return tuple(sorted(found))


def book(payment: Record, write_off: Item | None = None) -> Record:
    """Make the draft entry of a payment."""
    env = payment.model.env
    outstanding = outstanding_of(payment)
    if outstanding is None:
        journal = payment.one("journal_id")
        raise errors.UserError(
            "You can't create a new payment without an outstanding payments/receipts account set "
            f"either on the company or the Manual payment method in the "
            f"{journal.label if journal else ''} journal."
        )
    entry_id = env["account.move"].insert(
        {
            "move_type": "entry",
            "date": payment["date"],
            "ref": reference_of(payment),
            "partner_id": payment["partner_id"],
            "journal_id": payment["journal_id"],
            "company_id": payment["company_id"],
            "origin_payment_id" if is_new(payment.model) else "payment_id": payment.id,
        }
    )
    entry = env["account.move"].record(entry_id)
    payment.update(move_id=entry_id)
    _itemize(payment, entry, outstanding, write_off)
    return entry


def _itemize(payment: Record, entry: Record, outstanding: int, write_off: Item | None) -> None:
    money = payment["amount"] if payment["payment_type"] == "inbound" else -payment["amount"]
    rest = -money - (write_off.balance if write_off else 0.0)
    text = reference_of(payment)
    items = [Item(outstanding, text, money), Item(destination_of(payment), text, rest)]
    for account_id, label, balance in [*items, *([write_off] if write_off else [])]:
        entry.model.env["account.move.line"].insert(
            {
                "move_id": entry.id,
                "account_id": account_id,
                **reconciliation.sides(balance),
                "name": label,
                "partner_id": payment["partner_id"],
                "company_id": payment["company_id"],
                "date_maturity": payment["date"],
            }
        )


def post(payment: Record) -> None:
    """Post a payment: 17 refuses what is posted, 19 leaves it as it is."""
    new = is_new(payment.model)
    if new and state_of(payment) not in {"draft", "in_process"}:
        return
    entry = payment.one("move_id") or book(payment)
    if not new or entry["state"] == "draft":
        bills.post(entry)
    payment.update(stage="in_process", name=entry["name"])


class Payment(Model):
    """Payments of customers and to suppliers."""

    model = PAYMENT
    title = "Payments"
    order = "date desc, name desc"
    company_rule = True
    groups = bills.accounting_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Number", copied=False),
        "state": fields.selection("State", *STATES, compute=state_of),
        "payment_type": fields.selection(
            "Payment Type",
            ("outbound", "Send"),
            ("inbound", "Receive"),
            default="inbound",
            required=True,
        ),
        "partner_type": fields.selection(
            "Partner Type",
            ("customer", "Customer"),
            ("supplier", "Vendor"),
            default="customer",
            required=True,
        ),
        "partner_id": fields.many2one("res.partner", "Customer/Vendor"),
        "amount": fields.monetary("Amount", default=0.0),
        "currency_id": fields.many2one(
            "res.currency", "Currency", default=lambda env: env.seed.currency_id
        ),
        "date": fields.day("Date", default=lambda env: env.now.date(), required=True),
        "journal_id": fields.many2one("account.journal", "Journal", required=True),
        "company_id": fields.many2one("res.company", "Company"),
        "ref": fields.char("Reference", versions=OLD, indexed=True, copied=False),
        "memo": fields.char("Memo", versions=NEW, indexed=True, copied=False),
        "payment_reference": fields.char("Payment Reference", copied=False),
        "move_id": fields.many2one("account.move", "Journal Entry", copied=False),
        "invoice_ids": fields.many2many("account.move", "Invoices", versions=NEW, copied=False),
        "outstanding_account_id": fields.many2one(
            "account.account", "Outstanding Account", compute=outstanding_of
        ),
        "destination_account_id": fields.many2one(
            "account.account", "Destination Account", compute=destination_of
        ),
        "is_reconciled": fields.boolean("Is Reconciled", compute=is_reconciled),
        "is_matched": fields.boolean(
            "Is Matched With a Bank Statement",
            compute=lambda payment: bool((one := liquidity_of(payment)) and one["reconciled"]),
        ),
        "reconciled_invoice_ids": fields.many2many(
            "account.move",
            "Reconciled Invoices",
            compute=lambda payment: settled_by(payment, "out_invoice", "out_refund"),
        ),
        "reconciled_bill_ids": fields.many2many(
            "account.move",
            "Reconciled Bills",
            compute=lambda payment: settled_by(payment, "in_invoice", "in_refund"),
        ),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take the company from the journal."""
        journal_id = values.get("journal_id")
        if journal_id and not values.get("company_id"):
            values["company_id"] = self.env["account.journal"].value(journal_id, "company_id")
        return values

    def on_created(self, record_id: int) -> None:
        """Refuse negative amounts; 17 books at once."""
        payment = self.record(record_id)
        if payment["amount"] < 0:
            raise errors.ValidationError("The payment amount cannot be negative.")
        if not is_new(self):
            book(payment)

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Let the draft entry follow; what is posted holds."""
        payment = self.record(record_id)
        entry, outstanding = payment.one("move_id"), outstanding_of(payment)
        if entry is None or outstanding is None or not BOOKED & set(values):
            return
        if entry["state"] != "draft":
            raise errors.UserError(
                "You cannot modify a posted entry of this journal: " + ", ".join(values)
            )
        self.env["account.move.line"].remove([line.id for line in entry.many("line_ids")])
        _itemize(payment, entry, outstanding, None)

    def on_unlinking(self, record_id: int) -> None:
        """Refuse to delete what is posted; the draft entry goes along."""
        entry = self.record(record_id).one("move_id")
        if entry is not None:
            self.env["account.move"].unlink([entry.id])

    @record_method
    def action_post(self, ids: list[int]) -> None:
        """Post payments."""
        for payment in self._writable(ids):
            post(payment)

    @record_method
    def action_draft(self, ids: list[int]) -> None:
        """Take payments back to draft; what they settled is open again."""
        for payment in self._writable(ids):
            entry = payment.one("move_id")
            if entry is not None and entry["state"] != "draft":
                bills.reset_to_draft(entry)
            payment.update(stage="draft")

    @record_method
    def action_cancel(self, ids: list[int]) -> None:
        """Cancel payments; 19 drops their draft entries."""
        for payment in self._writable(ids):
            entry = payment.one("move_id")
            if entry is not None and is_new(self) and entry["state"] == "draft":
                self.env["account.move"].unlink([entry.id])
            elif entry is not None:
                bills.cancel(entry)
            payment.update(stage="canceled")

    def _writable(self, ids: list[int]) -> list[Record]:
        self.check_access("write")
        found = self.records(ids)
        self.check_rules(ids, "write")
        return found


def source_amount_of(wizard: Record) -> float:
    """Return what is open of the items that the wizard was opened for."""
    left = sum(reconciliation.cents(line["amount_residual"]) for line in wizard.many("line_ids"))
    return abs(left) / 100


def difference_of(wizard: Record) -> float:
    """Return what would stay open."""
    amount = reconciliation.cents(wizard["amount"])
    return (reconciliation.cents(source_amount_of(wizard)) - amount) / 100


def write_off_of(wizard: Record) -> Item | None:
    """Return what of the difference is written off, which is all of it or nothing."""
    difference = difference_of(wizard)
    if wizard["payment_difference_handling"] != "reconcile" or not difference:
        return None
    account, journal = wizard.one("writeoff_account_id"), wizard.one("journal_id")
    if account is None or journal is None:
        raise errors.UserError("Please set the account that the difference is written off to.")
    owner = account.model.table.rows[account.id]["company_id"]
    if owner != journal["company_id"]:
        raise errors.UserError(
            f"Incompatible companies on records:\n- '{account.label}' belongs to another company "
            f"than the journal '{journal.label}'."
        )
    balance = difference if wizard["payment_type"] == "inbound" else -difference
    return Item(account.id, wizard["writeoff_label"], balance)


class PaymentRegister(Model):
    """The wizard that pays open items; what it makes is posted and reconciled in one go."""

    model = REGISTER
    title = "Register Payment"
    groups = bills.accounting_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "line_ids": fields.many2many("account.move.line", "Journal items", readonly=True),
        "payment_type": fields.selection(
            "Payment Type", ("outbound", "Send Money"), ("inbound", "Receive Money"), readonly=True
        ),
        "partner_type": fields.selection(
            "Partner Type", ("customer", "Customer"), ("supplier", "Vendor"), readonly=True
        ),
        "partner_id": fields.many2one("res.partner", "Customer/Vendor", readonly=True),
        "company_id": fields.many2one("res.company", "Company", readonly=True),
        "currency_id": fields.many2one(
            "res.currency", "Currency", default=lambda env: env.seed.currency_id
        ),
        "amount": fields.monetary("Amount"),
        "source_amount": fields.monetary(
            "Amount to Pay", compute=source_amount_of, searchable=False
        ),
        "payment_difference": fields.monetary(
            "Payment Difference", compute=difference_of, searchable=False
        ),
        "payment_difference_handling": fields.selection(
            "Payment Difference Handling",
            ("open", "Keep open"),
            ("reconcile", "Mark as fully paid"),
            default="open",
        ),
        "payment_date": fields.day(
            "Payment Date", default=lambda env: env.now.date(), required=True
        ),
        "journal_id": fields.many2one("account.journal", "Journal"),
        "communication": fields.char("Memo"),
        "writeoff_account_id": fields.many2one("account.account", "Difference Account"),
        "writeoff_label": fields.char("Journal Item Label", default="Write-Off"),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take items, partner and amount from the context."""
        lines = self._open_items()
        receivable = lines[0]["account_type"] == "asset_receivable"
        left = abs(sum(reconciliation.cents(line["amount_residual"]) for line in lines)) / 100
        return {
            "payment_type": "inbound" if receivable else "outbound",
            "partner_type": "customer" if receivable else "supplier",
            "partner_id": lines[0]["partner_id"],
            "company_id": lines[0]["company_id"],
            "amount": left,
            "communication": " ".join(str(bills.of_move(line, "name")) for line in lines),
            **values,
            "line_ids": [[6, 0, [line.id for line in lines]]],
        }

    def _open_items(self) -> list[Record]:
        context = self.env.context
        ids = context.get("active_ids") or ()
        if context.get("active_model") not in {"account.move", "account.move.line"} or not ids:
            raise errors.UserError(
                "The register payment wizard should only be called on account.move or "
                "account.move.line records."
            )
        chosen = self.env[str(context["active_model"])].records(ids)
        if context["active_model"] == "account.move":
            chosen = [line for move in chosen for line in bills.instalments_of(move)]
        if any(line["parent_state"] != "posted" for line in chosen):
            raise errors.UserError("You can only register payment for posted journal entries.")
        lines = [
            line
            for line in chosen
            if line["account_type"] in bills.TO_BE_PAID and line["amount_residual"]
        ]
        if not lines:
            raise errors.UserError(NOTHING_LEFT)
        return lines

    @record_method
    def action_create_payments(self, ids: list[int]) -> dict[str, Any]:
        """Make, post and reconcile a payment; called again, it makes another one."""
        self.check_access("write")
        made = [self._pay(wizard) for wizard in self.records(ids)]
        return {
            "name": "Payments",
            "type": "ir.actions.act_window",
            "res_model": PAYMENT,
            "context": {"create": False},
            "view_mode": "form",
            "res_id": made[0],
        }

    def _pay(self, wizard: Record) -> int:
        payments, new = self.env[PAYMENT], is_new(self)
        lines = wizard.many("line_ids")
        payment_id = payments.insert(
            {
                "payment_type": wizard["payment_type"],
                "partner_type": wizard["partner_type"],
                "partner_id": wizard["partner_id"],
                "amount": wizard["amount"],
                "date": wizard["payment_date"],
                "journal_id": wizard["journal_id"],
                "company_id": wizard["company_id"],
                "memo" if new else "ref": wizard["communication"],
                **({"invoice_ids": tuple({line["move_id"] for line in lines})} if new else {}),
            }
        )
        payment = payments.record(payment_id)
        book(payment, write_off_of(wizard))
        post(payment)
        counterpart = counterpart_of(payment)
        open_items = [line for line in lines if not line["reconciled"]]
        if counterpart is not None and open_items:
            reconciliation.reconcile([counterpart, *open_items])
        return payment_id


MODELS: tuple[type[Model], ...] = (Payment, PaymentRegister)
