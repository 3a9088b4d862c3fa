"""A receipt of goods: what the caller says has come, and what is found of it in Odoo."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from service.errors import InvalidInput, Problem
from service.posting.step import Work
from service.postings.physical_receipt.profile import ReceiptProfile, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator

KnownT = TypeVar("KnownT")
MOST_LOTS = 2_000
MOST_CHECKS = 1_000
RecordId = Annotated[int, Field(gt=0, le=2_147_483_647)]
Quantity = Annotated[Decimal, Field(gt=0, max_digits=15)]


def _plain_name(text: str) -> str:
    """One way to write a name: composed characters, single spaces, nothing invisible."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or not name.isprintable():
        raise ValueError("must be a line of printable characters")
    return name


LotName = Annotated[str, StringConstraints(max_length=200), AfterValidator(_plain_name)]


class ReceiptLot(BaseModel):
    """One lot or serial number that has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: LotName = Field(description="as it is on the goods; case counts", examples=["105/26"])
    quantity: Quantity = Field(description="1 for a serial number", examples=["60"])
    expiry: dt.date | None = Field(default=None, description="from this day on it is refused")


class ReceiptLine(BaseModel):
    """What has come of one product, or of one of its moves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: RecordId = Field(description="product.product")
    move_id: RecordId | None = Field(
        default=None, description="stock.move; needed where the picking has several of the product"
    )
    quantity: Quantity = Field(description="in the unit of the move", examples=["100"])
    lots: tuple[ReceiptLot, ...] = Field(
        default=(), max_length=MOST_LOTS, description="of a tracked product, all of them"
    )


class ReceiptCheck(BaseModel):
    """The result of one quality check: a verdict, or a measure that Odoo judges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check_id: RecordId = Field(description="quality.check")
    result: Literal["pass", "fail"] | None = None
    measure: Decimal | None = Field(default=None, max_digits=15)


class Receipt(BaseModel):
    """A receipt of goods, by the picking that expects them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picking_id: RecordId = Field(description="stock.picking: its id is the document's key")
    picking_name: str | None = Field(
        default=None, max_length=100, description="checked, if given", examples=["WH/IN/00012"]
    )
    company_id: RecordId | None = Field(default=None, description="checked, if given")
    lines: tuple[ReceiptLine, ...] = Field(min_length=1, max_length=1_000)
    checks: tuple[ReceiptCheck, ...] = Field(default=(), max_length=MOST_CHECKS)


class Movement(BaseModel):
    """A movement of stock, by the id of its move in Odoo."""

    model_config = ConfigDict(frozen=True)

    move_id: int
    product_id: int
    location_id: int
    quantity: Decimal
    lots: dict[str, Decimal] = Field(default_factory=dict)


class ReceiptFacts(BaseModel):
    """What was found of a receipt in Odoo."""

    model_config = ConfigDict(frozen=True)

    picking_id: int | None = None
    picking_name: str | None = None
    company_id: int | None = None
    done_at: dt.datetime | None = None
    movements: tuple[Movement, ...] = ()


ReceiptWork = Work[Receipt, ReceiptProfile, ReceiptFacts]


def known(value: KnownT | None) -> KnownT:
    """A fact that an earlier step has found."""
    if value is None:
        raise LookupError("an earlier step did not find what this one needs")
    return value


def document_key(receipt: Receipt) -> str:
    """The picking, as Odoo writes a reference to a record."""
    return f"stock.picking,{receipt.picking_id}"


def today(profile: ReceiptProfile) -> dt.date:
    """The date of the deployment's calendar."""
    return dt.datetime.now(profile.timezone).date()


def admit(receipt: Receipt, profile: ReceiptProfile) -> Receipt:
    """Check what can be told without Odoo; raises `InvalidInput` naming every wrong field."""
    problems = [
        *_company_problems(receipt, profile),
        *_line_problems(receipt),
        *_lot_problems(receipt, today(profile)),
        *_quantity_problems(receipt, profile),
        *_check_problems(receipt, profile),
    ]
    if problems:
        raise InvalidInput(problems)
    return receipt


