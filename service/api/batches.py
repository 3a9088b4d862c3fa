"""Batches over HTTP: many documents accepted at once, and how far they are."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Form, Query, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.api import problems, rows
from service.api.auth import Caller
from service.api.bodies import FORM, Text
from service.api.dependencies import CurrentRuntime, MayPost, MayRead
from service.api.idempotency import OnceFormRoute, OnceRoute
from service.api.postings import (
    DEFINITIONS,
    MOST_ITEMS,
    REQUEST_SCHEMA,
    PostingRequest,
    Status,
    new_posting,
)
from service.api.problems import FieldProblem
from service.errors import InvalidInput, Problem, UnknownName
from service.posting.batch import Answer, Batch, BatchStatus, NewBatch, NewItem
from service.posting.step import AnyDefinition
from service.runtime import Runtime
from service.sheets.lines import MOST_BYTES

router = APIRouter(prefix="/v1/postings/batch", tags=["postings"], route_class=OnceRoute)
files = APIRouter(prefix="/v1/postings/batch", route_class=OnceFormRoute, include_in_schema=False)
"""The form of the same path, which is asked first; it is described with the JSON's route."""

MOST_POSTINGS = 1_000
MOST_PROBLEMS = 20
_REQUEST: TypeAdapter[Any] = TypeAdapter(PostingRequest)


class BatchFile(BaseModel):
    """A file of documents to be posted together."""

    model_config = ConfigDict(extra="forbid")

    file: UploadFile = Field(
        description=(
            f"CSV (; , or tab; UTF-8) or XLSX (its first sheet), {MOST_BYTES} bytes and 1,000 rows "
            "at most: a header with the names of the input's fields, and a line for each document. "
            "Dates like 24/11/2026 or 2026-11-24, amounts like 1.234,56 or 1234.56"
        )
    )
    kind: Text = Field(description="of all documents", examples=["title_settlement"])
    connection: Text = Field(max_length=200, examples=["main"])
    reference: Text | None = Field(
        default=None, max_length=200, description="the caller's own name for the batch"
    )
    partial: bool = Field(
        default=False, description="post the right rows although others are wrong"
    )
    again: bool = Field(default=False, description="take a file that was accepted before")


class BatchRequest(BaseModel):
    """Documents to be posted together."""

    model_config = ConfigDict(extra="forbid")

    reference: str | None = Field(
        default=None, max_length=200, description="the caller's own name for the batch"
    )
    items: list[Any] = Field(
        min_length=1, max_length=MOST_POSTINGS, json_schema_extra={"items": REQUEST_SCHEMA}
    )


class ItemView(BaseModel):
    """One item of a batch."""

    model_config = ConfigDict(from_attributes=True)

    position: int = Field(description="its place in the request, from 0")
    answer: Answer = Field(
        description=(
            "accepted: it is being posted; live: its document is being posted already, by "
            "posting_id; completed: it was posted before; invalid: see problems"
        )
    )
    reference: str | None
    problems: list[FieldProblem]
    posting_id: UUID | None
    document_key: str | None
    status: Status | None = Field(description="of the posting, now")
    code: str | None
    message: str | None


