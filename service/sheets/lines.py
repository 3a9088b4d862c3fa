"""The lines of a file of CSV or XLSX, with the numbers that a person sees beside them.

A file is refused as a whole where it cannot be read for sure; nothing of it is guessed. Reading
takes a second at most, and no event loop should wait for it.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import zipfile
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import openpyxl

from service.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.sheets.column import Cell

MOST_BYTES = 4 * 1024 * 1024
MOST_UNPACKED_BYTES = 32 * 1024 * 1024
MOST_PARTS = 1_000
MOST_COLUMNS = 64
MOST_LINES = 100_000
"""Empty ones between and below the rows count here, and nowhere else."""

ARCHIVE = b"PK\x03\x04"
OLD_OFFICE = b"\xd0\xcf\x11\xe0"
PORTUGUESE = frozenset("áàâãäéêëíïóôõöúüçñÁÀÂÃÄÉÊËÍÏÓÔÕÖÚÜÇÑªº°§–—“”‘’´€")


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A cell that holds no value: why, and a code."""

    message: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line that is not empty."""

    number: int
    cells: tuple[Cell | Broken, ...]


def read(content: bytes) -> Iterator[Line]:
    """The lines of a file that are not empty; raises `InvalidInput`."""
    if not content.strip():
        raise refusal("is empty", "empty_file")
    if len(content) > MOST_BYTES:
        raise refusal(f"may have {MOST_BYTES} bytes at most", "too_large")
    if content.startswith(OLD_OFFICE):
        raise refusal(
            "is of the old format XLS, or protected by a password: save it as XLSX", "old_format"
        )
    lines = _read_xlsx(content) if content.startswith(ARCHIVE) else _read_csv(content)
    return (line for line in lines if any(cell not in {None, ""} for cell in line.cells))


def refusal(message: str, code: str, line: int | None = None) -> InvalidInput:
    """The error that refuses the file as a whole."""
    return InvalidInput([Problem("file", message, code, line=line)])


# -- CSV -------------------------------------------------------------------------------------


def _read_csv(content: bytes) -> Iterator[Line]:
    text = _text(content)
    heading = next(line for line in text.splitlines() if line.strip())
    delimiter = max(";,\t", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = 0
    try:
        for cells in reader:
            yield Line(number=before + 1, cells=tuple(cell.strip() for cell in cells))
            before = reader.line_num
    except csv.Error as error:
        raise refusal(f"is no CSV at this line: {error}", "malformed_csv", before + 1) from error


def _text(content: bytes) -> str:
    """UTF-8; or Windows-1252, where each byte above ASCII is a letter or a sign of Portuguese."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = content.decode("cp1252", errors="replace")
        if not PORTUGUESE.issuperset(character for character in text if not character.isascii()):
            raise refusal(
                f"is not UTF-8 (byte {error.start}), and not Windows-1252 for sure: save it as "
                "“CSV UTF-8”",
                "unknown_encoding",
            ) from error
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text):
        raise refusal("is neither CSV nor XLSX: it holds control characters", "no_text")
    return text


# -- XLSX ------------------------------------------------------------------------------------


def _read_xlsx(content: bytes) -> Iterator[Line]:
    _check_archive(content)
    try:
        yield from _first_sheet(content)
    except InvalidInput:
        raise
    except Exception as error:
        # a damaged file raises whatever its first wrong byte leads to: no list would be complete
        raise refusal("cannot be read as XLSX: it is damaged", "malformed_xlsx") from error


def _check_archive(content: bytes) -> None:
    """Refuse what would unpack to too much. No part is ever read beyond its announced size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise refusal("cannot be read as XLSX: it is damaged", "malformed_xlsx") from error
    if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > MOST_UNPACKED_BYTES:
        raise refusal(f"unpacks to more than {MOST_UNPACKED_BYTES} bytes", "too_large")
    if "xl/vbaProject.bin" not in {part.filename for part in parts}:
        return
    raise refusal("holds macros: save it as XLSX without them", "macros")


def _first_sheet(content: bytes) -> Iterator[Line]:
    """The first sheet, as values and as written: a formula without a value is told from a blank."""
    values = _sheet(content, data_only=True)
    written = _sheet(content, data_only=False)
    for number, (row, sources) in enumerate(zip(values, written, strict=True), 1):
        if number > MOST_LINES:
            raise refusal(
                f"may have {MOST_LINES} lines at most, empty ones too", "too_long", number
            )
        yield Line(
            number=number,
            cells=tuple(_cell(cell, source) for cell, source in zip(row, sources, strict=True)),
        )


def _sheet(content: bytes, *, data_only: bool) -> Iterator[tuple[Any, ...]]:
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=data_only)
    sheet = book.worksheets[0]
    sheet.reset_dimensions()  # some programs write wrong ones
    return sheet.iter_rows(max_col=MOST_COLUMNS + 1)


def _cell(cell: Any, source: Any) -> Cell | Broken:
    value = cell.value
    if value is None and source.value is not None:
        return Broken(
            message="is a formula whose value is not in the file: open it and save it again",
            code="formula_without_value",
        )
    if cell.data_type == "e":
        return Broken(message=f"holds the error {value}", code="error_value")
    match value:
        case None | str() | bool() | dt.datetime() | dt.time():
            return value
        case int() | float():
            return Decimal(repr(value))  # the shortest text that is this number
        case _:
            return Broken(message="is neither text, number nor date", code="no_value")
