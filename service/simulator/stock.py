"""Stock: where goods are, their lots, and the moves that bring them there line by line."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import errors, fields
from service.simulator.orm import NEW_VERSION, Model, Operation, Record, record_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.simulator.orm import Environment

SUPPLIERS = 4
"""The place outside that goods come from."""

MOVE_STATES = (
    ("draft", "New"),
    ("waiting", "Waiting Another Move"),
    ("confirmed", "Waiting Availability"),
    ("partially_available", "Partially Available"),
    ("assigned", "Available"),
    ("done", "Done"),
    ("cancel", "Cancelled"),
)
OVER = frozenset({"done", "cancel"})
RESERVING = frozenset({"confirmed", "partially_available", "assigned"})
TRACKING = (
    ("serial", "By Unique Serial Number"),
    ("lot", "By Lots"),
    ("none", "No Tracking"),
)
ROUNDING = 6


def stock_groups() -> dict[tuple[int, Operation], tuple[str, ...]]:
    """Return who may do what with stock."""
    allowed = ("Inventory/Administrator", "Inventory/User")
    operations: tuple[Operation, ...] = ("read", "write", "create", "unlink")
    return {(version, one): allowed for version in (17, 19) for one in operations}


def is_goods(product: Record | None) -> bool:
    """Whether a product is received at all; a service is not."""
    return product is not None and product["type"] != "service"


def of(record: Record, link: str, name: str) -> Any:
    """Return a value of what a record refers to."""
    other = record.one(link)
    return other[name] if other else None


def total(records: list[Record], name: str = "quantity") -> float:
    """Return a sum without the dust of binary fractions."""
    return round(sum(record[name] or 0.0 for record in records), ROUNDING)


def path_of(location: Record) -> str:
    """Return the names from the outermost place to this one."""
    parent = location.one("location_id")
    return f"{path_of(parent)}/{location['name']}" if parent else str(location["name"])


class Location(Model):
    """Places; those of suppliers are outside."""

    model = "stock.location"
    title = "Inventory Locations"
    order = "complete_name, id"
    name_field = "complete_name"
    parent_field = "location_id"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Location Name", required=True),
        "complete_name": fields.char("Full Location Name", compute=path_of),
        "location_id": fields.many2one("stock.location", "Parent Location"),
        "usage": fields.selection(
            "Location Type",
            ("supplier", "Vendor Location"),
            ("view", "View"),
            ("internal", "Internal Location"),
            ("customer", "Customer Location"),
            ("inventory", "Inventory Loss"),
            ("production", "Production"),
            ("transit", "Transit Location"),
            default="internal",
        ),
        "company_id": fields.many2one("res.company", "Company"),
        "active": fields.boolean("Active", default=True),
    }


class Lot(Model):
    """Lots and serial numbers: unique by name, product and company."""

    model = "stock.lot"
    title = "Lot/Serial"
    order = "name, id"
    varied = "ref"
    company_rule = True
    groups = stock_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Lot/Serial Number", required=True, indexed=True),
        "ref": fields.char("Internal Reference"),
        "product_id": fields.many2one("product.product", "Product", required=True),
        "product_uom_id": fields.many2one(
            "uom.uom", "Unit of Measure", compute=lambda lot: of(lot, "product_id", "uom_id")
        ),
        "company_id": fields.many2one("res.company", "Company"),
        "expiration_date": fields.moment("Expiration Date"),
        "note": fields.html("Description"),
        "quant_ids": fields.one2many("stock.quant", "lot_id", "Quants"),
        "product_qty": fields.floating(
            "On Hand Quantity", compute=lambda lot: total(lot.many("quant_ids"))
        ),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Ask for the company, as 17 does, and let the product say how long it keeps."""
        if self.env.version < NEW_VERSION and not values.get("company_id"):
            raise self._mandatory("company_id", "Company")
        if not values.get("expiration_date") and values.get("product_id"):
            product = self.env["product.product"].record(values["product_id"])
            if product["use_expiration_date"] and product["expiration_time"]:
                end = self.env.now + timedelta(days=product["expiration_time"])
                values["expiration_date"] = end.replace(microsecond=0)
        return values

    def on_created(self, record_id: int) -> None:
        """Refuse a second lot of the same name."""
        self._check_unique(self.record(record_id))

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Refuse to become a second lot of the same name."""
        if {"name", "product_id", "company_id"} & set(values):
            self._check_unique(self.record(record_id))

    def _check_unique(self, lot: Record) -> None:
        for other in self.named(lot["name"], lot["product_id"]):
            companies = {lot["company_id"], other["company_id"]}
            if other.id != lot.id and (None in companies or len(companies) == 1):
                raise errors.ValidationError(
                    "The combination of serial number and product must be unique across a company."
                    "\nFollowing combination contains duplicates:"
                    f"\n - Product: {of_label(lot, 'product_id')}, Serial Number: {lot['name']}"
                )

    def named(self, name: str, product_id: int) -> list[Record]:
        """Return the lots of a product with exactly this name, of all companies."""
        ids = self.table.referring("name", name)
        lots = [self.record(record_id) for record_id in ids]
        return [lot for lot in lots if lot["product_id"] == product_id]


def of_label(record: Record, link: str) -> str:
    """Return the display name of what a record refers to."""
    other = record.one(link)
    return other.label if other else ""


class Quant(Model):
    """How much of a product and lot is at a place."""

    model = "stock.quant"
    title = "Quants"
    groups = stock_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "product_id": fields.many2one("product.product", "Product", required=True),
        "location_id": fields.many2one("stock.location", "Location", required=True),
        "lot_id": fields.many2one("stock.lot", "Lot/Serial Number", ondelete="restrict"),
        "quantity": fields.floating("Quantity", default=0.0),
        "reserved_quantity": fields.floating("Reserved Quantity", default=0.0),
        "company_id": fields.many2one(
            "res.company", "Company", compute=lambda one: of(one, "location_id", "company_id")
        ),
        "in_date": fields.moment("Incoming Date", default=lambda env: env.now),
    }


class Move(Model):
    """What is to be moved of one product."""

    model = "stock.move"
    title = "Stock Move"
    order = "sequence, id"
    company_rule = True
    groups = stock_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Description", required=True, versions=frozenset({17})),
        "sequence": fields.integer("Sequence", default=10),
        "state": fields.selection(
            "Status", *MOVE_STATES, default="draft", readonly=True, copied=False
        ),
        "picking_id": fields.many2one("stock.picking", "Transfer", ondelete="cascade"),
        "picking_type_id": fields.many2one("stock.picking.type", "Operation Type"),
        "product_id": fields.many2one("product.product", "Product", required=True),
        "product_uom_qty": fields.floating("Demand", required=True, default=1.0),
        "product_uom": fields.many2one("uom.uom", "UoM", required=True),
        "quantity": fields.floating(
            "Quantity", compute=lambda move: total(move.many("move_line_ids"))
        ),
        "picked": fields.boolean(
            "Picked", compute=lambda move: any(one["picked"] for one in move.many("move_line_ids"))
        ),
        "location_id": fields.many2one("stock.location", "Source Location", required=True),
        "location_dest_id": fields.many2one(
            "stock.location", "Destination Location", required=True
        ),
        "company_id": fields.many2one("res.company", "Company", required=True),
        "date": fields.moment("Date Scheduled", required=True, default=lambda env: env.now),
        "origin": fields.char("Source Document"),
        "procure_method": fields.selection(
            "Supply Method",
            ("make_to_stock", "Default: Take From Stock"),
            ("make_to_order", "Advanced: Apply Procurement Rules"),
            default="make_to_stock",
            required=True,
        ),
        "has_tracking": fields.selection(
            "Product with Tracking",
            *TRACKING,
            compute=lambda move: of(move, "product_id", "tracking"),
        ),
        "purchase_line_id": fields.many2one("purchase.order.line", "Purchase Order Line"),
        "move_line_ids": fields.one2many("stock.move.line", "move_id", "Move Lines"),
    }

    def display(self, record_id: int) -> str:
        """Return the product's name."""
        return of_label(self.record(record_id), "product_id")

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take unit and description from the product, all other from the picking."""
        if values.get("picking_id"):
            picking = self.env["stock.picking"].record(values["picking_id"])
            for name in (
                "location_id",
                "location_dest_id",
                "company_id",
                "picking_type_id",
                "origin",
            ):
                values.setdefault(name, picking[name])
            if picking["state"] not in OVER | {"draft"}:
                values.setdefault("state", "confirmed")
        if values.get("product_id"):
            product = self.env["product.product"].record(values["product_id"])
            values.setdefault("product_uom", product["uom_id"])
            if self.env.version < NEW_VERSION:
                values.setdefault("name", product.label)
        return values

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Let the lines follow a quantity, or a tick, that was set on the move."""
        move = self.record(record_id)
        if "quantity" in values:
            self._spread(move, float(values["quantity"] or 0.0))
        if "picked" in values:
            for line in move.many("move_line_ids"):
                line.update(picked=bool(values["picked"]))
        follow_lines(move)

    def on_unlinking(self, record_id: int) -> None:
        """Refuse to delete what has happened."""
        if self.value(record_id, "state") == "done":
            raise errors.UserError("You can only delete draft or cancelled moves.")

    def _spread(self, move: Record, quantity: float) -> None:
        """Set the quantity of a move: on its first line, with no other line left."""
        lines = move.many("move_line_ids")
        line_model = self.env["stock.move.line"]
        line_model.remove(line.id for line in lines[1:])
        if lines:
            lines[0].update(quantity=quantity)
        else:
            line_model.create({"move_id": move.id, "quantity": quantity})


