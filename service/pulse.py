"""The pulse of a process: whether its event loop has been running, so that others saw it alive.

A process that was stopped (SIGSTOP), or whose loop was blocked, was silent, and another one may
have taken its work over. It must notice that by itself, before it does anything else: what it knew
of its work is old.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from service import clocks

if TYPE_CHECKING:
    from datetime import timedelta

log = structlog.get_logger()

BEATS_PER_LIMIT = 8


class Pulse:
    """Counts the stalls of an event loop: the times it stood still for longer than `limit`."""

    def __init__(self, limit: timedelta) -> None:
        self._limit_seconds = limit.total_seconds()
        self._beat_at = clocks.seconds()
        self._stalls = 0
        self._stalled = asyncio.Event()

    def mark(self) -> int:
        """What `steady` compares with: take it when work begins."""
        return self._stalls

    def steady(self, mark: int) -> bool:
        """Whether the loop has been running since the mark was taken.

        It tells of a stall before the watch has noticed it: after a pause, callbacks of the network
        may be served before the watch's timer.
        """
        return self._stalls == mark and clocks.seconds() - self._beat_at <= self._limit_seconds

    async def stall(self) -> None:
        """Wait for the next stall."""
        await self._stalled.wait()

    async def watch(self) -> None:
        """Beat until cancelled, and tell of each stall."""
        self._beat_at = clocks.seconds()
        while True:
            await asyncio.sleep(self._limit_seconds / BEATS_PER_LIMIT)
            now = clocks.seconds()
            silent = now - self._beat_at
            self._beat_at = now
            if silent > self._limit_seconds:
                self._stalls += 1
                stalled, self._stalled = self._stalled, asyncio.Event()
                stalled.set()
                log.warning("event_loop_stalled", seconds=round(silent, 3))
