"""What a posting is made of: definitions, steps, and what looking at Odoo can tell.

A definition reads like its procedure manual: an ordered list of numbered steps. A step *observes*
Odoo and answers with one of three values: `Done`, `Pending` with the one call that is missing, or
`Blocked` with the reason why a person is needed. It never changes Odoo itself: the engine makes the
call, so that planning, running and resuming are the same loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from service.odoo.records import Caller, Reader
    from service.sheets.column import Column

SubjectT = TypeVar("SubjectT", bound=BaseModel)
ProfileT = TypeVar("ProfileT", bound="Profile")
FactsT = TypeVar("FactsT", bound=BaseModel)


class Timing(BaseModel):
    """A deployment's own times for a step, in seconds; what is left out stays as defined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: float | None = Field(default=None, gt=0, description="of the call")
    interval_seconds: float | None = Field(default=None, gt=0, description="between two looks")
    settle_seconds: float | None = Field(
        default=None, gt=0, description="how long to look for the effect, since the call was sent"
    )


class Profile(BaseModel):
    """A deployment's ids and rules for one kind of posting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timings: dict[str, Timing] = Field(
        default_factory=dict, description="by step name, where this Odoo is slower or faster"
    )


Operation = Literal["read", "write", "create", "unlink"]
StopStatus = Literal["failed", "needs_attention", "waiting"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to Odoo that changes it, with what it changes.

    `before` and `after` hold the fields that the call is meant to change, as Odoo shows them.
    """

    model: str
    method: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[int, ...]:
        """The records it is called on, by Odoo's convention the first argument."""
        match self.args:
            case [[*ids], *_] if all(isinstance(item, int) for item in ids):
                return tuple(ids)
            case _:
                return ()

    @property
    def target(self) -> dict[str, Any]:
        """What it calls and on which records, as the ledger keeps it."""
        return {"model": self.model, "method": self.method, "ids": list(self.ids)}


