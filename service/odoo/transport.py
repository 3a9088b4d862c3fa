"""One call over the wire, and the one place where foreign errors become Odoo errors.

`JsonRpcTransport.send` posts a `Call` to `/jsonrpc` and gives its result, with numbers that have a
fraction as Decimal. It raises an `OdooError` or what the guard raises; nothing of httpx, aiohttp or
msgspec gets past it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Protocol

import aiohttp
import httpx
import httpx_aiohttp
import msgspec
import structlog

from service.errors import Misconfigured
from service.odoo import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger()

Service = Literal["common", "object", "db"]
"""A service of Odoo's RPC: `object` runs methods of models, the others change no record."""

IDLE_SECONDS = 4.0
"""A kept connection is dropped before any usual proxy drops it (Apache: 5 s, nginx: 75 s).

A call sent on a connection that the other side is just closing ends with effect *unknown*, and
would then have to be settled for nothing.
"""

SHORTEST_REDACTED = 8
"""Shorter secrets are words of everyday messages, and taking those out would garble the text."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One Odoo database and how to reach it.

    `url` is the address without `/jsonrpc`; a path in front of it is kept. `timeout_seconds` is the
    deadline of a call that names none. Private authorities are taken from `SSL_CERT_FILE`.
    """

    name: str
    url: str
    database: str
    login: str
    secret: str = field(repr=False)
    timeout_seconds: float = 90.0
    connect_timeout_seconds: float = 10.0
    max_connections: int = 64
    verify_tls: bool = True

    def __post_init__(self) -> None:
        try:
            address = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise Misconfigured(f"connection {self.name}: the URL is not valid") from error
        if address.userinfo:
            raise Misconfigured(f"connection {self.name}: no credentials in the URL")
        if address.scheme not in {"http", "https"} or not address.host:
            raise Misconfigured(f"connection {self.name}: the URL must be http(s)://host[:port]")

    @property
    def address(self) -> httpx.URL:
        """The URL without query, fragment or trailing slash."""
        url = httpx.URL(self.url)
        return url.copy_with(path=url.path.rstrip("/"), query=None, fragment=None)

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        address = self.address
        return f"{address.host}:{address.port or (443 if address.scheme == 'https' else 80)}"

    def redacted(self, text: str) -> str:
        """`text` without the secret."""
        return text.replace(self.secret, "***") if len(self.secret) >= SHORTEST_REDACTED else text


@dataclass(frozen=True, kw_only=True)
class Call:
    """One remote call; `model` and `method` name it in errors. `args` hold the secret."""

    service: Service
    procedure: str
    args: Sequence[Any] = field(repr=False)
    timeout_seconds: float
    model: str | None = None
    method: str | None = None

    @property
    def worst(self) -> errors.Effect:
        """What is to be feared when it is unknown how far the call got."""
        return errors.Effect.UNKNOWN if self.service == "object" else errors.Effect.NONE


class Transport(Protocol):
    """Carries calls to one Odoo."""

    async def send(self, call: Call) -> Any:
        """Send the call and answer its result; `None` where Odoo sent none."""
        ...

    async def close(self) -> None:
        """Close the connections; every later call is `Unreachable`."""
        ...


def no_guard() -> None:
    """Allow every call: for programs that have no database transactions."""


def headers(connection: Connection, **more: str) -> httpx.Headers:
    """What every request of a connection begins with, whatever its protocol."""
    return httpx.Headers(
        {
            "host": connection.address.netloc.decode(),
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "content-type": "application/json",
            "user-agent": "eclusa",
            **more,
        }
    )


