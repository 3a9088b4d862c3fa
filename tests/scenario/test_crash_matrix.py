"""Every step, every lie of Odoo or its proxy, and a worker that dies at every point of the step.

Death is an exception that nothing in the service catches, after which this worker's ledger, locks
and connections do nothing any more: what SIGKILL leaves behind. Workers that are really killed are
in `tests/chaos` and `tests/integration/test_worker.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from service.locks import Locks
from service.posting.ledger import Ledger
from tests.scenario.conftest import DFE, timings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta
    from uuid import UUID

    from service.locks import Lease
    from service.odoo.records import Caller
    from service.posting import audit
    from service.posting.ledger import Claim, Entry
    from service.posting.step import AnyStep, Call, Done
    from service.simulator.faults import Kind
    from tests.scenario.conftest import Office

Point = Literal["before the act", "during it", "after it, before the record"]
POINTS: tuple[Point, ...] = ("before the act", "during it", "after it, before the record")
ORDER = "purchase.order"
BILL = "account.move"
CALLS: dict[int, tuple[str, str]] = {
    2: (DFE, "write"),
    3: (DFE, "write"),
    4: (f"{DFE}.line", "write"),
    5: (f"{DFE}.pagamento", "write"),
    6: (DFE, "action_gerar_po_dfe"),
    7: (ORDER, "write"),
    9: (ORDER, "button_confirm"),
    10: (ORDER, "button_approve"),
    11: (ORDER, "action_create_invoice"),
    12: (BILL, "onchange_l10n_br_calcular_imposto"),
    13: (BILL, "write"),
    14: (BILL, "onchange_l10n_br_calcular_imposto_btn"),
    15: (BILL, "action_post"),
}
LIES: dict[str, dict[str, Any] | None] = {
    "clean": None,
    "late success": {"kind": "late_success", "seconds": 0.15, "after": 0.35},
    "reply lost": {"kind": "reply_lost"},
    "502": {"kind": "gateway_502", "seconds": 0.1, "after": 0.25},
    "lock conflict": {"kind": "lock_conflict"},
    "fault after commit": {"kind": "fault_after_commit"},
}


class Died(BaseException):
    """The worker process is gone."""


@dataclass(frozen=True)
class Death:
    """When a worker dies."""

    step: int
    point: Point


class MortalLedger(Ledger):
    """A ledger whose worker dies at a step; nothing of it is written afterwards."""

    death: Death
    dead = False

    def die(self) -> None:
        """Be gone."""
        self.dead = True
        raise Died

    async def start(self, claim: Claim, step: AnyStep, call: Call, limit: timedelta) -> Entry:
        self._check()
        entry = await super().start(claim, step, call, limit)
        if self.death == Death(step.number, "before the act"):
            self.die()
        return entry

    async def record(self, claim: Claim, entry: Entry, note: audit.Note, *more: Any) -> None:
        self._check()
        if entry.number == self.death.step and note.action != "start":
            self.die()
        await super().record(claim, entry, note, *more)

    async def note(self, *arguments: Any) -> None:
        self._check()
        await super().note(*arguments)

    def _check(self) -> None:
        if self.dead:
            raise Died


class MortalLocks(Locks):
    """Locks that a dead worker leaves where they are, as its process would."""

    async def _release(self, lease: Lease) -> None:
        """Leave it."""

    @asynccontextmanager
    async def hold(self, key: str, *, owner: str, rank: int) -> AsyncIterator[Lease]:
        async with super().hold(key, owner=owner, rank=rank) as lease:
            yield lease


def dying(office: Office, ledger: MortalLedger, step: AnyStep) -> AnyStep:
    """The step, whose worker dies as soon as Odoo has received its call."""

    async def act(odoo: Caller, call: Call, limit: timedelta) -> Done | None:
        name = f"{call.model}.{call.method}"
        before = office.simulator.world.received[name]
        calling = asyncio.ensure_future(step.act(odoo, call, limit))
        while office.simulator.world.received[name] == before:  # noqa: ASYNC110  polled
            await asyncio.sleep(0.001)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        return ledger.die()  # type: ignore[func-returns-value]

    return replace(step, act=act)


async def die(office: Office, posting_id: UUID, death: Death) -> None:
    """Let a worker take the posting to its own end."""
    known = office.ledger
    ledger = MortalLedger(known._database, known._enqueue, known._announce, known._announce_batch)
    ledger.death = death
    living = office.engine()
    living._ledger = ledger
    living._locks = MortalLocks(office.locks._redis, ttl=office.locks._ttl)
    if death.point == "during it":
        steps = tuple(
            dying(office, ledger, step) if step.number == death.step else step
            for step in office.definition.steps
        )
        living._definitions = {office.definition.kind: replace(office.definition, steps=steps)}
    with pytest.raises(Died):
        await living.run(posting_id)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("number", CALLS)
async def test_one_order_and_one_bill(office: Office, number: int, lie: str, point: Point) -> None:
    """Whatever was said and whoever died: the next worker ends it, with one order and one bill."""
    await office.reconfigure(times=timings(timeout=0.45, settle=0.6))
    office.simulator.world.configure({"approval_limit": 100, "approver": "user"})
    document = office.document()
    if (trouble := LIES[lie]) is not None:
        model, method = CALLS[number]
        kind: Kind = trouble["kind"]
        more = {name: value for name, value in trouble.items() if name != "kind"}
        office.trouble(kind, method, model=model, key=document.key, **more)
    posting_id = await office.post(document)

    await die(office, posting_id, Death(number, point))
    posting = await office.run(posting_id)
    if posting.status != "completed":
        # Only a call that Odoo never got leaves nothing to see: a person looks, and resumes.
        assert (posting.status, posting.code) == ("needs_attention", "outcome_unknown")
        assert point == "before the act" or lie == "lock conflict"
        await office.simulator.world.settled()
        posting = await office.resume(posting_id)

    await office.simulator.world.settled()
    assert (posting.status, posting.code) == ("completed", None)
    assert (len(office.orders(document)), len(office.bills(document))) == (1, 1)
    office.assert_posted(document)
    assert (await office.ledger.verify(posting_id)).valid


@pytest.mark.parametrize("number", [1, 8, 16])
async def test_a_death_in_a_step_without_a_call(office: Office, number: int) -> None:
    """What was looked at and not recorded is looked at again."""
    document = office.document()
    posting_id = await office.post(document)

    await die(office, posting_id, Death(number, "after it, before the record"))
    posting = await office.run(posting_id)

    assert posting.status == "completed"
    office.assert_posted(document)
