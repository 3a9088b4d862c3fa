"""Progress of jobs: asked for, or followed live."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict

from service.api import problems
from service.api.dependencies import CurrentActor, CurrentDraining, CurrentRuntime
from service.api.stream import EventStream
from service.posting import progress

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LargestId = 2**31 - 1


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
        return ProgressView.model_validate(dict(latest.data))
    return ProgressView.model_validate(progress.of_posting(await runtime.ledger.get(job_id)))


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
    }
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
    last_event_id: Annotated[int, Header(ge=0, le=LargestId)] = 0,
) -> EventStream:
    """All events since the first, or since Last-Event-ID, then live ones until the job ends."""
    await runtime.ledger.get(job_id)
    return EventStream(runtime.events.follow(job_id, last_event_id), draining)
