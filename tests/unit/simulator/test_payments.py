"""Payments and the wizard that registers them, as both versions of Odoo have them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from service.simulator.titles import TitleOptions
from tests.unit.simulator.helpers import one

if TYPE_CHECKING:
    from service.simulator.titles import SeededTitle
    from service.simulator.world import World

RECORDINGS = Path(__file__).parents[2] / "recordings"
PAYMENT, REGISTER = "account.payment", "account.payment.register"
LINE, MOVE = "account.move.line", "account.move"
RECORDED = (PAYMENT, REGISTER, LINE, MOVE, "account.journal")
ADDED = ("l10n_br_", "x_studio_")
LOCALIZED = {"dfe_id", "payment_provider_id", "team_id"}
"""What the Brazilian localization adds, which the recorded databases do not have."""


def reference_field(world: World) -> str:
    """What the version calls a payment's reference."""
    return "ref" if world.version == 17 else "memo"


def title(world: World, amount: str = "1000.00", **options: Any) -> SeededTitle:
    """A title of one instalment."""
    return world.add_title(TitleOptions(amounts=(Decimal(amount),), **options))


def pay(world: World, owed: SeededTitle, amount: float, **more: Any) -> int:
    """Create a payment for a receivable."""
    company = world.seed.company(owed.company_id)
    values = {
        "payment_type": "inbound",
        "partner_type": "customer",
        "partner_id": owed.partner_id,
        "amount": amount,
        "journal_id": company.journals.bank,
        "company_id": company.id,
        "date": "2026-11-20",
        reference_field(world): "A/1",
    }
    payment_id: int = world.execute(PAYMENT, "create", {**values, **more})
    return payment_id


def items(world: World, payment_id: int) -> dict[str, float]:
    """The balances of a payment's entry by the type of account."""
    found = world.records(LINE, [["payment_id", "=", payment_id]], ["account_type", "balance"])
    return {row["account_type"]: row["balance"] for row in found}


def register(world: World, owed: SeededTitle, **values: Any) -> int:
    """Open the wizard for a title."""
    journals = world.seed.company(owed.company_id).journals
    given = {"journal_id": journals.bank, "payment_date": "2026-11-20", "communication": "A/2"}
    context = {"active_model": LINE, "active_ids": [owed.line_id]}
    wizard_id: int = world.execute(REGISTER, "create", {**given, **values}, context=context)
    return wizard_id


@pytest.mark.parametrize("model", RECORDED)
def test_fields_are_those_of_odoo(world: World, model: str) -> None:
    """Each field that the simulator has is there in Odoo, of the same type and relation."""
    recorded = json.loads((RECORDINGS / f"odoo{world.version}-fields.json").read_text())[model]
    described = world.execute(model, "fields_get", attributes=["type", "relation"])
    own = {
        name: (field["type"], field.get("relation"))
        for name, field in described.items()
        if not name.startswith(ADDED) and name not in LOCALIZED
    }

    assert own == {name: (recorded[name]["type"], recorded[name].get("relation")) for name in own}


@pytest.mark.parametrize("model", [PAYMENT, REGISTER])
def test_choices_are_among_those_of_odoo(world: World, model: str) -> None:
    """What a payment's fields may hold is what Odoo allows; states differ by version."""
    recorded = json.loads((RECORDINGS / f"odoo{world.version}-fields.json").read_text())[model]
    owed = title(world)
    pay(world, owed, 100)
    register(world, owed)
    [record] = world.records(model)

    names = [name for name in record if recorded.get(name, {}).get("type") == "selection"]

    assert names
    for name in names:
        assert record[name] in [choice[0] for choice in recorded[name]["selection"]]


def test_a_payment_is_booked_when_the_version_does(world: World) -> None:
    """17 makes the draft entry at once, 19 when the payment is posted."""
    payment_id = pay(world, title(world), 100)

    before = one(world, PAYMENT, payment_id)
    answer = world.execute(PAYMENT, "action_post", [payment_id])
    after = one(world, PAYMENT, payment_id)

    assert (before["state"], bool(before["move_id"])) == ("draft", world.version == 17)
    assert answer is None
    assert after["state"] == ("posted" if world.version == 17 else "in_process")
    assert items(world, payment_id) == {"asset_current": 100.0, "asset_receivable": -100.0}


