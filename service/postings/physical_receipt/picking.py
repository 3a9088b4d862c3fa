"""The picking: found, validated, verified. Steps 1, 7 and 8."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.odoo.errors import UserFault
from service.posting.step import Call, Done, Halt, Observation, Pending
from service.postings.physical_receipt import checks, dialect, lines
from service.postings.physical_receipt.expectation import (
    ALREADY_DONE,
    ANEW,
    PICKING,
    context,
    expected,
    is_done,
    paired,
    read,
)
from service.postings.physical_receipt.lots import LOT
from service.postings.physical_receipt.receipt import Movement, known

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from service.odoo.records import Caller, Record
    from service.postings.physical_receipt.expectation import Expected
    from service.postings.physical_receipt.receipt import ReceiptWork

READY = "assigned"
STATE_NAMES = {
    "draft": "a draft",
    "waiting": "waiting for another transfer",
    "confirmed": "waiting for its goods",
}
MOST_DIFFERENCES = 5

Amounts = dict[tuple[int, str | None], Decimal]
"""Quantities by move and lot."""


class WizardReturned(UserFault):
    """Odoo asks a person before it validates: nothing was validated, and nothing is answered."""

    code = "wizard_returned"


async def find(work: ReceiptWork) -> Observation:
    """Step 1: the picking is of the right company and kind, ready, and expects just this.

    All that stops a receipt before it changes anything in Odoo is found here. One that is done
    must hold what has come, lot by lot.
    """
    picking = await read(work)
    name = picking.text("name")
    _check_name(work, name)
    _check_company(work, picking)
    facts = {
        "picking_id": picking.id,
        "picking_name": name,
        "company_id": picking.ref("company_id"),
    }
    if is_done(picking):
        await _received(work, picking)
        return Done(facts, f"picking {name}: {ALREADY_DONE}, with these quantities")
    _check_ready(picking)
    await expected(work, picking)
    await checks.paired(work)
    return Done(facts, f"picking {name}")


async def validate(work: ReceiptWork) -> Observation:
    """Step 7: done. Before that: ready, in its company, with the lines wanted and checks decided.

    Odoo's button is not idempotent, takes a minute or more, and may answer with a wizard.
    """
    picking = await read(work)
    if is_done(picking):
        return Done(message=f"picking {picking.text('name')} is done")
    _check_company(work, picking)
    _check_ready(picking)
    pairs = await expected(work, picking)
    if not await lines.are_as_wanted(work, picking, pairs):
        raise Halt(
            "lines_changed",
            f"The lines of picking {picking.text('name')} were changed in Odoo meanwhile. Resume: "
            "they are set right again.",
        )
    if undecided := [check for check, _ in await checks.paired(work) if checks.is_open(check)]:
        names = ", ".join(str(check.text("display_name")) for check in undecided)
        raise Halt("check_open", f"Quality checks {names} are open again. Resume.")
    return Pending(
        Call(
            model=PICKING,
            method="button_validate",
            args=[[picking.id]],
            kwargs={"context": {**context(work), **_without_backorder(work, pairs)}},
            before={"state": picking.text("state")},
            after={"state": "done"},
        )
    )


async def press(odoo: Caller, call: Call, limit: timedelta) -> None:
    """The act of step 7; raises `WizardReturned` where the answer is a question."""
    seconds = limit.total_seconds()
    answer = await odoo.execute_kw(
        call.model, call.method, call.args, call.kwargs, timeout_seconds=seconds
    )
    match answer:
        case {"type": "ir.actions.act_window", "res_model": str() as model, **more}:
            raise WizardReturned(
                f'it asks "{more.get("name")}" ({model}) before it validates the picking',
                call.model,
                call.method,
                exception=model,
            )


async def undo_validate(work: ReceiptWork) -> Observation:
    """Not done: goods that are in stock go back by a return only."""
    pickings = await work.odoo.read(PICKING, [work.subject.picking_id], ("name", "state"))
    for picking in pickings:
        if is_done(picking):
            raise Halt(
                "picking_done",
                f"Picking {picking.text('name')} is done: that cannot be undone from here. Resume "
                "the posting, or return the goods in Odoo.",
                "needs_attention",
            )
    return Done({"done_at": None, "movements": []})


async def verify(work: ReceiptWork) -> Observation:
    """Step 8: done, with exactly the quantities of each lot; these are the movements of stock."""
    picking = await read(work)
    if not is_done(picking):
        raise Halt(
            "undone_meanwhile",
            f"Picking {picking.text('name')} is not done any more. Resume the posting.",
        )
    movements = await _received(work, picking)
    return Done(
        {"done_at": picking.moment("date_done"), "movements": movements},
        f"picking {picking.text('name')} verified: {len(movements)} movements",
    )


def _check_name(work: ReceiptWork, name: str | None) -> None:
    wanted = work.subject.picking_name
    if wanted is not None and wanted != name:
        raise Halt(
            "wrong_picking",
            f"Picking {work.subject.picking_id} is {name} in Odoo, and not {wanted}. {ANEW}.",
        )


def _check_company(work: ReceiptWork, picking: Record) -> None:
    """The caller's company, or one that the profile has; and a kind of picking of that company."""
    found, name = picking.ref("company_id"), picking.text("name")
    shown = f"{picking.ref_name('company_id')} ({found})"
    wanted = work.facts.company_id or work.subject.company_id
    if wanted is not None and wanted != found:
        raise Halt(
            "wrong_company",
            f"Picking {name} belongs to company {shown}, the receipt to company {wanted}. Cancel "
            "this posting and post the receipt anew for its own picking.",
            "needs_attention",
        )
    company = work.profile.company(found)
    if company is None:
        raise Halt(
            "unknown_company",
            f"Picking {name} belongs to company {shown}, which this connection's profile does not "
            "have. Add it there if it should be received, then resume.",
        )
    if picking.ref("picking_type_id") not in company.picking_type_ids:
        raise Halt(
            "wrong_picking_type",
            f"Picking {name} is of the type {picking.ref_name('picking_type_id')} "
            f"({picking.ref('picking_type_id')}), which is not received for company {shown}. Add "
            "it to the profile if it should be, then resume.",
        )


