"""Plans of a small definition, over an Odoo that is a few values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from service.odoo.errors import AccessDenied, OdooError, TimedOut, Unreachable
from service.odoo.records import Record
from service.posting.plan import PlannedStep, plan
from service.posting.step import (
    Blocked,
    Call,
    Definition,
    Done,
    Halt,
    Observation,
    Pending,
    Profile,
    Step,
    Work,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = timedelta(seconds=5)


class Paper(BaseModel):
    name: str = "A"


class Facts(BaseModel):
    order: int | None = None


PaperWork = Work[Paper, Profile, Facts]


@dataclass
class FewValues:
    """Answers every read with its values; a call of anything else is counted."""

    values: dict[str, Any] = field(default_factory=dict)
    trouble: OdooError | None = None
    hangs: bool = False
    calls: int = 0

    async def read(self, model: str, ids: Sequence[int], *_: Any, **__: Any) -> list[Record]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble is not None:
            raise self.trouble
        return [Record(model, {"id": number, **self.values}) for number in ids]

    async def search_read(self, model: str, *_: Any, **__: Any) -> list[Record]:
        return await self.read(model, [1])

    async def execute_kw(self, *_: Any, **__: Any) -> Any:
        self.calls += 1


async def named(work: PaperWork) -> Observation:
    """Written."""
    [paper] = await work.odoo.read("paper", [1], ["name"])
    before, after = {"name": paper.text("name")}, {"name": work.subject.name}
    return Done(message="named") if before == after else Pending(write("paper", 1, before, after))


async def ordered(work: PaperWork) -> Observation:
    """Created."""
    [paper] = await work.odoo.read("paper", [1], ["order"])
    match paper.values.get("order"):
        case None:
            return Pending(Call(model="paper", method="make_order", args=[[1]]))
        case "several":
            raise Halt("several_orders", "Leave one.")
        case order:
            return Done({"order": order})


async def stamped(work: PaperWork) -> Observation:
    """Made after the order."""
    assert work.facts.order is not None
    [order] = await work.odoo.read("order", [work.facts.order], ["stamp"])
    if order.values.get("stamp"):
        return Done()
    return Pending(Call(model="order", method="stamp", args=[[order.id]]))


PAPER: Definition[Paper, Profile, Facts] = Definition(
    kind="paper",
    title="Paper",
    input_model=Paper,
    subject_model=Paper,
    profile_model=Profile,
    facts_model=Facts,
    admit=lambda given, _: given,
    document_key=lambda paper: paper.name,
    today=lambda _: date(2026, 11, 25),
    rights={},
    steps=(
        Step(number=1, name="named", title="Name", observe=named, repeatable=True),
        Step(number=2, name="ordered", title="Order", observe=ordered),
        Step(number=3, name="off", title="Off", observe=named, disabled="not wanted"),
        Step(number=4, name="stamped", title="Stamp", observe=stamped),
    ),
)


async def planned(
    odoo: FewValues,
    definition: Definition[Any, Any, Any] = PAPER,
    limit: timedelta = LIMIT,
) -> tuple[PlannedStep, ...]:
    """The plan for one paper."""
    return await plan(
        definition, odoo=odoo, subject=Paper(), profile=Profile(), facts={}, limit=limit
    )


def outcomes(steps: Sequence[PlannedStep]) -> list[tuple[str, int | None]]:
    """Outcome of each step and on which it depends."""
    return [(step.outcome, step.depends_on) for step in steps]


async def test_what_is_done_is_found_with_its_facts() -> None:
    """Facts of one step are known to the next, as in a run."""
    steps = await planned(FewValues({"name": "A", "order": 7, "stamp": True}))

    assert outcomes(steps) == [("done", None), ("done", None), ("disabled", None), ("done", None)]
    assert steps[0].message == "named"
    assert steps[2].message == "not wanted"


async def test_the_next_call_is_told_with_before_and_after() -> None:
    """A step that is missing shows what it would change."""
    steps = await planned(FewValues({"name": "B", "order": 7, "stamp": True}))

    call = steps[0].call
    assert call is not None
    assert (call.model, call.method, call.before, call.after) == (
        "paper",
        "write",
        {"name": "B"},
        {"name": "A"},
    )


async def test_steps_after_a_repeatable_one_are_looked_at() -> None:
    """A write of fixed values hides nothing."""
    steps = await planned(FewValues({"name": "B", "order": 7}))

    assert outcomes(steps) == [
        ("would_run", None),
        ("done", None),
        ("disabled", None),
        ("would_run", None),
    ]


async def test_steps_after_one_that_creates_depend_on_it() -> None:
    """What it creates is not there to be looked at, and no missing fact becomes an error."""
    steps = await planned(FewValues({"name": "A"}))

    assert outcomes(steps) == [
        ("done", None),
        ("would_run", None),
        ("disabled", None),
        ("depends", 2),
    ]


async def test_a_blocked_step_says_why_and_hides_the_rest() -> None:
    """With its stable code; the posting would stop there."""
    steps = await planned(FewValues({"name": "A", "order": "several"}))

    assert outcomes(steps) == [
        ("done", None),
        ("blocked", None),
        ("disabled", None),
        ("depends", 2),
    ]
    assert (steps[1].code, steps[1].message) == ("several_orders", "Leave one.")


async def test_a_step_that_an_earlier_one_may_unblock_is_not_called_blocked() -> None:
    """It depends on the step that would run first, and says what stops it as Odoo looks now."""
    steps = await planned(FewValues({"name": "B", "order": "several"}))

    assert outcomes(steps)[:2] == [("would_run", None), ("depends", 1)]
    assert steps[1].code == "several_orders"
    assert outcomes(steps)[3] == ("depends", 1)


async def test_a_fact_that_a_repeatable_step_would_bring_is_not_an_error() -> None:
    """The step that needs it depends on that one."""
    first, second, third, fourth = PAPER.steps
    creates = replace(second, repeatable=True)

    odoo = FewValues({"name": "A"})

    steps = await planned(odoo, replace(PAPER, steps=(first, creates, third, fourth)))

    assert outcomes(steps)[3] == ("depends", 2)


async def test_a_defect_of_a_definition_is_not_hidden() -> None:
    """An error that no earlier step explains is raised."""
    first, second, third, _ = PAPER.steps
    broken = Step(number=4, name="broken", title="Broken", observe=stamped)

    async def nothing(_: PaperWork) -> Observation:
        return Done()

    idle = replace(PAPER, steps=(replace(first, observe=nothing), replace(second, observe=nothing),
                                 third, broken))  # fmt: skip
    with pytest.raises(AssertionError):
        await planned(FewValues(), idle)


@pytest.mark.parametrize("trouble", [Unreachable("away"), AccessDenied("no")])
async def test_trouble_of_odoo_is_raised(trouble: OdooError) -> None:
    """Could not look is never an outcome."""
    with pytest.raises(type(trouble)):
        await planned(FewValues(trouble=trouble))


async def test_a_plan_that_takes_too_long_is_a_timeout() -> None:
    """All looks together have one deadline."""
    with pytest.raises(TimedOut, match=r"0\.05 s"):
        await planned(FewValues(hangs=True), limit=timedelta(seconds=0.05))


async def test_a_step_that_calls_odoo_cannot() -> None:
    """Whatever a definition does, only reads reach Odoo."""

    async def calls(work: PaperWork) -> Observation:
        await getattr(work.odoo, "execute_kw")("paper", "write", [])  # noqa: B009  hidden from mypy
        return Blocked("unreached", "")

    odoo = FewValues()
    with pytest.raises(AttributeError):
        await planned(odoo, replace(PAPER, steps=(replace(PAPER.steps[0], observe=calls),)))

    assert odoo.calls == 0
