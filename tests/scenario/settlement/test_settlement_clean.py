"""Settlements that meet no trouble: what is called, and what Odoo has in the end."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from service.posting import plan as plans
from tests.factories.settling import LINE, MOVE, PAYMENT, STATEMENT_LINE

if TYPE_CHECKING:
    from uuid import UUID

    from service.posting.ledger import Posting
    from service.simulator.titles import SeededTitle
    from tests.factories.settling import Cashier

LAST = 29
CREATE, POST = f"{PAYMENT}.create", f"{PAYMENT}.action_post"
RECONCILE = f"{LINE}.reconcile"
REGISTER, REGISTERED = (
    f"{PAYMENT}.register.create",
    f"{PAYMENT}.register.action_create_payments",
)
PRINCIPAL = {CREATE: 1, POST: 1, RECONCILE: 1}
"""All that the payment of a principal changes; reading aside, nothing else is called."""


def done(posting: Posting) -> bool:
    """Whether a posting came to its end."""
    assert (posting.status, posting.code) == ("completed", None), posting.message
    return posting.step == LAST


async def changed(cashier: Cashier, posting_id: UUID) -> list[str]:
    """The fields of title and document that the settlement has changed."""
    posting = await cashier.ledger.get(posting_id)
    fields: list[str] = posting.facts["changed_fields"]
    return fields


def balances(cashier: Cashier, payment: dict[str, Any]) -> dict[int, float]:
    """What a payment has booked, by account."""
    items = cashier.records(LINE, ["payment_id", "=", payment["id"]])
    return {item["account_id"][0]: item["balance"] for item in items}


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("company", ["plant", "south", "hub"])
async def test_a_receivable_is_paid_with_each_call_once(cashier: Cashier, company: str) -> None:
    """A payment is created, posted and reconciled; the title is closed."""
    title = cashier.title("1000.00", company=company)
    settlement = cashier.settlement(title, principal="1000.00")

    posting = await cashier.run(await cashier.accept(settlement))

    assert done(posting)
    assert cashier.calls() == PRINCIPAL
    [payment] = cashier.payments("principal", of=settlement)
    assert (payment["amount"], payment["date"]) == (1000.0, "2026-11-20")
    assert (payment["payment_type"], payment["partner_type"]) == ("inbound", "customer")
    assert payment["partner_id"][0] == title.partner_id
    assert payment["company_id"][0] == title.company_id
    assert cashier.open(title) == Decimal(0)
    assert cashier.one(MOVE, title.move_id)["payment_state"] == "paid"


@pytest.mark.parametrize("version", [17, 19])
async def test_a_payable_is_paid_the_other_way(cashier: Cashier) -> None:
    """Money goes out to a vendor and settles a bill."""
    title = cashier.title("500.00", direction="payable")

    posting = await cashier.settle(title, direction="payable", principal="500.00")

    assert done(posting)
    assert cashier.calls() == PRINCIPAL
    [payment] = cashier.payments()
    assert (payment["payment_type"], payment["partner_type"]) == ("outbound", "supplier")
    accounts = cashier.company().accounts
    assert balances(cashier, payment) == {
        accounts.payable: 500.0,
        accounts.outstanding_payments: -500.0,
    }
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("direction", ["receivable", "payable"])
async def test_parts_have_payments_of_their_own(cashier: Cashier, direction: str) -> None:
    """Discount, agreement and return are booked in their journals; nothing is left of the title."""
    title = cashier.title("1000.00", direction=direction)
    settlement = cashier.settlement(
        title,
        direction=direction,
        principal="900.00",
        discount="50.00",
        agreement="30.00",
        returns="20.00",
    )

    posting = await cashier.run(await cashier.accept(settlement))

    assert done(posting)
    assert cashier.calls() == {CREATE: 4, POST: 4, RECONCILE: 4}
    journals = cashier.company().journals
    booked = {payment["journal_id"][0]: payment["amount"] for payment in cashier.payments()}
    assert booked == {
        journals.bank: 900.0,
        journals.discount: 50.0,
        journals.agreement: 30.0,
        journals.returns: 20.0,
    }
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("part", ["discount", "agreement", "returns"])
async def test_a_part_needs_no_principal(cashier: Cashier, part: str) -> None:
    """Goods may come back without any money, and no journal is asked for."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, journal_id=None, **{part: "120.00"})

    assert done(posting)
    assert cashier.calls() == PRINCIPAL
    assert cashier.open(title) == Decimal("880.00")


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("direction", "account", "sign"),
    [("receivable", "interest_income", -1), ("payable", "interest_expense", 1)],
)
async def test_interest_is_paid_by_the_wizard(
    cashier: Cashier, direction: str, account: str, sign: int
) -> None:
    """One payment of both; the interest is on its account, and nothing is posted twice."""
    title = cashier.title("1000.00", direction=direction)
    values = {"direction": direction, "principal": "1000.00", "interest": "12.34"}

    posting = await cashier.settle(title, **values)

    assert done(posting)
    assert cashier.calls() == {REGISTER: 1, REGISTERED: 1}
    [payment] = cashier.payments()
    assert payment["amount"] == 1012.34
    account_id = getattr(cashier.company().accounts, account)
    assert balances(cashier, payment)[account_id] == sign * 12.34
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("version", [17, 19])
async def test_charges_are_written_off_by_the_wizard(cashier: Cashier) -> None:
    """The bank keeps something back, and the title is closed all the same."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, principal="970.00", charges="30.00")

    assert done(posting)
    [payment] = cashier.payments()
    assert payment["amount"] == 970.0
    assert balances(cashier, payment)[cashier.company().accounts.charges] == 30.0
    assert cashier.open(title) == Decimal(0)


async def test_charges_may_differ_from_the_sheet_by_little(cashier: Cashier) -> None:
    """What is left of the title is written off: five cents, or one per cent of the charges."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, principal="970.00", charges="29.75")

    assert done(posting)
    [payment] = cashier.payments()
    assert balances(cashier, payment)[cashier.company().accounts.charges] == 30.0


