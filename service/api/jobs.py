"""Progress of jobs: asked for, or followed live."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ARRAY, Uuid, any_, literal, select

from service.api import problems
from service.api.dependencies import CurrentActor, CurrentDraining, CurrentRuntime
from service.api.stream import EventStream
from service.events import Heads
from service.posting import progress
from service.runtime import Runtime
from service.tables import PostingRow

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LARGEST_ID = 2**31 - 1
FRESH = dt.timedelta(seconds=10)
"""Redis is believed for so long: should it miss an event, its view would stay as it was."""


def heads(runtime: Runtime) -> Heads:
    """How far postings are, asked of the database in one query."""

    async def stored(job_ids: Collection[UUID]) -> Mapping[UUID, int]:
        array = literal(list(job_ids), ARRAY(Uuid))  # one parameter, however many jobs
        query = select(PostingRow.id, PostingRow.audit_seq)
        async with runtime.database.transaction() as connection:
            rows = await connection.execute(query.where(PostingRow.id == any_(array)))
        return {row.id: row.audit_seq for row in rows}

    return stored


class ProgressView(BaseModel):
    """How far a job is."""

    model_config = ConfigDict(from_attributes=True)

    job_id: UUID
    status: str
    step: int
    total_steps: int
    percent: int
    message: str
    timestamp: dt.datetime


class EventView(BaseModel):
    """The `data` of an event."""

    job_id: UUID
    status: str
    step: int
    step_name: str
    total_steps: int
    percent: int
    action: str
    outcome: str
    attempt: int
    message: str
    code: str | None
    duration_ms: int | None
    timestamp: dt.datetime


@router.get(
    "/{job_id}/progress",
    operation_id="get_job_progress",
    summary="How far a job is",
    responses=problems.responses(404, 422),
)
async def get_job_progress(job_id: UUID, runtime: CurrentRuntime, _: CurrentActor) -> ProgressView:
    """The live view while it is fresh, else what the database says."""
    latest = await runtime.events.latest(job_id)
    if latest is not None:
        live = ProgressView.model_validate(dict(latest.data))
        if dt.datetime.now(dt.UTC) - live.timestamp < FRESH:
            return live
    posting = await runtime.ledger.get(job_id)
    newest = (await runtime.ledger.history(job_id, after=posting.audit_seq - 1))[-1]
    return ProgressView.model_validate(dict(progress.event(newest, posting.total_steps).data))


_EXAMPLE = (
    "id: 7\nevent: step\n"
    'data: {"action":"done","step":3,"step_name":"set_order_type","percent":18, …}\n\n'
)
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "Server-sent events `step`, `status` and `end`; the stream closes after `end`. "
            "The `data` of each is an EventView."
        ),
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": _EXAMPLE,
                "x-event-data": {"$ref": "#/components/schemas/EventView"},
            }
        },
    },
    204: {"description": "The job has ended and there is nothing after Last-Event-ID"},
}


@router.get(
    "/{job_id}/events",
    operation_id="follow_job",
    summary="Follow a job live",
    status_code=200,
    response_class=EventStream,
    responses={**problems.responses(404, 422), **_STREAM},
)
async def follow_job(
    job_id: UUID,
    runtime: CurrentRuntime,
    _: CurrentActor,
    draining: CurrentDraining,
    last_event_id: Annotated[int, Header(ge=0, le=LARGEST_ID)] = 0,
) -> Response:
    """All events since the first, or since Last-Event-ID, then live ones until the job ends.

    A browser's EventSource reconnects after every end, until it is answered 204.
    """
    posting = await runtime.ledger.get(job_id)
    head = posting.audit_seq
    if last_event_id >= head and posting.status in progress.ENDED:
        return Response(status_code=204)
    events = runtime.events.follow(job_id, min(last_event_id, head), head=head)
    return EventStream(events, draining)
