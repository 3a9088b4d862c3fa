"""The freight workflow: from a document to a posted bill, with every surprise on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from tests.unit.simulator.helpers import (
    DFE,
    arrive,
    configure,
    confirmed_order,
    generate,
    one,
    prepare,
)

if TYPE_CHECKING:
    from service.simulator.app import Simulator
    from service.simulator.world import World
    from tests.unit.simulator.helpers import Client


def bill_of(world: World, order_id: int) -> int:
    """Bill an order and return the bill's id."""
    action = world.execute("purchase.order", "action_create_invoice", [order_id])
    bill_id: int = action["res_id"]
    return bill_id


def test_generated_order_has_the_callers_defaults(world: World) -> None:
    """The order is in the caller's company, not the document's, with a generic operation."""
    document = arrive(world, taker_company="south")
    home = world.seed.home

    order = one(world, "purchase.order", generate(world, document))

    assert order["company_id"][0] == home.id
    assert order["picking_type_id"][0] == home.default_picking_type_id != home.picking_type_id
    assert order["l10n_br_operacao_id"][0] == home.generic_operation_id
    assert order["amount_total"] == float(document.amount)
    assert (order["state"], order["dfe_id"][0]) == ("draft", document.dfe_id)
    head = one(world, DFE, document.dfe_id)
    assert (head["l10n_br_status"], head["purchase_id"][0]) == ("06", order["id"])


def test_generating_twice_makes_two_orders(world: World) -> None:
    """The button does not look for an order that exists."""
    document = arrive(world)

    generate(world, document)
    generate(world, document)

    assert len(world.outcomes()[document.key]["orders"]) == 2


def test_document_need_not_learn_of_its_order(world: World) -> None:
    """With linking off only the order knows the document."""
    world.configure({"link_order_to_document": False})
    document = arrive(world)

    order = one(world, "purchase.order", generate(world, document))

    assert order["dfe_id"][0] == document.dfe_id
    assert one(world, DFE, document.dfe_id)["purchase_id"] is False


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (DFE, {"l10n_br_status": "07"}),
        (DFE, {"l10n_br_status": "03"}),
        (DFE, {"l10n_br_tipo_pedido": False}),
        (f"{DFE}.line", {"product_id": False}),
        (f"{DFE}.pagamento", {"cobr_dup_dvenc": False}),
    ],
)
def test_unready_document_is_refused(world: World, model: str, values: dict[str, Any]) -> None:
    """Status, order type, product and due date are needed."""
    document = arrive(world)
    prepare(world, document)
    domain = [["id" if model == DFE else "dfe_id", "=", document.dfe_id]]
    ids = [row["id"] for row in world.records(model, domain, ["id"])]
    world.execute(model, "write", ids, values)

    with pytest.raises(errors.UserError):
        world.execute(DFE, "action_gerar_po_dfe", [document.dfe_id])


def test_document_without_instalment_is_refused(world: World) -> None:
    """A document to which no instalment arrived has no due date."""
    document = arrive(world, instalments=0)
    prepare(world, document)

    with pytest.raises(errors.UserError):
        world.execute(DFE, "action_gerar_po_dfe", [document.dfe_id])


@pytest.mark.parametrize("field", ["picking_type_id", "l10n_br_operacao_id"])
def test_incompatible_companies_stop_the_confirmation(world: World, field: str) -> None:
    """Picking type and operation must belong to the order's company."""
    order_id = generate(world, arrive(world))
    before = one(world, "purchase.order", order_id)[field][0]
    configure(world, order_id, "hub")
    world.execute("purchase.order", "write", [order_id], {field: before})

    with pytest.raises(errors.UserError):
        world.execute("purchase.order", "button_confirm", [order_id])

    assert one(world, "purchase.order", order_id)["state"] == "draft"


def test_company_write_replaces_the_price_after_a_first_order(world: World) -> None:
    """The first order keeps its price and fixes the vendor's; the second one gets that price."""
    carrier = {"carrier_state": "MG"}
    first = arrive(world, **carrier)
    first_order = generate(world, first)
    configure(world, first_order)
    assert one(world, "purchase.order", first_order)["amount_total"] == float(first.amount)
    world.execute("purchase.order", "button_confirm", [first_order])

    second = arrive(world, **carrier)
    second_order = generate(world, second)
    assert one(world, "purchase.order", second_order)["amount_total"] == float(second.amount)
    world.execute("purchase.order", "write", [second_order], {"company_id": world.seed.home.id})

    assert one(world, "purchase.order", second_order)["amount_total"] == float(first.amount)


