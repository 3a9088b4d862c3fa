"""What a sync is made of: a model of Odoo, which of its rows, and a column for each field."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.odoo.records import Domain, Record

ColumnKind = Literal[
    "text", "integer", "number", "flag", "day", "moment", "ref", "ref_name", "refs"
]


def _whole(record: Record, field: str) -> int:
    return int(record.number(field))


READERS: Mapping[ColumnKind, Callable[[Record, str], Any]] = {
    "text": lambda record, field: record.text(field),
    "integer": _whole,
    "number": lambda record, field: record.number(field),
    "flag": lambda record, field: record.flag(field),
    "day": lambda record, field: record.day(field),
    "moment": lambda record, field: record.moment(field),
    "ref": lambda record, field: record.ref(field),
    "ref_name": lambda record, field: record.ref_name(field),
    "refs": lambda record, field: list(record.refs(field)),
}
"""How a field becomes the value of a column; each raises `UnexpectedAnswer` for a wrong shape."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the mirror: what is in it, and the field that it comes from.

    `ref` is the id of a many2one, `ref_name` its display name as Odoo showed it, `refs` the ids of
    a one2many or many2many.
    """

    name: str
    field: str
    kind: ColumnKind


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One sync: the rows of `model` that match `domain`, archived ones too.

    `lookback`: how far behind the cursor a window begins. A row is stamped with the start of the
    transaction that wrote it, so this must exceed the longest call of this Odoo. `page` is in rows.
    `spared`: a run that would take away more rows than this, and more than a tenth of the mirror,
    is refused.
    """

    name: str
    title: str
    model: str
    columns: tuple[Column, ...]
    domain: Domain
    lookback: timedelta = timedelta(minutes=15)
    page: int = 2_000
    spared: int = 100

    def __post_init__(self) -> None:
        """Refuse names that the mirror itself needs, and names that occur twice."""
        names = [column.name for column in self.columns]
        wrong = {name for name in names if name in RESERVED or names.count(name) > 1}
        if wrong:
            raise ValueError(f"{self.name}: columns {', '.join(sorted(wrong))} cannot be named so")

    @property
    def fields(self) -> list[str]:
        """The fields to be read of each row."""
        return list(dict.fromkeys(["write_date", *(column.field for column in self.columns)]))

    def row(self, connection: str, record: Record) -> tuple[Any, ...]:
        """A row of the mirror, in the order of `RESERVED` and then `columns`."""
        values = (READERS[column.kind](record, column.field) for column in self.columns)
        return (connection, record.id, record.moment("write_date"), *values)


RESERVED = ("connection", "id", "write_date")
"""The columns that every mirror has: which Odoo, the record's id, and when it was written there."""
