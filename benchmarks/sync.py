"""Rows a second, calls and memory of a sync, beside other ways to read the same rows.

    python -m benchmarks.sync [--rows 100000] [--small 10000] [--page 2000]

Lines of sales orders with two relations, order and product, of an Odoo in a process of its own:

- *Eclusa*: the product's command, `eclusa sync run --full`: read, related, and written to
  PostgreSQL; by the times of its own run. Once for the small and once for the large number of rows.
- *OdooRPC, pages*: one page after the other by offset, and one read for each relation of a page.
- *OdooRPC, N+1*: each line, its order and its product by a call of its own. Extrapolated from 300
  calls: the whole would take hours.
- *the server's own pace*: the very requests that the sync makes, sent bare and thrown away, at the
  concurrency at which the server answers most. Nothing can be faster than this.

Each contender is a process of its own. Exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import odoorpc  # type: ignore[import-untyped]  # has no types

from service import embedded, migrations
from service.scene import DATABASE, LOGIN, SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

MODEL = "sale.order.line"
FIELDS = ("order_id", "product_id", "name", "product_uom_qty", "qty_saldo", "price_unit")
RELATIONS = {
    "order_id": ("sale.order", ["name", "partner_id", "state"]),
    "product_id": ("product.product", ["default_code", "name"]),
}
SYNC = """
[connections.main]
url = "{url}"
database = "{database}"
login = "{login}"
secret = "{secret}"
max_connections = 64

[syncs.lines]
model = "sale.order.line"
page_rows = {page}
fields = [
  "order_id", "product_id", "name", "product_uom_qty", "qty_saldo", "price_unit",
  "order_id.name", "order_id.partner_id", "order_id.state",
  "product_id.default_code", "product_id.name",
]
"""
NARROW_CALLS = 300
CONCURRENCIES = (1, 2, 4, 8)
ROUNDS = 3
PACE_GOAL, NARROW_GOAL, MEMORY_GOAL = 0.85, 20.0, 1.10
START_SECONDS = 300.0
CONTEXT = {"active_test": False}


@dataclass(frozen=True)
class Result:
    """What a contender needed."""

    rows: int
    calls: int
    seconds: float
    peak_mib: float

    @property
    def pace(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


# -- contenders, each in a process of its own ----------------------------------------------------


def _connect(url: str) -> odoorpc.ODOO:
    host, port = url.removeprefix("http://").split(":")
    odoo = odoorpc.ODOO(host, port=int(port), timeout=600, version="17.0")
    odoo.login(DATABASE, LOGIN, SECRET)
    return odoo


def odoorpc_pages(url: str, page: int) -> Result:
    """Pages by offset, and one read for each relation of a page; rows are built and dropped."""
    odoo = _connect(url)
    rows = calls = 0
    begun = time.perf_counter()
    while True:
        options = {"fields": list(FIELDS), "limit": page, "offset": rows, "order": "id"}
        found = odoo.execute_kw(MODEL, "search_read", [[]], {**options, "context": CONTEXT})
        calls += 1
        if not found:
            break
        related = {}
        for name, (model, fields) in RELATIONS.items():
            ids = sorted({row[name][0] for row in found})
            read = odoo.execute_kw(model, "read", [ids], {"fields": fields})
            related[name] = {one["id"]: one for one in read}
            calls += 1
        for row in found:
            for name in RELATIONS:
                row[name] = related[name][row[name][0]]
        rows += len(found)
    return _measured(rows, calls, begun)


def odoorpc_narrow(url: str, page: int) -> Result:
    """Each line, its order and its product by a call of its own."""
    del page
    odoo = _connect(url)
    wanted = NARROW_CALLS // (1 + len(RELATIONS))
    ids = odoo.execute_kw(MODEL, "search", [[]], {"limit": wanted, "order": "id"})
    rows = calls = 0
    begun = time.perf_counter()
    for record_id in ids:
        [row] = odoo.execute_kw(MODEL, "read", [[record_id]], {"fields": list(FIELDS)})
        for name, (model, fields) in RELATIONS.items():
            odoo.execute_kw(model, "read", [[row[name][0]]], {"fields": fields})
        rows, calls = rows + 1, calls + 1 + len(RELATIONS)
    return _measured(rows, calls, begun)


def bare(url: str, page: int) -> Result:
    """The sync's own requests, thrown away; the best of some concurrencies."""
    results = [asyncio.run(_bare(url, page, concurrency)) for concurrency in CONCURRENCIES]
    return max(results, key=lambda one: one.pace)


