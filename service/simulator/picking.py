"""Transfers of stock: made by orders, filled line by line, and validated once.

Validating is not idempotent, and it may answer with a question in place of an effect: a wizard that
a person would see on the screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import errors, fields, quality, stock
from service.simulator.orm import Model, Record, record_method
from service.simulator.stock import of, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.simulator.orm import Environment

PICKING_STATES = (
    ("draft", "Draft"),
    ("waiting", "Waiting Another Operation"),
    ("confirmed", "Waiting"),
    ("assigned", "Ready"),
    ("done", "Done"),
    ("cancel", "Cancelled"),
)
BY_URGENCY = (
    ("draft", "draft"),
    ("assigned", "assigned"),
    ("partially_available", "assigned"),
    ("confirmed", "confirmed"),
    ("waiting", "waiting"),
    ("done", "done"),
)
"""The state of a picking by the first of these states that one of its live moves has."""

CODES = (("incoming", "Receipt"), ("outgoing", "Delivery"), ("internal", "Internal Transfer"))


def state_of(picking: Record) -> str:
    """Return the state that the moves make together."""
    states = {move["state"] for move in picking.many("move_ids")}
    live = states - {"cancel"}
    if states and not live:
        return "cancel"
    return next((shown for state, shown in BY_URGENCY if state in live), "draft")


def live_moves(picking: Record) -> list[Record]:
    """Return the moves that are neither done nor cancelled."""
    return [move for move in picking.many("move_ids") if move["state"] not in stock.OVER]


def processed(picking: Record) -> list[Record]:
    """Return the lines that a validation would move: the picked ones, or all if none is."""
    lines = [line for move in live_moves(picking) for line in move.many("move_line_ids")]
    picked = [line for line in lines if line["picked"]]
    return [line for line in picked or lines if (line["quantity"] or 0.0) > 0]


def has_tracking(picking: Record) -> bool:
    """Whether some product is tracked by lot or serial number."""
    return any(move["has_tracking"] != "none" for move in picking.many("move_ids"))


class Picking(Model):
    """Transfers, among them the receipts of purchase orders."""

    model = "stock.picking"
    title = "Transfer"
    order = "priority desc, scheduled_date asc, id desc"
    company_rule = True
    varied = "note"
    groups = stock.stock_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Reference", readonly=True, copied=False, indexed=True),
        "state": fields.selection("Status", *PICKING_STATES, compute=state_of),
        "priority": fields.selection("Priority", ("0", "Normal"), ("1", "Urgent"), default="0"),
        "move_type": fields.selection(
            "Shipping Policy",
            ("direct", "As soon as possible"),
            ("one", "When all products are ready"),
            default="direct",
            required=True,
        ),
        "origin": fields.char("Source Document"),
        "note": fields.html("Notes"),
        "partner_id": fields.many2one("res.partner", "Contact"),
        "user_id": fields.many2one("res.users", "Responsible", default=lambda env: env.user_id),
        "picking_type_id": fields.many2one("stock.picking.type", "Operation Type", required=True),
        "picking_type_code": fields.selection(
            "Type of Operation", *CODES, compute=lambda one: of(one, "picking_type_id", "code")
        ),
        "use_create_lots": fields.boolean(
            "Create New Lots", compute=lambda one: of(one, "picking_type_id", "use_create_lots")
        ),
        "use_existing_lots": fields.boolean(
            "Use Existing Lots", compute=lambda one: of(one, "picking_type_id", "use_existing_lots")
        ),
        "location_id": fields.many2one("stock.location", "Source Location", required=True),
        "location_dest_id": fields.many2one(
            "stock.location", "Destination Location", required=True
        ),
        "company_id": fields.many2one("res.company", "Company", readonly=True),
        "scheduled_date": fields.moment("Scheduled Date", default=lambda env: env.now),
        "date_done": fields.moment("Date of Transfer", readonly=True, copied=False),
        "purchase_id": fields.many2one("purchase.order", "Purchase Orders", readonly=True),
        "backorder_id": fields.many2one("stock.picking", "Back Order of", readonly=True),
        "backorder_ids": fields.one2many("stock.picking", "backorder_id", "Back Orders"),
        "has_tracking": fields.boolean("Has Tracking", compute=has_tracking),
        "move_ids": fields.one2many("stock.move", "picking_id", "Stock Moves"),
        "move_line_ids": fields.one2many("stock.move.line", "picking_id", "Operations"),
    }

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Number the picking, and take places and company from its type."""
        kind = self.env["stock.picking.type"].record(values["picking_type_id"])
        values.setdefault("name", self._number(kind))
        values.setdefault("company_id", kind["company_id"])
        values.setdefault("location_id", kind["default_location_src_id"])
        values.setdefault("location_dest_id", kind["default_location_dest_id"])
        return values

    def _number(self, kind: Record) -> str:
        companies = self.env.seed.companies.values()
        codes = [one.code for one in companies if one.id == kind["company_id"]]
        way = {"incoming": "IN", "outgoing": "OUT"}.get(kind["code"], "INT")
        return f"{(codes or ['wh'])[0].upper()}/{way}/{self.table.next_id:05d}"

    @record_method
    def action_confirm(self, ids: list[int]) -> bool:
        """Let drafts wait for their goods."""
        for picking in self._writable(ids):
            for move in live_moves(picking):
                if move["state"] == "draft":
                    move.update(state="confirmed")
        return True

    @record_method
    def action_assign(self, ids: list[int]) -> bool:
        """Reserve what is to be moved."""
        self.action_confirm(ids)
        for picking in self.records(ids):
            for move in live_moves(picking):
                stock.reserve(move)
        return True

    @record_method
    def action_cancel(self, ids: list[int]) -> bool:
        """Cancel what was not done yet."""
        for picking in self._writable(ids):
            cancel(picking)
        return True

    @record_method
    def button_validate(self, ids: list[int]) -> bool | dict[str, Any]:
        """Move the goods, or answer with the question that a person would have to answer first."""
        pickings = self._writable(ids)
        for picking in pickings:
            self._check_ready(picking)
        question = self._question(pickings)
        if question is not None:
            return question
        without_backorder = self.env.context.get("picking_ids_not_to_backorder") or ()
        for picking in pickings:
            finish(picking, backorder=picking.id not in without_backorder)
        return True

    def _writable(self, ids: list[int]) -> list[Record]:
        self.check_access("write")
        pickings = self.records(ids)
        self.check_rules(ids, "write")
        return pickings

    def _check_ready(self, picking: Record) -> None:
        if picking["state"] == "done":
            raise errors.UserError("You can not validate a transfer that is done already.")
        if picking["state"] == "cancel" or not picking.many("move_ids"):
            raise errors.UserError("Please add some items to move.")
        lines = processed(picking)
        if not lines:
            raise errors.UserError(
                "You cannot validate a transfer if no quantities are reserved. "
                "To force the transfer, encode quantities."
            )
        _check_lots(lines)

    def _question(self, pickings: Sequence[Record]) -> dict[str, Any] | None:
        """Return the first wizard that these pickings call for, unless it was answered before."""
        context = self.env.context
        short = [one for one in pickings if is_short(one)]
        expired = [one for one in pickings if has_expired_lots(one)]
        unpicked = [one for one in pickings if not _is_picked(one)]
        wizards: tuple[tuple[str, str, str, Iterable[Record]], ...] = (
            (
                "skip_immediate",
                "Immediate Transfer?",
                "stock.immediate.transfer",
                unpicked if self.env.options.immediate_transfer else (),
            ),
            ("skip_expired", "Confirmation", "expiry.picking.confirmation", expired),
            ("skip_backorder", "Create Backorder?", "stock.backorder.confirmation", short),
            (
                "skip_quality_checks",
                "Quality Check",
                "quality.check.wizard",
                [one for one in pickings if quality.is_open(one)],
            ),
        )
        for skip, name, model, about in wizards:
            if about and not context.get(skip):
                return wizard(name, model, [one.id for one in about])
        return None


