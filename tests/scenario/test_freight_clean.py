"""Freight bills that meet no trouble: what is called, and what Odoo has in the end."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import pytest

from service.simulator import fiscal

if TYPE_CHECKING:
    from tests.scenario.conftest import Office

DFE = "l10n_br_ciel_it_account.dfe"
CALLS = {
    f"{DFE}.write": 2,  # entry date with reference, then order type
    f"{DFE}.line.write": 1,
    f"{DFE}.pagamento.write": 1,
    f"{DFE}.action_gerar_po_dfe": 1,
    "purchase.order.write": 1,
    "purchase.order.line.write": 1,  # the operation; the price is right already
    "purchase.order.button_confirm": 1,
    "purchase.order.action_create_invoice": 1,
    "account.move.onchange_l10n_br_calcular_imposto": 1,
    "account.move.write": 1,
    "account.move.onchange_l10n_br_calcular_imposto_btn": 1,
    "account.move.action_post": 1,
}
"""All that a clean posting changes; reading aside, nothing else is called."""


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("company", ["plant", "south", "hub", "sister"])
async def test_each_company_posts_with_each_call_once(office: Office, company: str) -> None:
    """A clean run calls what is needed and nothing else, whichever company takes the freight."""
    document = office.document(taker_company=company)

    posting = await office.run(await office.post(document))

    assert (posting.status, posting.step, posting.code) == ("completed", 16, None)
    office.assert_posted(document)
    assert office.calls() == CALLS


async def test_the_audit_of_a_clean_posting_tells_each_step(office: Office) -> None:
    """Steps that change Odoo are started and done, the last is found, the eighth left out."""
    posting_id = await office.post(office.document())

    posting = await office.run(posting_id)

    started = [2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 15]
    assert await office.steps(posting_id, "start") == started
    assert await office.steps(posting_id, "done") == started
    assert await office.steps(posting_id, "found") == [1, 10, 16]
    assert await office.steps(posting_id, "skip") == [8]
    assert (await office.ledger.verify(posting_id)).valid
    assert posting.facts["bill_posted"] is True


async def test_a_step_tells_what_it_changes(office: Office) -> None:
    """The audit has before and after of the fields that are written, and of no other."""
    document = office.document(taker_company="plant", carrier_state="MG")
    posting_id = await office.post(document)
    await office.run(posting_id)

    records = await office.ledger.history(posting_id)
    [header, line] = [one for one in records if (one.step, one.action) == (7, "start")]

    plant = office.company("plant")
    assert header.changed_fields == [
        "l10n_br_operacao_id",
        "partner_ref",
        "payment_provider_id",
        "picking_type_id",
        "team_id",
    ]
    assert header.before is not None
    assert header.before["picking_type_id"] == plant.default_picking_type_id
    assert header.after is not None
    assert header.after["l10n_br_operacao_id"] == plant.operations.interstate_normal
    assert line.changed_fields == ["l10n_br_operacao_id"]


@pytest.mark.parametrize("by", ["xml", "key"])
@pytest.mark.parametrize("taker_code", ["0", "1", "2", "3", "4"])
async def test_whoever_takes_the_freight_pays_it(
    office: Office, taker_code: str, by: Literal["xml", "key"]
) -> None:
    """The taker is told from the XML given, from Odoo's fields, or from the XML in Odoo."""
    document = office.document(taker_code=taker_code, taker_company="hub")

    posting = await office.run(await office.post(document, by))

    assert (posting.status, posting.facts["company_id"]) == ("completed", office.company("hub").id)
    office.assert_posted(document)


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("by", ["xml", "key"])
async def test_letters_in_a_cnpj_are_no_trouble(office: Office, by: Literal["xml", "key"]) -> None:
    """Taker, carrier and access key may have letters."""
    document = office.document(taker_company="sister", alphanumeric=True)
    assert not document.key.isdigit()
    assert not document.taker_cnpj.isdigit()

    posting = await office.run(await office.post(document, by))

    assert posting.status == "completed"
    office.assert_posted(document)


@pytest.mark.parametrize("taker_code", ["0", "1", "3"])
async def test_a_formatted_cnpj_in_odoo_is_the_same_cnpj(office: Office, taker_code: str) -> None:
    """Odoo may keep `NN.NNN.NNN/NNNN-NN`; the profile has the bare number."""
    document = office.document(taker_code=taker_code, taker_company="plant")
    names = {"0": "rem", "1": "exped", "3": "dest"}
    formatted = fiscal.format_cnpj(document.taker_cnpj)
    values = {f"nfe_infnfe_{names[taker_code]}_cnpj": formatted}
    office.person(DFE, "write", [document.dfe_id], values)

    posting = await office.run(await office.post(document, "key"))

    assert posting.status == "completed"
    office.assert_posted(document)


