"""Principal with interest or charges: Odoo's own wizard pays, posts and reconciles in one call.

It writes off all that the money is more or less than the title's balance. So it comes after the
parts that have journals of their own, and its difference is checked before it is let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending
from service.postings.title_settlement import payment, title
from service.postings.title_settlement.settlement import (
    NOT_ASKED,
    NOTHING,
    known,
    payment_reference,
)

if TYPE_CHECKING:
    from datetime import timedelta
    from decimal import Decimal

    from service.odoo.records import Caller, Record
    from service.postings.title_settlement.settlement import SettlementWork

WIZARD = "account.payment.register"
FIELDS = (
    "amount",
    "payment_difference",
    "payment_difference_handling",
    "writeoff_account_id",
    "journal_id",
    "communication",
    "line_ids",
)
LABELS = {"interest": "JUROS", "charges": "ENCARGOS"}


def purpose(work: SettlementWork) -> str:
    """What the difference is."""
    return "charges" if work.subject.charges else "interest"


def amount_of(work: SettlementWork) -> Decimal:
    """The money: with the interest, or without the charges."""
    return work.subject.principal + work.subject.interest


async def write_off_account(work: SettlementWork) -> int:
    """The account of the difference, which has to belong to the journal's company."""
    company_id = await payment.journal_company(work, known(work.subject.journal_id))
    side = known(work.profile.side(work.subject.direction))
    accounts = side.charges_accounts if work.subject.charges else side.interest_accounts
    account_id = accounts.get(company_id)
    if account_id is None:
        raise Halt(
            "no_account",
            f"The profile has no account for {purpose(work)} of company {company_id} in "
            f"{work.subject.direction}. Add it there, then resume.",
        )
    return account_id


async def prepare(work: SettlementWork) -> Observation:
    """Step 19: the wizard is open, with the money and the account of the difference.

    Odoo forgets a wizard after some time; then another one is opened.
    """
    if not work.subject.registered:
        return Done(message=NOT_ASKED)
    if await payment.find(work, "register") is not None:
        return Done(message="it has paid already")
    wanted = await _values(work)
    if await _open_wizard(work, wanted) is not None:
        return Done(message=f"wizard {work.facts.wizard_id} is open")
    title.check_open(work, await title.read(work), work.subject.principal, "The principal")
    context = {
        "active_model": title.LINE,
        "active_ids": [known(work.facts.title_id)],
        **await _context(work),
    }
    return Pending(
        Call(
            model=WIZARD, method="create", args=[wanted], kwargs={"context": context}, after=wanted
        )
    )


async def open_wizard(odoo: Caller, call: Call, limit: timedelta) -> Done:
    """The act of step 19: only the answer tells which wizard it is."""
    answer = await odoo.execute_kw(
        call.model, call.method, call.args, call.kwargs, timeout_seconds=limit.total_seconds()
    )
    return Done({"wizard_id": int(answer)}, f"wizard {answer} is open")


async def pay(work: SettlementWork) -> Observation:
    """Step 20: the wizard's payment is posted and has settled the title."""
    if not work.subject.registered:
        return Done(message=NOT_ASKED)
    # The wizard is read before its payment is looked for: a call that is still under way may pay
    # in between, and then nothing is left for the wizard to write off.
    wizard = await _open_wizard(work, await _values(work))
    made = await payment.find(work, "register")
    if made is not None:
        return await _paid(work, made)
    if wizard is None:
        raise Halt(
            "wizard_closed",
            "Odoo has forgotten the wizard that was to pay. Resume: another one is opened.",
        )
    _check_difference(work, wizard)
    return Pending(
        Call(
            model=WIZARD,
            method="action_create_payments",
            args=[[wizard.id]],
            kwargs={"context": await _context(work)},
            before={"amount_residual": title.owed(work, await title.read(work))},
            after={"amount_residual": NOTHING, "amount": amount_of(work)},
        )
    )


async def undo_pay(work: SettlementWork) -> Observation:
    """The wizard posts what it makes: only a person can take that back."""
    return await payment.undo_create(work, "register")


async def _paid(work: SettlementWork, made: Record) -> Observation:
    journal_id = known(work.subject.journal_id)
    payment.check(work, made, amount=amount_of(work), journal_id=journal_id)
    posted = payment.state(work, made) == "posted"
    line = await payment.settling_line(work, made) if posted else None
    settled = (await title.matches(work)).get(line.id, NOTHING) if line else NOTHING
    if not posted or line is None or not line.flag("reconciled") or not settled:
        raise Halt(
            "payment_taken_back",
            f"Payment {made.id} was posted and reconciled by the wizard, and somebody has taken "
            f"that back: R$ {settled} of title {work.facts.title_id} are settled by it. Post and "
            "reconcile it in Odoo, or cancel it and roll back; then resume.",
            "needs_attention",
        )
    fact = payment.fact_of("register")
    return Done({fact: made.id}, f"payment {made.id} settles R$ {settled}")


async def _values(work: SettlementWork) -> dict[str, Any]:
    return {
        "amount": amount_of(work),
        "payment_date": work.subject.date.isoformat(),
        "journal_id": known(work.subject.journal_id),
        "communication": payment_reference(work.subject, "register"),
        "payment_difference_handling": "reconcile",
        "writeoff_account_id": await write_off_account(work),
        "writeoff_label": f"{LABELS[purpose(work)]} {work.subject.name}",
    }


async def _context(work: SettlementWork) -> dict[str, Any]:
    journal_company = await payment.journal_company(work, known(work.subject.journal_id))
    return title.contexts(work, journal_company)


async def _open_wizard(work: SettlementWork, wanted: dict[str, Any]) -> Record | None:
    """The wizard that was opened, if Odoo still has it as it was opened."""
    if work.facts.wizard_id is None:
        return None
    for wizard in await work.odoo.read(WIZARD, [work.facts.wizard_id], FIELDS):
        found = {
            "amount": wizard.number("amount"),
            "journal_id": wizard.ref("journal_id"),
            "communication": wizard.text("communication"),
            "payment_difference_handling": wizard.text("payment_difference_handling"),
            "writeoff_account_id": wizard.ref("writeoff_account_id"),
        }
        suits = all(wanted[name] == value for name, value in found.items())
        if suits and wizard.refs("line_ids") == (work.facts.title_id,):
            return wizard
    return None


def _check_difference(work: SettlementWork, wizard: Record) -> None:
    """What Odoo is about to write off is the interest, or the charges, and nothing else."""
    found = wizard.number("payment_difference")
    wanted = work.subject.charges - work.subject.interest
    if abs(found - wanted) > difference_tolerance(work):
        raise Halt(
            "difference_differs",
            f"The wizard would write off R$ {abs(found)} as {purpose(work)}, which are R$ "
            f"{abs(wanted)}: something else has settled the title meanwhile. See in Odoo what it "
            "was, then cancel this posting and send the right amounts.",
            "needs_attention",
        )


def difference_tolerance(work: SettlementWork) -> Decimal:
    """By how much the charges that the caller states may differ from those that are written off."""
    if not work.subject.charges:
        return work.profile.amount_tolerance
    by_percent = work.subject.charges * work.profile.charges_tolerance_percent / 100
    return max(work.profile.charges_tolerance, by_percent)
