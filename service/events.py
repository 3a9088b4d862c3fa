"""Live events of jobs: a stream and a hash per job in Redis, and one reader per process.

An event's id is its number within its job, 1, 2, 3 …, the same in Redis and in PostgreSQL, so
that a listener can go on from any id wherever the events come from. Redis holds a job's events for
an hour; older ones, and any that were lost with Redis, come from the job's own history.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from service import documents
from service.database import forbid_open_transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from datetime import timedelta

    from redis.asyncio import Redis

log = structlog.get_logger()

ALL_JOBS = "eclusa:events"
ALL_JOBS_LENGTH = 10_000
INBOX_EVENTS = 512
READ_BLOCK_MS = 2_000
READ_COUNT = 500
RECONNECT_SECONDS = 0.2

PUBLISH = """
redis.pcall('XADD', KEYS[1], ARGV[1] .. '-0', 'type', ARGV[2], 'data', ARGV[3])
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


class History(Protocol):
    """Where the events of a job come from when Redis does not have them."""

    async def __call__(self, job_id: UUID, after: int) -> list[Event]:
        """The events with an id above `after`, oldest first."""
        ...


class SlowListener(Exception):
    """A listener did not take its events in time: it reconnects and goes on from its last id."""


@dataclass(eq=False)
class Inbox:
    """The events that wait for one listener."""

    queue: asyncio.Queue[Event | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=INBOX_EVENTS)
    )
    overflowed: bool = False

    def put(self, event: Event | None) -> None:
        """Add an event; None means that events may have been missed."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overflowed = True

    async def get(self) -> Event | None:
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
        self._publish = redis.register_script(PUBLISH)
        self._inboxes: defaultdict[UUID, set[Inbox]] = defaultdict(set)

    async def publish(self, event: Event) -> None:
        """Tell the listeners. PostgreSQL has the event already: a failure only delays them."""
        forbid_open_transaction()
        data = documents.to_json(event.data)
        try:
            await self._publish(
                keys=_keys(event.job_id), args=[event.id, event.type, data, self._ttl_ms]
            )
            fields: dict[Any, Any] = {
                "job": str(event.job_id),
                "id": event.id,
                "type": event.type,
                "data": data,
            }
            await self._redis.xadd(ALL_JOBS, fields, maxlen=ALL_JOBS_LENGTH)
        except (RedisError, OSError) as error:
            log.warning("event_not_published", job_id=str(event.job_id), error=str(error))

    async def latest(self, job_id: UUID) -> Event | None:
        """The job's last event; None when Redis has none."""
        _, hash_key = _keys(job_id)
        try:
            values: dict[Any, Any] = await self._redis.hgetall(hash_key)
        except (RedisError, OSError) as error:
            log.warning("progress_not_read", job_id=str(job_id), error=str(error))
            return None
        return _event(job_id, values) if values else None

    async def after(self, job_id: UUID, last: int) -> list[Event]:
        """The events above `last`: from Redis when it has them without a gap."""
        stream_key, _ = _keys(job_id)
        entries: Any
        try:
            entries = await self._redis.xrange(stream_key, min=f"({last}-0")
        except (RedisError, OSError) as error:
            log.warning("events_not_read", job_id=str(job_id), error=str(error))
            entries = []
        events = [_event(job_id, {b"id": _number(key), **values}) for key, values in entries]
        expected = list(range(last + 1, last + 1 + len(events)))
        if not events or [event.id for event in events] != expected:
            return await self._history(job_id, last)
        return events

    async def follow(self, job_id: UUID, last: int) -> AsyncIterator[Event]:
        """The events above `last`, as they happen, until the job's end.

        Raises `SlowListener` when they are not taken in time.
        """
        with self._listening(job_id) as inbox:
            while True:
                batch = await self.after(job_id, last)
                for event in batch:
                    yield event
                    last = event.id
                if batch and batch[-1].type is EventType.END:
                    return
                if not batch and await self._ended(job_id, last):
                    return
                event_or_gap = await inbox.get()
                while event_or_gap is not None and event_or_gap.id <= last + 1:
                    if event_or_gap.id == last + 1:
                        yield event_or_gap
                        last = event_or_gap.id
                        if event_or_gap.type is EventType.END:
                            return
                    event_or_gap = await inbox.get()

    async def _ended(self, job_id: UUID, last: int) -> bool:
        """Whether the event `last` was the job's end: asked when nothing follows it."""
        if last == 0:
            return False
        previous = await self.after(job_id, last - 1)
        return bool(previous) and previous[-1].type is EventType.END

    @contextmanager
    def _listening(self, job_id: UUID) -> Iterator[Inbox]:
        inbox = Inbox()
        self._inboxes[job_id].add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes[job_id].discard(inbox)
            if not self._inboxes[job_id]:
                del self._inboxes[job_id]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read the events of all jobs for this process's listeners while the block runs."""
        reader = asyncio.create_task(self._read(), name="event reader")
        try:
            yield
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(self) -> None:
        last = "$"
        while True:
            try:
                answer = await self._redis.xread(
                    {ALL_JOBS: last}, count=READ_COUNT, block=READ_BLOCK_MS
                )
            except (RedisError, OSError) as error:
                log.warning("event_reader_disconnected", error=str(error))
                await asyncio.sleep(RECONNECT_SECONDS)
                self._tell_gap()
                continue
            for key, values in _entries(answer):
                last = key
                self._hand_out(values)

    def _hand_out(self, values: Mapping[bytes, bytes]) -> None:
        job_id = UUID(values[b"job"].decode())
        inboxes = self._inboxes.get(job_id)
        if not inboxes:
            return
        event = _event(job_id, values)
        for inbox in inboxes:
            inbox.put(event)

    def _tell_gap(self) -> None:
        for inboxes in self._inboxes.values():
            for inbox in inboxes:
                inbox.put(None)

    @property
    def listeners(self) -> int:
        """How many listeners this process has."""
        return sum(len(inboxes) for inboxes in self._inboxes.values())


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


def _entries(answer: Any) -> list[tuple[str, Mapping[bytes, bytes]]]:
    """The entries of one XREAD answer, in the shapes of RESP 2 (list) and RESP 3 (mapping)."""
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    entries: list[tuple[str, Mapping[bytes, bytes]]] = []
    for _, batches in streams:
        batch = batches[0] if batches and isinstance(batches[0], list) else batches
        entries += [(key.decode(), values) for key, values in batch]
    return entries
