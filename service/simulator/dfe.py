"""Fiscal documents (DFe) as Odoo keeps them, and the order that is generated from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import attachments, catalog, errors, fields
from service.simulator.orm import Model, Record, record_method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DFE = "l10n_br_ciel_it_account.dfe"
LINE = f"{DFE}.line"
INSTALMENT = f"{DFE}.pagamento"
REFERENCE = f"{DFE}.referencia"
READY = "04"
CONCLUDED = "06"
# The second status is there because the button does not look whether an order exists already:
# pressed twice, it makes two.
BUTTON_STATUSES = frozenset({READY, CONCLUDED})
STATUSES = (
    ("01", "Draft"),
    ("02", "Synchronised"),
    ("03", "Acknowledged"),
    (READY, "Purchase Order"),
    ("05", "Apportionment"),
    (CONCLUDED, "Concluded"),
    ("07", "Rejected"),
)


class FiscalDocument(Model):
    """Electronic documents received from the tax authority."""

    model = DFE
    varied = "nfe_infnfe_infadic_infcpl"
    title = "Fiscal Document"
    order = "id desc"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name"),
        "active": fields.boolean("Active", default=True),
        "company_id": fields.many2one("res.company", "Company", default=lambda env: env.company_id),
        "partner_id": fields.many2one("res.partner", "Issuer"),
        "is_cte": fields.boolean("Is a CT-e"),
        "l10n_br_status": fields.selection("Status", *STATUSES, default="02"),
        "l10n_br_situacao_dfe": fields.selection(
            "Situation",
            ("AUTORIZADA", "Authorised"),
            ("CANCELADA", "Cancelled"),
            ("DENEGADA", "Denied"),
        ),
        "l10n_br_data_entrada": fields.day("Entry Date"),
        "l10n_br_tipo_pedido": fields.selection(
            "Order Type",
            ("compra", "Purchase"),
            ("servico", "Service"),
            ("devolucao", "Return"),
            ("transf-filial", "Transfer"),
            ("industrializacao", "Industrialisation"),
            ("serv-industrializacao", "Industrialisation Service"),
        ),
        "payment_reference": fields.char("Payment Reference"),
        "purchase_id": fields.many2one("purchase.order", "Purchase Order", copied=False),
        "purchase_fiscal_id": fields.many2one(
            "purchase.order", "Fiscal Purchase Order", copied=False
        ),
        "invoice_ids": fields.many2many("account.move", "Bills", copied=False),
        "lines_ids": fields.one2many(LINE, "dfe_id", "Lines"),
        "dups_ids": fields.one2many(INSTALMENT, "dfe_id", "Instalments"),
        "refs_ids": fields.one2many(REFERENCE, "dfe_id", "References"),
        "protnfe_infnfe_chnfe": fields.char("Access Key", indexed=True),
        "nfe_infnfe_ide_nnf": fields.char("Number"),
        "nfe_infnfe_ide_serie": fields.char("Series"),
        "nfe_infnfe_ide_dhemi": fields.moment("Issued"),
        "nfe_infnfe_ide_finnfe": fields.char("Purpose"),
        "nfe_infnfe_total_icmstot_vnf": fields.floating("Total"),
        "nfe_infnfe_total_icms_vfrete": fields.floating("Freight"),
        "nfe_infnfe_total_icms_vicms": fields.floating("ICMS"),
        "nfe_infnfe_emit_cnpj": fields.char("Issuer CNPJ"),
        "nfe_infnfe_emit_xnome": fields.char("Issuer Name"),
        "nfe_infnfe_emit_ie": fields.char("Issuer IE"),
        "nfe_infnfe_dest_cnpj": fields.char("Recipient CNPJ"),
        "nfe_infnfe_rem_cnpj": fields.char("Sender CNPJ"),
        "nfe_infnfe_exped_cnpj": fields.char("Dispatcher CNPJ"),
        "nfe_infnfe_receb_cnpj": fields.char("Receiver CNPJ"),
        "nfe_infnfe_infadic_infcpl": fields.text("Additional Information"),
        "cte_infcte_ide_cmunini": fields.char("Origin Municipality"),
        "cte_infcte_ide_cmunfim": fields.char("Destination Municipality"),
        "cte_infcte_ide_toma3_toma": fields.char("Taker"),
        "l10n_br_xml_dfe": fields.binary("XML"),
        "l10n_br_xml_dfe_fname": fields.char("XML Name"),
        "l10n_br_pdf_dfe": fields.binary("PDF"),
        "l10n_br_pdf_dfe_fname": fields.char("PDF Name"),
    }

    def insert(self, values: Mapping[str, Any], record_id: int | None = None) -> int:
        """Insert a document; its files are attachments too."""
        new_id = super().insert(values, record_id)
        attachments.keep(self, new_id, values)
        return new_id

    def store(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Write a document; its files are attachments too."""
        super().store(record_id, values)
        attachments.keep(self, record_id, values)

    def remove(self, ids: Iterable[int]) -> None:
        """Delete documents with their files."""
        gone = list(ids)
        attachments.forget(self, gone)
        super().remove(gone)

    @record_method
    def action_gerar_po_dfe(self, ids: list[int]) -> None:
        """Generate an order of each document, whether or not one exists already."""
        self.check_access("write")
        self.check_rules(ids, "write")
        for document in self.records(ids):
            check_configured(document)
            generate_order(document)

    @record_method
    def action_ciencia_dfe(self, ids: list[int]) -> None:
        """Tell the tax authority that the document is known."""
        self.check_access("write")
        for document in self.records(ids):
            if document["l10n_br_status"] in {"01", "02"}:
                document.update(l10n_br_status="03")


