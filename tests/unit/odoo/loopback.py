"""A small HTTP server on a free port of loopback, whose behaviour is a function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.odoo import client, transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SECRET = "s3cret-of-the-lab"
AT_ONCE = client.RetryPolicy(
    attempts=3, total_seconds=20, wait_seconds=0, longest_wait_seconds=0, jitter_seconds=0
)


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    http_method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the JSON-RPC call."""
        params: dict[str, Any] = json.loads(self.body)["params"]
        return params

    @property
    def method(self) -> str:
        """The model's method, or the service's where no model is called."""
        params = self.params
        name = params["args"][4] if params["service"] == "object" else params["method"]
        return str(name)


@dataclass
class Reply:
    """The ways to answer one request."""

    writer: asyncio.StreamWriter

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def http(
        self,
        body: bytes,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        version: str = "HTTP/1.1",
    ) -> None:
        """Send a whole HTTP answer."""
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (fields | dict(headers or {})).items()]
        head = "\r\n".join([f"{version} {status} Any", *lines, "", ""])
        await self.raw(head.encode() + body)

    async def json(self, value: Any) -> None:
        """Send a JSON body with status 200."""
        await self.http(json.dumps(value).encode())

    async def result(self, value: Any) -> None:
        """Send a JSON-RPC result."""
        await self.json({"jsonrpc": "2.0", "id": 1, "result": value})

    async def fault(self, name: str, message: str = "no") -> None:
        """Send a JSON-RPC fault, with a traceback as Odoo does."""
        data = {"name": name, "message": message, "debug": "Traceback (most recent call last): …"}
        error = {"code": 200, "message": "Odoo Server Error", "data": data}
        await self.json({"jsonrpc": "2.0", "id": 1, "error": error})

    async def drop(self) -> None:
        """Close the connection without an answer."""
        self.writer.close()


Handler = Callable[[Asked, Reply], Awaitable[None]]


@dataclass
class Loopback:
    """The running server and what it was asked."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, asked: Asked) -> None:
        """Note a request."""
        self.asked.append(asked)
        self._news.set()

    async def arrived(self, count: int) -> None:
        """Wait until this many requests have come, 5 s at most; one test waits at a time."""
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                self._news.clear()
                await self._news.wait()

    def connection(self, **changes: Any) -> transport.Connection:
        """Describe this server as a connection."""
        values: dict[str, Any] = {
            "name": "lab",
            "url": f"http://127.0.0.1:{self.port}",
            "database": "lab",
            "login": "robot",
            "secret": SECRET,
            "timeout_seconds": 10.0,
            "connect_timeout_seconds": 5.0,
        }
        return transport.Connection(**(values | changes))

    @property
    def methods(self) -> list[str]:
        """The methods called, in order."""
        return [asked.method for asked in self.asked]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Loopback]:
    """Serve until left; connections that are still open are cut."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            # A cut connection ends the loop, from whichever side.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while not writer.is_closing():
                    asked = await _request(reader)
                    loopback.add(asked)
                    await handler(asked, Reply(writer))
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    loopback = Loopback(server.sockets[0].getsockname()[1])
    try:
        yield loopback
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await server.wait_closed()


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    http_method, path, _ = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(http_method, path, headers, body)


@asynccontextmanager
async def speaking_no_tls() -> AsyncIterator[int]:
    """Answer each connection in plain text at once; gives the port."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def odoo(**methods: Handler) -> Handler:
    """Behave like an Odoo that accepts the login and has a handler for each method."""

    async def answer(asked: Asked, reply: Reply) -> None:
        if asked.method in methods:
            await methods[asked.method](asked, reply)
        elif asked.method == "authenticate":
            await reply.result(7)
        else:
            await reply.fault("odoo.exceptions.UserError", f"nobody expected {asked.method}")

    return answer


def answering(value: Any) -> Handler:
    """Answer each call with one result."""

    async def answer(_: Asked, reply: Reply) -> None:
        await reply.result(value)

    return answer


def failing(name: str, message: str = "no") -> Handler:
    """Answer each call with one fault."""

    async def answer(_: Asked, reply: Reply) -> None:
        await reply.fault(name, message)

    return answer


def status(code: int, **headers: str) -> Handler:
    """Answer each call with one HTTP status and a page."""

    async def answer(_: Asked, reply: Reply) -> None:
        await reply.http(b"<html>", status=code, headers={"Content-Type": "text/html", **headers})

    return answer


async def drop(_: Asked, reply: Reply) -> None:
    """Close the connection after the request was read."""
    await reply.drop()


async def hang(_: Asked, _reply: Reply) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def in_turn(*handlers: Handler) -> Handler:
    """Behave like each handler once, and like the last one from then on."""
    left = list(handlers)

    async def answer(asked: Asked, reply: Reply) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked, reply)

    return answer


async def uid(_: Asked, reply: Reply) -> None:
    """Tell over JSON-2 that the key is one of user 7."""
    await reply.json({"lang": "en_US", "tz": "UTC", "uid": 7})


async def login(_: Asked, reply: Reply) -> None:
    """Tell over JSON-2 that user 7 is the one of the connection."""
    await reply.json([{"id": 7, "login": "robot"}])
