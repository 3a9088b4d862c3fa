"""A settlement of a title: what the caller sends, what is settled, what is found in Odoo."""

from __future__ import annotations

import datetime as dt
import hashlib
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.errors import InvalidInput, Problem
from service.posting.step import Work
from service.postings.title_settlement.profile import Direction, SettlementProfile

KnownT = TypeVar("KnownT")
PartName = Literal["principal", "discount", "agreement", "returns"]
Purpose = Literal["principal", "discount", "agreement", "returns", "register", "interest"]

KIND = "title_settlement"
DIGEST_LENGTH = 16
NOTHING = Decimal(0)
NOT_ASKED = "not asked for"

Amount = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=2)]
Number = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[0-9A-Za-z./-]{1,30}$")]
Reference = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class SettlementInput(BaseModel):
    """One settlement of one instalment of an invoice or a bill; amounts in reais."""

    model_config = ConfigDict(extra="forbid")

    direction: Direction
    number: Number = Field(
        description="of the document (NF); leading zeros do not count", examples=["141787"]
    )
    instalment: int = Field(ge=0, le=999, description="0 for a document without instalments")
    reference: Reference = Field(
        description="the caller's own, of this settlement: the same one is never paid twice",
        examples=["statement 2026-11-24 line 17"],
    )
    date: dt.date = Field(description="of the payment", examples=["2026-11-24"])
    journal_id: int | None = Field(
        default=None, gt=0, description="account.journal that the money goes through"
    )
    principal: Amount = Field(default=NOTHING, description="what the money pays of the title")
    interest: Amount = Field(default=NOTHING, description="paid on top of the principal")
    charges: Amount = Field(
        default=NOTHING, description="what was kept back from the money, and closes the title too"
    )
    discount: Amount = Field(default=NOTHING)
    contractual_discount: bool = Field(
        default=False,
        description="the discount is that of the customer's contract: it is computed, not given",
    )
    agreement: Amount = Field(default=NOTHING, description="of a commercial agreement")
    returns: Amount = Field(default=NOTHING, description="of goods that came back")
    title_id: int | None = Field(
        default=None, gt=0, description="account.move.line, where the number is that of several"
    )
    statement_line_id: int | None = Field(
        default=None, gt=0, description="account.bank.statement.line that shows the money"
    )


class Settlement(BaseModel):
    """A settlement as it is posted."""

    model_config = ConfigDict(frozen=True)

    direction: Direction
    number: str
    instalment: int
    reference: str
    date: dt.date
    journal_id: int | None = None
    principal: Decimal = NOTHING
    interest: Decimal = NOTHING
    charges: Decimal = NOTHING
    discount: Decimal = NOTHING
    contractual_discount: bool = False
    agreement: Decimal = NOTHING
    returns: Decimal = NOTHING
    title_id: int | None = None
    statement_line_id: int | None = None

    @property
    def name(self) -> str:
        """The title in words."""
        return f"NF {self.number}/{self.instalment}"

    @property
    def registered(self) -> bool:
        """Whether the wizard pays the principal: it writes off what the money is more or less."""
        return bool(self.principal and (self.interest or self.charges))

    @property
    def money(self) -> Decimal:
        """What moves on the bank account by the payment of the principal."""
        return self.principal + self.interest if self.principal else NOTHING


class SettlementFacts(BaseModel):
    """What was found of a settlement in Odoo.

    `before` and `after` are the title and its document as they were; `phantom` says that an
    instalment of the year 2000 has to be mended, `phantom_repaired` that this was done once.
    `contractual_discount` is what the contract gives away, also where the title has it already.
    """

    model_config = ConfigDict(frozen=True)

    title_id: int | None = None
    move_id: int | None = None
    move_name: str | None = None
    company_id: int | None = None
    partner_id: int | None = None
    account_id: int | None = None
    phantom: bool = False
    phantom_repaired: bool = False
    before: dict[str, Any] | None = None
    discount_embedded: bool = False
    contractual_discount: Decimal | None = None
    principal_payment_id: int | None = None
    discount_payment_id: int | None = None
    agreement_payment_id: int | None = None
    returns_payment_id: int | None = None
    wizard_id: int | None = None
    register_payment_id: int | None = None
    interest_entry_id: int | None = None
    after: dict[str, Any] | None = None
    changed_fields: list[str] | None = None


