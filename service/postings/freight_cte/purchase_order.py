"""The purchase order of a freight bill: configured, confirmed, approved. Steps 7 to 10."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.posting.step import Call, Done, Halt, Observation, Pending, write
from service.postings.freight_cte.dfe import ORDER, company_context, only, order_canceled
from service.postings.freight_cte.freight import known, reference

if TYPE_CHECKING:
    from service.odoo.records import Record
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
    line_id = only(order.refs("order_line"), "line", f"Order {order.text('name')}")
    [line] = await work.odoo.read(
        LINE, [line_id], ("l10n_br_operacao_id", "product_qty", "price_unit")
    )
    wanted = {"l10n_br_operacao_id": operation, "product_qty": Decimal(1)}
    before = {
        "l10n_br_operacao_id": line.ref("l10n_br_operacao_id"),
        "product_qty": line.number("product_qty"),
    }
    if before != wanted:
        return Pending(write(LINE, line.id, before, wanted))
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
    name, state = f"Order {order.text('name')}", order.text("state")
    if state in OPEN:
        advice = "Resume: it is set right again, or correct it in Odoo first"
    else:
        advice = (
            f"It is confirmed: cancel it in Odoo and set document {work.facts.dfe_id} back to "
            "status 04 for a new order, then resume"
        )
    check_company(work, order, name, advice)
    check_amount(work, order, name, advice)
    if state not in OPEN:
        return Done(message=f"order {order.text('name')} is {state}")
    return Pending(
        Call(
            model=ORDER,
            method="button_confirm",
            args=[[order.id]],
            kwargs={"context": company_context(work)},
            before={"state": state},
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
            timedelta(seconds=work.profile.approval_look_seconds),
        )
    return Pending(
        Call(
            model=ORDER,
            method="button_approve",
            args=[[order.id]],
            kwargs={"context": company_context(work)},
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
            f"Order {work.facts.order_name} was deleted in Odoo. Set document {work.facts.dfe_id} "
            "back to status 04 for a new one, then resume.",
            "needs_attention",
        )
    [order] = records
    if order.text("state") == "cancel":
        raise order_canceled(order.text("name"), known(work.facts.dfe_id))
    return order


def check_company(work: FreightWork, record: Record, name: str, advice: str) -> None:
    """Halt with `wrong_company` unless the record belongs to the taker's company."""
    wanted, found = known(work.facts.company_id), record.ref("company_id")
    if found != wanted:
        raise Halt(
            "wrong_company",
            f"{name} belongs to company {record.ref_name('company_id')} ({found}), the CTe's "
            f"taker is company {wanted}. {advice}.",
            "needs_attention",
        )


def check_amount(work: FreightWork, record: Record, name: str, advice: str) -> None:
    """Halt with `amount_mismatch` unless the total is the CTe's, within the tolerance."""
    wanted, found = known(work.facts.amount), record.number("amount_total")
    if abs(found - wanted) > work.profile.amount_tolerance:
        raise Halt(
            "amount_mismatch",
            f"{name} is of R$ {found}, the CTe of R$ {wanted}. {advice}.",
            "needs_attention",
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
