"""The engine: claims postings, holds their lock, and brings them as far as they go.

What happens to a posting between its claim and its end is in `service.posting.run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from service.errors import EclusaError, FenceLost, LockHeld, LockUnavailable
from service.posting import reasons
from service.posting.ledger import CancelRequested
from service.posting.recorder import Recorder
from service.posting.run import LOCK_RETRY, HandOver, Hold, Run, Stop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import timedelta
    from uuid import UUID

    from service.locks import Lease, Locks
    from service.posting.ledger import Claim, Ledger
    from service.posting.step import AnyDefinition, Deployment
    from service.pulse import Pulse

log = structlog.get_logger()


class Engine:
    """Runs postings in one worker process."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        locks: Locks,
        definitions: Mapping[str, AnyDefinition],
        deploy: Callable[[str, str], Awaitable[Deployment]],
        worker: str,
        silence: timedelta,
        pulse: Pulse,
        stopping: asyncio.Event,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._definitions = definitions
        self._deploy = deploy
        self._worker = worker
        self._silence = silence
        self._pulse = pulse
        self._stopping = stopping

    async def run(self, posting_id: UUID) -> None:
        """Bring a posting as far as it goes, if there is something to do for it."""
        claim = await self.claim(posting_id)
        if claim is not None:
            await self.work(claim)

    async def claim(self, posting_id: UUID) -> Claim | None:
        """Take a posting; None when it is over, or another worker that lives has it.

        Raises `LockUnavailable` when no lock could be had anyway, and `DatabaseUnavailable`.
        """
        await self._locks.check()
        return await self._ledger.claim(posting_id, self._worker, self._silence)

    async def work(self, claim: Claim) -> None:
        """Bring a claimed posting as far as it goes; its end, or its place in the queue, is stored.

        Raises `DatabaseUnavailable`: then the claim holds, and the posting has to be claimed again.
        """
        recorder = Recorder(self._ledger, claim)
        try:
            await self._work_locked(claim, recorder)
        except FenceLost as error:
            log.warning("fence_lost", posting_id=str(error.posting_id), fence=error.fence)

    async def _work_locked(self, claim: Claim, recorder: Recorder) -> None:
        posting = claim.posting
        key = f"{posting.connection}:{posting.document_type}:{posting.document_key}"
        try:
            async with self._locks.hold(key, owner=str(posting.id), rank=claim.fence) as lease:
                await self._run(claim, recorder, lease)
        except (LockUnavailable, LockHeld) as error:
            await recorder.hand_over(str(error), LOCK_RETRY)
        except HandOver as error:
            await recorder.hand_over(str(error), error.after)

    async def _run(self, claim: Claim, recorder: Recorder, lease: Lease) -> None:
        """Do what the posting is meant to, and record how it ended."""
        try:
            run = await self._prepare(claim, recorder, lease)
            await run.settle_doubts()
            if claim.posting.intent == "compensate":
                await run.undo()
            else:
                await run.post()
        except Stop as stop:
            await recorder.stop(stop.reason, stop.step, stop.error)
        except CancelRequested:
            await recorder.cancel()
        except EclusaError:
            raise
        except Exception as error:
            log.exception("posting_broke", posting_id=str(claim.posting.id))
            await recorder.stop(reasons.internal_error(error))

    async def _prepare(self, claim: Claim, recorder: Recorder, lease: Lease) -> Run:
        """Bring together what the posting needs; stops when the deployment has it no more."""
        posting = claim.posting
        definition = self._definitions.get(posting.kind)
        if definition is None:
            raise Stop(reasons.not_deployed(f"no posting is of the kind {posting.kind!r}"))
        try:
            deployment = await self._deploy(posting.connection, posting.kind)
        except EclusaError as error:
            raise Stop(reasons.not_deployed(str(error))) from error
        return Run(definition, deployment, recorder, Hold(lease, self._pulse), self._stopping)
