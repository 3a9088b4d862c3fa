"""The lines of the picking: one for each lot, with what has come of it. Step 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.odoo.errors import LockConflict
from service.posting.step import Call, Done, Observation, Pending
from service.postings.physical_receipt import dialect, lots
from service.postings.physical_receipt.expectation import (
    ALREADY_DONE,
    PICKING,
    context,
    unfinished,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from decimal import Decimal

    from service.odoo.records import Record
    from service.postings.physical_receipt.expectation import Expected
    from service.postings.physical_receipt.profile import ReceiptProfile
    from service.postings.physical_receipt.receipt import ReceiptWork

LINE = "stock.move.line"
FIELDS = (
    "move_id",
    "product_uom_id",
    "lot_id",
    "lot_name",
    "location_id",
    "location_dest_id",
)
CREATE, UPDATE, DELETE = 0, 1, 2
"""Odoo's commands for the lines of a record."""

Key = tuple[int | None, int | None]
"""A move and a lot."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One line as it should be."""

    move: Record
    lot: Record | None
    quantity: Decimal

    @property
    def key(self) -> Key:
        """What tells it from the other lines."""
        return self.move.id, self.lot.id if self.lot else None


async def fill(work: ReceiptWork) -> Observation:
    """Step 4: the picking's lines are those of the receipt, and no others.

    One write makes all the difference, or none of it. A line for a lot is never added on top of
    one that is only reserved: the reserved line is deleted by the same write, so that Odoo refuses
    that write when it comes a second time.
    """
    open_receipt = await unfinished(work)
    if open_receipt is None:
        return Done(message=ALREADY_DONE)
    picking, pairs = open_receipt
    wanted = await _wanted(work, pairs)
    present = await read(work, picking)
    commands = differences(work.profile, present, wanted)
    if not commands:
        return Done(message=f"{len(wanted)} lines")
    return Pending(
        Call(
            model=PICKING,
            method="write",
            args=[[picking.id], {"move_line_ids": commands}],
            kwargs={"context": context(work)},
            before={"move_line_ids": [_shown(work.profile, line) for line in present]},
            after={"move_line_ids": [_meant(line) for line in wanted]},
        )
    )


async def are_as_wanted(work: ReceiptWork, picking: Record, pairs: Sequence[Expected]) -> bool:
    """Whether nothing has to be changed in the picking's lines."""
    wanted = await _wanted(work, pairs)
    return not differences(work.profile, await read(work, picking), wanted)


async def read(work: ReceiptWork, picking: Record) -> list[Record]:
    """All lines of the picking; raises `LockConflict` when they change while they are read.

    A line that was left out would be made once more.
    """
    fields = (*FIELDS, *dialect.of(work.profile.odoo_version).fields)
    found = await work.odoo.search_read(LINE, [["picking_id", "=", picking.id]], fields)
    if {line.id for line in found} != set(picking.refs("move_line_ids")):
        message = f"the lines of picking {picking.text('name')} changed while they were read"
        raise LockConflict(message, LINE, "search_read")
    return found


def differences(
    profile: ReceiptProfile, present: Sequence[Record], wanted: Sequence[Wanted]
) -> list[list[Any]]:
    """The commands that turn the present lines into the wanted ones; none when nothing differs.

    What comes for a lot is at the place that Odoo has chosen for its move.
    """
    kept = _kept(present, {line.key for line in wanted})
    places = {line.ref("move_id"): line for line in reversed(present)}
    deletes = [[DELETE, line.id] for line in present if line not in kept.values()]
    updates, creates = [], []
    for line in wanted:
        there = kept.get(line.key)
        if there is None:
            place = places.get(line.move.id, line.move)
            creates.append([CREATE, 0, _new_values(line, place) | _values(profile, line)])
        elif not _says(profile, there, line):
            updates.append([UPDATE, there.id, _values(profile, line)])
    return [*deletes, *updates, *creates]


def _kept(present: Sequence[Record], keys: Collection[Key]) -> dict[Key, Record]:
    """The first of the lines with each of these keys."""
    kept: dict[Key, Record] = {}
    for line in present:
        key = (line.ref("move_id"), line.ref("lot_id"))
        if key in keys:
            kept.setdefault(key, line)
    return kept


def _says(profile: ReceiptProfile, line: Record, wanted: Wanted) -> bool:
    words = dialect.of(profile.odoo_version)
    return (
        words.is_done(line)
        and profile.rounded(line.number(words.quantity)) == wanted.quantity
        and line.ref("product_uom_id") == wanted.move.ref("product_uom")
    )


def _values(profile: ReceiptProfile, line: Wanted) -> dict[str, Any]:
    words = dialect.of(profile.odoo_version)
    return {"product_uom_id": line.move.ref("product_uom"), **words.values(line.quantity)}


def _new_values(line: Wanted, place: Record) -> dict[str, Any]:
    return {
        "move_id": line.move.id,
        "product_id": line.move.ref("product_id"),
        "lot_id": line.lot.id if line.lot else False,
        "location_id": place.ref("location_id"),
        "location_dest_id": place.ref("location_dest_id"),
    }


async def _wanted(work: ReceiptWork, pairs: Sequence[Expected]) -> list[Wanted]:
    found = await lots.find_all(work, pairs)
    wanted: list[Wanted] = []
    for move, line in ((pair.move, pair.line) for pair in pairs):
        wanted += [
            Wanted(move=move, lot=found[line.product_id, lot.name], quantity=lot.quantity)
            for lot in line.lots
        ]
        if not line.lots:
            wanted.append(Wanted(move=move, lot=None, quantity=line.quantity))
    return wanted


def _shown(profile: ReceiptProfile, line: Record) -> dict[str, Any]:
    """A line as the audit shows it."""
    words = dialect.of(profile.odoo_version)
    return {
        "id": line.id,
        "move_id": line.ref("move_id"),
        "lot": line.ref_name("lot_id") or line.text("lot_name"),
        "quantity": line.number(words.quantity),
        "done": words.is_done(line),
    }


def _meant(line: Wanted) -> dict[str, Any]:
    return {
        "move_id": line.move.id,
        "lot": line.lot.text("name") if line.lot else None,
        "quantity": line.quantity,
        "done": True,
    }