def test_a_payment_to_a_vendor_has_the_other_signs(world: World) -> None:
    """Money goes out of the account of pending payments and settles a payable."""
    owed = title(world, direction="payable")
    payment_id = pay(world, owed, 80, payment_type="outbound", partner_type="supplier")

    world.execute(PAYMENT, "action_post", [payment_id])

    assert items(world, payment_id) == {"asset_current": -80.0, "liability_payable": 80.0}


def test_creating_again_makes_another_payment(world: World) -> None:
    """Nothing in Odoo keeps two payments of one reference apart."""
    owed = title(world)
    pay(world, owed, 100)
    pay(world, owed, 100)

    found = world.records(PAYMENT, [[reference_field(world), "=", "A/1"]], ["id"])

    assert len(found) == 2


def test_posting_again(world: World) -> None:
    """17 refuses to post what is posted; 19 leaves it as it is."""
    payment_id = pay(world, title(world), 100)
    world.execute(PAYMENT, "action_post", [payment_id])
    entry = one(world, PAYMENT, payment_id)["move_id"]

    if world.version == 17:
        with pytest.raises(errors.UserError, match="must be in draft"):
            world.execute(PAYMENT, "action_post", [payment_id])
    else:
        world.execute(PAYMENT, "action_post", [payment_id])

    assert one(world, PAYMENT, payment_id)["move_id"] == entry
    assert len(world.records(MOVE, [["move_type", "=", "entry"]])) == 1


@pytest.mark.parametrize(
    ("amount", "kept"), [(10.005, 10.01), (10.004, 10.0), (2.675, 2.68), (0.1 + 0.2, 0.3)]
)
def test_money_is_rounded_half_up(world: World, amount: float, kept: float) -> None:
    """Half a cent is one more cent, also where the binary number is a little less."""
    assert one(world, PAYMENT, pay(world, title(world), amount))["amount"] == kept


def test_a_negative_amount_is_refused(world: World) -> None:
    """Money that goes the other way is a payment of the other type."""
    with pytest.raises(errors.ValidationError):
        pay(world, title(world), -1)


def test_a_journal_without_money_is_refused(world: World) -> None:
    """A journal of entries has no account where money could wait."""
    journal_id = world.seed.home.journals.miscellaneous
    owed = title(world)

    def attempt() -> None:
        payment_id = pay(world, owed, 100, journal_id=journal_id)
        world.execute(PAYMENT, "action_post", [payment_id])

    with pytest.raises(errors.UserError, match="outstanding"):
        attempt()


def test_a_draft_follows_its_payment_and_a_posted_one_does_not(world: World) -> None:
    """An amount may be corrected until it is posted."""
    payment_id = pay(world, title(world), 100)
    world.execute(PAYMENT, "write", [payment_id], {"amount": 90})
    world.execute(PAYMENT, "action_post", [payment_id])

    assert items(world, payment_id)["asset_receivable"] == -90.0
    with pytest.raises(errors.UserError):
        world.execute(PAYMENT, "write", [payment_id], {"amount": 80})


def test_a_draft_can_be_cancelled(world: World) -> None:
    """Its state is called otherwise in each version."""
    payment_id = pay(world, title(world), 100)

    world.execute(PAYMENT, "action_cancel", [payment_id])

    assert one(world, PAYMENT, payment_id)["state"] == (
        "cancel" if world.version == 17 else "canceled"
    )


def test_a_payment_back_in_draft_leaves_its_title_open(world: World) -> None:
    """What it settled is open again."""
    owed = title(world)
    world.execute(REGISTER, "action_create_payments", [register(world, owed)])
    [payment] = world.records(PAYMENT)
    assert one(world, LINE, owed.line_id)["reconciled"] is True

    world.execute(PAYMENT, "action_draft", [payment["id"]])

    assert one(world, PAYMENT, payment["id"])["state"] == "draft"
    assert one(world, LINE, owed.line_id)["amount_residual"] == 1000.0


