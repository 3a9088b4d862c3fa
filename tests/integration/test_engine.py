"""The engine on real servers, with a scripted Odoo and a definition of three steps."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlalchemy import text

from service import jobs, workers
from service.database import forbid_open_transaction
from service.errors import LivePosting, LockUnavailable, TransactionOpen, UnknownName, WrongStatus
from service.locks import Lease, Locks
from service.odoo.errors import (
    Effect,
    GatewayError,
    LockConflict,
    OdooError,
    TimedOut,
    Unreachable,
    UserFault,
)
from service.posting import audit
from service.posting import run as runs
from service.posting.engine import Engine
from service.posting.ledger import Ledger
from service.posting.step import (
    Actor,
    Blocked,
    Call,
    Definition,
    Deployment,
    Done,
    NewPosting,
    Observation,
    Pending,
    Profile,
    Settle,
    Step,
    Work,
    write,
)
from service.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.database import Database
    from service.posting.ledger import Claim, Entry

ACTOR = Actor(name="tester", ip="127.0.0.1")
TODAY = date(2026, 11, 24)


class Paper(BaseModel):
    """The document that the test definition posts."""

    name: str


class Found(BaseModel):
    """What it finds."""

    order: int | None = None


@dataclass
class ScriptedOdoo:
    """Counts calls; each method's effect and trouble are the test's own."""

    state: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    scripts: dict[str, list[Callable[[], Awaitable[Any]]]] = field(default_factory=dict)
    read_trouble: list[OdooError] = field(default_factory=list)

    async def look(self, name: str) -> Any:
        forbid_open_transaction()
        if self.read_trouble:
            raise self.read_trouble.pop(0)
        return self.state.get(name)

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
        self.calls.append(method)
        script = self.scripts.get(method)
        if script:
            return await script.pop(0)()
        if method == "write":
            self.state |= args[1]
        elif method == "cancel_order":
            self.state["make_order"] = 0
        else:
            self.state[method] = self.state.get(method, 0) + 1
        return True

    async def search_read(self, *_: Any, **__: Any) -> list[Any]:
        raise NotImplementedError

    async def read(self, *_: Any, **__: Any) -> list[Any]:
        raise NotImplementedError


TestWork = Work[Paper, Profile, Found]


async def note(work: TestWork) -> Observation:
    """A repeatable step: two fields, written one by one."""
    odoo = work.odoo
    assert isinstance(odoo, ScriptedOdoo)
    for name in ("first", "second"):
        before = {name: await odoo.look(name)}
        if before != {name: work.subject.name}:
            return Pending(write("paper", 1, before, {name: work.subject.name}))
    return Done()


async def order(work: TestWork) -> Observation:
    """A step whose call creates something."""
    odoo = work.odoo
    assert isinstance(odoo, ScriptedOdoo)
    made = await odoo.look("make_order")
    if made == "odd":
        return Blocked("odd", "look at it", "needs_attention")
    if made == "wait":
        return Blocked("approval", "somebody must approve", "waiting", QUICK)
    if made:
        return Done({"order": 7}, "order 7")
    return Pending(Call(model="paper", method="make_order", args=[[1]]))


async def undo_order(work: TestWork) -> Observation:
    """No order is left."""
    odoo = work.odoo
    assert isinstance(odoo, ScriptedOdoo)
    made = await odoo.look("make_order")
    if made == "posted":
        return Blocked("posted", "reverse it by hand", "needs_attention")
    if made:
        return Pending(Call(model="paper", method="cancel_order", args=[[7]]))
    return Done({"order": None})


async def stamp(work: TestWork) -> Observation:
    """A step that the posting can do without."""
    odoo = work.odoo
    assert isinstance(odoo, ScriptedOdoo)
    assert work.facts.order == 7
    if await odoo.look("stamp"):
        return Done()
    return Pending(Call(model="paper", method="stamp", args=[[7]]))


QUICK = timedelta(milliseconds=20)


def definition(*, late_arrival: bool = True, limit: float = 0.4) -> Definition[Any, Any, Any]:
    """Three steps: written, created, optional."""
    settle = Settle(QUICK, timedelta(seconds=limit), late_arrival=late_arrival)
    wait = timedelta(seconds=0.2)
    return Definition(
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
                timeout=wait,
                settle=settle,
            ),
            Step(
                number=2,
                name="order",
                title="Order",
                observe=order,
                undo=undo_order,
                timeout=wait,
                settle=settle,
            ),
            Step(
                number=3,
                name="stamp",
                title="Stamp",
                observe=stamp,
                required=False,
                timeout=wait,
                settle=settle,
            ),
        ),
    )


class WatchedLocks(Locks):
    """Locks that remember the leases they gave."""

    leases: list[Lease]

    @asynccontextmanager
    async def hold(self, key: str, *, owner: str, rank: int) -> AsyncIterator[Lease]:
        async with super().hold(key, owner=owner, rank=rank) as lease:
            self.leases.append(lease)
            yield lease


@dataclass
class Bench:
    """An engine with all that it works on."""

    ledger: Ledger
    engine: Engine
    locks: WatchedLocks
    odoo: ScriptedOdoo
    stopping: asyncio.Event
    announced: list[audit.Record]
    kind: Definition[Any, Any, Any]

    async def accept(self, name: str = "A") -> UUID:
        """A posting that waits."""
        posting = await self.ledger.accept(
            NewPosting(
                id=uuid4(),
                kind="paper",
                connection="main",
                document_key=name,
                subject=Paper(name=name),
                total_steps=3,
                reference=None,
                actor=ACTOR,
            )
        )
        return posting.id

    async def actions(self, posting_id: UUID) -> list[str]:
        """What the audit says, in short: `2 start`."""
        records = await self.ledger.history(posting_id)
        return [f"{record.step} {record.action}" for record in records]

    async def status(self, posting_id: UUID) -> tuple[str, str | None]:
        """Status and code."""
        posting = await self.ledger.get(posting_id)
        return posting.status, posting.code


@pytest.fixture
def bench(database: Database, redis: Redis) -> Bench:
    """An engine on fresh servers."""
    return make_bench(database, redis, definition())


def make_bench(database: Database, redis: Redis, kind: Definition[Any, Any, Any]) -> Bench:
    """An engine for a definition."""
    announced: list[audit.Record] = []

    async def announce(*told: tuple[audit.Record, int]) -> None:
        announced.extend(record for record, _ in told)

    odoo = ScriptedOdoo()

    async def deploy(name: str, _: str) -> Deployment:
        return Deployment(connection=name, odoo=odoo, profile=Profile())

    async def announce_batch(_: object) -> None:
        """No posting here is of a batch."""

    ledger = Ledger(database, jobs.POSTINGS.enqueue, announce, announce_batch)
    stopping = asyncio.Event()
    locks = WatchedLocks(redis, ttl=timedelta(seconds=1))
    locks.leases = []
    engine = Engine(
        ledger=ledger,
        locks=locks,
        definitions={"paper": kind},
        deploy=deploy,
        worker="test",
        silence=timedelta(seconds=1),
        pulse=Pulse(timedelta(minutes=5)),
        stopping=stopping,
    )
    return Bench(ledger, engine, locks, odoo, stopping, announced, kind)


async def trouble(error: OdooError) -> Any:
    """Answer a call with an error."""
    raise error


async def test_a_clean_posting_makes_each_call_once(bench: Bench) -> None:
    """Every step is started, done, and recorded in order."""
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls == ["write", "write", "make_order", "stamp"]
    assert await bench.actions(posting_id) == [
        "0 accept",
        "0 claim",
        "1 start",
        "1 done",
        "1 start",
        "1 done",
        "2 start",
        "2 done",
        "3 start",
        "3 done",
        "0 complete",
    ]
    assert (await bench.ledger.get(posting_id)).facts == {"order": 7}
    assert (await bench.ledger.verify(posting_id)).valid


async def test_announcements_are_the_audit_in_order(bench: Bench) -> None:
    """Whoever listens hears exactly what was committed."""
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert bench.announced == await bench.ledger.history(posting_id)


async def test_work_that_is_done_already_is_found(bench: Bench) -> None:
    """Nothing is called for what Odoo shows to be done."""
    bench.odoo.state = {"first": "A", "second": "A", "make_order": 1, "stamp": 1}
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert bench.odoo.calls == []
    assert (await bench.actions(posting_id))[2:] == ["1 found", "2 found", "3 found", "0 complete"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(TimedOut("slow"), id="timeout"),
        pytest.param(GatewayError("502"), id="gateway"),
        pytest.param(Unreachable("cut"), id="connection lost"),
    ],
)
async def test_a_late_success_is_found_and_not_repeated(bench: Bench, error: OdooError) -> None:
    """A call of unknown outcome is settled by looking."""

    async def late() -> Any:
        async def arrive() -> None:
            bench.odoo.state["make_order"] = 1

        asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(arrive()))
        raise error

    bench.odoo.scripts["make_order"] = [late]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 1
    assert "2 unknown" in await bench.actions(posting_id)
    [settled] = [
        record for record in await bench.ledger.history(posting_id) if record.action == "settle"
    ]
    [started] = [
        record
        for record in await bench.ledger.history(posting_id)
        if record.action == "start" and record.step == 2
    ]
    assert settled.settles == started.seq


async def test_an_effect_that_never_comes_needs_a_person(bench: Bench) -> None:
    """A step whose effect could still arrive is never called again by itself."""
    bench.odoo.scripts["make_order"] = [lambda: trouble(TimedOut("slow"))]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("needs_attention", "outcome_unknown")
    assert bench.odoo.calls.count("make_order") == 1


async def test_a_person_who_resumes_allows_another_attempt(bench: Bench) -> None:
    """Resuming after the settle time calls the step again, when it is still not done."""
    bench.odoo.scripts["make_order"] = [lambda: trouble(TimedOut("slow"))]
    posting_id = await bench.accept()
    await bench.engine.run(posting_id)

    await bench.ledger.resume(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 2


async def test_a_step_that_cannot_arrive_late_is_called_again(
    database: Database, redis: Redis
) -> None:
    """After the settle time, when it is still pending."""
    bench = make_bench(database, redis, definition(late_arrival=False))
    bench.odoo.scripts["make_order"] = [lambda: trouble(TimedOut("slow"))]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 2


async def test_a_repeatable_write_of_unknown_outcome_is_sent_again_at_once(bench: Bench) -> None:
    """Fixed values may be written twice."""
    bench.odoo.scripts["write"] = [lambda: trouble(TimedOut("slow"))]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("write") == 3


async def test_a_fault_after_the_commit_is_a_success(bench: Bench) -> None:
    """What Odoo shows decides, and not its message."""

    async def made_and_refused() -> Any:
        bench.odoo.state["make_order"] = 1
        raise UserFault("it must be in draft")

    bench.odoo.scripts["make_order"] = [made_and_refused]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    [done] = [
        record
        for record in await bench.ledger.history(posting_id)
        if record.step == 2 and record.action == "done"
    ]
    assert done.status == "warning"
    assert done.code == "odoo_user_fault"


async def test_a_fault_without_effect_fails_and_can_be_resumed(bench: Bench) -> None:
    """The posting stops with the fault's code; a resume goes on at that step."""
    bench.odoo.scripts["make_order"] = [lambda: trouble(UserFault("not yet"))]
    posting_id = await bench.accept()
    await bench.engine.run(posting_id)
    assert await bench.status(posting_id) == ("failed", "odoo_user_fault")

    await bench.ledger.resume(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    records = await bench.ledger.history(posting_id)
    [point] = [record for record in records if record.action == "resume_point"]
    assert "step 2" in point.message


async def test_a_lock_conflict_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odoo rolled it back: the same call may succeed."""
    monkeypatch.setattr(runs, "CONFLICT_PAUSE", QUICK)
    bench.odoo.scripts["make_order"] = [lambda: trouble(LockConflict("locked"))] * 2
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 3


async def test_an_optional_step_that_fails_is_a_warning(bench: Bench) -> None:
    """The audit says that it was left out, and does not call it a success."""
    bench.odoo.scripts["stamp"] = [lambda: trouble(UserFault("no ink"))]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    [skipped] = [
        record for record in await bench.ledger.history(posting_id) if record.action == "skip"
    ]
    assert (skipped.step, skipped.status, skipped.code) == (3, "warning", "odoo_user_fault")


async def test_a_probe_that_fails_stops_the_posting(bench: Bench) -> None:
    """Not being able to look never means that nothing is there."""
    bench.odoo.read_trouble = [Unreachable("down", effect=Effect.NONE)]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("failed", "odoo_unreachable")
    assert bench.odoo.calls == []


async def test_a_call_that_was_never_sent_fails_without_doubt(bench: Bench) -> None:
    """A refused connection proves that nothing was sent."""
    bench.odoo.scripts["make_order"] = [lambda: trouble(Unreachable("refused", effect=Effect.NONE))]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("failed", "odoo_unreachable")


async def test_trouble_while_settling_is_looked_through(bench: Bench) -> None:
    """Odoo may be away for a while: the effect is looked for until the settle time is over."""

    async def made_and_cut() -> Any:
        bench.odoo.state["make_order"] = 1
        bench.odoo.read_trouble = [Unreachable("away"), GatewayError("502")]
        raise TimedOut("slow")

    bench.odoo.scripts["make_order"] = [made_and_cut]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)


async def test_a_blocked_step_stops_with_its_own_code(bench: Bench) -> None:
    """The definition's code and status are the posting's."""
    bench.odoo.state["make_order"] = "odd"
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("needs_attention", "odd")


async def test_a_defect_of_a_definition_ends_in_a_true_state(bench: Bench) -> None:
    """An unexpected exception is the posting's failure, with the call still in doubt."""

    async def broken() -> Any:
        raise ZeroDivisionError

    bench.odoo.scripts["make_order"] = [broken]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("failed", "internal_error")
    [entry] = [entry for entry in await bench.ledger.entries(posting_id) if entry.number == 2]
    assert entry.in_doubt


class Killed(BaseException):
    """Ends a run as kill -9 would: nothing after it happens."""


async def kill() -> Any:
    """Die during a call."""
    raise Killed


async def test_a_killed_worker_is_followed_without_a_second_call(bench: Bench) -> None:
    """The next claim settles the call in doubt before it does anything else."""

    async def made_and_killed() -> Any:
        bench.odoo.state["make_order"] = 1
        raise Killed

    bench.odoo.scripts["make_order"] = [made_and_killed]
    posting_id = await bench.accept()
    with pytest.raises(Killed):
        await bench.engine.run(posting_id)

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 1
    assert "2 settle" in await bench.actions(posting_id)


async def test_a_take_over_waits_for_the_settle_time(bench: Bench) -> None:
    """The effect of a dead worker's call may come after the take-over began."""
    bench.odoo.scripts["make_order"] = [kill]
    posting_id = await bench.accept()
    with pytest.raises(Killed):
        await bench.engine.run(posting_id)

    def arrive() -> None:
        bench.odoo.state["make_order"] = 1

    asyncio.get_running_loop().call_later(0.15, arrive)
    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 1


async def test_nothing_is_changed_while_a_call_is_in_doubt(bench: Bench) -> None:
    """Earlier steps are looked at, but not done again, before the doubt is settled."""
    bench.odoo.scripts["make_order"] = [kill]
    posting_id = await bench.accept()
    with pytest.raises(Killed):
        await bench.engine.run(posting_id)
    bench.odoo.state["first"] = "changed by somebody"

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("needs_attention", "outcome_unknown")
    assert bench.odoo.calls.count("write") == 2


async def test_the_same_document_twice_is_one_posting(bench: Bench) -> None:
    """The second one is refused with the id of the first; once completed, it is the first."""
    posting_id = await bench.accept()
    with pytest.raises(LivePosting) as refused:
        await bench.accept()
    assert refused.value.posting_id == posting_id

    await bench.engine.run(posting_id)

    assert await bench.accept() == posting_id


async def test_many_at_once_make_one_posting(bench: Bench) -> None:
    """However many ask at the same moment."""
    answers = await asyncio.gather(*(bench.accept() for _ in range(20)), return_exceptions=True)

    accepted = [answer for answer in answers if isinstance(answer, UUID)]
    refused = [answer for answer in answers if isinstance(answer, LivePosting)]
    assert (len(accepted), len(refused)) == (1, 19)


async def test_an_old_fence_writes_and_calls_nothing_more(bench: Bench) -> None:
    """A worker that was taken over during a call leaves no trace afterwards."""

    async def taken_over_meanwhile() -> Any:
        bench.odoo.state["make_order"] = 1
        await bench.ledger.claim(posting_id, "another", timedelta(0))
        return True

    bench.odoo.scripts["make_order"] = [taken_over_meanwhile]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert (await bench.actions(posting_id))[-1] == "0 claim"
    assert bench.odoo.calls[-1] == "make_order"


async def test_a_lost_lock_hands_the_posting_over(bench: Bench, redis: Redis) -> None:
    """Without the lock no further call is made."""

    async def lock_taken() -> Any:
        bench.odoo.state["make_order"] = 1
        await redis.set("eclusa:lock:main:paper:A", "somebody#99")
        await asyncio.wait_for(bench.locks.leases[-1].lost.wait(), 5)
        return True

    bench.odoo.scripts["make_order"] = [lock_taken]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert (await bench.status(posting_id))[0] == "pending"
    assert bench.odoo.calls[-1] == "make_order"


async def test_a_stopping_worker_hands_over_between_calls(bench: Bench) -> None:
    """The call under way is recorded; the next step is somebody else's."""

    async def told_to_stop() -> Any:
        bench.odoo.state["first"] = "A"
        bench.stopping.set()
        return True

    bench.odoo.scripts["write"] = [told_to_stop]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert (await bench.status(posting_id))[0] == "pending"
    assert bench.odoo.calls == ["write"]


async def test_a_deployment_that_is_gone_stops_the_posting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was taken out of the configuration can come back: it is resumed then."""

    async def gone(name: str, _: str) -> Deployment:
        raise UnknownName("connection", name)

    posting_id = await bench.accept()
    with monkeypatch.context() as patch:
        patch.setattr(bench.engine, "_deploy", gone)
        await bench.engine.run(posting_id)
    assert await bench.status(posting_id) == ("failed", "not_deployed")

    await bench.ledger.resume(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)


async def test_a_waiting_posting_does_not_fill_its_audit(bench: Bench) -> None:
    """Looking again adds the claim and the stop, and nothing about the steps before."""
    bench.odoo.state["make_order"] = "wait"
    posting_id = await bench.accept()
    await bench.engine.run(posting_id)
    assert await bench.status(posting_id) == ("waiting", "approval")
    before = len(await bench.actions(posting_id))

    await bench.engine.run(posting_id)

    assert (await bench.actions(posting_id))[before:] == ["0 claim", "2 stop"]


async def test_rollback_forgets_the_links_and_a_resume_finds_them_again(bench: Bench) -> None:
    """Nothing is made twice after a rollback."""
    bench.odoo.scripts["stamp"] = [lambda: trouble(UserFault("x"))]
    bench.odoo.state["make_order"] = "odd"
    posting_id = await bench.accept()
    await bench.engine.run(posting_id)
    rolled_back = await bench.ledger.roll_back(posting_id, ACTOR)
    assert (rolled_back.status, rolled_back.facts, rolled_back.step) == ("rolled_back", {}, 0)
    bench.odoo.state["make_order"] = 1

    await bench.ledger.resume(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 0


async def test_a_completed_posting_is_neither_resumed_nor_rolled_back(bench: Bench) -> None:
    """What is done stays done."""
    posting_id = await bench.accept()
    await bench.engine.run(posting_id)

    with pytest.raises(WrongStatus):
        await bench.ledger.resume(posting_id, ACTOR)
    with pytest.raises(WrongStatus):
        await bench.ledger.roll_back(posting_id, ACTOR)


async def test_a_canceled_posting_is_never_worked_on(bench: Bench) -> None:
    """Canceled before a worker had it: no call is made, and the document may be posted anew."""
    posting_id = await bench.accept()

    canceled = await bench.ledger.cancel(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert canceled.status == "canceled"
    assert bench.odoo.calls == []
    assert await bench.actions(posting_id) == ["0 accept", "0 cancel"]
    assert await bench.accept() != posting_id


async def test_a_cancel_between_two_calls_ends_a_running_posting_at_once(bench: Bench) -> None:
    """The worker finds the fence raised, and calls nothing more."""

    async def look_and_cancel(work: TestWork) -> Observation:
        await bench.ledger.cancel(posting_id, ACTOR)
        return await order(work)

    first, _, third = bench.kind.steps
    second = replace(bench.kind.steps[1], observe=look_and_cancel)
    bench.engine._definitions = {"paper": replace(bench.kind, steps=(first, second, third))}
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert (await bench.status(posting_id))[0] == "canceled"
    assert bench.odoo.calls == ["write", "write"]
    [cancel] = [one for one in await bench.ledger.history(posting_id) if one.action == "cancel"]
    assert (cancel.actor, cancel.ip) == (ACTOR.name, ACTOR.ip)


async def test_a_cancel_during_a_call_waits_for_its_outcome(bench: Bench) -> None:
    """The effect is recorded, with its facts, and then the posting ends."""

    async def canceled_meanwhile() -> Any:
        asked = await bench.ledger.cancel(posting_id, ACTOR)
        assert (asked.status, asked.cancel_requested_by) == ("running", ACTOR.name)
        bench.odoo.state["make_order"] = 1

    bench.odoo.scripts["make_order"] = [canceled_meanwhile]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    posting = await bench.ledger.get(posting_id)
    assert (posting.status, posting.facts) == ("canceled", {"order": 7})
    assert await bench.actions(posting_id) == [
        "0 accept",
        "0 claim",
        "1 start",
        "1 done",
        "1 start",
        "1 done",
        "2 start",
        "2 cancel_requested",
        "2 done",
        "0 cancel",
    ]
    assert (await bench.ledger.verify(posting_id)).valid


async def test_a_cancel_of_a_call_in_doubt_is_settled_by_another_worker(bench: Bench) -> None:
    """Killed during the call, then canceled: the effect is looked for before it ends."""
    bench.odoo.scripts["make_order"] = [kill]
    posting_id = await bench.accept()
    with pytest.raises(Killed):
        await bench.engine.run(posting_id)
    asked = await bench.ledger.cancel(posting_id, ACTOR)
    assert asked.status == "running"
    asyncio.get_running_loop().call_later(0.1, bench.odoo.state.update, {"make_order": 1})

    await bench.engine.run(posting_id)

    posting = await bench.ledger.get(posting_id)
    assert (posting.status, posting.facts) == ("canceled", {"order": 7})
    assert bench.odoo.calls.count("make_order") == 1


async def test_a_refused_call_of_a_posting_that_is_to_end_ends_it(bench: Bench) -> None:
    """What was asked for decides, and the record says what had happened."""

    async def refused_and_canceled() -> Any:
        await bench.ledger.cancel(posting_id, ACTOR)
        raise UserFault("no")

    bench.odoo.scripts["make_order"] = [refused_and_canceled]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert (await bench.status(posting_id))[0] == "canceled"
    assert "no" in (await bench.ledger.history(posting_id))[-1].message


async def test_an_effect_that_never_came_is_not_hidden_by_a_cancel(bench: Bench) -> None:
    """In doubt at the end of the settle time: a person looks first, and may cancel then."""

    async def cut_and_canceled() -> Any:
        await bench.ledger.cancel(posting_id, ACTOR)
        raise TimedOut("slow")

    bench.odoo.scripts["make_order"] = [cut_and_canceled]
    posting_id = await bench.accept()

    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("needs_attention", "outcome_unknown")
    assert (await bench.ledger.cancel(posting_id, ACTOR)).status == "canceled"


async def test_a_resume_takes_a_wish_to_cancel_back(bench: Bench) -> None:
    """The last word counts."""

    async def cut_and_canceled() -> Any:
        await bench.ledger.cancel(posting_id, ACTOR)
        raise TimedOut("slow")

    bench.odoo.scripts["make_order"] = [cut_and_canceled]
    posting_id = await bench.accept()
    await bench.engine.run(posting_id)

    await bench.ledger.resume(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("completed", None)


async def test_a_posting_that_is_over_cannot_be_canceled(bench: Bench) -> None:
    """Neither a completed one nor one that was canceled."""
    completed = await bench.accept("A")
    await bench.engine.run(completed)
    canceled = await bench.accept("B")
    await bench.ledger.cancel(canceled, ACTOR)

    for posting_id in (completed, canceled):
        with pytest.raises(WrongStatus):
            await bench.ledger.cancel(posting_id, ACTOR)


async def stopped_at_stamp(bench: Bench, state: object = 1) -> UUID:
    """A posting that made an order and was stopped afterwards by a defect."""

    async def broken() -> Any:
        raise ZeroDivisionError

    bench.odoo.scripts["stamp"] = [broken]
    posting_id = await bench.accept()
    await bench.engine.run(posting_id)
    assert await bench.status(posting_id) == ("failed", "internal_error")
    bench.odoo.state["make_order"] = state
    bench.odoo.calls.clear()
    return posting_id


async def test_compensation_undoes_what_the_posting_did(bench: Bench) -> None:
    """Last step first; then the posting is rolled back and may start from nothing."""
    posting_id = await stopped_at_stamp(bench)

    await bench.ledger.compensate(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    posting = await bench.ledger.get(posting_id)
    assert (posting.status, posting.facts, posting.step) == ("rolled_back", {}, 0)
    assert bench.odoo.calls == ["cancel_order"]
    states = {entry.number: entry.state for entry in await bench.ledger.entries(posting_id)}
    assert states[2] == "undone"

    await bench.ledger.resume(posting_id, ACTOR)
    await bench.engine.run(posting_id)
    assert await bench.status(posting_id) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 1


async def test_compensation_leaves_what_others_did(bench: Bench) -> None:
    """An order that was found is not the posting's own."""
    bench.odoo.state["make_order"] = 1
    posting_id = await stopped_at_stamp(bench)

    await bench.ledger.compensate(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert (await bench.status(posting_id))[0] == "rolled_back"
    assert bench.odoo.calls == []


async def test_what_cannot_be_undone_needs_a_person(bench: Bench) -> None:
    """The posting stops with the step's own code, and may be resumed forwards."""
    posting_id = await stopped_at_stamp(bench, "posted")

    await bench.ledger.compensate(posting_id, ACTOR)
    await bench.engine.run(posting_id)

    assert await bench.status(posting_id) == ("needs_attention", "posted")
    assert bench.odoo.calls == []


async def test_a_killed_compensation_is_settled_and_goes_on(bench: Bench) -> None:
    """The call that undoes is looked for like any other, and is not made twice."""
    posting_id = await stopped_at_stamp(bench)

    async def undone_and_killed() -> Any:
        bench.odoo.state["make_order"] = 0
        raise Killed

    bench.odoo.scripts["cancel_order"] = [undone_and_killed]
    await bench.ledger.compensate(posting_id, ACTOR)
    with pytest.raises(Killed):
        await bench.engine.run(posting_id)

    await bench.engine.run(posting_id)

    assert (await bench.status(posting_id))[0] == "rolled_back"
    assert bench.odoo.calls == ["cancel_order"]


async def test_nothing_is_undone_while_a_call_is_in_doubt(bench: Bench) -> None:
    """The effect of a killed worker's call may come yet: it is waited for, then undone."""
    bench.odoo.scripts["make_order"] = [kill]
    posting_id = await bench.accept()
    with pytest.raises(Killed):
        await bench.engine.run(posting_id)
    await bench.ledger.hand_over(await claimed(bench, posting_id), "test", timedelta(0))
    await bench.ledger.compensate(posting_id, ACTOR)
    asyncio.get_running_loop().call_later(0.15, bench.odoo.state.update, {"make_order": 1})

    await bench.engine.run(posting_id)

    assert (await bench.status(posting_id))[0] == "rolled_back"
    assert bench.odoo.calls == ["write", "write", "make_order", "cancel_order"]


async def claimed(bench: Bench, posting_id: UUID) -> Claim:
    """The posting in the hands of another worker."""
    claim = await bench.ledger.claim(posting_id, "another", timedelta(0))
    assert claim is not None
    return claim


async def test_a_posting_of_a_worker_that_lives_is_left_to_it(
    bench: Bench, database: Database
) -> None:
    """Another job of it takes nothing over, until its worker was silent long enough."""
    posting_id = await bench.accept()
    await claimed(bench, posting_id)
    async with database.transaction() as connection:
        await workers.show(connection, "another")

    assert await bench.engine.claim(posting_id) is None

    async with database.transaction() as connection:
        await workers.leave(connection, "another")
    assert await bench.engine.claim(posting_id) is not None


async def test_a_worker_that_stood_still_calls_nothing(bench: Bench) -> None:
    """Stopped between the intent and the call: the call is not made, and is not in doubt."""
    posting_id = await bench.accept()
    bench.odoo.state = {"first": "A", "second": "A"}

    class StandingStill(Ledger):
        async def start(self, claim: Claim, *more: Any) -> Entry:
            entry = await super().start(claim, *more)
            bench.engine._pulse._stalls += 1
            return entry

    bench.engine._ledger.__class__ = StandingStill
    await bench.engine.run(posting_id)

    assert bench.odoo.calls == []
    assert (await bench.status(posting_id))[0] == "pending"
    assert (await bench.actions(posting_id))[-2:] == ["2 fault", "0 pause"]

    bench.engine._ledger.__class__ = Ledger
    await bench.engine.run(posting_id)
    assert await bench.status(posting_id) == ("completed", None)


async def test_without_redis_nothing_is_even_claimed(bench: Bench, redis: Redis) -> None:
    """An outage leaves no trace in the audit of those that wait."""
    posting_id = await bench.accept()
    bench.locks._redis = Redis(unix_socket_path="/nowhere")
    with pytest.raises(LockUnavailable):
        await bench.engine.run(posting_id)
    bench.locks._redis = redis

    assert await bench.actions(posting_id) == ["0 accept"]


async def test_an_audit_that_cannot_be_written_spoils_no_other_posting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is not recorded without it, the next posting is, and a resume finds the effect."""
    append = audit.append

    async def refuse(connection: AsyncConnection, *records: audit.Record) -> None:
        if any(record.action == "done" and record.step == 2 for record in records):
            await connection.execute(text("SELECT 1 / 0"))
        await append(connection, *records)

    monkeypatch.setattr(audit, "append", refuse)
    broken = await bench.accept("one")
    await bench.engine.run(broken)
    monkeypatch.setattr(audit, "append", append)
    other = await bench.accept("two")
    await bench.engine.run(other)

    assert await bench.status(broken) == ("failed", "internal_error")
    entries = {entry.number: entry.state for entry in await bench.ledger.entries(broken)}
    assert entries[2] == "started"
    assert await bench.status(other) == ("completed", None)
    await bench.ledger.resume(broken, ACTOR)
    await bench.engine.run(broken)
    assert await bench.status(broken) == ("completed", None)
    assert bench.odoo.calls.count("make_order") == 1
    assert (await bench.ledger.verify(broken)).valid


async def test_a_network_call_inside_a_transaction_raises(database: Database) -> None:
    """The guard sees the transaction of this task and of the one that started it."""
    async with database.transaction():
        with pytest.raises(TransactionOpen):
            forbid_open_transaction()

        async def child() -> None:
            forbid_open_transaction()

        with pytest.raises(TransactionOpen):
            await asyncio.create_task(child())

    forbid_open_transaction()