def follow_lines(move: Record) -> None:
    """Let the state of an open move say how much of its demand its lines hold."""
    if move["state"] not in RESERVING:
        return
    held = move["quantity"]
    if held <= 0:
        state = "confirmed"
    else:
        state = "assigned" if held >= move["product_uom_qty"] else "partially_available"
    if state != move["state"]:
        move.update(state=state)


def reserve(move: Record) -> None:
    """Give a move that comes from outside lines for its whole demand, one for each serial number.

    Lines that are there already count.
    """
    missing = round(move["product_uom_qty"] - move["quantity"], ROUNDING)
    parts = [missing] if missing > 0 else []
    if move["has_tracking"] == "serial":
        parts = [1.0] * int(missing)
    for part in parts:
        values = {"move_id": move.id, "quantity": part}
        lines = move.model.env["stock.move.line"]
        lines.insert(lines.prepare(values))
    move.update(state="confirmed")
    follow_lines(move)


class MoveLine(Model):
    """What is moved of one lot, from where, to where."""

    model = "stock.move.line"
    title = "Product Moves (Stock Move Line)"
    company_rule = True
    varied = "quantity"
    groups = stock_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "move_id": fields.many2one("stock.move", "Stock Operation", ondelete="cascade"),
        "picking_id": fields.many2one("stock.picking", "Transfer"),
        "product_id": fields.many2one("product.product", "Product", ondelete="cascade"),
        "product_uom_id": fields.many2one("uom.uom", "Unit of Measure", required=True),
        "quantity": fields.floating("Quantity", default=0.0),
        "picked": fields.boolean("Picked"),
        "lot_id": fields.many2one("stock.lot", "Lot/Serial Number", ondelete="restrict"),
        "lot_name": fields.char("Lot/Serial Number Name"),
        "expiration_date": fields.moment("Expiration Date"),
        "location_id": fields.many2one("stock.location", "From", required=True),
        "location_dest_id": fields.many2one("stock.location", "To", required=True),
        "company_id": fields.many2one("res.company", "Company", required=True, readonly=True),
        "date": fields.moment("Date", required=True, default=lambda env: env.now),
        "state": fields.selection(
            "Status", *MOVE_STATES, compute=lambda line: of(line, "move_id", "state")
        ),
        "tracking": fields.selection(
            "Tracking", *TRACKING, compute=lambda line: of(line, "product_id", "tracking")
        ),
    }

    def display(self, record_id: int) -> str:
        """Return the product's name."""
        return of_label(self.record(record_id), "product_id")

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take from the move what was not given; a line without one joins its product's."""
        move = self._move_of(values)
        if move is not None:
            values["move_id"] = move.id
            values.setdefault("product_uom_id", move["product_uom"])
            for name in (
                "picking_id",
                "product_id",
                "location_id",
                "location_dest_id",
                "company_id",
            ):
                values.setdefault(name, move[name])
        return values

    def _move_of(self, values: Mapping[str, Any]) -> Record | None:
        moves = self.env["stock.move"]
        if values.get("move_id"):
            return moves.record(values["move_id"])
        if not values.get("picking_id"):
            return None
        listed = self.env["stock.picking"].record(values["picking_id"]).many("move_ids")
        return next((one for one in listed if one["product_id"] == values.get("product_id")), None)

    def on_created(self, record_id: int) -> None:
        """Count what is added to a move; on one that is done it is moved at once."""
        line = self.record(record_id)
        self._check(line)
        move = line.one("move_id")
        if move is not None and move["state"] == "done":
            book(line)
        elif move is not None:
            follow_lines(move)

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:  # noqa: ARG002 - any value counts
        """Let the move follow."""
        line = self.record(record_id)
        self._check(line)
        move = line.one("move_id")
        if move is not None:
            follow_lines(move)

    def on_unlinking(self, record_id: int) -> None:
        """Refuse to delete what was moved."""
        line = self.record(record_id)
        if line["state"] in OVER:
            raise errors.UserError(
                "You can not delete product moves if the picking is done. "
                "You can only correct the done quantities."
            )

    @record_method
    def unlink(self, ids: list[int]) -> bool:
        """Delete lines, and let their moves follow."""
        moves = [move for one in ids if self.has(one) and (move := self.record(one).one("move_id"))]
        super().unlink(ids)
        for move in moves:
            follow_lines(move)
        return True

    def _check(self, line: Record) -> None:
        if (line["quantity"] or 0.0) < 0:
            raise errors.ValidationError("You can not enter negative quantities.")
        lot = line.one("lot_id")
        if lot is None:
            return
        if lot["product_id"] != line["product_id"]:
            raise errors.ValidationError(
                f"This lot {lot['name']} is incompatible with this product "
                f"{of_label(line, 'product_id')}"
            )
        if lot["company_id"] not in {None, line["company_id"]}:
            raise errors.UserError(
                f"Incompatible companies on records:\n- '{line.label}' belongs to company "
                f"'{of_label(line, 'company_id')}' and 'Lot/Serial Number' (lot_id: "
                f"'{lot.label}') belongs to another company."
            )


