"""Columns of a sheet, and what stands in their cells.

Amounts are Decimals all the way. What could mean two things is refused: `1.234` is a thousand to
one reader and one and a bit to another. With slashes the day comes first, as in Brazil.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass
from dataclasses import field as default
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from service.errors import EclusaError

if TYPE_CHECKING:
    from collections.abc import Mapping

Cell = str | bool | Decimal | dt.datetime | dt.time | None
Kind = Literal["text", "amount", "date", "whole", "word"]

MOST_DECIMALS = 2
YES_OR_NO = {
    "yes": True, "sim": True, "true": True, "verdadeiro": True,
    "no": False, "nao": False, "false": False, "falso": False,
}  # fmt: skip

_SPACES = re.compile(r"\s+")
_AMBIGUOUS = re.compile(r"\d{1,3}[.,]\d{3}")
_TOO_EXACT = re.compile(r"[\d.,]*[.,]\d{3,}")
_COMMA = re.compile(r"(?:\d+|\d{1,3}(?:\.\d{3})+),\d{1,2}")
_POINT = re.compile(r"(?:\d+|\d{1,3}(?:,\d{3})+)\.\d{1,2}")
_WHOLE = re.compile(r"\d+|\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:,\d{3}){2,}", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)
_YEAR_FIRST = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)


@dataclass
class WrongCell(EclusaError):
    """A cell does not say what its column should."""

    message: str
    code: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, kw_only=True)
class Column:
    """What fills a field of the input.

    field      its name there, which is also the column's
    kind       what its cells hold
    also       further names that people use, in any case, with accents or without
    words      for a word: what each one means
    required   whether a sheet without the column is refused
    example    what a template shows
    """

    field: str
    kind: Kind
    also: tuple[str, ...] = ()
    words: Mapping[str, Any] = default(default_factory=dict)
    required: bool = False
    example: str = ""

    def value(self, cell: Cell) -> Any:
        """What a cell means; None for an empty one. Raises `WrongCell`."""
        cell = _SPACES.sub(" ", cell).strip() if isinstance(cell, str) else cell
        if cell is None or cell == "":
            return None
        match self.kind:
            case "text":
                return _text(cell)
            case "amount":
                return _amount(cell)
            case "date":
                return _date(cell)
            case "whole":
                return _whole(cell)
            case "word":
                return self._word(cell)

    def _word(self, cell: Cell) -> Any:
        word = plain(str(cell))
        if word not in self.words:
            known = ", ".join(self.words)
            raise WrongCell(f"{str(cell)[:40]!r} is none of these words: {known}", "unknown_word")
        return self.words[word]


def plain(name: str) -> str:
    """A name as it is compared: no accents, small letters, anything else as one underscore."""
    bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", bare.casefold()).strip("_")


def _text(cell: Cell) -> str:
    match cell:
        case str():
            return cell
        case Decimal():
            return format(cell, "f")
        case _:
            raise WrongCell("must be a text or a number: format the cell as text", "no_text")


def _amount(cell: Cell) -> Decimal:
    match cell:
        case Decimal():
            number = cell
        case str():
            number = _amount_of_text(cell)
        case _:
            raise WrongCell("must be an amount like 1234.56 or 1.234,56", "no_amount")
    if number != round(number, MOST_DECIMALS):
        raise WrongCell(f"{number:f} has more than two decimals", "too_many_decimals")
    return number


def _amount_of_text(cell: str) -> Decimal:
    text = cell.removeprefix("R$").strip()
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-").strip()
    if _AMBIGUOUS.fullmatch(text):
        raise WrongCell(
            f"{cell!r} can be read in two ways: write the decimals, as in 1.234,00 or 1.23",
            "ambiguous_amount",
        )
    if _COMMA.fullmatch(text):
        return sign * Decimal(text.replace(".", "").replace(",", "."))
    if _POINT.fullmatch(text):
        return sign * Decimal(text.replace(",", ""))
    if _WHOLE.fullmatch(text):
        return sign * Decimal(re.sub("[.,]", "", text))
    if _TOO_EXACT.fullmatch(text):
        raise WrongCell(f"{cell[:40]!r} has more than two decimals", "too_many_decimals")
    raise WrongCell(f"{cell[:40]!r} is no amount: write it like 1234.56 or 1.234,56", "no_amount")


def _date(cell: Cell) -> dt.date:
    wanted = "must be a date like 24/11/2026 or 2026-11-24"
    match cell:
        case dt.datetime():
            if cell.time() != dt.time():
                raise WrongCell("has a time of day: give the date alone", "date_with_time")
            return cell.date()
        case str():
            year, month, day = _parts_of_date(cell, wanted)
        case _:
            raise WrongCell(f"{wanted}: format the cell as a date", "no_date")
    try:
        return dt.date(year, month, day)
    except ValueError as error:
        raise WrongCell(f"{cell!r} is no day of the calendar", "no_date") from error


def _parts_of_date(cell: str, wanted: str) -> tuple[int, int, int]:
    if found := _DAY_FIRST.fullmatch(cell):
        day, month, year = found.groups()
    elif found := _YEAR_FIRST.fullmatch(cell):
        year, month, day = found.groups()
    else:
        raise WrongCell(f"{cell[:40]!r} {wanted}", "no_date")
    return int(year), int(month), int(day)


def _whole(cell: Cell) -> int:
    text = format(cell.normalize(), "f") if isinstance(cell, Decimal) else cell
    if not isinstance(text, str) or not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise WrongCell("must be a whole number", "no_whole_number")
    return int(text)
