"""One simulated Odoo database: its rows, its clock, its faults, and what was done to it."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from service.simulator import (
    arrivals,
    attachments,
    bills,
    bulk,
    catalog,
    changes,
    dfe,
    errors,
    faults,
    invoke,
    orm,
    partners,
    payments,
    picking,
    purchase,
    quality,
    receipts,
    reconciliation,
    sales,
    seed,
    statements,
    stock,
    titles,
)
from service.simulator.database import Database
from service.simulator.options import Options
from service.simulator.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from service.simulator.arrivals import DocumentOptions, SeededDocument
    from service.simulator.bulk import BulkOptions
    from service.simulator.changes import Change, Scheduled
    from service.simulator.orm import Environment, Model, Record
    from service.simulator.receipts import ReceiptOptions, SeededReceipt
    from service.simulator.titles import SeededTitle, TitleOptions
    from service.simulator.transactions import OpenTransaction

SNAPSHOT_METHODS = frozenset(
    {"fields_get", "name_search", "read", "search", "search_count", "search_read"}
)
FIRST_NUMBER = 1001
TO_DOCUMENT = {
    dfe.LINE: ("dfe_id",),
    dfe.INSTALMENT: ("dfe_id",),
    dfe.REFERENCE: ("dfe_id",),
    "purchase.order": ("dfe_id",),
    "purchase.order.line": ("order_id", "dfe_id"),
    "account.move": ("dfe_id",),
    "account.move.line": ("move_id", "dfe_id"),
}


def registry() -> dict[str, type[Model]]:
    """Return all models by name."""
    groups = (
        partners.MODELS,
        catalog.MODELS,
        purchase.MODELS,
        sales.MODELS,
        stock.MODELS,
        picking.MODELS,
        quality.MODELS,
        bills.MODELS,
        reconciliation.MODELS,
        payments.MODELS,
        statements.MODELS,
        dfe.MODELS,
        attachments.MODELS,
    )
    return {model.model: model for group in groups for model in group}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a method by a client."""

    model: str
    method: str
    args: Any = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    user_id: int

    @property
    def ids(self) -> tuple[int, ...]:
        """The records the call is about."""
        return invoke.record_ids(self.args)


