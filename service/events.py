"""Live events of jobs: a stream and a hash per job in Redis, and one reader per process.

An event's id is its number within its job, 1, 2, 3 …, the same in Redis and in PostgreSQL, so
that a listener can go on from any id wherever the events come from. PostgreSQL has every event
before Redis hears of it. Redis may lose any of them, be away, or hang: a listener that sees a gap
asks the job's history, and the events that nobody told are found by comparing, every
`CHECK_SECONDS`, how far each job is with how far its listeners are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from service import documents
from service.brief import Brief
from service.database import forbid_open_transaction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping
    from datetime import timedelta

    from redis.asyncio import Redis

log = structlog.get_logger()

ALL_JOBS = "eclusa:events"
ALL_JOBS_LENGTH = 10_000
JOB_LENGTH = 2_000
INBOX_EVENTS = 512
READ_BLOCK_MS = 2_000
READ_COUNT = 500
RECONNECT_SECONDS = 0.2
REDIS_SECONDS = 2.0
"""A call to Redis that takes longer is given up; nobody waits for a server that hangs."""

CHECK_SECONDS = 2.0
CANCEL_SECONDS = 0.2
REPLAYS_AT_ONCE = 16

PUBLISH = """
redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], ARGV[1] .. '-0',
  'type', ARGV[2], 'data', ARGV[3])
