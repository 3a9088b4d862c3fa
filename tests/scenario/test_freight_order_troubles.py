"""What people and Odoo do to an order or a bill, and how the posting takes it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from service.simulator.arrivals import SeededDocument
    from tests.scenario.conftest import Office

DFE = "l10n_br_ciel_it_account.dfe"
ORDER = "purchase.order"
LINE = "purchase.order.line"
BILL = "account.move"
GENERATE = f"{DFE}.action_gerar_po_dfe"
CREATE = f"{ORDER}.action_create_invoice"


async def stopped_at(office: Office, document: SeededDocument, method: str) -> UUID:
    """A posting whose call of `method` was refused by Odoo; the calls so far are forgotten."""
    office.trouble("user_error", method, key=document.key, message="Not today.")
    posting_id = await office.post(document)
    posting = await office.run(posting_id)
    assert (posting.status, posting.code) == ("failed", "odoo_user_fault")
    assert "Not today." in (posting.message or "")
    office.forget_calls()
    return posting_id


async def finish(office: Office, posting_id: UUID, document: SeededDocument) -> None:
    """Resume, and find one live order and one live bill, posted."""
    posting = await office.resume(posting_id)
    assert (posting.status, posting.code) == ("completed", None)
    office.assert_posted(document)


# -- the order ---------------------------------------------------------------------------------


async def test_two_live_orders_need_a_person(office: Office) -> None:
    """The button was pressed twice in Odoo: neither order is taken, nothing is changed."""
    document = office.document()
    first, second = office.generate(document), office.generate(document)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "several_orders")
    assert "Cancel all but one" in (posting.message or "")
    assert office.calls() == {}

    office.person(ORDER, "button_cancel", [first])

    await finish(office, posting_id, document)
    assert office.order(document)["id"] == second


@pytest.mark.parametrize("refused", ["button_confirm", "action_create_invoice"])
@pytest.mark.parametrize("mended", ["draft", "new order", "new order, link removed"])
async def test_a_cancelled_order_needs_a_person(office: Office, refused: str, mended: str) -> None:
    """Cancelled before or after it was confirmed: it is set to draft, or a new one is wanted."""
    document = office.document()
    posting_id = await stopped_at(office, document, refused)
    cancelled = office.order(document)["id"]
    office.person(ORDER, "button_cancel", [cancelled])

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "order_canceled")
    assert f"set document {document.dfe_id} back to status 04" in (posting.message or "")
    assert office.calls() == {}

    if mended == "draft":
        office.person(ORDER, "button_draft", [cancelled])
    else:
        link = {} if mended == "new order" else {"purchase_id": False}
        office.person(DFE, "write", [document.dfe_id], {"l10n_br_status": "04", **link})

    await finish(office, posting_id, document)
    assert (office.order(document)["id"] == cancelled) == (mended == "draft")
    assert office.calls().get(GENERATE, 0) == (0 if mended == "draft" else 1)


@pytest.mark.parametrize("linked", [True, False])
async def test_a_deleted_order_needs_a_person(office: Office, *, linked: bool) -> None:
    """Without an order, a document that says it has one is not ordered again by itself."""
    office.simulator.world.configure({"link_order_to_document": linked})
    document = office.document()
    posting_id = await stopped_at(office, document, "button_confirm")
    _delete_order(office, document)

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "dfe_without_order")
    assert office.calls() == {}

    office.person(DFE, "write", [document.dfe_id], {"l10n_br_status": "04"})

    await finish(office, posting_id, document)


def _delete_order(office: Office, document: SeededDocument) -> None:
    order_id = office.order(document)["id"]
    office.person(ORDER, "button_cancel", [order_id])
    office.person(ORDER, "unlink", [order_id])


@pytest.mark.parametrize("cancelled_only", [True, False])
async def test_an_order_that_goes_while_it_is_configured_is_told(
    office: Office, *, cancelled_only: bool
) -> None:
    """Cancelled or deleted in the middle of a run: its own code, and a new order if wanted."""
    document = office.document()
    office.trouble("slow", "write", model=ORDER, seconds=0.3)

    def act() -> None:
        if cancelled_only:
            office.person(ORDER, "button_cancel", [office.order(document)["id"]])
        else:
            _delete_order(office, document)

    posting_id = await office.post(document)
    posting = await office.while_called(posting_id, f"{ORDER}.write", act)

    code = "order_canceled" if cancelled_only else "order_deleted"
    assert (posting.status, posting.code, posting.step) == ("needs_attention", code, 6)

    office.person(DFE, "write", [document.dfe_id], {"l10n_br_status": "04"})

    await finish(office, posting_id, document)


async def test_an_order_confirmed_in_the_wrong_company_needs_a_person(office: Office) -> None:
    """It cannot be moved any more: cancelled, with a new order wanted, the posting completes."""
    document = office.document(taker_company="hub")
    wrong = office.generate(document, "plant")
    office.person(ORDER, "button_confirm", [wrong])
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "wrong_company")
    assert "cancel it in Odoo and set document" in (posting.message or "")
    assert set(office.calls()) <= {f"{DFE}.write"}

    office.person(ORDER, "button_cancel", [wrong])
    office.person(DFE, "write", [document.dfe_id], {"l10n_br_status": "04"})

    await finish(office, posting_id, document)


def _write_order(**values: Any) -> Callable[[Office, SeededDocument], None]:
    def act(office: Office, document: SeededDocument) -> None:
        office.person(ORDER, "write", [office.order(document)["id"]], values)

    return act


def _write_line(**values: Any) -> Callable[[Office, SeededDocument], None]:
    def act(office: Office, document: SeededDocument) -> None:
        office.person(LINE, "write", [office.order_line(document)["id"]], values)

    return act


def _move_company(office: Office, document: SeededDocument) -> None:
    other = next(
        one.id
        for one in office.simulator.world.seed.companies.values()
        if one.id != document.taker_company_id
    )
    _write_order(company_id=other)(office, document)


def _other_operation(office: Office, document: SeededDocument) -> None:
    other = next(
        one
        for one in office.simulator.world.seed.companies.values()
        if one.id != document.taker_company_id
    )
    at_home = (
        document.carrier_state
        == office.simulator.world.seed.company(document.taker_company_id or 0).state
    )
    case = "intrastate_normal" if at_home else "interstate_normal"
    operation = getattr(other.operations, case)
    _write_order(l10n_br_operacao_id=operation)(office, document)
    _write_line(l10n_br_operacao_id=operation)(office, document)


@pytest.mark.parametrize(
    "upset",
    [
        pytest.param(_write_line(price_unit=1.0), id="price"),
        pytest.param(_write_line(product_qty=3.0), id="quantity"),
        pytest.param(_write_line(l10n_br_operacao_id=False), id="operation of the line"),
        pytest.param(_write_order(team_id=False), id="team"),
        pytest.param(_write_order(payment_provider_id=False), id="payment"),
        pytest.param(_write_order(partner_ref="another"), id="reference"),
        pytest.param(_write_order(state="sent"), id="sent to the carrier"),
        pytest.param(_move_company, id="company"),
        pytest.param(_other_operation, id="operation of another company"),
    ],
)
async def test_an_order_changed_before_it_is_confirmed_is_set_right(
    office: Office, upset: Callable[[Office, SeededDocument], None]
) -> None:
    """What the procedure sets, it sets again; a stopped posting does not confirm what it finds."""
    document = office.document()
    posting_id = await stopped_at(office, document, "button_confirm")
    upset(office, document)

    await finish(office, posting_id, document)
    assert GENERATE not in office.calls()
    assert office.order_line(document)["product_qty"] == 1.0


async def test_a_line_added_to_the_order_blocks_it(office: Office) -> None:
    """A freight has one line; the posting does not choose among several."""
    document = office.document()
    posting_id = await stopped_at(office, document, "button_confirm")
    order = office.order(document)
    product = office.simulator.world.seed.product_id
    values = {"order_id": order["id"], "product_id": product, "price_unit": 5.0}
    added = office.person(LINE, "create", values)

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "several_lines")
    assert f"Order {order['name']} has 2 lines" in (posting.message or "")
    assert f"{ORDER}.button_confirm" not in office.calls()

    office.person(LINE, "unlink", [added])

    await finish(office, posting_id, document)


async def test_an_amount_changed_at_the_gate_is_not_confirmed(office: Office) -> None:
    """Somebody changes the price after step 7: the order stays a draft; a resume sets it right."""
    document = office.document()
    office.trouble("lock_conflict", "button_confirm", seconds=0.3)
    posting_id = await office.post(document)

    posting = await office.while_called(
        posting_id,
        f"{ORDER}.button_confirm",
        lambda: _write_line(price_unit=1.0)(office, document),
    )

    assert (posting.status, posting.code) == ("needs_attention", "amount_mismatch")
    assert "Resume: it is set right again" in (posting.message or "")
    assert office.order(document)["state"] == "draft"

    await finish(office, posting_id, document)


async def test_a_price_changed_while_confirming_needs_a_person(office: Office) -> None:
    """The order is confirmed with a wrong amount: it is not billed."""
    document = office.document()
    office.trouble("slow", "button_confirm", seconds=0.3)
    posting_id = await office.post(document)

    posting = await office.while_called(
        posting_id,
        f"{ORDER}.button_confirm",
        lambda: _write_line(price_unit=1.0)(office, document),
    )

    assert (posting.status, posting.code) == ("needs_attention", "amount_mismatch")
    assert "is of R$ 1.00" in (posting.message or "") or "is of R$ 1.0" in (posting.message or "")
    assert office.bills(document) == []

    _write_line(price_unit=float(document.amount))(office, document)

    await finish(office, posting_id, document)


async def test_an_approval_that_the_user_may_give_is_given(office: Office) -> None:
    """Step 10 approves what step 9 left waiting."""
    office.simulator.world.configure({"approval_limit": 1, "approver": "user"})
    document = office.document()

    posting = await office.run(await office.post(document))

    assert posting.status == "completed"
    office.assert_posted(document)
    assert office.calls()[f"{ORDER}.button_approve"] == 1


async def test_an_approval_of_somebody_else_is_waited_for(office: Office) -> None:
    """The posting waits and looks again; approved meanwhile, it goes on by itself."""
    office.simulator.world.configure({"approval_limit": 1, "approver": "other"})
    document = office.document()
    posting_id = await office.post(document)

    waiting = await office.run(posting_id)
    still_waiting = await office.run(posting_id)

    for posting in (waiting, still_waiting):
        assert (posting.status, posting.code) == ("waiting", "waiting_approval")
        assert posting.ended_at is None
    assert "goes on by itself" in (waiting.message or "")
    assert f"{ORDER}.button_approve" not in office.calls()

    office.person(ORDER, "button_approve", [office.order(document)["id"]])

    assert (await office.run(posting_id)).status == "completed"
    office.assert_posted(document)


async def test_an_approval_that_is_refused_ends_the_waiting(office: Office) -> None:
    """Whoever was to approve cancels the order instead."""
    office.simulator.world.configure({"approval_limit": 1, "approver": "other"})
    document = office.document()
    posting_id = await office.post(document)
    await office.run(posting_id)
    office.person(ORDER, "button_cancel", [office.order(document)["id"]])

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "order_canceled")


async def test_missing_rights_in_the_middle_are_told(office: Office) -> None:
    """Odoo refuses to confirm for want of a right; once it is given, the posting goes on."""
    document = office.document()
    office.trouble("access_error", "button_confirm")
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", "odoo_access_denied")
    assert "Give the integration's user the right" in (posting.message or "")

    await finish(office, posting_id, document)


async def test_incompatible_companies_are_told_in_odoos_words(office: Office) -> None:
    """A picking type of another company in the profile: corrected there, the posting completes."""
    document = office.document(taker_company="hub")
    plant, hub = office.company("plant"), office.company("hub")
    setting = "picking_type_id = {}"
    swap = (setting.format(hub.picking_type_id), setting.format(plant.picking_type_id))
    await office.reconfigure(swap)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", "odoo_user_fault")
    assert "Incompatible companies" in (posting.message or "")

    await office.reconfigure()

    await finish(office, posting_id, document)


# -- the bill ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [19])
async def test_two_live_bills_need_a_person(office: Office) -> None:
    """Odoo 19 makes a second, empty bill when it is asked twice."""
    document = office.document()
    posting_id = await stopped_at(office, document, "action_post")
    office.person(ORDER, "action_create_invoice", [office.order(document)["id"]])

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "several_bills")
    assert "Delete or cancel all but one" in (posting.message or "")
    assert f"{BILL}.action_post" not in office.calls()

    [_, empty] = office.bills(document)
    office.person(BILL, "unlink", [empty["id"]])

    await finish(office, posting_id, document)


@pytest.mark.parametrize("mended", ["draft", "deleted"])
async def test_a_cancelled_bill_needs_a_person(office: Office, mended: str) -> None:
    """It is set to draft, or deleted for a new one."""
    document = office.document()
    posting_id = await stopped_at(office, document, "action_post")
    cancelled = office.bill(document)["id"]
    office.person(BILL, "button_cancel", [cancelled])

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "bill_canceled")
    assert CREATE not in office.calls()

    office.person(BILL, "button_draft" if mended == "draft" else "unlink", [cancelled])

    await finish(office, posting_id, document)
    assert len(office.bills(document)) == 1


async def test_a_bill_that_odoo_refuses_is_not_asked_for_again(office: Office) -> None:
    """A business rule, such as nothing to bill: told in Odoo's words, once; a person resumes."""
    document = office.document()
    says = "There is nothing to bill."
    office.trouble("user_error", "action_create_invoice", model=ORDER, message=says)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", "odoo_user_fault")
    assert says in str(posting.message)
    assert office.calls()[CREATE] == 1
    await office.resume(posting_id)
    office.assert_posted(document)


