"""The payments of the parts: found by their own reference, created, posted, reconciled.

A payment that exists is never created again: its reference is searched for before it is created,
and whenever it is in doubt whether it was.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending
from service.postings.title_settlement import dialect, title
from service.postings.title_settlement.settlement import (
    NOT_ASKED,
    NOTHING,
    PartName,
    Purpose,
    Settlement,
    known,
    payment_reference,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal

    from service.odoo.records import Record
    from service.postings.title_settlement.settlement import SettlementWork

    Observe = Callable[[SettlementWork], Awaitable[Observation]]

PAYMENT = "account.payment"
FIELDS = (
    "name",
    "state",
    "amount",
    "journal_id",
    "partner_id",
    "company_id",
    "payment_type",
    "destination_account_id",
    "outstanding_account_id",
)
MONEY = ("bank", "cash", "credit")
PARTS: tuple[PartName, ...] = ("principal", "discount", "agreement", "returns")
JOURNALS = {
    "discount": "discount_journals",
    "agreement": "agreement_journals",
    "returns": "return_journals",
}


def amount_of(work: SettlementWork, part: PartName) -> Decimal:
    """What a payment of its own settles for a part; nothing where none is made."""
    if part == "principal":
        return NOTHING if work.subject.registered else work.subject.principal
    if part == "discount" and work.facts.discount_embedded:
        return NOTHING
    if part == "discount" and work.subject.contractual_discount:
        return work.facts.contractual_discount or NOTHING
    amount: Decimal = getattr(work.subject, part)
    return amount


def journal_of(work: SettlementWork, part: PartName) -> int:
    """The caller's journal for the principal, that of the title's company for any other part."""
    if part == "principal":
        return known(work.subject.journal_id)
    side = known(work.profile.side(work.subject.direction))
    journal_id: int | None = getattr(side, JOURNALS[part]).get(known(work.facts.company_id))
    if journal_id is None:
        raise Halt(
            "no_journal",
            f"The profile has no journal for {part} of company {work.facts.company_id} in "
            f"{work.subject.direction}. Add it there, then resume.",
        )
    return journal_id


def fact_of(purpose: Purpose) -> str:
    """The fact that holds the payment of a purpose."""
    return f"{purpose}_payment_id"


# -- found -----------------------------------------------------------------------------------


async def find(work: SettlementWork, purpose: Purpose) -> Record | None:
    """The one live payment of this settlement for a purpose; cancelled ones are none.

    Halts where there are several, or where one that was there has gone.
    """
    words = dialect.of(work.profile.odoo_version)
    reference = payment_reference(work.subject, purpose)
    found = await work.odoo.search_read(PAYMENT, [[words.reference, "=", reference]], FIELDS)
    live = [payment for payment in found if words.state(payment) != "canceled"]
    if len(live) > 1:
        raise Halt(
            "several_payments",
            f"Odoo has {len(live)} live payments with the reference {reference!r} (ids "
            f"{', '.join(str(one.id) for one in live)}). Cancel all but one, then resume.",
            "needs_attention",
        )
    if live:
        return live[0]
    if (gone := getattr(work.facts, fact_of(purpose))) is not None:
        raise Halt(
            "payment_gone",
            f"Payment {gone} ({reference}) was cancelled or deleted in Odoo. Roll back and resume "
            "if it is to be made again; otherwise cancel this posting.",
            "needs_attention",
        )
    return None


def state(work: SettlementWork, payment: Record) -> dialect.State:
    """The state of a payment; halts at one that only a person can judge."""
    found = dialect.of(work.profile.odoo_version).state(payment)
    if found is None:
        raise Halt(
            "payment_rejected",
            f"Payment {payment.id} is {payment.text('state')} in Odoo. Cancel it there if it is to "
            "be made again, then resume.",
            "needs_attention",
        )
    return found


def check(work: SettlementWork, payment: Record, *, amount: Decimal, journal_id: int) -> None:
    """Halt unless a payment with our reference is still the one that we have made."""
    wanted: dict[str, Any] = {
        "amount": amount,
        "journal_id": journal_id,
        "partner_id": work.facts.partner_id,
        "company_id": work.facts.company_id,
        "payment_type": payment_type(work.subject),
        "destination_account_id": work.facts.account_id,
    }
    found: dict[str, Any] = {
        "amount": payment.number("amount"),
        "journal_id": payment.ref("journal_id"),
        "partner_id": payment.ref("partner_id"),
        "company_id": payment.ref("company_id"),
        "payment_type": payment.text("payment_type"),
        "destination_account_id": payment.ref("destination_account_id"),
    }
    differs = [name for name, value in wanted.items() if found[name] != value]
    if differs:
        seen = ", ".join(f"{name} {found[name]} in place of {wanted[name]}" for name in differs)
        raise Halt(
            "payment_differs",
            f"Payment {payment.id} in Odoo has {seen}. Correct or cancel it there, then resume.",
            "needs_attention",
        )


def payment_type(settlement: Settlement) -> str:
    """Which way the money goes."""
    return "inbound" if settlement.direction == "receivable" else "outbound"


async def settling_line(work: SettlementWork, payment: Record) -> Record:
    """The item of a posted payment that settles titles."""
    domain = [["payment_id", "=", payment.id], ["account_id", "=", known(work.facts.account_id)]]
    lines = await work.odoo.search_read(
        title.LINE, domain, ("amount_residual", "reconciled", "balance")
    )
    if len(lines) != 1:
        raise Halt(
            "payment_without_item",
            f"Payment {payment.id} has {len(lines)} items on the account of title "
            f"{work.facts.title_id}; it should have one. Check in Odoo that its journal has an "
            "account for outstanding payments and that the partner's account is the title's; then "
            "set the payment to draft or cancel it, and resume.",
            "needs_attention",
        )
    return lines[0]


# -- created, posted, reconciled -------------------------------------------------------------


async def create(work: SettlementWork, part: PartName) -> Observation:
    """There is a payment of this part, of the right amount, in the title's company."""
    amount = amount_of(work, part)
    if not amount:
        return Done(message=NOT_ASKED)
    journal_id = journal_of(work, part)
    payment = await find(work, part)
    if payment is not None:
        check(work, payment, amount=amount, journal_id=journal_id)
        return Done({fact_of(part): payment.id}, f"payment {payment.id} of R$ {amount}")
    title.check_open(work, await title.read(work), amount, f"The {part}")
    values = {
        "payment_type": payment_type(work.subject),
        "partner_type": "customer" if work.subject.direction == "receivable" else "supplier",
        "partner_id": known(work.facts.partner_id),
        "amount": amount,
        "journal_id": journal_id,
        "date": work.subject.date.isoformat(),
        "company_id": known(work.facts.company_id),
        dialect.of(work.profile.odoo_version).reference: payment_reference(work.subject, part),
    }
    return Pending(
        Call(
            model=PAYMENT,
            method="create",
            args=[values],
            kwargs={"context": title.contexts(work, await journal_company(work, journal_id))},
            after=values,
        )
    )


