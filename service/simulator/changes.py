"""Changes of the source while somebody reads it: rows written, made, archived or deleted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.simulator.orm import Environment, Model

Action = Literal["write", "create", "copy", "archive", "unarchive", "delete"]
ACTIONS: tuple[str, ...] = get_args(Action)
ACTIVE = {"archive": False, "unarchive": True}
NUMBERS = frozenset({"float", "integer", "monetary"})
ANY = "*"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of many records of a model, in one transaction.

    ids     these records; otherwise `count` of those that match `domain` (all of them when None),
            drawn by `seed`
    values  what is written; without values the field that varies in this model changes. For
            `create`, what each of `count` records holds; for `copy`, what the copies hold instead

    `delete` is the database's own: no business rule refuses it, lines go with their order. `write`
    and `create` are a person's: stamps and the other models follow.
    """

    action: Action
    model: str
    ids: tuple[int, ...] = ()
    count: int | None = None
    domain: Sequence[Any] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"unknown action {self.action!r}; known: {', '.join(ACTIONS)}")
        if self.count is not None and self.count < 0:
            raise ValueError("count is not negative")


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """What happens right after the answer to the `call`-th call of a model and method is made.

    Calls are counted from now on, those of clients that reach the model: one that a fault keeps
    away is not. It is a change, or the commit of an open transaction, or both.
    """

    model: str
    method: str = "search_read"
    call: int = 1
    change: Change | None = None
    commit: int | None = None

    def __post_init__(self) -> None:
        if self.call < 1:
            raise ValueError("call is at least 1: the next one")
        if self.change is None and self.commit is None:
            raise ValueError("a change or a commit is needed")


@dataclass
class Schedule:
    """What waits for a call."""

    waiting: list[Scheduled] = field(default_factory=list)

    def passed(self, model: str, method: str) -> list[Scheduled]:
        """Count a call, and return what happens after it."""
        due: list[Scheduled] = []
        left: list[Scheduled] = []
        for one in self.waiting:
            if one.model != model or one.method not in {ANY, method}:
                left.append(one)
            elif one.call > 1:
                left.append(replace(one, call=one.call - 1))
            else:
                due.append(one)
        self.waiting = left
        return due


def change_from_json(values: Mapping[str, Any]) -> Change:
    """Read a change from a JSON object; unknown names are refused."""
    _check_names(Change, values, ("action", "model"))
    return Change(**{**values, "ids": tuple(values.get("ids", ()))})


def scheduled_from_json(values: Mapping[str, Any]) -> Scheduled:
    """Read what is scheduled from a JSON object; unknown names are refused."""
    _check_names(Scheduled, values, ("model",))
    change = values.get("change")
    return Scheduled(**{**values, "change": change_from_json(change) if change else None})


def _check_names(kind: type[Change | Scheduled], values: Mapping[str, Any], needed: Any) -> None:
    known = set(kind.__dataclass_fields__)
    wrong = sorted(set(values) - known)
    if wrong:
        raise ValueError(f"unknown {', '.join(wrong)}; known: {', '.join(sorted(known))}")
    missing = [name for name in needed if name not in values]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing")


def carry_out(env: Environment, change: Change, seed: str) -> list[int]:
    """Do it inside the present transaction; return the ids of the records, made ones included."""
    model = env[change.model]
    # The same seed draws the same records; nothing here is secret.
    chance = random.Random(f"{seed}/{change.action}/{change.model}")  # noqa: S311
    if change.action == "create":
        return _listed(model.create([dict(change.values) for _ in range(change.count or 1)]))
    ids = _drawn(model, change, chance)
    deeds: Mapping[Action, Callable[[], list[int]]] = {
        "write": lambda: _write(model, ids, change, chance),
        "copy": lambda: _copy(model, ids, change),
        "delete": lambda: _delete(model, ids),
    }
    return deeds.get(change.action, lambda: _set_active(model, ids, change.action))()


def _drawn(model: Model, change: Change, chance: random.Random) -> list[int]:
    if change.ids:
        model.require(change.ids)
        return list(change.ids)
    matching = list(model.matching(list(change.domain)))
    if change.count is None:
        return matching
    return sorted(chance.sample(matching, min(change.count, len(matching))))


def _write(model: Model, ids: list[int], change: Change, chance: random.Random) -> list[int]:
    if change.values:
        model.write(ids, change.values)
        return ids
    for record_id in ids:
        model.write([record_id], {model.varied: _other(model, record_id, chance)})
    return ids


def _other(model: Model, record_id: int, chance: random.Random) -> Any:
    present = model.value(record_id, model.varied)
    if model.field(model.varied).type in NUMBERS:
        return (present or 0.0) + chance.randrange(1, 10)
    base = str(present or "").partition(" #")[0]
    return f"{base} #{chance.randrange(10**6)}"


def _copy(model: Model, ids: list[int], change: Change) -> list[int]:
    return [one for record_id in ids for one in _listed(model.copy([record_id], change.values))]


def _listed(made: int | list[int]) -> list[int]:
    return made if isinstance(made, list) else [made]


def _delete(model: Model, ids: list[int]) -> list[int]:
    model.remove(ids)
    return ids


def _set_active(model: Model, ids: list[int], action: Action) -> list[int]:
    model.write(ids, {"active": ACTIVE[action]})
    return ids
