"""What Odoo expects: the picking and its moves, each with what the caller says has come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.posting.step import Halt
from service.postings.physical_receipt.receipt import is_expired, known

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.odoo.records import Record
    from service.postings.physical_receipt.receipt import ReceiptLine, ReceiptWork

PICKING = "stock.picking"
MOVE = "stock.move"
FIELDS = (
    "name",
    "state",
    "company_id",
    "picking_type_id",
    "move_ids",
    "move_line_ids",
    "date_done",
)
MOVE_FIELDS = (
    "product_id",
    "product_uom_qty",
    "product_uom",
    "has_tracking",
    "state",
    "location_id",
    "location_dest_id",
)
ALREADY_DONE = "the picking is done already"
ANEW = "Cancel this posting and post the receipt anew with the right values"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One move of the picking, and what has come of it."""

    move: Record
    line: ReceiptLine

    @property
    def product(self) -> str:
        """The product, for messages."""
        return f"{self.move.ref_name('product_id')} (id {self.line.product_id})"


async def read(work: ReceiptWork) -> Record:
    """The picking; halts when it is not there, or cancelled."""
    picking_id = work.subject.picking_id
    pickings = await work.odoo.read(PICKING, [picking_id], FIELDS)
    if not pickings:
        raise Halt(
            "picking_not_found",
            f"Odoo has no picking with the id {picking_id}. Cancel this posting; if the goods are "
            "here, post the receipt of the picking that expects them.",
        )
    [picking] = pickings
    if picking.text("state") == "cancel":
        raise Halt(
            "picking_canceled",
            f"Picking {picking.text('name')} is cancelled in Odoo and expects no goods. Cancel "
            "this posting; if the goods are here, post the receipt of the picking for them.",
        )
    return picking


def is_done(picking: Record) -> bool:
    """Whether the goods are in stock."""
    return picking.text("state") == "done"


def context(work: ReceiptWork) -> dict[str, Any]:
    """Odoo acts in the picking's company, not in the user's default one."""
    return {"allowed_company_ids": [known(work.facts.company_id)]}


async def unfinished(work: ReceiptWork) -> tuple[Record, list[Expected]] | None:
    """The picking and what it expects; None once it is done."""
    picking = await read(work)
    return None if is_done(picking) else (picking, await expected(work, picking))


async def expected(work: ReceiptWork, picking: Record) -> list[Expected]:
    """The moves with what has come of each; halts unless it is what Odoo expects."""
    pairs = await paired(work, picking)
    for pair in pairs:
        _check_quantity(work, picking, pair)
        _check_lots(pair)
        _check_expiry(work, pair)
    return pairs


async def paired(work: ReceiptWork, picking: Record) -> list[Expected]:
    """The moves that are not cancelled with their lines; halts where one of either is alone."""
    read_moves = await work.odoo.read(MOVE, picking.refs("move_ids"), MOVE_FIELDS)
    moves = [move for move in read_moves if move.text("state") != "cancel"]
    pairs = [Expected(move=_move_of(line, moves), line=line) for line in work.subject.lines]
    listed = {pair.move.id for pair in pairs}
    if unlisted := [move for move in moves if move.id not in listed]:
        raise Halt(
            "move_not_listed",
            f"Picking {picking.text('name')} also expects {_products(unlisted)}, of which the "
            f"receipt says nothing. {ANEW}, or cancel these moves in Odoo and resume.",
        )
    return pairs


def _move_of(line: ReceiptLine, moves: Sequence[Record]) -> Record:
    found = [
        move
        for move in moves
        if move.ref("product_id") == line.product_id and line.move_id in (None, move.id)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise Halt(
            "several_moves",
            f"The picking has {len(found)} moves of product {line.product_id} (ids "
            f"{', '.join(str(move.id) for move in found)}). {ANEW}: each line names its move.",
        )
    which = "" if line.move_id is None else f" with the id {line.move_id}"
    raise Halt(
        "product_not_expected",
        f"The picking has no move{which} of product {line.product_id}; it expects "
        f"{_products(moves)}. {ANEW}, or add the product in Odoo and resume.",
    )


def _products(moves: Iterable[Record]) -> str:
    listed = (f"{move.ref_name('product_id')} (move {move.id})" for move in moves)
    return ", ".join(listed) or "nothing"


def _check_quantity(work: ReceiptWork, picking: Record, pair: Expected) -> None:
    demand, quantity = work.profile.rounded(pair.move.number("product_uom_qty")), pair.line.quantity
    if abs(demand - quantity) > work.profile.quantity_tolerance:
        raise Halt(
            "quantity_mismatch",
            f"Picking {picking.text('name')} expects {demand} of {pair.product}, and {quantity} "
            f"have come. {ANEW}, or correct the demand in Odoo and resume.",
        )


def _check_lots(pair: Expected) -> None:
    """Lots where the product is tracked, and only there; one piece of each serial number."""
    tracking, lots = pair.move.text("has_tracking") or "none", pair.line.lots
    if tracking == "none" and lots:
        raise Halt(
            "lots_not_tracked", f"{pair.product} is not tracked by lot in Odoo. {ANEW}: no lots."
        )
    if tracking != "none" and not lots:
        raise Halt("lots_missing", f"{pair.product} is tracked by lot in Odoo. {ANEW}: its lots.")
    if tracking == "serial" and (many := [lot.name for lot in lots if lot.quantity != 1]):
        raise Halt(
            "serial_quantity",
            f"{pair.product} is tracked by serial number: {', '.join(many)} must be one piece "
            f"each. {ANEW}.",
        )


def _check_expiry(work: ReceiptWork, pair: Expected) -> None:
    """A receipt that waited may hold by now what it could not have been accepted with."""
    for lot in pair.line.lots:
        if lot.expiry is not None and is_expired(lot.expiry, work.today):
            raise Halt(
                "lot_expired",
                f"Lot {lot.name} of {pair.product} has expired on {lot.expiry}. Receive it in Odoo "
                "by hand if it is wanted all the same; else cancel this posting.",
            )