def test_the_wizard_posts_and_reconciles(world: World) -> None:
    """One call makes a payment, posts it and settles the title; its memo is the reference."""
    owed = title(world)

    answer = world.execute(REGISTER, "action_create_payments", [register(world, owed)])

    payment = one(world, PAYMENT, answer["res_id"])
    assert payment[reference_field(world)] == "A/2"
    assert (payment["amount"], payment["is_reconciled"]) == (1000.0, True)
    assert payment["reconciled_invoice_ids"] == [owed.move_id]
    assert one(world, MOVE, owed.move_id)["payment_state"] == "paid"
    # The invoice is paid, and 19 lets the wizard's payment follow it.
    assert payment["state"] == ("posted" if world.version == 17 else "paid")


@pytest.mark.parametrize(
    ("amount", "account", "balance"),
    [
        pytest.param(1010.5, "interest_income", -10.5, id="interest"),
        pytest.param(970.0, "charges", 30.0, id="charges"),
    ],
)
def test_the_wizard_writes_the_whole_difference_off(
    world: World, amount: float, account: str, balance: float
) -> None:
    """More than is open is income, less is a cost, and the title is closed either way."""
    owed = title(world)
    account_id = getattr(world.seed.home.accounts, account)
    wizard_id = register(
        world,
        owed,
        amount=amount,
        payment_difference_handling="reconcile",
        writeoff_account_id=account_id,
        writeoff_label="DIFERENCA",
    )
    assert one(world, REGISTER, wizard_id)["payment_difference"] == balance

    answer = world.execute(REGISTER, "action_create_payments", [wizard_id])

    domain = [["payment_id", "=", answer["res_id"]], ["account_id", "=", account_id]]
    [written_off] = world.records(LINE, domain)
    assert (written_off["balance"], written_off["name"]) == (balance, "DIFERENCA")
    settled = one(world, LINE, owed.line_id)
    assert (settled["amount_residual"], settled["reconciled"]) == (0.0, True)


def test_the_wizard_without_a_write_off_leaves_the_rest_open(world: World) -> None:
    """A part is paid, and the difference stays."""
    owed = title(world)

    world.execute(REGISTER, "action_create_payments", [register(world, owed, amount=400)])

    assert one(world, LINE, owed.line_id)["amount_residual"] == 600.0
    assert one(world, MOVE, owed.move_id)["payment_state"] == "partial"


def test_the_wizard_called_twice_pays_twice(world: World) -> None:
    """The second payment settles nothing and stands there all the same."""
    wizard_id = register(world, title(world))

    world.execute(REGISTER, "action_create_payments", [wizard_id])
    world.execute(REGISTER, "action_create_payments", [wizard_id])

    assert [row["is_reconciled"] for row in world.records(PAYMENT)] == [True, False]


def test_the_wizard_refuses_what_is_paid(world: World) -> None:
    """It cannot be opened for a title without a rest."""
    owed = title(world)
    world.execute(REGISTER, "action_create_payments", [register(world, owed)])

    with pytest.raises(errors.UserError, match="nothing left to pay"):
        register(world, owed)


def test_the_wizard_refuses_a_draft(world: World) -> None:
    """What is not posted is not owed."""
    with pytest.raises(errors.UserError, match="posted journal entries"):
        register(world, title(world, posted=False))


def test_the_wizard_needs_to_know_what_for(world: World) -> None:
    """Without items in the context there is nothing to pay."""
    with pytest.raises(errors.UserError, match="should only be called"):
        world.execute(REGISTER, "create", {"amount": 1})


def test_a_write_off_of_another_company_is_refused(world: World) -> None:
    """The account has to belong to the journal's company."""
    wizard_id = register(
        world,
        title(world),
        amount=1010,
        payment_difference_handling="reconcile",
        writeoff_account_id=world.seed.companies["south"].accounts.interest_income,
    )

    with pytest.raises(errors.UserError, match="Incompatible companies"):
        world.execute(REGISTER, "action_create_payments", [wizard_id])

    assert world.records(PAYMENT) == []
