"""The worker: takes jobs from the queue and runs them until it is told to stop.

On SIGTERM it takes no new job, postings stop between two calls and go back to the queue, and a call
that is under way is waited for: its outcome is worth more than a quick exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
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
from sqlalchemy.exc import SQLAlchemyError

from service import jobs
from service.errors import UnknownName
from service.posting.engine import Engine, HandOver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgqueuer.domain.models import Job

    from service.runtime import Runtime

log = structlog.get_logger()

DEQUEUE_TIMEOUT = timedelta(seconds=1)
RESTART_DELAY = timedelta(seconds=1)
TROUBLE_DELAY = timedelta(seconds=2)
SWEEP_INTERVAL = timedelta(seconds=15)
BATCH_SIZE = 10
POOL_SIZE = 4


def name() -> str:
    """This process, in audit records."""
    return f"{platform.node()}:{os.getpid()}"


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
    engine = Engine(
        ledger=runtime.ledger,
        locks=runtime.locks,
        definitions=runtime.definitions,
        deploy=runtime.connections.deploy,
        worker=name(),
        stopping=stopping,
    )

    async def post_one(job: Job) -> None:
        await post(engine, job)

    @asynccontextmanager
    async def queue() -> AsyncIterator[PgQueuer]:
        async with asyncpg.create_pool(  # type: ignore[no-untyped-call]  # asyncpg has no types here
            _plain_url(runtime.settings.database_url or ""), min_size=2, max_size=POOL_SIZE
        ) as pool:
            queuer = PgQueuer(AsyncpgPoolDriver(pool))
            queuer.entrypoint(jobs.POSTING, accepts_context=False)(post_one)
            yield queuer

    log.info("worker_started", worker=name())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_sweep(runtime, stopping), name="orphan sweep")
        await supervise(
            queue,
            dequeue_timeout=DEQUEUE_TIMEOUT,
            batch_size=BATCH_SIZE,
            heartbeat_timeout=runtime.settings.heartbeat,
            max_concurrent_tasks=runtime.settings.worker_concurrency,
            shutdown_on_listener_failure=True,
            restart_on_failure=True,
            restart_delay=RESTART_DELAY,
            shutdown=stopping,
        )
    log.info("worker_stopped", worker=name())


async def _sweep(runtime: Runtime, stopping: asyncio.Event) -> None:
    """Find postings that lost their job, again and again."""
    while not stopping.is_set():
        try:
            async with runtime.database.transaction() as connection:
                orphans = await jobs.enqueue_orphans(connection)
        except (SQLAlchemyError, OSError) as error:
            log.warning("sweep_failed", error=type(error).__name__)
        else:
            if orphans:
                log.warning("orphans_enqueued", posting_ids=[str(orphan) for orphan in orphans])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), SWEEP_INTERVAL.total_seconds())


async def post(engine: Engine, job: Job) -> None:
    """Run one posting's job; whatever goes wrong, the job is kept."""
    posting_id = UUID((job.payload or b"").decode())
    try:
        await engine.run(posting_id)
    except HandOver as error:
        raise RetryRequested(error.after, str(error)) from error
    except UnknownName:
        log.warning("posting_gone", posting_id=str(posting_id))
    except Exception as error:
        log.exception("job_failed", posting_id=str(posting_id))
        raise RetryRequested(TROUBLE_DELAY, type(error).__name__) from error


def _plain_url(url: str) -> str:
    """The URL as asyncpg itself reads it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)
