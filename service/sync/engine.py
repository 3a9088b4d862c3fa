"""The sync engine: brings a mirror to what Odoo has, and can be killed at any point.

A run freezes its window, reads its rows in pages by id, and writes each page with its checkpoint in
one transaction. What is in Odoo and not in the window has been read by an earlier run, or will be
by the next. Rows are taken away on positive evidence only: asked for by id, Odoo does not have
them, and says so twice. What fails, fails the run; what was written until then stays, and the
cursor is not moved.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from service.errors import EclusaError
from service.odoo.errors import OdooError
from service.odoo.records import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from service.database import Database
    from service.odoo.records import Domain, Record
    from service.sync.definition import Definition
    from service.sync.mirror import Mirror
    from service.sync.runs import Runs, SyncRun

log = structlog.get_logger()

ID_PAGE = 10_000
VERIFY_IDS = 1_000
FETCHED_AHEAD = 2
ALL_ROWS: Mapping[str, Any] = {"active_test": False}
SECOND = timedelta(seconds=1)
TENTH = 10


class Source(Reader, Protocol):
    """What a sync needs of Odoo."""

    async def search_count(
        self, model: str, domain: Domain, *, context: Mapping[str, Any] | None = None
    ) -> int:
        """How many records match."""
        ...


class Refusal(EclusaError):
    """The run ends as failed, with this code and sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _nothing(_: SyncRun) -> None:
    """Show nothing."""


