"""Whatever happens to the source and to the runs: the mirror converges to the source."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from service.database import Database
from service.simulator.changes import Change, Scheduled
from service.simulator.errors import DatabaseError
from service.simulator.faults import Fault
from tests.factories.syncing import LINE, Syncing, syncing

if TYPE_CHECKING:
    from service.simulator.changes import Action
    from service.simulator.faults import Kind

LINES = 60
PAGE = 10
AGE = 600
LATE = 3
KINDS: tuple[Kind, ...] = ("gateway_502", "reply_lost", "truncated", "access_error")


@dataclass(frozen=True)
class Edit:
    """Rows change in Odoo."""

    action: Action
    count: int

    @property
    def change(self) -> Change:
        """What the simulator is to do."""
        return Change(action=self.action, model=LINE, count=self.count)


@dataclass(frozen=True)
class Late:
    """A transaction that is open while runs come and go: begun now, committed at the next one."""

    edit: Edit


@dataclass(frozen=True)
class Trouble:
    """A search of the next run fails, or is answered in part."""

    kind: Kind
    call: int
    rows: int


@dataclass(frozen=True)
class Meanwhile:
    """Rows change between two calls of the next run."""

    edit: Edit
    call: int


@dataclass(frozen=True)
class Sync:
    """A run; `killed`: its worker is gone after so many calls, and another goes on."""

    mode: Literal["incremental", "full"]
    killed: int | None


edits = st.builds(
    Edit,
    st.sampled_from(["write", "copy", "delete"]),
    st.integers(1, 12),
)
calls = st.integers(1, 9)
happenings = st.lists(
    st.one_of(
        edits,
        st.builds(Late, st.builds(Edit, st.sampled_from(["write", "copy"]), st.integers(1, 5))),
        st.builds(Trouble, st.sampled_from(KINDS), calls, st.integers(0, PAGE - 1)),
        st.builds(Meanwhile, edits, calls),
        st.builds(Sync, st.sampled_from(["incremental", "full"]), st.none() | calls),
    ),
    max_size=14,
)


@dataclass
class Story:
    """Plays what happens to one source and its mirror."""

    stage: Syncing
    open: list[int] = field(default_factory=list)

    async def happen(self, one: Edit | Late | Trouble | Meanwhile | Sync) -> None:
        """Let it happen."""
        world = self.stage.simulator.world
        match one:
            case Edit():
                world.change(one.change)
            case Late(edit):
                self.commit()
                self.open.append(world.begin(changes=[edit.change], age=AGE).id)
            case Trouble(kind, call, rows):
                self.stage.simulator.add_fault(
                    Fault(kind=kind, model=LINE, method="search_read", call=call, rows=rows)
                )
            case Meanwhile(edit, call):
                world.schedule.waiting.append(Scheduled(model=LINE, call=call, change=edit.change))
            case Sync():
                await self.sync(one)

    async def sync(self, one: Sync) -> None:
        """A run to its end; what it has taken away was gone."""
        run = await self.stage.start(one.mode, accept_removals=True)
        if one.killed is not None:
            await self.kill(asyncio.create_task(self.stage.work(run, "first")), one.killed)
        present = await self.stage.runs.get(run.id)
        if present.status in {"pending", "running"}:
            present = await self.stage.work(run, "second")
        assert present.status in {"completed", "failed"}
        self.commit()

    async def kill(self, worker: asyncio.Task[object], calls_made: int) -> None:
        """Cancel a worker once so many calls have reached Odoo, if it is still there."""
        received = self.stage.simulator.world.received
        until = sum(received.values()) + calls_made
        while not worker.done() and sum(received.values()) < until:  # noqa: ASYNC110  polled
            await asyncio.sleep(0)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    def commit(self) -> None:
        """End the open transactions; one whose rows others have changed is rolled back."""
        for one in self.open:
            with contextlib.suppress(DatabaseError):  # a serialization failure
                self.stage.simulator.world.transactions.commit(one)
        self.open.clear()

    async def calm(self) -> None:
        """Nothing more happens."""
        self.commit()
        self.stage.simulator.world.faults.clear()
        self.stage.simulator.world.schedule.waiting.clear()


async def converges(database: Database, story: list[object]) -> None:
    """Play a story; two quiet runs later the mirror is the source."""
    async with syncing(database, lines=LINES) as made:
        stage = made.defined(page=PAGE, lookback=timedelta(seconds=AGE + 60))
        teller = Story(stage)
        for one in story:
            await teller.happen(one)  # type: ignore[arg-type]
        await teller.calm()
        for _ in range(2):
            ended = await stage.sync(accept_removals=True)
            assert ended.status == "completed", ended.message
        assert await stage.equal()
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE mirror.sale_line"))
        await connection.execute(text("TRUNCATE sync_cursor, sync_event, sync_run"))


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=happenings)
def test_the_mirror_converges(database_url: str, story: list[object]) -> None:
    """Creates, writes, deletions, late commits, failures and kills, between and during runs."""

    async def play() -> None:
        database = Database(database_url)
        try:
            await converges(database, story)
        finally:
            await database.close()

    asyncio.run(play())
