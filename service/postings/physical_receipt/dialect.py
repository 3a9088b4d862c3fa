"""What versions of Odoo call differently. Nothing else in this package knows the version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

    from service.odoo.records import Record

LAST_WITHOUT_TICK = 16


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The words of one version for what a move line says to have come.

    Up to 16 a line holds a quantity that is done beside the reserved one; since 17 it has one
    quantity, and `picked` tells whether that is done.
    """

    quantity: str
    picked: str | None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields to read."""
        return (self.quantity,) if self.picked is None else (self.quantity, self.picked)

    def is_done(self, line: Record) -> bool:
        """Whether its quantity is more than reserved."""
        return self.picked is None or line.flag(self.picked)

    def values(self, quantity: Decimal) -> dict[str, Any]:
        """What to write so that a line says that this much has come."""
        return {self.quantity: quantity} | ({} if self.picked is None else {self.picked: True})


OLD = Dialect(quantity="qty_done", picked=None)
NEW = Dialect(quantity="quantity", picked="picked")


def of(version: int) -> Dialect:
    """The dialect of a major version."""
    return OLD if version <= LAST_WITHOUT_TICK else NEW
