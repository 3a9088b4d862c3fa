"""Postings over HTTP: accept, look, resume, roll back, audit."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from service import postings
from service.api import problems
from service.api.auth import Caller
from service.api.bodies import Text
from service.api.dependencies import CurrentRuntime, MayPost, MayRead
from service.api.idempotency import CurrentTicket, OnceRoute, answer_of, response_of
from service.errors import InvalidInput, Problem, Refused
from service.idempotency import Answer
from service.posting.chain import DamageKind
from service.posting.ledger import Entry, Posting
from service.posting.step import AnyStep, NewPosting
from service.runtime import Runtime

if TYPE_CHECKING:
    from service.posting import audit
    from service.posting.step import Actor, AnyDefinition, Profile

router = APIRouter(prefix="/v1/postings", tags=["postings"], route_class=OnceRoute)

MOST_ITEMS = 200
SMALL_BYTES = 2_000
"""A request so small is read at once: it holds no document, and a thread would take longer."""

Status = Literal[
    "pending",
    "running",
    "waiting",
    "completed",
    "failed",
    "needs_attention",
    "rolled_back",
    "canceled",
]
StepState = Literal["open", "started", "unknown", "done", "found", "skipped", "failed", "undone"]


class PostingRequestBase(BaseModel):
    """A document to be posted."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    connection: str = Field(
        max_length=200, description="the Odoo database it goes to", examples=["main"]
    )
    input: Any
    reference: str | None = Field(
        default=None, max_length=200, description="the caller's own name for the document"
    )


def _request_model(definition: AnyDefinition) -> type[PostingRequestBase]:
    name = "".join(part.title() for part in definition.kind.split("_"))
    fields: dict[str, Any] = {
        "kind": (Literal[definition.kind], ...),
        "input": (definition.input_model, ...),
    }
    model: type[PostingRequestBase] = create_model(
        f"{name}Request",
        __base__=PostingRequestBase,
        __doc__=f"{definition.title}, to be posted.",
        **fields,
    )
    return model


DEFINITIONS = postings.catalog()

if TYPE_CHECKING:
    PostingRequest = PostingRequestBase
else:
    _MODELS = [_request_model(definition) for definition in DEFINITIONS.values()]
    PostingRequest = (
        Annotated[reduce(or_, _MODELS), Field(discriminator="kind")]
        if len(_MODELS) > 1
        else _MODELS[0]
    )


REQUEST_SCHEMA: dict[str, Any] = {
    "oneOf": [
        {"$ref": f"#/components/schemas/{_request_model(definition).__name__}"}
        for definition in DEFINITIONS.values()
    ]
}
"""A posting's request in the OpenAPI document, where each item is validated by itself."""


def admit(
    definition: AnyDefinition, given: Any, profile: Profile, place: str = "input"
) -> BaseModel:
    """The subject of an input; `InvalidInput` names the field below its place in the body."""
    try:
        subject: BaseModel = definition.admit(given, profile)
    except InvalidInput as error:
        raise InvalidInput(
            [Problem(f"{place}.{item.field}", item.message, item.code) for item in error.problems]
        ) from error
    return subject


def new_posting(
    body: PostingRequestBase, definition: AnyDefinition, profile: Profile, actor: Actor
) -> NewPosting:
    """What a request asks for, checked; raises `InvalidInput`. An XML takes milliseconds."""
    subject = admit(definition, body.input, profile)
    return NewPosting(
        id=uuid4(),
        kind=body.kind,
        connection=body.connection,
        document_type=definition.document_type,
        document_key=definition.document_key(subject),
        subject=subject,
        total_steps=len(definition.steps),
        reference=body.reference,
        actor=actor,
    )


class StepView(BaseModel):
    """One step of a posting, as the ledger has it."""

    number: int
    name: str
    title: str
    state: StepState = Field(description="open: nothing is recorded yet")
    attempt: int
    disabled: str | None = Field(description="why this number does nothing")


