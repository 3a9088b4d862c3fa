"""The keeper of one kind of work: takes what a job names, and works on it until it is over here.

A job of the queue only brings its work here. Once that is claimed the job is over, and the keeper
has it for as long as its process shows that it lives.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from uuid import UUID

import structlog
from pgqueuer.domain.errors import RetryRequested

from service.errors import UnknownName

if TYPE_CHECKING:
    from pgqueuer.domain.models import Job

    from service.pulse import Pulse

log = structlog.get_logger()

TROUBLE_DELAY = timedelta(seconds=1)
RING_AGAIN = timedelta(seconds=0.5)

C = TypeVar("C")


class Engine(Protocol[C]):
    """What works on one kind of work; a claim is the right to do so."""

    async def claim(self, work_id: UUID, /) -> C | None:
        """Take it; None when it is over, or another worker that lives has it."""
        ...

    async def work(self, claim: C, /) -> None:
        """Take it to its end, or to its place in the queue."""
        ...


@dataclass(frozen=True)
class Context:
    """The process that the keepers belong to: `tasks` ends when all their work has."""

    pulse: Pulse
    stopping: asyncio.Event
    tasks: asyncio.TaskGroup


class Keeper(Generic[C]):
    """Works on `most` at a time; each that stalls is cut off and claimed again."""

    def __init__(self, noun: str, engine: Engine[C], context: Context, *, most: int) -> None:
        self._noun = noun
        self._engine = engine
        self._pulse = context.pulse
        self._stopping = context.stopping
        self._tasks = context.tasks
        self._places = asyncio.Semaphore(most)
        self._kept: set[UUID] = set()

    async def take(self, job: Job) -> None:
        """Begin with what a job names; a job that cannot be taken now goes back into the queue."""
        work_id = UUID((job.payload or b"").decode())
        if work_id in self._kept:
            raise RetryRequested(RING_AGAIN, "this worker is not done with it yet")
        self._kept.add(work_id)
        await self._places.acquire()
        claim = None
        try:
            claim = await self._claim(work_id)
        finally:
            if claim is None:
                self._let_go(work_id)
        if claim is not None:
            self._tasks.create_task(self._keep(work_id, claim), name=f"{self._noun} {work_id}")

    async def _claim(self, work_id: UUID) -> C | None:
        if self._stopping.is_set():
            raise RetryRequested(timedelta(0), "the worker is stopping")
        try:
            return await self._engine.claim(work_id)
        except UnknownName:
            log.warning("work_gone", kind=self._noun, id=str(work_id))
            return None
        except Exception as error:
            log.warning("claim_failed", kind=self._noun, id=str(work_id), error=str(error))
            raise RetryRequested(TROUBLE_DELAY, type(error).__name__) from error

    def _let_go(self, work_id: UUID) -> None:
        self._kept.discard(work_id)
        self._places.release()

    async def _keep(self, work_id: UUID, first: C) -> None:
        """Work until it is over here, in as many attempts as that takes."""
        claim: C | None = first
        try:
            while claim is not None:
                if await self._attempt(work_id, claim):
                    return
                claim = await self._claim_again(work_id)
        finally:
            self._let_go(work_id)

    async def _attempt(self, work_id: UUID, claim: C) -> bool:
        """Whether the attempt came to an end of its own; one that stalls is cut off."""
        of = {"kind": self._noun, "id": str(work_id)}
        attempt = asyncio.create_task(self._engine.work(claim), name=f"attempt {work_id}")
        stall = asyncio.create_task(self._pulse.stall(), name=f"stall {work_id}")
        try:
            await asyncio.wait({attempt, stall}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (attempt, stall):
                task.cancel()
            outcome, _ = await asyncio.gather(attempt, stall, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            log.warning("attempt_cut_off", **of)
        elif isinstance(outcome, Exception):
            log.warning("attempt_failed", **of, exc_info=outcome)
        return outcome is None

    async def _claim_again(self, work_id: UUID) -> C | None:
        """Claim what an attempt broke off from, once that can be done."""
        while not self._stopping.is_set():
            with contextlib.suppress(RetryRequested):
                return await self._claim(work_id)
            await self._pause(TROUBLE_DELAY)
        return None

    async def _pause(self, length: timedelta) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), length.total_seconds())