def wizard(name: str, model: str, picking_ids: list[int]) -> dict[str, Any]:
    """Describe a screen that asks a person."""
    return {
        "name": name,
        "type": "ir.actions.act_window",
        "res_model": model,
        "view_mode": "form",
        "views": [[False, "form"]],
        "target": "new",
        "context": {
            "button_validate_picking_ids": picking_ids,
            "default_pick_ids": [[4, one] for one in picking_ids],
        },
    }


def _is_picked(picking: Record) -> bool:
    return any(line["picked"] for line in picking.many("move_line_ids"))


def _check_lots(lines: Iterable[Record]) -> None:
    """Refuse tracked products without a lot, and more than one piece of a serial number."""
    tracked = [line for line in lines if line["tracking"] != "none"]
    missing = {
        stock.of_label(line, "product_id")
        for line in tracked
        if line["lot_id"] is None and not line["lot_name"]
    }
    if missing:
        raise errors.UserError(
            f"You need to supply a Lot/Serial number for products {', '.join(sorted(missing))}."
        )
    for line in tracked:
        if line["tracking"] == "serial" and line["quantity"] != 1:
            raise errors.UserError(
                "You can only process 1.0 Units of products with unique serial number."
            )


def is_short(picking: Record) -> bool:
    """Whether less would be moved than is to be moved."""
    return any(taken < move["product_uom_qty"] for move, taken in quantities(picking))


def quantities(picking: Record) -> list[tuple[Record, float]]:
    """Return the live moves, each with what a validation would move of it."""
    lines = processed(picking)
    return [
        (move, total([line for line in lines if line["move_id"] == move.id]))
        for move in live_moves(picking)
    ]


def has_expired_lots(picking: Record) -> bool:
    """Whether a lot is beyond its date."""
    now = picking.model.env.now
    dates = (
        of(line, "lot_id", "expiration_date") or line["expiration_date"]
        for line in processed(picking)
    )
    return any(date is not None and date <= now for date in dates)


