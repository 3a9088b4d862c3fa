"""Quality checks of what is received: passed, failed or measured before the picking is done."""

from __future__ import annotations

from typing import ClassVar

from service.simulator import errors, fields
from service.simulator.orm import Model, Record, record_method
from service.simulator.stock import stock_groups


class Check(Model):
    """One check; a measured one passes within its tolerance."""

    model = "quality.check"
    title = "Quality Check"
    company_rule = True
    varied = "note"
    groups = stock_groups()
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Reference"),
        "title": fields.char("Title"),
        "test_type": fields.selection(
            "Test Type", ("passfail", "Pass - Fail"), ("measure", "Measure"), default="passfail"
        ),
        "quality_state": fields.selection(
            "Status", ("none", "To do"), ("pass", "Passed"), ("fail", "Failed"), default="none"
        ),
        "picking_id": fields.many2one("stock.picking", "Picking", ondelete="cascade"),
        "product_id": fields.many2one("product.product", "Product"),
        "lot_id": fields.many2one("stock.lot", "Lot/Serial Number"),
        "measure": fields.floating("Measure", default=0.0, copied=False),
        "tolerance_min": fields.floating("Min Tolerance"),
        "tolerance_max": fields.floating("Max Tolerance"),
        "norm_unit": fields.char("Norm Unit"),
        "note": fields.html("Note"),
        "user_id": fields.many2one("res.users", "Checked by"),
        "control_date": fields.moment("Checked on", copied=False),
        "company_id": fields.many2one(
            "res.company", "Company", required=True, default=lambda env: env.company_id
        ),
    }

    def prepare(self, values: dict[str, object]) -> dict[str, object]:
        """Number the check."""
        values.setdefault("name", f"QC{self.table.next_id:05d}")
        return values

    @record_method
    def do_pass(self, ids: list[int]) -> bool:
        """Pass checks."""
        return self._decide(ids, "pass")

    @record_method
    def do_fail(self, ids: list[int]) -> bool:
        """Fail checks."""
        return self._decide(ids, "fail")

    @record_method
    def do_measure(self, ids: list[int]) -> bool:
        """Pass or fail one check by its measure."""
        if len(ids) != 1:
            listed = ", ".join(map(str, ids))
            raise errors.value_error(f"Expected singleton: {self.model}({listed})")
        [check] = self.records(ids)
        return self._decide(ids, "pass" if within_tolerance(check) else "fail")

    def _decide(self, ids: list[int], state: str) -> bool:
        self.check_access("write")
        self.check_rules(ids, "write")
        for check in self.records(ids):
            check.update(quality_state=state, user_id=self.env.user_id, control_date=self.env.now)
        return True


def within_tolerance(check: Record) -> bool:
    """Whether the measure is neither below nor above what is allowed."""
    low, high = check["tolerance_min"] or 0.0, check["tolerance_max"] or 0.0
    return low <= (check["measure"] or 0.0) <= high


def is_open(picking: Record) -> bool:
    """Whether a check of a picking was not decided yet."""
    checks = picking.model.env["quality.check"]
    ids = checks.table.referring("picking_id", picking.id)
    return any(checks.value(one, "quality_state") == "none" for one in ids)


MODELS: tuple[type[Model], ...] = (Check,)
