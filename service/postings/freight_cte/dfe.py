"""The fiscal document in Odoo (DFe): found, prepared, and turned into an order. Steps 1 to 6."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.errors import InvalidInput
from service.posting.step import Call, Done, Halt, Observation, Pending, write
from service.postings.freight_cte import fiscal_document
from service.postings.freight_cte.freight import known, reference

if TYPE_CHECKING:
    from service.odoo.records import Record
    from service.postings.freight_cte.fiscal_document import FreightDocument
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
NOT_VALID = {"CANCELADA": "cancelled", "DENEGADA": "denied"}
"""Situations in which the tax authority gives a CTe no value."""
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
    "active",
    "company_id",
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
    """Step 1: exactly one live document of that key, ready for an order or ordered already.

    All that stops a posting before it changes anything in Odoo is found here.
    """
    dfe = await _only_document(work)
    orders = await orders_of(work, dfe)
    _check_usable(dfe, orders)
    xml = await _xml(work, dfe)
    _check_type(work, dfe, xml)
    company = _company(work, dfe, xml)
    amount = _amount(work, dfe)
    order = _live_order(dfe, orders)
    _check_status(dfe, order)
    return Done(
        {
            "dfe_id": dfe.id,
            "company_id": company.company_id,
            "carrier_id": dfe.ref("partner_id"),
            "amount": amount,
            "order_id": order.id if order else None,
            "order_name": order.text("name") if order else None,
            "bill_posted": order is not None and await _is_billed(work, order),
        },
        f"document {dfe.id}, {_status_name(dfe)}",
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
    dfe = await _read(work)
    line_id = only(dfe.refs("lines_ids"), "line", f"Document {dfe.id}")
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
    dfe = await _read(work)
    instalment_id = only(dfe.refs("dups_ids"), "instalment", f"Document {dfe.id}")
    [instalment] = await work.odoo.read(INSTALMENT, [instalment_id], ["cobr_dup_dvenc"])
    before = {"cobr_dup_dvenc": instalment.text("cobr_dup_dvenc")}
    after = {"cobr_dup_dvenc": work.subject.due_date.isoformat()}
    return Done() if before == after else Pending(write(INSTALMENT, instalment_id, before, after))


async def generate_order(work: FreightWork) -> Observation:
    """Step 6: exactly one live order of the document.

    Odoo's action is not idempotent and takes a minute or more: called twice it makes two orders.
    """
    dfe = await _read(work)
    order = _live_order(dfe, await orders_of(work, dfe))
    if order is not None:
        name = order.text("name")
        return Done({"order_id": order.id, "order_name": name}, f"order {name}")
    _check_status(dfe, order)
    return Pending(
        Call(
            model=DFE,
            method="action_gerar_po_dfe",
            args=[[dfe.id]],
            kwargs={"context": company_context(work, dfe)},
            before={"purchase_id": None, "l10n_br_status": dfe.text("l10n_br_status")},
            after={"purchase_id": "a new order", "l10n_br_status": "06"},
        )
    )


async def undo_generate_order(work: FreightWork) -> Observation:
    """No live order of the document is left, and the document is ready for another one."""
    if work.facts.dfe_id is None:
        return Done()
    dfe = await _read(work)
    for order in await orders_of(work, dfe):
        if order.text("state") != "cancel":
            return Pending(
                Call(
                    model=ORDER,
                    method="button_cancel",
                    args=[[order.id]],
                    kwargs={"context": company_context(work, dfe)},
                    before={"state": order.text("state")},
                    after={"state": "cancel"},
                )
            )
    status = dfe.text("l10n_br_status")
    if status in ORDERED:
        return Pending(
            write(DFE, dfe.id, {"l10n_br_status": status}, {"l10n_br_status": READY}),
        )
    return Done({"order_id": None, "order_name": None})


def company_context(work: FreightWork, dfe: Record | None = None) -> dict[str, Any]:
    """Odoo acts in the taker's company, not in the user's default one.

    A document that Odoo keeps in another company stays within reach by naming that one too.
    """
    company = known(work.facts.company_id)
    keeper = dfe.ref("company_id") if dfe else None
    companies = [company] if keeper in (None, company) else [company, keeper]
    return {"validate_analytic": True, "allowed_company_ids": companies}


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


async def _only_document(work: FreightWork) -> Record:
    key = work.subject.access_key
    documents = await work.odoo.search_read(
        DFE, [["protnfe_infnfe_chnfe", "=", key]], FIELDS, context={"active_test": False}
    )
    active = [document for document in documents if document.flag("active")]
    if len(active) == 1:
        return active[0]
    if active:
        raise Halt(
            "several_dfes",
            f"Odoo has {len(active)} active fiscal documents with the key {key} "
            f"(ids {_list(active)}). Archive all but one, then resume.",
            "needs_attention",
        )
    if documents:
        raise Halt(
            "dfe_archived",
            f"The fiscal document with the key {key} is archived in Odoo (id {_list(documents)}). "
            "Restore it there if it is to be posted, then resume.",
        )
    raise Halt(
        "dfe_not_found",
        f"Odoo has no fiscal document with the key {key}. Import the CTe in Odoo, then resume.",
    )


def _live_order(dfe: Record, orders: list[Record]) -> Record | None:
    """The document's order. One that was cancelled counts no more once the document is at 04."""
    live = [order for order in orders if order.text("state") != "cancel"]
    if len(live) > 1:
        raise Halt(
            "several_orders",
            f"Document {dfe.id} has {len(live)} live orders in Odoo ({_names(live)}). Cancel all "
            "but one, then resume.",
            "needs_attention",
        )
    if live:
        return live[0]
    if orders and dfe.text("l10n_br_status") in ORDERED:
        raise order_canceled(_names(orders), dfe.id)
    return None


