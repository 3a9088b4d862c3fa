"""A sheet as inputs: its header names fields, and each line below is one input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import InvalidInput, Problem
from service.sheets import lines
from service.sheets.column import WrongCell, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.sheets.column import Column
    from service.sheets.lines import Line

MOST_ROWS = 1_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: what it gives, the columns as the file names them, and what is wrong with it."""

    line: int
    given: Mapping[str, Any]
    names: Mapping[str, str]
    problems: Sequence[Problem]

    def problem(self, field: str, message: str, code: str) -> Problem:
        """A problem with a field of this line, by line and column."""
        column = self.names.get(field, field)
        return Problem(f"file.{self.line}.{column}", message, code, line=self.line, column=column)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a column stands, as the file names it."""

    index: int
    name: str
    column: Column


def read(content: bytes, columns: Sequence[Column]) -> list[Row]:
    """The rows of a file; raises `InvalidInput` where it is wrong as a whole."""
    found = lines.read(content)
    header = next(found)
    places = _places(header, columns)
    rows: list[Row] = []
    for line in found:
        if len(rows) == MOST_ROWS:
            raise lines.refusal(f"may have {MOST_ROWS} rows at most", "too_long", line.number)
        rows.append(_row(line, header, places))
    if not rows:
        raise lines.refusal("has no row below its header", "empty_file")
    return rows


def _places(header: Line, columns: Sequence[Column]) -> list[Place]:
    known = {plain(name): column for column in columns for name in (column.field, *column.also)}
    names = [(index, str(cell or "").strip()) for index, cell in enumerate(header.cells)]
    places: list[Place] = []
    problems: list[Problem] = []
    for index, name in names:
        column = known.get(plain(name))
        if column is not None and column not in [place.column for place in places]:
            places.append(Place(index=index, name=name, column=column))
        elif name:
            problems.append(_wrong_name(header, name, column, columns))
    given = {place.column.field for place in places}
    problems += [
        Problem("file", f"has no column {column.field}", "missing", header.number, column.field)
        for column in columns
        if column.required and column.field not in given
    ]
    if len(header.cells) > lines.MOST_COLUMNS and header.cells[-1]:
        problems.append(Problem("file", f"may have {lines.MOST_COLUMNS} columns", "too_wide"))
    if problems:
        raise InvalidInput(problems)
    return places


def _wrong_name(
    header: Line, name: str, column: Column | None, columns: Sequence[Column]
) -> Problem:
    name = name[:40]
    if column is not None:
        message, code = f"names {column.field} a second time", "repeated_column"
    else:
        known = ", ".join(known.field for known in columns)
        message, code = f"is no column; known: {known}", "unknown_column"
    return Problem("file", f"{name!r} {message}", code, header.number, name)


def _row(line: Line, header: Line, places: Sequence[Place]) -> Row:
    names = {place.column.field: place.name for place in places}
    row = Row(line=line.number, given={}, names=names, problems=())
    given: dict[str, Any] = {}
    problems = _shape(row, line, header, places)
    for place in places if not problems else ():
        cell = line.cells[place.index]
        try:
            if isinstance(cell, lines.Broken):
                raise WrongCell(cell.message, cell.code)  # noqa: TRY301  told as any other
            value = place.column.value(cell)
        except WrongCell as error:
            problems.append(row.problem(place.column.field, error.message, error.code))
        else:
            given |= {} if value is None else {place.column.field: value}
    return Row(line=line.number, given=given, names=names, problems=problems)


def _shape(row: Row, line: Line, header: Line, places: Sequence[Place]) -> list[Problem]:
    """Cells too many or too few, or one without a column: others may stand in wrong ones."""
    if len(line.cells) != len(header.cells):
        what = f"has {len(line.cells)} cells, and the header {len(header.cells)}"
        return [row.problem("", f"{what}: is an amount with a comma not in quotes?", "cell_count")]
    taken = {place.index for place in places}
    loose = [cell for index, cell in enumerate(line.cells) if index not in taken and cell]
    if loose:
        return [
            row.problem("", f"has a cell without a column: {str(loose[0])[:40]!r}", "no_column")
        ]
    return []