async def post(work: SettlementWork, part: PartName) -> Observation:
    """The payment of this part is posted, and the title could still take it then."""
    amount = amount_of(work, part)
    if not amount:
        return Done(message=NOT_ASKED)
    payment = known(await find(work, part))
    if state(work, payment) == "posted":
        return Done(message=f"payment {payment.text('name') or payment.id} is posted")
    title.check_open(
        work, await title.read(work), amount, f"Payment {payment.id}, a draft for the {part},"
    )
    return Pending(
        Call(
            model=PAYMENT,
            method="action_post",
            args=[[payment.id]],
            kwargs={
                "context": title.contexts(work, await journal_company(work, journal_of(work, part)))
            },
            before={"state": payment.text("state")},
            after={"state": "posted"},
        )
    )


async def reconcile(work: SettlementWork, part: PartName) -> Observation:
    """The payment of this part has settled so much of the title. What is matched says so."""
    amount = amount_of(work, part)
    if not amount:
        return Done(message=NOT_ASKED)
    payment = known(await find(work, part))
    # What could stop the posting is read before the match is: a call that is still under way may
    # come in between, and its match would explain what else looks wrong.
    line = await settling_line(work, payment)
    owed = await title.read(work)
    settled = (await title.matches(work)).get(line.id, NOTHING)
    if settled >= amount - work.profile.amount_tolerance:
        return Done(message=f"payment {payment.id} settles R$ {settled}")
    free = abs(line.number("amount_residual"))
    if settled or free < amount:
        raise Halt(
            "payment_used_elsewhere",
            f"Of payment {payment.id} (R$ {amount}), R$ {settled} settle title {owed.id} and R$ "
            f"{free} are free. Take the rest out of its other match in Odoo, then resume.",
            "needs_attention",
        )
    if title.owed(work, owed) < amount - work.profile.amount_tolerance:
        raise Halt(
            "title_settled_meanwhile",
            f"Payment {payment.id} of R$ {amount} is posted, and of title {owed.id} only R$ "
            f"{title.owed(work, owed)} is open: somebody else has settled it. Free the title in "
            "Odoo and resume, or set the payment to draft and cancel it and this posting.",
            "needs_attention",
        )
    return Pending(
        Call(
            model=title.LINE,
            method="reconcile",
            args=[[line.id, owed.id]],
            kwargs={"context": title.contexts(work)},
            before={"amount_residual": title.owed(work, owed)},
            after={"amount_residual": title.owed(work, owed) - amount},
        )
    )


