"""The lots of a receipt in Odoo: exactly one of each name, product and company. Steps 2 and 3."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending
from service.postings.physical_receipt.expectation import ALREADY_DONE, context, unfinished
from service.postings.physical_receipt.receipt import known

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from service.odoo.records import Domain, Record
    from service.postings.physical_receipt.expectation import Expected
    from service.postings.physical_receipt.receipt import ReceiptWork

LOT = "stock.lot"
NAMES_AT_ONCE = 100
"""How many names one search asks for by pattern: each nests the domain by one more level."""

Key = tuple[int, str]
"""A product and the name of a lot."""


async def create(work: ReceiptWork) -> Observation:
    """Step 2: every lot is there. All that are missing are created by one call, or none is.

    A call that comes late finds the lots and is refused, so it may be made again.
    """
    open_receipt = await unfinished(work)
    if open_receipt is None:
        return Done(message=ALREADY_DONE)
    _, pairs = open_receipt
    wanted, found = _wanted(pairs), await find(work, pairs)
    missing = [key for key in wanted if key not in found]
    if not missing:
        return Done(message=f"{len(found)} lots")
    return Pending(
        Call(
            model=LOT,
            method="create",
            args=[[_values(work, key, wanted[key]) for key in missing]],
            kwargs={"context": context(work)},
            before={"name": []},
            after={"name": [name for _, name in missing]},
        )
    )


async def set_expiry(work: ReceiptWork) -> Observation:
    """Step 3: lots that were there without an expiry have it; another one is nobody's to change."""
    open_receipt = await unfinished(work)
    if open_receipt is None:
        return Done(message=ALREADY_DONE)
    _, pairs = open_receipt
    found = await find_all(work, pairs)
    undated: dict[dt.date, list[int]] = defaultdict(list)
    for key, expiry in _wanted(pairs).items():
        if expiry is not None and _expiry(found[key], expiry) is None:
            undated[expiry].append(found[key].id)
    for expiry, ids in undated.items():
        after = {"expiration_date": _moment(expiry)}
        return Pending(
            Call(
                model=LOT,
                method="write",
                args=[ids, after],
                kwargs={"context": context(work)},
                before={"expiration_date": None},
                after=after,
            )
        )
    return Done()


async def find_all(work: ReceiptWork, pairs: Sequence[Expected]) -> Mapping[Key, Record]:
    """The lots in Odoo; halts when one is not there any more."""
    found = await find(work, pairs)
    if gone := [name for product, name in _wanted(pairs) if (product, name) not in found]:
        raise Halt(
            "lot_deleted",
            f"Lots {', '.join(gone)} were deleted in Odoo. Resume: they will be created again.",
        )
    return found


async def find(work: ReceiptWork, pairs: Sequence[Expected]) -> dict[Key, Record]:
    """The lots that are there, by exact name, product and company.

    A search by equality has been seen to miss lots that exist, so what it misses is searched by
    pattern too, before anything is created.
    """
    wanted = _wanted(pairs)
    if not wanted:
        return {}
    found = await _search(work, wanted, [["name", "in", sorted({name for _, name in wanted})]])
    missed = {name for product, name in wanted if (product, name) not in found}
    for names in _slices(sorted(missed)):
        patterns = [["name", "=like", _escaped(name)] for name in names]
        found |= await _search(work, wanted, ["|"] * (len(patterns) - 1) + patterns)
    return found


async def _search(work: ReceiptWork, wanted: Mapping[Key, Any], names: Domain) -> dict[Key, Record]:
    products = sorted({product for product, _ in wanted})
    company = known(work.facts.company_id)
    dated = any(expiry is not None for expiry in wanted.values())
    records = await work.odoo.search_read(
        LOT,
        [*names, ["product_id", "in", products], ["company_id", "in", [company, False]]],
        ("name", "product_id", *(("expiration_date",) if dated else ())),
        context=context(work),
    )
    by_key: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        by_key[record.ref("product_id") or 0, record.text("name") or ""].append(record)
    return {key: _only(by_key[key]) for key in wanted if key in by_key}


def _only(lots: Sequence[Record]) -> Record:
    if len(lots) > 1:
        raise Halt(
            "several_lots",
            f"Odoo has {len(lots)} lots named {lots[0].text('name')} of "
            f"{lots[0].ref_name('product_id')} (ids {', '.join(str(lot.id) for lot in lots)}). "
            "Rename or merge all but one, then resume.",
            "needs_attention",
        )
    return lots[0]


def _wanted(pairs: Sequence[Expected]) -> dict[Key, dt.date | None]:
    return {
        (pair.line.product_id, lot.name): lot.expiry for pair in pairs for lot in pair.line.lots
    }


def _values(work: ReceiptWork, key: Key, expiry: dt.date | None) -> dict[str, Any]:
    product, name = key
    values = {"name": name, "product_id": product, "company_id": work.facts.company_id}
    return values if expiry is None else {**values, "expiration_date": _moment(expiry)}


def _expiry(lot: Record, wanted: dt.date) -> dt.date | None:
    present = lot.day("expiration_date")
    if present not in (None, wanted):
        raise Halt(
            "lot_expiry_differs",
            f"Lot {lot.text('name')} (id {lot.id}) expires on {present} in Odoo, on {wanted} by "
            "this receipt. Correct the lot in Odoo and resume, or cancel this posting and post the "
            "receipt with the right date.",
            "needs_attention",
        )
    return present


def _moment(expiry: dt.date) -> str:
    return f"{expiry.isoformat()} 00:00:00"


def _escaped(name: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", name)


def _slices(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield names[start : start + NAMES_AT_ONCE]