def order_canceled(name: str | None, dfe_id: int) -> Halt:
    """The only order of the document was cancelled: a person says how to go on."""
    return Halt(
        "order_canceled",
        f"Order {name} was cancelled in Odoo. Set it to draft there, or for a new order set "
        f"document {dfe_id} back to status 04; then resume.",
        "needs_attention",
    )


async def _is_billed(work: FreightWork, order: Record) -> bool:
    bills = await work.odoo.read(BILL, order.refs("invoice_ids"), ("state",))
    return any(bill.text("state") == "posted" for bill in bills)


async def _read(work: FreightWork) -> Record:
    records = await work.odoo.read(DFE, [known(work.facts.dfe_id)], FIELDS)
    if not records:
        raise Halt(
            "dfe_not_found",
            "The fiscal document was deleted in Odoo. Import the CTe there again, then resume.",
        )
    return records[0]


def _written(dfe: Record, wanted: dict[str, Any], *, tolerated: bool = False) -> Observation:
    before = {name: dfe.text(name) for name in wanted}
    if before == wanted:
        return Done()
    return Pending(write(DFE, dfe.id, before, wanted), tolerated=tolerated)


def _check_usable(dfe: Record, orders: list[Record]) -> None:
    if not dfe.flag("is_cte"):
        raise Halt(
            "not_a_cte",
            f"Document {dfe.id} in Odoo is not a freight bill (CTe). Correct it there if it should "
            "be one, then resume.",
        )
    situation = dfe.text("l10n_br_situacao_dfe")
    if situation in NOT_VALID:
        raise _not_valid(dfe, NOT_VALID[situation], orders)
    if dfe.text("l10n_br_status") == REJECTED:
        raise Halt(
            "dfe_rejected",
            f"Document {dfe.id} is rejected in Odoo (status 07). If that was a mistake, set it "
            "back to 04 there, then resume.",
        )


def _not_valid(dfe: Record, situation: str, orders: list[Record]) -> Halt:
    live = [order for order in orders if order.text("state") != "cancel"]
    return Halt(
        f"dfe_{'canceled' if situation == 'cancelled' else situation}",
        f"The CTe is {situation} (document {dfe.id} in Odoo): there is nothing to pay. "
        + (
            f"Cancel order {_names(live)} and its bill in Odoo."
            if live
            else "If that is wrong, correct the document's situation in Odoo, then resume."
        ),
        "needs_attention" if live else "failed",
    )


def _check_status(dfe: Record, order: Record | None) -> None:
    status = dfe.text("l10n_br_status")
    if status == READY or (status in ORDERED and order is not None):
        return
    if status in ORDERED:
        raise Halt(
            "dfe_without_order",
            f"Document {dfe.id} is in status {status} ({_status_name(dfe)}) but has no order. "
            "Set it back to 04 in Odoo for a new one, then resume.",
            "needs_attention",
        )
    raise Halt(
        "dfe_not_ready",
        f"Document {dfe.id} is in status {status or 'none'} ({_status_name(dfe)}). Bring it to 04 "
        "in Odoo, then resume.",
    )


def _status_name(dfe: Record) -> str:
    return STATUS_NAMES.get(dfe.text("l10n_br_status") or "", "unknown")


@dataclass(frozen=True)
class _Xml:
    """The CTe in the XML that Odoo keeps; without one there may be an XML that cannot be read."""

    document: FreightDocument | None = None
    trouble: str | None = None


