"""Settlements that meet no trouble: what is called, and what Odoo has in the end."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.factories.settling import Cashier

LAST = 29
PRINCIPAL = {
    "account.payment.create": 1,
    "account.payment.action_post": 1,
    "account.move.line.reconcile": 1,
}


@pytest.mark.parametrize("version", [17, 19])
async def test_a_receivable_is_paid_with_each_call_once(cashier: Cashier) -> None:
    """A payment is created, posted and reconciled; the title is closed."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, principal="1000.00")

    assert (posting.status, posting.step, posting.code) == ("completed", LAST, None), (
        posting.message
    )
    assert cashier.calls() == PRINCIPAL
    [payment] = cashier.payments()
    assert (payment["amount"], payment["is_reconciled"]) == (1000.0, True)
    assert cashier.open(title) == Decimal(0)