class BatchView(BaseModel):
    """A batch."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    reference: str | None
    file_sha256: str | None = Field(description="digest of the file that it came in")
    status: BatchStatus = Field(
        description="running: something is still to come; stopped: nothing goes on by itself"
    )
    total: int
    over: int = Field(description="items that are completed, stopped or invalid")
    completed: int
    actor: str
    created_at: dt.datetime
    updated_at: dt.datetime


class AcceptedBatch(BatchView):
    """A batch as it was accepted, with the answer to each item."""

    answers: dict[Answer, int] = Field(description="how many items were answered so")
    items: list[ItemView] = Field(description="in the order of the request")


class ItemPage(BaseModel):
    """Items of a batch, in the order of the request."""

    items: list[ItemView]
    next_cursor: int | None = Field(description="give it as `after` for the next page")


@router.post(
    "",
    status_code=202,
    operation_id="create_batch",
    summary="Post many documents",
    responses={
        **problems.responses(404, 409, 413, 422),
        202: {
            "headers": {"Location": {"schema": {"type": "string"}}},
            "description": "Accepted: the valid items are being posted",
        },
    },
    openapi_extra={
        "requestBody": {
            "content": {"multipart/form-data": {"schema": BatchFile.model_json_schema()}}
        }
    },
)
async def create_batch(
    body: BatchRequest, runtime: CurrentRuntime, caller: MayPost, response: Response
) -> AcceptedBatch:
    """Accept up to 1,000 documents, each as a posting of its own, in one transaction.

    Each item is answered by itself; a wrong one stops no other, but one of a connection that the
    key is not for is refused with all others. Only when all are wrong nothing is
    written, and the answer is 422. Follow the batch by its id like any job: its steps are items.

    As a form, a file of CSV or XLSX: all its rows are checked first, and unless `partial` nothing
    is posted while one is wrong: 422 with line, column and reason of each. A file that was accepted
    before is 409.
    """
    items = await asyncio.to_thread(
        lambda: [_item(runtime, caller, *numbered) for numbered in enumerate(body.items)]
    )
    if all(item.posting is None for item in items):
        raise InvalidInput(
            [
                Problem(f"items.{item.position}.{wrong.field}", wrong.message, wrong.code)
                for item in items
                for wrong in item.problems
            ]
        )
    new = NewBatch(id=uuid4(), reference=body.reference, actor=caller.actor, items=items)
    return await _accept(runtime, new, response)


@files.post("", status_code=202)
async def create_batch_of_file(
    form: Annotated[BatchFile, Form(media_type=FORM)],
    runtime: CurrentRuntime,
    caller: MayPost,
    response: Response,
) -> AcceptedBatch:
    """Accept the documents of a file; `create_batch` describes it."""
    caller.key.check_connection(form.connection)
    content = await form.file.read(MOST_BYTES + 1)
    digest = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
    definition = _definition(form.kind)
    runtime.connections.profile(form.connection, form.kind)
    if not form.again:
        await runtime.ledger.refuse_known_file(digest)
    around = {"kind": form.kind, "connection": form.connection}
    read = await asyncio.to_thread(
        rows.read, content, definition, around, partial(_item, runtime, caller)
    )
    read.check(partial=form.partial)
    new = NewBatch(
        id=uuid4(),
        reference=form.reference,
        actor=caller.actor,
        items=read.items,
        file_sha256=digest,
        again=form.again,
    )
    return await _accept(runtime, new, response)


async def _accept(runtime: Runtime, new: NewBatch, response: Response) -> AcceptedBatch:
    accepted = await runtime.ledger.accept_batch(new)
    stored = await runtime.ledger.batch_items(new.id, after=-1, limit=len(new.items))
    response.headers["Location"] = f"/v1/postings/batch/{new.id}"
    answers = [item.answer for item in stored]
    return AcceptedBatch.model_validate(
        {
            **_view(accepted).model_dump(),
            "answers": {answer: answers.count(answer) for answer in dict.fromkeys(answers)},
            "items": [ItemView.model_validate(item) for item in stored],
        }
    )


@router.get(
    "/{batch_id}",
    operation_id="get_batch",
    summary="One batch",
    responses=problems.responses(404, 422),
)
async def get_batch(batch_id: UUID, runtime: CurrentRuntime, caller: MayRead) -> BatchView:
    """How far it is."""
    batch = await runtime.ledger.get_batch(batch_id)
    await _check_reach(runtime, caller, batch_id)
    return _view(batch)


@router.get(
    "/{batch_id}/items",
    operation_id="list_batch_items",
    summary="The items of a batch",
    responses=problems.responses(404, 422),
)
async def list_batch_items(
    batch_id: UUID,
    runtime: CurrentRuntime,
    caller: MayRead,
    after: Annotated[int, Query(ge=-1, le=MOST_POSTINGS)] = -1,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = MOST_ITEMS,
) -> ItemPage:
    """What became of each document, in the order of the request."""
    await _check_reach(runtime, caller, batch_id)
    items = await runtime.ledger.batch_items(batch_id, after=after, limit=limit + 1)
    return ItemPage(
        items=[ItemView.model_validate(item) for item in items[:limit]],
        next_cursor=items[limit - 1].position if len(items) > limit else None,
    )


async def _check_reach(runtime: Runtime, caller: Caller, batch_id: UUID) -> None:
    """Raise `ConnectionNotAllowed` unless the key reaches every document of a batch."""
    if caller.key.connections is not None:
        for connection in await runtime.ledger.batch_connections(batch_id):
            caller.key.check_connection(connection)


def _definition(kind: str) -> AnyDefinition:
    if kind not in DEFINITIONS:
        raise UnknownName("kind", kind[: problems.LONGEST_NAME], list(DEFINITIONS))
    return DEFINITIONS[kind]


def _view(batch: Batch) -> BatchView:
    return BatchView.model_validate(batch)


def _item(runtime: Runtime, caller: Caller, position: int, given: Any) -> NewItem:
    """One item, read and checked as a request of its own would be.

    One that the key does not allow is no matter of the item: it raises `ConnectionNotAllowed`.
    """
    try:
        body = _REQUEST.validate_python(given)
        caller.key.check_connection(body.connection)
        profile = runtime.connections.profile(body.connection, body.kind)
        posting = new_posting(body, DEFINITIONS[body.kind], profile, caller.actor)
    except ValidationError as error:
        wrong = [Problem(**found.model_dump()) for found in problems.fields_of(error, given)]
        return _invalid(position, given, wrong)
    except InvalidInput as error:
        return _invalid(position, given, error.problems)
    except UnknownName as error:
        return _invalid(position, given, [problems.unknown_field(error)])
    return NewItem(position=position, reference=body.reference, posting=posting)


def _invalid(position: int, given: Any, wrong: Sequence[Problem]) -> NewItem:
    reference = given.get("reference") if isinstance(given, dict) else None
    known = reference if isinstance(reference, str) else None
    return NewItem(position=position, reference=known, problems=wrong[:MOST_PROBLEMS])
