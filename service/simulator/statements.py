"""Lines of bank statements: what the bank says has moved, booked against a suspense account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import bills, errors, fields, reconciliation
from service.simulator.orm import Model, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

STATEMENT_LINE = "account.bank.statement.line"
BOOKED = frozenset({"amount", "partner_id", "payment_ref"})


def bank_item_of(line: Record) -> Record | None:
    """Return the item on the bank's own account."""
    entry, journal = line.one("move_id"), line.one("journal_id")
    items = entry.many("line_ids") if entry else []
    account_id = journal["default_account_id"] if journal else None
    return next((item for item in items if item["account_id"] == account_id), None)


def other_items_of(line: Record) -> list[Record]:
    """Return the items that say what the money was for."""
    entry, bank = line.one("move_id"), bank_item_of(line)
    items = entry.many("line_ids") if entry else []
    return [item for item in items if bank is None or item.id != bank.id]


def is_reconciled(line: Record) -> bool:
    """Whether nothing waits in suspense any more."""
    items = other_items_of(line)
    journal = line.one("journal_id")
    suspense = journal["suspense_account_id"] if journal else None
    return all(
        item["account_id"] != suspense and (item["reconciled"] or not item["amount_residual"])
        for item in items
    )


class StatementLine(Model):
    """One movement on a bank account."""

    model = STATEMENT_LINE
    title = "Bank Statement Line"
    order = "date desc, id desc"
    varied = "payment_ref"
    name_field = "payment_ref"
    company_rule = True
    groups = bills.accounting_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "move_id": fields.many2one("account.move", "Journal Entry", ondelete="cascade"),
        "journal_id": fields.many2one("account.journal", "Journal", required=True),
        "company_id": fields.many2one("res.company", "Company"),
        "date": fields.day("Date", default=lambda env: env.now.date(), required=True),
        "payment_ref": fields.char("Label"),
        "partner_id": fields.many2one("res.partner", "Partner"),
        "amount": fields.monetary("Amount", default=0.0),
        "state": fields.selection(
            "Status",
            ("draft", "Draft"),
            ("posted", "Posted"),
            ("cancel", "Cancelled"),
            compute=lambda line: bills.of_move(line, "state"),
        ),
        "is_reconciled": fields.boolean("Is Reconciled", compute=is_reconciled),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take the company from the journal."""
        journals = self.env["account.journal"]
        values["company_id"] = journals.value(values["journal_id"], "company_id")
        return values

    def on_created(self, record_id: int) -> None:
        """Book the movement against the suspense account, and post it."""
        line = self.record(record_id)
        entry_id = self.env["account.move"].insert(
            {
                "move_type": "entry",
                "date": line["date"],
                "partner_id": line["partner_id"],
                "journal_id": line["journal_id"],
                "company_id": line["company_id"],
                "statement_line_id": record_id,
            }
        )
        line.update(move_id=entry_id)
        journal = line.one("journal_id")
        if journal is not None:
            self._itemize(line, journal["default_account_id"], line["amount"])
            self._itemize(line, journal["suspense_account_id"], -line["amount"])
        bills.post(self.env["account.move"].record(entry_id))

    def _itemize(self, line: Record, account_id: int, balance: float) -> None:
        self.env["account.move.line"].insert(
            {
                "move_id": line["move_id"],
                "account_id": account_id,
                **reconciliation.sides(balance),
                "name": line["payment_ref"],
                "partner_id": line["partner_id"],
                "company_id": line["company_id"],
                "date_maturity": line["date"],
            }
        )

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Make the items anew, so that the suspense account is back in place.

        Whoever has chosen another account, or has written down the ids of the items, loses both.
        """
        if not BOOKED & set(values):
            return
        line = self.record(record_id)
        entry, journal, bank = line.one("move_id"), line.one("journal_id"), bank_item_of(line)
        if entry is None or journal is None or bank is None:
            return
        if entry["state"] != "draft":
            raise errors.UserError(
                "You cannot do this modification on a posted journal entry: reset it to draft."
            )
        entry.update(partner_id=line["partner_id"])
        self.env["account.move.line"].remove([item.id for item in other_items_of(line)])
        amount = line["amount"]
        bank.update(
            name=line["payment_ref"],
            partner_id=line["partner_id"],
            **reconciliation.sides(amount),
        )
        self._itemize(line, journal["suspense_account_id"], -amount)


MODELS: tuple[type[Model], ...] = (StatementLine,)
