"""JSON-2, the protocol of Odoo 19 and later, and the choice between it and JSON-RPC.

A call is `POST /json/2/<model>/<method>` with the API key as bearer and its arguments by name. The
errors are those of JSON-RPC, with the same effects: what a fault means follows from the exception
that the answer names, and only where it names none from the HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, assert_never
from urllib.parse import quote

import httpx

from service.odoo import errors, signatures, transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.odoo.transport import Call, Connection

Protocol = Literal["auto", "jsonrpc", "json2"]

FIRST_VERSION = 19
FAULT_KEYS = frozenset({"name", "message", "arguments", "context", "debug"})
NO_DATABASE = b"No database is selected"
"""Odoo's page for a database that it does not have; never translated, as no database is open."""


def choose(
    protocol: Protocol, connection: Connection, *, guard: Callable[[], None]
) -> transport.Transport:
    """Make the transport of a protocol."""
    rpc = transport.JsonRpcTransport(connection, guard=guard)
    match protocol:
        case "jsonrpc":
            return rpc
        case "json2":
            return Json2Transport(rpc)
        case "auto":
            return NewestTransport(rpc)
        case _:
            assert_never(protocol)


class Json2Transport:
    """JSON-2 for the methods of models and for the login, over the connections of `rpc`.

    What needs no database (the version, the list of databases) stays on JSON-RPC, since JSON-2 has
    no route for it.
    """

    def __init__(self, rpc: transport.JsonRpcTransport) -> None:
        self._rpc = rpc
        self._connection = rpc.connection
        connection = rpc.connection
        self._base = connection.address.path.rstrip("/") + "/json/2/"
        self._headers = transport.headers(
            connection,
            **{
                "authorization": f"bearer {connection.secret}",
                "x-odoo-database": connection.database,
            },
        )

    async def send(self, call: Call) -> Any:
        """Send the call and answer its result; `None` where Odoo sent none."""
        match (call.service, call.procedure):
            case ("object", "execute_kw"):
                return await self._execute(call)
            case ("common", "authenticate"):
                return await self._user(call)
            case _:
                return await self._rpc.send(call)

    async def close(self) -> None:
        """Close the connections; every later call is `Unreachable`."""
        await self._rpc.close()

    async def _execute(self, call: Call) -> Any:
        *_, model, method, args, kwargs = call.args
        # JSON-2 creates lists of records; the values of one are answered by its id, not by a list.
        creates_one = method == "create" and bool(args) and isinstance(args[0], Mapping)
        if creates_one:
            args = [[args[0]], *args[1:]]
        answer = await self._post(
            call, model, method, signatures.named(model, method, args, kwargs)
        )
        match answer:
            case [record_id] if creates_one:
                return record_id
            case _:
                return answer

    async def _user(self, call: Call) -> int:
        """The id of the user whom the key belongs to, who must be the one of the connection.

        JSON-RPC refuses a login with another user's key. JSON-2 asks for no login, and would act,
        and be audited in Odoo, as that other user.
        """
        match await self._post(call, "res.users", "context_get", {}):
            case {"uid": int() as user}:
                pass
            case _:
                raise errors.UnexpectedAnswer(
                    "the answer should name the user of the key",
                    call.model,
                    call.method,
                    call.worst,
                )
        wanted = self._connection.login
        body = {"ids": [user], "fields": ["login"]}
        match await self._post(call, "res.users", "read", body):
            case [{"login": str() as login}] if login == wanted:
                return user
            case _:
                raise errors.AuthenticationFailed(
                    f"the API key is not one of {wanted}",
                    call.model,
                    call.method,
                    errors.Effect.NONE,
                )

    async def _post(self, call: Call, model: str, method: str, body: Mapping[str, Any]) -> Any:
        request = httpx.Request(
            "POST",
            self._connection.address.copy_with(
                path=self._base + _part(model) + "/" + _part(method)
            ),
            headers=self._headers,
            content=transport.encode(call, body),
        )
        return self.result(call, await self._rpc.exchange(call, request))

    def result(self, call: Call, response: httpx.Response) -> Any:
        """Read the result out of an HTTP answer."""
        if response.status_code == HTTPStatus.OK:
            return transport.decode(call, response.content)
        fault = _fault_in(response)
        if fault is not None:
            self._rpc.log_fault(call, fault)
            message = self._connection.redacted(str(fault["message"] or "").strip())
            raise _fault(call, str(fault["name"]), message)
        if response.status_code == HTTPStatus.NOT_FOUND and NO_DATABASE in response.content:
            raise errors.UnknownDatabase(
                "the server has no such database", call.model, call.method, errors.Effect.NONE
            )
        raise transport.status_error(call, response)


def _part(name: str) -> str:
    return quote(name, safe="")


def _fault_in(response: httpx.Response) -> Mapping[str, Any] | None:
    """Odoo's description of an exception; None when the answer is a page or a proxy's."""
    try:
        answer = transport.parse(response.content)
    except ValueError:
        return None
    described = isinstance(answer, dict) and answer.keys() >= FAULT_KEYS
    return answer if described and isinstance(answer["name"], str) else None


def _fault(call: Call, name: str, message: str) -> errors.OdooError:
    """Choose the error for an exception of JSON-2 itself, or of the method that it called.

    The request errors come before the method runs; no language changes their texts.
    """
    match name:
        case "werkzeug.exceptions.Unauthorized":
            return errors.AuthenticationFailed(message, call.model, call.method, errors.Effect.NONE)
        case "werkzeug.exceptions.NotFound" if message.startswith("the model "):
            kind: type[errors.Fault] = errors.UnknownModel
        case "werkzeug.exceptions.NotFound" if message.startswith("The method "):
            kind = errors.UnknownMethod
        case "werkzeug.exceptions.UnprocessableEntity" | "werkzeug.exceptions.BadRequest":
            kind = errors.InvalidCall
        case _:
            return transport.fault(call, name, message)
    return kind(message, call.model, call.method, exception=name)


class NewestTransport:
    """JSON-2 where Odoo has it and takes the secret as a key of the login, else JSON-RPC.

    It is decided at each login. What is called before one goes over JSON-RPC.
    """

    def __init__(self, rpc: transport.JsonRpcTransport) -> None:
        self._rpc = rpc
        self._json2 = Json2Transport(rpc)
        self._chosen: transport.Transport = rpc

    async def send(self, call: Call) -> Any:
        """Send the call and answer its result; `None` where Odoo sent none."""
        if (call.service, call.procedure) == ("common", "authenticate"):
            return await self._log_in(call)
        return await self._chosen.send(call)

    async def close(self) -> None:
        """Close the connections; every later call is `Unreachable`."""
        await self._rpc.close()

    async def _log_in(self, call: Call) -> Any:
        if await self._major(call) >= FIRST_VERSION:
            try:
                user = await self._json2.send(call)
            except (errors.AuthenticationFailed, errors.UnexpectedAnswer):
                # A password, or a proxy that lets only `/jsonrpc` through: nothing was changed.
                pass
            else:
                self._chosen = self._json2
                return user
        self._chosen = self._rpc
        return await self._rpc.send(call)

    async def _major(self, call: Call) -> int:
        question = transport.Call(
            service="common",
            procedure="version",
            args=(),
            timeout_seconds=call.timeout_seconds,
            model="common",
            method="version",
        )
        match await self._rpc.send(question):
            case {"server_serie": str() as series}:
                return transport.major_of(series) or 0
            case _:
                return 0
