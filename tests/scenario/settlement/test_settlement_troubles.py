"""Settlements that Odoo, its users or the sheet make difficult: nothing is paid twice."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.factories.settling import ACTOR, LINE, MOVE, PAYMENT, STATEMENT_LINE, WIZARD

if TYPE_CHECKING:
    from service.posting.ledger import Posting
    from service.simulator.faults import Kind
    from tests.factories.settling import Cashier

Status = Literal["failed", "needs_attention"]


def stopped(posting: Posting) -> tuple[str, str | None]:
    """How a posting stopped; its message says what a person has to do."""
    assert posting.message
    assert "resume" in posting.message.lower() or "cancel" in posting.message.lower()
    return posting.status, posting.code


# -- the title ---------------------------------------------------------------------------------


async def test_a_title_that_is_not_there_is_told(cashier: Cashier) -> None:
    """A longer number that contains it is none, and neither is another instalment."""
    title = cashier.title("1000.00", number=14711, on_items=False)
    cashier.title("1000.00", "500.00", number=4711, instalments=True)

    by_number = await cashier.settle(title, number="471", principal="1000.00")
    by_instalment = await cashier.settle(title, number="4711", instalment=3, principal="1000.00")

    assert stopped(by_number) == ("failed", "title_not_found")
    assert stopped(by_instalment) == ("failed", "title_not_found")
    assert cashier.calls() == {}


async def test_a_draft_is_no_title(cashier: Cashier) -> None:
    """Once the document is posted the settlement goes on."""
    title = cashier.title("1000.00", posted=False)
    posting = await cashier.settle(title, principal="1000.00")
    assert stopped(posting) == ("failed", "title_not_found")

    cashier.person(MOVE, "action_post", [title.move_id])

    assert (await cashier.resume(posting.id)).status == "completed"


async def test_a_bill_is_no_invoice(cashier: Cashier) -> None:
    """The same number on the other side is another title."""
    title = cashier.title("1000.00", direction="payable")

    posting = await cashier.settle(title, direction="receivable", principal="1000.00")

    assert stopped(posting) == ("failed", "title_not_found")


async def test_several_titles_need_a_person(cashier: Cashier) -> None:
    """Two vendors have used the same number; none is paid by chance."""
    title, other = (
        cashier.title("500.00", number=4711, direction="payable", partner_id=partner_id)
        for partner_id in (101, 102)
    )

    posting = await cashier.settle(title, direction="payable", principal="500.00")

    assert stopped(posting) == ("needs_attention", "several_titles")
    assert posting.message is not None
    assert str(title.line_id) in posting.message
    assert str(other.line_id) in posting.message
    assert cashier.calls() == {}


async def test_a_number_that_fits_too_many_titles_needs_a_person(cashier: Cashier) -> None:
    """What was found is cut off, so nobody can say which are left out."""
    title = cashier.title("1000.00", number=7, on_items=False)
    for place in range(60):
        cashier.title("1000.00", number=1_000_007 + 10 * place, on_items=False)

    posting = await cashier.settle(title, principal="1000.00")

    assert stopped(posting) == ("needs_attention", "several_titles")


async def test_a_title_of_another_company_is_not_settled(cashier: Cashier) -> None:
    """The profile says whose titles are settled here."""
    title = cashier.title("1000.00", company="sister")
    values = {"journal_id": cashier.company("plant").journals.bank, "principal": "1000.00"}

    posting = await cashier.settle(title, **values)

    assert stopped(posting) == ("failed", "title_of_other_company")
    assert cashier.calls() == {}


async def test_a_title_named_by_a_wrong_id_is_not_settled(cashier: Cashier) -> None:
    """The number still has to be that of the title."""
    title = cashier.title("1000.00", number=4711)
    other = cashier.title("1000.00", number=4712)

    posting = await cashier.settle(title, principal="1000.00", title_id=other.line_id)

    assert stopped(posting) == ("failed", "title_not_found")


async def test_a_title_stays_the_one_that_was_found(cashier: Cashier) -> None:
    """A title of a preferred company that comes later is not taken in its place."""
    title = cashier.title("1000.00", number=4711, company="hub")
    cashier.trouble("user_error", LINE, "reconcile")
    posting = await cashier.settle(title, principal="1000.00")
    assert posting.status == "failed"
    newer = cashier.title("1000.00", number=4711, company="plant")

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed"
    assert (cashier.open(title), cashier.open(newer)) == (Decimal(0), Decimal("1000.00"))
    assert len(cashier.payments()) == 1


# -- amounts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "code"),
    [
        pytest.param({"principal": "1000.02"}, "amount_above_balance", id="principal"),
        pytest.param(
            {"principal": "980.00", "discount": "20.02"}, "amount_above_balance", id="discount"
        ),
        pytest.param(
            {"principal": "500.00", "agreement": "300.00", "returns": "200.02"},
            "amount_above_balance",
            id="agreement and return",
        ),
        pytest.param(
            {"principal": "500.00", "interest": "10.00"}, "interest_on_a_part", id="interest"
        ),
        pytest.param({"principal": "970.00", "charges": "29.50"}, "charges_differ", id="charges"),
        pytest.param(
            {"principal": "500.00", "charges": "10.00"}, "charges_differ", id="charges of a part"
        ),
    ],
)
async def test_amounts_that_do_not_fit_stop_before_anything_is_booked(
    cashier: Cashier, values: dict[str, str], code: str
) -> None:
    """All parts together are compared with the balance, exactly, before the first of them."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, **values)

    assert stopped(posting) == ("failed", code)
    assert cashier.calls() == {}
    assert cashier.open(title) == Decimal("1000.00")


