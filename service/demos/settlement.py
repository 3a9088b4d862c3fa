"""Settlements of titles: each payment that was asked for is made once, and settles its title."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service import scene
from service.demos.demo import CUT, LATE, Case, Demo
from service.postings.title_settlement import dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.demos.demo import Play

ITEM, MOVE, PAYMENT = "account.move.line", "account.move", "account.payment"
PARTIAL, STATEMENT_LINE = "account.partial.reconcile", "account.bank.statement.line"
CREATE, POST = f"{PAYMENT}.create", f"{PAYMENT}.action_post"
DAY = "2026-11-24"
SECONDS = {"create_principal": 1.5, "post_principal": 5, "reconcile_principal": 5}
PARTS = ("principal", "discount")
OWED = "1000.00"

Payment = tuple[str, Decimal, bool]
"""Purpose, amount, and whether it is posted and reconciled."""


@dataclass(kw_only=True)
class SettlementCase(Case):
    """A title that stands open: `settled` is what is asked for, by payment, `left` what stays."""

    title: dict[str, Any]
    settled: dict[str, Decimal]
    left: Decimal

    @property
    def title_id(self) -> int:
        """The only instalment."""
        return int(self.title["line_ids"][0])


class SettlementDemo(Demo[SettlementCase]):
    """Settles titles."""

    kind = "title_settlement"
    proof = "each payment once, posted and reconciled"

    def tables(self, seed: Mapping[str, Any]) -> str:
        """The profile of titles."""
        profile = f"connections.{scene.CONNECTION}.profiles.{self.kind}"
        lines = [
            f"[{profile}]",
            f"odoo_version = {seed['version']}",
            f"companies = {[one['id'] for one in seed['companies']]}",
        ]
        for direction, account in (
            ("receivable", "interest_income"),
            ("payable", "interest_expense"),
        ):
            lines += [
                f"[{profile}.{direction}]",
                f"discount_journals = {_by_company(seed, 'journals', 'discount')}",
                f"interest_accounts = {_by_company(seed, 'accounts', account)}",
            ]
        return "\n".join(lines) + scene.timings(self.kind, SECONDS)

    async def arrive(self) -> list[SettlementCase]:
        """Let invoices and bills stand open."""
        seed = await self._scene.ask_odoo("seed")
        self._bank = seed["companies"][0]["journals"]["bank"]
        payable = {"direction": "payable"}
        return [
            await self._case("killed", self.follow, opening=self._killed),
            await self._case("late", self.follow, opening=self._late),
            await self._case("clean", self.post),
            await self._case("clean, a part", self.post, principal="333.33"),
            await self._case("clean, with discount", self.post, principal="980", discount="20"),
            await self._case("clean, with interest", self.post, interest="12.34"),
            await self._case("clean, bank statement", self._stated, title=payable),
            await self._case("cut", self._cut, title=payable),
            await self._case("twice", self.double_click),
            await self._case("not posted yet", self._draft, title={"posted": False}),
            *[
                await self._case(f"clean {number}", self.post)
                for number in range(1, self._more_documents + 1)
            ],
        ]

    async def one_more(self) -> SettlementCase:
        """One more invoice."""
        return await self._case("one more", self.post)

    async def _case(
        self,
        name: str,
        play: Play,
        *,
        opening: Play | None = None,
        title: Mapping[str, Any] | None = None,
        **amounts: str,
    ) -> SettlementCase:
        options = {"direction": "receivable", "amounts": [OWED], **(title or {})}
        [made] = (await self._scene.tell_odoo("titles", options))["titles"]
        asked = {"principal": OWED, **amounts}
        return SettlementCase(
            name=name,
            input={
                "direction": options["direction"],
                "number": str(made["number"]),
                "instalment": 1,
                "reference": name,
                "date": DAY,
                "journal_id": self._bank,
                **asked,
            },
            size=" + ".join(asked.values()),
            play=play,
            opening=opening,
            title=made,
            settled=_settled(asked),
            left=Decimal(OWED) - sum(Decimal(asked.get(part, 0)) for part in PARTS),
        )

    async def _killed(self, case: SettlementCase) -> None:
        await self.kill_a_worker(case, CREATE)

    async def _late(self, case: SettlementCase) -> None:
        """The call times out here, and works there."""
        case.remark = "creating the payment timed out, its effect came later"
        await self.until_called(case, CREATE, LATE)

    async def _cut(self, case: SettlementCase) -> None:
        """A proxy answers 502 in Odoo's place, while Odoo reconciles."""
        await self.trouble(CUT, f"{ITEM}.reconcile", ids=[case.title_id])
        case.remark = "a proxy cut the call that reconciled"
        await self.post(case)

    async def _stated(self, case: SettlementCase) -> None:
        """The bank statement shows the money: its line is matched with the payment."""
        values = {"journal_id": self._bank, "amount": -float(OWED), "payment_ref": "TED 4711"}
        line_id = await self.person(STATEMENT_LINE, "create", {**values, "date": DAY})
        case.input["statement_line_id"] = line_id
        case.remark = "matched with the bank statement"
        await self.post(case)

    async def _draft(self, case: SettlementCase) -> None:
        """The invoice is a draft; a person posts it, and the settlement goes on."""
        await self.stop(case, "title_not_found")
        await self.person(MOVE, "action_post", [case.title["move_id"]])
        case.remark = f"the invoice was a draft: {case.status}, posted in Odoo, resumed"
        await self.resume(case)

    async def wrong(self, case: SettlementCase) -> list[str]:
        """The title owes what it should, by the payments that were asked for and no others."""
        problems = []
        [item] = await self.records(ITEM, ["id", "=", case.title_id])
        left = abs(Decimal(str(item["amount_residual"])))
        if left != case.left:
            problems.append(f"R$ {left} of the title are open in place of R$ {case.left}")
        matches = await self.records(
            PARTIAL,
            "|",
            ["debit_move_id", "=", case.title_id],
            ["credit_move_id", "=", case.title_id],
        )
        if len(matches) != len(case.settled):
            problems.append(f"{len(matches)} payments settle the title")
        payments = await self._payments(case)
        found = {purpose: amount for purpose, amount, _ in payments}
        if len(payments) != len(found) or found != case.settled:
            problems.append(f"payments in Odoo: {payments}")
        problems += [
            f"payment {purpose} is not posted and reconciled"
            for purpose, _, over in payments
            if not over
        ]
        return [*problems, *await self._statement_problems(case), *await self._surplus()]

    async def _payments(self, case: SettlementCase) -> list[Payment]:
        """The title's payments, by their references."""
        name = f"NF {case.title['number']}/1 "
        words = dialect.of(self.odoo_version)
        found = await self.records(PAYMENT, [words.reference, "=like", f"{name}%"])
        return [
            (
                payment[words.reference].removeprefix(name).split()[0],
                Decimal(str(payment["amount"])),
                payment["state"] in words.posted and payment["is_reconciled"],
            )
            for payment in found
        ]

    async def _statement_problems(self, case: SettlementCase) -> list[str]:
        line_id = case.input.get("statement_line_id")
        if line_id is None:
            return []
        [line] = await self.records(STATEMENT_LINE, ["id", "=", line_id])
        return [] if line["is_reconciled"] else ["the line of the statement is not reconciled"]

    async def _surplus(self) -> list[str]:
        """Payments beyond those that all settlements asked for."""
        asked = sum(len(case.settled) for case in self._cases)
        made = len(await self.records(PAYMENT))
        return [] if made == asked else [f"{made} payments in Odoo in place of {asked}"]


def _settled(asked: Mapping[str, str]) -> dict[str, Decimal]:
    """The payments of a settlement by their purpose: money with interest is one of its own."""
    amounts = {name: Decimal(amount) for name, amount in asked.items()}
    interest = amounts.pop("interest", None)
    if interest is not None:
        amounts["register"] = amounts.pop("principal") + interest
    return amounts


def _by_company(seed: Mapping[str, Any], kind: str, name: str) -> str:
    pairs = (f"{one['id']} = {one[kind][name]}" for one in seed["companies"])
    return f"{{ {', '.join(pairs)} }}"
