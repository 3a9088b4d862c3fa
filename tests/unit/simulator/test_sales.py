"""What the syncs read: fields, shapes, files, and what a change or a deletion does beside it."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.simulator import errors
from service.simulator.world import World
from tests.unit.simulator.helpers import DFE, arrive, one

FREIGHT_FIELDS = """
    id name active l10n_br_status l10n_br_data_entrada l10n_br_tipo_pedido l10n_br_situacao_dfe
    protnfe_infnfe_chnfe nfe_infnfe_ide_nnf nfe_infnfe_ide_serie nfe_infnfe_ide_dhemi
    nfe_infnfe_total_icmstot_vnf nfe_infnfe_total_icms_vfrete nfe_infnfe_total_icms_vicms
    nfe_infnfe_emit_cnpj nfe_infnfe_emit_xnome nfe_infnfe_emit_ie nfe_infnfe_dest_cnpj
    nfe_infnfe_rem_cnpj nfe_infnfe_exped_cnpj cte_infcte_ide_cmunini cte_infcte_ide_cmunfim
    cte_infcte_ide_toma3_toma nfe_infnfe_infadic_infcpl l10n_br_pdf_dfe l10n_br_pdf_dfe_fname
    l10n_br_xml_dfe l10n_br_xml_dfe_fname partner_id invoice_ids purchase_fiscal_id refs_ids
    is_cte write_date
"""
READ_BY_SYNCS = {
    DFE: FREIGHT_FIELDS,
    f"{DFE}.referencia": "infdoc_infnfe_chave dfe_id",
    "sale.order.line": """
        id order_id product_id product_uom product_uom_qty qty_saldo qty_cancelado price_unit
        l10n_br_icms_valor l10n_br_icmsst_valor l10n_br_pis_valor l10n_br_cofins_valor write_date
    """,
    "sale.order": """
        name partner_id partner_shipping_id user_id team_id create_date date_order state
        l10n_br_pedido_compra l10n_br_tipo_pedido payment_term_id payment_provider_id incoterm
        carrier_id commitment_date picking_note tag_ids write_date
    """,
    "delivery.carrier": "id name l10n_br_partner_id",
    "res.partner": """
        name l10n_br_cnpj l10n_br_razao_social l10n_br_municipio_id state_id zip phone street
        l10n_br_endereco_bairro l10n_br_endereco_numero agendamento x_studio_desconto_contratual
        x_studio_desconto
    """,
    "product.product": "name default_code uom_id categ_id detailed_type product_tmpl_id",
    "product.template": "name default_code uom_id categ_id detailed_type product_variant_ids",
    "product.category": "name complete_name parent_id",
    "crm.tag": "name color",
    "account.incoterms": "name code",
    "purchase.order": """
        id name state create_date write_date date_order date_planned partner_id company_id
        order_line currency_id amount_total notes l10n_br_tipo_pedido dfe_id invoice_status
    """,
    "purchase.order.line": """
        order_id product_id name product_qty qty_received product_uom date_planned price_unit
        price_subtotal price_total taxes_id state l10n_br_icms_valor l10n_br_pis_valor
        l10n_br_cofins_valor
    """,
    "ir.attachment": "name res_model res_field res_id checksum file_size mimetype datas",
}
RENAMED = {"product_uom": "product_uom_id", "taxes_id": "tax_ids", "notes": "note"}
GONE = {"detailed_type": "is_storable"}


@pytest.mark.parametrize("model", READ_BY_SYNCS)
def test_fields_of_the_syncs_exist(world: World, model: str) -> None:
    """Every field that a sync reads is there, under the name that the version gives it."""
    names = READ_BY_SYNCS[model].split()
    if world.version == 19:
        names = [{**RENAMED, **GONE}.get(name, name) for name in names]

    described = world.execute(model, "fields_get", names)

    assert set(described) == set(names)


def sale(world: World, **values: Any) -> tuple[int, int]:
    """Return a new order and its line."""
    line = {"product_id": world.seed.product_id, "product_uom_qty": 4, "price_unit": 2.5}
    values = {"partner_id": 101, "order_line": [[0, 0, line]], **values}
    order: int = world.execute("sale.order", "create", values)
    return order, one(world, "sale.order", order)["order_line"][0]


def test_order_and_its_line(world: World) -> None:
    """References are pairs with the names that people see; the balance begins as the quantity."""
    tags = [[6, 0, [1, 3]]]
    order, line = sale(world, incoterm=16, carrier_id=1, tag_ids=tags, company_id=3)

    head, read = one(world, "sale.order", order), one(world, "sale.order.line", line)

    assert head["incoterm"] == [16, "[RED] Redispatch"]
    assert head["carrier_id"] == [1, "Transportes Corredeira Ltda"]
    assert head["partner_shipping_id"] == [101, "Transportes Corredeira Ltda"]
    assert (set(head["tag_ids"]), head["amount_total"]) == ({1, 3}, 10.0)
    assert read["product_id"] == [world.seed.product_id, "[800000025] Freight Service"]
    assert read["order_id"] == [order, head["name"]]
    assert (read["qty_saldo"], read["company_id"][0], read["state"]) == (4.0, 3, "draft")


def test_municipality_names_its_state(world: World) -> None:
    """A municipality reads as `City (UF)`."""
    partner = one(world, "res.partner", 102)

    assert partner["l10n_br_municipio_id"][1] == "Belo Horizonte (MG)"


def test_change_of_a_line_is_a_change_of_its_order() -> None:
    """The stamp of the order follows its lines; that of the lines does not follow the order."""
    moment = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
    world = World(clock=lambda: moment)
    order, line = sale(world)
    world.clock = lambda: moment + timedelta(hours=1)

    world.execute("sale.order.line", "write", [line], {"qty_saldo": 1})
    after_line = one(world, "sale.order", order)["write_date"]
    world.clock = lambda: moment + timedelta(hours=2)
    world.execute("sale.order", "write", [order], {"state": "sale"})

    assert after_line == "2026-11-24 11:00:00"
    assert one(world, "sale.order.line", line)["write_date"] == "2026-11-24 11:00:00"
    assert one(world, "sale.order.line", line)["state"] == "sale"


def test_category_is_a_path(world: World) -> None:
    """A category is shown with all categories above it."""
    root = world.seed.category_id
    middle = world.execute("product.category", "create", {"name": "Food", "parent_id": root})
    leaf = world.execute("product.category", "create", {"name": "Olives", "parent_id": middle})

    read = one(world, "product.category", leaf)

    assert read["complete_name"] == "All / Food / Olives"
    assert read["parent_id"] == [middle, "All / Food"]
    under = world.execute("product.category", "search", [["id", "child_of", middle]])
    assert set(under) == {middle, leaf}


def test_template_and_variant_show_the_same() -> None:
    """A change of the template shows in the variant, and leaves its stamp alone."""
    moment = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
    world = World(clock=lambda: moment)
    values = {"name": "Olives", "default_code": "4001"}
    template = world.execute("product.template", "create", values)
    variant = one(world, "product.template", template)["product_variant_ids"][0]
    world.clock = lambda: moment + timedelta(hours=1)

    world.execute("product.template", "write", [template], {"name": "Green Olives"})
    read = one(world, "product.product", variant)
    world.execute("product.product", "write", [variant], {"default_code": "4002"})
    world.execute("product.template", "write", [template], {"active": False})

    assert (read["name"], read["write_date"]) == ("Green Olives", "2026-11-24 10:00:00")
    assert one(world, "product.template", template)["default_code"] == "4002"
    assert one(world, "product.product", variant)["active"] is False


def files(world: World, document: int, **context: Any) -> dict[str, dict[str, Any]]:
    """Return the attachments of a document's fields, by field."""
    domain = [["res_model", "=", DFE], ["res_id", "=", document], ["res_field", "!=", False]]
    found = world.execute("ir.attachment", "search_read", domain, context=context)
    return {row["res_field"]: row for row in found}