def test_price_of_the_same_write_stays(world: World) -> None:
    """A line price written together with the company wins over the price list."""
    confirmed_order(world, carrier_state="MG")
    order_id = generate(world, arrive(world, carrier_state="MG"))
    line = one(world, "purchase.order", order_id)["order_line"][0]
    values = {"company_id": 1, "order_line": [[1, line, {"price_unit": 12.34}]]}

    world.execute("purchase.order", "write", [order_id], values)

    assert one(world, "purchase.order", order_id)["amount_total"] == 12.34


def test_price_list_of_another_company_gives_the_cost(world: World) -> None:
    """A vendor whose prices belong to another company is priced at the product's cost."""
    confirmed_order(world, carrier_state="MG")
    prices = [row["id"] for row in world.records("product.supplierinfo", fields=["id"])]
    world.execute("product.supplierinfo", "write", prices, {"company_id": 5})
    order_id = generate(world, arrive(world, carrier_state="MG"))

    world.execute("purchase.order", "write", [order_id], {"company_id": 1})

    assert one(world, "purchase.order", order_id)["amount_total"] == 0.0


def test_tax_button_of_orders_zeroes_the_amounts(world: World) -> None:
    """The tax computation of an order leaves nothing of its price."""
    order_id = generate(world, arrive(world))

    answer = world.execute("purchase.order", "onchange_l10n_br_calcular_imposto", [order_id])

    assert answer is None
    assert one(world, "purchase.order", order_id)["amount_total"] == 0.0


def big_order(world: World, approver: str) -> int:
    """Return an order above the limit, as the calling user confirmed it."""
    world.configure({"approval_limit": 100.0, "approver": approver})
    order_id = generate(world, arrive(world))
    configure(world, order_id)
    user = world.seed.api_user_id
    world.execute("purchase.order", "button_confirm", [order_id], user_id=user)
    return order_id


def state_of(world: World, order_id: int) -> tuple[str, bool]:
    """Return state and right to approve, as the calling user sees them."""
    read = world.execute(
        "purchase.order",
        "read",
        [order_id],
        ["state", "is_current_approver"],
        user_id=world.seed.api_user_id,
    )
    return read[0]["state"], read[0]["is_current_approver"]


def test_approver_confirms_at_once(world: World) -> None:
    """Who may approve everything never sees an order wait."""
    assert state_of(world, big_order(world, "automatic")) == ("purchase", False)


def test_user_approves_orders_of_the_team(world: World) -> None:
    """An order of the purchase team waits for the caller, who approves it."""
    order_id = big_order(world, "user")
    assert state_of(world, order_id) == ("to approve", True)

    user = world.seed.api_user_id
    world.execute("purchase.order", "button_approve", [order_id], user_id=user)

    assert state_of(world, order_id) == ("purchase", False)


def test_order_of_another_approver_waits_for_a_person(world: World) -> None:
    """The caller may not approve; a person in Odoo may."""
    order_id = big_order(world, "other")
    assert state_of(world, order_id) == ("to approve", False)
    user = world.seed.api_user_id
    with pytest.raises(errors.UserError):
        world.execute("purchase.order", "button_approve", [order_id], user_id=user)

    world.execute("purchase.order", "button_approve", [order_id])

    assert state_of(world, order_id) == ("purchase", False)


def test_bill_takes_company_amount_and_date(world: World) -> None:
    """The bill has the order's company and amount, and the document's date but no due date."""
    document = arrive(world, taker_company="hub")
    order_id = generate(world, document)
    configure(world, order_id, "hub")
    world.execute("purchase.order", "button_confirm", [order_id])

    bill = one(world, "account.move", bill_of(world, order_id))

    assert bill["state"] == "draft"
    assert bill["company_id"][0] == world.seed.companies["hub"].id
    assert bill["amount_total"] == float(document.amount)
    assert bill["invoice_date"] is not False
    assert bill["invoice_date_due"] is False
    assert one(world, "purchase.order", order_id)["invoice_ids"] == [bill["id"]]


