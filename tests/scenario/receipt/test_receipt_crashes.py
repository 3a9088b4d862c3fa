"""Every step of a receipt, every lie of Odoo or its proxy, a worker that dies at every point.

How a worker dies is in `tests.scenario.test_crash_matrix`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from service.odoo.errors import TimedOut
from service.postings.physical_receipt import STEPS
from service.simulator.changes import Scheduled
from service.simulator.world import Call as WorldCall
from tests.factories.goods import LINE, LOT, PICKING
from tests.factories.receiving import CHECK, EXPIRY, timings
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
    from tests.factories.receiving import Dock

NUMBERS = {step.name: step.number for step in STEPS}
CALLS: dict[str, tuple[str, str]] = {
    "create_lots": (LOT, "create"),
    "set_expiry": (LOT, "write"),
    "fill_lines": (PICKING, "write"),
    "record_measures": (CHECK, "write"),
    "decide_checks": (CHECK, "do_measure"),
    "validate": (PICKING, "button_validate"),
}
WHOLE = ("create_lots", "fill_lines", "validate")
"""Steps that make or move something: every lie and every death. The others write fixed values."""

MATRIX = [
    *((17, name, lie, point) for name in WHOLE for lie in LIES for point in POINTS),
    *((17, name, lie, POINTS[1]) for name in CALLS if name not in WHOLE for lie in LIES),
    *((19, name, lie, POINTS[1]) for name in WHOLE for lie in LIES),
]


@dataclass(frozen=True)
class Delivery:
    """Goods that need every step: new lots, one that has no expiry yet, and checks."""

    picking: int
    tracked: int
    plain: int
    check: int
    measured: int

    def lines(self) -> list[dict[str, Any]]:
        """What has come."""
        lots = [
            {"name": name, "quantity": quantity, "expiry": EXPIRY}
            for name, quantity in (("KNOWN", 50), ("N_1", 30), ("N%2", 20))
        ]
        return [
            {"product_id": self.tracked, "quantity": 100, "lots": lots},
            {"product_id": self.plain, "quantity": 7},
        ]

    def checks(self) -> list[dict[str, Any]]:
        """What was found of its quality."""
        return [
            {"check_id": self.check, "result": "pass"},
            {"check_id": self.measured, "measure": 5},
        ]

    async def post(self, dock: Dock) -> UUID:
        """Accept the receipt."""
        return await dock.post(self.picking, *self.lines(), checks=self.checks())

    def assert_received(self, dock: Dock) -> None:
        """Exactly what has come is in stock, once, and nothing else was made."""
        assert dock.state(self.picking) == "done"
        assert dock.stock(self.tracked) == {"KNOWN": 50.0, "N_1": 30.0, "N%2": 20.0}
        assert dock.stock(self.plain) == {False: 7.0}
        assert sorted(dock.lots(self.tracked)) == ["KNOWN", "N%2", "N_1"]
        assert {lot["expiration_date"] for lot in dock.records(LOT)} == {f"{EXPIRY} 00:00:00"}
        assert sorted(dock.lines(self.picking), key=str) == [
            ("KNOWN", 50.0, True),
            ("N%2", 20.0, True),
            ("N_1", 30.0, True),
            (False, 7.0, True),
        ]
        assert {check["quality_state"] for check in dock.records(CHECK)} == {"pass"}
        assert dock.simulator.world.committed[f"{PICKING}.button_validate"] == 1
        assert dock.one(PICKING, self.picking)["backorder_ids"] == []


def delivery(dock: Dock) -> Delivery:
    """Goods on their way."""
    tracked, plain = dock.product("lot"), dock.product()
    dock.lot(tracked, "KNOWN")
    picking = dock.picking((tracked, 100), (plain, 7))
    limits = {"test_type": "measure", "tolerance_min": 4.5, "tolerance_max": 5.5}
    return Delivery(
        picking=picking,
        tracked=tracked,
        plain=plain,
        check=dock.check(picking),
        measured=dock.check(picking, **limits),
    )


def dying(dock: Dock, ledger: MortalLedger, step: AnyStep) -> AnyStep:
    """The step, whose worker dies as soon as Odoo has received its call."""

    async def act(odoo: Caller, call: Call, limit: timedelta) -> Done | None:
        name = f"{call.model}.{call.method}"
        before = dock.simulator.world.received[name]
        calling = asyncio.ensure_future(step.act(odoo, call, limit))
        while dock.simulator.world.received[name] == before:  # noqa: ASYNC110  polled
            await asyncio.sleep(0.001)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        return ledger.die()  # type: ignore[func-returns-value]  # it never returns

    return replace(step, act=act)


async def die(dock: Dock, posting_id: UUID, death: Death) -> None:
    """Let a worker take the posting to its own end."""
    known = dock.ledger
    ledger = MortalLedger(known._database, known._enqueue, known._announce, known._announce_batch)
    ledger.death = death
    living = dock.engine()
    living._ledger = ledger
    living._locks = MortalLocks(dock.locks._redis, ttl=dock.locks._ttl)
    if death.point == "during it":
        steps = tuple(
            dying(dock, ledger, step) if step.number == death.step else step for step in STEPS
        )
        definition = replace(dock.definition, steps=steps)
        living._definitions = {definition.kind: definition}
    with pytest.raises(Died):
        await living.run(posting_id)


@pytest.mark.parametrize(("version", "name", "lie", "point"), MATRIX)
async def test_exactly_what_has_come(dock: Dock, name: str, lie: str, point: Point) -> None:
    """Whatever was said and whoever died: the next worker ends it, and nothing comes twice."""
    await dock.reconfigure(times=timings(timeout=0.45, settle=0.6))
    model, method = CALLS[name]
    goods = delivery(dock)
    if (trouble := LIES[lie]) is not None:
        kind: Kind = trouble["kind"]
        more = {key: value for key, value in trouble.items() if key != "kind"}
        dock.trouble(kind, model, method, **more)
    posting_id = await goods.post(dock)

    await die(dock, posting_id, Death(NUMBERS[name], point))
    posting = await dock.run(posting_id)
    if posting.status != "completed":
        # Only a call that Odoo never got leaves nothing to see: a person looks, and resumes.
        assert (posting.status, posting.code) == ("needs_attention", "outcome_unknown")
        assert point == "before the act" or lie == "lock conflict"
        await dock.simulator.world.settled()
        posting = await dock.resume(posting_id)

    await dock.simulator.world.settled()
    assert (posting.status, posting.code) == ("completed", None), posting.message
    goods.assert_received(dock)
    assert (await dock.ledger.verify(posting_id)).valid


LANDINGS: dict[str, list[tuple[str, str]]] = {
    "create_lots": [(PICKING, "read"), (LOT, "search_read")],
    "fill_lines": [
        (PICKING, "read"),
        ("stock.move", "read"),
        (LOT, "search_read"),
        (LINE, "search_read"),
    ],
    "validate": [
        (PICKING, "read"),
        ("stock.move", "read"),
        (LINE, "search_read"),
        (CHECK, "search_read"),
    ],
}
"""The reads of a look at these steps."""


@pytest.mark.parametrize(
    ("name", "read"), [(name, read) for name, reads in LANDINGS.items() for read in reads]
)
async def test_an_effect_that_lands_between_two_reads_is_seen(
    dock: Dock, name: str, read: tuple[str, str]
) -> None:
    """A look takes several reads, and what is in doubt may come in the middle of it."""
    world = dock.simulator.world
    goods = delivery(dock)

    async def lose(_: Caller, call: Call, __: timedelta) -> None:
        """Lose the answer of a call whose effect comes right after a read."""
        sent = WorldCall(
            model=call.model,
            method=call.method,
            args=json.loads(json.dumps(call.args, default=float)),
            kwargs=call.kwargs,
            user_id=2,
        )
        begun = world.begin(calls=[sent])
        world.schedule.waiting.append(Scheduled(model=read[0], method=read[1], commit=begun.id))
        raise TimedOut("the answer was lost")

    steps = tuple(replace(step, act=lose) if step.name == name else step for step in STEPS)
    dock.definition = replace(dock.definition, steps=steps)
    posting = await dock.run(await goods.post(dock))

    assert (posting.status, posting.code) == ("completed", None), posting.message
    assert world.failed == []
    assert dock.stock(goods.tracked) == {"KNOWN": 50.0, "N_1": 30.0, "N%2": 20.0}
    assert len(dock.lines(goods.picking)) == 4


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("name", WHOLE)
async def test_a_call_that_is_delivered_twice_has_one_effect(dock: Dock, name: str) -> None:
    """The second one is refused by Odoo: lots are unique, replaced lines gone, the picking done."""
    goods = delivery(dock)
    dock.trouble("duplicate_delivery", *CALLS[name])

    posting = await dock.run(await goods.post(dock))

    assert (posting.status, posting.code) == ("completed", None), posting.message
    goods.assert_received(dock)