async def test_the_wizard_comes_after_the_other_parts(cashier: Cashier) -> None:
    """A discount is booked as such first, or the wizard would write it off as interest."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, principal="980.00", discount="20.00", interest="5.00")

    assert done(posting)
    discount, registered = cashier.payments()
    assert (discount["amount"], registered["amount"]) == (20.0, 985.0)
    assert balances(cashier, registered)[cashier.company().accounts.interest_income] == -5.0
    assert cashier.open(title) == Decimal(0)


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("direction", "account", "balance"),
    [("receivable", "interest_income", -7.5), ("payable", "interest_expense", 7.5)],
)
async def test_interest_alone_is_an_entry(
    cashier: Cashier, direction: str, account: str, balance: float
) -> None:
    """It settles nothing of the title, so there is no payment."""
    title = cashier.title("1000.00", direction=direction)

    posting = await cashier.settle(title, direction=direction, interest="7.50")

    assert done(posting)
    assert cashier.calls() == {f"{MOVE}.create": 1, f"{MOVE}.action_post": 1}
    entry = cashier.one(MOVE, posting.facts["interest_entry_id"])
    items = cashier.records(LINE, ["move_id", "=", entry["id"]])
    accounts = cashier.company().accounts
    assert entry["state"] == "posted"
    assert {item["account_id"][0]: item["balance"] for item in items} == {
        getattr(accounts, account): balance,
        accounts.bank: -balance,
    }
    assert cashier.payments() == []


@pytest.mark.parametrize("version", [17, 19])
async def test_a_payable_is_matched_with_the_bank_statement(cashier: Cashier) -> None:
    """One draft cycle, the account last, and the match at the very end."""
    title = cashier.title("500.00", direction="payable")
    line_id = cashier.movement("-500.00")
    values = {"direction": "payable", "principal": "500.00", "statement_line_id": line_id}
    posting_id = await cashier.post(title, **values)

    posting = await cashier.run(posting_id)

    assert done(posting)
    assert cashier.calls() == {
        CREATE: 1,
        POST: 1,
        RECONCILE: 2,
        f"{MOVE}.button_draft": 1,
        f"{STATEMENT_LINE}.write": 1,
        f"{LINE}.write": 1,
        f"{MOVE}.action_post": 1,
    }
    assert await cashier.steps(posting_id, "start") == [7, 8, 9, 23, 24, 26, 27, 28]
    line = cashier.one(STATEMENT_LINE, line_id)
    assert (line["is_reconciled"], line["state"]) == (True, "posted")
    assert line["partner_id"][0] == title.partner_id
    [payment] = cashier.payments()
    assert payment["is_matched"] is True
    assert payment["state"] == ("posted" if cashier.version == 17 else "paid")
    assert cashier.open(title) == Decimal(0)


async def test_a_receivable_is_matched_with_the_bank_statement(cashier: Cashier) -> None:
    """With the interest, which the bank shows in one amount."""
    title = cashier.title("500.00")
    line_id = cashier.movement("503.00")

    posting = await cashier.settle(
        title, principal="500.00", interest="3.00", statement_line_id=line_id
    )

    assert done(posting)
    assert cashier.one(STATEMENT_LINE, line_id)["is_reconciled"] is True


async def test_a_part_of_a_title_leaves_the_rest_open(cashier: Cashier) -> None:
    """Less than is owed is normal; nothing is written off."""
    title = cashier.title("1000.00")

    posting = await cashier.settle(title, principal="333.33")

    assert done(posting)
    assert cashier.open(title) == Decimal("666.67")
    assert cashier.one(LINE, title.line_id)["reconciled"] is False


async def test_two_settlements_of_one_title_are_two_payments(cashier: Cashier) -> None:
    """The caller's reference tells them apart, also when all else is the same."""
    title = cashier.title("1000.00")

    first = await cashier.settle(title, reference="line 1", principal="400.00")
    second = await cashier.settle(title, reference="line 2", principal="400.00")

    assert done(first)
    assert done(second)
    assert [payment["amount"] for payment in cashier.payments()] == [400.0, 400.0]
    assert cashier.open(title) == Decimal("200.00")


