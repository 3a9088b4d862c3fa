"""A deployment in miniature: a simulated Odoo, a configuration file, a ledger, one worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import pytest
import stamina

from service import connections, jobs, scene
from service.locks import Locks
from service.posting import run as runs
from service.posting.engine import Engine
from service.posting.ledger import Ledger
from service.posting.step import Actor, NewPosting
from service.postings.freight_cte import FREIGHT_CTE
from service.pulse import Pulse
from service.simulator import arrivals, faults
from service.simulator.app import Simulator, SimulatorSettings
from tests.factories.running import SILENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from redis.asyncio import Redis

    from service.connections import Connections
    from service.database import Database
    from service.posting.ledger import Posting
    from service.posting.step import AnyDefinition
    from service.simulator.arrivals import SeededDocument
    from service.simulator.seed import SeedCompany

ACTOR = Actor(name="tester", ip="127.0.0.1")
TODAY = date(2026, 11, 24)
DUE_DATE = "2026-12-31"
DFE = "l10n_br_ciel_it_account.dfe"
DEADLINE_SECONDS = 20
READS = frozenset({"authenticate", "read", "search_read", "version"})
ACTIONS = ("generate_order", "confirm_order", "approve_order", "create_bill", "post_bill")
WRITES = (
    "prepare_entry",
    "set_order_type",
    "set_product",
    "set_due_date",
    "configure_order",
    "bill_taxes",
    "configure_bill",
    "bill_taxes_again",
    "verify",
)


def timings(timeout: float = 2, settle: float = 4, kind: str = "freight_cte") -> str:
    """The same short times for every step, in seconds."""
    times = f"timeout_seconds = {timeout}, interval_seconds = 0.02, settle_seconds = {settle}"
    lines = (f"{name} = {{ {times} }}" for name in ACTIONS + WRITES)
    return "\n".join((f"[connections.main.profiles.{kind}.timings]", *lines))


@dataclass(kw_only=True)
class Office:
    """Where a test posts freight bills of a kind, and where it acts as a person in Odoo."""

    simulator: Simulator
    ledger: Ledger
    locks: Locks
    file: Path
    kind: AnyDefinition = FREIGHT_CTE
    today: date = TODAY
    _connections: Connections = field(init=False)

    def __post_init__(self) -> None:
        """Know the procedure as it is, but for the calendar."""
        self.definition: AnyDefinition = replace(self.kind, today=lambda _: self.today)

    # -- the deployment ----------------------------------------------------------------------

    def configure(self, *changes: tuple[str, str], times: str = "") -> None:
        """Write the configuration file, with texts in it replaced, and read it as a worker does."""
        kind = self.definition.kind
        text = "\n".join(
            (
                scene.connection(self.simulator.url),
                scene.freight_profile(self.simulator.world.seed.describe(), kind),
                times or timings(kind=kind),
            )
        )
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text, encoding="utf-8")
        self._connections = connections.Connections(
            connections.load(self.file), {self.definition.kind: self.definition}
        )

    async def reconfigure(self, *changes: tuple[str, str], times: str = "") -> None:
        """Change the configuration file and restart the worker."""
        await self.close()
        self.configure(*changes, times=times)

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

    def company(self, code: str) -> SeedCompany:
        """One of the companies that take freights."""
        return self.simulator.world.seed.companies[code]

    # -- postings ----------------------------------------------------------------------------

    def document(self, **options: Any) -> SeededDocument:
        """A CTe that has arrived in Odoo."""
        [document] = self.simulator.world.add_documents(arrivals.DocumentOptions(**options))
        return document

    async def post(
        self,
        document: SeededDocument,
        by: Literal["xml", "key"] = "xml",
        *,
        invoice: str | None = "4711",
        **more: str,
    ) -> UUID:
        """Accept a posting as the API does."""
        given = self.definition.input_model.model_validate(
            {
                **more,
                "due_date": DUE_DATE,
                "carrier_invoice": invoice,
                **({"xml": document.xml} if by == "xml" else {"access_key": document.key}),
            }
        )
        kind = self.definition.kind
        subject = self.definition.admit(given, self._connections.profile("main", kind))
        posting = await self.ledger.accept(
            NewPosting(
                id=uuid4(),
                kind=kind,
                connection="main",
                document_type=self.definition.document_type,
                document_key=self.definition.document_key(subject),
                subject=subject,
                total_steps=len(self.definition.steps),
                reference=None,
                actor=ACTOR,
            )
        )
        return posting.id

    async def run(self, posting_id: UUID) -> Posting:
        """Let the worker take the posting as far as it goes."""
        await self.engine().run(posting_id)
        return await self.ledger.get(posting_id)

    async def resume(self, posting_id: UUID) -> Posting:
        """Resume a stopped posting and let the worker take it as far as it goes."""
        await self.ledger.resume(posting_id, ACTOR)
        return await self.run(posting_id)

    async def post_and_run(
        self, document: SeededDocument, by: Literal["xml", "key"] = "xml"
    ) -> Posting:
        """Post a document for the first time."""
        return await self.run(await self.post(document, by))

    async def steps(self, posting_id: UUID, action: str, run: int | None = None) -> list[int]:
        """The steps that the audit records with an action, each once, in order."""
        records = await self.ledger.history(posting_id)
        wanted = (
            record.step
            for record in records
            if record.action == action and run in {None, record.run}
        )
        return list(dict.fromkeys(wanted))

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

    def generate(self, document: SeededDocument, company: str | None = None) -> int:
        """Prepare a document and press the button in Odoo, as a user of `company`."""
        seed = self.simulator.world.seed
        of_document = [["dfe_id", "=", document.dfe_id]]
        lines = self.person(f"{DFE}.line", "search", of_document)
        self.person(f"{DFE}.line", "write", lines, {"product_id": seed.product_id})
        instalments = self.person(f"{DFE}.pagamento", "search", of_document)
        self.person(f"{DFE}.pagamento", "write", instalments, {"cobr_dup_dvenc": DUE_DATE})
        self.person(DFE, "write", [document.dfe_id], {"l10n_br_tipo_pedido": "servico"})
        user_of = self.company(company).id if company else document.taker_company_id
        context = {"allowed_company_ids": [user_of]}
        self.person(DFE, "action_gerar_po_dfe", [document.dfe_id], context=context)
        return int(self.orders(document)[-1]["id"])

    def trouble(self, kind: faults.Kind, method: str = "*", **more: Any) -> None:
        """Let a call meet a trouble."""
        self.simulator.add_fault(faults.Fault(kind=kind, method=method, **more))

    def calls(self) -> dict[str, int]:
        """How often Odoo was asked to change something, by model and method."""
        received = self.simulator.world.received
        return {
            name: count for name, count in received.items() if name.rpartition(".")[2] not in READS
        }

    def forget_calls(self) -> None:
        """Count calls from now on."""
        self.simulator.world.received = Counter()

    def dfe(self, document: SeededDocument) -> dict[str, Any]:
        """The document in Odoo."""
        [found] = self.simulator.world.records(DFE, [["id", "=", document.dfe_id]])
        return found

    def orders(self, document: SeededDocument) -> list[dict[str, Any]]:
        """All orders of the document in Odoo, oldest first."""
        domain = [["dfe_id", "in", list(document.dfe_ids)]]
        return self.simulator.world.records("purchase.order", domain)

    def order(self, document: SeededDocument) -> dict[str, Any]:
        """The one order of the document that is not cancelled."""
        [found] = [order for order in self.orders(document) if order["state"] != "cancel"]
        return found

    def order_line(self, document: SeededDocument) -> dict[str, Any]:
        """The one line of that order."""
        domain = [["order_id", "=", self.order(document)["id"]]]
        [found] = self.simulator.world.records("purchase.order.line", domain)
        return found

    def bills(self, document: SeededDocument) -> list[dict[str, Any]]:
        """All bills of the document's orders in Odoo, oldest first."""
        ids = [bill for order in self.orders(document) for bill in order["invoice_ids"]]
        return self.simulator.world.records("account.move", [["id", "in", ids]])

    def bill(self, document: SeededDocument) -> dict[str, Any]:
        """The one bill of the document that is not cancelled."""
        [found] = [bill for bill in self.bills(document) if bill["state"] != "cancel"]
        return found

    def assert_posted(
        self, document: SeededDocument, *, invoice: str | None = "4711", text: str | None = None
    ) -> None:
        """Odoo has one live order and one posted bill, of the document's company and amount."""
        seed = self.simulator.world.seed
        company = seed.company(document.taker_company_id or 0)
        order, bill, line = self.order(document), self.bill(document), self.order_line(document)
        reference = text or (f"FATURA-{invoice}" if invoice else False)
        assert order["state"] in {"purchase", "done"}
        assert bill["state"] == "posted"
        assert order["invoice_ids"] == [bill["id"]]
        amounts = [order["amount_total"], bill["amount_total"], line["price_unit"]]
        assert amounts == [float(document.amount)] * 3
        assert (order["company_id"][0], bill["company_id"][0]) == (company.id, company.id)
        assert order["picking_type_id"][0] == company.picking_type_id
        assert order["partner_id"][0] == document.carrier_partner_id
        assert (order["team_id"][0], order["payment_provider_id"][0]) == (
            seed.team_id,
            seed.payment_provider_id,
        )
        assert (order["partner_ref"], bill["payment_reference"]) == (reference, reference)
        operations = {order["l10n_br_operacao_id"][0], line["l10n_br_operacao_id"][0]}
        assert operations == {self._operation(document, company)}
        assert bill["invoice_date_due"] == DUE_DATE
        assert (bill["l10n_br_compra_indcom"], bill["l10n_br_situacao_nf"]) == ("out", "autorizado")

    def _operation(self, document: SeededDocument, company: SeedCompany) -> int:
        at_home = document.carrier_state == company.state
        normal = company.operations.intrastate_normal, company.operations.interstate_normal
        return normal[0] if at_home else normal[1]


@pytest.fixture
def version() -> Literal[17, 19]:
    """The version of Odoo; a test may name its own."""
    return 17


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Repeat reads as often as ever, and locked calls too, but at once."""
    monkeypatch.setattr(runs, "CONFLICT_PAUSE", timedelta(milliseconds=10))
    with stamina.set_testing(testing=True, attempts=4, cap=True):
        yield


@pytest.fixture
async def office(
    database: Database,
    redis: Redis,
    tmp_path: Path,
    version: Literal[17, 19],
    _no_waiting: None,
) -> AsyncIterator[Office]:
    """An office with an empty inbox."""

    async def announce(*_: object) -> None:
        """Tell nobody."""

    ledger = Ledger(database, jobs.POSTINGS.enqueue, announce, announce)
    locks = Locks(redis, ttl=timedelta(seconds=30))
    async with Simulator(SimulatorSettings(version=version)) as simulator:
        made = Office(
            simulator=simulator, ledger=ledger, locks=locks, file=tmp_path / "eclusa.toml"
        )
        made.configure()
        yield made
        await made.close()