async def _xml(work: FreightWork, dfe: Record) -> _Xml:
    """The CTe as Odoo keeps it. It is not read where the posting itself came with the XML."""
    if work.subject.taker_cnpj is not None:
        return _Xml()
    [record] = await work.odoo.read(DFE, [dfe.id], ("l10n_br_xml_dfe",))
    content = record.text("l10n_br_xml_dfe")
    if content is None:
        return _Xml()
    try:
        return _Xml(fiscal_document.parse_cte(base64.b64decode(content)))
    except (InvalidInput, binascii.Error) as error:
        return _Xml(trouble=str(error))


def _company(work: FreightWork, dfe: Record, xml: _Xml) -> Company:
    cnpj = work.subject.taker_cnpj or _taker(dfe, xml)
    company = work.profile.companies.get(cnpj)
    if company is None:
        raise Halt(
            "unknown_company",
            f"The taker {cnpj} is none of the companies of this connection's profile. Add it there "
            "if it should be posted, then resume.",
        )
    return company


def _taker(dfe: Record, xml: _Xml) -> str:
    """The taker's CNPJ as Odoo has it, or as the document's XML says."""
    field = TAKER_FIELDS.get(dfe.text("cte_infcte_ide_toma3_toma") or "")
    text = dfe.text(field) if field else None
    if text:
        try:
            return fiscal_document.cnpj(text)
        except InvalidInput as error:
            raise _unknown_taker(dfe, str(error)) from error
    if xml.document is None:
        missing = "its fields do not name the taker, and it has no XML"
        raise _unknown_taker(dfe, xml.trouble or missing)
    return xml.document.taker.cnpj or xml.document.taker.cpf or "from abroad"


def _check_type(work: FreightWork, dfe: Record, xml: _Xml) -> None:
    """Refuse a CTe that was named by its key only and is of a type that is not posted.

    With the XML the type is known already. Without one in Odoo either, it matters only where the
    profile leaves out some type that has to be paid: a CTe of annulment, which has not, comes from
    no carrier any more.
    """
    if work.subject.taker_cnpj is not None:
        return
    if xml.document is None:
        if work.profile.takes_every_type:
            return
        raise _unknown_type(dfe, xml.trouble or "it has no XML")
    if xml.document.type not in work.profile.types:
        raise Halt(
            "wrong_type",
            f"The CTe of document {dfe.id} is of type {xml.document.type}; posted are: "
            f"{', '.join(work.profile.types)}. Cancel this posting; where another kind takes that "
            "type, post the CTe as that one.",
        )


def _unknown_type(dfe: Record, reason: str) -> Halt:
    return Halt(
        "unknown_type",
        f"Of what type the CTe of document {dfe.id} is cannot be told: {reason}. Attach the CTe's "
        "XML to the document in Odoo, then resume.",
    )


def _unknown_taker(dfe: Record, reason: str) -> Halt:
    return Halt(
        "unknown_taker",
        f"Who takes the freight of document {dfe.id} cannot be told: {reason}. Attach the CTe's "
        "XML to the document in Odoo, then resume.",
    )


def _amount(work: FreightWork, dfe: Record) -> Decimal:
    """The CTe's amount, which Odoo's document must show too."""
    total = dfe.number("nfe_infnfe_total_icmstot_vnf")
    amount = total if work.subject.amount is None else work.subject.amount
    if abs(amount - total) > work.profile.amount_tolerance:
        raise Halt(
            "amount_mismatch",
            f"The CTe is of R$ {amount}, document {dfe.id} in Odoo of R$ {total}. Correct the "
            "document in Odoo, then resume.",
            "needs_attention",
        )
    if amount <= 0:
        raise Halt(
            "no_amount",
            f"Document {dfe.id} in Odoo has the amount R$ {total}: there is nothing to pay. If "
            "that is wrong, correct it in Odoo, then resume.",
        )
    return amount


def only(ids: tuple[int, ...], what: str, holder: str) -> int:
    """The id of the one line or instalment that a freight bill has."""
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise Halt(f"no_{what}", f"{holder} has no {what} in Odoo. Add it there, then resume.")
    raise Halt(
        f"several_{what}s",
        f"{holder} has {len(ids)} {what}s in Odoo; a freight bill has one. Leave one with the "
        "whole amount in Odoo, or post it by hand; then resume.",
        "needs_attention",
    )


def _list(records: list[Record]) -> str:
    return ", ".join(str(record.id) for record in records)


def _names(records: list[Record]) -> str:
    return ", ".join(str(record.text("name")) for record in records)
