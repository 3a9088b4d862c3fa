"""A sync of sales order lines and its source, a simulated Odoo in this process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from service import documents
from service.odoo.client import Client, RetryPolicy
from service.odoo.records import Record
from service.odoo.transport import Connection
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.bulk import BulkOptions
from service.sync.definition import Column, Definition
from service.sync.engine import SyncEngine
from service.sync.mirror import Mirror
from service.sync.runs import Mode, Runs, SyncRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.database import Database

LINE = "sale.order.line"
SILENCE = timedelta(seconds=1)
LINES = Definition(
    name="sale_line",
    title="lines of sales orders",
    model=LINE,
    domain=[],
    columns=(
        Column(name="order_id", field="order_id", kind="ref"),
        Column(name="order_name", field="order_id", kind="ref_name"),
        Column(name="description", field="name", kind="text"),
        Column(name="quantity", field="product_uom_qty", kind="number"),
        Column(name="balance", field="qty_saldo", kind="number"),
    ),
    page=50,
)


@dataclass(frozen=True)
class Syncing:
    """One sync, between a source and a mirror."""

    database: Database
    simulator: Simulator
    odoo: Client
    runs: Runs
    definition: Definition = LINES

    @property
    def mirror(self) -> Mirror:
        """The table of the sync."""
        return Mirror(self.definition)

    def defined(self, **changes: Any) -> Syncing:
        """The same with a definition that differs in something."""
        return replace(self, definition=replace(self.definition, **changes))

    async def start(self, mode: Mode = "incremental", *, accept_removals: bool = False) -> SyncRun:
        """A run that waits for a worker."""
        return await self.runs.start(
            "main", self.definition.name, mode, "tester", accept_removals=accept_removals
        )

    async def work(self, run: SyncRun, worker: str = "test") -> SyncRun:
        """The run as a worker left it."""
        engine = SyncEngine(self.database, self.runs, worker=worker, silence=SILENCE)
        ended = await engine.run(run.id, self.definition, self.mirror, self.odoo)
        assert ended is not None
        return ended

    async def sync(self, mode: Mode = "incremental", *, accept_removals: bool = False) -> SyncRun:
        """A run from its beginning to its end."""
        return await self.work(await self.start(mode, accept_removals=accept_removals))

    def source(self) -> dict[int, tuple[Any, ...]]:
        """What Odoo really has, by id, as the mirror should show it."""
        definition = self.definition
        rows = self.simulator.world.records(
            definition.model, list(definition.domain), ["id", *definition.fields]
        )
        records = [Record(definition.model, _numbers(row)) for row in rows]
        return {record.id: definition.row("main", record) for record in records}

    async def mirrored(self) -> dict[int, tuple[Any, ...]]:
        """What the mirror shows, by id."""
        async with self.database.transaction() as connection:
            rows = await connection.execute(select(self.mirror.table))
        return {row.id: tuple(row) for row in rows}

    async def equal(self) -> bool:
        """Whether the mirror is what Odoo has."""
        return await self.mirrored() == self.source()


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Floats as the client reads them."""
    values: dict[str, Any] = documents.from_json(documents.to_json(row))
    return values


@asynccontextmanager
async def syncing(database: Database, *, lines: int) -> AsyncIterator[Syncing]:
    """A source with so many lines, and an empty mirror."""
    options = SimulatorSettings(rows=BulkOptions(sale_lines=lines, products=20, partners=20))
    async with Simulator(options) as simulator:
        assert simulator.url is not None
        connection = Connection(
            name="main",
            url=simulator.url,
            database=options.database,
            login=options.login,
            secret=options.password,
        )
        once = RetryPolicy(attempts=1)
        async with Client(connection, retry=once) as odoo:
            yield Syncing(database, simulator, odoo, Runs(database))
