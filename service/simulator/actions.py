"""The window actions that buttons answer with: descriptions of a screen, with ids in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.simulator.orm import NEW_VERSION

if TYPE_CHECKING:
    from service.simulator.orm import Environment

BILL_ACTION_ID = {17: 257, 19: 266}
BILL_VIEWS = {17: {"form": 681, "list": 677}, 19: {"form": 748, "list": 745}}


def vendor_bills(env: Environment, bill_ids: list[int], partner_id: int) -> dict[str, Any]:
    """Describe the screen that shows one bill, or the list when there are several."""
    new = env.version >= NEW_VERSION
    table = "list" if new else "tree"
    views = BILL_VIEWS[19 if new else 17]
    single = len(bill_ids) == 1
    kinds = "('move_type', 'in', ['in_invoice', 'in_refund', 'in_receipt'])"
    context: Any = {"default_move_type": "in_invoice", "default_partner_id": partner_id}
    action: dict[str, Any] = {
        "id": BILL_ACTION_ID[19 if new else 17],
        "name": "Bills",
        "display_name": "Bills",
        "type": "ir.actions.act_window",
        "xml_id": "account.action_move_in_invoice_type",
        "binding_model_id": False,
        "binding_type": "action",
        "domain": f"[{kinds}]" if new else "[('move_type', '=', 'in_invoice')]",
        "context": context if new else "{'default_move_type': 'in_invoice'}",
        "res_model": "account.move",
        "target": "current",
        "view_mode": f"{table},kanban,form,activity",
        "views": [[views["list"], table], [views["form"], "form"]],
        "limit": 80,
        "filter": False,
    }
    if single:
        action["res_id"] = bill_ids[0]
        action["views"] = [[views["form"], "form"], [views["list"], table]]
    else:
        action["domain"] = f"[('id', 'in', {bill_ids})]"
    if new:
        action["path"] = "bills"
    return action