def is_expired(expiry: dt.date, day: dt.date) -> bool:
    """Whether goods of that expiry are refused: Odoo counts from the beginning of the day."""
    return expiry <= day


def _company_problems(receipt: Receipt, profile: ReceiptProfile) -> Iterator[Problem]:
    if receipt.company_id is not None and profile.company(receipt.company_id) is None:
        names = ", ".join(str(one.company_id) for one in profile.companies)
        message = f"is none of the companies of this connection: {names}"
        yield Problem("company_id", message, "unknown_company")


def _line_problems(receipt: Receipt) -> Iterator[Problem]:
    """A product stands once, or each time with a move of its own."""
    products = Counter(line.product_id for line in receipt.lines)
    moves = Counter(line.move_id for line in receipt.lines if line.move_id is not None)
    for place, line in enumerate(receipt.lines):
        if line.move_id is None and products[line.product_id] > 1:
            message = "the product has several lines: name the move of each, or add them up"
            yield Problem(f"lines.{place}.move_id", message, "duplicate_line")
        elif line.move_id is not None and moves[line.move_id] > 1:
            yield Problem(f"lines.{place}.move_id", "stands in several lines", "duplicate_line")


def _lots(receipt: Receipt) -> Iterator[tuple[str, ReceiptLine, ReceiptLot]]:
    """All lots, each with its place in the input and its line."""
    for place, line in enumerate(receipt.lines):
        for number, lot in enumerate(line.lots):
            yield f"lines.{place}.lots.{number}", line, lot


def _lot_problems(receipt: Receipt, day: dt.date) -> Iterator[Problem]:
    counts = [Counter(lot.name for lot in line.lots) for line in receipt.lines]
    for place, count in enumerate(counts):
        if repeated := [name for name, times in count.items() if times > 1]:
            message = f"stands several times: {', '.join(repeated)}"
            yield Problem(f"lines.{place}.lots", message, "duplicate_lot")
    expiries: dict[tuple[int, str], dt.date | None] = {}
    for field, line, lot in _lots(receipt):
        if lot.expiry is not None and is_expired(lot.expiry, day):
            yield Problem(f"{field}.expiry", f"has expired by {day}", "expired")
        if expiries.setdefault((line.product_id, lot.name), lot.expiry) != lot.expiry:
            message = "the same lot has another expiry in an earlier line"
            yield Problem(f"{field}.expiry", message, "expiry_conflict")


def _quantity_problems(receipt: Receipt, profile: ReceiptProfile) -> Iterator[Problem]:
    quantities = [(f"lines.{n}.quantity", line.quantity) for n, line in enumerate(receipt.lines)]
    quantities += [(f"{field}.quantity", lot.quantity) for field, _, lot in _lots(receipt)]
    for field, quantity in quantities:
        if profile.rounded(quantity) != quantity:
            message = f"has more than {profile.quantity_decimals} decimal places"
            yield Problem(field, message, "too_precise")
    for place, line in enumerate(receipt.lines):
        total = sum((lot.quantity for lot in line.lots), Decimal(0))
        if line.lots and total != line.quantity:
            message = f"add up to {total}, the line is of {line.quantity}"
            yield Problem(f"lines.{place}.lots", message, "sum_differs")


def _check_problems(receipt: Receipt, profile: ReceiptProfile) -> Iterator[Problem]:
    counts = Counter(check.check_id for check in receipt.checks)
    for place, check in enumerate(receipt.checks):
        if counts[check.check_id] > 1:
            yield Problem(f"checks.{place}.check_id", "stands several times", "duplicate_check")
        if (check.result is None) == (check.measure is None):
            yield Problem(f"checks.{place}", "give either a result or a measure", "one_result")
        decimals = profile.measure_decimals
        if check.measure is not None and rounded(check.measure, decimals) != check.measure:
            message = f"has more than {decimals} decimal places"
            yield Problem(f"checks.{place}.measure", message, "too_precise")
