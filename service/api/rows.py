"""Rows of a file as items of a batch: each one read and checked as a request of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from service.errors import InvalidInput, InvalidRows, Problem
from service.posting.batch import NewItem
from service.sheets import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.posting.step import AnyDefinition
    from service.sheets.table import Row

    Read = Callable[[int, Any], NewItem]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The items of a file, in its order; those that are wrong have problems and no posting."""

    items: Sequence[NewItem]

    @property
    def problems(self) -> list[Problem]:
        """Everything that is wrong, by line."""
        return [problem for item in self.items for problem in item.problems]

    def check(self, *, partial: bool) -> None:
        """Raise `InvalidRows` if any is wrong; with `partial`, if all are."""
        wrong = sum(item.posting is None for item in self.items)
        if wrong == len(self.items) or (wrong and not partial):
            raise InvalidRows(self.problems, rows=len(self.items))


def read(
    content: bytes, definition: AnyDefinition, around: Mapping[str, Any], item_of: Read
) -> Rows:
    """The items of a file; raises `InvalidInput` where it is wrong as a whole.

    `around` is what stands around the input in each request, and `item_of` checks one.
    """
    if not definition.columns:
        raise InvalidInput(
            [Problem("kind", f"{definition.kind} has no sheet: post it as JSON", "no_sheet")]
        )
    rows = table.read(content, definition.columns)
    items: list[NewItem] = []
    lines: dict[str, int] = {}
    for position, row in enumerate(rows):
        item = _item(position, row, around, item_of)
        if item.posting is not None:
            first = lines.setdefault(item.posting.document_key, row.line)
            item = item if first == row.line else _repeated(item, row, first)
        items.append(item)
    return Rows(items=items)


def _item(position: int, row: Row, around: Mapping[str, Any], item_of: Read) -> NewItem:
    """A row with a cell that cannot be read is told of that alone: the rest would be guesses."""
    reference = f"line {row.line}"
    if row.problems:
        return NewItem(position=position, reference=reference, problems=row.problems)
    item = item_of(position, {**around, "reference": reference, "input": row.given})
    return replace(item, problems=[_of_row(row, problem) for problem in item.problems])


def _of_row(row: Row, problem: Problem) -> Problem:
    return row.problem(problem.field.removeprefix("input."), problem.message, problem.code)


def _repeated(item: NewItem, row: Row, first: int) -> NewItem:
    message = f"is the document of line {first} again, which alone counts"
    problem = row.problem("reference", message, "repeated_row")
    return NewItem(position=item.position, reference=item.reference, problems=[problem])