class JsonRpcTransport:
    """JSON-RPC over httpx's requests and responses on aiohttp's connections.

    `guard` runs before each wait for the network, and may refuse by raising. `lower` replaces the
    connections, for instance by `httpx.MockTransport`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        guard: Callable[[], None] = no_guard,
        lower: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.connection = connection
        self._guard = guard
        self._lower = _connections(connection) if lower is None else lower
        # A queue of our own, not the connector's: while a call waits here, nothing was sent.
        self._slots = asyncio.Semaphore(connection.max_connections)
        self._url = connection.address.copy_with(
            path=connection.address.path.rstrip("/") + "/jsonrpc"
        )
        self._headers = headers(connection)
        self._closed = False

    async def send(self, call: Call) -> Any:
        """Send the call and answer its result; `None` where Odoo sent none."""
        request = httpx.Request("POST", self._url, headers=self._headers, content=_encoded(call))
        return self.result(call, await self.exchange(call, request))

    async def exchange(self, call: Call, request: httpx.Request) -> httpx.Response:
        """Answer the whole HTTP answer to `request`, whatever its status, within the deadline."""
        self._guard()
        connection = self.connection
        if self._closed:
            raise errors.Unreachable(
                f"the connection {connection.name} is closed",
                call.model,
                call.method,
                errors.Effect.NONE,
            )
        # aiohttp counts the resolver under "pool" only, hence both.
        request.extensions["timeout"] = {
            "pool": connection.connect_timeout_seconds,
            "connect": connection.connect_timeout_seconds,
            "read": call.timeout_seconds,
            "write": call.timeout_seconds,
        }
        progress = _Progress()
        # The deadline spans all phases: each phase alone could be renewed by one byte at a time.
        with translated(call, connection, progress):
            async with asyncio.timeout(call.timeout_seconds), self._slots:
                progress.started = True
                response = await self._lower.handle_async_request(request)
                try:
                    await response.aread()
                except BaseException:
                    # A whole answer gives its connection back by itself, half of one does not.
                    await response.aclose()
                    raise
        return response

    def result(self, call: Call, response: httpx.Response) -> Any:
        """Read the result out of an HTTP answer."""
        if response.status_code != HTTPStatus.OK:
            raise status_error(call, response)
        try:
            answer = _decoder.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise errors.UnexpectedAnswer(
                "the answer is not JSON-RPC: is this the address of an Odoo?",
                call.model,
                call.method,
                call.worst,
            ) from error
        if answer.error is not None:
            raise self._fault(call, answer.error)
        return answer.result

    def _fault(self, call: Call, error: Any) -> errors.OdooError:
        data = error.get("data") if isinstance(error, dict) else None
        name = data.get("name") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(name, str):
            return errors.UnexpectedAnswer(
                "the answer is a fault without the name of an exception",
                call.model,
                call.method,
                call.worst,
            )
        self.log_fault(call, data)
        message = self.connection.redacted(str(data.get("message") or "").strip())
        return fault(call, name, message)

    def log_fault(self, call: Call, data: Mapping[str, Any]) -> None:
        """Log an exception of Odoo with its traceback, which goes nowhere else."""
        log.debug(
            "odoo_fault",
            connection=self.connection.name,
            model=call.model,
            method=call.method,
            exception=data["name"],
            traceback=self.connection.redacted(str(data.get("debug") or "")),
        )

    async def close(self) -> None:
        """Close the connections; every later call is `Unreachable`."""
        self._closed = True
        await self._lower.aclose()


def _connections(connection: Connection) -> httpx.AsyncBaseTransport:
    secure = connection.address.scheme == "https"
    context = httpx.create_ssl_context(verify=connection.verify_tls and secure)

    def session() -> aiohttp.ClientSession:
        # No cookies: Odoo sets a session cookie on every answer, and /jsonrpc must not follow it.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    return httpx_aiohttp.AiohttpTransport(verify=context, client=session)


# JSON both ways


class _Answer(msgspec.Struct):
    jsonrpc: str
    result: Any = None
    error: Any = None


# Python's JSON lets NaN and Infinity pass; here such an answer is refused, as no amount is NaN.
_decoder = msgspec.json.Decoder(_Answer, float_hook=Decimal)
_json_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def _encoded(call: Call) -> bytes:
    params = {"service": call.service, "method": call.procedure, "args": call.args}
    return encode(call, {"jsonrpc": "2.0", "id": 1, "method": "call", "params": params})


def encode(call: Call, body: Mapping[str, Any]) -> bytes:
    """Build a request body; raises InvalidCall for a value that JSON or Odoo cannot take."""
    try:
        return _encoder.encode(outgoing(body))
    except (TypeError, ValueError) as error:
        raise errors.InvalidCall(
            f"the arguments cannot be sent: {error}", call.model, call.method, errors.Effect.NONE
        ) from error


def parse(content: bytes) -> Any:
    """Read any JSON, numbers with a fraction as Decimal; raises ValueError."""
    try:
        return _json_decoder.decode(content)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def decode(call: Call, content: bytes) -> Any:
    """Read an answer that is bare JSON; raises UnexpectedAnswer for anything else."""
    try:
        return parse(content)
    except ValueError as error:
        raise errors.UnexpectedAnswer(
            "the answer is not JSON: is this the address of an Odoo?",
            call.model,
            call.method,
            call.worst,
        ) from error


PLAIN = frozenset({type(None), bool, int, str})


def outgoing(value: Any) -> Any:
    """`value` as Odoo takes it: times in UTC as `YYYY-MM-DD HH:MM:SS`, dates as `YYYY-MM-DD`.

    Raises TypeError or ValueError for anything that has no JSON value: the encoder would silently
    turn a NaN into an empty value, and Odoo would store that.
    """
    if type(value) in PLAIN:
        return value
    match value:
        case float() | Decimal() if not math.isfinite(value):
            raise ValueError(f"{value} is not a number")
        case float() | Decimal() | int() | str():
            return value
        case datetime():
            if value.tzinfo is None:
                raise ValueError("a time without a zone")
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): outgoing(item) for key, item in value.items()}
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [outgoing(item) for item in value]
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON value")


# What went wrong below HTTP


@dataclass
class _Progress:
    """How far a call got: `started` is set once it may have sent something."""

    started: bool = False


@contextmanager
def translated(call: Call, connection: Connection, progress: _Progress) -> Iterator[None]:
    """Translate every error of the network to Unreachable or TimedOut."""
    try:
        yield
    except TimeoutError as error:
        effect = call.worst if progress.started else errors.Effect.NONE
        raise errors.TimedOut(
            f"no answer from {connection.place} within {call.timeout_seconds:g} s",
            call.model,
            call.method,
            effect,
        ) from error
    except (httpx.TransportError, aiohttp.ClientError, OSError) as error:
        origin = _origin(error)
        if _never_sent(origin):
            raise errors.Unreachable(
                f"no connection to {connection.place}: {_reason(origin)}",
                call.model,
                call.method,
                errors.Effect.NONE,
            ) from error
        if isinstance(origin, httpx.TimeoutException | aiohttp.ServerTimeoutError):
            raise errors.TimedOut(
                f"no answer from {connection.place} within {call.timeout_seconds:g} s",
                call.model,
                call.method,
                call.worst,
            ) from error
        raise errors.Unreachable(
            f"the connection to {connection.place} broke before the answer",
            call.model,
            call.method,
            call.worst,
        ) from error


def _origin(error: Exception) -> Exception:
    """Find the error that tells how far the call got.

    httpx-aiohttp maps every ClientConnectionError to ConnectTimeout, also that of a connection that
    broke long after the request was sent. Only aiohttp's own class can be trusted.
    """
    cause = error.__cause__
    return cause if isinstance(cause, aiohttp.ClientError) else error


def _never_sent(origin: Exception) -> bool:
    return isinstance(
        origin,
        httpx.ConnectError
        | httpx.ConnectTimeout
        | httpx.PoolTimeout
        | httpx.ProxyError
        | httpx.UnsupportedProtocol
        | aiohttp.ClientConnectorError
        | aiohttp.ConnectionTimeoutError,
    )


def failed_tls(error: errors.OdooError) -> bool:
    """Tell whether TLS, and not the network below it, is why there is no connection."""
    cause = error.__cause__
    return isinstance(cause, Exception) and isinstance(_origin(cause), aiohttp.ClientSSLError)


def _reason(origin: Exception) -> str:
    match origin:
        case aiohttp.ClientConnectorDNSError():
            return "the name does not resolve"
        case aiohttp.ClientConnectorCertificateError():
            return f"its TLS certificate was not accepted ({origin.certificate_error})"
        case aiohttp.ClientSSLError():
            return f"TLS failed ({origin.os_error})"
        case aiohttp.ConnectionTimeoutError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return "it took too long"
        case aiohttp.ClientConnectorError():
            return origin.strerror or str(origin.os_error)
        case _:
            return str(origin)


# What HTTP says

GATEWAY = {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}

REFUSED = {300, 301, 302, 303, 307, 308} | {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    HTTPStatus.LENGTH_REQUIRED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.UPGRADE_REQUIRED,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}
"""Statuses that are decided from the request alone, before a method of Odoo could run.

