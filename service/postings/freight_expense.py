"""Posting an expense of a freight: what the carrier bills besides, by a complementary CTe.

The steps are those of `freight_cte`. Profile, reference and the CTe that is taken differ, and the
document is the same: a CTe has one posting, whichever of the two it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from service.postings.freight_cte import FREIGHT_CTE, freight
from service.postings.freight_cte.freight import Freight, FreightInput
from service.postings.freight_cte.profile import FreightProfile, PayableType, reference_text

Number = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]


class ExpenseInput(FreightInput):
    """An expense of a freight, by the access key of its CTe or by the XML."""

    expense: Number = Field(
        description="the caller's own number of the expense", examples=["90210"]
    )


class ExpenseProfile(FreightProfile):
    """What posting an expense needs to know of the deployment."""

    types: tuple[PayableType, ...] = Field(
        default=("complement",), min_length=1, description="types of CTe that are posted"
    )
    expense_reference: Annotated[str, AfterValidator(reference_text)] = Field(
        default="DESPESA-{number}",
        description="reference text without a carrier's invoice; {number} is the expense",
    )

    def reference(self, invoice: str | None, expense: str | None) -> str | None:
        """The reference text: of the carrier's invoice, or else of the expense."""
        return super().reference(invoice, expense) or self.expense_reference.format(number=expense)


def admit(given: ExpenseInput, profile: FreightProfile) -> Freight:
    """Check the input like that of a freight bill, and keep the expense's number."""
    return freight.admit(given, profile).model_copy(update={"expense": given.expense})


FREIGHT_EXPENSE = replace(
    FREIGHT_CTE,
    kind="freight_expense",
    title="Expense of a freight (complementary CTe)",
    input_model=ExpenseInput,
    profile_model=ExpenseProfile,
    admit=admit,
)