class World:
    """The state behind the HTTP surface, open to tests in the same process."""

    def __init__(
        self,
        *,
        version: int = 17,
        login: str = "admin",
        password: str = "admin",  # noqa: S107 - the account of an invented database
        observer: tuple[str, str] = ("observer", "observer"),
        api_key: str | None = None,
        seed_number: int = 1,
        options: Options | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.version = version
        self.clock = clock
        self.seed = seed.default_seed()
        self.seed_number = seed_number
        self.options = options or Options()
        self.faults = faults.FaultBook()
        self.registry = registry()
        indexes = {name: orm.index_fields(model) for name, model in self.registry.items()}
        self.database = Database(indexes)
        self.received: Counter[str] = Counter()
        self.committed: Counter[str] = Counter()
        self.documents: dict[str, SeededDocument] = {}
        self.schedule = changes.Schedule()
        self.transactions = Transactions(self.database)
        self.failed: list[str] = []
        self.api_keys = {api_key: self.seed.api_user_id} if api_key else {}
        self._numbers = count(FIRST_NUMBER)
        self._changes = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        with self.database.transaction():
            env = self.environment()
            seed.plant(env, login=login, password=password, observer=observer)

    # Who and when.

    def environment(
        self,
        user_id: int = orm.SUPERUSER,
        context: Mapping[str, Any] | None = None,
        *,
        started: datetime | None = None,
        snapshot: int | None = None,
    ) -> Environment:
        """Return the environment of a transaction that starts now, or started earlier."""
        return orm.Environment(
            database=self.database,
            registry=self.registry,
            version=self.version,
            user_id=user_id,
            now=started or self.clock(),
            options=self.options,
            seed=self.seed,
            snapshot=self.database.commits if snapshot is None else snapshot,
            context=context or {},
        )

    def log_in(self, login: Any, password: Any, *, keys: bool = False) -> int | None:
        """Return the id of the user with this login and password; `keys` may take its place."""
        for user_id, row in self.database.tables["res.users"].rows.items():
            key_fits = keys and self.api_keys.get(str(password)) == user_id
            if row["login"] == login and password and (row["secret"] == password or key_fits):
                return user_id
        return None

    def check_credentials(self, user_id: Any, password: Any) -> int:
        """Return the user's id, or refuse like the server."""
        if not user_id or not password or not isinstance(user_id, int):
            raise errors.AccessDenied
        row = self.database.tables["res.users"].rows.get(user_id)
        if row is None:
            raise errors.MissingError.of("res.users", user_id, user_id)
        # A key takes the place of the password, as in the real server.
        known = row["secret"] is not None and row["secret"] == password
        if not known and self.api_keys.get(str(password)) != user_id:
            raise errors.AccessDenied
        return user_id

    # Doing.

    def execute(
        self,
        model: str,
        method: str,
        *args: Any,
        user_id: int = orm.SUPERUSER,
        **kwargs: Any,
    ) -> Any:
        """Act as a person in Odoo would: at once, without fault, without counting."""
        call = Call(model=model, method=method, args=args, kwargs=kwargs, user_id=user_id)
        return self._apply(call, self.clock(), self.database.commits, count=False)

    def receive(self, call: Call) -> faults.Fault | None:
        """Count a call, and return the trouble it meets."""
        self.received[f"{call.model}.{call.method}"] += 1
        keys = self.keys_of(call) if self.faults.by_key else frozenset()
        return self.faults.take(call.model, call.method, call.ids, keys)

    async def run(self, call: Call, delay: float | None = None) -> Any:
        """Run a call as a transaction that starts now and applies after its duration.

        The transaction outlives the client that asked for it. Reads take what they return at the
        start; writes are applied in one piece at the end, so that transactions are serial.
        """
        return await asyncio.shield(self._start(call, delay))

    def run_later(self, call: Call, delay: float | None) -> None:
        """Run a call whose answer nobody will see; None is after its own duration."""
        self._start(call, delay)

    def _start(self, call: Call, delay: float | None) -> asyncio.Task[Any]:
        started, snapshot = self.clock(), self.database.commits
        return self._keep(asyncio.create_task(self._run(call, delay, started, snapshot)))

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Asking for the exception marks it as seen: a refusal that nobody waits for is no bug.
        if not task.cancelled():
            task.exception()

    async def _run(self, call: Call, delay: float | None, started: datetime, snapshot: int) -> Any:
        seconds = self.options.duration(call.model, call.method) if delay is None else delay
        if seconds and call.method not in SNAPSHOT_METHODS:
            await asyncio.sleep(seconds)
        result = self._apply(call, started, snapshot)
        for one in self.schedule.passed(call.model, call.method):
            self._happen(one)
        if seconds and call.method in SNAPSHOT_METHODS:
            await asyncio.sleep(seconds)
        return result

    def _apply(self, call: Call, started: datetime, snapshot: int, *, count: bool = True) -> Any:
        with self.database.transaction():
            result = self._invoke(call, started, snapshot)
            changed = self.database.changed
        if changed:
            for record_id in call.ids:
                self.database.mark(call.model, record_id, call.method)
            if count:
                self.committed[f"{call.model}.{call.method}"] += 1
        return result

    def _invoke(self, call: Call, started: datetime, snapshot: int | None = None) -> Any:
        kwargs = dict(call.kwargs)
        context = kwargs.pop("context", None) or {}
        env = self.environment(call.user_id, context, started=started, snapshot=snapshot)
        return invoke.invoke(env, call.model, call.method, call.args, kwargs)

    # Changing the source behind the client's back.

    def change(self, change: Change) -> list[int]:
        """Change many records at once, in a transaction of now; return their ids."""
        with self.database.transaction():
            return self._carry_out(change, self.clock())

    def _carry_out(self, change: Change, started: datetime) -> list[int]:
        self._changes += 1
        number = self.seed_number if change.seed is None else change.seed
        seed = f"{number}/{self._changes}"
        return changes.carry_out(self.environment(started=started), change, seed)

    def begin(
        self,
        *,
        calls: Sequence[Call] = (),
        changes: Sequence[Change] = (),
        age: float = 0.0,
        seconds: float | None = None,
    ) -> OpenTransaction:
        """Do calls and changes in a transaction that nobody sees yet.

        Its stamps are of its start, `age` seconds ago. It commits by `transactions.commit`, or by
        itself after `seconds`.
        """
        started = self.clock() - timedelta(seconds=age)
        begun = self.transactions.begin(
            started,
            [
                *(partial(self._invoke, one, started) for one in calls),
                *(partial(self._carry_out, one, started) for one in changes),
            ],
        )
        if seconds is not None:
            self._keep(asyncio.create_task(self._commit_later(begun.id, seconds)))
        return begun

    async def _commit_later(self, transaction_id: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if transaction_id in self.transactions.open:
            self._attempt(partial(self.transactions.commit, transaction_id))

    def _happen(self, scheduled: Scheduled) -> None:
        if scheduled.change is not None:
            self._attempt(partial(self.change, scheduled.change))
        if scheduled.commit is not None:
            self._attempt(partial(self.transactions.commit, scheduled.commit))

    def _attempt(self, deed: Callable[[], Any]) -> None:
        """Do what nobody waits for; that it failed is told by the state."""
        try:
            deed()
        except (errors.ServerError, ValueError) as error:
            self.failed.append(str(error))

    @property
    def in_flight(self) -> int:
        """How many transactions have started and not ended."""
        return len(self._tasks)

    def abort(self) -> None:
        """Kill every transaction in flight or open; nothing of them is applied."""
        self.transactions.open.clear()
        for task in list(self._tasks):
            task.cancel()

    async def settled(self) -> None:
        """Wait until no transaction is in flight."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # Seeding.

    def add_documents(self, options: DocumentOptions) -> list[SeededDocument]:
        """Let documents arrive, as many as the options say."""
        env = self.environment()
        number = options.seed if options.seed is not None else self.seed_number
        with self.database.transaction():
            made = [
                arrivals.receive(env, options, number=place, seed=number)
                for place in islice(self._numbers, options.count)
            ]
        self.documents.update({one.key: one for one in made})
        return made

    def add_title(self, options: TitleOptions) -> SeededTitle:
        """Let an invoice or a bill stand open."""
        with self.database.transaction():
            return titles.issue(self.environment(), options)

    def add_receipt(self, options: ReceiptOptions) -> SeededReceipt:
        """Let goods be on their way."""
        with self.database.transaction():
            return receipts.order(self.environment(), options)

    def add_rows(self, options: BulkOptions) -> dict[str, int]:
        """Add many rows; return how many of each model."""
        before = self._sizes()
        with self.database.transaction():
            delivery = bulk.Bulk(self.environment(), options, self.seed_number)
            delivery.rows()
            made = delivery.documents(self._numbers)
        self.documents.update({one.key: one for one in made})
        grown = ((name, size - before[name]) for name, size in self._sizes().items())
        return {name: number for name, number in grown if number}

    def _sizes(self) -> dict[str, int]:
        return {name: len(table.rows) for name, table in self.database.tables.items()}

    def configure(self, values: Mapping[str, Any]) -> None:
        """Change options, or the version; unknown names and wrong values are refused."""
        changes = dict(values)
        version = changes.pop("version", self.version)
        if version not in {17, 19}:
            raise ValueError(f"version is 17 or 19, not {version!r}")
        known = set(Options.__dataclass_fields__)
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(
                f"unknown {', '.join(unknown)}; known: version, {', '.join(sorted(known))}"
            )
        if changes.get("approver", "other") not in {"automatic", "user", "other"}:
            raise ValueError("approver is automatic, user or other")
        durations = changes.pop("durations", {})
        self.version = version
        for name, value in changes.items():
            setattr(self.options, name, value)
        self.options.durations.update({name: float(one) for name, one in durations.items()})

    # Looking.

    def keys_of(self, call: Call) -> frozenset[str]:
        """Return the access keys of the documents that a call is about."""
        if call.model not in self.registry:
            return frozenset()
        model = self.environment()[call.model]
        records = (model.record(one) for one in call.ids if model.has(one))
        return frozenset(key for one in records if (key := _key_of(one)) is not None)

    def records(
        self,
        model: str,
        domain: Sequence[Any] = (),
        fields: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return records as a client would read them, archived ones included, by id."""
        context = {"active_test": False}
        names = list(fields) if fields is not None else None
        found: list[dict[str, Any]] = self.execute(
            model,
            "search_read",
            list(domain),
            fields=names,
            order="id",
            limit=limit,
            context=context,
        )
        return found

    def state(self) -> dict[str, Any]:
        """Return calls received, effects committed, and what became of each document."""
        return {
            "version": self.version,
            "received": dict(self.received),
            "committed": dict(self.committed),
            "in_flight": self.in_flight,
            "faults": [asdict(one) for one in self.faults.waiting],
            "scheduled": [asdict(one) for one in self.schedule.waiting],
            "transactions": [one.describe() for one in self.transactions.open.values()],
            "failed": self.failed,
            "options": asdict(self.options),
            "documents": self.outcomes(),
        }

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Return, by access key, the DFe records, orders and bills."""
        env = self.environment()
        found: dict[str, dict[str, Any]] = defaultdict(
            lambda: {"dfe_ids": [], "status": [], "orders": [], "bills": []}
        )
        for one in (env[dfe.DFE].record(number) for number in env[dfe.DFE].table.rows):
            entry = found[str(one["protnfe_infnfe_chnfe"])]
            entry["dfe_ids"].append(one.id)
            entry["status"].append(one["l10n_br_status"])
            for kind, model in (("orders", "purchase.order"), ("bills", "account.move")):
                ids = env[model].table.referring("dfe_id", one.id)
                entry[kind] += [_summary(env[model].record(number)) for number in ids]
        return dict(found)


def _summary(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record["name"],
        "state": record["state"],
        "company_id": record["company_id"],
        "amount": record["amount_total"],
        "operation_id": record["l10n_br_operacao_id"],
    }


def _key_of(record: Record) -> str | None:
    present: Record | None = record
    for name in TO_DOCUMENT.get(record.model.model, ()):
        present = present.one(name) if present is not None else None
    if present is None or present.model.model != dfe.DFE:
        return None
    key: str | None = present["protnfe_infnfe_chnfe"]
    return key