async def _bare(url: str, page: int, concurrency: int) -> Result:
    async with aiohttp.ClientSession(url) as session:
        user = await _call(session, "common", "authenticate", [DATABASE, LOGIN, SECRET, {}])
        bodies, rows = await _requests(session, user, page)
        waiting = iter(bodies)

        async def send() -> None:
            for body in waiting:
                async with session.post("/jsonrpc", data=body, headers=JSON) as response:
                    await response.read()

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(send())
        return _measured(rows, len(bodies), begun)


JSON = {"Content-Type": "application/json"}


async def _requests(
    session: aiohttp.ClientSession, user: int, page: int
) -> tuple[list[bytes], int]:
    """The bodies of a sync's requests: pages by id, and for each the related ids that are new."""
    known: dict[str, set[int]] = {name: set() for name in RELATIONS}
    bodies: list[bytes] = []
    rows = after = 0
    while True:
        options = {"fields": [*FIELDS, "write_date"], "order": "id", "limit": page}
        body = _body(
            user, MODEL, "search_read", [[["id", ">", after]]], {**options, "context": CONTEXT}
        )
        async with session.post("/jsonrpc", data=body, headers=JSON) as response:
            found = (await response.json())["result"]
        if not found:
            return bodies, rows
        bodies.append(body)
        for name, (model, fields) in RELATIONS.items():
            new = {row[name][0] for row in found} - known[name]
            known[name] |= new
            if new:
                kwargs = {"fields": fields, "context": CONTEXT}
                bodies.append(_body(user, model, "read", [sorted(new)], kwargs))
        rows, after = rows + len(found), found[-1]["id"]


def _body(user: int, model: str, method: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
    call = [DATABASE, user, SECRET, model, method, args, kwargs]
    return _request("object", "execute_kw", call)


def _request(service: str, method: str, args: list[Any]) -> bytes:
    params = {"service": service, "method": method, "args": args}
    request = {"jsonrpc": "2.0", "method": "call", "id": 1, "params": params}
    return json.dumps(request).encode()


async def _call(session: aiohttp.ClientSession, service: str, method: str, args: list[Any]) -> Any:
    body = _request(service, method, args)
    async with session.post("/jsonrpc", data=body, headers=JSON) as response:
        return (await response.json())["result"]


def _measured(rows: int, calls: int, begun: float) -> Result:
    seconds = time.perf_counter() - begun
    return Result(rows, calls, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


CONTENDERS = {"pages": odoorpc_pages, "narrow": odoorpc_narrow, "bare": bare}


# -- the comparison ------------------------------------------------------------------------------


@contextlib.contextmanager
def _simulator(rows: int) -> Iterator[str]:
    """An Odoo with so many lines, in a process of its own; its address."""
    arguments = ("simulator", "--port", "0", "--documents", "0", "--sale-lines", str(rows))
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        if process.stdout is None:
            raise SystemExit("the simulator has no output")
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(START_SECONDS)


@contextlib.asynccontextmanager
async def _database() -> AsyncIterator[tuple[embedded.Servers, Path]]:
    """Servers that keep what they are told, as a real one does."""
    with tempfile.TemporaryDirectory(prefix="eclusa-benchmark-") as folder:
        async with embedded.open_servers(Path(folder) / "servers", durable=True) as servers:
            yield servers, Path(folder)


def _child(name: str, url: str, page: int) -> Result:
    command = [sys.executable, "-m", "benchmarks.sync", "--contender", name, "--url", url]
    answer = subprocess.run(
        [*command, "--page", str(page)], stdout=subprocess.PIPE, check=True, text=True
    )
    return Result(**json.loads(answer.stdout))


async def _eclusa(servers: embedded.Servers, folder: Path, url: str, page: int) -> Result:
    """One full run of the command on an empty database."""
    name = f"benchmark_{time.monotonic_ns()}"
    database_url = await embedded.create_database(servers.database_url, name)
    await migrations.migrate(database_url)
    config = folder / f"{name}.toml"
    text = SYNC.format(url=url, database=DATABASE, login=LOGIN, secret=SECRET, page=page)
    config.write_text(text, encoding="utf-8")
    environment = {
        **os.environ,
        "ECLUSA_DATABASE_URL": database_url,
        "ECLUSA_REDIS_URL": servers.redis_url,
        "ECLUSA_CONFIG": str(config),
    }
    output = folder / f"{name}.json"
    with output.open("wb") as answers, (folder / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-m", "service", "sync", "run", "lines", "--full", "--json"]
        process = await asyncio.to_thread(
            subprocess.Popen, command, env=environment, stdout=answers, stderr=log
        )
        _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / f"{name}.log").read_text(encoding="utf-8"))
    line = output.read_text(encoding="utf-8")
    run = json.loads(line)
    seconds = _at(run["ended_at"]) - _at(run["created_at"])
    await embedded.drop_database(servers.database_url, name)
    return Result(run["read"], run["calls"], seconds, usage.ru_maxrss / 1024)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True)
