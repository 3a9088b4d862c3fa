"""What versions of Odoo call differently. Nothing else in this package knows the version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from service.odoo.records import Record

LAST_WITH_REF = 17
State = Literal["draft", "posted", "canceled"]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The words of one version for a payment.

    `reference` is the field that holds what the payment is for. Since 18 a payment has states of
    its own: `paid` once the bank has confirmed it, which is as much posted as `in_process`.
    """

    reference: str
    posted: frozenset[str]
    canceled: frozenset[str]

    def state(self, payment: Record) -> State | None:
        """The state in one language; None for one that only a person can judge."""
        state = payment.text("state")
        if state == "draft":
            return "draft"
        if state in self.posted:
            return "posted"
        return "canceled" if state in self.canceled else None


OLD = Dialect(reference="ref", posted=frozenset({"posted"}), canceled=frozenset({"cancel"}))
NEW = Dialect(
    reference="memo",
    posted=frozenset({"in_process", "paid"}),
    canceled=frozenset({"canceled"}),
)


def of(version: int) -> Dialect:
    """The dialect of a major version."""
    return OLD if version <= LAST_WITH_REF else NEW
