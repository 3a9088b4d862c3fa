"""The fiscal document in Odoo (DFe): found, prepared, and turned into an order. Steps 1 to 6."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.errors import InvalidInput
from service.posting.step import Call, Done, Halt, Observation, Pending, write
from service.postings.freight_cte import fiscal_document
from service.postings.freight_cte.freight import known, reference

if TYPE_CHECKING:
    from service.odoo.records import Record
    from service.postings.freight_cte.freight import FreightWork
    from service.postings.freight_cte.profile import Company

DFE = "l10n_br_ciel_it_account.dfe"
LINE = "l10n_br_ciel_it_account.dfe.line"
INSTALMENT = "l10n_br_ciel_it_account.dfe.pagamento"
ORDER = "purchase.order"
BILL = "account.move"

READY = "04"
ORDERED = ("05", "06")
REJECTED = "07"
STATUS_NAMES = {
    "01": "draft",
    "02": "synchronised",
    "03": "acknowledged",
    "04": "ready for an order",
    "05": "apportionment",
    "06": "concluded",
    "07": "rejected",
}

FIELDS = (
    "name",
    "is_cte",
    "l10n_br_status",
    "l10n_br_situacao_dfe",
    "l10n_br_data_entrada",
    "l10n_br_tipo_pedido",
    "payment_reference",
    "lines_ids",
    "dups_ids",
    "partner_id",
    "purchase_id",
    "purchase_fiscal_id",
    "nfe_infnfe_total_icmstot_vnf",
    "nfe_infnfe_rem_cnpj",
    "nfe_infnfe_exped_cnpj",
    "nfe_infnfe_dest_cnpj",
    "cte_infcte_ide_toma3_toma",
)
TAKER_FIELDS = {
    "0": "nfe_infnfe_rem_cnpj",
    "1": "nfe_infnfe_exped_cnpj",
    "3": "nfe_infnfe_dest_cnpj",
}
"""Who takes the transport by the layout's code. Odoo has no field for the receiver (2) and for
another party (4): for these the document's own XML is read."""


async def find(work: FreightWork) -> Observation:
    """Step 1: exactly one live document of that key, ready for an order or ordered already."""
    key = work.subject.access_key
    documents = await work.odoo.search_read(
        DFE, [["protnfe_infnfe_chnfe", "=", key], ["active", "=", True]], FIELDS
    )
    if not documents:
        raise Halt(
            "dfe_not_found",
            f"Odoo has no fiscal document with the key {key}. Import the CTe in Odoo, then resume.",
        )
    if len(documents) > 1:
        raise Halt(
            "several_dfes",
            f"Odoo has {len(documents)} active fiscal documents with the key {key} "
            f"(ids {_list(documents)}). Archive all but one, then resume.",
            "needs_attention",
        )
    dfe = documents[0]
    _check_usable(dfe)
    company = await _company(work, dfe)
    amount = _amount(work, dfe)
    orders = await orders_of(work, dfe)
    _check_status(dfe, orders)
    live = [order for order in orders if order.text("state") != "cancel"]
    return Done(
        {
            "dfe_id": dfe.id,
            "company_id": company.company_id,
            "carrier_id": dfe.ref("partner_id"),
            "amount": amount,
            "order_id": live[0].id if len(live) == 1 else None,
            "order_name": live[0].text("name") if len(live) == 1 else None,
            "bill_posted": await _is_billed(work, live),
        },
        f"document {dfe.id}, {STATUS_NAMES.get(dfe.text('l10n_br_status') or '', 'unknown')}",
    )


async def prepare_entry(work: FreightWork) -> Observation:
    """Step 2: today's entry date, and the carrier's invoice as reference.

    The date is today's also when a posting is resumed on a later day. Once there is an order, Odoo
    may refuse the write: the posting goes on without it. A posted bill is left as it is.
    """
    if work.facts.bill_posted:
        return Done(message="the bill is posted already")
    dfe = await _read(work)
    wanted: dict[str, Any] = {"l10n_br_data_entrada": work.today.isoformat()}
    if reference(work):
        wanted["payment_reference"] = reference(work)
    return _written(dfe, wanted, tolerated=work.facts.order_id is not None)


