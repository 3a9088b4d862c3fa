"""Interest that comes alone: an entry of two items, which settles no title."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending
from service.postings.title_settlement import payment, register, title
from service.postings.title_settlement.settlement import NOT_ASKED, known, payment_reference

if TYPE_CHECKING:
    from service.odoo.records import Record
    from service.postings.title_settlement.settlement import SettlementWork

FIELDS = ("name", "state", "amount_total")


def is_due(work: SettlementWork) -> bool:
    """Whether there is interest without a principal."""
    return bool(work.subject.interest) and not work.subject.principal


async def create(work: SettlementWork) -> Observation:
    """Step 21: there is an entry of the interest."""
    if not is_due(work):
        return Done(message=NOT_ASKED)
    entry = await _find(work)
    if entry is not None:
        if entry.number("amount_total") != work.subject.interest:
            raise Halt(
                "entry_differs",
                f"Entry {entry.id} is of R$ {entry.number('amount_total')} in place of R$ "
                f"{work.subject.interest}. Correct or cancel it in Odoo, then resume.",
                "needs_attention",
            )
        return Done({"interest_entry_id": entry.id}, f"entry {entry.id}")
    values = await _values(work)
    return Pending(
        Call(
            model=title.MOVE,
            method="create",
            args=[values],
            kwargs={"context": await _context(work)},
            after=values,
        )
    )


async def post(work: SettlementWork) -> Observation:
    """Step 22: the entry is posted."""
    if not is_due(work):
        return Done(message=NOT_ASKED)
    entry = known(await _find(work))
    if entry.text("state") == "posted":
        return Done(message=f"entry {entry.text('name')} is posted")
    return Pending(
        Call(
            model=title.MOVE,
            method="action_post",
            args=[[entry.id]],
            kwargs={"context": await _context(work)},
            before={"state": entry.text("state")},
            after={"state": "posted"},
        )
    )


async def undo_create(work: SettlementWork) -> Observation:
    """No live entry is left; a posted one is a person's to reverse."""
    for entry in await _live(work):
        if entry.text("state") == "posted":
            raise Halt(
                "entry_posted",
                f"Entry {entry.text('name')} (id {entry.id}) is posted: it cannot be undone from "
                "here. Resume the posting, or reverse the entry in Odoo.",
                "needs_attention",
            )
        return Pending(
            Call(
                model=title.MOVE,
                method="button_cancel",
                args=[[entry.id]],
                before={"state": "draft"},
                after={"state": "cancel"},
            )
        )
    return Done({"interest_entry_id": None})


async def _live(work: SettlementWork) -> list[Record]:
    reference = payment_reference(work.subject, "interest")
    domain = [["ref", "=", reference], ["state", "!=", "cancel"]]
    return await work.odoo.search_read(title.MOVE, domain, FIELDS)


async def _find(work: SettlementWork) -> Record | None:
    live = await _live(work)
    if len(live) > 1:
        raise Halt(
            "several_entries",
            f"{len(live)} live entries are of this interest (ids "
            f"{', '.join(str(one.id) for one in live)}). Cancel all but one, then resume.",
            "needs_attention",
        )
    if not live and work.facts.interest_entry_id is not None:
        raise Halt(
            "entry_gone",
            f"Entry {work.facts.interest_entry_id} was cancelled or deleted in Odoo. Roll back and "
            "resume if it is to be made again; otherwise cancel this posting.",
            "needs_attention",
        )
    return live[0] if live else None


async def _values(work: SettlementWork) -> dict[str, Any]:
    """Money on the journal's own account; in a receivable it comes in, in a payable it goes out."""
    journal_id = known(work.subject.journal_id)
    [journal] = await work.odoo.read(title.JOURNAL, [journal_id], ("default_account_id",))
    bank, account = journal.ref("default_account_id"), await register.write_off_account(work)
    if bank is None:
        raise Halt(
            "journal_without_account",
            f"Journal {journal_id} has no default account. Set it in Odoo, then resume.",
        )
    text = f"JUROS {work.subject.name}"
    common = {"name": text, "partner_id": known(work.facts.partner_id)}
    debit, credit = (bank, account) if work.subject.direction == "receivable" else (account, bank)
    lines = [
        [0, 0, {**common, "account_id": debit, "debit": work.subject.interest, "credit": 0}],
        [0, 0, {**common, "account_id": credit, "debit": 0, "credit": work.subject.interest}],
    ]
    return {
        "move_type": "entry",
        "journal_id": journal_id,
        "date": work.subject.date.isoformat(),
        "ref": payment_reference(work.subject, "interest"),
        "line_ids": lines,
    }


async def _context(work: SettlementWork) -> dict[str, Any]:
    """The entry is of the journal's company."""
    company_id = await payment.journal_company(work, known(work.subject.journal_id))
    return {"allowed_company_ids": [company_id]}