SettlementWork = Work[Settlement, SettlementProfile, SettlementFacts]


def known(value: KnownT | None) -> KnownT:
    """A fact that an earlier step has found."""
    if value is None:
        raise LookupError("an earlier step did not find what this one needs")
    return value


def admit(given: SettlementInput, profile: SettlementProfile) -> Settlement:
    """Check the input against the profile; raises `InvalidInput` naming the field."""
    settlement = Settlement(**{**given.model_dump(), "number": _plain_number(given.number)})
    problems = [
        *_amount_problems(settlement),
        *_contract_problems(settlement),
        *_profile_problems(settlement, profile),
    ]
    if problems:
        raise InvalidInput(problems)
    return settlement


def document_key(settlement: Settlement) -> str:
    """Direction, title and the caller's reference: two parts of one title are two settlements."""
    title = f"{settlement.number}/{settlement.instalment}"
    return f"{settlement.direction}:{title}:{settlement.reference}"


def payment_reference(settlement: Settlement, purpose: Purpose) -> str:
    """The reference by which what this settlement books for a purpose is found again in Odoo."""
    key = f"{KIND}:{document_key(settlement)}:{purpose}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:DIGEST_LENGTH].upper()
    return f"{settlement.name} {purpose} {digest}"


def today(profile: SettlementProfile) -> dt.date:
    """The date of the deployment's calendar."""
    return dt.datetime.now(profile.zone).date()


def _plain_number(number: str) -> str:
    return str(int(number)) if number.isdecimal() else number


def _amount_problems(settlement: Settlement) -> list[Problem]:
    problems = []
    parts = (
        settlement.principal,
        settlement.interest,
        settlement.discount,
        settlement.agreement,
        settlement.returns,
    )
    if not any(parts):
        problems.append(Problem("principal", "nothing is to be settled: give an amount", "missing"))
    if settlement.charges and settlement.interest:
        problems.append(
            Problem("charges", "give charges or interest, not both: one difference is written off")
        )
    if settlement.charges and not settlement.principal:
        problems.append(Problem("charges", "are kept back from a principal: give it", "missing"))
    if settlement.journal_id is None and (settlement.principal or settlement.interest):
        problems.append(Problem("journal_id", "which journal does the money go through", "missing"))
    if settlement.statement_line_id is not None and not settlement.principal:
        problems.append(Problem("statement_line_id", "shows money: give the principal", "missing"))
    return problems


def _contract_problems(settlement: Settlement) -> list[Problem]:
    """The three boxes of a contract are what was paid, the charges and the discount."""
    if not settlement.contractual_discount:
        return []
    problems = [
        Problem(name, "has no place beside the discount of a contract", "contractual_discount")
        for name in ("discount", "agreement", "returns")
        if getattr(settlement, name)
    ]
    if settlement.direction == "payable":
        problems.append(Problem("contractual_discount", "is a customer's", "not_settled"))
    if not settlement.principal:
        problems.append(Problem("principal", "is what the contract leaves: give it", "missing"))
    return problems


def _profile_problems(settlement: Settlement, profile: SettlementProfile) -> list[Problem]:
    side = profile.side(settlement.direction)
    if side is None:
        return [
            Problem(
                "direction", f"this connection settles no {settlement.direction}", "not_settled"
            )
        ]
    needed = {
        "discount": side.discount_journals,
        "agreement": side.agreement_journals,
        "returns": side.return_journals,
        "interest": side.interest_accounts,
        "charges": side.charges_accounts,
    }
    needed["contractual_discount"] = needed["discount"]
    return [
        Problem(name, f"the profile has no place for it in {settlement.direction}", "not_settled")
        for name, ids in needed.items()
        if getattr(settlement, name) and not ids
    ]
