"""Workers of the model, and what can happen to them at each point of their way."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import text

from service import clocks, jobs
from service.database import forbid_open_transaction
from service.errors import DatabaseUnavailable, LockHeld, WrongStatus
from service.locks import Lease, Locks
from service.odoo.errors import GatewayError
from service.posting.engine import Engine
from service.posting.ledger import UNCHANGED, Ledger, Posting
from service.posting.step import Actor, Deployment, NewPosting, Profile
from service.pulse import Pulse
from tests.property.model import (
    ANSWERED,
    CALL_SECONDS,
    LIMIT,
    PAPER,
    TIMEOUT,
    WITHOUT_ANSWER,
    Clock,
    ModelOdoo,
    ModelTimeDatabase,
    Paper,
    Reply,
    Sight,
    answer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from service.posting import audit
    from service.posting.ledger import Change, Claim, Entry, _Pen

ACTOR = Actor(name="somebody", ip="127.0.0.1")
MOST_POINTS = 3_000
LOCK_TTL_SECONDS = 15.0
SILENCE = timedelta(seconds=1)


class Died(BaseException):
    """The worker process is gone."""


class Place(StrEnum):
    """Where in a worker's way something can happen."""

    LOOK = "before a look"
    LOOKED = "when Odoo has read, before its answer"
    SENT = "when Odoo has the call"
    CALLED = "when the call has done what it does at once"
    RECORD = "before a transaction"
    RECORDED = "after its commit"
    WAIT = "before or after a wait"


class Incident(StrEnum):
    """What can happen there."""

    DIES = "the worker dies"
    CUT_OFF = "PostgreSQL goes away"
    STANDS_STILL = "the worker stands still"
    OVERTAKEN = "another worker takes over while this one goes on"
    OVERTAKEN_ASLEEP = "another worker takes over while this one stands still"
    LOCK_LOST = "the lock is lost"
    STOPS = "the worker is told to stop"
    CANCELED = "somebody cancels"
    UNREADABLE = "a look fails"
    UNDONE_NOTE = "somebody undoes the note"
    UNDONE_ORDER = "somebody undoes the order"
    UNDONE_BILL = "somebody undoes the bill"
    UNDONE_STAMP = "somebody undoes the stamp"
    MADE_ORDER = "somebody makes an order"
    MADE_BILL = "somebody makes a bill"


UNDONE = {
    Incident.UNDONE_NOTE: "note",
    Incident.UNDONE_ORDER: "order",
    Incident.UNDONE_BILL: "bill",
    Incident.UNDONE_STAMP: "stamp",
}
MADE = {Incident.MADE_ORDER: "order", Incident.MADE_BILL: "bill"}
PLACES = {
    Incident.CUT_OFF: (Place.RECORD, Place.RECORDED),
    Incident.UNREADABLE: (Place.LOOK,),
    **dict.fromkeys(MADE, (Place.LOOK, Place.WAIT)),
}
"""Where an incident is possible, if not everywhere. What others make is made before a look: between
a look and its call nobody could see it."""


@dataclass
class Schedule:
    """What happens during one run: from a point of it on, and to the calls of a method."""

    incidents: list[tuple[int, Incident]] = field(default_factory=list)
    replies: list[tuple[str, Reply, int]] = field(default_factory=list)
    look_seconds: float = 0.1
    points: int = 0

    def incident(self, place: Place) -> Incident | None:
        """What happens now: each incident at the first place from its point on that it fits."""
        self.points += 1
        for planned in self.incidents:
            point, incident = planned
            if point < self.points and place in PLACES.get(incident, tuple(Place)):
                self.incidents.remove(planned)
                return incident
        return None

    def reply(self, method: str) -> tuple[Reply, float]:
        """The next reply to a method, and after which share of the settle time an effect comes."""
        for planned in self.replies:
            if planned[0] == method:
                self.replies.remove(planned)
                return planned[1], planned[2] / 100
        return Reply.OK, 0


class Held(NamedTuple):
    """A lock."""

    owner: str
    rank: int
    until: float


