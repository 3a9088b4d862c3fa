"""Transactions that stay open: done, stamped with their start, and seen by nobody until commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from service.simulator.database import Database, Held


@dataclass(frozen=True, kw_only=True)
class OpenTransaction:
    """A transaction that waits for its commit; `results` are what its calls returned."""

    id: int
    started: datetime
    results: tuple[Any, ...]
    held: tuple[Held, ...]

    def describe(self) -> dict[str, Any]:
        """Return what a test needs, as JSON."""
        started = self.started.isoformat()
        return {"id": self.id, "started": started, "results": list(self.results)}


@dataclass
class Transactions:
    """The open transactions of a database, by id."""

    database: Database
    open: dict[int, OpenTransaction] = field(default_factory=dict)
    _last: int = 0

    def begin(self, started: datetime, calls: Sequence[Callable[[], Any]]) -> OpenTransaction:
        """Do the calls now, and keep what they changed out of sight.

        New records take their ids now, as from a sequence: when they appear, records with higher
        ids may have been there for long.
        """
        results, held = self.database.hold(lambda: tuple(call() for call in calls))
        self._last += 1
        made = OpenTransaction(id=self._last, started=started, results=results, held=tuple(held))
        self.open[made.id] = made
        return made

    def commit(self, transaction_id: int) -> OpenTransaction:
        """Let everybody see it; refused when another transaction has changed the same rows."""
        ended = self.roll_back(transaction_id)
        self.database.release(ended.held)
        return ended

    def roll_back(self, transaction_id: int) -> OpenTransaction:
        """Forget it; its ids stay unused."""
        if transaction_id not in self.open:
            raise ValueError(f"transaction {transaction_id} is not open")
        return self.open.pop(transaction_id)
