"""The sync engine: brings a mirror to what Odoo has, and can be killed at any point.

A run freezes its window, reads its rows in pages by id, and writes each page with its checkpoint in
one transaction. What is in Odoo and not in the window has been read by an earlier run, or will be
by the next. Rows are taken away on positive evidence only: asked for by id, Odoo does not have
them, and says so twice. What fails, fails the run; what was written until then stays, and the
cursor is not moved.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from service.errors import DatabaseUnavailable, EclusaError, LiveRun, RunCanceled, RunLost
from service.odoo.errors import OdooError
from service.odoo.prefetch import Prefetch
from service.odoo.records import Reader
from service.sync.mirror import File, Mirror
from service.tasks import together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from service.database import Database
    from service.odoo.prefetch import Graph
    from service.odoo.records import Domain, Record
    from service.sync.definition import Definition, Files
    from service.sync.runs import Pen, Runs, SyncRun

log = structlog.get_logger()

ID_PAGE = 10_000
VERIFY_IDS = 1_000
FETCHED_AHEAD = 2
FILE_BYTES = 8 * 1024 * 1024
ALL_ROWS: Mapping[str, Any] = {"active_test": False}
ONLY_SIZES: Mapping[str, Any] = {**ALL_ROWS, "bin_size": True}
SECOND = timedelta(seconds=1)
TENTH = 10
ATTACHMENT = "ir.attachment"


class Source(Reader, Protocol):
    """What a sync needs of Odoo."""

    async def search_count(
        self, model: str, domain: Domain, *, context: Mapping[str, Any] | None = None
    ) -> int:
        """How many records match."""
        ...


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What a run needs: the sync, and the Odoo that it reads."""

    definition: Definition
    odoo: Source