403 is not among them, since a web firewall may also take offence at the answer of a call that ran;
nor is 408, which a proxy may send for a slow answer.
"""


def status_error(call: Call, response: httpx.Response) -> errors.OdooError:
    """Choose the error for an HTTP answer in which Odoo itself names no exception."""
    status = response.status_code
    if status in GATEWAY:
        return errors.GatewayError(
            f"a proxy answered {status} in Odoo's place", call.model, call.method, call.worst
        )
    message = f"HTTP status {status}"
    if response.has_redirect_location:
        target = response.headers["location"].partition("?")[0]
        message += f": the address has moved to {target}"
    elif status == HTTPStatus.NOT_FOUND:
        message += ": there is no Odoo at this address"
    effect = errors.Effect.NONE if status in REFUSED else call.worst
    return errors.UnexpectedAnswer(message, call.model, call.method, effect)


# What Odoo says


def major_of(series: str) -> int | None:
    """The number of a series: 17 of `17.0` and of `saas~17.2`; None of anything else."""
    number = series.rpartition("~")[2].partition(".")[0]
    return int(number) if number.isdecimal() else None


FAULTS: Mapping[str, type[errors.Fault]] = {
    "odoo.exceptions.AccessError": errors.AccessDenied,
    "odoo.exceptions.MissingError": errors.MissingRecord,
    "odoo.exceptions.ValidationError": errors.ValidationFailed,
    "odoo.exceptions.UserError": errors.UserFault,
    "odoo.exceptions.RedirectWarning": errors.UserFault,
    "odoo.exceptions.Warning": errors.UserFault,
    "odoo.exceptions.LockError": errors.LockConflict,
    "odoo.exceptions.ConcurrencyError": errors.LockConflict,
    "psycopg2.errors.LockNotAvailable": errors.LockConflict,
    "psycopg2.errors.SerializationFailure": errors.LockConflict,
    "psycopg2.errors.DeadlockDetected": errors.LockConflict,
    "psycopg2.extensions.TransactionRollbackError": errors.LockConflict,
    "psycopg2.errors.NotNullViolation": errors.ValidationFailed,
    "psycopg2.errors.ForeignKeyViolation": errors.ValidationFailed,
    "psycopg2.errors.UniqueViolation": errors.ValidationFailed,
    "psycopg2.errors.CheckViolation": errors.ValidationFailed,
    "psycopg2.errors.ExclusionViolation": errors.ValidationFailed,
}
"""Odoo's exceptions by their full name: the only part of a fault that no language changes."""