class PostingView(BaseModel):
    """A posting."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    connection: str
    document_key: str
    reference: str | None
    status: Status
    step: int = Field(description="the last step that is over")
    total_steps: int
    code: str | None = Field(description="why it stopped, for programs")
    message: str | None = Field(description="why it stopped, and what to do")
    facts: dict[str, Any] = Field(description="what was found in Odoo")
    intent: Literal["post", "compensate"] = Field(
        description="what a worker does with it: bring it into Odoo, or take it out again"
    )
    worker: str | None = Field(description="the process that took it last")
    cancel_requested_by: str | None = Field(
        description="who wants it canceled; it is, once the call under way is settled"
    )
    run: int = Field(description="1, and one more for each resume")
    actor: str
    created_at: dt.datetime
    updated_at: dt.datetime
    ended_at: dt.datetime | None


class PostingDetail(PostingView):
    """A posting with its steps."""

    steps: list[StepView]


class PostingPage(BaseModel):
    """Postings, newest first."""

    items: list[PostingView]
    next_cursor: str | None


class AuditView(BaseModel):
    """One audit record."""

    model_config = ConfigDict(from_attributes=True)

    posting_id: UUID
    seq: int
    at: dt.datetime
    run: int
    fence: int
    step: int
    step_name: str
    action: str
    status: Literal["success", "warning", "error"]
    posting_status: Status
    attempt: int
    model: str | None
    method: str | None
    message: str
    code: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    changed_fields: list[str] | None
    context: dict[str, Any] | None
    error: dict[str, Any] | None
    odoo_ids: dict[str, Any] | None = Field(
        description="the facts that were found or changed since the record before; null: gone"
    )
    duration_ms: int | None
    settles: int | None
    actor: str
    ip: str | None
    previous_hash: str
    hash: str


class AuditPage(BaseModel):
    """Audit records, oldest first."""

    items: list[AuditView]
    next_cursor: int | None = Field(description="give it as `after` for the next page")


class DamageView(BaseModel):
    """One audit record that is not as it was written."""

    model_config = ConfigDict(from_attributes=True)

    seq: int = Field(description="the number that it was written with")
    kind: DamageKind
    message: str


class VerdictView(BaseModel):
    """Whether an audit chain is whole."""

    model_config = ConfigDict(from_attributes=True)

    posting_id: UUID
    records: int = Field(description="how many there are")
    valid: bool
    damages: list[DamageView] = Field(description="every one that is seen, by number")


@router.post(
    "",
    status_code=202,
    operation_id="create_posting",
    summary="Post a document",
    responses={
        **problems.responses(404, 409, 413, 422),
        200: {"model": PostingView, "description": "The document was posted already"},
        202: {
            "model": PostingView,
            "headers": {"Location": {"schema": {"type": "string"}}},
            "description": "Accepted: it is being posted",
        },
    },
)
async def create_posting(
    request: Request,
    body: PostingRequest,
    runtime: CurrentRuntime,
    caller: MayPost,
    ticket: CurrentTicket,
) -> Response:
    """Accept a document: written down before this answers, posted by a worker afterwards.

    The same document again answers 409 with the id of its live posting, or 200 once completed.
    As another kind than it was posted, it answers 409 in either case.
    """
    caller.key.check_connection(body.connection)
    definition = DEFINITIONS[body.kind]
    profile = runtime.connections.profile(body.connection, body.kind)
    read = partial(new_posting, body, definition, profile, caller.actor)
    small = len(await request.body()) <= SMALL_BYTES
    new = read() if small else await asyncio.to_thread(read)
    return response_of(await runtime.intake.accept(new, ticket, _answer))


def _answer(outcome: Posting | Refused) -> Answer:
    """How what became of a document is answered."""
    if isinstance(outcome, Refused):
        return answer_of(problems.of_error(outcome))
    return Answer(
        status=200 if outcome.status == "completed" else 202,
        headers={
            "location": f"/v1/postings/{outcome.id}",
            "content-type": "application/json",
        },
        body=PostingView.model_validate(outcome).model_dump_json().encode(),
    )


@router.get(
    "",
    operation_id="list_postings",
    summary="List postings",
    responses=problems.responses(422),
)
async def list_postings(
    runtime: CurrentRuntime,
    caller: MayRead,
    status: Status | None = None,
    kind: Text | None = None,
    connection: Text | None = None,
    document_key: Text | None = None,
    reference: Text | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 50,
    cursor: str | None = None,
) -> PostingPage:
    """Newest first, in pages: give `next_cursor` back as `cursor`."""
    if connection is not None:
        caller.key.check_connection(connection)
    wanted = {
        "status": status,
        "kind": kind,
        "connection": connection,
        "document_key": document_key,
        "reference": reference,
    }
    page = await runtime.ledger.page(
        filters={name: value for name, value in wanted.items() if value is not None},
        connections=caller.key.connections,
        before=_read_cursor(cursor) if cursor is not None else None,
        limit=limit + 1,
    )
    return PostingPage(
        items=[PostingView.model_validate(posting) for posting in page[:limit]],
        next_cursor=_cursor(page[limit - 1]) if len(page) > limit else None,
    )


@router.get(
    "/{posting_id}",
    operation_id="get_posting",
    summary="One posting with its steps",
    responses=problems.responses(404, 422),
)
async def get_posting(posting_id: UUID, runtime: CurrentRuntime, caller: MayRead) -> PostingDetail:
    """Status, reason, facts, and the state of every step."""
    posting = await _posting(runtime, caller, posting_id)
    entries = {entry.number: entry for entry in await runtime.ledger.entries(posting_id)}
    steps = [_step(step, entries.get(step.number)) for step in DEFINITIONS[posting.kind].steps]
    return PostingDetail(**PostingView.model_validate(posting).model_dump(), steps=steps)


@router.get(
    "/{posting_id}/audit",
    operation_id="list_posting_audit",
    summary="What happened to a posting",
    responses=problems.responses(404, 422),
)
async def list_posting_audit(
    posting_id: UUID,
    runtime: CurrentRuntime,
    caller: MayRead,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = MOST_ITEMS,
) -> AuditPage:
    """Every step, call and change of status, oldest first, with the hash chain."""
    await _posting(runtime, caller, posting_id)
    records: list[audit.Record] = await runtime.ledger.history(
        posting_id, after=after, limit=limit + 1
    )
    return AuditPage(
        items=[AuditView.model_validate(record) for record in records[:limit]],
        next_cursor=records[limit - 1].seq if len(records) > limit else None,
    )


@router.get(
    "/{posting_id}/audit/verify",
    operation_id="verify_posting_audit",
    summary="Check a posting's audit chain",
    responses=problems.responses(404, 422),
)
async def verify_posting_audit(
    posting_id: UUID, runtime: CurrentRuntime, caller: MayRead
) -> VerdictView:
    """Whether a record was changed, removed, reordered or cut off, and which."""
    await _posting(runtime, caller, posting_id)
    return VerdictView.model_validate(await runtime.ledger.verify(posting_id))


@router.post(
    "/{posting_id}/resume",
    status_code=202,
    operation_id="resume_posting",
    summary="Resume a stopped posting",
    responses=problems.responses(404, 409, 422),
)
async def resume_posting(posting_id: UUID, runtime: CurrentRuntime, caller: MayPost) -> PostingView:
    """Go on where Odoo shows that it stopped."""
    await _posting(runtime, caller, posting_id)
    return PostingView.model_validate(await runtime.ledger.resume(posting_id, caller.actor))


@router.post(
    "/{posting_id}/rollback",
    operation_id="roll_back_posting",
    summary="Roll a stopped posting back",
    responses={
        **problems.responses(404, 409, 422),
        202: {"model": PostingView, "description": "A worker will undo it in Odoo"},
    },
)
async def roll_back_posting(
    posting_id: UUID,
    runtime: CurrentRuntime,
    caller: MayPost,
    response: Response,
    *,
    compensate: Annotated[
        bool, Query(description="also undo in Odoo what this posting did and can be undone")
    ] = False,
) -> PostingView:
    """Clear the links to Odoo. Resume it to start from the first step.

    Odoo is left as it is, unless `compensate` is true: then a worker first cancels what this
    posting made, last step first. What is posted for good is not undone: it needs a person.
    """
    await _posting(runtime, caller, posting_id)
    if not compensate:
        return PostingView.model_validate(await runtime.ledger.roll_back(posting_id, caller.actor))
    response.status_code = 202
    return PostingView.model_validate(await runtime.ledger.compensate(posting_id, caller.actor))


@router.post(
    "/{posting_id}/cancel",
    operation_id="cancel_posting",
    summary="Cancel a posting",
    responses={
        **problems.responses(404, 409, 422),
        202: {"model": PostingView, "description": "Canceled once the call under way is settled"},
    },
)
async def cancel_posting(
    posting_id: UUID, runtime: CurrentRuntime, caller: MayPost, response: Response
) -> PostingView:
    """End a posting for good; Odoo is left as it is, and the document may be posted anew.

    At once, also while a worker has it: no further call is made. A call that is under way, or whose
    outcome is unknown, is settled first.
    """
    await _posting(runtime, caller, posting_id)
    posting = await runtime.ledger.cancel(posting_id, caller.actor)
    if posting.status != "canceled":
        response.status_code = 202
    return PostingView.model_validate(posting)


async def _posting(runtime: Runtime, caller: Caller, posting_id: UUID) -> Posting:
    """A posting that the caller's key reaches; raises `UnknownName`, `ConnectionNotAllowed`."""
    posting = await runtime.ledger.get(posting_id)
    caller.key.check_connection(posting.connection)
    return posting


def _step(step: AnyStep, entry: Entry | None) -> StepView:
    return StepView.model_validate(
        {
            "number": step.number,
            "name": step.name,
            "title": step.title,
            "state": entry.state if entry else "open",
            "attempt": entry.attempt if entry else 0,
            "disabled": step.disabled,
        }
    )


def _cursor(posting: Posting) -> str:
    text = f"{posting.created_at.isoformat()}|{posting.id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[dt.datetime, UUID]:
    try:
        at, posting_id = base64.urlsafe_b64decode(cursor).decode().split("|")
        return dt.datetime.fromisoformat(at).astimezone(dt.UTC), UUID(posting_id)
    except (ValueError, OverflowError) as error:  # also what base64 and UTF-8 refuse
        problem = Problem("cursor", "is not a cursor that this service gave", "invalid_cursor")
        raise InvalidInput([problem]) from error