async def test_a_deleted_bill_is_created_again(office: Office) -> None:
    """Deleted by a person while the posting was stopped."""
    document = office.document()
    posting_id = await stopped_at(office, document, "action_post")
    office.person(BILL, "unlink", [office.bill(document)["id"]])

    await finish(office, posting_id, document)
    assert office.calls()[CREATE] == 1
    assert GENERATE not in office.calls()


@pytest.mark.parametrize(
    ("method", "code"), [("button_cancel", "bill_canceled"), ("unlink", "bill_deleted")]
)
async def test_a_bill_that_goes_while_it_is_configured_is_told(
    office: Office, method: str, code: str
) -> None:
    """Cancelled or deleted in the middle of a run: its own code."""
    document = office.document()
    office.trouble("slow", "write", model=BILL, seconds=0.3)
    posting_id = await office.post(document)

    posting = await office.while_called(
        posting_id,
        f"{BILL}.write",
        lambda: office.person(BILL, method, [office.bill(document)["id"]]),
    )

    assert (posting.status, posting.code) == ("needs_attention", code)
    assert office.order(document)["name"] in (posting.message or "")

    if method == "button_cancel":
        cancelled = [bill["id"] for bill in office.bills(document)]
        office.person(BILL, "button_draft", cancelled)

    await finish(office, posting_id, document)