NOT_AUTHENTICATED = {
    "odoo.exceptions.AccessDenied",
    "odoo.http.SessionExpiredException",
    "odoo.http.SessionExpired",
}

DATABASE_LOST = {
    "psycopg2.OperationalError",
    "psycopg2.InterfaceError",
    "psycopg2.DatabaseError",
    "psycopg2.errors.AdminShutdown",
    "psycopg2.errors.CrashShutdown",
    "psycopg2.errors.CannotConnectNow",
    "psycopg2.errors.DatabaseDropped",
    "psycopg2.errors.IdleInTransactionSessionTimeout",
    "psycopg2.errors.StatementCompletionUnknown",
    "psycopg2.errors.TransactionResolutionUnknown",
}
"""Odoo lost its database, perhaps while it committed: the commit may have been made."""


def fault(call: Call, name: str, message: str) -> errors.OdooError:
    """Choose the error for Odoo's exception `name`.

    Class and effect follow from the name. The text only refines a class among those of the same
    effect, and only where Odoo raises one class for several things: texts of programming errors,
    which Odoo does not translate, and of PostgreSQL for a database that does not exist.
    """
    text = message or "Odoo gave no message"
    if name in NOT_AUTHENTICATED:
        return errors.AuthenticationFailed(text, call.model, call.method, errors.Effect.NONE)
    if name in DATABASE_LOST:
        if name == "psycopg2.OperationalError" and _names_missing_database(call, message):
            return errors.UnknownDatabase(
                "the server has no such database", call.model, call.method, call.worst
            )
        return errors.ServerFault(text, call.model, call.method, call.worst, exception=name)
    kind = _refined(call, name, message) or FAULTS.get(name, errors.ServerFault)
    return kind(text, call.model, call.method, exception=name)


def _refined(call: Call, name: str, message: str) -> type[errors.Fault] | None:
    method = call.method or ""
    match name:
        case "odoo.exceptions.UserError" if message == f"Object {call.model} doesn't exist":
            return errors.UnknownModel
        # A private method needs no text: the underscore is in what was asked for.
        case "odoo.exceptions.AccessError" if method.startswith("_"):
            return errors.UnknownMethod
        case "builtins.AttributeError" if _names_missing_method(method, message):
            return errors.UnknownMethod
        case "builtins.ValueError":
            unknown = message.startswith("Invalid field ")
            return errors.InvalidField if unknown else errors.InvalidCall
        # Odoo 19 looks the fields of a write up without checking them first.
        case "builtins.KeyError" if message.strip("'") in _written_fields(call):
            return errors.InvalidField
        case _:
            signature = name == "builtins.TypeError" and "argument" in message
            return errors.InvalidCall if signature else None


def _names_missing_database(call: Call, message: str) -> bool:
    return bool(call.args) and f'database "{call.args[0]}" does not exist' in message


def _names_missing_method(method: str, message: str) -> bool:
    missing = ("does not exist", "has no attribute")
    return bool(method) and method in message and any(words in message for words in missing)


def _written_fields(call: Call) -> set[str]:
    """Collect the field names in the values of a `create` or `write`."""
    if call.method not in {"create", "write"}:
        return set()
    positional = call.args[5]
    rows = [row for item in positional for row in (item if isinstance(item, list) else [item])]
    return {str(name) for row in rows if isinstance(row, Mapping) for name in row}