async def test_the_same_settlement_again_changes_nothing(cashier: Cashier) -> None:
    """The completed posting is answered, and Odoo is not called."""
    title = cashier.title("1000.00")
    first = await cashier.post(title, principal="400.00")
    await cashier.run(first)
    cashier.forget_calls()

    second = await cashier.post(title, principal="400.00")
    posting = await cashier.run(second)

    assert (second, posting.status) == (first, "completed")
    assert cashier.calls() == {}
    assert len(cashier.payments()) == 1


async def test_each_instalment_is_a_title_of_its_own(cashier: Cashier) -> None:
    """The second one is paid, and the first one stays."""
    title = cashier.title("600.00", "400.00")

    posting = await cashier.settle(title, instalment=2, principal="400.00")

    assert done(posting)
    assert (cashier.open(title, 0), cashier.open(title, 1)) == (Decimal("600.00"), Decimal(0))


@pytest.mark.parametrize(
    ("options", "instalment"),
    [
        pytest.param({"first": 0}, 0, id="instalment 0, which Odoo stores as empty"),
        pytest.param({"instalments": False}, 0, id="no instalment, asked for as 0"),
        pytest.param({"instalments": False}, 1, id="no instalment, asked for as 1"),
        pytest.param({"on_items": False}, 1, id="the number stands in the name only"),
        pytest.param({"on_items": False, "instalments": False}, 1, id="in the name, unnumbered"),
    ],
)
async def test_a_title_is_found_in_every_way(
    cashier: Cashier, options: dict[str, Any], instalment: int
) -> None:
    """Number and instalment are not always where they should be."""
    title = cashier.title("1000.00", number=4711, **options)
    cashier.title("1000.00", number=14711, **options)
    cashier.title("1000.00", number=47110, **options)

    posting = await cashier.settle(title, instalment=instalment, principal="1000.00")

    assert done(posting)
    assert posting.facts["title_id"] == title.line_id
    assert cashier.open(title) == Decimal(0)


async def test_leading_zeros_do_not_count(cashier: Cashier) -> None:
    """The number on paper has nine digits."""
    title = cashier.title("1000.00", number=4711)

    posting = await cashier.settle(title, number="000004711", principal="1000.00")

    assert done(posting)
    assert posting.document_key == "receivable:4711/1:line 1"


async def test_the_preferred_company_comes_first(cashier: Cashier) -> None:
    """Two companies use the same number; the profile says whose is meant."""
    other = cashier.title("1000.00", number=4711, company="hub")
    title = cashier.title("1000.00", number=4711, company="plant")

    posting = await cashier.settle(title, principal="1000.00")

    assert done(posting)
    assert (cashier.open(title), cashier.open(other)) == (Decimal(0), Decimal("1000.00"))


async def test_a_title_can_be_named_by_its_id(cashier: Cashier) -> None:
    """Where a number is that of several."""
    twin = cashier.title("1000.00", number=4711)
    title = cashier.title("1000.00", number=4711)

    posting = await cashier.settle(title, principal="1000.00", title_id=title.line_id)

    assert done(posting)
    assert (cashier.open(title), cashier.open(twin)) == (Decimal(0), Decimal("1000.00"))


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("interest", ["0", "10.00"])
async def test_a_journal_of_another_company_may_be_used(cashier: Cashier, interest: str) -> None:
    """The payment is of the title's company; the account of the interest of the journal's."""
    title = cashier.title("1000.00", company="hub")
    journal_id = cashier.company("plant").journals.bank
    values = {"journal_id": journal_id, "principal": "1000.00", "interest": interest}

    posting = await cashier.settle(title, **values)

    assert done(posting)
    [payment] = cashier.payments()
    assert payment["company_id"][0] == cashier.company("hub").id
    if interest != "0":
        assert cashier.company("plant").accounts.interest_income in balances(cashier, payment)
    assert cashier.open(title) == Decimal(0)


