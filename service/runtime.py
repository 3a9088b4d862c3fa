"""The composition root: everything a process needs, opened and closed in one place."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from service import connections, jobs, postings, progress, syncs
from service.database import Database
from service.errors import Misconfigured
from service.events import Events
from service.idempotency import Idempotency
from service.keys import Keys
from service.locks import Locks
from service.posting.intake import Intake
from service.posting.ledger import Ledger
from service.rates import Rates
from service.sync.rows import Rows
from service.sync.runs import Runs
from service.sync.schedules import Schedules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from service.connections import Connections
    from service.posting import audit
    from service.posting.batch import BatchEvent
    from service.posting.step import AnyDefinition
    from service.settings import Settings
    from service.sync.runs import SyncEvent

REDIS_TIMEOUT_SECONDS = 5.0
REDIS_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What is open in this process."""

    settings: Settings
    definitions: Mapping[str, AnyDefinition]
    connections: Connections
    database: Database
    redis: Redis
    locks: Locks
    events: Events
    ledger: Ledger
    runs: Runs
    schedules: Schedules
    rows: Rows
    progress: progress.Book
    keys: Keys
    idempotency: Idempotency
    intake: Intake
    rates: Rates


def _redis(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        socket_timeout=REDIS_TIMEOUT_SECONDS,  # longer than the event reader blocks
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), REDIS_RETRIES),
    )


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """Open everything; raises `Misconfigured` when something is not configured."""
    if settings.database_url is None or settings.redis_url is None:
        raise Misconfigured("ECLUSA_DATABASE_URL and ECLUSA_REDIS_URL are not set")
    definitions = postings.catalog()
    async with AsyncExitStack() as stack:
        configured = connections.Connections(
            connections.load(settings.config), definitions, syncs.catalog()
        )
        stack.push_async_callback(configured.close)
        database = Database(settings.database_url)
        stack.push_async_callback(database.close)
        redis = _redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)

        async def announce(*told: tuple[audit.Record, int]) -> None:
            await events.publish(*(progress.event(*one) for one in told))

        async def announce_batch(event: BatchEvent) -> None:
            await events.publish(progress.batch_event(event))

        async def announce_run(event: SyncEvent) -> None:
            await events.publish(progress.run_event(event))

        keys = Keys(database)
        stack.push_async_callback(keys.close)
        ledger = Ledger(database, jobs.POSTINGS.enqueue, announce, announce_batch)
        rates = Rates(redis)
        stack.push_async_callback(rates.close)
        intake = Intake(database, ledger, keep=settings.idempotency_kept)
        stack.push_async_callback(intake.close)
        runs = Runs(database, jobs.SYNC_RUNS.enqueue, announce_run)
        book = progress.Book(ledger, runs)
        events = Events(redis, ttl=settings.event_ttl, history=book.history)
        yield Runtime(
            settings=settings,
            definitions=definitions,
            connections=configured,
            database=database,
            redis=redis,
            locks=Locks(redis, ttl=settings.lock_ttl),
            events=events,
            ledger=ledger,
            runs=runs,
            schedules=Schedules(database, runs),
            rows=Rows(database),
            progress=book,
            keys=keys,
            idempotency=Idempotency(database, keep=settings.idempotency_kept),
            intake=intake,
            rates=rates,
        )
