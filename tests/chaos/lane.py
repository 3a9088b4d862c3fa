"""One deployment of real processes, and the rounds that are played on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import httpx
from redis.asyncio import Redis

from service import embedded, migrations
from service.database import Database
from service.keys import Keys
from service.scene import configuration
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.arrivals import DocumentOptions, SeededDocument
from service.simulator.faults import from_json
from tests.chaos import schedule as schedules
from tests.chaos.verdict import Findings, History, judge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.chaos.schedule import Document, Event, Schedule

HEARTBEAT_SECONDS = 2.0
START_SECONDS = 30.0
ROUND_SECONDS = 60.0
POLL_SECONDS = 0.1
DUE_DATE = "2026-12-31"
ACTIONS = ("generate_order", "confirm_order", "approve_order", "create_bill", "post_bill")
WRITES = (
    "prepare_entry",
    "set_order_type",
    "set_product",
    "set_due_date",
    "configure_order",
    "bill_taxes",
    "configure_bill",
    "bill_taxes_again",
)
MIGRATING = asyncio.Lock()
"""Alembic keeps its context in its module: one migration at a time in a process."""

DURATIONS = {"action_gerar_po_dfe": 0.15, "button_confirm": 0.03, "action_post": 0.05}
PASSING = frozenset({502, 503, 504})


def timings() -> str:
    """Short times: a call may take 1 s, its effect may come until 3.5 s after it was sent."""
    values = "timeout_seconds = 1.0, interval_seconds = 0.1, settle_seconds = 3.5"
    lines = (f"{name} = {{ {values} }}" for name in (*ACTIONS, *WRITES))
    return "\n".join(("[connections.main.profiles.freight_cte.timings]", *lines))


class Zygote:
    """Makes processes of the service by fork."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._orders = asyncio.Lock()

    async def fork(self, *arguments: str, log: Path, environment: Mapping[str, str]) -> int:
        """A process that is `eclusa ARGUMENTS`; its id."""
        order = {"arguments": arguments, "log": str(log), "environment": dict(environment)}
        async with self._orders:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            return int(await self._process.stdout.readline())


