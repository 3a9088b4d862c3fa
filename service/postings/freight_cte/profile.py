"""The ids and rules of one Odoo database for the posting of freight bills."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.errors import InvalidInput
from service.posting.step import Profile
from service.postings.freight_cte import fiscal_document

Destination = Literal["intrastate", "interstate"]
PayableType = Literal["normal", "complement", "substitute"]
"""A type of CTe that is paid: one that annuls another never is."""


def _cnpj(text: str) -> str:
    try:
        return fiscal_document.cnpj(text)
    except InvalidInput as error:
        raise ValueError(str(error)) from error


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"there is no time zone {name!r}") from error
    return name


def reference_text(text: str) -> str:
    """Try it out: what is wrong should be known when the file is read, not in step 2."""
    try:
        made = text.format(number="4711")
    except (LookupError, ValueError, AttributeError) as error:
        raise ValueError("{number} is all that can be filled in") from error
    if "4711" not in made:
        raise ValueError("must contain {number}")
    return text


Cnpj = Annotated[str, AfterValidator(_cnpj)]


class Operations(BaseModel):
    """The fiscal operations for transport of one company, by destination and carrier's regime.

    Simplified is the regime of small companies (Simples Nacional).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    intrastate_normal: int
    interstate_normal: int
    intrastate_simplified: int
    interstate_simplified: int

    def normal(self, destination: Destination) -> int:
        """The operation for a carrier of the normal regime."""
        return self.intrastate_normal if destination == "intrastate" else self.interstate_normal


class Company(BaseModel):
    """One company that takes freights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    company_id: int
    picking_type_id: int
    home_state_id: int = Field(description="res.country.state of the company")
    operations: Operations


class FreightProfile(Profile):
    """What posting a freight bill needs to know of the deployment."""

    companies: dict[Cnpj, Company] = Field(min_length=1, description="by the taker's CNPJ")
    product_id: int = Field(description="product.product of the freight service")
    product_uom_id: int
    team_id: int = Field(description="purchasing team that the orders belong to")
    payment_provider_id: int
    amount_tolerance: Decimal = Field(default=Decimal("0.01"), ge=0, description="in reais")
    order_type: str = "servico"
    invoice_reference: Annotated[str, AfterValidator(reference_text)] = Field(
        default="FATURA-{number}", description="reference text; {number} is the carrier's invoice"
    )
    types: tuple[PayableType, ...] = Field(
        default=get_args(PayableType), min_length=1, description="types of CTe that are posted"
    )
    bill_indicator: str = Field(default="out", description="l10n_br_compra_indcom of the bill")
    bill_situation: str = Field(default="autorizado", description="l10n_br_situacao_nf of the bill")
    approval_look_seconds: float = Field(
        default=300, gt=0, description="how often to look whether a waiting order was approved"
    )
    accept_homologation: bool = Field(
        default=False, description="post documents of the tax authority's test environment"
    )
    timezone: Annotated[str, AfterValidator(_zone)] = "America/Sao_Paulo"

    @model_validator(mode="after")
    def _operations_are_told_apart(self) -> FreightProfile:
        ids = [
            operation
            for company in self.companies.values()
            for operation in company.operations.model_dump().values()
        ]
        if len(ids) != len(set(ids)):
            raise ValueError("two companies, or two cases of one, have the same fiscal operation")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose calendar gives the entry date."""
        return ZoneInfo(self.timezone)

    @property
    def takes_every_type(self) -> bool:
        """Whether no CTe that has to be paid is refused for its type."""
        return set(self.types) == set(get_args(PayableType))

    def reference(self, invoice: str | None, expense: str | None) -> str | None:  # noqa: ARG002  a freight is no expense
        """The reference text of a posting, if it has one."""
        return self.invoice_reference.format(number=invoice) if invoice else None

    def company(self, company_id: int) -> Company:
        """The company of that id in Odoo; raises KeyError when the profile has none."""
        for company in self.companies.values():
            if company.company_id == company_id:
                return company
        raise KeyError(company_id)

    def transport_case(self, operation_id: int | None) -> str | None:
        """Which case (`interstate_normal` …) of some company a transport operation is."""
        for company in self.companies.values():
            for case, known in company.operations.model_dump().items():
                if known == operation_id:
                    return str(case)
        return None
