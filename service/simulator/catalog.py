"""What a deployment configures: products, units, teams, operations, price lists, journals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import fields
from service.simulator.orm import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.simulator.orm import Environment, Record

OPERATION_MODEL = "l10n_br_ciel_it_account.operacao"
ACCOUNT_TYPES = (
    ("asset_receivable", "Receivable"),
    ("asset_cash", "Bank and Cash"),
    ("asset_current", "Current Assets"),
    ("liability_payable", "Payable"),
    ("liability_current", "Current Liabilities"),
    ("income", "Income"),
    ("income_other", "Other Income"),
    ("expense", "Expenses"),
)


class UnitOfMeasure(Model):
    """Units of measure."""

    model = "uom.uom"
    title = "Product Unit of Measure"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Unit of Measure", required=True),
        "active": fields.boolean("Active", default=True),
    }


def _path_of(category: Record) -> str:
    parent = category.one("parent_id")
    return f"{_path_of(parent)} / {category['name']}" if parent else str(category["name"])


class Category(Model):
    """Categories of products, in a tree."""

    model = "product.category"
    title = "Product Category"
    order = "complete_name"
    name_field = "complete_name"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name", required=True),
        "complete_name": fields.char("Complete Name", compute=_path_of),
        "parent_id": fields.many2one("product.category", "Parent Category", ondelete="cascade"),
        "child_id": fields.one2many("product.category", "parent_id", "Child Categories"),
    }


def _product_fields() -> dict[str, fields.Field]:
    """Return what a product shares with its template."""
    kinds = (
        ("consu", "Consumable"),
        ("service", "Service"),
        ("product", "Storable Product"),
    )
    return {
        "name": fields.char("Name", required=True),
        "default_code": fields.char("Internal Reference", indexed=True),
        "barcode": fields.char("Barcode"),
        "purchase_ok": fields.boolean("Can be Purchased", default=True),
        "sale_ok": fields.boolean("Can be Sold", default=True),
        "type": fields.selection("Product Type", *kinds, default="consu"),
        "detailed_type": fields.selection(
            "Product Type", *kinds, default="consu", versions=frozenset({17})
        ),
        "is_storable": fields.boolean("Track Inventory", versions=frozenset({19})),
        "tracking": fields.selection(
            "Tracking",
            ("serial", "By Unique Serial Number"),
            ("lot", "By Lots"),
            ("none", "No Tracking"),
            default="none",
            required=True,
        ),
        "use_expiration_date": fields.boolean("Use Expiration Date"),
        "expiration_time": fields.integer("Days Until Expiration", default=0),
        "purchase_method": fields.selection(
            "Control Policy",
            ("purchase", "On ordered quantities"),
            ("receive", "On received quantities"),
            default="receive",
        ),
        "list_price": fields.floating("Sales Price", default=0.0),
        "standard_price": fields.floating("Cost", default=0.0),
        "weight": fields.floating("Weight", default=0.0),
        "uom_id": fields.many2one(
            "uom.uom", "Unit of Measure", default=lambda env: env.seed.uom_id
        ),
        "uom_po_id": fields.many2one(
            "uom.uom",
            "Purchase Unit of Measure",
            default=lambda env: env.seed.uom_id,
            versions=frozenset({17}),
        ),
        "categ_id": fields.many2one(
            "product.category", "Product Category", default=lambda env: env.seed.category_id
        ),
        "company_id": fields.many2one("res.company", "Company"),
    }


SHARED = frozenset(_product_fields())


def _labelled(product: Record) -> str:
    code = product["default_code"]
    return f"[{code}] {product['name']}" if code else str(product["name"])


class Template(Model):
    """What the variants of a product have in common; here each template has one variant.

    A change of the template shows in the variant, whose own stamp it leaves alone.
    """

    model = "product.template"
    title = "Product"
    order = "name"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        **_product_fields(),
        "active": fields.boolean("Active", default=True),
        "product_variant_ids": fields.one2many("product.product", "product_tmpl_id", "Products"),
    }

    def display(self, record_id: int) -> str:
        """Return `[code] name`."""
        return _labelled(self.record(record_id))

    def on_created(self, record_id: int) -> None:
        """Make the variant."""
        row = self.table.rows[record_id]
        values = {name: row[name] for name in SHARED if name in row}
        self.env["product.product"].insert({**values, "product_tmpl_id": record_id})

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Let the variants show the change; archive them along."""
        row, variants = self.table.rows[record_id], self.env["product.product"]
        shared = {name: row.get(name) for name in SHARED & set(values)}
        for variant_id in variants.table.referring("product_tmpl_id", record_id):
            variants.store_quietly(variant_id, shared)
            if "active" in values:
                variants.store(variant_id, {"active": row["active"]})


