"""What can be changed while the simulator runs: durations, approval, and how it links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Approver = Literal["automatic", "user", "other"]


@dataclass(kw_only=True)
class Options:
    """The adjustable behaviour of the simulated business.

    `durations` maps `model.method` or `method` to seconds. An order above `approval_limit` waits
    for approval unless `approver` is `automatic`; `user` lets the calling user approve orders of
    the purchase team, `other` nobody but a person in Odoo. `link_order_to_document` says whether
    generating an order also fills `purchase_id` of the document, which real data often lacks.
    With `immediate_transfer`, validating a picking of which nothing was picked asks first. With
    `phantom_returns`, an invoice that is posted turns its discount into an instalment of
    2000-01-01 again.
    """

    durations: dict[str, float] = field(default_factory=dict)
    approval_limit: float | None = None
    approver: Approver = "automatic"
    link_order_to_document: bool = True
    immediate_transfer: bool = False
    phantom_returns: bool = False

    def duration(self, model: str, method: str) -> float:
        """Return how many seconds a call computes before it applies."""
        default = self.durations.get(method, 0.0)
        return self.durations.get(f"{model}.{method}", default)
