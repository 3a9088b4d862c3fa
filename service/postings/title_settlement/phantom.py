"""The instalment of the year 2000 that Odoo sometimes adds to an invoice, and how it is mended.

It holds a discount as if the customer owed it. The invoice goes back to draft, one write moves the
discount to its own line and gives the rest to the agreed instalments, and the invoice is posted.
What cannot be mended safely is left to a person before anything is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending
from service.postings.title_settlement import title
from service.postings.title_settlement.settlement import known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.odoo.records import Record
    from service.postings.title_settlement.settlement import SettlementWork

CENT = Decimal("0.01")
FIELDS = (
    "debit",
    "credit",
    "account_id",
    "account_type",
    "date_maturity",
    "matched_credit_ids",
    "matched_debit_ids",
)


@dataclass(frozen=True, kw_only=True)
class Repair:
    """The debits that the lines of an invoice should have, by line, and those that they have."""

    before: dict[int, Decimal]
    after: dict[int, Decimal]

    @property
    def commands(self) -> list[list[Any]]:
        """The change of all lines in one write, which keeps the entry balanced."""
        return [
            [1, line_id, {"debit": amount, "credit": 0}] for line_id, amount in self.after.items()
        ]


async def open_invoice(work: SettlementWork) -> Observation:
    """Step 2: an invoice with a phantom is in draft, if it can be mended."""
    if not work.facts.phantom:
        return Done(message="no instalment of the year 2000")
    move = await _move(work)
    if move.text("state") == "draft":
        return Done(message="the invoice is in draft")
    if await _plan(work, move) is None:
        return Done(message="the instalment of the year 2000 is gone")
    if work.facts.phantom_repaired:
        raise _came_back(move)
    return Pending(
        Call(
            model=title.MOVE,
            method="button_draft",
            args=[[move.id]],
            kwargs={"context": title.contexts(work)},
            before={"state": move.text("state")},
            after={"state": "draft"},
        )
    )


async def repair(work: SettlementWork) -> Observation:
    """Step 3: the phantom holds nothing, and the agreed instalments hold all that is owed."""
    if not work.facts.phantom:
        return Done(message="no instalment of the year 2000")
    move = await _move(work)
    planned = await _plan(work, move)
    if planned is None:
        return Done({"phantom_repaired": True}, "the instalment of the year 2000 holds nothing")
    if move.text("state") != "draft":
        raise _came_back(move)
    return Pending(
        Call(
            model=title.MOVE,
            method="write",
            args=[[move.id], {"line_ids": planned.commands}],
            kwargs={"context": title.contexts(work)},
            before={f"debit of {line_id}": debit for line_id, debit in planned.before.items()},
            after={f"debit of {line_id}": debit for line_id, debit in planned.after.items()},
        )
    )


async def close_invoice(work: SettlementWork) -> Observation:
    """Step 4: the invoice is posted again, and Odoo has not brought the phantom back."""
    if not work.facts.phantom:
        return Done(message="no instalment of the year 2000")
    move = await _move(work)
    if await title.phantoms(work, move.id):
        raise _came_back(move)
    if move.text("state") == "posted":
        return Done({"phantom": False}, f"{move.text('name')} is posted without it")
    return Pending(
        Call(
            model=title.MOVE,
            method="action_post",
            args=[[move.id]],
            kwargs={"context": title.contexts(work)},
            before={"state": move.text("state")},
            after={"state": "posted"},
        )
    )


async def undo_open(work: SettlementWork) -> Observation:
    """The invoice is not left in draft. What was mended of it stays."""
    move = await _move(work)
    if move.text("state") == "posted":
        return Done({"phantom": False, "phantom_repaired": False})
    return Pending(
        Call(
            model=title.MOVE,
            method="action_post",
            args=[[move.id]],
            kwargs={"context": title.contexts(work)},
            before={"state": move.text("state")},
            after={"state": "posted"},
        )
    )


async def _move(work: SettlementWork) -> Record:
    moves = await work.odoo.read(title.MOVE, [known(work.facts.move_id)], ("name", "state"))
    if not moves or moves[0].text("state") == "cancel":
        raise Halt(
            "invoice_canceled",
            f"Invoice {work.facts.move_name} was cancelled or deleted in Odoo: there is nothing to "
            "settle. Cancel this posting.",
            "needs_attention",
        )
    return moves[0]


async def _plan(work: SettlementWork, move: Record) -> Repair | None:
    """The repair of an invoice, None when it needs none; halts where it is a person's.

    All amounts are of one read: the same repair, sent twice, writes the same values.
    """
    lines = await work.odoo.search_read(title.LINE, [["move_id", "=", move.id]], FIELDS)
    owed = [line for line in lines if line.text("account_type") == "asset_receivable"]
    held = [line for line in owed if line.number("debit") > 0]
    unagreed = [line for line in held if line.text("date_maturity") == title.PHANTOM_DAY]
    agreed = [line for line in held if line not in unagreed]
    if not unagreed:
        return None
    _check_unsettled(move, owed)
    discount = await _discount_line(work, move)
    others = [line for line in lines if line not in owed and line.id != discount.id]
    total = -_balance(others)
    given_away = _balance(unagreed)
    shares = _shares(work, move, agreed, total=total, owed=total - given_away)
    after = {
        **{line.id: Decimal(0) for line in unagreed},
        discount.id: given_away,
        **shares,
    }
    return Repair(
        before={line.id: line.number("debit") for line in lines if line.id in after}, after=after
    )


def _shares(
    work: SettlementWork, move: Record, agreed: Sequence[Record], *, total: Decimal, owed: Decimal
) -> dict[int, Decimal]:
    """What is owed, in the proportions of the instalments; the last one takes the cents."""
    present = _balance(agreed)
    by_percent = total * work.profile.phantom_limit_percent / 100
    limit = max(work.profile.phantom_limit, by_percent)
    if present <= 0 or owed <= 0 or abs(owed - present) > limit:
        raise Halt(
            "phantom_too_large",
            f"Invoice {move.text('name')} has an instalment of the year 2000 that cannot be "
            f"mended: its other instalments would go from R$ {present} to R$ {owed}, by more than "
            f"R$ {limit.quantize(CENT)}. Correct the instalments in Odoo, then resume.",
            "needs_attention",
        )
    shares = {
        line.id: (line.number("debit") * owed / present).quantize(CENT, ROUND_HALF_UP)
        for line in agreed
    }
    shares[agreed[-1].id] += owed - sum(shares.values())
    return shares


def _check_unsettled(move: Record, owed: Sequence[Record]) -> None:
    """Going back to draft would undo what has settled an instalment already."""
    if any(line.refs("matched_credit_ids") or line.refs("matched_debit_ids") for line in owed):
        raise Halt(
            "phantom_partly_settled",
            f"Invoice {move.text('name')} has an instalment of the year 2000, and payments that "
            "setting it to draft would undo. Correct the instalments in Odoo, then resume.",
            "needs_attention",
        )


async def _discount_line(work: SettlementWork, move: Record) -> Record:
    name = work.profile.discount_account_name
    domain = [["move_id", "=", move.id], ["account_id.name", "ilike", name]]
    lines = await work.odoo.search_read(title.LINE, domain, ("debit",))
    if len(lines) != 1:
        raise Halt(
            "phantom_without_discount",
            f"Invoice {move.text('name')} has an instalment of the year 2000 and {len(lines)} "
            f"lines of discounts ({name}); it should have one. Correct it in Odoo, then resume.",
            "needs_attention",
        )
    return lines[0]


def _balance(lines: Sequence[Record]) -> Decimal:
    return sum((line.number("debit") - line.number("credit") for line in lines), Decimal(0))


def _came_back(move: Record) -> Halt:
    return Halt(
        "phantom_came_back",
        f"The instalment of the year 2000 of invoice {move.text('name')} was mended and is there "
        "again. Correct the invoice in Odoo, then resume.",
        "needs_attention",
    )