def _check_ready(picking: Record) -> None:
    state = picking.text("state") or ""
    if state != READY:
        raise Halt(
            "picking_not_ready",
            f"Picking {picking.text('name')} is {STATE_NAMES.get(state, state)} in Odoo. Make it "
            "ready there (check availability), then resume.",
        )


def _without_backorder(work: ReceiptWork, pairs: Sequence[Expected]) -> Mapping[str, Any]:
    """What lies within the tolerance is not waited for; all other is never answered here."""
    demands = ((pair.move.number("product_uom_qty"), pair.line.quantity) for pair in pairs)
    if all(work.profile.rounded(demand) <= quantity for demand, quantity in demands):
        return {}
    return {
        "skip_backorder": True,
        "picking_ids_not_to_backorder": [work.subject.picking_id],
    }


async def _received(work: ReceiptWork, picking: Record) -> list[dict[str, Any]]:
    """The movements of a picking that is done; halts unless they are what has come."""
    pairs = await paired(work, picking)
    received = await _amounts(work, picking)
    wanted: Amounts = {
        (pair.move.id, lot.name if lot else None): lot.quantity if lot else pair.line.quantity
        for pair in pairs
        for lot in pair.line.lots or (None,)
    }
    if received != wanted:
        raise _differs(picking, pairs, received, wanted)
    return [_movement(pair) for pair in pairs]


async def _amounts(work: ReceiptWork, picking: Record) -> Amounts:
    """What the lines of a picking that is done hold, by move and lot."""
    words = dialect.of(work.profile.odoo_version)
    found = await lines.read(work, picking)
    ids = list(dict.fromkeys(lot for line in found if (lot := line.ref("lot_id")) is not None))
    names = {lot.id: lot.text("name") for lot in await work.odoo.read(LOT, ids, ("name",))}
    amounts: Amounts = defaultdict(Decimal)
    for line in found:
        quantity = work.profile.rounded(line.number(words.quantity))
        if quantity:
            amounts[line.ref("move_id") or 0, names.get(line.ref("lot_id") or 0)] += quantity
    return dict(amounts)


def _differs(
    picking: Record, pairs: Sequence[Expected], received: Amounts, wanted: Amounts
) -> Halt:
    products = {pair.move.id: pair.product for pair in pairs}
    different = [
        f"{products.get(move, f'move {move}')}{f' lot {lot}' if lot else ''}: "
        f"{received.get((move, lot), 0)} in Odoo, {wanted.get((move, lot), 0)} have come"
        for move, lot in sorted(received.keys() | wanted.keys(), key=str)
        if received.get((move, lot)) != wanted.get((move, lot))
    ]
    more = len(different) - MOST_DIFFERENCES
    return Halt(
        "received_differs",
        f"Picking {picking.text('name')} is done with other quantities: "
        f"{'; '.join(different[:MOST_DIFFERENCES])}{f'; and {more} more' if more > 0 else ''}. "
        "Correct the stock in Odoo and cancel this posting.",
        "needs_attention",
    )


def _movement(pair: Expected) -> dict[str, Any]:
    """A movement of stock, by the id of its move in Odoo."""
    return Movement(
        move_id=pair.move.id,
        product_id=pair.line.product_id,
        location_id=known(pair.move.ref("location_dest_id")),
        quantity=pair.line.quantity,
        lots={lot.name: lot.quantity for lot in pair.line.lots},
    ).model_dump()