async def test_the_wizard_never_writes_off_the_rest_of_a_title(cashier: Cashier) -> None:
    """Odoo's wizard would close a title of which half is paid, at the cost of interest."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, principal="500.00", interest="10.00")

    assert stopped(posting) == ("failed", "interest_on_a_part")
    assert cashier.open(title) == Decimal("1000.00")


async def test_interest_does_not_count_against_the_balance(cashier: Cashier) -> None:
    """It comes on top, however much it is."""
    title = cashier.title("10.00")

    posting = await cashier.settle(title, principal="10.00", interest="500.00")

    assert posting.status == "completed"


async def test_a_title_that_somebody_else_has_settled_is_left_alone(cashier: Cashier) -> None:
    """It was paid by hand before."""
    title = cashier.title("1000.00")
    cashier.pay_by_hand(title, "1000.00")

    posting = await cashier.settle(title, principal="1000.00")

    assert stopped(posting) == ("failed", "amount_above_balance")
    assert len(cashier.payments()) == 1


@pytest.mark.parametrize(
    ("model", "method", "code"),
    [
        pytest.param(PAYMENT, "create", "amount_above_balance", id="before it is posted"),
        pytest.param(PAYMENT, "action_post", "title_settled_meanwhile", id="before it is matched"),
    ],
)
async def test_a_title_that_is_paid_meanwhile_is_not_paid_twice(
    cashier: Cashier, model: str, method: str, code: str
) -> None:
    """Somebody settles it by hand while this settlement is under way."""
    title = cashier.title("1000.00")
    cashier.simulator.world.configure({"durations": {f"{model}.{method}": 0.2}})
    posting_id = await cashier.post(title, principal="1000.00")

    posting = await cashier.while_called(
        posting_id, f"{model}.{method}", lambda: cashier.pay_by_hand(title, "1000.00")
    )

    assert stopped(posting)[1] == code
    [ours, theirs] = sorted(cashier.payments(), key=lambda one: one["is_reconciled"])
    assert (ours["is_reconciled"], theirs["is_reconciled"]) == (False, True)
    assert f"{LINE}.reconcile" not in cashier.calls()


async def test_the_balance_is_read_again_before_each_part(cashier: Cashier) -> None:
    """The rest is paid by hand while the principal is matched: the discount is not even a draft."""
    title = cashier.title("1000.00")
    cashier.simulator.world.configure({"durations": {f"{LINE}.reconcile": 0.2}})
    posting_id = await cashier.post(title, principal="980.00", discount="20.00")

    posting = await cashier.while_called(
        posting_id, f"{LINE}.reconcile", lambda: cashier.pay_by_hand(title, "20.00")
    )

    assert stopped(posting) == ("failed", "amount_above_balance")
    assert cashier.calls()[f"{PAYMENT}.create"] == 1
    assert cashier.open(title) == Decimal(0)


async def test_a_title_freed_again_is_settled_after_a_resume(cashier: Cashier) -> None:
    """The payment that waits is used; none is made."""
    title = cashier.title("1000.00")
    cashier.simulator.world.configure({"durations": {f"{PAYMENT}.action_post": 0.2}})
    posting_id = await cashier.post(title, principal="1000.00")
    by_hand: list[int] = []

    def pay() -> None:
        by_hand.append(cashier.pay_by_hand(title, "1000.00"))

    await cashier.while_called(posting_id, f"{PAYMENT}.action_post", pay)
    cashier.person(PAYMENT, "action_draft", by_hand)

    posting = await cashier.resume(posting_id)

    assert posting.status == "completed"
    assert cashier.open(title) == Decimal(0)
    assert cashier.calls()[f"{PAYMENT}.create"] == 1


async def test_what_the_wizard_would_write_off_is_looked_at_again(cashier: Cashier) -> None:
    """A part is paid by hand while the wizard is open: the difference is no longer the interest."""
    title = cashier.title("1000.00")
    cashier.simulator.world.configure({"durations": {f"{WIZARD}.create": 0.2}})
    posting_id = await cashier.post(title, principal="1000.00", interest="10.00")

    posting = await cashier.while_called(
        posting_id, f"{WIZARD}.create", lambda: cashier.pay_by_hand(title, "300.00")
    )

    assert stopped(posting) == ("needs_attention", "difference_differs")
    assert f"{WIZARD}.action_create_payments" not in cashier.calls()
    assert cashier.open(title) == Decimal("700.00")


# -- payments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [17, 19])
async def test_a_payment_of_the_same_amount_is_not_taken_for_ours(cashier: Cashier) -> None:
    """Partner, amount and journal are the same; the reference is not."""
    title, other = cashier.title("1000.00"), cashier.title("1010.00")
    by_hand = cashier.pay_by_hand(other, "1010.00")

    posting = await cashier.settle(title, principal="1000.00", interest="10.00")

    assert posting.status == "completed"
    assert posting.facts["register_payment_id"] != by_hand
    assert [payment["amount"] for payment in cashier.payments()] == [1010.0, 1010.0]


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(("model", "method"), [(PAYMENT, "action_post"), (LINE, "reconcile")])
async def test_a_step_that_fails_after_the_payment_makes_no_second_one(
    cashier: Cashier, model: str, method: str
) -> None:
    """The payment is found by its reference, whatever failed after it was made."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", model, method, message="Some rule of accounting.")
    posting = await cashier.settle(title, principal="1000.00")
    assert stopped(posting) == ("failed", "odoo_user_fault")

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed"
    assert len(cashier.payments()) == 1
    assert cashier.calls()[f"{PAYMENT}.create"] == 1
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("version", [17, 19])
async def test_a_rollback_forgets_the_payment_and_still_makes_no_second_one(
    cashier: Cashier,
) -> None:
    """Nothing is remembered of it; its reference is found all the same."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile")
    posting = await cashier.settle(title, principal="1000.00", discount="0", agreement="0")
    await cashier.ledger.roll_back(posting.id, ACTOR)

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed"
    assert len(cashier.payments()) == 1


async def test_a_posting_canceled_and_sent_again_makes_no_second_payment(cashier: Cashier) -> None:
    """It is another posting of the same settlement, with the same references."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile")
    first = await cashier.settle(title, principal="1000.00")
    await cashier.ledger.cancel(first.id, ACTOR)

    second = await cashier.settle(title, principal="1000.00")

    assert second.id != first.id
    assert second.status == "completed"
    assert len(cashier.payments()) == 1


