"""The purchase order of a freight bill: configured, confirmed, approved. Steps 7 to 10."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending, write
from service.postings.freight_cte.dfe import ORDER
from service.postings.freight_cte.freight import known, reference

if TYPE_CHECKING:
    from decimal import Decimal

    from service.odoo.records import Record
    from service.posting.step import StopStatus
    from service.postings.freight_cte.freight import FreightWork
    from service.postings.freight_cte.profile import Company, Destination

LINE = "purchase.order.line"
PARTNER = "res.partner"
FIELDS = (
    "name",
    "state",
    "company_id",
    "team_id",
    "payment_provider_id",
    "picking_type_id",
    "l10n_br_operacao_id",
    "partner_id",
    "partner_ref",
    "order_line",
    "invoice_ids",
    "amount_total",
    "is_current_approver",
)
OPEN = ("draft", "sent")
CONFIRMED = ("to approve", "purchase", "done")
LOOK_FOR_APPROVAL = timedelta(minutes=5)


async def configure(work: FreightWork) -> Observation:
    """Step 7: team, payment, company, picking type, operation, reference; then line and price.

    One write at a time, of what differs only: writing the company recomputes the prices of the
    lines from the vendor's price list, even when it is the same company. So the price, which is
    the document's total, is read again after the header and written last.
    """
    order = await read(work)
    if order.text("state") not in OPEN:
        return Done(message=f"order {order.text('name')} is confirmed already")
    company = work.profile.company(known(work.facts.company_id))
    operation = await _operation(work, order, company)
    wanted: dict[str, Any] = {
        "team_id": work.profile.team_id,
        "payment_provider_id": work.profile.payment_provider_id,
        "company_id": company.company_id,
        "picking_type_id": company.picking_type_id,
        "l10n_br_operacao_id": operation,
    }
    before: dict[str, Any] = {name: order.ref(name) for name in wanted}
    if reference(work):
        wanted["partner_ref"] = reference(work)
        before["partner_ref"] = order.text("partner_ref")
    if before != wanted:
        return Pending(write(ORDER, order.id, before, wanted))
    return await _configure_line(work, order, operation)


async def _configure_line(work: FreightWork, order: Record, operation: int) -> Observation:
    lines = await work.odoo.read(
        LINE, order.refs("order_line"), ("l10n_br_operacao_id", "price_unit", "product_qty")
    )
    if len(lines) != 1:
        raise Halt(
            "several_lines",
            f"Order {order.text('name')} has {len(lines)} lines; one is expected of a freight.",
            "needs_attention",
        )
    [line] = lines
    if line.ref("l10n_br_operacao_id") != operation:
        before = {"l10n_br_operacao_id": line.ref("l10n_br_operacao_id")}
        return Pending(write(LINE, line.id, before, {"l10n_br_operacao_id": operation}))
    price, amount = line.number("price_unit"), known(work.facts.amount)
    if abs(price - amount) > work.profile.amount_tolerance:
        return Pending(write(LINE, line.id, {"price_unit": price}, {"price_unit": amount}))
    return Done()


async def no_taxes(work: FreightWork) -> Observation:
    """Step 8: nothing; Odoo's tax action on an order sets its amounts to zero."""
    del work
    return Done()


async def confirm(work: FreightWork) -> Observation:
    """Step 9: confirmed, in the right company and with the right amount."""
    order = await read(work)
    is_open = order.text("state") in OPEN
    check_company(work, order, f"Order {order.text('name')}", confirmed=not is_open)
    check_amount(
        work,
        order.number("amount_total"),
        f"Order {order.text('name')}",
        status="failed" if is_open else "needs_attention",
    )
    if not is_open:
        return Done(message=f"order {order.text('name')} is {order.text('state')}")
    return Pending(
        Call(
            model=ORDER,
            method="button_confirm",
            args=[[order.id]],
            kwargs={"context": company_context(work)},
            before={"state": order.text("state")},
            after={"state": "purchase"},
        )
    )


async def approve(work: FreightWork) -> Observation:
    """Step 10: approved, by this user where it may, else by whoever may in Odoo."""
    order = await read(work)
    if order.text("state") != "to approve":
        return Done(message="no approval is pending")
    if not order.flag("is_current_approver"):
        raise Halt(
            "waiting_approval",
            f"Order {order.text('name')} waits for an approval in Odoo that the integration's "
            "user may not give. The posting goes on by itself once it is approved.",
            "waiting",
            LOOK_FOR_APPROVAL,
        )
    return Pending(
        Call(
            model=ORDER,
            method="button_approve",
            args=[[order.id]],
            before={"state": "to approve"},
            after={"state": "purchase"},
        )
    )


async def read(work: FreightWork) -> Record:
    """The order; halts when it was deleted or cancelled."""
    records = await work.odoo.read(ORDER, [known(work.facts.order_id)], FIELDS)
    if not records:
        raise Halt(
            "order_deleted",
            "The order was deleted in Odoo. Roll the posting back and resume to start again.",
            "needs_attention",
        )
    if records[0].text("state") == "cancel":
        raise Halt(
            "order_canceled",
            f"Order {records[0].text('name')} was cancelled in Odoo. Set it to draft again, then "
            "resume.",
            "needs_attention",
        )
    return records[0]


def company_context(work: FreightWork) -> dict[str, Any]:
    """Odoo acts in the document's company, not in the user's default one."""
    return {"validate_analytic": True, "allowed_company_ids": [known(work.facts.company_id)]}


def check_company(work: FreightWork, record: Record, name: str, *, confirmed: bool) -> None:
    """Halt with `wrong_company` unless the record belongs to the taker's company."""
    wanted = known(work.facts.company_id)
    if record.ref("company_id") == wanted:
        return
    raise Halt(
        "wrong_company",
        f"{name} belongs to company {record.ref_name('company_id')} "
        f"({record.ref('company_id')}), the CTe's taker is company {wanted}. "
        + (
            "Cancel it in Odoo and make the document ready for a new order, then resume."
            if confirmed
            else "Correct the company in Odoo, then resume."
        ),
        "needs_attention" if confirmed else "failed",
    )


def check_amount(
    work: FreightWork, amount: Decimal, name: str, *, status: StopStatus = "failed"
) -> None:
    """Halt with `amount_mismatch` unless the amount is the CTe's, within the tolerance."""
    wanted = known(work.facts.amount)
    if abs(amount - wanted) <= work.profile.amount_tolerance:
        return
    raise Halt(
        "amount_mismatch",
        f"{name} is of R$ {amount}, the CTe of R$ {wanted}. Correct it in Odoo, then resume.",
        status,
    )


async def _operation(work: FreightWork, order: Record, company: Company) -> int:
    """The company's own transport operation for this order.

    A transport operation of another company is replaced by the same case of this one; any other
    operation by the normal regime's, since the carrier's regime cannot be read from Odoo.
    """
    case = work.profile.transport_case(order.ref("l10n_br_operacao_id"))
    if case is not None:
        return int(getattr(company.operations, case))
    return company.operations.normal(await _destination(work, order, company))


async def _destination(work: FreightWork, order: Record, company: Company) -> Destination:
    """Interstate unless the carrier is known to be of the company's own state."""
    carrier = order.ref("partner_id")
    records = await work.odoo.read(PARTNER, [carrier], ("state_id",)) if carrier else []
    at_home = bool(records) and records[0].ref("state_id") == company.home_state_id
    return "intrastate" if at_home else "interstate"
