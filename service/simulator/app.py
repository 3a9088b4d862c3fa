"""The simulator as a server: Odoo's routes, the control routes, and how to run them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from service.simulator import delivery, errors, json2, rpc, wire
from service.simulator.arrivals import DocumentOptions
from service.simulator.control import Control
from service.simulator.options import Options
from service.simulator.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from types import TracebackType

    from starlette.requests import Request

    from service.simulator.bulk import BulkOptions
    from service.simulator.faults import Fault
    from service.simulator.options import Approver

DEMO_LOGIN = "admin"
DEMO_KEY = "simulator-api-key"
PYTHON_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
STOP_SECONDS = 1
NEW_VERSION = 19
CHARSET = {"Content-Type": "application/json; charset=utf-8"}
NOT_FOUND = """<!DOCTYPE html>
<html>
    <head>
        <meta charset="utf-8"/>
        <title>Odoo</title>
    </head>
    <body><h1>404: Page not found!</h1></body>
</html>
"""
GATEWAY_PAGE = (
    "<html>\r\n<head><title>{code} {phrase}</title></head>\r\n<body>\r\n"
    "<center><h1>{code} {phrase}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>"
)
TYPE_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>{code} {phrase}</title>\n<h1>{phrase}</h1>\n"
    "<p>Request inferred type is compatible with [&#39;http&#39;] but &#39;{route}&#39; is "
    "type=&#39;{kind}&#39;.{hint}</p>\n"
)


@dataclass(frozen=True, kw_only=True)
class SimulatorSettings:
    """How to run a simulator. `port` 0 takes a free one.

    `api_key` is a key of the calling user, for JSON-2 and in place of the password. `observer` is
    the login and password of a user who may read contacts and little else. `rows` are many rows to
    begin with, for syncs.

    `durations`, `approval_limit`, `approver` and `link_order_to_document` are described at
    `Options`. Without `keep_alive` every answer is HTTP/1.0 and closes its connection, as a server
    without a proxy does.
    """

    host: str = "127.0.0.1"
    port: int = 0
    version: Literal[17, 19] = 17
    database: str = "eclusa"
    login: str = DEMO_LOGIN
    password: str = DEMO_LOGIN
    observer: tuple[str, str] = ("observer", "observer")
    api_key: str = DEMO_KEY
    documents: int = 0
    rows: BulkOptions | None = None
    seed: int = 1
    keep_alive: bool = True
    faults: tuple[Fault, ...] = ()
    durations: Mapping[str, float] = field(default_factory=dict)
    approval_limit: float | None = None
    approver: Approver = "automatic"
    link_order_to_document: bool = True


def create_world(settings: SimulatorSettings) -> World:
    """Return a world with the settings' documents and options; faults need a running server."""
    world = World(
        version=settings.version,
        login=settings.login,
        password=settings.password,
        observer=settings.observer,
        api_key=settings.api_key,
        seed_number=settings.seed,
        options=Options(
            durations=dict(settings.durations),
            approval_limit=settings.approval_limit,
            approver=settings.approver,
            link_order_to_document=settings.link_order_to_document,
        ),
    )
    if settings.rows is not None:
        world.add_rows(settings.rows)
    if settings.documents:
        world.add_documents(DocumentOptions(count=settings.documents))
    return world


class OdooRoutes:
    """What Odoo itself answers."""

    def __init__(self, line: delivery.Line, database: str) -> None:
        self.line = line
        self.database = database

    def routes(self) -> list[Route]:
        """Return the routes."""
        methods = ["GET", "POST"]
        return [
            Route("/jsonrpc", self.jsonrpc, methods=methods),
            Route("/web/session/authenticate", self.authenticate, methods=methods),
            Route("/web/dataset/call_kw", self.call_kw, methods=methods),
            Route("/json/2/{model}/{method}", self.json2, methods=methods),
        ]

    @property
    def version(self) -> int:
        """The version the world has now."""
        return self.line.world.version

    async def jsonrpc(self, request: Request) -> Response:
        """Answer a JSON-RPC request."""
        return await self._answer(
            request, lambda params: rpc.dispatch(self.line, self.database, params)
        )

    async def authenticate(self, request: Request) -> Response:
        """Answer a browser's login."""
        return await self._answer(request, self._log_in)

    async def call_kw(self, request: Request) -> Response:
        """Answer a browser's call, which needs a session that nobody has here."""
        return await self._answer(request, self._no_session)

    async def _log_in(self, params: Any) -> delivery.Outcome:
        rpc.check_database(self.database, params.get("db"))
        user_id = self.line.world.log_in(params.get("login"), params.get("password"))
        if user_id is None:
            raise errors.AccessDenied
        row = self.line.world.database.tables["res.users"].rows[user_id]
        return delivery.Answer(
            {
                "uid": user_id,
                "is_admin": "manager" in row["roles"],
                "is_internal_user": True,
                "db": self.database,
                "name": row["name"],
                "username": row["login"],
                "partner_id": row["partner_id"],
                "user_context": {"lang": "en_US", "tz": "UTC", "uid": user_id},
                **rpc.version_info(self.version),
            }
        )

    async def _no_session(self, _: Any) -> delivery.Outcome:
        raise errors.SessionExpired

    async def _answer(
        self, request: Request, run: Callable[[Any], Awaitable[delivery.Outcome]]
    ) -> Response:
        body = await request.body()
        outage = self.line.outage()
        if outage is not None:
            return _response(outage, None)
        if not _is_json(request):
            return self._wrong_type()
        try:
            read = rpc.read(body)
        except rpc.Malformed as error:
            return HTMLResponse(str(error), status_code=400)
        try:
            return _response(await run(read.params), read.id)
        except errors.ServerError as error:
            return JSONResponse(rpc.fault_body(self.version, read.id, error), headers=CHARSET)
        except PYTHON_ERRORS as error:
            fault = errors.PythonError(type(error).__name__, str(error))
            return JSONResponse(rpc.fault_body(self.version, read.id, fault), headers=CHARSET)

    def _wrong_type(self) -> Response:
        if self.version >= NEW_VERSION:
            return _wrong_type_page("/jsonrpc", "jsonrpc")
        page = TYPE_PAGE.format(
            code=400, phrase="Bad Request", route="/jsonrpc", kind="json", hint=""
        )
        return HTMLResponse(page, status_code=400)

    async def json2(self, request: Request) -> Response:
        """Answer a JSON-2 request; version 17 does not know the route."""
        body = await request.body()
        refusal = self._json2_refusal(request)
        if refusal is not None:
            return refusal
        try:
            return await self._json2(request, body)
        except errors.ServerError as error:
            return _json2_fault(error)
        except PYTHON_ERRORS as error:
            return _json2_fault(errors.PythonError(type(error).__name__, str(error)))

    def _json2_refusal(self, request: Request) -> Response | None:
        outage = self.line.outage()
        if outage is not None:
            return _response(outage, None)
        if self.version < NEW_VERSION:
            return HTMLResponse(NOT_FOUND, status_code=404)
        if not _is_json(request):
            return _wrong_type_page("/json/2/&lt;__model__&gt;/&lt;__method__&gt;", "json2")
        if request.headers.get("x-odoo-database", self.database) != self.database:
            return HTMLResponse(json2.UNKNOWN_DATABASE_PAGE, status_code=404)
        return None

    async def _json2(self, request: Request, body: bytes) -> Response:
        if request.method != "POST":
            message = "Did you mean POST /json/2/<model>/<method>?"
            raise json2.RequestError(HTTPStatus.NOT_FOUND, message)
        user_id = json2.user_of(self.line.world, request.headers.get("authorization", ""))
        target = (request.path_params["model"], request.path_params["method"])
        call = json2.call_of(self.line.world, user_id, target, json2.read(body))
        outcome = await self.line.deliver(call)
        if isinstance(outcome, delivery.Answer):
            return JSONResponse(outcome.result if outcome.shown else None, headers=CHARSET)
        return _response(outcome, None)


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in rpc.JSON_TYPES


