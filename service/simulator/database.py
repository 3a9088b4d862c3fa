"""Tables in memory with sequences, indexes and a journal that can be rolled back."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Row = dict[str, Any]
FIRST_FREE_ID = 1


@dataclass
class Table:
    """The rows of one model, by id, and who refers to whom."""

    rows: dict[int, Row] = field(default_factory=dict)
    indexed: frozenset[str] = frozenset()
    next_id: int = FIRST_FREE_ID
    _index: dict[str, dict[Any, dict[int, None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._index = {name: defaultdict(dict) for name in self.indexed}

    def take_id(self) -> int:
        """Return a fresh id; like a sequence, it is not given back on rollback."""
        record_id = self.next_id
        self.next_id += 1
        return record_id

    def replace(self, record_id: int, row: Row | None) -> Row | None:
        """Put a row in place of the present one (None deletes), and return the former."""
        former = self.rows.get(record_id)
        if former is not None:
            self._forget(record_id, former)
        if row is None:
            self.rows.pop(record_id, None)
            return former
        self.rows[record_id] = row
        self.next_id = max(self.next_id, record_id + 1)
        for name, index in self._index.items():
            index[row.get(name)][record_id] = None
        return former

    def referring(self, name: str, value: Any) -> list[int]:
        """Return the ids of the rows whose indexed field has this value, in order of id."""
        return sorted(self._index[name].get(value, ()))

    def _forget(self, record_id: int, row: Row) -> None:
        for name, index in self._index.items():
            value = row.get(name)
            index[value].pop(record_id, None)
            if not index[value]:
                del index[value]


class Database:
    """All tables, and the one transaction that may be changing them.

    Changes are applied without a pause in between, so that transactions are serial; what takes
    long waits before it applies. `commits` counts the transactions that changed something.
    """

    def __init__(self, indexes: Mapping[str, frozenset[str]]) -> None:
        self.tables = {model: Table(indexed=names) for model, names in indexes.items()}
        self.commits = 0
        self._marks: dict[tuple[str, int, str], int] = {}
        self._journal: list[tuple[Table, int, Row | None]] | None = None

    def put(self, model: str, record_id: int, row: Row) -> None:
        """Write a whole row inside the present transaction."""
        self._change(self.tables[model], record_id, row)

    def delete(self, model: str, record_id: int) -> None:
        """Delete a row inside the present transaction."""
        self._change(self.tables[model], record_id, None)

    def _change(self, table: Table, record_id: int, row: Row | None) -> None:
        former = table.replace(record_id, row)
        if self._journal is not None:
            self._journal.append((table, record_id, former))

    @property
    def changed(self) -> bool:
        """Whether the present transaction has changed anything."""
        return bool(self._journal)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit when the block ends, and undo every change when it raises."""
        self._journal = []
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        else:
            self.commits += bool(self._journal)
        finally:
            self._journal = None

    def _roll_back(self) -> None:
        journal, self._journal = self._journal or [], None
        for table, record_id, former in reversed(journal):
            table.replace(record_id, former)

    def mark(self, model: str, record_id: int, method: str) -> None:
        """Remember that a method has just committed a change to a record."""
        self._marks[model, record_id, method] = self.commits

    def marked_since(self, model: str, record_id: int, method: str, snapshot: int) -> bool:
        """Whether the method has committed on the record after the snapshot was taken."""
        return self._marks.get((model, record_id, method), 0) > snapshot