async def set_order_type(work: FreightWork) -> Observation:
    """Step 3: a freight is a service."""
    if work.facts.order_id:
        return Done(message="there is an order already")
    return _written(await _read(work), {"l10n_br_tipo_pedido": work.profile.order_type})


async def set_product(work: FreightWork) -> Observation:
    """Step 4: the freight service on the document's only line."""
    if work.facts.order_id:
        return Done(message="there is an order already")
    line_id = _only((await _read(work)).refs("lines_ids"), "line")
    [line] = await work.odoo.read(
        LINE, [line_id], ["product_id", "l10n_br_quantidade", "product_uom_id"]
    )
    before = {
        "product_id": line.ref("product_id"),
        "l10n_br_quantidade": line.number("l10n_br_quantidade"),
        "product_uom_id": line.ref("product_uom_id"),
    }
    after = {
        "product_id": work.profile.product_id,
        "l10n_br_quantidade": Decimal(1),
        "product_uom_id": work.profile.product_uom_id,
    }
    return Done() if before == after else Pending(write(LINE, line_id, before, after))


async def set_due_date(work: FreightWork) -> Observation:
    """Step 5: the due date of the only instalment."""
    if work.facts.order_id:
        return Done(message="there is an order already")
    instalment_id = _only((await _read(work)).refs("dups_ids"), "instalment")
    [instalment] = await work.odoo.read(INSTALMENT, [instalment_id], ["cobr_dup_dvenc"])
    before = {"cobr_dup_dvenc": instalment.text("cobr_dup_dvenc")}
    after = {"cobr_dup_dvenc": work.subject.due_date.isoformat()}
    return Done() if before == after else Pending(write(INSTALMENT, instalment_id, before, after))


async def generate_order(work: FreightWork) -> Observation:
    """Step 6: exactly one live order of the document.

    Odoo's action is not idempotent and takes a minute or more: called twice it makes two orders.
    """
    dfe = await _read(work)
    orders = await orders_of(work, dfe)
    live = [order for order in orders if order.text("state") != "cancel"]
    if len(live) > 1:
        raise Halt(
            "several_orders",
            f"The document has {len(live)} live orders ({_names(live)}). Cancel all but one in "
            "Odoo, then resume.",
            "needs_attention",
        )
    if live:
        order = live[0]
        return Done(
            {"order_id": order.id, "order_name": order.text("name")},
            f"order {order.text('name')}",
        )
    if orders:
        raise Halt(
            "order_canceled",
            f"The order of the document ({_names(orders)}) is cancelled. Set it to draft again, or "
            "remove its link to the document and make the document ready for an order; then "
            "resume.",
            "needs_attention",
        )
    _check_status(dfe, orders)
    context = {"validate_analytic": True, "allowed_company_ids": [known(work.facts.company_id)]}
    return Pending(
        Call(
            model=DFE,
            method="action_gerar_po_dfe",
            args=[[dfe.id]],
            kwargs={"context": context},
            before={"purchase_id": None, "l10n_br_status": dfe.text("l10n_br_status")},
            after={"purchase_id": "a new order", "l10n_br_status": "06"},
        )
    )


async def orders_of(work: FreightWork, dfe: Record) -> list[Record]:
    """All orders of the document, cancelled ones too.

    Orders name their document; the document's own links are filled in a part of the cases only.
    """
    links = [link for name in ("purchase_id", "purchase_fiscal_id") if (link := dfe.ref(name))]
    return await work.odoo.search_read(
        ORDER,
        ["|", ["dfe_id", "=", dfe.id], ["id", "in", links]],
        ("name", "state", "company_id", "invoice_ids"),
    )


async def _is_billed(work: FreightWork, orders: list[Record]) -> bool:
    bill_ids = [bill_id for order in orders for bill_id in order.refs("invoice_ids")]
    bills = await work.odoo.read(BILL, bill_ids, ("state",)) if bill_ids else []
    return any(bill.text("state") == "posted" for bill in bills)


async def _read(work: FreightWork) -> Record:
    records = await work.odoo.read(DFE, [known(work.facts.dfe_id)], FIELDS)
    if not records:
        raise Halt("dfe_not_found", "The fiscal document was deleted in Odoo meanwhile.")
    return records[0]