async def test_a_probe_that_fails_is_no_absence(cashier: Cashier) -> None:
    """Where Odoo cannot be asked for the payment, none is made."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile")
    posting = await cashier.settle(title, principal="1000.00")
    cashier.trouble("access_error", PAYMENT, "search_read")

    posting = await cashier.resume(posting.id)

    assert posting.code == "odoo_access_denied"
    assert len(cashier.payments()) == 1


async def test_two_payments_of_one_reference_need_a_person(cashier: Cashier) -> None:
    """Somebody has duplicated ours; once one is cancelled the settlement goes on."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", PAYMENT, "action_post")
    posting = await cashier.settle(title, principal="1000.00")
    [payment] = cashier.payments()
    twin = cashier.person(
        PAYMENT, "copy", [payment["id"]], {cashier.reference: payment[cashier.reference]}
    )

    posting = await cashier.resume(posting.id)
    assert stopped(posting) == ("needs_attention", "several_payments")
    cashier.person(PAYMENT, "action_cancel", [twin])

    assert (await cashier.resume(posting.id)).status == "completed"
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("version", [17, 19])
async def test_a_payment_that_somebody_changed_needs_a_person(cashier: Cashier) -> None:
    """A draft is no longer what was asked for; corrected, it is posted."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", PAYMENT, "action_post")
    posting = await cashier.settle(title, principal="600.00")
    [payment] = cashier.payments()
    cashier.person(PAYMENT, "write", [payment["id"]], {"amount": 700.0})

    posting = await cashier.resume(posting.id)
    assert stopped(posting) == ("needs_attention", "payment_differs")
    assert posting.message is not None
    assert "amount 700.0 in place of 600" in posting.message
    cashier.person(PAYMENT, "write", [payment["id"]], {"amount": 600.0})

    assert (await cashier.resume(posting.id)).status == "completed"
    assert cashier.open(title) == Decimal("400.00")


async def test_a_title_on_another_account_than_its_partners_is_told(cashier: Cashier) -> None:
    """The payment could not be matched with it, so it is not posted."""
    title = cashier.title("1000.00", posted=False)
    account_id = cashier.person(
        "account.account",
        "create",
        {
            "code": "1120100002",
            "name": "CLIENTES EXTERIOR",
            "account_type": "asset_receivable",
            "reconcile": True,
            "company_id": title.company_id,
        },
    )
    cashier.person(LINE, "write", [title.line_id], {"account_id": account_id})
    cashier.person(MOVE, "action_post", [title.move_id])

    posting = await cashier.settle(title, principal="1000.00")

    assert stopped(posting) == ("needs_attention", "payment_differs")
    assert posting.message is not None
    assert "destination_account_id" in posting.message
    assert f"{PAYMENT}.action_post" not in cashier.calls()


@pytest.mark.parametrize(("version", "named"), [(17, 19), (19, 17)])
async def test_a_wrong_version_in_the_profile_is_told(cashier: Cashier, named: int) -> None:
    """The first search for a payment asks for a field that is not there: nothing is booked."""
    await cashier.reconfigure({f"odoo_version = {cashier.version}": f"odoo_version = {named}"})

    posting = await cashier.settle(cashier.title(), principal="1000.00")

    assert posting.code == "odoo_invalid_field"
    assert cashier.calls() == {}


@pytest.mark.parametrize("version", [17, 19])
async def test_a_payment_that_somebody_cancelled_needs_a_person(cashier: Cashier) -> None:
    """It is not made again by itself; after a rollback it is."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", PAYMENT, "action_post")
    posting = await cashier.settle(title, principal="1000.00")
    [payment] = cashier.payments()
    cashier.person(PAYMENT, "action_cancel", [payment["id"]])

    posting = await cashier.resume(posting.id)
    assert stopped(posting) == ("needs_attention", "payment_gone")
    assert len(cashier.payments()) == 1
    await cashier.ledger.roll_back(posting.id, ACTOR)

    assert (await cashier.resume(posting.id)).status == "completed"
    assert len(cashier.payments()) == 2
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("version", [19])
async def test_a_payment_that_the_bank_rejected_needs_a_person(cashier: Cashier) -> None:
    """It is neither live nor cancelled."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile")
    posting = await cashier.settle(title, principal="1000.00")
    [payment] = cashier.payments()
    world = cashier.simulator.world
    world.environment()[PAYMENT].store(payment["id"], {"stage": "rejected"})

    posting = await cashier.resume(posting.id)

    assert stopped(posting) == ("needs_attention", "payment_rejected")


async def test_a_payment_matched_with_another_title_needs_a_person(cashier: Cashier) -> None:
    """It is not free any more."""
    title, other = cashier.title("1000.00"), cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile")
    posting = await cashier.settle(title, principal="1000.00")
    item = cashier.settling_item()
    cashier.person(LINE, "reconcile", [item["id"], other.line_id])

    posting = await cashier.resume(posting.id)
    assert stopped(posting) == ("needs_attention", "payment_used_elsewhere")
    cashier.person(LINE, "remove_move_reconcile", [item["id"]])

    assert (await cashier.resume(posting.id)).status == "completed"
    assert (cashier.open(title), cashier.open(other)) == (Decimal(0), Decimal("1000.00"))


async def test_what_somebody_has_reconciled_already_is_fine(cashier: Cashier) -> None:
    """A person has matched our payment with the title; the state says that all is there."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile")
    posting = await cashier.settle(title, principal="1000.00")
    item = cashier.settling_item()
    cashier.person(LINE, "reconcile", [item["id"], title.line_id])
    cashier.forget_calls()

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed"
    assert cashier.calls() == {}


