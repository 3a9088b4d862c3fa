# ruff: noqa: ASYNC240 - a test that waits for a file system delays nobody
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psutil
import pytest
from redis import asyncio as redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from service import embedded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]

# Opens a folder, says so, and then does as it is told on its standard input.
# A shell's background jobs ignore SIGINT, and so would all that they start.
OWNER = """
import asyncio, json, pathlib, signal, sys
from service import embedded

signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async with embedded.open_servers(pathlib.Path(sys.argv[1]), durable=False) as servers:
        print(json.dumps({"owned": servers.owned, "dsn": servers.dsn}), flush=True)
        if await asyncio.to_thread(sys.stdin.readline) == "raise\\n":
            raise SystemExit("as told")

asyncio.run(main())
"""

# Runs a command as root of a namespace that has all accounts, and allows no further namespace.
WITHOUT_NAMESPACES = """
import ctypes, os, pathlib, sys

read, write = os.pipe()
if (mapper := os.fork()) == 0:
    os.read(read, 1)
    for file in ("uid_map", "gid_map"):
        pathlib.Path(f"/proc/{os.getppid()}/{file}").write_text("0 0 70000")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(write, b"!")
os.waitpid(mapper, 0)
pathlib.Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(sys.argv[1], sys.argv[1:])
"""

as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="only root can become somebody else, and by unshare",
)


class Owner:
    """Another process that opens the servers of a folder."""

    def __init__(self, folder: Path, *wrapper: str) -> None:
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-W", "error", "-c", OWNER, str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.answer: dict[str, Any] = json.loads(line)
        self.descendants = psutil.Process(self.process.pid).children(recursive=True)

    def tell(self, word: str) -> str:
        """Have it go on, and return what it wrote to its standard error until its end."""
        return self.process.communicate(f"{word}\n", timeout=20)[1]

    def end(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def owner_of(folder: Path, *wrapper: str) -> Iterator[Owner]:
    """Have another process own the folder, and kill it in the end."""
    owner = Owner(folder, *wrapper)
    try:
        yield owner
    finally:
        owner.end()


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 10
) -> float:
    """Poll until the condition holds, and return how many seconds that took."""
    started = time.monotonic()
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return time.monotonic() - started
        assert time.monotonic() - started < seconds
        await asyncio.sleep(0.02)


