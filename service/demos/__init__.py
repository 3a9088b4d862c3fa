"""The demonstrations, by kind of posting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.demos.expense import ExpenseDemo
from service.demos.freight import FreightDemo
from service.demos.receipt import ReceiptDemo
from service.demos.settlement import SettlementDemo

if TYPE_CHECKING:
    from service.demos.demo import Demo

ALL: tuple[type[Demo[Any]], ...] = (FreightDemo, ExpenseDemo, ReceiptDemo, SettlementDemo)
DEMOS = {demo.kind: demo for demo in ALL}
