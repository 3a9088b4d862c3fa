"""The worker: takes postings and runs of syncs from the queue until it is told to stop.

It shows every moment that it lives, and another worker takes over what it had as soon as it no
longer does.

On SIGTERM it takes no new job, postings stop between two calls, runs between two pages, and go back
to the queue. A call that is under way is waited for: its outcome is worth more than a quick exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
import signal
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import structlog
from pgqueuer.adapters.cli.supervisor import run as supervise
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.core.applications import PgQueuer

from service import idempotency, jobs, workers
from service.errors import DatabaseUnavailable
from service.keeper import Context, Keeper
from service.posting.engine import Engine
from service.pulse import Pulse
from service.sync.engine import SyncEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from pgqueuer.domain.models import Job, Schedule
    from pgqueuer.ports.driver import NotifyCallback

    from service.runtime import Runtime

    Take = Callable[[Job], Awaitable[None]]

log = structlog.get_logger()

DEQUEUE_TIMEOUT = timedelta(seconds=1)
RESTART_DELAY = timedelta(seconds=0.5)
FORGOTTEN_INTERVAL = timedelta(seconds=5)
BATCH_SIZE = 10
MOST_JOBS = 20
"""Jobs whose work waits for a place in this process; the queue wants two batches at least."""

EVERY_MINUTE = "* * * * *"

POOL_SIZE = 4


def name() -> str:
    """This run of this process, in audit records."""
    return f"{platform.node()}:{os.getpid()}-{secrets.token_hex(2)}"


@contextmanager
def stop_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` on SIGTERM and SIGINT while the block runs."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def run(runtime: Runtime, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set, then until the calls under way have ended.

    When PostgreSQL goes away the queue is opened again until it answers.
    """
    await Worker(runtime, stopping).run()


class Worker:
    """One worker process: what it works on, and what shows that it lives.

    It counts as dead when nothing was seen of it for three quarters of the heartbeat. It notices a
    stall of half a heartbeat by itself, and then lets go of everything it had.
    """

    def __init__(self, runtime: Runtime, stopping: asyncio.Event) -> None:
        heartbeat = runtime.settings.heartbeat
        self._runtime = runtime
        self._stopping = stopping
        self._name = name()
        self._beat_interval = heartbeat / 8
        self._silence = heartbeat * 3 / 4
        self._pulse = Pulse(heartbeat / 2)
        self._postings = Engine(
            ledger=runtime.ledger,
            locks=runtime.locks,
            definitions=runtime.definitions,
            deploy=runtime.connections.deploy,
            worker=self._name,
            silence=self._silence,
            pulse=self._pulse,
            stopping=stopping,
        )
        self._syncs = SyncEngine(
            runtime.database,
            runtime.runs,
            runtime.connections.deploy_sync,
            worker=self._name,
            silence=self._silence,
            stopping=stopping,
        )

    async def run(self) -> None:
        """Work until told to stop."""
        log.info("worker_started", worker=self._name)
        async with asyncio.TaskGroup() as helping:
            helpers = [
                helping.create_task(self._pulse.watch(), name="pulse"),
                helping.create_task(
                    self._repeat(self._show, self._beat_interval), name="sign of life"
                ),
                helping.create_task(
                    self._repeat(self._recover, self._beat_interval), name="take-over"
                ),
                helping.create_task(
                    self._repeat(self._remind, FORGOTTEN_INTERVAL), name="forgotten postings"
                ),
            ]
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._take_jobs(self._make_keepers(tasks))
            finally:
                for helper in helpers:
                    helper.cancel()
        await self._leave()
        log.info("worker_stopped", worker=self._name)

    # -- jobs --------------------------------------------------------------------------------

    def _make_keepers(self, tasks: asyncio.TaskGroup) -> Mapping[jobs.Kind, Take]:
        settings = self._runtime.settings
        context = Context(self._pulse, self._stopping, tasks)
        postings = Keeper("posting", self._postings, context, most=settings.worker_concurrency)
        runs = Keeper("sync_run", self._syncs, context, most=settings.sync_concurrency)
        return {jobs.POSTINGS: postings.take, jobs.SYNC_RUNS: runs.take}

    async def _take_jobs(self, takes: Mapping[jobs.Kind, Take]) -> None:
        await supervise(
            partial(self._queue, takes),
            dequeue_timeout=DEQUEUE_TIMEOUT,
            batch_size=BATCH_SIZE,
            heartbeat_timeout=self._runtime.settings.heartbeat,
            max_concurrent_tasks=MOST_JOBS,
            shutdown_on_listener_failure=True,
            restart_on_failure=True,
            restart_delay=RESTART_DELAY,
            shutdown=self._stopping,
        )

    @asynccontextmanager
    async def _queue(self, takes: Mapping[jobs.Kind, Take]) -> AsyncIterator[PgQueuer]:
        async with asyncpg.create_pool(  # type: ignore[no-untyped-call]  # asyncpg has no types here
            plain_url(self._runtime.settings.database_url or ""), min_size=2, max_size=POOL_SIZE
        ) as pool:
            queuer = PgQueuer(ListeningFirst(pool))
            for kind, take in takes.items():
                queuer.entrypoint(kind.entrypoint, accepts_context=False)(take)
            queuer.schedule("syncs_due", EVERY_MINUTE)(self._start_due)
            yield queuer

    async def _start_due(self, _: Schedule) -> None:
        """Start the syncs that are due; one worker is asked to, once a minute."""
        await self._runtime.schedules.start_due()

    # -- what shows that this worker lives, and which others do not -----------------------------

    async def _show(self) -> None:
        async with self._runtime.database.transaction() as connection:
            await workers.show(connection, self._name)

    async def _recover(self) -> None:
        async with self._runtime.database.transaction() as connection:
            found = await jobs.recover_silent(connection, self._silence)
        if found:
            log.warning("worker_silent", ids=[str(one) for one in found])

    async def _remind(self) -> None:
        async with self._runtime.database.transaction() as connection:
            found = await jobs.recover_forgotten(connection)
            await workers.forget_old(connection)
            await idempotency.forget_expired(connection)
        if found:
            log.warning("job_missing", ids=[str(one) for one in found])

    async def _leave(self) -> None:
        """Be forgotten, so that what could not be handed over is taken over at once."""
        with contextlib.suppress(DatabaseUnavailable):
            async with self._runtime.database.transaction() as connection:
                await workers.leave(connection, self._name)

    async def _repeat(self, act: Callable[[], Awaitable[None]], interval: timedelta) -> None:
        """Do something again and again until cancelled; PostgreSQL may be away meanwhile."""
        while True:
            try:
                await act()
            except DatabaseUnavailable as error:
                log.warning("database_away", error=str(error))
            except Exception:
                log.exception("worker_helper_broke")
            await asyncio.sleep(interval.total_seconds())


class ListeningFirst(AsyncpgPoolDriver):
    """A driver that says nothing before it listens.

    The queue checks at its start whether it hears itself, over two connections: what is said before
    the other one listens is never heard, and ten seconds later the queue would be opened again.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self._listening = asyncio.Event()

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Listen; from now on something may be said."""
        await super().add_listener(channel, callback)
        self._listening.set()

    async def notify(self, channel: str, payload: str) -> None:
        """Say something, once this process would hear it."""
        await self._listening.wait()
        await super().notify(channel, payload)


def plain_url(url: str) -> str:
    """The URL as asyncpg itself reads it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)