@pytest.mark.parametrize("message", ["already reconciled", "Estes itens já foram conciliados."])
async def test_already_reconciled_is_told_by_the_state(cashier: Cashier, message: str) -> None:
    """A fault in any language is no failure where the effect is there."""
    title = cashier.title("1000.00")
    cashier.trouble("fault_after_commit", LINE, "reconcile", message=message)
    posting_id = await cashier.post(title, principal="1000.00")

    posting = await cashier.run(posting_id)

    assert posting.status == "completed"
    assert cashier.calls()[f"{LINE}.reconcile"] == 1


async def test_a_fault_that_only_sounds_like_success_is_a_failure(cashier: Cashier) -> None:
    """The words are right and the effect is missing."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile", message="is already reconciled")

    posting = await cashier.settle(title, principal="1000.00")

    assert stopped(posting) == ("failed", "odoo_user_fault")
    assert cashier.open(title) == Decimal("1000.00")


async def test_a_payment_of_the_wizard_that_was_taken_back_needs_a_person(
    cashier: Cashier,
) -> None:
    """It was complete when it was made, so somebody has undone it."""
    title = cashier.title("1000.00")
    posting_id = await cashier.post(title, principal="1000.00", interest="10.00")
    cashier.trouble("reply_lost", WIZARD, "action_create_payments")
    cashier.trouble("access_error", MOVE, "read", call=2)
    posting = await cashier.run(posting_id)
    assert posting.code == "odoo_access_denied"
    [payment] = cashier.payments()
    cashier.person(PAYMENT, "action_draft", [payment["id"]])

    posting = await cashier.resume(posting_id)

    assert stopped(posting) == ("needs_attention", "payment_taken_back")
    assert len(cashier.payments()) == 1


async def test_a_wizard_that_odoo_forgot_is_opened_again(cashier: Cashier) -> None:
    """Odoo deletes wizards after a while; that pays nothing twice."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", WIZARD, "action_create_payments")
    posting = await cashier.settle(title, principal="1000.00", interest="10.00")
    wizards = [wizard["id"] for wizard in cashier.records(WIZARD)]
    cashier.person(WIZARD, "unlink", wizards)

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed"
    assert cashier.calls()[f"{WIZARD}.create"] == 2
    assert len(cashier.payments()) == 1


