"""Freight bills: each becomes one order and one posted bill."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service import scene
from service.demos.demo import CUT, LATE, Case, Demo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.demos.demo import Play

DUE_DATE = "2026-12-31"
GENERATE = "l10n_br_ciel_it_account.dfe.action_gerar_po_dfe"
DURATIONS = {
    "action_gerar_po_dfe": 0.5,
    "onchange_l10n_br_calcular_imposto": 0.2,
    "onchange_l10n_br_calcular_imposto_btn": 0.2,
}


@dataclass(kw_only=True)
class FreightCase(Case):
    """A CTe that has arrived in Odoo."""

    document: dict[str, Any]

    @property
    def key(self) -> str:
        """The access key."""
        return str(self.document["key"])


class FreightDemo(Demo[FreightCase]):
    """Posts freight bills."""

    kind = "freight_cte"
    proof = "one order, one posted bill"

    def tables(self, seed: Mapping[str, Any]) -> str:
        """The profile of freight bills."""
        return scene.freight_profile(seed, self.kind) + scene.timings(
            self.kind, scene.FREIGHT_SECONDS
        )

    async def arrive(self) -> list[FreightCase]:
        """Let CTe documents arrive."""
        await self._scene.tell_odoo("settings", {"durations": DURATIONS})
        wanted: dict[str, tuple[Play, dict[str, Any]]] = {
            "clean": (self.post, {"taker_company": "plant"}),
            "clean, other company": (
                self.post,
                {"taker_company": "south", "carrier_state": "PR"},
            ),
            "clean, CNPJ with letters": (
                self.post,
                {"taker_company": "sister", "alphanumeric": True},
            ),
            "late": (self._late, {}),
            "cut": (self._cut, {}),
            "twice": (self.double_click, {}),
            "rolled back": (self._refused, {}),
        }
        wanted |= {
            f"clean {number}": (self.post, {}) for number in range(1, self._more_documents + 1)
        }
        killed = await self._case("killed", self.follow, opening=self._killed)
        return [
            killed,
            *[await self._case(name, play, **options) for name, (play, options) in wanted.items()],
        ]

    async def one_more(self) -> FreightCase:
        """One more CTe."""
        return await self._case("one more", self.post)

    async def _case(
        self, name: str, play: Play, *, opening: Play | None = None, **options: Any
    ) -> FreightCase:
        document = await self.document(**options)
        return FreightCase(
            name=name,
            input=self.input(document),
            size=document["amount"],
            play=play,
            opening=opening,
            document=document,
        )

    async def document(self, **options: Any) -> dict[str, Any]:
        """A CTe that arrives in Odoo."""
        [document] = (await self._scene.tell_odoo("documents", options))["documents"]
        arrived: dict[str, Any] = document
        return arrived

    def input(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """What is posted of a document."""
        return {
            "xml": document["xml"],
            "due_date": DUE_DATE,
            "carrier_invoice": str(document["number"]),
        }

    async def _killed(self, case: FreightCase) -> None:
        await self.kill_a_worker(case, GENERATE)

    async def _late(self, case: FreightCase) -> None:
        """The call times out here, and works there."""
        await self.trouble(LATE, GENERATE, key=case.key)
        case.remark = "the call timed out, its effect came later"
        await self.post(case)

    async def _cut(self, case: FreightCase) -> None:
        """A proxy answers 502 in Odoo's place, while Odoo posts the bill."""
        await self.trouble(CUT, "account.move.action_post", key=case.key)
        case.remark = "a proxy cut the call that posted the bill"
        await self.post(case)

    async def _refused(self, case: FreightCase) -> None:
        """Odoo refuses to confirm the order; the posting is rolled back, then resumed."""
        fault = {"kind": "user_error", "message": "The vendor is blocked."}
        await self.trouble(fault, "purchase.order.button_confirm", key=case.key)
        await self.stop(case, "odoo_user_fault")
        await self.roll_back(case)
        case.remark = f"Odoo refused at step 9: {case.status}, resumed"
        await self.resume(case)

    async def wrong(self, case: FreightCase) -> list[str]:
        """Odoo has exactly one live order and one posted bill of the CTe's amount."""
        outcome = (await self._scene.ask_odoo("state"))["documents"].get(case.key, {})
        problems = []
        amount = Decimal(str(case.document["amount"]))
        for what, state in (("orders", "purchase"), ("bills", "posted")):
            live = [item for item in outcome.get(what, []) if item["state"] != "cancel"]
            if len(live) != 1:
                problems.append(f"{len(live)} live {what} in Odoo")
            elif live[0]["state"] != state or Decimal(str(live[0]["amount"])) != amount:
                problems.append(f"{what} in Odoo: {json.dumps(live)}")
        return problems

    def hints(self, case: FreightCase) -> list[str]:
        """The command that posts a CTe by hand."""
        path = self._scene.folder / "cte.xml"
        path.write_text(case.document["xml"], encoding="utf-8")
        return [f"eclusa post --xml {path} --due {DUE_DATE}"]
