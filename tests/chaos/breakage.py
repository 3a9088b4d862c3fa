"""Deliberate faults in the service, to see that the checks see them.

They replace parts of the running service from outside; the service itself has no such switch.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.posting import audit
from service.posting.ledger import Ledger
from service.posting.run import Hold, Run
from service.posting.step import Actor, Done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.posting.ledger import Claim, Entry
    from service.posting.step import AnyStep, Observation

VARIABLE = "ECLUSA_TEST_BREAK"
KNOWN = ("skip-settle", "skip-fence")


def apply(name: str) -> None:
    """Break this process as named; the empty name breaks nothing."""
    match name:
        case "":
            return
        case "skip-settle":
            _skip_settle()
        case "skip-fence":
            _skip_fence()
        case _:
            raise SystemExit(f"{VARIABLE} is one of {', '.join(KNOWN)}, not {name!r}")


def _skip_settle() -> None:
    """Act again at once: what is not seen at the first look counts as not done."""

    async def look_once(self: Run, step: AnyStep, entry: Entry, error: Any = None) -> Observation:
        del error
        observation = await self._look(step)
        if isinstance(observation, Done):
            await self._recorder.done(step, entry, observation)
        return observation

    Run._settle = look_once  # type: ignore[method-assign]


def _skip_fence() -> None:
    """Write and call whatever the fence, the lock and the pulse say."""

    @asynccontextmanager
    async def unfenced(self: Ledger, claim: Claim) -> AsyncIterator[Any]:
        async with self._writing(claim.posting.id, Actor(name=audit.ENGINE)) as pen:
            pen.head = replace(pen.head, fence=claim.fence)
            yield pen

    Ledger._working = unfenced  # type: ignore[method-assign]
    Hold.lost = None  # type: ignore[method-assign, assignment]