async def test_a_journal_that_is_not_for_money_is_told(cashier: Cashier) -> None:
    """Odoo could not book a payment in it."""
    title = cashier.title("1000.00")
    journal_id = cashier.company().journals.miscellaneous

    posting = await cashier.settle(title, journal_id=journal_id, principal="1000.00")

    assert stopped(posting) == ("failed", "journal_not_for_money")
    assert cashier.calls() == {}


async def test_a_journal_that_is_not_there_is_told(cashier: Cashier) -> None:
    """Before anything is booked."""
    posting = await cashier.settle(cashier.title(), journal_id=99999, principal="1000.00")

    assert stopped(posting) == ("failed", "journal_not_found")
    assert cashier.calls() == {}


@pytest.mark.parametrize(
    ("changes", "values", "code"),
    [
        pytest.param(
            {"discount_journals = { 1 = 14, 3 = 34, 4 = 44 }": "discount_journals = { 3 = 34 }"},
            {"principal": "900.00", "discount": "100.00"},
            "no_journal",
            id="journal",
        ),
        pytest.param(
            {"interest_accounts = { 1 = 20109,": "interest_accounts = { 5 = 20109,"},
            {"principal": "1000.00", "interest": "10.00"},
            "no_account",
            id="account",
        ),
    ],
)
async def test_a_profile_that_lacks_a_company_is_told(
    cashier: Cashier, changes: dict[str, str], values: dict[str, str], code: str
) -> None:
    """Before anything is booked; once the profile has it, the posting goes on."""
    await cashier.reconfigure(changes)
    posting = await cashier.settle(cashier.title(), **values)
    assert stopped(posting) == ("failed", code)
    assert cashier.calls() == {}
    await cashier.reconfigure()

    assert (await cashier.resume(posting.id)).status == "completed"