def test_second_billing(world: World) -> None:
    """Billing again is refused by 17; 19 makes a second, empty draft."""
    order_id = confirmed_order(world)
    first = bill_of(world, order_id)

    if world.version == 17:
        with pytest.raises(errors.UserError, match="no invoiceable line"):
            bill_of(world, order_id)
        return
    second = one(world, "account.move", bill_of(world, order_id))
    assert (second["amount_total"], second["state"]) == (0.0, "draft")
    assert one(world, "purchase.order", order_id)["invoice_ids"] == [second["id"], first]


def test_posting_needs_a_due_date_and_happens_once(world: World) -> None:
    """Posting answers false when it worked, and refuses before and after."""
    bill_id = bill_of(world, confirmed_order(world))
    with pytest.raises(errors.UserError, match="due date"):
        world.execute("account.move", "action_post", [bill_id])
    world.execute("account.move", "write", [bill_id], {"invoice_date_due": "2026-12-24"})

    assert world.execute("account.move", "action_post", [bill_id]) is False
    with pytest.raises(errors.UserError, match="must be in draft"):
        world.execute("account.move", "action_post", [bill_id])

    assert one(world, "account.move", bill_id)["state"] == "posted"


@pytest.mark.parametrize("suffix", ["", "_btn"])
def test_taxes_of_a_bill_fill_its_total(world: World, suffix: str) -> None:
    """The tax computation of a bill keeps the amount and fills the document total."""
    bill_id = bill_of(world, confirmed_order(world))
    before = one(world, "account.move", bill_id)

    world.execute("account.move", f"onchange_l10n_br_calcular_imposto{suffix}", [bill_id])

    after = one(world, "account.move", bill_id)
    assert (before["l10n_br_total_nfe"], after["l10n_br_total_nfe"]) == (0, before["amount_total"])
    assert after["amount_total"] == before["amount_total"]


def test_billed_order_cannot_be_cancelled_before_its_bill(world: World) -> None:
    """An order is cancelled after its draft bill; then it can be billed no more."""
    order_id = confirmed_order(world)
    bill_id = bill_of(world, order_id)
    with pytest.raises(errors.UserError):
        world.execute("purchase.order", "button_cancel", [order_id])

    world.execute("account.move", "button_cancel", [bill_id])

    assert world.execute("purchase.order", "button_cancel", [order_id]) is None
    assert one(world, "purchase.order", order_id)["state"] == "cancel"


async def test_parallel_confirmations_have_a_loser(simulator: Simulator, client: Client) -> None:
    """Of two confirmations at once one answers true, the other a fault; the order is confirmed."""
    world = simulator.world
    order_id = generate(world, arrive(world))
    configure(world, order_id)
    world.configure({"durations": {"button_confirm": 0.05}})

    outcomes = await asyncio.gather(
        *(client("purchase.order", "button_confirm", [order_id]) for _ in range(2)),
        return_exceptions=True,
    )

    faults = [str(getattr(one, "name", "")) for one in outcomes if one is not True]
    assert faults == ["odoo.exceptions.ValidationError"]
    assert one(world, "purchase.order", order_id)["state"] == "purchase"


async def test_parallel_postings_have_a_loser(simulator: Simulator, client: Client) -> None:
    """Of two postings at once one answers false, which is success, the other a fault."""
    world = simulator.world
    bill_id = bill_of(world, confirmed_order(world))
    world.execute("account.move", "write", [bill_id], {"invoice_date_due": "2026-12-24"})
    world.configure({"durations": {"action_post": 0.05}})

    outcomes = await asyncio.gather(
        *(client("account.move", "action_post", [bill_id]) for _ in range(2)),
        return_exceptions=True,
    )

    faults = [str(getattr(one, "name", "")) for one in outcomes if one is not False]
    assert faults == ["odoo.exceptions.UserError"]


async def test_parallel_generations_make_two_orders(simulator: Simulator, client: Client) -> None:
    """Nothing in the server keeps two generations apart."""
    world = simulator.world
    document = arrive(world)
    prepare(world, document)
    world.configure({"durations": {"action_gerar_po_dfe": 0.05}})

    await asyncio.gather(*(client(DFE, "action_gerar_po_dfe", [document.dfe_id]) for _ in range(2)))

    assert len(world.outcomes()[document.key]["orders"]) == 2
