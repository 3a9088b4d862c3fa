"""Many rows in one statement whose text is always the same: each column is one array.

A list of VALUES is compiled anew for each number of rows, which takes longer than PostgreSQL does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Text, bindparam, column, func
from sqlalchemy.dialects.postgresql import JSONB

from service import documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import DeclarativeBase


class Given:
    """Rows that are given to a statement: what stands for their columns in it, and their values."""

    def __init__(self, row: type[DeclarativeBase], names: Sequence[str]) -> None:
        self.names = tuple(names)
        kinds = {name: row.__table__.c[name].type for name in self.names}
        self._json = {name for name, kind in kinds.items() if isinstance(kind, JSONB)}
        sent = {name: Text() if name in self._json else kind for name, kind in kinds.items()}
        arrays = (bindparam(f"given_{name}", type_=ARRAY(kind)) for name, kind in sent.items())
        table = func.unnest(*arrays).table_valued(
            *(column(name, kind) for name, kind in sent.items()), name="given"
        )
        self._table = table.render_derived()

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """The columns, in the order of the names."""
        return [
            self._table.c[name].cast(JSONB) if name in self._json else self._table.c[name]
            for name in self.names
        ]

    def parameters(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """The values of rows as the statement takes them."""
        return {
            f"given_{name}": [_text(row[name]) if name in self._json else row[name] for row in rows]
            for name in self.names
        }


def _text(document: Any) -> str | None:
    return None if document is None else documents.to_json(document)
