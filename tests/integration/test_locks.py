"""Locks on a real Valkey."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from service.errors import LockHeld, LockUnavailable
from service.locks import Locks

if TYPE_CHECKING:
    from pathlib import Path

KEY = "eclusa:lock:document"


@pytest.fixture
def locks(redis: Redis) -> Locks:
    """Locks that live for a short time."""
    return Locks(redis, ttl=timedelta(seconds=0.4))


async def until_held(redis: Redis) -> None:
    """Wait until the lock is there."""
    for _ in range(200):
        if await redis.get(KEY) == b"a#1":
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_a_lock_excludes_another_owner(locks: Locks) -> None:
    """The refusal names who holds it."""
    async with locks.hold("document", owner="a", rank=1):
        with pytest.raises(LockHeld) as refused:
            async with locks.hold("document", owner="b", rank=9):
                pass

    assert refused.value.holder == "a#1"


async def test_a_released_lock_is_free(locks: Locks, redis: Redis) -> None:
    """Nothing is left of it."""
    async with locks.hold("document", owner="a", rank=1):
        assert await redis.get(KEY) == b"a#1"

    assert await redis.get(KEY) is None


async def test_a_higher_rank_of_the_same_owner_takes_it_over(locks: Locks, redis: Redis) -> None:
    """The lower rank learns of it and does not release what it no longer has."""
    async with (
        locks.hold("document", owner="a", rank=1) as old,
        locks.hold("document", owner="a", rank=2),
    ):
        await asyncio.wait_for(old.lost.wait(), 2)

        assert not old.valid
        assert await redis.get(KEY) == b"a#2"


async def test_a_lower_rank_is_refused(locks: Locks) -> None:
    """An old claim cannot take the lock back."""
    async with locks.hold("document", owner="a", rank=2):
        with pytest.raises(LockHeld):
            async with locks.hold("document", owner="a", rank=1):
                pass


async def test_a_lock_is_renewed_beyond_its_time_to_live(locks: Locks, redis: Redis) -> None:
    """It outlives several of them."""
    async with locks.hold("document", owner="a", rank=1) as lease:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lease.lost.wait(), 1.2)

        assert await redis.get(KEY) == b"a#1"


async def test_a_flushed_lock_is_set_again(locks: Locks, redis: Redis) -> None:
    """A Redis that lost its data gets the lock back, unless somebody else has it by then."""
    async with locks.hold("document", owner="a", rank=1) as lease:
        await redis.flushall()
        await until_held(redis)

        assert lease.valid


async def test_a_stolen_lock_is_noticed(locks: Locks, redis: Redis) -> None:
    """The lease ends, and the thief's lock is not released."""
    async with locks.hold("document", owner="a", rank=1) as lease:
        await redis.set(KEY, "b#1")
        await asyncio.wait_for(lease.lost.wait(), 2)

    assert await redis.get(KEY) == b"b#1"


async def test_without_redis_there_is_no_lock(tmp_path: Path) -> None:
    """Locks fail closed."""
    gone = Redis.from_url(f"unix://{tmp_path}/nothing.sock")
    try:
        with pytest.raises(LockUnavailable):
            async with Locks(gone, ttl=timedelta(seconds=1)).hold("document", owner="a", rank=1):
                pass
    finally:
        await gone.aclose()
