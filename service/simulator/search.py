"""Which records a search looks at: as few as the ids and the indexes can tell.

What is named here is a superset of what matches; the domain is asked about each record anyway.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from service.simulator import fields
from service.simulator.database import STAMPS
from service.simulator.domains import Both, Either, Leaf, comparable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from service.simulator.domains import Node
    from service.simulator.orm import Model

STAMP = fields.moment()
# Asking a domain about a record costs about so many times what sorting its id does.
ASKING = 4
LOWER, UPPER = frozenset({">", ">="}), frozenset({"<", "<="})


@dataclass(frozen=True)
class Reach:
    """How many ids an index names, about, and which ones: in any order, some twice or gone."""

    size: float
    ids: Callable[[], Iterable[int]]


def candidates(
    model: Model, tree: Node, *, wanted: int | None = None, backwards: bool = False
) -> Iterable[int]:
    """Return ids in order that hold all matches; `wanted` is how many matches will be taken."""
    rows = model.table.rows
    conditions = list(_conditions(tree))
    first, last = _bounds(conditions, "id", _whole)
    scan = model.table.ids(first, last)
    found = _reach(model, conditions)
    share = found.size / max(len(rows), 1) if found else 1.0
    if found is None or found.size > ASKING * _length(scan, wanted, share):
        return reversed(scan) if backwards else scan
    return sorted({one for one in found.ids() if one in rows}, reverse=backwards)


def _length(scan: Sequence[int], wanted: int | None, share: float) -> float:
    """Return how many ids are looked at until enough match, when this share of them does."""
    if wanted is None or not share:
        return len(scan)
    return min(len(scan), wanted / share)


def _conditions(tree: Node) -> Iterator[Node]:
    """Return the parts that every match satisfies."""
    if isinstance(tree, Both):
        for part in tree.parts:
            yield from _conditions(part)
    else:
        yield tree


def _whole(leaf: Leaf) -> int | None:
    if not isinstance(leaf.value, int):
        return None
    return leaf.value + {">": 1, "<": -1}.get(leaf.operator, 0)


def _moment(leaf: Leaf) -> Any:
    return comparable(STAMP, leaf.value, leaf.operator) if leaf.value else None


def _bounds(
    conditions: Iterable[Node], path: str, read: Callable[[Leaf], Any]
) -> tuple[Any | None, Any | None]:
    """Return the smallest and the largest value of a field that the conditions allow."""
    leaves = [one for one in conditions if isinstance(one, Leaf) and one.path == path]
    first = [read(one) for one in leaves if one.operator in LOWER]
    last = [read(one) for one in leaves if one.operator in UPPER]
    return (
        max((one for one in first if one is not None), default=None),
        min((one for one in last if one is not None), default=None),
    )


def _reach(model: Model, conditions: Sequence[Node]) -> Reach | None:
    """Return what the most telling index names, if any index says something."""
    found = [
        *_by_key(model, conditions),
        *_by_time(model, conditions),
        *_behind(model, conditions),
        *_either(model, conditions),
    ]
    return min(found, key=lambda one: one.size, default=None)


def _by_key(model: Model, conditions: Iterable[Node]) -> Iterator[Reach]:
    for leaf in conditions:
        keys = _keys(model, leaf) if isinstance(leaf, Leaf) else None
        if keys is None or not isinstance(leaf, Leaf):
            continue
        if leaf.path == "id":
            yield Reach(len(keys), lambda keys=keys: keys)  # type: ignore[misc]  # bound now
        else:
            yield _referring(model, leaf.path, keys)


def _referring(model: Model, name: str, keys: Sequence[Any]) -> Reach:
    table = model.table
    return Reach(
        sum(table.count_referring(name, key) for key in keys),
        lambda: chain.from_iterable(table.referring(name, key) for key in keys),
    )


def _keys(model: Model, leaf: Leaf) -> list[Any] | None:
    """Return the values that a condition asks of an indexed field, unless it asks otherwise."""
    if leaf.path != "id" and leaf.path not in model.table.indexed:
        return None
    if leaf.operator == "in" and isinstance(leaf.value, list | tuple):
        keys = list(leaf.value)
    elif leaf.operator == "=":
        keys = [leaf.value]
    else:
        return None
    kind = str if leaf.path != "id" and model.field(leaf.path).type == "char" else int
    usable = all(isinstance(key, kind) and not isinstance(key, bool) for key in keys)
    return keys if usable else None


def _by_time(model: Model, conditions: Sequence[Node]) -> Iterator[Reach]:
    for name in STAMPS:
        first, last = _bounds(conditions, name, _moment)
        if first is None and last is None:
            continue
        timeline = model.table.timeline(name)
        places = timeline.between(first, last)
        yield Reach(len(places), lambda line=timeline, at=places: line.ids(at))  # type: ignore[misc]  # bound now


def _behind(model: Model, conditions: Iterable[Node]) -> Iterator[Reach]:
    """Follow conditions on what a many2one refers to, such as the order of a line."""
    grouped: dict[str, list[Node]] = defaultdict(list)
    for leaf in conditions:
        if isinstance(leaf, Leaf) and "." in leaf.path:
            name, _, rest = leaf.path.partition(".")
            if name in model.table.indexed:
                grouped[name].append(Leaf(rest, leaf.operator, leaf.value))
    for name, beyond in grouped.items():
        target = model.env[model.field(name).relation or ""]
        found = _reach(target, beyond)
        if found is not None:
            yield _of_targets(model, name, found, len(target.table.rows))


def _of_targets(model: Model, name: str, found: Reach, targets: int) -> Reach:
    table = model.table
    each = len(table.rows) / max(targets, 1)
    return Reach(
        found.size * each,
        lambda: chain.from_iterable(table.referring(name, one) for one in found.ids()),
    )


def _either(model: Model, conditions: Iterable[Node]) -> Iterator[Reach]:
    for node in conditions:
        if not isinstance(node, Either):
            continue
        parts = [_reach(model, list(_conditions(part))) for part in node.parts]
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            yield Reach(
                sum(part.size for part in known),
                lambda known=known: chain.from_iterable(part.ids() for part in known),  # type: ignore[misc]  # bound now
            )