async def test_a_discount_that_is_in_the_title_is_not_booked_again(cashier: Cashier) -> None:
    """The invoice was issued without it, and the sheet names it all the same."""
    title = cashier.title("970.00", discount=Decimal("30.00"))

    posting = await cashier.settle(title, principal="970.00", discount="30.00")

    assert done(posting)
    assert posting.facts["discount_embedded"] is True
    assert cashier.calls() == PRINCIPAL
    assert cashier.open(title) == Decimal(0)


async def test_one_cent_too_much_is_tolerated(cashier: Cashier) -> None:
    """Sheets are rounded; the cent stays on the payment."""
    title = cashier.title("999.99")

    posting = await cashier.settle(title, principal="1000.00")

    assert done(posting)
    assert cashier.open(title) == Decimal(0)
    [payment] = cashier.payments()
    domain = [["payment_id", "=", payment["id"]], ["account_type", "=", "asset_receivable"]]
    [item] = cashier.records(LINE, *domain)
    assert item["amount_residual"] == -0.01


async def test_amounts_are_exact(cashier: Cashier) -> None:
    """Ten payments of ten cents close a title of one real; binary fractions would not."""
    title = cashier.title("1.00")

    for place in range(10):
        assert done(await cashier.settle(title, reference=f"line {place}", principal="0.10"))

    assert cashier.open(title) == Decimal(0)
    refused = await cashier.settle(title, reference="line 11", principal="0.02")
    assert refused.code == "amount_above_balance"


async def test_the_audit_tells_what_was_changed(cashier: Cashier) -> None:
    """Title and document before and after, and the fields in which they differ."""
    title = cashier.title("1000.00")
    posting_id = await cashier.post(title, principal="1000.00")

    posting = await cashier.run(posting_id)

    before, after = posting.facts["before"], posting.facts["after"]
    names = {name.partition(".")[0] for name in before}
    assert (len(before), len(after), names) == (29, 29, {"title", "move"})
    assert (before["title.amount_residual"], after["title.amount_residual"]) == ("1000.0", "0.0")
    assert await changed(cashier, posting_id) == [
        "move.amount_residual",
        "move.amount_residual_signed",
        "move.has_reconciled_entries",
        "move.payment_state",
        "title.amount_residual",
        "title.amount_residual_currency",
        "title.full_reconcile_id",
        "title.matched_credit_ids",
        "title.matching_number",
        "title.reconciled",
    ]
    assert await cashier.steps(posting_id, "start") == [7, 8, 9]
    assert (await cashier.ledger.verify(posting_id)).valid


async def test_a_fact_is_recorded_once(cashier: Cashier) -> None:
    """The audit tells of each fact when it is found, and not again with every step after."""
    posting_id = await cashier.post(cashier.title("1000.00"), principal="900.00", discount="100.00")

    posting = await cashier.run(posting_id)

    records = await cashier.ledger.history(posting_id)
    told = [item for record in records for item in (record.odoo_ids or {}).items()]
    found = {name: value for name, value in posting.facts.items() if value not in (None, False)}
    assert done(posting)
    assert dict(told) | found == dict(told)
    assert len(told) == len(dict(told))
    assert (await cashier.ledger.verify(posting_id)).valid


async def test_a_plan_shows_the_payment_and_makes_none(cashier: Cashier) -> None:
    """What would be created is shown with its amount; what follows depends on it."""
    title: SeededTitle = cashier.title("1000.00")
    settlement = cashier.settlement(title, principal="1000.00")
    deployment = await cashier._connections.deploy("main", cashier.definition.kind)

    planned = await plans.plan(
        cashier.definition,
        odoo=deployment.odoo,
        subject=settlement,
        profile=deployment.profile,
        facts={},
        limit=cashier.engine()._silence * 10,
    )

    outcomes = [step.outcome for step in planned]
    assert outcomes == ["done"] * 6 + ["would_run"] + ["depends"] * 22
    call = planned[6].call
    assert call is not None
    assert (call.model, call.method, call.after["amount"]) == (PAYMENT, "create", 1000)
    assert cashier.calls() == {}