class Refusal(EclusaError):
    """The run ends as failed, with this code and sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandOver(Exception):
    """This process is to stop: another one goes on with the run."""


class SyncEngine:
    """Brings the mirrors of one database up to date."""

    def __init__(
        self,
        database: Database,
        runs: Runs,
        deploy: Callable[[str, str], Awaitable[Deployment]],
        *,
        worker: str,
        silence: timedelta,
        stopping: asyncio.Event | None = None,
    ) -> None:
        """Work as `worker`, and take over from one that is silent for so long.

        `deploy` answers what a connection and a sync's name stand for. Once `stopping` is set runs
        go back to the queue after their page.
        """
        self._database = database
        self._runs = runs
        self._deploy = deploy
        self._worker = worker
        self._silence = silence
        self._stopping = stopping or asyncio.Event()

    async def run(self, run_id: UUID) -> None:
        """Take a run to its end, from where it was left; nothing when it is over already.

        Raises `LiveRun` while another worker has it, `UnknownName` and `DatabaseUnavailable`.
        """
        claimed = await self._runs.claim(run_id, self._worker, self._silence)
        if claimed is not None:
            await self.work(claimed)

    async def claim(self, run_id: UUID) -> SyncRun | None:
        """Take a run; None when it is over, or another worker that lives has it.

        Raises `UnknownName` and `DatabaseUnavailable`.
        """
        try:
            return await self._runs.claim(run_id, self._worker, self._silence)
        except LiveRun:
            return None

    async def work(self, run: SyncRun) -> None:
        """Take a claimed run to its end, or to its place in the queue.

        Raises `DatabaseUnavailable`: then the claim holds, and the run has to be claimed again.
        """
        try:
            await self._work(run)
        except RunLost as error:
            log.warning("run_lost", run_id=str(error.run_id), fence=error.fence)
        except HandOver:
            await self._runs.hand_over(run)
        except RunCanceled as error:
            async with self._runs.holding(run) as pen:
                await pen.end("canceled", None, f"canceled by {error.by}")

    async def _work(self, run: SyncRun) -> None:
        try:
            deployment = await self._deploy(run.connection, run.name)
            mirror = Mirror(deployment.definition)
            await _Work(self._database, self._runs, run, deployment, mirror, self._stopping).run()
        except (RunLost, RunCanceled, HandOver, DatabaseUnavailable):
            raise
        except (OdooError, EclusaError) as error:
            await self._fail(run, error.code, str(error))
        except Exception as error:
            log.exception("sync_broke", run_id=str(run.id))
            await self._fail(run, "internal_error", f"a defect: {type(error).__name__}")

    async def _fail(self, run: SyncRun, code: str, message: str) -> None:
        async with self._runs.holding(run) as pen:
            await pen.end("failed", code, message)


class Counted:
    """A source whose calls are counted."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.calls = 0

    async def search_read(
        self,
        model: str,
        domain: Domain,
        fields: Sequence[str],
        *,
        order: str = "id",
        limit: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records that match, in `order`."""
        self.calls += 1
        return await self._source.search_read(
            model, domain, fields, order=order, limit=limit, context=context
        )

    async def read(
        self,
        model: str,
        ids: Sequence[int],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records of `ids` that exist."""
        self.calls += 1
        return await self._source.read(model, ids, fields, context=context)

    async def search_count(
        self, model: str, domain: Domain, *, context: Mapping[str, Any] | None = None
    ) -> int:
        """How many records match."""
        self.calls += 1
        return await self._source.search_count(model, domain, context=context)


@dataclass(frozen=True, kw_only=True)
class Page:
    """Records with what they lead to, their files that changed, and those that they lost."""

    graph: Graph
    files: Sequence[File] = ()
    lost: Sequence[tuple[int, str]] = ()

    @property
    def last_id(self) -> int:
        """The id of the last record."""
        return self.graph.nodes[-1].record.id


class _Work:
    """One worker's way through one run."""

    def __init__(
        self,
        database: Database,
        runs: Runs,
        run: SyncRun,
        deployment: Deployment,
        mirror: Mirror,
        stopping: asyncio.Event,
    ) -> None:
        self._database = database
        self._runs = runs
        self._run = run
        self._definition = deployment.definition
        self._mirror = mirror
        self._odoo = Counted(deployment.odoo)
        self._called_before = run.calls
        self._stopping = stopping
        self._prefetch = Prefetch(self._odoo, self._definition.relations, context=ALL_ROWS)

    async def run(self) -> None:
        async with self._database.transaction() as transaction:
            await self._mirror.prepare(transaction)
        if self._run.keys is not None:
            await self._read_keys(self._run.keys)
        else:
            if self._run.window_to is None:
                await self._freeze()
            if self._run.window_to is not None:
                await self._read_window()
            await self._compare()
        async with self._writing() as pen:
            if self._run.window_to is not None:
                await pen.move_cursor(self._run.window_to)
            await pen.end("completed", None, None)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Pen]:
        """One transaction on the run, in which it learns how many calls were made."""
        async with self._runs.writing(self._run) as pen:
            pen.also(calls=self._called_before + self._odoo.calls)
            yield pen
        self._run = pen.run

    async def _freeze(self) -> None:
        """Fix the window, by the clock that stamps the rows: Odoo's own."""
        cursor = await self._runs.cursor(self._run.connection, self._run.name)
        until = await self._newest()
        if until is None:
            return
        beginning = None
        if self._run.mode == "incremental" and cursor is not None:
            beginning = cursor - self._definition.lookback
        expected = await self._count(self._window(beginning, until))
        async with self._writing() as pen:
            await pen.write(
                "freeze",
                window_from=beginning,
                window_to=until,
                cursor_before=cursor,
                expected=expected,
            )

    async def _newest(self) -> datetime | None:
        """When a row, or what it follows, was written last; None when there are no rows."""
        newest = await self._search([], ["write_date"], order="write_date desc", limit=1)
        if not newest:
            return None
        async with together() as tasks:
            others = [
                tasks.create_task(
                    self._odoo.search_read(
                        model,
                        [],
                        ["write_date"],
                        order="write_date desc",
                        limit=1,
                        context=ALL_ROWS,
                    )
                )
                for model in dict.fromkeys(self._definition.follows.values())
            ]
        found = [*newest, *itertools.chain.from_iterable(task.result() for task in others)]
        return max(stamp for one in found if (stamp := one.moment("write_date")) is not None)

    # -- rows --------------------------------------------------------------------------------

    def _window(self, beginning: datetime | None, until: datetime) -> Domain:
        """What was written in the window, or follows what was.

        Stamps are kept to the microsecond and shown to the second, so the last one is whole.
        """
        ways = ["write_date", *(f"{way}.write_date" for way in self._definition.follows)]
        domain: Domain = ["|"] * (len(ways) - 1)
        for stamp in ways:
            before = [stamp, "<", _stamp(until + SECOND)]
            domain += (
                [before] if beginning is None else ["&", [stamp, ">=", _stamp(beginning)], before]
            )
        return domain

    async def _read_window(self) -> None:
        """Write page after page, while the next ones are fetched and their relations read."""
        window = self._window(self._run.window_from, self._run.window_to or self._run.created_at)
        records: asyncio.Queue[list[Record] | None] = asyncio.Queue(FETCHED_AHEAD)
        pages: asyncio.Queue[Page | None] = asyncio.Queue(FETCHED_AHEAD)
        async with together() as tasks:
            tasks.create_task(self._fetch(window, records), name="fetch pages")
            tasks.create_task(self._relate(records, pages), name="relate pages")
            while (page := await pages.get()) is not None:
                await self._write(page, after_id=page.last_id)
                if self._stopping.is_set():
                    raise HandOver

    async def _fetch(self, window: Domain, records: asyncio.Queue[list[Record] | None]) -> None:
        fetched = self._pages(
            window, self._definition.fields, self._run.after_id, self._definition.page
        )
        async for page in fetched:
            await records.put(page)
        await records.put(None)

    async def _relate(
        self, records: asyncio.Queue[list[Record] | None], pages: asyncio.Queue[Page | None]
    ) -> None:
        while (some := await records.get()) is not None:
            await pages.put(await self._page(some))
        await pages.put(None)

    async def _page(self, records: Sequence[Record]) -> Page:
        """Records with their relations and files."""
        async with together() as tasks:
            graph = tasks.create_task(self._prefetch.load(records))
            files = tasks.create_task(self._changed_files(records))
        changed, lost = files.result()
        return Page(graph=graph.result(), files=changed, lost=lost)

    async def _write(self, page: Page, *, after_id: int) -> None:
        """Write a page, and in the same transaction how far the run is with it."""
        run, definition = self._run, self._definition
        rows = definition.rows(run.connection, page.graph.nodes)
        async with self._writing() as pen:
            written = await self._mirror.write(pen.connection, rows, run.id)
            await self._mirror.write_files(pen.connection, run.connection, page.files, page.lost)
            await pen.write(
                "page",
                after_id=after_id,
                pages=run.pages + 1,
                read=run.read + len(rows),
                written=run.written + written,
                missing=run.missing + sum(len(ids) for ids in page.graph.missing.values()),
            )

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

    async def _read_keys(self, given: Sequence[str]) -> None:
        """Read the rows of some keys, and take away those that Odoo does not have any more."""
        keys = self._definition.keys(given)
        wanted: Domain = [[self._definition.key, "in", keys]]
        found: set[int] = set()
        async for records in self._pages(wanted, self._definition.fields, 0, self._definition.page):
            page = await self._page(records)
            await self._write(page, after_id=page.last_id)
            found.update(record.id for record in records)
        async with self._database.transaction() as transaction:
            mirrored = await self._mirror.ids_of_keys(transaction, self._run.connection, keys)
        await self._remove(await self._absent(sorted(mirrored - found)))

    # -- files -------------------------------------------------------------------------------

    async def _changed_files(
        self, records: Sequence[Record]
    ) -> tuple[list[File], list[tuple[int, str]]]:
        """Files whose checksum is another than before, and files that their records have no more.

        A file is gone when the record itself says that its field is empty.
        """
        wanted = self._definition.files
        if wanted is None:
            return [], []
        ids = [record.id for record in records]
        found = await self._odoo.search_read(
            ATTACHMENT,
            [
                ["res_model", "=", self._definition.model],
                ["res_field", "in", list(wanted.fields)],
                ["res_id", "in", ids],
            ],
            ["res_id", "res_field", "checksum", "file_size", "name", "mimetype"],
        )
        async with self._database.transaction() as transaction:
            known = await self._mirror.checksums(transaction, self._run.connection, ids)
        changed = [one for one in found if known.get(_place(one)) != one.text("checksum")]
        empty = {
            (record.id, name)
            for record in records
            for name in wanted.fields
            if record.text(name) is None
        }
        files = [
            _file(one, wanted, content)
            for some in _by_size(changed)
            for one, content in await self._contents(some)
        ]
        return files, sorted(empty & known.keys())

    async def _contents(self, attachments: Sequence[Record]) -> list[tuple[Record, bytes]]:
        """Files with their contents; one that is gone meanwhile is left to the next run."""
        ids = [one.id for one in attachments]
        read = await self._odoo.read(ATTACHMENT, ids, ["datas"])
        contents = {one.id: base64.b64decode(one.text("datas") or "") for one in read}
        return [(one, contents[one.id]) for one in attachments if one.id in contents]

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
        await self._remove(gone)

    async def _remove(self, gone: Sequence[int]) -> None:
        if not gone:
            return
        async with self._writing() as pen:
            removed = await self._mirror.remove(
                pen.connection, self._run.connection, gone, self._run.id
            )
            await pen.write("remove", removed=self._run.removed + removed)

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
            records = await self._search([["id", "in", some]], self._definition.fields)
            await self._write(await self._page(records), after_id=self._run.after_id)

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
            context=ONLY_SIZES if definition.files else ALL_ROWS,
        )

    async def _count(self, domain: Domain) -> int:
        definition = self._definition
        return await self._odoo.search_count(
            definition.model, [*definition.domain, *domain], context=ALL_ROWS
        )


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _place(attachment: Record) -> tuple[int, str]:
    """The record and the field that a file belongs to."""
    return int(attachment.number("res_id")), attachment.text("res_field") or ""


def _by_size(attachments: Sequence[Record]) -> Iterator[list[Record]]:
    """Attachments in groups that are small enough to be read at once."""
    group: list[Record] = []
    size = 0
    for one in attachments:
        own = int(one.number("file_size"))
        if group and size + own > FILE_BYTES:
            yield group
            group, size = [], 0
        group.append(one)
        size += own
    if group:
        yield group


def _file(attachment: Record, wanted: Files, content: bytes) -> File:
    record_id, name = _place(attachment)
    return File(
        id=record_id,
        field=name,
        checksum=attachment.text("checksum") or "",
        size=len(content),
        name=attachment.text("name") or name,
        media_type=attachment.text("mimetype") or "application/octet-stream",
        content=content,
        facts=wanted.facts(name, content),
    )
