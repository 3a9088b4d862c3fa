"""The instalment of the year 2000: mended where that is safe, and otherwise left to a person."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories.settling import ACTOR, LINE, MOVE, PAYMENT

if TYPE_CHECKING:
    from service.simulator.faults import Kind
    from service.simulator.titles import SeededTitle
    from tests.factories.settling import Cashier

REPAIR = {f"{MOVE}.button_draft": 1, f"{MOVE}.write": 1, f"{MOVE}.action_post": 1}
LIES: dict[Kind, dict[str, Any]] = {
    "gateway_502": {"seconds": 0.1, "after": 0.3},
    "late_success": {"seconds": 0.1, "after": 0.3},
    "reply_lost": {},
    "fault_after_commit": {},
}


def debits(cashier: Cashier, title: SeededTitle) -> list[float]:
    """What the instalments, the phantom and the discount hold, in this order."""
    account_id = cashier.company().accounts.discounts
    on_discount = [["move_id", "=", title.move_id], ["account_id", "=", account_id]]
    [discount] = cashier.records(LINE, *on_discount)
    instalments = [cashier.one(LINE, line)["debit"] for line in title.line_ids]
    phantom = [cashier.one(LINE, title.phantom_id)["debit"]] if title.phantom_id else []
    return [*instalments, *phantom, discount["debit"]]


@pytest.mark.parametrize("version", [17, 19])
async def test_a_discount_owed_by_nobody_is_moved_to_its_line(cashier: Cashier) -> None:
    """One draft cycle; the instalments stay, and the title is settled."""
    title = cashier.title("600.00", "370.00", phantom=Decimal("30.00"))
    assert debits(cashier, title) == [600.0, 370.0, 30.0, 0.0]
    posting_id = await cashier.post(title, instalment=2, principal="370.00")

    posting = await cashier.run(posting_id)

    assert posting.status == "completed", posting.message
    assert debits(cashier, title) == [600.0, 370.0, 0.0, 30.0]
    assert cashier.one(MOVE, title.move_id)["state"] == "posted"
    assert (cashier.open(title, 0), cashier.open(title, 1)) == (Decimal("600.00"), Decimal(0))
    assert await cashier.steps(posting_id, "start") == [2, 3, 4, 7, 8, 9]
    assert {name: cashier.calls()[name] for name in REPAIR} == REPAIR


@pytest.mark.parametrize("version", [17, 19])
async def test_a_discount_counted_twice_is_given_back_to_the_instalments(cashier: Cashier) -> None:
    """In their proportions; the last one takes the cents."""
    title = cashier.title(
        "100.00", "100.00", "100.00", discount=Decimal("10.00"), phantom=Decimal("10.00")
    )

    posting = await cashier.settle(title, instalment=3, principal="103.34")

    assert posting.status == "completed", posting.message
    assert debits(cashier, title) == [103.33, 103.33, 103.34, 0.0, 10.0]
    assert cashier.open(title, 2) == Decimal(0)


async def test_a_discount_that_was_mended_is_in_the_title(cashier: Cashier) -> None:
    """The sheet names it as well; it is not booked a second time."""
    title = cashier.title("970.00", phantom=Decimal("30.00"))

    posting = await cashier.settle(title, principal="970.00", discount="30.00")

    assert posting.status == "completed", posting.message
    assert posting.facts["discount_embedded"] is True
    assert len(cashier.payments()) == 1
    assert cashier.open(title) == Decimal(0)


async def test_a_payable_has_no_phantom(cashier: Cashier) -> None:
    """A bill of the year 2000 is just that."""
    title = cashier.title("970.00", direction="payable", phantom=Decimal("30.00"))

    posting = await cashier.settle(title, direction="payable", principal="970.00")

    assert posting.status == "completed"
    assert f"{MOVE}.button_draft" not in cashier.calls()


@pytest.mark.parametrize(
    ("amounts", "twice", "mended"),
    [
        pytest.param(("1000.00",), "200.00", True, id="R$ 200 of a small invoice"),
        pytest.param(("1000.00",), "200.01", False, id="more than R$ 200 of a small invoice"),
        pytest.param(("49000.00",), "500.00", True, id="1 % of a large invoice"),
        pytest.param(("49000.00",), "510.00", False, id="more than 1 % of a large invoice"),
    ],
)
async def test_a_phantom_that_is_too_large_is_left_to_a_person(
    cashier: Cashier, amounts: tuple[str, ...], twice: str, *, mended: bool
) -> None:
    """Nothing is changed before the limits were looked at."""
    title = cashier.title(*amounts, discount=Decimal(twice), phantom=Decimal(twice))
    before = debits(cashier, title)

    posting = await cashier.settle(title, principal="100.00")

    if mended:
        assert posting.status == "completed", posting.message
        return
    assert (posting.status, posting.code) == ("needs_attention", "phantom_too_large")
    assert debits(cashier, title) == before
    assert cashier.calls() == {}


async def test_a_phantom_that_a_person_has_mended_is_gone(cashier: Cashier) -> None:
    """The resume finds the invoice as it should be."""
    title = cashier.title("1000.00", discount=Decimal(300), phantom=Decimal(300))
    posting = await cashier.settle(title, principal="1300.00")
    assert posting.code == "phantom_too_large"
    cashier.person(MOVE, "button_draft", [title.move_id])
    commands = [[1, title.line_id, {"debit": 1300.0}], [1, title.phantom_id, {"debit": 0.0}]]
    cashier.person(MOVE, "write", [title.move_id], {"line_ids": commands})
    cashier.person(MOVE, "action_post", [title.move_id])

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed", posting.message
    assert f"{MOVE}.button_draft" not in cashier.calls()
    assert cashier.open(title) == Decimal(0)


async def test_payments_are_not_undone_by_a_repair(cashier: Cashier) -> None:
    """Going back to draft would take apart what has settled an instalment."""
    title = cashier.title("600.00", "370.00", phantom=Decimal("30.00"))
    cashier.pay_by_hand(title, "200.00")

    posting = await cashier.settle(title, instalment=2, principal="370.00")

    assert (posting.status, posting.code) == ("needs_attention", "phantom_partly_settled")
    assert cashier.open(title, 0) == Decimal("400.00")
    assert cashier.calls() == {}


async def test_an_invoice_without_a_line_of_discounts_is_left_to_a_person(cashier: Cashier) -> None:
    """There is no place for what the phantom holds."""
    title = cashier.title("970.00", phantom=Decimal("30.00"))
    account_id = cashier.company().accounts.discounts
    cashier.person("account.account", "write", [account_id], {"name": "ABATIMENTOS"})

    posting = await cashier.settle(title, principal="970.00")

    assert (posting.status, posting.code) == ("needs_attention", "phantom_without_discount")
    assert cashier.calls() == {}


async def test_a_phantom_that_comes_back_is_not_mended_for_ever(cashier: Cashier) -> None:
    """Odoo makes it anew when the invoice is posted: a person is needed, also after a resume."""
    title = cashier.title("970.00", phantom=Decimal("30.00"))
    cashier.simulator.world.configure({"phantom_returns": True})

    posting = await cashier.settle(title, principal="970.00")

    assert (posting.status, posting.code) == ("needs_attention", "phantom_came_back")
    assert cashier.payments() == []
    for _ in range(3):
        posting = await cashier.resume(posting.id)
        assert posting.code == "phantom_came_back"
    assert cashier.calls()[f"{MOVE}.button_draft"] == 1


@pytest.mark.parametrize("method", ["button_draft", "write", "action_post"])
async def test_an_invoice_left_in_draft_is_posted_by_the_resume(
    cashier: Cashier, method: str
) -> None:
    """A repair that stopped half-way goes on where it was, and is not begun anew."""
    title = cashier.title("970.00", phantom=Decimal("30.00"))
    cashier.trouble("user_error", MOVE, method)
    posting = await cashier.settle(title, principal="970.00")
    assert posting.code == "odoo_user_fault"

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed", posting.message
    assert cashier.one(MOVE, title.move_id)["state"] == "posted"
    assert debits(cashier, title) == [970.0, 0.0, 30.0]
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("kind", LIES)
@pytest.mark.parametrize("method", ["button_draft", "write", "action_post"])
async def test_a_repair_that_is_in_doubt_is_looked_at(
    cashier: Cashier, method: str, kind: Kind
) -> None:
    """No call of it is made a second time; a second draft would undo what has been settled."""
    title = cashier.title("970.00", phantom=Decimal("30.00"))
    cashier.trouble(kind, MOVE, method, **LIES[kind])

    posting = await cashier.settle(title, principal="970.00")
    await cashier.simulator.world.settled()

    assert posting.status == "completed", posting.message
    assert cashier.calls()[f"{MOVE}.button_draft"] == 1
    assert cashier.calls()[f"{MOVE}.action_post"] == 1
    assert debits(cashier, title) == [970.0, 0.0, 30.0]
    assert cashier.open(title) == Decimal(0)


async def test_a_draft_of_somebody_else_is_not_posted(cashier: Cashier) -> None:
    """The repair is over; whoever has the invoice in draft now has a reason for it."""
    title = cashier.title("970.00", phantom=Decimal("30.00"))
    cashier.trouble("user_error", PAYMENT, "create")
    posting = await cashier.settle(title, principal="970.00")
    assert posting.code == "odoo_user_fault"
    cashier.person(MOVE, "button_draft", [title.move_id])

    posting = await cashier.resume(posting.id)

    assert (posting.status, posting.code) == ("failed", "title_not_posted")
    assert cashier.one(MOVE, title.move_id)["state"] == "draft"
    assert cashier.payments() == []


async def test_a_compensation_leaves_no_invoice_in_draft(cashier: Cashier) -> None:
    """It is posted again, as far as it was mended."""
    title = cashier.title("970.00", phantom=Decimal("30.00"))
    cashier.trouble("user_error", MOVE, "write")
    posting = await cashier.settle(title, principal="970.00")
    assert cashier.one(MOVE, title.move_id)["state"] == "draft"

    await cashier.ledger.compensate(posting.id, ACTOR)
    posting = await cashier.run(posting.id)

    assert posting.status == "rolled_back", posting.message
    assert cashier.one(MOVE, title.move_id)["state"] == "posted"
