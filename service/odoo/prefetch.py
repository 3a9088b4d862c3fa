"""Records with what they lead to: one read for each model of a level, whatever the records' number.

The ids that a page of records leads to are collected over the whole page, read at once and kept,
so that the next page asks only for what is new. R relations of a page cost R reads at most, for as
long as a read takes all the ids.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from service.tasks import together

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from service.odoo.records import Reader, Record


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A field that leads to records of `model`, of which `fields` are read, and their relations.

    `field` is a many2one, one2many or many2many of the record above. What `relations` need is read
    besides `fields`.
    """

    field: str
    model: str
    fields: tuple[str, ...]
    relations: tuple[Relation, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """All that is read of the records of `model`."""
        return (*self.fields, *(relation.field for relation in self.relations))


@dataclass(frozen=True)
class Node:
    """A record, and the nodes that each of its relations leads to; equal when the record is."""

    record: Record
    _led: Mapping[str, Node | tuple[Node, ...] | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    def one(self, field: str) -> Node | None:
        """What a many2one leads to; None when it is empty, or Odoo does not have that record.

        Raises `KeyError` when the field was not prefetched, `TypeError` when it leads to many.
        """
        following = self._following(field)
        if isinstance(following, tuple):
            raise TypeError(f"{self.record.model}.{field} leads to many records")
        return following

    def many(self, field: str) -> tuple[Node, ...]:
        """What a one2many or many2many leads to, without the records that Odoo does not have.

        Raises `KeyError` when the field was not prefetched, `TypeError` when it leads to one.
        """
        following = self._following(field)
        if not isinstance(following, tuple):
            raise TypeError(f"{self.record.model}.{field} leads to one record")
        return following

    def _following(self, field: str) -> Node | tuple[Node, ...] | None:
        try:
            return self._led[field]
        except KeyError:
            raise KeyError(f"{self.record.model}.{field} was not prefetched") from None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Records, in the order in which they were given, and all that they lead to.

    `missing`: the ids that Odoo named and did not return, by model. A record that may not be read
    is never among them: that raises.
    """

    nodes: tuple[Node, ...]
    missing: Mapping[str, tuple[int, ...]]


def ids_of(record: Record, field: str) -> tuple[int, ...]:
    """The ids that a many2one, one2many or many2many leads to."""
    match record.values.get(field):
        case [int() as one, str() | bool() | None]:
            return (one,)
        case list():
            return record.refs(field)
        case _:
            one_id = record.ref(field)
            return (one_id,) if one_id else ()


class Prefetch:
    """Reads what records lead to, and keeps it: one object for all pages of a run.

    A read takes `chunk` ids at most. The `most_cached` records that were read last are kept, and so
    is which ids Odoo does not have. Raises `ValueError` when a field leads on twice.
    """

    def __init__(
        self,
        odoo: Reader,
        relations: Sequence[Relation],
        *,
        context: Mapping[str, Any] | None = None,
        chunk: int = 1_000,
        most_cached: int = 10_000,
    ) -> None:
        self._odoo = odoo
        self._context = context
        self._chunk = chunk
        self._cache = _Cache(most_cached)
        self._shelves: dict[tuple[str, tuple[str, ...]], _Shelf] = {}
        self._levels = _levels(relations)
        self._branches = self._grow(relations, 0)

    async def load(self, records: Sequence[Record]) -> Graph:
        """What the records lead to, level by level, with one read for each model of a level.

        What is cached is not asked again, and what another call is just reading is waited for.
        Raises the first `OdooError`: then nothing of the read that failed is kept.
        """
        missing: defaultdict[str, set[int]] = defaultdict(set)
        met: dict[_Branch, list[Record]] = {}
        level = _next_level(self._branches, records)
        while level:
            found = await _find(level)
            for shelf, answer in found.items():
                missing[shelf.model].update(one for one in answer if answer[one] is None)
            met |= {branch: _present(found[branch.shelf], ids) for branch, ids in level}
            level = [
                deeper
                for branch, _ in level
                for deeper in _next_level(branch.branches, met[branch])
            ]
        return Graph(
            nodes=_nodes(records, self._branches, met),
            missing={model: tuple(sorted(ids)) for model, ids in missing.items() if ids},
        )

    def _grow(self, relations: Sequence[Relation], depth: int) -> dict[str, _Branch]:
        branches: dict[str, _Branch] = {}
        for relation in relations:
            if relation.field in branches:
                raise ValueError(f"the relation {relation.field} is there twice")
            shelf = self._shelf(relation.model, tuple(sorted(self._levels[depth][relation.model])))
            branches[relation.field] = _Branch(shelf, self._grow(relation.relations, depth + 1))
        return branches

    def _shelf(self, model: str, fields: tuple[str, ...]) -> _Shelf:
        if (model, fields) not in self._shelves:
            self._shelves[model, fields] = _Shelf(
                self._odoo, self._cache, model, fields, self._context, self._chunk
            )
        return self._shelves[model, fields]


_Found = dict[int, "Record | None"]
"""Records by id; None for one that Odoo does not have."""

_Level = list[tuple["_Branch", dict[int, None]]]
"""Which ids each branch leads to, in the order in which they were met."""


@dataclass(frozen=True, eq=False)
class _Branch:
    """Where the records of a relation are, and where they lead."""

    shelf: _Shelf
    branches: Mapping[str, _Branch]


class _Cache:
    """A bounded number of records; the ones that were read first leave first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[_Shelf, int], Record | None] = OrderedDict()

    def of(self, shelf: _Shelf, ids: Iterable[int]) -> _Found:
        """Those records of a shelf that are known."""
        return {one: self._kept[shelf, one] for one in ids if (shelf, one) in self._kept}

    def keep(self, shelf: _Shelf, found: _Found) -> None:
        """Keep what was read."""
        self._kept.update({(shelf, one): record for one, record in found.items()})
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


class _Shelf:
    """The records of one model with one set of fields: those that are known, and the reads."""

    def __init__(
        self,
        odoo: Reader,
        cache: _Cache,
        model: str,
        fields: tuple[str, ...],
        context: Mapping[str, Any] | None,
        chunk: int,
    ) -> None:
        self.model = model
        self._odoo = odoo
        self._cache = cache
        self._fields = fields
        self._context = context
        self._chunk = chunk
        self._reads: dict[int, asyncio.Task[_Found]] = {}

    async def find(self, ids: Collection[int]) -> _Found:
        """The records of `ids`."""
        found = self._cache.of(self, ids)
        while left := [one for one in ids if one not in found]:
            async with together() as tasks:
                reads = self._claim(left, tasks)
                # Waited for, not awaited: who gives up must not take a read from the others.
                await asyncio.wait(reads)
            for read in reads:
                # One that was canceled with its own caller is made again, by this one.
                if not read.cancelled():
                    answer = read.result()
                    found |= {one: answer[one] for one in left if one in answer}
        return found

    def _claim(self, ids: Iterable[int], tasks: asyncio.TaskGroup) -> set[asyncio.Task[_Found]]:
        """The reads that bring these ids: those under way, and new ones for the rest.

        A new read is entered before anything is awaited, so that no id is asked for twice.
        """
        reads = {self._reads[one] for one in ids if one in self._reads}
        new = [one for one in ids if one not in self._reads]
        for start in range(0, len(new), self._chunk):
            some = new[start : start + self._chunk]
            read = tasks.create_task(self._read(some), name=f"prefetch {self.model}")
            self._reads.update(dict.fromkeys(some, read))
            read.add_done_callback(partial(self._release, some))
            reads.add(read)
        return reads

    def _release(self, ids: Iterable[int], _: asyncio.Task[_Found]) -> None:
        for one in ids:
            del self._reads[one]

    async def _read(self, ids: Sequence[int]) -> _Found:
        records = await self._odoo.read(self.model, ids, self._fields, context=self._context)
        found: _Found = {**dict.fromkeys(ids), **{record.id: record for record in records}}
        self._cache.keep(self, found)
        return found


def _levels(relations: Sequence[Relation]) -> list[dict[str, set[str]]]:
    """What is read of each model, for each depth of the relations."""
    levels: list[dict[str, set[str]]] = []
    while relations:
        fields: defaultdict[str, set[str]] = defaultdict(set)
        for relation in relations:
            fields[relation.model].update(relation.reads)
        levels.append(fields)
        relations = [deeper for relation in relations for deeper in relation.relations]
    return levels


def _next_level(branches: Mapping[str, _Branch], records: Sequence[Record]) -> _Level:
    """Where records lead."""
    return [
        (branch, dict.fromkeys(one for record in records for one in ids_of(record, name)))
        for name, branch in branches.items()
    ]


async def _find(level: _Level) -> dict[_Shelf, _Found]:
    """The records that a level leads to, each once, all models at the same time."""
    wanted: defaultdict[_Shelf, dict[int, None]] = defaultdict(dict)
    for branch, ids in level:
        wanted[branch.shelf] |= ids
    async with together() as tasks:
        found = {shelf: tasks.create_task(shelf.find(ids)) for shelf, ids in wanted.items()}
    return {shelf: task.result() for shelf, task in found.items()}


def _present(found: _Found, ids: Iterable[int]) -> list[Record]:
    return [record for one in ids if (record := found[one]) is not None]


def _nodes(
    records: Sequence[Record],
    branches: Mapping[str, _Branch],
    met: Mapping[_Branch, Sequence[Record]],
) -> tuple[Node, ...]:
    """The records with all that they lead to, each record of a branch being one node."""
    below = {
        name: {node.record.id: node for node in _nodes(met[one], one.branches, met)}
        for name, one in branches.items()
    }
    return tuple(
        Node(record, {name: _led(record, name, nodes) for name, nodes in below.items()})
        for record in records
    )


def _led(record: Record, field: str, nodes: Mapping[int, Node]) -> Node | tuple[Node, ...] | None:
    """What a field leads to: one node, or those of a list of ids."""
    match record.values[field]:
        case [int() as one, str() | bool() | None]:
            return nodes.get(one)
        case list() as many:
            return tuple(nodes[one] for one in many if one in nodes)
        case one:
            return nodes.get(one) if one else None
