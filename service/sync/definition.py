"""What a sync is made of: a model of Odoo, which of its rows, and a column for each field."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from service.odoo.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.odoo.prefetch import Node, Relation
    from service.odoo.records import Domain

ColumnKind = Literal[
    "text", "integer", "number", "flag", "day", "moment", "ref", "ref_name", "refs", "texts"
]


def _whole(record: Record, field: str) -> int:
    return int(record.number(field))


def _ids(record: Record, field: str) -> list[int]:
    return list(record.refs(field))


READERS: Mapping[ColumnKind, Callable[[Record, str], Any]] = {
    "text": Record.text,
    "integer": _whole,
    "number": Record.number,
    "flag": Record.flag,
    "day": Record.day,
    "moment": Record.moment,
    "ref": Record.ref,
    "ref_name": Record.ref_name,
    "refs": _ids,
}
"""How a field becomes the value of a column; each raises `UnexpectedAnswer` for a wrong shape.

There is none for `texts`: only a rule makes them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the mirror: what is in it, and the field that it comes from, or the rule.

    `field` may lead through many2one fields: `order_id.partner_id.name`. A `rule` makes the value
    of the record and of what it leads to. `ref` is the id of a many2one, `ref_name` its display
    name as Odoo showed it, `refs` the ids of a one2many or many2many.
    """

    name: str
    kind: ColumnKind
    field: str = ""
    rule: Callable[[Node], Any] | None = None

    def __post_init__(self) -> None:
        """Refuse a column that has no source, or two."""
        if bool(self.field) == (self.rule is not None):
            raise ValueError(f"column {self.name}: give either a field or a rule")

    @cached_property
    def way(self) -> tuple[str, ...]:
        """The many2one fields that lead to the field, and then the field."""
        return tuple(self.field.split(".")) if self.field else ()

    def values(self, nodes: Sequence[Node | None]) -> list[Any]:
        """The values for the records that the way to the field ends in; None where it ends early.

        Of a rule: for the records themselves. Records of a page lead to the same ones again and
        again, so each is read once.
        """
        if self.rule is not None:
            return [None if node is None else self.rule(node) for node in nodes]
        read, last = READERS[self.kind], self.way[-1]
        if len(self.way) == 1:
            return [None if node is None else read(node.record, last) for node in nodes]
        known = {id(node): node for node in nodes}
        made = {
            key: None if node is None else read(node.record, last) for key, node in known.items()
        }
        return [made[id(node)] for node in nodes]


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files of a record: the binary fields that hold them, and what is to be known of each.

    Their contents are fetched only when Odoo's checksum is another one. `facts` makes a JSON object
    of a file, given its field and content.
    """

    fields: tuple[str, ...]
    facts: Callable[[str, bytes], Mapping[str, Any]] = lambda _, __: {}


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One sync: the rows of `model` that match `domain`, archived ones too.

    `reads`: fields that rules need besides those of the columns. `relations`: what the records lead
    to, read once a page. `follows`: ways to related records whose changes also count as changes of
    the row, as `order_id.partner_id`, and the model that each leads to.

    `key`: the field by which single rows are asked for. `lookback`: how far behind the cursor a
    window begins. A row is stamped with the start of the transaction that wrote it, so this must
    exceed the longest call of this Odoo. `page` is in rows. `spared`: a run that would take away
    more rows than this, and more than a tenth of the mirror, is refused. `history`: every change of
    a row is kept, with what was there before.
    """

    name: str
    title: str
    model: str
    columns: tuple[Column, ...]
    domain: Domain
    reads: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    follows: Mapping[str, str] = field(default_factory=dict)
    files: Files | None = None
    key: str = "id"
    lookback: timedelta = timedelta(minutes=15)
    page: int = 2_000
    spared: int = 100
    history: bool = False

    def __post_init__(self) -> None:
        """Refuse names that the mirror itself needs, and names that occur twice."""
        names = [column.name for column in self.columns]
        wrong = {name for name in names if name in RESERVED or names.count(name) > 1}
        if wrong:
            raise ValueError(f"{self.name}: columns {', '.join(sorted(wrong))} cannot be named so")
        if self.key != "id" and self.key_column is None:
            raise ValueError(f"{self.name}: the key {self.key} is no field of a column")

    @property
    def fields(self) -> list[str]:
        """The fields to be read of each row."""
        return list(
            dict.fromkeys(
                [
                    "write_date",
                    *(column.way[0] for column in self.columns if column.way),
                    *self.reads,
                    *(relation.field for relation in self.relations),
                    *(self.files.fields if self.files else ()),
                ]
            )
        )

    @property
    def key_column(self) -> Column | None:
        """The column that holds the key; None when it is the id."""
        return next((column for column in self.columns if column.field == self.key), None)

    def keys(self, given: Sequence[str]) -> list[Any]:
        """Keys as Odoo knows them; raises `ValueError` for one that cannot be such a key."""
        column = self.key_column
        if column is None or column.kind in {"integer", "ref"}:
            return [int(key) for key in given]
        return list(given)

    def rows(self, connection: str, nodes: Sequence[Node]) -> list[tuple[Any, ...]]:
        """Rows of the mirror, in the order of `RESERVED` and then `columns`.

        Made column by column, which takes half the time of row by row.
        """
        records = [node.record for node in nodes]
        ends: dict[tuple[str, ...], Sequence[Node | None]] = {(): nodes}
        columns = [column.values(_ends(ends, column.way[:-1])) for column in self.columns]
        return list(
            zip(
                itertools.repeat(connection, len(nodes)),
                [record.id for record in records],
                [record.moment("write_date") for record in records],
                *columns,
                strict=True,
            )
        )


def _ends(
    known: dict[tuple[str, ...], Sequence[Node | None]], way: tuple[str, ...]
) -> Sequence[Node | None]:
    """What each record leads to by a way; `known` is added to."""
    if way not in known:
        *before, last = way
        known[way] = [
            None if node is None else node.one(last) for node in _ends(known, tuple(before))
        ]
    return known[way]


RESERVED = ("connection", "id", "write_date")
"""The columns that every mirror has: which Odoo, the record's id, and when it was written there."""
