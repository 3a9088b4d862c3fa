"""A dock where goods are received: a simulated Odoo, a configuration file, a ledger, one worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from service import connections
from service.posting.engine import Engine
from service.posting.plan import plan
from service.posting.step import Actor, NewPosting
from service.postings.physical_receipt import PHYSICAL_RECEIPT
from service.postings.physical_receipt.receipt import Receipt
from service.pulse import Pulse
from service.simulator import faults
from tests.factories import goods
from tests.factories.goods import LINE, LOT, PICKING
from tests.factories.running import SILENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from service.connections import Connections
    from service.locks import Locks
    from service.posting.ledger import Ledger, Posting
    from service.posting.plan import PlannedStep
    from service.posting.step import AnyDefinition
    from service.simulator.app import Simulator
    from service.simulator.seed import SeedCompany

ACTOR = Actor(name="tester", ip="127.0.0.1")
TODAY = date(2026, 11, 24)
EXPIRY = "2099-12-31"
DEADLINE_SECONDS = 20
READS = frozenset({"authenticate", "read", "search_read", "version"})
CHECK = "quality.check"
RECEIVING = ("plant", "hub")
"""The companies that receive; the two others are somebody else's."""


def timings(timeout: float = 2, settle: float = 4) -> str:
    """The same short times for every step, in seconds."""
    times = f"timeout_seconds = {timeout}, interval_seconds = 0.02, settle_seconds = {settle}"
    lines = (f"{step.name} = {{ {times} }}" for step in PHYSICAL_RECEIPT.steps)
    return "\n".join(("[connections.main.profiles.physical_receipt.timings]", *lines))


def profile(companies: list[SeedCompany], version: int, *values: str) -> str:
    """The profile of a deployment that receives for some companies, with more lines of it."""
    listed = ", ".join(
        f"{{ company_id = {one.id}, picking_type_ids = [{one.default_picking_type_id}] }}"
        for one in companies
    )
    return "\n".join(
        (
            "[connections.main.profiles.physical_receipt]",
            f"odoo_version = {version}",
            f"companies = [{listed}]",
            *values,
        )
    )