def test_files_of_a_document_are_attachments(world: World) -> None:
    """Each file has a checksum, which changes with it; a search must ask for such files."""
    document = arrive(world)
    xml = files(world, document.dfe_id)["l10n_br_xml_dfe"]
    digest = hashlib.sha1(document.xml.encode(), usedforsecurity=False).hexdigest()
    changed = base64.b64encode(b"<cte/>").decode()

    world.execute(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": changed})
    after = files(world, document.dfe_id)["l10n_br_xml_dfe"]
    unasked = world.execute("ir.attachment", "search", [["res_model", "=", DFE]])

    assert (xml["checksum"], xml["mimetype"]) == (digest, "application/xml")
    assert base64.b64decode(xml["datas"]).decode() == document.xml
    assert (after["id"], after["datas"], after["file_size"]) == (xml["id"], changed, 6)
    assert after["checksum"] != digest
    assert unasked == []


def test_emptied_field_has_no_attachment(world: World) -> None:
    """A file that was taken away, or whose document was deleted, is no attachment any more."""
    emptied, deleted = arrive(world).dfe_id, arrive(world).dfe_id

    world.execute(DFE, "write", [emptied], {"l10n_br_xml_dfe": False})
    world.execute(DFE, "unlink", [deleted])

    assert "l10n_br_xml_dfe" not in files(world, emptied)
    assert files(world, deleted) == {}


def test_attachment_of_its_own_is_described(world: World) -> None:
    """A file that somebody attached gets size, checksum and kind."""
    values = {"name": "x.pdf", "datas": base64.b64encode(b"%PDF-1.4").decode()}
    made = world.execute("ir.attachment", "create", values)
    first = one(world, "ir.attachment", made)

    world.execute("ir.attachment", "write", [made], {"datas": base64.b64encode(b"?").decode()})
    second = one(world, "ir.attachment", made)

    assert (first["mimetype"], first["file_size"]) == ("application/pdf", 8)
    assert (second["mimetype"], second["file_size"]) == ("application/octet-stream", 1)
    assert world.execute("ir.attachment", "search", []) == [made]


def test_deletion_takes_lines_along_and_empties_references(world: World) -> None:
    """Lines go with their order, a tag leaves its orders, an incoterm leaves its order empty."""
    order, line = sale(world, incoterm=16, tag_ids=[[6, 0, [1, 2]]])
    kept, _ = sale(world, incoterm=16, tag_ids=[[6, 0, [1, 2]]])
    stamp = one(world, "sale.order", kept)["write_date"]

    world.execute("sale.order", "unlink", [order])
    world.execute("crm.tag", "unlink", [1])
    world.execute("account.incoterms", "unlink", [16])

    head = one(world, "sale.order", kept)
    assert world.records("sale.order.line", [["id", "=", line]]) == []
    assert (head["tag_ids"], head["incoterm"], head["write_date"]) == ([2], False, stamp)


def test_sold_product_stays(world: World) -> None:
    """A product that a line names cannot be deleted; it can be archived."""
    sale(world)

    with pytest.raises(errors.ValidationError):
        world.execute("product.product", "unlink", [world.seed.product_id])
    world.execute("product.product", "write", [world.seed.product_id], {"active": False})

    assert world.execute("product.product", "search", [["default_code", "=", "800000025"]]) == []