def _wrong_type_page(route: str, kind: str) -> Response:
    hint = "<br><br>Please verify the Content-Type request header and try again."
    page = TYPE_PAGE.format(
        code=415, phrase="Unsupported Media Type", route=route, kind=kind, hint=hint
    )
    return HTMLResponse(page, status_code=415)


def _json2_fault(error: errors.ServerError) -> Response:
    body = json2.fault_body(error, rpc.traceback_of(error))
    return JSONResponse(body, status_code=json2.status_of(error), headers=CHARSET)


def _response(outcome: delivery.Outcome, request_id: Any) -> Response:
    match outcome:
        case delivery.Silence():
            return wire.HangUp()
        case delivery.Page(status):
            page = GATEWAY_PAGE.format(code=status.value, phrase=status.phrase)
            return HTMLResponse(page, status_code=status.value)
        case delivery.Answer():
            return JSONResponse(rpc.result_body(request_id, outcome), headers=CHARSET)


async def _not_found(_: Request, __: Exception) -> Response:
    return HTMLResponse(NOT_FOUND, status_code=404)


def create_app(line: delivery.Line, database: str) -> Starlette:
    """Return the application that serves a world."""
    return Starlette(
        routes=[*OdooRoutes(line, database).routes(), *Control(line).routes()],
        exception_handlers={404: _not_found},
    )


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the caller decides what a signal means."""
        yield


class Simulator:
    """A simulated Odoo on a port, for as long as its context is open.

    `url` is where clients find it, `world` what it holds, `line` how calls reach it.
    """

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self.world = create_world(self.settings)
        self.port = self.settings.port
        self.line: delivery.Line
        self._server: Server
        self._serving: asyncio.Task[None]

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://{self.settings.host}:{self.port}"

    def add_fault(self, fault: Fault) -> None:
        """Let the next calls that the fault concerns meet it."""
        self.world.faults.add(fault, asyncio.get_running_loop().time())

    async def __aenter__(self) -> Self:
        self.line = delivery.Line(self.world)
        for fault in self.settings.faults:
            self.add_fault(fault)
        listener = socket.create_server((self.settings.host, self.settings.port))
        # asyncio sets this only on sockets that name their protocol, which `create_server` leaves
        # out; without it an answer of two packets waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listener.getsockname()[1]
        self._server = Server(self._config())
        self._serving = asyncio.create_task(
            self._server.serve(sockets=[listener]), name="simulator"
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.line.close()
        self._server.should_exit = True
        await self._serving

    def _config(self) -> uvicorn.Config:
        alive = self.settings.keep_alive
        return uvicorn.Config(
            create_app(self.line, self.settings.database),
            http=wire.ClosableProtocol if alive else wire.OneAnswerProtocol,
            headers=[] if alive else [("Connection", "close")],
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )


@asynccontextmanager
async def _stopping_on_signals(stop: asyncio.Event) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for one in signals:
        loop.add_signal_handler(one, stop.set)
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


async def serve(
    settings: SimulatorSettings,
    *,
    stop: asyncio.Event | None = None,
    announce: Callable[[Simulator], None] | None = None,
) -> None:
    """Serve until `stop` is set, or until SIGINT or SIGTERM when no event is given.

    `announce` is called with the running simulator once its port is known.
    """
    event = stop or asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        if stop is None:
            await stack.enter_async_context(_stopping_on_signals(event))
        simulator = await stack.enter_async_context(Simulator(settings))
        if announce is not None:
            announce(simulator)
        await event.wait()