class FiscalDocumentLine(Model):
    """Lines of documents; a freight document has one for the service."""

    model = LINE
    title = "Fiscal Document Line"
    order = "id"
    name_field = "det_prod_xprod"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "dfe_id": fields.many2one(DFE, "Fiscal Document", required=True, ondelete="cascade"),
        "company_id": fields.many2one("res.company", "Company"),
        "det_prod_xprod": fields.char("Description"),
        "det_prod_qcom": fields.floating("Quantity of the Document"),
        "det_prod_vuncom": fields.floating("Unit Value"),
        "det_prod_vprod": fields.floating("Value"),
        "product_id": fields.many2one("product.product", "Product"),
        "product_uom_id": fields.many2one("uom.uom", "Unit"),
        "l10n_br_quantidade": fields.floating("Quantity"),
    }

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:  # noqa: ARG002 - any value counts
        """Let the document change with its lines."""
        _touch_document(self.record(record_id))


class Instalment(Model):
    """Instalments of documents."""

    model = INSTALMENT
    title = "Fiscal Document Instalment"
    order = "id"
    name_field = "cobr_dup_ndup"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "dfe_id": fields.many2one(DFE, "Fiscal Document", required=True, ondelete="cascade"),
        "company_id": fields.many2one("res.company", "Company"),
        "cobr_dup_ndup": fields.char("Number"),
        "cobr_dup_dvenc": fields.day("Due Date"),
        "cobr_dup_vdup": fields.floating("Value"),
    }

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:  # noqa: ARG002 - any value counts
        """Let the document change with its instalments."""
        _touch_document(self.record(record_id))


class Reference(Model):
    """Documents that a document refers to: the goods that a freight carried."""

    model = REFERENCE
    title = "Fiscal Document Reference"
    order = "id"
    name_field = "infdoc_infnfe_chave"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "dfe_id": fields.many2one(DFE, "Fiscal Document", required=True, ondelete="cascade"),
        "infdoc_infnfe_chave": fields.char("Access Key"),
    }


def _touch_document(part: Record) -> None:
    document = part.one("dfe_id")
    if document is not None:
        document.update()


def check_configured(document: Record) -> None:
    """Refuse to generate an order while something is missing on the document."""
    if document["l10n_br_status"] not in BUTTON_STATUSES:
        raise errors.UserError(
            f"The document {document.label} is not in the status that allows a purchase order."
        )
    if not document["l10n_br_tipo_pedido"]:
        raise errors.UserError("Set the order type of the document before generating the order.")
    lines = document.many("lines_ids")
    if not lines or not all(line["product_id"] for line in lines):
        raise errors.UserError("Set the product of every line before generating the order.")
    instalments = document.many("dups_ids")
    if not instalments or not all(one["cobr_dup_dvenc"] for one in instalments):
        raise errors.UserError("Set the due date of every instalment before generating the order.")


def generate_order(document: Record) -> int:
    """Make a draft order in the company of the call, with its defaults, right or wrong."""
    env = document.model.env
    company_id = env.company_id
    order_id = env["purchase.order"].insert(
        {
            "name": f"P{env['purchase.order'].table.next_id:05d}",
            "partner_id": document["partner_id"],
            "company_id": company_id,
            "origin": document["name"],
            "dfe_id": document.id,
            "picking_type_id": catalog.default_picking_type(env),
            "l10n_br_operacao_id": generic_operation(document),
            "l10n_br_tipo_pedido": document["l10n_br_tipo_pedido"],
        }
    )
    order = env["purchase.order"].record(order_id)
    for line in document.many("lines_ids"):
        _add_line(order, line)
    links = {"purchase_id": order_id} if env.options.link_order_to_document else {}
    document.update(l10n_br_status=CONCLUDED, **links)
    return order_id


def generic_operation(document: Record) -> int | None:
    """Return the operation that the company of the call uses when nothing else is set."""
    env = document.model.env
    operations = env[catalog.OPERATION_MODEL]
    for operation_id in operations.table.referring("company_id", env.company_id):
        if not operations.value(operation_id, "l10n_br_transporte"):
            return operation_id
    return None


def _add_line(order: Record, line: Record) -> None:
    env = order.model.env
    product = line.one("product_id")
    present = env["purchase.order.line"].fields_get()
    unit = "product_uom_id" if "product_uom_id" in present else "product_uom"
    env["purchase.order.line"].insert(
        {
            "order_id": order.id,
            "product_id": line["product_id"],
            "name": product.label if product else None,
            "product_qty": line["l10n_br_quantidade"] or line["det_prod_qcom"] or 1.0,
            unit: line["product_uom_id"],
            "price_unit": line["det_prod_vuncom"] or 0.0,
            "l10n_br_operacao_id": order["l10n_br_operacao_id"],
            "date_planned": env.now,
        }
    )


MODELS: tuple[type[Model], ...] = (FiscalDocument, FiscalDocumentLine, Instalment, Reference)
