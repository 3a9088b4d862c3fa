"""Fiscal documents as they arrive: CT-e XML and the DFe record that holds it."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.simulator import dfe, documents
from service.simulator.documents import FreightBill, Party, TakerCode

if TYPE_CHECKING:
    from service.simulator.orm import Environment
    from service.simulator.seed import Seed, SeedCarrier, SeedCompany

FIRST_DAY = datetime(2026, 11, 2, 8, 0, tzinfo=timezone(timedelta(hours=-3)))
SMALLEST_AMOUNT = 8_000
LARGEST_AMOUNT = 950_000
DAYS = 20
# Enough to be taken for the printed form of a document.
PDF = "%PDF-1.4\n% DACTE {key}\n% {amount}\n%%EOF\n"


@dataclass(frozen=True, kw_only=True)
class DocumentOptions:
    """What the seeded documents are like; None lets the seed number decide.

    `taker_company` is the code of the company that pays, or `unknown` for somebody else.
    `dfe_total` is the total that Odoo shows, when it differs from the XML. `lines` and
    `instalments` say how many the DFe has (0 instalments: none arrived). `carrier_state` and
    `simplified` choose the carrier, `alphanumeric` one whose CNPJ holds letters. `duplicate`
    adds a second DFe with the same key. `original_key` makes a complement of another document.
    Without `pdf` the DFe has no printed form.
    """

    count: int = 1
    seed: int | None = None
    status: str = dfe.READY
    cancelled: bool = False
    archived: bool = False
    lines: int = 1
    instalments: int = 1
    amount: Decimal | None = None
    dfe_total: Decimal | None = None
    taker_code: TakerCode = "3"
    taker_company: str | None = None
    carrier_state: str | None = None
    simplified: bool | None = None
    alphanumeric: bool | None = None
    duplicate: bool = False
    original_key: str | None = None
    invoices: int = 1
    pdf: bool = True


@dataclass(frozen=True, kw_only=True)
class SeededDocument:
    """One document that arrived; `taker_company_id` is None when the taker is not ours."""

    key: str
    number: int
    dfe_ids: tuple[int, ...]
    amount: Decimal
    dfe_total: Decimal
    xml: str
    issued: datetime
    taker_code: str
    taker_cnpj: str
    taker_company_id: int | None
    carrier_cnpj: str
    carrier_partner_id: int
    carrier_state: str
    carrier_simplified: bool

    @property
    def dfe_id(self) -> int:
        """The first DFe with this key."""
        return self.dfe_ids[0]

    def describe(self) -> dict[str, Any]:
        """Return the document as JSON, amounts as text."""
        return {
            "key": self.key,
            "number": self.number,
            "dfe_id": self.dfe_id,
            "dfe_ids": list(self.dfe_ids),
            "amount": str(self.amount),
            "dfe_total": str(self.dfe_total),
            "xml": self.xml,
            "issued": self.issued.isoformat(),
            "taker_code": self.taker_code,
            "taker_cnpj": self.taker_cnpj,
            "taker_company_id": self.taker_company_id,
            "carrier_cnpj": self.carrier_cnpj,
            "carrier_partner_id": self.carrier_partner_id,
            "carrier_state": self.carrier_state,
            "carrier_simplified": self.carrier_simplified,
        }


def receive(
    env: Environment, options: DocumentOptions, *, number: int, seed: int
) -> SeededDocument:
    """Make one document, with this number, and put its DFe into the database."""
    # The same number and seed always make the same document; nothing here is secret.
    chance = random.Random(f"{seed}/{number}")  # noqa: S311
    carrier = _carrier(env.seed, options, chance)
    payer = _payer(env.seed, options, number)
    bill = _bill(env.seed, options, carrier, payer, number=number, chance=chance)
    company = env.seed.company_by_cnpj(bill.taker.cnpj)
    total = options.dfe_total if options.dfe_total is not None else bill.amount
    xml = documents.render(bill)
    copies = 2 if options.duplicate else 1
    ids = tuple(
        _insert(env, options, bill, xml, company=company, carrier=carrier, total=total)
        for _ in range(copies)
    )
    return SeededDocument(
        key=bill.key,
        number=number,
        dfe_ids=ids,
        amount=bill.amount,
        dfe_total=total,
        xml=xml,
        issued=bill.issued,
        taker_code=bill.taker_code,
        taker_cnpj=bill.taker.cnpj,
        taker_company_id=company.id if company else None,
        carrier_cnpj=carrier.cnpj,
        carrier_partner_id=carrier.partner_id,
        carrier_state=carrier.state,
        carrier_simplified=carrier.simplified,
    )


def _carrier(seed: Seed, options: DocumentOptions, chance: random.Random) -> SeedCarrier:
    fitting = [
        carrier
        for carrier in seed.carriers
        if options.carrier_state in {None, carrier.state}
        and options.simplified in {None, carrier.simplified}
        and (options.alphanumeric or False) == carrier.alphanumeric
    ]
    if not fitting:
        raise ValueError("no carrier of the seed fits these options")
    return chance.choice(fitting)


def _payer(seed: Seed, options: DocumentOptions, number: int) -> Party:
    if options.taker_company == "unknown":
        return seed.outsider
    if options.taker_company is not None:
        return seed.companies[options.taker_company].party
    companies = list(seed.companies.values())
    return companies[number % len(companies)].party


def _bill(
    seed: Seed,
    options: DocumentOptions,
    carrier: SeedCarrier,
    payer: Party,
    *,
    number: int,
    chance: random.Random,
) -> FreightBill:
    issued = FIRST_DAY + timedelta(days=chance.randrange(DAYS), minutes=chance.randrange(480))
    cents = chance.randrange(SMALLEST_AMOUNT, LARGEST_AMOUNT)
    amount = options.amount if options.amount is not None else Decimal(cents) / 100
    others = [one.party for one in seed.companies.values() if one.cnpj != payer.cnpj]
    parties = _parties(options.taker_code, payer, others[0], seed.outsider)
    sender = parties["sender"] or seed.outsider
    return FreightBill(
        number=number,
        series=1,
        issued=issued,
        amount=amount,
        carrier=carrier.party,
        sender=sender,
        recipient=parties["recipient"] or others[0],
        dispatcher=parties["dispatcher"],
        receiver=parties["receiver"],
        taker_code=options.taker_code,
        other_taker=parties["other"],
        simplified=carrier.simplified,
        original_key=options.original_key,
        random_code=chance.randrange(10**8),
        invoice_keys=tuple(
            documents.invoice_key(sender, issued, number * 10 + place, chance.randrange(10**8))
            for place in range(options.invoices)
        ),
    )


def _parties(
    code: TakerCode, payer: Party, ours: Party, outsider: Party
) -> dict[str, Party | None]:
    """Give the payer the part that the taker code names, and others the rest."""
    parts: dict[str, Party | None] = {
        "sender": outsider if payer is not outsider else ours,
        "recipient": ours,
        "dispatcher": None,
        "receiver": None,
        "other": None,
    }
    named = {"0": "sender", "1": "dispatcher", "2": "receiver", "3": "recipient", "4": "other"}
    parts[named[code]] = payer
    return parts


def _insert(
    env: Environment,
    options: DocumentOptions,
    bill: FreightBill,
    xml: str,
    *,
    carrier: SeedCarrier,
    company: SeedCompany | None,
    total: Decimal,
) -> int:
    company_id = company.id if company else env.seed.home.id
    document_id = env[dfe.DFE].insert(
        {
            **_head(options, bill, total),
            **_files(options, bill, xml),
            "company_id": company_id,
            "partner_id": carrier.partner_id,
        }
    )
    _insert_lines(env, options, document_id, company_id, total)
    _insert_instalments(env, options, document_id, company_id, total)
    for key in bill.invoice_keys:
        env[dfe.REFERENCE].insert({"dfe_id": document_id, "infdoc_infnfe_chave": key})
    return document_id


def _head(options: DocumentOptions, bill: FreightBill, total: Decimal) -> dict[str, Any]:
    return {
        "name": f"CTe {bill.number}",
        "active": not options.archived,
        "is_cte": True,
        "l10n_br_status": options.status,
        "l10n_br_situacao_dfe": "CANCELADA" if options.cancelled else "AUTORIZADA",
        "protnfe_infnfe_chnfe": bill.key,
        "nfe_infnfe_ide_nnf": str(bill.number),
        "nfe_infnfe_ide_serie": str(bill.series),
        "nfe_infnfe_ide_dhemi": bill.issued.astimezone(UTC),
        "nfe_infnfe_ide_finnfe": bill.kind,
        "nfe_infnfe_total_icmstot_vnf": float(total),
        "nfe_infnfe_total_icms_vfrete": float(total),
        "nfe_infnfe_total_icms_vicms": float(bill.icms),
        "nfe_infnfe_emit_cnpj": bill.carrier.cnpj,
        "nfe_infnfe_emit_xnome": bill.carrier.name,
        "nfe_infnfe_emit_ie": bill.carrier.ie,
        "nfe_infnfe_dest_cnpj": bill.recipient.cnpj,
        "nfe_infnfe_rem_cnpj": bill.sender.cnpj,
        "nfe_infnfe_exped_cnpj": bill.dispatcher.cnpj if bill.dispatcher else None,
        "nfe_infnfe_receb_cnpj": bill.receiver.cnpj if bill.receiver else None,
        "cte_infcte_ide_cmunini": bill.sender.city.code,
        "cte_infcte_ide_cmunfim": bill.recipient.city.code,
        # The field exists for the codes 0 to 3 only; code 4 stands in another group of the XML.
        "cte_infcte_ide_toma3_toma": bill.taker_code if bill.taker_code != "4" else None,
    }


def _files(options: DocumentOptions, bill: FreightBill, xml: str) -> dict[str, Any]:
    contents = {"xml": xml}
    if options.pdf:
        contents["pdf"] = PDF.format(key=bill.key, amount=bill.amount)
    files: dict[str, Any] = {}
    for kind, content in contents.items():
        files[f"l10n_br_{kind}_dfe"] = base64.b64encode(content.encode()).decode()
        files[f"l10n_br_{kind}_dfe_fname"] = f"{bill.key}.{kind}"
    return files


def shares(total: Decimal, parts: int) -> list[Decimal]:
    """Split an amount into equal cents, the first part taking what remains."""
    each = (total / parts).quantize(Decimal("0.01"))
    return [total - each * (parts - 1), *[each] * (parts - 1)]


def _insert_lines(
    env: Environment, options: DocumentOptions, document_id: int, company_id: int, total: Decimal
) -> None:
    for share in shares(total, options.lines) if options.lines else []:
        env[dfe.LINE].insert(
            {
                "dfe_id": document_id,
                "company_id": company_id,
                "det_prod_xprod": "SERVICO DE TRANSPORTE",
                "det_prod_qcom": 1.0,
                "det_prod_vuncom": float(share),
                "det_prod_vprod": float(share),
            }
        )


def _insert_instalments(
    env: Environment, options: DocumentOptions, document_id: int, company_id: int, total: Decimal
) -> None:
    if not options.instalments:
        return
    for place, share in enumerate(shares(total, options.instalments), start=1):
        env[dfe.INSTALMENT].insert(
            {
                "dfe_id": document_id,
                "company_id": company_id,
                "cobr_dup_ndup": f"{place:03d}",
                "cobr_dup_vdup": float(share),
            }
        )
