"""The engine under schedules that Hypothesis makes up: replies of Odoo, deaths, pauses, people.

Whatever happens, an effect is never brought about twice, no call is made while another one is in
doubt, what is written down is true, and every posting can be completed afterwards.

Ledger and PostgreSQL are real; Odoo, time and workers are those of `tests.property.model` and
`tests.property.world`. A failure prints its shortest schedule as Python. The schedules are always
the same ones; with `PROPERTY_EXAMPLES=5000` as many new ones are tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from enum import StrEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from service import clocks
from service.errors import WrongStatus
from service.posting import run as runs
from service.posting.ledger import QUEUED, RESUMABLE
from tests.property.model import EFFECTS, LIMIT, OF_METHOD, ModelTimeDatabase, Reply, use_model_time
from tests.property.world import ACTOR, Incident, Schedule, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from service.posting.ledger import Posting

T = TypeVar("T")

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "0"))
SEEDS = (1, 2)
ROUNDS_TO_COMPLETE = 8

INCIDENTS = st.lists(
    st.tuples(st.integers(0, 70), st.sampled_from(Incident)), min_size=1, max_size=4
)
TROUBLES = [reply for reply in Reply if reply is not Reply.OK]
SHARES = (1, 30, 60, 90, 99)
"""When a late effect comes, in percent of the settle time."""
REPLIES = st.lists(
    st.tuples(
        st.sampled_from(sorted(OF_METHOD)), st.sampled_from(TROUBLES), st.sampled_from(SHARES)
    ),
    min_size=1,
    max_size=5,
)


class Act(StrEnum):
    """What somebody does between two runs; the names of an incident mean the same."""

    ROLLS_BACK = "rolls back"
    COMPENSATES = "rolls back and undoes"
    APPROVES = "approves the bill"
    DISAPPROVES = "does not approve it"
    WAITS = "waits"
    WAITS_LONG = "waits long"
    CANCELED = "cancels"
    UNDONE_NOTE = "undoes the note"
    UNDONE_ORDER = "undoes the order"
    UNDONE_BILL = "undoes the bill"
    UNDONE_STAMP = "undoes the stamp"
    MADE_ORDER = "makes an order"
    MADE_BILL = "makes a bill"


class PostingMachine(RuleBasedStateMachine):
    """The life of one document."""

    runner: asyncio.Runner
    database: ModelTimeDatabase
    present: World

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).present = World(self.database)
        self.whole = True
        self.posting: Posting = self._do(self.world.accept())

    def _do(self, doing: Coroutine[Any, Any, T]) -> T:
        self.whole = False
        done = self.runner.run(doing)
        self.whole = True
        return done

    @property
    def status(self) -> str:
        return self.posting.status

    # -- what happens ------------------------------------------------------------------------

    @precondition(lambda self: self.status in QUEUED)
    @rule(incidents=INCIDENTS, replies=REPLIES, look_seconds=st.sampled_from((0.1, 0.7, 2.3, 3.0)))
    def a_worker_runs(
        self,
        incidents: list[tuple[int, Incident]],
        replies: list[tuple[str, Reply, int]],
        look_seconds: float,
    ) -> None:
        """A worker takes the posting, and much goes wrong."""
        schedule = Schedule(list(incidents), list(replies), look_seconds)
        self._do(self.world.work(self.posting.id, schedule))

    @precondition(lambda self: self.status in RESUMABLE)
    @rule()
    def somebody_resumes(self) -> None:
        """Whatever it stopped for."""
        self._do(self.world.ledger.resume(self.posting.id, ACTOR))

    @precondition(lambda self: self.status == "canceled")
    @rule()
    def the_document_comes_anew(self) -> None:
        """A canceled document may be posted again, with other values."""
        self.posting = self._do(self.world.accept())

    @precondition(lambda self: self.status == "completed")
    @rule()
    def another_document_comes(self) -> None:
        """As soon as one is completed."""
        self._do(self._verify_audits())
        self.world = type(self).present = World(self.database)
        self.posting = self._do(self.world.accept())

    @rule(act=st.sampled_from(Act))
    def somebody_acts(self, act: Act) -> None:
        """Ask for what the posting allows, do something in Odoo, or let time pass."""
        self._do(self._act(act))

    async def _act(self, act: Act) -> None:
        world = self.world
        match act:
            case Act.ROLLS_BACK | Act.COMPENSATES:
                ledger = world.ledger
                back = ledger.roll_back if act is Act.ROLLS_BACK else ledger.compensate
                with contextlib.suppress(WrongStatus):
                    await back(self.posting.id, ACTOR)
            case Act.APPROVES | Act.DISAPPROVES:
                world.odoo.approved = act is Act.APPROVES
            case Act.WAITS | Act.WAITS_LONG:
                world.clock.pass_by(LIMIT.total_seconds() * (0.3 if act is Act.WAITS else 2))
            case _:
                await world.meddle(Incident[act.name], self.posting.id)

    # -- what holds --------------------------------------------------------------------------

    @invariant()
    def nothing_was_done_wrong(self) -> None:
        """Neither a call nor a record."""
        assert self.world.odoo.broken == []

    @invariant()
    def the_posting_is_in_a_true_state(self) -> None:
        """What the ledger says is so in Odoo, and somebody will go on with what goes on."""
        self._do(self._true_state())

    async def _true_state(self) -> None:
        world = self.world
        self.posting = posting = await world.ledger.get(self.posting.id)
        if posting.status == "running":
            assert posting.worker in world.gone, f"{posting.worker} left it running"
        if posting.status in QUEUED:
            assert await self._has_job(), f"{posting.status} without a job"
        if posting.code == "internal_error":
            assert world.broken_answers, "the engine broke"
        for entry in await world.ledger.entries(posting.id):
            over = entry.number <= posting.step and entry.state in {"done", "found"}
            if over and entry.name not in world.odoo.undone:
                there = world.odoo.there(entry.name, world.value(posting.id))
                assert there, f"{entry.name} is {entry.state} and not there"

    async def _has_job(self) -> bool:
        query = text("SELECT EXISTS (SELECT FROM pgqueuer WHERE payload = :payload)")
        async with self.world.database.transaction() as connection:
            payload = {"payload": str(self.posting.id).encode()}
            return bool(await connection.scalar(query, payload))

    def teardown(self) -> None:
        """In the end Odoo is well, a person resumes, and the document is posted once."""
        if self.whole and not self.world.odoo.broken:
            self._do(self._complete())
            self.nothing_was_done_wrong()

    async def _complete(self) -> None:
        world = self.world
        world.odoo.approved = True
        already = self.status == "completed"
        for _ in range(ROUNDS_TO_COMPLETE):
            self.posting = await world.ledger.get(self.posting.id)
            if self.status == "completed":
                break
            if self.status == "canceled":
                self.posting = await world.accept()
            elif self.status not in QUEUED:
                await world.ledger.resume(self.posting.id, ACTOR)
            await world.work(self.posting.id, Schedule())
            world.clock.pass_by(3)
        assert self.status == "completed", (self.status, self.posting.code, self.posting.message)
        if not already:
            value = world.value(self.posting.id)
            assert all(world.odoo.there(effect, value) for effect in EFFECTS)
        await self._verify_audits()

    async def _verify_audits(self) -> None:
        for posting_id in self.world.values:
            assert (await self.world.ledger.verify(posting_id)).valid


def profile() -> settings:
    """The same few schedules each time, or many new ones."""
    return settings(
        max_examples=EXAMPLES or 50,
        stateful_step_count=10,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def machine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[PostingMachine]]:
    """The machine on a fresh database, in the model's time."""
    with asyncio.Runner() as runner:
        database = ModelTimeDatabase(database_url)
        runner.run(use_model_time(database))

        class Machine(PostingMachine):
            """Of this database."""

        Machine.runner, Machine.database = runner, database

        async def wait_for(waiting: Coroutine[Any, Any, Any], timeout: float) -> None:  # noqa: ASYNC109  asyncio's
            await Machine.present.wait_for(waiting, timeout)

        monkeypatch.setattr(clocks, "seconds", lambda: database.clock.now)
        monkeypatch.setattr(runs, "asyncio", SimpleNamespace(wait_for=wait_for))
        yield Machine
        runner.run(database.close())