async def undo_create(work: SettlementWork, purpose: Purpose) -> Observation:
    """No live payment of the purpose is left; a posted one is a person's to take back."""
    words = dialect.of(work.profile.odoo_version)
    reference = payment_reference(work.subject, purpose)
    found = await work.odoo.search_read(PAYMENT, [[words.reference, "=", reference]], FIELDS)
    for payment in found:
        match words.state(payment):
            case "canceled":
                continue
            case "draft":
                return Pending(
                    Call(
                        model=PAYMENT,
                        method="action_cancel",
                        args=[[payment.id]],
                        kwargs={"context": title.contexts(work)},
                        before={"state": "draft"},
                        after={"state": "canceled"},
                    )
                )
            case _:
                raise Halt(
                    "payment_posted",
                    f"Payment {payment.id} ({reference}) is posted: it cannot be undone from here. "
                    "Resume the posting, or set the payment to draft and cancel it in Odoo.",
                    "needs_attention",
                )
    return Done({fact_of(purpose): None})


async def journal_company(work: SettlementWork, journal_id: int) -> int:
    """The company of a journal; halts when there is no such journal, or it is not for money."""
    journals = await work.odoo.read(title.JOURNAL, [journal_id], ("name", "company_id", "type"))
    if not journals:
        raise Halt(
            "journal_not_found",
            f"Odoo has no journal {journal_id}. Cancel this posting and send it with the right "
            "one, or correct the profile and resume.",
        )
    [journal] = journals
    if journal.text("type") not in MONEY:
        raise Halt(
            "journal_not_for_money",
            f"Journal {journal.text('name')} (id {journal_id}) is no journal of a bank, of cash or "
            "of a card. Cancel this posting and send it with the right one, or correct the profile "
            "and resume.",
        )
    return known(journal.ref("company_id"))


def steps_of(part: PartName) -> tuple[Observe, Observe, Observe, Observe]:
    """Create, post, reconcile, and the undoing of the first, for one part."""
    return (
        partial(create, part=part),
        partial(post, part=part),
        partial(reconcile, part=part),
        partial(undo_create, purpose=part),
    )