class Product(Model):
    """Products and services."""

    model = "product.product"
    title = "Product Variant"
    order = "default_code, name"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        **_product_fields(),
        "active": fields.boolean("Active", default=True),
        "lst_price": fields.floating("Sales Price", compute=lambda one: one["list_price"]),
        "product_tmpl_id": fields.many2one(
            "product.template", "Product Template", ondelete="cascade"
        ),
        "seller_ids": fields.one2many("product.supplierinfo", "product_id", "Vendors"),
    }

    def display(self, record_id: int) -> str:
        """Return `[code] name`."""
        return _labelled(self.record(record_id))

    def insert(self, values: Mapping[str, Any], record_id: int | None = None) -> int:
        """Insert a variant, with a template of its own when none is named."""
        if values.get("product_tmpl_id"):
            return super().insert(values, record_id)
        shared = {name: value for name, value in values.items() if name in SHARED}
        template_id = self.env["product.template"].insert(shared)
        return super().insert({**values, "product_tmpl_id": template_id}, record_id)

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Write to the template what it shares."""
        row = self.table.rows[record_id]
        shared = {name: row.get(name) for name in SHARED & set(values)}
        if shared:
            self.env["product.template"].store(row["product_tmpl_id"], shared)


class Tax(Model):
    """Taxes by name only: nothing is computed from them."""

    model = "account.tax"
    title = "Tax"
    order = "sequence, id"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Tax Name", required=True),
        "sequence": fields.integer("Sequence", default=1),
        "amount": fields.floating("Amount", default=0.0),
        "type_tax_use": fields.selection(
            "Tax Type", ("sale", "Sales"), ("purchase", "Purchases"), ("none", "None")
        ),
        "active": fields.boolean("Active", default=True),
        "company_id": fields.many2one("res.company", "Company"),
    }


class VendorPrice(Model):
    """The price list of a vendor."""

    model = "product.supplierinfo"
    title = "Supplier Pricelist"
    order = "sequence, min_qty desc, price, id"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "partner_id": fields.many2one("res.partner", "Vendor", required=True),
        "product_id": fields.many2one("product.product", "Product Variant"),
        "company_id": fields.many2one("res.company", "Company"),
        "currency_id": fields.many2one("res.currency", "Currency"),
        "price": fields.floating("Price", default=0.0),
        "min_qty": fields.floating("Quantity", default=0.0),
        "sequence": fields.integer("Sequence", default=1),
        "delay": fields.integer("Delivery Lead Time", default=1),
    }

    def display(self, record_id: int) -> str:
        """Return the vendor's name."""
        partner = self.record(record_id).one("partner_id")
        return partner.label if partner else ""


class Team(Model):
    """Teams, among them the one whose members approve purchases."""

    model = "crm.team"
    title = "Sales Team"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Sales Team", required=True),
        "active": fields.boolean("Active", default=True),
        "company_id": fields.many2one("res.company", "Company"),
    }


class PaymentProvider(Model):
    """How bills are paid."""

    model = "payment.provider"
    title = "Payment Provider"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name", required=True),
        "code": fields.char("Code"),
        "company_id": fields.many2one("res.company", "Company"),
    }


class PaymentTerm(Model):
    """Terms of payment."""

    model = "account.payment.term"
    title = "Payment Terms"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Payment Terms", required=True),
        "active": fields.boolean("Active", default=True),
    }