def running_on(folder: Path) -> list[str]:
    """List the processes whose command line names the folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            command = " ".join(process.cmdline())
            if str(folder) in command and process.pid != os.getpid():
                found.append(command)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Leave out the processes that have ended."""
    return [
        process
        for process in processes
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


async def connect(dsn: str) -> Any:
    """Open a connection of asyncpg, which has no types."""
    return await asyncpg.connect(dsn)  # type: ignore[no-untyped-call]


async def query(dsn: str, statement: str) -> Any:
    """Return the first value of a statement's result."""
    connection = await connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def redis_says(url: str, *command: str) -> Any:
    """Return Valkey's answer to a command."""
    client = redis.Redis.from_url(url, decode_responses=True)
    try:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    finally:
        await client.aclose()


async def answers(servers: embedded.Servers) -> bool:
    """Whether both servers do."""
    number = await query(servers.dsn, "SELECT 42")
    return bool(number == 42 and await redis_says(servers.redis_url, "ECHO", "hello") == "hello")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Name a data folder that does not exist yet."""
    return tmp_path / "data"


class TestStart:
    async def test_urls_work(self, folder: Path) -> None:
        """The URLs serve SQLAlchemy, asyncpg and redis-py as they are."""
        async with embedded.open_servers(folder, durable=False) as servers:
            engine = create_async_engine(servers.database_url)
            async with engine.connect() as connection:
                database = await connection.scalar(text("SELECT current_database()"))
            await engine.dispose()

            assert database == "eclusa"
            assert await query(servers.dsn, "SHOW server_encoding") == "UTF8"
            assert await query(servers.dsn, "SHOW listen_addresses") == ""
            assert await redis_says(servers.redis_url, "ECHO", "hello") == "hello"
            assert folder.stat().st_mode & 0o777 == 0o700

    async def test_data_is_kept(self, folder: Path) -> None:
        """A second start finds the data of the first, and need not create the cluster again."""
        async with embedded.open_servers(folder) as servers:
            await query(servers.dsn, "CREATE TABLE kept AS SELECT 42 AS number")
            await redis_says(servers.redis_url, "SET", "kept", "42")
        cluster = (folder / "postgres" / "PG_VERSION").stat().st_ino

        async with embedded.open_servers(folder) as servers:
            assert await query(servers.dsn, "SELECT number FROM kept") == 42
            assert await redis_says(servers.redis_url, "GET", "kept") == "42"
            assert await query(servers.dsn, "SHOW fsync") == "on"
        assert (folder / "postgres" / "PG_VERSION").stat().st_ino == cluster
        assert running_on(folder) == []

    async def test_not_durable(self, folder: Path) -> None:
        """Without durability PostgreSQL does not sync, and Valkey starts empty."""
        async with embedded.open_servers(folder, durable=False) as servers:
            assert await query(servers.dsn, "SHOW fsync") == "off"
            await redis_says(servers.redis_url, "SET", "lost", "42")

        async with embedded.open_servers(folder, durable=False) as servers:
            assert await redis_says(servers.redis_url, "GET", "lost") is None

    async def test_long_path(self, folder: Path) -> None:
        """A folder too deep for a socket has its sockets elsewhere, only as long as it is open."""
        deep = folder.joinpath(*["a-rather-long-name"] * 6)

        async with embedded.open_servers(deep, durable=False) as servers:
            assert not servers.sockets.is_relative_to(deep)
            assert servers.sockets.stat().st_mode & 0o777 == 0o700
            assert await answers(servers)
        assert not servers.sockets.exists()

    async def test_strange_path(self, folder: Path) -> None:
        """A folder whose name has a meaning in URLs works like any other."""
        async with embedded.open_servers(folder / "a,b:c?d e%2F&ç", durable=False) as servers:
            assert await answers(servers)

    async def test_half_made_cluster(self, folder: Path) -> None:
        """What an interrupted first start left behind is made anew."""
        folder.mkdir()
        (folder / "owner.lock").touch()
        (folder / "postgres.new").mkdir()
        (folder / "postgres.new" / "PG_VERSION").write_text("18\n")

        async with embedded.open_servers(folder, durable=False) as servers:
            assert await answers(servers)

    async def test_stale_pid_file(self, folder: Path) -> None:
        """A pid file whose number another process has got by now does not keep it from starting."""
        async with embedded.open_servers(folder, durable=False):
            stale = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
        stale[0] = str(os.getppid())
        (folder / "postgres" / "postmaster.pid").write_text("\n".join(stale) + "\n")

        async with embedded.open_servers(folder, durable=False) as servers:
            assert await answers(servers)


class TestFailure:
    async def test_says_why(self, folder: Path) -> None:
        """A server that cannot start says why in the error, and nothing keeps running."""
        async with embedded.open_servers(folder, durable=False):
            pass
        with (folder / "postgres" / "postgresql.conf").open("a") as settings:
            settings.write("no_such_setting = 1\n")

        with pytest.raises(embedded.EmbeddedFailed, match="no_such_setting"):
            async with embedded.open_servers(folder, durable=False):
                pass
        assert running_on(folder) == []

    async def test_refuses_a_folder_in_use(self, folder: Path) -> None:
        """A folder with something else in it is neither closed to others nor handed over."""
        folder.mkdir(mode=0o755)
        (folder / "letter.txt").touch()

        with pytest.raises(embedded.EmbeddedFailed, match="something else"):
            async with embedded.open_servers(folder):
                pass
        assert [path.name for path in folder.iterdir()] == ["letter.txt"]

    async def test_unusable_folder(self, tmp_path: Path) -> None:
        """A folder that cannot be made is a typed error."""
        (tmp_path / "file").touch()

        with pytest.raises(embedded.EmbeddedFailed, match="cannot use the folder"):
            async with embedded.open_servers(tmp_path / "file" / "data"):
                pass

    def test_log_is_bounded(self, tmp_path: Path) -> None:
        """A log and its predecessor stay within their bound however much a server writes."""
        server = embedded._Server("valkey", tmp_path / "valkey.log", {})
        for _ in range(200):
            server.write(b"x" * 65_536)
        server._log.close()

        sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert set(sizes) == {"valkey.log", "valkey.log.1"}
        assert max(sizes.values()) <= embedded.LOG_BYTES


class TestTwoProcesses:
    async def test_second_attaches(self, folder: Path) -> None:
        """A second process gets the same servers, leaves them running, and may not stop them."""
        with owner_of(folder) as owner:
            async with embedded.open_servers(folder) as servers:
                assert (owner.answer["owned"], servers.owned) == (True, False)
                assert servers.dsn == owner.answer["dsn"]
                assert await answers(servers)
                with pytest.raises(embedded.EmbeddedFailed, match="another process"):
                    await servers.stop_postgres()

            assert await answers(servers)
            owner.tell("end")
        assert running_on(folder) == []

    async def test_race(self, folder: Path) -> None:
        """Of those that open a new folder at once, one owns the servers and the others attach."""
        async with contextlib.AsyncExitStack() as stack:
            opened = await asyncio.gather(
                *(
                    stack.enter_async_context(embedded.open_servers(folder, durable=False))
                    for _ in range(3)
                )
            )

            assert sorted(servers.owned for servers in opened) == [False, False, True]
            assert len({servers.dsn for servers in opened}) == 1


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    async def test_signal(self, folder: Path, number: signal.Signals) -> None:
        """However the owner is killed, its servers end within two seconds, and can start anew."""
        with owner_of(folder) as owner:
            await query(owner.answer["dsn"], "CREATE TABLE kept AS SELECT 42 AS number")
            busy = await connect(owner.answer["dsn"])
            owner.process.send_signal(number)

            assert await eventually(lambda: not alive(owner.descendants)) < 2
            busy.terminate()
        assert len(owner.descendants) > 5
        assert running_on(folder) == []
        async with embedded.open_servers(folder, durable=False) as servers:
            assert servers.owned
            assert await query(servers.dsn, "SELECT number FROM kept") == 42

    async def test_exception(self, folder: Path) -> None:
        """An owner that raises has stopped its servers when it is gone."""
        with owner_of(folder) as owner:
            assert "as told" in owner.tell("raise")

            assert alive(owner.descendants) == []

    async def test_cancelled(self, folder: Path) -> None:
        """An owner whose task is cancelled has stopped its servers when the task ends."""
        opened = asyncio.Event()

        async def own() -> None:
            async with embedded.open_servers(folder, durable=False):
                opened.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(own())
        await opened.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert running_on(folder) == []

    async def test_cancelled_while_starting(self, folder: Path) -> None:
        """An owner cancelled amid the first start leaves nothing running."""
        task = asyncio.create_task(embedded.open_servers(folder, durable=False).__aenter__())
        await eventually((folder / "postgres.new").exists)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert running_on(folder) == []

    async def test_killed_right_after_another(self, folder: Path) -> None:
        """A new owner waits for the servers of the killed one to be gone."""
        with owner_of(folder) as owner:
            owner.end()
            async with embedded.open_servers(folder, durable=False) as servers:
                assert servers.owned
                assert await answers(servers)

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start ends them")
    async def test_warden_killed(self, folder: Path) -> None:
        """The servers end with the process that runs them, and the owner is told."""
        others = set(psutil.Process().children())
        async with embedded.open_servers(folder, durable=False) as servers:
            (warden,) = set(psutil.Process().children()) - others
            descendants = warden.children(recursive=True)
            warden.kill()

            await eventually(lambda: not alive(descendants))
            with pytest.raises(embedded.EmbeddedFailed, match="is gone"):
                await servers.start_postgres()
        async with embedded.open_servers(folder, durable=False) as servers:
            assert await answers(servers)


class TestControls:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    async def test_postgres(self, folder: Path, mode: embedded.Mode) -> None:
        """PostgreSQL is stopped and started with its data under the same URL."""
        async with embedded.open_servers(folder, durable=False) as servers:
            await query(servers.dsn, "CREATE TABLE kept AS SELECT 42 AS number")
            busy = await connect(servers.dsn)

            await servers.stop_postgres(mode)
            with pytest.raises(OSError, match=r"No such file|refused"):
                await query(servers.dsn, "SELECT 1")
            busy.terminate()
            await servers.start_postgres()
            await servers.start_postgres()

            assert await query(servers.dsn, "SELECT number FROM kept") == 42

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    async def test_redis(self, folder: Path, mode: embedded.Mode) -> None:
        """Valkey is stopped and started under the same URL."""
        async with embedded.open_servers(folder, durable=False) as servers:
            await servers.stop_redis(mode)
            with pytest.raises(RedisError):
                await redis_says(servers.redis_url, "PING")
            await servers.start_redis()

            assert await answers(servers)

    async def test_databases(self, folder: Path) -> None:
        """A database is created from a template, and dropped with its connections."""
        async with embedded.open_servers(folder, durable=False) as servers:
            await query(servers.dsn, "CREATE TABLE kept AS SELECT 42 AS number")
            url = await embedded.create_database(servers.database_url, 'a "copy"', "eclusa")
            copy = url.replace("postgresql+asyncpg", "postgresql")
            busy = await connect(copy)

            assert await busy.fetchval("SELECT number FROM kept") == 42
            await embedded.drop_database(servers.database_url, 'a "copy"')
            await embedded.drop_database(servers.database_url, 'a "copy"')
            busy.terminate()
            with pytest.raises(asyncpg.InvalidCatalogNameError):
                await query(copy, "SELECT 1")


@as_root
class TestWho:
    @pytest.mark.parametrize(
        "uid",
        [
            pytest.param(65_534, id="plain user"),
            pytest.param(54_321, id="a number without an account"),
        ],
    )
    def test_not_root(self, folder: Path, uid: int) -> None:
        """Who is not root runs the servers as well.

        In a namespace, for an interpreter in root's home is closed to the real account.
        """
        wrapper = ("unshare", "--user", f"--map-user={uid}", f"--map-group={uid}")
        with owner_of(folder, *wrapper) as owner:
            assert owner.answer["owned"]
            assert owner.tell("end") == ""

    @pytest.mark.parametrize(
        "mode", [pytest.param(0o755, id="open path"), pytest.param(0o700, id="closed path")]
    )
    async def test_root_without_namespaces(self, mode: int) -> None:
        """Where namespaces are forbidden, an account runs the servers, and the next may be root."""
        # A folder of its own: pytest's are below one that only root may enter.
        with tempfile.TemporaryDirectory(prefix="eclusa-test-") as base:
            Path(base).chmod(mode)
            folder = Path(base) / "data"
            with owner_of(folder, sys.executable, "-c", WITHOUT_NAMESPACES) as owner:
                assert folder.stat().st_uid != 0
                assert owner.tell("end") == ""

            async with embedded.open_servers(folder, durable=False) as servers:
                assert (folder / "postgres" / "PG_VERSION").stat().st_uid == 0
                assert await answers(servers)