class SyncEngine:
    """Brings the mirrors of one database up to date."""

    def __init__(
        self,
        database: Database,
        runs: Runs,
        *,
        worker: str,
        silence: timedelta,
        show: Callable[[SyncRun], None] = _nothing,
    ) -> None:
        """Work as `worker`; take over from one that is silent for so long; `show` each page."""
        self._database = database
        self._runs = runs
        self._worker = worker
        self._silence = silence
        self._show = show

    async def run(
        self, run_id: UUID, definition: Definition, mirror: Mirror, odoo: Source
    ) -> SyncRun | None:
        """Take a run to its end, from where it was left; None when it is over already.

        Raises `LiveRun` while another worker has it, `RunLost` once one took it over, and
        `DatabaseUnavailable`.
        """
        claimed = await self._runs.claim(run_id, self._worker, self._silence)
        if claimed is None:
            return None
        work = _Work(self._database, self._runs, claimed, definition, mirror, odoo, show=self._show)
        try:
            return await work.run()
        except (OdooError, Refusal) as error:
            code, message = error.code, str(error)
        except EclusaError:
            raise
        except Exception as error:
            log.exception("sync_broke", run_id=str(run_id))
            code, message = "internal_error", f"a defect: {type(error).__name__}"
        async with self._runs.writing(claimed) as pen:
            return await pen.end("failed", code, message)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Work:
    """One worker's way through one run."""

    def __init__(
        self,
        database: Database,
        runs: Runs,
        run: SyncRun,
        definition: Definition,
        mirror: Mirror,
        odoo: Source,
        *,
        show: Callable[[SyncRun], None],
    ) -> None:
        self._show = show
        self._database = database
        self._runs = runs
        self._run = run
        self._definition = definition
        self._mirror = mirror
        self._odoo = odoo

    async def run(self) -> SyncRun:
        async with self._database.transaction() as transaction:
            await self._mirror.prepare(transaction)
        if self._run.window_to is None:
            await self._freeze()
        if self._run.window_to is not None:
            await self._read_window()
        await self._compare()
        async with self._runs.writing(self._run) as pen:
            if self._run.window_to is not None:
                await pen.move_cursor(self._run.window_to)
            return await pen.end("completed", None, None)

    async def _freeze(self) -> None:
        """Fix the window, by the clock that stamps the rows: Odoo's own."""
        cursor = await self._runs.cursor(self._run.connection, self._run.name)
        newest = await self._search([], ["write_date"], order="write_date desc", limit=1)
        if not newest:
            return
        until = newest[0].moment("write_date")
        beginning = None
        if self._run.mode == "incremental" and cursor is not None:
            beginning = cursor - self._definition.lookback
        async with self._runs.writing(self._run) as pen:
            self._run = await pen.write(
                window_from=beginning, window_to=until, cursor_before=cursor
            )

    # -- rows --------------------------------------------------------------------------------

    def _window(self) -> Domain:
        """Stamps are kept to the microsecond and shown to the second, so the last one is whole."""
        domain: Domain = []
        if self._run.window_from is not None:
            domain.append(["write_date", ">=", _stamp(self._run.window_from)])
        if self._run.window_to is not None:
            domain.append(["write_date", "<", _stamp(self._run.window_to + SECOND)])
        return domain

    async def _read_window(self) -> None:
        """Write page after page, while the next ones are fetched."""
        pages: asyncio.Queue[list[Record] | None] = asyncio.Queue(FETCHED_AHEAD)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fetch(pages), name="fetch pages")
                while (page := await pages.get()) is not None:
                    await self._write(page, after_id=page[-1].id)
        except BaseExceptionGroup as group:
            raise _first(group) from group

    async def _fetch(self, pages: asyncio.Queue[list[Record] | None]) -> None:
        fetched = self._pages(
            self._window(), self._definition.fields, self._run.after_id, self._definition.page
        )
        async for page in fetched:
            await pages.put(page)
        await pages.put(None)

    async def _write(self, page: Sequence[Record], *, after_id: int) -> None:
        """Write a page, and in the same transaction how far the run is with it."""
        run, definition = self._run, self._definition
        rows = [definition.row(run.connection, record) for record in page]
        async with self._runs.writing(run) as pen:
            written = await self._mirror.write(pen.connection, rows)
            self._run = await pen.write(
                after_id=after_id,
                pages=run.pages + 1,
                read=run.read + len(page),
                written=run.written + written,
            )
        self._show(self._run)

    async def _pages(
        self, domain: Domain, fields: Sequence[str], after: int, limit: int
    ) -> AsyncIterator[list[Record]]:
        """Pages by id. A short page is the last one only when Odoo counts nothing behind it."""
        while True:
            behind = [*domain, ["id", ">", after]]
            page = await self._search(behind, fields, limit=limit)
            if page:
                yield page
                after = page[-1].id
            if len(page) < limit:
                left = await self._count([*domain, ["id", ">", after]])
                if left == 0:
                    return
                if not page:
                    raise Refusal(
                        "source_inconsistent", f"Odoo counts {left} rows and answers with none"
                    )

    # -- rows that are gone, and rows that no stamp has told of ----------------------------------

    async def _compare(self) -> None:
        """Take away what Odoo does not have any more, or what left the sync's domain.

        The ids are compared only when the counts differ; a deletion that a new row hides is found
        by the next run, which has read that row.
        """
        name = self._run.connection
        async with self._database.transaction() as transaction:
            mirrored = await self._mirror.count(transaction, name)
        if mirrored == await self._count([]):
            return
        gone = [record_id async for record_id in self._vanished()]
        spared = max(self._definition.spared, mirrored // TENTH)
        if len(gone) > spared and not self._run.accept_removals:
            raise Refusal(
                "suspicious_emptying",
                f"{len(gone)} of {mirrored} rows are gone from Odoo, and at most {spared} are "
                "taken away unasked: look at Odoo and at the rights of its user, then run it "
                "with accept_removals",
            )
        async with self._runs.writing(self._run) as pen:
            removed = await self._mirror.remove(pen.connection, name, gone)
            self._run = await pen.write(removed=self._run.removed + removed)

    async def _vanished(self) -> AsyncIterator[int]:
        after = 0
        async for page in self._pages([], ["id"], 0, ID_PAGE):
            last = page[-1].id
            seen = {one.id for one in page}
            present = await self._mirrored(after, last)
            await self._read_missing(sorted(seen - present))
            for record_id in await self._absent(sorted(present - seen)):
                yield record_id
            after = last
        for record_id in await self._absent(sorted(await self._mirrored(after, None))):
            yield record_id

    async def _mirrored(self, after: int, until: int | None) -> set[int]:
        async with self._database.transaction() as transaction:
            name = self._run.connection
            return await self._mirror.ids(transaction, name, after=after, until=until)

    async def _read_missing(self, ids: Sequence[int]) -> None:
        """Read rows that came into the domain, or were committed, without a stamp of the window."""
        for start in range(0, len(ids), self._definition.page):
            some = list(ids[start : start + self._definition.page])
            page = await self._search([["id", "in", some]], self._definition.fields)
            await self._write(page, after_id=self._run.after_id)

    async def _absent(self, doubtful: Sequence[int]) -> list[int]:
        """The ids that Odoo does not show, nor has when asked for them."""
        absent: list[int] = []
        for start in range(0, len(doubtful), VERIFY_IDS):
            some = list(doubtful[start : start + VERIFY_IDS])
            asked: Domain = [["id", "in", some]]
            found = {record.id for record in await self._search(asked, ["id"])}
            if await self._count(asked) != len(found):
                raise Refusal("source_inconsistent", "Odoo counts other rows than it shows")
            absent += [record_id for record_id in some if record_id not in found]
        return absent

    # -- Odoo --------------------------------------------------------------------------------

    async def _search(
        self,
        domain: Domain,
        fields: Sequence[str],
        *,
        order: str = "id",
        limit: int | None = None,
    ) -> list[Record]:
        definition = self._definition
        return await self._odoo.search_read(
            definition.model,
            [*definition.domain, *domain],
            fields,
            order=order,
            limit=limit,
            context=ALL_ROWS,
        )

    async def _count(self, domain: Domain) -> int:
        definition = self._definition
        return await self._odoo.search_count(
            definition.model, [*definition.domain, *domain], context=ALL_ROWS
        )


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
