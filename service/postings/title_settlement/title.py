"""The title: found, looked at before and after, and the gate before anything is paid of it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.posting.step import Done, Halt, Observation
from service.postings.title_settlement.settlement import known

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.odoo.records import Domain, Record
    from service.postings.title_settlement.settlement import SettlementWork

LINE = "account.move.line"
MOVE = "account.move"
JOURNAL = "account.journal"
PARTIAL = "account.partial.reconcile"
PHANTOM_DAY = "2000-01-01"
MOST_CANDIDATES = 50

ACCOUNT_TYPE = {"receivable": "asset_receivable", "payable": "liability_payable"}
MOVE_TYPE = {"receivable": "out_invoice", "payable": "in_invoice"}
OWED = {"receivable": "debit", "payable": "credit"}
"""The side of a title that says how much was owed."""
MATCHES = {
    "receivable": ("debit_move_id", "credit_move_id"),
    "payable": ("credit_move_id", "debit_move_id"),
}
"""In a match: the title, and what settles it."""

FIELDS = (
    "name",
    "debit",
    "credit",
    "balance",
    "amount_residual",
    "amount_residual_currency",
    "reconciled",
    "matched_credit_ids",
    "matched_debit_ids",
    "full_reconcile_id",
    "matching_number",
    "date_maturity",
    "partner_id",
    "move_id",
    "company_id",
    "l10n_br_paga",
    "l10n_br_cobranca_parcela",
    "x_studio_status_de_pagamento",
    "x_studio_nf_e",
)
NEEDED_FIELDS = (*FIELDS, "account_id", "parent_state")
MOVE_FIELDS = (
    "name",
    "state",
    "payment_state",
    "amount_total",
    "amount_residual",
    "amount_residual_signed",
    "has_reconciled_entries",
    "partner_id",
)


# -- finding it ------------------------------------------------------------------------------


async def find(work: SettlementWork) -> Observation:
    """Step 1: exactly one title, of a company that is settled here.

    A title that was found stays the title of this settlement, whatever comes beside it.
    """
    title = await read(work) if work.facts.title_id else await _only_title(work)
    _check(work, title)
    return Done(
        {
            "title_id": title.id,
            "move_id": title.ref("move_id"),
            "move_name": title.ref_name("move_id"),
            "company_id": title.ref("company_id"),
            "partner_id": title.ref("partner_id"),
            "account_id": title.ref("account_id"),
            "phantom": work.facts.phantom
            or bool(await phantoms(work, known(title.ref("move_id")))),
        },
        f"title {title.id} of {title.ref_name('move_id')}, R$ {owed(work, title)} open",
    )


async def read(work: SettlementWork) -> Record:
    """The title; halts when it was deleted."""
    titles = await work.odoo.read(LINE, [known(work.facts.title_id)], NEEDED_FIELDS)
    if not titles:
        raise Halt(
            "title_deleted",
            f"The title of {work.subject.name} was deleted in Odoo. Roll back and resume: it is "
            "looked for anew.",
            "needs_attention",
        )
    return titles[0]


async def _only_title(work: SettlementWork) -> Record:
    candidates = await _candidates(work)
    if not candidates:
        raise Halt(
            "title_not_found",
            f"Odoo has no posted {work.subject.direction} of {work.subject.name}. Check number and "
            "instalment, and that the document is posted; then resume.",
        )
    own = [one for one in candidates if one.ref("company_id") in work.profile.companies]
    if not own:
        owners = ", ".join(sorted({str(one.ref_name("company_id")) for one in candidates}))
        raise Halt(
            "title_of_other_company",
            f"The title of {work.subject.name} belongs to {owners}, which is none of the companies "
            "of this connection's profile. Add it there if it should be settled, then resume.",
        )
    rank = work.profile.companies.index
    first = min(rank(known(one.ref("company_id"))) for one in own)
    chosen = [one for one in own if rank(known(one.ref("company_id"))) == first]
    if len(chosen) > 1:
        raise Halt(
            "several_titles",
            f"{len(chosen)} titles are {work.subject.name}: {_listed(chosen)}. Cancel this posting "
            "and send it again with the title_id of the right one.",
            "needs_attention",
        )
    return chosen[0]


async def _candidates(work: SettlementWork) -> list[Record]:
    """The titles that the first of several searches finds."""
    if work.subject.title_id is not None:
        named = await _search(work, [["id", "=", work.subject.title_id]])
        return [one for one in named if not one.text("x_studio_nf_e") or _is_of_number(work, one)]
    for number, instalment in _ways(work):
        found = await _search(work, [number, instalment])
        suitable = [one for one in found if _is_of_number(work, one)]
        if suitable:
            return suitable
    return []


def _ways(work: SettlementWork) -> Iterator[tuple[list[Any], list[Any]]]:
    """The searches, in their order: by the item's number, then by the document's name.

    Odoo keeps an instalment of 0 as empty, so a search for 0 would find nothing. A document of one
    instalment may not number it, so the first one is also looked for without a number.
    """
    numbers = (
        ["x_studio_nf_e", "=", work.subject.number],
        ["move_id.name", "ilike", work.subject.number],
    )
    unnumbered = ["l10n_br_cobranca_parcela", "in", [0, False]]
    if work.subject.instalment:
        exact = ["l10n_br_cobranca_parcela", "=", work.subject.instalment]
        yield from ((number, exact) for number in numbers)
    if work.subject.instalment <= 1:
        yield from ((number, unnumbered) for number in numbers)


async def _search(work: SettlementWork, conditions: Domain) -> list[Record]:
    direction = work.subject.direction
    domain = [
        *conditions,
        ["account_type", "=", ACCOUNT_TYPE[direction]],
        ["move_id.move_type", "=", MOVE_TYPE[direction]],
        ["parent_state", "=", "posted"],
        ["date_maturity", "!=", PHANTOM_DAY],
        [OWED[direction], ">", 0],
    ]
    found = await work.odoo.search_read(LINE, domain, NEEDED_FIELDS, limit=MOST_CANDIDATES)
    if len(found) == MOST_CANDIDATES:
        raise Halt(
            "several_titles",
            f"{MOST_CANDIDATES} titles or more could be {work.subject.name}. Cancel this posting "
            "and send it again with the title_id of the right one.",
            "needs_attention",
        )
    return found


def _is_of_number(work: SettlementWork, title: Record) -> bool:
    """Whether it is the number itself, and not a longer one that contains it."""
    wanted = work.subject.number
    if title.text("x_studio_nf_e") is not None:
        return _plain(title.text("x_studio_nf_e")) == wanted
    words = re.split(r"[^0-9A-Za-z.-]+", title.ref_name("move_id") or "")
    return wanted in {_plain(word) for word in words}


def _plain(text: str | None) -> str:
    return str(int(text)) if text and text.isdecimal() else text or ""


def _check(work: SettlementWork, title: Record) -> None:
    """The title is what the settlement is for, also when it was named by its id."""
    name = f"Title {title.id} ({title.ref_name('move_id')})"
    if title.number("amount_residual") != title.number("amount_residual_currency"):
        raise Halt(
            "foreign_currency",
            f"{name} is in a foreign currency. Settle it by hand in Odoo.",
        )
    if title.ref("partner_id") is None:
        raise Halt("title_without_partner", f"{name} has no partner in Odoo. Set it, then resume.")
    if title.text("parent_state") != "posted" and not work.facts.phantom:
        raise Halt(
            "title_not_posted",
            f"The document of {name} was taken back to draft in Odoo. Post it there, then resume.",
        )


def _listed(titles: Sequence[Record]) -> str:
    return "; ".join(
        f"{title.id} ({title.ref_name('move_id')}, {title.ref_name('partner_id')})"
        for title in titles
    )


async def phantoms(work: SettlementWork, move_id: int) -> list[Record]:
    """The instalments of the year 2000 beside a receivable that nobody has agreed on."""
    if work.subject.direction != "receivable":
        return []
    domain = [
        ["move_id", "=", move_id],
        ["account_type", "=", ACCOUNT_TYPE["receivable"]],
        ["date_maturity", "=", PHANTOM_DAY],
        ["debit", ">", 0],
    ]
    return await work.odoo.search_read(LINE, domain, ("debit",))


# -- how much of it is open ------------------------------------------------------------------


def owed(work: SettlementWork, title: Record) -> Decimal:
    """What is still open of a title; positive in both directions."""
    left = title.number("amount_residual")
    return left if work.subject.direction == "receivable" else -left


async def matches(work: SettlementWork) -> dict[int, Decimal]:
    """How much of the title each item has settled, by the item's id."""
    title_side, other_side = MATCHES[work.subject.direction]
    domain = [[title_side, "=", known(work.facts.title_id)]]
    found = await work.odoo.search_read(PARTIAL, domain, (other_side, "amount"))
    settled: dict[int, Decimal] = {}
    for match in found:
        line_id = known(match.ref(other_side))
        settled[line_id] = settled.get(line_id, Decimal(0)) + match.number("amount")
    return settled


