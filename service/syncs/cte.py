"""The sync `cte`: electronic freight bills, with their files and the invoices that they carry.

A row is a fiscal document of Odoo, by its id. XML and PDF are in `cte_file`, fetched when Odoo's
checksum is another one; what only the XML tells is in their `facts`. `cte_linked` adds it to the
rows, and links a complementary bill to the one that it completes, in whatever order they came.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import structlog
from lxml import etree
from pydantic import BaseModel, ConfigDict, Field

from service.odoo.prefetch import Relation
from service.sync.definition import Column, Definition, Files
from service.sync.ready import ReadySync
from service.syncs.rules import CnpjRoot, root_of, since

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.odoo.prefetch import Node
    from service.odoo.records import Domain, Record

log = structlog.get_logger()

NAME = "cte"
TITLE = "Electronic freight bills (CTe)"
MODEL = "l10n_br_ciel_it_account.dfe"
REFERENCE = "l10n_br_ciel_it_account.dfe.referencia"
XML = "l10n_br_xml_dfe"
PDF = "l10n_br_pdf_dfe"
NAMESPACES = {"c": "http://www.portalfiscal.inf.br/cte"}
TYPES = {"0": "normal", "1": "complement", "2": "annulment", "3": "substitute"}
KEY_LENGTH = 44
NUMBER_IN_KEY = slice(25, 34)
TAKERS = {
    "0": "nfe_infnfe_rem_cnpj",
    "1": "nfe_infnfe_exped_cnpj",
    "3": "nfe_infnfe_dest_cnpj",
}
"""Whose CNPJ the taker's is, by the layout's code; Odoo has no field for the other codes."""


class Options(BaseModel):
    """`[syncs.cte]` of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: date | None = Field(default=None, description="bills issued before are left out")
    least_total: Decimal = Field(
        default=Decimal(1), ge=0, description="bills of less are left out, unless canceled"
    )
    own_cnpj_roots: tuple[CnpjRoot, ...] = Field(
        default=(), description="companies of one's own group, to tell who takes the freight"
    )
    lookback_minutes: float = Field(default=15, gt=0)


# -- rules ---------------------------------------------------------------------------------------


def domain(options: Options) -> Domain:
    """Freight bills of some value; a canceled one may have lost it."""
    return [
        ["is_cte", "=", True],
        "|",
        ["nfe_infnfe_total_icmstot_vnf", ">=", float(options.least_total)],
        ["l10n_br_situacao_dfe", "=", "CANCELADA"],
        *since("nfe_infnfe_ide_dhemi", options.since),
    ]


def invoice_number(key: str) -> str | None:
    """The number in the access key of an invoice, without leading zeros; None for no such key."""
    digits = key[NUMBER_IN_KEY]
    return str(int(digits)) if len(key) == KEY_LENGTH and digits.isdecimal() else None


def taker_cnpj(record: Record) -> str | None:
    """The CNPJ of who takes the freight, where Odoo has it."""
    field = TAKERS.get(record.text("cte_infcte_ide_toma3_toma") or "")
    return record.text(field) if field else None


def facts(field: str, content: bytes) -> Mapping[str, Any]:
    """What only the XML tells: the bill's type, and the key of the bill that it completes.

    A file that is no CTe has none; it stays in the mirror as it is.
    """
    if field != XML:
        return {}
    try:
        root = etree.fromstring(content, _parser())
    except etree.XMLSyntaxError as error:
        log.info("cte_xml_unreadable", error=str(error))
        return {}
    kind = root.findtext(".//c:ide/c:tpCTe", namespaces=NAMESPACES)
    completes = root.findtext(".//c:infCteComp/c:chCTe", namespaces=NAMESPACES)
    found = {"type": TYPES.get(kind or ""), "completes": completes}
    return {name: value for name, value in found.items() if value}


def _parser() -> etree.XMLParser:
    """One for each file: it opens nothing else, and refuses what swells."""
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)


def invoice_keys(bill: Node) -> list[str]:
    """The access keys of the invoices that the bill carries."""
    keys = (one.record.text("infdoc_infnfe_chave") for one in bill.many("refs_ids"))
    return [key for key in keys if key]


