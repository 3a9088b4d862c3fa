"""Search domains in prefix notation, as trees that can say whether a record matches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, Protocol

from service.simulator import errors, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
}
OPERATORS = frozenset(
    {"=", "in", "=?", "child_of", "parent_of", "any", *NEGATIVE, *PATTERNS, *COMPARISONS}
)


class Node(Protocol):
    """A part of a domain."""

    def matches(self, model: Model, record_id: int) -> bool:
        """Whether the record satisfies this part."""
        ...

    def leaves(self) -> Iterable[Leaf]:
        """Return all conditions below this part."""
        ...


@dataclass(frozen=True)
class Both:
    """All parts must match."""

    parts: tuple[Node, ...]

    def matches(self, model: Model, record_id: int) -> bool:
        """Whether every part matches."""
        return all(part.matches(model, record_id) for part in self.parts)

    def leaves(self) -> Iterable[Leaf]:
        """Return the conditions of all parts."""
        return (leaf for part in self.parts for leaf in part.leaves())


@dataclass(frozen=True)
class Either:
    """One part is enough."""

    parts: tuple[Node, ...]

    def matches(self, model: Model, record_id: int) -> bool:
        """Whether any part matches."""
        return any(part.matches(model, record_id) for part in self.parts)

    def leaves(self) -> Iterable[Leaf]:
        """Return the conditions of all parts."""
        return (leaf for part in self.parts for leaf in part.leaves())


@dataclass(frozen=True)
class Negation:
    """The part must not match."""

    part: Node

    def matches(self, model: Model, record_id: int) -> bool:
        """Whether the part does not match."""
        return not self.part.matches(model, record_id)

    def leaves(self) -> Iterable[Leaf]:
        """Return the conditions of the part."""
        return self.part.leaves()


@dataclass(frozen=True)
class Constant:
    """The conditions `(1, '=', 1)` and `(0, '=', 1)`."""

    value: bool

    def matches(self, model: Model, record_id: int) -> bool:  # noqa: ARG002 - same for all
        """Return the constant."""
        return self.value

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

    def matches(self, model: Model, record_id: int) -> bool:
        """Whether the record satisfies the condition."""
        name, _, rest = self.path.partition(".")
        definition = model.field(name)
        if not definition.searchable:
            return True
        if rest:
            return self._matches_behind(model, record_id, name, rest)
        positive = NEGATIVE.get(self.operator)
        if positive is not None:
            # The negation includes empty values, as NOT IN does in the real server.
            return not Leaf(self.path, positive, self.value).matches(model, record_id)
        value = model.value(record_id, name)
        if definition.relation is not None:
            return self._matches_reference(model.env[definition.relation], definition, value)
        if name == "id" and self.operator in {"child_of", "parent_of"}:
            return self._related(model, [record_id])
        return self._matches_scalar(definition, value)

    def _matches_behind(self, model: Model, record_id: int, name: str, rest: str) -> bool:
        target = model.env[model.field(name).relation or ""]
        ids = _as_ids(model.value(record_id, name))
        leaf = Leaf(rest, self.operator, self.value)
        if not ids and self.operator in NEGATIVE:
            return False
        return any(leaf.matches(target, other) for other in ids if target.has(other))

    def _matches_reference(self, target: Model, definition: fields.Field, value: Any) -> bool:
        ids = _as_ids(value)
        if self.operator == "any":
            tree = parse(target, self.value)
            return any(tree.matches(target, other) for other in ids)
        if self.operator in {"child_of", "parent_of"}:
            return self._related(target, ids)
        if self.operator in COMPARISONS and definition.type == "many2one":
            return bool(ids) and COMPARISONS[self.operator](ids[0], self.value)
        return self._matches_ids(target, ids)

    def _matches_ids(self, target: Model, ids: Sequence[int]) -> bool:
        wanted = self.value if self.operator == "in" else [self.value]
        if not isinstance(wanted, list | tuple):
            wanted = [wanted]
        if self.operator == "=?" and not self.value:
            return True
        for item in wanted:
            if item is False or item is None:
                if not ids:
                    return True
            elif isinstance(item, str):
                if any(self._name_matches(target.display(other), item) for other in ids):
                    return True
            elif item in ids:
                return True
        return False

    def _name_matches(self, name: str, wanted: str) -> bool:
        if self.operator in PATTERNS:
            return _like(self.operator, name, wanted)
        return name == wanted

    def _related(self, target: Model, ids: Sequence[int]) -> bool:
        parent = target.parent_field
        wanted = set(self.value if isinstance(self.value, list | tuple) else [self.value])
        if self.operator == "child_of":
            return any(wanted & set(_ancestors(target, other, parent)) for other in ids)
        above = {top for item in wanted for top in _ancestors(target, item, parent)}
        return bool(above & set(ids))

    def _matches_scalar(self, definition: fields.Field, value: Any) -> bool:
        if self.operator in PATTERNS:
            return _like(self.operator, value, self.value)
        if self.operator in COMPARISONS:
            return self._compares(definition, value)
        if self.operator == "=?" and (self.value is False or self.value is None):
            return True
        wanted = self.value if isinstance(self.value, list | tuple) else [self.value]
        return any(_equal(definition, value, item) for item in wanted)

    def _compares(self, definition: fields.Field, value: Any) -> bool:
        if value is None or self.value is None or self.value is False:
            return False
        other = _comparable(definition, self.value, self.operator)
        try:
            return COMPARISONS[self.operator](value, other)
        except TypeError:
            return COMPARISONS[self.operator](str(value), str(other))


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


def _equal(definition: fields.Field, value: Any, wanted: Any) -> bool:
    if definition.type == "boolean":
        return bool(value) == bool(wanted)
    if wanted is None or wanted is False:
        return value is None
    if value is None:
        return False
    return bool(value == _comparable(definition, wanted, "="))


def _comparable(definition: fields.Field, wanted: Any, operator: str) -> Any:
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


def required_leaves(tree: Node) -> Iterable[Leaf]:
    """Return conditions that every match must satisfy, to narrow a search by an index."""
    if isinstance(tree, Leaf):
        return (tree,)
    if isinstance(tree, Both):
        return (leaf for part in tree.parts for leaf in required_leaves(part))
    return ()
