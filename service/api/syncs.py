"""Syncs over HTTP: which there are, their runs, and when they run by themselves."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api import problems
from service.api.auth import Caller
from service.api.bodies import Text
from service.api.dependencies import CurrentRuntime, MayRead, MaySync, SyncName
from service.api.idempotency import OnceRoute
from service.errors import InvalidInput, Problem, UnknownName
from service.runtime import Runtime
from service.sync.runs import Mode, NewRun, Status, SyncRun
from service.sync.schedules import Schedule, ScheduledMode, Timetable, is_cron

router = APIRouter(prefix="/v1/syncs", tags=["syncs"], route_class=OnceRoute)

MOST_ITEMS = 200
MOST_KEYS = 1_000
CURSOR = "is not a cursor that this service gave"


class RunRequest(BaseModel):
    """A run to be started."""

    model_config = ConfigDict(extra="forbid")

    connection: Text = Field(max_length=200, description="which Odoo", examples=["main"])
    mode: Mode = Field(
        default="incremental",
        description=(
            "incremental: what changed since the last run; full: all rows; keys: some rows"
        ),
    )
    keys: list[Text] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_KEYS,
        description="with the mode keys: which rows, by the sync's key",
        examples=[None],
    )
    accept_removals: bool = Field(
        default=False, description="also take away more rows than a run takes away unasked"
    )


class RunView(BaseModel):
    """One run of a sync. `read`, `written`, `removed` and `expected` are numbers of rows."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    connection: str
    mode: Mode
    status: Status
    keys: list[str] | None
    accept_removals: bool
    expected: int = Field(description="how many rows Odoo counted in the window")
    pages: int
    read: int
    written: int = Field(description="rows that were new or another than before")
    removed: int
    missing: int = Field(description="related records that Odoo named and does not have")
    calls: int = Field(description="calls of Odoo")
    window_from: dt.datetime | None = Field(description="null: since ever")
    window_to: dt.datetime | None
    cursor_before: dt.datetime | None
    code: str | None
    message: str | None
    actor: str
    worker: str | None
    created_at: dt.datetime
    updated_at: dt.datetime
    ended_at: dt.datetime | None


class RunPage(BaseModel):
    """Runs, newest first."""

    items: list[RunView]
    next_cursor: str | None


class RunEventView(BaseModel):
    """Something that happened in a run, and how far it was then."""

    model_config = ConfigDict(from_attributes=True)

    seq: int
    at: dt.datetime
    action: str = Field(description="start, claim, freeze, page, remove, hand_over, cancel or end")
    status: Status
    actor: str = Field(description="a person, a worker, or schedule")
    expected: int
    pages: int
    read: int
    written: int
    removed: int
    calls: int
    code: str | None
    message: str | None


class RunEventList(BaseModel):
    """The events of a run, oldest first."""

    items: list[RunEventView]


class ScheduleRequest(BaseModel):
    """When a sync is to run by itself."""

    model_config = ConfigDict(extra="forbid")

    cron: str = Field(
        max_length=200,
        description="minute, hour, day, month, weekday, in UTC",
        examples=["*/30 * * * *"],
    )
    mode: ScheduledMode = "incremental"
    paused: bool = False


class ScheduleView(BaseModel):
    """When a sync runs by itself on a connection."""

    model_config = ConfigDict(from_attributes=True)

    connection: str
    cron: str
    mode: ScheduledMode
    paused: bool
    next_at: dt.datetime = Field(description="when it is due; meaningless while it is paused")
    version: int = Field(description="also the ETag")
    actor: str
    updated_at: dt.datetime


class MirrorState(BaseModel):
    """How far the mirror of one connection is."""

    connection: str
    cursor: dt.datetime = Field(
        description="what was written in Odoo up to then is in the mirror, by Odoo's clock"
    )
    lag_seconds: float


class SyncView(BaseModel):
    """One sync."""

    name: str
    title: str
    model: str = Field(description="of Odoo")
    mirrors: list[MirrorState]
    schedules: list[ScheduleView]


class SyncList(BaseModel):
    """All syncs, by name."""

    items: list[SyncView]


@router.get("", operation_id="list_syncs", summary="The syncs", responses=problems.responses())
async def list_syncs(runtime: CurrentRuntime, caller: MayRead) -> SyncList:
    """What can be synced, how far each mirror is, and when it runs by itself."""
    return SyncList(items=await _views(runtime, caller, list(runtime.connections.syncs)))


