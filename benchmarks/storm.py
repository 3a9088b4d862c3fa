"""Postings asked for at a fixed pace, whatever the answers: whether one API process holds.

    python benchmarks/storm.py [--rate 1000] [--seconds 10] [--profile FILE]

One process of `eclusa serve` without a worker, on embedded servers that sync to disk, and the
generator in a process of its own. It sends on time and does not wait for answers, so that a slow
service meets a growing queue. One request in twenty names a document again (409), one repeats an
earlier one with its Idempotency-Key. Latencies count from the moment a request was due.

Exits 1 unless every answer is 202, 409 or 429, no connection failed, all requests were answered,
and every posting that was accepted, and no other, is in the database afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import math
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import psutil
import uvloop
from sqlalchemy import text

from service import embedded, migrations
from service.runtime import open_runtime
from service.scene import configuration
from service.settings import Settings
from service.simulator.seed import default_seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

EXPECTED = frozenset({202, 409, 429})
ISSUER = "17233456000102"
EVERY = 20
TICK_SECONDS = 0.002
LAST_ANSWER_SECONDS = 30.0
START_SECONDS = 30.0
MOST_CONNECTIONS = 1_500
ONE_LINE_BYTES = 64 * 1024 * 1024
PERCENTILES = (50, 95, 99)


# -- what is sent --------------------------------------------------------------------------------


def access_key(number: int) -> str:
    """The access key of the invented document of a number."""
    first = f"352607{ISSUER}57001{number:09}110203040"
    weighted = sum(int(digit) * (2 + place % 8) for place, digit in enumerate(reversed(first)))
    return first + str(-weighted % 11 % 10)


def requests(count: int, host: str, key: str) -> Iterator[bytes]:
    """Requests as they go over the wire."""
    for number in range(count):
        document, once = number, f"storm-{number}"
        if number % EVERY == EVERY // 2:
            document = number - 1
        elif number and number % EVERY == 0:
            document, once = number - EVERY // 2 - 1, f"storm-{number - EVERY // 2 - 1}"
        given = {"access_key": access_key(document), "due_date": "2026-12-31"}
        body = json.dumps({"kind": "freight_cte", "connection": "main", "input": given}).encode()
        lines = (
            "POST /v1/postings HTTP/1.1",
            f"Host: {host}",
            f"Authorization: Bearer {key}",
            f'Idempotency-Key: "{once}"',
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        yield "\r\n".join((*lines, "", "")).encode() + body


# -- the generator, in a process of its own --------------------------------------------------------


@dataclass
class Tally:
    """What was answered."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    troubles: collections.Counter[str] = field(default_factory=collections.Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    accepted: set[str] = field(default_factory=set)
    answered: int = 0

    def note(self, status: int, body: bytes, seconds: float) -> None:
        """Count an answer."""
        content = json.loads(body)
        name = f"{status} {content.get('code') or content['status']}"
        self.answered += 1
        self.statuses[name] += 1
        self.seconds[name].append(seconds)
        if status == 202:
            self.accepted.add(content["id"])

    def fail(self, trouble: str) -> None:
        """Count what was not answered."""
        self.answered += 1
        self.troubles[trouble] += 1


class Connection(asyncio.Protocol):
    """A connection that has one request under way at most."""

    def __init__(self, tally: Tally, free: list[Connection]) -> None:
        self._tally = tally
        self._free = free
        self._buffer = b""
        self._due: float | None = None
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at that moment."""
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        [length] = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        if len(rest) < length or self._due is None:
            return
        self._tally.note(int(lines[0].split()[1]), rest, time.monotonic() - self._due)
        self._buffer, self._due = b"", None
        self._free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the request under way, and be used no more."""
        if self._due is not None:
            self._tally.fail(f"connection lost: {exc}")
        if self in self._free:
            self._free.remove(self)

    def close(self) -> None:
        """Close."""
        if self._transport is not None:
            self._transport.abort()


class Generator:
    """Sends requests when they are due."""

    def __init__(self, host: str, port: int) -> None:
        self.tally = Tally()
        self._address = (host, port)
        self._free: list[Connection] = []
        self._all: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, waiting: list[bytes], rate: float) -> float:
        """Send all; answers how many seconds behind its time the last one was sent."""
        begun = time.monotonic()
        sent = 0
        late = 0.0
        while sent < len(waiting):
            now = time.monotonic()
            for number in range(sent, min(len(waiting), int((now - begun) * rate) + 1)):
                due = begun + number / rate
                late = max(late, now - due)
                self._send(waiting[number], due)
                sent += 1
            await asyncio.sleep(TICK_SECONDS)
        try:
            async with asyncio.timeout(LAST_ANSWER_SECONDS):
                while self.tally.answered < sent:  # noqa: ASYNC110  counted by callbacks, polled
                    await asyncio.sleep(TICK_SECONDS)
        except TimeoutError:
            for _ in range(sent - self.tally.answered):
                self.tally.fail("no answer")
        for connection in self._all:
            connection.close()
        return late

    def _send(self, request: bytes, due: float) -> None:
        if self._free:
            self._free.pop().send(request, due)
        elif len(self._all) + len(self._opening) < MOST_CONNECTIONS:
            task = asyncio.create_task(self._send_anew(request, due))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.tally.fail("all connections wait for answers")

    async def _send_anew(self, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self.tally, self._free), *self._address
            )
        except OSError as error:
            self.tally.fail(f"no connection: {error}")
            return
        self._all.append(connection)
        connection.send(request, due)


