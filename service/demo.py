"""The demonstration: freight bills into a simulated Odoo, while things go wrong.

One worker is killed with SIGKILL in the middle of a call, one call's answer comes too late, a proxy
cuts another, a document is sent twice at once, and one is refused, rolled back and resumed. In the
end Odoo itself is asked: each document must have exactly one live order and one posted bill of the
CTe's amount.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from service import screen
from service.client import ApiError
from service.scene import CONNECTION, DemoFailed, open_scene
from service.worker import stop_signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping

    from rich.console import Console

DFE = "l10n_br_ciel_it_account.dfe"
DUE_DATE = "2026-12-31"
POSTING_SECONDS = 60.0
GENERATION_SECONDS = 0.5
TAX_SECONDS = 0.2
KILLED_CALL_SECONDS = 2.0
LATE_SECONDS = 2.5
CUT_SECONDS = 1.0


@dataclass
class Case:
    """One document of the demonstration and how its posting went."""

    name: str
    document: dict[str, Any]
    posting_id: str = ""
    status: str = "waiting to be sent"
    actions: dict[int, str] = field(default_factory=dict)
    remark: str = ""

    @property
    def key(self) -> str:
        """The access key."""
        return str(self.document["key"])

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        self.status = event["status"]
        if event["step"]:
            self.actions[event["step"]] = event["action"]


class Demo:
    """Runs the demonstration once."""

    def __init__(self, console: Console, *, keep: bool, more_documents: int) -> None:
        self._console = console
        self._keep = keep
        self._more_documents = more_documents
        self._cases: list[Case] = []
        self._live: Live | None = None

    async def run(self) -> int:
        """Run it and answer the exit code: 0 when everything was as it should be."""
        begun = time.monotonic()
        async with open_scene(self._console) as self._scene:
            await self._prepare_odoo()
            self._first_worker = await self._scene.start_worker()
            await self._play()
            problems = await self._problems()
            took = time.monotonic() - begun
            failed = self._report(problems, took)
            if self._keep and not failed:
                await self._stay()
        return failed

    async def _prepare_odoo(self) -> None:
        durations = {
            "action_gerar_po_dfe": GENERATION_SECONDS,
            "onchange_l10n_br_calcular_imposto": TAX_SECONDS,
            "onchange_l10n_br_calcular_imposto_btn": TAX_SECONDS,
        }
        await self._scene.tell_odoo("settings", {"durations": durations})

    # -- the play ----------------------------------------------------------------------------

    async def _play(self) -> None:
        cases = await self._prepare()
        with self._screen():
            async with asyncio.timeout(POSTING_SECONDS):
                await self._kill_a_worker(cases["killed"])
            plays: list[Awaitable[None]] = [
                self._late(cases["late"]),
                self._cut(cases["cut"]),
                self._double_click(cases["twice"]),
                self._roll_back(cases["rolled back"]),
                self._finish(cases["killed"]),
                *(self._clean(case) for name, case in cases.items() if name.startswith("clean")),
            ]
            async with asyncio.timeout(POSTING_SECONDS):
                await asyncio.gather(*plays)

    async def _prepare(self) -> dict[str, Case]:
        """Let the documents arrive in Odoo."""
        wanted: dict[str, dict[str, Any]] = {
            "killed": {},
            "clean": {"taker_company": "plant"},
            "clean, other company": {"taker_company": "south", "carrier_state": "PR"},
            "clean, CNPJ with letters": {"taker_company": "sister", "alphanumeric": True},
            "late": {},
            "cut": {},
            "twice": {},
            "rolled back": {},
        }
        wanted |= {f"clean {number}": {} for number in range(1, self._more_documents + 1)}
        cases = {}
        for name, options in wanted.items():
            answer = await self._scene.tell_odoo("documents", options)
            cases[name] = Case(name, answer["documents"][0])
        self._cases = list(cases.values())
        return cases

    async def _clean(self, case: Case) -> None:
        await self._send(case)
        await self._follow(case)

    async def _kill_a_worker(self, case: Case) -> None:
        """SIGKILL the only worker while Odoo generates the order; then start two others."""
        fault = {"kind": "slow", "seconds": KILLED_CALL_SECONDS}
        await self._add_fault(case, "action_gerar_po_dfe", fault)
        await self._send(case)
        async for event in self._scene.api.follow(case.posting_id):
            self._take(case, event)
            if event["step"] == 6 and event["action"] == "start":  # noqa: PLR2004  "generate order"
                break
        self._first_worker.kill()
        await self._first_worker.wait()
        case.remark = f"worker {self._first_worker.pid} was killed during step 6"
        self._scene.say(case.remark)
        await self._scene.start_worker()
        await self._scene.start_worker()

    async def _finish(self, case: Case) -> None:
        await self._follow(case)

    async def _late(self, case: Case) -> None:
        """The call times out here, and works there."""
        fault = {"kind": "late_success", "seconds": LATE_SECONDS * 2, "after": LATE_SECONDS}
        await self._add_fault(case, "action_gerar_po_dfe", fault)
        case.remark = "the call timed out, its effect came later"
        await self._clean(case)

    async def _cut(self, case: Case) -> None:
        """A proxy answers 502 in Odoo's place, while Odoo posts the bill."""
        fault = {"kind": "gateway_502", "seconds": CUT_SECONDS, "after": CUT_SECONDS * 1.5}
        await self._add_fault(case, "action_post", fault)
        case.remark = "a proxy cut the call that posted the bill"
        await self._clean(case)

    async def _double_click(self, case: Case) -> None:
        """Two requests at the same moment make one posting."""
        answers = await asyncio.gather(self._post(case), self._post(case), return_exceptions=True)
        accepted = [answer for answer in answers if isinstance(answer, dict)]
        refused = [answer for answer in answers if isinstance(answer, ApiError)]
        if len(accepted) != 1 or len(refused) != 1:
            raise DemoFailed(f"sent twice at once, the document was answered {answers}")
        case.posting_id = accepted[0]["id"]
        if refused[0].problem.get("posting_id") != case.posting_id:
            raise DemoFailed(f"the second request was refused with {refused[0].problem}")
        case.remark = "sent twice at once: the second was refused with the first one's id"
        await self._follow(case)

    async def _roll_back(self, case: Case) -> None:
        """Odoo refuses to confirm the order; the posting is rolled back, then resumed."""
        fault = {"kind": "user_error", "message": "The vendor is blocked."}
        await self._add_fault(case, "button_confirm", fault)
        await self._send(case)
        await self._follow(case)
        if case.status != "failed":
            raise DemoFailed(f"a refused confirmation ended as {case.status}")
        path = f"/v1/postings/{case.posting_id}"
        rolled_back = await self._scene.api.call("POST", f"{path}/rollback")
        last = len((await self._scene.api.call("GET", f"{path}/audit"))["items"])
        await self._scene.api.call("POST", f"{path}/resume")
        await self._follow(case, last)
        case.remark = f"Odoo refused at step 9: {rolled_back['status']}, resumed"

    async def _send(self, case: Case) -> None:
        case.posting_id = (await self._post(case))["id"]

    async def _post(self, case: Case) -> dict[str, Any]:
        body = {
            "kind": "freight_cte",
            "connection": CONNECTION,
            "reference": case.name,
            "input": {
                "xml": case.document["xml"],
                "due_date": DUE_DATE,
                "carrier_invoice": str(case.document["number"]),
            },
        }
        answer: dict[str, Any] = await self._scene.api.call("POST", "/v1/postings", json=body)
        return answer

    async def _follow(self, case: Case, last: int = 0) -> None:
        async for event in self._scene.api.follow(case.posting_id, last):
            self._take(case, event)

    async def _add_fault(self, case: Case, method: str, fault: dict[str, Any]) -> None:
        await self._scene.tell_odoo("faults", {"method": method, "key": case.key, **fault})

    # -- what it shows -----------------------------------------------------------------------

    @contextlib.contextmanager
    def _screen(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(self._table(), console=self._console, refresh_per_second=12) as self._live:
            yield
        self._live = None

    def _take(self, case: Case, event: dict[str, Any]) -> None:
        case.take(event)
        if self._live is not None:
            self._live.update(self._table())
        elif not self._console.is_terminal:
            line = f"{case.name:<24} {screen.line(event)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        numbers = [str(number) for number in range(1, 17)]
        table = Table("document", *numbers, "status", caption=screen.LEGEND, padding=(0, 0))
        for case in self._cases:
            signs = [screen.sign(case.actions.get(number, "open")) for number in range(1, 17)]
            table.add_row(case.name, *signs, case.status)
        return table

    async def _problems(self) -> dict[str, list[str]]:
        """What is wrong with each document, asked of Odoo and of the audit."""
        state = await self._scene.ask_odoo("state")
        return {
            case.key: [
                *_odoo_problems(case, state["documents"].get(case.key, {})),
                *await self._posting_problems(case),
            ]
            for case in self._cases
        }

    async def _posting_problems(self, case: Case) -> list[str]:
        posting = await self._scene.api.call("GET", f"/v1/postings/{case.posting_id}")
        problems = []
        if posting["status"] != "completed":
            problems.append(f"{posting['status']} ({posting['code']}): {posting['message']}")
        over = [step for step in posting["steps"] if step["state"] in ("done", "found", "skipped")]
        if len(over) != posting["total_steps"]:
            problems.append(f"only {len(over)} of {posting['total_steps']} steps are over")
        verdict = await self._scene.api.call("GET", f"/v1/postings/{case.posting_id}/audit/verify")
        if not verdict["valid"]:
            problems += [f"its audit: {damage['message']}" for damage in verdict["damages"]]
        return problems

    def _report(self, problems: Mapping[str, list[str]], took: float) -> int:
        table = Table("document", "amount", "posting", "what happened", title="in Odoo")
        for case in self._cases:
            wrong = "; ".join(problems[case.key])
            verdict = wrong or f"one order, one posted bill. {case.remark}"
            table.add_row(case.name, str(case.document["amount"]), case.posting_id[:8], verdict)
        self._console.print(table)
        failed = sum(1 for found in problems.values() if found)
        completed = len(self._cases) - failed
        self._console.print(f"API at {self._scene.api_url}", markup=False, highlight=False)
        if failed or self._keep:
            self._console.print(f"logs in {self._scene.folder}", markup=False, highlight=False)
        line = f"demo: {completed} postings completed, {failed} failed, 16/16 steps, {took:.1f} s"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        return 1 if failed else 0

    async def _stay(self) -> None:
        """Stay up until Ctrl-C, with one more document to try by hand."""
        document = (await self._scene.tell_odoo("documents", {}))["documents"][0]
        path = self._scene.folder / "cte.xml"
        path.write_text(document["xml"], encoding="utf-8")
        for line in (
            "",
            "The service stays up until Ctrl-C. In another terminal:",
            "",
            f"export ECLUSA_API_URL={self._scene.api_url}",
            f"export ECLUSA_API_KEY={self._scene.key}",
            f"eclusa post --xml {path} --due {DUE_DATE}",
        ):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        stopping = asyncio.Event()
        with stop_signals(stopping):
            await stopping.wait()


def _odoo_problems(case: Case, outcome: Mapping[str, Any]) -> list[str]:
    """Whether Odoo has exactly one live order and one posted bill of the CTe's amount."""
    problems = []
    amount = Decimal(str(case.document["amount"]))
    for what, state in (("orders", "purchase"), ("bills", "posted")):
        live = [item for item in outcome.get(what, []) if item["state"] != "cancel"]
        if len(live) != 1:
            problems.append(f"{len(live)} live {what} in Odoo")
        elif live[0]["state"] != state or Decimal(str(live[0]["amount"])) != amount:
            problems.append(f"{what} in Odoo: {json.dumps(live)}")
    return problems
