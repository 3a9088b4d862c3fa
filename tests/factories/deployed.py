"""The service as it is deployed: API and workers are processes, only Odoo is in this one.

`async with deployed(settings, folder) as site` starts it; `site.post()` has a document posted over
HTTP, and `await site.wrong(paper)` compares what the API tells of it with what Odoo has.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from service.postings.freight_cte import STEPS
from service.runtime import Runtime, open_runtime
from service.scene import TIMINGS, configuration
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.arrivals import DocumentOptions
from tests.chaos.verdict import History, judge
from tests.factories.processes import command
from tests.factories.running import DUE, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from service.settings import Settings
    from service.simulator.arrivals import SeededDocument

PATH = "/v1/postings"
POLL_SECONDS = 0.05
GOING_ON = frozenset({"pending", "running", "waiting"})
ONCE = (
    "l10n_br_ciel_it_account.dfe.action_gerar_po_dfe",
    "purchase.order.button_confirm",
    "purchase.order.action_create_invoice",
    "account.move.action_post",
)
"""The calls that make, confirm or post something: one of each for a document."""

READS = frozenset({"authenticate", "fields_get", "read", "search_read", "version"})


def timings(*, timeout: float, settle: float) -> str:
    """The same times for the calls of every step, in seconds."""
    times = f"timeout_seconds = {timeout}, interval_seconds = 0.2, settle_seconds = {settle}"
    lines = (f"{step.name} = {{ {times} }}" for step in STEPS)
    return "\n".join(("[connections.main.profiles.freight_cte.timings]", *lines))


async def address(api: asyncio.subprocess.Process) -> str:
    """Where a process of `eclusa serve` listens, once it does."""
    assert api.stdout is not None
    line = await asyncio.wait_for(api.stdout.readline(), WAIT_SECONDS)
    return line.decode().split()[-1]


async def history(client: httpx.AsyncClient, posting_id: str) -> History:
    """A posting with all of its audit, as the API tells it."""
    path = f"{PATH}/{posting_id}"
    records: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = (await client.get(f"{path}/audit", params={"after": after})).json()
        records += page["items"]
        after = page["next_cursor"]
    return History(
        posting=(await client.get(path)).json(),
        audit=records,
        verdict=(await client.get(f"{path}/audit/verify")).json(),
    )


async def wrong(
    client: httpx.AsyncClient, simulator: Simulator, document: SeededDocument, *posting_ids: str
) -> list[str]:
    """What is not as it should be of a document whose last posting should be completed."""
    outcome = simulator.world.outcomes()[document.key]
    histories = [await history(client, posting_id) for posting_id in posting_ids]
    return judge(document.key, document.amount, outcome, histories).lines()


@dataclass(frozen=True)
class Paper:
    """A document and the posting that it became."""

    document: SeededDocument
    posting_id: str


@dataclass(frozen=True, kw_only=True)
class Site:
    """What runs. `client` has a key and speaks to the first API; `runtime` is the tests' own.

    `odoo` holds the simulator: closed, nobody listens at its port any more, and the simulator may
    be entered again.
    """

    urls: list[str]
    key: str
    client: httpx.AsyncClient
    runtime: Runtime
    simulator: Simulator
    odoo: AsyncExitStack
    workers: list[asyncio.subprocess.Process]

    def arrive(self) -> SeededDocument:
        """A document that has just arrived in Odoo."""
        [document] = self.simulator.world.add_documents(DocumentOptions())
        return document

    async def post(self) -> Paper:
        """Post a document that has just arrived."""
        document = self.arrive()
        response = await self.client.post(PATH, json=body(document))
        assert response.status_code == httpx.codes.ACCEPTED, response.text
        return Paper(document, response.json()["id"])

    async def statuses(self) -> dict[str, str]:
        """The status of each posting, by id."""
        response = await self.client.get(PATH, params={"limit": 200})
        response.raise_for_status()
        return {posting["id"]: posting["status"] for posting in response.json()["items"]}

    async def ended(self) -> dict[str, str]:
        """The status of each posting, once none goes on by itself any more."""
        async with asyncio.timeout(WAIT_SECONDS):
            while GOING_ON & set((statuses := await self.statuses()).values()):  # noqa: ASYNC110  polled
                await asyncio.sleep(POLL_SECONDS)
        return statuses

    async def wrong(self, papers: list[Paper]) -> list[str]:
        """What is not as it should be of postings that should be completed."""
        found = [
            await wrong(self.client, self.simulator, paper.document, paper.posting_id)
            for paper in papers
        ]
        return [line for lines in found for line in lines]

    def calls(self) -> dict[str, int]:
        """How often Odoo was asked to change something, by model and method."""
        received = self.simulator.world.received
        return {
            name: count for name, count in received.items() if name.rpartition(".")[2] not in READS
        }

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110  any condition, so it is polled
                await asyncio.sleep(0.01)

    def alive(self) -> bool:
        """Whether no worker has ended."""
        return all(worker.returncode is None for worker in self.workers)


def body(document: SeededDocument) -> dict[str, Any]:
    """The request that posts a document."""
    return {
        "kind": "freight_cte",
        "connection": "main",
        "input": {"access_key": document.key, "due_date": DUE},
    }


@asynccontextmanager
async def deployed(
    settings: Settings,
    folder: Path,
    *,
    apis: int = 1,
    workers: int = 2,
    simulator: SimulatorSettings | None = None,
    times: str = TIMINGS,
) -> AsyncIterator[Site]:
    """Run the service on the servers of `settings`; the logs go to `folder`."""
    async with AsyncExitStack() as stack:
        odoo = await stack.enter_async_context(AsyncExitStack())
        simulated = await odoo.enter_async_context(Simulator(simulator))
        content = configuration(simulated.world.seed.describe(), simulated.url, times)
        settings.config.write_text(content, encoding="utf-8")
        runtime = await stack.enter_async_context(open_runtime(settings))
        key = (await runtime.keys.create("tester")).secret

        async def start(name: str, *arguments: str) -> asyncio.subprocess.Process:
            running = command(settings, folder / f"{name}.log", *arguments)
            return await stack.enter_async_context(running)

        started = [await start(f"api-{n}", "serve", "--no-worker") for n in range(apis)]
        working = [await start(f"worker-{n}", "worker") for n in range(workers)]
        urls = [await address(api) for api in started]
        client = httpx.AsyncClient(
            base_url=urls[0], headers={"Authorization": f"Bearer {key}"}, timeout=WAIT_SECONDS
        )
        yield Site(
            urls=urls,
            key=key,
            client=await stack.enter_async_context(client),
            runtime=runtime,
            simulator=simulated,
            odoo=odoo,
            workers=working,
        )
