"""A sync of sales order lines and its source, a simulated Odoo in this process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from service import documents, jobs
from service.odoo import json2
from service.odoo.client import Client, RetryPolicy
from service.odoo.prefetch import Prefetch
from service.odoo.records import Record
from service.odoo.transport import Connection, no_guard
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.bulk import BulkOptions
from service.sync.definition import Column, Definition
from service.sync.engine import Deployment, SyncEngine
from service.sync.mirror import Mirror
from service.sync.runs import Mode, NewRun, Runs, SyncEvent, SyncRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from service.database import Database
    from service.odoo.json2 import Protocol

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


class Truth:
    """Reads the simulator's records where they are kept: no call, no fault, no page."""

    def __init__(self, simulator: Simulator) -> None:
        self._world = simulator.world

    async def search_read(
        self,
        model: str,
        domain: list[Any],
        fields: Sequence[str],
        *,
        order: str = "id",
        limit: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records that match, archived ones too."""
        assert (order, limit, context) == ("id", None, None)
        rows = self._world.records(model, domain, ["id", *fields])
        return [Record(model, _numbers(row)) for row in rows]

    async def read(
        self,
        model: str,
        ids: Sequence[int],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records of some ids."""
        return await self.search_read(model, [["id", "in", list(ids)]], fields, context=context)


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

    async def start(self, mode: Mode = "incremental", **more: Any) -> SyncRun:
        """A run that waits for a worker."""
        new = NewRun(
            connection="main", name=self.definition.name, mode=mode, actor="tester", **more
        )
        return await self.runs.start(new)

    async def work(self, run: SyncRun, worker: str = "test") -> SyncRun:
        """The run as a worker left it."""

        async def deploy(_: str, __: str) -> Deployment:
            return Deployment(definition=self.definition, odoo=self.odoo)

        engine = SyncEngine(self.database, self.runs, deploy, worker=worker, silence=SILENCE)
        await engine.run(run.id)
        return await self.runs.get(run.id)

    async def sync(self, mode: Mode = "incremental", **more: Any) -> SyncRun:
        """A run from its beginning to its end."""
        return await self.work(await self.start(mode, **more))

    async def source(self) -> dict[int, tuple[Any, ...]]:
        """What Odoo really has, by id, as the mirror should show it."""
        definition = self.definition
        truth = Truth(self.simulator)
        records = await truth.search_read(
            definition.model, list(definition.domain), definition.fields
        )
        graph = await Prefetch(truth, definition.relations).load(records)
        rows = definition.rows("main", graph.nodes)
        return {row[1]: row for row in rows}

    async def mirrored(self) -> dict[int, tuple[Any, ...]]:
        """What the mirror shows, by id."""
        async with self.database.transaction() as connection:
            rows = await connection.execute(select(self.mirror.table))
        return {row.id: tuple(row) for row in rows}

    async def equal(self) -> bool:
        """Whether the mirror is what Odoo has."""
        return await self.mirrored() == await self.source()


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Floats as the client reads them."""
    values: dict[str, Any] = documents.from_json(documents.to_json(row))
    return values


@asynccontextmanager
async def syncing(
    database: Database,
    *,
    lines: int = 0,
    rows: BulkOptions | None = None,
    version: Literal[17, 19] = 17,
    definition: Definition = LINES,
    protocol: Protocol = "jsonrpc",
) -> AsyncIterator[Syncing]:
    """A source with so many lines, or with `rows`, and an empty mirror."""
    wanted = rows or BulkOptions(sale_lines=lines, products=20, partners=20)
    options = SimulatorSettings(rows=wanted, version=version)
    async with Simulator(options) as simulator:
        assert simulator.url is not None
        connection = Connection(
            name="main",
            url=simulator.url,
            database=options.database,
            login=options.login,
            secret=options.api_key if protocol == "json2" else options.password,
        )
        once = RetryPolicy(attempts=1)
        wire = json2.choose(protocol, connection, guard=no_guard)
        async with Client(connection, retry=once, wire=wire) as odoo:
            runs = Runs(database, jobs.SYNC_RUNS.enqueue, unheard)
            yield Syncing(database, simulator, odoo, runs, definition)


async def unheard(event: SyncEvent) -> None:
    """Nobody listens."""
