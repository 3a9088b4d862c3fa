"""The line of the bank statement: made to wait on the payment's account, and reconciled with it.

All is written in one draft cycle. The account comes last, since writing partner or label brings the
suspense account back; the match comes at the very end, since a draft would undo it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending, write
from service.postings.title_settlement import payment, title
from service.postings.title_settlement.settlement import (
    NOT_ASKED,
    Purpose,
    known,
    payment_reference,
)

if TYPE_CHECKING:
    from service.odoo.records import Record
    from service.postings.title_settlement.settlement import SettlementWork

STATEMENT_LINE = "account.bank.statement.line"
FIELDS = ("move_id", "journal_id", "amount", "partner_id", "payment_ref")
ITEM_FIELDS = ("account_id", "balance", "name", "reconciled")


@dataclass(frozen=True, kw_only=True)
class Movement:
    """A statement line with its entry: the item on the bank's account, and the one that waits.

    `money` is the payment's item that the waiting one is to be matched with; `suspense` the
    account on which an item waits of which nobody has said yet what it is.
    """

    line: Record
    state: str
    suspense: int | None
    bank: Record
    waiting: Record
    money: Record

    @property
    def ready(self) -> bool:
        """Whether the waiting item is on the payment's account."""
        return self.waiting.ref("account_id") == self.money.ref("account_id")


async def open_entry(work: SettlementWork) -> Observation:
    """Step 23: the statement line's entry is in draft, unless all is written already."""
    if work.subject.statement_line_id is None:
        return Done(message=NOT_ASKED)
    movement = await _read(work)
    _check(work, movement)
    if await _matched(work, movement):
        return Done(message="statement line and payment are matched")
    _check_unused(work, movement)
    if movement.state == "draft":
        return Done(message="the statement line is in draft")
    if movement.ready:
        return Done(message="the statement line is prepared")
    return Pending(
        Call(
            model=title.MOVE,
            method="button_draft",
            args=[[known(movement.line.ref("move_id"))]],
            kwargs={"context": title.contexts(work)},
            before={"state": movement.state},
            after={"state": "draft"},
        )
    )


async def label(work: SettlementWork) -> Observation:
    """Step 24: partner and label of the statement line."""
    if work.subject.statement_line_id is None:
        return Done(message=NOT_ASKED)
    movement = await _read(work)
    before, wanted = _labels(movement), _wanted(work)
    if before == wanted:
        return Done()
    return Pending(write(STATEMENT_LINE, movement.line.id, before, wanted))


async def label_items(work: SettlementWork) -> Observation:
    """Step 25: the label on the items, which may be others than before it was written."""
    if work.subject.statement_line_id is None:
        return Done(message=NOT_ASKED)
    movement, name = await _read(work), _wanted(work)["payment_ref"]
    wrong = [item for item in (movement.bank, movement.waiting) if item.text("name") != name]
    if not wrong:
        return Done()
    return Pending(
        Call(
            model=title.LINE,
            method="write",
            args=[[item.id for item in wrong], {"name": name}],
            before={"name": wrong[0].text("name")},
            after={"name": name},
        )
    )


async def set_account(work: SettlementWork) -> Observation:
    """Step 26: the waiting item is on the payment's account; written last of all."""
    if work.subject.statement_line_id is None:
        return Done(message=NOT_ASKED)
    movement = await _read(work)
    if movement.ready:
        return Done()
    before = {"account_id": movement.waiting.ref("account_id")}
    after = {"account_id": movement.money.ref("account_id")}
    return Pending(write(title.LINE, movement.waiting.id, before, after))


async def close_entry(work: SettlementWork) -> Observation:
    """Step 27: the statement line's entry is posted again."""
    if work.subject.statement_line_id is None:
        return Done(message=NOT_ASKED)
    movement = await _read(work)
    if movement.state == "posted":
        return Done(message="the statement line is posted")
    return Pending(_post(work, movement))


async def reconcile(work: SettlementWork) -> Observation:
    """Step 28: statement line and payment are matched."""
    if work.subject.statement_line_id is None:
        return Done(message=NOT_ASKED)
    movement = await _read(work)
    if await _matched(work, movement):
        return Done(message="statement line and payment are matched")
    _check_unused(work, movement)
    return Pending(
        Call(
            model=title.LINE,
            method="reconcile",
            args=[[movement.money.id, movement.waiting.id]],
            kwargs={"context": title.contexts(work)},
            before={"reconciled": False},
            after={"reconciled": True},
        )
    )


async def undo_open(work: SettlementWork) -> Observation:
    """The entry is not left in draft. What was written to it stays."""
    line_id = known(work.subject.statement_line_id)
    lines = await work.odoo.read(STATEMENT_LINE, [line_id], FIELDS)
    ids = [known(line.ref("move_id")) for line in lines]
    for move in await work.odoo.read(title.MOVE, ids, ("state",)):
        if move.text("state") == "draft":
            return Pending(_post_call(work, move.id))
    return Done()


def _post(work: SettlementWork, movement: Movement) -> Call:
    return _post_call(work, known(movement.line.ref("move_id")))