if tonumber(redis.call('HGET', KEYS[2], 'id') or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[2], 'id', ARGV[1], 'type', ARGV[2], 'data', ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
"""


class EventType(StrEnum):
    """What an event is about: a step, the job as a whole, or its end."""

    STEP = "step"
    STATUS = "status"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a job. `end` is the last one, unless the job is resumed."""

    job_id: UUID
    id: int
    type: EventType
    data: Mapping[str, Any]

    @cached_property
    def text(self) -> str:
        """The data as JSON, made once however many listen."""
        return documents.to_json(self.data)


class History(Protocol):
    """Where the events of a job come from when Redis does not have them."""

    async def __call__(self, job_id: UUID, after: int) -> list[Event]:
        """The events with an id above `after`, oldest first."""
        ...


class Heads(Protocol):
    """How far jobs are, by what is stored."""

    async def __call__(self, job_ids: Collection[UUID]) -> Mapping[UUID, int]:
        """The id of the last event of each job."""
        ...


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they have ended: a command of Redis may swallow its cancellation."""
    pending: set[asyncio.Task[None]] = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


class SlowListener(Exception):
    """A listener did not take its events in time: it reconnects and goes on from its last id."""


@dataclass(eq=False)
class Inbox:
    """The events above `seen` that wait for one listener."""

    seen: int
    queue: asyncio.Queue[Event] = field(default_factory=lambda: asyncio.Queue(INBOX_EVENTS))
    overflowed: bool = False

    def put(self, event: Event) -> None:
        """Add an event, unless a later one was added already: its reader will see the gap."""
        if self.overflowed or event.id <= self.seen:
            return
        try:
            self.queue.put_nowait(event)
            self.seen = event.id
        except asyncio.QueueFull:
            self.overflowed = True

    async def get(self) -> Event:
        """The next event; raises `SlowListener` when some did not fit."""
        if self.overflowed and self.queue.empty():
            raise SlowListener
        return await self.queue.get()


class Events:
    """Publishes events, and hands those of all jobs to this process's listeners."""

    def __init__(self, redis: Redis, *, ttl: timedelta, history: History) -> None:
        self._redis = redis
        self._ttl_ms = int(ttl.total_seconds() * 1000)
        self._history = history
        self._inboxes: defaultdict[UUID, set[Inbox]] = defaultdict(set)
        self._replays = asyncio.Semaphore(REPLAYS_AT_ONCE)
        self._brief = Brief(REDIS_SECONDS)

    async def publish(self, *events: Event) -> None:
        """Tell the listeners. PostgreSQL has the events already: a failure only delays them."""
        forbid_open_transaction()
        try:
            async with self._brief.call(), self._redis.pipeline(transaction=False) as pipeline:
                for event in events:
                    values = (event.id, event.type, event.text, self._ttl_ms, JOB_LENGTH)
                    # Whole: a cluster takes no digest of a script in a pipeline.
                    pipeline.eval(PUBLISH, 2, *_keys(event.job_id), *values)
                    fields: dict[Any, Any] = {
                        "job": str(event.job_id),
                        "id": event.id,
                        "type": event.type,
                        "data": event.text,
                    }
                    pipeline.xadd(ALL_JOBS, fields, maxlen=ALL_JOBS_LENGTH)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("event_not_published", job_id=str(events[0].job_id), error=str(error))

    async def latest(self, job_id: UUID) -> Event | None:
        """The last event that Redis was told of; None when it has none."""
        _, hash_key = _keys(job_id)
        try:
            async with self._brief.call():
                values: dict[Any, Any] = await self._redis.hgetall(hash_key)
        except (RedisError, OSError) as error:
            log.warning("progress_not_read", job_id=str(job_id), error=str(error))
            return None
        return _event(job_id, values) if values else None

    async def follow(self, job_id: UUID, last: int, *, head: int) -> AsyncGenerator[Event]:
        """The events above `last`, as they happen, until the job's end.

        `head` is the id of the last event that is stored: an `end` before it was followed by a
        resume. Raises `SlowListener` when the events are not taken in time.
        """
        with self._listening(job_id, max(last, head)) as inbox:
            batch = await self._replay(job_id, last, head)
            while True:
                for event in batch:
                    yield event
                    last = event.id
                if batch and batch[-1].type is EventType.END:
                    return
                batch = await self._next(inbox, job_id, last)

    async def _next(self, inbox: Inbox, job_id: UUID, last: int) -> list[Event]:
        """What follows `last`: usually one event, several when some were missed."""
        while True:
            event = await inbox.get()
            if event.id == last + 1:
                return [event]
            if event.id > last:
                async with self._replays:
                    return await self._history(job_id, last)

    async def _replay(self, job_id: UUID, last: int, head: int) -> list[Event]:
        """The events above `last`: from Redis when it has them up to `head` without a gap."""
        async with self._replays:
            events = await self._recent(job_id, last)
            whole = all(event.id == number for number, event in enumerate(events, last + 1))
            if whole and last + len(events) >= head:
                return events
            return await self._history(job_id, last)

    async def _recent(self, job_id: UUID, last: int) -> list[Event]:
        stream_key, _ = _keys(job_id)
        entries: Any
        try:
            async with self._brief.call():
                entries = await self._redis.xrange(stream_key, min=f"({last}-0")
        except (RedisError, OSError) as error:
            log.warning("events_not_read", job_id=str(job_id), error=str(error))
            return []
        return [_event(job_id, {b"id": _number(key), **values}) for key, values in entries]

    @contextmanager
    def _listening(self, job_id: UUID, seen: int) -> Iterator[Inbox]:
        inbox = Inbox(seen)
        self._inboxes[job_id].add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes[job_id].discard(inbox)
            if not self._inboxes[job_id]:
                del self._inboxes[job_id]

    @property
    def listeners(self) -> int:
        """How many listeners this process has."""
        return sum(len(inboxes) for inboxes in self._inboxes.values())

    # -- the one reader of a process ---------------------------------------------------------

    @asynccontextmanager
    async def reading(self, heads: Heads) -> AsyncIterator[None]:
        """Read the events of all jobs for this process's listeners while the block runs."""
        tasks = [
            asyncio.create_task(self._read(heads), name="event reader"),
            asyncio.create_task(self._check(heads), name="event check"),
        ]
        try:
            yield
        finally:
            await end(*tasks)

    async def _read(self, heads: Heads) -> None:
        """Hand out what is published; begin again after any trouble."""
        while True:
            try:
                async with self._redis.client() as redis:
                    await self._read_on(redis, heads)
            except (RedisError, OSError) as error:
                log.warning("event_reader_disconnected", error=str(error))
            except Exception:
                log.exception("event_reader_broke")
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _read_on(self, redis: Redis, heads: Heads) -> None:
        newest: Any = await redis.xrevrange(ALL_JOBS, count=1)
        last = newest[0][0] if newest else b"0-0"
        await self._catch_up(heads)
        while True:
            answer = await redis.xread({ALL_JOBS: last}, count=READ_COUNT, block=READ_BLOCK_MS)
            for key, values in _entries(answer):
                last = key
                self._hand_out(values)

    async def _check(self, heads: Heads) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self._catch_up(heads)

    async def _catch_up(self, heads: Heads) -> None:
        """Give the listeners what is stored and Redis did not tell: one query for all jobs."""
        try:
            stored = await heads(list(self._inboxes)) if self._inboxes else {}
            for job_id, head in stored.items():
                behind = [inbox.seen for inbox in self._inboxes.get(job_id, ())]
                if behind and min(behind) < head:
                    for event in await self._history(job_id, min(behind)):
                        self._deliver(event)
        except Exception:  # PostgreSQL is away too; there will be another check
            log.exception("event_check_failed")

    def _hand_out(self, values: Mapping[bytes, bytes]) -> None:
        job_id = UUID(values[b"job"].decode())
        if job_id in self._inboxes:
            self._deliver(_event(job_id, values))

    def _deliver(self, event: Event) -> None:
        for inbox in self._inboxes.get(event.job_id, ()):
            inbox.put(event)


def _keys(job_id: UUID) -> list[str]:
    """The braces keep both keys of a job on one node of a cluster."""
    return [f"eclusa:{{{job_id}}}:events", f"eclusa:{{{job_id}}}:progress"]


def _number(key: bytes) -> bytes:
    return key.split(b"-")[0]


def _event(job_id: UUID, values: Mapping[bytes, bytes]) -> Event:
    return Event(
        job_id=job_id,
        id=int(values[b"id"]),
        type=EventType(values[b"type"].decode()),
        data=documents.from_json(values[b"data"]),
    )


def _entries(answer: Any) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
    """The entries of one XREAD answer, in the shapes of RESP 2 (list) and RESP 3 (mapping)."""
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    entries: list[tuple[bytes, Mapping[bytes, bytes]]] = []
    for _, batches in streams:
        batch = batches[0] if batches and isinstance(batches[0], list) else batches
        entries += [(key, values) for key, values in batch]
    return entries