async def test_a_bill_that_a_person_posted_is_taken_as_it_is(office: Office) -> None:
    """With the right amount nothing is left to do, and nothing is written to it."""
    document = office.document()
    posting_id = await stopped_at(office, document, "action_post")
    office.person(BILL, "action_post", [office.bill(document)["id"]])

    await finish(office, posting_id, document)
    assert office.calls() == {}


def _write_bill_price(office: Office, document: SeededDocument, price: float) -> None:
    domain = [["move_id", "=", office.bill(document)["id"]], ["display_type", "=", "product"]]
    lines = office.person("account.move.line", "search", domain)
    office.person("account.move.line", "write", lines, {"price_unit": price})


async def test_a_bill_that_a_person_posted_with_another_amount_is_told(office: Office) -> None:
    """It stays as it is until the person who posted it takes it back."""
    document = office.document()
    posting_id = await stopped_at(office, document, "action_post")
    _write_bill_price(office, document, 1.0)
    bill_id = office.bill(document)["id"]
    office.person(BILL, "action_post", [bill_id])

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "amount_mismatch")
    assert "It is posted: set it to draft" in (posting.message or "")
    assert office.calls() == {}

    office.person(BILL, "button_draft", [bill_id])
    _write_bill_price(office, document, float(document.amount))

    await finish(office, posting_id, document)