# -- discounts ---------------------------------------------------------------------------------


def discount_by_hand(cashier: Cashier, partner_id: int, reference: str, amount: float) -> int:
    """A person books a discount; answers the item that settles titles."""
    company = cashier.company()
    values = {
        "payment_type": "inbound",
        "partner_type": "customer",
        "partner_id": partner_id,
        "amount": amount,
        "journal_id": company.journals.discount,
        "company_id": company.id,
        cashier.reference: reference,
    }
    payment_id = cashier.person(PAYMENT, "create", values)
    cashier.person(PAYMENT, "action_post", [payment_id])
    domain = [["payment_id", "=", payment_id], ["account_type", "=", "asset_receivable"]]
    [item] = cashier.records(LINE, *domain)
    item_id: int = item["id"]
    return item_id


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("matched", [True, False])
async def test_a_discount_booked_by_hand_is_not_booked_again(
    cashier: Cashier, *, matched: bool
) -> None:
    """Whether it has settled the title or still waits."""
    title = cashier.title("1000.00", number=4711)
    item = discount_by_hand(cashier, title.partner_id, "DESCONTO NF 4711", 20.0)
    if matched:
        cashier.person(LINE, "reconcile", [item, title.line_id])

    posting = await cashier.settle(title, principal="950.00", discount="20.00")

    assert stopped(posting) == ("needs_attention", "discount_exists")
    assert cashier.calls() == {}