@dataclass(kw_only=True)
class Dock:
    """Where a test receives goods, and where it acts as a person in Odoo."""

    simulator: Simulator
    ledger: Ledger
    locks: Locks
    file: Path
    today: date = TODAY
    _connections: Connections = field(init=False)

    def __post_init__(self) -> None:
        """Know the procedure as it is, but for the calendar."""
        self.definition: AnyDefinition = replace(PHYSICAL_RECEIPT, today=lambda _: self.today)

    # -- the deployment ----------------------------------------------------------------------

    def configure(self, *values: str, times: str = "", told: int | None = None) -> None:
        """Write the configuration file, with more lines of the profile, and read it.

        `told` is the version that it names, in place of the true one.
        """
        world = self.simulator.world
        companies = [world.seed.companies[code] for code in RECEIVING]
        lines = [
            "[connections.main]",
            f'url = "{self.simulator.url}"',
            'database = "eclusa"',
            'login = "admin"',
            'secret = "admin"',
            profile(companies, told or world.version, *values),
            times or timings(),
        ]
        self.file.write_text("\n".join(lines), encoding="utf-8")
        self._connections = connections.Connections(
            connections.load(self.file), {self.definition.kind: self.definition}
        )

    async def reconfigure(self, *values: str, times: str = "", told: int | None = None) -> None:
        """Change the configuration file and restart the worker."""
        await self.close()
        self.configure(*values, times=times, told=told)

    async def close(self) -> None:
        """Close the connections to Odoo."""
        await self._connections.close()

    def engine(self) -> Engine:
        """The engine of a worker process."""
        return Engine(
            ledger=self.ledger,
            locks=self.locks,
            definitions={self.definition.kind: self.definition},
            deploy=self._connections.deploy,
            worker="test",
            silence=timedelta(seconds=SILENCE_SECONDS),
            pulse=Pulse(timedelta(minutes=5)),
            stopping=asyncio.Event(),
        )

    # -- goods -------------------------------------------------------------------------------

    def product(self, tracking: str = "none", **values: Any) -> int:
        """A product that is received."""
        return goods.product(self.simulator.world, tracking, **values)

    def picking(self, *ordered: tuple[int, float], company: str = "plant") -> int:
        """The receipt of an order of products, ready to be filled."""
        return goods.receipt(self.simulator.world, *ordered, company=company)

    def lot(self, product_id: int, name: str, **values: Any) -> int:
        """A lot that is there already."""
        return goods.lot(self.simulator.world, product_id, name, **values)

    def check(self, picking_id: int, **values: Any) -> int:
        """A quality check of a picking."""
        company = self.one(PICKING, picking_id)["company_id"][0]
        made: int = self.person(
            CHECK, "create", {"picking_id": picking_id, "company_id": company, **values}
        )
        return made

    # -- postings ----------------------------------------------------------------------------

    def receipt(self, picking_id: int, *lines: dict[str, Any], **values: Any) -> Receipt:
        """What has come, checked as the API checks it."""
        given = Receipt.model_validate({"picking_id": picking_id, "lines": lines, **values})
        profile = self._connections.profile("main", self.definition.kind)
        admitted: Receipt = self.definition.admit(given, profile)
        return admitted

    async def post(self, picking_id: int, *lines: dict[str, Any], **values: Any) -> UUID:
        """Accept a receipt as the API does."""
        receipt = self.receipt(picking_id, *lines, **values)
        posting = await self.ledger.accept(
            NewPosting(
                id=uuid4(),
                kind=self.definition.kind,
                connection="main",
                document_type=self.definition.document_type,
                document_key=self.definition.document_key(receipt),
                subject=receipt,
                total_steps=len(self.definition.steps),
                reference=None,
                actor=ACTOR,
            )
        )
        return posting.id

    async def plan(self, receipt: Receipt) -> tuple[PlannedStep, ...]:
        """What posting a receipt would do."""
        deployment = await self._connections.deploy("main", self.definition.kind)
        return await plan(
            self.definition,
            odoo=deployment.odoo,
            subject=receipt,
            profile=deployment.profile,
            facts={},
            limit=timedelta(seconds=DEADLINE_SECONDS),
        )

    async def run(self, posting_id: UUID) -> Posting:
        """Let the worker take the posting as far as it goes."""
        await self.engine().run(posting_id)
        return await self.ledger.get(posting_id)

    async def resume(self, posting_id: UUID) -> Posting:
        """Resume a stopped posting and let the worker take it as far as it goes."""
        await self.ledger.resume(posting_id, ACTOR)
        return await self.run(posting_id)

    async def receive(self, picking_id: int, *lines: dict[str, Any], **values: Any) -> Posting:
        """Receive goods for the first time."""
        return await self.run(await self.post(picking_id, *lines, **values))

    async def steps(self, posting_id: UUID, action: str) -> list[int]:
        """The steps that the audit records with an action, each once, in order."""
        records = await self.ledger.history(posting_id)
        return list(dict.fromkeys(one.step for one in records if one.action == action))

    async def while_called(self, posting_id: UUID, name: str, act: Callable[[], object]) -> Posting:
        """Run a posting; while Odoo works on its call `model.method`, a person acts."""
        received = self.simulator.world.received
        before = received[name]
        running = asyncio.create_task(self.run(posting_id))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while received[name] == before and not running.done():  # noqa: ASYNC110  polled
                await asyncio.sleep(0.002)
        act()
        return await running

    # -- Odoo --------------------------------------------------------------------------------

    def person(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Do something as a person in Odoo."""
        return self.simulator.world.execute(model, method, *args, **kwargs)

    def trouble(self, kind: faults.Kind, model: str, method: str, **more: Any) -> None:
        """Let a call meet a trouble."""
        self.simulator.add_fault(faults.Fault(kind=kind, model=model, method=method, **more))

    def calls(self) -> dict[str, int]:
        """How often Odoo was asked to change something, by model and method."""
        received = self.simulator.world.received
        return {
            name: count for name, count in received.items() if name.rpartition(".")[2] not in READS
        }

    def forget_calls(self) -> None:
        """Count calls from now on."""
        self.simulator.world.received = Counter()

    def records(self, model: str, *domain: list[Any]) -> list[dict[str, Any]]:
        """What Odoo really has."""
        return self.simulator.world.records(model, list(domain))

    def one(self, model: str, record_id: int) -> dict[str, Any]:
        """One record of Odoo."""
        [found] = self.records(model, ["id", "=", record_id])
        return found

    def lines(self, picking_id: int) -> list[tuple[Any, float, bool]]:
        """Lot, quantity and tick of each line of a picking."""
        return [
            (line["lot_id"] and line["lot_id"][1], line["quantity"], line["picked"])
            for line in self.records(LINE, ["picking_id", "=", picking_id])
        ]

    def lots(self, product_id: int) -> list[str]:
        """The names of all lots of a product."""
        return [lot["name"] for lot in self.records(LOT, ["product_id", "=", product_id])]

    def stock(self, product_id: int) -> dict[Any, float]:
        """How much of a product is in stock, by lot."""
        return goods.stock(self.simulator.world, product_id)

    def state(self, picking_id: int) -> str:
        """The state of a picking."""
        return str(self.one(PICKING, picking_id)["state"])
