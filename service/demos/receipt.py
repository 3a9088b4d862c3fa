"""Receipts of goods: each picking is done once, and exactly what has come is in stock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service import scene
from service.demos.demo import CUT, LATE, Case, Demo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.demos.demo import Play

PICKING, LINE, LOT, CHECK = "stock.picking", "stock.move.line", "stock.lot", "quality.check"
QUANT = "stock.quant"
VALIDATE = f"{PICKING}.button_validate"
EXPIRY, OTHER_EXPIRY = "2099-12-31", "2098-06-30"
SECONDS = {"create_lots": 5, "fill_lines": 5, "validate": 1.5}
LOTS = {"tracking": "lot", "quantity": "100"}
PIECES = {"tracking": "serial", "quantity": "3"}
LOOSE = {"tracking": "none", "quantity": "7.5"}


@dataclass(kw_only=True)
class ReceiptCase(Case):
    """A picking that expects goods: `stock` is what has come, by product and lot."""

    picking: dict[str, Any]
    stock: dict[tuple[int, str], Decimal]

    @property
    def picking_id(self) -> int:
        """The id of the picking."""
        return int(self.picking["picking_id"])

    @property
    def products(self) -> list[int]:
        """The products that it expects; no other picking does."""
        return [move["product_id"] for move in self.picking["moves"]]


class ReceiptDemo(Demo[ReceiptCase]):
    """Receives goods."""

    kind = "physical_receipt"
    size = "quantity"
    proof = "done once, each lot in stock"

    def tables(self, seed: Mapping[str, Any]) -> str:
        """The profile of receipts."""
        companies = ", ".join(
            f"{{ company_id = {one['id']}, picking_type_ids = [{one['default_picking_type_id']}] }}"
            for one in seed["companies"]
        )
        lines = (
            f"[connections.{scene.CONNECTION}.profiles.{self.kind}]",
            f"odoo_version = {seed['version']}",
            f"companies = [{companies}]",
        )
        return "\n".join(lines) + scene.timings(self.kind, SECONDS)

    async def arrive(self) -> list[ReceiptCase]:
        """Let goods be on their way."""
        wanted: dict[str, tuple[Play, Sequence[dict[str, Any]]]] = {
            "clean": (self.post, (LOTS, LOOSE)),
            "clean, serial numbers": (self.post, (PIECES,)),
            "clean, with checks": (self._checked, (LOTS,)),
            "late": (self._late, (LOTS,)),
            "cut": (self._cut, (LOTS, PIECES)),
            "twice": (self.double_click, (LOTS,)),
            "wrong expiry": (self._wrong_expiry, (LOTS, LOOSE)),
        }
        wanted |= {
            f"clean {number}": (self.post, (LOTS,)) for number in range(1, self._more_documents + 1)
        }
        killed = await self._case("killed", self.follow, (LOTS, LOOSE), opening=self._killed)
        return [killed, *[await self._case(name, *case) for name, case in wanted.items()]]

    async def one_more(self) -> ReceiptCase:
        """One more picking."""
        return await self._case("one more", self.post, (LOTS, LOOSE))

    async def _case(
        self, name: str, play: Play, goods: Sequence[dict[str, Any]], *, opening: Play | None = None
    ) -> ReceiptCase:
        answer = await self._scene.tell_odoo("receipts", {"goods": goods})
        [picking] = answer["receipts"]
        lines = [_line(move) for move in picking["moves"]]
        return ReceiptCase(
            name=name,
            input={
                "picking_id": picking["picking_id"],
                "picking_name": picking["name"],
                "lines": lines,
            },
            size=" + ".join(line["quantity"] for line in lines),
            play=play,
            opening=opening,
            picking=picking,
            stock=_stock(lines),
        )

    async def _killed(self, case: ReceiptCase) -> None:
        await self.kill_a_worker(case, VALIDATE)

    async def _late(self, case: ReceiptCase) -> None:
        """The call times out here, and works there."""
        await self.trouble(LATE, VALIDATE, ids=[case.picking_id])
        case.remark = "the validation timed out, its effect came later"
        await self.post(case)

    async def _cut(self, case: ReceiptCase) -> None:
        """A proxy answers 502 in Odoo's place, while Odoo fills the picking's lines."""
        await self.trouble(CUT, f"{PICKING}.write", ids=[case.picking_id])
        case.remark = "a proxy cut the call that wrote lots and quantities"
        await self.post(case)

    async def _checked(self, case: ReceiptCase) -> None:
        """A verdict and a measure are recorded before the picking is validated."""
        about = {"picking_id": case.picking_id, "company_id": case.picking["company_id"]}
        measured = {"test_type": "measure", "tolerance_min": 3.5, "tolerance_max": 4.5}
        seen, weighed = [
            await self.person(CHECK, "create", {**about, **values}) for values in ({}, measured)
        ]
        case.input["checks"] = [
            {"check_id": seen, "result": "pass"},
            {"check_id": weighed, "measure": "4.25"},
        ]
        case.remark = "two quality checks were decided"
        await self.post(case)

    async def _wrong_expiry(self, case: ReceiptCase) -> None:
        """A lot is there with another expiry; a person corrects it, and the posting goes on."""
        [name, *_] = [lot for _, lot in case.stock if lot]
        values = {
            "name": name,
            "product_id": case.products[0],
            "company_id": case.picking["company_id"],
            "expiration_date": f"{OTHER_EXPIRY} 00:00:00",
        }
        lot_id = await self.person(LOT, "create", values)
        await self.stop(case, "lot_expiry_differs")
        await self.person(LOT, "write", [lot_id], {"expiration_date": f"{EXPIRY} 00:00:00"})
        case.remark = f"lot {name} had another expiry: {case.status}, corrected, resumed"
        await self.resume(case)

    async def wrong(self, case: ReceiptCase) -> list[str]:
        """The picking is done, no other is of its order, and stock is what has come."""
        problems = []
        [order] = await self.records("purchase.order", ["id", "=", case.picking["order_id"]])
        [picking] = await self.records(PICKING, ["id", "=", case.picking_id])
        if order["picking_ids"] != [case.picking_id]:
            problems.append(f"the order has the pickings {order['picking_ids']}")
        if picking["state"] != "done":
            problems.append(f"the picking is {picking['state']}")
        moved = await self._quantities(LINE, ["picking_id", "=", case.picking_id])
        stock = await self._quantities(QUANT, ["product_id", "in", case.products])
        for what, found in (("moved", moved), ("in stock", stock)):
            if found != case.stock:
                problems.append(f"{what}: {_told(found)} in place of {_told(case.stock)}")
        undecided = await self.records(
            CHECK, ["picking_id", "=", case.picking_id], ["quality_state", "!=", "pass"]
        )
        if undecided:
            problems.append(f"{len(undecided)} quality checks have not passed")
        return problems

    async def _quantities(
        self, model: str, domain: Sequence[Any]
    ) -> dict[tuple[int, str], Decimal]:
        """How much records have, by product and lot."""
        sums: defaultdict[tuple[int, str], Decimal] = defaultdict(Decimal)
        for one in await self.records(model, domain):
            lot = one["lot_id"][1] if one["lot_id"] else ""
            sums[one["product_id"][0], lot] += Decimal(str(one["quantity"]))
        return dict(sums)


def _line(move: Mapping[str, Any]) -> dict[str, Any]:
    """All that a move expects: lots in two parts, serial numbers one by one."""
    line = {"product_id": move["product_id"], "quantity": move["quantity"]}
    number = move["product_id"]
    match move["tracking"]:
        case "lot":
            part = (Decimal(move["quantity"]) * Decimal("0.6")).quantize(Decimal("0.01"))
            parts = {f"{number}/A": part, f"{number}/B": Decimal(move["quantity"]) - part}
        case "serial":
            parts = {f"{number}-{place}": Decimal(1) for place in range(int(move["quantity"]))}
        case _:
            return line
    lots = [
        {"name": name, "quantity": str(quantity), "expiry": EXPIRY}
        for name, quantity in parts.items()
    ]
    return {**line, "lots": lots}


def _stock(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], Decimal]:
    """What is in stock once lines have come, by product and lot."""
    return {
        (line["product_id"], lot["name"]): Decimal(lot["quantity"])
        for line in lines
        for lot in line.get("lots") or [{"name": "", "quantity": line["quantity"]}]
    }


def _told(stock: Mapping[tuple[int, str], Decimal]) -> str:
    return ", ".join(
        f"{quantity} of {lot or product}" for (product, lot), quantity in stock.items()
    )
