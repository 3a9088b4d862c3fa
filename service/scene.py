"""The scene of a demonstration: all servers and processes of the service, and a simulated Odoo.

Everything is real but Odoo: PostgreSQL, Valkey, the HTTP API in one process, workers in others, and
an Odoo that fits in memory, behind its own HTTP server. All of it ends with the demonstration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from service import embedded, migrations
from service.client import ApiClient
from service.database import Database
from service.errors import EclusaError
from service.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from rich.console import Console

    from service.odoo.json2 import Protocol

CONNECTION = "main"
DATABASE = "eclusa"
LOGIN = "admin"
SECRET = "admin"  # noqa: S105  the simulator's, on loopback, for as long as the demonstration runs
API_KEY = "simulator-api-key"  # one of LOGIN; also in place of the password
START_SECONDS = 30.0
STOP_SECONDS = 10.0
HEARTBEAT_SECONDS = 2.0


class DemoFailed(EclusaError):
    """The demonstration did not show what it should."""

    code = "demo_failed"


def configuration(seed: Mapping[str, Any], url: str, timings: str = "") -> str:
    """A configuration file for freight bills, made from what `/simulator/seed` answers."""
    return connection(url) + freight_profile(seed) + timings


def connection(url: str, protocol: Protocol = "jsonrpc") -> str:
    """The table of a connection to the simulator at `url`."""
    lines = [
        f"[connections.{CONNECTION}]",
        f'url = "{url}"',
        f'database = "{DATABASE}"',
        f'login = "{LOGIN}"',
        f'secret = "{SECRET if protocol == "jsonrpc" else API_KEY}"',
        f'protocol = "{protocol}"',
    ]
    return "\n".join(lines) + "\n"


def freight_profile(seed: Mapping[str, Any], kind: str = "freight_cte") -> str:
    """The tables of a profile for freight bills."""
    profile = f"connections.{CONNECTION}.profiles.{kind}"
    lines = [
        f"[{profile}]",
        "accept_homologation = true",  # invented documents are of the test environment
        *(
            f"{name} = {seed[name]}"
            for name in ("product_id", "product_uom_id", "team_id", "payment_provider_id")
        ),
    ]
    for company in seed["companies"]:
        operations = ", ".join(f"{case} = {id_}" for case, id_ in company["operations"].items())
        lines += [
            f"[{profile}.companies.{company['cnpj']}]",
            f"company_id = {company['id']}",
            f"picking_type_id = {company['picking_type_id']}",
            f"home_state_id = {company['home_state_id']}",
            f"operations = {{ {operations} }}",
        ]
    return "\n".join(lines) + "\n"


def timings(kind: str, seconds: Mapping[str, float]) -> str:
    """The table that lets the calls of some steps take so long, and settle in 20 s."""
    lines = (
        f"{step} = {{ timeout_seconds = {limit}, interval_seconds = 0.2, settle_seconds = 20 }}"
        for step, limit in seconds.items()
    )
    return "\n".join(("", f"[connections.{CONNECTION}.profiles.{kind}.timings]", *lines, ""))


FREIGHT_SECONDS = {"generate_order": 1.5, "confirm_order": 5, "create_bill": 5, "post_bill": 5}
TIMINGS = timings("freight_cte", FREIGHT_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is open: `api` has a key, `odoo` speaks to the simulator's own routes."""

    console: Console
    folder: Path
    environment: Mapping[str, str]
    stack: AsyncExitStack
    odoo: httpx.AsyncClient
    api: ApiClient
    api_url: str
    key: str
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a line of explanation."""
        _say(self.console, text)

    async def start_worker(self) -> asyncio.subprocess.Process:
        """Start one more worker process."""
        name = f"worker-{len(self.workers) + 1}"
        process = await _start(self.stack, self.folder, self.environment, name, "worker")
        self.workers.append(process)
        return process

    async def tell_odoo(self, what: str, body: Any) -> Any:
        """Change something in the simulator."""
        response = await self.odoo.post(f"/simulator/{what}", json=body)
        if response.is_error:
            raise DemoFailed(f"the simulator refused: {response.text}")
        return response.json()

    async def ask_odoo(self, what: str, **query: Any) -> Any:
        """Ask the simulator for what it has."""
        return (await self.odoo.get(f"/simulator/{what}", params=query)).raise_for_status().json()


@asynccontextmanager
async def open_scene(
    console: Console,
    *,
    tables: Callable[[Mapping[str, Any]], str],
    simulator: tuple[str, ...] = (),
    protocol: Protocol = "jsonrpc",
) -> AsyncIterator[Scene]:
    """Open everything but workers.

    `tables` makes, from what `/simulator/seed` answers, the rest of the configuration file.
    `simulator` are options of `eclusa simulator`. Raises `DemoFailed` when something does not
    start. The folder with the logs is removed unless something was raised.
    """
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="eclusa-demo-"))
        stack.push(_remover(console, folder))
        _say(console, "starting PostgreSQL and Valkey")
        servers = await stack.enter_async_context(embedded.open_servers(folder / "servers"))
        await migrations.migrate(servers.database_url)
        environment = {
            **os.environ,
            "ECLUSA_DATABASE_URL": servers.database_url,
            "ECLUSA_REDIS_URL": servers.redis_url,
            "ECLUSA_CONFIG": str(folder / "eclusa.toml"),
            "ECLUSA_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "ECLUSA_PORT": "0",
            "ECLUSA_LOG_LEVEL": "info",
        }
        _say(console, "starting the simulated Odoo")
        arguments = ("simulator", "--port", "0", *simulator)
        url = await _start_announced(stack, folder, environment, "simulator", *arguments)
        odoo = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        seed = (await odoo.get("/simulator/seed")).raise_for_status().json()
        text = connection(url, protocol) + tables(seed)
        (folder / "eclusa.toml").write_text(text, encoding="utf-8")
        _say(console, "starting the API")
        api_url = await _start_announced(stack, folder, environment, "api", "serve", "--no-worker")
        key = await _new_key(servers.database_url)
        api = await stack.enter_async_context(ApiClient(api_url, key))
        yield Scene(
            console=console,
            folder=folder,
            environment=environment,
            stack=stack,
            odoo=odoo,
            api=api,
            api_url=api_url,
            key=key,
        )


def _say(console: Console, text: str) -> None:
    console.print(text, style="dim", markup=False, highlight=False)


def _remover(console: Console, folder: Path) -> Any:
    """Remove what was written, unless somebody will want to read the logs."""

    def remove(kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, asyncio.CancelledError):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _say(console, f"logs in {folder}")

    return remove


async def _start(
    stack: AsyncExitStack,
    folder: Path,
    environment: Mapping[str, str],
    name: str,
    *arguments: str,
) -> asyncio.subprocess.Process:
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
    )
    stack.push_async_callback(_stop, process)
    return process


async def _start_announced(
    stack: AsyncExitStack,
    folder: Path,
    environment: Mapping[str, str],
    name: str,
    *arguments: str,
) -> str:
    """Start a server that prints its address as the last word of its first line."""
    process = await _start(stack, folder, environment, name, *arguments)
    if process.stdout is None:
        raise DemoFailed(f"the {name} has no output")
    with contextlib.suppress(TimeoutError):
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        if line:
            return line.decode().split()[-1]
    log = (folder / f"{name}.log").read_text(encoding="utf-8")
    raise DemoFailed(f"the {name} did not start:\n{log[-2000:]}")


async def _new_key(database_url: str) -> str:
    database = Database(database_url)
    try:
        return (await Keys(database).create("demo")).secret
    finally:
        await database.close()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
