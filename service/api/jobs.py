"""Progress of jobs, that is of postings, batches and runs of syncs: asked for, or followed live."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api import problems
from service.api.auth import Caller
from service.api.dependencies import CurrentDraining, CurrentRuntime, MayRead
from service.api.stream import EventStream
from service.runtime import Runtime

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LARGEST_ID = 2**31 - 1
FRESH = dt.timedelta(seconds=10)
"""Redis is believed for so long: should it miss an event, its view would stay as it was."""


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
    """The `data` of an event. A batch's steps are its items, those of a sync's run its rows."""

    job_id: UUID
    status: str
    step: int = Field(
        description="the step it is about; how many items of a batch are over, or rows are read"
    )
    step_name: str = Field(description="of a batch, the document key of the posting")
    total_steps: int
    percent: int
    action: str = Field(description="what was done; of a batch, the posting's new status")
    outcome: str
    attempt: int
    message: str
    code: str | None
    duration_ms: int | None
    timestamp: dt.datetime
    posting_id: UUID | None = Field(description="the posting that it is about")


@router.get(
    "/{job_id}/progress",
    operation_id="get_job_progress",
    summary="How far a job is",
    responses=problems.responses(404, 422),
)
async def get_job_progress(job_id: UUID, runtime: CurrentRuntime, caller: MayRead) -> ProgressView:
    """The live view while it is fresh, else what the database says."""
    await _check_reach(runtime, caller, job_id)
    latest = await runtime.events.latest(job_id)
    if latest is not None:
        live = ProgressView.model_validate(dict(latest.data))
        if dt.datetime.now(dt.UTC) - live.timestamp < FRESH:
            return live
    state = await runtime.progress.state(job_id)
    newest = (await runtime.progress.history(job_id, state.head - 1))[-1]
    return ProgressView.model_validate(dict(newest.data))


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
    caller: MayRead,
    draining: CurrentDraining,
    last_event_id: Annotated[int, Header(ge=0, le=LARGEST_ID)] = 0,
) -> Response:
    """All events since the first, or since Last-Event-ID, then live ones until the job ends.

    A browser's EventSource reconnects after every end, until it is answered 204.
    """
    await _check_reach(runtime, caller, job_id)
    state = await runtime.progress.state(job_id)
    if last_event_id >= state.head and state.ended:
        return Response(status_code=204)
    events = runtime.events.follow(job_id, min(last_event_id, state.head), head=state.head)
    return EventStream(events, draining)


async def _check_reach(runtime: Runtime, caller: Caller, job_id: UUID) -> None:
    """Raise `ConnectionNotAllowed` unless the key reaches all that a job is about."""
    if caller.key.connections is not None:
        for connection in await runtime.progress.connections(job_id):
            caller.key.check_connection(connection)