@pytest.mark.timeout(0 if EXAMPLES else 120)
@pytest.mark.parametrize("number", SEEDS)
def test_any_schedule_ends_in_one_effect_of_each_step(
    machine: type[PostingMachine], number: int
) -> None:
    """Whatever Odoo, workers and people do."""
    seeded = machine if EXAMPLES else seed(number)(machine)
    run_state_machine_as_test(seeded, settings=profile())


def faster_during_a_conflict(state: PostingMachine) -> None:
    """The call is not made again before another look."""
    replies = [("make_bill", Reply.OTHER_WAS_FASTER, 1)]
    state.a_worker_runs(incidents=[], replies=replies, look_seconds=0.1)


def done_during_the_last_look(state: PostingMachine) -> None:
    """What a look did not show that began before the end of the settle time may have come since."""
    state.a_worker_runs(incidents=[], replies=[("make_bill", Reply.LATE, 99)], look_seconds=2.3)


def canceled_with_a_write_under_way(state: PostingMachine) -> None:
    """It is over when the write has come, so that it spoils nothing of the next posting."""
    state.a_worker_runs(
        incidents=[(6, Incident.DIES)], replies=[("write", Reply.LATE, 60)], look_seconds=0.1
    )
    state.the_posting_is_in_a_true_state()
    state.somebody_acts(Act.CANCELED)


@pytest.mark.parametrize(
    "schedule",
    [faster_during_a_conflict, done_during_the_last_look, canceled_with_a_write_under_way],
)
def test_a_schedule_that_once_failed(
    machine: type[PostingMachine], schedule: Callable[[PostingMachine], None]
) -> None:
    """Found by the machine, or made of its parts."""
    state = machine()

    schedule(state)

    state.nothing_was_done_wrong()
    state.the_posting_is_in_a_true_state()
    state.teardown()
