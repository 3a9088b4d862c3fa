"""The discount of a customer's contract: computed, and booked unless the title is net of it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import InvalidInput
from tests.factories.settling import LINE, PAYMENT

if TYPE_CHECKING:
    from service.posting.ledger import Posting
    from service.simulator.titles import SeededTitle
    from tests.factories.settling import Cashier

PARTNER = "res.partner"
DISCOUNT, NET = Decimal("25.00"), Decimal("975.00")


def agree(cashier: Cashier, title: SeededTitle, rate: float = 2.5) -> None:
    """The customer's contract gives so many per cent away."""
    cashier.person(PARTNER, "write", [title.partner_id], {"x_studio_desconto": rate})


async def settle(cashier: Cashier, title: SeededTitle, **values: Any) -> Posting:
    """Settle a title by the contract."""
    return await cashier.settle(title, contractual_discount=True, **values)


def booked(cashier: Cashier) -> list[tuple[int, float]]:
    """Journal and amount of each payment, in the order in which they were made."""
    return [(payment["journal_id"][0], payment["amount"]) for payment in cashier.payments()]


@pytest.mark.parametrize("version", [17, 19])
async def test_the_discount_is_booked_where_the_title_is_the_face(cashier: Cashier) -> None:
    """What was paid and the discount close the title."""
    title = cashier.title("1000.00")
    agree(cashier, title)

    posting = await settle(cashier, title, principal="975.00")

    journals = cashier.company().journals
    assert posting.status == "completed", posting.message
    assert sorted(booked(cashier)) == sorted([(journals.bank, 975.0), (journals.discount, 25.0)])
    assert posting.facts["contractual_discount"] == "25.00"
    assert cashier.open(title) == 0


@pytest.mark.parametrize("version", [17])
async def test_the_discount_is_not_booked_where_the_title_is_net(cashier: Cashier) -> None:
    """The document was issued without it: what was paid closes the title alone."""
    title = cashier.title("975.00", discount=DISCOUNT)
    agree(cashier, title)

    posting = await settle(cashier, title, principal="975.00")

    assert posting.status == "completed", posting.message
    assert booked(cashier) == [(cashier.company().journals.bank, 975.0)]
    assert (posting.facts["discount_embedded"], cashier.open(title)) == (True, Decimal(0))


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("embedded", [False, True])
async def test_charges_come_after_the_discount(cashier: Cashier, *, embedded: bool) -> None:
    """The wizard writes off what is left, which then are the charges and nothing else."""
    title = cashier.title("975.00", discount=DISCOUNT) if embedded else cashier.title("1000.00")
    agree(cashier, title)

    posting = await settle(cashier, title, principal="960.00", charges="15.00")

    journals = cashier.company().journals
    assert posting.status == "completed", posting.message
    made = (
        [(journals.bank, 960.0)]
        if embedded
        else [(journals.discount, 25.0), (journals.bank, 960.0)]
    )
    assert booked(cashier) == made
    [charges] = cashier.records(LINE, ["account_id", "=", cashier.company().accounts.charges])
    assert (charges["balance"], cashier.open(title)) == (15.0, Decimal(0))


@pytest.mark.parametrize("version", [17])
@pytest.mark.parametrize(
    ("amount", "rate", "principal", "discount"),
    [
        ("333.33", 2.5, "325.00", 8.33),
        ("100.20", 2.5, "97.69", 2.51),
        ("999.99", 15, "849.99", 150),
    ],
)
async def test_the_discount_is_rounded_to_cents(
    cashier: Cashier, amount: str, rate: float, principal: str, discount: float
) -> None:
    """Half a cent is one."""
    title = cashier.title(amount)
    agree(cashier, title, rate)

    posting = await settle(cashier, title, principal=principal)

    assert posting.status == "completed", posting.message
    assert (cashier.company().journals.discount, discount) in booked(cashier)
    assert cashier.open(title) == 0