class World:
    """One document, its postings, and everybody who does something about it."""

    def __init__(self, database: ModelTimeDatabase) -> None:
        async def announce(*_: object) -> None:
            """Tell nobody."""

        database.clock = Clock()
        self.clock = database.clock
        self.database = database
        self.ledger = Ledger(database, jobs.POSTINGS.enqueue, announce, announce)
        self.odoo = ModelOdoo(self.clock)
        self.schedule = Schedule()
        self.locks: dict[str, Held] = {}
        self.awake: list[Worker] = []
        self.gone: set[str] = set()
        self.values: dict[UUID, str] = {}
        self.workers = 0
        self.broken_answers = 0
        self.name = uuid4().hex

    def value(self, posting_id: UUID) -> str:
        """What a posting of the document writes; each writes something else."""
        return self.values[posting_id]

    async def accept(self) -> Posting:
        value = f"value {len(self.values)}"
        posting = await self.ledger.accept(
            NewPosting(
                id=uuid4(),
                kind="paper",
                connection="main",
                document_key=self.name,
                subject=Paper(name=self.name, value=value),
                total_steps=len(PAPER.steps),
                reference=None,
                actor=ACTOR,
            )
        )
        self.values[posting.id] = value
        return posting

    async def work(self, posting_id: UUID, schedule: Schedule) -> None:
        """Let a worker take the posting's job and bring it as far as it goes.

        What dead ones have left is found afterwards by those that live.
        """
        self.schedule = schedule
        async with self.database.transaction() as connection:
            await connection.execute(text("DELETE FROM pgqueuer"))
        await self.take_over(posting_id)
        if self.gone:
            async with self.database.transaction() as connection:
                await jobs.recover_silent(connection, SILENCE)
                await jobs.recover_forgotten(connection)

    async def take_over(self, posting_id: UUID) -> None:
        """Let another worker claim the posting, whoever has it."""
        self.workers += 1
        worker = Worker(self, f"worker {self.workers}", posting_id)
        self.awake.append(worker)
        try:
            await worker.engine().run(posting_id)
        except (Died, DatabaseUnavailable):
            self.gone.add(worker.name)
        finally:
            self.awake.pop()

    async def meddle(self, incident: Incident, posting_id: UUID) -> None:
        """Let somebody cancel, or do or undo something in Odoo."""
        if incident is Incident.CANCELED:
            with contextlib.suppress(WrongStatus):
                await self.ledger.cancel(posting_id, ACTOR)
        elif incident in UNDONE:
            self.odoo.somebody_undoes(UNDONE[incident])
        elif incident in MADE:
            self.odoo.somebody_makes(MADE[incident])

    async def wait_for(self, stopped: Coroutine[Any, Any, Any], timeout: float) -> None:  # noqa: ASYNC109  asyncio's own
        """Take the place of `asyncio.wait_for` in a run: it waits in the model's time."""
        stopped.close()
        worker = self.awake[-1]
        await worker.pass_point(Place.WAIT)
        if not worker.stopping.is_set():
            self.clock.pass_by(timeout)
        await worker.pass_point(Place.WAIT)
        raise TimeoutError


class Worker:
    """A worker process with one posting. Once it is dead, nothing of it does anything."""

    def __init__(self, world: World, name: str, posting_id: UUID) -> None:
        self.world = world
        self.name = name
        self.posting_id = posting_id
        self.dead = False
        self.lease: Lease | None = None
        self.stopping = asyncio.Event()
        self.pulse = Pulse(timedelta(days=1))

    def engine(self) -> Engine:
        async def deploy(name: str, _: str) -> Deployment:
            return Deployment(connection=name, odoo=Line(self), profile=Profile())

        return Engine(
            ledger=MortalLedger(self),
            locks=ModelLocks(self),
            definitions={"paper": PAPER},
            deploy=deploy,
            worker=self.name,
            silence=SILENCE,
            pulse=self.pulse,
            stopping=self.stopping,
        )

    async def pass_point(self, place: Place) -> None:
        """Let happen what the schedule has for this point of the worker's way."""
        schedule = self.world.schedule
        if schedule.points == MOST_POINTS:
            self.world.odoo.broken.append("it does not end")
        if self.dead or schedule.points > MOST_POINTS:
            raise Died
        if (incident := schedule.incident(place)) is not None:
            await self._meet(incident, place)

    async def _meet(self, incident: Incident, place: Place) -> None:
        match incident:
            case Incident.DIES:
                self.dead = True
                raise Died
            case Incident.CUT_OFF:
                raise DatabaseUnavailable("PostgreSQL: away")
            case Incident.UNREADABLE:
                raise GatewayError("502")
            case Incident.STOPS:
                self.stopping.set()
            case Incident.LOCK_LOST if self.lease is not None:
                self.world.locks.pop(self.lease.key, None)
                self.lease.lost.set()
            case Incident.STANDS_STILL | Incident.OVERTAKEN | Incident.OVERTAKEN_ASLEEP:
                # Between intent and call nothing but the pulse can tell: a silence that lets
                # another worker take over is one that the pulse notices.
                if incident is not Incident.OVERTAKEN or place is Place.RECORDED:
                    self.pulse._stalls += 1
                    self.world.clock.pass_by(LIMIT.total_seconds() / 2)
                if incident is not Incident.STANDS_STILL:
                    await self.world.take_over(self.posting_id)
            case _:
                await self.world.meddle(incident, self.posting_id)


