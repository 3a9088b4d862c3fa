"""The whole service in this process: the HTTP API on a free port, a worker, a simulated Odoo.

Inside `async with running(settings) as stage`, `stage.arrive()` is a document in Odoo,
`await stage.post(document)` its posting, and `await stage.finish(posting["id"])` its events.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from httpx_sse import aconnect_sse

from service import app, embedded, migrations, worker
from service.keys import SCOPES
from service.runtime import Runtime, open_runtime
from service.scene import TIMINGS, configuration
from service.settings import Settings
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.arrivals import DocumentOptions, SeededDocument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

WAIT_SECONDS = 60.0
"""Longer than a call in doubt is looked for, which a machine that stalls brings about."""

SILENCE_SECONDS = 0.2
"""After which the worker of a scenario counts as dead."""
DUE = "2026-12-31"
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What runs. `client` has a key, `api` is the API's own runtime, `runtime` the tests'."""

    url: str
    key: str
    client: httpx.AsyncClient
    server: app.Server
    api: Runtime
    runtime: Runtime
    simulator: Simulator

    def arrive(self, **options: Any) -> SeededDocument:
        """A document that has just arrived in Odoo."""
        [document] = self.simulator.world.add_documents(DocumentOptions(**options))
        return document

    def body(self, document: SeededDocument | None = None, **values: Any) -> dict[str, Any]:
        """A request to post a document, with `values` in its input."""
        document = document or self.arrive()
        return {
            "kind": "freight_cte",
            "connection": "main",
            "input": {"access_key": document.key, "due_date": DUE, **values},
        }

    async def post(self, document: SeededDocument | None = None, **values: Any) -> dict[str, Any]:
        """Post a document and answer the posting as it was accepted."""
        response = await self.client.post("/v1/postings", json=self.body(document, **values))
        assert response.status_code == 202, response.text
        return dict(response.json())

    async def stop_posting(self, posting_id: str) -> None:
        """End a posting that no worker has taken: it is rolled back."""
        response = await self.client.post(f"/v1/postings/{posting_id}/rollback")
        assert response.status_code == 200, response.text

    async def events(
        self, job_id: str, last: int | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one connection, until the server ends it."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        path = f"/v1/jobs/{job_id}/events"
        async with aconnect_sse(self.client, "GET", path, headers=headers) as source:
            if source.response.status_code == httpx.codes.NO_CONTENT:
                return
            source.response.raise_for_status()
            async for event in source.aiter_sse():
                if event.data:
                    data = json.loads(event.data)
                    yield {**data, "id": int(event.id), "event": event.event}

    async def all_events(self, job_id: str, last: int | None = None) -> list[dict[str, Any]]:
        """The events of one connection, once the server has ended it."""
        async with asyncio.timeout(WAIT_SECONDS), aclosing(self.events(job_id, last)) as events:
            return [event async for event in events]

    async def finish(self, posting_id: str) -> list[dict[str, Any]]:
        """Wait, by its events, for a posting to end; answers them."""
        return await self.all_events(posting_id)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110  any condition, so it is polled
                await asyncio.sleep(0.01)

    async def listening(self, count: int) -> None:
        """Wait until the API has so many listeners."""
        await self.until(lambda: self.api.events.listeners == count)


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    with_worker: bool = True,
    simulator: SimulatorSettings | None = None,
    timings: str = TIMINGS,
    more: str = "",
) -> AsyncIterator[Stage]:
    """Run the service on the servers of `settings`; nothing of it is left afterwards.

    `more` is added to its configuration file.
    """
    async with AsyncExitStack() as stack:
        odoo = await stack.enter_async_context(Simulator(simulator))
        content = configuration(odoo.world.seed.describe(), odoo.url, timings)
        settings.config.write_text(content + more, encoding="utf-8")
        server = await stack.enter_async_context(_serving(settings))
        runtime = await stack.enter_async_context(open_runtime(settings))
        if with_worker:
            await stack.enter_async_context(_working(runtime))
        [(host, port)] = server.addresses
        key = (await runtime.keys.create("tester", scopes=SCOPES)).secret
        url = f"http://{host}:{port}"
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=url,
                headers={"Authorization": f"Bearer {key}"},
                timeout=WAIT_SECONDS,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            )
        )
        yield Stage(
            url=url,
            key=key,
            client=client,
            server=server,
            api=server.lifespan.state["runtime"],
            runtime=runtime,
            simulator=odoo,
        )


@asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[app.Server]:
    server = app.server(settings.model_copy(update={"port": 0}))
    serving = asyncio.create_task(server._serve(), name="api")  # leaves the signals to pytest
    await server.settled.wait()
    try:
        yield server
    finally:
        server.draining.set()
        server.should_exit = True
        await serving


@asynccontextmanager
async def _working(runtime: Runtime) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    working = asyncio.create_task(worker.run(runtime, stopping), name="worker")
    try:
        yield
    finally:
        stopping.set()
        await working


@asynccontextmanager
async def own_servers(folder: Path) -> AsyncIterator[tuple[embedded.Servers, Settings]]:
    """PostgreSQL and Valkey that a test may stop, and settings for them."""
    async with embedded.open_servers(folder / "servers", durable=False) as servers:
        await migrations.migrate(servers.database_url)
        yield (
            servers,
            Settings(
                database_url=servers.database_url,
                redis_url=servers.redis_url,
                config=folder / "eclusa.toml",
                heartbeat_seconds=1,
                lock_ttl_seconds=3,
                refused_keys_per_minute=60_000,
            ),
        )


def problem(response: httpx.Response, status: int, *fields: str) -> dict[str, Any]:
    """The problem in an answer, which names at least these fields and shows no inside."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    content: dict[str, Any] = response.json()
    named = [item["field"] for item in content.get("errors", [])]
    assert content["status"] == status
    assert content["detail"]
    assert content["code"]
    assert set(fields) <= set(named), content
    for inside in ("Traceback", "sqlalchemy", "asyncpg", 'File "', "SELECT", "pydantic"):
        assert inside not in response.text
    return content
