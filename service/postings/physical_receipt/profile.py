"""The ids and rules of one Odoo database for receiving goods."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.posting.step import Profile


class Company(BaseModel):
    """One company that receives goods, and the kinds of its pickings that are receipts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    company_id: int
    picking_type_ids: tuple[int, ...] = Field(min_length=1, description="stock.picking.type")


class ReceiptProfile(Profile):
    """What receiving goods needs to know of the deployment."""

    odoo_version: Literal[15, 16, 17, 18, 19] = Field(description="the major version of this Odoo")
    companies: tuple[Company, ...] = Field(min_length=1)
    quantity_decimals: int = Field(
        default=2, ge=0, le=6, description="decimal places that Odoo keeps of quantities"
    )
    quantity_tolerance: Decimal = Field(
        default=Decimal(0), ge=0, description="how far a move's demand may be from what has come"
    )
    measure_decimals: int = Field(
        default=2, ge=0, le=6, description="decimal places that Odoo keeps of measures"
    )
    quality_checks: bool = Field(
        default=True, description="whether this database has quality checks (quality.check)"
    )
    timezone: ZoneInfo = Field(
        default=ZoneInfo("America/Sao_Paulo"), description="whose date tells what has expired"
    )

    @model_validator(mode="after")
    def _companies_are_told_apart(self) -> ReceiptProfile:
        companies = [company.company_id for company in self.companies]
        kinds = [kind for company in self.companies for kind in company.picking_type_ids]
        if len(companies) != len(set(companies)) or len(kinds) != len(set(kinds)):
            raise ValueError("a company or a picking type is named twice")
        return self

    def company(self, company_id: int | None) -> Company | None:
        """The company of that id in Odoo, if it is one of the profile's."""
        return next((one for one in self.companies if one.company_id == company_id), None)

    def rounded(self, quantity: Decimal) -> Decimal:
        """A quantity as Odoo means it."""
        return rounded(quantity, self.quantity_decimals)


def rounded(number: Decimal, decimals: int) -> Decimal:
    """A number without the dust that binary fractions leave."""
    return number.quantize(Decimal(1).scaleb(-decimals))
