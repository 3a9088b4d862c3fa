"""Expenses of freights: complementary CTe documents, each with one order and one bill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.demos.freight import DUE_DATE, FreightCase, FreightDemo

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExpenseDemo(FreightDemo):
    """Posts what carriers bill besides the freight."""

    kind = "freight_expense"

    async def document(self, **options: Any) -> dict[str, Any]:
        """A CTe that complements another one."""
        original = await super().document()
        return await super().document(**options, original_key=original["key"])

    def input(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """What is posted: the carrier sends no invoice, so the expense gives the reference."""
        return {
            "xml": document["xml"],
            "due_date": DUE_DATE,
            "expense": _number(document),
        }

    async def wrong(self, case: FreightCase) -> list[str]:
        """What is wrong of a freight, and references that do not name the expense."""
        wanted = f"DESPESA-{_number(case.document)}"
        orders = await self.records("purchase.order", ["dfe_id", "=", case.document["dfe_id"]])
        found = [order["partner_ref"] for order in orders if order["state"] != "cancel"]
        problems = await super().wrong(case)
        return [*problems, f"the orders refer to {found}"] if found != [wanted] else problems

    def hints(self, case: FreightCase) -> list[str]:
        """The command that posts an expense by hand."""
        [command] = super().hints(case)
        return [f"{command} --kind {self.kind} --expense {_number(case.document)}"]


def _number(document: Mapping[str, Any]) -> str:
    return f"9{document['number']}"
