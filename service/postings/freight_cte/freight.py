"""A freight bill to be posted: what the caller sends, what is posted, what is found in Odoo."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from decimal import Decimal
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.errors import InvalidInput, Problem
from service.posting.step import Work
from service.postings.freight_cte import fiscal_document
from service.postings.freight_cte.fiscal_document import FreightDocument, FreightType
from service.postings.freight_cte.profile import FreightProfile

KnownT = TypeVar("KnownT")


Invoice = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]


class FreightInput(BaseModel):
    """A freight bill, by its access key or by its XML."""

    model_config = ConfigDict(extra="forbid")

    access_key: str | None = Field(
        default=None,
        max_length=64,
        description="the 44 characters of the CTe's access key; not needed with the XML",
        examples=["35261012345678000195570010000012341000012340"],
    )
    xml: str | None = Field(
        default=None,
        max_length=2_800_000,
        description="the CTe (4.00, with or without its protocol), as text or in base64",
    )
    due_date: dt.date = Field(description="when the carrier is to be paid", examples=["2026-12-31"])
    carrier_invoice: Invoice | None = Field(
        default=None,
        description="the number of the carrier's invoice (fatura) that groups the CTe",
        examples=["4711"],
    )


class Freight(BaseModel):
    """A freight bill as it is posted.

    `amount` in reais and `taker_cnpj` only with the XML. `expense` is the caller's number of what
    the freight costs besides what was agreed on.
    """

    model_config = ConfigDict(frozen=True)

    access_key: str
    due_date: dt.date
    carrier_invoice: str | None = None
    expense: str | None = None
    amount: Decimal | None = None
    taker_cnpj: str | None = None


class FreightFacts(BaseModel):
    """What was found of a freight bill in Odoo."""

    model_config = ConfigDict(frozen=True)

    dfe_id: int | None = None
    company_id: int | None = None
    carrier_id: int | None = None
    amount: Decimal | None = None
    order_id: int | None = None
    order_name: str | None = None
    bill_id: int | None = None
    bill_name: str | None = None
    bill_posted: bool = False
    taxed_bill_id: int | None = None
    taxes_repeated_at: dt.datetime | None = None


FreightWork = Work[Freight, FreightProfile, FreightFacts]


def known(value: KnownT | None) -> KnownT:
    """A fact that an earlier step has found."""
    if value is None:
        raise LookupError("an earlier step did not find what this one needs")
    return value


def reference(work: FreightWork) -> str | None:
    """The reference text, if there is one."""
    return work.profile.reference(work.subject.carrier_invoice, work.subject.expense)


def admit(given: FreightInput, profile: FreightProfile) -> Freight:
    """Check the input and take from the XML what the posting needs.

    Raises `InvalidInput` naming the field.
    """
    if given.xml is None:
        if given.access_key is None:
            raise _refusal("access_key", "give the access key or the XML of the CTe", "missing")
        key = fiscal_document.access_key(given.access_key)
        return Freight(
            access_key=str(key), due_date=given.due_date, carrier_invoice=given.carrier_invoice
        )
    document = fiscal_document.parse_cte(_xml(given.xml))
    _check_key(given, document)
    _check_document(document, profile)
    return Freight(
        access_key=str(document.key),
        due_date=given.due_date,
        carrier_invoice=given.carrier_invoice,
        amount=document.total,
        taker_cnpj=_taker(document, profile),
    )


def document_key(freight: Freight) -> str:
    """The access key: one freight bill, one posting."""
    return freight.access_key


def today(profile: FreightProfile) -> dt.date:
    """The date of the deployment's calendar."""
    return dt.datetime.now(profile.zone).date()


def _xml(text: str) -> bytes | str:
    """Base64, as Odoo keeps it, is told from XML by its first character."""
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refusal("xml", "neither XML nor base64", "malformed_xml") from error


def _check_key(given: FreightInput, document: FreightDocument) -> None:
    if given.access_key is None:
        return
    key = fiscal_document.access_key(given.access_key)
    if key != document.key:
        raise _refusal("access_key", "is not the key of the XML", "different_key")


def _check_document(document: FreightDocument, profile: FreightProfile) -> None:
    if document.type is FreightType.ANNULMENT:
        raise _refusal("xml", "the CTe annuls another one: there is nothing to pay", "annulment")
    if document.type.value not in profile.types:
        message = f"is a CTe of type {document.type}; posted are: {', '.join(profile.types)}"
        raise _refusal("xml", message, "wrong_type")
    if document.protocol is not None and not document.authorised:
        raise _refusal("xml", "the tax authority did not authorise the CTe", "not_authorised")
    if document.total <= 0:
        raise _refusal("xml", "the CTe's amount is zero: there is nothing to pay", "no_amount")
    if document.homologation and not profile.accept_homologation:
        raise _refusal(
            "xml",
            "the CTe is of the tax authority's test environment and has no fiscal value",
            "homologation",
        )


def _taker(document: FreightDocument, profile: FreightProfile) -> str:
    cnpj = document.taker.cnpj
    if cnpj is None or cnpj not in profile.companies:
        raise _refusal(
            "xml",
            f"the taker ({document.taker_role}) {cnpj or document.taker.cpf or 'abroad'} is none "
            f"of the companies of this connection: {', '.join(sorted(profile.companies))}",
            "unknown_company",
        )
    return cnpj


def _refusal(field: str, message: str, code: str) -> InvalidInput:
    return InvalidInput([Problem(field, message, code)])
