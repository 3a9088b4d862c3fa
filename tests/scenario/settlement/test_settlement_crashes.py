"""Every step of a settlement, every lie of Odoo or its proxy, a worker that dies at every point.

How a worker dies is in `tests.scenario.test_crash_matrix`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from service.odoo.errors import TimedOut
from service.postings.title_settlement import STEPS
from service.postings.title_settlement.title import PARTIAL
from service.simulator.changes import Scheduled
from service.simulator.world import Call as WorldCall
from tests.factories.settling import LINE, MOVE, PAYMENT, STATEMENT_LINE, WIZARD, timings
from tests.scenario.test_crash_matrix import (
    LIES,
    POINTS,
    Death,
    Died,
    MortalLedger,
    MortalLocks,
    Point,
)

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from service.odoo.records import Caller
    from service.posting.step import AnyStep, Call, Done
    from service.simulator.faults import Kind
    from service.simulator.titles import SeededTitle
    from tests.factories.settling import Cashier


@dataclass(frozen=True)
class Case:
    """A settlement that goes through some steps, and what Odoo should have in the end."""

    amounts: tuple[str, ...]
    values: dict[str, str]
    payments: list[float]
    left: str
    direction: str = "receivable"
    phantom: str = "0"
    movement: str | None = None
    entries: int = 0
    options: dict[str, Any] = field(default_factory=dict)


PARTS = Case(
    amounts=("1000.00",),
    values={"principal": "800.00", "discount": "50.00", "agreement": "30.00", "returns": "20.00"},
    payments=[20.0, 30.0, 50.0, 800.0],
    left="100.00",
)
REGISTERED = Case(
    amounts=("1000.00",),
    values={"principal": "1000.00", "interest": "12.34"},
    payments=[1012.34],
    left="0",
)
INTEREST = Case(
    amounts=("1000.00",), values={"interest": "7.50"}, payments=[], left="1000.00", entries=1
)
PHANTOM = Case(
    amounts=("970.00",), values={"principal": "970.00"}, payments=[970.0], left="0", phantom="30.00"
)
STATEMENT = Case(
    amounts=("500.00",),
    values={"principal": "500.00"},
    payments=[500.0],
    left="0",
    direction="payable",
    movement="-500.00",
)
CALLS: dict[str, tuple[Case, tuple[str, str]]] = {
    "open_invoice": (PHANTOM, (MOVE, "button_draft")),
    "repair_instalments": (PHANTOM, (MOVE, "write")),
    "close_invoice": (PHANTOM, (MOVE, "action_post")),
    "create_principal": (PARTS, (PAYMENT, "create")),
    "post_principal": (PARTS, (PAYMENT, "action_post")),
    "reconcile_principal": (PARTS, (LINE, "reconcile")),
    "create_discount": (PARTS, (PAYMENT, "create")),
    "open_register": (REGISTERED, (WIZARD, "create")),
    "register_payment": (REGISTERED, (WIZARD, "action_create_payments")),
    "create_interest": (INTEREST, (MOVE, "create")),
    "post_interest": (INTEREST, (MOVE, "action_post")),
    "open_statement": (STATEMENT, (MOVE, "button_draft")),
    "label_statement": (STATEMENT, (STATEMENT_LINE, "write")),
    "set_statement_account": (STATEMENT, (LINE, "write")),
    "close_statement": (STATEMENT, (MOVE, "action_post")),
    "reconcile_statement": (STATEMENT, (LINE, "reconcile")),
}
NUMBERS = {step.name: step.number for step in STEPS}
NTH = {"create_discount": 2, "reconcile_statement": 2}
"""Which call of the method is the step's, where it is not the first."""

WHOLE = (
    "open_invoice",
    "create_principal",
    "post_principal",
    "reconcile_principal",
    "create_discount",
    "register_payment",
    "create_interest",
    "open_statement",
)
"""Steps that make, post, match or undo something: every lie and every death. The others, which are
like one of these or write fixed values, meet the worst ones."""

MATRIX = [
    *((17, name, lie, point) for name in WHOLE for lie in LIES for point in POINTS),
    *(
        (17, name, lie, POINTS[1])
        for name in CALLS
        if name not in WHOLE
        for lie in ("clean", "late success", "fault after commit")
    ),
    *((19, name, lie, POINTS[1]) for name in WHOLE[1:6] for lie in LIES),
]


def dying(cashier: Cashier, ledger: MortalLedger, step: AnyStep) -> AnyStep:
    """The step, whose worker dies as soon as Odoo has received its call."""

    async def act(odoo: Caller, call: Call, limit: timedelta) -> Done | None:
        name = f"{call.model}.{call.method}"
        before = cashier.simulator.world.received[name]
        calling = asyncio.ensure_future(step.act(odoo, call, limit))
        while cashier.simulator.world.received[name] == before:  # noqa: ASYNC110  polled
            await asyncio.sleep(0.001)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        return ledger.die()  # type: ignore[func-returns-value]  # it never returns

    return replace(step, act=act)


