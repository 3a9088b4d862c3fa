"""Receipts that meet no trouble: what is called, and what is in stock in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.factories.receiving import Dock

CREATE, WRITE, VALIDATE = "stock.lot.create", "stock.picking.write", "stock.picking.button_validate"


@pytest.mark.parametrize("version", [17, 19])
async def test_an_untracked_product_is_received(dock: Dock) -> None:
    """One line is ticked, the picking is validated, and nothing else is called."""
    product = dock.product()
    picking = dock.picking((product, 100))

    posting = await dock.receive(picking, {"product_id": product, "quantity": 100})

    assert (posting.status, posting.step, posting.code) == ("completed", 8, None)
    assert dock.calls() == {WRITE: 1, VALIDATE: 1}
    assert dock.state(picking) == "done"
    assert dock.stock(product) == {False: 100.0}