async def test_a_bill_changed_before_it_is_posted_is_not_posted(office: Office) -> None:
    """The last gate: the bill's amount is the CTe's, or a person looks at it."""
    document = office.document()
    posting_id = await stopped_at(office, document, "action_post")
    _write_bill_price(office, document, 1.0)

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "amount_mismatch")
    assert "Correct it in Odoo, or delete it" in (posting.message or "")
    assert office.bill(document)["state"] == "draft"

    office.person(BILL, "unlink", [office.bill(document)["id"]])

    await finish(office, posting_id, document)


@pytest.mark.parametrize("trouble", ["user_error", "fault_after_commit", "lock_conflict"])
async def test_taxes_that_fail_are_a_warning(office: Office, trouble: Any) -> None:
    """The posting completes, and the audit says which tax step was left out and why."""
    document = office.document()
    for method in ("onchange_l10n_br_calcular_imposto", "onchange_l10n_br_calcular_imposto_btn"):
        office.trouble(trouble, method, times=3)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert posting.status == "completed"
    office.assert_posted(document)
    skipped = {
        record.step: (record.status, record.code)
        for record in await office.ledger.history(posting_id)
        if record.action == "skip" and record.step != 8
    }
    code = "odoo_lock_conflict" if trouble == "lock_conflict" else "odoo_user_fault"
    assert skipped == {12: ("warning", code), 14: ("warning", code)}