def check_open(work: SettlementWork, title: Record, amount: Decimal, what: str) -> None:
    """Halt unless so much is open."""
    left = owed(work, title)
    if amount > left + work.profile.amount_tolerance:
        raise Halt(
            "amount_above_balance",
            f"{what} is R$ {amount}, and of title {title.id} ({work.subject.name}) only R$ {left} "
            "is open. See in Odoo what has settled it, then cancel this posting and send the "
            "right amounts.",
        )


def contexts(work: SettlementWork, *companies: int | None) -> dict[str, Any]:
    """Odoo acts in the title's company, with those of other records within reach."""
    own = known(work.facts.company_id)
    others = [one for one in dict.fromkeys(companies) if one not in {None, own}]
    return {"allowed_company_ids": [own, *others]}


# -- before and after ------------------------------------------------------------------------


async def look_before(work: SettlementWork) -> Observation:
    """Step 5: what title and document were like before anything was booked."""
    if work.facts.before is not None:
        return Done(message="looked at in an earlier run")
    return Done({"before": await _snapshot(work)}, "looked at before the first payment")


async def look_after(work: SettlementWork) -> dict[str, Any]:
    """What title and document are like now, and which fields differ from before."""
    before, after = work.facts.before or {}, await _snapshot(work)
    changed = sorted(name for name, value in after.items() if before.get(name) != value)
    return {"after": after, "changed_fields": changed}


async def _snapshot(work: SettlementWork) -> dict[str, Any]:
    title = await read(work)
    [move] = await work.odoo.read(MOVE, [known(work.facts.move_id)], MOVE_FIELDS)
    return {
        **{f"title.{name}": _shown(title.values[name]) for name in ("id", *FIELDS)},
        **{f"move.{name}": _shown(move.values[name]) for name in ("id", *MOVE_FIELDS)},
    }


def _shown(value: Any) -> Any:
    """As the ledger keeps it, so that a snapshot compares with one that was read back."""
    return format(value, "f") if isinstance(value, Decimal) else value
