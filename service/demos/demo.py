"""What the demonstrations have in common: cases that go through trouble, shown and judged.

One worker is killed with SIGKILL in the middle of a call, one call's answer comes too late, a proxy
cuts another, a document is sent twice at once, and one stops for a cause that is mended before it
is resumed. In the end Odoo itself is asked what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from rich.live import Live
from rich.table import Table

from service import screen
from service.client import ApiError
from service.scene import CONNECTION, DemoFailed, open_scene
from service.worker import stop_signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from service.odoo.json2 import Protocol

    Play = Callable[[Any], Awaitable[None]]

POSTING_SECONDS = 60.0
LOOK_SECONDS = 0.05
SLOW = {"kind": "slow", "seconds": 2.0}
"""A call that takes longer than it takes to kill its worker."""

LATE = {"kind": "late_success", "seconds": 5.0, "after": 2.5}
"""A call whose effect comes after its worker's patience has ended."""

CUT = {"kind": "gateway_502", "seconds": 1.0, "after": 1.5}
"""A call that a proxy answers in Odoo's place, while Odoo goes on."""


@dataclass(kw_only=True)
class Case:
    """One document of a demonstration and how its posting went.

    `size` is its amount or quantity, for the table. The openings of all cases come first, one after
    the other; then all are played together.
    """

    name: str
    input: dict[str, Any]
    size: str
    play: Play
    opening: Play | None = None
    posting_id: str = ""
    status: str = "waiting to be sent"
    actions: dict[int, str] = field(default_factory=dict)
    last_event: int = 0
    remark: str = ""

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        self.status = event["status"]
        self.last_event = event["id"]
        if event["step"]:
            self.actions[event["step"]] = event["action"]


CaseT = TypeVar("CaseT", bound=Case)


