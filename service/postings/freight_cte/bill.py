"""The bill of a freight: created, taxed, configured, posted, verified. Steps 11 to 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.posting.step import Call, Done, Halt, Observation, Pending, perform, write
from service.postings.freight_cte import dfe, purchase_order
from service.postings.freight_cte.dfe import BILL, ORDER
from service.postings.freight_cte.freight import known, reference

if TYPE_CHECKING:
    from datetime import timedelta

    from service.odoo.records import Caller, Record
    from service.postings.freight_cte.freight import FreightWork

FIELDS = (
    "name",
    "state",
    "company_id",
    "amount_total",
    "l10n_br_compra_indcom",
    "l10n_br_situacao_nf",
    "invoice_date_due",
    "payment_reference",
    "write_date",
)


async def create(work: FreightWork) -> Observation:
    """Step 11: exactly one live bill of the order.

    Odoo 17 refuses a second bill, Odoo 19 makes an empty one: it is never asked twice.
    """
    order = await purchase_order.read(work)
    bills = await work.odoo.read(BILL, order.refs("invoice_ids"), FIELDS)
    live = [bill for bill in bills if bill.text("state") != "cancel"]
    if len(live) > 1:
        names = ", ".join(f"{bill.text('name')} (id {bill.id})" for bill in live)
        raise Halt(
            "several_bills",
            f"Order {order.text('name')} has {len(live)} live bills: {names}. Delete or cancel all "
            "but one in Odoo, then resume.",
            "needs_attention",
        )
    if live:
        bill = live[0]
        return Done({"bill_id": bill.id, "bill_name": bill.text("name")}, f"bill {bill.id}")
    if bills:
        raise _canceled(work, bills[0])
    return Pending(
        Call(
            model=ORDER,
            method="action_create_invoice",
            args=[[order.id]],
            kwargs={"context": dfe.company_context(work)},
            before={"invoice_ids": []},
            after={"invoice_ids": "a new bill"},
        )
    )


async def undo_create(work: FreightWork) -> Observation:
    """No live bill of the order is left. One that is posted can only be reversed by a person."""
    order_id = work.facts.order_id
    orders = await work.odoo.read(ORDER, [order_id], ("invoice_ids",)) if order_id else []
    ids = [bill for order in orders for bill in order.refs("invoice_ids")]
    bills = await work.odoo.read(BILL, ids, ("name", "state"))
    if posted := [bill for bill in bills if bill.text("state") == "posted"]:
        raise Halt(
            "bill_posted",
            f"Bill {posted[0].text('name')} (id {posted[0].id}) is posted: it cannot be undone "
            "from here. Resume the posting, or reverse the bill in Odoo.",
            "needs_attention",
        )
    for bill in bills:
        if bill.text("state") != "cancel":
            return Pending(
                Call(
                    model=BILL,
                    method="button_cancel",
                    args=[[bill.id]],
                    kwargs={"context": dfe.company_context(work)},
                    before={"state": bill.text("state")},
                    after={"state": "cancel"},
                )
            )
    return Done({"bill_id": None, "bill_name": None, "bill_posted": False})


async def taxes(work: FreightWork) -> Observation:
    """Step 12: the taxes of this bill were computed once. Only the call's answer shows it."""
    bill = await read(work)
    if bill.text("state") == "posted" or work.facts.taxed_bill_id == bill.id:
        return Done()
    return Pending(_tax_call(work, bill, "onchange_l10n_br_calcular_imposto"))


async def compute_taxes(odoo: Caller, call: Call, limit: timedelta) -> Done:
    """The act of step 12."""
    await perform(odoo, call, limit)
    return Done({"taxed_bill_id": call.ids[0]}, "taxes were computed")


async def configure(work: FreightWork) -> Observation:
    """Step 13: purpose, fiscal situation, due date and reference."""
    bill = await read(work)
    if bill.text("state") == "posted":
        return Done(message="the bill is posted already")
    wanted = {
        "l10n_br_compra_indcom": work.profile.bill_indicator,
        "l10n_br_situacao_nf": work.profile.bill_situation,
        "invoice_date_due": work.subject.due_date.isoformat(),
    }
    if text := reference(work):
        wanted["payment_reference"] = text
    before = {name: bill.text(name) for name in wanted}
    return Done() if before == wanted else Pending(write(BILL, bill.id, before, wanted))


async def taxes_again(work: FreightWork) -> Observation:
    """Step 14: taxes computed again after the header changed the bill's fiscal behaviour.

    They are current as long as the bill was not written to since.
    """
    bill = await read(work)
    if bill.text("state") == "posted":
        return Done(message="the bill is posted already")
    if work.facts.taxes_repeated_at == bill.moment("write_date"):
        return Done()
    return Pending(_tax_call(work, bill, "onchange_l10n_br_calcular_imposto_btn"))


async def compute_taxes_again(odoo: Caller, call: Call, limit: timedelta) -> Done:
    """The act of step 14."""
    await perform(odoo, call, limit)
    [bill] = await odoo.read(BILL, call.ids, ("write_date",))
    return Done({"taxes_repeated_at": bill.moment("write_date")}, "taxes were computed again")


async def post(work: FreightWork) -> Observation:
    """Step 15: posted, in the right company and with the CTe's amount."""
    bill = await read(work)
    posted = bill.text("state") == "posted"
    name = f"Bill {bill.text('name')} (id {bill.id})"
    advice = (
        "It is posted: set it to draft in Odoo and correct or cancel it, then resume"
        if posted
        else "Correct it in Odoo, or delete it for a new one, then resume"
    )
    purchase_order.check_company(work, bill, name, advice)
    purchase_order.check_amount(work, bill, name, advice)
    if posted:
        return Done({"bill_name": bill.text("name"), "bill_posted": True}, "the bill is posted")
    return Pending(
        Call(
            model=BILL,
            method="action_post",
            args=[[bill.id]],
            kwargs={"context": dfe.company_context(work)},
            before={"state": bill.text("state")},
            after={"state": "posted"},
        )
    )


async def verify(work: FreightWork) -> Observation:
    """Step 16: one live order and one posted bill, of the CTe's company and amount."""
    ordered = await dfe.generate_order(work)
    billed = await create(work)
    posted = await post(work)
    for observation in (ordered, billed, posted):
        if not isinstance(observation, Done):
            raise Halt(
                "undone_meanwhile",
                "Order or bill were changed in Odoo while the posting ended. Resume it.",
            )
    return Done(
        message=f"order {work.facts.order_name} and bill {work.facts.bill_name} verified",
    )


async def read(work: FreightWork) -> Record:
    """The bill; halts when it was deleted or cancelled."""
    records = await work.odoo.read(BILL, [known(work.facts.bill_id)], FIELDS)
    if not records:
        raise Halt(
            "bill_deleted",
            f"The bill of order {work.facts.order_name} was deleted in Odoo. Resume: it will be "
            "created again.",
            "needs_attention",
        )
    [bill] = records
    if bill.text("state") == "cancel":
        raise _canceled(work, bill)
    return bill


def _canceled(work: FreightWork, bill: Record) -> Halt:
    return Halt(
        "bill_canceled",
        f"The bill of order {work.facts.order_name} (id {bill.id}) was cancelled in Odoo. Set it "
        "to draft there, or delete it for a new one; then resume.",
        "needs_attention",
    )


def _tax_call(work: FreightWork, bill: Record, method: str) -> Call:
    return Call(
        model=BILL,
        method=method,
        args=[[bill.id]],
        kwargs={"context": dfe.company_context(work)},
        before={"amount_total": bill.number("amount_total")},
        after={"amount_total": "computed by Odoo"},
    )