async def generate(order: dict[str, Any]) -> dict[str, Any]:
    """Do what an order says; answers what was answered."""
    count = int(order["rate"] * order["seconds"])
    host, port = order["host"], order["port"]
    waiting = list(requests(count, f"{host}:{port}", order["key"]))
    generator = Generator(host, port)
    late = await generator.run(waiting, order["rate"])
    tally = generator.tally
    return {
        "sent": count,
        "late": late,
        "statuses": tally.statuses,
        "troubles": tally.troubles,
        "accepted": sorted(tally.accepted),
        "seconds": {name: percentiles(values) for name, values in tally.seconds.items()},
    }


def percentiles(values: list[float]) -> list[float]:
    """The seconds below which so many per cent are."""
    ordered = sorted(values)
    return [ordered[math.ceil(len(ordered) * share / 100) - 1] for share in PERCENTILES]


# -- the service, and what it must have afterwards -------------------------------------------------


@asynccontextmanager
async def serving(settings: Settings, log: Path, profile: str | None) -> AsyncIterator[Any]:
    """One API process; answers the process once it listens, and its port."""
    variables = {
        "ECLUSA_DATABASE_URL": str(settings.database_url),
        "ECLUSA_REDIS_URL": str(settings.redis_url),
        "ECLUSA_CONFIG": str(settings.config),
        "ECLUSA_PORT": "0",
    }
    profiler = ["-m", "cProfile", "-o", profile] if profile else []
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *profiler, "-m", "service", "serve", "--no-worker"),
            env={**os.environ, **variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        assert line, f"see {log}"
        yield process, int(line.decode().rpartition(":")[2])
    finally:
        process.terminate()
        await process.wait()


async def storm(rate: float, seconds: float, folder: Path, profile: str | None) -> dict[str, Any]:
    """Serve, have it stormed, and look at what is there."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(
            embedded.open_servers(folder / "servers", durable=True)
        )
        await migrations.migrate(servers.database_url)
        settings = Settings(
            database_url=servers.database_url,
            redis_url=servers.redis_url,
            config=folder / "eclusa.toml",
        )
        settings.config.write_text(
            configuration(default_seed().describe(), "http://127.0.0.1:9"), encoding="utf-8"
        )
        runtime = await stack.enter_async_context(open_runtime(settings))
        key = (await runtime.keys.create("storm")).secret
        process, port = await stack.enter_async_context(
            serving(settings, folder / "api.log", profile)
        )
        order = {"rate": rate, "seconds": seconds, "host": "127.0.0.1", "port": port, "key": key}
        served = psutil.Process(process.pid)
        before = served.cpu_times()
        figures = await generated(order)
        after = served.cpu_times()
        figures["cpu"] = after.user + after.system - before.user - before.system
        figures["memory"] = served.memory_info().rss
        async with runtime.database.transaction() as connection:
            stored = {str(one) for one in await connection.scalars(text("SELECT id FROM posting"))}
            jobs = await connection.scalar(text("SELECT count(*) FROM pgqueuer"))
        accepted = {str(UUID(one)) for one in figures["accepted"]}
        figures["lost"] = len(accepted - stored)
        figures["unasked"] = len(stored - accepted)
        figures["without_job"] = len(stored) - jobs
        return figures


async def generated(order: dict[str, Any]) -> dict[str, Any]:
    """What the generator's process answers."""
    generator = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--generate"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=ONE_LINE_BYTES,
    )
    printed, _ = await generator.communicate(json.dumps(order).encode())
    figures: dict[str, Any] = json.loads(printed)
    return figures


def faults(figures: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    statuses = {int(name.split()[0]) for name in figures["statuses"]}
    found = [f"answered {status}" for status in sorted(statuses - EXPECTED)]
    found += [f"{count} x {trouble}" for trouble, count in figures["troubles"].items()]
    found += [
        f"{figures[name]} postings {words}"
        for name, words in (
            ("lost", "were accepted and are not there"),
            ("unasked", "are there and were not accepted"),
            ("without_job", "have no job"),
        )
        if figures[name]
    ]
    return found


def show(figures: dict[str, Any], rate: float, seconds: float) -> None:
    """Print the table."""
    print(f"{figures['sent']} POST /v1/postings in {seconds:g} s, {rate:g} a second")
    print(f"{'answer':<32} {'count':>7} " + " ".join(f"{f'p{one} ms':>8}" for one in PERCENTILES))
    for name, count in sorted(figures["statuses"].items()):
        times = " ".join(f"{1000 * one:8.1f}" for one in figures["seconds"][name])
        print(f"{name:<32} {count:>7} {times}")
    accepted = len(figures["accepted"])
    print(f"accepted {accepted} postings, {accepted / seconds:.0f} a second")
    print(
        f"API process: {figures['cpu']:.1f} s CPU, "
        f"{1000 * figures['cpu'] / figures['sent']:.2f} ms a request, "
        f"{figures['memory'] / 2**20:.0f} MiB; generator at most "
        f"{1000 * figures['late']:.0f} ms late"
    )


def main() -> int:
    """Print the figures; the exit code says whether it held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", help="write a cProfile of the API process there")
    parser.add_argument("--generate", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        json.dump(uvloop.run(generate(json.load(sys.stdin))), sys.stdout)
        return 0
    with tempfile.TemporaryDirectory(prefix="eclusa-storm-") as folder:
        figures = asyncio.run(storm(options.rate, options.seconds, Path(folder), options.profile))
    show(figures, options.rate, options.seconds)
    found = faults(figures)
    print("it held" if not found else f"it did not hold: {'; '.join(found)}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
