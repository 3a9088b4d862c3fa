"""Troubles that a call can meet, as values, and the book that hands them out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from service.simulator import bodies

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Kind = Literal[
    "none",
    "slow",
    "late_success",
    "reply_lost",
    "duplicate_delivery",
    "gateway_502",
    "gateway_503",
    "gateway_504",
    "fault_after_commit",
    "lock_conflict",
    "serialization_conflict",
    "missing_result",
    "access_error",
    "user_error",
    "drop_before",
    "truncated",
    "unavailable",
]
KINDS: tuple[str, ...] = get_args(Kind)
ANY = "*"
TRUE_WORDS = frozenset({"1", "true", "yes"})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One trouble, for calls of `model` and `method` (`*` is any), `times` times.

    call     the first of the calls that it concerns to meet it, counted from now: 1 is the next
    seconds  how long until the client learns of it: the delay of `slow`, the cut of a gateway,
             how long `late_success` holds the connection, how long `unavailable` lasts (0: until
             cleared)
    after    when the effect is applied, in seconds since the call arrived: `late_success` (default
             `seconds`) and gateways with `applied` (default: after the method's own duration)
    applied  whether a gateway's 502, 503 or 504 hides a call that works
    ids      only calls on one of these records
    key      only calls on records of the document with this access key
    rows     `truncated`: how many of the rows are left, the first ones (default: half of them)
    refuse   `unavailable` closes the connection in place of a 502 page
    message  the text of `user_error`, `access_error` and `fault_after_commit`
    """

    kind: Kind
    model: str = ANY
    method: str = ANY
    times: int = 1
    call: int = 1
    seconds: float = 0.0
    after: float | None = None
    applied: bool = True
    ids: tuple[int, ...] = ()
    key: str | None = None
    rows: int | None = None
    refuse: bool = False
    message: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(KINDS)}")
        if self.seconds < 0 or (self.after or 0) < 0 or (self.rows or 0) < 0:
            raise ValueError("seconds, after and rows are not negative")
        if self.times < 1 or self.call < 1:
            raise ValueError("times and call are at least 1")

    def concerns(
        self, model: str, method: str, ids: Collection[int], keys: Collection[str]
    ) -> bool:
        """Whether a call meets this trouble."""
        return (
            self.model in {ANY, model}
            and self.method in {ANY, method}
            and (not self.ids or bool(set(self.ids) & set(ids)))
            and (self.key is None or self.key in keys)
        )


def from_json(values: Mapping[str, Any]) -> Fault:
    """Read a fault from a JSON object; unknown names are refused."""
    bodies.check_names(values, Fault)
    if "kind" not in values:
        raise ValueError(f"kind is missing; known: {', '.join(KINDS)}")
    return Fault(**{**values, "ids": tuple(values.get("ids", ()))})


def from_text(text: str) -> Fault:
    """Read a fault from `kind=slow,model=purchase.order,seconds=3`; ids are joined by `+`."""
    readers: dict[str, Any] = {
        "times": int,
        "call": int,
        "rows": int,
        "seconds": float,
        "after": float,
        "applied": lambda word: word.lower() in TRUE_WORDS,
        "refuse": lambda word: word.lower() in TRUE_WORDS,
        "ids": lambda word: [int(one) for one in word.split("+")],
    }
    values: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, word = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not name=value")
        values[name] = readers.get(name, str)(word)
    return from_json(values)


@dataclass
class FaultBook:
    """The faults that wait for a call, first come first served."""

    waiting: list[Fault] = field(default_factory=list)
    outage: Fault | None = None
    outage_ends: float | None = None

    @property
    def by_key(self) -> bool:
        """Whether a fault waits for the calls on one document."""
        return any(fault.key is not None for fault in self.waiting)

    def add(self, fault: Fault, now: float) -> None:
        """Put a fault into the book; an outage starts at once."""
        if fault.kind == "unavailable":
            self.outage = fault
            self.outage_ends = now + fault.seconds if fault.seconds else None
        elif fault.kind != "none":
            self.waiting.append(fault)

    def clear(self) -> None:
        """Forget all faults and end an outage."""
        self.waiting.clear()
        self.outage = self.outage_ends = None

    def present_outage(self, now: float) -> Fault | None:
        """Return the outage, unless it is over."""
        if self.outage_ends is not None and now >= self.outage_ends:
            self.outage = self.outage_ends = None
        return self.outage

    def take(
        self, model: str, method: str, ids: Collection[int], keys: Collection[str]
    ) -> Fault | None:
        """Return the first fault whose turn it is, using it up; the others count the call."""
        taken: Fault | None = None
        left: list[Fault] = []
        for fault in self.waiting:
            if not fault.concerns(model, method, ids, keys):
                left.append(fault)
            elif fault.call > 1:
                left.append(replace(fault, call=fault.call - 1))
            elif taken is not None:
                left.append(fault)
            else:
                taken = fault
                if fault.times > 1:
                    left.append(replace(fault, times=fault.times - 1))
        self.waiting = left
        return taken
