"""Calls to Redis that nobody waits for long: bounded, and after a failure not tried for a while."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEAF_SECONDS = 2.0
"""After a failed call Redis is not called for so long."""


class Brief:
    """Bounds the calls of one purpose to so many seconds each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deaf_until = 0.0

    @property
    def deaf(self) -> bool:
        """Whether a call failed a moment ago."""
        return time.monotonic() < self._deaf_until

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Make a call in the block; raises `ConnectionError` at once while Redis is deaf."""
        if self.deaf:
            raise ConnectionError("Redis did not answer a moment ago")
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except (RedisError, OSError):
            self._deaf_until = time.monotonic() + DEAF_SECONDS
            raise
