"""Locks in Redis: an owner, a rank, a time to live, renewal, and release by the owner only.

The rank is the posting's fence: the same posting with a higher fence takes the lock over at once,
so that a killed worker's lock does not have to expire first. Another owner never can. When Redis
does not answer, no lock is had: locks fail closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from service import clocks
from service.database import forbid_open_transaction
from service.errors import LockHeld, LockUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from redis.asyncio import Redis

log = structlog.get_logger()

ACQUIRE = """
local held = redis.call('GET', KEYS[1])
if held then
  local owner, rank = held:match('^(.*)#(%d+)$')
  if owner ~= ARGV[1] or tonumber(rank) > tonumber(ARGV[2]) then return held end
end
redis.call('SET', KEYS[1], ARGV[1] .. '#' .. ARGV[2], 'PX', ARGV[3])
return false
"""
RENEW = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass
class Lease:
    """A lock that is held, for as long as `valid` says so."""

    key: str
    token: str
    ttl_seconds: float
    renewed_at: float
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def valid(self) -> bool:
        """Whether the lock cannot have expired, by the clock that a pause does not stop."""
        return not self.lost.is_set() and clocks.seconds() - self.renewed_at < self.ttl_seconds


class Locks:
    """Locks under one prefix in one Redis."""

    def __init__(self, redis: Redis, *, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl = ttl

    @asynccontextmanager
    async def hold(self, key: str, *, owner: str, rank: int) -> AsyncIterator[Lease]:
        """Hold `key` and renew it until the block ends.

        Raises `LockHeld` when another owner, or a higher rank, has it, and `LockUnavailable` when
        Redis does not answer.
        """
        name = f"eclusa:lock:{key}"
        lease = await self._acquire(name, owner, rank)
        renewal = asyncio.create_task(self._keep(lease), name=f"renew {name}")
        try:
            yield lease
        finally:
            lease.released.set()
            await renewal
            await self._release(lease)

    async def check(self) -> None:
        """Raise `LockUnavailable` when Redis does not answer."""
        forbid_open_transaction()
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise LockUnavailable(f"no lock can be had: {error}") from error

    async def holder(self, key: str) -> str | None:
        """Who holds `key`: `owner#rank`."""
        held = await self._redis.get(f"eclusa:lock:{key}")
        return _text(held)

    async def _acquire(self, name: str, owner: str, rank: int) -> Lease:
        forbid_open_transaction()
        asked_at = clocks.seconds()
        try:
            held = await self._redis.eval(ACQUIRE, 1, name, owner, rank, self._ttl_ms)
        except (RedisError, OSError) as error:
            raise LockUnavailable(f"the lock {name} cannot be had: {error}") from error
        if held:
            raise LockHeld(name, str(_text(held)))
        return Lease(name, f"{owner}#{rank}", self._ttl.total_seconds(), asked_at)

    async def _keep(self, lease: Lease) -> None:
        """Renew until it is released or lost; an unreachable Redis is asked until it expires.

        Ended by an event: cancelling a command would cost its connection.
        """
        while not lease.released.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lease.released.wait(), lease.ttl_seconds / 4)
                return
            if not (lease.valid and await self._renew(lease)):
                break
        lease.lost.set()
        log.warning("lock_lost", key=lease.key)

    async def _renew(self, lease: Lease) -> bool:
        """Whether it is still ours, as far as Redis can be asked."""
        asked_at = clocks.seconds()
        try:
            kept = await self._redis.eval(RENEW, 1, lease.key, lease.token, self._ttl_ms)
        except (RedisError, OSError) as error:
            log.warning("lock_renewal_failed", key=lease.key, error=str(error))
            return True
        if kept:
            lease.renewed_at = asked_at
        return bool(kept)

    async def _release(self, lease: Lease) -> None:
        try:
            await self._redis.eval(RELEASE, 1, lease.key, lease.token)
        except (RedisError, OSError) as error:
            log.warning("lock_release_failed", key=lease.key, error=str(error))

    @property
    def _ttl_ms(self) -> int:
        return int(self._ttl.total_seconds() * 1000)


def _text(value: bytes | str | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