class Demo(ABC, Generic[CaseT]):
    """A demonstration of one kind of posting; it is run once.

    `proof` says in words what Odoo has of a document when all went well.
    """

    kind: ClassVar[str]
    size: ClassVar[str] = "amount"
    proof: ClassVar[str]

    def __init__(
        self,
        console: Console,
        *,
        keep: bool = False,
        more_documents: int = 0,
        protocol: Protocol = "jsonrpc",
    ) -> None:
        self._console = console
        self._protocol = protocol
        self._keep = keep
        self._more_documents = more_documents
        self._cases: list[CaseT] = []
        self._total_steps = 0
        self._live: Live | None = None

    @property
    def odoo_version(self) -> int:
        """The version of the simulated Odoo: the older one where its protocol is enough."""
        return 17 if self._protocol == "jsonrpc" else 19

    # -- what a kind has of its own ----------------------------------------------------------

    @abstractmethod
    def tables(self, seed: Mapping[str, Any]) -> str:
        """The profile, for the configuration file."""

    @abstractmethod
    async def arrive(self) -> list[CaseT]:
        """Let the documents arrive in Odoo."""

    @abstractmethod
    async def wrong(self, case: CaseT) -> list[str]:
        """What Odoo has of a document that it should not, or has not that it should."""

    @abstractmethod
    async def one_more(self) -> CaseT:
        """Let one more document arrive, to be tried by hand."""

    # -- the play ----------------------------------------------------------------------------

    async def run(self) -> int:
        """Run it and answer the exit code: 0 when everything was as it should be."""
        begun = time.monotonic()
        async with open_scene(
            self._console,
            tables=self.tables,
            simulator=("--version", str(self.odoo_version)),
            protocol=self._protocol,
        ) as self._scene:
            await self._scene.start_worker()
            self._cases = await self.arrive()
            with self._screen():
                await self._play()
            problems = await self.judge()
            failed = self._report(problems, time.monotonic() - begun)
            if self._keep and not failed:
                await self._stay()
        return failed

    async def _play(self) -> None:
        for case in self._cases:
            if case.opening is not None:
                async with asyncio.timeout(POSTING_SECONDS):
                    await case.opening(case)
        async with asyncio.timeout(POSTING_SECONDS):
            await asyncio.gather(*(case.play(case) for case in self._cases))

    async def post(self, case: CaseT) -> None:
        """Send a document, and follow its posting to the end."""
        await self.send(case)
        await self.follow(case)

    async def kill_a_worker(self, case: CaseT, method: str) -> None:
        """SIGKILL the only worker while Odoo works on a call; then start two others."""
        await self.until_called(case, method, SLOW)
        [worker] = self._scene.workers
        worker.kill()
        await worker.wait()
        model, _, name = method.rpartition(".")
        case.remark = f"worker {worker.pid} was killed while Odoo worked on {name} of {model}"
        self._scene.say(case.remark)
        await self._scene.start_worker()
        await self._scene.start_worker()

    async def until_called(self, case: CaseT, method: str, fault: Mapping[str, Any]) -> None:
        """Send a document, and come back when Odoo has its call that meets a fault.

        No other posting may be under way that could make the same call.
        """
        await self.trouble(fault, method)
        await self.send(case)
        while (await self._scene.ask_odoo("state"))["faults"]:  # noqa: ASYNC110  in another process
            await asyncio.sleep(LOOK_SECONDS)

    async def double_click(self, case: CaseT) -> None:
        """Two requests at the same moment make one posting."""
        answers = await asyncio.gather(
            self._request(case), self._request(case), return_exceptions=True
        )
        accepted = [answer for answer in answers if isinstance(answer, dict)]
        refused = [answer for answer in answers if isinstance(answer, ApiError)]
        if len(accepted) != 1 or len(refused) != 1:
            raise DemoFailed(f"sent twice at once, the document was answered {answers}")
        case.posting_id = accepted[0]["id"]
        if refused[0].problem.get("posting_id") != case.posting_id:
            raise DemoFailed(f"the second request was refused with {refused[0].problem}")
        case.remark = "sent twice at once: the second was refused with the first one's id"
        await self.follow(case)

    async def stop(self, case: CaseT, code: str) -> None:
        """Send a document whose posting stops with `code`."""
        await self.post(case)
        posting = await self._scene.api.call("GET", self._path(case))
        if posting["code"] != code:
            ended = f"{posting['status']} ({posting['code']})"
            raise DemoFailed(f"{case.name}: {ended} in place of {code}")

    async def resume(self, case: CaseT) -> None:
        """Resume a stopped posting, and follow it to the end."""
        await self._scene.api.call("POST", f"{self._path(case)}/resume")
        await self.follow(case)

    async def roll_back(self, case: CaseT) -> None:
        """Roll a stopped posting back."""
        await self._scene.api.call("POST", f"{self._path(case)}/rollback")
        await self.follow(case)

    async def send(self, case: CaseT) -> None:
        """Send a document."""
        case.posting_id = (await self._request(case))["id"]

    async def follow(self, case: CaseT) -> None:
        """Follow a posting to its end, from the first event that was not seen yet."""
        async for event in self._scene.api.follow(case.posting_id, case.last_event):
            self._take(case, event)

    async def trouble(self, fault: Mapping[str, Any], method: str, **where: Any) -> None:
        """Let the next call of `model.method` meet a fault."""
        model, _, name = method.rpartition(".")
        await self._scene.tell_odoo("faults", {**fault, "model": model, "method": name, **where})

    async def person(self, model: str, method: str, *args: Any) -> Any:
        """Do something as a person in Odoo."""
        call = {"model": model, "method": method, "args": args}
        return (await self._scene.tell_odoo("execute", call))["result"]

    async def records(self, model: str, *domain: Sequence[Any]) -> list[dict[str, Any]]:
        """What Odoo really has."""
        found: list[dict[str, Any]] = await self._scene.ask_odoo(
            f"records/{model}", domain=json.dumps(domain)
        )
        return found

    async def _request(self, case: CaseT) -> dict[str, Any]:
        body = {
            "kind": self.kind,
            "connection": CONNECTION,
            "reference": case.name,
            "input": case.input,
        }
        answer: dict[str, Any] = await self._scene.api.call("POST", "/v1/postings", json=body)
        return answer

    @staticmethod
    def _path(case: CaseT) -> str:
        return f"/v1/postings/{case.posting_id}"

    # -- what it shows -----------------------------------------------------------------------

    @contextlib.contextmanager
    def _screen(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(self._table(), console=self._console, refresh_per_second=12) as self._live:
            yield
        self._live = None

    def _take(self, case: CaseT, event: dict[str, Any]) -> None:
        case.take(event)
        self._total_steps = event["total_steps"]
        if self._live is not None:
            self._live.update(self._table())
        elif not self._console.is_terminal:
            self.say(f"{case.name:<24} {screen.line(event)}")

    def _table(self) -> Table:
        numbers = range(1, self._total_steps + 1)
        headers = (str(number) for number in numbers)
        table = Table("document", *headers, "status", caption=screen.LEGEND, padding=(0, 0))
        for case in self._cases:
            signs = [screen.sign(case.actions.get(number, "open")) for number in numbers]
            table.add_row(case.name, *signs, case.status)
        return table

    async def judge(self) -> list[list[str]]:
        """What is wrong with each case; nothing is, when all went well."""
        return [await self._problems(case) for case in self._cases]

    async def _problems(self, case: CaseT) -> list[str]:
        """What is wrong with a document, asked of Odoo, of the posting and of its audit."""
        problems = await self.wrong(case)
        posting = await self._scene.api.call("GET", self._path(case))
        if posting["status"] != "completed":
            problems.append(f"{posting['status']} ({posting['code']}): {posting['message']}")
        over = [step for step in posting["steps"] if step["state"] in ("done", "found", "skipped")]
        if len(over) != posting["total_steps"]:
            problems.append(f"only {len(over)} of {posting['total_steps']} steps are over")
        verdict = await self._scene.api.call("GET", f"{self._path(case)}/audit/verify")
        if not verdict["valid"]:
            problems += [f"its audit: {damage['message']}" for damage in verdict["damages"]]
        return problems

    def _report(self, problems: Sequence[list[str]], took: float) -> int:
        table = Table("document", self.size, "posting", "what happened", title="in Odoo")
        for case, found in zip(self._cases, problems, strict=True):
            verdict = "; ".join(found) or f"{self.proof}. {case.remark}"
            table.add_row(case.name, case.size, case.posting_id[:8], verdict)
        self._console.print(table)
        failed = sum(1 for found in problems if found)
        completed = len(self._cases) - failed
        self.say(f"API at {self._scene.api_url}")
        if failed or self._keep:
            self.say(f"logs in {self._scene.folder}")
        steps = f"{self._total_steps}/{self._total_steps} steps"
        self.say(f"demo: {completed} postings completed, {failed} failed, {steps}, {took:.1f} s")
        return 1 if failed else 0

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    # -- staying up --------------------------------------------------------------------------

    async def _stay(self) -> None:
        """Stay up until Ctrl-C, with one more document to try by hand."""
        for line in (
            "",
            "The service stays up until Ctrl-C. In another terminal:",
            "",
            f"export ECLUSA_API_URL={self._scene.api_url}",
            f"export ECLUSA_API_KEY={self._scene.key}",
            *self.hints(await self.one_more()),
        ):
            self.say(line)
        stopping = asyncio.Event()
        with stop_signals(stopping):
            await stopping.wait()

    def hints(self, case: CaseT) -> list[str]:
        """The commands that post a document by hand."""
        path = self._scene.folder / "posting.json"
        body = {"kind": self.kind, "connection": CONNECTION, "input": case.input}
        path.write_text(json.dumps(body, indent=2), encoding="utf-8")
        headers = '-H "Authorization: Bearer $ECLUSA_API_KEY" -H "Content-Type: application/json"'
        return [
            f'curl -sS "$ECLUSA_API_URL/v1/postings" {headers} -d @{path}',
            "eclusa watch ID  # the id that this answers",
        ]
