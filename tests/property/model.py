"""A model of Odoo, of time, and of a posting's steps, for schedules that Hypothesis makes up.

Time is a number that only passes when something takes time: a look, a call, a wait. Half an hour of
settling takes milliseconds, and the same schedule always ends the same way.
"""

from __future__ import annotations

import heapq
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel
from sqlalchemy import text

from service.database import Database
from service.odoo.errors import (
    Effect,
    GatewayError,
    LockConflict,
    TimedOut,
    Unreachable,
    UserFault,
)
from service.posting.step import (
    Blocked,
    Call,
    Definition,
    Done,
    Observation,
    Pending,
    Profile,
    Settle,
    Step,
    Work,
    write,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

INTERVAL = timedelta(seconds=1)
LIMIT = timedelta(seconds=10)
TIMEOUT = timedelta(seconds=2)
CALL_SECONDS = 0.2
OTHER_SECONDS = 1.0
TODAY = date(2026, 11, 24)


class Clock:
    """Seconds that pass when they are told to, and what happens meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = itertools.count()
        self._later: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, moment: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._later, (moment, next(self._number), event))

    def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while self._later and self._later[0][0] <= until:
            self.now, _, event = heapq.heappop(self._later)
            event()
        self.now = until


_MODEL_TIME = """
CREATE FUNCTION model.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
    SELECT timestamptz '2026-11-24 12:00 UTC'
        + current_setting('model.now')::float8 * interval '1 second'
$$
"""
"""It stands before PostgreSQL's own in the search path."""

_SET_TIME = text(
    "SELECT set_config('model.now', :now, false),"
    " set_config('search_path', 'model, pg_catalog, public', false)"
)


class ModelTimeDatabase(Database):
    """A real database that takes its time from the model's clock."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.clock = Clock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        async with super().transaction() as connection:
            await connection.execute(_SET_TIME, {"now": repr(self.clock.now)})
            yield connection


async def use_model_time(database: ModelTimeDatabase) -> None:
    """Put the model's clock into a fresh database."""
    async with database.transaction() as connection:
        await connection.execute(text("CREATE SCHEMA model"))
        await connection.execute(text(_MODEL_TIME.replace(":", "\\:")))


class Reply(StrEnum):
    """What becomes of a call, and what its caller is told."""

    OK = "done"
    FAULT = "refused"
    FAULT_AFTER_COMMIT = "done and refused"
    LOCK_CONFLICT = "lock conflict"
    OTHER_WAS_FASTER = "lock conflict with somebody who does the same"
    NOT_SENT = "not sent"
    REPLY_LOST = "done, reply lost"
    LATE = "timed out, done later"
    LATE_GATEWAY = "502, done later"
    NEVER = "timed out, never done"
    NONSENSE = "done, a defect of Eclusa reads the answer"


AT_ONCE = (Reply.OK, Reply.FAULT_AFTER_COMMIT, Reply.REPLY_LOST, Reply.NONSENSE)
LATER = (Reply.LATE, Reply.LATE_GATEWAY)
CONFLICTS = (Reply.LOCK_CONFLICT, Reply.OTHER_WAS_FASTER)
ANSWERED = (Reply.OK, Reply.FAULT, Reply.FAULT_AFTER_COMMIT, Reply.NOT_SENT, *CONFLICTS)
"""The caller knows now that nothing of this call comes later."""

WITHOUT_ANSWER = (Reply.LATE, Reply.NEVER)


def answer(reply: Reply) -> bool:
    """What the caller is told: True, or an error."""
    match reply:
        case Reply.OK:
            return True
        case Reply.FAULT | Reply.FAULT_AFTER_COMMIT:
            raise UserFault("no")
        case Reply.LOCK_CONFLICT | Reply.OTHER_WAS_FASTER:
            raise LockConflict("locked")
        case Reply.NOT_SENT:
            raise Unreachable("refused", effect=Effect.NONE)
        case Reply.REPLY_LOST:
            raise Unreachable("cut")
        case Reply.LATE | Reply.NEVER:
            raise TimedOut("slow")
        case Reply.LATE_GATEWAY:
            raise GatewayError("502")
        case Reply.NONSENSE:
            raise ZeroDivisionError


@dataclass(frozen=True)
class Sight:
    """What one look shows."""

    values: dict[str, str]
    orders: tuple[int, ...]
    bills: tuple[int, ...]
    stamps: int
    approved: bool


@dataclass
class Sent:
    """A call that is not repeatable, until somebody has written down what became of it."""

    method: str
    at: float
    worker: str
    answered: bool = False


FIELDS = ("first", "second")
EFFECTS = ("note", "order", "bill", "stamp")
OF_METHOD = {
    "write": "note",
    "make_order": "order",
    "make_bill": "bill",
    "stamp": "stamp",
    "cancel_order": "order",
    "cancel_bill": "bill",
}


@dataclass
class ModelOdoo:
    """One document in an Odoo: what is there of it, and whether Eclusa treats it well."""

    clock: Clock
    values: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    orders: list[int] = field(default_factory=list)
    bills: list[int] = field(default_factory=list)
    stamps: int = 0
    approved: bool = True
    sent: list[Sent] = field(default_factory=list)
    coming: list[str] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    calls: int = 0
    written: dict[tuple[str, ...], int] = field(default_factory=dict)
    _number: Any = field(default_factory=lambda: itertools.count(1))

    def look(self, value: str) -> Sight:
        """Show what is there; what is there again is no longer undone."""
        self.undone -= {effect for effect in EFFECTS if self.there(effect, value)}
        self.seen = dict(self.values)
        return Sight(
            self.seen,
            tuple(self.orders),
            tuple(self.bills),
            self.stamps,
            self.approved,
        )

    def there(self, effect: str, value: str) -> bool:
        match effect:
            case "note":
                return all(self.values.get(name) == value for name in FIELDS)
            case "order":
                return bool(self.orders)
            case "bill":
                return bool(self.bills)
            case _:
                return bool(self.stamps)

    # -- what Eclusa calls -------------------------------------------------------------------

    def receive(
        self, worker: str, method: str, args: Sequence[Any], reply: Reply, share: float
    ) -> Sent:
        """Take a call: its effect will be there at once, within its settle time, or never."""
        self.calls += 1
        self._expect_need(method, args)
        self._expect_no_doubt(method)
        sent = Sent(method, self.clock.now, worker)
        if method != "write" and reply is not Reply.NOT_SENT:
            self.sent.append(sent)
        if reply in AT_ONCE:
            self._come(method, args, CALL_SECONDS / 2)
        elif reply in LATER:
            self._come(method, args, share * LIMIT.total_seconds())
        elif reply is Reply.OTHER_WAS_FASTER and method.startswith("make"):
            other = partial(self.somebody_makes, OF_METHOD[method])
            self.clock.at(self.clock.now + OTHER_SECONDS, other)
        return sent

    def _expect_need(self, method: str, args: Sequence[Any]) -> None:
        match method:
            case "write":
                # One in flight may arrive at any moment: it is sent again without waiting for it.
                done = args[1].items() <= self.seen.items()
            case "cancel_order" | "cancel_bill":
                done = args[0][0] not in (*self.orders, *self.bills)
            case _:
                done = self.there(OF_METHOD[method], "")
        if done:
            self.broken.append(f"{method} was called although its effect is there")

    def _expect_no_doubt(self, method: str) -> None:
        for sent in self.sent:
            age = self.clock.now - sent.at
            if age < LIMIT.total_seconds() - 0.001:
                self.broken.append(
                    f"{method} was called {age:.3f} s after {sent.method}, which is in doubt"
                )

    def _come(self, method: str, args: Sequence[Any], seconds: float) -> None:
        self.coming.append(method)
        number = self.calls

        def arrive() -> None:
            self.coming.remove(method)
            if method != "write" or self._is_news(args[1], number):
                self._apply(method, args)

        self.clock.at(self.clock.now + seconds, arrive)

    def _is_news(self, values: dict[str, str], number: int) -> bool:
        """Whether the same write was not sent again, and done, since.

        That a write which was sent twice comes the second time after its posting was canceled and
        the document posted anew is not kept out: the engine calls it done with the first.
        """
        [written] = values.values()
        field_and_value = (*values, written)
        newest = self.written.get(field_and_value, 0)
        self.written[field_and_value] = max(newest, number)
        return newest < number

    def _apply(self, method: str, args: Sequence[Any]) -> None:
        record_id = args[0][0]
        match method:
            case "write":
                self.values |= args[1]
            case "make_order":
                self.orders.append(next(self._number))
            case "make_bill" if record_id in self.orders:
                self.bills.append(next(self._number))
            case "stamp":
                self.stamps += 1
            case "cancel_order" if record_id in self.orders:
                self.orders.remove(record_id)
            case "cancel_bill" if record_id in self.bills:
                self.bills.remove(record_id)
        if max(len(self.orders), len(self.bills), self.stamps) > 1:
            self.broken.append(f"{method} was done twice")

    # -- what Eclusa writes down -------------------------------------------------------------

    def recorded(self, worker: str, effect: str, state: str, value: str) -> None:
        """Compare what was just committed of a step with what is there."""
        there = self.there(effect, value)
        if state in {"done", "found"} and not there and effect not in self.undone:
            self.broken.append(f"{effect} was recorded {state} and is not there")
        if state == "undone" and there:
            self.broken.append(f"{effect} was recorded undone and is there")
        coming = [method for method in self.coming if OF_METHOD[method] == effect != "note"]
        if state == "failed" and coming:
            self.broken.append(f"{effect} was recorded failed and {coming} is still to come")
        self.sent = [
            sent
            for sent in self.sent
            if OF_METHOD[sent.method] != effect
            or not (
                state in {"done", "found", "undone"}
                or (state == "failed" and sent.answered and sent.worker == worker)
            )
        ]

    # -- what others do ----------------------------------------------------------------------

    def somebody_undoes(self, effect: str) -> None:
        match effect:
            case "note":
                self.values["second"] = "somebody's"
            case "order":
                self.orders.clear()
                self.bills.clear()
                self.undone.add("bill")
            case "bill":
                self.bills.clear()
            case _:
                self.stamps = 0
        self.undone.add(effect)

    def somebody_makes(self, effect: str) -> None:
        """Make an order or a bill by hand, but none that Eclusa has under way.

        Two who do the same thing at the same moment cannot be kept apart by any settle time.
        """
        if self.there(effect, "") or self.sent or self.coming:
            return
        if effect == "order":
            self.orders.append(next(self._number))
        elif self.orders:
            self.bills.append(next(self._number))


class Looking(Protocol):
    """How a step looks at the model."""

    async def look(self) -> Sight: ...


class Paper(BaseModel):
    """The document; `value` is what this posting of it writes."""

    name: str
    value: str


class Found(BaseModel):
    """What its steps find."""

    order: int | None = None
    bill: int | None = None


ModelWork = Work[Paper, Profile, Found]


async def look(work: ModelWork) -> Sight:
    """Look through the worker that does the work."""
    odoo: Any = work.odoo
    line: Looking = odoo
    return await line.look()


async def note(work: ModelWork) -> Observation:
    """Two fields, written one by one."""
    sight = await look(work)
    for name in FIELDS:
        before = {name: sight.values.get(name)}
        if before != {name: work.subject.value}:
            return Pending(write("paper", 1, before, {name: work.subject.value}))
    return Done()


async def order(work: ModelWork) -> Observation:
    """An order, which may come late."""
    sight = await look(work)
    match sight.orders:
        case []:
            return Pending(Call(model="paper", method="make_order", args=[[1]]))
        case [made]:
            return Done({"order": made})
        case _:
            return Blocked("several_orders", "look at them", "needs_attention")


async def undo_order(work: ModelWork) -> Observation:
    """No order is left; a billed one is not touched."""
    sight = await look(work)
    if not sight.orders:
        return Done({"order": None})
    if sight.bills:
        return Blocked("billed", "cancel the bill first", "needs_attention")
    return Pending(Call(model="paper", method="cancel_order", args=[[sight.orders[0]]]))


async def bill(work: ModelWork) -> Observation:
    """The order's bill, which somebody has to approve."""
    sight = await look(work)
    match sight.bills:
        case []:
            pass
        case [made]:
            return Done({"bill": made})
        case _:
            return Blocked("several_bills", "look at them", "needs_attention")
    if not sight.approved:
        return Blocked("approval", "somebody must approve", "waiting", timedelta(minutes=1))
    return Pending(Call(model="paper", method="make_bill", args=[[work.facts.order]]))


async def undo_bill(work: ModelWork) -> Observation:
    """No bill is left."""
    sight = await look(work)
    if not sight.bills:
        return Done({"bill": None})
    return Pending(Call(model="paper", method="cancel_bill", args=[[sight.bills[0]]]))


async def stamp(work: ModelWork) -> Observation:
    """What the posting can do without."""
    if (await look(work)).stamps:
        return Done()
    return Pending(Call(model="paper", method="stamp", args=[[1]]))


SETTLE = Settle(INTERVAL, LIMIT)
PAPER = Definition(
    kind="paper",
    title="Paper",
    input_model=Paper,
    subject_model=Paper,
    profile_model=Profile,
    facts_model=Found,
    admit=lambda given, _: given,
    document_key=lambda paper: paper.name,
    today=lambda _: TODAY,
    rights={},
    steps=(
        Step(
            number=1,
            name="note",
            title="Note",
            observe=note,
            repeatable=True,
            timeout=TIMEOUT,
            settle=SETTLE,
        ),
        Step(
            number=2,
            name="order",
            title="Order",
            observe=order,
            undo=undo_order,
            timeout=TIMEOUT,
            settle=Settle(INTERVAL, LIMIT, late_arrival=True),
        ),
        Step(
            number=3,
            name="bill",
            title="Bill",
            observe=bill,
            undo=undo_bill,
            timeout=TIMEOUT,
            settle=SETTLE,
        ),
        Step(
            number=4,
            name="stamp",
            title="Stamp",
            observe=stamp,
            required=False,
            timeout=TIMEOUT,
            settle=SETTLE,
        ),
    ),
)
