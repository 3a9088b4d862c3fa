"""The gate on the balance: all parts together fit into what is open, before the first is booked."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.posting.step import Done, Halt, Observation
from service.postings.title_settlement import contract, dialect, payment, register, title
from service.postings.title_settlement.settlement import NOTHING, known

if TYPE_CHECKING:
    from decimal import Decimal

    from service.odoo.records import Record
    from service.postings.title_settlement.settlement import Purpose, SettlementWork


async def check(work: SettlementWork) -> Observation:
    """Step 6: principal, discount, agreement and return fit into the balance.

    Interest comes on top; charges are what the money lacks.
    """
    owed = await title.read(work)
    balance = await _balance(work, owed)
    subject, tolerance = work.subject, work.profile.amount_tolerance
    rest = subject.principal + subject.agreement + subject.returns
    facts: dict[str, Any] = {}
    if subject.contractual_discount:
        facts = await contract.split(work, balance)
        work = replace(work, facts=work.facts.model_copy(update=facts))
    elif await _is_embedded(work, balance, rest):
        return Done(
            {"discount_embedded": True},
            f"the discount of R$ {subject.discount} is in the title already: it is not booked",
        )
    total = rest + payment.amount_of(work, "discount")
    if total > balance + tolerance:
        raise Halt(
            "amount_above_balance",
            f"R$ {total} are to be settled of title {owed.id} ({subject.name}), and R$ {balance} "
            "are open. See in Odoo what has settled it, then cancel this posting and send the "
            "right amounts.",
        )
    if subject.registered:
        _check_difference(work, balance - total)
    await _check_journals(work)
    await _check_discount(work)
    return Done(facts, f"R$ {total} of R$ {balance} open")


async def _balance(work: SettlementWork, owed: Record) -> Decimal:
    """What the title owes, less what others have settled of it.

    The matches are read first: whatever is matched by then belongs to a payment that is found.
    """
    matches = await title.matches(work)
    purposes: tuple[Purpose, ...] = (*payment.PARTS, "register")
    found = [await payment.find(work, purpose) for purpose in purposes if _is_due(work, purpose)]
    made = [one.id for one in found if one is not None]
    lines = await work.odoo.search_read(title.LINE, [["payment_id", "in", made]], ("payment_id",))
    ours = {line.id for line in lines}
    others = sum((amount for line, amount in matches.items() if line not in ours), NOTHING)
    return owed.number(title.OWED[work.subject.direction]) - others


def _is_due(work: SettlementWork, purpose: Purpose) -> bool:
    """Whether the settlement makes a payment for the purpose at all."""
    if purpose == "register":
        return work.subject.registered
    if purpose == "discount" and work.subject.contractual_discount:
        return True
    return bool(getattr(work.subject, purpose)) and not (
        purpose == "principal" and work.subject.registered
    )


async def _is_embedded(work: SettlementWork, balance: Decimal, rest: Decimal) -> bool:
    """Whether the title was issued without the discount: all the rest is the balance.

    Once a payment of the discount exists it is none of that.
    """
    if not work.subject.discount or work.facts.discount_payment_id is not None:
        return False
    left = balance - rest - work.subject.charges
    return (
        abs(left) <= register.difference_tolerance(work)
        and await payment.find(work, "discount") is None
    )


def _check_difference(work: SettlementWork, left: Decimal) -> None:
    """The wizard closes the title: what stays open besides the charges would be written off too."""
    if abs(left - work.subject.charges) <= register.difference_tolerance(work):
        return
    if work.subject.charges:
        raise Halt(
            "charges_differ",
            f"The charges are R$ {work.subject.charges}, but R$ {left} of the title would be left. "
            "Cancel this posting and send the right amounts.",
        )
    raise Halt(
        "interest_on_a_part",
        f"Interest is paid with a principal that closes the title, and R$ {left} of it would be "
        "left. Cancel this posting, and send the principal and the interest as two settlements.",
    )


async def _check_journals(work: SettlementWork) -> None:
    """Every part has a journal, and the money one that is for money."""
    for part in payment.PARTS:
        if payment.amount_of(work, part):
            await payment.journal_company(work, payment.journal_of(work, part))
    if work.subject.journal_id is not None:
        await payment.journal_company(work, work.subject.journal_id)
    if work.subject.registered or work.subject.interest:
        await register.write_off_account(work)


async def _check_discount(work: SettlementWork) -> None:
    """Nobody has booked the discount by hand.

    That would be a payment that names the document, and is free or settles this very title.
    """
    if not payment.amount_of(work, "discount") or work.facts.discount_payment_id is not None:
        return
    words = dialect.of(work.profile.odoo_version)
    domain = [
        ["journal_id", "=", payment.journal_of(work, "discount")],
        ["partner_id", "=", known(work.facts.partner_id)],
        [words.reference, "ilike", work.subject.number],
    ]
    found = await work.odoo.search_read(payment.PAYMENT, domain, ("state", words.reference))
    others = [one for one in found if _is_of_hand(work, one)]
    for one in others:
        if await _stands_for_this_title(work, one):
            raise Halt(
                "discount_exists",
                f"Payment {one.id} ({one.text(words.reference)}) is a discount of this document "
                "that was booked by hand. Cancel it in Odoo and resume, or cancel this posting and "
                "send it without the discount.",
                "needs_attention",
            )


def _is_of_hand(work: SettlementWork, found: Record) -> bool:
    """Whether a payment is live, names the document's number, and no settlement has made it."""
    words = dialect.of(work.profile.odoo_version)
    text = found.text(words.reference) or ""
    numbers = {str(int(word)) if word.isdecimal() else word for word in re.split(r"[^\w.-]+", text)}
    ours = re.fullmatch(r"NF \S+ (discount) [0-9A-F]{16}", text)
    return words.state(found) != "canceled" and work.subject.number in numbers and ours is None


async def _stands_for_this_title(work: SettlementWork, found: Record) -> bool:
    domain = [
        ["payment_id", "=", found.id],
        ["account_type", "=", title.ACCOUNT_TYPE[work.subject.direction]],
    ]
    lines = await work.odoo.search_read(title.LINE, domain, ("reconciled",))
    if not lines:
        return True
    free = any(not line.flag("reconciled") for line in lines)
    matches = await title.matches(work)
    return free or any(line.id in matches for line in lines)
