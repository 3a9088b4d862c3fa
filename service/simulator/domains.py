"""Search domains in prefix notation, as trees that can be asked of records."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any, Protocol

from service.simulator import errors, fields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from service.simulator.orm import Model

PREFIXES = frozenset({"&", "|", "!"})
LEAF_LENGTH = 3
NEW_VERSION = 19
END_OF_DAY = time(23, 59, 59)
PATTERNS = {
    "like": (False, False),
    "ilike": (True, False),
    "=like": (False, True),
    "=ilike": (True, True),
}
NEGATIVE = {
    "!=": "=",
    "<>": "=",
    "not in": "in",
    "not like": "like",
    "not ilike": "ilike",
    "not =like": "=like",
    "not =ilike": "=ilike",
    "not any": "any",
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}
OPERATORS = frozenset(
    {"=", "in", "=?", "child_of", "parent_of", "any", *NEGATIVE, *PATTERNS, *COMPARISONS}
)


Test = Callable[[int], bool]


class Node(Protocol):
    """A part of a domain."""

    def test(self, model: Model) -> Test:
        """Return the question whether a record satisfies this part, by its id."""
        ...

    def leaves(self) -> Iterable[Leaf]:
        """Return all conditions below this part."""
        ...


@dataclass(frozen=True)
class Both:
    """All parts must match."""

    parts: tuple[Node, ...]

    def test(self, model: Model) -> Test:
        """Return whether every part matches."""
        return all_of([part.test(model) for part in self.parts])

    def leaves(self) -> Iterable[Leaf]:
        """Return the conditions of all parts."""
        return (leaf for part in self.parts for leaf in part.leaves())


@dataclass(frozen=True)
class Either:
    """One part is enough."""

    parts: tuple[Node, ...]

    def test(self, model: Model) -> Test:
        """Return whether any part matches."""
        tests = [part.test(model) for part in self.parts]
        return lambda record_id: any(test(record_id) for test in tests)

    def leaves(self) -> Iterable[Leaf]:
        """Return the conditions of all parts."""
        return (leaf for part in self.parts for leaf in part.leaves())


@dataclass(frozen=True)
class Negation:
    """The part must not match."""

    part: Node

    def test(self, model: Model) -> Test:
        """Return whether the part does not match."""
        return _not(self.part.test(model))

    def leaves(self) -> Iterable[Leaf]:
        """Return the conditions of the part."""
        return self.part.leaves()


@dataclass(frozen=True)
class Constant:
    """The conditions `(1, '=', 1)` and `(0, '=', 1)`."""

    value: bool

    def test(self, model: Model) -> Test:  # noqa: ARG002 - same for all
        """Return the constant."""
        return lambda _: self.value

    def leaves(self) -> Iterable[Leaf]:
        """Return nothing: no field is used."""
        return ()


@dataclass(frozen=True)
class Leaf:
    """One condition: a path of fields, an operator and a value."""

    path: str
    operator: str
    value: Any

    def leaves(self) -> Iterable[Leaf]:
        """Return itself."""
        return (self,)

    def test(self, model: Model) -> Test:
        """Return whether a record satisfies the condition.

        What the condition compares with is read once, so that asking it of 100,000 records costs
        little more than looking at them.
        """
        name, _, rest = self.path.partition(".")
        definition = model.field(name)
        if not definition.searchable:
            return lambda _: True
        if rest:
            return self._behind(model, name, rest)
        positive = NEGATIVE.get(self.operator)
        if positive is not None:
            # The negation includes empty values, as NOT IN does in the real server.
            return _not(Leaf(self.path, positive, self.value).test(model))
        value_of = model.getter(name)
        if definition.relation is not None:
            suits = self._reference(model.env[definition.relation], definition)
            return lambda record_id: suits(_as_ids(value_of(record_id)))
        if name == "id" and self.operator in {"child_of", "parent_of"}:
            related = self._related(model)
            return lambda record_id: related([record_id])
        fits = self._scalar(definition)
        return lambda record_id: fits(value_of(record_id))

    def _behind(self, model: Model, name: str, rest: str) -> Test:
        target = model.env[model.field(name).relation or ""]
        test = Leaf(rest, self.operator, self.value).test(target)
        value_of, present = model.getter(name), target.table.rows
        # Many lines share one order: what was found about it is remembered.
        known: dict[int, bool] = {}

        def behind(record_id: int) -> bool:
            for other in _as_ids(value_of(record_id)):
                if other not in known:
                    known[other] = other in present and test(other)
                if known[other]:
                    return True
            return False

        return behind

    def _reference(
        self, target: Model, definition: fields.Field
    ) -> Callable[[Sequence[int]], bool]:
        if self.operator == "any":
            test = parse(target, self.value).test(target)
            return lambda ids: any(test(other) for other in ids)
        if self.operator in {"child_of", "parent_of"}:
            return self._related(target)
        if self.operator in COMPARISONS and definition.type == "many2one":
            compare = COMPARISONS[self.operator]
            return lambda ids: bool(ids) and compare(ids[0], self.value)
        return self._ids(target)

    def _ids(self, target: Model) -> Callable[[Sequence[int]], bool]:
        if self.operator == "=?" and not self.value:
            return lambda _: True
        wanted = self.value if isinstance(self.value, list | tuple) else [self.value]
        empty = any(item is False or item is None for item in wanted)
        names = [item for item in wanted if isinstance(item, str)]
        numbers = {item for item in wanted if isinstance(item, int) and item is not False}

        def suits(ids: Sequence[int]) -> bool:
            if not ids:
                return empty
            if any(other in numbers for other in ids):
                return True
            return bool(names) and any(
                self._name_matches(target.display(other), name) for other in ids for name in names
            )

        return suits

    def _name_matches(self, name: str, wanted: str) -> bool:
        if self.operator in PATTERNS:
            return _like(self.operator, name, wanted)
        return name == wanted

    def _related(self, target: Model) -> Callable[[Sequence[int]], bool]:
        parent = target.parent_field
        wanted = set(self.value if isinstance(self.value, list | tuple) else [self.value])
        if self.operator == "child_of":
            return lambda ids: any(wanted & set(_ancestors(target, one, parent)) for one in ids)
        above = {top for item in wanted for top in _ancestors(target, item, parent)}
        return lambda ids: bool(above & set(ids))

    def _scalar(self, definition: fields.Field) -> Callable[[Any], bool]:
        if self.operator in PATTERNS:
            return lambda value: _like(self.operator, value, self.value)
        if self.operator in COMPARISONS:
            return self._comparison(definition)
        if self.operator == "=?" and (self.value is False or self.value is None):
            return lambda _: True
        wanted = self.value if isinstance(self.value, list | tuple) else [self.value]
        if definition.type == "boolean":
            truths = {bool(item) for item in wanted}
            return lambda value: bool(value) in truths
        empty = any(item is None or item is False for item in wanted)
        listed = [
            comparable(definition, item, "=")
            for item in wanted
            if item is not None and item is not False
        ]
        keys = _hashed(listed)
        return lambda value: empty if value is None else value in keys

    def _comparison(self, definition: fields.Field) -> Callable[[Any], bool]:
        if self.value is None or self.value is False:
            return lambda _: False
        other = comparable(definition, self.value, self.operator)
        compare = COMPARISONS[self.operator]

        def compares(value: Any) -> bool:
            if value is None:
                return False
            try:
                return compare(value, other)
            except TypeError:
                return compare(str(value), str(other))

        return compares


def all_of(tests: Sequence[Test]) -> Test:
    """Return the question whether a record passes every test."""

    def every(record_id: int) -> bool:
        for test in tests:  # noqa: SIM110 - half the time of `all` over a generator
            if not test(record_id):
                return False
        return True

    return tests[0] if len(tests) == 1 else every


def _not(test: Test) -> Test:
    return lambda record_id: not test(record_id)


def _hashed(values: list[Any]) -> Collection[Any]:
    """Return the values as a set, unless one of them, such as a list, cannot be in a set."""
    try:
        return frozenset(values)
    except TypeError:
        return values


def _as_ids(value: Any) -> Sequence[int]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def _ancestors(target: Model, record_id: int, parent: str) -> list[int]:
    found: list[int] = []
    present: int | None = record_id
    while present and present not in found and target.has(present):
        found.append(present)
        present = target.value(present, parent) if parent in target.schema else None
    return found


def comparable(definition: fields.Field, wanted: Any, operator: str) -> Any:
    """Turn the value of a condition into what the table keeps."""
    if definition.type == "datetime" and isinstance(wanted, str):
        moment = fields.parse_datetime(wanted)
        if len(wanted) == fields.DATE_LENGTH and operator in {">", "<="}:
            return datetime.combine(moment.date(), END_OF_DAY, moment.tzinfo)
        return moment
    if definition.type == "date" and isinstance(wanted, str):
        return fields.parse_date(wanted)
    if definition.type in fields.NUMBERS and isinstance(wanted, str):
        return float(wanted)
    if definition.type in {"char", "text", "selection"} and not isinstance(wanted, str):
        return str(wanted)
    return wanted


def _like(operator: str, value: Any, wanted: Any) -> bool:
    if value is None or value is False:
        return False
    ignore_case, whole = PATTERNS[operator]
    pattern = str(wanted) if whole else f"%{wanted}%"
    parts = (
        ".*" if sign == "%" else "." if sign == "_" else re.escape(sign[-1])
        for sign in re.findall(r"\\.|.", pattern, re.DOTALL)
    )
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.fullmatch("".join(parts), str(value), flags) is not None


def parse(model: Model, domain: Any) -> Node:
    """Turn a list in prefix notation into a tree; refuse what the real server refuses."""
    items = list(domain) if isinstance(domain, list | tuple) else []
    for item in reversed(items):
        if not isinstance(item, list | tuple) and item not in PREFIXES:
            raise _malformed(model, item)
    parts: list[Node] = []
    while items:
        parts.append(_take(model, items))
    return parts[0] if len(parts) == 1 else Both(tuple(parts))


def _take(model: Model, items: list[Any]) -> Node:
    if not items:
        raise errors.value_error("Domain is syntactically not correct: an operand is missing")
    head = items.pop(0)
    if isinstance(head, str) and head in PREFIXES:
        first = _take(model, items)
        if head == "!":
            return Negation(first)
        parts = (first, _take(model, items))
        return Both(parts) if head == "&" else Either(parts)
    return _leaf(model, head)


def _leaf(model: Model, item: Any) -> Node:
    if len(item) != LEAF_LENGTH:
        raise errors.value_error(f"Invalid leaf {tuple(item)!r}")
    path, operator, value = item
    if not isinstance(path, str):
        return Constant(bool((path == value) == (operator == "=")))
    operator = str(operator).lower()
    if operator not in OPERATORS:
        word = "Invalid operator in condition" if _is_new(model) else "Invalid leaf"
        raise errors.value_error(f"{word} {tuple(item)!r}")
    _check_path(model, path, tuple(item))
    return Leaf(path, operator, value)


def _malformed(model: Model, item: Any) -> errors.ServerError:
    if _is_new(model):
        return errors.value_error(f"Domain() invalid item in domain: {item!r}")
    return errors.PythonError("IndexError", "string index out of range")


def _check_path(model: Model, path: str, condition: tuple[Any, ...]) -> None:
    present = model
    for name in path.split("."):
        definition = present.schema.get(name)
        if definition is None:
            word = "condition" if _is_new(model) else "leaf"
            raise errors.value_error(f"Invalid field {present.model}.{name} in {word} {condition}")
        if definition.relation is not None:
            present = present.env[definition.relation]


def _is_new(model: Model) -> bool:
    return model.env.version >= NEW_VERSION


def mentions(tree: Node, name: str) -> bool:
    """Whether the domain speaks of a field of the model itself."""
    return any(leaf.path == name for leaf in tree.leaves())