def finish(picking: Record, *, backorder: bool) -> None:
    """Do the picking; what is missing goes to a picking of its own, or is cancelled."""
    kept = {line.id for line in processed(picking)}
    missing: list[tuple[Record, float]] = []
    for move, quantity in quantities(picking):
        _finish_move(move, kept)
        rest = round(move["product_uom_qty"] - quantity, stock.ROUNDING)
        if rest > 0:
            missing.append((move, rest))
    for move, rest in missing:
        _split(picking, move, rest, backorder=backorder)
    picking.update(date_done=picking.model.env.now)


def _finish_move(move: Record, kept: set[int]) -> None:
    lines = move.many("move_line_ids")
    move.model.env["stock.move.line"].remove(one.id for one in lines if one.id not in kept)
    done = [one for one in lines if one.id in kept]
    for line in done:
        _give_lot(line)
        line.update(picked=True, date=move.model.env.now)
        stock.book(line)
    move.update(state="done" if done else "cancel", date=move.model.env.now)
    bought = move.one("purchase_line_id")
    if bought is not None:
        bought.update(qty_received=(bought["qty_received"] or 0.0) + total(done))


def _give_lot(line: Record) -> None:
    """Find or make the lot that a line only names."""
    if line["lot_id"] is not None or not line["lot_name"] or line["tracking"] == "none":
        return
    lots = line.model.env["stock.lot"]
    key = [
        ["name", "=", line["lot_name"]],
        ["product_id", "=", line["product_id"]],
        ["company_id", "in", [line["company_id"], False]],
    ]
    found = next(iter(lots.matching(key)), None)
    if found is None:
        values = {
            "name": line["lot_name"],
            "product_id": line["product_id"],
            "company_id": line["company_id"],
            "expiration_date": line["expiration_date"],
        }
        found = lots.insert(lots.prepare(values))
    line.update(lot_id=found)


def _split(picking: Record, move: Record, rest: float, *, backorder: bool) -> None:
    """Leave the move with what was done of it; the rest is a move of its own."""
    moves = move.model
    done = round(move["product_uom_qty"] - rest, stock.ROUNDING)
    if done > 0:
        move.update(product_uom_qty=done)
    row = moves.table.rows[move.id]
    copied = {
        name: row.get(name)
        for name, field in moves.schema.items()
        if field.stored and field.copied and name in row and name != "id"
    }
    values = {**copied, "product_uom_qty": rest, "state": "cancel"}
    if not backorder:
        if done > 0:
            moves.insert(values)
        return
    later = _backorder_of(picking)
    made = moves.record(moves.insert({**values, "picking_id": later, "state": "confirmed"}))
    stock.reserve(made)
    if done <= 0:
        moves.remove([move.id])


def _backorder_of(picking: Record) -> int:
    known = picking["backorder_ids"]
    if known:
        return int(known[0])
    names = ("picking_type_id", "origin", "partner_id", "purchase_id", "location_id")
    values = {name: picking[name] for name in (*names, "location_dest_id", "company_id")}
    model = picking.model
    return model.insert(model.prepare({**values, "backorder_id": picking.id}))


def cancel(picking: Record) -> None:
    """Cancel the moves of a picking that are not done; their lines go."""
    for move in live_moves(picking):
        lines = move.many("move_line_ids")
        move.model.env["stock.move.line"].remove(line.id for line in lines)
        move.update(state="cancel")


def expect(order: Record) -> None:
    """Make the receipt of the goods of an order, ready to be filled."""
    env, kind = order.model.env, order.one("picking_type_id")
    goods = [line for line in order.many("order_line") if stock.is_goods(line.one("product_id"))]
    if kind is None or not goods:
        return
    pickings, moves = env["stock.picking"], env["stock.move"]
    head = {
        "picking_type_id": kind.id,
        "origin": order["name"],
        "partner_id": order["partner_id"],
        "purchase_id": order.id,
    }
    picking_id = pickings.insert(pickings.prepare(head))
    for line in goods:
        values = {
            "picking_id": picking_id,
            "product_id": line["product_id"],
            "product_uom_qty": line["product_qty"],
            "purchase_line_id": line.id,
        }
        stock.reserve(moves.record(moves.insert(moves.prepare(values))))


def of_order(env: Environment, order_id: int) -> list[Record]:
    """Return the receipts of an order."""
    pickings = env["stock.picking"]
    ids = pickings.table.referring("purchase_id", order_id)
    return [pickings.record(one) for one in ids]


def stop_expecting(order: Record) -> None:
    """Cancel the receipts of an order; refused once goods have come."""
    receipts = of_order(order.model.env, order.id)
    if any(one["state"] == "done" for one in receipts):
        raise errors.UserError(
            f"Unable to cancel purchase order {order['name']} as some receipts have already been "
            "done."
        )
    for receipt in receipts:
        cancel(receipt)


MODELS: tuple[type[Model], ...] = (Picking,)