async def test_a_cte_cancelled_after_its_order_was_made_needs_a_person(office: Office) -> None:
    """There is an order to be cancelled: the posting says which."""
    document = office.document()
    posting_id = await stopped_at(office, document, "button_confirm")
    office.person(DFE, "write", [document.dfe_id], {"l10n_br_situacao_dfe": "CANCELADA"})

    posting = await office.resume(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "dfe_canceled")
    assert f"Cancel order {office.order(document)['name']}" in (posting.message or "")
    assert office.calls() == {}


# -- the entry date ----------------------------------------------------------------------------


async def test_the_entry_date_is_that_of_the_day_of_the_resume(office: Office) -> None:
    """Resumed on a later day, the posting writes that day."""
    document = office.document()
    posting_id = await stopped_at(office, document, "button_confirm")
    assert office.dfe(document)["l10n_br_data_entrada"] == "2026-11-24"
    office.today = date(2026, 11, 25)

    await finish(office, posting_id, document)
    assert office.dfe(document)["l10n_br_data_entrada"] == "2026-11-25"


async def test_the_entry_date_of_a_posted_bill_stays(office: Office) -> None:
    """Once the bill is posted, its document is not touched."""
    document = office.document()
    posting_id = await stopped_at(office, document, "action_post")
    office.person(BILL, "action_post", [office.bill(document)["id"]])
    office.today = date(2026, 11, 25)

    await finish(office, posting_id, document)
    assert office.dfe(document)["l10n_br_data_entrada"] == "2026-11-24"
    assert office.calls() == {}


async def test_an_entry_date_that_odoo_refuses_is_no_obstacle_once_there_is_an_order(
    office: Office,
) -> None:
    """The posting goes on with the date of the day before."""
    document = office.document()
    posting_id = await stopped_at(office, document, "button_confirm")
    office.today = date(2026, 11, 25)
    office.trouble("user_error", "write", model=DFE)

    await finish(office, posting_id, document)
    assert office.dfe(document)["l10n_br_data_entrada"] == "2026-11-24"


async def test_an_entry_date_that_odoo_refuses_stops_a_new_posting(office: Office) -> None:
    """Without an order nothing speaks for going on."""
    document = office.document()
    posting_id = await stopped_at(office, document, "write")
    assert office.orders(document) == []

    await finish(office, posting_id, document)
