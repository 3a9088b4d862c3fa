"""What a sync is made of: a model of Odoo, which of its rows, and a column for each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.odoo.prefetch import Node, Relation
    from service.odoo.records import Domain, Record

ColumnKind = Literal[
    "text", "integer", "number", "flag", "day", "moment", "ref", "ref_name", "refs", "texts"
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

    @property
    def way(self) -> tuple[str, ...]:
        """The many2one fields that lead to the field, and then the field."""
        return tuple(self.field.split(".")) if self.field else ()

    def value(self, node: Node) -> Any:
        """The value for a record; None where the way to it ends in an empty field."""
        if self.rule is not None:
            return self.rule(node)
        *way, last = self.way
        for step in way:
            following = node.one(step)
            if following is None:
                return None
            node = following
        return READERS[self.kind](node.record, last)


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

    def row(self, connection: str, node: Node) -> tuple[Any, ...]:
        """A row of the mirror, in the order of `RESERVED` and then `columns`."""
        record = node.record
        values = (column.value(node) for column in self.columns)
        return (connection, record.id, record.moment("write_date"), *values)


RESERVED = ("connection", "id", "write_date")
"""The columns that every mirror has: which Odoo, the record's id, and when it was written there."""