def write(model: str, record_id: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> Call:
    """A write of the values of `after` that differ from `before`."""
    values = {name: value for name, value in after.items() if before.get(name) != value}
    return Call(
        model=model,
        method="write",
        args=[[record_id], values],
        before={name: before.get(name) for name in values},
        after=values,
    )


@dataclass(frozen=True)
class Done:
    """The step's effect is there. `facts` are what later steps need to know of it."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class Pending:
    """The effect is not there; `call` would bring it about, or bring it one write nearer.

    With `tolerated`, a refusal by Odoo does not stop the posting: it is recorded as a warning.
    """

    call: Call
    tolerated: bool = False


@dataclass(frozen=True)
class Blocked:
    """The posting cannot go on: a stable code, and a sentence that a person can act on.

    `needs_attention` means that Odoo itself has to be looked at; `waiting` that somebody else acts
    there and the posting will look again after `look_after`.
    """

    code: str
    message: str
    status: StopStatus = "failed"
    look_after: timedelta | None = None


Observation = Done | Pending | Blocked


class Halt(Exception):
    """Carries a `Blocked` out of the helpers of an observation; the engine takes it as that."""

    def __init__(
        self,
        code: str,
        message: str,
        status: StopStatus = "failed",
        look_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.blocked = Blocked(code, message, status, look_after)


@dataclass(frozen=True, kw_only=True)
class Work(Generic[SubjectT, ProfileT, FactsT]):
    """What a step knows: the document, the deployment's rules, and what was found so far."""

    odoo: Reader
    subject: SubjectT
    profile: ProfileT
    facts: FactsT
    today: date


@dataclass(frozen=True)
class Settle:
    """How to look for the effect of a call whose outcome is unknown.

    Every `interval`, until `limit` has passed since the call was sent. When the effect could still
    arrive later, `late_arrival` ends the search with a person; otherwise the call may be repeated.
    """

    interval: timedelta = timedelta(seconds=5)
    limit: timedelta = timedelta(seconds=180)
    late_arrival: bool = False


async def perform(odoo: Caller, call: Call, limit: timedelta) -> Done | None:
    """The usual act: make the call; whether it worked is for the observation to say."""
    await odoo.execute_kw(
        call.model,
        call.method,
        call.args,
        call.kwargs,
        timeout_seconds=limit.total_seconds(),
    )
    return None


@dataclass(frozen=True, kw_only=True)
class Step(Generic[SubjectT, ProfileT, FactsT]):
    """One numbered step.

    `repeatable`: its calls write fixed values, so one of unknown outcome may be sent again at once.
    `required`: a failure stops the posting; otherwise it is recorded as a warning.
    `most_calls`: in one run; when it needs more, somebody undoes what it does.
    `act` answers `Done` where only the call's own answer proves the effect, else None.
    `undo` looks the other way: `Done` when nothing of the step's effect is left in Odoo, `Pending`
    with the call that takes it back, `Blocked` where that cannot be done any more. A step without
    it leaves nothing that has to be taken back.
    `disabled`: the reason why the number is kept but nothing is done.
    `undoing`: this is a step turned round by `turned_round`.
    """

    number: int
    name: str
    title: str
    observe: Callable[[Work[SubjectT, ProfileT, FactsT]], Awaitable[Observation]]
    act: Callable[[Caller, Call, timedelta], Awaitable[Done | None]] = perform
    undo: Callable[[Work[SubjectT, ProfileT, FactsT]], Awaitable[Observation]] | None = None
    repeatable: bool = False
    required: bool = True
    most_calls: int = 8
    timeout: timedelta = timedelta(seconds=90)
    settle: Settle = field(default_factory=Settle)
    disabled: str | None = None
    undoing: bool = False

    def __post_init__(self) -> None:
        """Refuse a step that would stop looking while its call may still be under way."""
        if self.settle.limit <= self.timeout:
            raise ValueError(f"{self.name}: it must settle for longer than its call may take")

    def turned_round(self) -> Step[SubjectT, ProfileT, FactsT] | None:
        """The step that undoes this one, None where there is nothing to undo.

        What it calls takes something back and may come late without harm.
        """
        if self.undo is None:
            return None
        return replace(
            self,
            observe=self.undo,
            act=perform,
            undo=None,
            repeatable=False,
            required=True,
            settle=replace(self.settle, late_arrival=False),
            undoing=True,
        )

    def timed(self, timing: Timing | None) -> Step[SubjectT, ProfileT, FactsT]:
        """The same step with a deployment's own times."""
        if timing is None:
            return self
        settle = replace(
            self.settle,
            interval=_seconds(timing.interval_seconds, self.settle.interval),
            limit=_seconds(timing.settle_seconds, self.settle.limit),
        )
        return replace(self, timeout=_seconds(timing.timeout_seconds, self.timeout), settle=settle)


def _seconds(value: float | None, default: timedelta) -> timedelta:
    return default if value is None else timedelta(seconds=value)


@dataclass(frozen=True, kw_only=True)
class Definition(Generic[SubjectT, ProfileT, FactsT]):
    """A kind of posting.

    `admit` turns the caller's input into the subject and raises `InvalidInput` naming the field;
    `document_key` tells two postings of the same document from two documents, `document_type` what
    documents it tells apart: kinds that post the same documents name the same one, and a document
    has one posting by all of them; without it the kind has documents of its own. `rights` are the
    operations that the integration's user needs on each model. `columns` are those of a sheet of
    such documents; without any, no file of this kind is taken.
    """

    kind: str
    title: str
    input_model: type[BaseModel]
    subject_model: type[SubjectT]
    profile_model: type[ProfileT]
    facts_model: type[FactsT]
    admit: Callable[[Any, ProfileT], SubjectT]
    document_key: Callable[[SubjectT], str]
    today: Callable[[ProfileT], date]
    rights: Mapping[str, tuple[Operation, ...]]
    steps: tuple[Step[SubjectT, ProfileT, FactsT], ...]
    columns: tuple[Column, ...] = ()
    document_type: str = ""

    def __post_init__(self) -> None:
        """Refuse a definition whose steps are not numbered from 1 without gaps."""
        object.__setattr__(self, "document_type", self.document_type or self.kind)
        numbers = [step.number for step in self.steps]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"{self.kind}: steps must be numbered from 1 without gaps: {numbers}")

    async def observe(
        self,
        step: Step[SubjectT, ProfileT, FactsT],
        *,
        odoo: Reader,
        subject: SubjectT,
        profile: ProfileT,
        facts: Mapping[str, Any],
    ) -> Observation:
        """What Odoo shows of a step, given the facts that earlier ones have found."""
        work = Work(
            odoo=odoo,
            subject=subject,
            profile=profile,
            facts=self.facts_model.model_validate(facts),
            today=self.today(profile),
        )
        try:
            return await step.observe(work)
        except Halt as halt:
            return halt.blocked


AnyDefinition = Definition[Any, Any, Any]
AnyStep = Step[Any, Any, Any]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Where a posting goes: the caller of one Odoo, and the profile of its kind there."""

    connection: str
    odoo: Caller
    profile: Profile


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who asked, and from where."""

    name: str
    ip: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewPosting:
    """An accepted document that is about to be written down.

    `document_type` is that of the definition; without it the kind's own.
    """

    id: UUID
    kind: str
    connection: str
    document_key: str
    subject: BaseModel
    total_steps: int
    reference: str | None
    actor: Actor
    document_type: str = ""

    def __post_init__(self) -> None:
        """Fill in the type of the document."""
        object.__setattr__(self, "document_type", self.document_type or self.kind)