async def die(cashier: Cashier, posting_id: UUID, death: Death) -> None:
    """Let a worker take the posting to its own end."""
    known = cashier.ledger
    ledger = MortalLedger(known._database, known._enqueue, known._announce, known._announce_batch)
    ledger.death = death
    living = cashier.engine()
    living._ledger = ledger
    living._locks = MortalLocks(cashier.locks._redis, ttl=cashier.locks._ttl)
    if death.point == "during it":
        steps = tuple(
            dying(cashier, ledger, step) if step.number == death.step else step for step in STEPS
        )
        definition = replace(cashier.definition, steps=steps)
        living._definitions = {definition.kind: definition}
    with pytest.raises(Died):
        await living.run(posting_id)


def assert_settled(cashier: Cashier, case: Case, title: SeededTitle, line_id: int | None) -> None:
    """Exactly what was asked for is there, and exactly the rest is open."""
    payments = cashier.payments()
    assert sorted(payment["amount"] for payment in payments) == case.payments
    assert all(payment["is_reconciled"] for payment in payments)
    assert abs(cashier.open(title)) == Decimal(case.left)
    entries = [
        entry
        for entry in cashier.records(MOVE, ["move_type", "=", "entry"])
        if "interest" in str(entry["ref"])
    ]
    assert [entry["state"] for entry in entries] == ["posted"] * case.entries
    assert cashier.one(MOVE, title.move_id)["state"] == "posted"
    if title.phantom_id:
        assert cashier.one(LINE, title.phantom_id)["debit"] == 0.0
    if line_id:
        line = cashier.one(STATEMENT_LINE, line_id)
        assert (line["state"], line["is_reconciled"]) == ("posted", True)


@pytest.mark.parametrize(("version", "name", "lie", "point"), MATRIX)
async def test_exactly_what_was_asked_for(
    cashier: Cashier, name: str, lie: str, point: Point
) -> None:
    """Whatever was said and whoever died: the next worker ends it, and nothing is paid twice."""
    await cashier.reconfigure(times=timings(timeout=0.45, settle=0.6))
    case, (model, method) = CALLS[name]
    title = cashier.title(*case.amounts, direction=case.direction, phantom=Decimal(case.phantom))
    line_id = cashier.movement(case.movement) if case.movement else None
    if (trouble := LIES[lie]) is not None:
        kind: Kind = trouble["kind"]
        more = {key: value for key, value in trouble.items() if key != "kind"}
        cashier.trouble(kind, model, method, call=NTH.get(name, 1), **more)
    values = {**case.values, "direction": case.direction, "statement_line_id": line_id}
    posting_id = await cashier.post(title, **values)

    await die(cashier, posting_id, Death(NUMBERS[name], point))
    posting = await cashier.run(posting_id)
    if posting.status != "completed":
        # Only a call that Odoo never got leaves nothing to see: a person looks, and resumes. An
        # open wizard is not to be seen either, and pays nothing.
        assert posting.code in {"outcome_unknown", "odoo_user_fault"}
        assert point == "before the act" or lie == "lock conflict" or name == "open_register"
        await cashier.simulator.world.settled()
        posting = await cashier.resume(posting_id)

    await cashier.simulator.world.settled()
    assert (posting.status, posting.code) == ("completed", None), posting.message
    assert_settled(cashier, case, title, line_id)
    assert (await cashier.ledger.verify(posting_id)).valid


LANDINGS: dict[str, list[tuple[str, str]]] = {
    "reconcile_principal": [
        (PAYMENT, "search_read"),
        (LINE, "search_read"),
        (LINE, "read"),
        (PARTIAL, "search_read"),
    ],
    "register_payment": [(WIZARD, "read"), (PAYMENT, "search_read")],
    "repair_instalments": [(MOVE, "read"), (LINE, "search_read")],
}
"""The reads of a look at these steps."""


@pytest.mark.parametrize(
    ("name", "read"), [(name, read) for name, reads in LANDINGS.items() for read in reads]
)
async def test_an_effect_that_lands_between_two_reads_is_seen(
    cashier: Cashier, name: str, read: tuple[str, str]
) -> None:
    """A look takes several reads, and what is in doubt may come in the middle of it."""
    case, _ = CALLS[name]
    world = cashier.simulator.world
    title = cashier.title(*case.amounts, phantom=Decimal(case.phantom))

    async def lose(_: Caller, call: Call, __: timedelta) -> None:
        """Lose the answer of a call whose effect comes right after a read."""
        args = json.loads(json.dumps(call.args, default=float))
        begun = world.begin(
            calls=[WorldCall(model=call.model, method=call.method, args=args, user_id=2)]
        )
        landing = Scheduled(model=read[0], method=read[1], commit=begun.id)
        world.schedule.waiting.append(landing)
        raise TimedOut("the answer was lost")

    steps = tuple(replace(step, act=lose) if step.name == name else step for step in STEPS)
    cashier.definition = replace(cashier.definition, steps=steps)
    posting = await cashier.settle(title, **case.values)

    assert posting.status == "completed", posting.message
    assert world.failed == []
    assert_settled(cashier, case, title, None)
