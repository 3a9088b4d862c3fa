"""The ids and rules of one Odoo database for the settlement of titles."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.posting.step import Profile

Direction = Literal["receivable", "payable"]
Journals = dict[int, int]
Accounts = dict[int, int]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"there is no time zone {name!r}") from error
    return name


class Side(BaseModel):
    """Where the parts of a receivable, or of a payable, are booked; ids by company.

    Journals are those for titles of the company; accounts belong to the company of the journal that
    the money goes through. A part without a journal or an account is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    discount_journals: Journals = Field(default_factory=dict)
    agreement_journals: Journals = Field(
        default_factory=dict, description="of commercial agreements"
    )
    return_journals: Journals = Field(default_factory=dict, description="of returned goods")
    interest_accounts: Accounts = Field(default_factory=dict)
    charges_accounts: Accounts = Field(
        default_factory=dict, description="of what a bank keeps for itself"
    )


class SettlementProfile(Profile):
    """What settling a title needs to know of the deployment."""

    odoo_version: Literal[17, 18, 19] = Field(description="the major version of this Odoo")
    companies: tuple[int, ...] = Field(
        min_length=1, description="companies whose titles are settled, preferred ones first"
    )
    receivable: Side | None = None
    payable: Side | None = None
    amount_tolerance: Decimal = Field(default=Decimal("0.01"), ge=0, description="in reais")
    charges_tolerance: Decimal = Field(
        default=Decimal("0.05"), ge=0, description="in reais, or by per cent, whichever is more"
    )
    charges_tolerance_percent: Decimal = Field(default=Decimal(1), ge=0)
    contract_rate: Literal["percent", "fraction"] = Field(
        default="percent", description="how a customer's contractual discount is written in Odoo"
    )
    contract_tolerance: Decimal = Field(
        default=Decimal("0.05"), ge=0, description="of the sums of a contract, in reais"
    )
    phantom_limit: Decimal = Field(
        default=Decimal(200),
        ge=0,
        description="by how much a repair may change the instalments, in reais, or by per cent of "
        "the invoice, whichever is more",
    )
    phantom_limit_percent: Decimal = Field(default=Decimal(1), ge=0)
    discount_account_name: str = Field(
        default="DESCONTO", min_length=1, description="part of the name of accounts of discounts"
    )
    timezone: Annotated[str, AfterValidator(_zone)] = "America/Sao_Paulo"

    @model_validator(mode="after")
    def _settles_something(self) -> SettlementProfile:
        if self.receivable is None and self.payable is None:
            raise ValueError("neither receivable nor payable is configured")
        if len(set(self.companies)) < len(self.companies):
            raise ValueError("a company is named twice")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose calendar gives today's date."""
        return ZoneInfo(self.timezone)

    def side(self, direction: Direction) -> Side | None:
        """The journals and accounts of a direction, None where it is not settled."""
        return self.receivable if direction == "receivable" else self.payable