@router.get(
    "/{name}", operation_id="get_sync", summary="One sync", responses=problems.responses(404, 422)
)
async def get_sync(name: SyncName, runtime: CurrentRuntime, caller: MayRead) -> SyncView:
    """How far its mirrors are, and when it runs by itself."""
    runtime.connections.sync(name)
    return (await _views(runtime, caller, [name]))[0]


@router.post(
    "/{name}/runs",
    status_code=202,
    operation_id="start_sync_run",
    summary="Run a sync",
    responses={
        **problems.responses(404, 409, 422),
        202: {
            "headers": {"Location": {"schema": {"type": "string"}}},
            "description": "Accepted: a worker will run it",
        },
    },
)
async def start_sync_run(
    name: SyncName,
    body: RunRequest,
    runtime: CurrentRuntime,
    caller: MaySync,
    response: Response,
) -> RunView:
    """Start a run; 409 with `run_id` when the sync runs already on that connection.

    Follow it by its id like any job: its steps are rows.
    """
    runtime.connections.sync(name)
    _check_connection(runtime, caller, body.connection)
    if (body.mode == "keys") != (body.keys is not None):
        message = "go with the mode keys, and with no other"
        raise InvalidInput([Problem("keys", message, "keys_and_mode")])
    run = await runtime.runs.start(
        NewRun(
            connection=body.connection,
            name=name,
            mode=body.mode,
            keys=body.keys,
            accept_removals=body.accept_removals,
            actor=caller.key.name,
            ip=caller.ip,
        )
    )
    response.headers["Location"] = f"/v1/syncs/{name}/runs/{run.id}"
    return RunView.model_validate(run)


@router.get(
    "/{name}/runs",
    operation_id="list_sync_runs",
    summary="Runs of a sync",
    responses=problems.responses(404, 422),
)
async def list_sync_runs(
    name: SyncName,
    runtime: CurrentRuntime,
    caller: MayRead,
    connection: Text | None = None,
    status: Status | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 50,
    cursor: str | None = None,
) -> RunPage:
    """Newest first, in pages: give `next_cursor` back as `cursor`."""
    runtime.connections.sync(name)
    if connection is not None:
        caller.key.check_connection(connection)
    runs = await runtime.runs.newest(
        name,
        connection=connection,
        connections=caller.key.connections,
        status=status,
        before=None if cursor is None else _read_cursor(cursor),
        limit=limit + 1,
    )
    return RunPage(
        items=[RunView.model_validate(run) for run in runs[:limit]],
        next_cursor=_cursor(runs[limit - 1]) if len(runs) > limit else None,
    )


@router.get(
    "/{name}/runs/{run_id}",
    operation_id="get_sync_run",
    summary="One run of a sync",
    responses=problems.responses(404, 422),
)
async def get_sync_run(
    name: SyncName, run_id: UUID, runtime: CurrentRuntime, caller: MayRead
) -> RunView:
    """Its window, how far it is, and what it has found."""
    return RunView.model_validate(await _run(runtime, caller, name, run_id))


@router.get(
    "/{name}/runs/{run_id}/events",
    operation_id="list_sync_run_events",
    summary="What happened in a run",
    responses=problems.responses(404, 422),
)
async def list_sync_run_events(
    name: SyncName, run_id: UUID, runtime: CurrentRuntime, caller: MayRead
) -> RunEventList:
    """Every claim, page and removal, who did it, and the counts at that time, oldest first."""
    await _run(runtime, caller, name, run_id)
    events = await runtime.runs.events(run_id)
    return RunEventList(items=[RunEventView.model_validate(event) for event in events])


@router.post(
    "/{name}/runs/{run_id}/cancel",
    status_code=202,
    operation_id="cancel_sync_run",
    summary="Cancel a run",
    responses=problems.responses(404, 409, 422),
)
async def cancel_sync_run(
    name: SyncName, run_id: UUID, runtime: CurrentRuntime, caller: MaySync
) -> RunView:
    """End a run after its page; what it wrote stays, and the cursor does not move."""
    await _run(runtime, caller, name, run_id)
    return RunView.model_validate(await runtime.runs.cancel(run_id, caller.key.name))


# -- schedules -----------------------------------------------------------------------------------

OfConnection = Annotated[str, Query(max_length=200, description="which Odoo", examples=["main"])]
IfMatch = Annotated[
    str | None,
    Header(pattern=r'^"[0-9]{1,9}"$', description='the ETag that is expected; `"0"`: none yet'),
]
_TAGGED: dict[str, Any] = {"headers": {"ETag": {"schema": {"type": "string"}}}}