async def test_a_discount_of_another_title_is_no_hindrance(cashier: Cashier) -> None:
    """Its number contains ours, or it has settled another instalment."""
    title = cashier.title("500.00", "500.00", number=4711)
    discount_by_hand(cashier, title.partner_id, "DESCONTO NF 14711", 20.0)
    item = discount_by_hand(cashier, title.partner_id, "DESCONTO NF 4711", 20.0)
    cashier.person(LINE, "reconcile", [item, title.line_ids[1]])

    posting = await cashier.settle(title, principal="480.00", discount="20.00")

    assert posting.status == "completed", posting.message
    assert cashier.open(title) == Decimal(0)


async def test_two_settlements_may_each_have_a_discount(cashier: Cashier) -> None:
    """The first one's is not taken for one that was booked by hand."""
    title = cashier.title("1000.00")
    for place in (1, 2):
        posting = await cashier.settle(
            title, reference=f"line {place}", principal="480.00", discount="20.00"
        )
        assert posting.status == "completed", posting.message

    assert cashier.open(title) == Decimal(0)


# -- statement lines ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "company", "code"),
    [
        pytest.param("-499.00", "plant", "statement_amount_differs", id="amount"),
        pytest.param("500.00", "plant", "statement_amount_differs", id="the other way"),
        pytest.param("-500.00", "south", "statement_of_other_journal", id="journal"),
    ],
)
async def test_a_statement_line_of_something_else_needs_a_person(
    cashier: Cashier, amount: str, company: str, code: str
) -> None:
    """The payment is made; its match is left to a person, and the line as it is."""
    title = cashier.title("500.00", direction="payable")
    line_id = cashier.movement(amount, company)
    values = {"direction": "payable", "principal": "500.00", "statement_line_id": line_id}

    posting = await cashier.settle(title, **values)

    assert stopped(posting) == ("needs_attention", code)
    assert len(cashier.payments()) == 1
    assert cashier.open(title) == Decimal(0)
    assert f"{MOVE}.button_draft" not in cashier.calls()


async def test_a_statement_line_that_is_not_there_needs_a_person(cashier: Cashier) -> None:
    """The payment is made all the same."""
    title = cashier.title("500.00", direction="payable")
    values = {"direction": "payable", "principal": "500.00", "statement_line_id": 99999}

    posting = await cashier.settle(title, **values)

    assert stopped(posting) == ("needs_attention", "statement_line_not_found")
    assert cashier.open(title) == Decimal(0)


async def test_a_statement_line_stopped_in_draft_is_ended(cashier: Cashier) -> None:
    """The resume does not start another draft cycle."""
    title = cashier.title("500.00", direction="payable")
    line_id = cashier.movement("-500.00")
    values = {"direction": "payable", "principal": "500.00", "statement_line_id": line_id}
    cashier.trouble("user_error", MOVE, "action_post")
    posting = await cashier.settle(title, **values)
    assert posting.code == "odoo_user_fault"
    assert cashier.one(STATEMENT_LINE, line_id)["state"] == "draft"

    posting = await cashier.resume(posting.id)

    assert posting.status == "completed"
    assert cashier.calls()[f"{MOVE}.button_draft"] == 1
    assert cashier.calls()[f"{LINE}.write"] == 1
    assert cashier.one(STATEMENT_LINE, line_id)["is_reconciled"] is True


async def test_a_statement_line_that_a_person_has_explained_is_left_alone(
    cashier: Cashier,
) -> None:
    """It is on another account; a draft would not bring that back."""
    title = cashier.title("500.00", direction="payable")
    line_id = cashier.movement("-500.00")
    entry = cashier.one(STATEMENT_LINE, line_id)["move_id"][0]
    accounts = cashier.company().accounts
    [item] = cashier.records(LINE, ["move_id", "=", entry], ["account_id", "=", accounts.suspense])
    cashier.person(MOVE, "button_draft", [entry])
    cashier.person(LINE, "write", [item["id"]], {"account_id": accounts.charges})
    cashier.person(MOVE, "action_post", [entry])
    values = {"direction": "payable", "principal": "500.00", "statement_line_id": line_id}

    posting = await cashier.settle(title, **values)

    assert stopped(posting) == ("needs_attention", "statement_line_used")
    assert f"{MOVE}.button_draft" not in cashier.calls()


