"""Rates: how often somebody may ask, as token buckets in Redis, by its clock, for all processes.

Requests of one bucket that come while Redis is asked are asked for together with the next call, so
that a busy process calls it once for many. While Redis does not answer, each process counts by
itself: a rate protects the service from its callers, and refusing all of them protects nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from service.brief import Brief
from service.database import forbid_open_transaction

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

REDIS_SECONDS = 0.5
MOST_LOCAL = 10_000

TAKE = """
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(held[1] or burst)
tokens = math.min(burst, tokens + math.max(0, now - tonumber(held[2] or now)) * rate)
local granted = math.min(wanted, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {granted, tostring(tokens)}
"""
"""A bucket that nobody has taken from for as long as it takes to fill it is full, and forgotten."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many a second in the long run, and `burst` at once."""

    per_second: float
    burst: int

    @property
    def window_seconds(self) -> int:
        """How long an empty bucket takes to be full again, in whole seconds."""
        return max(1, math.ceil(self.burst / self.per_second))


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Whether one was granted, and what is left in the bucket."""

    granted: bool
    tokens: float
    rate: Rate

    @property
    def remaining(self) -> int:
        """How many more may be asked for at once."""
        return int(self.tokens)

    @property
    def full_seconds(self) -> int:
        """After so many whole seconds the bucket is full again."""
        return math.ceil((self.rate.burst - self.tokens) / self.rate.per_second)

    @property
    def wait_seconds(self) -> int:
        """After so many whole seconds one will be granted."""
        return max(1, math.ceil((1 - self.tokens) / self.rate.per_second))


class Rates:
    """The buckets, by name."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: dict[str, list[asyncio.Future[Quota]]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._brief = Brief(REDIS_SECONDS)
        self._local: dict[str, tuple[float, float]] = {}

    async def take(self, name: str, rate: Rate) -> Quota:
        """Take one from a bucket, if there is one in it."""
        forbid_open_transaction()
        quota: asyncio.Future[Quota] = asyncio.get_running_loop().create_future()
        if name in self._waiting:
            self._waiting[name].append(quota)
        else:
            self._waiting[name] = [quota]
            asking = asyncio.create_task(self._ask(name, rate), name=f"rate {name}")
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        return await quota

    async def look(self, name: str, rate: Rate) -> Quota:
        """Whether there is one in a bucket; it is left there."""
        forbid_open_transaction()
        _, tokens = await self._take(name, rate, 0)
        return Quota(granted=tokens >= 1, tokens=tokens, rate=rate)

    async def close(self) -> None:
        """Wait until all who asked are answered."""
        await asyncio.gather(*self._asking)

    async def _ask(self, name: str, rate: Rate) -> None:
        """Ask for all who wait for a bucket, until nobody does."""
        waiting = self._waiting[name]
        group: list[asyncio.Future[Quota]] = []
        try:
            while waiting:
                group, waiting[:] = waiting[:], []
                granted, tokens = await self._take(name, rate, len(group))
                for place, quota in enumerate(group):
                    if not quota.done():
                        quota.set_result(Quota(granted=place < granted, tokens=tokens, rate=rate))
        finally:
            del self._waiting[name]
            for quota in (*group, *waiting):  # nobody will answer them any more
                quota.cancel()

    async def _take(self, name: str, rate: Rate, wanted: int) -> tuple[int, float]:
        """How many of those that are wanted were granted, and what is left."""
        if self._brief.deaf:
            return self._take_here(name, rate, wanted)
        answer: Any
        try:
            async with self._brief.call():
                answer = await self._redis.eval(
                    TAKE, 1, f"eclusa:rate:{name}", rate.per_second, rate.burst, wanted
                )
        except (RedisError, OSError) as error:
            log.warning("rates_counted_here", error=str(error) or type(error).__name__)
            return self._take_here(name, rate, wanted)
        self._local.clear()
        granted, tokens = answer
        return int(granted), float(tokens)

    def _take_here(self, name: str, rate: Rate, wanted: int) -> tuple[int, float]:
        now = time.monotonic()
        tokens, at = self._local.pop(name, (float(rate.burst), now))
        tokens = min(rate.burst, tokens + (now - at) * rate.per_second)
        granted = min(wanted, int(tokens))
        if len(self._local) >= MOST_LOCAL:
            del self._local[next(iter(self._local))]  # the one that was asked for longest ago
        self._local[name] = (tokens - granted, now)
        return granted, tokens - granted