@pytest.mark.parametrize("version", [17])
async def test_a_rate_may_be_written_as_a_fraction(cashier: Cashier) -> None:
    """The profile says which."""
    await cashier.reconfigure({"odoo_version = ": 'contract_rate = "fraction"\nodoo_version = '})
    title = cashier.title("1000.00")
    agree(cashier, title, 0.025)

    posting = await settle(cashier, title, principal="975.00")

    assert (posting.status, cashier.open(title)) == ("completed", Decimal(0))


def paid_by_hand(cashier: Cashier) -> SeededTitle:
    """A title of which R$ 100 are settled."""
    title = cashier.title("1000.00")
    cashier.pay_by_hand(title, "100.00", payment_difference_handling="open")
    return title


@pytest.mark.parametrize("version", [17])
@pytest.mark.parametrize(
    ("make", "rate", "principal", "code"),
    [
        pytest.param(lambda desk: desk.title("1000.00"), 0, "975.00", "no_contract", id="none"),
        pytest.param(lambda desk: desk.title("1000.00"), 100, "975.00", "no_contract", id="all"),
        pytest.param(
            lambda desk: desk.title("1000.00"), 2.5, "975.06", "contract_net_differs", id="net"
        ),
        pytest.param(
            lambda desk: desk.title("1000.00"), 3, "975.00", "contract_net_differs", id="rate"
        ),
        pytest.param(paid_by_hand, 2.5, "975.00", "contract_balance_differs", id="balance"),
        pytest.param(
            lambda desk: desk.title("500.00", "500.00"),
            2.5,
            "487.50",
            "contract_of_instalments",
            id="instalments",
        ),
    ],
)
async def test_what_the_contract_does_not_explain_stops(
    cashier: Cashier, make: Any, rate: float, principal: str, code: str
) -> None:
    """Before anything is booked."""
    title = make(cashier)
    agree(cashier, title, rate)
    before = len(cashier.payments())

    posting = await settle(cashier, title, principal=principal)

    assert (posting.status, posting.code, posting.step) == ("failed", code, 5)
    assert len(cashier.payments()) == before


@pytest.mark.parametrize("version", [17])
async def test_a_contract_that_is_corrected_counts_from_the_resume(cashier: Cashier) -> None:
    """As long as nothing was booked by the old one."""
    title = cashier.title("1000.00")
    agree(cashier, title, 5)
    stopped = await settle(cashier, title, principal="975.00")
    agree(cashier, title)

    posting = await cashier.resume(stopped.id)

    assert (posting.status, cashier.open(title)) == ("completed", Decimal(0))


@pytest.mark.parametrize("version", [17])
async def test_a_contract_that_changes_later_changes_nothing_that_was_begun(
    cashier: Cashier,
) -> None:
    """Once a payment was made, the discount is what it was."""
    title = cashier.title("1000.00")
    agree(cashier, title)
    cashier.trouble("user_error", PAYMENT, "action_post")
    stopped = await settle(cashier, title, principal="975.00")
    agree(cashier, title, 7)

    posting = await cashier.resume(stopped.id)

    assert (stopped.status, posting.status) == ("failed", "completed"), posting.message
    assert (posting.facts["contractual_discount"], cashier.open(title)) == ("25.00", Decimal(0))


@pytest.mark.parametrize("version", [17])
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"principal": "975.00", "discount": "25.00"}, "discount"),
        ({"principal": "975.00", "agreement": "1.00"}, "agreement"),
        ({"discount": "0"}, "principal"),
        ({"principal": "975.00", "direction": "payable"}, "contractual_discount"),
    ],
)
async def test_the_discount_of_a_contract_is_not_given(
    cashier: Cashier, values: dict[str, Any], field: str
) -> None:
    """It is computed from what was paid, for a customer only."""
    with pytest.raises(InvalidInput) as refused:
        cashier.settlement(cashier.title("1000.00"), contractual_discount=True, **values)

    assert field in [problem.field for problem in refused.value.problems]
