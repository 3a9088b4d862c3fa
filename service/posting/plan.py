"""What a posting would do: the engine's way through the steps, looking only.

What is seen of a step counts as long as no earlier step would change it. The effect of a call that
is not repeatable (an order, a bill) is not there yet, so nothing after it can be looked at. After a
call that is repeatable the next steps are looked at, and what stops them may be just its absence.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, assert_never

from service.odoo.errors import Fault, OdooError, TimedOut
from service.odoo.records import OnlyReads
from service.posting.step import Blocked, Done, Pending

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from pydantic import BaseModel

    from service.odoo.records import Reader
    from service.posting.step import AnyDefinition, AnyStep, Call, Observation, Profile

Outcome = Literal["done", "would_run", "blocked", "disabled", "depends"]


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """What would become of one step.

    `call` is the one call that would be made next. With `depends`, `depends_on` is the earlier step
    that would change what this one sees, or that is blocked itself; `code` and `message` say what
    would stop it as Odoo looks now.
    """

    number: int
    name: str
    title: str
    outcome: Outcome
    code: str | None = None
    message: str | None = None
    call: Call | None = None
    depends_on: int | None = None


async def plan(
    definition: AnyDefinition,
    *,
    odoo: Reader,
    subject: BaseModel,
    profile: Profile,
    facts: Mapping[str, Any],
    limit: timedelta,
) -> tuple[PlannedStep, ...]:
    """Look at every step, within `limit`; nothing is written anywhere.

    Raises the `OdooError` of a look that failed, `TimedOut` when all looks together took too long.
    """
    way = _Way(definition, OnlyReads(odoo), subject, profile, facts)
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return tuple([await way.look(step) for step in definition.steps])
    except TimeoutError as error:
        seconds = limit.total_seconds()
        raise TimedOut(f"Odoo was too slow for a plan within {seconds:g} s") from error


class _Way:
    """One way through the steps, and what on it limits the view of later ones."""

    def __init__(
        self,
        definition: AnyDefinition,
        odoo: OnlyReads,
        subject: BaseModel,
        profile: Profile,
        facts: Mapping[str, Any],
    ) -> None:
        self._definition = definition
        self._odoo = odoo
        self._subject = subject
        self._profile = profile
        self._facts = dict(facts)
        self._would_run: int | None = None
        self._hidden_by: int | None = None

    async def look(self, step: AnyStep) -> PlannedStep:
        """The outcome of the next step."""
        if step.disabled is not None:
            return _planned(step, "disabled", message=step.disabled)
        if self._hidden_by is not None:
            return _planned(step, "depends", depends_on=self._hidden_by)
        observation = await self._observe(step)
        match observation:
            case Done():
                self._facts |= observation.facts
                return _planned(step, "done", message=observation.message or None)
            case Pending():
                self._would_run = step.number
                self._hidden_by = None if step.repeatable else step.number
                return _planned(step, "would_run", call=observation.call)
            case Blocked():
                return self._stopped(step, observation)
            case _:
                assert_never(observation)

    def _stopped(self, step: AnyStep, blocked: Blocked) -> PlannedStep:
        """Blocked for certain only where no earlier step would change what was seen."""
        self._hidden_by = step.number if self._would_run is None else self._would_run
        outcome: Outcome = "blocked" if self._would_run is None else "depends"
        return _planned(
            step,
            outcome,
            code=blocked.code,
            message=blocked.message,
            depends_on=self._would_run,
        )

    async def _observe(self, step: AnyStep) -> Observation:
        try:
            return await self._definition.observe(
                step,
                odoo=self._odoo,
                subject=self._subject,
                profile=self._profile,
                facts=self._facts,
            )
        except Fault as fault:
            if self._would_run is None:
                raise
            return Blocked(fault.code, fault.message)
        except OdooError:
            raise
        except Exception:
            # A fact that only the earlier step's effect brings is missing: no definition has to
            # expect that, since the engine only looks at a step once those before it are over.
            if self._would_run is None:
                raise
            return Blocked("not_seen_yet", "What this step looks at is not there yet.")


def _planned(step: AnyStep, outcome: Outcome, **more: Any) -> PlannedStep:
    return PlannedStep(
        number=step.number, name=step.name, title=step.title, outcome=outcome, **more
    )
