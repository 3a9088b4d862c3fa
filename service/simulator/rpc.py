"""JSON-RPC as Odoo 17 and 19 speak it: services, faults inside HTTP 200, and their words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.simulator import errors
from service.simulator.orm import NEW_VERSION
from service.simulator.world import Call

if TYPE_CHECKING:
    from service.simulator.delivery import Answer, Line, Outcome

JSON_TYPES = frozenset({"application/json", "application/json-rpc"})
FAULT_CODE = {17: 200, 19: 0}
SESSION_CODE = 100
OBJECT_ARGUMENTS = 5
PROTOCOL = 1


class Malformed(Exception):
    """The body is not a JSON-RPC request; answered with status 400 and a text."""


@dataclass(frozen=True)
class Request:
    """A request that could be read: its id and its parameters, whatever they are."""

    id: Any
    params: Any


def read(body: bytes) -> Request:
    """Read a body; bytes that are not UTF-8 are replaced, as the server does."""
    try:
        payload = json.loads(body.decode("utf-8", errors="replace"))
    except ValueError as error:
        raise Malformed("Invalid JSON data") from error
    if not isinstance(payload, dict):
        raise Malformed("Invalid JSON-RPC data")
    return Request(payload.get("id"), payload.get("params", {}))


def fault_body(version: int, request_id: Any, error: errors.ServerError) -> dict[str, Any]:
    """Return the answer that carries a fault."""
    expired = isinstance(error, errors.SessionExpired)
    data = {
        "name": error.name,
        "debug": traceback_of(error),
        "message": error.message,
        "arguments": [error.message],
        "context": {},
    }
    return {
        "jsonrpc": "2.0",
        "id": None if expired else request_id,
        "error": {
            "code": SESSION_CODE if expired else FAULT_CODE[version],
            "message": error.title,
            "data": data,
        },
    }


def result_body(request_id: Any, answer: Answer) -> dict[str, Any]:
    """Return the answer that carries a result; None leaves the key out."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id}
    if answer.shown and answer.result is not None:
        body["result"] = answer.result
    return body


def traceback_of(error: errors.ServerError) -> str:
    """Return an invented traceback."""
    return (
        "Traceback (most recent call last):\n"
        '  File "/opt/simulator/http.py", line 1, in dispatch\n'
        "    result = endpoint(**params)\n"
        f"{error.name.removeprefix('builtins.')}: {error.message}\n"
    )


async def dispatch(line: Line, database: str, params: Any) -> Outcome:
    """Answer the parameters of one request to `/jsonrpc`."""
    version = line.world.version
    try:
        named = dict(params)
    except ValueError as error:
        raise errors.value_error(str(error)) from error
    missing = [name for name in ("service", "method", "args") if name not in named]
    if missing:
        raise errors.type_error(_missing_parameters(version, missing))
    service, method, args = named["service"], named["method"], named["args"]
    if service == "common":
        return await _common(line, database, method, args)
    if service == "object":
        return await _object(line, database, method, args)
    if service == "db" and method == "list":
        return await line.deliver_service("db", "list", [database])
    if service == "db":
        raise errors.PythonError("Exception", f"Method not found: {method}")
    raise errors.PythonError("KeyError", str(service))


def _missing_parameters(version: int, missing: list[str]) -> str:
    quoted = [f"'{name}'" for name in missing]
    listed = quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1])
    if len(quoted) > 1:
        comma = "," if len(quoted) > 2 else ""  # noqa: PLR2004 - a list of two has no comma
        listed += f"{comma} and {quoted[-1]}"
    owner = "JSONRPC" if version >= NEW_VERSION else "RPC"
    plural = "s" if len(missing) > 1 else ""
    return (
        f"{owner}.jsonrpc() missing {len(missing)} required positional argument{plural}: {listed}"
    )


def version_info(version: int) -> dict[str, Any]:
    """Return what `common.version` answers."""
    return {
        "server_version": f"{version}.0",
        "server_version_info": [version, 0, 0, "final", 0, ""],
        "server_serie": f"{version}.0",
        "protocol_version": PROTOCOL,
    }


async def _common(line: Line, database: str, method: str, args: Any) -> Outcome:
    if method == "version":
        return await line.deliver_service("common", method, version_info(line.world.version))
    if method in {"login", "authenticate"}:
        name, login, password = list(args)[:3]
        check_database(database, name)
        user_id = line.world.log_in(login, password, keys=True)
        return await line.deliver_service("common", method, user_id or False)
    raise errors.PythonError("Exception", f"Method not found: {method}")


def check_database(database: str, asked: Any) -> None:
    """Refuse another database."""
    if asked != database:
        raise errors.DatabaseError.unknown_database(asked)


async def _object(line: Line, database: str, method: str, args: Any) -> Outcome:
    _check_object_call(line.world.version, method, args)
    name, user_id, password, model, model_method, *rest = args
    check_database(database, name)
    allowed = line.world.check_credentials(user_id, password)
    positional: Any = rest
    kwargs: Any = {}
    if method == "execute_kw":
        positional = rest[0] if rest else []
        kwargs = rest[1] if len(rest) > 1 else {}
    call = Call(
        model=str(model),
        method=str(model_method),
        args=positional,
        kwargs=kwargs or {},
        user_id=allowed,
    )
    return await line.deliver(call)


def _check_object_call(version: int, method: str, args: Any) -> None:
    known = method in {"execute", "execute_kw"}
    if (version >= NEW_VERSION or known) and len(args) < OBJECT_ARGUMENTS:
        raise errors.value_error(
            f"not enough values to unpack (expected at least {OBJECT_ARGUMENTS}, got {len(args)})"
        )
    if not known:
        raise errors.PythonError("NameError", f"Method not available {method}")