def _written(dfe: Record, wanted: dict[str, Any], *, tolerated: bool = False) -> Observation:
    before = {name: dfe.text(name) for name in wanted}
    if before == wanted:
        return Done()
    return Pending(write(DFE, dfe.id, before, wanted), tolerated=tolerated)


def _check_usable(dfe: Record) -> None:
    if not dfe.flag("is_cte"):
        raise Halt("not_a_cte", f"Document {dfe.id} in Odoo is not a freight bill (CTe).")
    if dfe.text("l10n_br_status") == REJECTED:
        raise Halt(
            "dfe_rejected",
            f"Document {dfe.id} is rejected in Odoo (status 07). Set it back to 04 in Odoo if that "
            "was a mistake, then resume.",
        )
    if dfe.text("l10n_br_situacao_dfe") == "CANCELADA":
        raise Halt(
            "dfe_canceled", f"The carrier has cancelled the CTe (document {dfe.id} in Odoo)."
        )


def _check_status(dfe: Record, orders: list[Record]) -> None:
    status = dfe.text("l10n_br_status") or ""
    if status == READY or (status in ORDERED and orders):
        return
    name = STATUS_NAMES.get(status, "unknown")
    if status in ORDERED:
        raise Halt(
            "dfe_without_order",
            f"Document {dfe.id} is in status {status} ({name}) but has no order. Set it back to 04 "
            "in Odoo, then resume.",
            "needs_attention",
        )
    raise Halt(
        "dfe_not_ready",
        f"Document {dfe.id} is in status {status or 'none'} ({name}). Bring it to 04 in Odoo, then "
        "resume.",
    )


async def _company(work: FreightWork, dfe: Record) -> Company:
    cnpj = work.subject.taker_cnpj or await _taker(work, dfe)
    company = work.profile.companies.get(cnpj)
    if company is None:
        raise Halt(
            "unknown_company",
            f"The taker {cnpj} is none of the companies of this connection's profile. Add it there "
            "if it should be posted, then resume.",
        )
    return company


async def _taker(work: FreightWork, dfe: Record) -> str:
    """The taker's CNPJ as Odoo has it, or as the document's XML says."""
    field = TAKER_FIELDS.get(dfe.text("cte_infcte_ide_toma3_toma") or "")
    text = dfe.text(field) if field else None
    try:
        return fiscal_document.cnpj(text) if text else await _taker_in_xml(work, dfe)
    except InvalidInput as error:
        raise Halt(
            "unknown_company",
            f"Who takes the freight of document {dfe.id} cannot be told ({error}). Send the CTe's "
            "XML with the posting.",
        ) from error


async def _taker_in_xml(work: FreightWork, dfe: Record) -> str:
    [record] = await work.odoo.read(DFE, [dfe.id], ("l10n_br_xml_dfe",))
    content = record.text("l10n_br_xml_dfe")
    if content is None:
        raise Halt(
            "unknown_company",
            f"Document {dfe.id} has no XML in Odoo, and its fields do not name the taker. Send "
            "the CTe's XML with the posting.",
        )
    taker = fiscal_document.parse_cte(base64.b64decode(content)).taker
    return taker.cnpj or taker.cpf or "without a CNPJ"


def _amount(work: FreightWork, dfe: Record) -> Decimal:
    """The CTe's amount, which Odoo's document must show too."""
    total = dfe.number("nfe_infnfe_total_icmstot_vnf")
    amount = work.subject.amount
    if amount is not None and abs(amount - total) > work.profile.amount_tolerance:
        raise Halt(
            "amount_mismatch",
            f"The CTe is of R$ {amount}, document {dfe.id} in Odoo of R$ {total}. Correct the "
            "document in Odoo, then resume.",
        )
    if total <= 0:
        raise Halt("amount_mismatch", f"Document {dfe.id} in Odoo has the amount R$ {total}.")
    return total if amount is None else amount


def _only(ids: tuple[int, ...], what: str) -> int:
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise Halt(f"no_{what}", f"The document has no {what} in Odoo. Import it again.")
    raise Halt(
        f"several_{what}s",
        f"The document has {len(ids)} {what}s in Odoo; one is expected of a freight bill.",
        "needs_attention",
    )


def _list(records: list[Record]) -> str:
    return ", ".join(str(record.id) for record in records)


def _names(records: list[Record]) -> str:
    return ", ".join(str(record.text("name")) for record in records)
