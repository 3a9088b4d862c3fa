"""Lines of bank statements: what is lost when they are written to in the wrong order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from tests.unit.simulator.helpers import one
from tests.unit.simulator.test_payments import LINE, MOVE, PAYMENT, pay, title

if TYPE_CHECKING:
    from service.simulator.world import World

STATEMENT_LINE = "account.bank.statement.line"


def movement(world: World, amount: float = -80.0) -> int:
    """The bank says that money has moved."""
    values = {
        "journal_id": world.seed.home.journals.bank,
        "amount": amount,
        "payment_ref": "PIX 4711",
        "date": "2026-11-20",
    }
    line_id: int = world.execute(STATEMENT_LINE, "create", values)
    return line_id


def entry_of(world: World, line_id: int) -> int:
    """The entry of a movement."""
    entry_id: int = one(world, STATEMENT_LINE, line_id)["move_id"][0]
    return entry_id


def waiting(world: World, line_id: int) -> dict[str, Any]:
    """The item that says what the money was for."""
    bank = world.seed.home.accounts.bank
    domain = [["statement_line_id", "=", line_id], ["account_id", "!=", bank]]
    [found] = world.records(LINE, domain)
    return found


def test_a_movement_is_booked_against_suspense(world: World) -> None:
    """It is posted at once, and waits for somebody to say what it was."""
    line_id = movement(world)

    item = waiting(world, line_id)
    assert one(world, STATEMENT_LINE, line_id)["state"] == "posted"
    assert item["account_id"][0] == world.seed.home.accounts.suspense
    assert (item["balance"], item["name"]) == (80.0, "PIX 4711")
    assert one(world, STATEMENT_LINE, line_id)["is_reconciled"] is False


def test_a_posted_movement_holds(world: World) -> None:
    """Partner, label and account are changed in draft only."""
    line_id = movement(world)
    item = waiting(world, line_id)["id"]
    account_id = world.seed.home.accounts.outstanding_payments

    with pytest.raises(errors.UserError):
        world.execute(STATEMENT_LINE, "write", [line_id], {"partner_id": 101})
    with pytest.raises(errors.UserError):
        world.execute(LINE, "write", [item], {"account_id": account_id})


def test_an_account_that_is_written_first_is_lost(world: World) -> None:
    """Writing partner or label makes the items anew, with the suspense account."""
    line_id = movement(world)
    accounts = world.seed.home.accounts
    world.execute(MOVE, "button_draft", [entry_of(world, line_id)])
    before = waiting(world, line_id)["id"]
    world.execute(LINE, "write", [before], {"account_id": accounts.outstanding_payments})

    world.execute(STATEMENT_LINE, "write", [line_id], {"partner_id": 101, "payment_ref": "TED"})

    item = waiting(world, line_id)
    assert item["account_id"][0] == accounts.suspense
    assert item["id"] != before
    assert item["name"] == "TED"


def test_written_in_order_it_settles_a_payment(world: World) -> None:
    """One draft cycle, the account last, the match at the end."""
    owed = title(world, direction="payable")
    payment_id = pay(world, owed, 80, payment_type="outbound", partner_type="supplier")
    world.execute(PAYMENT, "action_post", [payment_id])
    line_id = movement(world)
    account_id = world.seed.home.accounts.outstanding_payments
    domain = [["payment_id", "=", payment_id], ["account_id", "=", account_id]]
    [money] = world.records(LINE, domain)

    world.execute(MOVE, "button_draft", [entry_of(world, line_id)])
    world.execute(STATEMENT_LINE, "write", [line_id], {"partner_id": owed.partner_id})
    item = waiting(world, line_id)["id"]
    world.execute(LINE, "write", [item], {"name": "PAGAMENTO", "account_id": account_id})
    world.execute(MOVE, "action_post", [entry_of(world, line_id)])
    world.execute(LINE, "reconcile", [item, money["id"]])

    assert one(world, STATEMENT_LINE, line_id)["is_reconciled"] is True
    assert one(world, PAYMENT, payment_id)["is_matched"] is True
    assert one(world, PAYMENT, payment_id)["state"] == ("posted" if world.version == 17 else "paid")


def test_a_draft_cycle_undoes_the_match(world: World) -> None:
    """Whoever takes the entry back to draft once more has to match it once more."""
    test_written_in_order_it_settles_a_payment(world)
    [line] = world.records(STATEMENT_LINE)

    world.execute(MOVE, "button_draft", [entry_of(world, line["id"])])
    world.execute(MOVE, "action_post", [entry_of(world, line["id"])])

    assert waiting(world, line["id"])["reconciled"] is False
    [payment] = world.records(PAYMENT)
    assert payment["is_matched"] is False