async def test_a_payment_matched_with_another_statement_line_is_told(cashier: Cashier) -> None:
    """Each is matched once."""
    title = cashier.title("500.00", direction="payable")
    values = {"direction": "payable", "principal": "500.00"}
    theirs, ours = cashier.movement("-500.00"), cashier.movement("-500.00")
    cashier.trouble("user_error", STATEMENT_LINE, "write")
    posting = await cashier.settle(title, **values, statement_line_id=ours)
    accounts = cashier.company().accounts
    entry = cashier.one(STATEMENT_LINE, theirs)["move_id"][0]
    pending = accounts.outstanding_payments
    [money] = cashier.records(LINE, ["payment_id", "!=", False], ["account_id", "=", pending])
    [item] = cashier.records(LINE, ["move_id", "=", entry], ["account_id", "=", accounts.suspense])
    cashier.person(MOVE, "button_draft", [entry])
    cashier.person(LINE, "write", [item["id"]], {"account_id": pending})
    cashier.person(MOVE, "action_post", [entry])
    cashier.person(LINE, "reconcile", [item["id"], money["id"]])

    posting = await cashier.resume(posting.id)

    assert stopped(posting) == ("needs_attention", "payment_matched_elsewhere")


async def test_two_payments_do_not_share_a_statement_line(cashier: Cashier) -> None:
    """The line shows the money of the first one."""
    first, second = (cashier.title("500.00", direction="payable") for _ in range(2))
    line_id = cashier.movement("-500.00")
    values = {"direction": "payable", "principal": "500.00", "statement_line_id": line_id}
    assert (await cashier.settle(first, **values)).status == "completed"
    cashier.forget_calls()

    posting = await cashier.settle(second, **values)

    assert stopped(posting) == ("needs_attention", "statement_line_used")
    assert f"{MOVE}.button_draft" not in cashier.calls()
    assert cashier.one(STATEMENT_LINE, line_id)["is_reconciled"] is True


# -- compensation ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [17, 19])
async def test_a_draft_payment_is_cancelled_by_a_compensation(cashier: Cashier) -> None:
    """Nothing of it is left."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", PAYMENT, "action_post")
    posting = await cashier.settle(title, principal="1000.00")

    await cashier.ledger.compensate(posting.id, ACTOR)
    posting = await cashier.run(posting.id)

    assert posting.status == "rolled_back"
    [payment] = cashier.payments()
    assert payment["state"] in {"cancel", "canceled"}


async def test_a_posted_payment_is_left_to_a_person_by_a_compensation(cashier: Cashier) -> None:
    """Money has moved."""
    title = cashier.title("1000.00")
    cashier.trouble("user_error", LINE, "reconcile")
    posting = await cashier.settle(title, principal="1000.00")

    await cashier.ledger.compensate(posting.id, ACTOR)
    posting = await cashier.run(posting.id)

    assert stopped(posting) == ("needs_attention", "payment_posted")


@pytest.mark.parametrize("kind", ["gateway_502", "reply_lost", "late_success"])
async def test_interest_alone_is_never_booked_twice(cashier: Cashier, kind: Kind) -> None:
    """Its entry has a reference of its own, by which it is found."""
    title = cashier.title("1000.00")
    more: dict[str, Any] = {} if kind == "reply_lost" else {"seconds": 0.1, "after": 0.3}
    cashier.trouble(kind, MOVE, "create", **more)

    posting = await cashier.settle(title, interest="7.50")

    assert posting.status == "completed"
    assert cashier.calls() == {f"{MOVE}.create": 1, f"{MOVE}.action_post": 1}