def _post_call(work: SettlementWork, move_id: int) -> Call:
    return Call(
        model=title.MOVE,
        method="action_post",
        args=[[move_id]],
        kwargs={"context": title.contexts(work)},
        before={"state": "draft"},
        after={"state": "posted"},
    )


def _labels(movement: Movement) -> dict[str, Any]:
    line = movement.line
    return {"partner_id": line.ref("partner_id"), "payment_ref": line.text("payment_ref")}


def _wanted(work: SettlementWork) -> dict[str, Any]:
    return {
        "partner_id": work.facts.partner_id,
        "payment_ref": payment_reference(work.subject, _purpose(work)),
    }


def _purpose(work: SettlementWork) -> Purpose:
    """The payment that moves the money."""
    return "register" if work.subject.registered else "principal"


async def _read(work: SettlementWork) -> Movement:
    line_id = known(work.subject.statement_line_id)
    lines = await work.odoo.read(STATEMENT_LINE, [line_id], FIELDS)
    if not lines:
        raise Halt(
            "statement_line_not_found",
            f"Odoo has no statement line {line_id}. Cancel this posting; its payment is made, so "
            "match it with the statement by hand.",
            "needs_attention",
        )
    [line] = lines
    [move] = await work.odoo.read(title.MOVE, [known(line.ref("move_id"))], ("state",))
    journal_id = known(line.ref("journal_id"))
    [journal] = await work.odoo.read(
        title.JOURNAL, [journal_id], ("default_account_id", "suspense_account_id")
    )
    items = await work.odoo.search_read(title.LINE, [["move_id", "=", move.id]], ITEM_FIELDS)
    own = journal.ref("default_account_id")
    bank = [item for item in items if item.ref("account_id") == own]
    waiting = [item for item in items if item.ref("account_id") != own]
    if len(bank) != 1 or len(waiting) != 1:
        raise Halt(
            "statement_line_split",
            f"Statement line {line_id} has {len(waiting)} items besides the bank's own; it should "
            "have one. Match it with the payment by hand in Odoo, then cancel this posting.",
            "needs_attention",
        )
    return Movement(
        line=line,
        state=str(move.text("state")),
        suspense=journal.ref("suspense_account_id"),
        bank=bank[0],
        waiting=waiting[0],
        money=await _money(work),
    )


async def _money(work: SettlementWork) -> Record:
    """The payment's item that stands for the money until the bank confirms it."""
    made = known(await payment.find(work, _purpose(work)))
    domain = [
        ["payment_id", "=", made.id],
        ["account_id", "=", made.ref("outstanding_account_id")],
    ]
    items = await work.odoo.search_read(title.LINE, domain, ITEM_FIELDS)
    if len(items) != 1:
        raise Halt(
            "payment_without_money",
            f"Payment {made.id} has {len(items)} items on an account of outstanding payments; it "
            "should have one. Match it with the statement by hand in Odoo, then cancel this "
            "posting.",
            "needs_attention",
        )
    return items[0]


def _check(work: SettlementWork, movement: Movement) -> None:
    """The statement line is of this money: the same journal, amount and way."""
    money = movement.money.number("balance")
    if movement.line.ref("journal_id") != work.subject.journal_id:
        raise Halt(
            "statement_of_other_journal",
            f"Statement line {movement.line.id} is of journal "
            f"{movement.line.ref_name('journal_id')}, the payment of journal "
            f"{work.subject.journal_id}. Match it by hand in Odoo, then cancel this posting.",
            "needs_attention",
        )
    if movement.line.number("amount") != money:
        raise Halt(
            "statement_amount_differs",
            f"Statement line {movement.line.id} is of R$ {movement.line.number('amount')}, the "
            f"payment of R$ {money}. Match it by hand in Odoo, then cancel this posting.",
            "needs_attention",
        )


def _check_unused(work: SettlementWork, movement: Movement) -> None:
    """Nothing else was said of this movement: going back to draft would undo that."""
    waits = movement.waiting.ref("account_id") == movement.suspense
    ours = movement.ready and _labels(movement) == _wanted(work)
    if movement.waiting.flag("reconciled") or not (waits or ours):
        raise Halt(
            "statement_line_used",
            f"Statement line {movement.line.id} is taken for something else in Odoo, on account "
            f"{movement.waiting.ref_name('account_id')}. Undo that there and resume, or cancel "
            "this posting: its payment is made.",
            "needs_attention",
        )
    if movement.money.flag("reconciled"):
        raise Halt(
            "payment_matched_elsewhere",
            f"The payment of {work.subject.name} was matched with another statement line in Odoo. "
            "Undo that there and resume, or cancel this posting: its payment is made.",
            "needs_attention",
        )


async def _matched(work: SettlementWork, movement: Movement) -> bool:
    """Whether the two items settle each other."""
    pair = [movement.money.id, movement.waiting.id]
    domain = [["debit_move_id", "in", pair], ["credit_move_id", "in", pair]]
    matches = await work.odoo.search_read(title.PARTIAL, domain, ("amount",))
    settled = sum((match.number("amount") for match in matches), Decimal(0))
    return settled == abs(movement.money.number("balance"))