def invoice_numbers(bill: Node) -> list[str]:
    """The numbers of the invoices that the bill carries."""
    numbers = (invoice_number(key) for key in invoice_keys(bill))
    return [number for number in numbers if number]


def _taker(bill: Node) -> str | None:
    return taker_cnpj(bill.record)


def _is_ours(roots: tuple[str, ...]) -> Callable[[Node], bool | None]:
    def read(bill: Node) -> bool | None:
        root = root_of(taker_cnpj(bill.record))
        return None if root is None or not roots else root in roots

    return read


# -- what is read --------------------------------------------------------------------------------


def columns(options: Options) -> tuple[Column, ...]:
    """The columns of the mirror."""
    return (
        Column(name="access_key", field="protnfe_infnfe_chnfe", kind="text"),
        Column(name="active", field="active", kind="flag"),
        Column(name="status", field="l10n_br_status", kind="text"),
        Column(name="situation", field="l10n_br_situacao_dfe", kind="text"),
        Column(name="number", field="nfe_infnfe_ide_nnf", kind="text"),
        Column(name="series", field="nfe_infnfe_ide_serie", kind="text"),
        Column(name="issued_at", field="nfe_infnfe_ide_dhemi", kind="moment"),
        Column(name="entered_on", field="l10n_br_data_entrada", kind="day"),
        Column(name="order_type", field="l10n_br_tipo_pedido", kind="text"),
        Column(name="total", field="nfe_infnfe_total_icmstot_vnf", kind="number"),
        Column(name="freight", field="nfe_infnfe_total_icms_vfrete", kind="number"),
        Column(name="icms", field="nfe_infnfe_total_icms_vicms", kind="number"),
        Column(name="issuer_id", field="partner_id", kind="ref"),
        Column(name="issuer_cnpj", field="nfe_infnfe_emit_cnpj", kind="text"),
        Column(name="issuer_name", field="nfe_infnfe_emit_xnome", kind="text"),
        Column(name="issuer_ie", field="nfe_infnfe_emit_ie", kind="text"),
        Column(name="sender_cnpj", field="nfe_infnfe_rem_cnpj", kind="text"),
        Column(name="dispatcher_cnpj", field="nfe_infnfe_exped_cnpj", kind="text"),
        Column(name="recipient_cnpj", field="nfe_infnfe_dest_cnpj", kind="text"),
        Column(name="taker_code", field="cte_infcte_ide_toma3_toma", kind="text"),
        Column(name="taker_cnpj", rule=_taker, kind="text"),
        Column(name="taker_is_ours", rule=_is_ours(options.own_cnpj_roots), kind="flag"),
        Column(name="origin", field="cte_infcte_ide_cmunini", kind="text"),
        Column(name="destination", field="cte_infcte_ide_cmunfim", kind="text"),
        Column(name="remarks", field="nfe_infnfe_infadic_infcpl", kind="text"),
        Column(name="invoice_keys", rule=invoice_keys, kind="texts"),
        Column(name="invoice_numbers", rule=invoice_numbers, kind="texts"),
        Column(name="order_id", field="purchase_id", kind="ref"),
        Column(name="fiscal_order_id", field="purchase_fiscal_id", kind="ref"),
        Column(name="bill_ids", field="invoice_ids", kind="refs"),
        Column(name="xml_name", field="l10n_br_xml_dfe_fname", kind="text"),
        Column(name="pdf_name", field="l10n_br_pdf_dfe_fname", kind="text"),
    )


def define(options: Options, _: int) -> Definition:
    """The sync, which is the same for all versions."""
    return Definition(
        name=NAME,
        title=TITLE,
        model=MODEL,
        domain=domain(options),
        columns=columns(options),
        relations=(Relation(field="refs_ids", model=REFERENCE, fields=("infdoc_infnfe_chave",)),),
        follows={"refs_ids": REFERENCE},
        files=Files(fields=(XML, PDF), facts=facts),
        key="protnfe_infnfe_chnfe",
        page=500,
        lookback=timedelta(minutes=options.lookback_minutes),
    )


CTE = ReadySync(name=NAME, title=TITLE, model=MODEL, define=define, options=Options)
