"""The worker: takes postings from the queue and works on them until it is told to stop.

A job of the queue only brings a posting here. Once it is claimed the job is over, and the worker
itself keeps it: it shows every moment that it lives, and another worker takes over what it had as
soon as it no longer does.

On SIGTERM it takes no new job, postings stop between two calls and go back to the queue, and a call
that is under way is waited for: its outcome is worth more than a quick exit.
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
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import structlog
from pgqueuer.adapters.cli.supervisor import run as supervise
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.core.applications import PgQueuer
from pgqueuer.domain.errors import RetryRequested

from service import jobs, workers
from service.errors import DatabaseUnavailable, UnknownName
from service.posting.engine import Engine
from service.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from pgqueuer.domain.models import Job

    from service.posting.ledger import Claim
    from service.runtime import Runtime

log = structlog.get_logger()

DEQUEUE_TIMEOUT = timedelta(seconds=1)
RESTART_DELAY = timedelta(seconds=0.5)
TROUBLE_DELAY = timedelta(seconds=1)
RING_AGAIN = timedelta(seconds=0.5)
FORGOTTEN_INTERVAL = timedelta(seconds=5)
BATCH_SIZE = 10
MOST_JOBS = 20
"""Jobs whose postings wait for a place in this process; the queue wants two batches at least."""

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
    """One worker process: its postings, and what shows that it lives.

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
        self._places = asyncio.Semaphore(runtime.settings.worker_concurrency)
        self._postings: set[UUID] = set()
        self._engine = Engine(
            ledger=runtime.ledger,
            locks=runtime.locks,
            definitions=runtime.definitions,
            deploy=runtime.connections.deploy,
            worker=self._name,
            silence=self._silence,
            pulse=self._pulse,
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
                async with asyncio.TaskGroup() as self._tasks:
                    await self._take_jobs()
            finally:
                for helper in helpers:
                    helper.cancel()
        await self._leave()
        log.info("worker_stopped", worker=self._name)

    # -- jobs --------------------------------------------------------------------------------

    async def _take_jobs(self) -> None:
        await supervise(
            self._queue,
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
    async def _queue(self) -> AsyncIterator[PgQueuer]:
        async with asyncpg.create_pool(  # type: ignore[no-untyped-call]  # asyncpg has no types here
            _plain_url(self._runtime.settings.database_url or ""), min_size=2, max_size=POOL_SIZE
        ) as pool:
            queuer = PgQueuer(AsyncpgPoolDriver(pool))
            queuer.entrypoint(jobs.POSTING, accepts_context=False)(self._take)
            yield queuer

    async def _take(self, job: Job) -> None:
        """Begin with a job's posting; a job that cannot be taken now goes back into the queue."""
        posting_id = UUID((job.payload or b"").decode())
        if posting_id in self._postings:
            raise RetryRequested(RING_AGAIN, "this worker is not done with it yet")
        self._postings.add(posting_id)
        await self._places.acquire()
        claim = None
        try:
            claim = await self._claim(posting_id)
        finally:
            if claim is None:
                self._let_go(posting_id)
        if claim is not None:
            self._tasks.create_task(self._work(claim), name=f"posting {posting_id}")

    async def _claim(self, posting_id: UUID) -> Claim | None:
        if self._stopping.is_set():
            raise RetryRequested(timedelta(0), "the worker is stopping")
        try:
            return await self._engine.claim(posting_id)
        except UnknownName:
            log.warning("posting_gone", posting_id=str(posting_id))
            return None
        except Exception as error:
            log.warning("claim_failed", posting_id=str(posting_id), error=str(error))
            raise RetryRequested(TROUBLE_DELAY, type(error).__name__) from error

    def _let_go(self, posting_id: UUID) -> None:
        self._postings.discard(posting_id)
        self._places.release()

    # -- postings ----------------------------------------------------------------------------

    async def _work(self, first: Claim) -> None:
        """Work on a posting until it is over here, in as many attempts as that takes."""
        posting_id = first.posting.id
        claim: Claim | None = first
        try:
            while claim is not None:
                if await self._attempt(claim):
                    return
                claim = await self._claim_again(posting_id)
        finally:
            self._let_go(posting_id)

    async def _attempt(self, claim: Claim) -> bool:
        """Whether the attempt came to an end of its own; one that stalls is cut off."""
        posting_id = str(claim.posting.id)
        attempt = asyncio.create_task(self._engine.work(claim), name=f"attempt {posting_id}")
        stall = asyncio.create_task(self._pulse.stall(), name=f"stall {posting_id}")
        try:
            await asyncio.wait({attempt, stall}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (attempt, stall):
                task.cancel()
            outcome, _ = await asyncio.gather(attempt, stall, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            log.warning("attempt_cut_off", posting_id=posting_id)
        elif isinstance(outcome, Exception):
            log.warning("attempt_failed", posting_id=posting_id, exc_info=outcome)
        return outcome is None

    async def _claim_again(self, posting_id: UUID) -> Claim | None:
        """Claim a posting whose attempt broke off, once that can be done."""
        while not self._stopping.is_set():
            with contextlib.suppress(RetryRequested):
                return await self._claim(posting_id)
            await self._pause(TROUBLE_DELAY)
        return None

    # -- what shows that this worker lives, and which others do not -----------------------------

    async def _show(self) -> None:
        async with self._runtime.database.transaction() as connection:
            await workers.show(connection, self._name)

    async def _recover(self) -> None:
        async with self._runtime.database.transaction() as connection:
            found = await jobs.recover_silent(connection, self._silence)
        if found:
            log.warning("worker_silent", posting_ids=[str(posting_id) for posting_id in found])

    async def _remind(self) -> None:
        async with self._runtime.database.transaction() as connection:
            found = await jobs.recover_forgotten(connection)
            await workers.forget_old(connection)
        if found:
            log.warning("job_missing", posting_ids=[str(posting_id) for posting_id in found])

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

    async def _pause(self, length: timedelta) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), length.total_seconds())


def _plain_url(url: str) -> str:
    """The URL as asyncpg itself reads it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)