class MortalLedger(Ledger):
    """A worker's ledger; what it has committed is compared with the model."""

    def __init__(self, worker: Worker) -> None:
        self.__dict__ |= vars(worker.world.ledger)
        self._worker = worker
        self._committed: Callable[[], None] | None = None

    async def record(
        self, claim: Claim, entry: Entry, note: audit.Note, change: Change = UNCHANGED
    ) -> None:
        def compare() -> None:
            # A step of several writes is not done before its position is written.
            partly = entry.state == "done" and change.step is None
            if not partly:
                value = self._worker.world.value(claim.posting.id)
                self._worker.world.odoo.recorded(self._worker.name, entry.name, entry.state, value)

        self._committed = compare
        await super().record(claim, entry, note, change)

    @asynccontextmanager
    async def _writing(self, posting_id: UUID, actor: Actor) -> AsyncIterator[_Pen]:
        committed, self._committed = self._committed, None
        await self._worker.pass_point(Place.RECORD)
        async with super()._writing(posting_id, actor) as pen:
            yield pen
        if committed is not None:
            committed()
        await self._worker.pass_point(Place.RECORDED)


class ModelLocks(Locks):
    """The locks as one worker has them, renewed as long as it lives."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._held = worker.world.locks

    async def check(self) -> None:
        forbid_open_transaction()

    async def _acquire(self, name: str, owner: str, rank: int) -> Lease:
        forbid_open_transaction()
        held = self._held.get(name)
        if held is not None and held.until > clocks.seconds():
            mine = held.owner == owner and held.rank <= rank
            if not mine:
                raise LockHeld(name, held.owner)
        self._held[name] = Held(owner, rank, inf)
        lease = Lease(name, f"{owner}#{rank}", inf, clocks.seconds())
        self._worker.lease = lease
        return lease

    async def _keep(self, lease: Lease) -> None:
        await lease.released.wait()

    async def _release(self, lease: Lease) -> None:
        held = self._held.get(lease.key)
        if held is None or f"{held.owner}#{held.rank}" != lease.token:
            return
        if self._worker.dead:
            self._held[lease.key] = held._replace(until=clocks.seconds() + LOCK_TTL_SECONDS)
        else:
            del self._held[lease.key]


class Line:
    """A worker's line to the model Odoo."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._world = worker.world

    async def look(self) -> Sight:
        forbid_open_transaction()
        await self._worker.pass_point(Place.LOOK)
        self._world.clock.pass_by(self._world.schedule.look_seconds / 2)
        sight = self._world.odoo.look(self._world.value(self._worker.posting_id))
        await self._worker.pass_point(Place.LOOKED)
        self._world.clock.pass_by(self._world.schedule.look_seconds / 2)
        return sight

    async def execute_kw(
        self,
        model: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        del model, kwargs, timeout_seconds
        forbid_open_transaction()
        world = self._world
        await self._expect_hold(method)
        reply, share = world.schedule.reply(method)
        sent = world.odoo.receive(self._worker.name, method, args, reply, share)
        await self._worker.pass_point(Place.SENT)
        world.clock.pass_by(CALL_SECONDS)
        await self._worker.pass_point(Place.CALLED)
        if reply in WITHOUT_ANSWER:
            world.clock.pass_by(TIMEOUT.total_seconds() - CALL_SECONDS)
        world.broken_answers += reply is Reply.NONSENSE
        sent.answered = reply in ANSWERED
        return answer(reply)

    async def _expect_hold(self, method: str) -> None:
        """Only the worker that has the posting calls, and never for one that has ended."""
        posting = await self._world.ledger.get(self._worker.posting_id)
        if (posting.status, posting.worker) != ("running", self._worker.name):
            self._world.odoo.broken.append(
                f"{self._worker.name} called {method}; the posting is {posting.status}"
                f" and {posting.worker} has it"
            )

    async def search_read(self, *_: Any, **__: Any) -> list[Any]:
        raise NotImplementedError

    async def read(self, *_: Any, **__: Any) -> list[Any]:
        raise NotImplementedError