def book(line: Record) -> None:
    """Move what a line says: from one place to the other, of its lot."""
    _change_quant(line, line["location_id"], -line["quantity"])
    _change_quant(line, line["location_dest_id"], line["quantity"])


def _change_quant(line: Record, location_id: int, quantity: float) -> None:
    """Change how much is at a place; only internal places are counted."""
    env = line.model.env
    if env["stock.location"].value(location_id, "usage") != "internal":
        return
    quants = env["stock.quant"]
    key = {"location_id": location_id, "lot_id": line["lot_id"]}
    for quant_id in quants.table.referring("product_id", line["product_id"]):
        quant = quants.record(quant_id)
        if all(quant[name] == value for name, value in key.items()):
            quant.update(quantity=round(quant["quantity"] + quantity, ROUNDING))
            return
    quants.insert({**key, "product_id": line["product_id"], "quantity": quantity})


def plant(env: Environment) -> None:
    """Insert where goods come from and where each company keeps them."""
    locations, kinds = env["stock.location"], env["stock.picking.type"]
    locations.insert({"name": "Vendors", "usage": "supplier"}, SUPPLIERS)
    for company in env.seed.companies.values():
        place = locations.insert(
            {"name": f"{company.code.title()} Stock", "company_id": company.id},
            10 * company.id + 8,
        )
        for kind_id in kinds.table.referring("company_id", company.id):
            kinds.store(
                kind_id, {"default_location_src_id": SUPPLIERS, "default_location_dest_id": place}
            )


MODELS: tuple[type[Model], ...] = (Location, Lot, Quant, Move, MoveLine)
