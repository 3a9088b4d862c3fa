"""The HTTP application."""

from __future__ import annotations

import asyncio
import math
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypedDict

import uvicorn
from fastapi import FastAPI

from service.api import (
    auth,
    batches,
    jobs,
    keys,
    limits,
    mirror,
    plans,
    postings,
    prefetch,
    problems,
    rates,
    syncs,
    system,
)
from service.api.jobs import EventView
from service.api.problems import Problem
from service.api.stream import Draining
from service.runtime import Runtime, open_runtime

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from types import FrameType

    from service.settings import Settings

DESCRIPTION = """Posts documents into Odoo in numbered, audited, resumable steps.

Every route but `/healthz` needs an API key, `Authorization: Bearer …`, with the scope that the
route names: `read`, `post`, `sync`, `call` or `admin`. Errors are RFC 9457 problems
with a stable `code`."""


class State(TypedDict):
    """What the lifespan hands to requests."""

    runtime: Runtime


class Application(FastAPI):
    """The application; its OpenAPI document also has the schemas that no route returns."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            for model in (Problem, EventView):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            document["components"]["schemas"] = dict(sorted(schemas.items()))
            rates.describe(document)
        return dict(self.openapi_schema or {})


def create_app(settings: Settings) -> FastAPI:
    """Make the application; its servers are opened when it starts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            runtime = await stack.enter_async_context(open_runtime(settings))
            await stack.enter_async_context(runtime.events.reading(runtime.progress.heads))
            yield {"runtime": runtime}

    app = Application(
        title="Eclusa",
        version=version("eclusa"),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.draining = Draining()
    app.state.shapes = prefetch.Shapes()
    problems.register(app)
    app.add_middleware(limits.BodyLimit, most_bytes=settings.max_body_bytes)
    app.add_middleware(rates.RateLimit, settings=settings)
    app.add_middleware(auth.Authentication)
    app.add_middleware(rates.Admission, most=settings.requests_at_once)
    # The last one added is the first one asked.
    app.include_router(batches.files)
    for module in (plans, batches, postings, prefetch, syncs, mirror, jobs, keys, system):
        app.include_router(module.router)
    return app


LOOK_SECONDS = 1.0
"""A connection that is to be closed and of which nothing is taken for so long is aborted."""
KEEP_ALIVE_SECONDS = 75
"""Longer than clients and the usual proxies (60 s) keep a connection that is idle: who sends on one
that is just being closed gets no answer, and cannot know whether the request was taken."""


class Server(uvicorn.Server):
    """Ends the open event streams as soon as it is told to stop, and then returns.

    An idle stream would otherwise keep the process until the drain time is over, and so would a
    listener that was dropped because it takes nothing: what was written to it stays unsent, and its
    connection open. Uvicorn's own server raises the signal once more when it has stopped, which
    would end the process before whatever else runs in it has.

    `settled` is set once it listens at its `addresses`, or could not.
    """

    def __init__(self, config: uvicorn.Config, draining: Draining) -> None:
        super().__init__(config)
        self.draining = draining
        self.settled = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the runtime and listen."""
        try:
            await super().startup(sockets=sockets)
        finally:
            self.settled.set()
        if self.started:
            self._aborting = asyncio.create_task(self._abort_stalled(), name="stalled connections")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for open requests, and close the runtime."""
        try:
            await super().shutdown(sockets=sockets)
        finally:
            self._aborting.cancel()

    async def _abort_stalled(self) -> None:
        unsent: dict[asyncio.Transport, int] = {}
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            before, unsent = unsent, self._unsent()
            for transport, size in unsent.items():
                if before.get(transport) == size:
                    transport.abort()

    def _unsent(self) -> dict[asyncio.Transport, int]:
        """How much each connection that is to be closed has still to send."""
        transports = (connection.transport for connection in self.server_state.connections)
        return {
            transport: transport.get_write_buffer_size()
            for transport in transports
            if transport.is_closing()
        }

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each socket it listens on; none when it does not."""
        if not self.started:
            return []
        names = [one.getsockname() for server in self.servers for one in server.sockets]
        return [(name[0], name[1]) for name in names]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take note of SIGTERM or SIGINT; a second SIGINT waits for nothing."""
        del frame
        self.draining.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def server(settings: Settings) -> Server:
    """The server of this process, ready to be run."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    return Server(config, app.state.draining)