@asynccontextmanager
async def open_zygote() -> AsyncIterator[Zygote]:
    """A zygote whose processes are killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.zygote",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Zygote(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@dataclass
class Paper:
    """A document of a round: in Odoo, in the plan, and its postings so far."""

    name: str
    seeded: SeededDocument
    plan: Document
    postings: list[str] = field(default_factory=list)
    accepted: asyncio.Event = field(default_factory=asyncio.Event)


class Lane:
    """Servers, a simulated Odoo, one API process and some workers."""

    def __init__(self, folder: Path, zygote: Zygote, version: Literal[17, 19], broken: str) -> None:
        self._folder = folder
        self._zygote = zygote
        self._version = version
        self._broken = broken
        self._workers: list[int] = []
        self._api = 0
        self._paused: set[int] = set()
        self._servers: embedded.Servers
        self._odoo: Simulator
        self._client: httpx.AsyncClient
        self._environment: dict[str, str] = {}
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Lane]:
        """Start everything, and end it."""
        async with AsyncExitStack() as stack:
            self._folder.mkdir(parents=True)
            self._servers = await stack.enter_async_context(
                embedded.open_servers(self._folder / "data", durable=False)
            )
            async with MIGRATING:
                await migrations.migrate(self._servers.database_url)
            self._odoo = await stack.enter_async_context(
                Simulator(SimulatorSettings(version=self._version, durations=dict(DURATIONS)))
            )
            await self._configure()
            stack.callback(self._kill_all)
            self._client = await stack.enter_async_context(await self._new_client())
            self._api = await self._start("api", "serve", "--no-worker")
            for number in range(schedules.WORKERS):
                self._workers.append(await self._start(f"worker-{number}", "worker"))
            await self._until_ready()
            yield self

    async def _configure(self) -> None:
        config = self._folder / "eclusa.toml"
        seed = self._odoo.world.seed.describe()
        config.write_text(configuration(seed, self._odoo.url, timings()), encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._environment = {
            "ECLUSA_DATABASE_URL": self._servers.database_url,
            "ECLUSA_REDIS_URL": self._servers.redis_url,
            "ECLUSA_CONFIG": str(config),
            "ECLUSA_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "ECLUSA_LOCK_TTL_SECONDS": "4",
            "ECLUSA_PORT": str(port),
            "ECLUSA_TEST_BREAK": self._broken,
        }

    async def _new_client(self) -> httpx.AsyncClient:
        database = Database(self._servers.database_url)
        try:
            key = (await Keys(database).create("chaos")).secret
        finally:
            await database.close()
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._environment['ECLUSA_PORT']}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        )

    async def _start(self, name: str, *arguments: str) -> int:
        log = self._folder / f"{name}.log"
        return await self._zygote.fork(*arguments, log=log, environment=self._environment)

    def _kill_all(self) -> None:
        for process in (self._api, *self._workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    async def _api_answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await self._client.get("/readyz")).status_code == httpx.codes.OK
        return False

    async def _until_ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not await self._api_answers():  # noqa: ASYNC110  another process, so it is polled
                await asyncio.sleep(POLL_SECONDS)

    # -- a round -----------------------------------------------------------------------------

    async def play(self, schedule: Schedule) -> tuple[Findings, int]:
        """Play a schedule to its end; answers what is wrong, and how many documents it had."""
        self._odoo.world.faults.clear()
        papers = [self._arrive(schedule, number) for number in range(len(schedule.documents))]
        findings = Findings()
        events = [asyncio.create_task(self._happen(event)) for event in schedule.events]
        lives = [asyncio.create_task(self._post(paper)) for paper in papers]
        _, late = await asyncio.wait(lives, timeout=ROUND_SECONDS)
        for life in late:
            life.cancel()
        outcomes = await asyncio.gather(*lives, *events, return_exceptions=True)
        findings.untrue += [
            f"round {schedule.number}: {type(outcome).__name__} {outcome}"
            for outcome in outcomes
            if isinstance(outcome, Exception)
        ]
        await self._odoo.world.settled()
        state = self._odoo.world.outcomes()
        for paper in papers:
            histories = [await self._history(posting_id) for posting_id in paper.postings]
            if histories:
                seeded = paper.seeded
                findings.add(judge(paper.name, seeded.amount, state[seeded.key], histories))
            else:
                findings.lost.append(f"{paper.name} was never accepted")
        return findings, len(papers)

    def _arrive(self, schedule: Schedule, number: int) -> Paper:
        [seeded] = self._odoo.world.add_documents(DocumentOptions())
        for fault in schedule.documents[number].faults:
            self._odoo.add_fault(from_json({**fault, "key": seeded.key}))
        name = f"schedule {schedule.number}, document {number} ({seeded.key})"
        return Paper(name, seeded, schedule.documents[number])

    async def _history(self, posting_id: str) -> History:
        path = f"/v1/postings/{posting_id}"
        records: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = await self._call("GET", f"{path}/audit?after={after}")
            records += page["items"]
            after = page["next_cursor"]
        return History(
            posting=await self._call("GET", path),
            audit=records,
            verdict=await self._call("GET", f"{path}/audit/verify"),
        )

    # -- what people do ------------------------------------------------------------------------

    async def _post(self, paper: Paper) -> None:
        """Send a document, and do what people do until it is posted."""
        await asyncio.sleep(paper.plan.at)
        wishing = asyncio.create_task(self._wish(paper))
        try:
            await self._send(paper)
            while True:
                posting = await self._call("GET", f"/v1/postings/{paper.postings[-1]}")
                if posting["status"] == "completed" and wishing.done():
                    return
                await self._mend(paper, posting)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            wishing.cancel()

    async def _send(self, paper: Paper) -> None:
        """Send it as often at once as planned; all answers must name one posting."""
        body = {
            "kind": "freight_cte",
            "connection": "main",
            "input": {"access_key": paper.seeded.key, "due_date": DUE_DATE},
        }
        clicks = [self._request("POST", "/v1/postings", body) for _ in range(paper.plan.clicks)]
        ids = set()
        for answer in await asyncio.gather(*clicks):
            content = answer.json()
            ids.add(content.get("posting_id") or content["id"])
        if len(ids) != 1:
            raise AssertionError(f"{paper.name} became the postings {ids}")
        [posting_id] = ids
        if posting_id not in paper.postings:
            paper.postings.append(posting_id)
            paper.accepted.set()

    async def _mend(self, paper: Paper, posting: Mapping[str, Any]) -> None:
        """What a person does about a posting that stopped."""
        path = f"/v1/postings/{posting['id']}"
        match posting["status"]:
            case "failed" | "rolled_back":
                await self._request("POST", f"{path}/resume")
            case "needs_attention" if posting["code"] == "outcome_unknown":
                await self._odoo.world.settled()  # the person has looked: nothing is under way
                await self._request("POST", f"{path}/resume")
            case "needs_attention" if posting["code"] == "bill_posted":
                await self._request("POST", f"{path}/resume")
            case "needs_attention" if posting["code"] == "bill_canceled":
                await self._request("POST", f"{path}/rollback?compensate=true")
            case "needs_attention":
                raise AssertionError(f"{paper.name}: {posting['code']}: {posting['message']}")
            case "canceled":
                await self._send(paper)
            case _:
                return

    async def _wish(self, paper: Paper) -> None:
        """What somebody wants of it in between; a refusal is an answer."""
        await asyncio.sleep(paper.plan.wish_after)
        await paper.accepted.wait()
        path = f"/v1/postings/{paper.postings[-1]}"
        match paper.plan.wish:
            case "cancel":
                await self._request("POST", f"{path}/cancel")
            case "roll_back":
                await self._request("POST", f"{path}/rollback")
            case "compensate":
                await self._request("POST", f"{path}/rollback?compensate=true")
            case "send_again":
                await self._send(paper)
            case "none":
                return

    async def _call(self, verb: str, path: str) -> Any:
        return (await self._request(verb, path)).json()

    async def _request(self, verb: str, path: str, body: Any = None) -> httpx.Response:
        """Ask again while a server is away."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                response = await self._client.request(verb, path, json=body)
                if response.status_code not in PASSING:
                    return response
            await asyncio.sleep(POLL_SECONDS)

    # -- what happens to processes and servers ---------------------------------------------------

    async def _happen(self, event: Event) -> None:
        await asyncio.sleep(event.at)
        match event.kind:
            case "kill_worker":
                await self._kill_worker(event)
            case "pause_worker":
                await self._pause_worker(event)
            case "kill_api":
                os.kill(self._api, signal.SIGKILL)
                self._api = await self._start("api", "serve", "--no-worker")
            case "stop_postgres":
                async with self._turn:
                    await self._servers.stop_postgres("immediate")
                    await asyncio.sleep(event.seconds)
                    await self._servers.start_postgres()
            case "stop_redis":
                async with self._turn:
                    await self._servers.stop_redis("immediate")
                    await asyncio.sleep(event.seconds)
                    await self._servers.start_redis()
            case "flush_redis":
                await self._flush()
            case "odoo_away":
                outage = {"kind": "unavailable", "seconds": event.seconds}
                self._odoo.add_fault(from_json({**outage, "refuse": event.worker == 0}))
            case "odoo_restart":
                self._odoo.line.restart()

    async def _kill_worker(self, event: Event) -> None:
        process = self._workers[event.worker]
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        await asyncio.sleep(event.seconds / 4)
        if self._workers[event.worker] == process:
            self._workers[event.worker] = await self._start(f"worker-{event.worker}", "worker")

    async def _pause_worker(self, event: Event) -> None:
        process = self._workers[event.worker]
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            await asyncio.sleep(event.seconds)
            os.kill(process, signal.SIGCONT)

    async def _flush(self) -> None:
        redis = Redis.from_url(self._servers.redis_url)
        with contextlib.suppress(OSError):
            await redis.flushall()
        await redis.aclose()

    def dead(self) -> list[str]:
        """The processes that ended by themselves."""
        named = {"api": self._api, **{f"worker-{n}": pid for n, pid in enumerate(self._workers)}}
        return [name for name, process in named.items() if not _alive(process)]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
