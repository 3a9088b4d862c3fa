"""Tables in memory with sequences, indexes and a journal that can be rolled back."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from service.simulator import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

Result = TypeVar("Result")
Row = dict[str, Any]
FIRST_FREE_ID = 1
STAMPS = ("create_date", "write_date")
FEW = 64


class Timeline:
    """Ids in the order of a stamp of their rows, for windows of time.

    A row that was stamped again stays under its older stamps too, until `replace`: whoever takes
    ids from here looks at the rows.
    """

    def __init__(self) -> None:
        self._sorted: list[tuple[datetime, int]] = []
        self._new: list[tuple[datetime, int]] = []

    def __len__(self) -> int:
        return len(self._sorted) + len(self._new)

    def add(self, moment: datetime, record_id: int) -> None:
        """Note a stamp."""
        self._new.append((moment, record_id))

    def replace(self, entries: list[tuple[datetime, int]]) -> None:
        """Hold these stamps and no others."""
        self._sorted, self._new = [], entries

    def between(self, first: datetime | None, last: datetime | None) -> range:
        """Return the places of the stamps from `first` to `last`, both included."""
        self._settle()
        start = 0 if first is None else bisect_left(self._sorted, (first,))
        stop = len(self) if last is None else bisect_left(self._sorted, (last, math.inf))
        return range(start, stop)

    def ids(self, places: range) -> list[int]:
        """Return the ids at these places."""
        return [record_id for _, record_id in self._sorted[places.start : places.stop]]

    def _settle(self) -> None:
        if len(self._new) > FEW:
            self._sorted += self._new
            self._sorted.sort()
        else:
            for entry in self._new:
                insort(self._sorted, entry)
        self._new = []


@dataclass
class Table:
    """The rows of one model, by id, and who refers to whom."""

    rows: dict[int, Row] = field(default_factory=dict)
    indexed: frozenset[str] = frozenset()
    next_id: int = FIRST_FREE_ID
    _ids: list[int] = field(default_factory=list)
    _index: dict[str, dict[Any, dict[int, None]]] = field(default_factory=dict)
    _timelines: dict[str, Timeline] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._index = {name: defaultdict(dict) for name in self.indexed}
        self._timelines = {name: Timeline() for name in STAMPS}

    def take_id(self) -> int:
        """Return a fresh id; like a sequence, it is not given back on rollback."""
        record_id = self.next_id
        self.next_id += 1
        return record_id

    def replace(self, record_id: int, row: Row | None) -> Row | None:
        """Put a row in place of the present one (None deletes), and return the former."""
        former = self.rows.get(record_id)
        self._reindex(record_id, former or {}, row or {})
        if row is None:
            if former is not None:
                del self.rows[record_id]
                del self._ids[bisect_left(self._ids, record_id)]
            return former
        if former is None:
            self._add_id(record_id)
        self.rows[record_id] = row
        return former

    def _add_id(self, record_id: int) -> None:
        if record_id >= self.next_id:
            self.next_id = record_id + 1
        if not self._ids or record_id > self._ids[-1]:
            self._ids.append(record_id)
        else:
            insort(self._ids, record_id)

    def _reindex(self, record_id: int, former: Row, row: Row) -> None:
        for name, index in self._index.items():
            old, new = former.get(name), row.get(name)
            if old is not None and old != new:
                del index[old][record_id]
                if not index[old]:
                    del index[old]
            if new is not None and old != new:
                index[new][record_id] = None
        for name, timeline in self._timelines.items():
            moment = row.get(name)
            if moment is not None and moment != former.get(name):
                timeline.add(moment, record_id)

    def referring(self, name: str, value: Any) -> list[int]:
        """Return the ids of the rows whose indexed field has this value, in order of id."""
        return sorted(self._index[name].get(value, ()))

    def count_referring(self, name: str, value: Any) -> int:
        """Return how many rows have this value in their indexed field."""
        return len(self._index[name].get(value, ()))

    def ids(self, first: int | None = None, last: int | None = None) -> Sequence[int]:
        """Return the ids from `first` to `last`, both included, in order."""
        start = 0 if first is None else bisect_left(self._ids, first)
        stop = len(self._ids) if last is None else bisect_left(self._ids, last + 1)
        return self._ids[start:stop]

    def timeline(self, name: str) -> Timeline:
        """Return the ids by one of the stamps."""
        timeline = self._timelines[name]
        if len(timeline) > 2 * len(self.rows) + FEW:
            timeline.replace([(row[name], one) for one, row in self.rows.items() if row.get(name)])
        return timeline


@dataclass(frozen=True)
class Held:
    """A change of one row that was made and taken back: what was there, and what will be."""

    table: Table
    record_id: int
    former: Row | None
    row: Row | None


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

    def hold(self, act: Callable[[], Result]) -> tuple[Result, list[Held]]:
        """Act, take back every change, and return what would have changed."""
        self._journal = []
        try:
            result = act()
            first = {(id(table), one): (table, row) for table, one, row in reversed(self._journal)}
            return result, [
                Held(table, one, former, table.rows.get(one))
                for (_, one), (table, former) in first.items()
            ]
        finally:
            self._roll_back()

    def release(self, changes: Iterable[Held]) -> None:
        """Apply what was held, as one transaction; refuse when one of its rows has changed."""
        listed = list(changes)
        if any(one.table.rows.get(one.record_id) is not one.former for one in listed):
            raise errors.DatabaseError.serialization_failure()
        with self.transaction():
            for one in listed:
                self._change(one.table, one.record_id, one.row)

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