class PickingType(Model):
    """Where goods and services are received; belongs to one company."""

    model = "stock.picking.type"
    title = "Picking Type"
    order = "sequence, id"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Operation Type", required=True),
        "sequence": fields.integer("Sequence", default=10),
        "code": fields.selection(
            "Type of Operation",
            ("incoming", "Receipt"),
            ("outgoing", "Delivery"),
            ("internal", "Internal Transfer"),
            default="incoming",
        ),
        "default_location_src_id": fields.many2one("stock.location", "Source Location"),
        "default_location_dest_id": fields.many2one("stock.location", "Destination Location"),
        "use_create_lots": fields.boolean("Create New Lots/Serial Numbers", default=True),
        "use_existing_lots": fields.boolean("Use Existing Lots/Serial Numbers", default=True),
        "company_id": fields.many2one("res.company", "Company", required=True),
        "active": fields.boolean("Active", default=True),
    }

    def display(self, record_id: int) -> str:
        """Return `company: name`."""
        kind = self.record(record_id)
        company = kind.one("company_id")
        return f"{company.label if company else ''}: {kind['name']}"


class FiscalOperation(Model):
    """What the tax code calls the operation; belongs to one company."""

    model = OPERATION_MODEL
    title = "Fiscal Operation"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name", required=True),
        "company_id": fields.many2one("res.company", "Company", required=True),
        "active": fields.boolean("Active", default=True),
        "l10n_br_tipo_operacao": fields.selection(
            "Direction", ("entrada", "Inbound"), ("saida", "Outbound"), default="entrada"
        ),
        "l10n_br_transporte": fields.boolean("Transport"),
        "l10n_br_destino_operacao": fields.selection(
            "Destination", ("1", "Within the state"), ("2", "Between states")
        ),
        "l10n_br_regime_tributario": fields.selection(
            "Tax Regime", ("1", "Simples Nacional"), ("3", "Regime Normal")
        ),
    }


def _companies_of(account: Record) -> tuple[int, ...]:
    company_id = company_of(account)
    return () if company_id is None else (company_id,)


def company_of(account: Record) -> int | None:
    """Return the company of an account, which 19 shows as a list of companies."""
    row = account.model.table.rows.get(account.id, {})
    company_id: int | None = row.get("company_id")
    return company_id


class Account(Model):
    """Accounts of the general ledger; each belongs to one company."""

    model = "account.account"
    title = "Account"
    order = "code, id"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "code": fields.char("Code", required=True, indexed=True),
        "name": fields.char("Account Name", required=True),
        "account_type": fields.selection("Type", *ACCOUNT_TYPES, required=True),
        "reconcile": fields.boolean("Allow Reconciliation"),
        "company_id": fields.many2one("res.company", "Company", versions=frozenset({17})),
        "company_ids": fields.many2many(
            "res.company", "Companies", compute=_companies_of, versions=frozenset({19})
        ),
    }

    def display(self, record_id: int) -> str:
        """Return code and name."""
        account = self.record(record_id)
        return f"{account['code']} {account['name']}"


class Journal(Model):
    """Journals of entries. Money goes through those of bank and cash, and waits in suspense."""

    model = "account.journal"
    title = "Journal"
    order = "sequence, type, code"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Journal Name", required=True),
        "code": fields.char("Short Code", required=True),
        "type": fields.selection(
            "Type",
            ("sale", "Sales"),
            ("purchase", "Purchase"),
            ("cash", "Cash"),
            ("bank", "Bank"),
            ("general", "Miscellaneous"),
        ),
        "sequence": fields.integer("Sequence", default=10),
        "company_id": fields.many2one("res.company", "Company", required=True),
        "default_account_id": fields.many2one("account.account", "Default Account"),
        "suspense_account_id": fields.many2one("account.account", "Suspense Account"),
        "active": fields.boolean("Active", default=True),
    }


def default_picking_type(env: Environment) -> int | None:
    """Return the first receipt type of the company of the call."""
    types = env["stock.picking.type"]
    ids = types.table.referring("company_id", env.company_id)
    return next(iter(types.sorted_ids(ids, types.order)), None)


def vendor_prices(product: Record, partner_id: int) -> list[Record]:
    """Return the entries of a vendor's price list for a product."""
    return [one for one in product.many("seller_ids") if one["partner_id"] == partner_id]


MODELS: tuple[type[Model], ...] = (
    UnitOfMeasure,
    Category,
    Template,
    Product,
    Tax,
    VendorPrice,
    Team,
    PaymentProvider,
    PaymentTerm,
    PickingType,
    FiscalOperation,
    Account,
    Journal,
)