@router.get(
    "/{name}/schedule",
    operation_id="get_sync_schedule",
    summary="When a sync runs by itself",
    responses={**problems.responses(404, 422), 200: _TAGGED},
)
async def get_sync_schedule(
    name: SyncName,
    connection: OfConnection,
    runtime: CurrentRuntime,
    caller: MayRead,
    response: Response,
) -> ScheduleView:
    """The schedule on one connection."""
    runtime.connections.sync(name)
    caller.key.check_connection(connection)
    return _tagged(await runtime.schedules.get(connection, name), response)


@router.put(
    "/{name}/schedule",
    operation_id="set_sync_schedule",
    summary="Have a sync run by itself",
    responses={**problems.responses(404, 409, 412, 422), 200: _TAGGED},
)
async def set_sync_schedule(
    name: SyncName,
    connection: OfConnection,
    body: ScheduleRequest,
    runtime: CurrentRuntime,
    caller: MaySync,
    response: Response,
    if_match: IfMatch = None,
) -> ScheduleView:
    """Make or change the schedule; it holds at once, in all workers.

    A sync that still runs when it is due again is not started twice, and times that passed while
    no worker ran make one run.
    """
    runtime.connections.sync(name)
    _check_connection(runtime, caller, connection)
    if not is_cron(body.cron):
        message = "must be five fields: minute, hour, day, month, weekday, as in */30 * * * *"
        raise InvalidInput([Problem("cron", message, "invalid_cron")])
    version = None if if_match is None else int(if_match.strip('"'))
    timetable = Timetable(cron=body.cron, mode=body.mode, paused=body.paused)
    schedule = await runtime.schedules.put(
        connection, name, timetable, caller.key.name, version=version
    )
    return _tagged(schedule, response)


@router.delete(
    "/{name}/schedule",
    status_code=204,
    operation_id="remove_sync_schedule",
    summary="Have a sync run only when it is asked to",
    responses=problems.responses(404, 422),
)
async def remove_sync_schedule(
    name: SyncName, connection: OfConnection, runtime: CurrentRuntime, caller: MaySync
) -> None:
    """Remove the schedule on one connection."""
    runtime.connections.sync(name)
    caller.key.check_connection(connection)
    await runtime.schedules.remove(connection, name)


def _tagged(schedule: Schedule, response: Response) -> ScheduleView:
    response.headers["ETag"] = f'"{schedule.version}"'
    return ScheduleView.model_validate(schedule)


def _check_connection(runtime: Runtime, caller: Caller, name: str) -> None:
    caller.key.check_connection(name)
    if name not in runtime.connections.names:
        raise UnknownName("connection", name, runtime.connections.names)


async def _run(runtime: Runtime, caller: Caller, name: str, run_id: UUID) -> SyncRun:
    """A run, by its own name only."""
    runtime.connections.sync(name)
    run = await runtime.runs.get(run_id)
    if run.name != name:
        raise UnknownName("run", str(run_id))
    caller.key.check_connection(run.connection)
    return run


async def _views(runtime: Runtime, caller: Caller, names: list[str]) -> list[SyncView]:
    """The syncs, as far as they are about connections that the key reaches."""
    cursors = await runtime.runs.cursors()
    schedules = await runtime.schedules.all()
    now = dt.datetime.now(dt.UTC)
    views = []
    for name in names:
        sync = runtime.connections.sync(name)
        mirrors = [
            MirrorState(
                connection=connection,
                cursor=cursor,
                lag_seconds=max(0.0, (now - cursor).total_seconds()),
            )
            for (connection, synced), cursor in sorted(cursors.items())
            if synced == name and caller.key.reaches(connection)
        ]
        own = [
            ScheduleView.model_validate(one)
            for one in schedules
            if one.name == name and caller.key.reaches(one.connection)
        ]
        views.append(
            SyncView(name=name, title=sync.title, model=sync.model, mirrors=mirrors, schedules=own)
        )
    return views


def _cursor(run: SyncRun) -> str:
    text = f"{run.created_at.isoformat()}|{run.id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[dt.datetime, UUID]:
    try:
        at, run_id = base64.urlsafe_b64decode(cursor).decode().split("|")
        return dt.datetime.fromisoformat(at).astimezone(dt.UTC), UUID(run_id)
    except (ValueError, OverflowError) as error:  # also what base64 and UTF-8 refuse
        raise InvalidInput([Problem("cursor", CURSOR, "invalid_cursor")]) from error
