"""Calls per second and CPU per call of four ways to send one JSON-RPC call.

    python benchmarks/odoo_transport.py [--calls 6000] [--rounds 3]

64 calls in flight, answers of 1 KB over keep-alive connections, one client process; the server is
a process of its own on loopback that answers from a constant, so that it is not what is measured.
CPU is the client's own, user and system. The rounds alternate between the ways and the median
counts, since a shared machine drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import httpx
import httpx_aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from multiprocessing.connection import Connection

    Post = Callable[[], Awaitable[bytes]]

from contextlib import asynccontextmanager

from service.odoo import transport

IN_FLIGHT = 64
RESULT = "x" * 985
BODY = b'{"jsonrpc": "2.0", "id": 1, "result": "' + RESULT.encode() + b'"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY
ARGS = ("lab", 2, "secret", "res.partner", "read", [[1]], {"fields": ["name"]})
REQUEST = (
    b'{"jsonrpc":"2.0","id":1,"method":"call","params":{"service":"object","method":"execute_kw",'
    b'"args":["lab",2,"secret","res.partner","read",[[1]],{"fields":["name"]}]}}'
)
HEADERS = {"content-type": "application/json"}


class Answering(asyncio.Protocol):
    """Answers every request, of one packet each, with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request that has come whole."""
        # aiohttp sends head and body apart, so only the end of a body is answered.
        if data.endswith(b"}"):
            self.transport.write(ANSWER)


def serve(ready: Connection) -> None:
    """Serve on a free port of loopback until terminated; the port goes to `ready`."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@asynccontextmanager
async def plain_httpx(url: str) -> AsyncIterator[Post]:
    """Use httpx with the transport it brings along."""
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:

        async def post() -> bytes:
            return (await client.post(url, content=REQUEST, headers=HEADERS)).content

        yield post


@asynccontextmanager
async def httpx_over_aiohttp(url: str) -> AsyncIterator[Post]:
    """Use httpx's client over httpx-aiohttp's transport."""
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    lower = httpx_aiohttp.AiohttpTransport(limits=limits)
    async with httpx.AsyncClient(transport=lower, timeout=30) as client:

        async def post() -> bytes:
            return (await client.post(url, content=REQUEST, headers=HEADERS)).content

        yield post


@asynccontextmanager
async def transport_alone(url: str) -> AsyncIterator[Post]:
    """Use httpx's request and response over httpx-aiohttp's transport, without httpx's client."""
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    address = httpx.URL(url)
    headers = httpx.Headers({**HEADERS, "host": address.netloc.decode()})
    timeouts = {"timeout": {"connect": 10.0, "read": 30.0, "write": 30.0, "pool": None}}
    async with httpx_aiohttp.AiohttpTransport(limits=limits) as lower:

        async def post() -> bytes:
            request = httpx.Request(
                "POST", address, headers=headers, content=REQUEST, extensions=timeouts
            )
            response = await lower.handle_async_request(request)
            return await response.aread()

        yield post


@asynccontextmanager
async def eclusa(url: str) -> AsyncIterator[Post]:
    """Use Eclusa's own transport, with its deadline, its guard and JSON both ways."""
    connection = transport.Connection(
        name="lab",
        url=url.removesuffix("/jsonrpc"),
        database="lab",
        login="admin",
        secret="secret",  # noqa: S106  # the server takes any
        max_connections=IN_FLIGHT,
    )
    lower = transport.JsonRpcTransport(connection)
    call = transport.Call(
        service="object",
        procedure="execute_kw",
        args=ARGS,
        timeout_seconds=30,
        model="res.partner",
        method="read",
    )

    async def post() -> bytes:
        assert await lower.send(call) == RESULT
        return BODY

    try:
        yield post
    finally:
        await lower.close()


@asynccontextmanager
async def plain_aiohttp(url: str) -> AsyncIterator[Post]:
    """Use aiohttp alone: the ceiling."""
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post() -> bytes:
            async with session.post(url, data=REQUEST, headers=HEADERS) as response:
                return await response.read()

        yield post


WAYS: dict[str, Callable[[str], AbstractAsyncContextManager[Post]]] = {
    "httpx": plain_httpx,
    "httpx client over aiohttp": httpx_over_aiohttp,
    "httpx transport over aiohttp": transport_alone,
    "eclusa (the same, with JSON)": eclusa,
    "aiohttp alone": plain_aiohttp,
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One round: `per_second` calls, and milliseconds of CPU for each."""

    per_second: float
    cpu_ms: float


async def measure(
    way: Callable[[str], AbstractAsyncContextManager[Post]], url: str, calls: int
) -> Figure:
    """Send `calls` calls, 64 at a time, after one warm call per connection."""
    async with way(url) as post:

        async def repeat(times: int) -> None:
            for _ in range(times):
                assert len(await post()) == len(BODY)

        await asyncio.gather(*(repeat(1) for _ in range(IN_FLIGHT)))
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(repeat(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        done = calls // IN_FLIGHT * IN_FLIGHT
        return Figure(per_second=done / wall, cpu_ms=cpu / done * 1000)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}/jsonrpc"
        figures: dict[str, list[Figure]] = {name: [] for name in WAYS}
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                figures[name].append(asyncio.run(measure(way, url, options.calls)))
    finally:
        server.terminate()
        server.join()
    ceiling = statistics.median(figure.per_second for figure in figures["aiohttp alone"])
    print(f"{'way':30} {'calls/s':>9} {'CPU ms/call':>12} {'of the ceiling':>15}")
    for name, rounds in figures.items():
        per_second = statistics.median(figure.per_second for figure in rounds)
        cpu_ms = statistics.median(figure.cpu_ms for figure in rounds)
        print(f"{name:30} {per_second:9.0f} {cpu_ms:12.3f} {per_second / ceiling:15.2f}")


if __name__ == "__main__":
    main()
