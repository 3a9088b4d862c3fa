"""When syncs run by themselves: cron expressions in the database, changed without a restart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import structlog
from croniter import croniter
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from service.errors import LiveRun, StaleVersion, UnknownName
from service.sync.runs import NewRun
from service.tables import SyncScheduleRow

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.database import Database
    from service.sync.runs import Runs, SyncEvent

log = structlog.get_logger()

ScheduledMode = Literal["incremental", "full"]
ACTOR = "schedule"
DUE_AT_ONCE = 100
CRON_FIELDS = 5


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """When a sync is to run: `cron` has five fields and is in UTC."""

    cron: str
    mode: ScheduledMode
    paused: bool


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The timetable of one sync on one connection, as it is stored."""

    connection: str
    name: str
    cron: str
    mode: ScheduledMode
    paused: bool
    next_at: datetime
    version: int
    actor: str
    updated_at: datetime


def is_cron(text: str) -> bool:
    """Whether it is a cron expression of five fields: minute, hour, day, month, weekday."""
    return len(text.split()) == CRON_FIELDS and bool(croniter.is_valid(text))


def following(cron: str, at: datetime) -> datetime:
    """The first time of a cron expression after `at`."""
    found: datetime = croniter(cron, at).get_next(datetime)
    return found


class Schedules:
    """Reads, changes and obeys the schedules of one database."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    async def all(self, name: str | None = None) -> list[Schedule]:
        """The schedules of a sync, or all."""
        query = select(SyncScheduleRow).order_by(SyncScheduleRow.name, SyncScheduleRow.connection)
        if name is not None:
            query = query.where(SyncScheduleRow.name == name)
        async with self._database.transaction() as transaction:
            return [_schedule(row) for row in await transaction.execute(query)]

    async def get(self, connection: str, name: str) -> Schedule:
        """One schedule; raises `UnknownName`."""
        async with self._database.transaction() as transaction:
            found = await _locked(transaction, connection, name)
        if found is None:
            raise UnknownName("schedule", f"{name} on {connection}")
        return found

    async def put(
        self,
        connection: str,
        name: str,
        timetable: Timetable,
        actor: str,
        *,
        version: int | None = None,
    ) -> Schedule:
        """Make or change a schedule, whose cron is valid.

        Raises `StaleVersion` when `version` is given and is not the present one; that of a
        schedule which does not exist is 0.
        """
        async with self._database.transaction() as transaction:
            present = await _locked(transaction, connection, name)
            known = 0 if present is None else present.version
            if version is not None and version != known:
                raise StaleVersion(known)
            now = await _now(transaction)
            values = {
                **vars(timetable),
                "next_at": following(timetable.cron, now),
                "version": known + 1,
                "actor": actor,
                "updated_at": now,
            }
            statement = insert(SyncScheduleRow).values(connection=connection, name=name, **values)
            written = await transaction.execute(
                statement.on_conflict_do_update(
                    index_elements=["connection", "name"],
                    set_={**values, "version": SyncScheduleRow.version + 1},
                ).returning(SyncScheduleRow)
            )
            return _schedule(written.one())

    async def remove(self, connection: str, name: str) -> None:
        """Forget a schedule; raises `UnknownName`."""
        gone = delete(SyncScheduleRow).where(
            SyncScheduleRow.connection == connection, SyncScheduleRow.name == name
        )
        async with self._database.transaction() as transaction:
            count = (await transaction.execute(gone)).rowcount
        if count == 0:
            raise UnknownName("schedule", f"{name} on {connection}")

    async def start_due(self) -> int:
        """Start the runs that are due; answers how many.

        Times that passed unheard make one run, and a sync that runs still makes none.
        """
        events: list[SyncEvent] = []
        async with self._database.transaction() as transaction:
            now = await _now(transaction)
            due = await transaction.execute(
                select(SyncScheduleRow)
                .where(~SyncScheduleRow.paused, SyncScheduleRow.next_at <= now)
                .order_by(SyncScheduleRow.next_at)
                .limit(DUE_AT_ONCE)
                .with_for_update(skip_locked=True)
            )
            for schedule in [_schedule(row) for row in due]:
                events += await self._start(transaction, schedule)
                await transaction.execute(
                    update(SyncScheduleRow)
                    .where(
                        SyncScheduleRow.connection == schedule.connection,
                        SyncScheduleRow.name == schedule.name,
                    )
                    .values(next_at=following(schedule.cron, now))
                )
        await self._runs.tell(*events)
        return len(events)

    async def _start(self, transaction: AsyncConnection, schedule: Schedule) -> list[SyncEvent]:
        new = NewRun(
            connection=schedule.connection, name=schedule.name, mode=schedule.mode, actor=ACTOR
        )
        try:
            return [await self._runs.start_within(transaction, new)]
        except LiveRun as live:
            log.info("sync_still_runs", name=schedule.name, run_id=str(live.run_id))
            return []


async def _now(transaction: AsyncConnection) -> datetime:
    now: datetime = (await transaction.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def _locked(transaction: AsyncConnection, connection: str, name: str) -> Schedule | None:
    found = await transaction.execute(
        select(SyncScheduleRow)
        .where(SyncScheduleRow.connection == connection, SyncScheduleRow.name == name)
        .with_for_update()
    )
    row = found.one_or_none()
    return None if row is None else _schedule(row)


def _schedule(row: Any) -> Schedule:
    return Schedule(**row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a row's names
