"""Which items of entries settle which: how much is left of each, and who matched whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import errors, fields
from service.simulator.orm import Model, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LINE = "account.move.line"
PARTIAL = "account.partial.reconcile"
FULL = "account.full.reconcile"
LIQUID = frozenset({"asset_cash"})


def cents(amount: float | None) -> int:
    """Return an amount that is kept with two places as a whole number of cents."""
    return round((amount or 0.0) * 100)


def sides(balance: float) -> dict[str, float]:
    """Return a balance as debit and credit."""
    amount = fields.rounded(balance)
    return {"debit": max(amount, 0.0), "credit": -amount if amount < 0 else 0.0}


def balance_of(line: Record) -> float:
    """Return debit less credit."""
    return (cents(line["debit"]) - cents(line["credit"])) / 100


def residual_of(line: Record) -> float:
    """Return what is left of an item, with the sign of its balance."""
    account = line.one("account_id")
    if account is None or not account["reconcile"]:
        return 0.0
    left = cents(line["debit"]) - cents(line["credit"])
    left -= sum(cents(partial["amount"]) for partial in line.many("matched_credit_ids"))
    left += sum(cents(partial["amount"]) for partial in line.many("matched_debit_ids"))
    return left / 100


def is_reconciled(line: Record) -> bool:
    """Whether nothing is left of a posted item."""
    account = line.one("account_id")
    if account is None or not account["reconcile"] or line["parent_state"] != "posted":
        return False
    return residual_of(line) == 0.0


def partials_of(line: Record) -> list[Record]:
    """Return how an item was matched, on either side."""
    return [*line.many("matched_credit_ids"), *line.many("matched_debit_ids")]


def number_of(line: Record) -> str | None:
    """Return what the items that settle each other have in common: `P12` while some is left."""
    if line["full_reconcile_id"]:
        return str(line["full_reconcile_id"])
    matched = [partial.id for partial in _cluster(line)[1]]
    return f"P{min(matched)}" if matched else None


def reconcile(lines: Sequence[Record]) -> None:
    """Match items of one account as far as their amounts go; refuse as the real server does."""
    _check(lines)
    debits = [line for line in _by_date(lines) if residual_of(line) > 0]
    credits_ = [line for line in _by_date(lines) if residual_of(line) < 0]
    while debits and credits_:
        debit, credit = debits[0], credits_[0]
        _match(debit, credit, min(cents(residual_of(debit)), -cents(residual_of(credit))))
        debits = [line for line in debits if residual_of(line)]
        credits_ = [line for line in credits_ if residual_of(line)]
    _close(lines)


def undo(lines: Iterable[Record]) -> None:
    """Take items out of every match they are in."""
    for line in lines:
        members, partials = _cluster(line)
        line.model.env[PARTIAL].remove([one.id for one in partials_of(line)])
        full = {one["full_reconcile_id"] for one in members} - {None}
        for member in members:
            member.update(full_reconcile_id=None)
        if full and partials:
            line.model.env[FULL].remove(full)


def _check(lines: Sequence[Record]) -> None:
    if any(line["reconciled"] for line in lines):
        raise errors.UserError(
            "You are trying to reconcile some entries that are already reconciled."
        )
    if any(line["parent_state"] != "posted" for line in lines):
        raise errors.UserError("You can only reconcile posted entries.")
    accounts = {line["account_id"]: line.one("account_id") for line in lines}
    known = [account for account in accounts.values() if account is not None]
    if len(accounts) > 1:
        listed = ", ".join(account.label for account in known)
        raise errors.UserError(f"Entries are not from the same account: {listed}")
    for account in known:
        if not account["reconcile"] and account["account_type"] not in LIQUID:
            raise errors.UserError(
                f"Account {account.label} does not allow reconciliation. First change the "
                "configuration of this account to allow it."
            )


def _by_date(lines: Sequence[Record]) -> list[Record]:
    return sorted(lines, key=lambda line: (line["date_maturity"] or line["date"], line.id))


def _match(debit: Record, credit: Record, amount: int) -> None:
    debit.model.env[PARTIAL].insert(
        {
            "debit_move_id": debit.id,
            "credit_move_id": credit.id,
            "amount": amount / 100,
            "company_id": debit["company_id"],
        }
    )


def _close(lines: Sequence[Record]) -> None:
    """Give items that settle each other wholly a common record."""
    for line in lines:
        members, partials = _cluster(line)
        done = partials and all(is_reconciled(one) for one in members)
        if not done or any(one["full_reconcile_id"] for one in members):
            continue
        full_id = line.model.env[FULL].insert({})
        for partial in partials:
            partial.update(full_reconcile_id=full_id)
        for member in members:
            member.update(full_reconcile_id=full_id)


def _cluster(line: Record) -> tuple[list[Record], list[Record]]:
    """Return the items that are matched with each other, near or far, and their matches."""
    members, partials = {line.id: line}, dict[int, Record]()
    open_ends = [line]
    while open_ends:
        for partial in partials_of(open_ends.pop()):
            partials[partial.id] = partial
            for side in (partial.one("debit_move_id"), partial.one("credit_move_id")):
                if side is not None and side.id not in members:
                    members[side.id] = side
                    open_ends.append(side)
    return list(members.values()), list(partials.values())


class PartialReconcile(Model):
    """That a debit and a credit settle each other, and how much of them."""

    model = PARTIAL
    title = "Partial Reconcile"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "debit_move_id": fields.many2one(LINE, "Debit Move", required=True, ondelete="cascade"),
        "credit_move_id": fields.many2one(LINE, "Credit Move", required=True, ondelete="cascade"),
        "full_reconcile_id": fields.many2one(FULL, "Full Reconcile"),
        "amount": fields.monetary("Amount"),
        "company_id": fields.many2one("res.company", "Company"),
    }


class FullReconcile(Model):
    """That items settle each other without a rest."""

    model = FULL
    title = "Full Reconcile"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "partial_reconcile_ids": fields.one2many(PARTIAL, "full_reconcile_id", "Parts"),
        "reconciled_line_ids": fields.one2many(LINE, "full_reconcile_id", "Matched Journal Items"),
    }

    def display(self, record_id: int) -> str:
        """Return the number that the items show."""
        return str(record_id)


def matching_fields() -> dict[str, Any]:
    """Return the fields of an item that tell what settles it."""
    return {
        "amount_residual": fields.monetary("Residual Amount", compute=residual_of),
        "amount_residual_currency": fields.monetary(
            "Residual Amount in Currency", compute=residual_of
        ),
        "reconciled": fields.boolean("Reconciled", compute=is_reconciled),
        "matched_debit_ids": fields.one2many(PARTIAL, "credit_move_id", "Matched Debits"),
        "matched_credit_ids": fields.one2many(PARTIAL, "debit_move_id", "Matched Credits"),
        "full_reconcile_id": fields.many2one(FULL, "Matching", readonly=True, copied=False),
        "matching_number": fields.char("Matching #", compute=number_of),
    }


MODELS: tuple[type[Model], ...] = (PartialReconcile, FullReconcile)