@pytest.mark.parametrize(
    ("company", "carrier_state", "operation"),
    [
        pytest.param("plant", "SP", "intrastate_normal", id="at home"),
        pytest.param("plant", "MG", "interstate_normal", id="from elsewhere"),
        pytest.param("south", "SC", "intrastate_normal", id="at home in the south"),
        pytest.param("south", "SP", "interstate_normal", id="from elsewhere to the south"),
    ],
)
async def test_the_fiscal_operation_follows_the_carriers_state(
    office: Office, company: str, carrier_state: str, operation: str
) -> None:
    """Order, line and bill get the transport operation of the company and the destination."""
    document = office.document(taker_company=company, carrier_state=carrier_state)

    await office.run(await office.post(document))

    wanted = getattr(office.company(company).operations, operation)
    records = (office.order(document), office.order_line(document), office.bill(document))
    assert [record["l10n_br_operacao_id"][0] for record in records] == [wanted] * 3


@pytest.mark.parametrize("link_order_to_document", [True, False])
async def test_an_order_is_found_with_or_without_the_documents_link(
    office: Office, *, link_order_to_document: bool
) -> None:
    """Odoo fills the document's own link in a part of the cases only."""
    office.simulator.world.configure({"link_order_to_document": link_order_to_document})
    document = office.document()

    posting = await office.run(await office.post(document))

    assert posting.status == "completed"
    assert bool(office.dfe(document)["purchase_id"]) == link_order_to_document
    office.assert_posted(document)


async def test_without_a_carrier_invoice_no_reference_is_written(office: Office) -> None:
    """What is there stays."""
    document = office.document()
    office.person(DFE, "write", [document.dfe_id], {"payment_reference": "as it was"})

    await office.run(await office.post(document, invoice=None))

    office.assert_posted(document, invoice=None)
    assert office.dfe(document)["payment_reference"] == "as it was"
    assert office.calls() == CALLS


async def test_the_document_is_prepared(office: Office) -> None:
    """Entry date, reference, order type, product and due date stand on it."""
    document = office.document()

    await office.run(await office.post(document))

    dfe = office.dfe(document)
    [line] = office.simulator.world.records(f"{DFE}.line", [["dfe_id", "=", document.dfe_id]])
    [instalment] = office.simulator.world.records(
        f"{DFE}.pagamento", [["dfe_id", "=", document.dfe_id]]
    )
    assert (dfe["l10n_br_data_entrada"], dfe["payment_reference"], dfe["l10n_br_tipo_pedido"]) == (
        "2026-11-24",
        "FATURA-4711",
        "servico",
    )
    assert line["product_id"][0] == office.simulator.world.seed.product_id
    assert (line["l10n_br_quantidade"], line["product_uom_id"][0]) == (1.0, 1)
    assert instalment["cobr_dup_dvenc"] == "2026-12-31"


@pytest.mark.parametrize("version", [17, 19])
async def test_the_second_bill_of_a_carrier_has_its_own_price(office: Office) -> None:
    """The price list that the first order leaves behind does not reach the second."""
    first, second = (
        office.document(taker_company="hub", carrier_state="MG", amount=Decimal(amount))
        for amount in (1718, 274)
    )
    await office.run(await office.post(first))
    office.forget_calls()

    await office.run(await office.post(second))

    office.assert_posted(first)
    office.assert_posted(second)
    assert office.calls() == CALLS


@pytest.mark.parametrize("version", [17, 19])
async def test_a_price_that_a_change_of_company_undid_is_set_again(office: Office) -> None:
    """An order in the wrong company is moved; Odoo then takes the price list's price."""
    first, second = (
        office.document(taker_company="hub", carrier_state="MG", amount=Decimal(amount))
        for amount in (1718, 274)
    )
    await office.run(await office.post(first))
    office.generate(second, "plant")
    office.forget_calls()

    posting = await office.run(await office.post(second))

    assert posting.status == "completed"
    office.assert_posted(second)
    assert office.calls()["purchase.order.line.write"] == 2
    assert f"{DFE}.action_gerar_po_dfe" not in office.calls()


async def test_a_document_that_odoo_keeps_in_another_company_is_posted(office: Office) -> None:
    """The action works in the taker's company and still reaches the document."""
    document = office.document(taker_company="hub")
    home = {"company_id": office.company("plant").id}
    office.person(DFE, "write", [document.dfe_id], home)

    posting = await office.run(await office.post(document))

    assert posting.status == "completed", posting.message
    office.assert_posted(document)


async def test_posting_the_same_document_again_does_nothing(office: Office) -> None:
    """The completed posting is answered, and Odoo is not called."""
    document = office.document()
    first = await office.post(document)
    await office.run(first)
    office.forget_calls()

    second = await office.post(document, "key")
    posting = await office.run(second)

    assert (second, posting.status) == (first, "completed")
    assert office.calls() == {}
