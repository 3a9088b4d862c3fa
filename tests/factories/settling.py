"""A desk that settles titles: a simulated Odoo, a configuration file, a ledger, one worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from service import connections
from service.posting.engine import Engine
from service.posting.step import Actor, NewPosting
from service.postings.title_settlement import TITLE_SETTLEMENT
from service.postings.title_settlement.settlement import SettlementInput, payment_reference
from service.pulse import Pulse
from service.simulator import faults
from service.simulator.titles import TitleOptions
from tests.factories.running import SILENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from service.connections import Connections
    from service.locks import Locks
    from service.posting.ledger import Ledger, Posting
    from service.posting.step import AnyDefinition
    from service.postings.title_settlement.settlement import Purpose, Settlement
    from service.simulator.app import Simulator
    from service.simulator.seed import SeedCompany
    from service.simulator.titles import SeededTitle

ACTOR = Actor(name="tester", ip="127.0.0.1")
TODAY = date(2026, 11, 24)
DAY = "2026-11-20"
DEADLINE_SECONDS = 20
READS = frozenset({"authenticate", "read", "search_read", "version"})

LINE = "account.move.line"
MOVE = "account.move"
PAYMENT = "account.payment"
WIZARD = "account.payment.register"
STATEMENT_LINE = "account.bank.statement.line"


def timings(timeout: float = 2, settle: float = 4) -> str:
    """The same short times for every step, in seconds."""
    times = f"timeout_seconds = {timeout}, interval_seconds = 0.02, settle_seconds = {settle}"
    lines = (f"{step.name} = {{ {times} }}" for step in TITLE_SETTLEMENT.steps)
    return "\n".join(("[connections.main.profiles.title_settlement.timings]", *lines))


def profile(companies: list[SeedCompany], version: int) -> str:
    """The profile of titles on the connection `main`."""

    def ids(kind: str, name: str) -> str:
        pairs = (f"{one.id} = {getattr(getattr(one, kind), name)}" for one in companies)
        return f"{{ {', '.join(pairs)} }}"

    def side(name: str, interest: str) -> list[str]:
        return [
            f"[connections.main.profiles.title_settlement.{name}]",
            f"discount_journals = {ids('journals', 'discount')}",
            f"agreement_journals = {ids('journals', 'agreement')}",
            f"return_journals = {ids('journals', 'returns')}",
            f"interest_accounts = {ids('accounts', interest)}",
        ]

    lines = [
        "[connections.main.profiles.title_settlement]",
        f"odoo_version = {version}",
        f"companies = {[one.id for one in companies]}",
        *side("receivable", "interest_income"),
        f"charges_accounts = {ids('accounts', 'charges')}",
        *side("payable", "interest_expense"),
    ]
    return "\n".join(lines)


def configuration(profile: str, url: str, times: str, changes: dict[str, str]) -> str:
    """A configuration file; `changes` replace texts in it."""
    connection = [
        "[connections.main]",
        f'url = "{url}"',
        'database = "eclusa"',
        'login = "admin"',
        'secret = "admin"',
    ]
    text = "\n".join((*connection, profile, times, ""))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@dataclass(kw_only=True)
class Cashier:
    """Where a test settles titles, and where it acts as a person in Odoo."""

    simulator: Simulator
    ledger: Ledger
    locks: Locks
    file: Path
    version: int
    today: date = TODAY
    _connections: Connections = field(init=False)

    def __post_init__(self) -> None:
        """Know the procedure as it is, but for the calendar."""
        self.definition: AnyDefinition = replace(TITLE_SETTLEMENT, today=lambda _: self.today)

    # -- the deployment ----------------------------------------------------------------------

    def configure(self, changes: dict[str, str] | None = None, *, times: str = "") -> None:
        """Write the configuration file and read it as a worker does.

        Three of the four companies are settled; the sister is somebody else's.
        """
        companies = [self.company(code) for code in ("plant", "south", "hub")]
        text = configuration(
            profile(companies, self.version), self.simulator.url, times or timings(), changes or {}
        )
        self.file.write_text(text, encoding="utf-8")
        self._connections = connections.Connections(
            connections.load(self.file), {self.definition.kind: self.definition}
        )

    async def reconfigure(self, changes: dict[str, str] | None = None, *, times: str = "") -> None:
        """Change the configuration file and restart the worker."""
        await self.close()
        self.configure(changes, times=times)

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

    def company(self, code: str = "plant") -> SeedCompany:
        """A company of the deployment."""
        return self.simulator.world.seed.companies[code]

    # -- postings ----------------------------------------------------------------------------

    def title(self, *amounts: str, **options: Any) -> SeededTitle:
        """An invoice or a bill with an instalment of each amount."""
        given = tuple(Decimal(amount) for amount in amounts or ("1000.00",))
        return self.simulator.world.add_title(TitleOptions(amounts=given, **options))

    def settlement(self, title: SeededTitle, **values: Any) -> Settlement:
        """What is asked for, checked as the API checks it."""
        given: dict[str, Any] = {
            "direction": "receivable",
            "number": str(title.number),
            "instalment": 1,
            "reference": "line 1",
            "date": DAY,
            "journal_id": self.simulator.world.seed.company(title.company_id).journals.bank,
            **values,
        }
        settlement: Settlement = self.definition.admit(
            SettlementInput.model_validate(given),
            self._connections.profile("main", self.definition.kind),
        )
        return settlement

    async def accept(self, settlement: Settlement) -> UUID:
        """Accept a posting as the API does."""
        posting = await self.ledger.accept(
            NewPosting(
                id=uuid4(),
                kind=self.definition.kind,
                connection="main",
                document_type=self.definition.document_type,
                document_key=self.definition.document_key(settlement),
                subject=settlement,
                total_steps=len(self.definition.steps),
                reference=None,
                actor=ACTOR,
            )
        )
        return posting.id

    async def post(self, title: SeededTitle, **values: Any) -> UUID:
        """Accept the settlement of a title."""
        return await self.accept(self.settlement(title, **values))

    async def run(self, posting_id: UUID) -> Posting:
        """Let the worker take the posting as far as it goes."""
        await self.engine().run(posting_id)
        return await self.ledger.get(posting_id)

    async def resume(self, posting_id: UUID) -> Posting:
        """Resume a stopped posting and let the worker take it as far as it goes."""
        await self.ledger.resume(posting_id, ACTOR)
        return await self.run(posting_id)

    async def settle(self, title: SeededTitle, **values: Any) -> Posting:
        """Settle a title for the first time."""
        return await self.run(await self.post(title, **values))

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

    @property
    def reference(self) -> str:
        """What this version calls the reference of a payment."""
        return "ref" if self.version == 17 else "memo"

    def payments(self, *purposes: Purpose, of: Settlement | None = None) -> list[dict[str, Any]]:
        """All payments in Odoo, or those of a settlement for some purposes."""
        if of is None:
            return self.records(PAYMENT)
        wanted = [payment_reference(of, purpose) for purpose in purposes]
        return self.records(PAYMENT, [self.reference, "in", wanted])

    def settling_item(self) -> dict[str, Any]:
        """The item of the only payment that settles receivables."""
        [found] = self.records(
            LINE, ["payment_id", "!=", False], ["account_type", "=", "asset_receivable"]
        )
        return found

    def open(self, title: SeededTitle, place: int = 0) -> Decimal:
        """What is open of an instalment; positive for a receivable, negative for a payable."""
        residual = self.one(LINE, title.line_ids[place])["amount_residual"]
        return Decimal(str(residual))

    def pay_by_hand(self, title: SeededTitle, amount: str, **values: Any) -> int:
        """A person pays a part of a receivable with the wizard; answers the payment."""
        journal_id = self.simulator.world.seed.company(title.company_id).journals.bank
        wizard = self.person(
            WIZARD,
            "create",
            {
                "journal_id": journal_id,
                "amount": float(amount),
                "communication": "by hand",
                **values,
            },
            context={"active_model": LINE, "active_ids": [title.line_id]},
        )
        answer = self.person(WIZARD, "action_create_payments", [wizard])
        payment_id: int = answer["res_id"]
        return payment_id

    def movement(self, amount: str, code: str = "plant") -> int:
        """A line of a bank statement."""
        values = {
            "journal_id": self.company(code).journals.bank,
            "amount": float(amount),
            "payment_ref": "TED 4711",
            "date": DAY,
        }
        line_id: int = self.person(STATEMENT_LINE, "create", values)
        return line_id