class Comparison:
    """What was measured for one number of rows."""

    small: Result
    large: Result
    pages: Result
    narrow: Result
    server: Result

    @property
    def ratios(self) -> dict[str, tuple[float, float, bool]]:
        """Each ratio with its goal, and whether it is met."""
        pace = self.large.pace / self.server.pace
        narrow = self.large.pace / self.narrow.pace
        memory = self.large.peak_mib / self.small.peak_mib
        return {
            "of the server's own pace": (pace, PACE_GOAL, pace >= PACE_GOAL),
            "x OdooRPC, N+1": (narrow, NARROW_GOAL, narrow >= NARROW_GOAL),
            "x OdooRPC, pages": (self.large.pace / self.pages.pace, 0.0, True),
            "x memory of the small run": (memory, MEMORY_GOAL, memory <= MEMORY_GOAL),
        }


async def compare(rows: int, small: int, page: int) -> Comparison:
    """Let all contenders run, one after the other; of some the median of several rounds."""
    async with _database() as (servers, folder):
        with _simulator(small) as url:
            little = await _eclusa(servers, folder, url, page)
        with _simulator(rows) as url:
            large, server, pages = [], [], []
            for number in range(1, ROUNDS + 1):
                sys.stderr.write(f"round {number} of {ROUNDS}\n")
                large.append(await _eclusa(servers, folder, url, page))
                server.append(await asyncio.to_thread(_child, "bare", url, page))
            pages.append(await asyncio.to_thread(_child, "pages", url, page))
            narrow = await asyncio.to_thread(_child, "narrow", url, page)
    return Comparison(little, _median(large), _median(pages), narrow, _median(server))


def _median(results: Sequence[Result]) -> Result:
    middle = statistics.median_low(one.seconds for one in results)
    return next(one for one in results if one.seconds == middle)


def report(found: Comparison) -> bool:
    """Print what was measured; whether all goals are met."""
    whole = found.large.rows / found.narrow.pace
    lines = {
        f"Eclusa, {found.small.rows} rows": found.small,
        f"Eclusa, {found.large.rows} rows": found.large,
        "the server's own pace": found.server,
        "OdooRPC, pages": found.pages,
        f"OdooRPC, N+1, of {found.narrow.calls} calls": found.narrow,
    }
    out = sys.stdout.write
    out(f"{'':36}{'rows/s':>10}{'calls':>8}{'seconds':>9}{'peak MiB':>10}\n")
    for name, one in lines.items():
        out(f"{name:36}{one.pace:10.0f}{one.calls:8}{one.seconds:9.2f}{one.peak_mib:10.0f}\n")
    out(f"N+1 for all rows, extrapolated: {whole / 60:.0f} minutes\n\n")
    for name, (ratio, goal, met) in found.ratios.items():
        told = f"goal {goal:g}: {'met' if met else 'MISSED'}" if goal else ""
        out(f"{ratio:8.2f} {name:28} {told}\n")
    return all(met for _, _, met in found.ratios.values())


def main() -> int:
    """Compare, or be one of the contenders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--page", type=int, default=2_000)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        result = CONTENDERS[given.contender](given.url, given.page)
        sys.stdout.write(json.dumps(asdict(result)))
        return 0
    return 0 if report(asyncio.run(compare(given.rows, given.small, given.page))) else 1


if __name__ == "__main__":
    sys.exit(main())
